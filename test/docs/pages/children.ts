import { expect } from '@jest/globals';

import { type HistoryEntry, NonRetryableError } from '../../../lib/index.js';
import { workflow } from '../../support/workflow.js';
import type { Page, PageApp } from '../page.js';
import { EmailWorkflow, ItemWorkflow, order, type Order, PaymentWorkflow } from '../fixtures/prelude.js';

const Slow = workflow<unknown, { id: string }>('slow', async ({ ctx }) => {
  await ctx.sleep('30d');
  return { id: 'late' };
});
const Broken = workflow<unknown, { id: string }>('broken', () => {
  throw new NonRetryableError('out of order');
});
const SlowWhenLarge = workflow<Order, number>('slow-when-large', async ({ ctx }, { amount }) => {
  if (amount > 30) await ctx.sleep('30d');
  return amount;
});
const SlowTheSecondTime = workflow<unknown, { id: string }>('slow-the-second-time', async ({ ctx }) => {
  if ((await ctx.step('count', () => ++payments)) > 1) await ctx.sleep('30d');
  return { id: 'paid' };
});
let payments = 0;

/** Of a run, in the order in which they were started. */
async function childrenOf({ orchestrator }: PageApp, runId: string) {
  const { items } = await orchestrator.listChildren(runId);
  return items.toReversed().map(({ ref, status }) => `${ref} ${status}`);
}

export const children: Page = {
  path: 'docs/guides/children.md',
  bed: () => ({
    providers: [PaymentWorkflow, EmailWorkflow, ItemWorkflow, Slow, Broken, SlowWhenLarge, SlowTheSecondTime],
  }),
  blocks: {
    'Call: start and wait': async (block, app) => {
      const run = await block.inRun();
      await run.result();

      expect(app.printed).toEqual(['payment of 10']);
      expect(await childrenOf(app, run.id)).toEqual(['charge completed']);
    },

    'How a wait ends': async (block, { bed, atRest }) => {
      const paid = await block.inRun();
      const declined = await block.inRun({ order: { ...order, amount: -1 } });
      const broken = await block.inRun({ PaymentWorkflow: Broken });
      const late = await block.inRun({ PaymentWorkflow: Slow });
      await atRest();
      await bed.skip('15m');

      const results = [paid, declined, broken, late].map((run) => run.result());
      expect(await Promise.all(results)).toEqual(['payment of 10', 'declined', 'broken', 'no answer']);
    },

    'Start: go on without waiting': async (block, app) => {
      const patient = await block.inRun();
      const impatient = await block.inRun({ EmailWorkflow: Slow });
      await app.atRest();
      await app.bed.skip('1d');

      await patient.result();
      await expect(impatient.result()).rejects.toMatchObject({ cause: { name: 'ChildTimeoutError' } });
      expect(await childrenOf(app, patient.id)).toEqual(['confirmation completed']);
      expect(await childrenOf(app, impatient.id)).toEqual(['confirmation waiting']);
    },

    'Await: a run that is not a child': async (block, { bed, orchestrator, atRest }) => {
      const item = await orchestrator.start(ItemWorkflow, order);
      await (await block.inRun({ runId: item.id })).result();
      const total = block.declared('total');

      const slow = await orchestrator.start(Slow, null);
      const run = await block.inRun({ runId: slow.id });
      await atRest();
      await bed.skip('2h');
      await run.result();

      expect([total, block.declared('total')]).toEqual([10, 0]);
      expect(await slow.status()).toBe('waiting');
    },

    Timeouts: async (block, app) => {
      const run = await block.inRun({ PaymentWorkflow: Slow });
      await app.atRest();
      await app.bed.skip('10s');
      await run.result();

      expect(block.declared('answer')).toBeNull();
      expect(await childrenOf(app, run.id)).toEqual(['slow#1 waiting']);
    },

    'Fan-out': async (block, app) => {
      const run = await block.inRun();
      await run.result();

      expect(block.declared('totals')).toEqual([10, 20, 30, 40, 50]);
      expect((await childrenOf(app, run.id)).toSorted()).toEqual(
        ['item-4711', 'item-4712', 'item-4713', 'item-4714', 'item-4715'].map((ref) => `${ref} completed`),
      );
    },

    'Fan-out (2)': async (block, app) => {
      const run = await block.inRun({ ItemWorkflow: SlowWhenLarge });
      await run.result();
      await app.atRest();

      expect(block.declared('values')).toEqual([10, 20, 30]);
      expect((await app.orchestrator.listChildren(run.id, { status: 'cancelled' })).items).toHaveLength(2);
    },

    'Fan-out (3)': async (block, app) => {
      await (await block.inRun()).result();
      const late = await block.inRun({ PaymentWorkflow: SlowTheSecondTime });
      await app.atRest();
      await app.bed.skip('15m');
      await late.result();

      expect(app.printed).toEqual(['payment of 10 paid', 'paid late']);
      expect(await childrenOf(app, late.id)).toContain('slow-the-second-time#2 cancelled');
    },

    'Looking at children': async (block, app) => {
      const { inRun, atRest, orchestrator } = app;
      const run = await inRun(async () => {
        await app.children.start(Slow, null, { ref: 'parcel' });
        await app.ctx.sleep('1m');
        await block.run();
      });
      await atRest();
      await app.bed.skip('1m');
      await run.result();
      await atRest();

      const recorded = (await orchestrator.history(run.id)).map(({ kind }: HistoryEntry) => kind);
      expect(app.printed).toEqual(['0 waiting']);
      expect(await childrenOf(app, run.id)).toEqual(['parcel cancelled']);
      expect(recorded.length).toBeGreaterThanOrEqual(4);
    },
  },
};
