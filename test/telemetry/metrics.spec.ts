import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { type CanActivate, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';

import { DefinitionError, OrchestrationModule, Orchestrator } from '../../lib/index.js';
import { OrchestrationTelemetryModule, type TelemetryOptions } from '../../lib/telemetry/index.js';
import { closeApps, startApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

let database: TestDatabase;
let collected: InMemoryMetricExporter;
let meterProvider: MeterProvider;

beforeEach(async () => {
  database = await createTestDatabase();
  collected = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const reader = new PeriodicExportingMetricReader({ exporter: collected, exportIntervalMillis: 3_600_000 });
  meterProvider = new MeterProvider({ readers: [reader] });
});

afterEach(async () => {
  await closeApps();
  await meterProvider.shutdown();
  await database.drop();
});

const held = new Barrier();

const Greeting = workflow<string, string>('greeting', ({ ctx }, name) => {
  if (name === '') throw new Error('nobody');
  return ctx.step(
    `greet ${name}`,
    ({ attempt }) => {
      if (attempt === 1) throw new Error('not yet');
      return `Hello ${name}`;
    },
    { retry: { initialInterval: 1 } },
  );
});
const Parked = workflow('parked', ({ ctx }) => ctx.waitForSignal('go'));
const Held = workflow({ name: 'held', queue: 'held' }, ({ ctx }) => ctx.step('hold', () => held.pass()));

const startMeasured = (options: Parameters<typeof startApp>[0]['options'] = {}) =>
  startApp({
    database,
    providers: [Greeting, Parked, Held],
    imports: [OrchestrationTelemetryModule.forRoot({ meterProvider })],
    options,
  });

/** The data points of a metric as they are now. */
async function pointsOf(name: string) {
  collected.reset();
  await meterProvider.forceFlush();
  const metrics = collected.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics));
  const points = metrics.find(({ descriptor }) => descriptor.name === name)?.dataPoints ?? [];
  return points.map(({ attributes, value }) => ({ attributes, value }));
}

describe('the metrics', () => {
  it('count runs by how they end, and measure them, their steps and commits', async () => {
    const { orchestrator } = await startMeasured();
    for (const name of ['Ada', 'Bob']) await orchestrator.execute(Greeting, name);
    await expect(orchestrator.execute(Greeting, '')).rejects.toThrow('nobody');
    const parked = await orchestrator.start(Parked, undefined);
    await until('it is parked', async () => (await parked.status()) === 'waiting');
    await parked.cancel();
    await until('it has ended', async () => (await parked.status()) === 'cancelled');

    const of = (name: string, status?: string) => ({ workflow: name, queue: 'default', ...(status && { status }) });
    expect(await pointsOf('orchestration.runs.started')).toEqual([
      { attributes: of('greeting'), value: 3 },
      { attributes: of('parked'), value: 1 },
    ]);
    await until('all ends are counted', async () => (await pointsOf('orchestration.runs.ended')).length === 3);
    expect(await pointsOf('orchestration.runs.ended')).toEqual([
      { attributes: of('greeting', 'completed'), value: 2 },
      { attributes: of('greeting', 'failed'), value: 1 },
      { attributes: of('parked', 'cancelled'), value: 1 },
    ]);
    expect(await pointsOf('orchestration.run.duration')).toMatchObject([
      { attributes: of('greeting', 'completed'), value: { count: 2 } },
      { attributes: of('greeting', 'failed'), value: { count: 1 } },
      { attributes: of('parked', 'cancelled'), value: { count: 1 } },
    ]);
    expect(await pointsOf('orchestration.step.duration')).toMatchObject([
      { attributes: of('greeting', 'completed'), value: { count: 2 } },
    ]);
    expect(await pointsOf('orchestration.step.attempts')).toMatchObject([{ value: { count: 2, sum: 4 } }]);
    const [writes] = await pointsOf('orchestration.commit.writes');
    const [durations] = await pointsOf('orchestration.commit.duration');
    const counts = [writes, durations].map((point) => (point!.value as { count: number }).count);
    expect(counts[0]).toBe(counts[1]);
    expect(counts[0]).toBeGreaterThanOrEqual(4);
  });

  it('tell what runs and is parked here, what waits in the fleet, since when, and how long it took to be claimed', async () => {
    const { orchestrator } = await startMeasured({ queues: { held: { concurrency: 1 } } });
    await orchestrator.start(Parked, undefined);
    const runs = await orchestrator.startMany(Held, [{ input: undefined }, { input: undefined }, { input: undefined }]);
    await held.reached();
    await until('the parked one is', async () => (await orchestrator.list({ status: 'waiting' })).items.length === 1);

    expect(await pointsOf('orchestration.worker.runs')).toEqual([
      { attributes: { state: 'running' }, value: 1 },
      { attributes: { state: 'parked' }, value: 1 },
    ]);
    expect(await pointsOf('orchestration.queue.runs')).toEqual(
      expect.arrayContaining([
        { attributes: { queue: 'held', state: 'pending' }, value: 2 },
        { attributes: { queue: 'held', state: 'running' }, value: 1 },
      ]),
    );
    const [oldest] = (await pointsOf('orchestration.queue.oldest_due')).filter(
      (point) => point.attributes['queue'] === 'held',
    );
    expect(oldest!.value).toBeGreaterThan(0);
    held.open();
    await Promise.all(runs.map((run) => run.result()));
    expect(await pointsOf('orchestration.claim.latency')).toMatchObject([
      { attributes: { queue: 'held' }, value: { count: 3 } },
    ]);
  });
});

describe('the endpoint for Prometheus', () => {
  async function serve(options: TelemetryOptions) {
    @Module({
      imports: [
        OrchestrationModule.forRoot({ connection: database.connection }),
        OrchestrationTelemetryModule.forRoot(options),
      ],
      providers: [Greeting],
    })
    class App {}

    const app = await NestFactory.create(App, { logger: false });
    await app.listen(0, '127.0.0.1');
    return { app, url: await app.getUrl(), orchestrator: app.get(Orchestrator) };
  }

  it('serves the metrics of the engine as text', async () => {
    const { app, url, orchestrator } = await serve({ path: '/metrics' });
    try {
      await orchestrator.execute(Greeting, 'Ada');
      const response = await fetch(`${url}/metrics`);
      const text = await response.text();

      expect(response.headers.get('content-type')).toContain('text/plain');
      expect(text).toMatch(
        /^orchestration_runs_ended_total\{workflow="greeting",queue="default",status="completed".*\} 1$/m,
      );
      expect(text).toMatch(/^orchestration_worker_runs\{state="parked".*\} 0$/m);
    } finally {
      await app.close();
    }
  });

  it('serves those of the engine of its name', async () => {
    const { connection } = database;
    @Module({
      imports: [
        OrchestrationModule.forRoot({ connection }),
        OrchestrationModule.forRoot({ name: 'second', connection }),
        OrchestrationModule.forFeature([Greeting], 'second'),
        OrchestrationTelemetryModule.forRoot({ name: 'second', path: '/metrics' }),
      ],
    })
    class App {}
    const app = await NestFactory.create(App, { logger: false, abortOnError: false });
    await app.listen(0, '127.0.0.1');
    try {
      await app.get<Orchestrator>('Orchestrator:second').execute(Greeting, 'Ada');

      const text = await (await fetch(`${await app.getUrl()}/metrics`)).text();

      expect(text).toMatch(/^orchestration_runs_ended_total\{workflow="greeting",.*\} 1$/m);
    } finally {
      await app.close();
    }
  });

  it('is behind guards, and is not there unless it is asked for', async () => {
    const nobody: CanActivate = { canActivate: () => false };
    const cases: [TelemetryOptions, number][] = [
      [{ path: '/metrics', guards: [nobody] }, 403],
      [{}, 404],
    ];
    for (const [options, status] of cases) {
      const { app, url } = await serve(options);
      try {
        expect((await fetch(`${url}/metrics`)).status).toBe(status);
      } finally {
        await app.close();
      }
    }
  });

  it('refuses bad options', () => {
    const bad = { path: '', route: 1 } as TelemetryOptions;

    expect(() => OrchestrationTelemetryModule.forRoot(bad)).toThrow(DefinitionError);
    expect(() => OrchestrationTelemetryModule.forRoot(bad)).toThrow(/unknown option 'route'[^]*path must be a text/);
  });
});
