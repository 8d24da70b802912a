import { jest } from '@jest/globals';
import pg from 'pg';

import { StoredRetention } from '../../lib/store/stored-retention.js';
import { closeApps, startApp } from '../support/app.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const DAY_MS = 86_400_000;

const leaf = workflow('leaf', () => 'leaf');
const sleeper = workflow('sleeper', ({ ctx }) => ctx.sleep('365d'));
const family = workflow('family', async ({ ctx, children }) => {
  await ctx.step('first', () => 'first');
  await children.call(leaf, undefined, { ref: 'one' });
  await children.call(leaf, undefined, { ref: 'other' });
});
const orphaning = workflow('orphaning', async ({ children }) => {
  await children.start(sleeper, undefined, { ref: 'sleeper' });
});
const failing = workflow('failing', () => {
  throw new Error('broken');
});
const brief = workflow({ name: 'brief', retention: '1d' }, () => 'brief');
const dear = workflow({ name: 'dear', retention: '200d' }, () => 'dear');
const withDear = workflow('with-dear', ({ children }) => children.call(dear, undefined));
const awaiting = workflow('awaiting', async ({ ctx, children }, runId: string) => {
  await ctx.sleep('40d');
  return children.await(runId);
});
const wide = workflow('wide', async ({ children }) => {
  await children.map(
    leaf,
    Array.from({ length: 20 }, () => undefined),
  );
});
const providers = [leaf, sleeper, family, orphaning, failing, brief, dear, withDear, awaiting, wide];

let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await (await boot({})).close();
});

afterEach(async () => {
  await HeldRows.releaseAll();
  await closeApps();
  await client.query('truncate orchestration.run, orchestration.history, orchestration.watch, orchestration.retention');
  await moveClock(database, 0);
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

const boot = (options: NonNullable<Parameters<typeof startApp>[0]['options']>, of = providers) =>
  startApp({ database, providers: of, options: { worker: { pollInterval: '20ms' }, ...options } });

/** What a process that comes after so many days leaves. */
async function sweptAfter(days: number, options: Parameters<typeof boot>[0], of = providers): Promise<string[]> {
  await moveClock(database, days * DAY_MS);
  await insertMarker();
  const app = await boot(options, of);
  await untilSwept();
  await app.close();
  return workflowsLeft();
}

/** A run that goes with the last batch of the next round. */
async function insertMarker(): Promise<void> {
  await client.query(
    `insert into orchestration.run (id, workflow, version, status, queue, input_digest, root_id, depth, created_at, finished_at)
     select id, 'zz-marker', 1, 'cancelled', 'default', '', id, 1, 'epoch', 'epoch' from gen_random_uuid() id`,
  );
}

const untilSwept = () => until('the marker is gone', async () => !(await workflowsLeft()).includes('zz-marker'));

async function workflowsLeft(): Promise<string[]> {
  const left = await client.query<{ workflow: string }>('select workflow from orchestration.run order by workflow');
  return left.rows.map(({ workflow: name }) => name);
}

async function rows(table: string): Promise<number> {
  return (await client.query<{ count: number }>(`select count(*)::int as count from orchestration.${table}`)).rows[0]!
    .count;
}

const ALL = { completed: '30d', failed: '90d', cancelled: '30d' } as const;

describe('Retention', () => {
  it('70. removes old family trees, with all that belongs to them, and never one with a live member', async () => {
    const first = await boot({});
    await first.orchestrator.execute(family, undefined);
    await first.orchestrator.execute(orphaning, undefined);
    await first.orchestrator.execute(failing, undefined).catch(() => undefined);
    const cancelled = await first.orchestrator.start(sleeper, undefined);
    await cancelled.cancel();
    await cancelled.result().catch(() => undefined);
    await first.close();

    const young = await sweptAfter(29, { retention: ALL });
    const old = await sweptAfter(31, { retention: ALL });

    expect(young).toEqual(['failing', 'family', 'leaf', 'leaf', 'orphaning', 'sleeper', 'sleeper']);
    expect(old).toEqual(['failing', 'orphaning', 'sleeper']);
    expect(await rows('history where run_id not in (select id from orchestration.run)')).toBe(0);
    expect(await sweptAfter(91, { retention: ALL })).toEqual(['orphaning', 'sleeper']);
  });

  it('keeps the key of a run, whatever its status, until it removes the run', async () => {
    const start = async (workflowOf: typeof leaf | typeof failing) => {
      const app = await boot({});
      const run = await app.orchestrator.start(workflowOf, undefined, { key: 'kept' });
      await run.result().catch(() => undefined);
      await app.close();
      return run.started;
    };
    const atFirst = [await start(leaf), await start(failing)];
    await sweptAfter(31, { retention: ALL });

    expect(atFirst).toEqual([true, true]);
    expect([await start(leaf), await start(failing)]).toEqual([true, false]);
  });

  it('is for ever where nothing is said', async () => {
    const first = await boot({});
    await first.orchestrator.execute(family, undefined);
    await first.orchestrator.execute(failing, undefined).catch(() => undefined);
    await first.close();

    expect(await sweptAfter(3_000, { retention: { cancelled: '1d' } })).toEqual(['failing', 'family', 'leaf', 'leaf']);
  });

  it("of a workflow counts before the default, in every process, and in its runs' families", async () => {
    const first = await boot({});
    await first.orchestrator.execute(brief, undefined);
    await first.orchestrator.execute(dear, undefined);
    await first.orchestrator.execute(withDear, undefined);
    await first.orchestrator.execute(family, undefined);
    await first.close();
    const strangers = [leaf];

    expect(await sweptAfter(2, { retention: ALL }, strangers)).toEqual([
      'dear',
      'dear',
      'family',
      'leaf',
      'leaf',
      'with-dear',
    ]);
    expect(await sweptAfter(100, { retention: ALL }, strangers)).toEqual(['dear', 'dear', 'with-dear']);
    expect(await sweptAfter(201, { retention: ALL }, strangers)).toEqual([]);
  });

  it('of a root is that of children of which nothing is said', async () => {
    const root = workflow({ name: 'root', retention: '1d' }, ({ children }) => children.call(leaf, undefined));
    const first = await boot({}, [root, leaf]);
    await first.orchestrator.execute(root, undefined);
    await first.close();

    expect(await sweptAfter(2, { retention: { cancelled: '1d' } }, [root, leaf])).toEqual([]);
  });

  it('leaves a run whose result an active run still needs', async () => {
    const first = await boot({});
    const needed = await first.orchestrator.start(leaf, undefined);
    await needed.result();
    const user = await first.orchestrator.start(awaiting, needed.id);
    await until('it sleeps', async () => (await user.status()) === 'waiting');
    await first.close();
    await client.query('insert into orchestration.watch (run_id, watcher_id) values ($1, $2)', [needed.id, user.id]);

    expect(await sweptAfter(31, { retention: ALL })).toEqual(['awaiting', 'leaf']);
    await moveClock(database, 41 * DAY_MS);
    const later = await boot({});
    await later.orchestrator.result(user.id);
    await later.close();
    expect(await sweptAfter(41, { retention: ALL })).toEqual(['awaiting']);
  });

  it('spares a family that is retried while it is swept', async () => {
    const first = await boot({});
    const run = await first.orchestrator.start(failing, undefined);
    await run.result().catch(() => undefined);
    await first.close();
    await moveClock(database, 91 * DAY_MS);
    const off = await boot({ worker: false });
    const held = await HeldRows.hold(database, run.id);
    const retrying = off.orchestrator.retry(run.id);
    await held.untilWaiting(1);
    await insertMarker();
    await boot({ retention: ALL }, [leaf]);
    await held.untilWaiting(2);

    await held.release();
    await retrying;
    await untilSwept();

    expect(await workflowsLeft()).toEqual(['failing']);
  });

  it('takes a family that is too large for one transaction in parts, its leaves first', async () => {
    const first = await boot({});
    await first.orchestrator.execute(wide, undefined);
    await client.query(`
      insert into orchestration.run (id, workflow, version, status, queue, input_digest, parent_id, root_id, depth, ref, created_at, started_at, finished_at)
      select gen_random_uuid(), 'leaf', 1, 'completed', 'default', '', parent.id, parent.root_id, parent.depth + 1, 'ref ' || n, now(), now(), now()
      from orchestration.run parent
      cross join generate_series(1, 400) n
      where parent.workflow = 'leaf'`);
    await first.close();
    const before = await rows('run');

    const left = await sweptAfter(31, { retention: ALL });

    expect(before).toBeGreaterThan(8_000);
    expect(left).toEqual([]);
    expect(await rows('history')).toBe(0);
  });

  it('is the work of one process at a time', async () => {
    const first = await boot({});
    await first.orchestrator.execute(family, undefined);
    await first.close();
    await client.query('begin');
    await client.query(`select pg_advisory_xact_lock(hashtextextended('orchestration:orchestration:retention', 0))`);
    await moveClock(database, 31 * DAY_MS);
    const sweep = jest.spyOn(StoredRetention.prototype, 'sweep');
    await boot({ retention: { ...ALL, cancelled: '10s' } });
    await until('it has tried twice', () => sweep.mock.results.length >= 2);
    const answers = await Promise.all(sweep.mock.results.map(({ value }) => value as Promise<unknown>));
    sweep.mockRestore();
    const whileLocked = await workflowsLeft();

    await client.query('rollback');
    await until('all are gone', async () => (await workflowsLeft()).length === 0);

    expect(new Set(answers)).toEqual(new Set(['busy']));
    expect(whileLocked).toEqual(['family', 'leaf', 'leaf']);
  });

  it('that is wrong is refused at boot', async () => {
    const wrong = { completed: '0d', finished: '1d' } as object;
    const wrongWorkflow = workflow({ name: 'wrong', retention: 'long' as '1d' }, () => undefined);

    const booting = boot({ retention: wrong }, [wrongWorkflow]);

    await expect(booting).rejects.toMatchObject({
      problems: [
        'retention.completed must be a duration above zero, not "0d"',
        "retention: unknown option 'finished' (known: completed, failed, cancelled)",
        expect.stringContaining("retention 'long' is no duration above zero"),
      ],
    });
  });
});
