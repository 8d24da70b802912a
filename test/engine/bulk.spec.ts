import pg from 'pg';

import { type Attributes, type BulkRequest, ValidationError } from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const leaf = workflow('leaf', ({ ctx }) => ctx.sleep('1h'));
const parked = workflow('parked', async ({ children }) => {
  await children.call(leaf, undefined);
});
const spreading = workflow('spreading', async ({ children }) => {
  const places: Attributes[] = [{ floor: 3 }, { floor: 3, room: 1 }, { floor: 4 }];
  await Promise.all(places.map((attributes) => children.call(leaf, undefined, { attributes, label: 'a leaf' })));
});
let isBroken = true;
const fragile = workflow('fragile', () => {
  if (isBroken) throw new Error('broken');
  return 'mended';
});
const quick = workflow('quick', (_tools, input: number) => input);
const holding = workflow('holding', async ({ children, ctx }) => {
  await children.call(quick, 1);
  await ctx.sleep('1h');
});

let database: TestDatabase;
let client: pg.Client;
let app: TestApp;

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});

beforeEach(async () => {
  isBroken = true;
  const providers = [leaf, parked, spreading, fragile, quick, holding];
  app = await startApp({ database, providers, options: { worker: { pollInterval: '20ms' } } });
  await client.query('truncate orchestration.run, orchestration.history');
});

afterEach(closeApps);

afterAll(async () => {
  await client.end();
  await database.drop();
});

const many = (count: number) => Array.from({ length: count }, () => ({ input: undefined as never }));

async function counts(): Promise<Record<string, number>> {
  const { rows } = await client.query<{ what: string; count: number }>(
    `select workflow || ' ' || status as what, count(*)::int as count from orchestration.run group by 1 order by 1`,
  );
  return Object.fromEntries(rows.map(({ what, count }) => [what, count]));
}

const untilCounted = (what: string, count: number) =>
  until(`${count} are ${what}`, async () => (await counts())[what] === count);

describe('orchestrator.bulk', () => {
  it('cancels what a filter matches, with its descendants, over many pages', async () => {
    await app.orchestrator.startMany(parked, many(250));
    await app.orchestrator.startMany(
      quick,
      Array.from({ length: 5 }, (_, input) => ({ input })),
    );
    await untilCounted('parked waiting', 250);
    await untilCounted('quick completed', 5);

    const expected = await app.orchestrator.bulk(
      { filter: { workflow: 'parked' }, action: 'cancel' },
      { dryRun: true },
    );
    const untouched = await counts();
    const result = await app.orchestrator.bulk({ filter: { workflow: 'parked' }, action: 'cancel' });
    await untilCounted('parked cancelled', 250);
    const again = await app.orchestrator.bulk({ filter: { workflow: 'parked' }, action: 'cancel' });

    expect(expected).toEqual({ matched: 250, done: 0 });
    expect(untouched['parked waiting']).toBe(250);
    expect(result).toEqual({ matched: 250, done: 250 });
    expect(again).toEqual({ matched: 0, done: 0 });
    expect(await counts()).toEqual({ 'leaf cancelled': 250, 'parked cancelled': 250, 'quick completed': 5 });
  });

  it('retries what failed, and what was cancelled only when that is named', async () => {
    await app.orchestrator.startMany(fragile, many(120));
    await untilCounted('fragile failed', 120);
    const cancelled = await app.orchestrator.start(fragile, undefined, { delay: '1h' });
    await cancelled.cancel();
    isBroken = false;

    const expected = await app.orchestrator.bulk(
      { filter: { workflow: 'fragile' }, action: 'retry' },
      { dryRun: true },
    );
    const untouched = await counts();
    const result = await app.orchestrator.bulk({ filter: { workflow: 'fragile' }, action: 'retry' });
    await untilCounted('fragile completed', 120);
    const named = await app.orchestrator.bulk({ filter: { status: 'cancelled' }, action: 'retry' });

    expect(expected).toEqual({ matched: 120, done: 0 });
    expect(untouched).toEqual({ 'fragile cancelled': 1, 'fragile failed': 120 });
    expect(result).toEqual({ matched: 120, done: 120 });
    expect(named).toEqual({ matched: 1, done: 1 });
    expect(await cancelled.result()).toBe('mended');
  });

  it('deletes what is finished, and goes on where it was interrupted', async () => {
    await app.orchestrator.startMany(
      quick,
      Array.from({ length: 150 }, (_, input) => ({ input })),
    );
    await untilCounted('quick completed', 150);
    const active = await app.orchestrator.start(holding, undefined);
    await until('it sleeps', async () => (await active.children()).items[0]?.status === 'completed');
    const { store } = await app.context
      .get<{ engine(): Promise<{ store: { delete(id: string): Promise<unknown> } }> }>('EngineHost:', { strict: false })
      .engine();
    const original = store.delete.bind(store);
    let deleted = 0;
    store.delete = (id) => (deleted++ < 60 ? original(id) : Promise.reject(new Error('The process dies')));

    const expected = await app.orchestrator.bulk({ filter: 'all', action: 'delete' }, { dryRun: true });
    const untouched = await counts();
    const interrupted = app.orchestrator.bulk({ filter: 'all', action: 'delete' });
    await expect(interrupted).rejects.toThrow('The process dies');
    store.delete = original;
    const atInterruption = (await counts())['quick completed'];
    const result = await app.orchestrator.bulk({ filter: 'all', action: 'delete' });

    expect(expected).toEqual({ matched: 151, done: 0 });
    expect(untouched['quick completed']).toBe(151);
    expect(atInterruption).toBe(92);
    expect(result).toEqual({ matched: 92, done: 91 });
    expect(await counts()).toEqual({ 'holding waiting': 1, 'quick completed': 1 });
  });

  it.each([
    [{ tenant: 'acme' }, 4],
    [{ tenant: 'acme', rootOnly: true }, 1],
    [{ attributes: { floor: 3 } }, 2],
    [{ search: 'a leaf' }, 3],
    [{ queue: 'default', version: 1, createdAfter: new Date(0), createdBefore: new Date(0) }, 0],
  ])('takes every filter that list takes: %j', async (filter, matched) => {
    const run = await app.orchestrator.start(spreading, undefined, { tenant: 'acme' });
    await untilCounted('leaf waiting', 3);
    await untilCounted('spreading waiting', 1);

    const expected = await app.orchestrator.bulk({ filter, action: 'cancel' }, { dryRun: true });
    const ofParent = await app.orchestrator.bulk({ filter: { parentId: run.id }, action: 'cancel' }, { dryRun: true });
    const result = await app.orchestrator.bulk({ filter, action: 'cancel' });

    expect([expected, ofParent]).toEqual([
      { matched, done: 0 },
      { matched: 3, done: 0 },
    ]);
    expect(result).toEqual({ matched, done: matched });
  });

  it('does nothing where the filter names no status that the action is for', async () => {
    await app.orchestrator.execute(quick, 1);

    expect(await app.orchestrator.bulk({ filter: { status: 'completed' }, action: 'cancel' })).toEqual({
      matched: 0,
      done: 0,
    });
    expect(await app.orchestrator.bulk({ filter: { status: ['completed', 'failed'] }, action: 'retry' })).toEqual({
      matched: 0,
      done: 0,
    });
  });

  it.each<[string, object, object, string]>([
    ['an empty filter', { filter: {}, action: 'delete' }, {}, "say filter: 'all' if that is meant"],
    ['a filter of undefined values', { filter: { tenant: undefined }, action: 'delete' }, {}, 'would match every run'],
    ['no filter', { action: 'delete' }, {}, "filter must be a filter or 'all'"],
    [
      'an unknown action',
      { filter: 'all', action: 'pause' },
      {},
      'action must be one of cancel, retry, delete, not "pause"',
    ],
    ['a page', { filter: { tenant: 'a', limit: 10 }, action: 'cancel' }, {}, 'a bulk has no pages: leave limit out'],
    ['an unknown field', { filter: { colour: 'red' }, action: 'cancel' }, {}, 'colour is unknown'],
    ['an unknown option', { filter: 'all', action: 'cancel' }, { dry: true }, "unknown option 'dry'"],
  ])('refuses %s', async (_what, request, options, message) => {
    const asking = app.orchestrator.bulk(request as BulkRequest, options);

    await expect(asking).rejects.toThrow(ValidationError);
    await expect(asking).rejects.toThrow(message);
  });
});

describe('orchestrator.stats', () => {
  it('counts runs by status, queue and workflow, with the oldest that is due, and the tables', async () => {
    const before = Date.now();
    await app.orchestrator.startMany(quick, [{ input: 1 }, { input: 2 }]);
    await untilCounted('quick completed', 2);
    await app.orchestrator.start(quick, 3, { queue: 'elsewhere' });
    await app.orchestrator.start(quick, 4, { queue: 'elsewhere', delay: '1h' });
    await app.orchestrator.start(parked, undefined);
    await untilCounted('leaf waiting', 1);
    await untilCounted('parked waiting', 1);

    const stats = await app.orchestrator.stats();

    const none = { pending: 0, running: 0, waiting: 0, blocked: 0 };
    expect(stats.runs).toEqual({ ...none, pending: 2, waiting: 2, completed: 2, failed: 0, cancelled: 0 });
    expect(stats.estimated).toEqual([]);
    expect(stats.queues).toEqual([
      { queue: 'default', ...none, waiting: 2, oldestDueAt: undefined },
      { queue: 'elsewhere', ...none, pending: 2, oldestDueAt: stats.oldestDueAt },
    ]);
    expect(stats.workflows).toEqual([
      { workflow: 'leaf', ...none, waiting: 1 },
      { workflow: 'parked', ...none, waiting: 1 },
      { workflow: 'quick', ...none, pending: 2 },
    ]);
    expect(Math.abs(stats.oldestDueAt!.getTime() - before)).toBeLessThan(60_000);
    expect(stats.tables.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['run', 'history', 'worker', 'schedule']),
    );
    expect(stats.tables.find(({ name }) => name === 'run')!.bytes).toBeGreaterThan(0);
  });

  it('of a large table does not read it: active runs are counted, finished ones estimated', async () => {
    await client.query(`
      insert into orchestration.run (id, workflow, version, status, queue, input_digest, input, root_id, depth, created_at, finished_at)
      select gen_random_uuid(), 'old', 1, case when n % 10 = 0 then 'failed' else 'completed' end, 'default', '', repeat(md5(n::text), 50), gen_random_uuid(), 1, now(), now()
      from generate_series(1, 45000) n`);
    await client.query('analyze orchestration.run');
    await app.orchestrator.start(quick, 3, { queue: 'elsewhere' });
    await app.orchestrator.start(parked, undefined);
    await untilCounted('leaf waiting', 1);
    await untilCounted('parked waiting', 1);

    const stats = await app.orchestrator.stats();

    expect(stats.estimated).toEqual(['completed', 'failed', 'cancelled']);
    expect(stats.runs).toMatchObject({ pending: 1, running: 0, waiting: 2, blocked: 0, cancelled: 0 });
    expect(Math.abs(stats.runs.completed - 40_500)).toBeLessThan(1_000);
    expect(Math.abs(stats.runs.failed - 4_500)).toBeLessThan(1_000);
    expect(stats.workflows.map((one) => [one.workflow, one.pending, one.waiting])).toEqual([
      ['leaf', 0, 1],
      ['parked', 0, 1],
      ['quick', 1, 0],
    ]);
  });
});

describe('orchestrator.workers', () => {
  it('are listed with what they can run and how much they do, dead ones too until they are taken over', async () => {
    const other = await startApp({ database, providers: [quick], options: { worker: { queues: ['others'] } } });
    await until('both are there', async () => (await app.orchestrator.workers.list()).length === 2);

    const workers = await app.orchestrator.workers.list();

    expect(workers).toMatchObject([
      { alive: true, pid: process.pid, queues: ['default'], running: 0 },
      { alive: true, pid: process.pid, queues: ['others'], workflows: ['quick@1'], running: 0 },
    ]);
    expect(workers[0]!.workflows.toSorted()).toEqual([
      'fragile@1',
      'holding@1',
      'leaf@1',
      'parked@1',
      'quick@1',
      'spreading@1',
    ]);
    expect(workers[1]!.heartbeatAt.getTime()).toBeGreaterThanOrEqual(workers[1]!.startedAt.getTime());
    await other.close();
    expect(await app.orchestrator.workers.list()).toHaveLength(1);
  });
});
