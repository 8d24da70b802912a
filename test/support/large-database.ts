import pg from 'pg';

import { Database } from '../../lib/store/database.js';
import { migrate } from '../../lib/store/migrate.js';
import { createTestDatabase, type TestDatabase } from './database.js';

export interface PlannedDatabase {
  database: TestDatabase;
  client: pg.Client;
}

/** The first run of each kind, by its number; each kind goes on to the next one. */
export const RUNS = {
  finished: 1,
  /** Claimable and the longest waiting, but of a definition that nobody here has. */
  foreign: 200_001,
  /** Claimable and the next longest waiting, but paused. */
  paused: 215_001,
  /** Claimable. */
  ready: 230_001,
  /** Parked until tomorrow. */
  timed: 235_001,
  /** Parked until now. */
  due: 245_001,
  /** Parked without a timer. */
  waiting: 246_001,
  running: 256_001,
  /** Running, each the child of one that is parked without a timer. */
  runningChildren: 258_001,
  blocked: 259_001,
  /** On the queue with limits: the longest waiting are foreign or paused, and what has begun before comes last. */
  gatedForeign: 262_001,
  gatedPaused: 266_001,
  gatedReady: 270_001,
  gatedBegun: 280_001,
  gatedRunning: 280_101,
  /** Ended children of the first of those that are parked without a timer. */
  family: 280_151,
  next: 281_151,
} as const;

const BASE_MS = 1_700_000_000_000;
/** From one run to the next. */
const APART_S = 10;

/** Of the run with that number, in the order of numbers. */
export function id(number: number): string {
  const time = (BASE_MS + 1_000 * APART_S * number).toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-${number.toString(16).padStart(12, '0')}`;
}

export function createdAt(number: number): Date {
  return new Date(BASE_MS + 1_000 * APART_S * number);
}

/** A migrated database, of which nothing is known yet: its tables are empty, and were never analysed. */
export async function createEmptyDatabase(): Promise<PlannedDatabase> {
  const database = await createTestDatabase();
  const store = await Database.open(database.connection, 'orchestration');
  await migrate(store, true);
  await store.close();
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return { database, client };
}

/** With 200,000 ended runs, half of them children, and 80,000 that have not ended; analysed. */
export async function createLargeDatabase(): Promise<PlannedDatabase> {
  const { database, client } = await createEmptyDatabase();
  const { rows } = await client.query<{ name: string; definition: string }>(
    `select indexname as name, indexdef as definition from pg_indexes
     where schemaname = 'orchestration' and tablename in ('run', 'history') and indexname !~ '_pkey$'`,
  );
  for (const { name } of rows) await client.query(`drop index orchestration.${name}`);
  await client.query(FILL.join(';\n'));
  for (const { definition } of rows) await client.query(definition);
  await client.query('vacuum analyze');
  // Its snapshots would keep the entries of dead rows in the indexes alive.
  for (const table of ['run', 'history', 'signal', 'input', 'watch'])
    await client.query(`alter table orchestration.${table} set (autovacuum_enabled = false)`);
  return { database, client };
}

const idOf = (number: string) =>
  `(lpad(to_hex(${BASE_MS} + ${1_000 * APART_S} * (${number})::bigint), 12, '0') || '70008000' || lpad(to_hex(${number}), 12, '0'))::uuid`;
const workerOf = (number: string) => idOf(`1 + ${number} % 19`);
const createdAtOf = (number: string) => `to_timestamp(${BASE_MS / 1_000} + ${APART_S} * ${number})`;

const NEW_RUN = {
  ...{ id: idOf('n'), workflow: `'w'`, version: '1 + n % 2', queue: `'default'`, input: `'1'`, input_digest: `'d'` },
  ...{ root_id: idOf('n'), depth: '1', status: `'pending'`, created_at: createdAtOf('n') },
};
const HAS_BEGUN = { started_at: createdAtOf('n'), epoch: '1' };
/** Claimable since it was created. */
const READY = { ready_at: createdAtOf('n'), priority: '0' };
const LIMITED = { ...NEW_RUN, queue: `'limited'`, gated: 'true', tenant: `'tenant-' || n % 100` };
const PARKED = { ...NEW_RUN, ...HAS_BEGUN, status: `'waiting'`, worker_id: workerOf('n') };

function runs(kind: keyof typeof RUNS, facts: Record<string, string>): string {
  const end = Math.min(...Object.values(RUNS).filter((first) => first > RUNS[kind]));
  return `insert into orchestration.run (${Object.keys(facts).join(', ')})
    select ${Object.values(facts).join(', ')} from generate_series(${RUNS[kind]}, ${end - 1}) n`;
}

const childOf = (parent: string) => ({ parent_id: parent, depth: '2', ref: `'ref-' || n`, awaited: 'true' });
const [WAITING, RUNNING] = [RUNS.waiting, RUNS.running];

const FILL = [
  // Every second one is a child of the one before.
  runs('finished', {
    ...{ ...NEW_RUN, ...HAS_BEGUN, output: `'1'`, finished_at: createdAtOf('n'), root_id: idOf('n - n % 2') },
    status: `case n % 100 when 0 then 'failed' when 50 then 'cancelled' else 'completed' end`,
    ...{ parent_id: `case when n % 2 = 1 then ${idOf('n - 1')} end`, depth: '1 + n % 2', awaited: 'n % 2 = 1' },
    ...{ ref: `case when n % 2 = 1 then 'ref-' || n end`, key: `case when n % 10 = 0 then 'key-' || n end` },
    tenant: `case when n % 4 = 0 then 'tenant-' || n % 100 end`,
  }),
  runs('foreign', { ...NEW_RUN, ...READY, workflow: `'foreign'`, version: '1' }),
  runs('paused', { ...NEW_RUN, ...READY, paused: 'true' }),
  runs('ready', { ...NEW_RUN, ...READY, priority: 'n % 3' }),
  runs('timed', { ...PARKED, wake_at: `now() + interval '1 day'` }),
  runs('due', { ...PARKED, wake_at: `now() - interval '1 minute'` }),
  runs('waiting', { ...PARKED, waiting_for: `'[{"kind":"signal","name":"n","until":null}]'` }),
  runs('running', { ...NEW_RUN, ...HAS_BEGUN, status: `'running'`, worker_id: workerOf('n') }),
  runs('runningChildren', {
    ...{ ...NEW_RUN, ...HAS_BEGUN, status: `'running'`, worker_id: idOf('20') },
    ...childOf(idOf(`n - ${RUNS.runningChildren} + ${WAITING}`)),
  }),
  runs('blocked', { ...NEW_RUN, ...HAS_BEGUN, status: `'blocked'`, error: `'{}'` }),
  runs('gatedForeign', { ...LIMITED, ...READY, workflow: `'foreign'`, version: '1' }),
  runs('gatedPaused', { ...LIMITED, ...READY, paused: 'true' }),
  runs('gatedReady', { ...LIMITED, ...READY }),
  runs('gatedBegun', { ...LIMITED, ...READY, ...HAS_BEGUN }),
  runs('gatedRunning', { ...LIMITED, ...HAS_BEGUN, status: `'running'`, worker_id: workerOf('n') }),
  runs('family', {
    ...{ ...NEW_RUN, ...HAS_BEGUN, status: `'completed'`, output: `'1'`, finished_at: createdAtOf('n') },
    ...childOf(idOf(`${WAITING}`)),
  }),
  `insert into orchestration.history (run_id, seq, kind, scope, name, ordinal, status, attempts, after_seq, started_at, finished_at)
    select ${idOf('n')}, s, 'step', '', 's', s, 'completed', 1, s - 1, now(), now()
    from (
      select n, 1 as s from generate_series(1, ${RUNS.foreign - 1}) n
      union all
      select n, s from generate_series(${RUNS.timed}, ${RUNS.blocked}) n cross join generate_series(1, 2) s
    ) entry`,
  // One has 5,000 of them, the others one each.
  `insert into orchestration.signal (run_id, id, seq, name, payload, sent_at)
    select ${idOf(`least(n, ${RUNNING - 1})`)}, 'signal-' || n, n, 'n', '1', now()
    from generate_series(${WAITING}, ${RUNNING + 5_000}) n`,
  `insert into orchestration.input (run_id, scope, name, ordinal, workflow, type, judged_by_run, shielded, state, asked_at)
    select ${idOf('n')}, '', 'n', 1, case when n % 100 = 0 then 'rare' else 'w' end, 'text', false, false, 'pending', now()
    from generate_series(${RUNS.timed}, ${RUNNING - 1}) n`,
  `insert into orchestration.watch (run_id, watcher_id)
    select ${idOf('n')}, ${idOf(`n - 10000`)} from generate_series(${RUNS.due}, ${RUNS.blocked}) n`,
  `insert into orchestration.worker (id, host, pid, started_at, heartbeat_at, expires_at, queues, definitions)
    select ${idOf('n')}, 'host', n, now(), now(), now() + case when n = 20 then interval '-1 minute' else interval '1 hour' end,
      '{default,limited}', '{w@1,w@2}'
    from generate_series(1, 20) n`,
  `insert into orchestration.queue (name, configured) values ('limited', '{"concurrency":1000}')`,
  `insert into orchestration.queue_claim (queue, claimed_at, runs)
    select 'limited', now() - make_interval(secs => n), 1 from generate_series(1, 1000) n`,
  `insert into orchestration.schedule (
      id, workflow, version, queue, input_digest, every_ms, time_zone, overlap, missed, jitter_ms, declared, paused, next_tick, due_at, created_at
    )
    select 'schedule-' || n, 'w', 1, 'default', 'd', 1000, 'UTC', 'skip', 'once', 0, false, false, now(),
      now() + case when n > 990 then interval '-1 minute' else interval '1 day' end, now()
    from generate_series(1, 1000) n`,
];
