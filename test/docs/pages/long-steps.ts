import { expect, jest } from '@jest/globals';

import { Barrier } from '../../support/barrier.js';
import { until } from '../../support/until.js';
import type { Page, PageApp } from '../page.js';
import { payments } from '../fixtures/prelude.js';

interface Importing {
  importRows(files: string[]): Promise<number>;
}

const importer = ({ block }: PageApp) => block('Heartbeats').instance<Importing>('Importer');

export const longSteps: Page = {
  path: 'docs/guides/long-steps.md',
  bed: async (declared) => ({ providers: await declared('Heartbeats', 'At most once'), patience: '100ms' }),
  blocks: {
    Heartbeats: async (_block, app) => {
      const fetched: string[] = [];
      app.fetch = async (file) => {
        if (fetched.push(file) === 2) throw new Error('no connection');
        return new Response();
      };

      const run = await app.inRun(() => importer(app).importRows(['a.csv', 'b.csv', 'c.csv']));
      await app.atRest();
      await app.bed.skip('5s');

      expect(await run.result()).toBe(3);
      expect(fetched).toEqual(['a.csv', 'b.csv', 'b.csv', 'c.csv']);
    },

    'Heartbeats (2)': async (block, app) => {
      const second = new Barrier();
      app.fetch = async (file) => {
        if (file === 'b.csv') await second.pass();
        return new Response();
      };
      const run = await app.inRun(() => importer(app).importRows(['a.csv', 'b.csv']));
      await until('its progress is kept', async () => (await app.orchestrator.get(run.id)).heartbeats.length > 0);

      await block.run({ runId: run.id });
      second.open();
      await run.result();

      expect(app.printed).toEqual([expect.stringMatching(/^Importer\.importRows 1 { files: 1 } \S+/)]);
    },

    'At most once': async (_block, { orchestrator, bed }) => {
      expect(await orchestrator.execute('payout', 'NO93')).toBe('payment of 100');

      const never = new Barrier();
      jest.spyOn(payments, 'charge').mockImplementation(async () => {
        await never.pass();
        return { id: 'too late' };
      });
      const run = await orchestrator.start('payout', 'NO93');
      await never.reached();
      await bed.crash();

      expect(await bed.result(run.id)).toBe('ask the bank whether it has paid NO93');
      expect(payments.charge).toHaveBeenCalledTimes(1);
      never.open();
    },
  },
};
