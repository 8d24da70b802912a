import pg from 'pg';

import {
  causedBy,
  ChildOrchestrator,
  DefinitionError,
  Flow,
  type FlowError,
  type GoTo,
  goTo,
  type OutputOf,
  RunContext,
  type RunHandle,
  Step,
  type StepFailedError,
  Workflow,
  type WorkflowReference,
} from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { rewindRun } from '../support/rewind.js';
import { measure } from '../support/statements.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

let database: TestDatabase;
/** What step bodies did, in their order. */
let done: string[];
let barrier: Barrier;
/** What a `when` reads that is not in the data: it may change between two deploys. */
let isOpen: boolean;

beforeAll(async () => {
  database = await createTestDatabase();
});

beforeEach(() => {
  done = [];
  barrier = new Barrier();
  isOpen = true;
});

afterEach(closeApps);

afterAll(() => database.drop());

type Providers = NonNullable<Parameters<typeof startApp>[0]['providers']>;

function start(...providers: Providers): Promise<TestApp> {
  return startApp({ database, providers, options: { worker: { pollInterval: '20ms' } } });
}

async function problemsOf(...providers: Providers): Promise<string[]> {
  const error: unknown = await start(...providers).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(DefinitionError);
  return (error as DefinitionError).problems;
}

async function failureOf(run: Pick<RunHandle, 'result'>): Promise<Error> {
  const error = await run.result().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return (error as Error).cause as Error;
}

/** The outputs of a run, and of the same run continued from each point of its history on by the next worker. */
async function outputsFromEveryPoint(app: TestApp, flow: WorkflowReference, input: unknown): Promise<unknown[]> {
  const run = await app.orchestrator.start(flow as string, input);
  const outputs = [await run.result()];
  const entries = await app.orchestrator.history(run.id);
  for (let kept = entries.length; kept >= 0; kept--) {
    await rewindRun(database, run.id, kept);
    outputs.push(await run.result());
  }
  return outputs;
}

/** Makes a parked run claimable, as anything that happens to it would. */
async function wake(runId: string): Promise<void> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await client.query(
    `update orchestration.run set status = 'pending', ready_at = now(), wakes = wakes + 1 where id = $1`,
    [runId],
  );
  await client.end();
}

const Endless = workflow('endless', ({ ctx }) => ctx.sleep('365d'));

interface Order {
  id: string;
  total?: number;
  paid?: boolean;
}

class Validation {
  @Step()
  validate(order: Order): Order {
    done.push('validate');
    return { ...order, total: 1 };
  }

  @Step()
  price(order: Order): Order {
    done.push('price');
    return { ...order, total: order.total! + 1 };
  }
}

@Workflow('priced')
class PricedWorkflow extends Validation {
  @Step()
  audit(order: Order): void {
    done.push(`audit ${order.total}`);
    order.total = -1;
  }

  @Step()
  override validate(order: Order): Order {
    done.push('strictly validate');
    return { ...order, total: 40 };
  }

  @Step({ name: 'send the bill' })
  async bill(order: Order): Promise<string> {
    done.push('bill');
    await Promise.resolve();
    return `${order.id}: ${order.total}`;
  }

  @Step()
  log(): void {
    done.push('log');
  }
}

@Workflow('fulfilment')
class FulfilmentWorkflow {
  @Step({ when: () => isOpen })
  open(order: Order): Order {
    done.push('open');
    return { ...order, total: 1 };
  }

  @Step()
  async pay(order: Order): Promise<Order> {
    done.push('pay');
    await barrier.pass();
    return { ...order, paid: order.id !== 'poor' };
  }

  @Step({ when: (order: Order) => order.paid === true })
  fulfil(order: Order): string {
    done.push('fulfil');
    return `${order.id} fulfilled`;
  }

  @Step({ when: (data: Order | string) => typeof data === 'object' && !data.paid })
  refuse(order: Order): string {
    done.push('refuse');
    return `${order.id} refused`;
  }
}

@Workflow('jumping')
class JumpingWorkflow extends Flow<string, string[]> {
  @Step()
  begin(way: string): string[] | GoTo {
    done.push('begin');
    if (way === 'far') return goTo('end', [way]);
    if (way === 'group') return goTo('left', [way]);
    if (way === 'as it is') return goTo('end');
    return [way];
  }

  @Step()
  middle(path: string[]): string[] {
    done.push('middle');
    return [...path, 'middle'];
  }

  @Step({ parallel: 'sides' })
  left(): string {
    done.push('left');
    return 'left';
  }

  @Step({ parallel: 'sides' })
  right(): string {
    done.push('right');
    return 'right';
  }

  @Step()
  sides(path: string[] & { sides: Record<string, string> }): string[] {
    return [...Object.values(path).filter((part) => typeof part === 'string'), ...Object.values(path.sides)];
  }

  @Step()
  end(path: string[] | string): string[] {
    done.push('end');
    return [...(typeof path === 'string' ? [path] : path), 'end'];
  }
}

describe('A flow', () => {
  it('71. runs its steps in the order they are written: inherited ones first, an overridden one in its first place', async () => {
    const app = await start(PricedWorkflow);

    const bill = await app.orchestrator.execute(PricedWorkflow, { id: 'a' });

    expect(bill).toBe('a: 41');
    expect(done).toEqual(['strictly validate', 'price', 'audit 41', 'bill', 'log']);
  });

  it('71. gives each step a copy of the data, live as in a replay from every point of its history', async () => {
    const app = await start(PricedWorkflow);

    const outputs = await outputsFromEveryPoint(app, PricedWorkflow, { id: 'a' });

    expect(outputs).toEqual(Array.from({ length: 7 }, () => 'a: 41'));
  });

  it('71. goes on after a crash where it stood, with the data as it was', async () => {
    const before = await start(FulfilmentWorkflow);
    const run = await before.orchestrator.start(FulfilmentWorkflow, { id: 'rich' });
    await barrier.reached();

    await before.crash();
    barrier.open();
    const after = await start(FulfilmentWorkflow);

    expect(await after.orchestrator.result(run.id)).toBe('rich fulfilled');
    expect(done).toEqual(['open', 'pay', 'pay', 'fulfil']);
  });

  it('71. says in the error which step failed', async () => {
    @Workflow('failing-flow')
    class FailingWorkflow {
      @Step()
      first(): void {}

      @Step({ retry: { maxAttempts: 1 } })
      second(): never {
        throw new RangeError('no luck');
      }

      @Step()
      third(): void {
        done.push('third');
      }
    }
    const app = await start(FailingWorkflow);

    const error = (await failureOf(await app.orchestrator.start(FailingWorkflow, undefined))) as StepFailedError;

    expect(error).toMatchObject({
      name: 'StepFailedError',
      step: 'second',
      cause: { name: 'RangeError', message: 'no luck' },
    });
    expect(done).toEqual([]);
  });

  it('has the types of the Flow that it extends, and those given by hand when it only implements one', async () => {
    @Workflow('implementing')
    class ImplementingWorkflow implements Flow<Order, string> {
      @Step()
      only(order: Order): string {
        return order.id;
      }
    }
    const app = await start(JumpingWorkflow, ImplementingWorkflow);
    const { orchestrator } = app;

    const path: string[] = await orchestrator.execute(JumpingWorkflow, 'far');
    const byHand: string = await orchestrator.execute(ImplementingWorkflow, { id: 'a' });
    const outputIsInferred: OutputOf<typeof JumpingWorkflow> extends string[] ? true : false = true;
    const wrong = [
      // @ts-expect-error an input of another form
      () => orchestrator.start(JumpingWorkflow, 1),
      class implements Flow {
        // @ts-expect-error a flow has no run
        run(): void {}
      },
    ];

    expect([path, byHand, outputIsInferred, wrong.length]).toEqual([['far', 'end'], 'a', true, 2]);
  });

  it('is called as a child, and its steps may call children and wait', async () => {
    @Workflow('waiting-flow')
    class WaitingWorkflow extends Flow<number, number> {
      constructor(private readonly ctx: RunContext) {
        super();
      }

      @Step()
      async nap(ms: number): Promise<number> {
        await this.ctx.sleep(ms);
        return ms + 1;
      }
    }
    @Workflow('calling-flow')
    class CallingWorkflow extends Flow<number, number> {
      constructor(private readonly children: ChildOrchestrator) {
        super();
      }

      @Step()
      call(ms: number): Promise<number> {
        return this.children.call(WaitingWorkflow, ms, { ref: 'nap' });
      }
    }
    const app = await start(WaitingWorkflow, CallingWorkflow);

    expect(await app.orchestrator.execute(CallingWorkflow, 300)).toBe(301);
  });
});

describe('A when', () => {
  it.each([
    ['runs', true, ['open', 'pay', 'pay', 'fulfil']],
    ['is left out', false, ['pay', 'pay', 'fulfil']],
  ])(
    '71. decides once: a step that %s stays so after a crash and a change of what it asked',
    async (_, first, bodies) => {
      isOpen = first;
      const before = await start(FulfilmentWorkflow);
      const run = await before.orchestrator.start(FulfilmentWorkflow, { id: 'rich' });
      await barrier.reached();

      await before.crash();
      isOpen = !first;
      barrier.open();
      const after = await start(FulfilmentWorkflow);

      expect(await after.orchestrator.result(run.id)).toBe('rich fulfilled');
      expect(done).toEqual(bodies);
      expect(await after.orchestrator.history(run.id)).toMatchObject([
        { kind: 'decision', key: 'open', output: first },
        ...(first ? [{ kind: 'step', key: 'open' }] : []),
        { kind: 'step', key: 'pay' },
        { kind: 'decision', key: 'fulfil', output: true },
        { kind: 'step', key: 'fulfil' },
        { kind: 'decision', key: 'refuse', output: false },
      ]);
    },
  );

  it('71. decides by the data, and gives the same output from every point of its history', async () => {
    barrier.open();
    const app = await start(FulfilmentWorkflow);

    const rich = await outputsFromEveryPoint(app, FulfilmentWorkflow, { id: 'rich' });
    const poor = await outputsFromEveryPoint(app, FulfilmentWorkflow, { id: 'poor' });

    expect(rich).toEqual(Array.from({ length: 8 }, () => 'rich fulfilled'));
    expect(poor).toEqual(Array.from({ length: 8 }, () => 'poor refused'));
  });

  it('costs no commit of its own', async () => {
    @Workflow('two-plain')
    class PlainWorkflow {
      @Step()
      first(): void {}

      @Step()
      second(): void {}
    }
    @Workflow('two-decided')
    class DecidedWorkflow {
      @Step()
      first(): void {}

      @Step({ when: () => true })
      second(): void {}

      @Step({ when: () => false })
      third(): void {}
    }
    const quiet = { worker: { pollInterval: '1m', lease: '10m' } } as const;
    const app = await startApp({ database, providers: [PlainWorkflow, DecidedWorkflow], options: quiet });
    const cheapest = async (flow: WorkflowReference): Promise<number> => {
      const commits: number[] = [];
      for (let time = 0; time < 5; time++)
        commits.push((await measure(database, () => app.orchestrator.execute(flow as string, 1))).commits);
      return Math.min(...commits);
    };
    await cheapest(PlainWorkflow);

    expect(await cheapest(DecidedWorkflow)).toBe(await cheapest(PlainWorkflow));
  });

  it.each([
    [
      'throws',
      () => {
        throw new RangeError('no answer');
      },
      /^Step 'checked' of flow 'asking' cannot be decided on: its when threw RangeError: no answer/,
    ],
    [
      'is async',
      (async () => Promise.resolve(true)) as never,
      /^Step 'checked' of flow 'asking' has a when that is async/,
    ],
  ])('71. that %s ends the run with an error that names the step', async (_, when: () => boolean, message) => {
    @Workflow('asking')
    class AskingWorkflow {
      @Step({ when })
      checked(): void {
        done.push('checked');
      }
    }
    const app = await start(AskingWorkflow);

    const error = (await failureOf(await app.orchestrator.start(AskingWorkflow, undefined))) as FlowError;

    expect(error.message).toMatch(message);
    expect(error).toMatchObject({ name: 'FlowError', code: 'FLOW', workflow: 'asking', step: 'checked' });
    expect(done).toEqual([]);
  });

  it('that a deploy adds to a step with an outcome, or takes away, blocks the run', async () => {
    const flowWith = (when?: () => boolean) => {
      @Workflow('changing')
      class ChangingWorkflow {
        @Step(when ? { when } : {})
        first(): void {}

        @Step()
        second(): Promise<void> {
          return barrier.pass();
        }
      }
      return ChangingWorkflow;
    };
    const startOf = async (flow: ReturnType<typeof flowWith>) => {
      const app = await start(flow);
      const run = await app.orchestrator.start(flow, undefined);
      await barrier.reached(barrier.arrived + 1);
      await app.crash();
      return run.id;
    };
    const errorUnder = async (flow: ReturnType<typeof flowWith>, runId: string) => {
      const app = await start(flow);
      await until('it is blocked', async () => (await app.orchestrator.get(runId)).status === 'blocked');
      const run = await app.orchestrator.get(runId);
      await app.close();
      return 'error' in run ? run.error.message : undefined;
    };
    const plain = flowWith();
    const decided = flowWith(() => true);
    const runOfPlain = await startOf(plain);
    const added = await errorUnder(decided, runOfPlain);
    const runOfDecided = await startOf(decided);
    const taken = await errorUnder(plain, runOfDecided);

    expect(added).toMatch(/entry 1 is step 'first', but the code asked for the decision on step 'first'/);
    expect(taken).toMatch(/entry 1 is the decision on step 'first', but the code asked for step 'first'/);
  });

  it.each([
    ['a child', (children: ChildOrchestrator) => children.call(Endless, undefined)],
    ['a timer', (_: ChildOrchestrator, ctx: RunContext) => ctx.sleep('365d')],
  ])('that a deploy adds to a step that waits for %s in its body blocks the run', async (_, wait) => {
    const flowWith = (when?: () => boolean) => {
      @Workflow('waiting-step')
      class WaitingWorkflow {
        constructor(
          private readonly children: ChildOrchestrator,
          private readonly ctx: RunContext,
        ) {}

        @Step(when ? { when } : {})
        first(): Promise<unknown> {
          return wait(this.children, this.ctx);
        }
      }
      return WaitingWorkflow;
    };
    const plain = flowWith();
    const before = await start(plain, Endless);
    const run = await before.orchestrator.start(plain, undefined);
    await until('it waits', async () => (await run.status()) === 'waiting');
    await before.crash();
    await wake(run.id);
    const after = await start(
      flowWith(() => false),
      Endless,
    );

    await until('it is blocked', async () => (await after.orchestrator.get(run.id)).status === 'blocked');

    const blocked = await after.orchestrator.get(run.id);
    expect('error' in blocked && blocked.error.message).toMatch(
      /entry 1 is in the body of step 'first', but the code asked for the decision on it/,
    );
  });
});

describe('goTo', () => {
  it.each([
    ['on', ['on', 'middle', 'left', 'right', 'end'], ['begin', 'middle', 'left', 'right', 'end']],
    ['far', ['far', 'end'], ['begin', 'end']],
    ['group', ['group', 'left', 'right', 'end'], ['begin', 'left', 'right', 'end']],
    ['as it is', ['as it is', 'end'], ['begin', 'end']],
  ])('71. jumps forward, from every point of its history: %s', async (way, output, bodies) => {
    const app = await start(JumpingWorkflow);

    expect(await app.orchestrator.execute(JumpingWorkflow, way)).toEqual(output);
    expect(done).toEqual(bodies);
    const outputs = await outputsFromEveryPoint(app, JumpingWorkflow, way);
    expect(new Set(outputs.map((one) => JSON.stringify(one)))).toEqual(new Set([JSON.stringify(output)]));
  });

  it.each([
    [
      'back',
      "Step 'second' of flow 'astray' returned goTo('first'): that step comes before it. A jump leads to a later step.",
    ],
    [
      'itself',
      "Step 'second' of flow 'astray' returned goTo('second'): that is the step itself. A jump leads to a later step.",
    ],
    ['unknown', "Step 'second' of flow 'astray' returned goTo('lost'): there is no such step. Did you mean 'last'?"],
    [
      'inside',
      "Step 'second' of flow 'astray' returned goTo('right'): that step is inside the group 'sides'. A jump leads to the whole group, by its first step 'left'.",
    ],
    [
      'from inside',
      "Step 'right' of flow 'astray' returned goTo('last') inside the group 'sides', whose other steps run beside it. Jump in the step after the group.",
    ],
  ])('71. that leads astray is an error that names the step: %s', async (where, message) => {
    const targets: Record<string, string> = { back: 'first', itself: 'second', unknown: 'lost', inside: 'right' };
    @Workflow('astray')
    class AstrayWorkflow {
      @Step()
      first(): void {}

      @Step()
      second(): GoTo | undefined {
        const target = targets[where];
        return target === undefined ? undefined : goTo(target);
      }

      @Step({ parallel: 'sides', onError: 'complete_all' })
      left(): void {}

      @Step({ parallel: 'sides' })
      right(): GoTo {
        return goTo('last');
      }

      @Step()
      last(): void {
        done.push('last');
      }
    }
    const app = await start(AstrayWorkflow);

    const error = await failureOf(await app.orchestrator.start(AstrayWorkflow, undefined));

    expect(error.message).toBe(message);
    expect(done).toEqual([]);
  });
});

/** Long enough to be seen waiting on a busy machine, where that is looked for. */
let napMs = 300;

const CustomerLookup = workflow<string, { name: string }>('customer-lookup', async ({ ctx }, id) => {
  await ctx.sleep(napMs);
  return { name: `customer of ${id}` };
});

const InventoryCheck = workflow<string, number>('inventory-check', async ({ ctx }, id) => {
  await ctx.sleep(napMs);
  if (id === 'sold out') throw new RangeError('sold out');
  return 7;
});

@Workflow('enriching')
class EnrichingWorkflow {
  constructor(
    private readonly children: ChildOrchestrator,
    private readonly ctx: RunContext,
  ) {}

  @Step({ parallel: 'enrich', onError: 'complete_all' })
  customer(order: Order): Promise<{ name: string }> {
    done.push('customer');
    return this.children.call(CustomerLookup, order.id, { ref: 'customer' });
  }

  @Step({ parallel: 'enrich', retry: { maxAttempts: 1 } })
  inventory(order: Order): Promise<number> {
    done.push('inventory');
    return this.children.call(InventoryCheck, order.id, { ref: 'inventory' });
  }

  @Step({ parallel: 'enrich' })
  async nap(): Promise<string> {
    await this.ctx.sleep(napMs);
    return 'rested';
  }

  @Step({ parallel: 'enrich', when: (order: Order) => order.total !== undefined })
  never(): void {
    done.push('never');
  }

  @Step()
  decide(order: Order & { enrich: Record<string, { status: string; value?: unknown; error?: Error }> }): unknown {
    const { enrich, ...rest } = order;
    return {
      ...rest,
      ...Object.fromEntries(
        Object.entries(enrich).map(([step, { status, value, error }]) => [step, [status, value ?? error?.message]]),
      ),
      soldOut: causedBy(enrich['inventory']!.error, RangeError),
    };
  }
}

const ENRICHING = [EnrichingWorkflow, CustomerLookup, InventoryCheck];

describe('A parallel group', () => {
  beforeEach(() => {
    napMs = 300;
  });

  it('39. has members that call children and wait, through a crash while all of them wait', async () => {
    napMs = 2_000;
    const before = await start(...ENRICHING);
    const run = await before.orchestrator.start(EnrichingWorkflow, { id: 'a' });
    await until('all wait', async () => (await before.orchestrator.get(run.id)).waitingFor.length === 3);

    await before.crash();
    const after = await start(...ENRICHING);
    const output = await after.orchestrator.result(run.id);

    expect(output).toEqual({
      id: 'a',
      customer: ['fulfilled', { name: 'customer of a' }],
      inventory: ['fulfilled', 7],
      nap: ['fulfilled', 'rested'],
      soldOut: false,
    });
    expect((await after.orchestrator.listChildren(run.id)).items).toHaveLength(2);
  });

  it("72. with 'complete_all' gives every result to the next step, live and from every point of its history", async () => {
    const app = await start(...ENRICHING);

    const outputs = await outputsFromEveryPoint(app, EnrichingWorkflow, { id: 'sold out' });

    for (const output of outputs)
      expect(output).toEqual({
        id: 'sold out',
        customer: ['fulfilled', { name: 'customer of sold out' }],
        inventory: ['rejected', expect.stringMatching(/^Step 'inventory' failed after 1 attempt: .*sold out/)],
        nap: ['fulfilled', 'rested'],
        soldOut: true,
      });
    expect(done).not.toContain('never');
  });

  it("72. with 'fail_fast' cancels the child runs, the timers and the running steps of the others, also after a crash", async () => {
    const signals: AbortSignal[] = [];
    @Workflow('fast')
    class FastWorkflow {
      constructor(
        private readonly children: ChildOrchestrator,
        private readonly ctx: RunContext,
      ) {}

      @Step({ parallel: 'all' })
      child(): Promise<unknown> {
        return this.children.call(Endless, undefined, { ref: 'endless' });
      }

      @Step({ parallel: 'all', onError: 'fail_fast' })
      timer(): Promise<void> {
        return this.ctx.sleep('365d');
      }

      @Step({ parallel: 'all' })
      body(): Promise<void> {
        signals.push(this.ctx.currentStep.signal);
        return new Promise(() => {});
      }

      @Step({ parallel: 'all', retry: { maxAttempts: 1 } })
      async failing(): Promise<never> {
        await barrier.pass();
        throw new RangeError('no luck');
      }

      @Step()
      after(): void {
        done.push('after');
      }
    }
    const before = await start(FastWorkflow, Endless);
    const run = await before.orchestrator.start(FastWorkflow, undefined);
    await barrier.reached();
    await until('the child is there', async () => (await before.orchestrator.listChildren(run.id)).items.length === 1);
    await before.crash();

    const after = await start(FastWorkflow, Endless);
    await barrier.reached(2);
    await until('the body runs again', () => signals.length === 2);
    barrier.open();
    const error = await failureOf({ result: () => after.orchestrator.result(run.id) });

    expect(error).toMatchObject({ name: 'StepFailedError', step: 'failing' });
    expect(signals[1]!.aborted).toBe(true);
    await until('the child is cancelled', async () => {
      const [child] = (await after.orchestrator.listChildren(run.id)).items;
      return child?.status === 'cancelled';
    });
    expect(done).toEqual([]);
  });

  it('72. fails as a whole, and a retry runs what had no result again', async () => {
    @Workflow('mended')
    class MendedWorkflow {
      @Step({ parallel: 'both' })
      good(): string {
        done.push('good');
        return 'good';
      }

      @Step({ parallel: 'both', retry: { maxAttempts: 1 } })
      async bad(): Promise<string> {
        await new Promise((resolve) => setTimeout(resolve, 50));
        done.push('bad');
        if (isOpen) throw new RangeError('no luck');
        return 'mended';
      }
    }
    const app = await start(MendedWorkflow);
    const run = await app.orchestrator.start(MendedWorkflow, { id: 'a' });
    const error = await failureOf(run);
    isOpen = false;

    await app.orchestrator.retry(run.id);

    expect(error).toMatchObject({ step: 'bad' });
    expect(await run.result()).toEqual({ id: 'a', both: { good: 'good', bad: 'mended' } });
    expect(done).toEqual(['good', 'bad', 'bad']);
  });

  it('72. leaves out who is not chosen, and keeps results of steps that return nothing', async () => {
    @Workflow('sparse')
    class SparseWorkflow {
      @Step({ parallel: 'empty', when: () => false })
      nobody(): void {}

      @Step({ parallel: 'some' })
      nothing(): void {}

      @Step({ parallel: 'some', name: 'renamed' })
      something(data: object): string {
        return Object.keys(data).join();
      }
    }
    const app = await start(SparseWorkflow);

    expect(await app.orchestrator.execute(SparseWorkflow, { id: 'a' })).toEqual({
      id: 'a',
      empty: {},
      some: { nothing: undefined, renamed: 'id,empty' },
    });
  });

  it('is cancelled with its run', async () => {
    napMs = 2_000;
    const before = await start(...ENRICHING);
    const run = await before.orchestrator.start(EnrichingWorkflow, { id: 'a' });
    await until('all wait', async () => (await before.orchestrator.get(run.id)).waitingFor.length === 3);

    await run.cancel({ reason: 'enough' });

    await until('it is cancelled', async () => (await run.status()) === 'cancelled');
    expect((await run.children()).items.map(({ status }) => status)).toEqual(['cancelled', 'cancelled']);
    expect(done).toEqual(['customer', 'inventory']);
  });
});

describe('The boot', () => {
  it('reports all that is wrong with the steps of a flow', async () => {
    @Workflow('wrong')
    class WrongWorkflow {
      @Step({ parallel: 'a', onError: 'fail_fast' })
      one(): void {}

      @Step({ parallel: 'a', onError: 'complete_all' })
      two(): void {}

      @Step({ parallel: '', onError: 'sometimes' as never, when: 'yes' as never })
      three(): void {}

      @Step({ parallel: 'a' })
      four(): void {}

      @Step({ onError: 'fail_fast' })
      five(): void {}

      @Step({ paralell: 'a' } as never)
      six(): void {}
    }

    expect(await problemsOf(WrongWorkflow)).toEqual([
      expect.stringMatching(
        /^WrongWorkflow\.six: unknown option 'paralell' \(known: name, .*parallel, onError, when\)$/,
      ),
      'WrongWorkflow.three: parallel must be a text that is not empty',
      'WrongWorkflow.three: onError must be one of fail_fast, complete_all, not "sometimes"',
      'WrongWorkflow.three: when must be a function',
      'WrongWorkflow.five: onError is for the steps of a parallel group; give it a group, or leave it out',
      "WrongWorkflow: the group 'a' has two values of onError: fail_fast and complete_all",
      "WrongWorkflow.four: the group 'a' is used again after other steps; only neighbours are a group",
    ]);
  });

  it('refuses what only flows have on other classes, and classes that only look like a flow', async () => {
    @Workflow('with-run')
    class WithRunWorkflow {
      run(): void {}

      @Step({ parallel: 'a', onError: 'fail_fast' })
      grouped(): void {}
    }
    class Service {
      @Step({ when: () => true })
      decided(): void {}
    }
    @Workflow('without-anything')
    class NothingWorkflow {}
    @Workflow('property')
    class PropertyWorkflow {
      run = () => 1;

      @Step()
      one(): void {}
    }
    @Workflow('unmarked')
    class UnmarkedWorkflow extends Validation {
      override price(order: Order): Order {
        return order;
      }
    }

    expect(await problemsOf(WithRunWorkflow, Service, NothingWorkflow, PropertyWorkflow, UnmarkedWorkflow)).toEqual([
      'WithRunWorkflow.grouped: parallel is for the steps of a flow, a workflow class without run',
      'WithRunWorkflow.grouped: onError is for the steps of a flow, a workflow class without run',
      'Service.decided: when is for the steps of a flow, a workflow class without run',
      'NothingWorkflow: it has neither a run method nor a @Step()',
      'PropertyWorkflow: run must be a method, not a property: the engine looks for it on the class',
      'UnmarkedWorkflow.price: it overrides a step of the flow and would not be recorded; give it @Step() as well',
    ]);
  });

  it('refuses them on an inline step', async () => {
    const Inline = workflow('inline', ({ ctx }) => ctx.step('one', () => 1, { when: () => true } as never));
    const app = await start(Inline);

    const error = await failureOf(await app.orchestrator.start(Inline, undefined));

    expect(error.message).toContain("unknown option 'when'");
  });
});
