import { randomUUID } from 'node:crypto';
import { run } from 'graphile-worker';
import { IN_FLIGHT, type System } from '../../src/system.js';
import { Handled, NO_STEPS } from './handled.js';

const LOCAL_QUEUE = 500;

export const settings = `concurrentJobs ${IN_FLIGHT}, a local queue of ${LOCAL_QUEUE}, completions in batches (completeJobBatchDelay 0), 20 connections, LISTEN/NOTIFY.`;

export const lacks = NO_STEPS;

export async function open(url: string): Promise<System> {
  const handled = new Handled();
  const runner = await run({
    connectionString: url,
    noHandleSignals: true,
    preset: {
      worker: {
        concurrentJobs: IN_FLIGHT,
        maxPoolSize: 20,
        localQueue: { size: LOCAL_QUEUE },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
    taskList: { 'one-step': (payload) => handled.tell((payload as { id: string }).id) },
  });
  return {
    async oneStep() {
      const id = randomUUID();
      const done = handled.wait(id);
      await runner.addJob('one-step', { id });
      await done;
    },
    close: () => runner.stop(),
  };
}
