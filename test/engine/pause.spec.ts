import type pg from 'pg';

import { RunFinishedError, type RunStatus } from '../../lib/index.js';
import type { EngineHost } from '../../lib/nest/engine-host.js';
import { startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import type { TestDatabase } from '../support/database.js';
import { useEngineDatabase } from '../support/engine-database.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

let database: TestDatabase;
let sql: pg.Client;

useEngineDatabase((opened) => ({ database, sql } = opened));

async function untilStatus(runId: string, status: RunStatus): Promise<void> {
  await until(`the run is ${status}`, async () => {
    const { rows } = await sql.query<{ status: RunStatus }>('select status from orchestration.run where id = $1', [
      runId,
    ]);
    return rows[0]?.status === status;
  });
}

/** Whether the worker of that app has heard of the pause. */
async function isPausing({ context }: TestApp, runId: string): Promise<boolean> {
  const { worker } = await context.get<EngineHost>('EngineHost:', { strict: false }).engine();
  return worker!['runs'].findExecuting(runId)?.['isPausing'] ?? false;
}

/** A worker claims what it is told of at once: after some claims it would have taken the run. */
async function claimsGoBy({ orchestrator }: TestApp): Promise<void> {
  for (let round = 0; round < 5; round++) await orchestrator.execute(Probe, undefined);
}

const Probe = workflow('probe', ({ ctx }) => ctx.sleep('20ms'));
const CANCELLED = { code: 'RUN_CANCELLED' };

/** Three steps, the second of which is held. */
function threeSteps() {
  const held = new Barrier();
  const done: string[] = [];
  const Work = workflow('work', async ({ ctx }) => {
    await ctx.step('first', () => done.push('first'));
    await ctx.step('second', async () => {
      await held.pass();
      done.push('second');
    });
    await ctx.step('third', () => done.push('third'));
    return 'done';
  });
  return { held, done, Work };
}

describe('a run that is paused while a step runs', () => {
  it.each([
    ['in the same process', undefined],
    ['from another process', false as const],
  ])('ends the step and keeps its outcome, then waits: %s', async (_where, worker) => {
    const { held, done, Work } = threeSteps();
    const executing = await startApp({ database, providers: [Work, Probe] });
    const { orchestrator } =
      worker === false ? await startApp({ database, providers: [Work, Probe], options: { worker } }) : executing;
    const run = await orchestrator.start(Work, undefined);
    await held.reached();

    await orchestrator.pause(run.id);
    await orchestrator.pause(run.id);
    await until('its worker has heard of it', () => isPausing(executing, run.id));
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ status: 'running', paused: true });
    held.open();

    await untilStatus(run.id, 'pending');
    await claimsGoBy(executing);
    expect(done).toEqual(['first', 'second']);
    const history = await orchestrator.history(run.id);
    expect(history.map(({ name, status }) => [name, status])).toEqual([
      ['first', 'completed'],
      ['second', 'completed'],
    ]);
    const { items } = await orchestrator.list({ workflow: 'work' });
    expect(items).toEqual([expect.objectContaining({ status: 'pending', paused: true, workerId: undefined })]);

    await orchestrator.resume(run.id);

    await expect(orchestrator.result(run.id, { timeout: '5s' })).resolves.toBe('done');
    expect(done).toEqual(['first', 'second', 'third']);
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ paused: false });
  });

  it('lets a running step make the steps that it needs, and begins no other', async () => {
    const held = new Barrier();
    const done: string[] = [];
    const Work = workflow('work', ({ ctx }) =>
      Promise.all([
        ctx.step('outer', async () => {
          await held.pass();
          await ctx.step('inner', () => done.push('inner'));
        }),
        (async () => {
          await ctx.step('quick', () => held.pass());
          await ctx.step('after', () => done.push('after'));
        })(),
      ]),
    );
    const app = await startApp({ database, providers: [Work, Probe] });
    const run = await app.orchestrator.start(Work, undefined);
    await held.reached(2);
    await app.orchestrator.pause(run.id);
    await until('its worker has heard of it', () => isPausing(app, run.id));
    held.open();

    await untilStatus(run.id, 'pending');
    expect(done).toEqual(['inner']);
    const names = (await app.orchestrator.history(run.id)).map(({ name }) => name);
    expect(names.toSorted()).toEqual(['inner', 'outer', 'quick']);

    await app.orchestrator.resume(run.id);
    await app.orchestrator.result(run.id, { timeout: '5s' });
    expect(done).toEqual(['inner', 'after']);
  });

  it('goes on when it is resumed before the step has ended', async () => {
    const { held, done, Work } = threeSteps();
    const app = await startApp({ database, providers: [Work] });
    const run = await app.orchestrator.start(Work, undefined);
    await held.reached();
    await app.orchestrator.pause(run.id);
    await until('its worker has heard of it', () => isPausing(app, run.id));
    await app.orchestrator.resume(run.id);
    held.open();

    await expect(run.result({ timeout: '5s' })).resolves.toBe('done');
    expect(done).toEqual(['first', 'second', 'third']);
  });

  it('is paused, too, for the worker that takes over after a crash', async () => {
    const { held, done, Work } = threeSteps();
    const first = await startApp({ database, providers: [Work] });
    const run = await first.orchestrator.start(Work, undefined);
    await held.reached();
    await first.orchestrator.pause(run.id);
    await first.crash();
    held.open();
    const second = await startApp({ database, providers: [Work, Probe] });
    await untilStatus(run.id, 'pending');
    await claimsGoBy(second);
    expect(held.arrived).toBe(1);

    await second.orchestrator.resume(run.id);

    await expect(second.orchestrator.result(run.id, { timeout: '5s' })).resolves.toBe('done');
    // The body in the process that died has come to its end as well; nobody has heard of it.
    expect(done).toEqual(['first', 'second', 'second', 'third']);
  });
});

describe('a parked run that is paused', () => {
  it('keeps what wakes it, a timer as well as the end of a child in the same process, until it is resumed', async () => {
    const child = new Barrier();
    const done: string[] = [];
    const Child = workflow('child', ({ ctx }) => ctx.step('held', () => child.pass().then(() => 'child')));
    const Waiting = workflow<string>('waiting', async ({ ctx, children }, what) => {
      if (what === 'child') await children.call(Child, undefined);
      else await ctx.sleep('600ms');
      done.push(what);
    });
    const app = await startApp({ database, providers: [Waiting, Child, Probe] });
    const runs = [await app.orchestrator.start(Waiting, 'child'), await app.orchestrator.start(Waiting, 'timer')];
    for (const { id } of runs) await untilStatus(id, 'waiting');
    for (const { id } of runs) await app.orchestrator.pause(id);
    await child.reached();
    child.open();

    for (const { id } of runs) await untilStatus(id, 'pending');
    await claimsGoBy(app);
    expect(done).toEqual([]);

    for (const { id } of runs) await app.orchestrator.resume(id);
    for (const run of runs) await run.result({ timeout: '5s' });
    expect(done.toSorted()).toEqual(['child', 'timer']);
  });

  it('stays parked when it is resumed before anything has happened', async () => {
    const Waiting = workflow('waiting', ({ ctx }) => ctx.sleep('1h'));
    const { orchestrator } = await startApp({ database, providers: [Waiting] });
    const run = await orchestrator.start(Waiting, undefined);
    await untilStatus(run.id, 'waiting');
    await orchestrator.pause(run.id);
    await orchestrator.resume(run.id);
    await orchestrator.resume(run.id);
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ status: 'waiting', paused: false });
  });

  it('unwinds when it is cancelled: that ends the pause', async () => {
    const done: string[] = [];
    const Waiting = workflow('waiting', async ({ ctx }) => {
      try {
        await ctx.sleep('1h');
      } finally {
        await ctx.shield(() => ctx.step('clean up', () => done.push('clean up')));
      }
    });
    const { orchestrator } = await startApp({ database, providers: [Waiting] });
    const run = await orchestrator.start(Waiting, undefined);
    await untilStatus(run.id, 'waiting');
    await orchestrator.pause(run.id);

    await run.cancel();

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject(CANCELLED);
    expect(done).toEqual(['clean up']);
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ paused: false });
  });
});

describe('a pausing run that is cancelled', () => {
  it('does not wait for its step, which gets its AbortSignal, and unwinds with all that it had recorded', async () => {
    const [held, quick] = [new Barrier(), new Barrier()];
    const done: string[] = [];
    const Work = workflow('work', async ({ ctx }) => {
      const recorded = ctx.step('recorded', () => quick.pass());
      try {
        await Promise.all([recorded, ctx.step('heedless', () => held.pass())]);
      } finally {
        await ctx.shield(async () => {
          await recorded;
          await ctx.step('clean up', () => done.push('clean up'));
        });
      }
    });
    const app = await startApp({ database, providers: [Work] });
    const run = await app.orchestrator.start(Work, undefined);
    await Promise.all([held.reached(), quick.reached()]);
    await app.orchestrator.pause(run.id);
    await until('its worker has heard of it', () => isPausing(app, run.id));
    quick.open();
    await until('its outcome is recorded', async () => (await app.orchestrator.history(run.id)).length === 1);

    await run.cancel();

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject(CANCELLED);
    expect(done).toEqual(['clean up']);
    held.open();
  });
});

describe('a race', () => {
  it.each(['pause', 'park'])('of pause and park that the %s wins: the run is parked, and paused', async (winner) => {
    const held = new Barrier();
    const done: string[] = [];
    const Work = workflow('work', async ({ ctx }) => {
      await ctx.step('held', () => held.pass());
      await ctx.sleep('300ms');
      done.push('woken');
    });
    const app = await startApp({ database, providers: [Work, Probe] });
    const { orchestrator } = app;
    const run = await orchestrator.start(Work, undefined);
    await held.reached();
    const row = await HeldRows.hold(database, run.id);
    const acts = { pause: () => orchestrator.pause(run.id), park: () => Promise.resolve(held.open()) };
    const first = acts[winner as keyof typeof acts]();
    await row.untilWaiting(1);
    const second = acts[winner === 'pause' ? 'park' : 'pause']();
    await row.untilWaiting(2);
    await row.release();
    await Promise.all([first, second]);

    await untilStatus(run.id, 'pending');
    await claimsGoBy(app);
    expect(done).toEqual([]);
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ paused: true });
    await orchestrator.resume(run.id);
    await run.result({ timeout: '5s' });
    expect(done).toEqual(['woken']);
  });

  describe('of pause and the wake by a child', () => {
    const race = async (winner: 'pause' | 'wake') => {
      const held = new Barrier();
      const done: string[] = [];
      const Child = workflow('child', ({ ctx }) => ctx.step('held', () => held.pass()));
      const Work = workflow('work', async ({ ctx, children }) => {
        await children.call(Child, undefined);
        await ctx.step('after', () => done.push('after'));
      });
      const app = await startApp({ database, providers: [Work, Child, Probe] });
      const run = await app.orchestrator.start(Work, undefined);
      await held.reached();
      await untilStatus(run.id, 'waiting');
      const row = await HeldRows.hold(database, run.id);
      const pause = () =>
        app.orchestrator.pause(run.id).catch((error: unknown) => {
          // The one that wakes first may have come to its end before.
          if (winner === 'pause' || !(error instanceof RunFinishedError)) throw error;
        });
      const acts = { pause, wake: () => Promise.resolve(held.open()) };
      const first = acts[winner]();
      await row.untilWaiting(1);
      const second = acts[winner === 'pause' ? 'wake' : 'pause']();
      await row.untilWaiting(2);
      await row.release();
      await Promise.all([first, second]);
      return { app, run, done };
    };

    it('that the pause wins: the wake is kept', async () => {
      const { app, run, done } = await race('pause');
      await untilStatus(run.id, 'pending');
      await claimsGoBy(app);
      expect(done).toEqual([]);
      await app.orchestrator.resume(run.id);
      await run.result({ timeout: '5s' });
      expect(done).toEqual(['after']);
    });

    it('that the wake wins: the run gives its slot up again, or has ended before', async () => {
      const { app, run, done } = await race('wake');
      await until('it is not running', async () => (await run.status()) !== 'running');
      await app.orchestrator.resume(run.id).catch(() => {});
      await run.result({ timeout: '5s' });
      expect(done).toEqual(['after']);
    });
  });

  it('of pause and the end of the run that the end wins: the run has ended, and the pause is refused', async () => {
    const held = new Barrier();
    const Work = workflow('work', ({ ctx }) => ctx.step('last', () => held.pass().then(() => 'done')));
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await held.reached();
    const row = await HeldRows.hold(database, run.id);
    held.open();
    await row.untilWaiting(1);
    const pausing = orchestrator.pause(run.id).catch((error: unknown) => error);
    await row.untilWaiting(2);
    await row.release();

    await expect(pausing).resolves.toMatchObject({ code: 'RUN_FINISHED', runStatus: 'completed' });
    await expect(run.result()).resolves.toBe('done');
  });

  it('of pause and the end of the run that the pause wins while the end is under way: the run ends', async () => {
    const held = new Barrier();
    const Work = workflow('work', ({ ctx }) => ctx.step('last', () => held.pass().then(() => 'done')));
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await held.reached();
    const row = await HeldRows.hold(database, run.id);
    const pausing = orchestrator.pause(run.id);
    await row.untilWaiting(1);
    held.open();
    await row.untilWaiting(2);
    await row.release();
    await pausing;

    await expect(run.result({ timeout: '5s' })).resolves.toBe('done');
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ status: 'completed', paused: false });
  });
});

it('is refused for a run that has ended, or that nobody knows', async () => {
  const Quick = workflow('quick', () => 'done');
  const { orchestrator } = await startApp({ database, providers: [Quick] });
  const run = await orchestrator.start(Quick, undefined);
  await run.result();
  const finished = { code: 'RUN_FINISHED', runStatus: 'completed' };
  const unknown = '0190a000-0000-7000-8000-000000000000';

  await expect(orchestrator.pause(run.id)).rejects.toMatchObject(finished);
  await expect(orchestrator.resume(run.id)).rejects.toMatchObject(finished);
  await expect(orchestrator.pause(unknown)).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
  await expect(orchestrator.resume('no id')).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
});

it('pauses a run that has not begun, and lets it begin when it is resumed', async () => {
  const done: string[] = [];
  const Work = workflow('work', () => done.push('begun'));
  const app = await startApp({ database, providers: [Work, Probe] });
  const run = await app.orchestrator.start(Work, undefined, { delay: '300ms' });
  await app.orchestrator.pause(run.id);
  await until('it is due', async () => {
    const { rows } = await sql.query('select from orchestration.run where id = $1 and ready_at is not null', [run.id]);
    return rows.length === 1;
  });
  await claimsGoBy(app);
  expect(done).toEqual([]);

  await app.orchestrator.resume(run.id);
  await run.result({ timeout: '5s' });
  expect(done).toEqual(['begun']);
});
