import { setTimeout as delay } from 'node:timers/promises';

import pg from 'pg';

import type { Duration } from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { OwnServer } from '../support/own-server.js';
import { killWorkers, type WorkerEvent, WorkerProcess } from '../support/worker-process.js';

const WORKERS = 4;
const CUSTOMERS = 6;
const PAUSE_BETWEEN_ORDERS_MS = 50;
const SIGNALS = [1, 2];
/** A shorter outage may go untold. */
const TOLD_AFTER_MS = 2_000;
/** From when the database lets everybody in until a worker has done something on the engine's connections and on the app's. */
const RECOVERED_WITHIN_MS = 15_000;

let server: OwnServer;
let sql: pg.Client;

beforeEach(async () => {
  server = await OwnServer.start();
});
afterEach(async () => {
  await killWorkers();
  await closeApps();
  await sql?.end();
  await server.database.drop();
});

async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: server.database.url });
  client.on('error', () => {});
  await client.connect();
  return client;
}

const ownQueue = (index: number) => `worker-${index}`;

function startWorkers(lease: Duration): Promise<WorkerProcess[]> {
  const start = (_: unknown, index: number) =>
    WorkerProcess.start({
      database: server.database,
      script: 'fleet.mjs',
      options: { worker: { lease, queues: ['default', ownQueue(index)], maxRecoveries: 1_000 } },
    });
  return Promise.all(Array.from({ length: WORKERS }, start));
}

/** Starts runs and sends them signals until it is over. Gives the runs whose start, and whose signals, were acknowledged. */
async function order({ orchestrator }: TestApp, over: AbortSignal): Promise<string[]> {
  const orders: string[] = [];
  while (!over.aborted) {
    const { id } = await orchestrator.start('order', undefined);
    for (const payload of SIGNALS) await orchestrator.signal(id, 'go', payload);
    orders.push(id);
    await delay(PAUSE_BETWEEN_ORDERS_MS);
  }
  return orders;
}

/** Each worker by its own queue: how long until all of them work. */
async function untilAllWork({ orchestrator }: TestApp, workers: WorkerProcess[]): Promise<number> {
  const since = performance.now();
  const pids = await Promise.all(
    workers.map((_, index) => orchestrator.execute<number>('greet', undefined, { queue: ownQueue(index) })),
  );
  expect(pids).toEqual(workers.map(({ pid }) => pid));
  return performance.now() - since;
}

interface Body extends WorkerEvent {
  body: string;
}

/** What the step bodies did, in their order, by run and step. */
function bodiesOf(workers: WorkerProcess[]): Map<string, Body[]> {
  const all = workers.flatMap(({ events }) => events.filter(({ event }) => event === 'began')) as Body[];
  const byStep = new Map<string, Body[]>();
  for (const body of all.toSorted((one, other) => one.toldAt - other.toldAt)) {
    const key = `${body.runId} ${body.step}`;
    byStep.set(key, [...(byStep.get(key) ?? []), body]);
  }
  return byStep;
}

interface Line extends WorkerEvent {
  message: string;
}

const AWAY = /^The database at \S+ cannot be used: \S.*$/;
const BACK = /^The database at \S+ can be used again, after \d+\.\d s\.$/;
const LEASE_LOST = /^Worker \S+ could not renew its lease; it stops its \d+ runs until it can\.$/;
const LEASE_BACK = /^Worker \S+ has a lease again, under its new id \S+; it takes runs\.$/;

/** What was logged since the boot. */
function linesOf({ events }: WorkerProcess): string[] {
  const since = events.findIndex(({ event }) => event === 'ready');
  return (events.slice(since).filter(({ event }) => event === 'said') as Line[]).map(({ message }) => message);
}

describe('PostgreSQL crashes under load, again and again, while four workers and their clients are at it', () => {
  const cases: { when: string; lease: Duration; awayMs: number[]; keepsRuns: boolean }[] = [
    { when: 'it comes back before the leases are over', lease: '30s', awayMs: [0, 2_500, 0], keepsRuns: true },
    { when: 'it comes back when the leases are over', lease: '2s', awayMs: [3_000, 0, 3_000], keepsRuns: false },
  ];

  it.each(cases)(
    '$when: nothing acknowledged is lost, no outcome is made twice, and every worker goes on by itself',
    async ({ lease, awayMs, keepsRuns }) => {
      const clients = await Promise.all(
        [1, 2].map(() => startApp({ database: server.database, options: { worker: false } })),
      );
      const before = await connect();
      await before.query('create table ledger (run_id uuid not null)');
      await before.end();
      const workers = await startWorkers(lease);
      await untilAllWork(clients[0]!, workers);

      const over = new AbortController();
      const ordering = Promise.all(
        Array.from({ length: CUSTOMERS }, (_, index) => order(clients[index % 2]!, over.signal)),
      );
      const recoveries: number[] = [];
      for (const ms of awayMs) {
        await delay(1_000);
        await server.crash();
        await delay(ms);
        await server.recover();
        recoveries.push(await untilAllWork(clients[0]!, workers));
      }
      over.abort();
      const orders = (await ordering).flat();
      const results = await Promise.all(orders.map((id) => clients[1]!.orchestrator.result(id, { timeout: '60s' })));

      expect(results).toEqual(orders.map(() => SIGNALS));
      for (const ms of recoveries) expect(ms).toBeLessThan(RECOVERED_WITHIN_MS);
      expect(workers.map(({ isAlive }) => isAlive)).toEqual(workers.map(() => true));
      sql = await connect();
      const { rows: runs } = await sql.query<{ id: string }>(
        `select id from orchestration.run where workflow = 'order'`,
      );
      expect(runs.map(({ id }) => id).sort()).toEqual(orders.toSorted());
      const { rows: ledger } = await sql.query('select from ledger group by run_id having count(*) <> 1');
      expect(ledger).toEqual([]);
      await expectNoOutcomeTwice(bodiesOf(workers), keepsRuns);
      for (const worker of workers) expectOneLineForEachChange(linesOf(worker), awayMs);
    },
    240_000,
  );

  async function expectNoOutcomeTwice(bodies: Map<string, Body[]>, isOnceEach: boolean): Promise<void> {
    const { rows: outcomes } = await sql.query<{ key: string; body: string }>(
      `select run_id || ' ' || name as key, output::json #>> '{}' as body from orchestration.history where kind = 'step'`,
    );
    expect(outcomes.map(({ key }) => key).sort()).toEqual([...bodies.keys()].sort());
    // A body that began after an outcome was recorded would be the last one, and not the recorded one.
    expect(outcomes.filter(({ key, body }) => bodies.get(key)!.at(-1)!.body !== body)).toEqual([]);
    const again = [...bodies].filter(([key, all]) => all.length > 1 && !key.endsWith('book'));
    expect(isOnceEach ? again : []).toEqual([]);
  }

  function expectOneLineForEachChange(lines: string[], awayMs: number[]): void {
    const isOfLease = (line: string) => line.startsWith('Worker ');
    const outages = lines.filter((line) => !isOfLease(line));
    expect(outages).toEqual(outages.map((_, index) => expect.stringMatching(index % 2 ? BACK : AWAY) as string));
    expect(outages.length).toBeGreaterThanOrEqual(2 * awayMs.filter((ms) => ms > TOLD_AFTER_MS).length);
    expect(outages.length).toBeLessThanOrEqual(2 * awayMs.length);
    const leases = lines.filter(isOfLease);
    expect(leases).toEqual(
      leases.map((_, index) => expect.stringMatching(index % 2 ? LEASE_BACK : LEASE_LOST) as string),
    );
  }
});
