import {
  ChildRefConflictError,
  ChildTimeoutError,
  InputNotPendingError,
  InsideRunError,
  NonDeterminismError,
  NonRetryableError,
  ResultTimeoutError,
  RunCancelledError,
  RunFailedError,
  RunFinishedError,
  RunNotFinishedError,
  RunTimeoutError,
} from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { errorOf } from '../support/error-of.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const Quick = workflow('quick', (_, input: unknown) => input);
const Waiting = workflow('waiting', ({ ctx }) => ctx.waitForSignal('go'));
const Failing = workflow('failing', () => {
  throw new NonRetryableError('there is nothing left');
});
const Late = workflow({ name: 'late', timeout: '50ms' }, ({ ctx }) => ctx.sleep('1h'));
const Reusing = workflow('reusing', async ({ children }) => {
  await children.call(Quick, 1, { ref: 'one' });
  await children.call(Quick, 2, { ref: 'one' });
});
const Impatient = workflow('impatient', ({ children }) =>
  children.call(Waiting, undefined, { ref: 'slow', timeout: 20 }),
);
const Blocking = workflow('blocking', (): Promise<unknown> => app.orchestrator.result(WAITED_FOR));
const WAITED_FOR = '019af000-0000-7000-8000-000000000000';

let database: TestDatabase;
let app: TestApp;

beforeAll(async () => {
  database = await createTestDatabase();
  app = await startApp({ database, providers: [Quick, Waiting, Failing, Late, Reusing, Impatient, Blocking] });
});

afterAll(async () => {
  await closeApps();
  await database.drop();
});

/** Starts a run, and gives its id and what is thrown when something is done with it. */
async function thrownBy(
  started: () => Promise<{ id: string; result(options?: { timeout: number }): Promise<unknown> }>,
  act: (run: Awaited<ReturnType<typeof started>>) => Promise<unknown>,
) {
  const run = await started();
  return { runId: run.id, error: await errorOf(act(run)) };
}

describe('An error has its class, its code, the values that it is about, and the status for a controller:', () => {
  it('of a run that failed', async () => {
    const { runId, error } = await thrownBy(
      () => app.orchestrator.start(Failing, undefined),
      (run) => run.result(),
    );

    expect(error).toBeInstanceOf(RunFailedError);
    expect(error).toMatchObject({
      ...{ name: 'RunFailedError', code: 'RUN_FAILED', runId, workflow: 'failing', status: undefined, expose: false },
      cause: { name: 'NonRetryableError', code: 'NON_RETRYABLE', message: 'there is nothing left' },
    });
  });

  it('of a run that was cancelled', async () => {
    const { runId, error } = await thrownBy(
      () => app.orchestrator.start(Waiting, undefined),
      async (run) => {
        await app.orchestrator.cancel(run.id, { reason: 'enough' });
        return run.result();
      },
    );

    expect(error).toBeInstanceOf(RunCancelledError);
    expect(error).toMatchObject({ code: 'RUN_CANCELLED', runId, workflow: 'waiting', reason: 'enough' });
  });

  it('of a run that passed its deadline', async () => {
    const { runId, error } = await thrownBy(
      () => app.orchestrator.start(Late, undefined),
      (run) => run.result(),
    );

    const { createdAt } = await app.orchestrator.get(runId);
    const deadline = new Date(createdAt.getTime() + 50);
    expect(error).toMatchObject({ code: 'RUN_FAILED', cause: { name: RunTimeoutError.name, runId, deadline } });
  });

  it('of a result that is not there in time', async () => {
    const { runId, error } = await thrownBy(
      () => app.orchestrator.start(Waiting, undefined),
      (run) => run.result({ timeout: 20 }),
    );

    expect(error).toBeInstanceOf(ResultTimeoutError);
    expect(error).toMatchObject({ code: 'RESULT_TIMEOUT', runId, timeoutMs: 20, status: 504, expose: false });
    await app.orchestrator.cancel(runId);
  });

  it('of a signal to a run that has ended', async () => {
    const { runId, error } = await thrownBy(
      () => app.orchestrator.start(Quick, 1),
      async (run) => {
        await run.result();
        return app.orchestrator.signal(run.id, 'go');
      },
    );

    expect(error).toBeInstanceOf(RunFinishedError);
    expect(error).toMatchObject({
      ...{ code: 'RUN_FINISHED', runId, runStatus: 'completed', status: 409, expose: true },
    });
  });

  it('of what needs a run that has ended', async () => {
    const { runId, error } = await thrownBy(
      () => app.orchestrator.start(Waiting, undefined),
      async (run) => {
        await until('it waits', async () => (await app.orchestrator.get(run.id)).status === 'waiting');
        return app.orchestrator.delete(run.id);
      },
    );

    expect(error).toBeInstanceOf(RunNotFinishedError);
    expect(error).toMatchObject({ code: 'RUN_NOT_FINISHED', runId, runStatus: 'waiting', status: 409 });
    await app.orchestrator.cancel(runId);
  });

  it('of an answer that nobody asks for', async () => {
    const { runId, error } = await thrownBy(
      () => app.orchestrator.start(Waiting, undefined),
      (run) => app.orchestrator.inputs.provide(run.id, 'refund', true),
    );

    expect(error).toBeInstanceOf(InputNotPendingError);
    expect(error).toMatchObject({ code: 'INPUT_NOT_PENDING', runId, input: 'refund', pending: [], status: 409 });
    await app.orchestrator.cancel(runId);
  });

  it('of a ref that names another child', async () => {
    const { runId, error } = await thrownBy(
      () => app.orchestrator.start(Reusing, undefined),
      (run) => run.result(),
    );

    const [child] = (await app.orchestrator.listChildren(runId)).items;
    expect(error).toMatchObject({
      cause: {
        ...{ name: ChildRefConflictError.name, code: 'CHILD_REF_CONFLICT', ref: 'one', childId: child!.id },
        ...{ expected: expect.stringContaining('quick') as string, found: expect.any(String) as string },
      },
    });
  });

  it('of a child that has not ended in time', async () => {
    const { runId, error } = await thrownBy(
      () => app.orchestrator.start(Impatient, undefined),
      (run) => run.result(),
    );

    const [child] = (await app.orchestrator.listChildren(runId)).items;
    expect(error).toMatchObject({
      cause: {
        ...{ name: ChildTimeoutError.name, code: 'CHILD_TIMEOUT', childId: child!.id, ref: 'slow' },
        ...{ workflow: 'waiting', timeoutMs: 20 },
      },
    });
  });

  it('of a call that would block a run', async () => {
    const { error } = await thrownBy(
      () => app.orchestrator.start(Blocking, undefined),
      (run) => run.result(),
    );

    expect(error).toMatchObject({
      cause: {
        ...{ name: InsideRunError.name, code: 'INSIDE_RUN', member: 'orchestrator.result' },
        instead: expect.stringContaining('children.await') as string,
      },
    });
  });

  it('of code that has diverged from its history', async () => {
    const options = { schema: 'diverging' };
    const before = await startApp({
      ...{ database, options },
      providers: [
        workflow('changed', async ({ ctx }) => {
          await ctx.step('one', () => 1);
          await ctx.waitForSignal('go');
        }),
      ],
    });
    const { id } = await before.orchestrator.start('changed', undefined);
    await until('it waits', async () => (await before.orchestrator.get(id)).status === 'waiting');
    await before.close();

    const after = await startApp({
      ...{ database, options },
      providers: [workflow('changed', ({ ctx }) => ctx.step('two', () => 2))],
    });
    await after.orchestrator.signal(id, 'go');
    await until('it is blocked', async () => (await after.orchestrator.get(id)).status === 'blocked');

    expect(await after.orchestrator.get(id)).toMatchObject({
      error: {
        ...{ name: NonDeterminismError.name, code: 'NON_DETERMINISM', seq: 1 },
        ...{ expected: "step 'one'", found: "asked for step 'two'" },
      },
    });
    await after.close();
  });
});
