import { expect, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';

import { NonRetryableError } from '../../../lib/index.js';
import { workflow } from '../../support/workflow.js';
import type { Page } from '../page.js';
import { PaymentDeclined, payments } from '../fixtures/prelude.js';

const Declining = workflow('declining', () => {
  throw new PaymentDeclined('no');
});
const Slow = workflow('too-slow', ({ ctx }) =>
  ctx.step('wait', ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', reject)), {
    timeout: 1,
    retry: { maxAttempts: 1 },
  }),
);
const Broken = workflow('broken', () => {
  throw new NonRetryableError('out of order');
});

let attempts: string[] = [];
const Charge = workflow('charge', async ({ ctx }) => {
  await ctx.step('reserve', () => void attempts.push('reserve'));
  await ctx.step(
    'charge',
    () => {
      attempts.push('charge');
      new Logger('Payments').warn('the card is slow');
      if (attempts.length < 3) throw new Error('no connection');
    },
    { retry: { maxAttempts: 1 } },
  );
});

interface Reserving {
  reserve(sku: string): Promise<void>;
}

export const errorsAndRetries: Page = {
  path: 'docs/guides/errors-and-retries.md',
  bed: async (declared) => ({
    providers: [Declining, Slow, Broken, Charge, ...(await declared('Retrying a step'))],
    patience: '100ms',
  }),
  blocks: {
    'Retrying a step': async (block, { inRun }) => {
      const inventory = block.instance<Reserving>('Inventory');

      const reserved = await inRun(() => inventory.reserve('A-1'));
      const refused = await inRun(() => inventory.reserve(''));

      await expect(reserved.result()).resolves.toBeUndefined();
      await expect(refused.result()).rejects.toMatchObject({
        cause: { name: 'StepFailedError', attempts: 1, cause: { name: 'NonRetryableError' } },
      });
    },

    Timeouts: async (block, app) => {
      app.fetch = async () => new Response('42');
      await (await block.inRun()).result();
      const prices = block.result.values;

      app.fetch = (_url, init) =>
        new Promise((_, reject) => init!.signal!.addEventListener('abort', () => reject(new Error('aborted'))));
      const late = await block.inRun();
      const failed = late.result().then(
        () => 'no error',
        (error: unknown) => error,
      );
      await app.bed.skip('5m');

      expect(prices).toEqual(['42']);
      expect(await failed).toMatchObject({ cause: { name: 'StepFailedError', cause: { name: 'StepTimeoutError' } } });
    },

    'What a step has logged': async (block, { orchestrator, printed }) => {
      attempts = ['earlier', 'earlier'];
      const run = await orchestrator.start(Charge, undefined);
      await run.result();

      await block.run({ runId: run.id });

      expect(printed).toEqual([expect.stringMatching(/^\S+ attempt 1 warn the card is slow$/)]);
    },

    Idempotency: async (block, { bed }) => {
      const charge = jest.spyOn(payments, 'charge').mockRejectedValueOnce(new Error('no connection'));
      const run = await block.inRun();
      await bed.skip('5s');
      await run.result();

      const keys = charge.mock.calls.map(([, options]) => options!.idempotencyKey);
      expect(keys).toEqual([expect.stringContaining(run.id), keys[0]]);
    },

    'Asking what went wrong': async (block, { bed }) => {
      const runs = [Declining, Slow].map(async (type) => (await block.inRun({ PaymentWorkflow: type })).result());
      const broken = await block.inRun({ PaymentWorkflow: Broken });
      await bed.skip('1s');

      expect(await Promise.all(runs)).toEqual(['declined', 'too slow']);
      await expect(broken.result()).rejects.toThrow('The payment is broken: out of order');
    },

    'When a run fails': async (block, { orchestrator }) => {
      attempts = [];
      const run = await orchestrator.start(Charge, undefined);
      await expect(run.result()).rejects.toMatchObject({ code: 'RUN_FAILED' });

      await block.run({ runId: run.id });
      await run.result();

      expect(attempts).toEqual(['reserve', 'charge', 'charge']);
    },
  },
};
