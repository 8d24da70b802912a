import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import type { Stats, WorkerInfo } from '../../lib/engine/statistics.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { command, type Finished } from './command.js';
import { Charge, Parcel, WORKFLOWS } from './shop.js';

const DAY_MS = 86_400_000;

let database: TestDatabase;
let app: TestApp;

beforeEach(async () => {
  database = await createTestDatabase();
  app = await startApp({ database, providers: WORKFLOWS });
});

afterEach(async () => {
  await closeApps();
  await database.drop();
});

const cli = (...args: string[]): Promise<Finished> => command({ args: ['--url', database.url, ...args] });

async function startParcels(count: number, tenant: string): Promise<string[]> {
  const runs = await app.orchestrator.startMany(
    Parcel,
    Array.from({ length: count }, (_, weight) => ({ input: { weight }, tenant })),
  );
  await until('they wait', async () => {
    const { items } = await app.orchestrator.list({ tenant, status: 'waiting', limit: 1_000 });
    return items.length === count;
  });
  return runs.map(({ id }) => id);
}

describe('status and workers', () => {
  it('count runs, tables and processes', async () => {
    await startParcels(3, 'acme');
    await app.orchestrator.execute(Charge, 1);

    const text = await cli('status');
    const stats = (await cli('status', '--json')).json() as Stats & { workers: object };
    const workers = await cli('workers');
    const [worker] = (await cli('workers', '--json')).json() as WorkerInfo[];

    expect(text.stdout).toMatch(/^workers +1 alive$/m);
    expect(text.stdout).toMatch(/^waiting +3$/m);
    expect(text.stdout).toMatch(/^parcel +0 +0 +3 +0$/m);
    expect(text.stdout).toMatch(/^history +~\d+ +\d+\.\d MB$/m);
    expect(stats).toMatchObject({ runs: { waiting: 3, completed: 1 }, workers: { alive: 1, dead: 0 } });
    expect(workers.stdout).toMatch(new RegExp(`^${worker!.id} .* ${process.pid} .* default +parcel@1, order@1`, 'm'));
    expect(worker).toMatchObject({ pid: process.pid, alive: true, queues: ['default'] });
  });
});

describe('cancel and retry by a filter', () => {
  it('count first, then do it in batches, and nothing beyond the filter', async () => {
    await startParcels(250, 'acme');
    const [other] = await startParcels(1, 'other');

    const counted = await cli('cancel', '--tenant', 'acme', '--dry-run', '--json');
    const done = await cli('cancel', '--tenant', 'acme');
    const again = await cli('cancel', '--tenant', 'acme', '--json');
    await until('they have ended', async () => {
      const { items } = await app.orchestrator.list({ tenant: 'acme', status: 'cancelled', limit: 1_000 });
      return items.length === 250;
    });
    const retriedByDefault = await cli('retry', '--tenant', 'acme', '--json');
    const retried = await cli('retry', '--tenant', 'acme', '--status', 'cancelled', '--json');

    expect(counted.json()).toEqual({ matched: 250, done: 0 });
    expect(done.stdout).toMatch(/^cancel: 250 of 250 done\n$/);
    expect(again.json()).toMatchObject({ done: 0 });
    expect(retriedByDefault.json()).toEqual({ matched: 0, done: 0 });
    expect(retried.json()).toEqual({ matched: 250, done: 250 });
    expect((await app.orchestrator.get(other!)).status).toBe('waiting');
  });

  it('do nothing by an oversight', async () => {
    const [id] = await startParcels(1, 'acme');

    const wrong = [
      await cli('cancel'),
      await cli('cancel', id!, '--tenant', 'acme'),
      await cli('cancel', id!, '--dry-run'),
      await cli('cancel', '--all', '--tenant', 'acme'),
      await cli('cancel', '--all', '--terminate'),
      await cli('retry', '--dry-run'),
    ];

    expect(wrong.map(({ exitCode }) => exitCode)).toEqual([2, 2, 2, 2, 2, 2]);
    expect((await app.orchestrator.get(id!)).status).toBe('waiting');
    expect((await cli('cancel', '--all', '--dry-run', '--json')).json()).toEqual({ matched: 1, done: 0 });
  });
});

describe('cleanup', () => {
  it('deletes what is past its time, and keeps what nothing is said of', async () => {
    const kept = await app.orchestrator.start(Charge, -1);
    await expect(kept.result()).rejects.toThrow('cannot charge');
    const runs = await app.orchestrator.startMany(
      Charge,
      Array.from({ length: 5 }, (_, input) => ({ input })),
    );
    await Promise.all(runs.map((run) => run.result()));

    const young = await cli('cleanup', '--completed', '30d', '--json');
    await closeApps();
    await moveClock(database, 31 * DAY_MS);
    const silent = await cli('cleanup', '--json');
    const old = await cli('cleanup', '--completed', '30d');
    const left = (await cli('list', '--json')).json() as { items: { id: string }[] };

    expect(young.json()).toEqual({ deleted: 0, busy: false });
    expect(silent.json()).toEqual({ deleted: 0, busy: false });
    expect(old.stdout).toBe('5 runs deleted\n');
    expect(left.items.map(({ id }) => id)).toEqual([kept.id]);
  });
});
