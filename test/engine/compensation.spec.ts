import type { LoggerService } from '@nestjs/common';
import type pg from 'pg';
import { DataSource } from 'typeorm';

import {
  ChildOrchestrator,
  NonRetryableError,
  RunContext,
  type RunStatus,
  Step,
  Workflow,
  type WorkflowHandler,
} from '../../lib/index.js';
import { startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { moveClock } from '../support/clock.js';
import type { TestDatabase } from '../support/database.js';
import { useEngineDatabase } from '../support/engine-database.js';
import { HeldRows } from '../support/held-rows.js';
import { rewindRun } from '../support/rewind.js';
import { until } from '../support/until.js';
import { workflow, type WorkflowTools } from '../support/workflow.js';

let database: TestDatabase;
let sql: pg.Client;

useEngineDatabase((opened) => ({ database, sql } = opened));

const FAILED = { code: 'RUN_FAILED' };
const CANCELLED = { code: 'RUN_CANCELLED' };
const ONCE = { retry: { maxAttempts: 1 } };
const refuse = (message: string) => () => Promise.reject(new NonRetryableError(message));

async function untilStatus(runId: string, status: RunStatus): Promise<void> {
  await until(`the run is ${status}`, async () => {
    const { rows } = await sql.query<{ status: RunStatus }>('select status from orchestration.run where id = $1', [
      runId,
    ]);
    return rows[0]?.status === status;
  });
}

async function entries(app: TestApp, runId: string): Promise<string[]> {
  return (await app.orchestrator.history(runId)).map(({ kind, key, status }) => `${kind} ${key}: ${status}`);
}

/** A compensation for each of these names, registered upon a step of that name. */
async function doAll({ ctx }: WorkflowTools, names: string[], done: string[]): Promise<void> {
  for (const name of names) {
    await ctx.step(name, () => done.push(name));
    ctx.compensate(`undo ${name}`, () => done.push(`undo ${name}`));
  }
}

describe('@Step({ compensate })', () => {
  const calls: unknown[][] = [];
  let refundAttempts: (() => void)[] = [];

  @Workflow('order')
  class OrderWorkflow implements WorkflowHandler<{ id: string; amount: number }, void> {
    constructor(private readonly ctx: RunContext) {}

    async run({ id, amount }: { id: string; amount: number }): Promise<void> {
      await this.reserve(id);
      await this.charge(id, amount);
      await this.charge(id, 2 * amount);
      await this.ctx.step('ship', refuse('no parcels'));
    }

    @Step({ compensate: 'release' })
    reserve(id: string): Date {
      calls.push(['reserve', id]);
      return new Date(0);
    }

    release(reservedAt: Date, id: string): void {
      calls.push(['release', reservedAt, id, this.ctx.currentStep.step, this.ctx.currentStep.attempt]);
    }

    @Step({ compensate: 'refund' })
    charge(id: string, amount: number): { payment: string } {
      calls.push(['charge', id, amount]);
      return { payment: `${id}-${amount}` };
    }

    @Step({ retry: { maxAttempts: 2, initialInterval: 1 } })
    refund({ payment }: { payment: string }): void {
      calls.push(['refund', payment, this.ctx.currentStep.idempotencyKey]);
      refundAttempts.shift()?.();
    }
  }

  beforeEach(() => {
    calls.length = 0;
    refundAttempts = [];
  });

  it('50. is called with the output and the arguments of the step, the last step first, when the run fails', async () => {
    const app = await startApp({ database, providers: [OrderWorkflow] });
    const run = await app.orchestrator.start(OrderWorkflow, { id: 'a', amount: 7 });

    await expect(run.result()).rejects.toMatchObject(FAILED);

    expect(calls).toEqual([
      ['reserve', 'a'],
      ['charge', 'a', 7],
      ['charge', 'a', 14],
      ['refund', 'a-14', `${run.id}/#compensation/charge#2`],
      ['refund', 'a-7', `${run.id}/#compensation/charge`],
      ['release', new Date(0), 'a', 'reserve', 1],
    ]);
    expect(await entries(app, run.id)).toEqual([
      'step reserve: completed',
      'step charge: completed',
      'step charge#2: completed',
      'step ship: failed',
      'compensation charge#2: completed',
      'compensation charge: completed',
      'compensation reserve: completed',
    ]);
    await expect(app.orchestrator.get(run.id)).resolves.toMatchObject({
      status: 'failed',
      compensation: 'done',
      error: { name: 'StepFailedError', step: 'ship' },
    });
  });

  it('is tried as often as its own @Step options say', async () => {
    const fail = () => {
      throw new Error('the bank is closed');
    };
    refundAttempts = [fail, () => {}, fail, fail];
    const app = await startApp({ database, providers: [OrderWorkflow] });
    const run = await app.orchestrator.start(OrderWorkflow, { id: 'b', amount: 1 });

    await expect(run.result()).rejects.toMatchObject(FAILED);

    const undone = (await app.orchestrator.history(run.id)).filter(({ kind }) => kind === 'compensation');
    expect(undone.map(({ key, status, attempts }) => [key, status, attempts])).toEqual([
      ['charge#2', 'completed', 2],
      ['charge', 'failed', 2],
      ['reserve', 'completed', 1],
    ]);
    expect(undone[1]).toMatchObject({ error: { message: 'the bank is closed' } });
  });

  it('is refused where a replay would not come by: in the body of another step', async () => {
    @Workflow('nested')
    class NestedWorkflow implements WorkflowHandler<void, void> {
      constructor(
        private readonly ctx: RunContext,
        readonly children: ChildOrchestrator,
      ) {}

      async run(): Promise<void> {
        const errors = await this.ctx.step('outer', async () => [
          await this.pay().catch((error: unknown) => String(error)),
          await Promise.resolve()
            .then(() => this.ctx.compensate('undo', () => {}))
            .catch((error: unknown) => String(error)),
          await Promise.resolve()
            .then(() => this.ctx.commit())
            .catch((error: unknown) => String(error)),
        ]);
        await this.ctx.setState(errors);
      }

      @Step({ compensate: 'refund' })
      pay(): Promise<string> {
        return Promise.resolve('paid');
      }

      refund(): void {}
    }
    const { orchestrator } = await startApp({ database, providers: [NestedWorkflow] });
    const run = await orchestrator.start(NestedWorkflow, undefined);
    await run.result();

    const reason = expect.stringContaining('a compensation cannot be registered in the body of another step') as string;
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({
      state: [reason, reason, reason],
      compensation: 'none',
    });
  });

  it('outside a run is a plain method', async () => {
    const app = await startApp({ database, providers: [OrderWorkflow] });
    expect(app.get(OrderWorkflow).charge('c', 3)).toEqual({ payment: 'c-3' });
  });
});

describe('compensations', () => {
  it('50. run when the run is cancelled, after its own clean-up, in a place that the cancellation does not reach', async () => {
    const done: string[] = [];
    const Child = workflow('child', ({ ctx }) => ctx.step('work', () => done.push('child')));
    const Work = workflow('work', async (tools) => {
      const { ctx, children } = tools;
      await doAll(tools, ['a', 'b'], done);
      ctx.compensate('with waits', async () => {
        await ctx.sleep(10);
        await children.call(Child, undefined);
      });
      try {
        await ctx.sleep('1h');
      } finally {
        await ctx.shield(() => ctx.step('clean up', () => done.push('clean up')));
      }
    });
    const app = await startApp({ database, providers: [Work, Child] });
    const run = await app.orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'waiting');

    await run.cancel({ reason: 'enough' });

    await expect(run.result()).rejects.toMatchObject({ ...CANCELLED, reason: 'enough' });
    expect(done).toEqual(['a', 'b', 'clean up', 'child', 'undo b', 'undo a']);
    await expect(app.orchestrator.get(run.id)).resolves.toMatchObject({ status: 'cancelled', compensation: 'done' });
  });

  it('do not run when the run completes, and what is committed is not undone', async () => {
    const done: string[] = [];
    const Work = workflow<string>('work', async (tools, end) => {
      await doAll(tools, ['a', 'b'], done);
      tools.ctx.commit();
      await doAll(tools, ['c'], done);
      if (end === 'fail') throw new NonRetryableError('no');
    });
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const completed = await orchestrator.start(Work, 'complete');
    await completed.result();
    expect(done.splice(0)).toEqual(['a', 'b', 'c']);
    await expect(orchestrator.get(completed.id)).resolves.toMatchObject({ compensation: 'none' });

    const failed = await orchestrator.start(Work, 'fail');

    await expect(failed.result()).rejects.toMatchObject(FAILED);
    expect(done).toEqual(['a', 'b', 'c', 'undo c']);
    const { items } = await orchestrator.list();
    expect(items.map(({ status, compensation }) => [status, compensation])).toEqual([
      ['failed', 'done'],
      ['completed', 'none'],
    ]);
  });

  it('go on after one that fails: it is recorded and told, and the error of the run stays what it was', async () => {
    const warnings: string[] = [];
    const logger = { warn: (message: string) => warnings.push(message), log() {}, error() {} } satisfies LoggerService;
    const done: string[] = [];
    const Work = workflow('work', async (tools) => {
      const { ctx } = tools;
      await doAll(tools, ['a'], done);
      ctx.compensate('broken', refuse('it is stuck'));
      await doAll(tools, ['b'], done);
      throw new NonRetryableError('the real reason');
    });
    const app = await startApp({ database, providers: [Work], logger });
    const run = await app.orchestrator.start(Work, undefined);

    await expect(run.result()).rejects.toMatchObject(FAILED);

    expect(done).toEqual(['a', 'b', 'undo b', 'undo a']);
    await expect(app.orchestrator.get(run.id)).resolves.toMatchObject({
      compensation: 'failed',
      error: { message: 'the real reason' },
    });
    expect(warnings).toEqual([
      `The compensation 'broken' of run ${run.id} (work) has failed, what it should undo stands: NonRetryableError: it is stuck`,
    ]);
  });

  it('are shown as running while they do, also when they wait for another attempt', async () => {
    const failing = new Barrier();
    const Work = workflow('work', async ({ ctx }) => {
      await ctx.step('a', () => 'done');
      ctx.compensate('not yet', () => {});
      ctx.compensate('slow', () => failing.pass().then(() => Promise.reject(new Error('later'))), {
        retry: { initialInterval: '1h', jitter: 0 },
      });
      throw new NonRetryableError('no');
    });
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await failing.reached();

    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ status: 'running', compensation: 'running' });
    failing.open();
    await untilStatus(run.id, 'waiting');
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({
      compensation: 'running',
      waitingFor: [{ kind: 'retry', name: 'slow' }],
    });
    // What is ended by force has not undone everything.
    await run.cancel({ mode: 'terminate' });
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ status: 'cancelled', compensation: 'failed' });
  });

  it('do not begin before the steps that still run beside the failing code are left, and their late outcomes are refused', async () => {
    const late = new Barrier();
    const signals: boolean[] = [];
    const done: string[] = [];
    const Work = workflow('work', async (tools) => {
      const { ctx } = tools;
      await doAll(tools, ['a'], done);
      const beside = ctx.step('beside', async ({ signal }) => {
        await late.pass();
        signals.push(signal.aborted);
      });
      await Promise.all([beside, ctx.step('fails', refuse('no'))]);
    });
    const app = await startApp({ database, providers: [Work] });
    const run = await app.orchestrator.start(Work, undefined);
    await expect(run.result()).rejects.toMatchObject(FAILED);
    late.open();
    await until('the body has ended', () => signals.length > 0);

    expect(signals).toEqual([true]);
    expect(await entries(app, run.id)).toEqual([
      'step a: completed',
      'step fails: failed',
      'compensation undo a: completed',
    ]);
  });

  it('run when the output cannot be stored', async () => {
    const done: string[] = [];
    const Work = workflow('work', async (tools) => {
      await doAll(tools, ['a'], done);
      return () => 'a function';
    });
    const { orchestrator } = await startApp({ database, providers: [Work] });
    await expect(orchestrator.execute(Work, undefined)).rejects.toMatchObject(FAILED);
    expect(done).toEqual(['a', 'undo a']);
  });

  it('keep their retries over a crash, and a step of the same name has its own', async () => {
    const attempts: string[] = [];
    const Work = workflow('work', async ({ ctx }) => {
      await ctx.step('same', ({ attempt }) => attempts.push(`step ${attempt}`));
      ctx.compensate(
        'same',
        ({ attempt }) => {
          attempts.push(`undo ${attempt}`);
          throw new Error('again');
        },
        { retry: { maxAttempts: 3, initialInterval: '300ms', backoffCoefficient: 1, jitter: 0 } },
      );
      throw new NonRetryableError('no');
    });
    const first = await startApp({ database, providers: [Work] });
    const run = await first.orchestrator.start(Work, undefined);
    await until('the first attempt has failed', async () => {
      const { rows } = await sql.query(
        `select from orchestration.history where kind = 'retry' and scope = '#compensation/'`,
      );
      return rows.length > 0;
    });
    await first.crash();
    const second = await startApp({ database, providers: [Work] });

    await expect(second.orchestrator.result(run.id)).rejects.toMatchObject(FAILED);
    expect(attempts).toEqual(['step 1', 'undo 1', 'undo 2', 'undo 3']);
    await expect(second.orchestrator.get(run.id)).resolves.toMatchObject({ compensation: 'failed' });
  });
});

describe('a transactional compensation', () => {
  @Workflow('order')
  class OrderWorkflow implements WorkflowHandler<void, void> {
    constructor(private readonly ctx: RunContext) {}

    async run(): Promise<void> {
      await this.reserve();
      this.ctx.compensate('inline', () => this.write('inline'), { transactional: true });
      throw new NonRetryableError('no');
    }

    @Step({ transactional: true, compensate: 'release' })
    async reserve(): Promise<void> {
      await this.write('reserve');
    }

    @Step({ transactional: true, retry: { maxAttempts: 2, initialInterval: 1 } })
    async release(): Promise<void> {
      await this.write('release');
      if (this.ctx.currentStep.attempt === 1) throw new Error('rolled back');
    }

    private async write(what: string): Promise<void> {
      await this.ctx.manager.query('insert into ledger values ($1)', [what]);
    }
  }

  it('writes together with its outcome, or not at all', async () => {
    await sql.query('create table ledger (what text)');
    const dataSource = await new DataSource({ ...database.connection, poolErrorHandler: () => {} }).initialize();
    const app = await startApp({ database, providers: [OrderWorkflow], options: { dataSource } });
    const run = await app.orchestrator.start(OrderWorkflow, undefined);

    await expect(run.result()).rejects.toMatchObject(FAILED);

    const { rows } = await sql.query('select what from ledger');
    expect(rows).toEqual([{ what: 'reserve' }, { what: 'inline' }, { what: 'release' }]);
    await expect(app.orchestrator.get(run.id)).resolves.toMatchObject({ compensation: 'done' });
    await app.close();
    await dataSource.destroy();
  });

  it('is refused where the app has no data source', async () => {
    const Work = workflow('work', ({ ctx }) => ctx.compensate('a', () => {}, { transactional: true }));
    const { orchestrator } = await startApp({ database, providers: [Work] });
    await expect(orchestrator.execute(Work, undefined)).rejects.toMatchObject({ cause: { code: 'VALIDATION' } });
  });
});

describe('a crash', () => {
  const four = (done: string[]) =>
    workflow('work', async (tools) => {
      await doAll(tools, ['a', 'b', 'c'], done);
      tools.ctx.compensate('held', () => done.push('held'));
      await doAll(tools, ['d'], done);
      await tools.ctx.sleep('1h');
    });

  it.each(['cancelled', 'failed'])(
    '50. half-way through the compensations of a %s run: those that are recorded do not run again, the rest does',
    async (how) => {
      const done: string[] = [];
      const held = new Barrier();
      const Work = workflow('work', async (tools) => {
        await doAll(tools, ['a', 'b'], done);
        tools.ctx.compensate('held', () => held.pass());
        await doAll(tools, ['c'], done);
        if (how === 'failed') throw new NonRetryableError('no');
        await tools.ctx.sleep('1h');
      });
      const first = await startApp({ database, providers: [Work] });
      const run = await first.orchestrator.start(Work, undefined);
      if (how === 'cancelled') {
        await untilStatus(run.id, 'waiting');
        await run.cancel();
      }
      await held.reached();

      await first.crash();
      held.open();
      const second = await startApp({ database, providers: [Work] });

      await expect(second.orchestrator.result(run.id)).rejects.toMatchObject(how === 'failed' ? FAILED : CANCELLED);
      expect(done).toEqual(['a', 'b', 'c', 'undo c', 'undo b', 'undo a']);
      await expect(second.orchestrator.get(run.id)).resolves.toMatchObject({ status: how, compensation: 'done' });
    },
  );

  it('at any other entry of the history: the replay takes the same way', async () => {
    const done: string[] = [];
    const Work = four(done);
    const app = await startApp({ database, providers: [Work] });
    const run = await app.orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'waiting');
    await run.cancel();
    await expect(run.result()).rejects.toMatchObject(CANCELLED);
    const recorded = await entries(app, run.id);
    const undone = ['undo d', 'held', 'undo c', 'undo b', 'undo a'];
    expect(done).toEqual(['a', 'b', 'c', 'd', ...undone]);
    expect(recorded).toHaveLength(10);
    await app.close();

    // Four steps, the cancellation, five compensations.
    for (let kept = 9; kept >= 4; kept--) {
      done.length = 0;
      await rewindRun(database, run.id, kept);
      const again = await startApp({ database, providers: [Work] });
      await expect(again.orchestrator.result(run.id)).rejects.toMatchObject(CANCELLED);
      expect(await entries(again, run.id)).toEqual(recorded);
      expect(done).toEqual(undone.slice(Math.max(0, kept - 5)));
      await again.close();
    }
  });
});

describe('a cancellation that comes while the end of the run is being written', () => {
  const race = async (end: 'complete' | 'fail', compensates = true) => {
    const done: string[] = [];
    const last = new Barrier();
    const undoing = new Barrier();
    const Work = workflow('work', async (tools) => {
      const { ctx } = tools;
      await ctx.step('a', () => done.push('a'));
      if (compensates)
        ctx.compensate('undo a', async () => {
          done.push('undo a');
          await undoing.pass();
        });
      await ctx.step('last', () => last.pass());
      if (end === 'fail') throw new NonRetryableError('no');
      return 'done';
    });
    const app = await startApp({ database, providers: [Work] });
    const run = await app.orchestrator.start(Work, undefined);
    await last.reached();
    const row = await HeldRows.hold(database, run.id);
    const cancelling = run.cancel({ reason: 'first' });
    await row.untilWaiting(1);
    last.open();
    await row.untilWaiting(2);
    await row.release();
    await cancelling;
    return { app, run, done, undoing, Work };
  };

  it('of a run that would have completed: it is undone', async () => {
    const { app, run, done, undoing } = await race('complete');
    undoing.open();

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ ...CANCELLED, reason: 'first' });
    expect(done).toEqual(['a', 'undo a']);
    expect(await entries(app, run.id)).toEqual([
      'step a: completed',
      'step last: completed',
      'cancel cancel: cancelled',
      'compensation undo a: completed',
    ]);
  });

  it('of a run that would have completed, with a crash while it is undone', async () => {
    const { app, run, done, undoing, Work } = await race('complete');
    await undoing.reached();
    await app.crash();
    undoing.open();
    const second = await startApp({ database, providers: [Work] });

    await expect(second.orchestrator.result(run.id, { timeout: '5s' })).rejects.toMatchObject(CANCELLED);
    expect(done).toEqual(['a', 'undo a', 'undo a']);
    await expect(second.orchestrator.get(run.id)).resolves.toMatchObject({ compensation: 'done' });
  });

  it('of a run that fails: it is undone once, and ends cancelled with its error as the cause', async () => {
    const { app, run, done, undoing } = await race('fail');
    undoing.open();

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject(CANCELLED);
    expect(done).toEqual(['a', 'undo a']);
    await expect(app.orchestrator.get(run.id)).resolves.toMatchObject({
      status: 'cancelled',
      compensation: 'done',
      error: { name: 'CancelledError', cause: { message: 'no' } },
    });
  });

  it('of a run without compensations: it ends cancelled, as ever', async () => {
    const { app, run } = await race('complete', false);
    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject(CANCELLED);
    await expect(app.orchestrator.get(run.id)).resolves.toMatchObject({ compensation: 'none' });
  });
});

describe('the deadline of a run', () => {
  afterEach(() => moveClock(database, 0));

  const timed = (code: (tools: WorkflowTools, done: string[]) => Promise<unknown>, done: string[]) =>
    workflow('timed', async (tools) => {
      await doAll(tools, ['a', 'b'], done);
      await code(tools, done);
    });

  const waits: Record<string, (tools: WorkflowTools, done: string[]) => Promise<unknown>> = {
    'a parked run': ({ ctx }) => ctx.sleep('2h'),
    'a step that runs': ({ ctx }) => ctx.step('endless', () => new Promise<never>(() => {})),
    'code that waits for something that is not durable': () => new Promise<never>(() => {}),
    'a clean-up': async ({ ctx }, done) => {
      try {
        await ctx.sleep('2h');
      } finally {
        done.push('the code was resumed');
      }
    },
  };

  it.each(Object.keys(waits))(
    'of %s: it is undone, its code is not resumed, and it ends by the deadline',
    async (name) => {
      const done: string[] = [];
      const Timed = timed(waits[name]!, done);
      const app = await startApp({ database, providers: [Timed] });
      const run = await app.orchestrator.start(Timed, undefined, { timeout: '400ms' });

      await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({
        ...FAILED,
        cause: { name: 'RunTimeoutError' },
      });

      expect(done).toEqual(['a', 'b', 'undo b', 'undo a']);
      expect(await entries(app, run.id)).toEqual([
        'step a: completed',
        'step b: completed',
        'expiry deadline: timeout',
        'compensation undo b: completed',
        'compensation undo a: completed',
      ]);
      await expect(app.orchestrator.get(run.id)).resolves.toMatchObject({ status: 'failed', compensation: 'done' });
    },
  );

  it('that passes while nobody executes the run: the next worker undoes it', async () => {
    const done: string[] = [];
    const step = new Barrier();
    const Timed = timed(({ ctx }) => ctx.step('held', () => step.pass()), done);
    const first = await startApp({ database, providers: [Timed] });
    const run = await first.orchestrator.start(Timed, undefined, { timeout: '1h' });
    await step.reached();
    await first.crash();

    await moveClock(database, 2 * 3_600_000);
    const second = await startApp({ database, providers: [Timed] });

    await expect(second.orchestrator.result(run.id, { timeout: '5s' })).rejects.toMatchObject(FAILED);
    expect(done).toEqual(['a', 'b', 'undo b', 'undo a']);
    expect(step.arrived).toBe(1);
  });

  it('is replayed where it was: after a crash in the middle of the compensations', async () => {
    const done: string[] = [];
    const held = new Barrier();
    const Timed = workflow('timed', async (tools) => {
      const { ctx } = tools;
      await doAll(tools, ['a'], done);
      ctx.compensate('held', () => held.pass());
      await doAll(tools, ['b'], done);
      await ctx.step('endless', () => new Promise<never>(() => {}));
    });
    const first = await startApp({ database, providers: [Timed] });
    const run = await first.orchestrator.start(Timed, undefined, { timeout: '400ms' });
    await held.reached();
    await first.crash();
    held.open();
    const second = await startApp({ database, providers: [Timed] });

    await expect(second.orchestrator.result(run.id, { timeout: '5s' })).rejects.toMatchObject(FAILED);
    expect(done).toEqual(['a', 'b', 'undo b', 'undo a']);
    await expect(second.orchestrator.get(run.id)).resolves.toMatchObject({ error: { name: 'RunTimeoutError' } });
  });

  it('that passes while the run is undone does not cut that off', async () => {
    const done: string[] = [];
    const Timed = workflow('timed', async (tools) => {
      await doAll(tools, ['a'], done);
      tools.ctx.compensate('slow', () => tools.ctx.sleep('600ms'));
      throw new NonRetryableError('no');
    });
    const { orchestrator } = await startApp({ database, providers: [Timed] });
    const run = await orchestrator.start(Timed, undefined, { timeout: '300ms' });

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ ...FAILED, cause: { message: 'no' } });
    expect(done).toEqual(['a', 'undo a']);
  });

  it('does not hold for the children that a compensation calls', async () => {
    const Child = workflow('child', async ({ ctx }) => {
      await ctx.sleep('50ms');
      return 'released';
    });
    const Timed = workflow('timed', async ({ ctx, children }) => {
      ctx.compensate('release', () => children.call(Child, undefined));
      await ctx.sleep('2h');
    });
    const { orchestrator } = await startApp({ database, providers: [Timed, Child] });
    const run = await orchestrator.start(Timed, undefined, { timeout: '200ms' });

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject(FAILED);

    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ compensation: 'done' });
    const { items } = await run.children();
    expect(items).toEqual([expect.objectContaining({ status: 'completed' })]);
  });

  it('ends a run without compensations at once, and without an entry', async () => {
    const Timed = workflow('timed', ({ ctx }) => ctx.sleep('2h'));
    const app = await startApp({ database, providers: [Timed] });
    const run = await app.orchestrator.start(Timed, undefined, { timeout: '300ms' });
    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject(FAILED);
    expect(await entries(app, run.id)).toEqual([]);
  });

  it('ends a run whose code has changed, unless that has something to undo', async () => {
    let version = 'old';
    const Timed = workflow<boolean>('timed', async ({ ctx }, compensates) => {
      await ctx.step('a', () => 'done');
      if (compensates) ctx.compensate('undo a', () => {});
      await ctx.step(version, () => 'done');
      await ctx.sleep('2h');
    });
    const first = await startApp({ database, providers: [Timed] });
    const runs = [
      await first.orchestrator.start(Timed, false, { timeout: '1h' }),
      await first.orchestrator.start(Timed, true, { timeout: '1h' }),
    ];
    for (const { id } of runs) await untilStatus(id, 'waiting');
    await first.crash();
    version = 'new';
    await moveClock(database, 2 * 3_600_000);
    await startApp({ database, providers: [Timed] });

    await untilStatus(runs[0]!.id, 'failed');
    await untilStatus(runs[1]!.id, 'blocked');
    const { rows } = await sql.query(
      `select error like '%RUN_TIMEOUT%' as late from orchestration.run where id = any($1) order by id`,
      [runs.map(({ id }) => id)],
    );
    expect(rows).toEqual([{ late: true }, { late: false }]);
  });
});

describe('the allowance for clean-up', () => {
  it('bounds the clean-up of the code, not the compensations, also over a crash', async () => {
    const done: string[] = [];
    const held = new Barrier();
    const Work = workflow({ name: 'work', cancelTimeout: '300ms' }, async (tools) => {
      const { ctx } = tools;
      await doAll(tools, ['a'], done);
      ctx.compensate('slow', async () => {
        await ctx.sleep('500ms');
        await held.pass();
      });
      await doAll(tools, ['b'], done);
      try {
        await ctx.sleep('1h');
      } finally {
        await ctx.shield(() => ctx.sleep('1h'));
      }
    });
    const first = await startApp({ database, providers: [Work] });
    const run = await first.orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'waiting');
    await run.cancel({ reason: 'stop' });
    await held.reached();
    expect(await entries(first, run.id)).toEqual(
      expect.arrayContaining([
        'cancel cancel: cancelled',
        'expiry clean-up: timeout',
        'compensation undo b: completed',
      ]),
    );
    await first.crash();
    held.open();
    const second = await startApp({ database, providers: [Work] });

    await expect(second.orchestrator.result(run.id, { timeout: '5s' })).rejects.toMatchObject({
      ...CANCELLED,
      reason: 'stop',
    });
    expect(done).toEqual(['a', 'b', 'undo b', 'undo a']);
  });

  it('is over when the cancellation reaches a run that is being undone', async () => {
    const done: string[] = [];
    const held = new Barrier();
    const Work = workflow({ name: 'work', cancelTimeout: '1ms' }, async (tools) => {
      await doAll(tools, ['a'], done);
      tools.ctx.compensate('held', () => held.pass());
      throw new NonRetryableError('no');
    });
    const app = await startApp({ database, providers: [Work] });
    const run = await app.orchestrator.start(Work, undefined);
    await held.reached();
    await run.cancel({ reason: 'late' });
    await until('the run knows of it', async () => (await entries(app, run.id)).includes('cancel cancel: cancelled'));
    held.open();

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ ...CANCELLED, reason: 'late' });
    expect(done).toEqual(['a', 'undo a']);
  });
});

describe('nothing is undone', () => {
  it('by a termination', async () => {
    const done: string[] = [];
    const Work = workflow('work', async (tools) => {
      await doAll(tools, ['a'], done);
      await tools.ctx.sleep('1h');
    });
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await untilStatus(run.id, 'waiting');

    await run.cancel({ mode: 'terminate' });

    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ status: 'cancelled', compensation: 'none' });
    expect(done).toEqual(['a']);
  });

  it('of a poisoned run', async () => {
    const done: string[] = [];
    const held = new Barrier();
    const Work = workflow('work', async (tools) => {
      await doAll(tools, ['a'], done);
      await tools.ctx.step('deadly', () => held.pass());
    });
    const options = { worker: { maxRecoveries: 1 } };
    const first = await startApp({ database, providers: [Work], options });
    const run = await first.orchestrator.start(Work, undefined);
    await held.reached();
    await first.crash();
    const second = await startApp({ database, providers: [Work], options });
    await held.reached(2);
    await second.crash();
    const third = await startApp({ database, providers: [Work], options });

    await expect(third.orchestrator.result(run.id)).rejects.toMatchObject({ cause: { code: 'RUN_POISONED' } });
    expect(done).toEqual(['a']);
    await expect(third.orchestrator.get(run.id)).resolves.toMatchObject({ compensation: 'none' });
  });
});

describe('a retry of a run that was undone', () => {
  it('runs the steps again whose effects were undone, and those that came upon them, but no others', async () => {
    let works = false;
    const done: string[] = [];
    const step = (tools: WorkflowTools, name: string) => tools.ctx.step(name, () => done.push(name));
    const Child = workflow('child', (tools) => step(tools, 'child'));
    const Before = workflow('before', (tools) => step(tools, 'child before'));
    const Work = workflow('work', async (tools) => {
      const { ctx, children } = tools;
      await children.call(Before, undefined, { ref: 'before' });
      const beside = step(tools, 'beside');
      await doAll(tools, ['a'], done);
      await children.call(Child, undefined, { ref: 'child' });
      await doAll(tools, ['b'], done);
      await beside;
      await ctx.step('fails', works ? () => done.push('works') : refuse('no'));
    });
    const { orchestrator } = await startApp({ database, providers: [Work, Child, Before] });
    const run = await orchestrator.start(Work, undefined);
    await expect(run.result()).rejects.toMatchObject(FAILED);
    expect(done.splice(0).toSorted()).toEqual(
      ['child before', 'beside', 'a', 'child', 'b', 'undo b', 'undo a'].toSorted(),
    );

    works = true;
    await orchestrator.retry(run.id);

    await orchestrator.result(run.id);
    expect(done).toEqual(['a', 'child', 'b', 'works']);
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ status: 'completed', compensation: 'none' });
  });

  it('keeps a step whose compensation failed, and undoes it anew when the run fails again', async () => {
    const done: string[] = [];
    let refunds = 0;
    const Work = workflow('work', async ({ ctx }) => {
      await ctx.step('charge', () => done.push('charge'));
      ctx.compensate(
        'refund',
        () => {
          done.push('refund');
          if (++refunds === 1) throw new Error('not now');
        },
        ONCE,
      );
      await ctx.step('reserve', () => done.push('reserve'));
      ctx.compensate('release', () => done.push('release'));
      await ctx.step('fails', refuse('no'));
    });
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const run = await orchestrator.start(Work, undefined);
    await expect(run.result()).rejects.toMatchObject(FAILED);
    expect(done.splice(0)).toEqual(['charge', 'reserve', 'release', 'refund']);
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ compensation: 'failed' });

    await orchestrator.retry(run.id);

    await expect(orchestrator.result(run.id)).rejects.toMatchObject(FAILED);
    expect(done).toEqual(['reserve', 'release', 'refund']);
    await expect(orchestrator.get(run.id)).resolves.toMatchObject({ compensation: 'done' });
  });

  it('runs the calls in the body of an undone step again, children that had completed as well', async () => {
    let works = false;
    const done: string[] = [];
    const Child = workflow('child', ({ ctx }) => ctx.step('child', () => done.push('child')));

    @Workflow('work')
    class WorkWorkflow implements WorkflowHandler<void, void> {
      constructor(
        private readonly ctx: RunContext,
        private readonly children: ChildOrchestrator,
      ) {}

      async run(): Promise<void> {
        await this.ship();
        await this.ctx.step('fails', works ? () => 'works' : refuse('no'));
      }

      @Step({ compensate: 'callBack' })
      async ship(): Promise<void> {
        await this.ctx.step('pack', () => done.push('pack'));
        await this.children.call(Child, undefined, { ref: 'parcel' });
      }

      callBack(): void {
        done.push('call back');
      }
    }
    const { orchestrator } = await startApp({ database, providers: [WorkWorkflow, Child] });
    const run = await orchestrator.start(WorkWorkflow, undefined);
    await expect(run.result()).rejects.toMatchObject(FAILED);
    expect(done.splice(0)).toEqual(['pack', 'child', 'call back']);

    works = true;
    await orchestrator.retry(run.id);

    await orchestrator.result(run.id);
    expect(done).toEqual(['pack', 'child']);
  });

  it('that was cancelled, or passed its deadline, runs them again as well', async () => {
    const done: string[] = [];
    let mayEnd = false;
    const Work = workflow('work', async (tools) => {
      await doAll(tools, ['a'], done);
      if (!mayEnd) await tools.ctx.sleep('1h');
      return 'ended';
    });
    const { orchestrator } = await startApp({ database, providers: [Work] });
    const cancelled = await orchestrator.start(Work, undefined);
    await untilStatus(cancelled.id, 'waiting');
    await cancelled.cancel();
    await expect(cancelled.result()).rejects.toMatchObject(CANCELLED);
    const late = await orchestrator.start(Work, undefined, { timeout: '200ms' });
    await expect(late.result()).rejects.toMatchObject(FAILED);
    expect(done.splice(0)).toEqual(['a', 'undo a', 'a', 'undo a']);

    mayEnd = true;
    for (const { id } of [cancelled, late]) {
      await orchestrator.retry(id);
      await expect(orchestrator.result(id)).resolves.toBe('ended');
    }
    expect(done).toEqual(['a', 'a']);
  });
});

it('keeps a run from continuing as new before what it has done is committed', async () => {
  const done: string[] = [];
  const Work = workflow<number>('work', async (tools, generation) => {
    const { ctx } = tools;
    await doAll(tools, [`a${generation}`], done);
    if (generation > 0) throw new NonRetryableError('no');
    await ctx.continueAsNew(1).catch((error: unknown) => done.push((error as Error).name));
    ctx.commit();
    await ctx.continueAsNew(1);
  });
  const { orchestrator } = await startApp({ database, providers: [Work] });
  await expect(orchestrator.execute(Work, 0)).rejects.toMatchObject(FAILED);
  expect(done).toEqual(['a0', 'ValidationError', 'a1', 'undo a1']);
});

it('refuses a compensation without a name or with wrong options', async () => {
  const Work = workflow('work', ({ ctx }) =>
    [
      () => ctx.compensate('', () => {}),
      () => ctx.compensate('a', () => {}, { timeout: 'soon' as never }),
      () => ctx.compensate('a', 'refund' as never),
      () => ctx.step('a', () => {}, { compensate: 'refund' } as never),
    ].map((code) => {
      try {
        return String(code());
      } catch (error) {
        return (error as Error).name;
      }
    }),
  );
  const { orchestrator } = await startApp({ database, providers: [Work] });
  await expect(orchestrator.execute(Work, undefined)).resolves.toEqual(Array(4).fill('ValidationError'));
});
