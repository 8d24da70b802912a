import { readFile } from 'node:fs/promises';
import { Absurd, type TaskContext } from 'absurd-sdk';
import pg from 'pg';
import { doomed } from '../../src/doomed.js';
import { randomText } from '../../src/random-text.js';
import { IN_FLIGHT, type Role, type System } from '../../src/system.js';
import { EndWatch } from './end-watch.js';

const POOL_SIZE = 20;
const AWAITED_AT_A_TIME = 20;

export const settings = `worker concurrency ${IN_FLIGHT} (and so claims of ${IN_FLIGHT}), a pool of ${POOL_SIZE} connections, polling every 0.25 s and a lease of 120 s (defaults); children on a queue of their own, as it demands; ends are noticed by one query for all tasks every 10 ms.`;

export const lacks = { manyOneSteps: 'no operation that starts many' };

const ENDED = `
select task_id as id, state = 'completed' as completed
from absurd.t_parents
where task_id = any($1::uuid[]) and state in ('completed', 'failed', 'cancelled')`;

const PARKED = `
select count(*) filter (where state = 'sleeping')::int as waiting, count(*) filter (where state = 'completed')::int as ended
from absurd.t_parents
where task_name = 'parked'`;

/** Its npm package has no tables: they are in `sql/absurd.sql` of its repository, of the release that the SDK is of. */
const SCHEMA = process.env['ABSURD_SQL'];

export async function open(url: string, role: Role): Promise<System> {
  doomed.hangs = role.hangs;
  const pool = new pg.Pool({ connectionString: url, max: POOL_SIZE });
  await install(pool);
  const parents = new Absurd({ db: pool, queueName: 'parents', defaultMaxAttempts: 5 });
  const children = new Absurd({ db: pool, queueName: 'children', defaultMaxAttempts: 5 });
  register(parents, children);
  const workers = role.worker
    ? [await parents.startWorker({ concurrency: IN_FLIGHT }), await children.startWorker({ concurrency: IN_FLIGHT })]
    : [];
  const ends = new EndWatch(async (ids) => (await pool.query<{ id: string; completed: boolean }>(ENDED, [ids])).rows);
  const start = async (task: string, input: unknown) => (await parents.spawn(task, input)).taskID;
  const execute = async (task: string, input: unknown) => ends.wait(await start(task, input));
  return {
    oneStep: (value) => execute('one-step', value),
    tenSteps: (value) => execute('ten-steps', value),
    parentChild: (value) => execute('parent', value),
    fanOut: (count) => execute('fan-out', count),
    payload: (bytes) => execute('payload', bytes),
    park: (count) => times(count, () => start('parked', 0)),
    parked: async () => (await pool.query<{ waiting: number; ended: number }>(PARKED)).rows[0]!,
    signal: (id) => parents.emitEvent(`go:${id}`),
    ended: (id) => ends.wait(id),
    longRun: (steps) => start('parked', steps),
    doomed: (count) => times(count, () => start('doomed', null)),
    async close() {
      for (const worker of workers) await worker.close();
      await pool.end();
    },
  };
}

/** What `absurdctl init` and `absurdctl create-queue` do. */
async function install(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<{ exists: boolean }>(`select to_regnamespace('absurd') is not null as exists`);
  if (rows[0]!.exists) return;
  if (!SCHEMA) throw new Error('Its tables are missing: ABSURD_SQL must name the absurd.sql of release 0.4.0');
  await pool.query(await readFile(SCHEMA, 'utf8'));
  for (const queue of ['parents', 'children']) await pool.query('select absurd.create_queue($1)', [queue]);
}

function register(parents: Absurd, children: Absurd): void {
  const oneStep = (value: number, ctx: TaskContext) => ctx.step('work', async () => value + 1);
  parents.registerTask<number>({ name: 'one-step' }, oneStep);
  children.registerTask<number>({ name: 'one-step' }, oneStep);
  parents.registerTask<number>({ name: 'ten-steps' }, async (value, ctx) => {
    let result = value;
    for (let count = 0; count < 10; count++) result = await ctx.step('work', async () => result + 1);
    return result;
  });
  parents.registerTask<number>({ name: 'parent' }, async (value, ctx) => {
    const child = await ctx.step('spawn', async () => (await children.spawn('one-step', value)).taskID);
    await ctx.awaitTaskResult(child, { queue: 'children' });
  });
  parents.registerTask<number>({ name: 'fan-out' }, async (count, ctx) => {
    const ids = await ctx.step('spawn', () => times(count, async () => (await children.spawn('one-step', 1)).taskID));
    for (let from = 0; from < count; from += AWAITED_AT_A_TIME)
      await Promise.all(
        ids.slice(from, from + AWAITED_AT_A_TIME).map((id) => ctx.awaitTaskResult(id, { queue: 'children' })),
      );
  });
  parents.registerTask<number>({ name: 'payload' }, (bytes, ctx) => ctx.step('produce', async () => randomText(bytes)));
  parents.registerTask<number>({ name: 'parked' }, async (steps, ctx) => {
    for (let count = 0; count < steps; count++) await ctx.step('work', async () => count + 1);
    await ctx.awaitEvent(`go:${ctx.taskID}`);
  });
  parents.registerTask<null>({ name: 'doomed' }, (_, ctx) => ctx.step('work', async () => doomed.step()));
}

async function times(count: number, start: () => Promise<string>): Promise<string[]> {
  const ids: string[] = [];
  while (ids.length < count)
    ids.push(...(await Promise.all(Array.from({ length: Math.min(IN_FLIGHT, count - ids.length) }, start))));
  return ids;
}
