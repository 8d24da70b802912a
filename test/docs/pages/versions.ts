import { expect } from '@jest/globals';

import { workflow } from '../../support/workflow.js';
import type { Page } from '../page.js';
import { order, OrderWorkflow } from '../fixtures/prelude.js';

const charged: string[] = [];
const Charges = workflow<{ id: string; amount: number }, string>('charges', async ({ ctx }, { id, amount }) => {
  await ctx.step('charge', () => void charged.push(`fee of ${id}`));
  return ctx.step('charge', () => {
    charged.push(`${amount} for ${id}`);
    return `charged ${amount}`;
  });
});

export const versions: Page = {
  path: 'docs/guides/versions.md',
  bed: async (declared) => {
    const blocks = [
      'A change inside one version: `patched`',
      'Versions side by side',
      'Beginning anew: `continueAsNew`',
    ];
    return { providers: [OrderWorkflow, Charges, ...(await declared(...blocks))] };
  },
  blocks: {
    'A change inside one version: `patched`': async (_block, { orchestrator, bed }) => {
      const run = await orchestrator.start('pricing', 100);

      expect(await run.result()).toBe(125);
      expect((await orchestrator.history(run.id)).map(({ kind, key }) => `${kind} ${key}`)).toEqual([
        'patch with-tax',
        'step price-with-tax',
      ]);
      await bed.assertReplays(run.id);
    },

    'Versions side by side': async (block, { orchestrator }) => {
      expect(await orchestrator.execute(block.declared<never>('BillingV1'), 42 as never)).toBe(42);
      expect(await orchestrator.execute('billing', 42)).toBe('42 EUR');
    },

    'Versions side by side (2)': async (block, { orchestrator, block: other }) => {
      const { BillingV1 } = other('Versions side by side').result.declared as Record<string, never>;
      const { id } = await orchestrator.start(BillingV1!, 42 as never, { delay: '1h' });
      await orchestrator.start('billing', 42, { delay: '1h' });

      await block.run();

      expect(block.declared('items')).toMatchObject([{ id }]);
    },

    'Beginning anew: `continueAsNew`': async (_block, { orchestrator, bed }) => {
      const run = await orchestrator.start('digest', { since: 'the beginning' });
      await bed.skip('1d');
      const second = await orchestrator.get(run.id);
      await bed.skip('1d');

      expect(second).toMatchObject({ status: 'waiting', input: { since: expect.stringMatching(/^\d{4}-/) } });
      expect(await orchestrator.history(run.id)).toEqual([]);
    },

    Forking: async (block, { orchestrator }) => {
      const original = await orchestrator.start(Charges, { id: '4711', amount: 42 });
      await original.result();

      await block.run({ runId: original.id });

      expect(charged).toEqual(['fee of 4711', '42 for 4711', '40 for 4711']);
      expect(block.declared('output')).toBe('charged 40');
      expect(await original.result()).toBe('charged 42');
    },

    Deleting: async (block, { orchestrator }) => {
      const run = await orchestrator.start(OrderWorkflow, order, { key: order.id });
      await run.result();

      await block.run({ runId: run.id });

      await expect(orchestrator.get(run.id)).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
      const other = await orchestrator.start(OrderWorkflow, { ...order, amount: 11 }, { key: order.id });
      expect(other.started).toBe(true);
    },
  },
};
