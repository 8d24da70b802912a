import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

import pg from 'pg';

import type { WorkerOptions } from '../../lib/index.js';
import { allStatements } from '../../lib/store/statements/all.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { ChaosProxy } from '../support/chaos-proxy.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { killWorkers, type WorkerEvent, WorkerProcess, type WorkerSetup } from '../support/worker-process.js';
import { workflow } from '../support/workflow.js';

let database: TestDatabase;
let sql: pg.Client;
/** Starts runs and waits for them, and executes none. */
let client: TestApp;

beforeEach(async () => {
  database = await createTestDatabase();
  sql = new pg.Client({ connectionString: database.url });
  await sql.connect();
  client = await startApp({ database, options: { worker: false } });
});
afterEach(async () => {
  await killWorkers();
  await closeApps();
  await sql.end();
  await database.drop();
});

/** Far longer than a test: whatever goes on elsewhere was given back, not taken over. */
const LONG_LEASE = '5m' as const;
const LEASE_MS = 2_000;

/** Processes of which all but the first are stopped until the test lets them go on, so that the first gets all the runs. */
async function startFleet(
  first: WorkerOptions,
  others: WorkerOptions[],
): Promise<[first: WorkerProcess, ...others: WorkerProcess[]]> {
  const workers = await Promise.all([
    WorkerProcess.start({ database, options: { worker: first } }),
    ...others.map((worker) => WorkerProcess.start({ database, options: { worker }, isOpen: true })),
  ]);
  for (const other of workers.slice(1)) other.signal('SIGSTOP');
  return workers;
}

const began = (step: string) => (event: WorkerEvent) => event.event === 'began' && event.step === step;

describe('a worker that is killed', () => {
  it.each([
    ['2 s', LEASE_MS],
    ['30 s, the default', 30_000],
  ])(
    'with 200 runs in flight: three others, that compete for them, finish them within lease + 2 s, attempts not burnt (scenario 61): a lease of %s',
    async (_lease, leaseMs) => {
      const options = { concurrency: 250 };
      const competitor = { ...options, lease: LONG_LEASE };
      const [victim, ...others] = await startFleet({ ...options, lease: leaseMs }, [
        competitor,
        competitor,
        competitor,
      ]);
      const runs = await client.orchestrator.startMany(
        'two-steps',
        Array.from({ length: 200 }, () => ({ input: undefined })),
      );
      await victim.until('it executes all', began('held'), 200);
      // All first outcomes are committed: no body starts before everything that its run did.
      for (const other of others) other.signal('SIGCONT');

      await victim.kill();
      const { rows: killed } = await sql.query<{ at: Date }>('select clock_timestamp() as at');
      const outputs = await Promise.all(runs.map((run) => run.result()));

      const held = others.flatMap(({ events }) => events.filter(began('held')));
      const ownerOf = new Map(held.map(({ runId, pid }) => [runId, pid]));
      expect(outputs).toEqual(runs.map(({ id }) => ({ first: victim.pid, held: ownerOf.get(id) })));
      const { rows } = await sql.query<{ last: Date }>('select max(finished_at) as last from orchestration.run');
      expect(rows[0]!.last.getTime() - killed[0]!.at.getTime()).toBeLessThan(leaseMs + 2_000);
      const { rows: outcomes } = await sql.query(
        'select name, attempts, count(*)::int as runs from orchestration.history group by name, attempts order by name',
      );
      expect(outcomes).toEqual([
        { name: 'first', attempts: 1, runs: 200 },
        { name: 'held', attempts: 1, runs: 200 },
      ]);
      // Each by one of them, once, and what was recorded not again.
      expect(held).toHaveLength(200);
      const events = others.flatMap((other) => other.events);
      expect(events.filter(({ step, attempt }) => step === 'first' || attempt > 1)).toEqual([]);
    },
    120_000,
  );

  it('every time by the same run: that fails as poisoned after the limit, and retry gives it a fresh budget (scenario 13)', async () => {
    const harmless: string[] = [];
    const deadly = new Barrier();
    const Poisoned = workflow('poisoned', async ({ ctx }) => {
      await ctx.step('harmless', () => harmless.push('ran'));
      return ctx.step('deadly', () => deadly.pass().then(() => 'survived'));
    });
    const start = () => startApp({ database, providers: [Poisoned], options: { worker: { maxRecoveries: 2 } } });
    let app = await start();
    const { id } = await app.orchestrator.start(Poisoned, undefined);
    const dieInBody = async (time: number) => {
      await deadly.reached(time);
      await app.crash();
      app = await start();
    };

    for (const time of [1, 2, 3]) await dieInBody(time);

    await expect(client.orchestrator.result(id)).rejects.toMatchObject({ cause: { code: 'RUN_POISONED' } });
    expect(deadly.arrived).toBe(3);
    await client.orchestrator.retry(id);
    for (const time of [4, 5]) await dieInBody(time);
    deadly.open();
    await expect(client.orchestrator.result(id)).resolves.toBe('survived');
    expect(harmless).toEqual(['ran']);
  });
});

it('a lease that is shorter than the interval of the regular look is renewed in time', async () => {
  const held = new Barrier();
  const Held = workflow('held', ({ ctx }) => ctx.step('held', () => held.pass().then(() => 'done')));
  const options = { worker: { lease: '1s', pollInterval: '1h' } } as const;
  const app = await startApp({ database, providers: [Held], options });
  const expiry = async () => {
    const { rows } = await sql.query<{ id: string; at: Date }>('select id, expires_at as at from orchestration.worker');
    return rows[0]!;
  };
  const first = await expiry();
  const run = await app.orchestrator.start(Held, undefined);
  await held.reached();

  await until('it has been renewed for three times its length', async () => {
    return (await expiry()).at.getTime() - first.at.getTime() > 3_000;
  });
  held.open();

  expect(await run.result()).toBe('done');
  expect((await expiry()).id).toBe(first.id);
  expect(await app.orchestrator.get(run.id)).toMatchObject({ recoveries: 0 });
});

describe('a worker that is told to end', () => {
  it('lets running steps end and hands the rest back to another at once; a second SIGTERM is harmless (scenario 62)', async () => {
    const [first, ...others] = await startFleet({ concurrency: 20, lease: LONG_LEASE, shutdownTimeout: '30s' }, [
      { lease: LONG_LEASE },
    ]);
    const other = others[0]!;
    const held = await client.orchestrator.startMany(
      'held-first',
      Array.from({ length: 20 }, () => ({ input: undefined })),
    );
    await first.until('it executes all', began('held'), 20);

    first.signal('SIGTERM');
    first.signal('SIGTERM');
    other.signal('SIGCONT');
    // While its steps end, it begins nothing: what is started now goes to the other.
    await expect(client.orchestrator.execute('quick', undefined)).resolves.toBe(other.pid);
    first.open();
    const outputs = await Promise.all(held.map((run) => run.result()));

    expect(outputs).toEqual(held.map(() => ({ held: first.pid, next: other.pid })));
    await first.ended();
    // Nest repeats the signal when all is done: the process ended in its own time, not by the second one.
    expect(first.events.filter(({ event }) => event === 'ended')).toHaveLength(20);
    const { rows } = await sql.query(
      'select sum(recoveries)::int as recoveries, (select max(attempts) from orchestration.history) as attempts from orchestration.run',
    );
    expect(rows).toEqual([{ recoveries: 0, attempts: 1 }]);
    await until('it has left', async () => (await sql.query('select from orchestration.worker')).rowCount === 1);
  });

  it('gives up a step that takes longer than the shutdown may: it gets its AbortSignal and runs elsewhere, its attempts not burnt (scenario 62)', async () => {
    const stuck = new Barrier();
    const attempts: number[] = [];
    const reasons: unknown[] = [];
    const Slow = workflow('slow', ({ ctx }) =>
      ctx.step('slow', async ({ attempt, signal }) => {
        attempts.push(attempt);
        signal.addEventListener('abort', () => reasons.push(signal.reason));
        await stuck.pass();
        return 'done';
      }),
    );
    const options = { worker: { lease: LONG_LEASE, shutdownTimeout: 200 } };
    const first = await startApp({ database, providers: [Slow], options });
    const run = await first.orchestrator.start(Slow, undefined);
    await stuck.reached();

    const closedAt = performance.now();
    await first.close();
    // Not after the 20 s that a shutdown may take by default.
    expect(performance.now() - closedAt).toBeLessThan(10_000);
    expect(reasons).toEqual([expect.any(Error)]);
    await startApp({ database, providers: [Slow], options });
    await stuck.reached(2);
    stuck.open();

    await expect(client.orchestrator.result(run.id)).resolves.toBe('done');
    expect(attempts).toEqual([1, 1]);
  });
});

const { commitOutcomes, commitWrites, commitWithChildren } = allStatements('orchestration');
const COMMITS = [commitOutcomes, commitWrites, commitWithChildren];
/** Their names where they are prepared, which they are not behind a pooler; their texts otherwise. */
const ANY_COMMIT = COMMITS.flatMap(({ name, text }) => [name, text.slice(0, 100)]);

describe('a worker that was stopped and comes to after its lease has run out', () => {
  it('writes no outcome, no completion and no child (scenario 3)', async () => {
    const { host, port } = database.connection;
    const proxy = new ChaosProxy(port, host);
    const connection = { ...database.connection, host: '127.0.0.1', port: await proxy.listen() };
    const [zombie, other] = await Promise.all([
      WorkerProcess.start({
        database,
        options: { connection: { ...connection, applicationName: 'zombie' }, worker: { lease: 1_000 } },
      }),
      WorkerProcess.start({ database, options: { worker: { lease: LONG_LEASE } } }),
    ]);
    other.signal('SIGSTOP');
    const [outcome, completion, child] = await Promise.all(
      ['held-first', 'held-last', 'held-then-child'].map((name) => client.orchestrator.start(name, undefined)),
    );
    await zombie.until('it executes all', began('held'), 3);
    // What the zombie writes now is under way when it falls silent, and arrives when all is over.
    proxy.blackhole();
    zombie.open();
    await zombie.until('its steps have ended', ({ event }) => event === 'ended', 3);
    await until('its writes are under way', () => ANY_COMMIT.some((text) => proxy.holdsBack(text)));
    zombie.signal('SIGSTOP');

    other.signal('SIGCONT');
    await other.until('it has taken all over', began('held'), 3);
    const takenOver = await everything();
    const { rows: healed } = await sql.query<{ at: Date }>('select clock_timestamp() as at');
    proxy.heal();
    await until('what the zombie had written has arrived', async () => {
      const { rowCount } = await sql.query(
        `select from pg_stat_activity
         where application_name = 'zombie' and state = 'idle' and state_change > $1
           and exists (select from unnest($2::text[]) text where starts_with(text, left(query, 500)))`,
        [healed[0]!.at, COMMITS.map(({ text }) => text)],
      );
      return rowCount! > 0;
    });
    expect(await everything()).toEqual(takenOver);

    other.open();
    const outputs = await Promise.all([outcome!.result(), completion!.result(), child!.result()]);
    const { pid } = other;
    expect(outputs).toEqual([{ held: pid, next: pid }, pid, { held: pid, child: pid }]);
    await other.kill();
    const before = await everything();
    zombie.signal('SIGCONT');
    await expect(client.orchestrator.execute('quick', undefined)).resolves.toBe(zombie.pid);
    const after = await everything();
    expect(after.runs.slice(0, -1)).toEqual(before.runs);
    expect(after.history.slice(0, -1)).toEqual(before.history);
    proxy.close();
  });

  async function everything() {
    const { rows: runs } = await sql.query<{ id: string }>('select * from orchestration.run order by id');
    const { rows: history } = await sql.query<{ run_id: string }>(
      'select * from orchestration.history order by run_id, seq',
    );
    return { runs, history };
  }
});

describe('a worker whose clock is an hour wrong', () => {
  const wrongClocks = [
    ...['+1h', '-1h'].map((shift): [string, Partial<WorkerSetup>] => [
      `Date is ${shift}`,
      { nodeOptions: [`--import=data:text/javascript,${encodeURIComponent(shiftDate(shift))}`] },
    ]),
    ...(hasProgram('faketime')
      ? ['+1h', '-1h'].map((shift): [string, Partial<WorkerSetup>] => [
          `the process is under faketime ${shift}`,
          { wrapper: ['faketime', '-f', shift], env: { FAKETIME_DONT_FAKE_MONOTONIC: '1' } },
        ])
      : []),
  ];

  it.each(wrongClocks)('changes nothing: %s (scenario 59)', async (_how, setup) => {
    const skewed = await WorkerProcess.start({
      database,
      isOpen: true,
      options: { worker: { lease: 1_000, pollInterval: 100 } },
      ...setup,
    });
    // A worker with the right time would take over at once what looks abandoned.
    await startApp({ database, options: { worker: { pollInterval: 100, queues: ['another'] } } });

    const run = await client.orchestrator.start<SleeperOutput>('sleeper', 600, { delay: 300, timeout: '30m' });
    const output = await run.result({ timeout: '10s' });

    const off = Math.abs(output.hostNow - Date.now());
    expect(off).toBeGreaterThan(3_500_000);
    expect(output.sleptMs).toBeGreaterThanOrEqual(600);
    expect(output.sleptMs).toBeLessThan(10_000);
    expect(output.timedOut).toBe(2);
    const { rows } = await sql.query(
      `select recoveries, epoch <= 3 as kept_its_owner,
         (select bool_and(h.started_at between r.created_at and now() and h.finished_at between r.created_at and now())
          from orchestration.history h where h.kind <> 'retry') as has_right_times
       from orchestration.run r`,
    );
    expect(rows).toEqual([{ recoveries: 0, kept_its_owner: true, has_right_times: true }]);
    expect(skewed.isAlive).toBe(true);
  });

  function shiftDate(shift: string): string {
    const ms = shift.startsWith('-') ? -3_600_000 : 3_600_000;
    return `const Real = Date; globalThis.Date = class extends Real {
      constructor(...parts) { parts.length ? super(...parts) : super(Real.now() + ${ms}); }
      static now() { return Real.now() + ${ms}; }
    };`;
  }

  function hasProgram(name: string): boolean {
    return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, name)));
  }
});

interface SleeperOutput {
  sleptMs: number;
  timedOut: number;
  hostNow: number;
}

describe('a workflow or version that a worker does not know', () => {
  it('is left for one that does, and nobody runs it meanwhile (scenario 63)', async () => {
    const version = (number: number) => workflow({ name: 'known', version: number }, () => `version ${number}`);
    const Unknown = workflow('unknown', () => 'now known');
    const WithUnknown = workflow('with-unknown', ({ children }) => children.call('unknown', undefined));
    const [V1, V2] = [version(1), version(2)];
    const starter = await startApp({ database, providers: [V1, V2, Unknown], options: { worker: false } });
    const [one, two, other] = [
      await starter.orchestrator.start(V1, undefined),
      await starter.orchestrator.start(V2, undefined),
      await starter.orchestrator.start(Unknown, undefined),
    ];

    const old = await startApp({ database, providers: [V1, WithUnknown] });
    await expect(one.result()).resolves.toBe('version 1');
    // Claims are in the order of the starts: the others would have been taken before the next one.
    await expect(old.orchestrator.execute(V1, undefined)).resolves.toBe('version 1');
    expect([await two.status(), await other.status()]).toEqual(['pending', 'pending']);

    await startApp({ database, providers: [V2, Unknown] });
    await expect(two.result()).resolves.toBe('version 2');
    await expect(other.result()).resolves.toBe('now known');
    await expect(old.orchestrator.execute(WithUnknown, undefined)).resolves.toBe('now known');
    const { rows } = await sql.query('select max(recoveries) as recoveries from orchestration.run');
    expect(rows).toEqual([{ recoveries: 0 }]);
  });
});
