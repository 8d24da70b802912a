import { setTimeout as delay } from 'node:timers/promises';

import pg from 'pg';

import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { killWorkers, type WorkerEvent, WorkerProcess } from '../support/worker-process.js';

const ACCOUNTS = 200;
const TRANSFERS = 1_000;
const WORKERS = 3;
const OPENING_BALANCE = 1_000;

let database: TestDatabase;
let sql: pg.Client;
let client: TestApp;

beforeEach(async () => {
  database = await createTestDatabase();
  sql = new pg.Client({ connectionString: database.url });
  await sql.connect();
  client = await startApp({ database, options: { worker: false } });
  await sql.query(
    `create table account (id int primary key, balance int not null);
     create table ledger (run_id uuid not null, source int not null, target int not null, amount int not null);
     insert into account select id, ${OPENING_BALANCE} from generate_series(1, ${ACCOUNTS}) id`,
  );
});
afterEach(async () => {
  await killWorkers();
  await closeApps();
  await sql.end();
  await database.drop();
});

const upTo = (limit: number) => 1 + Math.floor(Math.random() * limit);

function randomTransfer() {
  const from = upTo(ACCOUNTS);
  const to = 1 + ((from + upTo(ACCOUNTS - 1) - 1) % ACCOUNTS);
  return { from, to, amount: upTo(20) };
}

describe('A bank whose workers are killed at random', () => {
  it('24. makes each of 1,000 transfers exactly once, and the sum of the balances is what it was', async () => {
    const transfers = Array.from({ length: TRANSFERS }, randomTransfer);
    const over = new AbortController();
    const victims: WorkerProcess[] = [];
    const killAgainAndAgain = async () => {
      while (!over.signal.aborted) {
        const worker = await WorkerProcess.start({
          database,
          script: 'bank.mjs',
          options: { worker: { concurrency: 25, lease: 1_000, pollInterval: 100, maxRecoveries: 1_000 } },
        });
        victims.push(worker);
        await delay(300 + upTo(5_000), undefined, { signal: over.signal }).catch(() => {});
        await worker.kill();
      }
    };

    const killing = Promise.all(Array.from({ length: WORKERS }, killAgainAndAgain));
    await until('a worker knows the workflow', () => victims.length > 0);
    const runs = await client.orchestrator.startMany(
      'transfer',
      transfers.map((input) => ({ input })),
    );
    const outputs = await Promise.all(runs.map((run) => run.result()));
    over.abort();
    await killing;

    expect(outputs).toEqual(runs.map(() => ({ transferredBy: expect.any(Number) as number })));
    const { rows: ledger } = await sql.query<Entry>('select run_id, source, target, amount from ledger');
    expect(ledger.toSorted(byRun)).toEqual(
      transfers
        .map(({ from, to, amount }, index) => ({ run_id: runs[index]!.id, source: from, target: to, amount }))
        .toSorted(byRun),
    );
    const { rows: balances } = await sql.query(
      `select sum(balance)::int as sum, count(*) filter (where balance <> ${OPENING_BALANCE}
         + (select coalesce(sum(amount), 0) from ledger where target = account.id)
         - (select coalesce(sum(amount), 0) from ledger where source = account.id))::int as wrong
       from account`,
    );
    expect(balances).toEqual([{ sum: ACCOUNTS * OPENING_BALANCE, wrong: 0 }]);
    const { rows: outcomes } = await sql.query('select count(*)::int as count from orchestration.history');
    expect(outcomes).toEqual([{ count: TRANSFERS }]);
    // Not by luck: bodies were interrupted, and ran again elsewhere.
    const bodies = victims.flatMap(({ events }) => events.filter(({ event }) => event === 'began'));
    expect(bodies.length).toBeGreaterThan(new Set(bodies.map(({ runId }: WorkerEvent) => runId)).size);
    expect(victims.length).toBeGreaterThan(WORKERS);
  }, 300_000);
});

interface Entry {
  run_id: string;
  source: number;
  target: number;
  amount: number;
}

function byRun(one: Entry, other: Entry): number {
  return one.run_id < other.run_id ? -1 : 1;
}
