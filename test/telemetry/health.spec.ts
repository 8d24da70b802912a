import { Controller, Get, Injectable, Module, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { HealthCheck, HealthCheckService, TerminusModule } from '@nestjs/terminus';
import pg from 'pg';

import {
  OrchestrationModule,
  type OrchestrationModuleOptions,
  Orchestrator,
  ValidationError,
} from '../../lib/index.js';
import {
  type HealthOptions,
  type HealthResult,
  OrchestrationHealthIndicator,
  OrchestrationTelemetryModule,
} from '../../lib/telemetry/index.js';
import { closeApps, startApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { ChaosProxy } from '../support/chaos-proxy.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

let database: TestDatabase;
let proxy: ChaosProxy | undefined;
const closing: (() => Promise<void>)[] = [];

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(async () => {
  proxy?.heal();
  await Promise.all(closing.splice(0).map((close) => close()));
  await closeApps();
  await proxy?.close();
  proxy = undefined;
  await database.drop();
});

let held: Barrier;
const Held = workflow('held', ({ ctx }) => ctx.step('hold', () => held.pass()));

beforeEach(() => (held = new Barrier()));

interface Answer {
  status: number;
  engine: HealthResult[string];
}

/** An app that answers `GET /health` through Terminus. */
async function serve(options: OrchestrationModuleOptions, health: HealthOptions = {}) {
  @Injectable()
  @Controller('health')
  class HealthController {
    constructor(
      private readonly checks: HealthCheckService,
      private readonly engine: OrchestrationHealthIndicator,
    ) {}

    @Get()
    @HealthCheck()
    check() {
      return this.checks.check([() => this.engine.isHealthy('engine', health)]);
    }
  }

  @Module({
    imports: [
      OrchestrationModule.forRoot({ connection: database.connection, ...options }),
      OrchestrationTelemetryModule.forRoot(),
      TerminusModule,
    ],
    controllers: [HealthController as Type<object>],
    providers: [Held],
  })
  class App {}

  const app = await NestFactory.create(App, { logger: false });
  await app.listen(0, '127.0.0.1');
  closing.push(() => app.close());
  const url = await app.getUrl();
  const ask = async (): Promise<Answer> => {
    const response = await fetch(`${url}/health`);
    const { details } = (await response.json()) as { details: HealthResult };
    return { status: response.status, engine: details['engine']! };
  };
  return { app, ask, orchestrator: app.get(Orchestrator) };
}

describe('the health of an engine, over HTTP through Terminus', () => {
  it('is up with the age of the claim loop, the oldest due run and the workers', async () => {
    const { ask } = await serve({});

    const { status, engine } = await ask();

    expect(status).toBe(200);
    expect(engine).toMatchObject({
      status: 'up',
      oldestDueMs: null,
      liveWorkers: 1,
      deadWorkers: [],
      worker: { hasLease: true, leaseMs: 30_000, claimAgeMs: expect.any(Number) as number },
    });
    expect(engine).not.toHaveProperty('problems');
  });

  it('is up without a worker', async () => {
    const { ask } = await serve({ worker: false });

    expect(await ask()).toMatchObject({ status: 200, engine: { status: 'up', liveWorkers: 0 } });
  });

  it('is down while a run is due and nobody claims it, and up again when somebody does', async () => {
    // That its slots are full is no fault of the claim loop.
    const limits = { maxClaimAge: 500, maxOldestDue: 1_000 };
    const { ask, orchestrator } = await serve({ worker: { concurrency: 1, pollInterval: 100 } }, limits);
    const client = await serve({ worker: false }, limits);
    await orchestrator.startMany(Held, [{ input: undefined }, { input: undefined }]);

    for (const anyone of [ask, client.ask]) {
      await until('the run is overdue', async () => (await anyone()).status === 503);
      expect((await anyone()).engine).toMatchObject({
        status: 'down',
        problems: [expect.stringMatching(/^a run has been due for \d+ ms/)],
      });
    }
    held.open();

    await until('it is up again', async () => (await ask()).status === 200);
  });

  it('is up while the queue of what is due is paused', async () => {
    const { ask, orchestrator } = await serve({}, { maxOldestDue: 1 });
    await orchestrator.queues.pause('default');
    await orchestrator.start(Held, undefined);

    expect((await ask()).engine).toMatchObject({ status: 'up', oldestDueMs: null });
  });

  it('is down while the worker is cut off from its database, and up again after it', async () => {
    const { host, port, ...connection } = database.connection;
    proxy = new ChaosProxy(port, host);
    const through = { ...connection, host: '127.0.0.1', port: await proxy.listen() };
    const { ask } = await serve(
      { connection: through, worker: { lease: '1s', pollInterval: 100 } },
      { maxClaimAge: 800, timeout: 300 },
    );
    expect((await ask()).status).toBe(200);

    proxy.blackhole();
    await until('it is down', async () => (await ask()).status === 503);
    expect((await ask()).engine.problems).toEqual(['the database has not answered in 300 ms']);
    proxy.heal();
    proxy.reset();

    await until('it is up again', async () => (await ask()).status === 200);
  });

  it('is down while runs of a dead worker are not taken over', async () => {
    const { ask } = await serve({ worker: false }, { maxTakeover: 1 });
    const worker = await startApp({ database, providers: [Held] });
    await worker.orchestrator.start(Held, undefined);
    await held.reached();
    expect((await ask()).engine).toMatchObject({ status: 'up', liveWorkers: 1 });

    await worker.crash();

    expect(await ask()).toMatchObject({
      status: 503,
      engine: {
        liveWorkers: 0,
        deadWorkers: [{ pid: process.pid }],
        problems: [expect.stringMatching(/has been dead for \d+ ms and still has runs/)],
      },
    });
  });

  it('is down while the claim loop stands still, although the database answers', async () => {
    const { app, ask } = await serve({ worker: { pollInterval: '1m', lease: '10m' } }, { maxClaimAge: '200ms' });

    await until('it is down', async () => (await ask()).status === 503);

    expect((await ask()).engine).toMatchObject({
      ...{ liveWorkers: 1, worker: { hasLease: true } },
      problems: [expect.stringMatching(/has not looked for runs, or could not claim them, for \d+ ms$/)],
    });
    const { engine } = await app.get(OrchestrationHealthIndicator).isHealthy('engine');
    expect(engine).toMatchObject({ status: 'up', worker: { claimAgeMs: expect.any(Number) as number } });
  });

  it('is down while the worker has lost its lease, and up when it has one again', async () => {
    const { ask } = await serve({ worker: { lease: '1s', pollInterval: 100 } }, { maxClaimAge: '1h' });
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    try {
      // Whoever locks its row keeps it from being renewed.
      await client.query('begin');
      await client.query('select from orchestration.worker for update');

      await until('it is down', async () => (await ask()).status === 503);
      expect((await ask()).engine.problems).toContainEqual(
        expect.stringMatching(/^worker \S+ has lost its lease and executes nothing$/),
      );
    } finally {
      await client.end();
    }

    await until('it is up again', async () => (await ask()).status === 200);
  });

  it('is that of the engine of a name, where there is none without', async () => {
    @Module({
      imports: [
        OrchestrationModule.forRoot({ name: 'second', connection: database.connection, worker: false }),
        OrchestrationTelemetryModule.forRoot({ name: 'second' }),
      ],
    })
    class App {}
    const app = await NestFactory.createApplicationContext(App, { logger: false, abortOnError: false });
    closing.push(() => app.close());
    const indicator = app.get(OrchestrationHealthIndicator);

    const [named, nameless] = await Promise.all([
      indicator.isHealthy('engine', { name: 'second' }),
      indicator.isHealthy('engine'),
    ]);

    expect(named).toMatchObject({ engine: { status: 'up', liveWorkers: 0 } });
    expect(nameless).toMatchObject({ engine: { status: 'down' } });
  });

  it('refuses bad options', async () => {
    const { app } = await serve({ worker: false });
    const engine = app.get(OrchestrationHealthIndicator);

    await expect(engine.isHealthy('engine', { maxAge: 1 } as HealthOptions)).rejects.toThrow(ValidationError);
  });
});
