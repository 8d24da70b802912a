import { expect, jest } from '@jest/globals';

import { NonRetryableError } from '../../../lib/index.js';
import { workflow } from '../../support/workflow.js';
import type { Page, PageApp } from '../page.js';
import { PaymentWorkflow } from '../fixtures/prelude.js';

const Broken = workflow('broken-payment', () => {
  throw new NonRetryableError('out of order');
});

/** From now on a step that prints such a line fails. */
function failToPrint(app: PageApp, part: string): void {
  jest.spyOn(app, 'print').mockImplementation((line) => {
    if (line.includes(part)) throw new NonRetryableError(`cannot print: ${part}`);
    app.printed.push(line);
  });
}

export const compensation: Page = {
  path: 'docs/guides/compensation.md',
  bed: async (declared) => ({ providers: [PaymentWorkflow, Broken, ...(await declared('Compensation'))] }),
  blocks: {
    Compensation: async (_block, app) => {
      const { orchestrator, printed } = app;
      await orchestrator.execute('booking', 'Ada');
      expect(printed.splice(0)).toEqual(['room 3 is booked']);

      failToPrint(app, 'is booked');
      const failing = await orchestrator.start('booking', 'Ada');
      await expect(failing.result()).rejects.toThrow('cannot print');

      expect(printed).toEqual([
        expect.stringMatching(new RegExp(`^Ada-120 is paid back, once for ${failing.id}/`)),
        'room 3 is free again, Ada does not come',
      ]);
    },

    Inline: async (block, app) => {
      const { printed } = app;
      await (await block.inRun()).result();
      expect(printed.splice(0)).toEqual(['on its way']);

      const unpaid = await block.inRun({ PaymentWorkflow: Broken });
      await expect(unpaid.result()).rejects.toThrow('out of order');
      expect(printed.splice(0)).toEqual(['parcel 7 is unpacked']);

      failToPrint(app, 'on its way');
      const committed = await block.inRun();
      await expect(committed.result()).rejects.toThrow('cannot print');
      expect(printed).toEqual([]);
    },

    'When they run': async (block, { inRun, ctx, printed, orchestrator }) => {
      const failing = await inRun(async () => {
        ctx.compensate('undo', () => {
          throw new NonRetryableError('cannot be undone');
        });
        throw new Error('broken');
      });
      await expect(failing.result()).rejects.toThrow('broken');

      await block.run();

      expect(await orchestrator.get(failing.id)).toMatchObject({ compensation: 'failed' });
      expect(printed).toEqual(['1']);
    },
  },
};
