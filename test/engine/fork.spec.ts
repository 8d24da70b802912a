import { type HistoryEntry, Step, RunContext, Workflow } from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { errorOf } from '../support/error-of.js';
import { HeldRows } from '../support/held-rows.js';
import { rewindRun } from '../support/rewind.js';
import { until } from '../support/until.js';
import { untilStatus } from '../support/until-status.js';
import { workflow } from '../support/workflow.js';

const DAY_MS = 86_400_000;

let database: TestDatabase;
/** The bodies that ran, as `<run> <step>`. */
let bodies: string[];

beforeAll(async () => {
  database = await createTestDatabase();
});

beforeEach(() => {
  bodies = [];
});

afterEach(async () => {
  await HeldRows.releaseAll();
  await closeApps();
});

afterAll(() => database.drop());

function start(...providers: NonNullable<Parameters<typeof startApp>[0]['providers']>): Promise<TestApp> {
  return startApp({ database, providers, options: { worker: { pollInterval: '20ms' } } });
}

const bodiesOf = (runId: string) => bodies.filter((body) => body.startsWith(runId)).map((body) => body.slice(37));
const keysOf = (history: HistoryEntry[]) => history.map(({ key }) => key);

interface Order {
  amount: number;
  isBroken?: boolean;
}

/** Reserves, charges twice, ships. */
@Workflow({ name: 'ordering', version: 3 })
class Ordering {
  constructor(private readonly ctx: RunContext) {}

  async run(order: Order): Promise<string[]> {
    const done: string[] = [];
    done.push(await this.reserve(order));
    done.push(await this.charge(order.amount));
    done.push(await this.charge(order.amount * 2));
    done.push(await this.ship(order));
    return done;
  }

  @Step()
  reserve({ amount }: Order): string {
    return this.note('reserve', amount);
  }

  @Step()
  charge(amount: number): string {
    return this.note('charge', amount);
  }

  @Step({ retry: { maxAttempts: 1 } })
  ship({ isBroken, amount }: Order): string {
    if (isBroken) throw new Error('broken');
    return this.note('ship', amount);
  }

  private note(step: string, amount: number): string {
    bodies.push(`${this.ctx.runId} ${step} ${amount}`);
    return `${step} ${amount}`;
  }
}

describe('a fork', () => {
  it('shares the history before the step, runs the rest, and leaves the original as it was', async () => {
    const { orchestrator } = await start(Ordering);
    const options = { key: 'order', priority: 2, tenant: 'acme', label: 'an order', attributes: { city: 'Oslo' } };
    const original = await orchestrator.start(Ordering, { amount: 1 }, options);
    const output = await original.result();
    const [before, history] = [await orchestrator.get(original.id), await orchestrator.history(original.id)];

    const fork = await orchestrator.fork(original.id, { fromStep: 'charge#2' });

    expect(await fork.result()).toEqual(output);
    expect(fork.started).toBe(true);
    expect(bodiesOf(fork.id)).toEqual(['charge 2', 'ship 1']);
    expect(keysOf(await orchestrator.history(fork.id))).toEqual(['reserve', 'charge', 'charge#2', 'ship']);
    const { key: _key, ...shared } = options;
    expect(await orchestrator.get(fork.id)).toMatchObject({
      ...shared,
      ...{ workflow: 'ordering', version: 3, key: undefined, depth: 1, rootId: fork.id, forkedFrom: original.id },
    });
    expect([await orchestrator.get(original.id), await orchestrator.history(original.id)]).toEqual([before, history]);
  });

  it('with an edited input keeps the outcomes of the earlier steps, whatever they were called with', async () => {
    const { orchestrator } = await start(Ordering);
    const original = await orchestrator.start(Ordering, { amount: 1, isBroken: true });
    expect(await errorOf(original.result())).toMatchObject({ code: 'RUN_FAILED' });

    const fork = await orchestrator.fork<string[]>(original.id, { fromStep: 'charge#2', input: { amount: 10 } });

    expect(await fork.result()).toEqual(['reserve 1', 'charge 1', 'charge 20', 'ship 10']);
    expect(bodiesOf(fork.id)).toEqual(['charge 20', 'ship 10']);
    expect((await orchestrator.get(fork.id)).input).toEqual({ amount: 10 });
    expect(await original.status()).toBe('failed');
  });

  it('from the first step shares nothing; of a fork it shares what that has shared', async () => {
    const { orchestrator } = await start(Ordering);
    const original = await orchestrator.start(Ordering, { amount: 1 });
    await original.result();

    const whole = await orchestrator.fork(original.id, { fromStep: 'reserve', input: { amount: 5 } });
    await whole.result();
    const again = await orchestrator.fork<string[]>(whole.id, { fromStep: 'ship', input: { amount: 7 } });

    expect(await again.result()).toEqual(['reserve 5', 'charge 5', 'charge 10', 'ship 7']);
    expect(bodiesOf(whole.id)).toEqual(['reserve 5', 'charge 5', 'charge 10', 'ship 5']);
    expect(bodiesOf(again.id)).toEqual(['ship 7']);
  });

  it('of a step that is not on record is refused with those that are, as is what is no option', async () => {
    const { orchestrator } = await start(Ordering);
    const original = await orchestrator.start(Ordering, { amount: 1 });
    await original.result();
    const fork = (options: object) => errorOf(orchestrator.fork(original.id, options as { fromStep: string }));

    expect(await fork({ fromStep: 'chrage' })).toMatchObject({
      code: 'VALIDATION',
      message: expect.stringContaining(
        "no step 'chrage' on record; it has 'reserve', 'charge', 'charge#2', 'ship'",
      ) as unknown,
    });
    expect(await fork({})).toMatchObject({
      code: 'VALIDATION',
      message: expect.stringContaining('fromStep') as unknown,
    });
    expect(await fork({ fromStep: 'ship', key: 'x' })).toMatchObject({ code: 'VALIDATION' });
    expect(await fork({ fromStep: 'ship', input: () => 1 })).toMatchObject({ code: 'PAYLOAD' });
    for (const id of ['01890a5d-ac96-774b-bcce-b302099a8057', 'no id'])
      expect(await errorOf(orchestrator.fork(id, { fromStep: 'ship' }))).toMatchObject({ code: 'RUN_NOT_FOUND' });
    expect((await orchestrator.list({ workflow: 'ordering', search: original.id })).items).toHaveLength(1);
  });

  it('of an active run takes its history as of one moment, and both go on', async () => {
    const barrier = new Barrier();
    const active = workflow('active', async ({ ctx }) => {
      const first = await ctx.step('first', () => ctx.runId);
      await ctx.step('hold', () => barrier.pass());
      return [first, await ctx.step('last', () => ctx.runId)];
    });
    const app = await start(active);
    const original = await app.orchestrator.start(active, undefined);
    await barrier.reached();
    // The fork waits for a write of the original that is under way, and then sees what that has.
    const held = await HeldRows.hold(database, original.id);
    barrier.open();
    await held.untilWaiting(1);
    const forking = app.orchestrator.fork(original.id, { fromStep: 'hold' });
    await held.untilWaiting(2);
    await held.release();
    const fork = await forking;

    expect(await original.result()).toEqual([original.id, original.id]);
    expect(await fork.result()).toEqual([original.id, fork.id]);
  });

  it('goes from a step that is being tried again, with fresh attempts', async () => {
    let isMended = false;
    const retrying = workflow('retrying', async ({ ctx }) => {
      await ctx.step('first', () => bodies.push(`${ctx.runId} first`));
      return ctx.step(
        'second',
        ({ attempt }) => {
          if (!isMended) throw new Error('not yet');
          return attempt;
        },
        { retry: { initialInterval: '1h' } },
      );
    });
    const app = await start(retrying);
    const original = await app.orchestrator.start(retrying, undefined);
    await untilStatus(app, original.id, 'waiting');
    isMended = true;

    const fork = await app.orchestrator.fork(original.id, { fromStep: 'second' });

    expect(await fork.result()).toBe(1);
    expect(bodiesOf(fork.id)).toEqual([]);
    await original.cancel();
  });

  it('of a cancelled run is not cancelled; the steps of its clean-up are none to go from', async () => {
    let isHeld = true;
    const cleaning = workflow('cleaning', async ({ ctx }) => {
      await ctx.step('first', () => 'first');
      await ctx.step('second', () => 'second');
      try {
        if (isHeld) await ctx.sleep('1h');
        return 'done';
      } finally {
        await ctx.shield(() => ctx.step('clean', () => 'clean'));
      }
    });
    const app = await start(cleaning);
    const original = await app.orchestrator.start(cleaning, undefined);
    await untilStatus(app, original.id, 'waiting');
    await original.cancel();
    await untilStatus(app, original.id, 'cancelled');
    isHeld = false;

    expect(await errorOf(app.orchestrator.fork(original.id, { fromStep: 'clean' }))).toMatchObject({
      message: expect.stringContaining("it has 'first', 'second'") as unknown,
    });
    expect(await (await app.orchestrator.fork(original.id, { fromStep: 'second' })).result()).toBe('done');
  });

  it('of a blocked run, behind other code', async () => {
    let step = 'second';
    const changing = workflow('changing', async ({ ctx }) => {
      await ctx.step('first', () => bodies.push(`${ctx.runId} first`));
      await ctx.step(step, () => step);
      return ctx.step('third', () => step);
    });
    const app = await start(changing);
    const original = await app.orchestrator.start(changing, undefined);
    await original.result();
    step = 'other';
    await rewindRun(database, original.id, 2);
    await untilStatus(app, original.id, 'blocked');

    const fork = await app.orchestrator.fork(original.id, { fromStep: 'second' });

    expect(await fork.result()).toBe('other');
    expect(bodiesOf(fork.id)).toEqual([]);
  });

  it('has the random values and times of what it shares, and its own behind that; its steps have keys of its own', async () => {
    const drawing = workflow('drawing', async ({ ctx }, _input: number) => {
      const look = () => [ctx.uuid(), ctx.random(), ctx.now().getTime()] as const;
      const key = (name: string) => ctx.step(name, ({ idempotencyKey }) => idempotencyKey);
      const early = look();
      await key('first');
      const middle = look();
      await key('second');
      const late = look();
      return { early, middle, late, third: await key('third'), inside: await ctx.step('draw', () => ctx.uuid()) };
    });
    const { orchestrator } = await start(drawing);
    const original = await orchestrator.start(drawing, 0);
    const of = await original.result();

    const fork = await orchestrator.fork<typeof of>(original.id, { fromStep: 'third' });
    const first = await fork.result();
    const again = await orchestrator.fork<typeof of>(fork.id, { fromStep: 'third' });
    const earlier = await orchestrator.fork<typeof of>(fork.id, { fromStep: 'second' });
    const [second, third] = [await again.result(), await earlier.result()];

    // Behind the last shared entry a fork draws anew, and sees the time of the fork.
    for (const forked of [first, second]) {
      expect([forked.early, forked.middle]).toEqual([of.early, of.middle]);
      for (const index of [0, 1, 2] as const) expect(forked.late[index]).not.toEqual(of.late[index]);
      expect(forked.late[2]).toBeGreaterThan(of.late[2]);
    }
    expect(third.early).toEqual(of.early);
    expect(third.middle).not.toEqual(of.middle);
    const drawn = [of, first, second, third].flatMap(({ late, inside }) => [late[0], inside]);
    expect(new Set(drawn).size).toBe(8);
    expect([of.third, first.third]).toEqual([`${original.id}/third`, `${fork.id}/third`]);
    await rewindRun(database, fork.id, 1_000);
    expect(await orchestrator.result(fork.id)).toEqual(first);
  });

  it('long after the original counts its waits from the fork', async () => {
    const own = await createTestDatabase();
    const waiting = workflow('waiting', async ({ ctx, children }) => {
      await ctx.step('first', () => 'first');
      const [, child] = await Promise.all([
        ctx.step('second', () => 'second'),
        children.callSettled(quick, undefined, { timeout: '1h' }),
      ]);
      const before = ctx.now().getTime();
      await ctx.sleep('300ms');
      return { child: child.status, slept: ctx.now().getTime() - before };
    });
    const quick = workflow('quick', ({ ctx }) => ctx.sleep(300));
    const options = { worker: { pollInterval: '20ms' } } as const;
    const app = await startApp({ database: own, providers: [waiting, quick], options });
    const original = await app.orchestrator.start(waiting, undefined, { timeout: '1d' });
    await original.result();
    await moveClock(own, 30 * DAY_MS);

    const fork = await app.orchestrator.fork<{ child: string; slept: number }>(original.id, { fromStep: 'second' });
    const { child, slept } = await fork.result();

    expect(child).toBe('completed');
    expect(slept).toBeGreaterThanOrEqual(300);
    await app.close();
    await own.drop();
  });

  it('shares the patched branches before the step', async () => {
    const patching = workflow('patching', async ({ ctx }) => {
      const early = ctx.patched('early');
      await ctx.step('first', () => 'first');
      await ctx.step('second', () => 'second');
      return [early, ctx.patched('late')];
    });
    const { orchestrator } = await start(patching);
    const original = await orchestrator.start(patching, undefined);
    await original.result();

    const fork = await orchestrator.fork(original.id, { fromStep: 'second' });

    expect(await fork.result()).toEqual([true, true]);
    expect(keysOf(await orchestrator.history(fork.id))).toEqual(['early', 'first', 'second', 'late']);
  });
});

describe('the children of a fork', () => {
  const echo = workflow('echo', ({ ctx }, text: string) => ctx.step('say', () => text));
  const failing = workflow('failing', () => {
    throw new Error('broken');
  });
  const slow = workflow('slow', ({ ctx }, ms: number) => ctx.sleep(ms).then(() => 'slept'));

  it('are, before the step, those of the original: their outcomes, errors and handles', async () => {
    const parent = workflow('parent', async ({ ctx, children }) => {
      const called = await children.call(echo, 'called');
      const failed = await children.callSettled(failing, undefined, { ref: 'failing' });
      const handle = await children.start(slow, 600, { ref: 'slow' });
      await ctx.step('go', () => 'go');
      const later = await children.call(echo, 'later');
      const error = failed.status === 'failed' ? failed.error.childId : undefined;
      return {
        called,
        error,
        id: handle.id,
        slept: await handle.result(),
        later,
        again: await children.call(slow, 600, { ref: 'slow' }),
      };
    });
    const app = await start(parent, echo, failing, slow);
    const original = await app.orchestrator.start(parent, undefined);
    await until('the step is there', async () => keysOf(await app.orchestrator.history(original.id)).includes('go'));

    const fork = await app.orchestrator.fork(original.id, { fromStep: 'go' });
    const [expected, forked] = [await original.result(), await fork.result()];

    expect(forked).toEqual(expected);
    expect(new Set((await original.children()).items.map(({ ref }) => ref))).toEqual(
      new Set(['echo#1', 'echo#2', 'failing', 'slow']),
    );
    expect((await fork.children()).items.map(({ ref }) => ref)).toEqual(['echo#2']);
  });

  it('whose end the original had not received before the step are started anew', async () => {
    const parent = workflow('concurrent', ({ ctx, children }) =>
      Promise.all([children.call(slow, 300, { ref: 'slow' }), ctx.step('go', () => 'go')]),
    );
    const app = await start(parent, slow);
    const original = await app.orchestrator.start(parent, undefined);
    await original.result();

    const fork = await app.orchestrator.fork(original.id, { fromStep: 'go' });

    expect(await fork.result()).toEqual(['slept', 'go']);
    expect((await fork.children()).items).toHaveLength(1);
    expect((await original.children()).items).toHaveLength(1);
  });

  it('that it shares are not cancelled by it', async () => {
    let isFork = false;
    const parent = workflow('sharing', async ({ ctx, children }) => {
      const handle = await children.start(slow, 3_600_000, { ref: 'slow' });
      await ctx.step('go', () => 'go');
      if (!isFork) return handle.result();
      const call = (timeout?: number) =>
        children.callSettled(slow, 3_600_000, { ref: 'slow', ...(timeout && { timeout }) });
      await ctx.race({ call: () => call(), late: () => ctx.sleep(20) });
      return (await call(20)).status;
    });
    const app = await start(parent, slow);
    const original = await app.orchestrator.start(parent, undefined);
    await untilStatus(app, original.id, 'waiting');
    const { id } = (await original.children()).items[0]!;
    isFork = true;

    const timedOut = await app.orchestrator.fork(original.id, { fromStep: 'go' });
    expect(await timedOut.result()).toBe('timeout');
    const cancelled = await app.orchestrator.fork(original.id, { fromStep: 'go' });
    await cancelled.cancel();
    await until('it has ended', async () => (await app.orchestrator.get(cancelled.id)).finishedAt !== undefined);

    expect((await app.orchestrator.get(id)).status).toBe('waiting');
    await original.cancel();
  });

  it('of a later generation keep their refs', async () => {
    const parent = workflow('continued', async ({ ctx, children }, generation: number) => {
      if (generation === 0) return ctx.continueAsNew(1);
      const said = await children.call(echo, 'said');
      const key = await ctx.step('go', ({ idempotencyKey }) => idempotencyKey);
      return [said, key];
    });
    const { orchestrator } = await start(parent, echo);
    const original = await orchestrator.start(parent, 0);
    await original.result();

    const fork = await orchestrator.fork(original.id, { fromStep: 'go' });

    expect(await fork.result()).toEqual(['said', `${fork.id}.1/go`]);
    expect((await fork.children()).items).toEqual([]);
  });
});
