import pg from 'pg';
import { z } from 'zod';

import {
  defineSignal,
  type Duration,
  type RunStatus,
  type SignalTimeoutError,
  ValidationError,
} from '../../lib/index.js';
import type { CommitResult } from '../../lib/engine/run-write.js';
import type { EngineHost } from '../../lib/nest/engine-host.js';
import { closeApps, startApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { workflow, type WorkflowTools } from '../support/workflow.js';

const MINUTE_MS = 60_000;
/** What is not told by a hint is not found in the time of a test. */
const HINTS_ONLY = { worker: { pollInterval: '1m', lease: '10m' } } as const;

let database: TestDatabase;
let sql: pg.Pool;

beforeEach(async () => {
  database = await createTestDatabase();
  sql = new pg.Pool({ connectionString: database.url, max: 1 });
  // Its connection may still be closing when the database is dropped.
  sql.on('error', () => {});
});

afterEach(async () => {
  await HeldRows.releaseAll();
  await closeApps();
  await sql.end();
  await database.drop();
});

const untilParked = (...runIds: string[]) =>
  until(`${runIds.length} runs are parked`, async () => {
    const { rows } = await sql.query<{ status: RunStatus }>('select status from orchestration.run where id = any($1)', [
      runIds,
    ]);
    return rows.every(({ status }) => status === 'waiting');
  });

interface Approval {
  by: string;
}
const Approve = defineSignal<Approval>('approve');
const Add = defineSignal<number>('add');

const Approval = workflow('approval', ({ ctx }) => ctx.waitForSignal(Approve));
const Sum = workflow<number, number[]>('sum', async ({ ctx }, count) => {
  const numbers: number[] = [];
  while (numbers.length < count) numbers.push(await ctx.waitForSignal(Add));
  return numbers;
});

describe('a signal', () => {
  it('wakes a run that waits for it, and its payload is what the wait returns', async () => {
    const { orchestrator } = await startApp({ database, providers: [Approval], options: HINTS_ONLY });
    const run = await orchestrator.start(Approval, undefined);
    await untilParked(run.id);

    expect(await orchestrator.get(run.id)).toMatchObject({
      waitingFor: [{ kind: 'signal', name: 'approve', until: null }],
    });
    await orchestrator.signal(run.id, Approve, { by: 'Ada' });

    expect(await run.result({ timeout: '5s' })).toEqual({ by: 'Ada' });
    expect(await orchestrator.history(run.id)).toMatchObject([
      { seq: 1, kind: 'signal', name: 'approve', key: 'approve', status: 'completed', output: { by: 'Ada' } },
    ]);
  });

  it('53. that was sent before the wait is delivered; signals come in order, each once, and one id counts once', async () => {
    const held = new Barrier();
    const Late = workflow('late', async ({ ctx }) => {
      await ctx.step('before', () => held.pass());
      const numbers = [await ctx.waitForSignal(Add), await ctx.waitForSignal(Add), await ctx.waitForSignal(Add)];
      return [numbers, await ctx.waitForSignal(Add, { timeout: 0, timeoutValue: 'no more' })];
    });
    const { orchestrator } = await startApp({ database, providers: [Late], options: HINTS_ONLY });
    const run = await orchestrator.start(Late, undefined);
    await held.reached();

    await run.signal(Add, 1, { id: 'one' });
    await run.signal(Add, 1, { id: 'one' });
    await run.signal('another', 'not what is waited for');
    await run.signal(Add, 2);
    await Promise.all([run.signal(Add, 3, { id: 'three' }), run.signal(Add, 3, { id: 'three' })]);
    held.open();

    expect(await run.result({ timeout: '5s' })).toEqual([[1, 2, 3], 'no more']);
  });

  it('is received in the order of sending, a hundred at once, and what is left stays in the buffer', async () => {
    const { orchestrator } = await startApp({ database, providers: [Sum], options: HINTS_ONLY });
    const run = await orchestrator.start(Sum, 250);
    const numbers = Array.from({ length: 255 }, (_, index) => index);

    await Promise.all(numbers.map((number) => run.signal(Add, number)));

    expect(await run.result({ timeout: '10s' })).toEqual(numbers.slice(0, 250));
  });

  it('from another process is told by a hint, and completes a parked run well under the interval of the poll', async () => {
    await startApp({ database, providers: [Sum], options: HINTS_ONLY });
    const client = await startApp({ database, options: { worker: false } });
    const run = await client.orchestrator.start('sum', 20);
    const startedAt = performance.now();

    for (let number = 0; number < 20; number++) {
      await untilParked(run.id);
      await client.orchestrator.signal(run.id, Add, number);
    }

    expect(await run.result({ timeout: '10s' })).toHaveLength(20);
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  });
});

describe('a wait', () => {
  it('57. has a timeout that does not start anew after a crash', async () => {
    const Wait = workflow('wait', ({ ctx }) =>
      ctx.waitForSignal(Approve, { timeout: '1h' }).catch((error: unknown) => error),
    );
    const options = { worker: { pollInterval: '50ms' } } as const;
    const first = await startApp({ database, providers: [Wait], options });
    const run = await first.orchestrator.start(Wait, undefined);
    await untilParked(run.id);
    await moveClock(database, 40 * MINUTE_MS);
    await first.crash();
    const second = await startApp({ database, providers: [Wait], options });
    await sql.query(`update orchestration.run set status = 'pending', ready_at = now()`);
    await untilParked(run.id);
    await moveClock(database, 61 * MINUTE_MS);

    expect(await second.orchestrator.result(run.id, { timeout: '5s' })).toMatchObject({
      code: 'SIGNAL_TIMEOUT',
      signal: 'approve',
      timeoutMs: 60 * MINUTE_MS,
    });
  });

  it('57. without time gets what was sent before it, also where the clock of the process is behind that of the database', async () => {
    const held = new Barrier();
    const Drain = workflow('drain', async ({ ctx }) => {
      await ctx.step('before', () => held.pass());
      const next = (timeout: Duration) => ctx.waitForSignal(Add, { timeout, timeoutValue: 'nothing' });
      return [await next(0), await next('-1h'), await next(0)];
    });
    const { orchestrator } = await startApp({ database, providers: [Drain], options: HINTS_ONLY });
    const run = await orchestrator.start(Drain, undefined);
    await held.reached();
    await run.signal(Add, 1);
    await run.signal(Add, 2);
    await sql.query(`update orchestration.signal set sent_at = sent_at + interval '1 minute'`);

    held.open();

    expect(await run.result({ timeout: '5s' })).toEqual([1, 2, 'nothing']);
  });

  it('57. ends at once when its timeout is zero or negative, and returns timeoutValue where that is given', async () => {
    const Wait = workflow('wait', async ({ ctx }) => [
      await ctx.waitForSignal(Approve, { timeout: 0, timeoutValue: undefined }),
      await ctx.waitForSignal(Approve, { timeout: '-1h', timeoutValue: 'late' }),
      await ctx.waitForSignal(Approve, { timeout: -1 }).catch((error: unknown) => (error as SignalTimeoutError).code),
    ]);
    const { orchestrator } = await startApp({ database, providers: [Wait], options: HINTS_ONLY });
    const run = await orchestrator.start(Wait, undefined);

    expect(await run.result({ timeout: '5s' })).toEqual([undefined, 'late', 'SIGNAL_TIMEOUT']);
    expect(await orchestrator.history(run.id)).toMatchObject(
      ['approve', 'approve#2', 'approve#3'].map((key) => ({ kind: 'signal', key, status: 'timeout' })),
    );
  });
});

describe('what is refused', () => {
  it('is a schema that is none, where the signal is defined', () => {
    expect(() => defineSignal('pay', { schema: { parse: () => 1 } as never })).toThrow(
      "The options of signal 'pay': schema must be a Standard Schema",
    );
  });

  it('unknown runs, finished runs, and payloads that the schema does not take', async () => {
    const Strict = defineSignal('strict', {
      schema: z.object({ amount: z.coerce.number().refine(async (amount) => amount > 0, 'must be above zero') }),
    });
    const Wait = workflow('wait', ({ ctx }) => ctx.waitForSignal(Strict));
    const { orchestrator } = await startApp({ database, providers: [Wait], options: HINTS_ONLY });
    const run = await orchestrator.start(Wait, undefined, { key: 'k' });

    const invalid = orchestrator.signal(run.id, Strict, { amount: '-1' });
    await expect(invalid).rejects.toThrow(ValidationError);
    await expect(invalid).rejects.toMatchObject({ issues: [{ message: 'must be above zero', path: ['amount'] }] });
    await orchestrator.signal({ workflow: Wait, key: 'k' }, Strict, { amount: '12' });
    expect(await run.result({ timeout: '5s' })).toEqual({ amount: 12 });

    const finished = orchestrator.signal({ workflow: 'wait', key: 'k' }, 'strict');
    await expect(finished).rejects.toMatchObject({ code: 'RUN_FINISHED', statusCode: 409, runStatus: 'completed' });
    for (const unknown of ['no uuid', '00000000-0000-7000-8000-000000000000', { workflow: Wait, key: 'other' }])
      await expect(orchestrator.signal(unknown, 'x')).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
  });
});

describe('55. approve or reject within 15 s: a race of a signal and a sleep', () => {
  const decide = async ({ ctx }: WorkflowTools) => {
    const { winner, value } = await ctx.race({
      late: () => ctx.sleep('15s'),
      decision: () => ctx.waitForSignal(Approve),
    });
    return winner === 'decision' ? value.by : winner;
  };
  const Decision = workflow('decision', decide);
  const InBranch = workflow('in-branch', ({ ctx, ...tools }) =>
    ctx.all({ inner: () => ctx.race({ decided: () => decide({ ctx, ...tools }), never: () => ctx.sleep('1d') }) }),
  );
  const InStep = workflow('in-step', (tools) => tools.ctx.step('decide', () => decide(tools)));
  const providers = [Decision, InBranch, InStep];
  const often = { worker: { pollInterval: '50ms' } } as const;

  it.each([
    ['the code of the run', 'decision', 'Ada'],
    ['a nested branch', 'in-branch', { inner: { winner: 'decided', value: 'Ada' } }],
    ["a step's body", 'in-step', 'Ada'],
  ])('in %s is won at T+4 s by the signal that is sent then, from another process', async (_where, name, output) => {
    await startApp({ database, providers, options: often });
    const client = await startApp({ database, options: { worker: false } });
    const run = await client.orchestrator.start(name, undefined);
    await untilParked(run.id);
    await moveClock(database, 4_000);
    const sentAt = performance.now();
    await client.orchestrator.signal(run.id, Approve, { by: 'Ada' });

    expect(await run.result({ timeout: '5s' })).toEqual(output);
    expect(performance.now() - sentAt).toBeLessThan(2_000);
    const { createdAt, finishedAt } = await client.orchestrator.get(run.id);
    expect(Math.round((finishedAt!.getTime() - createdAt.getTime()) / 1_000)).toBeLessThanOrEqual(7);
  });

  it('is won by the signal that was sent before the wait', async () => {
    const client = await startApp({ database, options: { worker: false } });
    await startApp({ database, providers, options: { worker: { ...HINTS_ONLY.worker, queues: ['others'] } } });
    const run = await client.orchestrator.start('decision', undefined);
    await run.signal(Approve, { by: 'Ada' });
    await startApp({ database, providers, options: often });

    expect(await run.result({ timeout: '5s' })).toBe('Ada');
  });

  describe.each([
    ['sent at T+4 s', 4_000, 'Ada'],
    ['sent at T+20 s', 20_000, 'late'],
  ])('with a signal %s and no process up until T+60 s', (_when, sentAfter, output) => {
    it.each([
      ['parked', true],
      ['crashed before it parked', false],
    ])('is decided by what came first: the run was %s', async (_how, parks) => {
      const AfterStep = workflow('after-step', async (tools) => {
        await tools.ctx.step('before', () => 1);
        return await decide(tools);
      });
      const first = await startApp({ database, providers: [AfterStep] });
      const run = await first.orchestrator.start(AfterStep, undefined);
      await untilParked(run.id);
      await first.crash();
      // As if the last write, the park, had not come to be.
      if (!parks) await sql.query(`update orchestration.run set status = 'pending', ready_at = now(), wake_at = null`);
      const client = await startApp({ database, options: { worker: false } });
      await moveClock(database, sentAfter);
      await client.orchestrator.signal(run.id, Approve, { by: 'Ada' });
      await moveClock(database, 60_000);
      const second = await startApp({ database, providers: [AfterStep] });

      expect(await second.orchestrator.result(run.id, { timeout: '5s' })).toBe(output);
    });
  });

  it.each([
    ['sent in time', 4_000, 'Ada'],
    ['sent too late', 20_000, 'nobody'],
  ])(
    "a wait's own timeout is compared alike: a signal %s, and no process up at either moment",
    async (_when, sentAfter, output) => {
      const Wait = workflow('wait', async ({ ctx }) =>
        ctx.waitForSignal(Approve, { timeout: '15s', timeoutValue: { by: 'nobody' } }).then(({ by }) => by),
      );
      const first = await startApp({ database, providers: [Wait] });
      const run = await first.orchestrator.start(Wait, undefined);
      await untilParked(run.id);
      await first.crash();
      const client = await startApp({ database, options: { worker: false } });
      await moveClock(database, sentAfter);
      await client.orchestrator.signal(run.id, Approve, { by: 'Ada' });
      await moveClock(database, 60_000);
      const second = await startApp({ database, providers: [Wait] });

      expect(await second.orchestrator.result(run.id, { timeout: '5s' })).toBe(output);
    },
  );

  it('is won by a signal that nobody told this process of when the time had come', async () => {
    const busy = new Barrier();
    const Short = workflow('short', async ({ ctx }) => {
      // While a body runs the run is not parked: its own timer fires, not a claim that would bring the news.
      const [, { winner }] = await Promise.all([
        ctx.step('busy', () => busy.pass()),
        ctx
          .race({ late: () => ctx.sleep('1s'), decision: () => ctx.waitForSignal(Approve) })
          .finally(() => busy.open()),
      ]);
      return winner;
    });
    const app = await startApp({ database, providers: [Short], options: HINTS_ONLY });
    const run = await app.orchestrator.start(Short, undefined);
    await busy.reached();
    // The signal as another process commits it, whose hint is lost.
    await sql.query(`select orchestration.send_signal($1, 'x', 'approve', '{"by":"Ada"}', false, false)`, [run.id]);

    expect(await run.result({ timeout: '5s' })).toBe('decision');
  });
});

describe('a signal that a wait took and the code did not receive', () => {
  it('20. stays in the buffer when the wait is the loser of a race, and keeps its place in the order', async () => {
    const held = new Barrier();
    const Race = workflow('race', async ({ ctx }) => {
      await ctx.step('held', () => held.pass());
      // Both have come when the code asks; the first to be recorded wins and the other wait is cancelled.
      const { winner, value } = await ctx.race({
        add: () => ctx.waitForSignal(Add),
        approve: () => ctx.waitForSignal(Approve),
      });
      const rest = [await ctx.waitForSignal(Approve), await ctx.waitForSignal(Add)];
      return [winner, value, ...rest, await ctx.waitForSignal(Add, { timeout: 0, timeoutValue: 'none' })];
    });
    const { orchestrator } = await startApp({ database, providers: [Race], options: HINTS_ONLY });
    const run = await orchestrator.start(Race, undefined);
    await held.reached();
    await run.signal(Add, 1);
    await run.signal(Approve, { by: 'Ada' });
    await run.signal(Add, 2);
    held.open();

    expect(await run.result({ timeout: '5s' })).toEqual(['add', 1, { by: 'Ada' }, 2, 'none']);
  });

  const Three = workflow('three', async ({ ctx }) => {
    const raced = ctx.race({ loser: () => ctx.waitForSignal(Add), stop: () => ctx.waitForSignal('stop') });
    const second = ctx.waitForSignal(Add);
    const third = ctx.waitForSignal(Add);
    return [(await raced).winner, await second, await third];
  });

  it('goes to the next wait of its name, in the order in which they were asked for', async () => {
    const { orchestrator } = await startApp({ database, providers: [Three], options: HINTS_ONLY });
    const run = await orchestrator.start(Three, undefined);
    await untilParked(run.id);
    await run.signal('stop');
    await run.signal(Add, 1);
    await run.signal(Add, 2);

    expect(await run.result({ timeout: '5s' })).toEqual(['stop', 1, 2]);
  });

  it('goes to that wait also when it has taken a later one in the same moment, of signals that one look has found', async () => {
    const { orchestrator } = await startApp({
      database,
      providers: [Three],
      options: { worker: { pollInterval: '50ms' } },
    });
    const run = await orchestrator.start(Three, undefined);
    await untilParked(run.id);
    // As another process commits them, whose hints are lost.
    await sql.query(
      `select orchestration.send_signal($1, n::text, case n when 0 then 'stop' else 'add' end, n::text, false, false)
       from generate_series(0, 2) n`,
      [run.id],
    );

    expect(await run.result({ timeout: '5s' })).toEqual(['stop', 1, 2]);
    expect(await orchestrator.history(run.id)).toMatchObject([
      { name: 'stop', status: 'completed' },
      { key: 'add#2', status: 'completed', output: 1 },
      { key: 'add#3', status: 'completed', output: 2 },
    ]);
  });
});

it('19. allSettled over a step, a sleep, a signal, one that does not come, and a child', async () => {
  const Child = workflow('child', () => Promise.reject(new RangeError('out of it')));
  const All = workflow('all', async ({ ctx, children }) => {
    const { step, sleep, signal, none, child } = await ctx.allSettled({
      step: () => ctx.step('step', () => 1),
      sleep: () => ctx.sleep(10),
      signal: () => ctx.waitForSignal(Add),
      none: () => ctx.waitForSignal('none', { timeout: 300 }),
      child: () => children.call(Child, undefined),
    });
    return [step, sleep, signal, none.status, child.status];
  });
  const { orchestrator } = await startApp({ database, providers: [All, Child] });
  const run = await orchestrator.start(All, undefined);
  await run.signal(Add, 7);

  expect(await run.result({ timeout: '5s' })).toEqual([
    { status: 'fulfilled', value: 1 },
    { status: 'fulfilled', value: undefined },
    { status: 'fulfilled', value: 7 },
    ...['rejected', 'rejected'],
  ]);
});

it('22. no catch or finally of the code runs while it is parked, crashes and goes on', async () => {
  const ran: string[] = [];
  const Wait = workflow('wait', async ({ ctx }) => {
    try {
      return await ctx.waitForSignal(Add);
    } catch {
      ran.push('catch');
    } finally {
      ran.push('finally');
    }
  });
  const first = await startApp({ database, providers: [Wait] });
  const run = await first.orchestrator.start(Wait, undefined);
  await untilParked(run.id);
  await first.crash();
  const second = await startApp({ database, providers: [Wait] });
  expect(ran).toEqual([]);
  await second.orchestrator.signal(run.id, Add, 3);

  expect(await second.orchestrator.result(run.id, { timeout: '5s' })).toBe(3);
  expect(ran).toEqual(['finally']);
});

it('47. a cancellation ends a wait promptly, and the signal that comes then is refused', async () => {
  const { orchestrator } = await startApp({ database, providers: [Approval], options: HINTS_ONLY });
  const run = await orchestrator.start(Approval, undefined);
  await untilParked(run.id);
  await run.cancel();

  await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
  await expect(run.signal(Approve, { by: 'Ada' })).rejects.toMatchObject({ code: 'RUN_FINISHED' });
});

it('3. a worker that lost its run cannot write a receipt: the next owner receives the signal, once', async () => {
  const zombie = await startApp({ database, providers: [Approval], options: HINTS_ONLY });
  const { store } = await zombie.context.get<EngineHost>('EngineHost:', { strict: false }).engine();
  const commit = store.commit.bind(store);
  const frozen = new Barrier();
  const answers: Promise<CommitResult>[] = [];
  const run = await zombie.orchestrator.start(Approval, undefined);
  await untilParked(run.id);
  store.commit = async (...write) => {
    await frozen.pass();
    answers.push(commit(...write));
    return answers.at(-1)!;
  };
  await run.signal(Approve, { by: 'Ada' });
  await frozen.reached();
  await sql.query(`update orchestration.worker set expires_at = '-infinity'`);
  const next = await startApp({ database, providers: [Approval] });

  expect(await next.orchestrator.result(run.id, { timeout: '5s' })).toEqual({ by: 'Ada' });
  const before = await next.orchestrator.history(run.id);
  frozen.open();
  await until('the zombie has an answer', () => answers.length > 0);

  expect((await answers[0]!).runs).toEqual([]);
  expect(before).toMatchObject([{ kind: 'signal', output: { by: 'Ada' } }]);
  expect(await next.orchestrator.history(run.id)).toEqual(before);
});
