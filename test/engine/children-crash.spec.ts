import pg from 'pg';

import { causedBy, type RunStatus } from '../../lib/index.js';
import type { EngineHost } from '../../lib/nest/engine-host.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { ChaosProxy } from '../support/chaos-proxy.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { killWorkers, WorkerProcess } from '../support/worker-process.js';
import { workflow } from '../support/workflow.js';

const LEASE = '1s';
const MINUTE_MS = 60_000;

let database: TestDatabase;
let sql: pg.Client;
let childBarrier: Barrier;

beforeEach(async () => {
  database = await createTestDatabase();
  sql = new pg.Client({ connectionString: database.url });
  await sql.connect();
});

afterEach(async () => {
  await killWorkers();
  await closeApps();
  await sql.end();
  await database.drop();
});

interface ChildRow {
  id: string;
  status: RunStatus;
  ref: string;
}

async function childrenOf(runId: string): Promise<ChildRow[]> {
  const { rows } = await sql.query<ChildRow>(
    'select id, status, ref from orchestration.run where parent_id = $1 order by id',
    [runId],
  );
  return rows;
}

async function untilStatus(runId: string, ...statuses: RunStatus[]): Promise<void> {
  await until(`run ${runId} is ${statuses.join(' or ')}`, async () => {
    const { rows } = await sql.query<{ status: RunStatus }>('select status from orchestration.run where id = $1', [
      runId,
    ]);
    return statuses.includes(rows[0]!.status);
  });
}

/** Makes the parked runs claimable, as any wake-up would: their code is replayed, finds nothing new, and parks again. */
async function replayInVain(...runIds: string[]): Promise<void> {
  const before = await sql.query<{ epoch: number }>(
    'select epoch from orchestration.run where id = any($1) order by id',
    [runIds],
  );
  await sql.query(
    `update orchestration.run set status = 'pending', ready_at = orchestration.engine_now(), wake_at = null, wakes = wakes + 1
     where id = any($1) and status = 'waiting'`,
    [runIds],
  );
  await until('all were replayed and have parked again', async () => {
    const { rows } = await sql.query<{ epoch: number; status: string }>(
      'select epoch, status from orchestration.run where id = any($1) order by id',
      [runIds],
    );
    return rows.every(({ epoch, status }, index) => epoch > before.rows[index]!.epoch && status === 'waiting');
  });
}

describe('a child that ends while its parent parks (scenario 28)', () => {
  let parentBarrier: Barrier;
  const Child = workflow('child', ({ ctx }) => ctx.step('wait', () => childBarrier.pass().then(() => 'the end')));
  const Parent = workflow('parent', ({ ctx, children }) =>
    Promise.all([
      children.call(Child, undefined, { queue: 'children' }),
      ctx.step('busy', () => parentBarrier.pass().then(() => 'was busy')),
    ]),
  );

  /** The parent in one worker, the child in another, both with their last writes to do; the parent's row is held. */
  async function standOff() {
    childBarrier = new Barrier();
    parentBarrier = new Barrier();
    const providers = [Child, Parent];
    const app = await startApp({ database, providers, options: { worker: { queues: ['default'] } } });
    await startApp({ database, providers, options: { worker: { queues: ['children'] } } });
    const run = await app.orchestrator.start(Parent, undefined);
    await Promise.all([childBarrier.reached(), parentBarrier.reached()]);
    return { run, held: await HeldRows.hold(database, run.id) };
  }

  it('the end first, and the park after it: the parent goes on', async () => {
    const { run, held } = await standOff();
    childBarrier.open();
    await held.untilWaiting(1);
    parentBarrier.open();
    await held.untilWaiting(2);
    await held.release();

    expect(await run.result({ timeout: '15s' })).toEqual(['the end', 'was busy']);
  });

  it('the park first, and the end after it: the parent goes on', async () => {
    const { run, held } = await standOff();
    parentBarrier.open();
    await held.untilWaiting(1);
    childBarrier.open();
    await held.untilWaiting(2);
    await held.release();

    expect(await run.result({ timeout: '15s' })).toEqual(['the end', 'was busy']);
  });

  it('a run that it is no child of, and that starts to wait for it at that very moment, goes on too (scenario 43)', async () => {
    const Awaiter = workflow<string>('awaiter', ({ children }, id) => children.await(id));
    childBarrier = new Barrier();
    parentBarrier = new Barrier();
    parentBarrier.open();
    const app = await startApp({ database, providers: [Child, Parent, Awaiter] });
    await startApp({ database, providers: [Child], options: { worker: { queues: ['children'] } } });
    const run = await app.orchestrator.start(Parent, undefined);
    await childBarrier.reached();
    await untilStatus(run.id, 'waiting');
    const [child] = await childrenOf(run.id);
    // The end of the child has begun, and does not see what is committed from now on; it stands at its parent's row.
    const held = await HeldRows.hold(database, run.id);
    childBarrier.open();
    await held.untilWaiting(1);
    const awaiter = await app.orchestrator.start(Awaiter, child!.id);
    await untilStatus(awaiter.id, 'waiting');
    await held.release();

    expect(await awaiter.result({ timeout: '10s' })).toBe('the end');
    expect(await run.result({ timeout: '10s' })).toEqual(['the end', 'was busy']);
  });
});

describe('a crash of the parent', () => {
  it('between the commit of the child and its reply: there is one child, and the parent gets its output (scenario 29)', async () => {
    const proxy = new ChaosProxy(database.connection.port, database.connection.host);
    const throughProxy = { ...database.connection, host: '127.0.0.1', port: await proxy.listen() };
    const victim = await WorkerProcess.start({
      database: { ...database, connection: throughProxy },
      options: { worker: { lease: LEASE } },
    });
    const client = await startApp({ database, options: { worker: false } });
    const run = await client.orchestrator.start('held-then-child', undefined);
    await victim.until('it holds the step before the call', ({ event }) => event === 'began');
    proxy.cutReplies();
    victim.open();
    await until('the row of the child is there', async () => (await childrenOf(run.id)).length === 1);
    await victim.kill();
    proxy.close();
    const other = await WorkerProcess.start({ database, options: { worker: { lease: LEASE } }, isOpen: true });

    expect(await run.result({ timeout: '20s' })).toEqual({ held: victim.pid, child: other.pid });
    expect(await childrenOf(run.id)).toMatchObject([{ status: 'completed', ref: 'child' }]);
    expect(other.events.filter(({ event }) => event === 'began').map(({ step }) => step)).toEqual(['quick']);
  });

  it('before the commit of the child: it is made once, by the next worker (scenario 29)', async () => {
    const victim = await WorkerProcess.start({ database, options: { worker: { lease: LEASE } } });
    const client = await startApp({ database, options: { worker: false } });
    const run = await client.orchestrator.start('held-then-child', undefined);
    await victim.until('it holds the step before the call', ({ event }) => event === 'began');
    const held = await HeldRows.hold(database, run.id);
    victim.open();
    await held.untilWaiting(1);
    await victim.kill();
    await sql.query(
      `select pg_terminate_backend(pid, 5000) from pg_stat_activity
       where datname = current_database() and wait_event_type = 'Lock'`,
    );
    await held.release();
    expect(await childrenOf(run.id)).toEqual([]);
    const other = await WorkerProcess.start({ database, options: { worker: { lease: LEASE } }, isOpen: true });

    expect(await run.result({ timeout: '20s' })).toEqual({ held: other.pid, child: other.pid });
    expect(await childrenOf(run.id)).toHaveLength(1);
  });

  it('between its wake-up and the look at what woke it: the wake-up is not lost (scenario 28)', async () => {
    childBarrier = new Barrier();
    const look = new Barrier();
    const Child = workflow('child', ({ ctx }) => ctx.step('wait', () => childBarrier.pass().then(() => 'the end')));
    const Parent = workflow('parent', ({ children }) => children.call(Child, undefined, { queue: 'children' }));
    const providers = [Child, Parent];
    const parents = { database, providers, options: { worker: { queues: ['default'] } } };
    const victim = await startApp(parents);
    const other = await startApp({ database, providers, options: { worker: { queues: ['children'] } } });
    const { store } = await victim.context.get<EngineHost>('EngineHost:', { strict: false }).engine();
    const loadEnds = store.loadEnds.bind(store);
    store.loadEnds = async (runIds) => {
      await look.pass();
      return loadEnds(runIds);
    };
    const run = await other.orchestrator.start(Parent, undefined);
    await childBarrier.reached();
    await untilStatus(run.id, 'waiting');
    childBarrier.open();
    await look.reached();
    // Whatever it would do beside the look, it has done before its worker renews its lease and looks at its runs again.
    await victim.orchestrator.execute(Child, undefined, { queue: 'default' });
    await victim.crash();
    await startApp(parents);

    expect(await run.result({ timeout: '10s' })).toBe('the end');
  });

  it('during the wait, again and again: every replay finds the same children (scenario 29)', async () => {
    const barrier = new Barrier();
    let passes = 0;
    const Leaf = workflow<string, string>('leaf', ({ ctx }, name) =>
      ctx.step('wait', () => barrier.pass().then(() => name)),
    );
    const Root = workflow('root', async ({ children, ctx }) => {
      passes++;
      const started = await children.start(Leaf, 'started', { queue: 'leaves' });
      const called = children.call(Leaf, 'called', { queue: 'leaves' });
      const raced = ctx.race({
        leaf: () => children.call(Leaf, 'raced', { queue: 'leaves' }),
        late: () => ctx.sleep('1h'),
      });
      const mapped = children.map(Leaf, ['m1', 'm2'], { queue: 'leaves', ref: (name) => name });
      return [await called, await started.result(), (await raced).value, await mapped];
    });
    const providers = [Root, Leaf];
    const roots = { worker: { queues: ['default'] } };
    let app = await startApp({ database, providers, options: roots });
    const run = await app.orchestrator.start(Root, undefined);
    for (let crashes = 0; crashes < 3; crashes++) {
      await untilStatus(run.id, 'waiting');
      expect(await childrenOf(run.id)).toHaveLength(5);
      await app.crash();
      app = await startApp({ database, providers, options: roots });
      await replayInVain(run.id);
    }
    const before = await childrenOf(run.id);
    await startApp({ database, providers, options: { worker: { queues: ['leaves'] } } });
    barrier.open();

    expect(await app.orchestrator.result(run.id, { timeout: '15s' })).toEqual([
      'called',
      'started',
      'raced',
      ['m1', 'm2'],
    ]);
    expect((await childrenOf(run.id)).map(({ id }) => id)).toEqual(before.map(({ id }) => id));
    expect(passes).toBeGreaterThanOrEqual(4);
  });
});

describe('a crash between the end of a child and the wake-up of its parent (scenario 30)', () => {
  const Parent = workflow('parent', ({ children }) => children.call('held-last', undefined, { queue: 'children' }));

  /** The worker of the child dies while its last write waits for the row of the parent, which this process executes. */
  async function killAtTheEnd(parentOptions: { queues: string[] }) {
    const app = await startApp({ database, providers: [Parent], options: { worker: parentOptions } });
    const victim = await WorkerProcess.start({ database, options: { worker: { queues: ['children'], lease: LEASE } } });
    const run = await app.orchestrator.start(Parent, undefined);
    await victim.until('it holds the child', ({ event }) => event === 'began');
    await untilStatus(run.id, 'waiting');
    const held = await HeldRows.hold(database, run.id);
    victim.open();
    await held.untilWaiting(1);
    await victim.kill();
    return { app, run, held, victim };
  }

  it('the database commits what the dead worker sent: the parent has it, though nobody could tell', async () => {
    const { run, held, victim } = await killAtTheEnd({ queues: ['default'] });
    await held.release();

    expect(await run.result({ timeout: '15s' })).toBe(victim.pid);
    expect(await childrenOf(run.id)).toMatchObject([{ status: 'completed' }]);
  });

  it('the parent is in no memory either: the next worker goes on with it', async () => {
    const { app, run, held, victim } = await killAtTheEnd({ queues: ['default'] });
    await app.crash();
    await held.release();
    const next = await startApp({ database, providers: [Parent], options: { worker: { queues: ['default'] } } });

    expect(await next.orchestrator.result(run.id, { timeout: '15s' })).toBe(victim.pid);
  });

  it('the write is lost with its connection: another worker ends the child, and that wakes the parent', async () => {
    const { run, held } = await killAtTheEnd({ queues: ['default'] });
    await sql.query(
      `select pg_terminate_backend(pid, 5000) from pg_stat_activity
       where datname = current_database() and wait_event_type = 'Lock'`,
    );
    await held.release();
    const other = await WorkerProcess.start({
      database,
      options: { worker: { queues: ['children'], lease: LEASE } },
      isOpen: true,
    });

    expect(await run.result({ timeout: '20s' })).toBe(other.pid);
    expect(await childrenOf(run.id)).toMatchObject([{ status: 'completed' }]);
  });
});

it('children of two parents that end at one instant in three processes: no deadlock, each parent goes on once (scenario 31)', async () => {
  let after = 0;
  const Parent = workflow('parent', async ({ children, ctx }) => {
    const pids = await Promise.all(
      Array.from({ length: 6 }, () => children.call<number>('held-last', undefined, { queue: 'children' })),
    );
    await ctx.step('after', () => after++);
    return new Set(pids).size;
  });
  const app = await startApp({ database, providers: [Parent], options: { worker: { queues: ['default'] } } });
  const workers = await Promise.all(
    Array.from({ length: 3 }, () =>
      WorkerProcess.start({ database, options: { worker: { queues: ['children'], concurrency: 4 } } }),
    ),
  );
  const runs = [await app.orchestrator.start(Parent, undefined), await app.orchestrator.start(Parent, undefined)];
  await Promise.all(workers.map((worker) => worker.until('it holds four', ({ event }) => event === 'began', 4)));
  await Promise.all(runs.map(({ id }) => untilStatus(id, 'waiting')));
  const held = await HeldRows.hold(database, ...runs.map(({ id }) => id));
  for (const worker of workers) worker.open();
  await held.untilWaiting(3);
  await held.release();

  const processes = await Promise.all(runs.map((run) => run.result({ timeout: '15s' })));
  expect(processes.every((count) => count > 1)).toBe(true);
  expect(after).toBe(2);
  const { rows } = await sql.query('select deadlocks::int from pg_stat_database where datname = current_database()');
  expect(rows).toEqual([{ deadlocks: 0 }]);
});

describe('durable time', () => {
  const Endless = workflow('endless', ({ ctx }) => ctx.sleep('365d'));
  const Nap = workflow('nap', ({ ctx }) => ctx.sleep('2h').then(() => 'went on'));
  const Deadline = workflow({ name: 'deadline', timeout: '1h' }, ({ ctx }) => ctx.sleep('365d'));
  const Waits = workflow<{ value: boolean; onTimeout: 'cancel' | 'abandon' }>(
    'waits',
    async ({ children }, { value, onTimeout }) => {
      const options = { timeout: '1h', onTimeout } as const;
      try {
        return await children.call(Endless, undefined, value ? { ...options, timeoutValue: 'instead' } : options);
      } catch (error) {
        return (error as Error).name;
      }
    },
  );
  const Calls = workflow('calls', async ({ children }) => {
    const settled = await children.callSettled(Deadline, undefined);
    return settled.status === 'failed' && causedBy(settled.error, 'RunTimeoutError');
  });
  const Starts = workflow('starts', ({ children }) => children.start(Nap, undefined).then(({ id }) => id));
  const providers = [Endless, Nap, Deadline, Waits, Calls, Starts];
  const options = { worker: { pollInterval: '50ms' } } as const;

  it("a call's timeout survives restarts and replays, and does not start anew (scenario 33)", async () => {
    const cases = [
      { value: false, onTimeout: 'cancel' },
      { value: false, onTimeout: 'abandon' },
      { value: true, onTimeout: 'cancel' },
      { value: true, onTimeout: 'abandon' },
    ] as const;
    const first = await startApp({ database, providers, options });
    const runs = await first.orchestrator.startMany(
      Waits,
      cases.map((input) => ({ input })),
    );
    const ids = runs.map(({ id }) => id);
    await Promise.all(ids.map((id) => untilStatus(id, 'waiting')));
    await moveClock(database, 40 * MINUTE_MS);
    await first.crash();
    const second = await startApp({ database, providers, options });
    await replayInVain(...ids);
    await second.crash();
    await moveClock(database, 55 * MINUTE_MS);
    const third = await startApp({ database, providers, options });
    await replayInVain(...ids);
    const children = (await Promise.all(ids.map((id) => childrenOf(id)))).flat();
    expect(children.map(({ status }) => status)).toEqual(['waiting', 'waiting', 'waiting', 'waiting']);

    // 61 minutes after the calls, 21 after the first replay.
    await moveClock(database, 61 * MINUTE_MS);
    const outcomes = await Promise.all(ids.map((id) => third.orchestrator.result(id, { timeout: '15s' })));
    await Promise.all(children.map(({ id }, index) => untilStatus(id, index % 2 === 0 ? 'cancelled' : 'waiting')));

    expect(outcomes).toEqual(['ChildTimeoutError', 'ChildTimeoutError', 'instead', 'instead']);
    expect((await Promise.all(ids.map((id) => childrenOf(id)))).flat()).toHaveLength(4);
  });

  describe('the end of a child and the timeout of the wait for it, both while no process has the code of the parent', () => {
    const Child = workflow('child', async ({ ctx }) => ctx.waitForSignal<string>('end'));
    const Called = workflow<string, string>('called', async ({ children, ctx }, how) => {
      const call = (limit: { timeout?: '1h' }) =>
        children.callSettled<string>('child', undefined, { queue: 'children', ...limit });
      if (how === 'race') return (await ctx.race({ child: () => call({}), sleep: () => ctx.sleep('1h') })).winner;
      if (how === 'call') return (await call({ timeout: '1h' })).status;
      const [settled] = await Promise.all([call({ timeout: '1h' }), ctx.waitForSignal('go')]);
      return settled.status;
    });
    const both = [Child, Called];
    const roots = { worker: { queues: ['default'], pollInterval: '50ms' as const } };

    it.each([
      ['call', 30, 'completed'],
      ['call', 90, 'timeout'],
      ['race', 30, 'child'],
      ['race', 90, 'sleep'],
      ['call and signal', 30, 'completed'],
      ['call and signal', 90, 'timeout'],
    ] as const)('%s, timeout after 60 minutes, end after %d: %s', async (how, endsAfter, outcome) => {
      const first = await startApp({ database, providers: both, options: roots });
      const child = await startApp({
        database,
        providers: both,
        options: { worker: { queues: ['children'], pollInterval: '50ms' } },
      });
      const run = await first.orchestrator.start(Called, how);
      await untilStatus(run.id, 'waiting');
      await until('the child waits', async () => (await childrenOf(run.id))[0]?.status === 'waiting');
      await first.crash();
      const [{ id }] = (await childrenOf(run.id)) as [ChildRow];
      await moveClock(database, endsAfter * MINUTE_MS);
      await child.orchestrator.signal(id, 'end', 'E');
      await untilStatus(id, 'completed');
      await child.close();

      await moveClock(database, 120 * MINUTE_MS);
      const client = await startApp({ database, providers: both, options: { worker: false } });
      await client.orchestrator.signal(run.id, 'go');
      const last = await startApp({ database, providers: both, options: roots });

      expect(await last.orchestrator.result(run.id, { timeout: '15s' })).toBe(outcome);
    });
  });

  it("a child's own deadline, which comes after its worker's death, wakes the parent (scenario 34)", async () => {
    const first = await startApp({ database, providers, options });
    const run = await first.orchestrator.start(Calls, undefined);
    await untilStatus(run.id, 'waiting');
    await until('the child waits', async () => (await childrenOf(run.id))[0]?.status === 'waiting');
    await first.crash();
    await moveClock(database, 61 * MINUTE_MS);
    const second = await startApp({ database, providers, options });

    expect(await second.orchestrator.result(run.id, { timeout: '15s' })).toBe(true);
  });

  it('a fire-and-forget child survives the worker that it was started in (scenario 35)', async () => {
    const first = await startApp({ database, providers, options });
    const childId = await first.orchestrator.execute(Starts, undefined);
    await untilStatus(childId, 'waiting');
    await first.crash();
    await moveClock(database, 121 * MINUTE_MS);
    const second = await startApp({ database, providers, options });

    expect(await second.orchestrator.result(childId, { timeout: '15s' })).toBe('went on');
  });
});

describe("parentClose: 'cancel'", () => {
  it.each([
    ['completed', 1],
    ['failed', 2],
  ])('ends the child also when the parent is %s after %d crashes (scenario 35)', async (status, crashes) => {
    const held = new Barrier();
    const Endless = workflow('endless', ({ ctx }) => ctx.sleep('365d'));
    const Parent = workflow('parent', async ({ children, ctx }) => {
      await ctx.step(
        'start it',
        async () => void (await children.start(Endless, undefined, { parentClose: 'cancel' })),
      );
      await ctx.step('held', () => held.pass());
    });
    const setup = { database, providers: [Parent, Endless], options: { worker: { maxRecoveries: 1 } } };
    let app = await startApp(setup);
    const run = await app.orchestrator.start(Parent, undefined);
    for (let crash = 1; crash <= crashes; crash++) {
      await held.reached(crash);
      await app.crash();
      app = await startApp(setup);
    }
    held.open();

    await untilStatus(run.id, 'completed', 'failed');
    const { id } = (await childrenOf(run.id))[0]!;
    await untilStatus(id, 'cancelled');
    expect((await app.orchestrator.get(run.id)).status).toBe(status);
    expect(await app.orchestrator.get(id)).toMatchObject({ error: { reason: `its parent ended (${status})` } });
  });
});

describe('a parent that is not in memory when its child ends', () => {
  it.each(['completed', 'failed', 'cancelled'] as const)(
    'is claimed by whoever has its code: the child %s',
    async (how) => {
      const barrier = new Barrier();
      const Child = workflow('child', ({ ctx }) =>
        ctx.step(
          'wait',
          async () => {
            await barrier.pass();
            if (how === 'failed') throw new RangeError('as it was told');
            return how;
          },
          { retry: { maxAttempts: 1 } },
        ),
      );
      const Parent = workflow(
        'parent',
        async ({ children }) => (await children.callSettled(Child, undefined, { queue: 'children' })).status,
      );
      const providers = [Parent, Child];
      const roots = { worker: { queues: ['default'] } };
      const first: TestApp = await startApp({ database, providers, options: roots });
      await startApp({ database, providers, options: { worker: { queues: ['children'] } } });
      const run = await first.orchestrator.start(Parent, undefined);
      await barrier.reached();
      await untilStatus(run.id, 'waiting');
      await first.crash();
      const second = await startApp({ database, providers, options: roots });
      if (how === 'cancelled') await second.orchestrator.cancel((await childrenOf(run.id))[0]!.id);
      else barrier.open();

      expect(await second.orchestrator.result(run.id, { timeout: '15s' })).toBe(how);
      barrier.open();
    },
  );
});
