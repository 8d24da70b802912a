import type pg from 'pg';
import { DataSource } from 'typeorm';

import { RunConflictError, StartLimitError, ValidationError } from '../../lib/index.js';
import { startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { moveClock } from '../support/clock.js';
import type { TestDatabase } from '../support/database.js';
import { useEngineDatabase } from '../support/engine-database.js';
import { HeldRows } from '../support/held-rows.js';
import { measure } from '../support/statements.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const MINUTE_MS = 60_000;

let database: TestDatabase;
let sql: pg.Client;

useEngineDatabase((opened) => ({ database, sql } = opened));

afterEach(() => moveClock(database, 0));

const Echo = workflow<string, string>('echo', (_, input) => input);

/** A workflow that waits, and says how it was cleaned up. */
function heldWorkflow() {
  const barrier = new Barrier();
  const Held = workflow<string, string>('held', ({ ctx }, input) =>
    ctx.step('wait', () => barrier.pass().then(() => input)),
  );
  return { Held, barrier };
}

async function countRuns(): Promise<number> {
  const { rows } = await sql.query<{ count: number }>('select count(*)::int as count from orchestration.run');
  return rows[0]!.count;
}

it('A process that closes right after a start has told those who can run it', async () => {
  await startApp({ database, providers: [Echo], options: { worker: { pollInterval: '1m' } } });
  const client = await startApp({ database, providers: [Echo], options: { worker: false } });
  await client.orchestrator.execute(Echo, 'before');
  await client.orchestrator.start(Echo, 'first');
  // So soon after the first that its hint is held back for a moment.
  await client.orchestrator.start(Echo, 'second');
  await client.close();

  const closedAt = performance.now();
  // Nobody asks for the results: that would make a claim as well.
  await until('they have ended', async () => {
    const { rows } = await sql.query("select from orchestration.run where status = 'completed'");
    return rows.length === 3;
  });
  expect(performance.now() - closedAt).toBeLessThan(5_000);
});

describe('A start for later', () => {
  const HOUR_MS = 60 * MINUTE_MS;

  it('begins after its delay, or at its time, and not before; at once where that is over', async () => {
    const app = await startApp({ database, providers: [Echo], options: { worker: { pollInterval: '20ms' } } });
    const startAt = new Date(Date.now() + 2 * HOUR_MS);
    const delayed = await app.orchestrator.start(Echo, 'delayed', { delay: '1h' });
    const timed = await app.orchestrator.start(Echo, 'timed', { startAt });
    const statuses = () => Promise.all([delayed, timed].map((run) => run.status()));

    expect(await app.orchestrator.execute(Echo, 'over', { startAt: new Date(0) })).toBe('over');
    expect(await app.orchestrator.execute(Echo, 'no delay', { delay: 0 })).toBe('no delay');
    const { createdAt, wakeAt } = await app.orchestrator.get(delayed.id);
    expect(wakeAt!.getTime() - createdAt.getTime()).toBe(HOUR_MS);
    expect((await app.orchestrator.get(timed.id)).wakeAt).toEqual(startAt);
    await moveClock(database, HOUR_MS - MINUTE_MS);
    await app.orchestrator.execute(Echo, 'meanwhile');
    expect(await statuses()).toEqual(['pending', 'pending']);
    await moveClock(database, HOUR_MS + MINUTE_MS);
    expect(await delayed.result()).toBe('delayed');
    expect(await statuses()).toEqual(['completed', 'pending']);
    await moveClock(database, 2 * HOUR_MS + MINUTE_MS);
    expect(await timed.result()).toBe('timed');
  });
});

describe('startMany', () => {
  it('is one statement for all, each with its own options, and gives their handles in order', async () => {
    const { orchestrator } = await startApp({ database, providers: [Echo], options: { worker: false } });
    const starts = Array.from({ length: 500 }, (_, index) => ({
      ...{ input: `${index}`, key: `k${index}`, tenant: `t${index % 2}`, label: `label ${index}`, priority: index % 3 },
      ...{ queue: `q${index % 2}`, attributes: { index }, delay: '1h' as const },
    }));
    let handles: { id: string; started: boolean }[] = [];

    const { statements } = await measure(database, async () => {
      handles = await orchestrator.startMany(Echo, starts);
    });

    expect(statements).toBe(1);
    expect(handles.filter(({ started }) => started)).toHaveLength(500);
    for (const index of [0, 7, 499]) {
      const { delay: _, ...facts } = starts[index]!;
      expect(await orchestrator.get(handles[index]!.id)).toMatchObject(facts);
    }
    expect(await orchestrator.startMany(Echo, [])).toEqual([]);
  });

  it('with one key twice starts it once: both handles are of one run', async () => {
    const { orchestrator } = await startApp({ database, providers: [Echo] });
    const same = { input: 'same', key: 'k' };

    const [first, second, third] = await orchestrator.startMany(Echo, [same, same, { input: 'other', key: 'l' }]);

    expect([first!.started, second!.started, third!.started]).toEqual([true, false, true]);
    expect(second!.id).toBe(first!.id);
    expect(await Promise.all([first!, second!, third!].map((run) => run.result()))).toEqual(['same', 'same', 'other']);
  });
});

describe("onConflict: 'replace'", () => {
  it('cancels the active run that has the key, and starts anew under it', async () => {
    const { Held, barrier } = heldWorkflow();
    const app = await startApp({ database, providers: [Held] });
    const first = await app.orchestrator.start(Held, 'first', { key: 'k' });
    await barrier.reached();

    const second = await app.orchestrator.start(Held, 'second', { key: 'k', onConflict: 'replace' });

    expect(second).toMatchObject({ started: true });
    expect(second.id).not.toBe(first.id);
    await expect(first.result()).rejects.toMatchObject({
      code: 'RUN_CANCELLED',
      reason: `replaced by run ${second.id}`,
    });
    barrier.open();
    expect(await second.result()).toBe('second');
    expect((await app.orchestrator.findByKey(Held, 'k'))!.id).toBe(second.id);
  });

  it('starts anew where the run that has the key has ended, with the same input too', async () => {
    const app = await startApp({ database, providers: [Echo] });
    const first = await app.orchestrator.start(Echo, 'same', { key: 'k' });
    await first.result();

    const second = await app.orchestrator.start(Echo, 'same', { key: 'k', onConflict: 'replace' });

    expect(second.id).not.toBe(first.id);
    expect(await second.result()).toBe('same');
    expect(await first.status()).toBe('completed');
  });

  it('starts where nobody has the key', async () => {
    const app = await startApp({ database, providers: [Echo] });

    expect(await app.orchestrator.execute(Echo, 'new', { key: 'k', onConflict: 'replace' })).toBe('new');
  });

  it('two at the same moment: the last one holds the key, and the other is cancelled', async () => {
    const { Held, barrier } = heldWorkflow();
    const [app, other] = await Promise.all([1, 2].map(() => startApp({ database, providers: [Held] })));
    const first = await app!.orchestrator.start(Held, 'first', { key: 'k' });
    await barrier.reached();
    const rows = await HeldRows.hold(database, first.id);

    const replacing = [app!, other!].map(({ orchestrator }, index) =>
      orchestrator.start(Held, `replacing ${index}`, { key: 'k', onConflict: 'replace' }),
    );
    await rows.untilWaiting(2);
    await rows.release();
    const handles = await Promise.all(replacing);

    barrier.open();
    const holder = await app!.orchestrator.findByKey(Held, 'k');
    const [last, loser] = handles[0]!.id === holder!.id ? handles : handles.toReversed();
    expect(last!.id).toBe(holder!.id);
    await expect(loser!.result()).rejects.toMatchObject({ reason: `replaced by run ${holder!.id}` });
    expect(await last!.result()).toMatch(/^replacing/);
  });
});

describe('debounce', () => {
  it('begins once, so long after the last start, with its input', async () => {
    const app = await startApp({ database, providers: [Echo] });
    const handles = [];
    for (const input of ['a', 'b', 'c'])
      handles.push(await app.orchestrator.start(Echo, input, { key: 'k', debounce: 400, attributes: { input } }));

    expect(handles.map(({ started }) => started)).toEqual([true, false, false]);
    expect(new Set(handles.map(({ id }) => id)).size).toBe(1);
    expect(await handles[0]!.result()).toBe('c');
    const { startedAt, createdAt, attributes } = await app.orchestrator.get(handles[0]!.id);
    expect(startedAt!.getTime() - createdAt.getTime()).toBeGreaterThanOrEqual(400);
    expect(attributes).toEqual({ input: 'c' });
    expect(await countRuns()).toBe(1);
  });

  it('each start delays it anew', async () => {
    const client = await startApp({ database, providers: [Echo], options: { worker: false } });
    const handle = await client.orchestrator.start(Echo, 'a', { key: 'k', debounce: '10m' });
    await moveClock(database, 8 * MINUTE_MS);
    await client.orchestrator.start(Echo, 'b', { key: 'k', debounce: '10m' });

    const { wakeAt, createdAt } = await client.orchestrator.get(handle.id);

    expect(Math.round((wakeAt!.getTime() - createdAt.getTime()) / MINUTE_MS)).toBe(18);
  });

  it('a start after the run has begun makes a new run, and leaves that one alone', async () => {
    const { Held, barrier } = heldWorkflow();
    const app = await startApp({ database, providers: [Held] });
    const first = await app.orchestrator.start(Held, 'first', { key: 'k', debounce: 10 });
    await barrier.reached();

    const second = await app.orchestrator.start(Held, 'second', { key: 'k', debounce: 10 });

    expect(second).toMatchObject({ started: true });
    barrier.open();
    expect(await Promise.all([first.result(), second.result()])).toEqual(['first', 'second']);
  });

  it('many at the same moment, in two processes, are one run', async () => {
    const [app, other] = await Promise.all([1, 2].map(() => startApp({ database, providers: [Echo] })));

    const handles = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        [app!, other!][index % 2]!.orchestrator.start(Echo, `${index}`, { key: 'k', debounce: '1s' }),
      ),
    );

    expect(new Set(handles.map(({ id }) => id)).size).toBe(1);
    expect(handles.filter(({ started }) => started)).toHaveLength(1);
    expect(await handles[0]!.result()).toMatch(/^\d+$/);
  });
});

describe('Options that make no sense are refused', () => {
  it.each([
    ['debounce without a key', { debounce: '1s' }, 'debounce needs a key'],
    ['replace without a key', { onConflict: 'replace' }, 'needs a key'],
    ['debounce with a delay', { key: 'k', debounce: '1s', delay: '1s' }, 'neither delay, startAt nor onConflict'],
    ['debounce that is no duration', { key: 'k', debounce: 'soon' }, "'soon' is no duration"],
  ] as [string, object, string][])('%s', async (_what, options, problem) => {
    const app = await startApp({ database, providers: [Echo], options: { worker: false } });

    const refusal = app.orchestrator.start(Echo, 'x', options);

    await expect(refusal).rejects.toThrow(ValidationError);
    await expect(refusal).rejects.toThrow(problem);
    expect(await countRuns()).toBe(0);
  });

  it.each([{ debounce: '1s' }, { onConflict: 'replace' }] as const)(
    '%j in a batch or with a signal',
    async (option) => {
      const { orchestrator } = await startApp({ database, providers: [Echo], options: { worker: false } });

      await expect(orchestrator.startMany(Echo, [{ input: 'x', key: 'k', ...option }])).rejects.toThrow(
        ValidationError,
      );
      await expect(orchestrator.signalWithStart(Echo, 'x', 'signal', null, { key: 'k', ...option })).rejects.toThrow(
        ValidationError,
      );
      expect(await countRuns()).toBe(0);
    },
  );
});

describe('The start limit of a tenant (69)', () => {
  const options = { tenants: { startLimit: { limit: 3, per: '1m' } } } as const;
  const statuses = (app: TestApp, count: number, tenant: string) =>
    Promise.allSettled(Array.from({ length: count }, () => app.orchestrator.start(Echo, 'x', { tenant })));

  it('refuses what is over it with 429 and when to come back, and does not affect others', async () => {
    const app = await startApp({ database, providers: [Echo], options });

    const results = await statuses(app, 10, 'greedy');

    const refused = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    expect(refused).toHaveLength(7);
    for (const error of refused) {
      expect(error).toBeInstanceOf(StartLimitError);
      expect(error).toMatchObject({ code: 'START_LIMIT', statusCode: 429, tenant: 'greedy', limit: 3 });
      expect((error as StartLimitError).retryAfter).toBeGreaterThan(50);
      expect((error as StartLimitError).retryAfter).toBeLessThanOrEqual(60);
    }
    await expect(app.orchestrator.execute(Echo, 'other', { tenant: 'modest' })).resolves.toBe('other');
    await expect(app.orchestrator.execute(Echo, 'nobody')).resolves.toBe('nobody');
  });

  it('holds over several processes, and ends with its stretch of time', async () => {
    const apps = await Promise.all([1, 2].map(() => startApp({ database, providers: [Echo], options })));

    const results = await Promise.all(apps.map((app) => statuses(app, 5, 'greedy')));

    expect(results.flat().filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    await moveClock(database, 2 * MINUTE_MS);
    await apps[0]!.orchestrator.start(Echo, 'later', { tenant: 'greedy' });
  });

  it('counts children, and refuses none of them', async () => {
    const Parent = workflow('parent', ({ children }) => children.map(Echo, ['a', 'b', 'c', 'd']));
    const app = await startApp({ database, providers: [Echo, Parent], options });

    expect(await app.orchestrator.execute(Parent, undefined, { tenant: 'family' })).toEqual(['a', 'b', 'c', 'd']);
    await expect(app.orchestrator.start(Echo, 'one more', { tenant: 'family' })).rejects.toThrow(StartLimitError);
  });

  it('startMany starts all or none', async () => {
    const app = await startApp({ database, providers: [Echo], options });
    const starts = Array.from({ length: 4 }, (_, index) => ({ input: `${index}`, tenant: 'greedy' }));

    await expect(app.orchestrator.startMany(Echo, starts)).rejects.toThrow(StartLimitError);

    expect(await countRuns()).toBe(0);
    await expect(app.orchestrator.startMany(Echo, starts.slice(1))).resolves.toHaveLength(3);
  });

  it('a start that finds the run of its key starts nothing, so it is not refused', async () => {
    const app = await startApp({ database, providers: [Echo], options });
    const first = await app.orchestrator.start(Echo, 'a', { tenant: 'greedy', key: 'k' });
    await statuses(app, 5, 'greedy');

    const again = await app.orchestrator.start(Echo, 'a', { tenant: 'greedy', key: 'k' });

    expect(again).toMatchObject({ id: first.id, started: false });
    await expect(app.orchestrator.start(Echo, 'b', { tenant: 'greedy', key: 'k' })).rejects.toThrow(RunConflictError);
  });

  it.each(['replace', 'debounce', 'signalWithStart', 'manager'])('concerns %s too', async (how) => {
    const app = await startApp({ database, providers: [Echo], options });
    await statuses(app, 3, 'greedy');
    const { orchestrator } = app;
    const tenant = 'greedy';

    const start = {
      replace: () => orchestrator.start(Echo, 'x', { tenant, key: 'k', onConflict: 'replace' }),
      debounce: () => orchestrator.start(Echo, 'x', { tenant, key: 'k', debounce: '1s' }),
      signalWithStart: () => orchestrator.signalWithStart(Echo, 'x', 'signal', null, { tenant, key: 'k' }),
      manager: () => startWithin(app, tenant),
    }[how]!;

    await expect(start()).rejects.toThrow(StartLimitError);
    await until('nothing of it is left', async () => (await countRuns()) === 3);
  });

  it('concerns a fork too, which is a run of the tenant of its original', async () => {
    const Stepwise = workflow('stepwise', ({ ctx }) => ctx.step('only', () => 'done'));
    const app = await startApp({ database, providers: [Echo, Stepwise], options });
    const original = await app.orchestrator.start(Stepwise, undefined, { tenant: 'greedy' });
    await original.result();
    const fork = () => app.orchestrator.fork(original.id, { fromStep: 'only' });
    await fork();
    await fork();

    await expect(fork()).rejects.toMatchObject({ code: 'START_LIMIT', tenant: 'greedy' });
    expect(await countRuns()).toBe(3);
    await expect(app.orchestrator.start(Echo, 'x', { tenant: 'greedy' })).rejects.toThrow(StartLimitError);
  });

  async function startWithin(app: TestApp, tenant: string) {
    const dataSource = await new DataSource(database.connection).initialize();
    try {
      await dataSource.transaction((manager) => app.orchestrator.start(Echo, 'x', { tenant, manager }));
    } finally {
      await dataSource.destroy();
    }
  }

  it.each([
    [{ startLimit: { limit: 0, per: '1m' } }, 'tenants.startLimit.limit must be a whole number from 1'],
    [{ startLimit: { limit: 1, per: 'often' } }, "tenants.startLimit.per 'often' is no duration"],
    [{ startLimits: {} }, "tenants: unknown option 'startLimits'"],
  ])('a wrong one is refused at boot: %j', async (tenants, problem) => {
    await expect(startApp({ database, options: { tenants: tenants as object } })).rejects.toThrow(problem);
  });
});
