import type { Orchestrator } from '../../lib/index.js';
import { toBeWokenRow } from '../../lib/store/rows.js';
import { allStatements, type Statements } from '../../lib/store/statements/all.js';
import { ENDS, ENDS_AND_PARENTS, OUTCOMES, RECORDERS, WRITES } from '../../lib/store/statements/commit.sql.js';
import { HEARTBEATS } from '../../lib/store/statements/heartbeat.sql.js';
import { ASKED, CLOSED } from '../../lib/store/statements/input.sql.js';
import { CHILDREN } from '../../lib/store/statements/new-runs.sql.js';
import { SCHEDULES } from '../../lib/store/statements/schedule.sql.js';
import { NEW_SIGNALS, WANTED_SIGNALS } from '../../lib/store/statements/signal.sql.js';
import { BEGUN_RUNS, NEW_RUNS } from '../../lib/store/statements/start.sql.js';
import { closeApps, startApp } from '../support/app.js';
import {
  createdAt,
  createEmptyDatabase,
  createLargeDatabase,
  id,
  type PlannedDatabase,
  RUNS,
} from '../support/large-database.js';
import { type Plan, planOf } from '../support/plan.js';
import { measure } from '../support/statements.js';

/** With which values a statement is sent, how many blocks it may touch however many runs there are, and by which indexes. */
type Bound = [values: unknown[], blocks: number, ...indexes: string[]];

const MODES = ['force_custom_plan', 'force_generic_plan'] as const;
const LARGE = ['run', 'history', 'signal', 'input', 'watch'];
/** Up to here, a plan is not compiled (`jit_above_cost`), which takes seconds. */
const LARGEST_COST = 100_000;
/** To look at a run, and to write one: its row and an entry in each of its indexes. */
const [READ, WRITTEN] = [8, 40];
/** What reads all that is active. */
const ACTIVE = 80_000 * 2;
const DAY = 86_400_000;

let large: PlannedDatabase;

beforeAll(async () => {
  large = await createLargeDatabase();
});

afterAll(async () => {
  await closeApps();
  await large.client.end();
  await large.database.drop();
});

const [worker, definitions, queues] = [id(1), ['w@1', 'w@2'], ['default', 'limited']];
const running = [id(RUNS.running), id(RUNS.running + 1)];
const ended = [id(1_000), id(1_001)];
const parked = id(RUNS.waiting);

const write = {
  ...{ id: running[0], epoch: 1, write_no: 1, move: 'completed', output: '1', error: null, wake_at: null },
  ...{
    waiting_for: null,
    seen_wakes: 0,
    knows_cancel: false,
    told_parent: false,
    has_state: false,
    state: null,
    attributes: null,
  },
};
const outcome = {
  ...{ run_id: running[0], seq: 9, kind: 'step', scope: '', name: 's', ordinal: 1, status: 'completed', digest: 'd' },
  ...{
    output: '1',
    error: null,
    attempts: 1,
    after_seq: 0,
    started_at: 0,
    finished_at: 0,
    child_id: null,
    logs: null,
    output_in_run: null,
  },
};
const newRun = {
  ...{
    id: id(RUNS.next),
    workflow: 'w',
    version: 1,
    key: 'k',
    queue: 'default',
    priority: 0,
    tenant: null,
    label: null,
  },
  ...{ attributes: null, input: '1', input_digest: 'd', context: null, trace: null },
  ...{ delay_ms: null, start_at: null, timeout_ms: null, eager: true },
};
const child = {
  ...{ ...newRun, deadline: null, parent_id: running[0], root_id: running[0], depth: 2, ref: 'r', scope: '' },
  ...{ awaited: true, cascades: true, closes_with_parent: false, shielded: false },
};
const opened = { ...newRun, queue: 'idle', waiting_for: '[]' };
const openedChild = { ...child, id: id(RUNS.next + 1), queue: 'idle', parent_id: opened.id, root_id: opened.id };
const signal = { position: 0, run_id: parked, id: 's', name: 'n', payload: '1', tree_wait: null };
const asked = {
  ...{ scope: '', name: 'n', ordinal: 1, type: 'choice', prompt: null, choices: '["a"]', judged_by_run: false },
  ...{ shielded: false, asked_at: 0, expires_at: null },
};
const input = [parked, '', 'n', 1, id(6)];
const beat = {
  ...{ run_id: running[0], epoch: 1, seq: 5, scope: '', name: 'step', ordinal: 1 },
  ...{ progress: '1', attempt: 1, after_seq: 0, started_at: 0 },
};
const schedule = {
  ...{ id: 'nightly', workflow: 'w', version: 1, queue: 'default', timeout_ms: null, input: null, input_digest: 'd' },
  ...{ cron: null, every_ms: 1_000, time_zone: 'UTC', overlap: 'skip', missed: 'once', jitter_ms: 0, declared: false },
  ...{ paused: false, last_tick: null, last_run_id: null, last_run_at: null, next_tick: 1_000, due_at: 1_000 },
};

const written = [...WRITES.parameters([write, { ...write, id: running[1] }]), ...OUTCOMES.parameters([outcome])];

const end = {
  ...{ id: running[0], epoch: 1, write_no: 1, status: 'completed', output: '1', error: null, seen_wakes: null },
  ...{ awaited: true, resident: false, woken: false },
};
const wokenParent = { ...end, id: parked, epoch: null, write_no: null, status: 'running', resident: true, woken: true };
const endOutcome = OUTCOMES.parameters([outcome]);
const childOfParked = id(RUNS.runningChildren);
const workerOfParked = id(1 + (RUNS.waiting % 19));
const endOfChild = [
  ...ENDS_AND_PARENTS.parameters([wokenParent, { ...end, id: childOfParked }]),
  ...OUTCOMES.parameters([{ ...outcome, run_id: childOfParked }]),
  workerOfParked,
];

const BOUNDS: Record<Exclude<keyof Statements, 'countRuns'>, Bound> = {
  insertRuns: [[...NEW_RUNS.parameters([newRun, newRun]), worker, definitions, '100'], 60, 'run_ready'],
  beginRuns: [[...BEGUN_RUNS.parameters([opened]), worker, definitions], 2 * WRITTEN, 'run_ready'],
  beginOpenedRuns: [
    [...BEGUN_RUNS.parameters([opened]), worker, definitions, ...CHILDREN.parameters([openedChild])],
    3 * WRITTEN,
    'run_ready',
  ],
  findStarted: [[ended, ['w', 'w'], ['key-10', 'key-20']], 60, 'run_pkey', 'run_key'],
  describeTransaction: [[], 60],
  lockHolder: [['w', 'key-10'], 60, 'run_key'],
  releaseKey: [[id(10)], 60, 'run_pkey'],
  delayAnew: [[id(RUNS.ready), 1_000, null, '1', 'd', null, null, null, null], 60, 'run_pkey'],
  lockTenants: [['orchestration/', ['one', 'two']], 60],
  countStarts: [[['tenant-4', 'tenant-8'], 60_000, 1_000, id(RUNS.foreign)], 1_000, 'run_tenant'],
  claimRuns: [[worker, queues, definitions, 100], 100 * WRITTEN, 'run_ready'],
  configureQueues: [[['limited'], ['{"concurrency":1}']], 60],
  pauseQueue: [['limited', true], 60],
  overrideQueue: [['limited', '{}'], 60],
  gateRuns: [['default', 1_000], 1_000 * WRITTEN],
  lockGate: [['limited'], 60],
  countGated: [['limited', 1_000], 60, 'run_slot'],
  claimGated: [[worker, 'limited', definitions, 100, 50], 100 * WRITTEN, 'run_ready', 'run_woken'],
  claimFairly: [[worker, 'limited', definitions, 100, 50, 3, ''], 200 * WRITTEN, 'run_turn'],
  recordBegun: [['limited', 3, 1_000], 1_100],
  listQueues: [[], ACTIVE, 'run_status', 'run_worker'],
  loadRun: [[parked], 60, 'run_pkey'],
  loadOutcomes: [[running], 60, 'history_pkey'],
  loadChildren: [[running], 60],
  loadEnds: [[ended], 60, 'run_pkey'],
  commitOutcomes: [
    [
      ...RECORDERS.parameters(running.slice(0, 2).map((run) => ({ id: run, epoch: 1, seen_wakes: 0 }))),
      ...OUTCOMES.parameters([outcome]),
    ],
    4 * WRITTEN,
    'run_pkey',
  ],
  commitEnds: [[...ENDS.parameters([end, { ...end, id: running[1] }]), ...endOutcome], 4 * WRITTEN, 'run_pkey'],
  commitEndsWithParents: [endOfChild, 4 * WRITTEN, 'run_pkey'],
  commitEndsWakingParents: [endOfChild, 4 * WRITTEN, 'run_pkey'],
  commitWrites: [[...written, worker, [parked]], 4 * WRITTEN, 'run_pkey'],
  commitWithChildren: [
    [...written, worker, [parked], ...CHILDREN.parameters([child]), definitions],
    5 * WRITTEN,
    'run_pkey',
    'run_ready',
  ],
  keepHeartbeats: [HEARTBEATS.parameters([beat, { ...beat, seq: 6 }]), 60, 'run_pkey'],
  recordOutcome: [[1, ...OUTCOMES.parameters([outcome])], 60, 'run_pkey'],
  findOutcome: [[running[0], 1, '', 'step', 1], 60, 'history_pkey'],
  cancelStatement: [[1, 1], 60],
  awaitChildren: [[id(1_000), ended], 60, 'run_pkey'],
  watchRuns: [[parked, running], 60, 'run_pkey'],
  supersedeRuns: [[ended, id(1_000), 1], 60, 'run_pkey'],
  markCompensation: [[running[0], 'running'], 60, 'run_pkey'],
  closingChildren: [[parked], 60, 'run_parent'],
  wakeDue: [[500], 500 * WRITTEN, 'run_timer'],
  wakeRuns: [[[parked]], 60, 'run_pkey'],
  wakeThoseWhoWaitFor: [[[id(RUNS.runningChildren)]], 60, 'run_pkey', 'watch_pkey'],
  announce: [['channel', '{}'], 60],
  requestCancel: [[[parked], null, '{}', false], 1_000 * READ, 'run_parent'],
  findRuns: [[ended], 60, 'run_pkey'],
  lockRun: [[parked], 60, 'run_pkey'],
  forget: [[parked, [1]], 60, 'history_pkey'],
  supersedeEnded: [[parked, [id(6)]], 60, 'run_parent'],
  setPaused: [[parked, true], 60, 'run_pkey'],
  giveUpRun: [[running[0], 1], 60, 'run_pkey'],
  reopenRun: [[ended[0]], 60, 'run_pkey'],
  continueRun: [[running[0], '1', 0, 1], 60, 'run_pkey', 'history_pkey'],
  findTenant: [[parked, id(RUNS.next)], 60, 'run_pkey'],
  lockOriginal: [[parked], 60, 'run_pkey'],
  forkRun: [[parked, id(RUNS.next), [1], 1, false, null, null, null, null], 60, 'run_pkey', 'history_pkey'],
  lockFamilies: [[ended], 60, 'run_parent'],
  findUsers: [[ended, ended], 60, 'run_pkey', 'watch_pkey'],
  deleteRuns: [[ended], 60, 'run_pkey', 'history_pkey', 'signal_pkey', 'watch_pkey', 'watch_watcher', 'input_pkey'],
  registerWorker: [[id(RUNS.next), 'host', 1, 30_000, queues, definitions], 60],
  unblockRuns: [[worker, definitions, id(0), 500], 500 * WRITTEN, 'run_status'],
  beat: [[worker, queues, definitions, 1_000, running, [1, 1]], 60, 'run_ready', 'run_timer', 'schedule_due'],
  takeOver: [[500], 500 * WRITTEN, 'run_worker'],
  lockExpired: [[], 60],
  removeExpired: [[[id(20)]], 60, 'run_worker'],
  handBack: [[worker, running], 200 * WRITTEN, 'run_worker'],
  removeWorker: [[worker], 1_200 * WRITTEN, 'run_worker'],
  liveDefinitions: [[], 60],
  markWatched: [[running], 60, 'run_pkey'],
  sendSignals: [NEW_SIGNALS.parameters([signal, { ...signal, run_id: running[0] }]), 3 * WRITTEN],
  sendSignalsToTrees: [
    NEW_SIGNALS.parameters([{ ...signal, tree_wait: '{"kind":"signal","name":"n",' }]),
    1_000 * READ,
    'run_parent',
  ],
  sendAtCommit: [[id(RUNS.next), parked, 's', 'n', '1', null], 60, 'run_pkey', 'signal_pkey'],
  loadSignals: [
    WANTED_SIGNALS.parameters([{ position: 0, run_id: id(RUNS.running - 1), name: 'n', after_seq: 0 }]),
    300,
    'signal_order',
  ],
  askInputs: [[parked, 'w', ...ASKED.parameters([asked, { ...asked, ordinal: 2 }])], 60],
  closeInputs: [[parked, ...CLOSED.parameters([asked])], 60, 'input_pkey'],
  closeAllInputs: [[parked], 60, 'input_pkey'],
  findInputs: [[parked, 'n', 100], 60, 'input_pkey'],
  answerInput: [[...input, null, null], 60, 'input_pkey'],
  inputVerdict: [input, 60, 'input_pkey'],
  withdrawOffer: [input, 60, 'input_pkey'],
  givenAnswers: [[parked], 60, 'input_pkey'],
  acceptOffer: [[...input, 1, null], 60, 'input_pkey'],
  refuseAnswer: [[...input, 1, '[]'], 60, 'input_pkey'],
  expireInput: [input.slice(0, 4), 60, 'input_pkey'],
  lookAtHealth: [[null, null], 60, 'run_ready', 'run_timer', 'run_worker'],
  tableSizes: [['orchestration'], 1_000],
  countActiveRuns: [[], ACTIVE, 'run_status', 'run_worker'],
  // The catalog's statistics, as tableSizes: their blocks depend on the server's version and on its last vacuum.
  statusFrequencies: [['orchestration'], 1_000],
  listWorkers: [[], ACTIVE, 'run_worker'],
  lockSweep: [['lock'], 60],
  nextEndedGroup: [['w', 'cancelled'], 60, 'run_finished'],
  findOldRoots: [['w', 'completed', DAY, null, null, 500], 60, 'run_finished'],
  expiredFamilies: [[ended, DAY, null, null], 60, 'run_parent'],
  lockLeaves: [[parked, 100], 100 * READ, 'run_parent'],
  findBranch: [[ended[0]], 60, 'run_parent'],
  declareRetention: [[['w'], [1_000]], 60],
  lockDueSchedules: [[100], 60, 'schedule_due'],
  lockSchedule: [['nightly'], 60, 'schedule_pkey'],
  nextScheduleDue: [[], 60, 'schedule_due'],
  insertSchedule: [SCHEDULES.parameters([schedule]), 60],
  updateSchedules: [SCHEDULES.parameters([schedule]), 60],
  deleteSchedule: [['nightly'], 60, 'schedule_pkey'],
  deleteUndeclaredSchedules: [[['w'], ['nightly']], 100],
  activeLastRuns: [[running], 60, 'run_pkey'],
  waitBehind: [[id(RUNS.ready), running[0], '[]'], 60, 'run_pkey'],
};

/** How many rows each kind of write was given. */
function writtenBy(nodes: Plan['nodes']): Record<string, number> {
  const writes = nodes.filter((node) => node['Node Type'] === 'ModifyTable');
  return Object.fromEntries(writes.map((node) => [node.Operation!, node.Plans!.at(-1)!['Actual Rows']!]));
}

describe('On a large table', () => {
  const statements = allStatements('orchestration');
  const names = Object.keys(BOUNDS) as (keyof typeof BOUNDS)[];
  const sent = (name: keyof typeof BOUNDS, values = BOUNDS[name][0]) => ({ text: statements[name].text, values });

  it('every statement has a bound, but for the one that is for a table which is small', () => {
    expect([...names, 'countRuns'].toSorted()).toEqual(Object.keys(statements).toSorted());
  });

  it.each(names)('%s keeps to its indexes and touches few blocks', async (name) => {
    const [, blocks, ...indexes] = BOUNDS[name];
    for (const mode of MODES) {
      const plan = await planOf(large.client, sent(name), mode);

      const used = plan.nodes.map((node) => node['Index Name']);
      expect({ mode, scans: scansOf(plan) }).toEqual({ mode, scans: [] });
      expect({ mode, unused: indexes.filter((index) => !used.includes(index)) }).toEqual({ mode, unused: [] });
      expect({ mode, blocks: plan.blocks <= blocks || plan.blocks }).toEqual({ mode, blocks: true });
      expect({ mode, cost: plan.cost <= LARGEST_COST || plan.cost }).toEqual({ mode, cost: true });
    }
  });

  it.each(MODES)('the outcomes of 500 runs are joined by hashes and indexes: %s', async (mode) => {
    const runs = Array.from({ length: 500 }, (_, index) => id(RUNS.runningChildren + index));

    const { nodes } = await planOf(
      large.client,
      sent('commitOutcomes', [
        ...RECORDERS.parameters(runs.map((run) => ({ id: run, epoch: 1, seen_wakes: 0 }))),
        ...OUTCOMES.parameters(runs.map((run) => ({ ...outcome, run_id: run }))),
      ]),
      mode,
    );

    const insert = nodes.find((node) => node['Node Type'] === 'ModifyTable' && node.Operation === 'Insert');
    expect(insert!.Plans!.at(-1)!['Actual Rows']).toBe(500);
    expect(Math.max(...nodes.map((node) => node['Rows Removed by Join Filter'] ?? 0))).toBeLessThan(5_000);
  });

  it.each(MODES)('the ends of 500 runs are joined by indexes: %s', async (mode) => {
    const runs = Array.from({ length: 500 }, (_, index) => id(RUNS.running + index));

    const { nodes } = await planOf(
      large.client,
      sent('commitEnds', [
        ...ENDS.parameters(runs.map((run) => ({ ...end, id: run }))),
        ...OUTCOMES.parameters(runs.map((run) => ({ ...outcome, run_id: run }))),
      ]),
      mode,
    );

    expect(writtenBy(nodes)).toEqual({ Insert: 500, Update: 500 });
    expect(Math.max(...nodes.map((node) => node['Rows Removed by Join Filter'] ?? 0))).toBeLessThan(5_000);
  });

  it.each(MODES)('the end of a child that wakes its parent writes both: %s', async (mode) => {
    const { nodes } = await planOf(large.client, sent('commitEndsWakingParents'), mode);

    expect(writtenBy(nodes)).toEqual({ Insert: 1, Update: 2 });
  });

  it.each(MODES)(
    'the ends of 500 children, each with its parent, are joined by hashes and indexes: %s',
    async (mode) => {
      const children = Array.from({ length: 500 }, (_, index) => ({ ...write, id: id(RUNS.runningChildren + index) }));
      const parents = children.map((_, index) => toBeWokenRow(id(RUNS.waiting + index)));

      const { nodes } = await planOf(
        large.client,
        sent('commitWrites', [
          ...WRITES.parameters([...children, ...parents]),
          ...OUTCOMES.parameters(children.map((one) => ({ ...outcome, run_id: one.id }))),
          ...[worker, []],
        ]),
        mode,
      );

      const update = nodes.find((node) => node['Node Type'] === 'ModifyTable' && node.Operation === 'Update');
      expect(update!['Actual Rows']).toBe(1_000);
      expect(Math.max(...nodes.map((node) => node['Rows Removed by Join Filter'] ?? 0))).toBeLessThan(5_000);
    },
  );
});

describe('On tables that were never analysed', () => {
  const statements = allStatements('orchestration');
  const thousand = Array.from({ length: 1_000 }, (_, index) => id(RUNS.next + 2 + index));
  const runs = thousand.map((one) => ({ ...newRun, id: one, key: null }));
  const openings = runs.map((run) => ({ ...run, waiting_for: null }));
  const children = thousand.map((one) => ({ ...child, id: one, ref: one }));
  let empty: PlannedDatabase;

  beforeAll(async () => {
    empty = await createEmptyDatabase();
  });

  afterAll(async () => {
    await empty.client.end();
    await empty.database.drop();
  });

  it.each<[keyof Statements, unknown[]]>([
    ['insertRuns', [...NEW_RUNS.parameters(runs), worker, definitions, '100']],
    ['beginRuns', [...BEGUN_RUNS.parameters(openings), worker, definitions]],
    ['beginOpenedRuns', [...BEGUN_RUNS.parameters([opened]), worker, definitions, ...CHILDREN.parameters(children)]],
    ['commitWithChildren', [...written, worker, [parked], ...CHILDREN.parameters(children), definitions]],
  ])('%s of a thousand new runs is not taken for one that is worth compiling', async (name, values) => {
    for (const mode of MODES) {
      const { cost } = await planOf(empty.client, { text: statements[name].text, values }, mode);
      expect({ mode, cost: cost <= LARGEST_COST || cost }).toEqual({ mode, cost: true });
    }
  });
});

describe('A list on a large table', () => {
  let orchestrator: Orchestrator;

  beforeAll(async () => {
    ({ orchestrator } = await startApp({ database: large.database, options: { worker: false } }));
  });

  /** The plans of what the work reads. */
  async function plansOf(work: () => Promise<unknown>): Promise<Plan[]> {
    const { sent } = await measure(large.database, work);
    const reads = sent.filter(({ text }) => /from "orchestration"\."(run|history|input)"/i.test(text));
    const plans: Plan[] = [];
    for (const read of reads) plans.push(await planOf(large.client, read, 'force_custom_plan'));
    return plans;
  }

  const hour = { createdAfter: createdAt(100_000), createdBefore: createdAt(100_360) };
  it.each<[string, Parameters<Orchestrator['list']>[0], string]>([
    ['nothing', {}, 'run_pkey'],
    ['a frequent workflow', { workflow: 'w' }, 'run_pkey'],
    ['what completed', { status: 'completed', cursor: id(RUNS.foreign) }, 'run_pkey'],
    ['what failed', { status: 'failed' }, 'run_status'],
    ['what was cancelled', { status: 'cancelled' }, 'run_status'],
    ['what is blocked', { status: 'blocked' }, 'run_status'],
    ['roots', { rootOnly: true }, 'run_pkey'],
    ['a tenant', { tenant: 'tenant-4' }, 'run_tenant'],
    ['children', { parentId: id(RUNS.waiting) }, 'run_parent'],
    ['an id', { search: id(5) }, 'run_pkey'],
  ])('by %s reads one page of an index, the first as well as a later one', async (_what, filter, index) => {
    for (const cursor of [filter?.cursor, id(150_000)]) {
      const [plan] = await plansOf(() => orchestrator.list({ ...filter, cursor }));

      expect(plan!.nodes.map((node) => node['Index Name'])).toContain(index);
      expect(plan!.nodes.map((node) => node['Node Type'])).not.toContain('Seq Scan');
      expect(plan!.blocks).toBeLessThanOrEqual(51 * READ);
    }
  });

  it('by attributes that few runs have reads those, and by frequent ones a page', async () => {
    await large.client.query(
      `update orchestration.run set attributes = jsonb_build_object('order', id::text, 'city', 'Oslo') where id < $1`,
      [id(20_001)],
    );
    await large.client.query('vacuum analyze orchestration.run');
    const [rare] = await plansOf(() => orchestrator.list({ attributes: { order: id(7) } }));
    const [frequent] = await plansOf(() => orchestrator.list({ attributes: { city: 'Oslo' }, cursor: id(20_001) }));

    expect(rare!.nodes.map((node) => node['Index Name'])).toContain('run_attributes');
    expect(rare!.blocks).toBeLessThanOrEqual(20);
    expect(frequent!.blocks).toBeLessThanOrEqual(51 * READ);
    await large.client.query('update orchestration.run set attributes = null where attributes is not null');
    await large.client.query('vacuum analyze orchestration.run');
  });

  it.each<[string, Parameters<Orchestrator['list']>[0], number]>([
    ['what runs: no more than the workers have', { status: 'running' }, RUNS.blocked - RUNS.timed],
    ['what is active: no more than that', { status: ['pending', 'waiting', 'running'] }, RUNS.next - RUNS.foreign],
    [
      'a stretch of time that has few of them: no more than started within a day of it',
      { ...hour, queue: 'none' },
      360 + 2 * 8_640,
    ],
  ])('by %s', async (_what, filter, runs) => {
    const [plan] = await plansOf(() => orchestrator.list(filter));

    expect(scansOf(plan!)).toEqual([]);
    expect(plan!.blocks).toBeLessThanOrEqual(2 * runs);
  });

  it('of children, inputs and one family is bounded by its page or by the family', async () => {
    const family = id(RUNS.waiting);
    const plans = [
      ...(await plansOf(() => orchestrator.listChildren(family))),
      ...(await plansOf(() => orchestrator.findByKey('w', 'key-10'))),
      ...(await plansOf(() => orchestrator.inputs.list({}))),
      ...(await plansOf(() => orchestrator.inputs.list({ workflow: 'rare' }))),
      ...(await plansOf(() => orchestrator.history(id(5)))),
    ];
    const tree = await plansOf(() => orchestrator.tree(family));

    expect(plans).toHaveLength(5);
    expect([...plans, ...tree].flatMap(scansOf)).toEqual([]);
    expect(Math.max(...plans.map(({ blocks }) => blocks))).toBeLessThanOrEqual(51 * READ);
    expect(Math.max(...tree.map(({ blocks }) => blocks))).toBeLessThanOrEqual(1_000 * READ);
  });
});

describe('After very many claims without a vacuum', () => {
  const claim = { text: allStatements('orchestration').claimRuns.text, values: [worker, ['busy'], definitions, 10] };
  const CLAIMED = 30_000;
  const LEFT = 5;

  it('a claim visits no row of those that are gone, and its index only', async () => {
    const { client } = large;
    await client.query(
      `insert into orchestration.run (id, workflow, version, status, queue, input_digest, root_id, depth, ready_at, created_at)
       select gen_random_uuid(), 'w', 1, 'pending', 'busy', 'd', gen_random_uuid(), 1, now(), now() - make_interval(secs => 0.001 * n)
       from generate_series(1, $1::int) n`,
      [CLAIMED + LEFT],
    );
    await client.query(
      `update orchestration.run set status = 'completed', ready_at = null, finished_at = now()
       where id in (select id from orchestration.run where queue = 'busy' order by ready_at, id limit $1::int)`,
      [CLAIMED],
    );
    const [{ pages }] = (
      await client.query<{ pages: number }>(
        `select pg_relation_size('orchestration.run_ready')::int / current_setting('block_size')::int as pages`,
      )
    ).rows as [{ pages: number }];

    // The first marks the entries of rows that nobody can see any more.
    await planOf(client, claim, 'force_generic_plan');
    const { nodes, blocks } = await planOf(client, claim, 'force_generic_plan');

    const head = nodes.filter((node) => node['Index Name'] === 'run_ready');
    expect(Math.max(...head.map((node) => node['Actual Rows']!))).toBe(LEFT);
    // The jumps to the one definition and behind it, and what looks at its runs, each go through the index once.
    expect(blocks).toBeLessThanOrEqual(3 * pages + LEFT * WRITTEN);
  });
});

/** Of tables that may be large. */
function scansOf({ nodes }: Plan): string[] {
  const scans = nodes.filter((node) => node['Node Type'] === 'Seq Scan').map((node) => node['Relation Name']!);
  return scans.filter((name) => LARGE.includes(name));
}
