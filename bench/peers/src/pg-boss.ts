import { randomUUID } from 'node:crypto';
import PgBoss from 'pg-boss';
import { IN_FLIGHT, type System } from '../../src/system.js';
import { Handled, NO_STEPS } from './handled.js';

const QUEUE = 'one-step';

export const settings = `one worker with batches of ${IN_FLIGHT}, woken by notifyWorker after each send; a pool of 20 connections.`;

export const lacks = NO_STEPS;

export async function open(url: string): Promise<System> {
  const boss = new PgBoss({ connectionString: url, max: 20 });
  await boss.start();
  await boss.createQueue(QUEUE);
  const handled = new Handled();
  const worker = await boss.work<{ id: string }>(
    QUEUE,
    { batchSize: IN_FLIGHT, pollingIntervalSeconds: 0.5 },
    async (jobs) => {
      for (const job of jobs) handled.tell(job.data.id);
    },
  );
  return {
    async oneStep() {
      const id = randomUUID();
      const done = handled.wait(id);
      await boss.send(QUEUE, { id });
      boss.notifyWorker(worker);
      await done;
    },
    close: () => boss.stop({ graceful: false, close: true, wait: true }),
  };
}
