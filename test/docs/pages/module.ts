import { expect } from '@jest/globals';

import { OrchestrationModule, Orchestrator } from '../../../lib/index.js';
import { order, OrderWorkflow, PaymentWorkflow } from '../fixtures/prelude.js';
import type { Page } from '../page.js';

export const theModule: Page = {
  path: 'docs/guides/module.md',
  blocks: {
    'The module': async (block, { serve, dataSource }) => {
      await block.run();
      const { get } = await serve({ imports: [dataSource(), block.declared<never>('AppModule')] });

      expect(await get(Orchestrator).execute(OrderWorkflow, order)).toEqual({ total: 10 });
    },

    'Workflows in feature modules': async (block, { serve, dataSource }) => {
      await block.run();
      const imports = [dataSource(), OrchestrationModule.forRoot(), block.declared<never>('OrdersModule')];
      const { get } = await serve({ imports });

      expect(await get(Orchestrator).execute(OrderWorkflow, order)).toEqual({ total: 10 });
      expect(await get(Orchestrator).execute(PaymentWorkflow, { amount: 1 })).toEqual({ id: 'payment of 1' });
    },
  },
};
