import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';

import { type QueueLimits, type QueueState, ValidationError, type WorkflowClass } from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { measure } from '../support/statements.js';
import { until } from '../support/until.js';
import { killWorkers, WorkerProcess } from '../support/worker-process.js';
import { workflow } from '../support/workflow.js';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

let database: TestDatabase;
let sql: pg.Client;

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

/** A workflow on queue `jobs` whose one step is held until its barrier opens. */
function heldJobs() {
  const barrier = new Barrier();
  let running = 0;
  let most = 0;
  const order: string[] = [];
  const Job = workflow<string, string>({ name: 'job', queue: 'jobs' }, ({ ctx }, name) =>
    ctx.step('work', async () => {
      order.push(name);
      running++;
      most = Math.max(most, running);
      await barrier.pass();
      running--;
      return name;
    }),
  );
  return { Job, barrier, order, mostAtOnce: () => most };
}

async function stateOf(app: TestApp, queue: string): Promise<QueueState | undefined> {
  return (await app.orchestrator.queues.list()).find(({ name }) => name === queue);
}

async function start(app: TestApp, Job: WorkflowClass<string>, names: string[], options: object = {}) {
  return app.orchestrator.startMany(
    Job,
    names.map((input) => ({ input, ...options })),
  );
}

const names = (count: number, prefix = '') => Array.from({ length: count }, (_, index) => `${prefix}${index}`);

describe('A paused queue (65)', () => {
  it('is claimed from neither for first starts nor for wake-ups, until it is resumed', async () => {
    const { Job, barrier, order } = heldJobs();
    const Sleeper = workflow({ name: 'sleeper', queue: 'jobs' }, async ({ ctx }) => {
      await ctx.sleep('1h');
      order.push('woken');
    });
    const Unconcerned = workflow('unconcerned', () => 'done');
    barrier.open();
    const app = await startApp({ database, providers: [Job, Sleeper, Unconcerned] });
    const sleeper = await app.orchestrator.start(Sleeper, undefined);
    await until('it sleeps', async () => (await sleeper.status()) === 'waiting');

    await app.orchestrator.queues.pause('jobs');
    const job = await app.orchestrator.start(Job, 'started');
    await moveClock(database, 2 * HOUR_MS);
    await until('it is due', async () => (await sleeper.status()) === 'pending');
    await app.orchestrator.execute(Unconcerned, undefined);

    expect(order).toEqual([]);
    expect(await stateOf(app, 'jobs')).toMatchObject({ paused: true, pending: 2, running: 0 });
    expect((await stateOf(app, 'jobs'))!.oldestDueAt).toBeInstanceOf(Date);
    await app.orchestrator.queues.resume('jobs');
    await Promise.all([job.result(), sleeper.result()]);
    expect(order.sort()).toEqual(['started', 'woken']);
    expect(await stateOf(app, 'jobs')).toBeUndefined();
  });

  it('lets what is running go on', async () => {
    const { Job, barrier } = heldJobs();
    const app = await startApp({ database, providers: [Job] });
    const job = await app.orchestrator.start(Job, 'a');
    await barrier.reached();

    await app.orchestrator.queues.pause('jobs');
    barrier.open();

    expect(await job.result()).toBe('a');
  });

  it('does not let a parked parent go on in the slot that its child leaves', async () => {
    const barrier = new Barrier();
    const Child = workflow('child', ({ ctx }) => ctx.step('work', () => barrier.pass()));
    let isOver = false;
    const Parent = workflow({ name: 'parent', queue: 'parents' }, async ({ children }) => {
      await children.call(Child, undefined);
      isOver = true;
    });
    const app = await startApp({ database, providers: [Parent, Child] });
    const parent = await app.orchestrator.start(Parent, undefined);
    await barrier.reached();
    await until('the parent is parked', async () => (await parent.status()) === 'waiting');

    await app.orchestrator.queues.pause('parents');
    barrier.open();
    await until('its child has ended', async () => (await parent.status()) === 'pending');

    expect(isOver).toBe(false);
    await app.orchestrator.queues.resume('parents');
    await parent.result();
  });
});

describe('Limits of a queue', () => {
  it.each([
    ['over the fleet', { concurrency: 3 }, 3],
    ['in each process', { concurrencyPerWorker: 2 }, 4],
    ['both', { concurrency: 3, concurrencyPerWorker: 2 }, 3],
  ] as [string, QueueLimits, number][])('hold while two processes compete: %s', async (_what, limits, atOnce) => {
    const { Job, barrier, mostAtOnce } = heldJobs();
    const options = { queues: { jobs: limits } };
    const [app] = await Promise.all([1, 2].map(() => startApp({ database, providers: [Job], options })));
    const handles = await start(app!, Job, names(12));

    await barrier.reached(atOnce);
    await delay(300);

    expect(mostAtOnce()).toBe(atOnce);
    expect(await stateOf(app!, 'jobs')).toMatchObject({ limits, pending: 12 - atOnce, running: atOnce });
    barrier.open();
    await Promise.all(handles.map((handle) => handle.result()));
    expect(mostAtOnce()).toBe(atOnce);
  });

  it('a parked run holds no slot', async () => {
    const Sleeper = workflow({ name: 'sleeper', queue: 'jobs' }, ({ ctx }) => ctx.sleep('1h'));
    const app = await startApp({ database, providers: [Sleeper], options: { queues: { jobs: { concurrency: 1 } } } });

    const sleepers = await app.orchestrator.startMany(Sleeper, [{ input: undefined }, { input: undefined }]);
    await until('both sleep', async () =>
      (await Promise.all(sleepers.map((sleeper) => sleeper.status()))).every((status) => status === 'waiting'),
    );

    await moveClock(database, 2 * HOUR_MS);
    await expect(Promise.all(sleepers.map((sleeper) => sleeper.result()))).resolves.toHaveLength(2);
  });

  it('a parent and its child on one queue with concurrency 1 do not block each other (37)', async () => {
    const Child = workflow({ name: 'child', queue: 'jobs' }, ({ ctx }) => ctx.step('work', () => 'from the child'));
    const Parent = workflow({ name: 'parent', queue: 'jobs' }, ({ children }) => children.call(Child, undefined));
    const app = await startApp({
      database,
      providers: [Parent, Child],
      options: { queues: { jobs: { concurrency: 1 } } },
    });

    expect(await app.orchestrator.execute(Parent, undefined)).toBe('from the child');
  });

  it('the slots of a worker that died are free again', async () => {
    const { Job, barrier } = heldJobs();
    const options = { queues: { jobs: { concurrency: 2 } }, worker: { lease: '1s' } } as const;
    const app = await startApp({ database, providers: [Job], options });
    await start(app, Job, names(2));
    await barrier.reached(2);
    const other = await startApp({ database, providers: [Job], options });
    const waiting = await other.orchestrator.start(Job, 'last');

    await app.crash();
    barrier.open();

    expect(await waiting.result()).toBe('last');
  });

  it('a tenant gets no more than its share, and nobody waits behind the backlog of another (64)', async () => {
    const { Job, barrier, order } = heldJobs();
    const options = { queues: { jobs: { concurrency: 4, concurrencyPerTenant: 2 } }, worker: { concurrency: 10 } };
    const app = await startApp({ database, providers: [Job], options: { ...options, worker: false } });
    await start(app, Job, names(50, 'large-'), { tenant: 'large' });
    await start(app, Job, names(2, 'small-'), { tenant: 'small' });
    await start(app, Job, names(2, 'nobody-'));
    const worker = await startApp({ database, providers: [Job], options });

    await barrier.reached(4);

    expect(order.filter((name) => name.startsWith('large'))).toHaveLength(2);
    expect(order.toSorted().slice(2)).not.toContain('large-2');
    barrier.open();
    await until('all are done', async () => (await stateOf(worker, 'jobs'))!.pending === 0);
    // Those with a small backlog were among the first.
    expect(order.slice(0, 12)).toEqual(expect.arrayContaining(['small-0', 'small-1', 'nobody-0', 'nobody-1']));
  });

  it("a tenant's children are among its runs", async () => {
    const { Job, barrier, mostAtOnce } = heldJobs();
    const Parent = workflow('parent', ({ children }) => children.map(Job, names(4)));
    const app = await startApp({
      database,
      providers: [Job, Parent],
      options: { queues: { jobs: { concurrencyPerTenant: 2 } } },
    });
    const parent = await app.orchestrator.start(Parent, undefined, { tenant: 'one' });
    await barrier.reached(2);
    await until('the others wait', async () => (await stateOf(app, 'jobs'))!.pending === 2);

    expect(await stateOf(app, 'jobs')).toMatchObject({ running: 2, pending: 2 });
    barrier.open();
    expect(await parent.result()).toEqual(names(4));
    expect(mostAtOnce()).toBe(2);
  });

  it('a fork takes its turn at once, like every other run', async () => {
    const { Job, barrier } = heldJobs();
    barrier.open();
    const options = { queues: { jobs: { concurrencyPerTenant: 1 } } };
    const { orchestrator } = await startApp({ database, providers: [Job], options });
    const original = await orchestrator.start(Job, 'original', { tenant: 'one' });
    await original.result({ timeout: '5s' });

    const fork = await orchestrator.fork(original.id, { fromStep: 'work', input: 'fork' });

    expect(await fork.result({ timeout: '5s' })).toBe('fork');
  });

  it('more tenants than one claim looks at all get their turn', async () => {
    const { Job, barrier, order } = heldJobs();
    barrier.open();
    const options = { queues: { jobs: { concurrency: 5, concurrencyPerTenant: 1 } } };
    const client = await startApp({ database, providers: [Job], options: { ...options, worker: false } });
    await client.orchestrator.startMany(
      Job,
      names(450).map((input) => ({ input, tenant: `tenant-${input}` })),
    );

    const app = await startApp({ database, providers: [Job], options });
    await until('all have run', () => order.length === 450);

    expect(new Set(order).size).toBe(450);
    await until('none is left', async () => (await stateOf(app, 'jobs'))!.running === 0);
  });

  it('a rate limit counts what begins in any stretch of its length, and not what goes on after a wait', async () => {
    const limit = 5;
    const perMs = 700;
    const Job = workflow({ name: 'job', queue: 'jobs' }, async ({ ctx }) => {
      await ctx.step('first', () => null);
      await ctx.sleep(250);
      await ctx.step('second', () => null);
    });
    const options = { queues: { jobs: { rateLimit: { limit, per: perMs } } } };
    const [app] = await Promise.all([1, 2].map(() => startApp({ database, providers: [Job], options })));

    const handles = await app!.orchestrator.startMany(
      Job,
      Array.from({ length: 15 }, () => ({ input: undefined })),
    );
    await Promise.all(handles.map((handle) => handle.result()));

    const { rows } = await sql.query<{ most: number }>(
      `select max((select count(*)::int from orchestration.run b
         where b.started_at >= a.started_at and b.started_at < a.started_at + make_interval(secs => $1))) as most
       from orchestration.run a`,
      [perMs / 1000],
    );
    expect(rows[0]!.most).toBe(limit);
  });

  it('a rate limit does not hold up what goes on after a wait, in whichever process', async () => {
    const Napping = workflow({ name: 'napping', queue: 'jobs' }, async ({ ctx }) => {
      for (let nap = 0; nap < 3; nap++) await ctx.sleep(50);
      await ctx.waitForSignal('go');
      return 'rested';
    });
    const options = { queues: { jobs: { rateLimit: { limit: 2, per: '1h' } } } } as const;
    const first = await startApp({ database, providers: [Napping], options });
    const runs = await first.orchestrator.startMany(
      Napping,
      Array.from({ length: 3 }, () => ({ input: undefined })),
    );
    const [one, two, third] = runs.map(({ id }) => id);
    await until('two wait for a signal', async () => {
      const { items } = await first.orchestrator.list({ status: 'waiting' });
      return items.filter(({ waitingFor }) => waitingFor[0]?.kind === 'signal').length === 2;
    });
    await first.crash();

    const { orchestrator } = await startApp({ database, providers: [Napping], options });
    for (const id of [one!, two!]) await orchestrator.signal(id, 'go');

    for (const id of [one!, two!]) expect(await orchestrator.result(id, { timeout: '10s' })).toBe('rested');
    expect((await orchestrator.get(third!)).status).toBe('pending');
  });
});

describe('Limits at run time', () => {
  it('configure holds at once and over the configuration, and reset brings that back', async () => {
    const { Job, barrier, mostAtOnce } = heldJobs();
    const app = await startApp({ database, providers: [Job], options: { queues: { jobs: { concurrency: 1 } } } });
    const { queues } = app.orchestrator;

    await queues.configure('jobs', { concurrency: 3, rateLimit: { limit: 100, per: '1s' } });
    expect(await stateOf(app, 'jobs')).toMatchObject({
      limits: { concurrency: 3, rateLimit: { limit: 100, per: 1_000 } },
    });
    const handles = await start(app, Job, names(5));
    await barrier.reached(3);
    expect(mostAtOnce()).toBe(3);
    await queues.reset('jobs');

    expect(await stateOf(app, 'jobs')).toMatchObject({ limits: { concurrency: 1 } });
    barrier.open();
    await Promise.all(handles.map((handle) => handle.result()));
  });

  it('configure holds also when an app boots with another configuration, which reset then brings', async () => {
    const { Job } = heldJobs();
    const boot = (concurrency: number) =>
      startApp({ database, providers: [Job], options: { queues: { jobs: { concurrency } } } });
    const first = await boot(1);
    await first.orchestrator.queues.configure('jobs', { concurrency: 3 });
    await first.close();

    const second = await boot(2);

    expect((await stateOf(second, 'jobs'))!.limits).toEqual({ concurrency: 3 });
    await second.orchestrator.queues.reset('jobs');
    expect((await stateOf(second, 'jobs'))!.limits).toEqual({ concurrency: 2 });
  });

  it('counts what was running and waiting before there were limits', async () => {
    const { Job, barrier, mostAtOnce } = heldJobs();
    const app = await startApp({ database, providers: [Job], options: { worker: { concurrency: 2 } } });
    const handles = await start(app, Job, names(2), { tenant: 'one' });
    await barrier.reached(2);
    handles.push(...(await start(app, Job, names(2), { tenant: 'one' })));

    await app.orchestrator.queues.configure('jobs', { concurrency: 2, concurrencyPerTenant: 2 });
    const other = await startApp({ database, providers: [Job] });
    await other.orchestrator.start(Job, 'another', { tenant: 'one' });
    await delay(1_500);

    expect(mostAtOnce()).toBe(2);
    barrier.open();
    await Promise.all(handles.map((handle) => handle.result()));
  });

  it('the last boot writes what its configuration says, and takes back what it no longer says', async () => {
    const { Job } = heldJobs();
    const first = await startApp({ database, providers: [Job], options: { queues: { jobs: { concurrency: 1 } } } });
    expect((await stateOf(first, 'jobs'))!.limits).toEqual({ concurrency: 1 });
    await first.close();

    const second = await startApp({ database, providers: [Job] });

    expect(await stateOf(second, 'jobs')).toBeUndefined();
  });

  it.each([
    [{ concurrency: 0 }, 'concurrency must be a whole number from 1, not 0'],
    [{ concurency: 1 }, "unknown option 'concurency'"],
    [{ rateLimit: { limit: 1, per: 'soon' } }, "rateLimit.per 'soon' is no duration above zero"],
    [{ rateLimit: { limit: 1.5, per: '1s' } }, 'rateLimit.limit must be a whole number from 1, not 1.5'],
  ])('refuses %j', async (limits, problem) => {
    const app = await startApp({ database, options: { worker: false } });

    const refusal = app.orchestrator.queues.configure('jobs', limits as QueueLimits);

    await expect(refusal).rejects.toThrow(ValidationError);
    await expect(refusal).rejects.toThrow(problem);
    await expect(startApp({ database, options: { queues: { jobs: limits as QueueLimits } } })).rejects.toThrow(problem);
  });
});

describe('Priority', () => {
  it('higher comes first, and within one priority the first comes first (65)', async () => {
    const { Job, barrier, order } = heldJobs();
    barrier.open();
    const client = await startApp({ database, providers: [Job], options: { worker: false } });
    for (const [name, priority] of [
      ['a', 0],
      ['b', 5],
      ['c', 0],
      ['d', 5],
      ['e', -1],
    ] as const) {
      await client.orchestrator.start(Job, name, { priority });
    }

    await startApp({ database, providers: [Job], options: { worker: { concurrency: 1 } } });
    await until('all have run', () => order.length === 5);

    expect(order).toEqual(['b', 'd', 'a', 'c', 'e']);
  });

  it('a run that has waited long comes before an urgent one that has just come', async () => {
    const { Job, barrier, order } = heldJobs();
    barrier.open();
    const client = await startApp({ database, providers: [Job], options: { worker: false } });
    await client.orchestrator.start(Job, 'patient', { priority: 0 });
    await moveClock(database, 3 * MINUTE_MS);
    await client.orchestrator.start(Job, 'urgent', { priority: 2 });
    await client.orchestrator.start(Job, 'most urgent', { priority: 4 });

    await startApp({ database, providers: [Job], options: { worker: { concurrency: 1 } } });
    await until('all have run', () => order.length === 3);

    expect(order).toEqual(['most urgent', 'patient', 'urgent']);
  });
});

it('a queue without limits pays nothing for those of others', async () => {
  const { Job } = heldJobs();
  const Free = workflow('free', ({ ctx }) => ctx.step('work', () => 'done'));
  const app = await startApp({
    database,
    providers: [Job, Free],
    options: { queues: { jobs: { concurrency: 1, concurrencyPerTenant: 1, rateLimit: { limit: 1, per: '1h' } } } },
  });
  await app.orchestrator.execute(Free, undefined);

  const { byQuery } = await measure(database, () => app.orchestrator.execute(Free, undefined));

  const sent = [...byQuery.keys()].filter((text) => /queue_claim|after_tenant/.test(text));
  expect(sent).toEqual([]);
});

describe('With four worker processes (64)', () => {
  it('the limits of the fleet, of a tenant and of the rate hold, and all runs are done', async () => {
    const limits = { concurrency: 6, concurrencyPerTenant: 2, rateLimit: { limit: 20, per: 1_000 } };
    const options = { queues: { default: limits } };
    await Promise.all([1, 2, 3, 4].map(() => WorkerProcess.start({ database, options, isOpen: true })));
    const client = await startApp({ database, options: { ...options, worker: false } });
    let [mostAtOnce, mostOfOne] = [0, 0];

    await client.orchestrator.startMany(
      'quick',
      names(60).map((input, index) => ({ input, tenant: `tenant-${index % 5}` })),
    );
    await until('all have ended', async () => {
      const { rows } = await sql.query<{ running: number; of_one: number; open: number }>(
        `select count(*) filter (where status = 'running')::int as running, count(*) filter (where finished_at is null)::int as open,
           coalesce((select max(n) from (select count(*)::int as n from orchestration.run where status = 'running' group by tenant) t), 0) as of_one
         from orchestration.run`,
      );
      mostAtOnce = Math.max(mostAtOnce, rows[0]!.running);
      mostOfOne = Math.max(mostOfOne, rows[0]!.of_one);
      return rows[0]!.open === 0;
    });

    expect(mostAtOnce).toBeLessThanOrEqual(limits.concurrency);
    expect(mostOfOne).toBeLessThanOrEqual(limits.concurrencyPerTenant);
    const { rows } = await sql.query<{ most: number }>(
      `select max((select count(*)::int from orchestration.run b
         where b.started_at >= a.started_at and b.started_at < a.started_at + interval '1 second')) as most
       from orchestration.run a`,
    );
    expect(rows[0]!.most).toBeLessThanOrEqual(limits.rateLimit.limit);
  });
});
