import { expect } from '@jest/globals';
import { DataSource } from 'typeorm';

import { workflow } from '../../support/workflow.js';
import type { Page } from '../page.js';
import { Approve, order } from '../fixtures/prelude.js';

/** Receives what comes, until nothing has come for a minute. */
const Receiver = workflow<unknown, unknown[]>('receiver', async ({ ctx }) => {
  const received: unknown[] = [];
  for (;;) {
    const one = await ctx.race({
      approve: () => ctx.waitForSignal('approve'),
      item: () => ctx.waitForSignal('add-item'),
      progress: () => ctx.waitForSignal('progress'),
      refund: () => ctx.waitForSignal('refund'),
      late: () => ctx.sleep('1m'),
    });
    if (one.winner === 'late') return received;
    received.push(one.value);
  }
});
const Slow = workflow('slow', ({ ctx }) => ctx.waitForSignal('never'));

export const signals: Page = {
  path: 'docs/guides/signals.md',
  bed: async (declared) => ({ providers: [Receiver, Slow, ...(await declared('Signals'))] }),
  blocks: {
    Signals: async (block, { orchestrator, bed, atRest }) => {
      const run = await orchestrator.start('expense', 7);
      await atRest();
      await bed.crash();

      await bed.signal(run.id, block.declared<typeof Approve>('Approve'), { by: 'Bob' });

      expect(await bed.result(run.id)).toBe('7, approved by Bob');
    },

    'Signals (2)': async (block, { printed }) => {
      await block.run();

      expect(printed).toEqual(['42, approved by Ada']);
    },

    'Approve or reject in time': async (block, { orchestrator, bed, atRest, printed }) => {
      const approved = await block.inRun();
      await atRest();
      await bed.skip('14s');
      await orchestrator.signal(approved.id, Approve, { by: 'Ada' });
      await approved.result();
      expect(printed.splice(0)).toEqual(['approved by Ada']);

      const late = await block.inRun();
      await atRest();
      await bed.skip('15s');
      await late.result();
      expect(printed).toEqual([]);
    },

    Timeouts: async (block, { orchestrator, bed, atRest, printed }) => {
      const twice = await block.inRun();
      await orchestrator.signal(twice.id, Approve, { by: 'Ada' });
      await orchestrator.signal(twice.id, Approve, { by: 'Bob' });
      const never = await block.inRun();
      await twice.result();
      await atRest();
      await bed.skip('2d');
      await never.result();

      expect(printed.map((line) => line.split(' ')[0])).toEqual(['Ada', 'undefined']);
    },

    Validation: async (block, { ctx, inRun, orchestrator, printed }) => {
      const run = await inRun(() => block.run({ runId: ctx.runId }));
      await run.result();

      const receiver = await orchestrator.start(Receiver, null);
      const refused = orchestrator.signal(receiver.id, block.declared<never>('Refund'), { amount: '-1' });
      await expect(refused).rejects.toMatchObject({ code: 'VALIDATION', issues: [expect.anything()] });
      expect(printed).toEqual(['12.5']);
    },

    Sending: async (block, { orchestrator, bed, atRest }) => {
      const run = await orchestrator.start(Receiver, null, { key: order.id });
      await block.run({ OrderWorkflow: Receiver });
      await block.run({ OrderWorkflow: Receiver });
      await atRest();
      await bed.skip('1m');

      expect(await run.result()).toEqual([{ by: 'Ada' }]);
    },

    'Within a transaction': async (block, { orchestrator, bed, atRest }) => {
      const dataSource = await new DataSource(bed.connection).initialize();
      await dataSource.query(
        `create table orders (id text, approved bool unique deferrable initially deferred);
         insert into orders values ('${order.id}', null)`,
      );
      const [sent, rolledBack] = [await orchestrator.start(Receiver, null), await orchestrator.start(Receiver, null)];
      const approve = async (runId: string) => {
        await block.run({ runId });
        await block.declared<(dataSource: DataSource) => Promise<void>>('approve')(dataSource);
      };

      await approve(sent.id);
      await dataSource.query(`update orders set approved = null; insert into orders values ('other', true)`);
      await expect(approve(rolledBack.id)).rejects.toThrow('unique');
      await dataSource.destroy();
      await atRest();
      await bed.skip('1m');

      expect(await sent.result()).toEqual([{ by: 'Ada' }]);
      expect(await rolledBack.result()).toEqual([]);
    },

    'Start, or signal what is there': async (block, { orchestrator, bed, atRest, printed }) => {
      const cart = { ...order, id: 'cart' };
      await block.run({ OrderWorkflow: Receiver, order: cart });
      await block.run({ OrderWorkflow: Receiver, order: cart });
      await atRest();
      await bed.skip('1m');

      expect(printed).toEqual(['true', 'false']);
      const run = await orchestrator.findByKey(Receiver, 'cart');
      expect(run).toMatchObject({ output: [{ sku: 'A-1' }, { sku: 'A-1' }] });
    },

    'From inside a run': async (block, { orchestrator, bed, atRest }) => {
      const run = await block.inRun({ PaymentWorkflow: Receiver });
      await run.result();
      await atRest();
      await bed.skip('1m');

      const { items } = await orchestrator.listChildren(run.id);
      expect(await bed.result(items[0]!.id)).toEqual([{ by: 'Ada' }, { by: 'Ada' }]);
    },

    'From inside a run (2)': async (block, { ctx, inRun, orchestrator, bed, atRest }) => {
      const parent = await orchestrator.start(Receiver, null);
      const run = await inRun(() => block.run({ ctx: { step: ctx.step.bind(ctx), parentId: parent.id } }));
      await run.result();
      await atRest();
      await bed.skip('1m');

      expect(await parent.result()).toEqual([0.5]);
    },
  },
};
