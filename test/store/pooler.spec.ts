import { defineSignal } from '../../lib/index.js';
import type { OrchestrationModuleOptions } from '../../lib/nest/module-options.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { hasPgBouncer, PgBouncer } from '../support/pg-bouncer.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const Approve = defineSignal<string>('approve');

const Child = workflow<number, number>('child', ({ ctx }, input) => ctx.step('double', () => input * 2));
const Family = workflow<number, number>('family', async ({ children }, size) => {
  const doubled = await children.map(
    Child,
    Array.from({ length: size }, (_, index) => index),
    { concurrency: 5 },
  );
  return doubled.reduce((sum, value) => sum + value, 0);
});
const Waiting = workflow<void, string>('waiting', ({ ctx }) => ctx.waitForSignal(Approve));
const Sleeper = workflow<void, string>('sleeper', async ({ ctx }) => {
  await ctx.sleep(300);
  return 'rested';
});
const Elsewhere = workflow<void, string>({ name: 'elsewhere', queue: 'elsewhere' }, ({ ctx }) =>
  ctx.step('work', () => 'from elsewhere'),
);
const Calling = workflow<void, string>('calling', ({ children }) =>
  children.call<string>('elsewhere', undefined, { queue: 'elsewhere' }),
);

(hasPgBouncer ? describe : describe.skip)('Behind PgBouncer in transaction mode (67)', () => {
  let database: TestDatabase;
  let bouncer: PgBouncer;
  let warnings: string[];

  beforeAll(async () => {
    database = await createTestDatabase();
    bouncer = await PgBouncer.start(database.connection);
  });

  afterAll(async () => {
    await bouncer.stop();
    await database.drop();
  });

  beforeEach(() => {
    warnings = [];
  });

  afterEach(async () => {
    await closeApps();
  });

  function start(providers: Parameters<typeof startApp>[0]['providers'], options: OrchestrationModuleOptions = {}) {
    const silent = () => {};
    const warn = (message: string) => void warnings.push(message);
    const logger = { log: silent, error: silent, debug: silent, verbose: silent, warn };
    return startApp({ database, providers, logger, options: { connection: bouncer.connection, ...options } });
  }

  it('boots, migrates, and says once that it has to look for what others do', async () => {
    await start([Child]);

    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('Give listenUrl a direct connection');
    expect(warnings[0]).toContain(`127.0.0.1:${bouncer.connection.port}`);
  });

  it('runs families, timers, signals and cancellations in two processes', async () => {
    const [app, other] = await Promise.all([1, 2].map(() => start([Child, Family, Waiting, Sleeper])));
    const { orchestrator } = app!;

    const families = await Promise.all([10, 20, 30].map((size) => orchestrator.start(Family, size)));
    const sleeper = await other!.orchestrator.start(Sleeper, undefined);
    const waiting = await orchestrator.start(Waiting, undefined);
    const cancelled = await orchestrator.start(Waiting, undefined);
    await untilParked(app!, waiting.id, cancelled.id);
    await other!.orchestrator.signal(waiting.id, Approve, 'yes');
    await other!.orchestrator.cancel(cancelled.id, { reason: 'no' });

    expect(await Promise.all(families.map((family) => family.result()))).toEqual([90, 380, 870]);
    expect(await sleeper.result()).toBe('rested');
    expect(await waiting.result()).toBe('yes');
    await expect(cancelled.result()).rejects.toMatchObject({ reason: 'no' });
  });

  it('200 runs at once go through few connections', async () => {
    const app = await start([Child]);

    const outputs = await Promise.all(
      Array.from({ length: 200 }, (_, input) => app.orchestrator.execute(Child, input)),
    );

    expect(outputs).toEqual(outputs.map((_, input) => input * 2));
  });

  it('takes over the runs of a process that died', async () => {
    const step = new Barrier();
    const Held = workflow<void, string>('held', ({ ctx }) => ctx.step('work', () => step.pass().then(() => 'done')));
    const app = await start([Held], { worker: { lease: '1s' } });
    const run = await app.orchestrator.start(Held, undefined);
    await step.reached();
    // The pooler keeps the server's connections: what the process says from now on is cut off, as by its death.
    await app.crash();
    step.open();

    const other = await start([Held], { worker: { lease: '1s' } });

    expect(await other.orchestrator.result(run.id)).toBe('done');
  });

  it('finds soon what another process does, although its regular look is rare', async () => {
    const app = await start([Calling], { worker: { queues: ['default'], pollInterval: '30s', lease: '60s' } });
    await start([Elsewhere], { worker: { queues: ['elsewhere'], pollInterval: '30s', lease: '60s' } });
    await app.orchestrator.execute(Calling, undefined);
    const times: number[] = [];

    for (let round = 0; round < 5; round++) {
      const startedAt = performance.now();
      await app.orchestrator.execute(Calling, undefined);
      times.push(performance.now() - startedAt);
    }

    expect(times.sort((a, b) => a - b)[2]).toBeLessThan(5_000);
  });

  it('is told at once with a listenUrl, and warns of nothing', async () => {
    const app = await start([Waiting], { worker: { pollInterval: '30s' }, listenUrl: database.url });
    const client = await start([], { worker: false, listenUrl: database.url });
    const waiting = await app.orchestrator.start(Waiting, undefined);
    await untilParked(app, waiting.id);

    await client.orchestrator.signal(waiting.id, Approve, 'yes');

    expect(await client.orchestrator.result(waiting.id, { timeout: '10s' })).toBe('yes');
    expect(warnings).toEqual([]);
  });

  it('warns of a listenUrl that goes through the pooler as well', async () => {
    const { host, port, username, password, database: name } = bouncer.connection;
    const credentials = password ? `${username}:${encodeURIComponent(password)}` : username;
    await start([], { worker: false, listenUrl: `postgres://${credentials}@${host}:${port}/${name}` });

    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('listenUrl is not a direct connection');
    expect(warnings[0]).not.toContain('postgres://');
  });

  async function untilParked(app: TestApp, ...runIds: string[]): Promise<void> {
    await until('they wait', async () => {
      const runs = await Promise.all(runIds.map((runId) => app.orchestrator.get(runId)));
      return runs.every(({ status }) => status === 'waiting');
    });
  }
});
