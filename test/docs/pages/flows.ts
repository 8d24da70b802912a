import { expect } from '@jest/globals';

import type { FlowClass } from '../../../lib/index.js';
import type { Page, PageApp } from '../page.js';

/** The flow of the page's first block. */
async function processOrder({ block }: PageApp): Promise<FlowClass> {
  const exports = (await block('Flows').run()) as { ProcessOrderWorkflow: FlowClass };
  return exports.ProcessOrderWorkflow;
}

export const flows: Page = {
  path: 'docs/guides/flows.md',
  bed: async (declared) => ({ providers: await declared('Flows', 'Types') }),
  blocks: {
    Flows: async (_block, { orchestrator, bed, atRest, printed }) => {
      const paid = await orchestrator.start('process-order', { id: '4711', amount: 42 });
      const free = await orchestrator.start('process-order', { id: '4712', amount: 0 });
      const soldOut = await orchestrator.start('process-order', { id: '', amount: 42 });
      await atRest();
      await bed.skip('1s');

      expect(await Promise.all([paid, free, soldOut].map((run) => run.result()))).toEqual([
        { id: '4711', paid: true },
        { id: '4712', paid: true },
        { id: '', paid: false },
      ]);
      expect(printed.toSorted()).toEqual(['fulfilled 4711', 'not paid ']);
    },

    'Flows (2)': async (block, { bed, printed, atRest }) => {
      const done = block.run();
      await atRest();
      await bed.skip('1s');
      await done;

      expect(printed).toEqual(['fulfilled 4711', "{ id: '4711', paid: true }"]);
    },

    'Seeing a flow, and a run': async (block, app) => {
      const run = await app.orchestrator.start('process-order', { id: '4711', amount: 42 });
      await app.atRest();
      app.printed.length = 0;

      await block.run({ OrderWorkflow: await processOrder(app), runId: run.id });

      const [flow, ...entries] = app.printed;
      expect(flow).toContain('process-order@1');
      expect(entries.slice(0, 2)).toEqual([
        expect.stringMatching(/^step validate completed 1 \d/),
        expect.stringMatching(/^step customer completed 1 \d/),
      ]);
      expect(entries.at(-1)).toContain('inventory-check');
      await app.bed.skip('1s');
    },

    'Seeing a flow, and a run (2)': async (block, app) => {
      const { mermaid } = await app.orchestrator.explain(await processOrder(app));

      expect(mermaid.trim()).toBe(block.text.trim());
    },

    Types: async (block, { orchestrator }) => {
      expect(await orchestrator.execute(block.declared<FlowClass>('GreetWorkflow'), 'Bob')).toBe('Hello Bob');
    },

    'Types (2)': async (block, { printed }) => {
      await block.run();

      expect(printed).toEqual(['Hello Ada']);
    },
  },
};
