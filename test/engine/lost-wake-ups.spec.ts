import { defineSignal, type RunHandle } from '../../lib/index.js';
import { closeApps, engineOf, startApp, type TestApp } from '../support/app.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { Interleaving } from '../support/interleaving.js';
import { rewindRun } from '../support/rewind.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

/** On a machine that is slow. A lost wake-up is told sooner: by the interleaving, when nothing happens any more. */
const PATIENCE_MS = 180_000;
/** A wake-up that is lost stays lost: the regular look is out of the way. */
const HINTS_ONLY = { pollInterval: '1m', lease: '1000d' } as const;
const HOUR_MS = 3_600_000;

const Go = defineSignal<string>('go');
const Echo = workflow<string, string>('echo', ({ ctx }, word) => ctx.step('say', () => word));
const Waits = workflow('waits', async ({ ctx }) => [await ctx.waitForSignal(Go), await ctx.waitForSignal(Go)]);
const Calls = workflow('calls', ({ children }) =>
  Promise.all([
    children.call('echo', 'one', { queue: 'children' }),
    children.call('echo', 'two', { queue: 'children' }),
  ]),
);
const Say = workflow<string, string>('say', ({ ctx }, word) => ctx.step('say', () => word));
const CallsHere = workflow('calls here', async ({ ctx, children }) => {
  const both = Promise.all([children.call(Say, 'one'), children.call(Say, 'two'), ctx.waitForSignal(Go)]);
  return [...(await both), await children.call(Say, 'three')];
});
const Sleeps = workflow('sleeps', ({ ctx }) => ctx.sleep('1h').then(() => 'woke'));

let database: TestDatabase;
let app: TestApp;
let other: TestApp;
let interleaving: Interleaving;
let look: () => Promise<void>;

beforeAll(async () => {
  database = await createTestDatabase();
  const providers = [Waits, Calls, CallsHere, Say, Sleeps];
  app = await startApp({ database, providers, options: { worker: { ...HINTS_ONLY, queues: ['default'] } } });
  other = await startApp({ database, providers: [Echo], options: { worker: { ...HINTS_ONLY, queues: ['children'] } } });
  interleaving = await Interleaving.of(app, other);
  const { store, worker } = await engineOf(app);
  look = () => store.hints.announce({ queues: [], workers: [worker!.id], ended: [] });
});

afterAll(async () => {
  await closeApps();
  await database.drop();
});

async function activeChildrenOf(runId: string): Promise<number> {
  const { items } = await app.orchestrator.listChildren(runId, { status: ['pending', 'running', 'waiting'] });
  return items.length;
}

/** A run that parks when it is there; every second one may be inserted as parked, for it has no key (see Openings). */
const started = (seed: number) => (seed % 2 ? { key: `${seed} ${performance.now()}` } : {});

/** Each time in another order of all that the two processes send to the database, and of what they hear of it. */
async function interleave(times: number, scenario: (seed: number) => Promise<void>): Promise<Set<string>> {
  const orders = new Set<string>();
  for (let seed = 1; seed <= times; seed++) {
    await interleaving.run(seed, () => scenario(seed));
    orders.add(interleaving.trace.join());
  }
  return orders;
}

describe('In no order of a park and what happens meanwhile is a wake-up lost:', () => {
  it(
    '54. two signals from two processes, 500 interleavings',
    async () => {
      const orders = await interleave(500, async (seed) => {
        const run = await app.orchestrator.start(Waits, undefined, started(seed));
        await Promise.all([
          app.orchestrator.signal(run.id, Go, 'here'),
          other.orchestrator.signal(run.id, Go, 'there'),
        ]);

        expect((await run.result()).toSorted()).toEqual(['here', 'there']);
      });

      expect(orders.size).toBeGreaterThan(400);
    },
    PATIENCE_MS,
  );

  it('the ends of two children in another process', async () => {
    await interleave(150, async (seed) => {
      const run = await app.orchestrator.start(Calls, undefined, started(seed));

      expect(await run.result()).toEqual(['one', 'two']);
    });
  });

  it(
    'the ends of children in this process, told before they are committed, and a signal from another',
    async () => {
      await interleave(300, async (seed) => {
        const run = await app.orchestrator.start(CallsHere, undefined, started(seed));
        await other.orchestrator.signal(run.id, Go, 'there');

        expect(await run.result()).toEqual(['one', 'two', 'there', 'three']);
      });
    },
    PATIENCE_MS,
  );

  it('the end of a child in this process, told before it is committed, and the cancellation of its parent', async () => {
    const left: string[] = [];
    await interleave(150, async (seed) => {
      const run = await app.orchestrator.start(CallsHere, undefined, started(seed));
      const result = run.result();
      result.catch(() => {});
      await other.orchestrator.cancel(run.id);

      await expect(result).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
      left.push(run.id);
    });
    for (const id of left)
      await until(`the children of ${id} have ended`, async () => (await activeChildrenOf(id)) === 0);
  });

  it('a timer that comes due', async () => {
    await interleave(100, async (seed) => {
      const run = await app.orchestrator.start(Sleeps, undefined);
      const result = run.result();
      await moveClock(database, seed * HOUR_MS);
      // The regular look, which finds that the time has moved, comes at some moment of this.
      await look();

      expect(await result).toBe('woke');
    });
  });

  it('a cancellation from another process', async () => {
    await interleave(150, async (seed) => {
      const run = await app.orchestrator.start(seed % 3 ? Waits : Sleeps, undefined, started(seed));
      const result = run.result();
      result.catch(() => {});
      await other.orchestrator.cancel(run.id);

      await expect(result).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    });
  });
});

describe('A run goes on though the database has once refused, for good,', () => {
  it('to say what woke it', async () => {
    await refuseOnce('loadSignals');
    const run = await app.orchestrator.start(Waits, undefined);
    await sendTwo(run.id);

    expect(await resultOf(run)).toEqual(['one', 'two']);
  });

  it('to give the history with which it was claimed', async () => {
    const run = await app.orchestrator.start(Waits, undefined);
    await sendTwo(run.id);
    await run.result();
    await refuseOnce('loadHistories');
    await rewindRun(database, run.id, 1);

    expect(await resultOf(run)).toEqual(['one', 'two']);
  });

  async function refuseOnce(member: 'loadSignals' | 'loadHistories'): Promise<void> {
    const { store } = await engineOf(app);
    const answer = store[member].bind(store);
    const refuse = () => {
      Object.assign(store, { [member]: answer });
      return Promise.reject(new Error('permission denied for table'));
    };
    Object.assign(store, { [member]: refuse });
  }

  async function sendTwo(runId: string): Promise<void> {
    for (const word of ['one', 'two']) await other.orchestrator.signal(runId, Go, word);
  }

  async function resultOf(run: RunHandle): Promise<unknown> {
    await until('it has ended', async () => {
      await look();
      return (await run.status()) === 'completed';
    });
    return run.result();
  }
});
