import { setImmediate } from 'node:timers/promises';
import { ChildCancelledError, defineSignal, type WorkflowClass } from '../../lib/index.js';
import type { Store } from '../../lib/engine/store.js';
import { engineOf, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { type EngineDatabase, useEngineDatabase } from '../support/engine-database.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

/*
 * A parent that is parked in the process where its child ends is told of that end before it is committed. Each of these
 * forces something to come between. The parent's code may have gone on by then; nothing that it did may be kept.
 */
const Go = defineSignal<string>('go');

let opened: EngineDatabase;
let child: Barrier;
let next: Barrier;

useEngineDatabase((database) => (opened = database));

beforeEach(() => {
  child = new Barrier();
  next = new Barrier();
});

afterEach(() => HeldRows.releaseAll());

const Child = workflow('child', ({ ctx }) => ctx.step('work', () => child.pass().then(() => 'from the child')));
const Parent = workflow('parent', async ({ ctx, children }) => {
  const value = await children.call(Child, undefined);
  return ctx.step('next', () => next.pass().then(() => `${value}, and on`));
});

async function rowOf(runId: string) {
  const { rows } = await opened.sql.query<{ status: string; epoch: number; wakes: number; write_no: number }>(
    'select status, epoch, wakes, write_no from orchestration.run where id = $1',
    [runId],
  );
  return rows[0]!;
}

async function outcomesOf(runId: string): Promise<string[]> {
  const { rows } = await opened.sql.query<{ outcome: string }>(
    "select kind || ' ' || status as outcome from orchestration.history where run_id = $1 order by seq",
    [runId],
  );
  return rows.map(({ outcome }) => outcome);
}

/** A parent that is parked, and its child, whose body is at the barrier. */
async function startPair(app: TestApp, Workflow: WorkflowClass<void> = Parent) {
  const parent = await app.orchestrator.start(Workflow, undefined);
  await child.reached();
  await until('the parent is parked', async () => (await rowOf(parent.id)).status === 'waiting');
  const { rows } = await opened.sql.query<{ id: string }>("select id from orchestration.run where workflow = 'child'");
  return { parent, childId: rows[0]!.id };
}

/** The child ends, and the write of that is held up by a lock on the row of the run until the act, which came before it, is done. */
async function endChildAfter(runId: string, act: () => Promise<unknown>): Promise<void> {
  const rows = await HeldRows.hold(opened.database, runId);
  const done = act();
  await rows.untilWaiting(1);
  child.open();
  await rows.untilWaiting(2);
  await rows.release();
  await done;
}

/**
 * A parent of 30. It is told early of the end of its `last` child when it has just parked again, upon the first end; the ends of 28
 * others wait for a commit before that, and a commit of this worker takes 25.
 */
async function startBehind28() {
  const [others, last] = [new Barrier(), new Barrier()];
  const waitingAt = (name: string, gate: Barrier) => workflow(name, ({ ctx }) => ctx.step('work', () => gate.pass()));
  const [Other, Last] = [waitingAt('other', others), waitingAt('last', last)];
  const Many = workflow('many', async ({ children }) => {
    const all = [Child, Last, ...Array.from({ length: 28 }, () => Other)].map((Each) => children.call(Each, undefined));
    return (await Promise.allSettled(all)).map(({ status }) => status);
  });
  const providers = [Many, Child, Last, Other];
  const app = await startApp({ database: opened.database, providers, options: { worker: { concurrency: 50 } } });
  const { parent } = await startPair(app, Many);
  await Promise.all([others.reached(28), last.reached()]);
  const { store } = await engineOf(app);
  const commit = store.commit.bind(store);
  const sizes: number[] = [];
  store.commit = async (writes, placement) => {
    const result = await commit(writes, placement);
    // The parent learns now that it is parked, and of this end before the next commit departs.
    if (sizes.push(writes.length) === 1) last.open();
    return result;
  };
  const tellLast = async () => {
    const rows = await HeldRows.hold(opened.database, parent.id);
    child.open();
    await rows.untilWaiting(1);
    others.open();
    // They end by turns of the event loop alone; an answer of the database must not be quicker.
    for (let turns = 0; turns < 20; turns++) await setImmediate();
    await rows.release();
  };
  return { app, parent, sizes, tellLast };
}

/** The commits from now on, as the runs that each of them writes. */
async function observeCommits(app: TestApp): Promise<Parameters<Store['commit']>[0][]> {
  const { store } = await engineOf(app);
  const commit = store.commit.bind(store);
  const commits: Parameters<Store['commit']>[0][] = [];
  store.commit = (writes, placement) => {
    commits.push(writes);
    return commit(writes, placement);
  };
  return commits;
}

describe('the end of a child, told before it is committed,', () => {
  it('is committed with what its parent does upon it, and wakes nobody', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    next.open();
    const { parent, childId } = await startPair(app);
    const before = await rowOf(parent.id);
    const commits = await observeCommits(app);
    child.open();

    expect(await parent.result()).toBe('from the child, and on');
    expect(commits.map((writes) => writes.map(({ runId }) => runId))).toEqual([[childId, parent.id], [parent.id]]);
    expect(await rowOf(parent.id)).toMatchObject({ status: 'completed', epoch: before.epoch, wakes: before.wakes });
    expect(await outcomesOf(parent.id)).toEqual(['child completed', 'step completed']);
  });

  it('begins no body before it is committed', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    const { parent, childId } = await startPair(app);
    const rows = await HeldRows.hold(opened.database, childId);
    child.open();
    await rows.untilWaiting(1);

    expect(next.arrived).toBe(0);
    await rows.release();
    await next.reached();
    expect(await outcomesOf(parent.id)).toEqual(['child completed']);
    next.open();
    await parent.result();
  });

  it('lets its parent park again in the same commit', async () => {
    const second = new Barrier();
    const Second = workflow('second', ({ ctx }) => ctx.step('work', () => second.pass().then(() => 2)));
    const Two = workflow('two', ({ children }) =>
      Promise.all([children.call(Child, undefined), children.call(Second, undefined)]),
    );
    const app = await startApp({ database: opened.database, providers: [Two, Child, Second] });
    const { parent, childId } = await startPair(app, Two);
    await second.reached();
    const commits = await observeCommits(app);
    child.open();
    await until('the first is known', async () => (await outcomesOf(parent.id)).length === 1);

    expect(commits.map((writes) => writes.map(({ runId }) => runId))).toEqual([[childId, parent.id]]);
    expect(await rowOf(parent.id)).toMatchObject({ status: 'waiting', wakes: 0 });
    second.open();
    expect(await parent.result()).toEqual(['from the child', 2]);
  });

  it('goes up through four levels, each with its own outcome', async () => {
    const Third = workflow('third', async ({ children }) => [await children.call(Child, undefined)]);
    const Second = workflow('second', async ({ children }) => [await children.call(Third, undefined)]);
    const First = workflow('first', async ({ children }) => [await children.call(Second, undefined)]);
    const app = await startApp({ database: opened.database, providers: [First, Second, Third, Child] });
    const { parent } = await startPair(app, First);
    child.open();

    expect(await parent.result()).toEqual([[['from the child']]]);
    const { rows } = await opened.sql.query('select status, epoch from orchestration.run');
    expect(rows).toEqual(Array.from({ length: 4 }, () => ({ status: 'completed', epoch: 1 })));
  });

  it('of 60 children at once is received by their parent once each', async () => {
    const Many = workflow('many', ({ children }) =>
      Promise.all(Array.from({ length: 60 }, () => children.call(Child, undefined))),
    );
    const app = await startApp({ database: opened.database, providers: [Many, Child] });
    const parent = await app.orchestrator.start(Many, undefined);
    await child.reached(60);
    await until('the parent is parked', async () => (await rowOf(parent.id)).status === 'waiting');
    child.open();

    expect(await parent.result()).toEqual(Array.from({ length: 60 }, () => 'from the child'));
    expect(await outcomesOf(parent.id)).toEqual(Array.from({ length: 60 }, () => 'child completed'));
    expect((await rowOf(parent.id)).epoch).toBe(1);
  });

  it('is told behind more ends than a commit takes, and these leave its parent where it is', async () => {
    const { app, parent, sizes, tellLast } = await startBehind28();
    await tellLast();
    await parent.result({ timeout: '5s' });

    expect(sizes.slice(0, 2)).toEqual([2, 25]);
    expect((await rowOf(parent.id)).epoch).toBe(1);
    expect(await outcomesOf(parent.id)).toHaveLength(30);
    expect((await engineOf(app)).worker!.load).toEqual({ running: 0, parked: 0 });
  });

  it('leaves a worker with one slot to one body at a time', async () => {
    let bodies = 0;
    let most = 0;
    const counted = async () => {
      most = Math.max(most, ++bodies);
      await new Promise((resolve) => setTimeout(resolve, 5));
      bodies--;
    };
    const Leaf = workflow('leaf', ({ ctx }) => ctx.step('work', counted));
    const Tree = workflow('tree', async ({ ctx, children }) => {
      await children.call(Leaf, undefined);
      await ctx.step('between', counted);
      await children.call(Leaf, undefined);
      await ctx.step('after', counted);
    });
    const app = await startApp({
      database: opened.database,
      providers: [Tree, Leaf],
      options: { worker: { concurrency: 1 } },
    });
    const runs = await app.orchestrator.startMany(
      Tree,
      Array.from({ length: 5 }, () => ({ input: undefined })),
    );
    await Promise.all(runs.map((run) => run.result({ timeout: '10s' })));

    expect(most).toBe(1);
    expect((await engineOf(app)).worker!.load).toEqual({ running: 0, parked: 0 });
  });
});

describe('when something comes between the end of a child and its commit,', () => {
  it('a cancellation of the child, its parent gets that and not the value', async () => {
    const values: unknown[] = [];
    const Catching = workflow('catching', async ({ children }) => {
      try {
        values.push(await children.call(Child, undefined));
        return 'completed';
      } catch (error) {
        return error instanceof ChildCancelledError ? `cancelled: ${error.reason}` : String(error);
      }
    });
    const app = await startApp({ database: opened.database, providers: [Catching, Child] });
    const other = await startApp({ database: opened.database, options: { worker: false } });
    const { parent, childId } = await startPair(app, Catching);
    const rows = await HeldRows.hold(opened.database, childId);
    const cancelled = other.orchestrator.cancel(childId, { reason: 'changed my mind' });
    await rows.untilWaiting(1);
    child.open();
    await rows.untilWaiting(2);
    // It was told of the value; what it made of that is forgotten.
    expect(values).toEqual(['from the child']);
    await rows.release();
    await cancelled;

    expect(await parent.result({ timeout: '5s' })).toBe('cancelled: changed my mind');
    expect(await outcomesOf(parent.id)).toEqual(['child cancelled']);
    expect((await rowOf(childId)).status).toBe('cancelled');
    expect((await engineOf(app)).worker!.load).toEqual({ running: 0, parked: 0 });
  });

  it('more ends than a commit takes and a cancellation of the child, its parent gets those and that', async () => {
    const { app, parent, sizes, tellLast } = await startBehind28();
    const { rows } = await opened.sql.query<{ id: string }>("select id from orchestration.run where workflow = 'last'");
    const lastId = rows[0]!.id;
    const other = await startApp({ database: opened.database, options: { worker: false } });
    const held = await HeldRows.hold(opened.database, lastId);
    const cancelled = other.orchestrator.cancel(lastId);
    await held.untilWaiting(1);
    await tellLast();
    await held.untilWaiting(2);
    expect(sizes.slice(0, 2)).toEqual([2, 25]);
    await held.release();
    await cancelled;

    const results = await parent.result({ timeout: '5s' });
    expect(results).toEqual(['fulfilled', 'rejected', ...Array.from({ length: 28 }, () => 'fulfilled')]);
    expect((await outcomesOf(parent.id)).filter((outcome) => outcome === 'child cancelled')).toHaveLength(1);
    expect(await outcomesOf(parent.id)).toHaveLength(30);
    expect((await engineOf(app)).worker!.load).toEqual({ running: 0, parked: 0 });
  });

  it('a signal to the parent, it receives both, and nothing twice', async () => {
    const Both = workflow('both', ({ ctx, children }) =>
      Promise.all([children.call(Child, undefined), ctx.waitForSignal(Go)]),
    );
    const app = await startApp({ database: opened.database, providers: [Both, Child] });
    const other = await startApp({ database: opened.database, options: { worker: false } });
    const { parent } = await startPair(app, Both);
    await endChildAfter(parent.id, () => other.orchestrator.signal(parent.id, Go, 'from outside'));

    expect(await parent.result({ timeout: '5s' })).toEqual(['from the child', 'from outside']);
    expect((await outcomesOf(parent.id)).toSorted()).toEqual(['child completed', 'signal completed']);
    expect((await engineOf(app)).worker!.load).toEqual({ running: 0, parked: 0 });
  });

  it('a cancellation of the parent, it ends cancelled and runs nothing more', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    const other = await startApp({ database: opened.database, options: { worker: false } });
    const { parent } = await startPair(app);
    await endChildAfter(parent.id, () => other.orchestrator.cancel(parent.id));

    await expect(parent.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    expect(next.arrived).toBe(0);
  });

  it('a pause of the parent in another process, it goes on when it is resumed', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    const other = await startApp({ database: opened.database, options: { worker: false } });
    const { parent } = await startPair(app);
    await other.orchestrator.pause(parent.id);
    child.open();
    await until('the child has ended', async () => (await rowOf(parent.id)).status === 'pending');

    expect(next.arrived).toBe(0);
    expect(await outcomesOf(parent.id)).toEqual([]);
    await other.orchestrator.resume(parent.id);
    await next.reached();
    next.open();
    expect(await parent.result({ timeout: '5s' })).toBe('from the child, and on');
  });

  it('limits for the queue of the parent from another process, it is claimed under them', async () => {
    const Limited = workflow({ name: 'limited', queue: 'limited' }, ({ children }) => children.call(Child, undefined));
    const app = await startApp({ database: opened.database, providers: [Limited, Child] });
    const other = await startApp({ database: opened.database, options: { worker: false } });
    const { parent } = await startPair(app, Limited);
    await other.orchestrator.queues.pause('limited');
    child.open();
    await until('the child has ended', async () => (await rowOf(parent.id)).status === 'pending');

    expect(await outcomesOf(parent.id)).toEqual([]);
    await other.orchestrator.queues.resume('limited');
    expect(await parent.result({ timeout: '5s' })).toBe('from the child');
  });

  it('the end of the run by force, it stays ended', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    const other = await startApp({ database: opened.database, options: { worker: false } });
    const { parent, childId } = await startPair(app);
    await endChildAfter(parent.id, () => other.orchestrator.cancel(parent.id, { mode: 'terminate' }));

    await expect(parent.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    expect(next.arrived).toBe(0);
    await until('the child is over', async () => ['cancelled', 'completed'].includes((await rowOf(childId)).status));
    await until('nothing is left', async () => (await engineOf(app)).worker!.load.running === 0);
  });

  it('a refusal of the database for good, each of the two is written by itself', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    const { parent } = await startPair(app);
    const { store } = await engineOf(app);
    const commit = store.commit.bind(store);
    let refusals = 0;
    store.commit = (writes, placement) => {
      if (writes.length < 2 || refusals > 0) return commit(writes, placement);
      refusals++;
      return Promise.reject(new Error('not in this form'));
    };
    child.open();
    next.open();

    expect(await parent.result({ timeout: '5s' })).toBe('from the child, and on');
    expect(refusals).toBe(1);
    expect(await outcomesOf(parent.id)).toEqual(['child completed', 'step completed']);
    expect((await engineOf(app)).worker!.load).toEqual({ running: 0, parked: 0 });
  });
});
