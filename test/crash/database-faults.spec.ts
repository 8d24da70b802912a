import { setTimeout as delay } from 'node:timers/promises';

import type { LoggerService } from '@nestjs/common';
import pg from 'pg';

import type { OrchestrationModuleOptions, WorkerOptions } from '../../lib/index.js';
import { allStatements } from '../../lib/store/statements/all.js';
import { closeApps, startApp, type TestApp, workerOf } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { ChaosProxy } from '../support/chaos-proxy.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

let database: TestDatabase;
let sql: pg.Client;
let proxy: ChaosProxy;
let proxyPort: number;

beforeEach(async () => {
  database = await createTestDatabase();
  sql = new pg.Client({ connectionString: database.url });
  await sql.connect();
  proxy = new ChaosProxy(database.connection.port, database.connection.host);
  proxyPort = await proxy.listen();
});
afterEach(async () => {
  proxy.heal();
  await closeApps();
  proxy.close();
  await sql.end();
  await database.drop();
});

const BEHIND_PROXY = 'behind-proxy';
const WORKERS = 4;
const RUNS = 20;
const { commitWrites } = allStatements('orchestration');

/** An app whose way to the database leads through the proxy. */
function startBehindProxy(
  providers: NonNullable<Parameters<typeof startApp>[0]['providers']>,
  { readTimeoutMs, ...worker }: WorkerOptions & { readTimeoutMs?: number } = {},
  logger?: LoggerService,
): Promise<TestApp> {
  const connection: OrchestrationModuleOptions['connection'] = {
    ...database.connection,
    host: '127.0.0.1',
    port: proxyPort,
    applicationName: BEHIND_PROXY,
    ...(readTimeoutMs && { extra: { query_timeout: readTimeoutMs } }),
  };
  const options = { connection, worker: { pollInterval: 100, ...worker } };
  return startApp({ database, providers, options, ...(logger && { logger }) });
}

async function count(query: string, values: unknown[] = []): Promise<number> {
  return (await sql.query(query, values)).rowCount ?? 0;
}

const endSessions = () =>
  sql.query('select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1', [BEHIND_PROXY]);

async function becomeReadOnly(): Promise<void> {
  await sql.query(`alter database ${database.name} set default_transaction_read_only = on`);
  await endSessions();
}

describe('the database that goes away during the writes of four workers and comes back', () => {
  const faults: Record<string, { readTimeoutMs?: number; awayMs?: number; begin(): unknown; end(): unknown }> = {
    'resets its connections': { begin: () => proxy.reset(), end: () => proxy.reset() },
    'refuses connections for a while': {
      begin: () => {
        proxy.refuse = true;
        proxy.reset();
      },
      end: () => proxy.heal(),
    },
    'is silent for a while': { begin: () => proxy.blackhole(), end: () => proxy.heal() },
    'is silent for longer than the read timeout': {
      // Enough for the boot on a busy machine.
      readTimeoutMs: 1_000,
      awayMs: 1_500,
      begin: () => proxy.blackhole(),
      end: () => proxy.heal(),
    },
    'executes, and its replies are lost': {
      begin: () => proxy.cutReplies(),
      end: () => {
        proxy.reset();
        proxy.heal();
      },
    },
    'ends its sessions, as a failover does': { begin: endSessions, end: endSessions },
    'is read-only, as a primary that has become a standby': {
      begin: () => becomeReadOnly(),
      // The sessions of that time stay read-only.
      end: () => sql.query(`alter database ${database.name} reset default_transaction_read_only`),
    },
  };

  it.each(Object.keys(faults))('%s: the runs go on, and no step runs twice (scenario 12)', async (name) => {
    const bodies: string[] = [];
    const held = new Barrier();
    const Child = workflow('child', ({ ctx }) => ctx.step('in child', () => bodies.push(`${ctx.rootId} in child`)));
    const Work = workflow('work', async ({ ctx, children }) => {
      const step = (stepName: string) => ctx.step(stepName, () => bodies.push(`${ctx.runId} ${stepName}`));
      await step('first');
      await ctx.step('held', async () => {
        bodies.push(`${ctx.runId} held`);
        await held.pass();
      });
      await step('second');
      await Promise.all([children.call(Child, undefined), step('third'), ctx.sleep(300)]);
      await step('last');
      return 'done';
    });
    const { readTimeoutMs, awayMs = 500, begin, end } = faults[name]!;
    // The tables are there: a read timeout is not for those who wait until another one has made them.
    await startApp({ database, options: { worker: false } });
    const settings = { concurrency: RUNS / WORKERS, ...(readTimeoutMs && { readTimeoutMs }) };
    const workers = await Promise.all(Array.from({ length: WORKERS }, () => startBehindProxy([Child, Work], settings)));
    const { orchestrator } = workers[0]!;
    const runs = await orchestrator.startMany(
      Work,
      Array.from({ length: RUNS }, () => ({ input: undefined })),
    );
    await held.reached(RUNS);
    expect(await Promise.all(workers.map(async (worker) => (await workerOf(worker)).load.running))).toEqual(
      workers.map(() => RUNS / WORKERS),
    );

    await begin();
    held.open();
    await delay(awayMs);
    await end();

    const outputs = await Promise.all(runs.map((run) => run.result({ timeout: '20s' })));
    expect(outputs).toEqual(runs.map(() => 'done'));
    const steps = ['first', 'held', 'second', 'in child', 'third', 'last'];
    expect(bodies.sort()).toEqual(runs.flatMap(({ id }) => steps.map((step) => `${id} ${step}`)).sort());
    expect(await count('select from orchestration.run')).toBe(2 * RUNS);
  });
});

const sometime = (what: string, query: string) => until(what, async () => (await count(query)) > 0);

/** Connections that are open when the replies stop: a new one would not get through its own beginning. */
const openConnections = ({ orchestrator }: TestApp) =>
  Promise.all(Array.from({ length: 6 }, () => orchestrator.list({ limit: 1 })));

describe('a write that is committed and whose reply is lost', () => {
  const comeBack = () => {
    proxy.reset();
    proxy.heal();
  };

  it('is not repeated: the outcome of a step (scenario 12)', async () => {
    const bodies: string[] = [];
    const held = new Barrier();
    const Work = workflow('work', async ({ ctx }) => {
      const first = await ctx.step('first', () => held.pass().then(() => bodies.push('first')));
      return [first, await ctx.step('second', () => bodies.push('second'))];
    });
    const { orchestrator } = await startBehindProxy([Work]);
    const run = await orchestrator.start(Work, undefined);
    await held.reached();

    proxy.cutReplies();
    held.open();
    await sometime('the outcome is there', `select from orchestration.history where name = 'first'`);
    // Nothing goes on from what is not known to be recorded.
    expect(bodies).toEqual(['first']);
    comeBack();

    await expect(run.result({ timeout: '10s' })).resolves.toEqual([1, 2]);
    expect(bodies).toEqual(['first', 'second']);
    expect((await orchestrator.history(run.id)).map(({ seq, name }) => [seq, name])).toEqual([
      [1, 'first'],
      [2, 'second'],
    ]);
  });

  it('is not repeated: the end of a run with a long result, which stays in its one place (scenario 12)', async () => {
    const long = 'long'.repeat(1_000);
    const held = new Barrier();
    const Work = workflow('work', ({ ctx }) => ctx.step('work', () => held.pass().then(() => long)));
    const { orchestrator } = await startBehindProxy([Work]);
    const run = await orchestrator.start(Work, undefined);
    await held.reached();

    proxy.cutReplies();
    held.open();
    await sometime(
      'the run has ended',
      `select from orchestration.run where id = '${run.id}' and status = 'completed'`,
    );
    comeBack();

    await expect(run.result({ timeout: '10s' })).resolves.toBe(long);
    expect((await orchestrator.history(run.id)).map(({ name, output }) => [name, output])).toEqual([['work', long]]);
    await sometime(
      'it is there once',
      `select from orchestration.history where run_id = '${run.id}' and output is null and output_in_run`,
    );
  });

  it('is not repeated: the end of a run, and the wake-up of its parent in the same process (scenario 12)', async () => {
    const bodies: string[] = [];
    const held = new Barrier();
    const Child = workflow('child', ({ ctx }) => ctx.step('work', () => held.pass().then(() => bodies.push('child'))));
    const Parent = workflow('parent', async ({ ctx, children }) => {
      const output = await children.call(Child, undefined);
      await ctx.step('after', () => bodies.push('after'));
      return output;
    });
    const { orchestrator } = await startBehindProxy([Child, Parent]);
    const run = await orchestrator.start(Parent, undefined);
    await held.reached();
    await sometime(
      'the parent waits',
      `select from orchestration.run where workflow = 'parent' and status = 'waiting'`,
    );

    proxy.cutReplies();
    held.open();
    await sometime(
      'the child has ended',
      `select from orchestration.run where workflow = 'child' and status = 'completed'`,
    );
    comeBack();

    await expect(run.result({ timeout: '10s' })).resolves.toBe(1);
    expect(bodies).toEqual(['child', 'after']);
  });

  it('is not repeated: the start of a child (scenario 12)', async () => {
    const bodies: string[] = [];
    const held = new Barrier();
    const Child = workflow('child', ({ ctx }) => ctx.step('work', () => bodies.push('child')));
    const Parent = workflow('parent', async ({ ctx, children }) => {
      await ctx.step('before', () => held.pass());
      return [
        await children.call(Child, undefined, { ref: 'called' }),
        await (await children.start(Child, undefined, { ref: 'started' })).result(),
      ];
    });
    const { orchestrator } = await startBehindProxy([Child, Parent]);
    const run = await orchestrator.start(Parent, undefined);
    await held.reached();

    proxy.cutReplies();
    held.open();
    await sometime('the child is there', `select from orchestration.run where ref = 'called'`);
    comeBack();

    await expect(run.result({ timeout: '10s' })).resolves.toEqual([1, 2]);
    expect(await count('select from orchestration.run')).toBe(3);
  });

  it.each([{}, { key: 'once' }])('is not repeated: a start with %j (scenario 12)', async (options) => {
    const bodies: string[] = [];
    const Work = workflow('work', ({ ctx }) => ctx.step('work', () => bodies.push('work')));
    const app = await startBehindProxy([Work]);
    const { orchestrator } = app;
    await openConnections(app);
    // A start waits for the claim that is under way, and that would not hear of its answer.
    await (await workerOf(app)).placementForStarts([]);

    proxy.cutReplies();
    const starting = orchestrator.start(Work, undefined, options);
    await sometime('the run is there', 'select from orchestration.run');
    comeBack();

    const run = await starting;
    expect(run.started).toBe(true);
    await expect(run.result({ timeout: '10s' })).resolves.toBe(1);
    expect(await count('select from orchestration.run')).toBe(1);
    expect(bodies).toEqual(['work']);
  });

  it('is not repeated: a start together with its first child (scenario 12)', async () => {
    const bodies: string[] = [];
    const Child = workflow('child', ({ ctx }) => ctx.step('work', () => bodies.push('child')));
    const Parent = workflow('parent', ({ children }) => children.call(Child, undefined));
    const app = await startBehindProxy([Child, Parent]);
    const { orchestrator } = app;
    await openConnections(app);
    // Its process has seen how such a run begins.
    await orchestrator.execute(Parent, undefined);
    await (await workerOf(app)).placementForStarts([]);

    proxy.cutReplies();
    const starting = orchestrator.start(Parent, undefined);
    const ofSecond = `from orchestration.run where root_id = (select max(root_id::text)::uuid from orchestration.run)`;
    await sometime(
      'the parent waits, and the child is there',
      `select ${ofSecond} having count(*) = 2 and max(status) = 'waiting'`,
    );
    comeBack();

    const run = await starting;
    expect(run.started).toBe(true);
    await expect(run.result({ timeout: '10s' })).resolves.toBe(2);
    expect(await count('select from orchestration.run')).toBe(4);
    expect(bodies).toEqual(['child', 'child']);
  });

  it('is made good: a claim whose runs nobody heard of (scenario 12)', async () => {
    const bodies: string[] = [];
    const Work = workflow('work', ({ ctx }) => ctx.step('work', () => bodies.push('work')));
    const starter = await startApp({ database, providers: [Work], options: { worker: false } });
    await startBehindProxy([Work]);

    // The way is slow: when the database shows the claim, its reply has not arrived yet.
    proxy.latencyMs = 200;
    const run = await starter.orchestrator.start(Work, undefined);
    await sometime('it is claimed', `select from orchestration.run where status = 'running'`);
    proxy.cutReplies();
    comeBack();

    await expect(run.result({ timeout: '10s' })).resolves.toBe(1);
    // Two claims: the one that nobody heard of was given back.
    expect(await count('select from orchestration.run where epoch > 2')).toBe(1);
  });

  it('is made good: the parking of a run that is woken meanwhile (scenario 12)', async () => {
    const held = new Barrier();
    const Work = workflow('work', async ({ ctx }) => {
      await ctx.step('before', () => held.pass());
      await ctx.sleep(600);
      return 'woken';
    });
    const { orchestrator } = await startBehindProxy([Work]);
    const run = await orchestrator.start(Work, undefined);
    await held.reached();

    proxy.cutReplies();
    held.open();
    await sometime('it is parked', `select from orchestration.run where status = 'waiting'`);
    comeBack();

    await expect(run.result({ timeout: '10s' })).resolves.toBe('woken');
  });

  it('does not undo what was written after it, when it arrives a second time', async () => {
    const held = new Barrier();
    const last = new Barrier();
    const Work = workflow('work', async ({ ctx }) => {
      await ctx.step('before', () => held.pass());
      await ctx.setState('early');
      await ctx.step('between', () => 'recorded');
      await ctx.setState('late');
      await ctx.step('last', () => last.pass());
    });
    const { orchestrator } = await startBehindProxy([Work], { readTimeoutMs: 300 });
    const run = await orchestrator.start(Work, undefined);
    await held.reached();
    // The write of the early state is held back on a connection that fell silent, and is sent again on another.
    proxy.strand();
    held.open();
    await until('the early state is under way', () => proxy.holdsBack('early'));
    await last.reached();
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ state: 'late' });

    const { rows } = await sql.query<{ at: Date }>('select clock_timestamp() as at');
    proxy.heal();
    await until('it has arrived', async () => !proxy.holdsBack('early') && (await isDone(rows[0]!.at)));

    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ state: 'late' });
    last.open();
    await run.result();
  });

  /** A connection that was cut ends when it has done what arrived on it. */
  async function isDone(since: Date): Promise<boolean> {
    const left = await count(
      `select from pg_stat_activity
       where datname = current_database()
         and application_name = $1
         and (state <> 'idle' or state_change < $2 and starts_with($3, left(query, 500)))`,
      [BEHIND_PROXY, since, commitWrites.text],
    );
    return left === 0;
  }
});

describe('a worker that is cut off for longer than its lease', () => {
  it('stops its runs, and gives them back when it can reach the database again (clarification 17)', async () => {
    const held = new Barrier();
    const bodies: string[] = [];
    const reasons: unknown[] = [];
    const Work = workflow('work', async ({ ctx }) => {
      await ctx.step('before', () => bodies.push('before'));
      return ctx.step('held', async ({ attempt, signal }) => {
        bodies.push(`held, attempt ${attempt}`);
        signal.addEventListener('abort', () => reasons.push(signal.reason));
        await held.pass();
        return attempt;
      });
    });
    const Sleeper = workflow('sleeper', ({ ctx }) => ctx.sleep(2_500).then(() => 'slept'));
    const { orchestrator } = await startBehindProxy([Work, Sleeper], { lease: 1_000 });
    const run = await orchestrator.start(Work, undefined);
    const sleeper = await orchestrator.start(Sleeper, undefined);
    await held.reached();

    proxy.blackhole();
    await until('it has stopped its run', () => reasons.length > 0);
    await until(
      'its lease is over',
      async () => (await count('select from orchestration.worker where expires_at < now()')) > 0,
    );
    proxy.heal();

    await held.reached(2);
    held.open();
    await expect(run.result({ timeout: '10s' })).resolves.toBe(1);
    await expect(sleeper.result({ timeout: '10s' })).resolves.toBe('slept');
    expect(bodies).toEqual(['before', 'held, attempt 1', 'held, attempt 1']);
    expect(await count('select from orchestration.worker where expires_at > now()')).toBe(1);
  });

  it('leaves no run behind that it started, and that was written only after it came back (clarification 17)', async () => {
    const held = new Barrier();
    const Work = workflow('work', ({ ctx }) => ctx.step('work', () => held.pass().then(() => 'done')));
    const app = await startBehindProxy([Work], { lease: 1_000 });
    // The start waits inside the database for a transaction that holds its key.
    const holder = new pg.Client({ connectionString: database.url });
    await holder.connect();
    await holder.query('begin');
    await holder.query(
      `insert into orchestration.run (id, workflow, version, key, status, queue, input_digest, root_id, depth, created_at)
       values (gen_random_uuid(), 'work', 1, 'late', 'completed', 'default', '', gen_random_uuid(), 1, now())`,
    );
    const starting = app.orchestrator.start(Work, undefined, { key: 'late' });
    await sometime('the start waits', `select from pg_stat_activity where wait_event_type = 'Lock'`);
    await sql.query(`update orchestration.worker set expires_at = '-infinity'`);
    await sometime('the worker is back', 'select from orchestration.worker where expires_at > now()');
    await holder.query('rollback');
    await holder.end();
    const run = await starting;

    await app.crash();
    const other = await startApp({ database, providers: [Work], options: { worker: { pollInterval: 100 } } });
    held.open();

    await expect(other.orchestrator.result(run.id, { timeout: '5s' })).resolves.toBe('done');
  });
});

describe('an app that shuts down while the database is silent', () => {
  it('ends within seconds and says so, and another worker takes its run over', async () => {
    const held = new Barrier();
    const warnings: string[] = [];
    const logger = { log() {}, error() {}, warn: (line: string) => warnings.push(line) };
    const Work = workflow('work', ({ ctx }) => ctx.step('work', ({ attempt }) => held.pass().then(() => attempt)));
    const app = await startBehindProxy([Work], { lease: 2_000, shutdownTimeout: 500 }, logger);
    const run = await app.orchestrator.start(Work, undefined);
    await held.reached();

    proxy.blackhole();
    const begun = performance.now();
    await app.close();
    expect(performance.now() - begun).toBeLessThan(15_000);
    expect(warnings).toContainEqual(expect.stringContaining('ends without a word; others take over what it has'));

    held.open();
    const other = await startApp({ database, providers: [Work] });
    await until('it is taken over', async () => (await other.orchestrator.get(run.id)).status === 'completed');
    expect(await other.orchestrator.get(run.id)).toMatchObject({ output: 1 });
  });
});

describe('workers that are never told anything', () => {
  it('find by looking what there is to do: LISTEN is lost again and again', async () => {
    const Child = workflow({ name: 'child', queue: 'children' }, () => 'from the other');
    const Parent = workflow('parent', async ({ children, ctx }) => {
      const output = await children.call(Child, undefined);
      await ctx.sleep(300);
      return output;
    });
    const options = (queues: string[]) => ({ worker: { queues, pollInterval: 50 } });
    const [starter] = await Promise.all([
      startApp({ database, providers: [Parent, Child], options: { worker: false } }),
      startApp({ database, providers: [Parent, Child], options: options(['default']) }),
      startApp({ database, providers: [Parent, Child], options: options(['children']) }),
    ]);
    const over = new AbortController();
    let lost = 0;
    const deafen = async () => {
      while (!over.signal.aborted) {
        const { rowCount } = await sql.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query ilike 'listen %'`,
        );
        lost += rowCount!;
        await delay(20);
      }
    };
    const deafening = deafen();

    const runs = await starter.orchestrator.startMany(
      Parent,
      Array.from({ length: 5 }, () => ({ input: undefined })),
    );
    const outputs = await Promise.all(runs.map((run) => run.result({ timeout: '20s' })));
    over.abort();
    await deafening;

    expect(outputs).toEqual(runs.map(() => 'from the other'));
    expect(lost).toBeGreaterThanOrEqual(3);
  });
});
