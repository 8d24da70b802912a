import pg from 'pg';
import { z } from 'zod';

import { defineSignal, type RunStatus, type SignalTimeoutError, ValidationError } from '../../lib/index.js';
import { closeApps, startApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const MINUTE_MS = 60_000;
/** What is not told by a hint is not found in the time of a test. */
const HINTS_ONLY = { worker: { pollInterval: '1m', lease: '10m' } } as const;

let database: TestDatabase;
let sql: pg.Client;

beforeEach(async () => {
  database = await createTestDatabase();
  sql = new pg.Client({ connectionString: database.url });
  await sql.connect();
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
