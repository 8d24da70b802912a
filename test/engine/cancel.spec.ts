import { once } from 'node:events';
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';

import pg from 'pg';

import { CancelledError, NonRetryableError, type RunStatus, type WorkflowOptions } from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { workflow, type WorkflowTools } from '../support/workflow.js';

let database: TestDatabase;
let sql: pg.Client;

beforeAll(async () => {
  database = await createTestDatabase();
  sql = new pg.Client({ connectionString: database.url });
  await sql.connect();
});
afterEach(async () => {
  await HeldRows.releaseAll();
  await closeApps();
  // No run of a test that failed may turn up in the next one, whose workflows have the same names.
  await sql.query('truncate orchestration.run, orchestration.history, orchestration.worker, orchestration.watch');
});
afterAll(async () => {
  await sql.end();
  await database.drop();
});

interface Row {
  id: string;
  ref: string | null;
  status: RunStatus;
  requested_at: string | null;
}

async function family(rootId: string): Promise<Map<string, Row>> {
  const { rows } = await sql.query<Row>(
    `select id, coalesce(ref, 'root') as ref, status, cancel_requested_at::text as requested_at
     from orchestration.run where root_id = $1`,
    [rootId],
  );
  return new Map(rows.map((row) => [row.ref!, row]));
}

async function statuses(rootId: string): Promise<Record<string, RunStatus>> {
  return Object.fromEntries([...(await family(rootId))].map(([ref, { status }]) => [ref, status]));
}

async function untilStatus(rootId: string, ref: string, status: RunStatus): Promise<string> {
  await until(`'${ref}' is ${status}`, async () => (await family(rootId)).get(ref)?.status === status);
  return (await family(rootId)).get(ref)!.id;
}

async function recordedSteps(app: TestApp, runId: string): Promise<string[]> {
  return (await app.orchestrator.history(runId)).filter(({ kind }) => kind === 'step').map(({ name }) => name);
}

/** A worker looks at its runs on every beat: after some, it knows what there was before. */
const BEAT_OFTEN = { worker: { pollInterval: 50 } };
const heardOfCancellation = () => delay(500);

const asleep = (name: string, options: WorkflowOptions = {}) =>
  workflow({ ...options, name }, ({ ctx }) => ctx.sleep('1h'));

describe('what a cancellation reaches', () => {
  it('is every depth in one transaction, but nothing that has finished or is detached (scenario 45)', async () => {
    const held = new Barrier();
    const Leaf = asleep('leaf');
    const Quick = workflow('quick', () => 'done');
    const Free = workflow('free', async ({ ctx }) => {
      await ctx.step('held', () => held.pass());
      return 'went on';
    });
    const Middle = workflow('middle', ({ children }) => children.call(Leaf, undefined, { ref: 'leaf' }));
    const Root = workflow('root', async ({ children }) => {
      await children.call(Quick, undefined, { ref: 'finished' });
      await children.start(Free, undefined, { ref: 'detached', detached: true });
      await children.start(Leaf, undefined, { ref: 'not awaited' });
      await children.start('quick', undefined, { ref: 'not begun', queue: 'nobody serves it' });
      await children.call(Middle, undefined, { ref: 'middle' });
    });
    const { orchestrator } = await startApp({ database, providers: [Leaf, Quick, Free, Middle, Root] });
    const run = await orchestrator.start(Root, undefined);
    await held.reached();
    await untilStatus(run.id, 'leaf', 'waiting');
    await untilStatus(run.id, 'not awaited', 'waiting');

    const count = await run.cancel({ reason: 'enough' });

    expect(count).toEqual({ cancelled: 1, requested: 4 });
    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED', reason: 'enough' });
    const { finished, detached, ...reached } = await statuses(run.id);
    expect({ finished, detached }).toEqual({ finished: 'completed', detached: 'running' });
    await until('all have unwound', async () =>
      [...(await family(run.id)).values()].every(({ status, ref }) => ref === 'detached' || status !== 'running'),
    );
    expect(Object.keys(reached).sort()).toEqual(['leaf', 'middle', 'not awaited', 'not begun', 'root']);
    const rows = await family(run.id);
    const requests = Object.keys(reached).map((ref) => rows.get(ref)!.requested_at);
    expect(new Set(requests)).toEqual(new Set([requests[0]]));
    expect(Object.keys(reached).map((ref) => rows.get(ref)!.status)).toEqual(Array(5).fill('cancelled'));
    held.open();
    await expect(orchestrator.result(rows.get('detached')!.id)).resolves.toBe('went on');
  });

  it.each(['graceful', 'terminate'] as const)(
    'is what is below a descendant that has finished, too, but nothing below one that is detached: %s (scenario 45)',
    async (mode) => {
      const Leaf = asleep('leaf');
      const Finished = workflow('finished', async ({ children }) => {
        await children.start(Leaf, undefined, { ref: 'left behind' });
      });
      const Free = workflow('free', ({ children }) => children.call(Leaf, undefined, { ref: 'below the free one' }));
      const Middle = workflow('middle', async ({ children, ctx }) => {
        await children.start(Free, undefined, { ref: 'free', detached: true });
        await ctx.sleep('1h');
      });
      const Root = workflow('root', async ({ children }) => {
        await children.call(Finished, undefined, { ref: 'finished' });
        await children.call(Middle, undefined, { ref: 'middle' });
      });
      const { orchestrator } = await startApp({ database, providers: [Leaf, Finished, Free, Middle, Root] });
      const run = await orchestrator.start(Root, undefined);
      for (const ref of ['left behind', 'below the free one', 'free', 'middle', 'root'])
        await untilStatus(run.id, ref, 'waiting');

      await run.cancel({ mode });

      await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
      for (const ref of ['left behind', 'middle']) await untilStatus(run.id, ref, 'cancelled');
      expect(await statuses(run.id)).toEqual({
        ...{ root: 'cancelled', middle: 'cancelled', 'left behind': 'cancelled' },
        ...{ finished: 'completed', free: 'waiting', 'below the free one': 'waiting' },
      });
    },
  );

  describe.each(['call', 'start'] as const)('a grandchild that a descendant is just starting by %s', (how) => {
    const prepare = async () => {
      const before = new Barrier();
      const Leaf = asleep('leaf');
      const Middle = workflow('middle', async ({ children, ctx }) => {
        await ctx.step('before', () => before.pass());
        if (how === 'call') await children.call(Leaf, undefined, { ref: 'grandchild' });
        else await children.start(Leaf, undefined, { ref: 'grandchild' });
        await ctx.sleep('1h');
      });
      const Root = workflow('root', ({ children }) => children.call(Middle, undefined, { ref: 'middle' }));
      const { orchestrator } = await startApp({ database, providers: [Leaf, Middle, Root] });
      const run = await orchestrator.start(Root, undefined);
      await before.reached();
      await untilStatus(run.id, 'root', 'waiting');
      const row = await HeldRows.hold(database, (await family(run.id)).get('middle')!.id);
      return { run, before, row };
    };

    it('does not escape when its start is written first (scenario 46)', async () => {
      const { run, before, row } = await prepare();

      before.open();
      await row.untilWaiting(1);
      const cancelling = run.cancel();
      await row.untilWaiting(2);
      await row.release();

      await cancelling;
      await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
      await untilStatus(run.id, 'grandchild', 'cancelled');
      expect(await statuses(run.id)).toEqual({ root: 'cancelled', middle: 'cancelled', grandchild: 'cancelled' });
    });

    it('does not come into being when the cancellation is written first (scenario 46)', async () => {
      const { run, before, row } = await prepare();

      const cancelling = run.cancel();
      await row.untilWaiting(1);
      before.open();
      await row.untilWaiting(2);
      await row.release();

      await cancelling;
      await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
      expect(await statuses(run.id)).toEqual({ root: 'cancelled', middle: 'cancelled' });
    });
  });
});

it('keeps a child from starting that was asked for before its parent knew of the cancellation (scenario 46)', async () => {
  const before = new Barrier();
  const Leaf = asleep('leaf');
  const Work = workflow('work', async ({ ctx, children }) => {
    await ctx.step('before', () => before.pass());
    await children.start(Leaf, undefined, { ref: 'child' });
  });
  const { orchestrator } = await startApp({ database, providers: [Leaf, Work], options: BEAT_OFTEN });
  const [other, run] = await orchestrator.startMany(Work, [{ input: undefined }, { input: undefined }]);
  await before.reached(2);
  // Both outcomes go in one commit, which waits for the row of the other run. The start of the child is in the next.
  const otherRow = await HeldRows.hold(database, other!.id);
  before.open();
  await otherRow.untilWaiting(1);

  await expect(run!.cancel()).resolves.toEqual({ cancelled: 0, requested: 1 });
  await heardOfCancellation();
  await otherRow.release();

  await expect(run!.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
  await other!.result();
  await expect(statuses(run!.id)).resolves.toEqual({ root: 'cancelled' });
  await other!.cancel();
});

describe('what a run waits for', () => {
  const Leaf = asleep('leaf');
  const waits: Record<string, (tools: WorkflowTools) => Promise<unknown>> = {
    'a sleep': ({ ctx }) => ctx.sleep('1h'),
    'a child': ({ children }) => children.call(Leaf, undefined),
    'a child with a timeout': ({ children }) => children.callSettled(Leaf, undefined, { timeout: '1h' }),
    'the result of a child that it has started': async ({ children }) =>
      (await children.start(Leaf, undefined)).result(),
    'a retry back-off': ({ ctx }) =>
      ctx.step('flaky', () => Promise.reject(new Error('not yet')), { retry: { initialInterval: '1h' } }),
    'branches of a race': ({ ctx, children }) =>
      ctx.race({ child: () => children.call(Leaf, undefined), late: () => ctx.sleep('1h') }),
    'many things at once': ({ ctx, children }) =>
      Promise.all([ctx.sleep('1h'), ctx.sleep('2h'), children.map(Leaf, [undefined, undefined])]),
    'a sleep inside a step': ({ ctx }) => ctx.step('slow', () => ctx.sleep('1h')),
  };

  it.each(Object.keys(waits))('%s: a cancellation ends it promptly (scenario 47)', async (name) => {
    const Waiting = workflow('waiting', waits[name]!);
    const { orchestrator } = await startApp({ database, providers: [Waiting, Leaf] });
    const run = await orchestrator.start(Waiting, undefined);
    await untilStatus(run.id, 'root', 'waiting');

    await run.cancel({ reason: 'no longer needed' });

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({
      code: 'RUN_CANCELLED',
      reason: 'no longer needed',
    });
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({
      status: 'cancelled',
      waitingFor: [],
      error: { name: 'CancelledError', reason: 'no longer needed' },
    });
  });

  it('a short retry back-off, which keeps its slot: a cancellation ends it, and no further attempt begins (scenario 47)', async () => {
    let attempts = 0;
    const failed = new Barrier();
    failed.open();
    const Flaky = workflow('flaky', ({ ctx }) =>
      ctx.step(
        'flaky',
        async () => {
          attempts++;
          await failed.pass();
          throw new Error('not yet');
        },
        { retry: { initialInterval: '150ms', backoffCoefficient: 1, maxAttempts: 1_000, jitter: 0 } },
      ),
    );
    const { orchestrator } = await startApp({ database, providers: [Flaky] });
    const run = await orchestrator.start(Flaky, undefined);
    await failed.reached(2);

    await run.cancel();

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    const attemptsAtTheEnd = attempts;
    await until('the next attempt would have been due', async () => (await run.status()) === 'cancelled');
    expect(attempts).toBe(attemptsAtTheEnd);
  });

  it('a wait that begins only after the cancellation ends at once, a wait for an own child as well', async () => {
    const ends: string[] = [];
    const Waiting = workflow('waiting', async ({ ctx, children }) => {
      const child = await children.start(Leaf, undefined, { ref: 'child' });
      await ctx.sleep('1h').catch(() => {});
      const afterwards = {
        sleep: () => ctx.sleep('1h'),
        step: () => ctx.step('late', () => ends.push('the body ran')),
        'new child': () => children.call(Leaf, undefined, { ref: 'another' }),
        'same child': () => children.call(Leaf, undefined, { ref: 'child' }),
        'its result': () => child.result(),
      };
      for (const [name, wait] of Object.entries(afterwards)) {
        await wait().catch((error: unknown) => ends.push(`${name}: ${(error as Error).name}`));
      }
    });
    const { orchestrator } = await startApp({ database, providers: [Waiting, Leaf] });
    const run = await orchestrator.start(Waiting, undefined);
    await untilStatus(run.id, 'root', 'waiting');

    await run.cancel();

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    expect(ends).toEqual([
      'sleep: CancelledError',
      'step: CancelledError',
      'new child: CancelledError',
      'same child: CancelledError',
      'its result: CancelledError',
    ]);
  });
});

describe('a step that is running', () => {
  const heedless = () => {
    const late = new Barrier();
    const reasons: unknown[] = [];
    const Busy = workflow('busy', ({ ctx }) =>
      ctx.step('long', async ({ signal }) => {
        const aborted = once(signal, 'abort');
        await Promise.all([late.pass(), aborted]);
        reasons.push(signal.reason);
        return 'too late';
      }),
    );
    const Probe = workflow('probe', () => undefined);
    return { late, reasons, providers: [Busy, Probe], Busy, Probe };
  };

  it.each([
    ['in the same process', undefined],
    ['in another process', false as const],
  ])('gets its AbortSignal %s, and its late result is refused (scenario 48)', async (_where, worker) => {
    const { late, reasons, providers, Busy, Probe } = heedless();
    const executing = await startApp({ database, providers });
    const { orchestrator } =
      worker === false ? await startApp({ database, providers, options: { worker } }) : executing;
    const run = await orchestrator.start(Busy, undefined);
    await late.reached();

    const requestedAt = performance.now();
    await expect(run.cancel({ reason: 'stop' })).resolves.toEqual({ cancelled: 0, requested: 1 });

    // The body still runs, and the run has ended: the step got its signal and nobody waited for it.
    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED', reason: 'stop' });
    expect(performance.now() - requestedAt).toBeLessThan(1_000);
    expect(reasons).toEqual([]);
    late.open();
    await until('the body has ended', () => reasons.length === 1);
    expect(reasons).toEqual([expect.objectContaining({ code: 'CANCELLED', reason: 'stop' })]);
    // What the body returned would be written by now: the probe's writes come after it.
    await orchestrator.execute(Probe, undefined);
    expect(await recordedSteps(executing, run.id)).toEqual([]);
    await expect(run.status()).resolves.toBe('cancelled');
  });

  it('sees the cancellation of its run in ctx.signal as well', async () => {
    const reached = new Barrier();
    let reason: unknown;
    const Busy = workflow('busy', ({ ctx }) =>
      ctx.step('long', async () => {
        const { signal } = ctx;
        const aborted = once(signal, 'abort');
        await Promise.all([reached.pass(), aborted]);
        reason = signal.reason;
      }),
    );
    const { orchestrator } = await startApp({ database, providers: [Busy] });
    const run = await orchestrator.start(Busy, undefined);
    await reached.reached();
    reached.open();

    await run.cancel({ reason: 'stop' });

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    await until('the body has ended', () => reason !== undefined);
    expect(reason).toBeInstanceOf(CancelledError);
  });
});

describe('a race of cancellation and completion', () => {
  const prepare = async () => {
    const last = new Barrier();
    const Work = workflow('work', ({ ctx }) => ctx.step('last', () => last.pass().then(() => 'done')));
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await last.reached();
    return { last, run, row: await HeldRows.hold(database, run.id) };
  };

  it('is won by the completion that is written first; the cancellation changes nothing and says so (scenario 49)', async () => {
    const { last, run, row } = await prepare();

    last.open();
    await row.untilWaiting(1);
    const cancelling = run.cancel();
    await row.untilWaiting(2);
    await row.release();

    await expect(cancelling).resolves.toEqual({ cancelled: 0, requested: 0 });
    await expect(run.result()).resolves.toBe('done');
    await expect(run.status()).resolves.toBe('completed');
  });

  it('is won by the cancellation that is written first (scenario 49)', async () => {
    const { last, run, row } = await prepare();

    const cancelling = run.cancel({ reason: 'first' });
    await row.untilWaiting(1);
    last.open();
    await row.untilWaiting(2);
    await row.release();

    await expect(cancelling).resolves.toEqual({ cancelled: 0, requested: 1 });
    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED', reason: 'first' });
  });

  it('ends the run also when the worker hears of the cancellation before the refusal of the completion (scenario 49)', async () => {
    const last = new Barrier();
    const Child = workflow('child', ({ ctx }) => ctx.step('last', () => last.pass()));
    const Parent = workflow('parent', ({ children }) => children.callSettled(Child, undefined, { ref: 'child' }));
    const { orchestrator } = await startApp({ database, providers: [Child, Parent], options: BEAT_OFTEN });
    const run = await orchestrator.start(Parent, undefined);
    await last.reached();
    await untilStatus(run.id, 'root', 'waiting');
    const childId = (await family(run.id)).get('child')!.id;
    // The child's completion locks the parent's row first: it waits there while the cancellation of the child goes through.
    const parentRow = await HeldRows.hold(database, run.id);
    last.open();
    await parentRow.untilWaiting(1);

    await expect(orchestrator.cancel(childId)).resolves.toEqual({ cancelled: 0, requested: 1 });
    await heardOfCancellation();
    await parentRow.release();

    await expect(run.result({ timeout: '5s' })).resolves.toMatchObject({ status: 'cancelled' });
    await expect(statuses(run.id)).resolves.toEqual({ root: 'completed', child: 'cancelled' });
  });

  it('of whole families ends every run, without a deadlock (scenario 49)', async () => {
    const Leaf = workflow('leaf', ({ ctx }) => ctx.step('work', () => turn()));
    const Middle = workflow('middle', ({ children }) => children.map(Leaf, [undefined, undefined]));
    const Root = workflow('root', ({ children }) => children.map(Middle, [undefined, undefined]));
    const { orchestrator } = await startApp({ database, providers: [Leaf, Middle, Root] });

    const ends = await Promise.all(
      Array.from({ length: 30 }, async (_, index) => {
        const run = await orchestrator.start(Root, undefined);
        for (let turns = 0; turns < index; turns++) await turn();
        await run.cancel();
        await run.result({ timeout: '10s' }).catch((error: unknown) => error);
        return run.id;
      }),
    );

    const { rows } = await sql.query<{ unfinished: number }>(
      'select count(*)::int as unfinished from orchestration.run where root_id = any($1) and finished_at is null',
      [ends],
    );
    expect(rows).toEqual([{ unfinished: 0 }]);
  });
});

describe('a repeated cancellation', () => {
  it('is harmless, and the first reason stays (scenario 49)', async () => {
    const cleaning = new Barrier();
    const Work = workflow('work', async ({ ctx }) => {
      try {
        await ctx.sleep('1h');
      } finally {
        await ctx.shield(() => ctx.step('clean up', () => cleaning.pass()));
      }
    });
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'root', 'waiting');

    await expect(run.cancel({ reason: 'first' })).resolves.toEqual({ cancelled: 0, requested: 1 });
    await cleaning.reached();
    await expect(run.cancel({ reason: 'second' })).resolves.toEqual({ cancelled: 0, requested: 0 });
    cleaning.open();

    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED', reason: 'first' });
    expect(cleaning.arrived).toBe(1);
    await expect(run.cancel({ reason: 'third' })).resolves.toEqual({ cancelled: 0, requested: 0 });
    await expect(run.cancel({ mode: 'terminate' })).resolves.toEqual({ cancelled: 0, requested: 0 });
  });

  it('of a run that nobody knows is a RunNotFoundError', async () => {
    const { orchestrator } = await startApp({ database });
    await expect(orchestrator.cancel('0190a000-0000-7000-8000-000000000000')).rejects.toMatchObject({
      code: 'RUN_NOT_FOUND',
    });
  });
});

describe('clean-up', () => {
  it('runs where the CancelledError is caught, and the run ends cancelled whatever its code returns (scenario 50)', async () => {
    const done: string[] = [];
    const Work = workflow('work', async ({ ctx }) => {
      try {
        await ctx.sleep('1h');
      } catch (error) {
        done.push((error as Error).name, String((error as CancelledError).reason));
        await ctx.shield(async () => {
          await ctx.step('undo', () => done.push('undo'));
          await ctx.sleep('10ms');
          await ctx.step('tell', () => done.push('tell'));
        });
      }
      return 'as if nothing had been';
    });
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'root', 'waiting');

    await run.cancel({ reason: 'changed my mind' });

    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED', reason: 'changed my mind' });
    expect(done).toEqual(['CancelledError', 'changed my mind', 'undo', 'tell']);
  });

  it('that fails leaves the run cancelled, with the failure as the cause (scenario 50)', async () => {
    const Work = workflow('work', async ({ ctx }) => {
      try {
        await ctx.sleep('1h');
      } finally {
        await ctx.shield(() => ctx.step('undo', () => Promise.reject(new NonRetryableError('cannot be undone'))));
      }
    });
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'root', 'waiting');

    await run.cancel();

    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({
      status: 'cancelled',
      error: { name: 'CancelledError', cause: { name: 'StepFailedError', cause: { message: 'cannot be undone' } } },
    });
  });

  it('in a shield that was entered before the cancellation finishes; what comes after it is not begun (scenario 50)', async () => {
    const bodies: string[] = [];
    const inside = new Barrier();
    const Leaf = workflow('leaf', () => 'child');
    const Work = workflow('work', async ({ ctx, children }) => {
      const value = await ctx.shield(async () => {
        await ctx.step('first', async ({ signal }) => {
          await inside.pass();
          bodies.push(signal.aborted ? 'aborted' : 'first');
        });
        await ctx.step('second', () => bodies.push('second'));
        return children.call(Leaf, undefined);
      });
      bodies.push(value);
      await ctx.step('after', () => bodies.push('after'));
    });
    const { orchestrator } = await startApp({ database, providers: [Work, Leaf] });
    const run = await orchestrator.start(Work, undefined);
    await inside.reached();

    await run.cancel();
    await until('the run knows of it', async () =>
      (await orchestrator.history(run.id)).some(({ status }) => status === 'cancelled'),
    );
    inside.open();

    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    expect(bodies).toEqual(['first', 'second', 'child']);
  });

  it('in a shield goes on after a crash, and does not do again what it had done (scenario 50)', async () => {
    const bodies: string[] = [];
    const second = new Barrier();
    const Work = workflow('work', async ({ ctx }) => {
      await ctx.step('before', () => bodies.push('before'));
      try {
        await ctx.sleep('1h');
      } finally {
        await ctx.shield(async () => {
          await ctx.step('first', () => bodies.push('first'));
          await ctx.step('second', async () => {
            bodies.push('second');
            await second.pass();
          });
          await ctx.step('third', () => bodies.push('third'));
        });
      }
    });
    const first = await startApp({ database, providers: [Work] });
    const run = await first.orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'root', 'waiting');
    await run.cancel({ reason: 'crash on' });
    await second.reached();

    await first.crash();
    second.open();
    const { orchestrator } = await startApp({ database, providers: [Work] });

    await expect(orchestrator.result(run.id)).rejects.toMatchObject({ code: 'RUN_CANCELLED', reason: 'crash on' });
    expect(bodies).toEqual(['before', 'first', 'second', 'second', 'third']);
  });

  it('is replayed as it went when a child that was waited for had its end at the moment of the cancellation', async () => {
    const childHeld = new Barrier();
    const cleanUp = new Barrier();
    const bodies: string[] = [];
    const Child = workflow('child', ({ ctx }) => ctx.step('held', () => childHeld.pass()));
    const Parent = workflow('parent', async ({ ctx, children }) => {
      const blocker = ctx.step('blocker', () => childHeld.pass());
      try {
        await Promise.all([children.call(Child, undefined, { ref: 'child' }), blocker]);
      } finally {
        await ctx.shield(async () => {
          await ctx.step('undo', () => bodies.push('undo'));
          await ctx.step('held', () => cleanUp.pass());
        });
      }
    });
    const first = await startApp({ database, providers: [Child, Parent] });
    const run = await first.orchestrator.start(Parent, undefined);
    await childHeld.reached(2);
    await run.cancel();
    childHeld.open();
    await cleanUp.reached();

    await first.crash();
    cleanUp.open();
    const { orchestrator } = await startApp({ database, providers: [Child, Parent] });

    await expect(orchestrator.result(run.id)).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    expect(bodies).toEqual(['undo']);
  });
});

describe('the allowance for clean-up', () => {
  const cleanUps: Record<string, (tools: WorkflowTools) => Promise<unknown>> = {
    'a step that does not end': ({ ctx }) => ctx.shield(() => ctx.step('endless', () => new Promise<never>(() => {}))),
    'a long sleep': ({ ctx }) => ctx.shield(() => ctx.sleep('1h')),
    'something that is not durable': () => new Promise<never>(() => {}),
  };

  it.each(Object.keys(cleanUps))(
    'ends the run that clean-up by %s holds up, cancelled (clarification 4)',
    async (name) => {
      const Work = workflow({ name: 'work', cancelTimeout: '400ms' }, async (tools) => {
        await tools.ctx.sleep('1h').catch(() => {});
        await cleanUps[name]!(tools);
      });
      const { orchestrator } = await startApp({ database, providers: [Work] });
      const run = await orchestrator.start(Work, undefined);
      await untilStatus(run.id, 'root', 'waiting');

      await run.cancel({ reason: 'at last' });

      await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED', reason: 'at last' });
    },
  );

  it.each(Object.keys(cleanUps))(
    'counts from the request, also over a crash in the middle of clean-up by %s (clarification 4)',
    async (name) => {
      const Work = workflow({ name: 'work', cancelTimeout: '1h' }, async (tools) => {
        await tools.ctx.sleep('2h').catch(() => {});
        await tools.ctx.shield(() => tools.ctx.step('enter', () => 'entered'));
        await cleanUps[name]!(tools);
      });
      const first = await startApp({ database, providers: [Work] });
      const run = await first.orchestrator.start(Work, undefined);
      await untilStatus(run.id, 'root', 'waiting');
      await run.cancel();
      await until('clean-up has begun', async () => (await recordedSteps(first, run.id)).includes('enter'));
      await first.crash();

      // As if the crash had lasted an hour.
      await sql.query(
        `update orchestration.run
         set cancel_requested_at = cancel_requested_at - interval '1 hour', wake_at = wake_at - interval '1 hour'`,
      );
      const { orchestrator } = await startApp({ database, providers: [Work] });

      await expect(orchestrator.result(run.id, { timeout: '8s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    },
  );
});

describe('a cancelled parent', () => {
  const prepare = async (cancellation: 'wait' | 'try' | undefined) => {
    const cleaning = new Barrier();
    const Child = workflow('child', async ({ ctx }) => {
      try {
        await ctx.sleep('1h');
      } finally {
        await ctx.shield(() => ctx.step('clean up', () => cleaning.pass()));
      }
    });
    const Parent = workflow('parent', ({ children }) =>
      children.call(Child, undefined, { ref: 'child', ...(cancellation && { cancellation }) }),
    );
    const providers = [Child, Parent];
    const app = await startApp({ database, providers });
    const run = await app.orchestrator.start(Parent, undefined);
    await untilStatus(run.id, 'child', 'waiting');
    await untilStatus(run.id, 'root', 'waiting');
    await run.cancel();
    await cleaning.reached();
    return { app, run, cleaning, providers };
  };

  it.each([undefined, 'wait' as const])(
    'ends after its awaited children, with cancellation: %s',
    async (cancellation) => {
      const { run, cleaning } = await prepare(cancellation);

      await untilStatus(run.id, 'root', 'waiting');
      await expect(statuses(run.id)).resolves.toEqual({ root: 'waiting', child: 'running' });
      cleaning.open();

      await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
      await expect(statuses(run.id)).resolves.toEqual({ root: 'cancelled', child: 'cancelled' });
    },
  );

  it('ends after its awaited children also when its worker crashes meanwhile', async () => {
    const { app, run, cleaning, providers } = await prepare('wait');
    await untilStatus(run.id, 'root', 'waiting');

    await app.crash();
    const { orchestrator } = await startApp({ database, providers });
    await cleaning.reached(2);
    await expect(statuses(run.id)).resolves.toMatchObject({ child: 'running' });
    expect((await family(run.id)).get('root')!.status).not.toBe('cancelled');
    cleaning.open();

    await expect(orchestrator.result(run.id)).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    await expect(statuses(run.id)).resolves.toEqual({ root: 'cancelled', child: 'cancelled' });
  });

  it("ends at once with cancellation: 'try', while its child still cleans up", async () => {
    const { run, cleaning } = await prepare('try');

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    await expect(statuses(run.id)).resolves.toEqual({ root: 'cancelled', child: 'running' });
    cleaning.open();

    await untilStatus(run.id, 'child', 'cancelled');
  });
});

describe('terminate', () => {
  it('ends a whole family at once, without running any of its code (scenario 51)', async () => {
    const code: string[] = [];
    const held = new Barrier();
    const Leaf = workflow('leaf', async ({ ctx }) => {
      try {
        await ctx.step('long', async () => {
          await held.pass();
          return 'too late';
        });
      } finally {
        code.push('leaf');
      }
    });
    const Root = workflow('root', async ({ children, ctx }) => {
      try {
        await children.call(Leaf, undefined, { ref: 'leaf' });
      } catch {
        await ctx.shield(() => ctx.step('clean up', () => code.push('clean up')));
      } finally {
        code.push('root');
      }
    });
    const Probe = workflow('probe', () => undefined);
    const app = await startApp({ database, providers: [Leaf, Root, Probe] });
    const run = await app.orchestrator.start(Root, undefined);
    await held.reached();
    await untilStatus(run.id, 'root', 'waiting');
    const leafId = (await family(run.id)).get('leaf')!.id;

    await expect(run.cancel({ mode: 'terminate', reason: 'now' })).resolves.toEqual({ cancelled: 2, requested: 0 });

    await expect(statuses(run.id)).resolves.toEqual({ root: 'cancelled', leaf: 'cancelled' });
    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED', reason: 'now' });
    held.open();
    await app.orchestrator.execute(Probe, undefined);
    expect(code).toEqual([]);
    expect(await recordedSteps(app, leafId)).toEqual([]);
  });

  it('ends what a graceful cancellation has left to clean up, also in another process (scenario 51)', async () => {
    const cleaning = new Barrier();
    const Work = workflow('work', async ({ ctx }) => {
      await ctx.sleep('1h').catch(() => {});
      await ctx.shield(() => ctx.step('clean up', () => cleaning.pass()));
    });
    const executing = await startApp({ database, providers: [Work] });
    const { orchestrator } = await startApp({ database, providers: [Work], options: { worker: false } });
    const run = await orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'root', 'waiting');
    await run.cancel({ reason: 'politely' });
    await cleaning.reached();

    await expect(run.cancel({ mode: 'terminate' })).resolves.toEqual({ cancelled: 1, requested: 0 });

    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    cleaning.open();
    await until('the other process has let it go', async () => {
      const { worker } = await executing.context
        .get<{ engine(): Promise<{ worker: { load: { running: number } } }> }>('EngineHost:', { strict: false })
        .engine();
      return worker.load.running === 0;
    });
    expect(await recordedSteps(executing, run.id)).toEqual([]);
  });
});

describe('retry', () => {
  it('lets a cancelled run go on from its last recorded outcome, without its clean-up (scenario 52)', async () => {
    const bodies: string[] = [];
    const held = new Barrier();
    const Work = workflow('work', async ({ ctx }) => {
      const a = await ctx.step('a', () => (bodies.push('a'), 'A'));
      try {
        const b = await ctx.step('b', async () => (bodies.push('b'), await held.pass(), 'B'));
        const c = await ctx.step('c', () => (bodies.push('c'), 'C'));
        return a + b + c;
      } catch (error) {
        await ctx.shield(() => ctx.step('undo', () => bodies.push('undo')));
        throw error;
      }
    });
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await held.reached();
    await run.cancel();
    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    held.open();

    await orchestrator.retry(run.id);

    await expect(orchestrator.result(run.id, { timeout: '5s' })).resolves.toBe('ABC');
    expect(bodies).toEqual(['a', 'b', 'undo', 'b', 'c']);
    const { rows } = await sql.query(
      'select cancel_requested_at, cancel_reason, error from orchestration.run where id = $1',
      [run.id],
    );
    expect(rows).toEqual([{ cancel_requested_at: null, cancel_reason: null, error: null }]);
  });

  it('lets a cancelled run go on that was in the middle of parallel steps; those that had finished do not run again (scenario 52)', async () => {
    const bodies: string[] = [];
    const held = new Barrier();
    const Work = workflow('work', ({ ctx }) =>
      Promise.all([
        ctx.step('held', async () => (bodies.push('held'), await held.pass(), 1)),
        ctx.step('quick', () => (bodies.push('quick'), 2)),
        ctx.step('quick', () => (bodies.push('quick#2'), 3)),
      ]),
    );
    const app = await startApp({ database, providers: [Work] });
    const run = await app.orchestrator.start(Work, undefined);
    await until('the quick ones are recorded', async () => (await recordedSteps(app, run.id)).length === 2);
    await run.cancel();
    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    held.open();

    await app.orchestrator.retry(run.id);

    await expect(app.orchestrator.result(run.id, { timeout: '5s' })).resolves.toEqual([1, 2, 3]);
    expect(bodies.sort()).toEqual(['held', 'held', 'quick', 'quick#2']);
  });

  it('of a cancelled parent starts its cancelled child anew, and leaves the finished one (scenario 52)', async () => {
    const bodies: string[] = [];
    const held = new Barrier();
    const Finished = workflow('finished', ({ ctx }) => ctx.step('work', () => (bodies.push('finished'), 1)));
    const Held = workflow('held', ({ ctx }) =>
      ctx.step('work', async () => (bodies.push('held'), await held.pass(), 2)),
    );
    const Parent = workflow('parent', async ({ children }) => [
      await children.call(Finished, undefined, { ref: 'finished' }),
      await children.call(Held, undefined, { ref: 'held' }),
    ]);
    const { orchestrator } = await startApp({ database, providers: [Finished, Held, Parent] });
    const run = await orchestrator.start(Parent, undefined);
    await held.reached();
    await untilStatus(run.id, 'root', 'waiting');
    await run.cancel();
    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    held.open();

    await orchestrator.retry(run.id);

    await expect(orchestrator.result(run.id, { timeout: '5s' })).resolves.toEqual([1, 2]);
    expect(bodies).toEqual(['finished', 'held', 'held']);
  });

  it('gives a failed step fresh attempts; what had finished, before it and beside it, does not run again (scenario 52)', async () => {
    const bodies: string[] = [];
    let isMended = false;
    const Work = workflow('work', async ({ ctx }) => {
      const a = await ctx.step('a', () => (bodies.push('a'), 'A'));
      const [b, c] = await Promise.all([
        ctx.step('b', () => (bodies.push('b'), 'B')),
        ctx.step(
          'c',
          () => {
            bodies.push('c');
            if (!isMended) throw new Error('broken');
            return 'C';
          },
          { retry: { maxAttempts: 2, initialInterval: 1 } },
        ),
      ]);
      return a + b + c;
    });
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_FAILED' });
    await orchestrator.retry(run.id);
    await expect(orchestrator.result(run.id)).rejects.toMatchObject({ code: 'RUN_FAILED' });
    expect(bodies.sort()).toEqual(['a', 'b', 'c', 'c', 'c', 'c']);
    isMended = true;

    await orchestrator.retry(run.id);

    await expect(orchestrator.result(run.id, { timeout: '5s' })).resolves.toBe('ABC');
    expect(bodies.sort()).toEqual(['a', 'b', 'c', 'c', 'c', 'c', 'c']);
  });

  it('of a parent whose child failed starts that child anew (scenario 52)', async () => {
    const bodies: string[] = [];
    let isMended = false;
    const Child = workflow('child', ({ ctx }) =>
      ctx.step('work', () => {
        bodies.push('child');
        if (!isMended) throw new NonRetryableError('broken');
        return 'mended';
      }),
    );
    const Parent = workflow('parent', async ({ ctx, children }) => {
      await ctx.step('before', () => bodies.push('before'));
      return children.call(Child, undefined, { ref: 'child' });
    });
    const { orchestrator } = await startApp({ database, providers: [Child, Parent] });
    const run = await orchestrator.start(Parent, undefined);
    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_FAILED' });
    isMended = true;

    await orchestrator.retry(run.id);

    await expect(orchestrator.result(run.id, { timeout: '5s' })).resolves.toBe('mended');
    expect(bodies).toEqual(['before', 'child', 'child']);
  });

  it('of a run that has completed, or still goes on, is refused (scenario 52)', async () => {
    const Sleeper = asleep('sleeper');
    const Quick = workflow('quick', () => undefined);
    const { orchestrator } = await startApp({ database, providers: [Sleeper, Quick] });
    const quick = await orchestrator.start(Quick, undefined);
    await quick.result();
    const sleeper = await orchestrator.start(Sleeper, undefined);

    await expect(orchestrator.retry(quick.id)).rejects.toMatchObject({ code: 'RUN_NOT_FINISHED' });
    await expect(orchestrator.retry(sleeper.id)).rejects.toMatchObject({ code: 'RUN_NOT_FINISHED' });
    await sleeper.cancel({ mode: 'terminate' });
  });
});
