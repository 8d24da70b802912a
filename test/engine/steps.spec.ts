import { setTimeout as delay } from 'node:timers/promises';
import { BadRequestException, Injectable } from '@nestjs/common';

import {
  causedBy,
  NonRetryableError,
  rootCause,
  RunContext,
  Step,
  StepFailedError,
  Workflow,
  type HistoryEntry,
  type RetryOptions,
  type StepOptions,
} from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { rewindRun } from '../support/rewind.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const AT_ONCE = { initialInterval: 0, jitter: 0 } as const;
const EVERYTHING = 1_000_000;

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(closeApps);

afterAll(() => database.drop());

function start(...providers: Parameters<typeof startApp>[0]['providers'] & {}): Promise<TestApp> {
  return startApp({ database, providers, options: { worker: { pollInterval: '50ms' } } });
}

describe('the retries of a step', () => {
  it('start anew for each step, and go on with the count of attempts after a crash (scenario 7)', async () => {
    const bodies: string[] = [];
    const keys = new Set<string>();
    let second = new Barrier();
    const twoUnreliableSteps = workflow('two-unreliable-steps', async ({ ctx }) => {
      await ctx.step('lucky', ({ attempt }) => failUntil(3, attempt, bodies, 'lucky'), { retry: { ...AT_ONCE } });
      await ctx.step(
        'unlucky',
        async ({ attempt, idempotencyKey }) => {
          bodies.push(`unlucky ${attempt}`);
          keys.add(idempotencyKey);
          if (attempt === 2) await second.pass();
          throw new Error(`unlucky ${attempt}`);
        },
        { retry: { ...AT_ONCE, maxAttempts: 3 } },
      );
    });
    const doomed = await start(twoUnreliableSteps);
    const { id } = await doomed.orchestrator.start(twoUnreliableSteps, undefined);
    await second.reached();

    await doomed.crash();
    second = new Barrier();
    second.open();
    const { orchestrator } = await start(twoUnreliableSteps);

    await expect(orchestrator.result(id)).rejects.toThrow("Step 'unlucky' failed after 3 attempts: unlucky 3");
    expect(bodies).toEqual(['lucky 1', 'lucky 2', 'lucky 3', 'unlucky 1', 'unlucky 2', 'unlucky 2', 'unlucky 3']);
    expect(keys.size).toBe(1);
    expect(await orchestrator.history(id)).toMatchObject([
      { key: 'lucky', status: 'completed', attempts: 3 },
      { key: 'unlucky', status: 'failed', attempts: 3 },
    ]);
  });

  it('park the run for a long pause, whose end no restart moves (scenario 7)', async () => {
    const bodies: string[] = [];
    const patient = workflow('patient', ({ ctx }) =>
      ctx.step('call', ({ attempt }) => failUntil(2, attempt, bodies, 'call'), {
        retry: { initialInterval: '1h', maxInterval: '1h', jitter: 0 },
      }),
    );
    const doomed = await start(patient);
    const { id } = await doomed.orchestrator.start(patient, undefined);
    await untilWaiting(doomed, id);
    const before = await doomed.orchestrator.get(id);

    await doomed.crash();
    const { orchestrator } = await start(patient);
    await rewindRun(database, id, EVERYTHING);
    await until('it waits again', async () => (await orchestrator.get(id)).status === 'waiting');

    const after = await orchestrator.get(id);
    expect(after.waitingFor).toEqual([{ kind: 'retry', name: 'call', until: after.wakeAt }]);
    expect(after.wakeAt).toEqual(before.wakeAt);
    expect(bodies).toEqual(['call 1']);
    await orchestrator.cancel(id);
  });

  it('pause as long as their options say, spread by the jitter', async () => {
    const failing = (name: string, retry: RetryOptions) =>
      workflow(name, ({ ctx }) => ctx.step('call', () => Promise.reject(new Error('down')), { retry }));
    const first = failing('after-the-first', { initialInterval: '1h', maxInterval: '2h', jitter: 0 });
    const second = failing('after-the-second', {
      ...{ initialInterval: 10, backoffCoefficient: 180_000, maxInterval: '2h', jitter: 0 },
    });
    const longest = failing('longest', { initialInterval: '3h', maxInterval: '2h', jitter: 0 });
    const spread = failing('spread', { initialInterval: '1h', maxInterval: '2h', jitter: 0.5 });
    const { orchestrator } = await start(first, second, longest, spread);
    const pausesOf = async (failingOne: typeof first, count: number): Promise<number[]> => {
      const runs = await orchestrator.startMany(
        failingOne,
        Array.from({ length: count }, () => ({ input: undefined })),
      );
      const pauses: number[] = [];
      for (const run of runs) {
        await until('it waits long', async () => (await run.status()) === 'waiting');
        const { startedAt, wakeAt } = await orchestrator.get(run.id);
        pauses.push((wakeAt!.getTime() - startedAt!.getTime()) / 3_600_000);
        await run.cancel();
      }
      return pauses;
    };

    const exact = [...(await pausesOf(first, 1)), ...(await pausesOf(second, 1)), ...(await pausesOf(longest, 1))];
    const jittered = await pausesOf(spread, 12);

    expect(exact.map((hours) => Math.round(hours * 100) / 100)).toEqual([1, 0.5, 2]);
    expect(Math.min(...jittered)).toBeGreaterThan(0.49);
    expect(Math.max(...jittered)).toBeLessThan(1.51);
    expect(Math.max(...jittered) - Math.min(...jittered)).toBeGreaterThan(0.05);
  });

  it('stop at once at what another attempt would not mend (scenario 8)', async () => {
    const attempts: Record<string, number> = {};
    const failing = (name: string, error: unknown, options: StepOptions = {}) =>
      workflow(name, ({ ctx }) =>
        ctx.step(
          name,
          () => {
            attempts[name] = (attempts[name] ?? 0) + 1;
            throw error;
          },
          { retry: { ...AT_ONCE }, ...options },
        ),
      );
    class Declined extends Error {}
    const workflows = [
      failing('non-retryable', new NonRetryableError('no')),
      failing('bad-request', new BadRequestException('no')),
      failing('by-class', new Declined('no'), { nonRetryable: [Declined] }),
      failing('by-name', new Declined('no'), { nonRetryable: ['Declined'] }),
      failing('by-predicate', new Declined('no'), { retryIf: (error) => !(error instanceof Declined) }),
      failing('retryable', new Declined('no'), { nonRetryable: ['Accepted'], retryIf: () => true }),
    ];
    const { orchestrator } = await start(...workflows);

    for (const failed of workflows) await expect(orchestrator.execute(failed, undefined)).rejects.toThrow('no');

    expect(attempts).toEqual({
      'non-retryable': 1,
      'bad-request': 1,
      'by-class': 1,
      'by-name': 1,
      'by-predicate': 1,
      retryable: 3,
    });
  });

  it('end with the error of a predicate that throws (scenario 8)', async () => {
    const throwingPredicate = workflow('throwing-predicate', ({ ctx }) =>
      ctx.step('call', () => Promise.reject(new Error('the call failed')), {
        retryIf: () => {
          throw new TypeError('the predicate is wrong');
        },
      }),
    );
    const { orchestrator } = await start(throwingPredicate);
    const run = await orchestrator.start(throwingPredicate, undefined);

    await expect(run.result()).rejects.toThrow('the predicate is wrong');

    expect(await orchestrator.history(run.id)).toMatchObject([
      { status: 'failed', attempts: 1, error: { name: 'TypeError', message: 'the predicate is wrong' } },
    ]);
  });

  it('do not try a result again that cannot be stored (scenario 14)', async () => {
    let bodies = 0;
    const unstorable = workflow('unstorable-step', ({ ctx }) =>
      ctx.step('load', () => ({ rows: [{ id: ++bodies, save: () => undefined }] })),
    );
    const { orchestrator } = await start(unstorable);
    const run = await orchestrator.start(unstorable, undefined);

    await expect(run.result()).rejects.toThrow(
      "the result of step 'load' cannot be stored: a function (save) at value.rows[0].save",
    );

    expect(bodies).toBe(1);
    expect(await orchestrator.get(run.id)).toMatchObject({
      status: 'failed',
      error: { name: 'StepFailedError', cause: { name: 'PayloadError', path: 'value.rows[0].save' } },
    });
  });
});

describe('the timeout of a step', () => {
  it('fires the AbortSignal, tries again, and discards the late result (scenario 9)', async () => {
    const late = new Barrier();
    const reasons: unknown[] = [];
    const slowOnce = workflow('slow-once', ({ ctx }) =>
      ctx.step(
        'call',
        async ({ attempt, signal }) => {
          if (attempt === 2) return 'in time';
          signal.addEventListener('abort', () => reasons.push(signal.reason));
          await late.pass();
          return 'late';
        },
        { timeout: '50ms', retry: { ...AT_ONCE } },
      ),
    );
    const { orchestrator } = await start(slowOnce);
    const run = await orchestrator.start(slowOnce, undefined);

    expect(await run.result()).toBe('in time');
    late.open();

    expect(reasons).toMatchObject([{ name: 'StepTimeoutError', timeoutMs: 50 }]);
    expect(await orchestrator.history(run.id)).toMatchObject([{ key: 'call', output: 'in time', attempts: 2 }]);
  });

  it('discards the late result also when it comes before the next attempt ends (scenario 9)', async () => {
    const [late, second] = [new Barrier(), new Barrier()];
    const overtaken = workflow('overtaken', ({ ctx }) =>
      ctx.step(
        'call',
        async ({ attempt }) => {
          await (attempt === 1 ? late : second).pass();
          return attempt;
        },
        { timeout: attemptTimeout, retry: { ...AT_ONCE } },
      ),
    );
    const { orchestrator } = await start(overtaken);
    const run = await orchestrator.start(overtaken, undefined);
    await second.reached();

    late.open();
    await nextTurns();
    second.open();

    expect(await run.result()).toBe(2);
  });

  it('is the error of a step whose attempts all take too long', async () => {
    const stuck = workflow('stuck', ({ ctx }) =>
      ctx.step('call', () => new Promise<never>(() => {}), { timeout: '20ms', retry: { ...AT_ONCE, maxAttempts: 2 } }),
    );
    const { orchestrator } = await start(stuck);

    const error: unknown = await orchestrator.execute(stuck, undefined).catch((thrown: unknown) => thrown);

    expect(causedBy(error, StepFailedError)).toBe(true);
    expect(rootCause(error)).toMatchObject({
      name: 'StepTimeoutError',
      code: 'STEP_TIMEOUT',
      step: 'call',
      timeoutMs: 20,
    });
  });

  it('stands still while the body waits durably, and starts anew afterwards', async () => {
    const waiting = workflow('waiting-step', ({ ctx }) =>
      ctx.step(
        'order',
        async () => {
          await ctx.sleep('600ms');
          return 'waited';
        },
        { timeout: '300ms', retry: { maxAttempts: 1 } },
      ),
    );
    const hangingAfterwards = workflow('hanging-afterwards', ({ ctx }) =>
      ctx.step(
        'order',
        async () => {
          await ctx.sleep('10ms');
          await new Promise<never>(() => {});
        },
        { timeout: '100ms', retry: { maxAttempts: 1 } },
      ),
    );
    const { orchestrator } = await start(waiting, hangingAfterwards);

    expect(await orchestrator.execute(waiting, undefined)).toBe('waited');
    await expect(orchestrator.execute(hangingAfterwards, undefined)).rejects.toThrow(
      "step 'order' did not end within 100 ms",
    );
  });
});

describe('the deadline of a run', () => {
  it('ends it while a step body runs that has time left, and fires its AbortSignal (scenario 10)', async () => {
    let aborted: unknown;
    const busy = workflow({ name: 'busy', timeout: '200ms' }, ({ ctx }) =>
      ctx.step(
        'long',
        ({ signal }) =>
          new Promise<never>((_, reject) =>
            signal.addEventListener('abort', () => {
              aborted = signal.reason;
              reject(new Error('aborted'));
            }),
          ),
        { timeout: '1h' },
      ),
    );
    const { orchestrator } = await start(busy);
    const run = await orchestrator.start(busy, undefined);

    await expect(run.result({ timeout: '10s' })).rejects.toThrow(/did not end by its deadline/);

    expect(aborted).toBeDefined();
    const ended = await orchestrator.get(run.id);
    const deadline = new Date(ended.createdAt.getTime() + 200);
    expect(ended).toMatchObject({
      status: 'failed',
      error: { name: 'RunTimeoutError', code: 'RUN_TIMEOUT', runId: run.id, deadline },
    });
    expect(await orchestrator.history(run.id)).toEqual([]);
  });

  it('ends it between the attempts of a step, and in a long pause before the next (scenario 10)', async () => {
    const failing = (name: string, initialInterval: StepOptions['timeout']) =>
      workflow({ name, timeout: '300ms' }, ({ ctx }) =>
        ctx.step('call', () => Promise.reject(new Error('down')), {
          retry: { initialInterval, backoffCoefficient: 1, maxAttempts: 1_000_000 },
        }),
      );
    const restless = failing('restless', '10ms');
    const patient = failing('patient-with-deadline', '1h');
    const { orchestrator } = await start(restless, patient);

    const runs = [await orchestrator.start(restless, undefined), await orchestrator.start(patient, undefined)];

    for (const run of runs) await expect(run.result({ timeout: '10s' })).rejects.toThrow(/did not end by its deadline/);
  });

  it('is not moved by a crash', async () => {
    const sleepy = workflow({ name: 'sleepy', timeout: '1s' }, ({ ctx }) => ctx.sleep('1h'));
    const doomed = await start(sleepy);
    const run = await doomed.orchestrator.start(sleepy, undefined);
    await untilWaiting(doomed, run.id);
    const { wakeAt, createdAt } = await doomed.orchestrator.get(run.id);
    await doomed.crash();

    const { orchestrator } = await start(sleepy);

    await expect(orchestrator.result(run.id, { timeout: '10s' })).rejects.toThrow(/did not end by its deadline/);
    expect(wakeAt!.getTime() - createdAt.getTime()).toBe(1_000);
  });
});

describe('a timer beside a step that runs', () => {
  it('fires when it is due, not when the body ends', async () => {
    const never = new Barrier();
    const overdue = workflow('overdue', ({ ctx }) =>
      ctx.race({
        work: () => ctx.step('work', () => never.pass()),
        late: async () => {
          await ctx.sleep('300ms');
          return 'too late';
        },
      }),
    );
    const { orchestrator } = await start(overdue);

    expect(await orchestrator.execute(overdue, undefined)).toEqual({ winner: 'late', value: 'too late' });
  });
});

describe('an error (scenario 11)', () => {
  class InsufficientFunds extends Error {
    readonly code = 'FUNDS';
    readonly missing = 12;
  }

  const thrown: Record<string, () => unknown> = {
    chain: () => new TypeError('outer', { cause: new InsufficientFunds('inner', { cause: 'a thrown text' }) }),
    text: () => 'just a text',
    nothing: () => undefined,
    object: () => ({ reason: 'no class' }),
  };
  const caught = workflow('caught', async ({ ctx }, kind: string) => {
    try {
      await ctx.step(
        'fail',
        () => {
          throw thrown[kind]!();
        },
        { retry: { maxAttempts: 1 } },
      );
      return undefined;
    } catch (error) {
      return { error, isFunds: causedBy(error, InsufficientFunds), root: rootCause(error) };
    }
  });

  it.each<[string, object]>([
    [
      'chain',
      {
        isFunds: true,
        error: {
          name: 'StepFailedError',
          code: 'STEP_FAILED',
          step: 'fail',
          attempts: 1,
          cause: {
            name: 'TypeError',
            message: 'outer',
            cause: { name: 'InsufficientFunds', code: 'FUNDS', message: 'inner', missing: 12 },
          },
        },
        root: { name: 'NonError', thrown: 'a thrown text' },
      },
    ],
    ['text', { isFunds: false, root: { message: 'just a text', thrown: 'just a text' } }],
    ['nothing', { isFunds: false, root: { message: 'undefined', name: 'NonError' } }],
    ['object', { isFunds: false, root: { thrown: { reason: 'no class' } } }],
  ])('%s reaches the code the same, live and in a replay', async (kind, expected) => {
    const { orchestrator } = await start(caught);
    const run = await orchestrator.start(caught, kind);

    const live = await run.result();
    await rewindRun(database, run.id, EVERYTHING);
    const replayed = await orchestrator.result(run.id);

    expect(live).toMatchObject(expected);
    expect(replayed).toMatchObject(expected);
  });

  it.each<[string, unknown, object]>([
    [
      'an error with causes',
      thrown['chain']!(),
      { name: 'TypeError', cause: { name: 'InsufficientFunds', code: 'FUNDS', missing: 12 } },
    ],
    ['a text', 'just a text', { name: 'NonError', message: 'just a text' }],
    ['undefined', undefined, { name: 'NonError', message: 'undefined' }],
  ])('that is %s and ends the run is its error, and the cause of its result', async (_, error, expected) => {
    const failing = workflow('failing', () => {
      throw error;
    });
    const { orchestrator } = await start(failing);
    const run = await orchestrator.start(failing, undefined);

    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_FAILED', workflow: 'failing', cause: expected });

    expect(await orchestrator.get(run.id)).toMatchObject({ status: 'failed', error: expected });
  });

  it('keeps the innermost cause through many generations, and at most 20 links (scenario 11, clarification 16)', async () => {
    const nested: ReturnType<typeof workflow<number>> = workflow('nested', async ({ children }, depth: number) => {
      if (depth === 0) throw new InsufficientFunds('innermost');
      await children.call(nested, depth - 1);
    });
    const { orchestrator } = await start(nested);
    const run = await orchestrator.start(nested, 24);

    await expect(run.result()).rejects.toThrow('innermost');

    const links: string[] = [];
    const details = await orchestrator.get(run.id);
    for (let link = details.status === 'failed' ? details.error : undefined; link; link = link.cause)
      links.push(link.name);
    expect(links).toHaveLength(20);
    expect(links[0]).toBe('ChildFailedError');
    expect(links.slice(-2)).toEqual(['OmittedCauses', 'InsufficientFunds']);
  });
});

describe('a step method', () => {
  const calls: string[] = [];

  @Injectable()
  class Ledger {
    @Step()
    book(amount: number): string {
      calls.push(`book ${amount}`);
      return `booked ${amount}`;
    }

    @Step({ name: 'close the books' })
    close(): string {
      return 'closed';
    }
  }

  @Workflow('bookkeeping')
  class Bookkeeping {
    constructor(
      private readonly ledger: Ledger,
      private readonly ctx: RunContext,
    ) {}

    async run(amount: number): Promise<string[]> {
      return [
        await this.check(amount),
        this.ledger.constructor.name,
        await this.ledger.book(amount),
        await this.ledger.close(),
      ];
    }

    @Step()
    check(amount: number): string {
      const { step, attempt } = this.ctx.currentStep;
      return `${step} ${attempt} ${amount}`;
    }
  }

  it('is recorded under its name on the workflow class, and under ClassName.method elsewhere', async () => {
    const { orchestrator } = await start(Bookkeeping, Ledger);
    const run = await orchestrator.start(Bookkeeping, 5);

    expect(await run.result()).toEqual(['check 1 5', 'Ledger', 'booked 5', 'closed']);

    expect((await orchestrator.history(run.id)).map(({ key }) => key)).toEqual([
      'check',
      'Ledger.book',
      'close the books',
    ]);
  });

  it('takes the options that an inline step takes', async () => {
    const attempts: Record<string, number> = {};
    const fail = (name: string) => {
      attempts[name] = (attempts[name] ?? 0) + 1;
      return Promise.reject(new Declined(name));
    };
    class Declined extends Error {}
    @Workflow('declining')
    class DecliningWorkflow {
      async run(): Promise<string[]> {
        const begun = [this.slow(), this.retried(), this.named(), this.asked(), this.once()];
        const ends = await Promise.allSettled(begun);
        return ends.map((end) => (end.status === 'rejected' ? (rootCause(end.reason) as Error).name : 'ended'));
      }

      @Step({ timeout: '20ms', retry: { maxAttempts: 1 } })
      slow(): Promise<never> {
        return new Promise(() => {});
      }

      @Step({ retry: { ...AT_ONCE, maxAttempts: 4 } })
      retried(): Promise<never> {
        return fail('retried');
      }

      @Step({ retry: AT_ONCE, nonRetryable: [Declined] })
      named(): Promise<never> {
        return fail('named');
      }

      @Step({ retry: AT_ONCE, retryIf: () => false })
      asked(): Promise<never> {
        return fail('asked');
      }

      @Step({ atMostOnce: true })
      once(): Promise<never> {
        return fail('once');
      }
    }
    const { orchestrator } = await start(DecliningWorkflow);

    const ends = await orchestrator.execute(DecliningWorkflow, undefined as never);

    expect(ends).toEqual(['StepTimeoutError', 'Declined', 'Declined', 'Declined', 'Declined']);
    expect(attempts).toEqual({ retried: 4, named: 1, asked: 1, once: 1 });
  });

  it('is a plain method outside a run', async () => {
    const app = await start(Bookkeeping, Ledger);

    expect(app.get(Ledger).book(7)).toBe('booked 7');

    expect(calls).toContain('book 7');
  });
});

describe('a step inside a step', () => {
  it('has a record of its own, and runs again under each attempt of the outer one (clarification 6)', async () => {
    const bodies: string[] = [];
    const nesting = workflow('nesting', ({ ctx }) =>
      ctx.step(
        'outer',
        async ({ attempt }) => {
          bodies.push(`outer ${attempt}`);
          const inner = await ctx.step('inner', () => {
            bodies.push(`inner of ${attempt}`);
            return attempt;
          });
          if (attempt === 1) throw new Error('after the inner step');
          return inner;
        },
        { retry: { ...AT_ONCE } },
      ),
    );
    const { orchestrator } = await start(nesting);
    const run = await orchestrator.start(nesting, undefined);

    expect(await run.result()).toBe(2);

    expect(bodies).toEqual(['outer 1', 'inner of 1', 'outer 2', 'inner of 2']);
    expect(byKey(await orchestrator.history(run.id))).toEqual({ inner: [1, 2], outer: [2] });
  });

  it('is not run again when a crash makes the outer body start over', async () => {
    const bodies: string[] = [];
    let barrier = new Barrier();
    const nesting = workflow('nesting-and-crashing', ({ ctx }) =>
      ctx.step('outer', async () => {
        bodies.push('outer');
        await ctx.step('inner', () => void bodies.push('inner'));
        await barrier.pass();
        return ctx.step('last', () => 'done');
      }),
    );
    const doomed = await start(nesting);
    const { id } = await doomed.orchestrator.start(nesting, undefined);
    await barrier.reached();

    await doomed.crash();
    barrier = new Barrier();
    barrier.open();
    const { orchestrator } = await start(nesting);

    expect(await orchestrator.result(id)).toBe('done');
    expect(bodies).toEqual(['outer', 'inner', 'outer']);
  });
});

describe('a durable wait inside a step', () => {
  it('parks the run, and after a crash the body is entered again with the recorded outcomes (clarification 6)', async () => {
    const bodies: string[] = [];
    const child = workflow('child-of-step', async ({ ctx }) => {
      await ctx.sleep('400ms');
      return 'from the child';
    });
    const ordering = workflow('ordering', ({ ctx, children }) =>
      ctx.step('order', async ({ attempt }) => {
        bodies.push(`entered ${attempt}`);
        const price = await ctx.step('price', () => bodies.push('priced'));
        const answer = await children.call(child, undefined);
        bodies.push('answered');
        return `${price} ${answer}`;
      }),
    );
    const doomed = await start(ordering, child);
    const { id } = await doomed.orchestrator.start(ordering, undefined);
    await untilWaiting(doomed, id);

    await doomed.crash();
    const { orchestrator } = await start(ordering, child);

    expect(await orchestrator.result(id)).toBe('2 from the child');
    expect(bodies).toEqual(['entered 1', 'priced', 'entered 1', 'answered']);
    expect((await orchestrator.listChildren(id)).items).toHaveLength(1);
  });

  it('parks the run also from a step inside a step, with every timeout standing still', async () => {
    const child = workflow('child-of-inner-step', ({ ctx }) => ctx.sleep('700ms'));
    const nesting = workflow('nesting-and-waiting', ({ ctx, children }) =>
      ctx.step(
        'outer',
        () =>
          ctx.step(
            'inner',
            async ({ attempt }) => {
              await children.call(child, undefined);
              if (attempt === 1) throw new Error('once');
              return 'answered';
            },
            { retry: { initialInterval: '600ms', jitter: 0 } },
          ),
        { timeout: '400ms', retry: { maxAttempts: 1 } },
      ),
    );
    const { orchestrator } = await start(nesting, child);
    const run = await orchestrator.start(nesting, undefined);

    for (const kind of ['child', 'retry', 'child']) {
      await until(`it waits for a ${kind}`, async () => {
        const { status, waitingFor } = await orchestrator.get(run.id);
        return status === 'waiting' && waitingFor[0]?.kind === kind;
      });
    }

    expect(await run.result()).toBe('answered');
  });

  it('counts a sleep from its call, and does not start it anew after a crash', async () => {
    const times: number[] = [];
    const napping = workflow('napping', ({ ctx }) =>
      ctx.step('nap', async () => {
        if (times.length === 0) await delay(500);
        times.push(Date.now());
        await ctx.sleep('1500ms');
        times.push(Date.now());
      }),
    );
    const doomed = await start(napping);
    const { id } = await doomed.orchestrator.start(napping, undefined);
    await untilWaiting(doomed, id);

    await doomed.crash();
    const { orchestrator } = await start(napping);
    await orchestrator.result(id);

    const [asked, askedAgain, woke] = times as [number, number, number];
    expect(woke - asked).toBeGreaterThanOrEqual(1_490);
    expect(woke - askedAgain).toBeLessThan(1_490);
  });

  it('starts another child in another attempt, and one of the same explicit ref only when the first failed', async () => {
    const made: string[] = [];
    const child = workflow('child-of-attempt', (_, { fails }: { fails: boolean }) => {
      made.push(fails ? 'failing' : 'fine');
      if (fails && made.filter((kind) => kind === 'failing').length === 1) throw new Error('the first time');
      return made.length;
    });
    const retrying = workflow('retrying', ({ ctx, children }) =>
      ctx.step(
        'order',
        async ({ attempt }) => {
          await children.call(child, { fails: false });
          await children.call(child, { fails: false }, { ref: 'kept' });
          if (attempt === 1) await children.call(child, { fails: true }, { ref: 'again' });
          return (await children.callSettled(child, { fails: true }, { ref: 'again' })).status;
        },
        { retry: { ...AT_ONCE } },
      ),
    );
    const { orchestrator } = await start(retrying, child);
    const run = await orchestrator.start(retrying, undefined);

    expect(await run.result()).toBe('completed');

    expect(made).toEqual(['fine', 'fine', 'failing', 'fine', 'failing']);
  });

  it('is refused nothing when several calls inside the body overlap', async () => {
    const overlapping = workflow('overlapping', ({ ctx }) =>
      ctx.step('all', async () => {
        const [slept, stepped, raced] = await Promise.all([
          ctx.sleep('250ms').then(() => 'slept'),
          ctx.step('inner', () => 'stepped'),
          ctx.race({ fast: () => ctx.step('fast', () => 1), slow: () => ctx.sleep('1h') }),
        ]);
        return [slept, stepped, raced.winner];
      }),
    );
    const { orchestrator } = await start(overlapping);

    expect(await orchestrator.execute(overlapping, undefined)).toEqual(['slept', 'stepped', 'fast']);
  });
});

describe('a step that is still running when the run returns', () => {
  it('gets its AbortSignal, and its late outcome is refused', async () => {
    const late = new Barrier();
    let aborted = false;
    const leaving = workflow('leaving', async ({ ctx }) => {
      void ctx.step('left', async ({ signal }) => {
        signal.addEventListener('abort', () => (aborted = true));
        await late.pass();
        return 'late';
      });
      await ctx.step('awaited', () => late.reached());
      return 'done';
    });
    const { orchestrator } = await start(leaving);
    const run = await orchestrator.start(leaving, undefined);

    expect(await run.result()).toBe('done');
    expect(aborted).toBe(true);
    late.open();
    await nextTurns();

    expect((await orchestrator.history(run.id)).map(({ key }) => key)).toEqual(['awaited']);
    await rewindRun(database, run.id, EVERYTHING);
    expect(await orchestrator.result(run.id)).toBe('done');
  });
});

const attemptTimeout = '80ms';

function failUntil(succeedsAt: number, attempt: number, bodies: string[], name: string): string {
  bodies.push(`${name} ${attempt}`);
  if (attempt < succeedsAt) throw new Error(`${name} ${attempt}`);
  return name;
}

async function untilWaiting({ orchestrator }: TestApp, runId: string): Promise<void> {
  await until(`run ${runId} is parked`, async () => (await orchestrator.get(runId)).status === 'waiting');
}

async function nextTurns(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
}

function byKey(history: HistoryEntry[]): Record<string, unknown[]> {
  const outputs: Record<string, unknown[]> = {};
  for (const { key, output } of history) (outputs[key] ??= []).push(output);
  return outputs;
}
