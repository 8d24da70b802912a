import type pg from 'pg';

import type { RunStatus } from '../../lib/index.js';
import { startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import type { TestDatabase } from '../support/database.js';
import { useEngineDatabase } from '../support/engine-database.js';
import { rewindRun } from '../support/rewind.js';
import { until } from '../support/until.js';
import { workflow, type WorkflowTools } from '../support/workflow.js';

let database: TestDatabase;
let sql: pg.Client;

useEngineDatabase((opened) => ({ database, sql } = opened));

interface Row {
  id: string;
  ref: string;
  status: RunStatus;
  finished_at: Date | null;
}

async function family(rootId: string): Promise<Map<string, Row>> {
  const { rows } = await sql.query<Row>(
    `select id, coalesce(ref, 'root') as ref, status, finished_at from orchestration.run where root_id = $1`,
    [rootId],
  );
  return new Map(rows.map((row) => [row.ref, row]));
}

async function untilStatus(rootId: string, ref: string, status: RunStatus): Promise<void> {
  await until(`'${ref}' is ${status}`, async () => (await family(rootId)).get(ref)?.status === status);
}

async function entries(app: TestApp, runId: string): Promise<string[]> {
  return (await app.orchestrator.history(runId)).map(({ kind, key, status }) => `${kind} ${key}: ${status}`);
}

async function untilCancelIsDelivered(app: TestApp, runId: string): Promise<void> {
  await until('the run knows of the cancellation', async () =>
    (await app.orchestrator.history(runId)).some(({ kind }) => kind === 'cancel'),
  );
}

const CANCELLED = { code: 'RUN_CANCELLED' };

/** A child whose clean-up is held until the test lets it go on. */
function heldChild() {
  const cleanUp = new Barrier();
  const Child = workflow('child', async ({ ctx }) => {
    try {
      await ctx.sleep('1h');
    } finally {
      await ctx.shield(() => ctx.step('clean up', () => cleanUp.pass()));
    }
  });
  return { cleanUp, Child };
}

async function expectParentAfterChild(rootId: string): Promise<void> {
  const rows = await family(rootId);
  expect([rows.get('root')!.status, rows.get('child')!.status]).toEqual(['cancelled', 'cancelled']);
  expect(rows.get('root')!.finished_at!.getTime()).toBeGreaterThanOrEqual(rows.get('child')!.finished_at!.getTime());
}

describe('a cancelled step whose body waits for a child', () => {
  const prepare = () => {
    const { cleanUp, Child } = heldChild();
    const caught: string[] = [];
    const Parent = workflow('parent', async ({ ctx, children }) => {
      await ctx.step('before', () => 'done');
      try {
        await ctx.step('with a child', () => children.call(Child, undefined, { ref: 'child' }));
      } catch (error) {
        caught.push((error as Error).name);
        throw error;
      }
    });
    return { cleanUp, caught, Parent, providers: [Parent, Child] };
  };

  it('ends after the child has ended, by an outcome of its own', async () => {
    const { cleanUp, caught, Parent, providers } = prepare();
    const app = await startApp({ database, providers });
    const run = await app.orchestrator.start(Parent, undefined);
    await untilStatus(run.id, 'child', 'waiting');
    await untilStatus(run.id, 'root', 'waiting');

    await run.cancel({ reason: 'enough' });
    await cleanUp.reached();
    // The parent knows, waits for the child that is held, and holds no slot meanwhile.
    await untilCancelIsDelivered(app, run.id);
    await untilStatus(run.id, 'root', 'waiting');
    expect(caught).toEqual([]);
    cleanUp.open();

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ ...CANCELLED, reason: 'enough' });
    expect(caught).toEqual(['CancelledError']);
    await expectParentAfterChild(run.id);
    expect(await entries(app, run.id)).toEqual([
      'step before: completed',
      'cancel cancel: cancelled',
      'child child: cancelled',
      'step with a child: cancelled',
    ]);
  });

  it('ends after the child also when the process dies between the cancellation and the end of the child', async () => {
    const { cleanUp, caught, Parent, providers } = prepare();
    const first = await startApp({ database, providers });
    const run = await first.orchestrator.start(Parent, undefined);
    await untilStatus(run.id, 'child', 'waiting');
    await run.cancel({ reason: 'crash on' });
    await cleanUp.reached();
    await untilCancelIsDelivered(first, run.id);
    await untilStatus(run.id, 'root', 'waiting');

    await first.crash();
    const second = await startApp({ database, providers });
    await cleanUp.reached(2);
    // The parent is woken, as by anything that might happen to it: its code is replayed from the history alone.
    await sql.query(
      `update orchestration.run set status = 'pending', ready_at = now(), worker_id = null where id = $1 and status = 'waiting'`,
      [run.id],
    );
    await until('the parent was replayed and waits again', async () => {
      const { rows } = await sql.query<{ epoch: number }>('select epoch from orchestration.run where id = $1', [
        run.id,
      ]);
      return rows[0]!.epoch > 2 && (await family(run.id)).get('root')!.status === 'waiting';
    });
    expect(caught).toEqual([]);
    cleanUp.open();

    await expect(second.orchestrator.result(run.id, { timeout: '5s' })).rejects.toMatchObject({
      ...CANCELLED,
      reason: 'crash on',
    });
    await expectParentAfterChild(run.id);
    expect(caught).toEqual(['CancelledError']);
  });

  it('does not wait for a child of cancellation: try', async () => {
    const { cleanUp, Child } = heldChild();
    const Parent = workflow('parent', ({ ctx, children }) =>
      ctx.step('with a child', () => children.call(Child, undefined, { ref: 'child', cancellation: 'try' })),
    );
    const { orchestrator } = await startApp({ database, providers: [Parent, Child] });
    const run = await orchestrator.start(Parent, undefined);
    await untilStatus(run.id, 'child', 'waiting');

    await run.cancel();

    await cleanUp.reached();
    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject(CANCELLED);
    expect((await family(run.id)).get('child')!.status).not.toBe('cancelled');
    cleanUp.open();
    await untilStatus(run.id, 'child', 'cancelled');
  });

  it('waits for a child of a step inside the step as well', async () => {
    const { cleanUp, Child } = heldChild();
    const Parent = workflow('parent', ({ ctx, children }) =>
      ctx.step('outer', () => ctx.step('inner', () => children.call(Child, undefined, { ref: 'child' }))),
    );
    const first = await startApp({ database, providers: [Parent, Child] });
    const run = await first.orchestrator.start(Parent, undefined);
    await untilStatus(run.id, 'child', 'waiting');
    await run.cancel();
    await cleanUp.reached();
    await untilCancelIsDelivered(first, run.id);
    await untilStatus(run.id, 'root', 'waiting');

    await first.crash();
    const second = await startApp({ database, providers: [Parent, Child] });
    await cleanUp.reached(2);
    await untilStatus(run.id, 'root', 'waiting');
    cleanUp.open();

    await expect(second.orchestrator.result(run.id, { timeout: '5s' })).rejects.toMatchObject(CANCELLED);
    await expectParentAfterChild(run.id);
  });
});

describe('a cancelled step whose body is at rest in durable calls', () => {
  const prepare = (wait: (tools: WorkflowTools) => Promise<unknown>) => {
    const bodies: string[] = [];
    const held = new Barrier();
    const Work = workflow('work', async (tools) => {
      const { ctx } = tools;
      await ctx.step('outer', async () => {
        bodies.push('entered');
        try {
          await ctx.step('inner', () => bodies.push('inner'));
          await wait(tools);
        } finally {
          await ctx.shield(async () => {
            await ctx.step('undo', () => bodies.push('undo'));
            await ctx.step('held', () => held.pass());
          });
        }
        await ctx.step('never', () => bodies.push('never'));
      });
    });
    return { bodies, held, Work };
  };

  it('gets the CancelledError where it waits, and its shielded clean-up finishes (scenario 50)', async () => {
    const { bodies, held, Work } = prepare(({ ctx }) => ctx.sleep('1h'));
    const app = await startApp({ database, providers: [Work] });
    const run = await app.orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'root', 'waiting');
    held.open();

    await run.cancel();

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject(CANCELLED);
    expect(bodies).toEqual(['entered', 'inner', 'undo']);
    expect(await entries(app, run.id)).toEqual([
      'step inner: completed',
      'cancel cancel: cancelled',
      'step undo: completed',
      'step held: completed',
      'step outer: cancelled',
    ]);
  });

  it('goes on with its clean-up after a crash: it is entered again, cancelled from the beginning (scenario 50)', async () => {
    const { bodies, held, Work } = prepare(({ ctx }) => ctx.sleep('1h'));
    const first = await startApp({ database, providers: [Work] });
    const run = await first.orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'root', 'waiting');
    await run.cancel();
    await held.reached();

    await first.crash();
    held.open();
    const second = await startApp({ database, providers: [Work] });

    await expect(second.orchestrator.result(run.id, { timeout: '5s' })).rejects.toMatchObject(CANCELLED);
    expect(bodies).toEqual(['entered', 'inner', 'undo', 'entered']);
  });

  it('that throws another error while it unwinds is cancelled all the same, with that error as the cause', async () => {
    const Work = workflow('work', ({ ctx }) =>
      ctx.step('outer', async () => {
        await ctx.sleep('1h').catch(() => {
          throw new Error('the door is stuck');
        });
      }),
    );
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'root', 'waiting');

    await run.cancel();

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject(CANCELLED);
    const outer = (await orchestrator.history(run.id)).find(({ name }) => name === 'outer');
    expect(outer).toMatchObject({
      status: 'cancelled',
      attempts: 1,
      error: { name: 'CancelledError', cause: { message: 'the door is stuck' } },
    });
  });
});

it('replays a cancelled step as it ended, from every entry of the history on', async () => {
  const bodies: string[] = [];
  const Child = workflow('child', ({ ctx }) => ctx.sleep('1h'));
  const heedless = new Barrier();
  const Parent = workflow('parent', async ({ ctx, children }) => {
    const busy = ctx.step('busy', () => heedless.pass()).catch(() => bodies.push('busy'));
    const resting = ctx
      .step('resting', () => children.call(Child, undefined, { ref: 'child' }))
      .catch(() => bodies.push('resting'));
    await Promise.all([busy, resting]);
    await ctx.shield(() => ctx.step('undo', () => bodies.push('undo')));
  });
  const app = await startApp({ database, providers: [Parent, Child] });
  const run = await app.orchestrator.start(Parent, undefined);
  await heedless.reached();
  await untilStatus(run.id, 'child', 'waiting');
  await run.cancel();
  await expect(run.result({ timeout: '5s' })).rejects.toMatchObject(CANCELLED);
  const recorded = await entries(app, run.id);
  expect(bodies).toEqual(['busy', 'resting', 'undo']);
  await app.close();

  // What is kept counts notes too: the second is that the step unwinds, and commits with the first, the cancellation.
  for (const kept of [5, 4, 3, 2]) {
    bodies.length = 0;
    await rewindRun(database, run.id, kept);
    const again = await startApp({ database, providers: [Parent, Child] });
    await expect(again.orchestrator.result(run.id, { timeout: '5s' })).rejects.toMatchObject(CANCELLED);
    expect(bodies.slice(0, 2)).toEqual(['busy', 'resting']);
    expect(await entries(again, run.id)).toEqual(recorded);
    await again.close();
  }
  // A step that was left at the cancellation is not begun anew by a replay that ends with it.
  expect(heedless.arrived).toBe(1);
  heedless.open();
});

it('20. the loser of a race is a step whose body waits for a child: the child is cancelled', async () => {
  const Child = workflow('child', ({ ctx }) => ctx.sleep('1h'));
  const loses = new Barrier();
  const Parent = workflow('parent', async ({ ctx, children }) => {
    const { winner } = await ctx.race({
      step: () => ctx.step('loser', () => children.call(Child, undefined, { ref: 'child' })),
      other: () => ctx.step('winner', () => loses.pass()),
    });
    await ctx.sleep('50ms');
    return winner;
  });
  const { orchestrator } = await startApp({ database, providers: [Parent, Child] });
  const run = await orchestrator.start(Parent, undefined);
  await untilStatus(run.id, 'child', 'waiting');

  loses.open();

  await expect(run.result({ timeout: '5s' })).resolves.toBe('other');
  await untilStatus(run.id, 'child', 'cancelled');
});
