import pg from 'pg';

import { Orchestrator, RunContext, type RunSummary, Workflow } from '../../lib/index.js';
import { ArrayParameter } from '../../lib/store/array-parameter.js';
import { Database } from '../../lib/store/database.js';
import { migrate } from '../../lib/store/migrate.js';
import { allStatements, type Statements } from '../../lib/store/statements/all.js';
import { CHILDREN, OUTCOMES, WRITES } from '../../lib/store/statements/commit.sql.js';
import { ASKED, CLOSED } from '../../lib/store/statements/input.sql.js';
import { toBeWokenRow } from '../../lib/store/rows.js';
import { NEW_SIGNALS, WANTED_SIGNALS } from '../../lib/store/statements/signal.sql.js';
import { HEARTBEATS } from '../../lib/store/statements/heartbeat.sql.js';
import { SCHEDULES } from '../../lib/store/statements/schedule.sql.js';
import { NEW_RUNS } from '../../lib/store/statements/start.sql.js';
import { closeApps, startApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { measure } from '../support/statements.js';

@Workflow('listed')
class ListedWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(input: { text: string }): Promise<string> {
    await this.ctx.setState({ progress: 1 });
    return input.text;
  }
}

@Workflow({ name: 'listed-other', queue: 'others' })
class OtherWorkflow {
  run(): never {
    throw new Error('always');
  }
}

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterAll(async () => {
  await closeApps();
  await database.drop();
});

describe('The schema', () => {
  it.each(['orchestration', 'Another Name'])(
    'that the migrations make is the one that the entities describe: %s',
    async (schema) => {
      const store = await Database.open(database.connection, schema);
      await migrate(store, true);

      const { upQueries } = await store.dataSource.driver.createSchemaBuilder().log();

      expect(upQueries.map(({ query }) => query)).toEqual([]);
      await store.close();
    },
  );

  it('can be taken down and made again', async () => {
    const store = await Database.open(database.connection, 'down');
    await migrate(store, true);
    const tables = () =>
      store.dataSource.query<{ name: string }[]>(
        `select relname as name from pg_class where relnamespace = 'down'::regnamespace and relkind = 'r' order by relname`,
      );
    const before = await tables();

    for (let left = store.dataSource.migrations.length; left > 0; left--) await store.dataSource.undoLastMigration();
    const left = await tables();
    const functions: unknown[] = await store.dataSource.query(
      `select from pg_proc where pronamespace = 'down'::regnamespace`,
    );
    await migrate(store, true);

    expect(left).toEqual([{ name: 'migrations' }]);
    expect(functions).toHaveLength(0);
    expect(await tables()).toEqual(before);
    await store.close();
  });

  it('compresses payloads by lz4 where PostgreSQL was built with it', async () => {
    const store = await Database.open(database.connection, 'compressed');
    await migrate(store, true);

    const [lz4] = await store.dataSource.query<{ has: boolean }[]>(
      `select 'lz4' = any(enumvals) as has from pg_settings where name = 'default_toast_compression'`,
    );
    const compressed: unknown[] = await store.dataSource.query(
      `select relname || '.' || attname as column from pg_attribute join pg_class on pg_class.oid = attrelid
       where relnamespace = 'compressed'::regnamespace and attcompression = 'l' order by 1`,
    );

    const payloads = ['history.error', 'history.logs', 'history.output', 'run.context', 'run.error'];
    const columns = [...payloads, 'run.input', 'run.output', 'run.state'].map((column) => ({ column }));
    expect(compressed).toEqual(lz4!.has ? columns : []);
    await store.close();
  });
});

describe('A list', () => {
  let orchestrator: Orchestrator;

  beforeAll(async () => {
    orchestrator = (
      await startApp({ database, providers: [ListedWorkflow, OtherWorkflow], options: { worker: false } })
    ).orchestrator;
  });

  const ids = ({ items }: { items: RunSummary[] }) => items.map(({ id }) => id);

  it('goes page by page through all runs, newest first, each once, whatever is started meanwhile', async () => {
    const handles = await orchestrator.startMany(
      ListedWorkflow,
      Array.from({ length: 120 }, (_, index) => ({ input: { text: `${index}` }, tenant: 'paged' })),
    );
    const seen: string[] = [];
    const sizes: number[] = [];
    let cursor: string | undefined;

    do {
      const page = await orchestrator.list({ tenant: 'paged', cursor });
      seen.push(...ids(page));
      sizes.push(page.items.length);
      cursor = page.nextCursor;
      await orchestrator.start(ListedWorkflow, { text: 'meanwhile' }, { tenant: 'paged' });
    } while (cursor);

    expect(seen).toEqual(handles.map(({ id }) => id).toReversed());
    expect(sizes).toEqual([50, 50, 20]);
  });

  it('ends exactly at the last page when that is full', async () => {
    await orchestrator.startMany(
      ListedWorkflow,
      [1, 2, 3, 4].map((n) => ({ input: { text: `${n}` }, tenant: 'full' })),
    );

    const first = await orchestrator.list({ tenant: 'full', limit: 2 });
    const second = await orchestrator.list({ tenant: 'full', limit: 2, cursor: first.nextCursor });

    expect(first.items).toHaveLength(2);
    expect(second.items).toHaveLength(2);
    expect(second.nextCursor).toBeUndefined();
  });

  it('is filtered by each fact, and by all of them together', async () => {
    const tenant = `it's "\\u0000" 50% \u0000`;
    const attributes = { city: `O'slo\\`, vip: true, total: 12.5, note: null };
    const early = await orchestrator.start(
      ListedWorkflow,
      { text: 'a' },
      { tenant, attributes, key: 'k%1', label: 'La_bel' },
    );
    const between = (await orchestrator.get(early.id)).createdAt;
    const late = await orchestrator.start(OtherWorkflow, undefined as never, { tenant, priority: 3 });
    const lateAt = (await orchestrator.get(late.id)).createdAt;
    const own = { tenant };

    expect(ids(await orchestrator.list(own))).toEqual([late.id, early.id]);
    expect(ids(await orchestrator.list({ ...own, workflow: 'listed' }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, queue: 'others' }))).toEqual([late.id]);
    expect(ids(await orchestrator.list({ ...own, version: 2 }))).toEqual([]);
    expect(ids(await orchestrator.list({ ...own, status: 'pending' }))).toEqual([late.id, early.id]);
    expect(ids(await orchestrator.list({ ...own, status: ['failed', 'completed'] }))).toEqual([]);
    expect(ids(await orchestrator.list({ ...own, attributes: { vip: true } }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, attributes }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, attributes: { vip: false } }))).toEqual([]);
    expect(ids(await orchestrator.list({ ...own, createdAfter: lateAt }))).toEqual([late.id]);
    expect(ids(await orchestrator.list({ ...own, createdBefore: lateAt, createdAfter: between }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, search: 'k%' }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, search: 'a_b' }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, search: 'aXb' }))).toEqual([]);
    expect(ids(await orchestrator.list({ search: late.id }))).toEqual([late.id]);
    expect(ids(await orchestrator.list({ ...own, rootOnly: true }))).toEqual([late.id, early.id]);
    expect(ids(await orchestrator.list({ ...own, parentId: early.id }))).toEqual([]);
    const all = {
      ...own,
      workflow: 'listed',
      version: 1,
      queue: 'default',
      status: 'pending',
      attributes,
      rootOnly: true,
      search: 'k',
    } as const;
    expect(ids(await orchestrator.list({ ...all, createdAfter: between, limit: 1 }))).toEqual([early.id]);
    expect((await orchestrator.list({ ...own, workflow: 'listed' })).items[0]).toMatchObject({
      id: early.id,
      ...{ tenant, attributes, key: 'k%1', label: 'La_bel', status: 'pending', depth: 1, rootId: early.id },
    });
  });

  it('never loads payloads, however it is asked for', async () => {
    const run = await orchestrator.start(ListedWorkflow, { text: 'not to be loaded' }, { key: 'payload' });
    let items: RunSummary[] = [];

    const { byQuery } = await measure(database, async () => {
      items = (await orchestrator.list({ search: 'payload' })).items;
      await orchestrator.list({ status: 'failed', cursor: run.id });
      await orchestrator.listChildren(run.id);
      await orchestrator.tree(run.id);
    });

    const selected = [...byQuery.keys()].filter((text) => /from "orchestration"."run"/i.test(text));
    expect(selected.length).toBeGreaterThanOrEqual(4);
    expect(selected.filter((text) => /\b(input|output|error)\b/.test(text.split(/\bfrom\b/i)[0]!))).toEqual([]);
    expect(items[0]).toMatchObject({ id: run.id });
    expect(Object.keys(items[0]!).filter((field) => ['input', 'output', 'error'].includes(field))).toEqual([]);
  });
});

describe('With 100,000 runs', () => {
  const id = (index: number) => `00000000-0000-7000-8000-${index.toString(16).padStart(12, '0')}`;
  const worker = id(1);
  let large: TestDatabase;
  let client: pg.Client;
  let statements: Statements;

  beforeAll(async () => {
    large = await createTestDatabase();
    const store = await Database.open(large.connection, 'orchestration');
    await migrate(store, true);
    await store.close();
    statements = allStatements('orchestration');
    client = new pg.Client({ connectionString: large.url });
    await client.connect();
    await client.query(FILL);
    await client.query(
      'vacuum analyze orchestration.run, orchestration.history, orchestration.worker, orchestration.watch, orchestration.input',
    );
  });

  afterAll(async () => {
    await client.end();
    await large.drop();
  });

  const write = {
    ...{
      id: id(90_001),
      epoch: 1,
      write_no: 1,
      move: 'completed',
      output: '1',
      error: null,
      wake_at: null,
      waiting_for: null,
    },
    ...{ seen_wakes: 0, knows_cancel: false, has_state: false, state: null, attributes: null },
  };
  const outcome = {
    ...{ run_id: id(90_001), seq: 9, kind: 'step', scope: '', name: 's', ordinal: 1, status: 'completed', digest: 'd' },
    ...{
      output: '1',
      error: null,
      attempts: 1,
      after_seq: 0,
      started_at: 0,
      finished_at: 0,
      child_id: null,
      logs: null,
    },
  };
  const newRun = {
    ...{
      id: id(900_001),
      workflow: 'w',
      version: 1,
      key: 'k',
      queue: 'default',
      priority: 0,
      tenant: null,
      label: null,
    },
    ...{
      attributes: null,
      input: '1',
      input_digest: 'd',
      context: null,
      trace: null,
      delay_ms: null,
      start_at: null,
      timeout_ms: null,
      eager: true,
    },
  };
  const child = {
    ...{ ...newRun, deadline: null, parent_id: id(90_001), root_id: id(90_001), depth: 2, ref: 'r', scope: '' },
    ...{ awaited: true, cascades: true, closes_with_parent: false, shielded: false },
  };
  const signal = { position: 0, run_id: id(5), id: 's', name: 'n', payload: '1', tree_wait: null };
  const asked = {
    ...{ scope: '', name: 'n', ordinal: 1, type: 'choice', prompt: null, choices: '["a"]', judged_by_run: false },
    ...{ shielded: false, asked_at: 0, expires_at: null },
  };
  const input = [id(5), '', 'n', 1, id(6)];
  const beat = {
    ...{ run_id: id(5), epoch: 1, seq: 2, scope: '', name: 'step', ordinal: 1 },
    ...{ progress: '1', attempt: 1, after_seq: 0, started_at: 0 },
  };
  const schedule = {
    ...{ id: 'nightly', workflow: 'w', version: 1, queue: 'default', timeout_ms: null, input: null, input_digest: 'd' },
    ...{
      cron: null,
      every_ms: 1_000,
      time_zone: 'UTC',
      overlap: 'skip',
      missed: 'once',
      jitter_ms: 0,
      declared: false,
    },
    ...{ paused: false, last_tick: null, last_run_id: null, last_run_at: null, next_tick: 1_000, due_at: 1_000 },
  };
  const [ids, queues, definitions] = [[id(90_001), id(90_002)], ['default'], ['w@1', 'w@2']];

  const parameters: Record<keyof Statements, unknown[]> = {
    insertRuns: [...NEW_RUNS.parameters([newRun, newRun]), worker, definitions, '100'],
    findStarted: [ids, ['w', 'w'], ['key-1', 'key-2']],
    describeTransaction: [],
    lockHolder: ['w', 'key-5'],
    releaseKey: [id(5)],
    delayAnew: [id(95_001), 1_000, null, '1', 'd', null, null, null, null],
    lockTenants: ['orchestration/', ['one', 'two']],
    countStarts: [['one', 'two'], 60_000, 1_000, id(1)],
    claimRuns: [worker, queues, definitions, 100],
    configureQueues: [['limited'], ['{"concurrency":1}']],
    pauseQueue: ['limited', true],
    overrideQueue: ['limited', '{}'],
    gateRuns: ['default', 1_000],
    lockGate: ['limited'],
    countGated: ['limited', 1_000],
    claimGated: [worker, 'limited', definitions, 100, 50],
    claimFairly: [worker, 'limited', definitions, 100, 50, 3, ''],
    recordBegun: ['limited', 3, 1_000],
    listQueues: [],
    loadRun: [id(90_001)],
    loadOutcomes: [ids],
    loadChildren: [ids],
    loadEnds: [ids],
    commitWrites: [
      ...WRITES.parameters([write, { ...write, id: id(90_002) }]),
      ...OUTCOMES.parameters([outcome]),
      ...CHILDREN.parameters([child]),
      ...[worker, definitions, [id(90_003)]],
    ],
    keepHeartbeats: HEARTBEATS.parameters([beat, { ...beat, seq: 3 }]),
    recordOutcome: [1, ...OUTCOMES.parameters([outcome])],
    findOutcome: [id(5), 1, '', 'step', 1],
    cancelStatement: [1, 1],
    awaitChildren: [id(5), ids],
    watchRuns: [id(5), ids],
    supersedeRuns: [ids, id(5), 1],
    closingChildren: [id(5)],
    wakeDue: [500],
    wakeRuns: [ids],
    wakeThoseWhoWaitFor: [ids],
    announce: ['channel', '{}'],
    requestCancel: [ids, null, '{}', false],
    findRuns: [ids],
    lockRun: [id(5)],
    forget: [id(5), [1]],
    supersedeEnded: [id(5), [id(6)]],
    markCompensation: [id(5), 'running'],
    setPaused: [id(5), true],
    giveUpRun: [id(5), 1],
    reopenRun: [id(5)],
    continueRun: [id(5), '1', 0, 1],
    findTenant: [id(5), id(900_002)],
    lockOriginal: [id(5)],
    forkRun: [id(5), id(900_002), [1], 1, false, null, null, null, null],
    lockFamilies: [ids],
    findUsers: [[id(5)], ids],
    deleteRuns: [ids],
    registerWorker: [worker, 'host', 1, 30_000, queues, definitions],
    beat: [worker, queues, definitions, null, ids, [1, 1]],
    takeOver: [500],
    lockExpired: [],
    removeExpired: [ids],
    handBack: [worker, ids],
    removeWorker: [worker],
    liveDefinitions: [],
    markWatched: [ids],
    sendSignals: NEW_SIGNALS.parameters([signal, { ...signal, run_id: id(90_001) }]),
    sendSignalsToTrees: NEW_SIGNALS.parameters([{ ...signal, tree_wait: '{"kind":"signal","name":"n",' }]),
    sendAtCommit: [id(900_002), id(5), 's', 'n', '1', null],
    loadSignals: WANTED_SIGNALS.parameters([{ position: 0, run_id: id(90_001), name: 'n', after_seq: 0 }]),
    askInputs: [id(5), 'w', ...ASKED.parameters([asked, { ...asked, ordinal: 2 }])],
    closeInputs: [id(5), ...CLOSED.parameters([asked])],
    closeAllInputs: [id(5)],
    findInputs: [id(5), 'n', 100],
    answerInput: [...input, null, null],
    inputVerdict: input,
    withdrawOffer: input,
    givenAnswers: [id(5)],
    acceptOffer: [...input, 1, null],
    refuseAnswer: [...input, 1, '[]'],
    expireInput: input.slice(0, 4),
    lookAtHealth: [null, null],
    tableSizes: ['orchestration'],
    countRuns: [],
    countActiveRuns: [],
    statusFrequencies: ['orchestration'],
    listWorkers: [],
    lockSweep: ['lock'],
    nextEndedGroup: ['w', 'completed'],
    findOldRoots: ['w', 'completed', 86_400_000, null, null, 500],
    expiredFamilies: [ids, 86_400_000, null, null],
    lockLeaves: [id(5), 100],
    findBranch: [id(5)],
    declareRetention: [['w'], [1_000]],
    lockDueSchedules: [100],
    lockSchedule: ['nightly'],
    nextScheduleDue: [],
    insertSchedule: SCHEDULES.parameters([schedule]),
    updateSchedules: SCHEDULES.parameters([schedule]),
    deleteSchedule: ['nightly'],
    deleteUndeclaredSchedules: [['w'], ['nightly']],
    activeLastRuns: [ids],
    waitBehind: [id(5), id(90_001), '[]'],
  };

  const intended: Partial<Record<keyof Statements, string>> = {
    insertRuns: 'run_ready',
    findStarted: 'run_key',
    claimRuns: 'run_ready',
    lockHolder: 'run_key',
    countStarts: 'run_tenant',
    gateRuns: 'run_ready',
    countGated: 'run_slot',
    claimGated: 'run_ready',
    claimFairly: 'run_turn',
    loadOutcomes: 'history_pkey',
    loadRun: 'run_pkey',
    loadEnds: 'run_pkey',
    commitWrites: 'run_pkey',
    closingChildren: 'run_parent',
    continueRun: 'run_parent',
    wakeDue: 'run_timer',
    requestCancel: 'run_parent',
    lockFamilies: 'run_parent',
    nextEndedGroup: 'run_finished',
    findOldRoots: 'run_finished',
    expiredFamilies: 'run_parent',
    registerWorker: 'run_unwell',
    takeOver: 'run_worker',
    handBack: 'run_worker',
    removeWorker: 'run_worker',
    sendSignalsToTrees: 'run_parent',
    sendAtCommit: 'run_pkey',
    loadSignals: 'signal_order',
    ...{ answerInput: 'input_pkey', givenAnswers: 'input_pkey', expireInput: 'input_pkey', closeInputs: 'input_pkey' },
  };

  describe.each(['force_custom_plan', 'force_generic_plan'])('and %s', (mode) => {
    // All but the one that is for a table which is small.
    const byIndex = (Object.keys(parameters) as (keyof Statements)[]).filter((name) => name !== 'countRuns');

    it.each(byIndex)('%s goes by indexes', async (name) => {
      await client.query(`set plan_cache_mode = ${mode}`);

      const nodes = await plan(statements[name].text, parameters[name]);

      const scans = nodes.filter((node) => ['run', 'history', 'input'].includes(node['Relation Name'] ?? ''));
      expect(scans.filter((node) => node['Node Type'] === 'Seq Scan')).toEqual([]);
    });

    it.each(Object.entries(intended))('%s goes by %s', async (name, index) => {
      await client.query(`set plan_cache_mode = ${mode}`);

      const nodes = await plan(statements[name as keyof Statements].text, parameters[name as keyof Statements]);

      expect(nodes.map((node) => node['Index Name'])).toContain(index);
    });

    it('the ends of 500 children, each with its parent, are joined by hashes and indexes', async () => {
      await client.query(`set plan_cache_mode = ${mode}`);
      const children = Array.from({ length: 500 }, (_, index) => ({ ...write, id: id(90_501 + index) }));
      const parents = children.map((_, index) => toBeWokenRow(id(91_501 + index)));

      const nodes = await plan(statements.commitWrites.text, [
        ...WRITES.parameters([...children, ...parents]),
        ...OUTCOMES.parameters(children.map((ended) => ({ ...outcome, run_id: ended.id }))),
        ...CHILDREN.parameters([]),
        ...[worker, definitions, []],
      ]);

      const update = nodes.find((node) => node['Node Type'] === 'ModifyTable' && node.Operation === 'Update');
      expect(update!['Actual Rows']).toBe(1_000);
      expect(Math.max(...nodes.map((node) => node['Rows Removed by Join Filter'] ?? 0))).toBeLessThan(5_000);
    });

    it('a claim and the look at what is ready need no sort of the queue', async () => {
      await client.query(`set plan_cache_mode = ${mode}`);
      for (const name of ['claimRuns', 'beat'] as const) {
        const nodes = await plan(statements[name].text, parameters[name]);

        const ready = nodes.filter((node) => node['Index Name'] === 'run_ready');
        expect(new Set(ready.map((node) => node['Node Type']))).toEqual(new Set(['Index Scan']));
        expect(Math.max(...ready.map((node) => node['Actual Rows']!))).toBeLessThanOrEqual(100);
        expect(nodes.filter((node) => node['Node Type'] === 'Sort' && node['Actual Rows']! > 100)).toEqual([]);
      }
    });
  });

  it.each([
    ['the first page of a list', {}, 'run_pkey'],
    ['a later page', { cursor: id(50_000) }, 'run_pkey'],
    ['the children of a run', { parentId: id(5) }, 'run_parent'],
    ['what failed', { status: 'failed' as const }, 'run_unwell'],
  ])('%s comes from an index, and as far as its limit only', async (_what, filter, index) => {
    const { orchestrator } = await startApp({ database: large, options: { worker: false } });
    await client.query('set plan_cache_mode = auto');
    const { byQuery } = await measure(large, () => orchestrator.list(filter));
    const text = [...byQuery.keys()].find((query) => query.includes('"orchestration"."run"'))!;

    const nodes = await plan(text, Object.values(filter));

    expect(nodes.map((node) => node['Index Name'])).toContain(index);
    expect(nodes.map((node) => node['Node Type'])).not.toContain('Seq Scan');
    expect(Math.max(...nodes.map((node) => node['Actual Rows'] ?? 0))).toBeLessThanOrEqual(51);
  });

  interface PlanNode {
    'Node Type': string;
    'Relation Name'?: string;
    'Index Name'?: string;
    'Actual Rows'?: number;
    'Rows Removed by Join Filter'?: number;
    Operation?: string;
    Plans?: PlanNode[];
  }

  /** All nodes of the plan that a prepared statement gets; what it does is rolled back. */
  async function plan(text: string, values: unknown[]): Promise<PlanNode[]> {
    const literals = values.map((value) => (value === null ? 'null' : pg.escapeLiteral(toLiteral(value))));
    await client.query(`prepare planned as ${text}`);
    await client.query('begin');
    try {
      const execute = `explain (analyze, format json) execute planned${literals.length ? `(${literals.join(', ')})` : ''}`;
      const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(execute);
      return flatten(rows[0]!['QUERY PLAN'][0].Plan);
    } finally {
      await client.query('rollback');
      await client.query('deallocate planned');
    }
  }

  function flatten(node: PlanNode): PlanNode[] {
    return [node, ...(node.Plans ?? []).flatMap(flatten)];
  }

  /** The text form that PostgreSQL reads, for arrays too. */
  function toLiteral(value: unknown): string {
    if (value instanceof ArrayParameter) return toLiteral(value.values);
    if (!Array.isArray(value)) return String(value);
    return `{${(value as (string | number | null)[]).map((item) => (item === null ? 'null' : JSON.stringify(`${item}`))).join(',')}}`;
  }
});

/**
 * 89,000 ended runs, 1,000 of them failed; 1,000 running; 4,000 parked until later, 1,000 due; 5,000 claimable, of which
 * some are nobody's; every tenth run is a child, and so are 500 of the running ones, of parents that are parked. Two
 * outcomes each.
 */
const FILL = `
insert into orchestration.run (
  id, workflow, version, status, queue, priority, key, input, input_digest, output, root_id, depth, parent_id, ref, awaited,
  worker_id, epoch, ready_at, wake_at, created_at, started_at, finished_at
)
select
  ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'w', 1 + n % 2,
  case
    when n <= 1000 then 'failed' when n <= 89000 then 'completed' when n <= 90000 then 'waiting'
    when n <= 91000 then 'running' when n <= 95000 then 'waiting' else 'pending'
  end,
  case when n % 7 = 0 then 'other' else 'default' end, n % 3, case when n % 5 = 0 then 'key-' || n end, '1', 'd', '1',
  ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 1,
  case
    when n between 90501 and 91000 then ('00000000-0000-7000-8000-' || lpad(to_hex(n + 1000), 12, '0'))::uuid
    when n % 10 = 0 then ('00000000-0000-7000-8000-' || lpad(to_hex(n / 100), 12, '0'))::uuid
  end,
  case when n % 10 = 0 or n between 90501 and 91000 then 'ref-' || n end, n % 10 = 0 or n between 90501 and 91000,
  case when n between 90001 and 95000 then ('00000000-0000-7000-8000-' || lpad(to_hex(1 + n % 20), 12, '0'))::uuid end, 1,
  case when n > 95000 then now() - make_interval(secs => 100000 - n) end,
  case when n between 89001 and 90000 then now() - interval '1 minute' when n between 91001 and 95000 then now() + interval '1 day' end,
  now() - make_interval(secs => 200000 - n), now(), case when n <= 89000 then now() end
from generate_series(1, 100000) n;

insert into orchestration.history (run_id, seq, kind, scope, name, ordinal, status, attempts, after_seq, started_at, finished_at)
select r.id, s, 'step', '', 's', s, 'completed', 1, s - 1, now(), now()
from orchestration.run r
cross join generate_series(1, 2) s;

insert into orchestration.input (run_id, scope, name, ordinal, workflow, type, judged_by_run, shielded, state, asked_at)
select r.id, '', 'n', 1, 'w', 'text', false, false, 'pending', now()
from orchestration.run r;

insert into orchestration.worker (id, host, pid, started_at, heartbeat_at, expires_at, queues, definitions)
select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'host', n, now(), now(),
  now() + case when n = 20 then interval '-1 minute' else interval '1 hour' end, '{default}', '{w@1,w@2}'
from generate_series(1, 20) n;
`;
