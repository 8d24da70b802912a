import { performance } from 'node:perf_hooks';

import pg from 'pg';

import { ChildCancelledError, ChildFailedError } from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { measure } from '../support/statements.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const LAST = 10_000;
const ENDED: ReadonlySet<string> = new Set(['completed', 'failed', 'cancelled']);

/** How often the code of the mapping run was entered: 1 is no replay. */
let passes = 0;
let barrier = new Barrier();

const Double = workflow<number, number>('double', ({ ctx }, n) => ctx.step('double', () => 2 * n));

const Nap = workflow<number, number>('nap', async ({ ctx }, ms) => {
  await ctx.sleep(ms);
  return ms;
});

const DoubleAll = workflow<{ count: number; concurrency?: number; queue?: string }, number[]>(
  'double-all',
  async ({ children }, { count, ...options }) => {
    passes++;
    const inputs = Array.from({ length: count }, (_, n) => n);
    return await children.map(Double, inputs, options);
  },
);

const NapAll = workflow<number, number>('nap-all', async ({ children }, count) => {
  passes++;
  const outputs = await children.map(
    Nap,
    Array.from({ length: count }, () => 250),
  );
  return outputs.length;
});

/** Completes, fails, or parks for ever, as its input says; `wait` stands at the test's barrier first. */
type Fate = 'complete' | 'fail' | 'endless' | 'wait';
const Fated = workflow<Fate, Fate>('fated', async ({ ctx }, fate) => {
  if (fate === 'wait') await ctx.step('wait', () => barrier.pass());
  if (fate === 'fail') throw new RangeError('as it was told');
  if (fate === 'endless') await ctx.sleep('365d');
  return fate;
});

type Condition = { minSuccessful?: number; tolerateFailures?: number; concurrency?: number };
const Decided = workflow<{ fates: Fate[]; condition: Condition }, string[]>(
  'decided',
  async ({ children, ctx }, { fates, condition }) => {
    const settled = await children.map(Fated, fates, condition as Required<Condition>);
    await ctx.step('decided', () => undefined);
    return settled.map(({ status }) => status);
  },
);

const FirstFailure = workflow<Fate[]>('first-failure', async ({ children }, fates) => {
  try {
    return await children.map(Fated, fates, { ref: (fate, index) => `${index}-${fate}` });
  } catch (error) {
    const { ref, cause } = error as ChildFailedError;
    return [error instanceof ChildFailedError, ref, (cause as Error).name];
  }
});

const CancelledOne = workflow('cancelled-one', async ({ children }) => {
  try {
    return await children.map(Fated, ['endless', 'endless']);
  } catch (error) {
    return [error instanceof ChildCancelledError, (error as ChildCancelledError).reason];
  }
});

const Empty = workflow('empty', async ({ children }) => [
  await children.map(Fated, []),
  await children.map(Fated, [], { tolerateFailures: 1 }),
]);

const TwoMaps = workflow('two-maps', async ({ children }) => {
  const [first, second] = await Promise.all([
    children.map(Double, [1, 2, 3], { concurrency: 1 }),
    children.map(Double, [4, 5, 6], { concurrency: 2 }),
  ]);
  return [first, second, await children.map('double', [7, 8], { ref: (n) => `late ${String(n)}` })];
});

const PROVIDERS = [Double, Nap, DoubleAll, NapAll, Fated, Decided, FirstFailure, CancelledOne, Empty, TwoMaps];

describe('children.map', () => {
  let database: TestDatabase;
  let client: pg.Client;

  beforeAll(async () => {
    database = await createTestDatabase();
    client = new pg.Client({ connectionString: database.url });
    await client.connect();
  });

  beforeEach(() => {
    passes = 0;
    barrier = new Barrier();
  });

  afterEach(closeApps);

  afterAll(async () => {
    await client.end();
    await database.drop();
  });

  function start(queues: string[] = ['default']): Promise<TestApp> {
    return startApp({ database, providers: PROVIDERS, options: { worker: { queues } } });
  }

  async function statusesOf(app: TestApp, runId: string): Promise<string[]> {
    const { items } = await app.orchestrator.listChildren(runId, { limit: 1_000 });
    return items.reverse().map(({ status }) => status);
  }

  /** The most children of a run that were between their start and their end at one time. */
  async function mostAtOnce(runId: string): Promise<number> {
    const { rows } = await client.query<{ most: number }>(
      `select max(running)::int as most
       from (
         select sum(change) over (order by at, change) as running
         from orchestration.run child
         cross join lateral (values (child.created_at, 1), (child.finished_at, -1)) as event(at, change)
         where child.parent_id = $1
       ) counted`,
      [runId],
    );
    return rows[0]!.most;
  }

  describe('over many inputs', () => {
    interface Cost {
      id: string;
      statements: number;
      passes: number;
      ms: number;
    }

    async function costOf(app: TestApp, count: number, options: { queue?: string } = {}): Promise<Cost> {
      passes = 0;
      let id = '';
      const startedAt = performance.now();
      const { statements } = await measure(database, async () => {
        const run = await app.orchestrator.start(DoubleAll, { count, concurrency: 100, ...options });
        id = run.id;
        const outputs = await run.result({ timeout: '50s' });
        expect(outputs).toEqual(Array.from({ length: count }, (_, n) => 2 * n));
      });
      return { id, statements, passes, ms: performance.now() - startedAt };
    }

    it('10,000 with concurrency 100: at most 100 at once, linear time, no replay while the parent is in memory (scenario 40)', async () => {
      const app = await start();
      await costOf(app, 500);
      const quarter = await costOf(app, LAST / 4);
      const all = await costOf(app, LAST);

      expect(await mostAtOnce(all.id)).toBeLessThanOrEqual(100);
      expect(all.passes).toBe(1);
      // Linear is a factor of 4, quadratic one of 16.
      expect(all.statements / quarter.statements).toBeLessThan(7);
      expect(all.ms / quarter.ms).toBeLessThan(10);
    });

    it('2,500 whose children another process executes: the parent is woken and not replayed', async () => {
      const app = await start();
      await start(['elsewhere']);
      const cost = await costOf(app, LAST / 4, { queue: 'elsewhere' });

      expect(await mostAtOnce(cost.id)).toBeLessThanOrEqual(100);
      expect(cost.passes).toBe(1);
    });

    it('1,500 that all wait at a time, more than the cache of parked runs keeps: at most three replays, few queries', async () => {
      const app = await start();
      const run = await app.orchestrator.start(NapAll, 1_500);
      const { statements } = await measure(database, async () => {
        expect(await run.result({ timeout: '50s' })).toBe(1_500);
      });

      expect(passes).toBeLessThanOrEqual(4);
      expect(statements).toBeLessThan(1_000);
    });

    it('a map that a crash interrupts goes on from where it was: each child once', async () => {
      const first = await start();
      const run = await first.orchestrator.start(DoubleAll, { count: 600, concurrency: 20 });
      await until('100 children have ended', async () => {
        const { rows } = await client.query<{ ended: number }>(
          'select count(*)::int as ended from orchestration.run where parent_id = $1 and finished_at is not null',
          [run.id],
        );
        return rows[0]!.ended >= 100;
      });
      await first.crash();
      const second = await start();
      const outputs = await second.orchestrator.result(run.id, { timeout: '30s' });

      expect(outputs).toEqual(Array.from({ length: 600 }, (_, n) => 2 * n));
      expect(await statusesOf(second, run.id)).toEqual(Array.from({ length: 600 }, () => 'completed'));
      expect(await mostAtOnce(run.id)).toBeLessThanOrEqual(20);
      expect(passes).toBe(2);
    });
  });

  describe('ends early (scenario 41)', () => {
    it.each<{ fates: Fate[]; condition: Condition; settled: string[]; children: string[] }>([
      {
        fates: ['endless', 'complete', 'complete', 'endless'],
        condition: { minSuccessful: 2 },
        settled: ['cancelled', 'completed', 'completed', 'cancelled'],
        children: ['cancelled', 'completed', 'completed', 'cancelled'],
      },
      {
        fates: ['complete', 'fail', 'fail', 'endless'],
        condition: { minSuccessful: 3, concurrency: 1 },
        settled: ['completed', 'failed', 'failed', 'cancelled'],
        children: ['completed', 'failed', 'failed'],
      },
      {
        fates: ['fail', 'endless', 'complete', 'fail'],
        condition: { tolerateFailures: 1 },
        settled: ['failed', 'cancelled', 'completed', 'failed'],
        children: ['failed', 'cancelled', 'completed', 'failed'],
      },
      {
        fates: ['fail', 'complete', 'complete'],
        condition: { tolerateFailures: 1 },
        settled: ['failed', 'completed', 'completed'],
        children: ['failed', 'completed', 'completed'],
      },
      {
        fates: ['complete', 'fail', 'endless', 'endless'],
        condition: { tolerateFailures: 0, concurrency: 1 },
        settled: ['completed', 'failed', 'cancelled', 'cancelled'],
        children: ['completed', 'failed'],
      },
      {
        fates: ['complete', 'endless'],
        condition: { minSuccessful: 1, concurrency: 1 },
        settled: ['completed', 'cancelled'],
        children: ['completed'],
      },
    ])('$fates with $condition', async ({ fates, condition, settled, children }) => {
      const app = await start();
      const run = await app.orchestrator.start(Decided, { fates, condition });

      expect(await run.result({ timeout: '20s' })).toEqual(settled);
      await until('the rest is cancelled', async () =>
        (await statusesOf(app, run.id)).every((status) => ENDED.has(status)),
      );
      expect(await statusesOf(app, run.id)).toEqual(children);
    });

    it('as soon as its condition is decided: it does not wait for the rest', async () => {
      const app = await start();
      const run = await app.orchestrator.start(Decided, {
        fates: ['wait', 'complete'],
        condition: { minSuccessful: 1 },
      });

      // The waiting child's step body is never let go before the result is there.
      expect(await run.result({ timeout: '20s' })).toEqual(['cancelled', 'completed']);
      barrier.open();
    });

    it('without a condition by the first failure, which it throws; the rest is cancelled', async () => {
      const app = await start();
      const run = await app.orchestrator.start(FirstFailure, ['endless', 'complete', 'fail', 'endless']);

      expect(await run.result({ timeout: '20s' })).toEqual([true, '2-fail', 'RangeError']);
      await until(
        'the rest is cancelled',
        async () => (await statusesOf(app, run.id)).filter((status) => status === 'cancelled').length === 2,
      );
      expect(await statusesOf(app, run.id)).toEqual(['cancelled', 'completed', 'failed', 'cancelled']);
    });

    it('without a condition by a child that is cancelled directly', async () => {
      const app = await start();
      const run = await app.orchestrator.start(CancelledOne, undefined);
      await until('both wait', async () => (await statusesOf(app, run.id)).join() === 'waiting,waiting');
      const { items } = await app.orchestrator.listChildren(run.id);
      await app.orchestrator.cancel(items[0]!.id, { reason: 'by hand' });

      expect(await run.result({ timeout: '20s' })).toEqual([true, 'by hand']);
      await until('both are cancelled', async () => (await statusesOf(app, run.id)).join() === 'cancelled,cancelled');
    });
  });

  it('over no inputs gives no outputs', async () => {
    const app = await start();

    expect(await app.orchestrator.execute(Empty, undefined)).toEqual([[], []]);
  });

  it('several maps of one run, at a time and one after the other, keep to their own inputs', async () => {
    const app = await start();
    const run = await app.orchestrator.start(TwoMaps, undefined);

    expect(await run.result({ timeout: '20s' })).toEqual([
      [2, 4, 6],
      [8, 10, 12],
      [14, 16],
    ]);
    const { items } = await app.orchestrator.listChildren(run.id);
    expect(items.map(({ ref }) => ref)).toEqual(expect.arrayContaining(['late 7', 'late 8', 'double#1', 'double#6']));
  });
});
