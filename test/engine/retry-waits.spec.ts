import type { RunStatus } from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { untilStatus } from '../support/until-status.js';
import { workflow } from '../support/workflow.js';

const HOUR_MS = 3_600_000;

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(async () => {
  await closeApps();
  await moveClock(database, 0);
});

afterAll(() => database.drop());

function start(...providers: NonNullable<Parameters<typeof startApp>[0]['providers']>): Promise<TestApp> {
  return startApp({ database, providers, options: { worker: { pollInterval: '20ms' } } });
}

describe('retry of a run that waited in vain', () => {
  it('for a signal waits for it anew, for the whole of its time, also over a crash', async () => {
    const Waiting = workflow('waiting', ({ ctx }) => ctx.waitForSignal('go', { timeout: '1h' }));
    const first = await start(Waiting);
    const run = await first.orchestrator.start(Waiting, undefined);
    await untilStatus(first, run.id, 'waiting');
    await moveClock(database, 2 * HOUR_MS);
    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ cause: { code: 'SIGNAL_TIMEOUT' } });

    await first.orchestrator.retry(run.id);
    await untilStatus(first, run.id, 'waiting');
    await first.crash();
    await moveClock(database, 2.9 * HOUR_MS);
    const second = await start(Waiting);
    await second.orchestrator.signal(run.id, 'go', 'now');

    expect(await second.orchestrator.result(run.id, { timeout: '5s' })).toBe('now');
  });

  it('for an answer asks anew, and is over anew when nobody answers', async () => {
    const Asking = workflow('asking', ({ ctx }) => ctx.waitForInput('name', { type: 'text', timeout: '1h' }));
    const { orchestrator } = await start(Asking);
    const [answered, ignored] = await Promise.all([1, 2].map(() => orchestrator.start(Asking, undefined)));
    const asked = async () => (await orchestrator.inputs.list()).items;
    await until('both ask', async () => (await asked()).length === 2);
    await moveClock(database, 2 * HOUR_MS);
    for (const run of [answered!, ignored!])
      await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ cause: { code: 'INPUT_TIMEOUT' } });

    await Promise.all([answered!, ignored!].map(({ id }) => orchestrator.retry(id)));
    await until('both ask again', async () => (await asked()).length === 2);
    await orchestrator.inputs.provide(answered!.id, 'name', 'Ada');

    expect(await answered!.result({ timeout: '5s' })).toBe('Ada');
    await moveClock(database, 4 * HOUR_MS);
    await expect(ignored!.result({ timeout: '5s' })).rejects.toMatchObject({ cause: { code: 'INPUT_TIMEOUT' } });
  });

  it('for a child calls it anew, and waits for the whole of its time', async () => {
    const Child = workflow('child', ({ ctx }) => ctx.waitForSignal('go'));
    const Parent = workflow('parent', ({ children }) => children.call(Child, undefined, { ref: 'c', timeout: '1h' }));
    const { orchestrator } = await start(Child, Parent);
    const run = await orchestrator.start(Parent, undefined);
    const newestChild = async () => (await orchestrator.listChildren(run.id)).items[0];
    const untilChild = (status: RunStatus) =>
      until(`a child is ${status}`, async () => (await newestChild())?.status === status);
    await untilChild('waiting');
    await moveClock(database, 2 * HOUR_MS);
    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ cause: { code: 'CHILD_TIMEOUT' } });
    await untilChild('cancelled');

    await orchestrator.retry(run.id);
    await untilChild('waiting');
    await moveClock(database, 2.9 * HOUR_MS);
    await orchestrator.signal((await newestChild())!.id, 'go', 'now');

    expect(await run.result({ timeout: '5s' })).toBe('now');
    const { items } = await orchestrator.listChildren(run.id);
    expect(items.map(({ status }) => status)).toEqual(['completed', 'cancelled']);
  });
});

it('retry runs what failed in the body of a step again, and not what was completed there', async () => {
  const bodies: string[] = [];
  let isBroken = true;
  const Child = workflow('child', () => {
    bodies.push('child');
    if (isBroken) throw new Error('broken');
    return 'C';
  });
  const Nested = workflow('nested', ({ ctx, children }) =>
    ctx.step(
      'outer',
      async () => {
        const one = await ctx.step('one', () => (bodies.push('one'), 'A'));
        const two = await ctx
          .step(
            'two',
            () => {
              bodies.push('two');
              if (isBroken) throw new Error('broken');
              return 'B';
            },
            { retry: { maxAttempts: 1 } },
          )
          .catch((error: unknown) => error as Error);
        const three = await children.call<string>('child', undefined);
        if (two instanceof Error) throw two;
        return one + two + three;
      },
      { retry: { maxAttempts: 1 } },
    ),
  );
  const { orchestrator } = await start(Nested, Child);
  const run = await orchestrator.start(Nested, undefined);
  await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_FAILED' });
  expect(bodies).toEqual(['one', 'two', 'child']);

  isBroken = false;
  await orchestrator.retry(run.id);

  expect(await run.result({ timeout: '5s' })).toBe('ABC');
  expect(bodies).toEqual(['one', 'two', 'child', 'two', 'child']);
});
