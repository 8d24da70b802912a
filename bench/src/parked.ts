import { setTimeout as delay } from 'node:timers/promises';
import type { Orchestrator } from 'nestjs-orchestration';
import pg from 'pg';
import { GO, ParkedWorkflow } from './workflows.js';

const AT_A_TIME = 1_000;

/** What runs cost that wait, and how long it takes to wake them all. */
export interface Parked {
  /** Heap and external memory beside those of an idle worker, in MiB, after a garbage collection. */
  memoryMiB: number;
  /** Statements on the database in a second of waiting. */
  statementsPerSecond: number;
  /** From the first signal to the end of the last run. */
  wakeMs: number;
}

export async function measureParked(orchestrator: Orchestrator, client: pg.Client, count: number): Promise<Parked> {
  const before = await memoryMiB();
  const ids: string[] = [];
  while (ids.length < count) {
    const handles = await orchestrator.startMany(
      ParkedWorkflow,
      Array.from({ length: Math.min(AT_A_TIME, count - ids.length) }, () => ({ input: undefined })),
    );
    ids.push(...handles.map(({ id }) => id));
  }
  await untilOf(client, 'waiting', count);
  const memory = (await memoryMiB()) - before;
  const statementsPerSecond = await statementRate(client);
  const startedAt = performance.now();
  for (let from = 0; from < count; from += AT_A_TIME)
    await Promise.all(ids.slice(from, from + AT_A_TIME).map((id) => orchestrator.signal(id, GO, null)));
  await untilOf(client, 'completed', count);
  return { memoryMiB: memory, statementsPerSecond, wakeMs: performance.now() - startedAt };
}

async function untilOf(client: pg.Client, status: string, count: number): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ count: number }>(
      'select count(*)::int as count from orchestration.run where workflow = $1 and status = $2',
      ['parked', status],
    );
    if (rows[0]!.count >= count) return;
    await delay(20);
  }
}

/** What this process sends, the measuring connection left out. */
async function statementRate(measuring: pg.Client): Promise<number> {
  const seconds = 5;
  const prototype = pg.Client.prototype as unknown as { query: (...args: unknown[]) => unknown };
  const { query } = prototype;
  let sent = 0;
  prototype.query = function (this: unknown, ...args) {
    if (this !== measuring) sent++;
    return query.apply(this, args);
  };
  await delay(seconds * 1_000);
  prototype.query = query;
  return sent / seconds;
}

async function memoryMiB(): Promise<number> {
  globalThis.gc!();
  await delay(200);
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 2 ** 20;
}
