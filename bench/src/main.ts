import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { embeddedPostgres, OrchestrationModule, Orchestrator } from 'nestjs-orchestration';
import pg from 'pg';
import { type Floor, measureFloor } from './floor.js';
import { latencies, median, percentile, spread, throughput } from './statistics.js';
import { measureParked } from './parked.js';
import {
  DistantParentWorkflow,
  LimitedWorkflow,
  OneStepWorkflow,
  ParentWorkflow,
  TenStepsWorkflow,
  WORKFLOWS,
} from './workflows.js';

/*
 * A quick benchmark: `npm run bench`. Each number is the median of several rounds, beside what the database itself does in
 * the same minute. DATABASE_URL says which PostgreSQL; without it the embedded one is measured.
 */
const ROUNDS = 5;
const IN_FLIGHT = 200;
const PARKED_RUNS = 10_000;
const DATABASE = 'orchestration_bench';

async function main(): Promise<void> {
  const server = process.env['DATABASE_URL'] ?? (await embeddedUrl());
  const url = await freshDatabase(server);
  const app = await startApp(url);
  try {
    const orchestrator = app.get(Orchestrator);
    const floor = await measureFloor(url, 8_000);
    await reportParked(orchestrator, url);
    await warmUp(orchestrator);
    report(floor, {
      'one-step runs/s': await rounds(() =>
        throughput(6_000, IN_FLIGHT, (item) => orchestrator.execute(OneStepWorkflow, item)),
      ),
      'steps/s of ten-step runs': await rounds(
        async () => 10 * (await throughput(1_500, IN_FLIGHT, (item) => orchestrator.execute(TenStepsWorkflow, item))),
      ),
      'parent + child /s': await rounds(() =>
        throughput(3_000, IN_FLIGHT, (item) => orchestrator.execute(ParentWorkflow, item)),
      ),
      'one-step runs/s on a queue with limits': await rounds(() =>
        throughput(3_000, IN_FLIGHT, (item) => orchestrator.execute(LimitedWorkflow, item)),
      ),
    });
    reportLatency('idle one-step run', await latencies(500, (item) => orchestrator.execute(OneStepWorkflow, item)));
    reportLatency(
      'idle parent → child → parent',
      await latencies(500, (item) => orchestrator.execute(ParentWorkflow, item)),
    );
    const elsewhere = await startApp(url, ['elsewhere']);
    reportLatency(
      'idle parent → child in another worker → parent',
      await latencies(200, (item) => orchestrator.execute(DistantParentWorkflow, item)),
    );
    await elsewhere.close();
  } finally {
    await app.close();
  }
}

async function warmUp(orchestrator: Orchestrator): Promise<void> {
  for (const workflow of [OneStepWorkflow, TenStepsWorkflow, ParentWorkflow]) {
    await throughput(1_500, IN_FLIGHT, (item) => orchestrator.execute(workflow, item));
  }
}

async function rounds(round: () => Promise<number>): Promise<number[]> {
  const results: number[] = [];
  for (let index = 0; index < ROUNDS; index++) results.push(await round());
  return results;
}

function report(floor: Floor, results: Record<string, number[]>): void {
  console.log(
    `floor: ${Math.round(floor.commitsPerSecond)} single-row commits/s with 8 clients, one commit ${floor.commitMs.toFixed(2)} ms, one select ${floor.selectMs.toFixed(2)} ms, one fsync ${floor.fsyncMs.toFixed(2)} ms`,
  );
  for (const [name, numbers] of Object.entries(results)) {
    const share = median(numbers) / floor.commitsPerSecond;
    console.log(
      `${name}: ${Math.round(median(numbers))} (spread ${Math.round(spread(numbers) * 100)} %, ${share.toFixed(2)} × the floor)`,
    );
  }
}

async function reportParked(orchestrator: Orchestrator, url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { memoryMiB, statementsPerSecond, wakeMs } = await measureParked(orchestrator, client, PARKED_RUNS);
  await client.end();
  console.log(
    `${PARKED_RUNS} parked runs: ${memoryMiB.toFixed(0)} MiB more memory, ${statementsPerSecond.toFixed(1)} statements/s, all woken by signals and ended in ${wakeMs.toFixed(0)} ms`,
  );
}

function reportLatency(name: string, times: number[]): void {
  console.log(`${name}: p50 ${median(times).toFixed(2)} ms, p99 ${percentile(times, 0.99).toFixed(2)} ms`);
}

function startApp(url: string, queues = ['default', 'limited']) {
  @Module({
    imports: [
      OrchestrationModule.forRoot({
        connection: { type: 'postgres', url },
        worker: { concurrency: IN_FLIGHT, queues },
        queues: { limited: { concurrency: IN_FLIGHT, concurrencyPerTenant: IN_FLIGHT } },
      }),
    ],
    providers: WORKFLOWS,
  })
  class BenchModule {}
  return NestFactory.createApplicationContext(BenchModule, { logger: ['warn', 'error'] });
}

async function embeddedUrl(): Promise<string> {
  const { host, port, username, password } = await embeddedPostgres({ dir: '.orchestration' });
  return `postgres://${username}:${encodeURIComponent(password)}@${host}:${port}/postgres`;
}

async function freshDatabase(server: string): Promise<string> {
  const client = new pg.Client({ connectionString: server });
  await client.connect();
  await client.query(`drop database if exists ${DATABASE} with (force)`);
  await client.query(`create database ${DATABASE}`);
  await client.end();
  const url = new URL(server);
  url.pathname = `/${DATABASE}`;
  return url.href;
}

await main();
