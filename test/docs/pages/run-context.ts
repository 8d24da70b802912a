import { expect } from '@jest/globals';

import type { Page } from '../page.js';
import { PaymentWorkflow } from '../fixtures/prelude.js';

export const runContext: Page = {
  path: 'docs/guides/run-context.md',
  bed: () => ({ providers: [PaymentWorkflow] }),
  blocks: {
    Branches: async (block, { printed }) => {
      await (await block.inRun()).result();

      expect(printed).toEqual(['fulfilled rejected', '[ 20, 40, 60, 80, 100 ]']);
    },

    'Progress and attributes': async (block, { orchestrator, atRest }) => {
      const run = await block.inRun();
      await atRest();

      expect(await orchestrator.get(run.id)).toMatchObject({
        status: 'waiting',
        state: { packed: 3, of: 5 },
        attributes: { city: 'Oslo' },
      });
    },

    'Progress and attributes (2)': async (block, { block: other, atRest, printed }) => {
      const { id } = await other('Progress and attributes').inRun();
      await atRest();

      await block.run();

      expect(printed).toContain(`${id} { packed: 3, of: 5 }`);
    },
  },
};
