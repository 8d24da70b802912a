import { expect, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import type { Subscription } from 'rxjs';

import { workflow } from '../../support/workflow.js';
import { until } from '../../support/until.js';
import type { Page } from '../page.js';
import { ItemWorkflow, order } from '../fixtures/prelude.js';

const failing = (name: string, maxAttempts: number) =>
  workflow(name, ({ ctx }) =>
    ctx.step(
      'pay',
      () => {
        throw new Error('no money');
      },
      { retry: { maxAttempts, initialInterval: 1 } },
    ),
  );
const Order = failing('order', 2);
const Other = failing('other', 1);

export const events: Page = {
  path: 'docs/guides/events.md',
  bed: async (declared) => ({ providers: [Order, Other, ItemWorkflow, ...(await declared('Events'))] }),
  blocks: {
    Events: async (_block, { orchestrator }) => {
      const error = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => {});
      const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => {});

      await expect(orchestrator.execute(Other, undefined)).rejects.toThrow('no money');
      await expect(orchestrator.execute(Order, undefined, { key: '4711' })).rejects.toThrow('no money');

      await until('the alarm is given', () => error.mock.calls.length > 0);
      const alarms = error.mock.calls.map(([line]) => line as string);
      const retries = warn.mock.calls.map(([line]) => line as string);
      expect(alarms).toEqual([expect.stringMatching(/^Order 4711 failed: .*no money/)]);
      expect(retries).toContain('order: step pay is tried again after 1 attempts');
    },

    'Events (2)': async (block, { orchestrator, printed }) => {
      await block.run();
      const { id } = await orchestrator.start(ItemWorkflow, order);
      await until('its end is told', () => printed.some((line) => line.includes('run.completed')));
      (block.result.values[0] as Subscription).unsubscribe();

      const told = printed.filter((line) => line.endsWith(id)).map((line) => line.split(' ')[1]);
      expect(told).toEqual(['run.started', 'run.completed']);
    },
  },
};
