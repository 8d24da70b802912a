import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import type pg from 'pg';

import { defineSignal } from '../../lib/index.js';
import type { EngineHost } from '../../lib/nest/engine-host.js';
import { startApp } from '../support/app.js';
import type { TestDatabase } from '../support/database.js';
import { useEngineDatabase } from '../support/engine-database.js';
import { measure } from '../support/statements.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const RUNS = 10_000;
const AT_A_TIME = 1_000;
const STICKY = 500;
/** Of those that stay in memory, and of the ids of all. */
const LARGEST_HEAP = 20_000_000;

let database: TestDatabase;
let sql: pg.Client;

useEngineDatabase((opened) => ({ database, sql } = opened));

const Go = defineSignal<number>('go');
/** What the code of each run holds while it is parked. */
const held: WeakRef<{ input: number }>[] = [];
const Parked = workflow<number, number>('parked', async ({ ctx }, input) => {
  const local = { input };
  held.push(new WeakRef(local));
  const more = await ctx.waitForSignal(Go);
  return local.input + more;
});

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What is in use, once what nobody can reach is gone. */
async function heapInUse(): Promise<number> {
  for (let round = 0; round < 3; round++) {
    await turn();
    collectGarbage();
  }
  return process.memoryUsage().heapUsed;
}

const batches = Array.from({ length: RUNS / AT_A_TIME }, (_, batch) =>
  Array.from({ length: AT_A_TIME }, (_item, index) => batch * AT_A_TIME + index),
);

async function count(status: string): Promise<number> {
  const { rows } = await sql.query<{ count: number }>(
    'select count(*)::int as count from orchestration.run where status = $1',
    [status],
  );
  return rows[0]!.count;
}

it('10,000 parked runs cost no queries and little memory, and all wake when they are signalled (68)', async () => {
  const options = { worker: { stickyRuns: STICKY } };
  const { orchestrator, context } = await startApp({ database, providers: [Parked], options });
  const heapBefore = await heapInUse();
  const ids: string[] = [];
  for (const batch of batches) {
    const handles = await orchestrator.startMany(
      Parked,
      batch.map((input) => ({ input })),
    );
    ids.push(...handles.map(({ id }) => id));
  }
  await until('all are parked', async () => (await count('waiting')) === RUNS, 60_000);
  const { worker } = await context.get<EngineHost>('EngineHost:', { strict: false }).engine();

  const seconds = 3;
  const { statements } = await measure(database, () => new Promise((resolve) => setTimeout(resolve, seconds * 1_000)));

  expect(worker!.load).toEqual({ running: 0, parked: STICKY });
  const heapOfParked = (await heapInUse()) - heapBefore;
  expect(heapOfParked).toBeLessThan(LARGEST_HEAP);
  // What has left the cache is gone, with all that its code held.
  expect(held.filter((local) => local.deref())).toHaveLength(STICKY);
  expect(statements).toBeLessThanOrEqual(seconds + 1);
  for (const batch of batches) await Promise.all(batch.map((index) => orchestrator.signal(ids[index]!, Go, RUNS)));
  await until('all have completed', async () => (await count('completed')) === RUNS, 60_000);
  const { rows } = await sql.query<{ wrong: number }>(
    'select count(*)::int as wrong from orchestration.run where output::int <> input::int + $1',
    [RUNS],
  );
  expect(rows[0]!.wrong).toBe(0);
}, 150_000);
