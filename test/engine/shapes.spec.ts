import { hostname } from 'node:os';

import { type HistoryEntry, NonRetryableError, type RunDetails, type RunTree } from '../../lib/index.js';
import { startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { type EngineDatabase, useEngineDatabase } from '../support/engine-database.js';
import { until } from '../support/until.js';
import { untilStatus } from '../support/until-status.js';
import { workflow } from '../support/workflow.js';

/*
 * What the contract promises of the objects that are read: every field of each, and none beside. So they are compared whole, by
 * toStrictEqual, to which a field that is undefined is not the same as none.
 */

const HOUR_MS = 3_600_000;
const DATE = expect.any(Date) as Date;

let opened: EngineDatabase;
useEngineDatabase((made) => (opened = made));

type Setup = Omit<Parameters<typeof startApp>[0], 'database'>;
const start = (setup: Setup) => startApp({ database: opened.database, ...setup });

class CardDeclined extends NonRetryableError {
  override readonly code = 'CARD_DECLINED';

  constructor(readonly amount: number) {
    super(`${amount} were declined`, { cause: new RangeError('above the limit') });
  }
}

const Echo = workflow<string, string>('echo', (_tools, text) => text);
const Asleep = workflow('asleep', ({ ctx }) => ctx.sleep('2h'));
const Declined = workflow('declined', ({ ctx }) =>
  ctx.step('pay', () => {
    throw new CardDeclined(12);
  }),
);

/** A run has `output` and `error` only where its status has them; details are a union by that. */
const payloadsOf = (details: RunDetails) => ['output', 'error'].filter((field) => field in details);

describe('A run', () => {
  it('that waits has every fact of it, alike in get, findByKey and list, which has no input', async () => {
    const Waiting = workflow<object>({ name: 'waiting', version: 3, queue: 'slow' }, async ({ ctx, children }) => {
      void ctx.setState({ done: 0.5 });
      void ctx.setAttributes({ size: 2 });
      await ctx.all({
        child: () => children.call(Asleep, undefined, { ref: 'nap', timeout: '3h' }),
        timer: () => ctx.sleep('1h'),
      });
    });
    const { orchestrator } = await start({ providers: [Waiting, Asleep] });
    const options = { key: 'k', priority: 4, tenant: 'acme', label: 'A run that waits' };
    const run = await orchestrator.start(Waiting, { n: 1 }, { ...options, attributes: { city: 'Oslo' } });
    await until('both wait', async () => {
      const { children, status } = await orchestrator.tree(run.id);
      return status === 'waiting' && children[0]?.status === 'waiting';
    });

    const details = await orchestrator.get(run.id);
    const [child] = (await run.children()).items;
    const [worker] = await orchestrator.workers.list();

    const { input, heartbeats, ...summary } = details;
    const { createdAt, startedAt, wakeAt, waitingFor } = details;
    expect(summary).toStrictEqual({
      ...options,
      ...{ id: run.id, workflow: 'waiting', version: 3, status: 'waiting', paused: false, queue: 'slow' },
      ...{ attributes: { city: 'Oslo', size: 2 }, state: { done: 0.5 } },
      ...{ parentId: undefined, ref: undefined, forkedFrom: undefined, rootId: run.id, depth: 1 },
      ...{ createdAt: DATE, startedAt: DATE, finishedAt: undefined, wakeAt: DATE, waitingFor: expect.any(Array) as [] },
      ...{ compensation: 'none', recoveries: 0, workerId: worker!.id },
    });
    expect([input, heartbeats]).toStrictEqual([{ n: 1 }, []]);
    expect(waitingFor).toStrictEqual([
      { kind: 'child', name: 'nap', until: DATE },
      { kind: 'timer', name: 'sleep', until: wakeAt },
    ]);
    expect(startedAt!.getTime()).toBeGreaterThanOrEqual(createdAt.getTime());
    expect(waitingFor[0]!.until!.getTime() - wakeAt!.getTime()).toBe(2 * HOUR_MS);
    expect(await orchestrator.findByKey(Waiting, 'k')).toStrictEqual(details);
    expect((await orchestrator.list({ tenant: 'acme', rootOnly: true })).items).toStrictEqual([summary]);
    expect(child).toMatchObject({
      ...{ parentId: run.id, ref: 'nap', rootId: run.id, depth: 2, key: undefined, tenant: 'acme', priority: 4 },
      ...{ workflow: 'asleep', version: 1, queue: 'default', waitingFor: [{ kind: 'timer' }] },
    });
  });

  it('has an output only when it has completed, and an error only when it has failed or was cancelled', async () => {
    const held = new Barrier();
    const Held = workflow('held', ({ ctx }) => ctx.step('held', () => held.pass()));
    const app = await start({ providers: [Held, Asleep, Echo, Declined] });
    const { orchestrator } = app;
    const runs = {
      pending: await orchestrator.start(Asleep, undefined, { delay: '1h' }),
      running: await orchestrator.start(Held, undefined),
      waiting: await orchestrator.start(Asleep, undefined),
      completed: await orchestrator.start(Echo, 'hello'),
      failed: await orchestrator.start(Declined, undefined),
      cancelled: await orchestrator.start(Asleep, undefined, { delay: '1h' }),
    };
    await runs.cancelled.cancel({ reason: 'enough' });
    await held.reached();
    for (const [status, { id }] of Object.entries(runs)) await untilStatus(app, id, status);

    const details = await Promise.all(Object.values(runs).map(({ id }) => orchestrator.get(id)));

    expect(details.map(({ status, finishedAt, ...run }) => [status, finishedAt, payloadsOf(run as never)])).toEqual([
      ['pending', undefined, []],
      ['running', undefined, []],
      ['waiting', undefined, []],
      ['completed', DATE, ['output']],
      ['failed', DATE, ['error']],
      ['cancelled', DATE, ['error']],
    ]);
    expect(details[3]).toMatchObject({ output: 'hello', waitingFor: [], wakeAt: undefined, workerId: undefined });
    expect(details[5]).toMatchObject({ error: { name: 'CancelledError', reason: 'enough' }, startedAt: undefined });
    for (const { items } of [await orchestrator.list(), await orchestrator.list({ status: ['completed', 'failed'] })])
      expect(items.flatMap((item) => payloadsOf(item as RunDetails))).toEqual([]);
  });

  it('that is blocked has the error of that, until a worker that comes later takes it up', async () => {
    let step = 'first';
    const held = new Barrier();
    const changing = workflow('changing', async ({ ctx }) => {
      await ctx.step(step, () => step);
      await ctx.step('held', () => held.pass());
    });
    const first = await start({ providers: [changing] });
    const run = await first.orchestrator.start(changing, undefined);
    await held.reached();
    await first.crash();
    step = 'another';
    const second = await start({ providers: [changing] });
    await untilStatus(second, run.id, 'blocked');
    const blocked = await second.orchestrator.get(run.id);
    await second.close();

    step = 'first';
    const third = await start({ providers: [changing] });
    await held.reached(2);
    const goingOn = await third.orchestrator.get(run.id);

    expect([payloadsOf(blocked), blocked.finishedAt]).toEqual([['error'], undefined]);
    expect(blocked).toMatchObject({ error: { name: 'NonDeterminismError', code: 'NON_DETERMINISM' } });
    expect([goingOn.status, payloadsOf(goingOn)]).toEqual(['running', []]);
    held.open();
    await third.orchestrator.result(run.id);
  });

  it('that was taken over from a lost worker says how often, and whose it is now', async () => {
    const held = new Barrier();
    const Held = workflow('held', ({ ctx }) => ctx.step('held', () => held.pass()));
    const runner = async ({ orchestrator }: TestApp, id: string) => {
      const { recoveries, workerId } = await orchestrator.get(id);
      const workers = await orchestrator.workers.list();
      return [recoveries, workers.find((worker) => worker.id === workerId)?.alive];
    };
    const first = await start({ providers: [Held] });
    const { id } = await first.orchestrator.start(Held, undefined);
    await held.reached();
    const before = await runner(first, id);
    await first.crash();
    const second = await start({ providers: [Held] });
    await held.reached(2);

    expect([before, await runner(second, id)]).toEqual([
      [0, true],
      [1, true],
    ]);
    held.open();
    await second.orchestrator.result(id);
  });

  it('that failed has the whole error, as has the entry of its history', async () => {
    const { orchestrator } = await start({ providers: [Declined] });
    const run = await orchestrator.start(Declined, undefined);
    await run.result().catch(() => {});

    const details = await orchestrator.get(run.id);
    const [entry] = await orchestrator.history(run.id);

    const cause = {
      ...{ name: 'CardDeclined', code: 'CARD_DECLINED', message: '12 were declined', amount: 12 },
      stack: expect.stringContaining('shapes.spec') as string,
      cause: {
        name: 'RangeError',
        message: 'above the limit',
        stack: expect.stringContaining('shapes.spec') as string,
      },
    };
    expect(details).toMatchObject({
      error: {
        ...{ name: 'StepFailedError', code: 'STEP_FAILED', step: 'pay', attempts: 1, cause },
        ...{ message: expect.stringContaining('12 were declined') as string, stack: expect.any(String) as string },
      },
    });
    expect(entry!.error).toMatchObject(cause);
  });
});

describe('A history', () => {
  it('has each outcome with every fact of it, in the order of seq', async () => {
    const Everything = workflow('everything', async ({ ctx, children }) => {
      const pay = ({ attempt }: { attempt: number }) => (attempt === 1 ? Promise.reject(new Error('busy')) : 'paid');
      await ctx.step('pay', pay, { retry: { initialInterval: 1 } });
      await ctx.step('pay', () => Promise.reject(new CardDeclined(7))).catch(() => {});
      await ctx.sleep(1);
      await ctx.waitForSignal('go');
      await ctx.waitForSignal('go', { timeout: 0, timeoutValue: null });
      await ctx.waitForInput('fine', { type: 'approval' });
      await children.call(Echo, 'hello', { ref: 'greeting' });
      await children.callSettled(Declined, undefined, { ref: 'payment' });
      await children.callSettled(Asleep, undefined, { ref: 'nap' });
      await children.callSettled(Asleep, undefined, { ref: 'short nap', timeout: 0 });
    });
    const { orchestrator } = await start({ providers: [Everything, Echo, Declined, Asleep] });
    const run = await orchestrator.start(Everything, undefined);
    await run.signal('go', 'now');
    await until('it asks', async () => (await orchestrator.inputs.list()).items.length === 1);
    await orchestrator.inputs.provide(run.id, 'fine', true);
    const nap = async () => (await run.children({ status: 'waiting' })).items.find(({ ref }) => ref === 'nap');
    await until('it naps', async () => (await nap()) !== undefined);
    await orchestrator.cancel((await nap())!.id, { reason: 'wake up' });
    await run.result();

    const history = await orchestrator.history(run.id);
    const { createdAt, finishedAt } = await orchestrator.get(run.id);
    const ids = new Map((await run.children()).items.map(({ ref, id }) => [ref!, id]));

    const entry = (kind: HistoryEntry['kind'], name: string, facts: Partial<HistoryEntry> = {}): HistoryEntry => ({
      ...{ seq: expect.any(Number) as number, kind, name, key: name, status: 'completed' },
      ...{ output: undefined, error: undefined, attempts: 1, startedAt: DATE, finishedAt: DATE },
      ...{ childId: ids.get(name), logs: [], ...facts },
    });
    expect(history).toStrictEqual([
      entry('step', 'pay', { output: 'paid', attempts: 2 }),
      entry('step', 'pay', { key: 'pay#2', status: 'failed', error: expect.objectContaining({ amount: 7 }) as never }),
      entry('timer', 'sleep'),
      entry('signal', 'go', { output: 'now' }),
      entry('signal', 'go', { key: 'go#2', status: 'timeout' }),
      entry('input', 'fine', { output: true }),
      entry('child', 'greeting', { output: 'hello' }),
      entry('child', 'payment', {
        status: 'failed',
        error: expect.objectContaining({ name: 'StepFailedError', step: 'pay' }) as never,
      }),
      entry('child', 'nap', { status: 'cancelled', error: expect.objectContaining({ reason: 'wake up' }) as never }),
      entry('child', 'short nap', { status: 'timeout' }),
    ]);
    const seqs = history.map(({ seq }) => seq);
    expect(seqs).toEqual([...new Set(seqs)].toSorted((one, other) => one - other));
    const times = history.map((one) => [createdAt, one.startedAt, one.finishedAt, finishedAt!].map(Number));
    expect(times.every((four) => four.every((time, index) => index === 0 || four[index - 1]! <= time))).toBe(true);
  });
});

describe('A tree', () => {
  it('goes downwards from the run that it is asked for; the whole family is that of its rootId', async () => {
    const Middle = workflow('middle', ({ children }) =>
      children.call(Asleep, undefined, { ref: 'leaf', label: 'Low' }),
    );
    const Root = workflow('root', async ({ children }) => {
      await children.call(Echo, 'first', { ref: 'early' });
      await children.call(Middle, undefined, { ref: 'middle' });
    });
    const { orchestrator } = await start({ providers: [Root, Middle, Asleep, Echo] });
    const run = await orchestrator.start(Root, undefined);
    await until('all wait', async () => (await orchestrator.list({ status: 'waiting' })).items.length === 3);

    const tree = await orchestrator.tree(run.id);
    const [early, middle] = tree.children;
    const [leaf] = middle!.children;

    const active = { status: 'waiting', createdAt: DATE, startedAt: DATE, finishedAt: undefined } as const;
    const node = (workflowName: string, facts: Partial<RunTree>): RunTree => ({
      ...{ id: expect.any(String) as string, workflow: workflowName, ref: undefined, label: undefined },
      ...{ ...active, children: [], ...facts },
    });
    expect(tree).toStrictEqual(
      node('root', {
        id: run.id,
        children: [
          node('echo', { ref: 'early', status: 'completed', finishedAt: DATE }),
          node('middle', { ref: 'middle', children: [node('asleep', { ref: 'leaf', label: 'Low' })] }),
        ],
      }),
    );
    expect(new Set([run.id, early!.id, middle!.id, leaf!.id]).size).toBe(4);
    expect(await orchestrator.tree(middle!.id)).toStrictEqual(middle);
    const { rootId } = await orchestrator.get(leaf!.id);
    expect(await orchestrator.tree(rootId)).toStrictEqual(tree);
    await run.cancel({ mode: 'terminate' });
  });
});

describe('A list', () => {
  it('tells roots from children, and goes through the children of a run page by page', async () => {
    const Family = workflow('family', ({ children }) => children.map(Echo, ['a', 'b', 'c', 'd', 'e']));
    const { orchestrator } = await start({ providers: [Family, Echo] });
    const run = await orchestrator.start(Family, undefined);
    await run.result();
    const ids = ({ items }: { items: { id: string }[] }) => items.map(({ id }) => id);

    const all = ids(await orchestrator.list());
    const roots = ids(await orchestrator.list({ rootOnly: true }));
    const first = await orchestrator.listChildren(run.id, { limit: 2 });
    const second = await orchestrator.listChildren(run.id, { limit: 2, cursor: first.nextCursor });
    const last = await run.children({ limit: 2, cursor: second.nextCursor });

    expect(roots).toEqual([run.id]);
    expect(ids(await orchestrator.list({ rootOnly: false }))).toEqual(all);
    expect([first, second, last].flatMap(ids)).toEqual(all.filter((id) => id !== run.id));
    expect([first, second, last].map(({ items }) => items.length)).toEqual([2, 2, 1]);
    expect(last.nextCursor).toBeUndefined();
    expect(ids(await orchestrator.list({ parentId: run.id }))).toHaveLength(5);
  });
});

describe('What is asked', () => {
  it('says until when, which is what its run waits for', async () => {
    const Asking = workflow('asking', ({ ctx }) =>
      ctx.waitForInput('size', { type: 'choice', prompt: 'Which?', choices: ['s', 'm'], timeout: '1h' }),
    );
    const app = await start({ providers: [Asking] });
    const run = await app.orchestrator.start(Asking, undefined);
    await untilStatus(app, run.id, 'waiting');

    const { items, nextCursor } = await app.orchestrator.inputs.list();
    const { startedAt, waitingFor } = await app.orchestrator.get(run.id);

    const expiresAt = waitingFor[0]!.until!;
    expect(nextCursor).toBeUndefined();
    expect(items).toStrictEqual([
      {
        ...{ runId: run.id, workflow: 'asking', name: 'size', type: 'choice', prompt: 'Which?' },
        ...{ choices: ['s', 'm'], expiresAt },
      },
    ]);
    expect(Math.abs(expiresAt.getTime() - startedAt!.getTime() - HOUR_MS)).toBeLessThan(10_000);
    await run.cancel();
  });
});

describe('A queue, a worker and the statistics', () => {
  it('say what runs and what waits, since when, where and by whose hand', async () => {
    const held = new Barrier();
    const Job = workflow({ name: 'job', version: 2, queue: 'jobs' }, ({ ctx }) => ctx.step('held', () => held.pass()));
    const { orchestrator } = await start({
      providers: [Job, Asleep],
      options: { queues: { jobs: { concurrency: 1 } }, worker: { queues: ['jobs', 'default'], lease: '1s' } },
    });
    const running = await orchestrator.start(Job, undefined);
    await held.reached();
    const second = await orchestrator.start(Job, undefined);
    await orchestrator.start(Job, undefined);
    const cancelled = await orchestrator.start(Asleep, undefined, { delay: '1h' });
    await cancelled.cancel();
    const { createdAt, queue } = await orchestrator.get(second.id);

    const [jobs, ...others] = await orchestrator.queues.list();
    const stats = await orchestrator.stats();
    const [worker] = await orchestrator.workers.list();

    expect(others).toEqual([]);
    expect(jobs).toStrictEqual({
      ...{ name: queue, paused: false, limits: { concurrency: 1 }, pending: 2, running: 1, oldestDueAt: DATE },
    });
    expect(Math.abs(jobs!.oldestDueAt!.getTime() - createdAt.getTime())).toBeLessThanOrEqual(1);
    expect(stats.runs).toMatchObject({ pending: 2, running: 1, waiting: 0, completed: 0, cancelled: 1 });
    expect(stats.queues).toMatchObject([{ queue: 'jobs', pending: 2, running: 1, oldestDueAt: jobs!.oldestDueAt }]);
    expect(worker).toStrictEqual({
      ...{ id: (await orchestrator.get(running.id)).workerId, host: hostname(), pid: process.pid, alive: true },
      ...{ startedAt: DATE, heartbeatAt: DATE, queues: ['jobs', 'default'], workflows: ['job@2', 'asleep@1'] },
      running: 1,
    });
    await until('its heart has beaten', async () => {
      const [later] = await orchestrator.workers.list();
      return later!.heartbeatAt > worker!.heartbeatAt;
    });
    held.open();
    await running.result();
  });
});
