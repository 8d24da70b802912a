import { expect } from '@jest/globals';

import { Orchestrator } from '../../../lib/index.js';
import type { Page } from '../page.js';
import { order, OrderWorkflow, ReindexWorkflow } from '../fixtures/prelude.js';

export const starting: Page = {
  path: 'docs/guides/starting.md',
  bed: () => ({ providers: [OrderWorkflow, ReindexWorkflow] }),
  blocks: {
    'Starting runs': async (block, { bed }) => {
      await block.run();

      expect(await bed.result(block.declared<string>('id'))).toEqual({ total: 10 });
    },

    Keys: async (block, { orchestrator, printed }) => {
      await block.run();

      expect(printed).toEqual(['true false']);
      const other = orchestrator.start(OrderWorkflow, { ...order, amount: 11 }, { key: order.id });
      await expect(other).rejects.toMatchObject({ code: 'RUN_CONFLICT', statusCode: 409 });
    },

    Debounce: async (block, { bed, orchestrator }) => {
      await block.run();
      await bed.skip('4s');
      await block.run();
      await bed.skip('4s');
      const early = (await orchestrator.list({ workflow: 'reindex' })).items.map(({ status }) => status);
      await bed.skip('1s');

      const { items } = await orchestrator.list({ workflow: 'reindex' });
      expect([early, items.map(({ status }) => status)]).toEqual([['pending'], ['completed']]);
    },

    Tenants: async (block, { serve, dataSource }) => {
      await block.run();
      const imports = [dataSource(), block.result.values[0] as never];
      const { get } = await serve({ imports, providers: [OrderWorkflow] });
      const start = (count: number) =>
        get(Orchestrator).startMany(
          OrderWorkflow,
          Array.from({ length: count }, () => ({ input: order, tenant: 'acme', delay: '1h' }) as const),
        );

      await start(1_000);

      await expect(start(1)).rejects.toMatchObject({
        code: 'START_LIMIT',
        statusCode: 429,
        retryAfter: expect.any(Number),
      });
    },
  },
};
