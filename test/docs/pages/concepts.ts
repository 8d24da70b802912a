import { expect, jest } from '@jest/globals';

import { NonRetryableError } from '../../../lib/index.js';
import { workflow } from '../../support/workflow.js';
import type { Page } from '../page.js';
import { order, PaymentDeclined, payments } from '../fixtures/prelude.js';

const Declining = workflow('declining', () => {
  throw new PaymentDeclined('no');
});
const Broken = workflow('broken', () => {
  throw new NonRetryableError('out of order');
});

interface Charging {
  charge(amount: number): Promise<{ id: string }>;
}

export const concepts: Page = {
  path: 'docs/concepts.md',
  bed: async (declared) => ({
    providers: [Declining, Broken, ...(await declared('Step', 'Deterministic code', 'Versions'))],
  }),
  blocks: {
    Step: async (block, { inRun }) => {
      const charge = jest.spyOn(payments, 'charge');
      const service = block.instance<Charging>('PaymentsService');

      const paid = await inRun(() => service.charge(42));
      const refused = await inRun(() => service.charge(-1));

      expect(await paid.result()).toEqual({ id: 'payment of 42' });
      await expect(refused.result()).rejects.toMatchObject({
        cause: { name: 'StepFailedError', attempts: 1, cause: { name: 'PaymentDeclined' } },
      });
      expect(charge.mock.calls[0]![1]).toEqual({
        idempotencyKey: expect.stringContaining(paid.id),
        signal: expect.any(AbortSignal),
      });
    },

    'Deterministic code': async (_block, { orchestrator, bed, printed }) => {
      const run = await orchestrator.start('reminder', order);

      await bed.skip('23h');
      expect(printed).toEqual([]);

      await bed.skip('1h');
      expect(await run.status()).toBe('completed');
      expect(printed).toEqual([`Dear ${order.email}`]);
      await bed.assertReplays(run.id);
    },

    Errors: async (block) => {
      const caught = await block.inRun({ PaymentWorkflow: Declining });
      const thrown = await block.inRun({ PaymentWorkflow: Broken });

      await expect(caught.result()).resolves.toBeUndefined();
      await expect(thrown.result()).rejects.toThrow('out of order');
    },

    Versions: async (block, { orchestrator }) => {
      const V1 = block.declared<never>('OrderWorkflowV1');

      expect(await orchestrator.execute(V1, order as never)).toBe('4711');
      expect(await orchestrator.execute('order', order)).toBe('4711: 10');
    },

    'Versions (2)': async (block, { orchestrator, block: other }) => {
      const V1 = other('Versions').declared<never>('OrderWorkflowV1');
      await orchestrator.execute(V1, order as never);
      const active = await orchestrator.start(V1, order as never, { delay: '1h' });
      await orchestrator.start('order', order, { delay: '1h' });

      await block.run();

      expect(block.declared('items')).toMatchObject([{ id: active.id, version: 1 }]);
    },
  },
};
