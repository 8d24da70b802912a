import { setTimeout as delay } from 'node:timers/promises';

import pg from 'pg';

import {
  ChildOrchestrator,
  NotInRunError,
  PayloadError,
  rootCause,
  RunConflictError,
  RunContext,
} from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { errorOf } from '../support/error-of.js';
import { rewindRun } from '../support/rewind.js';
import { until } from '../support/until.js';
import { killWorkers, WorkerProcess } from '../support/worker-process.js';
import { workflow } from '../support/workflow.js';

const EVERYTHING = 1_000_000;
const DAY_MS = 86_400_000;

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(async () => {
  await killWorkers();
  await closeApps();
});

afterAll(() => database.drop());

type Providers = NonNullable<Parameters<typeof startApp>[0]['providers']>;
type WorkerOptions = NonNullable<Parameters<typeof startApp>[0]['options']>['worker'];

function start(providers: Providers, worker: WorkerOptions = {}): Promise<TestApp> {
  return startApp({ database, providers, options: { worker: { pollInterval: '50ms', ...worker } } });
}

async function query<Row extends pg.QueryResultRow>(sql: string, values: unknown[] = []): Promise<Row[]> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    return (await client.query<Row>(sql, values)).rows;
  } finally {
    await client.end();
  }
}

async function untilParked({ orchestrator }: TestApp, runId: string): Promise<void> {
  await until('the run is parked', async () => (await orchestrator.get(runId)).status === 'waiting');
}

describe('a crash', () => {
  it('of the process (SIGKILL) leads to no second run of a finished step (scenario 1)', async () => {
    const victim = await WorkerProcess.start({ database, options: { worker: { lease: '1s', pollInterval: '50ms' } } });
    const bodies: string[] = [];
    const twoSteps = workflow<void, { first: number; held: number }>('two-steps', async ({ ctx }) => {
      const step = (name: string) =>
        ctx.step(name, () => {
          bodies.push(name);
          return process.pid;
        });
      return { first: await step('first'), held: await step('held') };
    });
    const client = await startApp({ database, providers: [twoSteps], options: { worker: false } });
    const run = await client.orchestrator.start(twoSteps, undefined);
    await victim.until('it holds the second step', ({ event, step }) => event === 'began' && step === 'held');

    await victim.kill();
    await start([twoSteps]);

    expect(await run.result()).toEqual({ first: victim.pid, held: process.pid });
    expect(bodies).toEqual(['held']);
    expect(victim.events.map(({ event, step }) => `${event} ${step}`)).toEqual([
      'ready undefined',
      'began first',
      'ended first',
      'began held',
    ]);
  });

  it('at every step leads to no second run of a finished one (scenario 1)', async () => {
    const bodies: string[] = [];
    let barrier = new Barrier();
    let heldAt = 0;
    const counting = workflow('counting', async ({ ctx }) => {
      let sum = 0;
      for (let index = 1; index <= 4; index++) {
        sum += await ctx.step('add', async () => {
          bodies.push(`add ${index}`);
          if (index === heldAt) await barrier.pass();
          return index;
        });
      }
      return sum;
    });
    let app = await start([counting]);
    heldAt = 1;
    const { id } = await app.orchestrator.start(counting, undefined);

    for (heldAt = 1; heldAt <= 4;) {
      await barrier.reached();
      await app.crash();
      heldAt++;
      barrier = new Barrier();
      app = await start([counting]);
    }

    expect(await app.orchestrator.result(id)).toBe(10);
    expect(bodies).toEqual(['add 1', 'add 1', 'add 2', 'add 2', 'add 3', 'add 3', 'add 4', 'add 4']);
    expect((await app.orchestrator.history(id)).map(({ key, attempts }) => `${key} ${attempts}`)).toEqual([
      'add 1',
      'add#2 1',
      'add#3 1',
      'add#4 1',
    ]);
  });
});

describe('an orderly shutdown', () => {
  it('keeps the outcome of a body that has just ended (scenario 62)', async () => {
    const bodies: string[] = [];
    const short = workflow('short-step', async ({ ctx }) => {
      await ctx.step('short', () => bodies.push('short'));
      await ctx.sleep('50ms');
    });
    const app = await start([short]);
    const { id } = await app.orchestrator.start(short, undefined);

    // At this moment the body has ended, and its outcome is not written yet.
    await app.close();
    const next = await start([short]);

    await next.orchestrator.result(id);
    expect(bodies).toEqual(['short']);
  });
});

describe('starts with one key (scenario 2)', () => {
  const bodies: unknown[] = [];
  const keyed = workflow('keyed', async ({ ctx }, input: unknown) => {
    bodies.push(input);
    return ctx.step('id', () => ctx.runId);
  });

  it('at the same time, in several processes, run once; all callers get the same result', async () => {
    const apps = await Promise.all([start([keyed]), start([keyed]), start([keyed], false)]);
    bodies.length = 0;

    const runs = await Promise.all(
      Array.from({ length: 30 }, (_, index) =>
        apps[index % 3]!.orchestrator.start(keyed, index % 2 ? { a: 1, b: 2 } : { b: 2, a: 1 }, { key: 'once' }),
      ),
    );
    const results = await Promise.all(runs.map((run) => run.result()));

    expect(new Set(runs.map(({ id }) => id)).size).toBe(1);
    expect(runs.filter(({ started }) => started)).toHaveLength(1);
    expect(new Set(results)).toEqual(new Set([runs[0]!.id]));
    expect(bodies).toHaveLength(1);
  });

  it('and another input are a RunConflictError, however the run stands, and so is every second one with onConflict reject', async () => {
    const { orchestrator } = await start([keyed]);
    const run = await orchestrator.start(keyed, { amount: 1 }, { key: 'conflict' });
    await run.result();

    const other = orchestrator.start(keyed, { amount: 2 }, { key: 'conflict' });
    const rejected = orchestrator.start(keyed, { amount: 1 }, { key: 'conflict', onConflict: 'reject' });

    await expect(other).rejects.toThrow(RunConflictError);
    await expect(other).rejects.toMatchObject({
      code: 'RUN_CONFLICT',
      statusCode: 409,
      key: 'conflict',
      runId: run.id,
    });
    await expect(rejected).rejects.toThrow("onConflict is 'reject'");
    for (const onConflict of [undefined, 'existing'] as const)
      expect(await orchestrator.start(keyed, { amount: 1 }, { key: 'conflict', onConflict })).toMatchObject({
        id: run.id,
        started: false,
      });
  });

  it('of two workflows are two runs', async () => {
    const other = workflow('also-keyed', () => 'other');
    const { orchestrator } = await start([keyed, other]);

    const runs = [
      await orchestrator.start(keyed, 1, { key: 'shared' }),
      await orchestrator.start(other, undefined, { key: 'shared' }),
    ];

    expect(runs.map(({ started }) => started)).toEqual([true, true]);
  });
});

describe('a payload that cannot be stored (scenario 14)', () => {
  const cycle: { self?: unknown } = {};
  cycle.self = cycle;
  const unstorable: [string, unknown, string][] = [
    ['a function', { order: { total: () => 1 } }, 'value.order.total'],
    ['a cycle', { order: cycle }, 'value.order.self'],
    ['3 MiB', { order: { notes: 'x'.repeat(3 * 1024 * 1024) } }, 'value.order.notes'],
  ];
  const echo = workflow('echo', (_, input: unknown) => input);

  it.each(unstorable)('refuses a start with %s, and nothing is started', async (_, input, path) => {
    const { orchestrator } = await start([echo]);

    const refused = orchestrator.start(echo, input, { key: 'unstorable' });

    await expect(refused).rejects.toThrow(PayloadError);
    await expect(refused).rejects.toMatchObject({ path, message: expect.stringContaining(path) as unknown });
    expect(await orchestrator.findByKey(echo, 'unstorable')).toBeUndefined();
  });

  it.each(unstorable)(
    'fails a child that is given %s, a step and a run that return it, and a state',
    async (_, value, path) => {
      const error = (caught: unknown) => (caught as { cause?: unknown }).cause ?? caught;
      const trying = workflow('trying', async ({ ctx, children }, giveUp: boolean) => {
        const attempts = {
          call: await children.call(echo, value).catch(error),
          start: await children.start(echo, value).catch(error),
          step: await ctx.step('unstorable', () => value).catch(error),
          state: await (async () => ctx.setState(value))().catch(error),
        };
        return giveUp ? value : attempts;
      });
      const { orchestrator } = await start([trying, echo]);

      const attempts = await orchestrator.execute(trying, false);
      const failed = await orchestrator.start(trying, true);

      const expected = { name: 'PayloadError', code: 'PAYLOAD', path };
      expect(attempts).toMatchObject({ call: expected, start: expected, step: expected, state: expected });
      await expect(failed.result()).rejects.toThrow(path);
      expect(await orchestrator.get(failed.id)).toMatchObject({ status: 'failed', error: expected });
      expect((await failed.children()).items).toEqual([]);
    },
  );
});

describe('names, keys and payloads (scenario 15)', () => {
  const texts = [
    '__proto__',
    'constructor',
    'toString',
    `it's "quoted" \\ back`,
    `'; drop table orchestration.run; --`,
    '$1 :name ${x} %s',
    'nul\u0000inside',
    '\\u0000',
    'lone \ud800',
    '\udfff surrogate',
    '\u{1f600}',
    '{a,b},"c"',
    '@1/ #2 ~',
  ];

  it.each(texts)('that are %j change nothing', async (text) => {
    const child = workflow(`child ${text}`, (_, input: unknown) => input);
    const nasty = workflow<unknown, object>(text, async ({ ctx, children }, input) => {
      const steps = [await ctx.step(text, () => ({ [text]: text })), await ctx.step(text, () => [text, 1n])];
      const handle = await children.start(child, input, { ref: text, label: text });
      await ctx.setState({ [text]: text });
      await ctx.setAttributes({ [text]: text });
      const fromChild = await handle.result();
      const failure: unknown = await ctx
        .step('fails', () => Promise.reject(Object.assign(new Error(text), { [text]: text })), {
          retry: { maxAttempts: 1 },
        })
        .catch((error: unknown) => (error as Error).cause);
      return { steps, fromChild, input, message: (failure as Error).message, key: ctx.key, tenant: ctx.tenant };
    });
    const { orchestrator } = await start([nasty, child]);
    const input = JSON.parse(`{ ${JSON.stringify(text)}: ${JSON.stringify(text)} }`) as object;
    const options = { key: text, label: text, tenant: text, attributes: { place: text } };
    const run = await orchestrator.start(nasty, input, options);

    const live = await run.result();
    await rewindRun(database, run.id, EVERYTHING);
    const replayed = await orchestrator.result(run.id);

    const expected = {
      steps: [{ [text]: text }, [text, 1n]],
      fromChild: input,
      input,
      message: text,
      key: text,
      tenant: text,
    };
    expect(live).toEqual(expected);
    expect(replayed).toEqual(expected);
    expect(await orchestrator.findByKey(nasty, text)).toMatchObject({
      id: run.id,
      workflow: text,
      label: text,
      tenant: text,
    });
    expect((await orchestrator.start(nasty, input, options)).id).toBe(run.id);
    expect((await orchestrator.get(run.id)).attributes).toEqual({ place: text, [text]: text });
    expect((await orchestrator.get(run.id)).state).toEqual({ [text]: text });
    expect(
      (await orchestrator.list({ workflow: text, attributes: { place: text }, tenant: text })).items.map(
        ({ id }) => id,
      ),
    ).toEqual([run.id]);
    expect((await orchestrator.history(run.id)).slice(0, 2).map(({ name }) => name)).toEqual([text, text]);
    expect((await orchestrator.tree(run.id)).children).toMatchObject([
      { ref: text, label: text, workflow: `child ${text}` },
    ]);
  });
});

describe('code that goes on although the run is not its own any more (scenario 21)', () => {
  it('cannot write once another worker has taken over', async () => {
    const zombie = new Barrier();
    const bodies: string[] = [];
    const contested = (name: string, held: boolean) =>
      workflow('contested', async ({ ctx, children }) => {
        const first = await ctx.step('first', async () => {
          bodies.push(`first in ${name}`);
          if (held) await zombie.pass();
          return name;
        });
        void ctx.setState(`state of ${name}`);
        await children.start('contested-child', name, { ref: 'child' });
        await ctx.step('second', () => void bodies.push(`second in ${name}`));
        return first;
      });
    const child = workflow('contested-child', (_, input: string) => input);
    const stale = await start([contested('the zombie', true), child], { pollInterval: '1h' });
    const run = await stale.orchestrator.start('contested', undefined);
    await zombie.reached();

    await query(`update orchestration.worker set expires_at = '-infinity'`);
    const fresh = await start([contested('the heir', false), child]);
    const result = await fresh.orchestrator.result(run.id);
    zombie.open();
    await delay(100);

    expect(result).toBe('the heir');
    expect(bodies).toEqual(['first in the zombie', 'first in the heir', 'second in the heir']);
    expect(await fresh.orchestrator.get(run.id)).toMatchObject({
      status: 'completed',
      output: 'the heir',
      state: 'state of the heir',
    });
    expect((await fresh.orchestrator.history(run.id)).map(({ output }) => output)).toEqual([
      'the heir',
      undefined,
      undefined,
    ]);
    const children = (await fresh.orchestrator.listChildren(run.id)).items;
    expect(children).toHaveLength(1);
    expect(await fresh.orchestrator.get(children[0]!.id)).toMatchObject({ input: 'the heir' });
  });

  it('cannot write once the run has ended', async () => {
    const late = new Barrier();
    let tried = 0;
    const ended = workflow('ended', async ({ ctx, children }) => {
      void (async () => {
        await late.pass();
        void ctx.setState('late');
        void ctx.setAttributes({ late: true });
        void ctx.step('late', () => void tried++);
        void children.start('ended', undefined);
        void ctx.sleep(1).then(() => tried++);
      })();
      await ctx.step('on time', () => late.reached());
      return 'on time';
    });
    const { orchestrator } = await start([ended]);
    const run = await orchestrator.start(ended, undefined);
    await run.result();

    late.open();
    await delay(100);

    expect(tried).toBe(0);
    expect(await orchestrator.get(run.id)).toMatchObject({ status: 'completed', state: undefined, attributes: {} });
    expect((await orchestrator.history(run.id)).map(({ key }) => key)).toEqual(['on time']);
    expect((await run.children()).items).toEqual([]);
  });

  it('cannot write while the run is parked, and the run goes on from what it has recorded', async () => {
    let strays = 0;
    const straying = workflow('straying', async ({ ctx }) => {
      void (async () => {
        await delay(100);
        void ctx.setState(`stray ${++strays}`);
      })();
      await ctx.step('work', () => 1);
      await ctx.sleep('700ms');
      return 'rested';
    });
    const app = await start([straying]);
    const run = await app.orchestrator.start(straying, undefined);
    await untilParked(app, run.id);
    await until('the stray has tried', () => strays > 0);
    await delay(50);

    expect(await app.orchestrator.get(run.id)).toMatchObject({ status: 'waiting', state: undefined });
    expect(await run.result()).toBe('rested');
  });
});

describe('a suspension (scenario 22)', () => {
  it('runs no catch and no finally of the user, parked, evicted from memory, handed back or crashed', async () => {
    const ran: string[] = [];
    const careful = workflow('careful', async ({ ctx, children }, ms: number) => {
      try {
        await ctx.sleep(ms);
        await ctx.step('work', () => 1);
        return await children.call(sleepy, ms);
      } catch (error) {
        ran.push(`catch ${(error as Error).name}`);
        throw error;
      } finally {
        ran.push('finally');
      }
    });
    const sleepy = workflow('sleepy-child', ({ ctx }, ms: number) => ctx.sleep(ms).then(() => 'slept'));
    const first = await start([careful, sleepy], { stickyRuns: 1 });
    const run = await first.orchestrator.start(careful, 500);
    await untilParked(first, run.id);
    const evicting = await first.orchestrator.start(sleepy, 60_000);
    await untilParked(first, evicting.id);
    await first.close();
    const second = await start([careful, sleepy]);
    await until(
      'it waits for its child',
      async () => (await second.orchestrator.get(run.id)).waitingFor[0]?.kind === 'child',
    );
    await second.crash();
    expect(ran).toEqual([]);

    const third = await start([careful, sleepy]);

    expect(await third.orchestrator.result(run.id)).toBe('slept');
    expect(ran).toEqual(['finally']);
    await third.orchestrator.cancel(evicting.id);
  });
});

describe('a timeout', () => {
  const endless = workflow('endless', ({ ctx }) => ctx.sleep('30d'));

  it('of zero or less ends at once (scenario 57)', async () => {
    const impatient = workflow('impatient', async ({ ctx, children }) => {
      const since = ctx.now().getTime();
      await ctx.sleep(0);
      await ctx.sleep('-1h');
      await ctx.sleepUntil(new Date(0));
      const outcomes: unknown[] = [];
      for (const timeout of [0, '-5s'] as const) {
        outcomes.push(await children.call(endless, undefined, { timeout, timeoutValue: undefined }));
        outcomes.push((await children.callSettled(endless, undefined, { timeout })).status);
        outcomes.push(
          await children.call(endless, undefined, { timeout }).catch((error: unknown) => (error as Error).name),
        );
      }
      return { outcomes, hours: Math.floor((ctx.now().getTime() - since) / 3_600_000) };
    });
    const { orchestrator } = await start([impatient, endless]);
    const run = await orchestrator.start(impatient, undefined);

    const outcomes = [undefined, 'timeout', 'ChildTimeoutError', undefined, 'timeout', 'ChildTimeoutError'];
    expect(await run.result()).toEqual({ outcomes, hours: 0 });

    const statuses = async () => (await run.children()).items.map(({ status }) => status);
    await until('the children are cancelled', async () => (await statuses()).every((status) => status === 'cancelled'));
    expect(await statuses()).toHaveLength(6);
  });

  it('of a wait does not start anew after a crash (scenario 57)', async () => {
    const waiting = workflow('waiting', ({ children }, timeout: number) =>
      children.call(endless, undefined, { ref: 'endless', timeout, timeoutValue: 'too late' }),
    );
    const doomed = await start([waiting, endless]);
    const long = await doomed.orchestrator.start(waiting, 3_600_000);
    const short = await doomed.orchestrator.start(waiting, 600);
    await untilParked(doomed, long.id);
    await untilParked(doomed, short.id);
    const before = await doomed.orchestrator.get(long.id);

    await doomed.crash();
    const app = await start([waiting, endless]);
    await rewindRun(database, long.id, EVERYTHING);
    await until('it waits again', async () => (await app.orchestrator.get(long.id)).status === 'waiting');

    const after = await app.orchestrator.get(long.id);
    expect(after.wakeAt).toEqual(before.wakeAt);
    expect(after.waitingFor).toEqual(before.waitingFor);
    expect(before.wakeAt!.getTime() - before.startedAt!.getTime()).toBe(3_600_000);
    expect(await app.orchestrator.result(short.id)).toBe('too late');
    await app.orchestrator.cancel(long.id);
  });
});

describe('a sleep of 30 days (scenario 58)', () => {
  it('ends on time after a restart, by the clock of the database, and not before', async () => {
    const hibernating = workflow('hibernating', async ({ ctx }) => {
      const since = ctx.now().getTime();
      await ctx.sleep('30d');
      return Math.floor((ctx.now().getTime() - since) / DAY_MS);
    });
    const own = await createTestDatabase();
    const options = { worker: { pollInterval: '20ms' } } as const;
    const first = await startApp({ database: own, providers: [hibernating], options });
    const { id } = await first.orchestrator.start(hibernating, undefined);
    await untilParked(first, id);
    await first.close();

    const second = await startApp({ database: own, providers: [hibernating], options });
    await moveClock(own, 30 * DAY_MS - 60_000);
    const early = await second.orchestrator.result(id, { timeout: 200 }).catch((error: unknown) => error);
    await moveClock(own, 30 * DAY_MS);
    const days = await second.orchestrator.result(id);

    expect(early).toMatchObject({ code: 'RESULT_TIMEOUT' });
    expect(days).toBe(30);
    await second.close();
    await own.drop();
  });
});

describe('ctx.sleepUntil', () => {
  it('sleeps until that time, to the millisecond', async () => {
    const dated = workflow('dated', ({ ctx }, at: Date) => ctx.sleepUntil(at));
    const { orchestrator } = await start([dated]);
    const [late, soon] = [new Date(Date.now() + 3 * DAY_MS), new Date(Date.now() + 500)];

    const sleeping = await orchestrator.start(dated, late);
    const woken = await orchestrator.start(dated, soon);
    await woken.result();
    await until('it sleeps', async () => (await sleeping.status()) === 'waiting');

    expect(await orchestrator.get(sleeping.id)).toMatchObject({
      wakeAt: late,
      waitingFor: [{ kind: 'timer', name: 'sleep', until: late }],
    });
    const { finishedAt } = await orchestrator.get(woken.id);
    expect(finishedAt!.getTime()).toBeGreaterThanOrEqual(soon.getTime());
    await sleeping.cancel();
  });
});

describe('the context of a run', () => {
  it('tells what the run is, in its code and in its steps', async () => {
    const child = workflow({ name: 'telling-child', version: 3 }, ({ ctx }) => ctx.step('tell', () => facts(ctx)));
    const telling = workflow('telling', async ({ ctx, children }) => ({
      own: facts(ctx),
      child: await children.call(child, undefined, { inherit: ['attributes'] }),
    }));
    const { orchestrator } = await start([telling, child]);
    const run = await orchestrator.start(telling, undefined, { key: 'k', tenant: 't', attributes: { city: 'Oslo' } });

    const { own, child: childs } = (await run.result()) as Record<'own' | 'child', ReturnType<typeof facts>>;

    for (const id of [run.id, childs.runId])
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-/);
    const shared = { rootId: run.id, tenant: 't', attributes: { city: 'Oslo' } };
    expect(own).toEqual({ ...shared, runId: run.id, workflow: 'telling', version: 1, key: 'k', parentId: undefined });
    expect(childs).toEqual({
      ...shared,
      runId: expect.not.stringMatching(run.id) as unknown,
      workflow: 'telling-child',
      version: 3,
      key: undefined,
      parentId: run.id,
    });
  });

  it('shows the last state and all attributes, also of code that is replayed', async () => {
    let barrier = new Barrier();
    const progressing = workflow('progressing', async ({ ctx }) => {
      void ctx.setState({ done: 0 });
      void ctx.setAttributes({ city: 'Oslo', size: 1 });
      await ctx.step('first', () => 1);
      void ctx.setState({ done: 1, at: new Date(0) });
      await ctx.setAttributes({ size: 2, vip: true });
      await ctx.step('second', () => barrier.pass());
      void ctx.setState(undefined);
      return ctx.attributes;
    });
    const doomed = await start([progressing]);
    const { id } = await doomed.orchestrator.start(progressing, undefined, {
      attributes: { city: 'Bergen', kept: null },
    });
    await barrier.reached();
    const during = await doomed.orchestrator.get(id);
    await doomed.crash();

    barrier = new Barrier();
    barrier.open();
    const { orchestrator } = await start([progressing]);
    const attributes = { city: 'Oslo', size: 2, vip: true, kept: null };

    expect(during).toMatchObject({ state: { done: 1, at: new Date(0) }, attributes });
    expect(await orchestrator.result(id)).toEqual(attributes);
    expect((await orchestrator.get(id)).state).toBeUndefined();
    expect((await orchestrator.list({ attributes: { size: 2, vip: true } })).items.map((run) => run.id)).toEqual([id]);
  });

  it('has nothing to say outside of a run', async () => {
    const app = await start([]);
    const [ctx, children] = [app.get(RunContext), app.get(ChildOrchestrator)];

    const used = [
      ...membersOf(RunContext).map((member) => ({ member: `ctx.${member}`, use: useOf(ctx, member) })),
      ...membersOf(ChildOrchestrator).map((member) => ({ member: `children.${member}`, use: useOf(children, member) })),
    ];
    const errors = await Promise.all(used.map(({ use }) => errorOf(use)));

    expect(used.length).toBeGreaterThan(30);
    expect(errors.every((error) => error instanceof NotInRunError)).toBe(true);
    expect(errors).toMatchObject(used.map(({ member }) => ({ code: 'NOT_IN_RUN', member })));
  });

  it('has no step outside the body of one, and says where there is one', async () => {
    const stepless = workflow('stepless', ({ ctx }) => ctx.currentStep);
    const { orchestrator } = await start([stepless]);

    const error: unknown = await orchestrator.execute(stepless, undefined).catch((thrown: unknown) => thrown);

    expect(rootCause(error)).toMatchObject({
      code: 'NOT_IN_RUN',
      member: 'ctx.currentStep',
      message: expect.stringMatching(/in a run, but outside the body of a step.*@Step\(\)/) as unknown,
    });
  });

  it('refuses arguments that make no sense: a ValidationError says which', async () => {
    const wrong: Record<string, (ctx: Untyped<RunContext>, children: Untyped<ChildOrchestrator>) => unknown> = {
      "ctx.sleep: '3 days' is no duration: use a number": (ctx) => ctx.sleep('3 days'),
      "ctx.sleepUntil: it takes a valid Date, not '2030-01-01'": (ctx) => ctx.sleepUntil('2030-01-01'),
      "ctx.sleepUntil: it takes a valid Date, not 'Invalid Date'": (ctx) => ctx.sleepUntil(new Date(NaN)),
      "ctx.race: branch 'late' must be a function, not a Promise (write () =>": (ctx) =>
        ctx.race({ go: () => 1, late: Promise.resolve() }),
      'ctx.race: without a branch it has no winner': (ctx) => ctx.race({}),
      'ctx.any: without a branch it has no winner': (ctx) => ctx.any({}),
      "ctx.all: branch 'a' must be a function, not number": (ctx) => ctx.all({ a: 1 }),
      'ctx.allSettled: it takes functions by name, not null': (ctx) => ctx.allSettled(null),
      'ctx.map: it takes an array of items, not [object Set]': (ctx) => ctx.map(new Set([1]), (item: unknown) => item),
      'ctx.map: what it runs must be a function, not undefined': (ctx) => ctx.map([1]),
      'ctx.shield: what it runs must be a function, not a Promise': (ctx) => ctx.shield(Promise.resolve()),
      "ctx.step('a'): what it runs must be a function, not undefined": (ctx) => ctx.step('a'),
      "The options of step 'a': unknown option 'name' (known: retry,": (ctx) => ctx.step('a', () => 1, { name: 'b' }),
      "The options of step 'a': nonRetryable must be a list": (ctx) =>
        ctx.step('a', () => 1, { nonRetryable: 'Error' }),
      "The options of step 'a': retry must be an object, not 5": (ctx) => ctx.step('a', () => 1, { retry: 5 }),
      "ctx.compensate('a'): what it runs must be a function": (ctx) => ctx.compensate('a', 'refund'),
      'A signal: its name must be a text that is not empty, not undefined': (ctx) => ctx.waitForSignal(undefined),
      'children.map: it takes an array of items, not [object Set]': (_, children) =>
        children.map('wrong', new Set([1])),
      'The workflow: it is given as its class or its name, not undefined (an import': (_, children) =>
        children.call(undefined, 1),
      'The workflow: it is given as its class or its name, not ""': (_, children) => children.start('', 1),
    };
    const refusing = workflow('refusing', async ({ ctx, children }) => {
      const errors: unknown[] = [];
      for (const call of Object.values(wrong))
        errors.push(await errorOf((async () => call(ctx as never, children as never))()));
      return errors;
    });
    const { orchestrator } = await start([refusing]);

    expect(await orchestrator.execute(refusing, undefined)).toEqual(
      Object.keys(wrong).map((message): unknown =>
        expect.objectContaining({ code: 'VALIDATION', message: expect.stringContaining(message) as unknown }),
      ),
    );
  });
});

/** As code in JavaScript sees it. */
type Untyped<T> = Record<keyof T, (...args: unknown[]) => unknown>;

/** Every public member: a new one is covered by itself. */
function membersOf(type: { prototype: object }): string[] {
  const own = new Set(['constructor', 'run', 'bytes', 'handle', 'childrenOf', 'recorded']);
  return Object.getOwnPropertyNames(type.prototype).filter((member) => !own.has(member));
}

/** Arguments are the callee's affair: where it is used is looked at first. */
async function useOf(target: object, member: string): Promise<unknown> {
  const value: unknown = (target as Record<string, unknown>)[member];
  return typeof value === 'function' ? (value.call(target) as unknown) : value;
}

function facts(ctx: RunContext) {
  const { runId, workflow: name, version, key, parentId, rootId, tenant, attributes } = ctx;
  return { runId, workflow: name, version, key, parentId, rootId, tenant, attributes };
}
