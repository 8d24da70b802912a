import { expect, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';

import { type Schedule, ValidationError } from '../../../lib/index.js';
import type { Page } from '../page.js';
import { EmailWorkflow } from '../fixtures/prelude.js';

export const schedules: Page = {
  path: 'docs/guides/schedules.md',
  bed: async (declared) => ({ providers: [EmailWorkflow, ...(await declared('Declared by the workflow'))] }),
  blocks: {
    'Declared by the workflow': async (_block, { orchestrator, bed }) => {
      const log = jest.spyOn(Logger.prototype, 'log').mockImplementation(() => {});

      await bed.skip('7d');

      const { items } = await orchestrator.list({ workflow: 'daily-report', status: 'completed' });
      const hours = items.map(({ key }) =>
        new Date(key!.split(':').slice(2).join(':')).toLocaleString('en', {
          timeZone: 'Europe/Oslo',
          weekday: 'short',
          hour: 'numeric',
        }),
      );
      expect(hours.toSorted()).toEqual(['Fri', 'Mon', 'Thu', 'Tue', 'Wed'].map((day) => `${day} 9 AM`));
      const reports = log.mock.calls.filter(([line]) => (line as string).startsWith('The report of '));
      expect(reports).toHaveLength(5);
    },

    'Made at run time': async (block, { orchestrator, bed }) => {
      const found = block.run();
      await found;

      const { nextRunAt, paused, items, run } = block.result.declared as unknown as Schedule & {
        items: { id: string }[];
        run: { id: string; started: boolean };
      };
      expect([paused, run.started]).toEqual([false, true]);
      expect(nextRunAt!.getTime() - Date.now()).toBeGreaterThan(0);
      expect(items.map(({ id }) => id)).toEqual(['daily-report', 'newsletter']);
      await expect(bed.result(run.id)).resolves.toBeUndefined();
      await expect(orchestrator.schedules.get('newsletter')).rejects.toMatchObject({ code: 'SCHEDULE_NOT_FOUND' });
      const wrong = orchestrator.schedules.upsert('newsletter', { workflow: EmailWorkflow, input: {}, every: 1 });
      await expect(wrong).rejects.toThrow(ValidationError);
    },

    When: async (block, { orchestrator, bed }) => {
      const input = { to: 'everybody@example.com' };
      await orchestrator.schedules.upsert('newsletter', { workflow: EmailWorkflow, input, every: '6h' });
      const { nextRunAt } = await orchestrator.schedules.get('newsletter');
      await bed.skip('6h');
      const ofThePage = await orchestrator.start(EmailWorkflow, input, {
        key: 'schedule:newsletter:2026-11-20T18:00:00.000Z',
      });

      await block.run();

      const keys = block.declared<{ key: string }[]>('items').map(({ key }) => key);
      expect(keys).toContain(`schedule:newsletter:${nextRunAt!.toISOString()}`);
      expect(block.declared('last')).toMatchObject({ id: ofThePage.id });
    },
  },
};
