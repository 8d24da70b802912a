import { type LoggerService } from '@nestjs/common';

import { NonRetryableError, type OutputOf, RunContext, Step, Workflow, type WorkflowClass } from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { rewindRun } from '../support/rewind.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const EVERYTHING = 1_000_000;

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(closeApps);

afterAll(() => database.drop());

function start(
  providers: NonNullable<Parameters<typeof startApp>[0]['providers']>,
  logger?: LoggerService,
): Promise<TestApp> {
  return startApp({ database, providers, options: { worker: { pollInterval: '20ms' } }, ...(logger && { logger }) });
}

/** Runs a workflow to its end, then again from each point of its history on; gives all outputs, the first one first. */
async function outputsFromEveryPoint<W extends WorkflowClass>(
  { orchestrator }: TestApp,
  target: W,
  input?: unknown,
): Promise<{ runId: string; outputs: OutputOf<W>[] }> {
  const run = await orchestrator.start(target, input as never);
  const outputs = [await run.result()];
  const entries = await orchestrator.history(run.id);
  for (let kept = entries.length; kept >= 0; kept--) {
    await rewindRun(database, run.id, kept);
    outputs.push(await orchestrator.result<OutputOf<W>>(run.id));
  }
  return { runId: run.id, outputs };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

describe('what a step returned', () => {
  const values: Record<string, unknown> = {
    undefined: undefined,
    null: null,
    zero: 0,
    'an empty text': '',
    false: false,
    'a Date': new Date('2024-02-29T00:00:00.001Z'),
    'a bigint': 2n ** 70n,
    'a Map': new Map([['a', new Set([1n])]]),
    'a Buffer': Buffer.from([1, 2]),
  };

  it('is the same value in every replay, and its body is not run again (scenario 5)', async () => {
    const bodies: string[] = [];
    const returning = workflow('returning', async ({ ctx }) => {
      const seen: Record<string, unknown> = {};
      for (const [name, value] of Object.entries(values)) {
        seen[name] = await ctx.step(name, () => {
          bodies.push(name);
          return value;
        });
      }
      return seen;
    });
    const app = await start([returning]);
    const { id } = await app.orchestrator.start(returning, undefined);
    const live = await app.orchestrator.result(id);

    await rewindRun(database, id, EVERYTHING);
    const replayed = await app.orchestrator.result(id);

    expect(live).toStrictEqual(values);
    expect(replayed).toStrictEqual(values);
    expect(bodies).toEqual(Object.keys(values));
  });
});

describe('steps of one name', () => {
  it('have distinct, stable identities, also beside names that look numbered (scenario 6)', async () => {
    const names = ['a', 'a', 'a#2', 'a#2', 'a', 'a##2', '#', 'a#', 'a#'];
    const keys = new Map<string, Set<string>>();
    const naming = workflow('naming', async ({ ctx }) => {
      const seen: string[] = [];
      for (const [index, name] of names.entries()) {
        seen.push(
          await ctx.step(name, ({ idempotencyKey }) => {
            keys.set(idempotencyKey, (keys.get(idempotencyKey) ?? new Set()).add(String(index)));
            return `${name} at ${index}`;
          }),
        );
      }
      return seen;
    });
    const app = await start([naming]);

    const { runId, outputs } = await outputsFromEveryPoint(app, naming);

    const expected = names.map((name, index) => `${name} at ${index}`);
    for (const output of outputs) expect(output).toEqual(expected);
    expect(keys.size).toBe(names.length);
    for (const places of keys.values()) expect(places.size).toBe(1);
    const history = await app.orchestrator.history(runId);
    expect(new Set(history.map(({ key }) => key)).size).toBe(names.length);
  });
});

describe('concurrent branches', () => {
  it('of Promise.all replay identically from every point, and after a crash in the middle (scenario 16)', async () => {
    let bodies: number[] = [];
    let barrier = new Barrier();
    barrier.open();
    const ten = workflow('ten-steps', ({ ctx }) =>
      Promise.all(
        Array.from({ length: 10 }, (_, index) =>
          ctx.step('one', async () => {
            bodies.push(index);
            if (index % 2 === 1) await barrier.pass();
            return index * index;
          }),
        ),
      ),
    );
    const expected = Array.from({ length: 10 }, (_, index) => index * index);
    const doomed = await start([ten]);

    const { outputs } = await outputsFromEveryPoint(doomed, ten);
    for (const output of outputs) expect(output).toEqual(expected);

    bodies = [];
    barrier = new Barrier();
    const run = await doomed.orchestrator.start(ten, undefined);
    await barrier.reached(5);
    await until('the even ones are recorded', async () => (await doomed.orchestrator.history(run.id)).length === 5);
    await doomed.crash();
    bodies = [];
    barrier = new Barrier();
    barrier.open();
    const { orchestrator } = await start([ten]);

    expect(await orchestrator.result(run.id)).toEqual(expected);
    expect(bodies.sort((one, other) => one - other)).toEqual([1, 3, 5, 7, 9]);
  });

  it('that interleave get each their own results in every replay, whatever the durations (scenario 17)', async () => {
    const interleaved = workflow('interleaved', async ({ ctx }, items: string[]) =>
      Promise.all(
        items.map(async (item) => {
          const first = await ctx.step('first', async () => {
            await pause(Math.random() * 8);
            return `${item}1`;
          });
          if (item > 'c') await ctx.sleep(Math.round(Math.random() * 8));
          const second = await ctx.step('second', async () => {
            await pause(Math.random() * 8);
            return `${first}2`;
          });
          return `${item}: ${second}`;
        }),
      ),
    );
    const app = await start([interleaved]);

    const { outputs } = await outputsFromEveryPoint(app, interleaved, ['a', 'b', 'c', 'd', 'e']);

    expect(outputs).toHaveLength(14);
    for (const output of outputs) expect(output).toEqual(['a', 'b', 'c', 'd', 'e'].map((item) => `${item}: ${item}12`));
  });

  it.each(['Promise.race', 'Promise.any', 'ctx.race', 'ctx.any'])(
    'of %s have the recorded winner in every replay, whatever the timings (scenario 18)',
    async (kind) => {
      let slow = 'tortoise';
      const runners = ['hare', 'tortoise', 'snail'];
      const racing = workflow(`racing-${kind.toLowerCase()}`, async ({ ctx }) => {
        const runner = (name: string) => async () => {
          await ctx.step(name, async () => {
            if (name === slow || name === 'snail') await new Promise(() => {});
          });
          return ctx.step(`${name} arrives`, () => name);
        };
        const branches = Object.fromEntries(runners.map((name) => [name, runner(name)]));
        const begun = () => runners.map((name) => runner(name)());
        const kinds: Record<string, () => Promise<string>> = {
          'Promise.race': () => Promise.race(begun()),
          'Promise.any': () => Promise.any([Promise.reject(new Error('scratched')), ...begun()]),
          'ctx.race': async () => (await ctx.race(branches)).winner,
          'ctx.any': async () => (await ctx.any(branches)).winner,
        };
        const winner = await kinds[kind]!();
        await ctx.step('prize', () => winner);
        return winner;
      });
      const app = await start([racing]);
      const run = await app.orchestrator.start(racing, undefined);
      const first = await run.result();

      slow = 'hare';
      const later: unknown[] = [];
      for (const kept of [EVERYTHING, 2]) {
        await rewindRun(database, run.id, kept);
        later.push(await app.orchestrator.result(run.id));
      }

      expect(first).toBe('hare');
      expect(later).toEqual(['hare', 'hare']);
    },
  );

  it('race once more when nothing of the race was recorded: another may win, and stays the winner (scenario 18)', async () => {
    let slow = 'tortoise';
    const rematch = workflow('rematch', async ({ ctx }) => {
      const race = await ctx.race({
        hare: () => ctx.step('hare', () => (slow === 'hare' ? new Promise<never>(() => {}) : 1)),
        tortoise: () => ctx.step('tortoise', () => (slow === 'tortoise' ? new Promise<never>(() => {}) : 2)),
      });
      return race.winner;
    });
    const app = await start([rematch]);
    const { id } = await app.orchestrator.start(rematch, undefined);
    const winners = [await app.orchestrator.result(id)];

    for (const [slower, kept] of [
      ['hare', 0],
      ['tortoise', EVERYTHING],
    ] as const) {
      slow = slower;
      await rewindRun(database, id, kept);
      winners.push(await app.orchestrator.result(id));
    }

    expect(winners).toEqual(['hare', 'tortoise', 'tortoise']);
  });

  it('of allSettled over steps, sleeps and children end each its own way in every replay (scenario 19)', async () => {
    const child = workflow('settled-child', (_, fails: boolean) => {
      if (fails) throw new RangeError('child');
      return 'child';
    });
    const settling = workflow('settling', async ({ ctx, children }) => {
      const plain = await Promise.allSettled([
        ctx.sleep(5),
        ctx.step('fails', failing, { retry: { maxAttempts: 1 } }),
        children.call(child, true),
      ]);
      const named = await ctx.allSettled({
        step: () => ctx.step('works', () => 'step'),
        failing: () => ctx.step('fails', failing, { retry: { maxAttempts: 1 } }),
        sleep: () => ctx.sleep(5),
        child: () => children.call(child, false),
        failedChild: () => children.call(child, true),
        plain: () => 'no durable call',
      });
      return { plain: plain.map(({ status }) => status), named: summary(named) };
    });
    const app = await start([settling, child]);

    const { outputs } = await outputsFromEveryPoint(app, settling);

    for (const output of outputs) {
      expect(output).toEqual({
        plain: ['fulfilled', 'rejected', 'rejected'],
        named: {
          step: 'step',
          failing: 'StepFailedError',
          sleep: undefined,
          child: 'child',
          failedChild: 'ChildFailedError',
          plain: 'no durable call',
        },
      });
    }
  });

  it('of ctx.map come in the order of the items, no more at a time than asked for, in every replay', async () => {
    let [running, most] = [0, 0];
    const mapping = workflow('mapping', ({ ctx }, items: number[]) =>
      ctx.map(
        items,
        async (item, index) => {
          const doubled = await ctx.step('double', async () => {
            most = Math.max(most, ++running);
            await pause(Math.random() * 5);
            running--;
            return item * 2;
          });
          return `${index}:${doubled}`;
        },
        { concurrency: 3 },
      ),
    );
    const app = await start([mapping]);

    const { outputs } = await outputsFromEveryPoint(app, mapping, [5, 6, 7, 8, 9, 10]);

    for (const output of outputs) expect(output).toEqual(['0:10', '1:12', '2:14', '3:16', '4:18', '5:20']);
    expect(most).toBe(3);
  });

  it('of ctx.any: the first to succeed wins; of ctx.all: the values by name', async () => {
    const combining = workflow('combining', async ({ ctx }) => {
      const first = await ctx.any({
        broken: () => ctx.step('broken', failing, { retry: { maxAttempts: 1 } }),
        good: () => ctx.sleep(5).then(() => 'good'),
        late: () => ctx.sleep('1h'),
      });
      const both = await ctx.all({ a: () => ctx.step('a', () => 1), b: () => ctx.sleep(1).then(() => 'b') });
      const none = await ctx
        .any({ one: () => ctx.step('one', failing, { retry: { maxAttempts: 1 } }) })
        .catch((error: unknown) => error);
      return { first, both, none: none instanceof AggregateError };
    });
    const app = await start([combining]);

    const { outputs } = await outputsFromEveryPoint(app, combining);

    for (const output of outputs) {
      expect(output).toEqual({ first: { winner: 'good', value: 'good' }, both: { a: 1, b: 'b' }, none: true });
    }
  });
});

describe('what a race leaves behind', () => {
  it('is cancelled: the child of a losing branch ends cancelled, the AbortSignal of its running step fires (scenario 20)', async () => {
    const [running, stopped] = [new Barrier(), new Barrier()];
    let reason: unknown;
    const slowChild = workflow('slow-child', ({ ctx }) => ctx.sleep('1h'));
    const leaving = workflow('leaving-behind', async ({ ctx, children }) => {
      const race = await ctx.race({
        child: () => children.call(slowChild, undefined, { ref: 'loser' }),
        step: () =>
          ctx.step('loser', async ({ signal }) => {
            signal.addEventListener('abort', () => {
              reason = signal.reason;
              void stopped.pass();
            });
            await running.pass();
          }),
        nested: () =>
          ctx.all({ timer: () => ctx.sleep('2h'), again: () => ctx.race({ timer: () => ctx.sleep('3h') }) }),
        winner: () => ctx.step('winner', () => running.reached()),
      });
      await stopped.reached();
      await ctx.sleep(1);
      return race.winner;
    });
    const app = await start([leaving, slowChild]);
    const run = await app.orchestrator.start(leaving, undefined);

    expect(await run.result()).toBe('winner');

    const [child] = (await app.orchestrator.listChildren(run.id)).items;
    await until('the child has ended', async () => (await app.orchestrator.get(child!.id)).finishedAt !== undefined);
    expect(await app.orchestrator.get(child!.id)).toMatchObject({ ref: 'loser', status: 'cancelled' });
    expect(reason).toMatchObject({ name: 'CancelledError' });
    await rewindRun(database, run.id, EVERYTHING);
    expect(await app.orchestrator.result(run.id)).toBe('winner');
  });

  it('is cancelled, too, where the first branch to end fails: the race ends by its error', async () => {
    const slowChild = workflow('outrun-child', ({ ctx }) => ctx.sleep('1h'));
    const failingFirst = workflow('failing-first', ({ ctx, children }) =>
      ctx
        .race({
          child: () => children.call(slowChild, undefined),
          broken: () => ctx.step('broken', failing, { retry: { maxAttempts: 1 } }),
        })
        .catch((error: unknown) => (error as Error).name),
    );
    const app = await start([failingFirst, slowChild]);
    const run = await app.orchestrator.start(failingFirst, undefined);

    expect(await run.result({ timeout: '10s' })).toBe('StepFailedError');

    const statuses = async () => (await run.children()).items.map(({ status }) => status);
    await until('the child is cancelled', async () => (await statuses()).join() === 'cancelled');
    await rewindRun(database, run.id, EVERYTHING);
    expect(await app.orchestrator.result(run.id)).toBe('StepFailedError');
  });

  it('is the same for ctx.any, and for ctx.all and ctx.map when a branch fails', async () => {
    const slowChild = workflow('left-child', ({ ctx }) => ctx.sleep('1h'));
    const leaving = workflow('leaving-thrice', async ({ ctx, children }) => {
      const broken = () => ctx.step('broken', failing, { retry: { maxAttempts: 1 } });
      const errors: string[] = [];
      await ctx.any({ child: () => children.call(slowChild, undefined), quick: () => ctx.step('quick', () => 1) });
      await ctx
        .all({ child: () => children.call(slowChild, undefined), broken })
        .catch((error: unknown) => errors.push((error as Error).name));
      await ctx
        .map([1, 2], (item) => (item === 1 ? children.call(slowChild, undefined) : broken()))
        .catch((error: unknown) => errors.push((error as Error).name));
      return errors;
    });
    const app = await start([leaving, slowChild]);
    const run = await app.orchestrator.start(leaving, undefined);

    expect(await run.result()).toEqual(['StepFailedError', 'StepFailedError']);

    const statuses = async () => (await app.orchestrator.listChildren(run.id)).items.map(({ status }) => status);
    await until('the children have ended', async () => (await statuses()).every((status) => status === 'cancelled'));
    expect(await statuses()).toEqual(['cancelled', 'cancelled', 'cancelled']);
  });

  it.each(['any', 'all', 'map'] as const)(
    'by ctx.%s is cancelled, too: running steps get their AbortSignal, timers are dropped (scenario 20)',
    async (how) => {
      const running = new Barrier();
      const reasons: unknown[] = [];
      const leaving = workflow('leaving-steps', async ({ ctx }) => {
        const rest = {
          step: () =>
            ctx.step('left', async ({ signal }) => {
              signal.addEventListener('abort', () => reasons.push(signal.reason));
              await running.pass();
            }),
          timer: () => ctx.sleep('1h'),
        };
        const decisive = () =>
          ctx.step('decisive', async () => {
            await running.reached();
            if (how !== 'any') throw new NonRetryableError('no');
          });
        if (how === 'any') await ctx.any({ ...rest, decisive });
        else if (how === 'all') await ctx.all({ ...rest, decisive }).catch(() => {});
        else await ctx.map([rest.step, rest.timer, decisive], (code) => code()).catch(() => {});
        await ctx.sleep('50ms');
        return 'went on';
      });
      const app = await start([leaving]);

      const run = await app.orchestrator.start(leaving, undefined);

      expect(await run.result({ timeout: '5s' })).toBe('went on');
      expect(reasons).toEqual([expect.objectContaining({ name: 'CancelledError' })]);
      const entries = (await app.orchestrator.history(run.id)).map(({ kind, name }) => `${kind} ${name}`);
      expect(entries).toEqual(['step decisive', 'timer sleep']);
      running.open();
    },
  );

  it('refuses a map with wrong options', async () => {
    const wrong = [{ concurrency: 0 }, { concurrency: 1.5 }, { concurrency: '2' }, { parallel: 2 }];
    const mapping = workflow('wrong-map', ({ ctx }) =>
      wrong.map((options) => {
        try {
          void ctx.map([1], (item) => item, options as { concurrency: number });
          return 'accepted';
        } catch (error) {
          return (error as Error).name;
        }
      }),
    );
    const app = await start([mapping]);
    expect(await app.orchestrator.execute(mapping, undefined)).toEqual(wrong.map(() => 'ValidationError'));
  });

  it('does not reach a shield: its work goes on to its end', async () => {
    const done: string[] = [];
    const shielding = workflow('shielding', async ({ ctx }) => {
      const shielded = new Barrier();
      const race = await ctx.race({
        work: () =>
          ctx.shield(async () => {
            await ctx.step('reserve', async () => {
              await shielded.pass();
              done.push('reserved');
            });
            await ctx.step('note', () => done.push('noted'));
          }),
        quick: () => ctx.step('quick', () => shielded.reached()),
      });
      shielded.open();
      await ctx.sleep('300ms');
      return race.winner;
    });
    const app = await start([shielding]);

    expect(await app.orchestrator.execute(shielding, undefined)).toBe('quick');

    expect(done).toEqual(['reserved', 'noted']);
  });
});

describe('time and chance in a run', () => {
  it('are the same in every replay: ctx.now, ctx.random, ctx.uuid', async () => {
    const guessing = workflow('guessing', async ({ ctx }) => {
      const seen: unknown[] = [];
      const look = () => seen.push(ctx.now().getTime(), ctx.random(), ctx.uuid());
      look();
      await ctx.sleep(3);
      look();
      await Promise.all([ctx.step('a', () => pause(2)).then(look), ctx.step('b', () => pause(1)).then(look)]);
      for (let index = 0; index < 5; index++) await ctx.step('more', () => pause(1)).then(look);
      return seen;
    });
    const app = await start([guessing]);
    const run = await app.orchestrator.start(guessing, undefined);
    const live = (await run.result()) as (number | string)[];

    for (const kept of [EVERYTHING, 3, 2, 1]) {
      await rewindRun(database, run.id, kept);
      const replayed = (await app.orchestrator.result(run.id)) as (number | string)[];
      const known = kept === EVERYTHING ? live.length : 3 * (kept + 1);
      expect(replayed.slice(0, known)).toEqual(live.slice(0, known));
    }
    expect(new Set(live.filter((_, index) => index % 3 !== 0)).size).toBe(18);
    expect(live.filter((_, index) => index % 3 === 2)).toEqual(
      Array.from({ length: 9 }, () => expect.stringMatching(/^[0-9a-f-]{36}$/) as unknown),
    );
  });

  it('have a clock that stands between outcomes, and that no replay shifts by a millisecond', async () => {
    const ticking = workflow('ticking', async ({ ctx }) => {
      const times: number[] = [];
      for (let index = 0; index < 400; index++) {
        await ctx.sleep(0);
        times.push(ctx.now().getTime());
      }
      return times;
    });
    const app = await start([ticking]);
    const run = await app.orchestrator.start(ticking, undefined);
    const live = await run.result();

    await rewindRun(database, run.id, EVERYTHING);

    expect(await app.orchestrator.result(run.id)).toEqual(live);
  });
});

describe('ctx.logger', () => {
  it('carries the run, and is silent about what a replay repeats', async () => {
    const lines: string[] = [];
    const hear = (message: unknown, context: unknown) => lines.push(`${String(context)}: ${String(message)}`);
    const logger: LoggerService = { log: hear, error: hear, warn: hear };
    let barrier = new Barrier();
    const talking = workflow('talking', async ({ ctx }) => {
      ctx.logger.log('begun');
      await ctx.step('first', () => 1);
      ctx.logger.warn('after the first');
      await ctx.step('second', () => barrier.pass());
      ctx.logger.log('after the second');
    });
    const doomed = await start([talking], logger);
    const { id } = await doomed.orchestrator.start(talking, undefined);
    await barrier.reached();
    const before = lines.splice(0);
    await doomed.crash();

    barrier = new Barrier();
    barrier.open();
    const { orchestrator } = await start([talking], logger);
    await orchestrator.result(id);

    const ofRun = (all: string[]) =>
      all.filter((line) => line.startsWith(`talking ${id}: `)).map((line) => line.slice(46));
    expect(ofRun(before)).toEqual(['begun', 'after the first']);
    expect(ofRun(lines)).toEqual(['after the first', 'after the second']);
  });
});

describe('code that no longer matches the history (scenario 4)', () => {
  const bodies: string[] = [];
  type Code = Parameters<typeof workflow<void>>[1];

  const child = workflow('matching-child', () => 'child');
  const original: Code = async ({ ctx, children }) => {
    await ctx.step('charge', () => bodies.push('charge'));
    await ctx.step('charge', () => bodies.push('charge#2'));
    await children.start(child, undefined, { ref: 'mail' });
    await ctx.sleep('1s');
    await ctx.step('ship', () => bodies.push('ship'));
    return 'shipped';
  };

  it.each<[string, Code, { expected: string; found: string }]>([
    [
      'asks for a step of another name',
      async ({ ctx }) => {
        await ctx.step('bill', () => bodies.push('bill'));
        await ctx.sleep('1h');
      },
      { expected: "entry 1 is step 'charge'", found: "asked for step 'bill'" },
    ],
    [
      'asks for another step first',
      async ({ ctx }) => {
        await ctx.step('charge', () => bodies.push('charge'));
        await ctx.step('check', () => bodies.push('check'));
        await ctx.step('charge', () => bodies.push('charge#2'));
      },
      { expected: "entry 2 is step 'charge#2'", found: "asked for step 'check'" },
    ],
    [
      'asks for a timer in the place of a step',
      async ({ ctx }) => {
        await ctx.sleep('1h');
      },
      { expected: "entry 1 is step 'charge'", found: "asked for timer 'sleep'" },
    ],
    [
      'ends before its history does',
      async ({ ctx }) => {
        await ctx.step('charge', () => bodies.push('charge'));
        return 'done';
      },
      { expected: "entry 2 is step 'charge#2'", found: 'ended before it' },
    ],
    [
      'fails before its history ends',
      () => {
        throw new Error('a new check');
      },
      { expected: "entry 1 is step 'charge'", found: 'ended before it' },
    ],
    [
      'gives a child another input',
      async ({ ctx, children }) => {
        await ctx.step('charge', () => bodies.push('charge'));
        await ctx.step('charge', () => bodies.push('charge#2'));
        await children.start('matching-child', 'another', { ref: 'mail' });
        await ctx.sleep('1h');
      },
      { expected: 'mail', found: 'input' },
    ],
    [
      'awaits something that is not durable and never comes',
      async ({ ctx }) => {
        await new Promise(() => {});
        await ctx.step('charge', () => bodies.push('charge'));
      },
      { expected: "entry 1 is step 'charge'", found: 'asked for nothing' },
    ],
  ])(
    'that %s blocks the run, and the old code completes it; nothing is run twice',
    async (_, changed, { expected, found }) => {
      bodies.length = 0;
      const doomed = await start([workflow('changing', original), child]);
      const { id } = await doomed.orchestrator.start('changing', undefined);
      await until('it sleeps', async () => (await doomed.orchestrator.get(id)).status === 'waiting');
      await doomed.crash();

      const broken = await start([workflow('changing', changed), child]);
      await until('it is blocked', async () => (await broken.orchestrator.get(id)).status === 'blocked');
      const blocked = await broken.orchestrator.get(id);
      const history = await broken.orchestrator.history(id);
      await broken.close();
      const mended = await start([workflow('changing', original), child]);

      expect(await mended.orchestrator.result(id)).toBe('shipped');
      expect(bodies).toEqual(['charge', 'charge#2', 'ship']);
      expect(history.map(({ key }) => key)).toEqual(expect.arrayContaining(['charge', 'charge#2']));
      expect(blocked).toMatchObject({
        status: 'blocked',
        error: { name: 'NonDeterminismError', code: 'NON_DETERMINISM' },
      });
      const message = blocked.status === 'blocked' ? blocked.error.message : '';
      expect(message).toContain(expected);
      expect(message).toContain(found);
      expect(message).toContain('Deploy the code that the run started with');
    },
  );

  it('that gives a step method other arguments blocks the run; an unchanged one with its keys in another order does not', async () => {
    let order: object = { id: 1, lines: { b: 2, a: 1 } };

    @Workflow('arguing')
    class Arguing {
      constructor(private readonly ctx: RunContext) {}

      async run(): Promise<string> {
        await this.price(order);
        await this.ctx.sleep(1);
        return 'priced';
      }

      @Step()
      price(_order: object): number {
        return 5;
      }
    }
    const { orchestrator } = await start([Arguing]);
    const run = await orchestrator.start(Arguing, undefined as never);
    await run.result();

    order = { lines: { a: 1, b: 2 }, id: 1 };
    await rewindRun(database, run.id, EVERYTHING);
    expect(await orchestrator.result(run.id)).toBe('priced');

    order = { lines: { a: 1, b: 3 }, id: 1 };
    await rewindRun(database, run.id, EVERYTHING);
    await until('it is blocked', async () => (await run.status()) === 'blocked');
    expect(await orchestrator.get(run.id)).toMatchObject({
      error: { message: expect.stringContaining("asked for step 'price' with other arguments") as unknown },
    });

    order = { lines: { a: 1, b: 2 }, id: 1 };
    await orchestrator.retry(run.id);
    expect(await orchestrator.result(run.id)).toBe('priced');
  });

  it('that leaves out a step whose first attempt has failed blocks the run', async () => {
    const unreliable = (name: string, code: Code) => workflow(name, code);
    const doomed = await start([
      unreliable('retrying-still', async ({ ctx }) => {
        await ctx.step('pay', failing, { retry: { initialInterval: '1h', jitter: 0 } });
      }),
    ]);
    const { id } = await doomed.orchestrator.start('retrying-still', undefined);
    await until('it waits', async () => (await doomed.orchestrator.get(id)).status === 'waiting');
    await doomed.crash();

    const { orchestrator } = await start([unreliable('retrying-still', () => 'no payment at all')]);
    await rewindRun(database, id, EVERYTHING);
    await until('it is blocked', async () => (await orchestrator.get(id)).status === 'blocked');

    expect(await orchestrator.get(id)).toMatchObject({
      error: { expected: "a failed attempt of step 'pay'", found: 'ended before it' },
    });
  });
});

function failing(): never {
  throw new RangeError('step');
}

function summary(
  settled: Record<string, { status: 'fulfilled'; value: unknown } | { status: 'rejected'; error: unknown }>,
): object {
  return Object.fromEntries(
    Object.entries(settled).map(([name, end]) => [
      name,
      end.status === 'fulfilled' ? end.value : (end.error as Error).name,
    ]),
  );
}
