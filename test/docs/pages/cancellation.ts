import { expect } from '@jest/globals';

import { until } from '../../support/until.js';
import type { Page } from '../page.js';

export const cancellation: Page = {
  path: 'docs/guides/cancellation.md',
  bed: async (declared) => ({ providers: await declared('Clean-up') }),
  blocks: {
    Cancellation: async (block, { inRun, ctx, orchestrator, atRest }) => {
      const run = await inRun(() => ctx.sleep('1d'));
      await atRest();

      await block.run({ runId: run.id });
      await expect(run.result()).rejects.toMatchObject({ reason: 'the customer changed her mind' });
      const first = { ...block.result.declared };
      await block.run({ runId: run.id });

      expect(first).toEqual({ cancelled: 0, requested: 1 });
      expect(block.result.declared).toEqual({ cancelled: 0, requested: 0 });
      expect(await orchestrator.get(run.id)).toMatchObject({ status: 'cancelled' });
    },

    'Clean-up': async (_block, { orchestrator, printed, atRest, bed }) => {
      const run = await orchestrator.start('rental', 'car 7');
      await atRest();
      await bed.crash();
      await bed.orchestrator.cancel(run.id);

      await expect(bed.result(run.id)).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
      expect(printed).toEqual(['car 7 is open', 'car 7 is closed']);
    },

    'Ending at once': async (block, { orchestrator, printed, atRest }) => {
      const run = await orchestrator.start('rental', 'car 8');
      await atRest();

      await block.run({ runId: run.id });

      expect(await run.status()).toBe('cancelled');
      expect(printed).toEqual(['car 8 is open']);
    },

    Pausing: async (block, { inRun, ctx, orchestrator, atRest, bed }) => {
      const run = await inRun(() => ctx.sleep('1d'));
      await atRest();
      const pausing = { pause: (id: string) => orchestrator.pause(id), resume: async () => {} };
      await block.run({ runId: run.id, orchestrator: pausing });
      await bed.skip('2d');
      const paused = await orchestrator.get(run.id);

      await block.run({ runId: run.id });
      await until('it has ended', async () => (await run.status()) === 'completed');

      expect(paused).toMatchObject({ paused: true, status: expect.not.stringMatching('completed') });
    },
  },
};
