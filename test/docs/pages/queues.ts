import { expect } from '@jest/globals';

import { Orchestrator, type QueueState } from '../../../lib/index.js';
import type { Page } from '../page.js';
import { EmailWorkflow } from '../fixtures/prelude.js';

const EMAILS = { concurrency: 20, concurrencyPerWorker: 5, concurrencyPerTenant: 2 };

async function emails({ queues }: Orchestrator): Promise<QueueState | undefined> {
  return (await queues.list()).find(({ name }) => name === 'emails');
}

/** The block's orchestrator that takes nothing back, for a look in between. */
const withoutLast = ({ queues }: Orchestrator, last: 'reset' | 'resume') => ({
  queues: {
    configure: queues.configure.bind(queues),
    pause: queues.pause.bind(queues),
    [last]: async () => {},
  },
});

export const queues: Page = {
  path: 'docs/guides/queues.md',
  bed: () => ({
    providers: [EmailWorkflow],
    orchestration: { queues: { emails: EMAILS }, worker: { queues: ['default', 'emails'] } },
  }),
  blocks: {
    Limits: async (block, { serve, dataSource }) => {
      await block.run();
      const { get } = await serve({ imports: [dataSource(), block.result.values[0] as never] });

      expect((await emails(get(Orchestrator)))!.limits).toEqual({
        ...EMAILS,
        rateLimit: { limit: 100, per: expect.anything() },
      });
    },

    'Limits (2)': async (block, { orchestrator }) => {
      await block.run({ orchestrator: withoutLast(orchestrator, 'reset') });
      const configured = await emails(orchestrator);
      await block.run();

      expect(configured!.limits).toEqual({ concurrency: 2 });
      expect((await emails(orchestrator))!.limits).toMatchObject(EMAILS);
    },

    Pause: async (block, { orchestrator, atRest }) => {
      await block.run({ orchestrator: withoutLast(orchestrator, 'resume') });
      const run = await orchestrator.start(EmailWorkflow, { to: 'ada@example.com' }, { queue: 'emails' });
      await atRest();
      const paused = await run.status();

      await block.run();
      await run.result();

      expect(paused).toBe('pending');
    },

    'What is waiting where': async (block, { orchestrator, printed }) => {
      await orchestrator.start(EmailWorkflow, { to: 'ada@example.com' }, { queue: 'emails', delay: '1h' });

      await block.run();

      expect(printed).toEqual(['emails false 1 0 null']);
    },
  },
};
