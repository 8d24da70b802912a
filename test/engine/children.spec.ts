import { setTimeout as delay } from 'node:timers/promises';

import type { Provider } from '@nestjs/common';
import {
  type CallOptions,
  causedBy,
  ChildCancelledError,
  ChildFailedError,
  type ChildHandle,
  ChildOrchestrator,
  ChildRefConflictError,
  ChildTimeoutError,
  DepthLimitError,
  NonRetryableError,
  NotInRunError,
  type OrchestrationModuleOptions,
  rootCause,
  RunContext,
  RunFailedError,
  RunNotFoundError,
  type RunStatus,
  type SettledChild,
  type StartOptions,
  Workflow,
  WorkflowNotRegisteredError,
} from 'nestjs-orchestration';

import type { EngineHost } from '../../lib/nest/engine-host.js';
import { Barrier } from '../support/barrier.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';

interface Inside {
  children: ChildOrchestrator;
  ctx: RunContext;
}

type Script = (inside: Inside) => unknown;

/** What the run with that name as its input does: each test writes the code of its parent where it uses it. */
const scripts = new Map<string, Script>();

@Workflow('parent')
class ParentWorkflow {
  constructor(
    private readonly children: ChildOrchestrator,
    private readonly ctx: RunContext,
  ) {}

  async run(script: string): Promise<unknown> {
    return await scripts.get(script)!({ children: this.children, ctx: this.ctx });
  }
}

@Workflow('sum')
class SumWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run({ a, b }: { a: number; b: number }): Promise<{ sum: number; at: Date }> {
    return { sum: await this.ctx.step('add', () => a + b), at: this.ctx.now() };
  }
}

class CardDeclined extends NonRetryableError {
  override readonly code = 'CARD_DECLINED';

  constructor(
    readonly card: string,
    options: { cause: unknown },
  ) {
    super(`The card ${card} was declined`, options);
  }
}

@Workflow('declined')
class DeclinedWorkflow {
  run(card: string): Promise<string> {
    throw new CardDeclined(card, { cause: new RangeError('3 above the limit') });
  }
}

/** Parks until it is cancelled or its deadline comes. */
@Workflow('endless')
class EndlessWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(_input?: unknown): Promise<string> {
    await this.ctx.sleep('365d');
    return 'a year later';
  }
}

@Workflow({ name: 'short-lived', timeout: 250 })
class ShortLivedWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(): Promise<void> {
    await this.ctx.sleep('365d');
  }
}

@Workflow('nap')
class NapWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run({ name, ms }: { name: string; ms: number }): Promise<string> {
    await this.ctx.sleep(ms);
    return name;
  }
}

/** What a run knows of itself. */
@Workflow('whoami')
class WhoAmIWorkflow {
  constructor(private readonly ctx: RunContext) {}

  run() {
    const { runId, parentId, rootId, tenant, attributes } = this.ctx;
    return { runId, parentId, rootId, tenant, attributes };
  }
}

@Workflow('chain')
class ChainWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  /** The number of runs in the chain from this one on. */
  async run(length: number): Promise<number> {
    return length === 1 ? 1 : 1 + (await this.children.call(ChainWorkflow, length - 1));
  }
}

@Workflow('starts-itself')
class StartsItselfWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  async run(how: 'start' | 'detached'): Promise<void> {
    await this.children.start(StartsItselfWorkflow, how, { detached: how === 'detached' });
  }
}

const WORKFLOWS = [
  ParentWorkflow,
  SumWorkflow,
  DeclinedWorkflow,
  EndlessWorkflow,
  ShortLivedWorkflow,
  NapWorkflow,
  WhoAmIWorkflow,
  ChainWorkflow,
  StartsItselfWorkflow,
];

describe('children', () => {
  let database: TestDatabase;
  let app: TestApp;

  beforeAll(async () => {
    database = await createTestDatabase();
    app = await start();
  });

  afterAll(async () => {
    await closeApps();
    await database.drop();
  });

  function start(options?: OrchestrationModuleOptions, providers: Provider[] = WORKFLOWS): Promise<TestApp> {
    return startApp({ database, providers, options });
  }

  async function startParent(code: Script, options?: StartOptions, from = app) {
    const name = `script-${scripts.size + 1}`;
    scripts.set(name, code);
    return await from.orchestrator.start(ParentWorkflow, name, options);
  }

  /** Runs code as a workflow, and gives what it returns. */
  async function inRun(code: Script, options?: StartOptions, from = app): Promise<unknown> {
    return await (await startParent(code, options, from)).result({ timeout: '30s' });
  }

  async function untilStatus(runId: string, status: RunStatus): Promise<void> {
    await until(`run ${runId} is ${status}`, async () => (await app.orchestrator.get(runId)).status === status);
  }

  async function childrenOf(runId: string) {
    return (await app.orchestrator.listChildren(runId)).items.reverse();
  }

  /** The facts of what was thrown that the history keeps. */
  async function thrownBy(work: Promise<unknown>): Promise<Error & Record<string, unknown>> {
    const caught: unknown = await work.then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!(caught instanceof Error)) throw new Error('nothing was thrown');
    return caught as Error & Record<string, unknown>;
  }

  const facts = (error: Error & Record<string, unknown>) => Object.fromEntries(Object.entries(error));

  describe('how a child ends, for call and callSettled (scenario 27)', () => {
    it('completed: call returns the output, callSettled the output as a value', async () => {
      const returned = await inRun(async ({ children }) => [
        await children.call(SumWorkflow, { a: 1, b: 2 }),
        await children.callSettled(SumWorkflow, { a: 3, b: 4 }),
      ]);

      expect(returned).toEqual([
        { sum: 3, at: expect.any(Date) as Date },
        { status: 'completed', value: { sum: 7, at: expect.any(Date) as Date } },
      ]);
    });

    it('failed: call throws ChildFailedError with the whole cause chain', async () => {
      let thrown: unknown;
      const run = await startParent(async ({ children }) => {
        thrown = await thrownBy(children.call(DeclinedWorkflow, '4711', { ref: 'payment' }));
      });
      await run.result({ timeout: '30s' });

      const [child] = await childrenOf(run.id);
      expect(thrown).toBeInstanceOf(ChildFailedError);
      expect(thrown).toMatchObject({
        code: 'CHILD_FAILED',
        childId: child!.id,
        ref: 'payment',
        workflow: 'declined',
        message: expect.stringContaining('The card 4711 was declined') as string,
        cause: {
          name: 'CardDeclined',
          code: 'CARD_DECLINED',
          card: '4711',
          cause: { name: 'RangeError', message: '3 above the limit' },
        },
      });
      expect(causedBy(thrown, CardDeclined)).toBe(true);
      expect(rootCause(thrown)).toMatchObject({ name: 'RangeError' });
    });

    it('failed: callSettled gives the same error as a value', async () => {
      const [status, isChildFailed, cause] = (await inRun(async ({ children }) => {
        const settled = await children.callSettled(DeclinedWorkflow, '4711');
        return settled.status === 'failed'
          ? [settled.status, settled.error instanceof ChildFailedError, (settled.error.cause as Error).name]
          : [settled.status];
      })) as unknown[];

      expect([status, isChildFailed, cause]).toEqual(['failed', true, 'CardDeclined']);
    });

    it('an error that nobody catches fails the parent, and reaches whoever waits for it with every cause', async () => {
      const failure = await thrownBy(inRun(({ children }) => children.call(DeclinedWorkflow, '4711')));

      expect(failure).toBeInstanceOf(RunFailedError);
      expect(failure).toMatchObject({
        cause: { name: 'ChildFailedError', cause: { name: 'CardDeclined', cause: { name: 'RangeError' } } },
      });
    });

    it('failed by its own deadline: the cause is RunTimeoutError, and the parent is woken (scenario 34)', async () => {
      const returned = await inRun(async ({ children }) => {
        const thrown = await thrownBy(children.call(ShortLivedWorkflow, undefined));
        const settled = await children.callSettled(ShortLivedWorkflow, undefined);
        return [thrown.name, (thrown.cause as Error).name, settled.status];
      });

      expect(returned).toEqual(['ChildFailedError', 'RunTimeoutError', 'failed']);
    });

    it('cancelled directly: the parent gets ChildCancelledError and is not cancelled itself (scenario 32)', async () => {
      const run = await startParent(async ({ children, ctx }) => {
        const thrown = await thrownBy(children.call(EndlessWorkflow, undefined, { ref: 'a' }));
        const settled = await children.callSettled(EndlessWorkflow, undefined, { ref: 'b' });
        const isAlive = await ctx.step('still alive', () => true);
        const ends = [thrown, settled.status === 'cancelled' ? settled.error : new Error('it was not cancelled')];
        return [
          ...ends.map((end) => [end instanceof ChildCancelledError, facts(end as typeof thrown)]),
          ...[settled.status, isAlive, ctx.signal.aborted],
        ];
      });
      for (const [index, ref] of ['a', 'b'].entries()) {
        await until(`child ${ref} is there`, async () => (await childrenOf(run.id)).length > index);
        await untilStatus(run.id, 'waiting');
        await app.orchestrator.cancel((await childrenOf(run.id))[index]!.id, { reason: `no more ${ref}` });
      }

      const returned = await run.result({ timeout: '30s' });
      const children = await childrenOf(run.id);
      const cancelled = (index: number, ref: string): unknown => [
        true,
        expect.objectContaining({
          code: 'CHILD_CANCELLED',
          childId: children[index]!.id,
          ref,
          workflow: 'endless',
          reason: `no more ${ref}`,
        }),
      ];
      expect(returned).toEqual([cancelled(0, 'a'), cancelled(1, 'b'), 'cancelled', true, false]);
      expect(children.map(({ status }) => status)).toEqual(['cancelled', 'cancelled']);
    });

    it('terminated: the parent gets ChildCancelledError', async () => {
      const run = await startParent(({ children }) => children.callSettled(EndlessWorkflow, undefined));
      await until('the child is there', async () => (await childrenOf(run.id)).length === 1);
      await app.orchestrator.cancel((await childrenOf(run.id))[0]!.id, { mode: 'terminate' });

      expect(await run.result({ timeout: '30s' })).toMatchObject({ status: 'cancelled' });
    });

    describe.each<{ onTimeout: 'cancel' | 'abandon' | undefined; child: RunStatus }>([
      { onTimeout: undefined, child: 'cancelled' },
      { onTimeout: 'cancel', child: 'cancelled' },
      { onTimeout: 'abandon', child: 'waiting' },
    ])('not in time, with onTimeout $onTimeout (scenario 33)', ({ onTimeout, child: status }) => {
      const options: CallOptions = onTimeout ? { timeout: 50, onTimeout } : { timeout: 50 };

      async function expectChild(run: { id: string }): Promise<void> {
        const [child] = await childrenOf(run.id);
        await untilStatus(child!.id, status);
        expect((await app.orchestrator.get(run.id)).status).toBe('completed');
      }

      it(`call throws ChildTimeoutError, and the child is ${status}`, async () => {
        const run = await startParent(async ({ children }) => {
          const thrown = await thrownBy(children.call(EndlessWorkflow, undefined, { ref: 'slow', ...options }));
          return [thrown instanceof ChildTimeoutError, facts(thrown)];
        });

        expect(await run.result({ timeout: '30s' })).toEqual([
          true,
          expect.objectContaining({ code: 'CHILD_TIMEOUT', ref: 'slow', workflow: 'endless', timeoutMs: 50 }),
        ]);
        await expectChild(run);
      });

      it(`call returns timeoutValue, also undefined, and the child is ${status}`, async () => {
        const run = await startParent(async ({ children }) => [
          await children.call(EndlessWorkflow, undefined, { ...options, timeoutValue: { instead: 1 } }),
          await children.call(EndlessWorkflow, undefined, { ...options, timeoutValue: undefined }),
        ]);

        expect(await run.result({ timeout: '30s' })).toEqual([{ instead: 1 }, undefined]);
        await expectChild(run);
      });

      it(`callSettled says timeout, and the child is ${status}`, async () => {
        const run = await startParent(async ({ children }) => {
          const settled = await children.callSettled(EndlessWorkflow, undefined, options);
          return settled.status === 'timeout' && settled.error instanceof ChildTimeoutError;
        });

        expect(await run.result({ timeout: '30s' })).toBe(true);
        await expectChild(run);
      });
    });

    it.each([0, -5, '0s'] as const)('a timeout of %p ends at once, and the child does not go on', async (timeout) => {
      const run = await startParent(({ children }) => children.callSettled(EndlessWorkflow, undefined, { timeout }));

      expect(await run.result({ timeout: '30s' })).toMatchObject({ status: 'timeout' });
      await until('the child has been cancelled', async () => (await childrenOf(run.id))[0]?.status !== 'running');
      expect((await childrenOf(run.id)).map(({ status }) => status)).not.toContain('waiting');
    });

    it('an abandoned child can still be awaited, and completes', async () => {
      const returned = await inRun(async ({ children }) => {
        const first = await children.callSettled(
          NapWorkflow,
          { name: 'late', ms: 400 },
          { ref: 'x', timeout: 20, onTimeout: 'abandon' },
        );
        return [first.status, await children.call(NapWorkflow, { name: 'late', ms: 400 }, { ref: 'x' })];
      });

      expect(returned).toEqual(['timeout', 'late']);
    });

    it('a child that cannot be started because its input cannot be stored leaves no row', async () => {
      const run = await startParent(async ({ children }) => {
        const thrown = await thrownBy(children.call('sum', { a: () => 1 }));
        return [thrown.name, thrown.message];
      });

      expect(await run.result({ timeout: '30s' })).toEqual(['PayloadError', expect.stringContaining('value.a')]);
      expect(await childrenOf(run.id)).toEqual([]);
    });

    it('a wrong option is refused with its name', async () => {
      const returned = await inRun(async ({ children }) => {
        const thrown = await thrownBy(children.call(SumWorkflow, { a: 1, b: 2 }, { timout: 5 } as never));
        return [thrown.name, thrown.message];
      });

      expect(returned).toEqual(['ValidationError', expect.stringContaining("'timout'")]);
    });
  });

  describe('refs (scenario 38)', () => {
    it('calls without a ref make a child each, named by the workflow and the number of the call', async () => {
      const run = await startParent(async ({ children }) => {
        await children.call(SumWorkflow, { a: 1, b: 1 });
        await children.call(SumWorkflow, { a: 1, b: 1 });
        await children.start(WhoAmIWorkflow, undefined);
      });
      await run.result({ timeout: '30s' });

      expect((await childrenOf(run.id)).map(({ ref }) => ref)).toEqual(['sum#1', 'sum#2', 'whoami#1']);
    });

    it('the same ref twice gives the same child, with its recorded end', async () => {
      const run = await startParent(async ({ children }) => {
        const first = await children.call(SumWorkflow, { a: 1, b: 2 }, { ref: 'total' });
        const again = await children.call(SumWorkflow, { b: 2, a: 1 }, { ref: 'total' });
        const handle = await children.start(SumWorkflow, { a: 1, b: 2 }, { ref: 'total' });
        return [first, again, await handle.result()];
      });

      const outputs = (await run.result({ timeout: '30s' })) as unknown[];
      expect(outputs[1]).toEqual(outputs[0]);
      expect(outputs[2]).toEqual(outputs[0]);
      expect(await childrenOf(run.id)).toHaveLength(1);
    });

    it.each([
      { first: 'call', second: 'call' },
      { first: 'call', second: 'start' },
      { first: 'start', second: 'call' },
      { first: 'start', second: 'start' },
    ] as const)('a $first and a $second of one ref at the same time make one child, and both get it', async (how) => {
      const run = await startParent(async ({ children }) => {
        const ask = {
          call: async () => (await children.call(SumWorkflow, { a: 2, b: 2 }, { ref: 'one' })).sum,
          start: async () => (await (await children.start(SumWorkflow, { a: 2, b: 2 }, { ref: 'one' })).result()).sum,
        };
        return await Promise.all([ask[how.first](), ask[how.second]()]);
      });

      expect(await run.result({ timeout: '10s' })).toEqual([4, 4]);
      expect(await childrenOf(run.id)).toHaveLength(1);
    });

    it('the same ref with another input or another workflow is a ChildRefConflictError that names both', async () => {
      const run = await startParent(async ({ children }) => {
        await children.call(SumWorkflow, { a: 1, b: 2 }, { ref: 'total' });
        const input = await thrownBy(children.call(SumWorkflow, { a: 1, b: 3 }, { ref: 'total' }));
        const workflow = await thrownBy(children.start(EndlessWorkflow, { a: 1, b: 2 }, { ref: 'total' }));
        return [
          input instanceof ChildRefConflictError,
          input.ref,
          input.childId,
          input.message,
          workflow.name,
          workflow.message,
        ];
      });

      const returned = await run.result({ timeout: '30s' });
      const children = await childrenOf(run.id);
      expect(children).toHaveLength(1);
      expect(returned).toEqual([
        true,
        'total',
        children[0]!.id,
        expect.stringContaining('a different input'),
        'ChildRefConflictError',
        expect.stringMatching(/'sum'.*'endless'/),
      ]);
    });

    it.each(['__proto__', 'constructor', 'a#2', "it's; drop table run", 'nul\0 and \ud800', 'x'.repeat(2_000)])(
      'a ref may be any text: %j',
      async (ref) => {
        const run = await startParent(async ({ children }) => {
          const child = await children.start(SumWorkflow, { a: 1, b: 1 }, { ref });
          return [child.ref, (await child.result()).sum, (await children.get(ref))?.ref];
        });

        expect(await run.result({ timeout: '30s' })).toEqual([ref, 2, ref]);
      },
    );
  });

  describe('started children', () => {
    it('start resolves once the child is durable, with a handle of it', async () => {
      const run = await startParent(async ({ children }) => {
        const handle = await children.start(WhoAmIWorkflow, undefined, { ref: 'who' });
        const row = await app.orchestrator.get(handle.id);
        const self = await handle.result();
        return [handle.ref, row.ref, self.runId === handle.id, self.parentId, await handle.status()];
      });

      expect(await run.result({ timeout: '30s' })).toEqual(['who', 'who', true, run.id, 'completed']);
    });

    it('their handle says whether that call has started the child: in a replay and the next generation as well', async () => {
      const seen: boolean[][] = [];
      const startTwice = async ({ children }: Inside) => {
        const handles = [
          await children.start(EndlessWorkflow, undefined, { ref: 'one' }),
          await children.start(EndlessWorkflow, undefined, { ref: 'one' }),
        ];
        seen.push(handles.map(({ started }) => started));
      };
      scripts.set('next generation', startTwice);
      const run = await startParent(async ({ ctx, children }) => {
        await startTwice({ ctx, children });
        await ctx.waitForSignal('go on');
        await ctx.continueAsNew('next generation');
      });
      await until('both have been asked for', () => seen.length === 1);
      await untilStatus(run.id, 'waiting');
      await app.crash();
      app = await start();
      await app.orchestrator.signal(run.id, 'go on');
      await app.orchestrator.result(run.id, { timeout: '30s' });

      expect(seen).toEqual([
        [true, false],
        [true, false],
        [false, false],
      ]);
    });

    it("their handle lists the child's own children, once: a replay has the recorded list", async () => {
      scripts.set('starts two', async ({ children }) => {
        await children.start(EndlessWorkflow, undefined, { ref: 'one' });
        await children.call(EndlessWorkflow, undefined, { ref: 'other' });
      });
      let lists: string[][] = [];
      const run = await startParent(async ({ ctx, children }) => {
        const child = await children.start(ParentWorkflow, 'starts two', { ref: 'child' });
        await ctx.waitForSignal('look');
        const refs = (await child.children()).items.map(({ ref }) => ref!);
        const waiting = await child.children({ status: 'waiting' });
        const cancelled = await child.children({ status: 'cancelled' });
        lists.push(refs, [waiting.items.length, cancelled.items.length].map(String));
        await ctx.waitForSignal('end');
      });
      await until('both wait', async () => {
        const [child] = await childrenOf(run.id);
        return (
          child !== undefined && (await childrenOf(child.id)).filter(({ status }) => status === 'waiting').length === 2
        );
      });
      await run.signal('look');
      await until('it has looked', () => lists.length === 2);
      await untilStatus(run.id, 'waiting');
      const seen = lists;
      lists = [];
      await app.orchestrator.cancel((await childrenOf(run.id))[0]!.id);
      await app.crash();
      app = await start();
      await app.orchestrator.signal(run.id, 'end');
      await app.orchestrator.result(run.id, { timeout: '30s' });

      expect(seen).toEqual([
        ['other', 'one'],
        ['2', '0'],
      ]);
      expect(lists).toEqual(seen);
    });

    it('a handle waits as call does: error, timeout, cancellation', async () => {
      const returned = await inRun(async ({ children }) => {
        const declined = await children.start(DeclinedWorkflow, '1');
        const endless = await children.start(EndlessWorkflow, undefined);
        const failed = await thrownBy(declined.result());
        const late = await thrownBy(endless.result({ timeout: 30 }));
        const value = await endless.result({ timeout: 0, timeoutValue: undefined });
        const before = await endless.status();
        const count = await endless.cancel('enough');
        const cancelled = await thrownBy(endless.result());
        return [
          failed.name,
          late.name,
          value,
          before,
          count.cancelled + count.requested,
          cancelled.name,
          cancelled.reason,
          await endless.status(),
        ];
      });

      expect(returned).toEqual([
        'ChildFailedError',
        'ChildTimeoutError',
        undefined,
        expect.stringMatching(/waiting|running/),
        1,
        'ChildCancelledError',
        'enough',
        'cancelled',
      ]);
    });

    it('a started child survives the completion and the failure of its parent (scenario 35)', async () => {
      const barrier = new Barrier();
      const child: Script = ({ ctx }) => ctx.step('wait', () => barrier.pass().then(() => 'went on'));
      scripts.set('patient', child);
      const completed = await startParent(({ children }) => children.start('parent', 'patient').then(({ id }) => id));
      const failed = await startParent(async ({ children }) => {
        const { id } = await children.start('parent', 'patient');
        throw new Error(id);
      });
      const ids = [
        (await completed.result({ timeout: '30s' })) as string,
        rootCauseMessage(await thrownBy(failed.result({ timeout: '30s' }))),
      ];
      expect(await Promise.all(ids.map(async (id) => (await app.orchestrator.get(id)).status))).toEqual([
        'running',
        'running',
      ]);
      barrier.open();

      const results = await Promise.all(ids.map((id) => app.orchestrator.result(id, { timeout: '30s' })));
      expect(results).toEqual(['went on', 'went on']);
    });

    it.each(['completes', 'fails'])(
      "parentClose: 'cancel' ends it, with its own children, when its parent %s (scenario 35)",
      async (how) => {
        const barrier = new Barrier();
        scripts.set(`middle-${how}`, ({ children }) => children.call(EndlessWorkflow, undefined));
        const run = await startParent(async ({ children, ctx }) => {
          await children.start('parent', `middle-${how}`, { parentClose: 'cancel', ref: 'closes' });
          await children.start(EndlessWorkflow, undefined, { ref: 'stays' });
          await children.start(EndlessWorkflow, undefined, { parentClose: 'abandon', ref: 'may stay' });
          await children.start(EndlessWorkflow, undefined, { parentClose: 'cancel', detached: true, ref: 'detached' });
          const leave = { timeout: 20, onTimeout: 'abandon' } as const;
          await children.callSettled(EndlessWorkflow, undefined, { parentClose: 'cancel', ref: 'left', ...leave });
          await children.call(SumWorkflow, { a: 1, b: 1 }, { parentClose: 'cancel', ref: 'ended' });
          await ctx.step('wait', () => barrier.pass());
          if (how === 'fails') throw new Error('for a reason');
        });
        await until('the children are there', async () => (await childrenOf(run.id)).length === 6);
        const closing = (await childrenOf(run.id)).find(({ ref }) => ref === 'closes')!;
        await until('the grandchild waits', async () => (await childrenOf(closing.id))[0]?.status === 'waiting');
        barrier.open();
        await untilStatus(run.id, how === 'fails' ? 'failed' : 'completed');
        await untilStatus(closing.id, 'cancelled');
        const others = (await childrenOf(run.id)).filter(({ ref }) => ref === 'left' || ref === 'detached');
        for (const { id } of others) await untilStatus(id, 'cancelled');

        const statuses = (await childrenOf(run.id)).map(({ ref, status }) => `${ref}: ${status}`);
        expect(statuses).toEqual([
          ...['closes: cancelled', 'stays: waiting', 'may stay: waiting'],
          ...['detached: cancelled', 'left: cancelled', 'ended: completed'],
        ]);
        expect((await childrenOf(closing.id))[0]!.status).toBe('cancelled');
      },
    );

    it("parentClose: 'cancel' ends it when its parent runs out of time (scenario 35)", async () => {
      const run = await startParent(
        async ({ children, ctx }) => {
          await children.start(EndlessWorkflow, undefined, { parentClose: 'cancel', ref: 'closes' });
          await ctx.sleep('1h');
        },
        { timeout: 400 },
      );
      await untilStatus(run.id, 'failed');
      const [child] = await childrenOf(run.id);
      await untilStatus(child!.id, 'cancelled');

      expect(await app.orchestrator.get(run.id)).toMatchObject({ error: { name: 'RunTimeoutError' } });
      expect(await app.orchestrator.get(child!.id)).toMatchObject({ error: { reason: 'its parent ended (failed)' } });
    });

    it('has the queue, priority, label and attributes of its start', async () => {
      const run = await startParent(
        async ({ children }) => {
          await children.start(EndlessWorkflow, undefined, {
            ...{ ref: 'started', queue: 'nobody serves it', priority: 3, label: 'Started' },
            ...{ attributes: { own: 1 }, inherit: ['attributes'] },
          });
        },
        { tenant: 'acme', priority: 7, attributes: { region: 'north' } },
      );
      await run.result({ timeout: '30s' });

      expect(await childrenOf(run.id)).toMatchObject([
        {
          ...{ ref: 'started', queue: 'nobody serves it', priority: 3, label: 'Started', tenant: 'acme' },
          ...{ attributes: { own: 1, region: 'north' }, status: 'pending' },
        },
      ]);
    });

    it('an error of a call that nobody awaits does not end the process', async () => {
      const unhandled: unknown[] = [];
      const listener = (reason: unknown) => unhandled.push(reason);
      process.on('unhandledRejection', listener);
      await inRun(async ({ children, ctx }) => {
        void children.cancel('nobody');
        void children.await('nothing');
        void children.call(DeclinedWorkflow, '1');
        void children.call('nowhere', undefined);
        void children.start(EndlessWorkflow, undefined, { ref: '' });
        void children.map(DeclinedWorkflow, ['1']);
        await ctx.sleep(300);
      });
      process.off('unhandledRejection', listener);

      expect(unhandled).toEqual([]);
    });

    it('a child that is started and not awaited is there when its parent ends at once', async () => {
      const run = await startParent(({ children }) => {
        void children.start(SumWorkflow, { a: 1, b: 1 });
      });
      await run.result({ timeout: '30s' });

      const [child] = await childrenOf(run.id);
      await untilStatus(child!.id, 'completed');
      expect(child!.ref).toBe('sum#1');
    });
  });

  describe('list, get and cancel', () => {
    it('are recorded: a replay sees what the first pass saw', async () => {
      const barrier = new Barrier();
      const seen: unknown[] = [];
      const other = await start({ worker: { queues: ['replayed'], stickyRuns: 1 } });
      scripts.set('replayed', async ({ children, ctx }) => {
        await children.start(EndlessWorkflow, undefined, { ref: 'other', queue: 'default' });
        const handle = await children.start(EndlessWorkflow, undefined, { ref: 'a', queue: 'default' });
        const listed = await children.list({ status: ['waiting', 'pending', 'running'] });
        const found = await children.get('a');
        const unknown = await children.get('b');
        const status = await handle.status();
        const count = await children.cancel('a', 'seen enough');
        seen.push([
          listed.items.map(({ ref }) => ref),
          [found?.id === handle.id, found?.status],
          unknown,
          status,
          count.cancelled + count.requested,
        ]);
        await ctx.sleep(250);
        await ctx.step('wait', () => barrier.pass());
        return await children.list({ status: 'cancelled' }).then(({ items }) => items.map(({ ref }) => ref));
      });
      const run = await app.orchestrator.start(ParentWorkflow, 'replayed', { queue: 'replayed' });
      await untilStatus(run.id, 'waiting');
      await other.crash();
      await start({ worker: { queues: ['replayed'] } });
      barrier.open();

      expect(await run.result({ timeout: '30s' })).toEqual(['a']);
      expect(seen).toHaveLength(2);
      expect(seen[1]).toEqual(seen[0]);
      const active: unknown = expect.stringMatching(/waiting|pending|running/);
      expect(seen[0]).toEqual([['a', 'other'], [true, active], undefined, active, 1]);
    });

    it('cancel of a ref that this run has no child of is RunNotFoundError', async () => {
      const returned = await inRun(async ({ children }) => {
        const thrown = await thrownBy(children.cancel('nobody'));
        return [thrown instanceof RunNotFoundError, thrown.message];
      });

      expect(returned).toEqual([true, expect.stringContaining('nobody')]);
    });

    it('outside a run every member throws NotInRunError, which says to use Orchestrator', async () => {
      const children = app.get(ChildOrchestrator);
      const calls = [
        () => children.call(SumWorkflow, { a: 1, b: 1 }),
        () => children.callSettled(SumWorkflow, { a: 1, b: 1 }),
        () => children.start(SumWorkflow, { a: 1, b: 1 }),
        () => children.await('x'),
        () => children.map(SumWorkflow, []),
        () => children.list(),
        () => children.get('x'),
        () => children.cancel('x'),
        () => children.signal('x', 'y'),
      ];

      for (const call of calls) {
        const thrown = await thrownBy((async () => await call())());
        expect(thrown).toBeInstanceOf(NotInRunError);
        expect(thrown.message).toContain('Orchestrator');
      }
    });
  });

  describe('await (scenario 43)', () => {
    it('waits for a run that was started elsewhere, whichever way it ends', async () => {
      const barrier = new Barrier();
      scripts.set('elsewhere', ({ ctx }) => ctx.step('wait', () => barrier.pass().then(() => 'from elsewhere')));
      const other = await app.orchestrator.start('parent', 'elsewhere');
      const declined = await app.orchestrator.start(DeclinedWorkflow, '1');
      const endless = await app.orchestrator.start(EndlessWorkflow, undefined);
      const run = await startParent(async ({ children }) => {
        const value = await children.await<string>(other.id);
        const failed = await thrownBy(children.await(declined.id));
        const late = await children.await(endless.id, { timeout: 20, timeoutValue: 'late' });
        const cancelled = await thrownBy(children.await(endless.id));
        return [value, failed.name, causedBy(failed, 'CARD_DECLINED'), late, cancelled.name, cancelled.reason];
      });
      await untilStatus(run.id, 'waiting');
      barrier.open();
      await until('it waits for the last', async () => (await app.orchestrator.history(run.id)).length === 3);
      await untilStatus(run.id, 'waiting');
      await app.orchestrator.cancel(endless.id, { reason: 'by hand' });

      expect(await run.result({ timeout: '30s' })).toEqual([
        'from elsewhere',
        'ChildFailedError',
        true,
        'late',
        'ChildCancelledError',
        'by hand',
      ]);
    });

    it('does not cancel what it waits for when it times out', async () => {
      const endless = await app.orchestrator.start(EndlessWorkflow, undefined);
      await inRun(({ children }) => children.await(endless.id, { timeout: 0, timeoutValue: null }));

      expect(['running', 'waiting']).toContain(await endless.status());
    });

    it('throws ChildTimeoutError when that run does not end in time, or returns timeoutValue, also undefined', async () => {
      const endless = await app.orchestrator.start(EndlessWorkflow, undefined);
      const returned = await inRun(async ({ children }) => {
        const late = await thrownBy(children.await(endless.id, { timeout: 20 }));
        const value = await children.await(endless.id, { timeout: 20, timeoutValue: undefined });
        return [late instanceof ChildTimeoutError, late.childId, late.timeoutMs, value];
      });

      expect(returned).toEqual([true, endless.id, 20, undefined]);
    });

    it.each(['018f0000-0000-7000-8000-000000000000', 'no-uuid-at-all'])(
      'an unknown id (%s) is RunNotFoundError at once',
      async (id) => {
        const returned = await inRun(async ({ children, ctx }) => {
          const thrown = await thrownBy(children.await(id, { timeout: '1h' }));
          return [thrown instanceof RunNotFoundError, thrown.runId, await ctx.step('goes on', () => true)];
        });

        expect(returned).toEqual([true, id, true]);
      },
    );
  });

  describe('what children inherit', () => {
    it('tenant and priority always, attributes when asked to (scenario 44)', async () => {
      const run = await startParent(
        async ({ children, ctx }) => {
          await ctx.setAttributes({ city: 'Oslo' });
          const plain = await children.call(WhoAmIWorkflow, undefined, { ref: 'plain' });
          const given = await children.call(WhoAmIWorkflow, undefined, {
            ref: 'given',
            attributes: { own: 1 },
            priority: 3,
          });
          const inherits = { inherit: ['attributes'], attributes: { own: 1, region: 'south' } } as const;
          const heir = await children.call(WhoAmIWorkflow, undefined, { ref: 'heir', ...inherits });
          return [plain, given, heir].map(({ tenant, attributes }) => ({ tenant, attributes }));
        },
        { tenant: 'acme', priority: 7, attributes: { region: 'north' } },
      );

      expect(await run.result({ timeout: '30s' })).toEqual([
        { tenant: 'acme', attributes: {} },
        { tenant: 'acme', attributes: { own: 1 } },
        { tenant: 'acme', attributes: { own: 1, region: 'south', city: 'Oslo' } },
      ]);
      expect((await childrenOf(run.id)).map(({ priority, depth, rootId }) => [priority, depth, rootId])).toEqual([
        [7, 2, run.id],
        [3, 2, run.id],
        [7, 2, run.id],
      ]);
    });

    it('another run shares nothing of them', async () => {
      const self = await app.orchestrator.execute(WhoAmIWorkflow, undefined);

      expect(self).toMatchObject({ tenant: undefined, attributes: {}, parentId: undefined });
    });

    it('queue and label are as the call says', async () => {
      const other = await start({ worker: { queues: ['other'] } });
      const run = await startParent(({ children }) =>
        children.call(SumWorkflow, { a: 1, b: 1 }, { queue: 'other', label: 'One and one' }),
      );
      await run.result({ timeout: '30s' });
      await other.close();

      expect(await childrenOf(run.id)).toMatchObject([{ queue: 'other', label: 'One and one', status: 'completed' }]);
    });

    it("the parent's deadline is that of called children too; started ones are free of it (scenario 42)", async () => {
      const run = await startParent(
        async ({ children }) => {
          await children.start(EndlessWorkflow, undefined, { ref: 'detached', detached: true });
          await children.start(EndlessWorkflow, undefined, { ref: 'started' });
          await children.call(ParentWorkflow, 'calls endless', { ref: 'called' });
        },
        { timeout: 700 },
      );
      scripts.set('calls endless', ({ children }) => children.call(EndlessWorkflow, undefined));
      const failure = await thrownBy(run.result({ timeout: '30s' }));
      const [called] = (await childrenOf(run.id)).filter(({ ref }) => ref === 'called');
      await untilStatus(called!.id, 'failed');
      const [grandchild] = await childrenOf(called!.id);
      await untilStatus(grandchild!.id, 'failed');

      expect(causedBy(failure, 'RunTimeoutError')).toBe(true);
      for (const { id } of [called!, grandchild!]) {
        expect(await app.orchestrator.get(id)).toMatchObject({ error: { name: 'RunTimeoutError' } });
      }
      const rest = (await childrenOf(run.id)).filter(({ ref }) => ref !== 'called');
      expect(rest.map(({ status }) => status)).toEqual(['waiting', 'waiting']);
    });

    it("one deadline ends parent and child: that the child's end is noticed first changes nothing (scenario 42)", async () => {
      const slow = await start({ worker: { queues: ['slow'] } });
      const { store } = await slow.context.get<EngineHost>('EngineHost:', { strict: false }).engine();
      const loadEnds = store.loadEnds.bind(store);
      store.loadEnds = async (runIds) => {
        const ends = await loadEnds(runIds);
        await delay(100);
        return ends;
      };
      scripts.set('calls endless', ({ children }) => children.call(EndlessWorkflow, undefined));
      const runs = await slow.orchestrator.startMany(
        ParentWorkflow,
        Array.from({ length: 10 }, () => ({ input: 'calls endless', timeout: 150, queue: 'slow' })),
      );
      await Promise.allSettled(runs.map((run) => run.result({ timeout: '30s' })));

      const ends = await Promise.all(runs.map(({ id }) => slow.orchestrator.get(id)));
      expect(ends).toMatchObject(runs.map(() => ({ error: { name: 'RunTimeoutError' } })));
      await slow.close();
    });

    it('detached children go on when their parent is cancelled, the others are cancelled with it', async () => {
      const run = await startParent(async ({ children }) => {
        await children.start(EndlessWorkflow, undefined, { ref: 'detached', detached: true });
        await children.start(EndlessWorkflow, undefined, { ref: 'free', detached: true, parentClose: 'cancel' });
        await children.start(EndlessWorkflow, undefined, { ref: 'started' });
        await children.start(EndlessWorkflow, undefined, { ref: 'attached', detached: false, parentClose: 'abandon' });
        await children.call(EndlessWorkflow, undefined, { ref: 'called', parentClose: 'abandon' });
      });
      await until(
        'all wait',
        async () => (await childrenOf(run.id)).filter(({ status }) => status === 'waiting').length === 5,
      );
      await run.cancel({ reason: 'by hand' });
      await untilStatus(run.id, 'cancelled');
      await until(
        'three are cancelled',
        async () => (await childrenOf(run.id)).filter(({ status }) => status === 'cancelled').length === 3,
      );

      expect((await childrenOf(run.id)).map(({ ref, status }) => `${ref}: ${status}`)).toEqual([
        'detached: waiting',
        'free: waiting',
        'started: cancelled',
        'attached: cancelled',
        'called: cancelled',
      ]);
    });
  });

  describe('depth (scenario 36)', () => {
    it('a chain of three gives the grandchild its root and its depth', async () => {
      scripts.set('b', ({ children }) => children.call(WhoAmIWorkflow, undefined));
      const run = await startParent(({ children }) => children.call(ParentWorkflow, 'b'));

      const grandchild = (await run.result({ timeout: '30s' })) as { runId: string; rootId: string };
      expect(grandchild.rootId).toBe(run.id);
      expect((await app.orchestrator.get(grandchild.runId)).depth).toBe(3);
      expect(await app.orchestrator.tree(run.id)).toMatchObject({
        children: [{ workflow: 'parent', children: [{ workflow: 'whoami', children: [] }] }],
      });
    });

    it('a chain of 100 runs works', async () => {
      const run = await app.orchestrator.start(ChainWorkflow, 100);

      expect(await run.result({ timeout: '30s' })).toBe(100);
    });

    it('the 101st is a DepthLimitError, which reaches the root as its innermost cause', async () => {
      const failure = await thrownBy(app.orchestrator.execute(ChainWorkflow, 101));

      expect(causedBy(failure, DepthLimitError)).toBe(true);
      expect(rootCause(failure)).toMatchObject({ code: 'DEPTH_LIMIT', limit: 100, workflow: 'chain' });
    });

    it.each(['start', 'detached'] as const)(
      'a workflow that starts itself for ever (%s) is stopped by it',
      async (how) => {
        const root = await app.orchestrator.start(StartsItselfWorkflow, how);
        await until('the chain has 100 runs', async () => lengthOf(await app.orchestrator.tree(root.id)) === 100);
        await until(
          'all have ended',
          async () =>
            (await app.orchestrator.list({ workflow: 'starts-itself', status: ['pending', 'running', 'waiting'] }))
              .items.length === 0,
        );

        const family = await app.orchestrator.list({ workflow: 'starts-itself', status: 'failed' });
        expect(lengthOf(await app.orchestrator.tree(root.id))).toBe(100);
        expect(family.items[0]).toMatchObject({ depth: 100 });
      },
    );
  });

  describe('one queue with concurrency 1 (scenario 37)', () => {
    it('a parent, its child and its grandchild take turns, without a deadlock', async () => {
      scripts.set('narrow-middle', async ({ children, ctx }) => {
        const before = await ctx.step('before', () => 'before');
        const { sum } = await children.call(SumWorkflow, { a: 20, b: 1 }, { queue: 'narrow' });
        return [before, sum];
      });
      const narrow = await start({ worker: { queues: ['narrow'], concurrency: 1 } });
      const returned = await inRun(
        async ({ children }) => [
          await children.call(ParentWorkflow, 'narrow-middle', { queue: 'narrow' }),
          await children.map(
            NapWorkflow,
            [
              { name: 'a', ms: 1 },
              { name: 'b', ms: 250 },
              { name: 'c', ms: 1 },
            ],
            { queue: 'narrow' },
          ),
        ],
        { queue: 'narrow' },
        narrow,
      );
      await narrow.close();

      expect(returned).toEqual([
        ['before', 21],
        ['a', 'b', 'c'],
      ]);
    });

    it('many parents with a child each, too', async () => {
      const narrow = await start({ worker: { queues: ['narrow'], concurrency: 1 } });
      scripts.set('narrow-parent', ({ children }) =>
        children.call(NapWorkflow, { name: 'x', ms: 210 }, { queue: 'narrow' }),
      );
      const runs = await narrow.orchestrator.startMany(
        ParentWorkflow,
        Array.from({ length: 10 }, () => ({ input: 'narrow-parent', queue: 'narrow' })),
      );

      const results = await Promise.all(runs.map((run) => run.result({ timeout: '30s' })));
      await narrow.close();
      expect(results).toEqual(Array.from({ length: 10 }, () => 'x'));
    });
  });

  describe('several at a time', () => {
    it('children that wait, inside Promise.all, give their outputs in the order of the calls (scenario 39)', async () => {
      const returned = await inRun(({ children, ctx }) =>
        Promise.all([
          children.call(NapWorkflow, { name: 'slow', ms: 450 }),
          children.call(NapWorkflow, { name: 'fast', ms: 5 }),
          ctx.sleep(230).then(() => children.call(NapWorkflow, { name: 'later', ms: 210 })),
          children.callSettled(DeclinedWorkflow, '1').then(({ status }) => status),
        ]),
      );

      expect(returned).toEqual(['slow', 'fast', 'later', 'failed']);
    });

    it('Promise.all over 300 calls gives every child its own output', async () => {
      const run = await startParent(({ children }) =>
        Promise.all(Array.from({ length: 300 }, async (_, a) => (await children.call(SumWorkflow, { a, b: 1 })).sum)),
      );

      expect(await run.result({ timeout: '30s' })).toEqual(Array.from({ length: 300 }, (_, a) => a + 1));
      expect((await app.orchestrator.listChildren(run.id, { limit: 1_000 })).items).toHaveLength(300);
    });

    it('Promise.race over calls ends with the first, and leaves the others alone', async () => {
      const run = await startParent(({ children }) =>
        Promise.race([
          children.call(EndlessWorkflow, undefined, { ref: 'loser' }),
          children.call(NapWorkflow, { name: 'winner', ms: 5 }),
        ]),
      );

      expect(await run.result({ timeout: '30s' })).toBe('winner');
      const [loser] = await childrenOf(run.id);
      await untilStatus(loser!.id, 'waiting');
      expect(loser!.ref).toBe('loser');
    });

    it('ctx.race over calls cancels the losers', async () => {
      const run = await startParent(({ children, ctx }) =>
        ctx.race({
          endless: () => children.call(EndlessWorkflow, undefined, { ref: 'loser' }),
          nap: () => children.call(NapWorkflow, { name: 'winner', ms: 5 }),
        }),
      );

      expect(await run.result({ timeout: '30s' })).toEqual({ winner: 'nap', value: 'winner' });
      const [loser] = await childrenOf(run.id);
      await untilStatus(loser!.id, 'cancelled');
      expect(loser!.ref).toBe('loser');
    });

    it('a started child whose result() stands in a losing branch is not cancelled', async () => {
      const run = await startParent(async ({ children, ctx }) => {
        const handle = await children.start(EndlessWorkflow, undefined);
        return await ctx.race({ child: () => handle.result(), late: () => ctx.sleep(30) });
      });

      expect(await run.result({ timeout: '30s' })).toMatchObject({ winner: 'late' });
      const [child] = await childrenOf(run.id);
      await untilStatus(child!.id, 'waiting');
      expect(child!.status).not.toBe('cancelled');
    });
  });

  describe('workflows by name', () => {
    @Workflow('remote')
    class RemoteWorkflow {
      run(name: string): string {
        return `hello ${name}`;
      }
    }

    @Workflow({ name: 'remote', version: 2 })
    class RemoteWorkflow2 {
      run(name: string): string {
        return `hello ${name}, from version 2`;
      }
    }

    it('runs a workflow that only another process registers, in its highest version', async () => {
      const remote = await start({ worker: { queues: ['remote'] } }, [RemoteWorkflow, RemoteWorkflow2]);
      const run = await startParent(async ({ children }) => [
        await children.call<string>('remote', 'you', { queue: 'remote' }),
        await (await children.start<string>('remote', 'them', { queue: 'remote' })).result(),
        await children.map<string>('remote', ['a', 'b'], { queue: 'remote' }),
      ]);

      expect(await run.result({ timeout: '30s' })).toEqual([
        'hello you, from version 2',
        'hello them, from version 2',
        ['hello a, from version 2', 'hello b, from version 2'],
      ]);
      expect((await childrenOf(run.id)).map(({ version }) => version)).toEqual([2, 2, 2, 2]);
      await remote.close();
    });

    it('runs a workflow that this process registers', async () => {
      expect(await inRun(({ children }) => children.call('sum', { a: 1, b: 2 }))).toMatchObject({ sum: 3 });
    });

    it('an unknown name is WorkflowNotRegisteredError with the near miss, in a call and in a start', async () => {
      const run = await startParent(async ({ children }) => {
        const called = await thrownBy(children.call('endles', undefined));
        const started = await thrownBy(children.start('endles', undefined));
        return [called, started].map((error) => [
          error instanceof WorkflowNotRegisteredError,
          error.workflow,
          error.nearest,
          error.message,
        ]);
      });

      const expected = [true, 'endles', 'endless', expect.stringContaining("Did you mean 'endless'?")];
      expect(await run.result({ timeout: '30s' })).toEqual([expected, expected]);
      expect(await childrenOf(run.id)).toEqual([]);
    });

    it('a name whose call was given up while it was looked up leaves no child behind', async () => {
      const remote = await start({ worker: { queues: ['remote'] } }, [RemoteWorkflow]);
      const run = await startParent(async ({ children, ctx }) => {
        const { status } = await children.callSettled('remote', 'you', { queue: 'nobody serves it', timeout: 0 });
        await ctx.step('later', () => ctx.sleep(250));
        return status;
      });

      expect(await run.result({ timeout: '30s' })).toBe('timeout');
      expect((await childrenOf(run.id)).filter(({ status }) => status !== 'cancelled')).toEqual([]);
      await remote.close();
    });

    it('a class that is not registered here is refused with its name', async () => {
      const returned = await inRun(async ({ children }) => {
        const thrown = await thrownBy(children.call(RemoteWorkflow, 'you'));
        return [thrown instanceof WorkflowNotRegisteredError, thrown.workflow];
      });

      expect(returned).toEqual([true, 'RemoteWorkflow']);
    });
  });
});

function rootCauseMessage(error: unknown): string {
  return (rootCause(error) as Error).message;
}

interface Tree {
  children: Tree[];
}

function lengthOf(tree: Tree): number {
  return 1 + tree.children.reduce((sum, child) => sum + lengthOf(child), 0);
}

// ---- types: tsc checks them, and `npm run types` fails when an inference is lost

type IfSame<A, T> = T extends A ? 1 : 2;
type Equal<A, B> = (<T>() => IfSame<A, T>) extends <T>() => IfSame<B, T> ? true : false;
type Awaits<Call extends (...args: never[]) => unknown> = Awaited<ReturnType<Call>>;

describe('types of children', () => {
  it('inputs and outputs are inferred from the run method of the class', () => {
    const call = (children: ChildOrchestrator) => children.call(SumWorkflow, { a: 1, b: 2 });
    const settled = (children: ChildOrchestrator) => children.callSettled(SumWorkflow, { a: 1, b: 2 });
    const started = (children: ChildOrchestrator) =>
      children.start(NapWorkflow, { name: 'x', ms: 1 }, { detached: true });
    const handled = (handle: ChildHandle<string>) => handle.result({ timeout: 1, timeoutValue: null });
    const withValue = (children: ChildOrchestrator) =>
      children.call(NapWorkflow, { name: 'x', ms: 1 }, { timeout: 1, timeoutValue: null });
    const synchronous = (children: ChildOrchestrator) => children.call(WhoAmIWorkflow, undefined);
    const mapped = (children: ChildOrchestrator) =>
      children.map(NapWorkflow, [{ name: 'x', ms: 1 }], { ref: ({ name }, index) => name + index });
    const mappedSettled = (children: ChildOrchestrator) =>
      children.map(NapWorkflow, [{ name: 'x', ms: 1 }], { minSuccessful: 1 });
    const named = (children: ChildOrchestrator) => children.call<{ id: string }>('elsewhere', { any: 'input' });
    const unnamed = (children: ChildOrchestrator) => children.call('elsewhere', { any: 'input' });
    const equal: [
      Equal<Awaits<typeof call>, { sum: number; at: Date }>,
      Equal<Awaits<typeof settled>, SettledChild<{ sum: number; at: Date }>>,
      Equal<Awaits<typeof started>, ChildHandle<string>>,
      Equal<Awaits<typeof handled>, string | null>,
      Equal<Awaits<typeof withValue>, string | null>,
      Equal<Awaits<typeof synchronous>['tenant'], string | undefined>,
      Equal<Awaits<typeof mapped>, string[]>,
      Equal<Awaits<typeof mappedSettled>, SettledChild<string>[]>,
      Equal<Awaits<typeof named>, { id: string }>,
      Equal<Awaits<typeof unnamed>, unknown>,
    ] = [true, true, true, true, true, true, true, true, true, true];

    expect(equal).toHaveLength(10);
  });

  it('what does not fit does not compile', () => {
    const wrong = (children: ChildOrchestrator) => [
      // @ts-expect-error an input of another form
      () => children.call(SumWorkflow, { a: '1', b: 2 }),
      // @ts-expect-error a missing input
      () => children.call(SumWorkflow),
      // @ts-expect-error an unknown option
      () => children.call(SumWorkflow, { a: 1, b: 2 }, { timout: 5 }),
      // @ts-expect-error a timeout value where nothing is returned
      () => children.callSettled(SumWorkflow, { a: 1, b: 2 }, { timeout: 5, timeoutValue: 1 }),
      // @ts-expect-error inputs of another form
      () => children.map(SumWorkflow, [{ a: 1 }]),
      // @ts-expect-error neither a class nor a name (any class may be a flow)
      () => children.call({ run: () => 1 }, 1),
      // @ts-expect-error a duration without a unit
      () => children.call(SumWorkflow, { a: 1, b: 2 }, { timeout: '5' }),
    ];

    expect(wrong).toBeInstanceOf(Function);
  });
});
