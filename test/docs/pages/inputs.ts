import { expect, jest } from '@jest/globals';

import { OrchestrationModule } from '../../../lib/index.js';
import type { Page } from '../page.js';
import { order, payments } from '../fixtures/prelude.js';

export const inputs: Page = {
  path: 'docs/guides/inputs.md',
  bed: async (declared) => ({ providers: await declared('Inputs: a person answers') }),
  blocks: {
    'Inputs: a person answers': async (_block, { orchestrator, bed, atRest }) => {
      const refund = jest.spyOn(payments, 'refund');
      const [approved, forgotten] = await orchestrator.startMany('refund', [{ input: order }, { input: order }]);
      await atRest();

      await orchestrator.inputs.provide(approved!.id, 'approval', true);
      expect(await approved!.result()).toBe('refunded');
      await bed.skip('2d');
      expect(await forgotten!.result()).toBe('kept');

      expect(refund.mock.calls).toEqual([['4711']]);
    },

    Types: async (block, { orchestrator, atRest }) => {
      const run = await block.inRun();
      await atRest();
      await expect(orchestrator.inputs.provide(run.id, 'size', 'huge')).rejects.toMatchObject({ code: 'VALIDATION' });

      await orchestrator.inputs.provide(run.id, 'size', 'large');
      await run.result();

      expect(block.declared('price')).toBe(15);
    },

    'Types (2)': async (block, { orchestrator, atRest, printed }) => {
      const run = await block.inRun();
      await atRest();
      const wrong = orchestrator.inputs.provide(run.id, 'address', { street: '', zip: '0150' });
      await expect(wrong).rejects.toMatchObject({ code: 'VALIDATION' });

      await orchestrator.inputs.provide(run.id, 'address', { street: 'Karl Johans gate', zip: '150' });
      await run.result();

      expect(printed).toEqual(['151']);
    },

    'Asking and answering': async (block, { orchestrator, atRest, printed }) => {
      const run = await orchestrator.start<string>('refund', order);
      await atRest();

      await block.run({ runId: run.id });

      expect(printed).toEqual([
        expect.stringMatching(new RegExp(`^${run.id} approval Refund 10 € for order 4711\\? \\S+ \\d{4}-`)),
      ]);
      expect(await run.result()).toBe('refunded');
    },

    'Asking and answering (2)': async (block, { serve, dataSource, orchestrator, atRest }) => {
      await block.run();
      const { url } = await serve({
        imports: [dataSource(), OrchestrationModule.forRoot({ worker: false })],
        controllers: [block.declared<never>('InputsController')],
      });
      const run = await orchestrator.start<string>('refund', order);
      await atRest();
      const answer = async (runId: string, value: unknown) => {
        const headers = { 'content-type': 'application/json' };
        const init = { method: 'POST', headers, body: JSON.stringify({ value }) };
        return (await fetch(`${url}/inputs/${runId}/approval`, init)).status;
      };

      expect(await answer(run.id, 'perhaps')).toBe(400);
      expect(await answer(run.id, true)).toBe(201);
      expect(await answer(run.id, true)).toBe(409);
      expect(await answer('01a1fb3f-c03f-7091-8b24-d02839e9fc68', true)).toBe(404);
      expect(await run.result()).toBe('refunded');
    },

    Timeouts: async (block, { orchestrator, bed, atRest, printed }) => {
      const [seen, unseen] = [await block.inRun(), await block.inRun()];
      await atRest();
      await orchestrator.inputs.provide(seen.id, 'review', true);
      await seen.result();
      expect(printed).toEqual([]);

      await bed.skip('3d');
      await unseen.result();
      expect(printed).toEqual(['nobody has looked at it']);
    },
  },
};
