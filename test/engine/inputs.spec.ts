import { setTimeout as delay } from 'node:timers/promises';

import pg from 'pg';
import { z } from 'zod';

import {
  CancelledError,
  InputNotJudgedError,
  InputNotPendingError,
  InputTimeoutError,
  type Orchestrator,
  type PendingInput,
  RunNotFoundError,
  type RunStatus,
  ValidationError,
} from '../../lib/index.js';
import type { EngineHost } from '../../lib/nest/engine-host.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { HeldRows } from '../support/held-rows.js';
import { measure } from '../support/statements.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const MINUTE_MS = 60_000;

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
  await sql.query('truncate orchestration.run, orchestration.history, orchestration.input, orchestration.worker');
  await moveClock(database, 0);
});

afterAll(async () => {
  await sql.end();
  await database.drop();
});

const storeOf = async (app: TestApp) =>
  (await app.context.get<EngineHost>('EngineHost:', { strict: false }).engine()).store;

const listed = async (orchestrator: Orchestrator) => (await orchestrator.inputs.list()).items;

/** Resolves when the run asks for so many inputs, with what is listed of them. */
async function untilAsked(orchestrator: Orchestrator, runId: string, count = 1): Promise<PendingInput[]> {
  let asked: PendingInput[] = [];
  await until(`run ${runId} asks for ${count} inputs`, async () => {
    asked = (await listed(orchestrator)).filter((input) => input.runId === runId);
    return asked.length === count;
  });
  return asked;
}

async function untilStatus(runId: string, status: RunStatus): Promise<void> {
  await until(`run ${runId} is ${status}`, async () => (await statusOf(runId)) === status);
}

async function statusOf(runId: string): Promise<RunStatus> {
  const { rows } = await sql.query<{ status: RunStatus }>('select status from orchestration.run where id = $1', [
    runId,
  ]);
  return rows[0]!.status;
}

const rowsOf = async (runId: string) =>
  (await sql.query<{ name: string }>('select name from orchestration.input where run_id = $1', [runId])).rows;

const Approval = workflow<{ timeout?: number } | void>('approval', ({ ctx }, input) =>
  ctx.waitForInput('refund', { type: 'approval', prompt: 'Refund 42 €?', ...input }),
);
const Choice = workflow('choice', ({ ctx }) =>
  ctx.waitForInput('size', { type: 'choice', prompt: 'Which size?', choices: ['small', 'large'] }),
);
const Text = workflow('text', ({ ctx }) => ctx.waitForInput('note', { type: 'text' }));
const Address = z.object({ city: z.string().min(2), zip: z.coerce.number() });
const Form = workflow('form', ({ ctx }) => ctx.waitForInput('address', { type: 'form', schema: Address }));
const FreeForm = workflow('free-form', ({ ctx }) => ctx.waitForInput('anything', { type: 'form' }));

describe('60. a person answers', () => {
  it.each([
    {
      ...{ type: 'approval', Asking: Approval, name: 'refund', prompt: 'Refund 42 €?', choices: undefined },
      ...{ wrong: 'yes', reasons: [{ message: "must be true or false, not 'yes'" }], right: false, gets: false },
    },
    {
      ...{ type: 'choice', Asking: Choice, name: 'size', prompt: 'Which size?', choices: ['small', 'large'] },
      ...{ wrong: 'huge', reasons: [{ message: "must be one of 'small', 'large', not 'huge'" }] },
      ...{ right: 'large', gets: 'large' },
    },
    {
      ...{ type: 'text', Asking: Text, name: 'note', prompt: undefined, choices: undefined },
      ...{
        wrong: 42,
        reasons: [{ message: 'must be a text, not 42' }],
        right: 'on \u0000 time',
        gets: 'on \u0000 time',
      },
    },
    {
      ...{ type: 'form', Asking: Form, name: 'address', prompt: undefined, choices: undefined },
      ...{
        wrong: { city: 'O', zip: '1' },
        reasons: [{ message: 'Too small: expected string to have >=2 characters', path: ['city'] }],
      },
      ...{ right: { city: 'Oslo', zip: '0150' }, gets: { city: 'Oslo', zip: 150 } },
    },
  ])('$type: it is listed, a wrong answer is refused with reasons, the right one resumes the run', async (given) => {
    const { type, Asking, name, prompt, choices, wrong, reasons, right, gets } = given;
    await startApp({ database, providers: [Asking] });
    const { orchestrator } = await startApp({ database, options: { worker: false } });
    const run = await orchestrator.start(type, undefined);
    await untilStatus(run.id, 'waiting');

    const pending = await orchestrator.inputs.list();
    const details = await orchestrator.get(run.id);
    const refused = await orchestrator.inputs.provide(run.id, name, wrong).catch((error: unknown) => error);
    const afterRefusal = await orchestrator.inputs.list();
    await orchestrator.inputs.provide(run.id, name, right);

    const input = { runId: run.id, workflow: type, name, type, prompt, choices, expiresAt: undefined };
    expect(pending).toEqual({ items: [input], nextCursor: undefined });
    expect(details.waitingFor).toEqual([{ kind: 'input', name, until: null }]);
    expect(refused).toBeInstanceOf(ValidationError);
    expect(refused).toMatchObject({ issues: reasons, status: 400 });
    expect(afterRefusal).toEqual(pending);
    expect(await run.result({ timeout: '10s' })).toEqual(gets);
    expect(await listed(orchestrator)).toEqual([]);
    expect(await rowsOf(run.id)).toEqual([]);
    expect(await orchestrator.history(run.id)).toMatchObject([
      { seq: 1, kind: 'input', name, key: name, status: 'completed', output: gets },
    ]);
  });

  it('a form without a schema takes any value', async () => {
    const { orchestrator } = await startApp({ database, providers: [FreeForm] });
    const run = await orchestrator.start(FreeForm, undefined);
    await untilAsked(orchestrator, run.id);

    await orchestrator.inputs.provide(run.id, 'anything', { on: new Date(5), count: 3n });

    expect(await run.result()).toEqual({ on: new Date(5), count: 3n });
  });

  it('of several by one name the one that was asked first is answered first', async () => {
    const Two = workflow('two', ({ ctx }) =>
      Promise.all([ctx.waitForInput('note', { type: 'text' }), ctx.waitForInput('note', { type: 'text' })]),
    );
    const { orchestrator } = await startApp({ database, providers: [Two] });
    const run = await orchestrator.start(Two, undefined);
    await untilAsked(orchestrator, run.id, 2);

    await orchestrator.inputs.provide(run.id, 'note', 'one');
    await orchestrator.inputs.provide(run.id, 'note', 'two');

    expect(await run.result()).toEqual(['one', 'two']);
    expect((await orchestrator.history(run.id)).map(({ key }) => key)).toEqual(['note', 'note#2']);
  });

  it('who answers what is not asked is told what is', async () => {
    const { orchestrator } = await startApp({ database, providers: [Approval] });
    const run = await orchestrator.start(Approval, undefined);
    await untilAsked(orchestrator, run.id);
    const refusal = async (runId: string, name: string) =>
      orchestrator.inputs.provide(runId, name, true).then(
        () => 'answered',
        (error: unknown) => error,
      );

    const wrongName = await refusal(run.id, 'refnud');
    const unknown = await refusal('01890000-0000-7000-8000-000000000000', 'refund');
    const noId = await refusal('no id', 'refund');
    await orchestrator.inputs.provide(run.id, 'refund', true);
    await run.result();
    const finished = await refusal(run.id, 'refund');

    expect(wrongName).toBeInstanceOf(InputNotPendingError);
    expect(wrongName).toMatchObject({
      ...{ code: 'INPUT_NOT_PENDING', status: 409, input: 'refnud', pending: ['refund'], runId: run.id },
    });
    expect(String(wrongName)).toContain("It waits for 'refund'.");
    expect(unknown).toBeInstanceOf(RunNotFoundError);
    expect(noId).toBeInstanceOf(RunNotFoundError);
    expect(finished).toBeInstanceOf(InputNotPendingError);
    expect(String(finished)).toContain('the run is completed');
  });

  it.each([
    ['an unknown type', { type: 'number' }, 'type must be one of approval, choice, text, form, not "number"'],
    ['no options', undefined, 'type must be one of'],
    ['a choice without choices', { type: 'choice' }, 'choices must be different texts'],
    ['choices that are the same', { type: 'choice', choices: ['a', 'a'] }, 'choices must be different texts'],
    ['choices that are no texts', { type: 'choice', choices: [1] }, 'choices must be different texts'],
    ['choices of an approval', { type: 'approval', choices: ['a'] }, "unknown option 'choices'"],
    ['a schema that is none', { type: 'form', schema: { type: 'object' } }, 'schema must be a Standard Schema'],
    ['a bad timeout', { type: 'text', timeout: 'soon' }, "timeout 'soon' is no duration"],
    ['an empty prompt', { type: 'text', prompt: '' }, 'prompt must be a text that is not empty'],
  ])('%s is refused at once', async (_case, options, message) => {
    const Bad = workflow('bad', ({ ctx }) => ctx.waitForInput('bad', options as never));
    const { orchestrator } = await startApp({ database, providers: [Bad] });

    const error: unknown = await orchestrator.execute(Bad, undefined).catch((thrown: unknown) => thrown);

    expect(error).toMatchObject({ code: 'RUN_FAILED', cause: { code: 'VALIDATION' } });
    expect(String(error)).toContain(message);
  });
});

describe('a timeout', () => {
  it('is an InputTimeoutError, or the timeoutValue; zero and less end at once (scenario 57)', async () => {
    const Late = workflow<number>('late', async ({ ctx }, timeout) => {
      const value = await ctx.waitForInput('a', { type: 'text', timeout, timeoutValue: undefined });
      const error: unknown = await ctx.waitForInput('b', { type: 'text', timeout }).catch((thrown: unknown) => thrown);
      const other = await ctx.waitForInput('c', { type: 'approval', timeout, timeoutValue: 'nobody' });
      return { value, other, isTimeout: error instanceof InputTimeoutError, message: (error as Error).message };
    });
    const { orchestrator } = await startApp({ database, providers: [Late] });
    const runs = await Promise.all([0, -5, 300].map((timeout) => orchestrator.start(Late, timeout)));

    const results = await Promise.all(runs.map((run) => run.result()));

    const after = (ms: number) => ({
      value: undefined,
      other: 'nobody',
      isTimeout: true,
      message: expect.stringContaining(`Input 'b' was not answered within ${ms} ms. Catch`) as string,
    });
    expect(results).toEqual([after(0), after(-5), after(300)]);
    expect(await orchestrator.history(runs[2]!.id)).toMatchObject([
      { kind: 'input', name: 'a', status: 'timeout', output: undefined, error: undefined },
      { kind: 'input', name: 'b', status: 'timeout' },
      { kind: 'input', name: 'c', status: 'timeout' },
    ]);
    expect(await rowsOf(runs[2]!.id)).toEqual([]);
  });

  it('does not restart after a crash (scenario 57)', async () => {
    const first = await startApp({ database, providers: [Approval] });
    const run = await first.orchestrator.start(Approval, { timeout: 10 * MINUTE_MS });
    const [before] = await untilAsked(first.orchestrator, run.id);
    await first.crash();
    await moveClock(database, 9 * MINUTE_MS);
    const second = await startApp({ database, providers: [Approval], options: { worker: { pollInterval: 50 } } });
    const [after] = await untilAsked(second.orchestrator, run.id);
    await moveClock(database, 10 * MINUTE_MS + 1);

    await expect(second.orchestrator.result(run.id, { timeout: '10s' })).rejects.toMatchObject({
      cause: { code: 'INPUT_TIMEOUT', input: 'refund', timeoutMs: 10 * MINUTE_MS },
    });
    expect(after).toEqual(before);
    expect(before!.expiresAt).toBeInstanceOf(Date);
  });

  describe('with no worker up when it is answered, nor when the timeout is due', () => {
    async function asked() {
      const first = await startApp({ database, providers: [Approval] });
      const run = await first.orchestrator.start(Approval, { timeout: 10 * MINUTE_MS });
      await untilAsked(first.orchestrator, run.id);
      await first.crash();
      return { run, client: await startApp({ database, options: { worker: false } }) };
    }

    it('an answer that was given before is the answer', async () => {
      const { run, client } = await asked();
      await moveClock(database, 9 * MINUTE_MS);
      await client.orchestrator.inputs.provide(run.id, 'refund', true);
      await moveClock(database, 20 * MINUTE_MS);
      await startApp({ database, providers: [Approval] });

      expect(await client.orchestrator.result(run.id, { timeout: '10s' })).toBe(true);
    });

    it('an answer wins a race with a sleep that was due after it, and loses one with a sleep that was due before', async () => {
      const Race = workflow<number>('race', ({ ctx }, minutes) =>
        ctx.race({
          answered: () => ctx.waitForInput('ok', { type: 'approval' }),
          late: () => ctx.sleep(minutes * MINUTE_MS),
        }),
      );
      const first = await startApp({ database, providers: [Race] });
      const runs = await Promise.all([5, 15].map((minutes) => first.orchestrator.start(Race, minutes)));
      for (const run of runs) await untilAsked(first.orchestrator, run.id);
      await first.crash();
      const { orchestrator } = await startApp({ database, options: { worker: false } });
      await moveClock(database, 10 * MINUTE_MS);
      for (const run of runs) await orchestrator.inputs.provide(run.id, 'ok', true);
      await moveClock(database, 20 * MINUTE_MS);
      await startApp({ database, providers: [Race] });

      const results = await Promise.all(runs.map((run) => orchestrator.result(run.id, { timeout: '10s' })));

      expect(results).toEqual([{ winner: 'late' }, { winner: 'answered', value: true }]);
      expect((await sql.query('select from orchestration.input')).rows).toEqual([]);
    });

    it('an answer that comes after is refused', async () => {
      const { run, client } = await asked();
      await moveClock(database, 11 * MINUTE_MS);

      await expect(client.orchestrator.inputs.provide(run.id, 'refund', true)).rejects.toThrow(InputNotPendingError);
      expect(await listed(client.orchestrator)).toEqual([]);
      await startApp({ database, providers: [Approval] });
      await expect(client.orchestrator.result(run.id, { timeout: '10s' })).rejects.toMatchObject({
        cause: { code: 'INPUT_TIMEOUT' },
      });
    });
  });
});

describe('a schema, which only the code of the run has', () => {
  it('gives the run its output, and may be asynchronous', async () => {
    const Taken = z.string().refine(async (name) => {
      await new Promise((resolve) => setImmediate(resolve));
      return name !== 'taken';
    }, 'is taken already');
    const Name = workflow('name', ({ ctx }) => ctx.waitForInput('name', { type: 'form', schema: Taken }));
    const { orchestrator } = await startApp({ database, providers: [Name] });
    const run = await orchestrator.start(Name, undefined);
    await untilAsked(orchestrator, run.id);

    await expect(orchestrator.inputs.provide(run.id, 'name', 'taken')).rejects.toMatchObject({
      issues: [{ message: 'is taken already' }],
    });
    await orchestrator.inputs.provide(run.id, 'name', 'free');

    expect(await run.result()).toBe('free');
  });

  it.each([
    ['throws', () => Promise.reject(new Error('out of order')), 'the schema threw Error: out of order'],
    ['gives what cannot be stored', () => Promise.resolve({ value: () => 1 }), 'cannot be stored'],
  ])('refuses the answer when it %s', async (_case, validate, reason) => {
    const schema = { '~standard': { version: 1 as const, vendor: 'test', validate } };
    const Broken = workflow('broken', ({ ctx }) => ctx.waitForInput('x', { type: 'form', schema: schema as never }));
    const { orchestrator } = await startApp({ database, providers: [Broken] });
    const run = await orchestrator.start(Broken, undefined);
    await untilAsked(orchestrator, run.id);

    await expect(orchestrator.inputs.provide(run.id, 'x', 1)).rejects.toThrow(reason);
    expect(await untilAsked(orchestrator, run.id)).toHaveLength(1);
    await untilStatus(run.id, 'waiting');
  });

  it('is nowhere: the answer is taken back, and no worker that comes later applies it', async () => {
    const first = await startApp({ database, providers: [Form] });
    const run = await first.orchestrator.start(Form, undefined);
    await untilAsked(first.orchestrator, run.id);
    await first.close();
    const { orchestrator } = await startApp({ database, options: { worker: false } });

    const error: unknown = await orchestrator.inputs
      .provide(run.id, 'address', { city: 'Oslo', zip: 1 }, { timeout: 50 })
      .catch((thrown: unknown) => thrown);

    expect(error).toBeInstanceOf(InputNotJudgedError);
    expect(error).toMatchObject({ status: 503, runId: run.id, input: 'address', workflow: 'form', timeoutMs: 50 });
    await startApp({ database, providers: [Form] });
    await untilStatus(run.id, 'waiting');
    expect(await untilAsked(orchestrator, run.id)).toHaveLength(1);
    await orchestrator.inputs.provide(run.id, 'address', { city: 'Bergen', zip: 2 });
    expect(await orchestrator.result(run.id)).toEqual({ city: 'Bergen', zip: 2 });
  });

  it('of a provider that has died: its offer lapses, and the next answer is taken', async () => {
    const first = await startApp({ database, providers: [Form] });
    const run = await first.orchestrator.start(Form, undefined);
    await untilAsked(first.orchestrator, run.id);
    await first.close();
    const dying = await startApp({ database, options: { worker: false } });
    void dying.orchestrator.inputs.provide(run.id, 'address', { city: 'Oslo', zip: 1 }).catch(() => {});
    await until('the offer is made', async () => {
      const { rows } = await sql.query(`select from orchestration.input where state = 'offered'`);
      return rows.length === 1;
    });
    await dying.crash();
    const { orchestrator } = await startApp({ database, options: { worker: false } });
    await expect(orchestrator.inputs.provide(run.id, 'address', {})).rejects.toThrow('another answer is being checked');
    await moveClock(database, MINUTE_MS);
    await startApp({ database, providers: [Form] });
    await untilStatus(run.id, 'waiting');

    await orchestrator.inputs.provide(run.id, 'address', { city: 'Bergen', zip: 2 });

    expect(await orchestrator.result(run.id)).toEqual({ city: 'Bergen', zip: 2 });
  });

  it('holds the timeout back while it is at work, whether it takes the answer or refuses it', async () => {
    const schema = new Barrier();
    const Slow = workflow('slow', ({ ctx }) => {
      const slow = z.number().refine(async (value) => {
        await schema.pass();
        return value > 0;
      });
      return ctx.waitForInput('n', { type: 'form', schema: slow, timeout: 10 * MINUTE_MS, timeoutValue: 'late' });
    });
    const { orchestrator } = await startApp({
      database,
      providers: [Slow],
      options: { worker: { pollInterval: 50 } },
    });
    const runs = await Promise.all([0, 1].map(() => orchestrator.start(Slow, undefined)));
    for (const run of runs) await untilAsked(orchestrator, run.id);
    const answers = [-1, 1].map((value, index) =>
      orchestrator.inputs.provide(runs[index]!.id, 'n', value).then(
        () => 'taken',
        (error: unknown) => (error as Error).name,
      ),
    );
    await schema.reached(2);
    // Not so far that the offer lapses.
    const { rows } = await sql.query<{ left: number }>(
      'select extract(epoch from min(expires_at) - now())::float8 * 1000 as left from orchestration.input',
    );
    await sql.query(`update orchestration.input set offered_until = offered_until + interval '20 minutes'`);
    await moveClock(database, rows[0]!.left + 1_000);
    await until('the time of both is over', async () => {
      const run = await orchestrator.get(runs[0]!.id);
      return run.status === 'running';
    });
    schema.open();

    // That of the answer which was refused is not told the reasons if the wait has ended before it asked for them.
    const [refused, taken] = await Promise.all(answers);
    expect(['ValidationError', 'InputNotPendingError']).toContain(refused);
    expect(taken).toBe('taken');
    expect(await Promise.all(runs.map((run) => run.result({ timeout: '10s' })))).toEqual(['late', 1]);
  });
});

describe('what ends a wait otherwise also ends that people are asked', () => {
  it('the winner of a race, and a branch that is cancelled', async () => {
    const Race = workflow('race', async ({ ctx }) => {
      const won = await ctx.race({
        first: () => ctx.waitForInput('first', { type: 'text' }),
        second: () => ctx.waitForInput('second', { type: 'approval' }),
      });
      return [won.winner, won.value, await ctx.waitForInput('third', { type: 'text' })];
    });
    const { orchestrator } = await startApp({ database, providers: [Race] });
    const run = await orchestrator.start(Race, undefined);
    await untilAsked(orchestrator, run.id, 2);

    await orchestrator.inputs.provide(run.id, 'second', true);

    await until('the third is asked', async () => (await listed(orchestrator))[0]?.name === 'third');
    expect(await untilAsked(orchestrator, run.id)).toHaveLength(1);
    await expect(orchestrator.inputs.provide(run.id, 'first', 'late')).rejects.toThrow(InputNotPendingError);
    await orchestrator.inputs.provide(run.id, 'third', 'x');
    expect(await run.result()).toEqual(['second', true, 'x']);
    expect(await rowsOf(run.id)).toEqual([]);
  });

  it('19. allSettled over an answer, a timeout and a sleep', async () => {
    const All = workflow('all', ({ ctx }) =>
      ctx.allSettled({
        answered: () => ctx.waitForInput('a', { type: 'text' }),
        late: () => ctx.waitForInput('b', { type: 'text', timeout: 20 }),
        slept: () => ctx.sleep(20),
      }),
    );
    const { orchestrator } = await startApp({ database, providers: [All] });
    const run = await orchestrator.start(All, undefined);
    await untilAsked(orchestrator, run.id);

    await orchestrator.inputs.provide(run.id, 'a', 'x');

    expect(await run.result()).toMatchObject({
      answered: { status: 'fulfilled', value: 'x' },
      late: { status: 'rejected', error: { code: 'INPUT_TIMEOUT' } },
      slept: { status: 'fulfilled' },
    });
  });

  it.each(['graceful', 'terminate'] as const)('47. a cancellation: %s', async (mode) => {
    const { orchestrator } = await startApp({ database, providers: [Approval] });
    const run = await orchestrator.start(Approval, undefined);
    await untilAsked(orchestrator, run.id);
    await untilStatus(run.id, 'waiting');

    await orchestrator.cancel(run.id, { mode });

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    await expect(orchestrator.inputs.provide(run.id, 'refund', true)).rejects.toThrow('the run is cancelled');
    expect(await listed(orchestrator)).toEqual([]);
    expect(await rowsOf(run.id)).toEqual([]);
  });

  it('but not in a shield, whose question is still open while the run is being cancelled', async () => {
    const Shielded = workflow('shielded', async ({ ctx }) => {
      try {
        await ctx.waitForInput('go', { type: 'approval' });
      } catch (error) {
        if (!(error instanceof CancelledError)) throw error;
        const kept = await ctx.shield(() => ctx.waitForInput('keep', { type: 'approval' }));
        await ctx.shield(() => ctx.step('tell', () => void told.push(kept)));
      }
    });
    const told: boolean[] = [];
    const { orchestrator } = await startApp({ database, providers: [Shielded] });
    const run = await orchestrator.start(Shielded, undefined);
    await untilAsked(orchestrator, run.id);
    await orchestrator.cancel(run.id);
    await until('it asks in the shield', async () => (await listed(orchestrator))[0]?.name === 'keep');

    await orchestrator.inputs.provide(run.id, 'keep', true);

    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    expect(told).toEqual([true]);
  });

  it('the end of the run, which nobody has made wait, and its deadline in another process', async () => {
    const Unawaited = workflow('unawaited', async ({ ctx }) => {
      void ctx.waitForInput('never', { type: 'text' });
      await ctx.step('step', () => 1);
    });
    const Deadline = workflow({ name: 'deadline', timeout: '10m' }, ({ ctx }) =>
      ctx.waitForInput('too late', { type: 'text' }),
    );
    const first = await startApp({ database, providers: [Unawaited, Deadline] });
    const done = await first.orchestrator.start(Unawaited, undefined);
    const late = await first.orchestrator.start(Deadline, undefined);
    await done.result();
    await untilAsked(first.orchestrator, late.id);
    await first.crash();
    await moveClock(database, 11 * MINUTE_MS);
    const { orchestrator } = await startApp({ database, providers: [Unawaited, Deadline] });

    await expect(orchestrator.result(late.id)).rejects.toMatchObject({ cause: { code: 'RUN_TIMEOUT' } });
    expect(await rowsOf(done.id)).toEqual([]);
    expect(await rowsOf(late.id)).toEqual([]);
  });

  it('the end of the attempt of a step whose body asks', async () => {
    let attempts = 0;
    const InStep = workflow('in-step', ({ ctx }) =>
      ctx.step(
        'ask',
        async () => {
          const answer = ctx.waitForInput('ok', { type: 'approval' });
          if (++attempts === 1) throw new Error('after asking');
          return await answer;
        },
        { retry: { maxAttempts: 2, initialInterval: 10, jitter: 0 } },
      ),
    );
    const { orchestrator } = await startApp({ database, providers: [InStep] });
    const run = await orchestrator.start(InStep, undefined);
    await until('the second attempt asks', () => attempts === 2);
    await untilStatus(run.id, 'waiting');

    expect(await untilAsked(orchestrator, run.id)).toHaveLength(1);
    await orchestrator.inputs.provide(run.id, 'ok', true);

    expect(await run.result({ timeout: '10s' })).toBe(true);
  });
});

it('an answered run ends as cheaply as any other, and one that waits costs nothing', async () => {
  const Then = workflow('then', async ({ ctx }) => {
    await ctx.waitForInput('go', { type: 'approval' });
    return ctx.step('last', () => last.pass().then(() => 'done'));
  });
  const last = new Barrier();
  const { orchestrator } = await startApp({
    database,
    providers: [Then],
    options: { worker: { pollInterval: '1m', lease: '10m' } },
  });
  const run = await orchestrator.start(Then, undefined);
  await untilStatus(run.id, 'waiting');

  const waiting = await measure(database, () => delay(300));
  await orchestrator.inputs.provide(run.id, 'go', true);
  await last.reached();
  const ending = await measure(database, async () => {
    last.open();
    await run.result();
  });

  expect(waiting.statements).toBe(0);
  expect({ statements: ending.statements, commits: ending.commits }).toEqual({ statements: 1, commits: 1 });
});

describe('in the body of a step', () => {
  it('the answer is taken by another process, which runs the body again', async () => {
    const bodies: string[] = [];
    const InStep = workflow('in-step', ({ ctx }) =>
      ctx.step('ask', async () => {
        bodies.push('began');
        return await ctx.waitForInput('ok', { type: 'approval', timeout: '1h' });
      }),
    );
    const first = await startApp({ database, providers: [InStep] });
    const run = await first.orchestrator.start(InStep, undefined);
    const [asked] = await untilAsked(first.orchestrator, run.id);
    await untilStatus(run.id, 'waiting');
    await first.crash();
    const { orchestrator } = await startApp({ database, providers: [InStep] });

    await orchestrator.inputs.provide(run.id, 'ok', true);

    expect(await orchestrator.result(run.id, { timeout: '10s' })).toBe(true);
    expect(bodies).toHaveLength(2);
    expect(asked!.expiresAt).toBeInstanceOf(Date);
    expect(await rowsOf(run.id)).toEqual([]);
  });
});

describe('the list', () => {
  it('goes page by page, the longest waiting first, filtered by workflow and by time', async () => {
    const Many = workflow<number>('many', ({ ctx }, count) =>
      ctx.map(Array.from({ length: count }), (_, index) =>
        ctx.waitForInput(`q${index}`, { type: 'text', timeout: (index + 1) * MINUTE_MS }),
      ),
    );
    const { orchestrator } = await startApp({ database, providers: [Many, Choice] });
    const other = await orchestrator.start(Choice, undefined);
    await untilAsked(orchestrator, other.id);
    const many = await orchestrator.start(Many, 7);
    await untilAsked(orchestrator, many.id, 7);
    const pages: PendingInput[][] = [];
    let cursor: string | undefined;

    do {
      const page = await orchestrator.inputs.list({ limit: 3, cursor });
      pages.push(page.items);
      cursor = page.nextCursor;
    } while (cursor);

    expect(pages.map(({ length }) => length)).toEqual([3, 3, 2]);
    expect(pages.flat().map(({ name }) => name)).toEqual(['size', 'q0', 'q1', 'q2', 'q3', 'q4', 'q5', 'q6']);
    expect((await orchestrator.inputs.list({ workflow: 'choice' })).items.map(({ name }) => name)).toEqual(['size']);
    const soon = new Date(pages.flat()[3]!.expiresAt!.getTime() + 1);
    expect((await orchestrator.inputs.list({ expiringBefore: soon })).items.map(({ name }) => name)).toEqual([
      ...['q0', 'q1', 'q2'],
    ]);
  });

  it.each([
    [{ limit: 0 }, 'limit must be 1 to 1000, not 0'],
    [{ limit: 1_001 }, 'limit must be 1 to 1000, not 1001'],
    [{ cursor: 'x' }, 'cursor is none that inputs.list has given'],
    [{ expiringBefore: 'soon' }, 'expiringBefore must be a valid Date'],
    [{ status: 'pending' }, 'status is unknown (known: workflow, expiringBefore, limit, cursor)'],
  ])('refuses %j', async (filter, message) => {
    const { orchestrator } = await startApp({ database, options: { worker: false } });

    await expect(orchestrator.inputs.list(filter as never)).rejects.toThrow(message);
  });
});

/*
 * Invariant: an answer for which `provide` has resolved is what the run goes on with; one that was refused never reaches it.
 * What could break it is the order in which an answer, the begin and the end of the wait, and a crash get at the run's row
 * and at that of the input. Each order is forced.
 */
describe('nothing is lost, and nothing comes twice', () => {
  const busy = { barrier: new Barrier() };
  const Busy = workflow('busy', ({ ctx }) =>
    Promise.all([
      ctx.waitForInput('ok', { type: 'approval' }),
      ctx.step('busy', () => busy.barrier.pass().then(() => 'was busy')),
    ]),
  );

  /** The run asks and is busy; its last write before the park, and an answer from elsewhere, meet at its row. */
  async function standOff() {
    busy.barrier = new Barrier();
    await startApp({ database, providers: [Busy] });
    const client = await startApp({ database, options: { worker: false } });
    const run = await client.orchestrator.start('busy', undefined);
    await busy.barrier.reached();
    await untilAsked(client.orchestrator, run.id);
    const held = await HeldRows.hold(database, run.id);
    return { run, held, provide: () => client.orchestrator.inputs.provide(run.id, 'ok', true) };
  }

  it('the answer first, and the park after it: the run goes on', async () => {
    const { run, held, provide } = await standOff();
    const answering = provide();
    await held.untilWaiting(1);
    busy.barrier.open();
    await held.untilWaiting(2);
    await held.release();
    await answering;

    expect(await run.result({ timeout: '10s' })).toEqual([true, 'was busy']);
  });

  it('the park first, and the answer after it: the run goes on', async () => {
    const { run, held, provide } = await standOff();
    busy.barrier.open();
    await held.untilWaiting(1);
    const answering = provide();
    await held.untilWaiting(2);
    await held.release();
    await answering;

    expect(await run.result({ timeout: '10s' })).toEqual([true, 'was busy']);
  });

  it('two answers at once: one is taken, the other is told that it came too late', async () => {
    await startApp({ database, providers: [Choice] });
    const clients = [
      await startApp({ database, options: { worker: false } }),
      await startApp({ database, options: { worker: false } }),
    ];
    const run = await clients[0]!.orchestrator.start('choice', undefined);
    await untilAsked(clients[0]!.orchestrator, run.id);
    await untilStatus(run.id, 'waiting');
    const held = await HeldRows.hold(database, run.id);
    const answers = ['small', 'large'].map((size, index) =>
      clients[index]!.orchestrator.inputs.provide(run.id, 'size', size).then(
        () => size,
        (error: unknown) => error,
      ),
    );
    await held.untilWaiting(2);
    await held.release();

    const outcomes = await Promise.all(answers);

    const [taken] = outcomes.filter((outcome) => typeof outcome === 'string');
    expect(outcomes.filter((outcome) => outcome instanceof InputNotPendingError)).toHaveLength(1);
    expect(await run.result({ timeout: '10s' })).toBe(taken);
  });

  it('two answers to a form at once: one is taken, the other is told that it came too late', async () => {
    const { orchestrator } = await startApp({ database, providers: [Form] });
    const run = await orchestrator.start(Form, undefined);
    await untilAsked(orchestrator, run.id);

    const outcomes = await Promise.all(
      [1, 2, 3].map((zip) =>
        orchestrator.inputs.provide(run.id, 'address', { city: 'Oslo', zip }).then(
          () => zip,
          (error: unknown) => error,
        ),
      ),
    );

    const [taken] = outcomes.filter((outcome) => typeof outcome === 'number');
    expect(outcomes.filter((outcome) => outcome instanceof InputNotPendingError)).toHaveLength(2);
    expect(await run.result({ timeout: '10s' })).toEqual({ city: 'Oslo', zip: taken });
  });

  describe('an answer that is being committed when the timeout closes the input', () => {
    /** The answer has changed the input's row and waits for a lock before it commits. */
    async function half(commit: boolean) {
      const app = await startApp({ database, providers: [Approval], options: { worker: { pollInterval: 50 } } });
      const run = await app.orchestrator.start(Approval, { timeout: 10 * MINUTE_MS });
      await untilAsked(app.orchestrator, run.id);
      await untilStatus(run.id, 'waiting');
      await sql.query('begin');
      await sql.query(
        `update orchestration.input set state = 'answered', answer = 'true', answered_at = orchestration.engine_now(),
           offer_id = gen_random_uuid() where run_id = $1`,
        [run.id],
      );
      const observer = new pg.Client({ connectionString: database.url });
      await observer.connect();
      await moveClock(database, 10 * MINUTE_MS + 1);
      await until('the timeout waits for the answer', async () => {
        const { rows } = await observer.query(
          `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        );
        return rows.length > 0;
      });
      await observer.end();
      await sql.query(commit ? 'commit' : 'rollback');
      return run;
    }

    it('is the answer', async () => {
      const run = await half(true);

      expect(await run.result({ timeout: '10s' })).toBe(true);
    });

    it('and is rolled back: the wait times out', async () => {
      const run = await half(false);

      await expect(run.result({ timeout: '10s' })).rejects.toMatchObject({ cause: { code: 'INPUT_TIMEOUT' } });
    });
  });

  it('an answer that comes when the timeout has closed the input is refused', async () => {
    const app = await startApp({ database, providers: [Approval], options: { worker: { pollInterval: 50 } } });
    const run = await app.orchestrator.start(Approval, { timeout: 10 * MINUTE_MS });
    await untilAsked(app.orchestrator, run.id);
    await untilStatus(run.id, 'waiting');
    const { inputs } = await storeOf(app);
    const closed = new Barrier();
    const given = inputs.given.bind(inputs);
    inputs.given = async (runId) => {
      await closed.pass();
      return given(runId);
    };
    await moveClock(database, 10 * MINUTE_MS + 1);
    await closed.reached();

    await expect(app.orchestrator.inputs.provide(run.id, 'refund', true)).rejects.toThrow(InputNotPendingError);
    closed.open();
    await expect(run.result({ timeout: '10s' })).rejects.toMatchObject({ cause: { code: 'INPUT_TIMEOUT' } });
  });

  it.each([
    ['before it has looked for the answer', Approval, 'refund', true, 'given'],
    ['while it judges the answer', Form, 'address', { city: 'Oslo', zip: 1 }, 'accept'],
  ] as const)('a process dies %s: the next one takes it', async (_case, Asking, name, value, member) => {
    const victim = await startApp({ database, providers: [Asking] });
    const { orchestrator } = await startApp({ database, options: { worker: false } });
    const run = await victim.orchestrator.start(Asking as typeof Form, undefined);
    await untilAsked(orchestrator, run.id);
    const { inputs } = await storeOf(victim);
    const barrier = new Barrier();
    inputs[member] = async () => {
      await barrier.pass();
      throw new Error('dead');
    };
    const provided = orchestrator.inputs.provide(run.id, name, value);
    await barrier.reached();
    await victim.crash();
    await startApp({ database, providers: [Asking] });
    await provided;

    expect(await orchestrator.result(run.id, { timeout: '10s' })).toEqual(value);
    barrier.open();
  });

  it('a process dies between taking the answer of a form and recording it: it is not judged again', async () => {
    let judged = 0;
    const counting = z.number().transform((value) => value * 10 + ++judged);
    const Counting = workflow('counting', ({ ctx }) => ctx.waitForInput('n', { type: 'form', schema: counting }));
    const victim = await startApp({ database, providers: [Counting] });
    const { orchestrator } = await startApp({ database, options: { worker: false } });
    const run = await victim.orchestrator.start(Counting, undefined);
    await untilAsked(orchestrator, run.id);
    const store = await storeOf(victim);
    const recording = new Barrier();
    store.commitWithEffects = async () => {
      await recording.pass();
      throw new Error('dead');
    };

    await orchestrator.inputs.provide(run.id, 'n', 4);
    await recording.reached();
    await victim.crash();
    await startApp({ database, providers: [Counting] });

    expect(await orchestrator.result(run.id, { timeout: '10s' })).toBe(41);
    expect(judged).toBe(1);
  });

  it('asked anew by code that offers other choices: an answer that is none of them does not reach it', async () => {
    const choosing = (...choices: string[]) =>
      workflow('choosing', ({ ctx }) => ctx.waitForInput('size', { type: 'choice', choices }));
    const first = await startApp({ database, providers: [choosing('small', 'large')] });
    const run = await first.orchestrator.start('choosing', undefined);
    await untilAsked(first.orchestrator, run.id);
    await first.crash();
    const { orchestrator } = await startApp({ database, options: { worker: false } });
    await orchestrator.inputs.provide(run.id, 'size', 'small');
    await startApp({ database, providers: [choosing('medium', 'large')] });
    await until('it is asked anew', async () => (await listed(orchestrator)).length === 1);

    await untilStatus(run.id, 'waiting');
    await orchestrator.inputs.provide(run.id, 'size', 'large');

    expect(await orchestrator.result(run.id, { timeout: '10s' })).toBe('large');
  });

  it('answers and timeouts that meet, 200 times in two processes: who was told so was heard, who was refused was not', async () => {
    const Meeting = workflow<number>('meeting', async ({ ctx }, timeout) =>
      ctx.waitForInput('n', { type: 'form', timeout, timeoutValue: 'late' }),
    );
    const Judged = workflow<number>('meeting-judged', async ({ ctx }, timeout) =>
      ctx.waitForInput('n', { type: 'form', schema: z.number(), timeout, timeoutValue: 'late' }),
    );
    const [one, other] = [
      await startApp({ database, providers: [Meeting, Judged], options: { worker: { pollInterval: 50 } } }),
      await startApp({ database, providers: [Meeting, Judged], options: { worker: { pollInterval: 50 } } }),
    ];
    const runs = await Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        one.orchestrator.start(index % 2 ? Meeting : Judged, 10 * MINUTE_MS + (index % 20) * 10),
      ),
    );
    await until('all are asked', async () => (await one.orchestrator.inputs.list({ limit: 200 })).items.length === 200);
    const { items } = await one.orchestrator.inputs.list({ limit: 200 });
    const expiry = new Map(items.map(({ runId, expiresAt }) => [runId, expiresAt!.getTime()]));
    const ahead = Math.min(...expiry.values()) - Date.now() - 300;
    await moveClock(database, ahead);
    const meet = async (run: (typeof runs)[number], index: number) => {
      // The first at once, the others from a good while before the end of the time to shortly after it.
      if (index >= 5) await delay(expiry.get(run.id)! - ahead - Date.now() - 200 + ((index * 7) % 26) * 10);
      const isTaken = await other.orchestrator.inputs.provide(run.id, 'n', index).then(
        () => true,
        (error: unknown) => {
          if (error instanceof InputNotPendingError) return false;
          throw error;
        },
      );
      return { isTaken, result: await run.result({ timeout: '20s' }), index };
    };

    const meetings = await Promise.all(runs.map(meet));

    expect(meetings.filter(({ isTaken, result, index }) => result !== (isTaken ? index : 'late'))).toEqual([]);
    expect(new Set(meetings.map(({ isTaken }) => isTaken))).toEqual(new Set([true, false]));
    expect((await sql.query('select from orchestration.input')).rows).toEqual([]);
  });
});
