import { setImmediate } from 'node:timers/promises';
import { jest } from '@jest/globals';

import { type NewRun, NOBODY } from '../../lib/engine/new-run.js';
import type { Store } from '../../lib/engine/store.js';
import { ArrayParameter } from '../../lib/store/array-parameter.js';
import { allStatements } from '../../lib/store/statements/all.js';
import { engineOf, startApp, type TestApp, workerOf } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { type EngineDatabase, useEngineDatabase } from '../support/engine-database.js';
import { HeldRows } from '../support/held-rows.js';
import { measure } from '../support/statements.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

let opened: EngineDatabase;

useEngineDatabase((database) => (opened = database));

afterEach(() => HeldRows.releaseAll());

async function epochOf(runId: string): Promise<number> {
  const { rows } = await opened.sql.query<{ epoch: number }>('select epoch from orchestration.run where id = $1', [
    runId,
  ]);
  return rows[0]!.epoch;
}

function childHasEnded(): Promise<void> {
  return until('the child has ended', async () => {
    const { rows } = await opened.sql.query(
      `select from orchestration.run where workflow = 'child' and status = 'completed'`,
    );
    return rows.length === 1;
  });
}

describe('the commits of a worker', () => {
  let quick = new Barrier();
  const Quick = workflow('quick', ({ ctx }) => ctx.step('work', () => quick.pass().then(() => 'done')));
  const Failing = workflow('failing', ({ ctx }) =>
    ctx.step('work', () => quick.pass().then(() => Promise.reject(new Error('not today'))), {
      retry: { maxAttempts: 1 },
    }),
  );

  beforeEach(() => {
    quick = new Barrier();
    quick.open();
  });

  it('one that waits for a lock does not hold up the runs that are not in it', async () => {
    const step = new Barrier();
    const Held = workflow('held', ({ ctx }) => ctx.step('work', () => step.pass().then(() => 'late')));
    const app = await startApp({ database: opened.database, providers: [Held, Quick] });
    const held = await app.orchestrator.start(Held, undefined);
    await step.reached();
    const rows = await HeldRows.hold(opened.database, held.id);
    step.open();
    await rows.untilWaiting(1);

    const outputs = await Promise.all([1, 2, 3].map(() => app.orchestrator.execute(Quick, undefined)));

    expect(outputs).toEqual(['done', 'done', 'done']);
    await rows.release();
    expect(await held.result()).toBe('late');
  });

  it('of 250 runs that write at once go in parts of 100, two of them under way at a time', async () => {
    const step = new Barrier();
    const Held = workflow('held', ({ ctx }) => ctx.step('work', () => step.pass()));
    const app = await startApp({
      database: opened.database,
      providers: [Held],
      options: { worker: { concurrency: 250 } },
    });
    const starts = Array.from({ length: 250 }, () => ({ input: undefined }));
    const runs = await app.orchestrator.startMany(Held, starts);
    await step.reached(250);
    const commits = await observeCommits(app);
    const rows = await HeldRows.hold(opened.database, ...runs.map(({ id }) => id));
    step.open();
    await rows.untilWaiting(2);

    expect(commits).toEqual({ sizes: [100, 100], mostAtOnce: 2 });
    await rows.release();
    await Promise.all(runs.map((run) => run.result()));
    expect(commits).toEqual({ sizes: [100, 100, 50], mostAtOnce: 2 });
  });

  it('of ends alone are a statement of their own, which leaves all of them to the general one when one concerns somebody else', async () => {
    const { commitEnds, commitWrites } = allStatements('orchestration');
    const app = await startApp({ database: opened.database, providers: [Quick, Failing] });
    const other = await startApp({ database: opened.database, options: { worker: false } });
    const endTogether = async (act: (runId: string) => Promise<unknown>) => {
      quick = new Barrier();
      const runs = await Promise.all([Failing, Quick, Failing].map((each) => app.orchestrator.start(each, undefined)));
      await quick.reached(3);
      await act(runs[1]!.id);
      const { byQuery } = await measure(opened.database, async () => {
        quick.open();
        await Promise.allSettled(runs.map((run) => run.result({ timeout: '5s' })));
      });
      const statuses = await Promise.all(runs.map((run) => run.status()));
      return { statuses, ends: byQuery.get(commitEnds.text) ?? 0, general: byQuery.get(commitWrites.text) ?? 0 };
    };
    const statuses = ['failed', 'completed', 'failed'];

    expect(await endTogether(() => Promise.resolve())).toEqual({ statuses, ends: 1, general: 0 });
    let watched: Promise<unknown> | undefined;
    const watch = async (runId: string) => {
      watched = other.orchestrator.result(runId);
      await until('it is watched', async () => {
        const { rows } = await opened.sql.query('select from orchestration.run where id = $1 and watched', [runId]);
        return rows.length === 1;
      });
    };
    expect(await endTogether(watch)).toEqual({ statuses, ends: 1, general: 1 });
    expect(await watched).toBe('done');
    // The next ones are not tried in vain.
    for (let commit = 0; commit < 15; commit++)
      expect(await endTogether(() => Promise.resolve())).toEqual({ statuses, ends: 0, general: 1 });
    const cancelled = await endTogether((runId) => other.orchestrator.cancel(runId));
    expect(cancelled).toMatchObject({ statuses: ['failed', 'cancelled', 'failed'], ends: 1 });
  });

  it('of ends that come in another order than their runs were started keep each what is its own', async () => {
    const { commitEnds } = allStatements('orchestration');
    const barriers = Array.from({ length: 8 }, () => new Barrier());
    const outcomeOf = (number: number) => (number % 2 ? Promise.reject(new Error(`no ${number}`)) : number);
    const Numbered = workflow('numbered', ({ ctx }, number: number) =>
      ctx.step('work', () => barriers[number]!.pass().then(() => outcomeOf(number)), { retry: { maxAttempts: 1 } }),
    );
    const app = await startApp({ database: opened.database, providers: [Numbered] });
    const starts = barriers.map((_, input) => ({ input }));
    const runs = await app.orchestrator.startMany(Numbered, starts);
    await Promise.all(barriers.map((barrier) => barrier.reached()));
    // While the ends of the last two are held, the others gather.
    const rows = await HeldRows.hold(opened.database, runs[6]!.id, runs[7]!.id);
    barriers[6]!.open();
    await rows.untilWaiting(1);
    barriers[7]!.open();
    await rows.untilWaiting(2);

    const { byQuery } = await measure(opened.database, async () => {
      for (const barrier of barriers.slice(0, 6).reverse()) {
        barrier.open();
        for (let turns = 0; turns < 20; turns++) await setImmediate();
      }
      await rows.release();
      await Promise.allSettled(runs.map((run) => run.result({ timeout: '5s' })));
    });

    expect(byQuery.get(commitEnds.text)).toBe(3);
    const { rows: kept } = await opened.sql.query(
      `select r.output, r.error::json ->> 'message' as error, h.output as step
       from orchestration.run r join orchestration.history h on h.run_id = r.id order by r.id`,
    );
    const ends = barriers.map((_, number) =>
      number % 2
        ? { output: null, error: `Step 'work' failed after 1 attempt: no ${number}`, step: null }
        : { output: `${number}`, error: null, step: `${number}` },
    );
    expect(kept).toEqual(ends);
  });

  it.each([
    { happening: 'nothing', change: 'label = null', statements: { ends: 1, general: 0 }, left: 'hello' },
    { happening: 'a wake-up', change: 'wakes = wakes + 1', statements: { ends: 1, general: 1 }, left: 'hello' },
    {
      happening: 'a cancellation',
      change: 'cancel_requested_at = now()',
      statements: { ends: 1, general: 1 },
      left: 'cancelled',
    },
  ])(
    'of an end beside an outcome of another run are one statement, which leaves both to the general one when more happens to that: $happening',
    async ({ change, statements, left }) => {
      const { commitEnds, commitWrites } = allStatements('orchestration');
      const [first, second] = [new Barrier(), new Barrier()];
      const GoingOn = workflow('going-on', async ({ ctx }) => {
        const greeting = ctx.waitForSignal<string>('greeting');
        await ctx.step('first', () => first.pass());
        await ctx.step('second', () => second.pass());
        return greeting;
      });
      const Ending = workflow('ending', ({ ctx }) => ctx.step('work', () => first.pass().then(() => 'done')));
      const app = await startApp({ database: opened.database, providers: [GoingOn, Ending] });
      const going = await app.orchestrator.start(GoingOn, undefined);
      const ending = await app.orchestrator.start(Ending, undefined);
      await first.reached(2);
      // By hand, so that its worker does not hear of it: it is the commit that has to find it.
      await opened.sql.query(`update orchestration.run set ${change} where id = $1`, [going.id]);

      const { byQuery } = await measure(opened.database, async () => {
        first.open();
        expect(await ending.result({ timeout: '5s' })).toBe('done');
      });
      expect({ ends: byQuery.get(commitEnds.text), general: byQuery.get(commitWrites.text) ?? 0 }).toEqual(statements);
      second.open();
      await app.orchestrator.signal(going.id, 'greeting', 'hello').catch(() => undefined);
      expect(await going.result({ timeout: '5s' }).catch(() => going.status())).toBe(left);
      const names = (await app.orchestrator.history(going.id)).map(({ name }) => name);
      expect(names.filter((name) => name === 'first')).toEqual(['first']);
    },
  );

  const parents: {
    parent: string;
    /** By hand, so that its worker does not hear of it. */
    change?: string;
    statements: { ends: number; general: number };
    left: string;
    resume?: (app: TestApp, parentId: string) => Promise<unknown>;
  }[] = [
    { parent: 'as it was', statements: { ends: 1, general: 0 }, left: 'running' },
    {
      parent: 'paused meanwhile',
      change: `update orchestration.run set paused = true where workflow = 'parent'`,
      statements: { ends: 1, general: 1 },
      left: 'pending',
      resume: (app, parentId) => app.orchestrator.resume(parentId),
    },
    {
      parent: 'on a queue that is paused meanwhile',
      change: `insert into orchestration.queue (name, paused) values ('default', true) on conflict (name) do update set paused = true`,
      statements: { ends: 1, general: 1 },
      left: 'pending',
      resume: (app) => app.orchestrator.queues.resume('default'),
    },
  ];

  it.each(parents)(
    'of the end of a child beside the next step of its parent, $parent, leave that parent running or claimable',
    async ({ change, statements, left, resume }) => {
      const { commitEndsWithParents, commitWrites } = allStatements('orchestration');
      const [child, next] = [new Barrier(), new Barrier()];
      const Child = workflow('child', ({ ctx }) => ctx.step('work', () => child.pass().then(() => 20)));
      const Parent = workflow('parent', async ({ ctx, children }) => {
        const half = await children.call(Child, undefined);
        return ctx.step('next', () => next.pass().then(() => half + 1));
      });
      const app = await startApp({ database: opened.database, providers: [Parent, Child] });
      const parent = await app.orchestrator.start(Parent, undefined);
      await child.reached();
      await until('the parent waits', async () => (await parent.status()) === 'waiting');
      if (change) await opened.sql.query(change);

      const { byQuery } = await measure(opened.database, async () => {
        child.open();
        await childHasEnded();
        if (!resume) await next.reached();
      });

      const counts = { ends: byQuery.get(commitEndsWithParents.text), general: byQuery.get(commitWrites.text) ?? 0 };
      expect(counts).toEqual(statements);
      const { rows } = await opened.sql.query(
        'select status, waiting_for as "waitingFor", finished_at as "finishedAt" from orchestration.run where id = $1',
        [parent.id],
      );
      expect(rows).toEqual([{ status: left, waitingFor: null, finishedAt: null }]);
      await resume?.(app, parent.id);
      next.open();
      expect(await parent.result({ timeout: '5s' })).toBe(21);
      const history = await app.orchestrator.history(parent.id);
      expect(history.map(({ kind, output }) => [kind, output])).toEqual([
        ['child', 20],
        ['step', 21],
      ]);
    },
  );

  it.each([
    { happening: 'nothing', of: 'child', change: 'label = null', statements: { ends: 1, general: 0 } },
    { happening: 'a pause of the parent', of: 'parent', change: 'paused = true', statements: { ends: 1, general: 0 } },
    { happening: 'the end of its wait', of: 'child', change: 'awaited = false', statements: { ends: 1, general: 1 } },
    { happening: 'a watch', of: 'child', change: 'watched = true', statements: { ends: 1, general: 1 } },
  ])(
    'of the end of a child whose parent is at work are one statement, which wakes the parent, or leaves that to the general one: $happening',
    async ({ of, change, statements }) => {
      const { commitEndsWakingParents, commitWrites } = allStatements('orchestration');
      const [child, own] = [new Barrier(), new Barrier()];
      const Child = workflow('child', ({ ctx }) => ctx.step('work', () => child.pass().then(() => 20)));
      const Parent = workflow('parent', ({ ctx, children }) =>
        Promise.all([children.call(Child, undefined), ctx.step('own', () => own.pass().then(() => 1))]),
      );
      const app = await startApp({ database: opened.database, providers: [Parent, Child] });
      const parent = await app.orchestrator.start(Parent, undefined);
      await Promise.all([child.reached(), own.reached()]);
      // By hand, so that its worker does not hear of it: it is the commit that has to find it.
      await opened.sql.query(`update orchestration.run set ${change} where workflow = $1`, [of]);

      const { byQuery } = await measure(opened.database, async () => {
        child.open();
        await childHasEnded();
      });

      const counts = { ends: byQuery.get(commitEndsWakingParents.text), general: byQuery.get(commitWrites.text) ?? 0 };
      expect(counts).toEqual(statements);
      const { rows } = await opened.sql.query('select status, wakes, epoch from orchestration.run where id = $1', [
        parent.id,
      ]);
      const isWoken = change !== 'awaited = false';
      expect(rows).toEqual([{ status: 'running', wakes: isWoken ? 1 : 0, epoch: 1 }]);
      if (!isWoken) await app.orchestrator.cancel(parent.id);
      if (of === 'parent') await app.orchestrator.resume(parent.id);
      own.open();
      const result = await parent.result({ timeout: '5s' }).catch(() => 'cancelled');
      expect(result).toEqual(isWoken ? [20, 1] : 'cancelled');
    },
  );

  it('of the end of a child beside the park of its parent are one statement, and the parent runs on', async () => {
    const { commitEndsWakingParents, commitEnds, commitWrites } = allStatements('orchestration');
    const [child, own] = [new Barrier(), new Barrier()];
    const Child = workflow('child', ({ ctx }) => ctx.step('work', () => child.pass().then(() => 20)));
    const Parent = workflow('parent', ({ ctx, children }) =>
      Promise.all([ctx.step('own', () => own.pass().then(() => 1)), children.call(Child, undefined)]),
    );
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    const parent = await app.orchestrator.start(Parent, undefined);
    await Promise.all([child.reached(), own.reached()]);
    const { store } = await engineOf(app);
    const commit = store.commit.bind(store);
    const commits: unknown[] = [];
    store.commit = async (writes, placement) => {
      const result = await commit(writes, placement);
      const moves = writes.map(({ workflow: name, move, outcomes }) => [name, move?.to, outcomes.length]);
      commits.push({ moves, left: result.runs.map(({ status }) => status), woken: result.woken.length });
      return result;
    };

    const { byQuery } = await measure(opened.database, async () => {
      own.open();
      child.open();
      expect(await parent.result({ timeout: '5s' })).toEqual([1, 20]);
    });

    expect(commits).toEqual([
      {
        moves: [
          ['parent', 'waiting', 1],
          ['child', 'completed', 1],
        ],
        left: ['running', 'completed'],
        woken: 1,
      },
      { moves: [['parent', 'completed', 1]], left: ['completed'], woken: 0 },
    ]);
    expect([commitEndsWakingParents, commitEnds, commitWrites].map(({ text }) => byQuery.get(text) ?? 0)).toEqual([
      1, 1, 0,
    ]);
    const { rows } = await opened.sql.query(
      'select wakes, waiting_for as "waitingFor", wake_at as "wakeAt" from orchestration.run where id = $1',
      [parent.id],
    );
    expect(rows).toEqual([{ wakes: 1, waitingFor: null, wakeAt: null }]);
  });

  it('of the end of a child whose parent is in another process go by the general statement, without a vain try', async () => {
    const { commitEndsWakingParents, commitEnds, commitWrites } = allStatements('orchestration');
    const child = new Barrier();
    const Child = workflow({ name: 'child', queue: 'there' }, ({ ctx }) => ctx.step('work', () => child.pass()));
    const Parent = workflow('parent', ({ children }) => children.call(Child, undefined));
    const app = await startApp({
      database: opened.database,
      providers: [Parent, Child],
      options: { worker: { queues: ['default'] } },
    });
    await startApp({
      database: opened.database,
      providers: [Child],
      options: { worker: { queues: ['there'] } },
    });
    const parent = await app.orchestrator.start(Parent, undefined);
    await child.reached();
    await until('the parent waits', async () => (await parent.status()) === 'waiting');

    const { byQuery } = await measure(opened.database, async () => {
      child.open();
      await parent.result({ timeout: '5s' });
    });
    expect([commitEndsWakingParents, commitEnds, commitWrites].map(({ text }) => byQuery.get(text) ?? 0)).toEqual([
      0, 1, 1,
    ]);
  });

  it('a long result that a step has given as well is sent and kept once, and shown by both', async () => {
    const text = (length: number) => '¡"\\'.repeat(length / 4).padEnd(length, '.');
    const step = new Barrier();
    const Long = workflow<{ length: number; isChanged: boolean }>('long', async ({ ctx }, { length, isChanged }) => {
      await ctx.step('before', () => text(length - 1));
      const last = await ctx.step('last', () => step.pass().then(() => text(length)));
      return isChanged ? `${last}!` : last;
    });
    const app = await startApp({ database: opened.database, providers: [Long] });
    const runs = await app.orchestrator.startMany(
      Long,
      [100, 5_000, 200_000].flatMap((length) => [false, true].map((isChanged) => ({ input: { length, isChanged } }))),
    );
    await step.reached(6);
    const { sent } = await measure(opened.database, () => {
      step.open();
      return Promise.all(runs.map((run) => run.result()));
    });

    for (const [index, length] of [100, 5_000, 200_000].entries()) {
      expect(await runs[2 * index]!.result()).toBe(text(length));
      expect(await runs[2 * index + 1]!.result()).toBe(`${text(length)}!`);
    }
    const { rows } = await opened.sql.query<{ isInRun: boolean }>(
      `select h.output_in_run is not null as "isInRun" from orchestration.history h where h.seq = 2 order by h.run_id`,
    );
    expect(rows.map(({ isInRun }) => isInRun)).toEqual([false, false, true, false, true, false]);
    const histories = await Promise.all(runs.map(({ id }) => app.orchestrator.history(id)));
    expect(histories.map((history) => (history[1]!.output as string).length)).toEqual([
      ...[100, 100, 5_000, 5_000],
      ...[200_000, 200_000],
    ]);
    const longest = sent.flatMap(({ values }) => values.flatMap(textsIn)).filter((value) => value.length > 200_000);
    expect(longest).toHaveLength(3);
  });

  it('one that the database refuses for good keeps no slot for the children that it was to start', async () => {
    const Parent = workflow('parent', ({ children }) => children.call(Quick, undefined));
    const app = await startApp({
      database: opened.database,
      providers: [Parent, Quick],
      options: { worker: { concurrency: 1 } },
    });
    const { store } = await engineOf(app);
    const commit = store.commit.bind(store);
    store.commit = (writes, placement) =>
      writes.some(({ children }) => children.length)
        ? Promise.reject(new Error('not in this form'))
        : commit(writes, placement);

    await expect(app.orchestrator.execute(Parent, undefined)).rejects.toMatchObject({ code: 'RUN_FAILED' });
    const next = await app.orchestrator.start(Quick, undefined);
    expect(await next.result({ timeout: '10s' })).toBe('done');
  });

  it('a claim that is answered before the park it follows goes on with the same code', async () => {
    let passes = 0;
    const Sleeper = workflow('sleeper', async ({ ctx }) => {
      passes++;
      await ctx.sleep('1h');
    });
    const app = await startApp({ database: opened.database, providers: [Sleeper] });
    const park = await holdReplies(app, (write) => write.move?.to === 'waiting');
    const { id } = await app.orchestrator.start(Sleeper, undefined);
    await park.reached();
    await app.orchestrator.cancel(id, { reason: 'changed my mind' });
    await until('the run was claimed again', async () => (await epochOf(id)) === 2);
    park.open();

    await expect(app.orchestrator.result(id)).rejects.toMatchObject({ reason: 'changed my mind' });
    expect(passes).toBe(1);
    expect((await workerOf(app)).load).toEqual({ running: 0, parked: 0 });
  });

  it('the end of a child is not committed beside the park of its parent', async () => {
    const first = new Barrier();
    const second = new Barrier();
    const First = workflow('first', ({ ctx }) => ctx.step('work', () => first.pass().then(() => 1)));
    const Second = workflow('second', ({ ctx }) => ctx.step('work', () => second.pass().then(() => 2)));
    const Parent = workflow('parent', ({ children }) =>
      Promise.all([children.call(First, undefined), children.call(Second, undefined)]),
    );
    const app = await startApp({ database: opened.database, providers: [Parent, First, Second, Quick] });
    const parent = await app.orchestrator.start(Parent, undefined);
    await Promise.all([first.reached(), second.reached()]);
    const park = await holdReplies(app, (write) => write.move?.to === 'waiting');
    first.open();
    await park.reached();
    second.open();

    // Others overtake it: what holds the second child up is not the queue.
    expect(await app.orchestrator.execute(Quick, undefined)).toBe('done');
    const { items } = await app.orchestrator.listChildren(parent.id, { status: 'running' });
    expect(items).toMatchObject([{ workflow: 'second' }]);
    park.open();
    expect(await parent.result()).toEqual([1, 2]);
  });
});

function textsIn(parameter: unknown): string[] {
  return parameter instanceof ArrayParameter ? parameter.values.filter((value) => typeof value === 'string') : [];
}

describe('what an earlier call has kept, of which its caller never heard', () => {
  it('is found by a commit of outcomes', async () => {
    const Stepping = workflow('stepping', async ({ ctx }) => {
      await ctx.step('first', async () => {
        await opened.sql.query(
          `insert into orchestration.history (run_id, seq, kind, scope, name, ordinal, status, output, attempts, after_seq, started_at, finished_at)
           values ($1, 1, 'step', '', 'first', 1, 'completed', '"kept"', 1, 0, now(), now())`,
          [ctx.runId],
        );
      });
      return ctx.step('second', () => 'done');
    });
    const app = await startApp({ database: opened.database, providers: [Stepping] });
    const run = await app.orchestrator.start(Stepping, undefined);

    expect(await run.result()).toBe('done');
    const history = await app.orchestrator.history(run.id);
    expect(history.map(({ name, output }) => [name, output])).toEqual([
      ['first', 'kept'],
      ['second', 'done'],
    ]);
  });

  it('is found by a start', async () => {
    const Quick = workflow('quick', () => 'done');
    const app = await startApp({ database: opened.database, providers: [Quick] });
    const { store } = await engineOf(app);
    const started: NewRun[] = [];
    const { start } = store;
    jest.spyOn(store, 'start').mockImplementation((runs, ...how) => {
      started.push(...runs);
      return start.call(store, runs, ...how);
    });
    const run = await app.orchestrator.start(Quick, undefined);
    await run.result();

    const placement = { ...NOBODY, workerId: (await workerOf(app)).id, definitions: ['quick@1'] };
    const again = await store.start([{ ...started[0]!, eager: true }], placement, true);

    expect(again).toMatchObject([{ id: run.id, status: 'completed', begins: false }]);
  });

  it.each([
    { meanwhile: 'nothing', change: 'label = null', begins: true },
    { meanwhile: 'a claim, by whichever worker', change: "started_at = now() + interval '1 ms'", begins: false },
    { meanwhile: 'a takeover', change: 'epoch = 2', begins: false },
    { meanwhile: 'its end', change: "status = 'completed', worker_id = null, finished_at = now()", begins: false },
  ])('is begun by its start only if it still waits for that: meanwhile $meanwhile', async ({ change, begins }) => {
    const body = new Barrier();
    const Held = workflow('held', ({ ctx }) => ctx.step('work', () => body.pass()));
    const app = await startApp({ database: opened.database, providers: [Held] });
    const { store } = await engineOf(app);
    const { start } = store;
    const begun: boolean[] = [];
    jest.spyOn(store, 'start').mockImplementation(async (runs, placement, together) => {
      await start.call(store, runs, placement, together);
      await opened.sql.query(`update orchestration.run set ${change}`);
      const again = await start.call(store, runs, placement, together);
      begun.push(...again.map((outcome) => 'begins' in outcome && outcome.begins));
      return again;
    });
    const run = await app.orchestrator.start(Held, undefined);

    expect(begun).toEqual([begins]);
    expect((await workerOf(app)).isExecuting(run.id)).toBe(begins);
    body.open();
  });

  it.each([
    { meanwhile: 'nothing', change: 'label = null', begins: true },
    { meanwhile: 'a claim, by whichever worker', change: "started_at = now() + interval '1 ms'", begins: false },
  ])(
    'is begun by the commit that starts it only if it still waits for that: a child, meanwhile $meanwhile',
    async (given) => {
      const body = new Barrier();
      const Child = workflow('child', ({ ctx }) => ctx.step('work', () => body.pass()));
      const Parent = workflow('parent', async ({ ctx, children }) => {
        await ctx.step('before', () => 1);
        return children.call(Child, undefined);
      });
      const app = await startApp({ database: opened.database, providers: [Parent, Child] });
      const { store } = await engineOf(app);
      const commit = store.commit.bind(store);
      const begun: boolean[] = [];
      store.commit = async (writes, placement) => {
        const result = await commit(writes, placement);
        if (result.children.length === 0) return result;
        await opened.sql.query(`update orchestration.run set ${given.change} where workflow = 'child'`);
        const again = await commit(writes, placement);
        begun.push(...again.children.map(({ begins }) => begins));
        return again;
      };
      await app.orchestrator.start(Parent, undefined);
      await until('the child is there', () => begun.length > 0);

      expect(begun).toEqual([given.begins]);
      const { rows } = await opened.sql.query<{ id: string }>(
        "select id from orchestration.run where workflow = 'child'",
      );
      expect((await workerOf(app)).isExecuting(rows[0]!.id)).toBe(given.begins);
      body.open();
    },
  );
});

it('a run that a claim has skipped, because somebody begins to wait for its result, is claimed after that', async () => {
  const Quick = workflow('quick', ({ ctx }) => ctx.step('work', () => 'done'));
  const client = await startApp({ database: opened.database, providers: [Quick], options: { worker: false } });
  const run = await client.orchestrator.start(Quick, undefined);
  const rows = await HeldRows.hold(opened.database, run.id);
  const app = await startApp({
    database: opened.database,
    providers: [Quick],
    options: { worker: { pollInterval: '30s' } },
  });
  const result = app.orchestrator.result(run.id);
  await rows.untilWaiting(1);

  await rows.release();

  expect(await result).toBe('done');
}, 20_000);

it('a child that a claim has skipped, because its parent begins to wait for it, is claimed after that', async () => {
  const release = new Barrier();
  const Child = workflow({ name: 'child', queue: 'busy' }, ({ ctx }) => ctx.step('work', () => 'from the child'));
  const Parent = workflow('parent', async ({ ctx, children }) => {
    const child = await children.start(Child, undefined);
    await ctx.step('until it may be waited for', () => release.pass());
    return child.result();
  });
  const poll = { pollInterval: '30s' } as const;
  const app = await startApp({
    database: opened.database,
    providers: [Parent, Child],
    options: { worker: { ...poll, queues: ['default'] } },
  });
  const parent = await app.orchestrator.start(Parent, undefined);
  await release.reached();
  const { items } = await app.orchestrator.listChildren(parent.id);
  const rows = await HeldRows.hold(opened.database, items[0]!.id);
  await startApp({
    database: opened.database,
    providers: [Parent, Child],
    options: { worker: { ...poll, queues: ['busy'] } },
  });
  release.open();
  await rows.untilWaiting(1);

  await rows.release();

  expect(await parent.result()).toBe('from the child');
}, 20_000);

/** How many runs each commit from now on writes, and how many are under way at a time at most. */
async function observeCommits(app: TestApp): Promise<{ sizes: number[]; mostAtOnce: number }> {
  const observed = { sizes: [] as number[], mostAtOnce: 0 };
  const { store } = await engineOf(app);
  const commit = store.commit.bind(store);
  let underWay = 0;
  store.commit = async (writes, placement) => {
    observed.sizes.push(writes.length);
    observed.mostAtOnce = Math.max(observed.mostAtOnce, ++underWay);
    const result = await commit(writes, placement);
    underWay--;
    return result;
  };
  return observed;
}

/** Keeps the replies to commits with such a write back, after the database has made them, until the barrier opens. */
async function holdReplies(
  app: TestApp,
  isHeld: (write: Parameters<Store['commit']>[0][number]) => boolean,
): Promise<Barrier> {
  const barrier = new Barrier();
  const { store } = await engineOf(app);
  const commit = store.commit.bind(store);
  store.commit = async (writes, placement) => {
    const result = await commit(writes, placement);
    if (writes.some(isHeld)) await barrier.pass();
    return result;
  };
  return barrier;
}
