import pg from 'pg';

import { causedBy, PayloadError, RunContext, Step, type StepContext, Workflow } from '../../lib/index.js';
import { closeApps, startApp, type TestApp, untilDraining } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { measure } from '../support/statements.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

let database: TestDatabase;
let sql: pg.Client;

beforeAll(async () => {
  database = await createTestDatabase();
  sql = new pg.Client({ connectionString: database.url });
  await sql.connect();
});
afterEach(closeApps);
afterAll(async () => {
  await sql.end();
  await database.drop();
});

const AT_ONCE = { initialInterval: 0, jitter: 0 } as const;

const start = (...providers: NonNullable<Parameters<typeof startApp>[0]['providers']>): Promise<TestApp> =>
  startApp({ database, providers });

async function kindsOf(runId: string): Promise<string[]> {
  const { rows } = await sql.query<{ kind: string }>(
    'select kind from orchestration.history where run_id = $1 order by seq',
    [runId],
  );
  return rows.map(({ kind }) => kind);
}

/** A body that says that it runs, and is held. */
async function passing(gate: Barrier, say: () => void): Promise<void> {
  say();
  await gate.pass();
}

describe('A step with atMostOnce', () => {
  it('is not run again when its process died in the body: the run gets a StepInterruptedError, in every replay', async () => {
    const inBody = new Barrier();
    const after = new Barrier();
    const bodies: number[] = [];
    const errors: unknown[] = [];
    const Work = workflow('interrupted', async ({ ctx }) => {
      try {
        await ctx.step('pay', ({ attempt }) => passing(inBody, () => bodies.push(attempt)), { atMostOnce: true });
      } catch (error) {
        errors.push(error);
      }
      return ctx.step('look after it', () => after.pass().then(() => 'looked'));
    });
    const first = await start(Work);
    const { id } = await first.orchestrator.start(Work, undefined);
    await inBody.reached();
    expect(await kindsOf(id)).toEqual(['attempt']);

    await first.crash();
    const second = await start(Work);
    await after.reached();
    await second.crash();
    const third = await start(Work);
    after.open();

    await expect(third.orchestrator.result(id)).resolves.toBe('looked');
    expect(bodies).toEqual([1]);
    expect(errors).toHaveLength(2);
    for (const error of errors) {
      expect(error).toMatchObject({ name: 'StepInterruptedError', code: 'STEP_INTERRUPTED', step: 'pay', attempt: 1 });
      expect(causedBy(error, 'StepInterruptedError')).toBe(true);
    }
    await expect(third.orchestrator.history(id)).resolves.toMatchObject([
      { key: 'pay', status: 'failed', attempts: 1, error: { code: 'STEP_INTERRUPTED' } },
      { key: 'look after it', status: 'completed' },
    ]);
  });

  it('begins its body only when the attempt is durable', async () => {
    const Work = workflow('durable-attempt', ({ ctx }) =>
      ctx.step('pay', () => kindsOf(ctx.runId), { atMostOnce: true }),
    );
    const { orchestrator } = await start(Work);

    await expect(orchestrator.execute(Work, undefined)).resolves.toEqual(['attempt']);
  });

  it('has one attempt, and as many as retry says: an error is tried again, a crash is not', async () => {
    const bodies: string[] = [];
    const inThird = new Barrier();
    const failing = async (name: string, { attempt }: StepContext) => {
      bodies.push(`${name} ${attempt}`);
      if (attempt === 3) await inThird.pass();
      throw new Error('declined');
    };
    const Once = workflow('once', ({ ctx }) => ctx.step('pay', (step) => failing('once', step), { atMostOnce: true }));
    const Thrice = workflow('thrice', ({ ctx }) =>
      ctx.step('pay', (step) => failing('thrice', step), { atMostOnce: true, retry: { ...AT_ONCE, maxAttempts: 5 } }),
    );
    const app = await start(Once, Thrice);
    const [once, thrice] = [
      await app.orchestrator.start(Once, undefined),
      await app.orchestrator.start(Thrice, undefined),
    ];
    await expect(once.result()).rejects.toMatchObject({ cause: { code: 'STEP_FAILED', attempts: 1 } });
    await inThird.reached();

    await app.crash();
    const other = await start(Once, Thrice);

    await expect(other.orchestrator.result(thrice.id)).rejects.toMatchObject({
      cause: { code: 'STEP_INTERRUPTED', attempt: 3 },
    });
    expect(bodies.toSorted()).toEqual(['once 1', 'thrice 1', 'thrice 2', 'thrice 3']);
  });

  it('62. is not begun by a worker that shuts down, and one that has begun may end', async () => {
    const gate = new Barrier();
    const bodies: string[] = [];
    const Work = workflow('shut-down', async ({ ctx }) => {
      const pay = (name: string) => ctx.step(name, () => passing(gate, () => bodies.push(name)), { atMostOnce: true });
      await pay('first');
      await pay('second');
      return bodies;
    });
    const app = await startApp({ database, providers: [Work], options: { worker: { shutdownTimeout: '10s' } } });
    const { id } = await app.orchestrator.start(Work, undefined);
    await gate.reached();

    const closing = app.close();
    await untilDraining(app);
    gate.open();
    await closing;
    expect(await kindsOf(id)).toEqual(['attempt', 'step']);
    const other = await start(Work);

    await expect(other.orchestrator.result(id)).resolves.toEqual(['first', 'second']);
  });

  it('is run again by orchestrator.retry when the run ended by its interruption', async () => {
    const inBody = new Barrier();
    const Work = workflow('retried', ({ ctx }) =>
      ctx.step('pay', () => inBody.pass().then(() => 'paid'), { atMostOnce: true }),
    );
    const app = await start(Work);
    const { id } = await app.orchestrator.start(Work, undefined);
    await inBody.reached();
    await app.crash();
    const { orchestrator } = await start(Work);
    await expect(orchestrator.result(id)).rejects.toMatchObject({ cause: { code: 'STEP_INTERRUPTED' } });

    inBody.open();
    await orchestrator.retry(id);

    await expect(orchestrator.result(id)).resolves.toBe('paid');
    expect(inBody.arrived).toBe(2);
  });

  it('4. is a part of what the code is compared with: code that asks for something else is blocked', async () => {
    const inBody = new Barrier();
    const version = (step: string) =>
      workflow('changed', ({ ctx }) => ctx.step(step, () => inBody.pass(), { atMostOnce: true }));
    const app = await start(version('pay'));
    const { id } = await app.orchestrator.start('changed', undefined);
    await inBody.reached();
    await app.crash();

    const { orchestrator } = await start(version('charge'));
    await until('it is blocked', async () => (await orchestrator.get(id)).status === 'blocked');

    await expect(orchestrator.get(id)).resolves.toMatchObject({
      error: { message: expect.stringMatching(/an attempt of step 'pay'.*asked for step 'charge'/) as string },
    });
    expect(inBody.arrived).toBe(1);
  });

  it('refuses to wait durably in its body, and lets steps in it have their own records', async () => {
    const inSecond = new Barrier();
    const Work = workflow('nested', ({ ctx }) =>
      ctx.step(
        'outer',
        async () => {
          const refused = await ctx.sleep(1).catch((error: unknown) => (error as { code?: string }).code);
          const inner = await ctx.step('inner', () => 'inner');
          await inSecond.pass();
          return [refused, inner];
        },
        { atMostOnce: true },
      ),
    );
    const app = await start(Work);
    inSecond.open();

    const run = await app.orchestrator.start(Work, undefined);

    await expect(run.result()).resolves.toEqual(['INSIDE_STEP', 'inner']);
    expect(await kindsOf(run.id)).toEqual(['attempt', 'step', 'step']);
  });

  it('76. is refused together with transactional', async () => {
    @Workflow('both')
    class BothWorkflow {
      run(): void {}

      @Step({ atMostOnce: true, transactional: true })
      pay(): void {}

      @Step({ atMostOnce: 'yes' as never })
      charge(): void {}
    }

    await expect(start(BothWorkflow)).rejects.toMatchObject({
      problems: expect.arrayContaining([
        expect.stringContaining('BothWorkflow.pay: transactional and atMostOnce exclude each other'),
        'BothWorkflow.charge: atMostOnce must be true or false, not "yes"',
      ]) as string[],
    });
  });
});

describe('A heartbeat', () => {
  it('is read by the next attempt, in whichever process', async () => {
    const inBody = new Barrier();
    const seen: unknown[] = [];
    const Work = workflow('resuming', ({ ctx }) =>
      ctx.step(
        'copy',
        async ({ attempt, progress, heartbeat }) => {
          seen.push([attempt, progress]);
          const from = (progress as { rows: number } | undefined)?.rows ?? 0;
          heartbeat({ rows: from + 100 });
          if (attempt === 1) throw new Error('once more');
          if (seen.length === 2) await inBody.pass();
          return from + 100;
        },
        { retry: AT_ONCE },
      ),
    );
    const app = await start(Work);
    const { id } = await app.orchestrator.start(Work, undefined);
    await inBody.reached();
    await until('it is kept', async () => (await app.orchestrator.get(id)).heartbeats[0]?.attempt === 2);
    await expect(app.orchestrator.get(id)).resolves.toMatchObject({
      heartbeats: [{ step: 'copy', attempt: 2, progress: { rows: 200 }, at: expect.any(Date) as Date }],
    });

    await app.crash();
    const { orchestrator } = await start(Work);

    await expect(orchestrator.result(id)).resolves.toBe(300);
    expect(seen).toEqual([
      [1, undefined],
      [2, { rows: 100 }],
      [2, { rows: 200 }],
    ]);
    await expect(orchestrator.get(id)).resolves.toMatchObject({ heartbeats: [] });
    await expect(orchestrator.history(id)).resolves.toMatchObject([{ key: 'copy' }]);
  });

  it('of an attempt that failed is with it: another worker that takes the next attempt reads the last one', async () => {
    const seen: unknown[] = [];
    const Work = workflow('elsewhere', ({ ctx }) =>
      ctx.step(
        'copy',
        ({ attempt, progress, heartbeat }) => {
          seen.push(progress);
          for (let rows = 1; rows <= 50; rows++) heartbeat(rows);
          if (attempt === 1) throw new Error('once more');
          return progress;
        },
        { retry: { initialInterval: 400, jitter: 0 } },
      ),
    );
    const app = await start(Work);
    const { id } = await app.orchestrator.start(Work, undefined);
    await until('it is parked', async () => (await app.orchestrator.get(id)).status === 'waiting');
    await app.crash();

    const { orchestrator } = await start(Work);

    await expect(orchestrator.result(id)).resolves.toBe(50);
    expect(seen).toEqual([undefined, 50]);
  });

  it('costs a statement in a second, however often and by however many steps', async () => {
    const over = new Barrier();
    const Work = workflow('beating', ({ ctx }) =>
      ctx.map([1, 2, 3, 4, 5], (no) =>
        ctx.step(`beat ${no}`, async ({ heartbeat }) => {
          while (over.arrived === 0) {
            heartbeat({ no, at: performance.now() });
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        }),
      ),
    );
    const worker = { pollInterval: '1m', lease: '10m' } as const;
    const app = await startApp({ database, providers: [Work], options: { worker } });
    const run = await app.orchestrator.start(Work, undefined);
    await until('all beat', async () => (await app.orchestrator.get(run.id)).heartbeats.length === 5);

    const measured = await measure(database, () => new Promise((resolve) => setTimeout(resolve, 2_500)));
    over.open();
    void over.pass();
    await run.result();

    const beats = [...measured.byQuery].filter(([text]) => text.includes(`'progress'`));
    expect(beats).toHaveLength(1);
    expect(beats[0]![1]).toBeGreaterThanOrEqual(2);
    expect(beats[0]![1]).toBeLessThanOrEqual(3);
    const { rows } = await sql.query<{ count: number }>(
      `select count(*)::int as count from orchestration.history where run_id = $1 and kind = 'progress'`,
      [run.id],
    );
    expect(rows).toEqual([{ count: 5 }]);
  });

  it('3. of a run that another worker has by now is not kept', async () => {
    const inBody = new Barrier();
    const bodies: StepContext[] = [];
    const Work = workflow('zombie-beat', ({ ctx }) =>
      ctx.step('copy', async (step) => {
        bodies.push(step);
        step.heartbeat(bodies.length === 1 ? 'first' : 'second');
        await inBody.pass();
        return step.progress;
      }),
    );
    const worker = { pollInterval: '1m', lease: '10m' } as const;
    const zombie = await startApp({ database, providers: [Work], options: { worker } });
    const { id } = await zombie.orchestrator.start(Work, undefined);
    const progressOf = async () => (await zombie.orchestrator.get(id)).heartbeats[0]?.progress;
    await until('it is kept', async () => (await progressOf()) === 'first');
    await sql.query(
      `update orchestration.run set status = 'pending', epoch = epoch + 1, worker_id = null, ready_at = now() where id = $1`,
      [id],
    );
    const other = await startApp({ database, providers: [Work], options: { worker: { pollInterval: 50 } } });
    await until('the other’s is kept', async () => (await progressOf()) === 'second');

    const sent = await measure(database, async () => {
      bodies[0]!.heartbeat('of a zombie');
      // It goes out with this one, of a run that is the zombie's own.
      await zombie.orchestrator.start(Work, undefined);
      await until('its own is kept', async () => {
        const { rowCount } = await sql.query(
          `select from orchestration.history where kind = 'progress' and output = '"second"'`,
        );
        return rowCount === 2;
      });
    });

    expect([...sent.byQuery.keys()].some((text) => text.includes(`'progress'`))).toBe(true);
    expect(await progressOf()).toBe('second');
    inBody.open();
    await expect(other.orchestrator.result(id)).resolves.toBe('second');
  });

  it('14. that cannot be stored is an error at the call; without a value it keeps the last progress', async () => {
    const Work = workflow('unstorable-beat', ({ ctx }) =>
      ctx.step('copy', async ({ heartbeat }) => {
        heartbeat('kept');
        heartbeat();
        const error: unknown = await Promise.resolve()
          .then(() => heartbeat(() => {}))
          .catch((caught: unknown) => caught);
        return [error instanceof PayloadError, ctx.currentStep.progress, (error as Error).message];
      }),
    );
    const { orchestrator } = await start(Work);

    await expect(orchestrator.execute(Work, undefined)).resolves.toEqual([
      true,
      'kept',
      expect.stringContaining("the progress of step 'copy'") as string,
    ]);
  });

  it('62. is kept by a shutdown that gives the step up', async () => {
    const stuck = new Barrier();
    const seen: unknown[] = [];
    @Workflow('given-up')
    class GivenUpWorkflow {
      constructor(private readonly ctx: RunContext) {}

      run(): Promise<void> {
        return this.copy();
      }

      @Step()
      async copy(): Promise<void> {
        const { progress, heartbeat } = this.ctx.currentStep;
        seen.push(progress);
        for (let rows = 1; rows <= 10; rows++) heartbeat(rows);
        await stuck.pass();
      }
    }
    const options = { worker: { shutdownTimeout: 50 } };
    const app = await startApp({ database, providers: [GivenUpWorkflow], options });
    const { id } = await app.orchestrator.start(GivenUpWorkflow, undefined as never);
    await stuck.reached();

    await app.close();
    const other = await startApp({ database, providers: [GivenUpWorkflow], options });
    await stuck.reached(2);
    stuck.open();
    await other.orchestrator.result(id);

    expect(seen).toEqual([undefined, 10]);
  });
});
