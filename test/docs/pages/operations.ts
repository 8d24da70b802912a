import { expect } from '@jest/globals';
import { DataSource } from 'typeorm';

import { OrchestrationModule, type OrchestrationModuleOptions, Orchestrator, type Stats } from '../../../lib/index.js';
import { OrchestrationTestBed } from '../../../lib/testing/index.js';
import { testServerUrl } from '../../support/database.js';
import { until } from '../../support/until.js';
import { workflow } from '../../support/workflow.js';
import type { Page } from '../page.js';
import { ItemWorkflow, order } from '../fixtures/prelude.js';

let isMended = false;
const Order = workflow('order', () => {
  if (!isMended) throw new Error('broken');
});
const Waiting = workflow('waiting', ({ ctx }) => ctx.waitForSignal('never'));

async function isGone({ orchestrator }: OrchestrationTestBed, runId: string): Promise<boolean> {
  return orchestrator.get(runId).then(
    () => false,
    () => true,
  );
}

export const operations: Page = {
  path: 'docs/operations.md',
  bed: async (declared) => ({ providers: [Order, Waiting, ItemWorkflow, ...(await declared('Retention (2)'))] }),
  blocks: {
    'When the database fails over': async (block, { serve }) => {
      await block.run();
      const imports = [block.result.values[0] as never, OrchestrationModule.forRoot()];
      const { get } = await serve({ imports, providers: [ItemWorkflow] });

      expect(await get(Orchestrator).execute(ItemWorkflow, order)).toBe(10);
      const { options } = (get(DataSource).driver as unknown as { master: { options: object } }).master;
      expect(options).toMatchObject({ query_timeout: 15_000, keepAlive: true, maxLifetimeSeconds: 300 });
    },

    Retention: async (block) => {
      const kept: OrchestrationModuleOptions[] = [];
      await block.run({
        OrchestrationModule: { forRoot: (options: OrchestrationModuleOptions) => kept.push(options) },
      });
      const bed = await OrchestrationTestBed.create({
        connection: { type: 'postgres', url: testServerUrl() },
        orchestration: kept[0],
        providers: [ItemWorkflow, Order],
      });
      try {
        const completed = await bed.start(ItemWorkflow, order);
        const failed = await bed.start(Order, undefined);
        await bed.skip('31d');
        await bed.crash(); // a process looks when it has booted
        await until('it is removed', () => isGone(bed, completed.id));

        expect(await isGone(bed, failed.id)).toBe(false);
      } finally {
        await bed.close();
      }
    },

    'Retention (2)': async (_block, { orchestrator, bed }) => {
      const run = await orchestrator.start('heartbeat-check', undefined);
      await run.result();
      const other = await orchestrator.start(ItemWorkflow, order);
      await other.result();
      await bed.skip('2d');
      await bed.crash();

      await until('it is removed', () => isGone(bed, run.id));
      expect(await isGone(bed, other.id)).toBe(false);
    },

    'Many runs at once': async (block, { orchestrator, atRest }) => {
      const failing = await orchestrator.startMany(Order, [{ input: undefined }, { input: undefined }]);
      const waiting = await orchestrator.start(Waiting, undefined, { tenant: 'acme' });
      await atRest();
      isMended = true;

      await block.run({
        orchestrator: {
          bulk: async (...args: Parameters<typeof orchestrator.bulk>) => {
            const result = await orchestrator.bulk(...args);
            await atRest();
            return result;
          },
        },
      });

      expect(block.result.declared).toMatchObject({ matched: 2, done: 2 });
      for (const { id } of [...failing, waiting]) {
        await expect(orchestrator.get(id)).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
      }
    },

    'What is going on': async (block, { orchestrator, atRest }) => {
      await orchestrator.start(Waiting, undefined);
      await atRest();

      await block.run();

      const { runs, estimated, workers, stale } = block.result.declared as unknown as Stats & Record<string, unknown>;
      expect(runs.waiting).toBeGreaterThan(0);
      expect(estimated).toEqual([]);
      expect(workers).toMatchObject([{ alive: true, workflows: expect.arrayContaining(['order@1', 'waiting@1']) }]);
      expect(stale).toEqual([]);
    },
  },
};
