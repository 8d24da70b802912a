import { setTimeout as delay } from 'node:timers/promises';

import pg from 'pg';
import { DataSource, type EntityManager } from 'typeorm';
import { z } from 'zod';

import {
  defineSignal,
  RunConflictError,
  RunFinishedError,
  RunNotFoundError,
  ValidationError,
} from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

/** What is not told by a hint is not found in the time of a test. */
const HINTS_ONLY = { worker: { pollInterval: '1m', lease: '10m' } } as const;

const Go = defineSignal<string>('go');
const Words = workflow<number, string[]>('words', async ({ ctx }, count) => {
  const words: string[] = [];
  while (words.length < count) words.push(await ctx.waitForSignal(Go));
  return words;
});

let database: TestDatabase;
let sql: pg.Client;
let callers: DataSource;

beforeAll(async () => {
  database = await createTestDatabase();
  sql = new pg.Client({ connectionString: database.url });
  await sql.connect();
  callers = await new DataSource(database.connection).initialize();
  await callers.query('create table note (text text)');
});

afterEach(async () => {
  await HeldRows.releaseAll();
  await closeApps();
  await sql.query(
    'truncate orchestration.run, orchestration.history, orchestration.worker, orchestration.signal, note',
  );
});

afterAll(async () => {
  await callers.destroy();
  await sql.end();
  await database.drop();
});

async function countOf(table: string): Promise<number> {
  return (await sql.query<{ count: number }>(`select count(*)::int as count from ${table}`)).rows[0]!.count;
}

const untilWaiting = (app: TestApp, ...runIds: string[]) =>
  until('they wait', async () => {
    const runs = await Promise.all(runIds.map((id) => app.orchestrator.get(id)));
    return runs.every(({ status }) => status === 'waiting');
  });

describe('25. a signal that is sent with a manager', () => {
  const note = (manager: EntityManager, text: string) => manager.query('insert into note values ($1)', [text]);

  it('is there after the commit, also when that comes much later, and holds up nobody meanwhile', async () => {
    const app = await startApp({ database, providers: [Words], options: HINTS_ONLY });
    const run = await app.orchestrator.start(Words, 3);
    const bystander = await app.orchestrator.start(Words, 1);
    await untilWaiting(app, run.id, bystander.id);
    const written = new Barrier();
    const committing = callers.transaction(async (manager) => {
      await note(manager, 'one');
      await run.signal(Go, 'within', { manager });
      await written.pass();
    });
    await written.reached();

    // The run goes on: it is woken, claimed, writes and parks while the transaction is open.
    await run.signal(Go, 'meanwhile');
    await until(
      'the run has received the other one',
      async () => (await app.orchestrator.history(run.id)).length === 1,
    );
    await untilWaiting(app, run.id);
    await bystander.signal(Go, 'another');
    expect(await bystander.result({ timeout: '5s' })).toEqual(['another']);
    await delay(500);
    expect(await run.status()).toBe('waiting');
    written.open();
    await committing;
    await until('the run has received both', async () => (await app.orchestrator.history(run.id)).length === 2);
    await run.signal(Go, 'last');

    expect(await run.result({ timeout: '5s' })).toEqual(['meanwhile', 'within', 'last']);
    expect([await countOf('note'), await countOf('orchestration.outgoing_signal')]).toEqual([1, 0]);
  });

  it('wakes the right process by a hint of the commit', async () => {
    await startApp({ database, providers: [Words], options: HINTS_ONLY });
    const client = await startApp({ database, options: { worker: false } });
    const run = await client.orchestrator.start('words', 1);
    await untilWaiting(client, run.id);
    await callers.transaction((manager) => client.orchestrator.signal(run.id, Go, 'now', { manager }));

    expect(await run.result({ timeout: '5s' })).toEqual(['now']);
  });

  it('leaves no trace of a transaction, or a part of one, that is rolled back', async () => {
    const app = await startApp({ database, providers: [Words], options: HINTS_ONLY });
    const run = await app.orchestrator.start(Words, 2);
    await untilWaiting(app, run.id);
    const rolledBack = callers.transaction(async (manager) => {
      await note(manager, 'one');
      await run.signal(Go, 'rolled back', { manager });
      throw new Error('no');
    });
    await expect(rolledBack).rejects.toThrow('no');
    await callers.transaction(async (manager) => {
      const part = manager.transaction(async (inner) => {
        await run.signal(Go, 'part', { manager: inner });
        throw new Error('no');
      });
      await part.catch(() => {});
      await run.signal(Go, 'first', { manager, id: 'twice' });
      await run.signal(Go, 'first', { manager, id: 'twice' });
      await run.signal(Go, 'second', { manager });
    });

    expect(await run.result({ timeout: '5s' })).toEqual(['first', 'second']);
    expect([await countOf('note'), await countOf('orchestration.signal')]).toEqual([0, 2]);
  });

  it('may go to a run that the same transaction starts, and refuses unknown and finished runs at once', async () => {
    const app = await startApp({ database, providers: [Words] });
    const done = await app.orchestrator.start(Words, 0);
    await done.result();
    const run = await callers.transaction(async (manager) => {
      const started = await app.orchestrator.start(Words, 1, { manager });
      await started.signal(Go, 'hello', { manager });
      await expect(done.signal(Go, 'too late', { manager })).rejects.toThrow(RunFinishedError);
      const unknown = app.orchestrator.signal('00000000-0000-7000-8000-000000000000', Go, 'x', { manager });
      await expect(unknown).rejects.toThrow(RunNotFoundError);
      return started;
    });

    expect(await run.result({ timeout: '5s' })).toEqual(['hello']);
  });

  it('commits although the run has ended meanwhile', async () => {
    const app = await startApp({ database, providers: [Words], options: HINTS_ONLY });
    const run = await app.orchestrator.start(Words, 1);
    await callers.transaction(async (manager) => {
      await note(manager, 'kept');
      await run.signal(Go, 'too late', { manager });
      await run.signal(Go, 'in time');
      await run.result({ timeout: '5s' });
    });

    expect(await countOf('note')).toBe(1);
    expect(await run.status()).toBe('completed');
  });

  it('to many runs, from transactions in opposite orders at one instant: no deadlock', async () => {
    const app = await startApp({ database, providers: [Words], options: HINTS_ONLY });
    const runs = await app.orchestrator.startMany(
      Words,
      Array.from({ length: 10 }, () => ({ input: 2 })),
    );
    await untilWaiting(app, ...runs.map(({ id }) => id));
    const held = await HeldRows.hold(database, ...runs.map(({ id }) => id));
    const sendAll = (order: typeof runs, word: string) =>
      callers.transaction(async (manager) => {
        for (const run of order) await run.signal(Go, word, { manager });
      });
    const sending = [sendAll(runs, 'there'), sendAll(runs.toReversed(), 'and back')];
    await held.untilWaiting(2);
    await held.release();
    await Promise.all(sending);

    const words = await Promise.all(runs.map((run) => run.result({ timeout: '5s' })));
    expect(words.map((two) => two.toSorted().join())).toEqual(Array(10).fill('and back,there'));
  });

  it.each(['REPEATABLE READ', 'SERIALIZABLE'] as const)('is refused in a transaction that is %s', async (level) => {
    const app = await startApp({ database, providers: [Words], options: HINTS_ONLY });
    const run = await app.orchestrator.start(Words, 1);

    const sending = callers.transaction(level, (manager) => run.signal(Go, 'x', { manager }));
    await expect(sending).rejects.toThrow(/READ COMMITTED is required/);
    await expect(run.signal(Go, 'x', { manager: callers.manager })).rejects.toThrow(ValidationError);
  });
});

describe("56. a signal with scope 'tree'", () => {
  const Leaf = workflow<string>('leaf', async ({ ctx }, how) => {
    if (how === 'sleeps')
      return ctx.sleep('300ms').then(() => ctx.waitForSignal(Go, { timeout: 0, timeoutValue: 'none' }));
    if (how === 'works') return Promise.all([ctx.step('work', () => working.pass()), ctx.waitForSignal(Go)]);
    if (how === 'later') {
      await ctx.step('work', () => working.pass());
      return ctx.waitForSignal(Go, { timeout: 0, timeoutValue: 'none' });
    }
    return ctx.waitForSignal(Go);
  });
  const Middle = workflow<string>('middle', ({ children }, how) => children.call(Leaf, how));
  const Root = workflow<string[]>('root', async ({ children, ctx }, leaves) => {
    const outputs = Promise.all(leaves.map((how) => children.call(Middle, how)));
    return [await ctx.waitForSignal(Go), await outputs];
  });
  const providers = [Leaf, Middle, Root];
  let working: Barrier;
  beforeEach(() => (working = new Barrier()));

  it.each([
    ['at once', false],
    ['at the commit of a transaction', true],
  ])('reaches the grandchildren that wait for it, parked or not, and no others: %s', async (_when, isWithin) => {
    const app = await startApp({ database, providers, options: HINTS_ONLY });
    const run = await app.orchestrator.start(Root, ['waits', 'sleeps', 'works', 'later']);
    await working.reached(2);
    await until(
      'all are where they wait',
      async () => (await countOf(`orchestration.run where status = 'waiting'`)) === 7,
    );
    const options = { scope: 'tree' } as const;
    if (isWithin)
      await callers.transaction((manager) => app.orchestrator.signal(run.id, Go, 'all', { ...options, manager }));
    else await app.orchestrator.signal(run.id, Go, 'all', options);
    working.open();

    expect(await run.result({ timeout: '5s' })).toEqual(['all', ['all', 'none', [undefined, 'all'], 'none']]);
  });

  it('is buffered for the addressed run, and counts once by its id for all of them', async () => {
    const app = await startApp({ database, providers, options: HINTS_ONLY });
    const run = await app.orchestrator.start(Root, ['waits']);
    await until('the leaf waits', async () => (await countOf(`orchestration.run where status = 'waiting'`)) === 3);
    await run.signal(Go, 'once', { id: 'a', scope: 'tree' });
    await run.signal(Go, 'twice', { id: 'a', scope: 'tree' });

    expect(await run.result({ timeout: '5s' })).toEqual(['once', ['once']]);
    expect(await countOf('orchestration.signal')).toBe(2);
  });
});

describe('from inside a run', () => {
  const Strict = defineSignal('strict', { schema: z.object({ word: z.string().min(2) }) });
  const Child = workflow('child', ({ ctx }) => ctx.waitForSignal(Strict).then(({ word }) => word));

  it('a child is signalled by its ref or its handle, once, although the process dies before the record of it', async () => {
    const Parent = workflow('parent', async ({ children }) => {
      const child = await children.start(Words, 2, { ref: 'child', queue: 'children' });
      await children.signal('child', Go, 'by ref');
      await child.signal(Go, 'by handle');
      return child.result();
    });
    const providers = [Parent, Words];
    const roots = { worker: { ...HINTS_ONLY.worker, queues: ['default'] } };
    const first = await startApp({ database, providers, options: roots });
    const run = await first.orchestrator.start(Parent, undefined);
    await until('the signals are sent', async () => (await countOf('orchestration.signal')) === 2);
    await until('the parent waits', async () => (await run.status()) === 'waiting');
    await first.crash();
    // As if the process had died after each of the signals was sent and before its step was recorded.
    await sql.query(`delete from orchestration.history where kind = 'step'`);
    await sql.query(`update orchestration.run set status = 'pending', ready_at = now() where workflow = 'parent'`);
    const second = await startApp({ database, providers, options: roots });
    await until('they are sent again', async () => (await countOf(`orchestration.history where kind = 'step'`)) === 2);
    expect(await countOf('orchestration.signal')).toBe(2);
    await startApp({ database, providers, options: { worker: { queues: ['children'] } } });

    expect(await second.orchestrator.result(run.id, { timeout: '5s' })).toEqual(['by ref', 'by handle']);
  });

  it('a signal to a child counts once by its id, and by its scope reaches those below the child', async () => {
    const Middle = workflow('middle', async ({ children, ctx }) => {
      const [own, below] = await Promise.all([ctx.waitForSignal(Go), children.call(Words, 1)]);
      await ctx.waitForSignal('end');
      return [own, below, await ctx.waitForSignal(Go, { timeout: 0, timeoutValue: 'no more' })];
    });
    const Parent = workflow('parent', async ({ children, ctx }) => {
      const middle = await children.start(Middle, undefined, { ref: 'middle' });
      await ctx.waitForSignal('all wait');
      await children.signal('middle', Go, 'all', { id: 'a', scope: 'tree' });
      await middle.signal(Go, 'again', { id: 'a', scope: 'tree' });
      await children.signal('middle', 'end');
      return middle.result();
    });
    const { orchestrator } = await startApp({ database, providers: [Parent, Middle, Words], options: HINTS_ONLY });
    const run = await orchestrator.start(Parent, undefined);
    await until('all wait', async () => (await orchestrator.list({ status: 'waiting' })).items.length === 3);
    await run.signal('all wait');

    expect(await run.result({ timeout: '5s' })).toEqual(['all', ['all'], 'no more']);
  });

  it('what is refused is an error of its own class, in every replay', async () => {
    const Parent = workflow('parent', async ({ children, ctx }) => {
      const errors: unknown[] = [];
      const child = await children.start(Child, undefined, { ref: 'child' });
      const note = (error: Error) => errors.push([error.constructor.name, (error as { code?: string }).code]);
      await children.signal('child', Strict, { word: 'x' }).catch(note);
      await children.signal('child', 'strict', () => 'a function').catch(note);
      await children.signal('nobody', Strict, { word: 'xyz' }).catch(note);
      await child.signal(Strict, { word: 'xyz' });
      errors.push(await child.result());
      await child.signal(Strict, { word: 'too late' }).catch(note);
      await ctx.waitForSignal(Go);
      return errors;
    });
    const first = await startApp({ database, providers: [Parent, Child], options: HINTS_ONLY });
    const run = await first.orchestrator.start(Parent, undefined);
    await until('it waits', async () => (await first.orchestrator.get(run.id)).waitingFor[0]?.kind === 'signal');
    await first.crash();
    const second = await startApp({ database, providers: [Parent, Child], options: HINTS_ONLY });
    await second.orchestrator.signal(run.id, Go, 'on');

    expect(await second.orchestrator.result(run.id, { timeout: '5s' })).toEqual([
      ['ValidationError', 'VALIDATION'],
      ['PayloadError', 'PAYLOAD'],
      ['RunNotFoundError', 'RUN_NOT_FOUND'],
      'xyz',
      ['RunFinishedError', 'RUN_FINISHED'],
    ]);
  });
});

describe('signalWithStart', () => {
  it('starts the run with its first signal, and signals the one that there is', async () => {
    const { orchestrator } = await startApp({ database, providers: [Words], options: HINTS_ONLY });
    const first = await orchestrator.signalWithStart(Words, 2, Go, 'one', { key: 'k' });
    const second = await orchestrator.signalWithStart(Words, 2, 'go', 'two', { key: 'k' });

    expect([first.started, second.started, second.id]).toEqual([true, false, first.id]);
    expect(await first.result({ timeout: '5s' })).toEqual(['one', 'two']);
    await expect(orchestrator.signalWithStart(Words, 2, Go, 'x', { key: 'k' })).rejects.toThrow(RunFinishedError);
  });

  it('counts its signal once by its id, and starts the run as its options say', async () => {
    const { orchestrator } = await startApp({ database, providers: [Words], options: HINTS_ONLY });
    const options = { tenant: 'acme', label: 'Two words', priority: 2, attributes: { city: 'Oslo' } };
    const run = await orchestrator.signalWithStart(Words, 2, Go, 'one', { key: 'k', id: 'a', ...options });
    await orchestrator.signalWithStart(Words, 2, Go, 'again', { key: 'k', id: 'a' });
    await orchestrator.signalWithStart(Words, 2, Go, 'two', { key: 'k', id: 'b' });
    const later = await orchestrator.signalWithStart(Words, 1, Go, 'x', { key: 'later', delay: '1h', queue: 'quiet' });

    expect(await run.result({ timeout: '5s' })).toEqual(['one', 'two']);
    expect(await orchestrator.get(run.id)).toMatchObject({ key: 'k', ...options });
    expect(await orchestrator.get(later.id)).toMatchObject({ status: 'pending', queue: 'quiet' });
    expect((await orchestrator.get(later.id)).wakeAt).toBeInstanceOf(Date);
  });

  it('of two at one instant, from two processes, makes one run that gets both signals', async () => {
    const apps = await Promise.all([0, 1].map(() => startApp({ database, providers: [Words], options: HINTS_ONLY })));
    for (let round = 0; round < 10; round++) {
      const runs = await Promise.all(
        apps.map(({ orchestrator }, index) =>
          orchestrator.signalWithStart(Words, 2, Go, `${index}`, { key: `round ${round}` }),
        ),
      );

      expect(new Set(runs.map(({ id }) => id)).size).toBe(1);
      expect(runs.filter(({ started }) => started)).toHaveLength(1);
      expect((await runs[0]!.result({ timeout: '5s' })).toSorted()).toEqual(['0', '1']);
    }
  });

  it('with a manager is all or nothing, and sends nothing to a run with another input', async () => {
    const { orchestrator } = await startApp({ database, providers: [Words] });
    const rolledBack = callers.transaction(async (manager) => {
      await orchestrator.signalWithStart(Words, 1, Go, 'gone', { key: 'k', manager });
      throw new Error('no');
    });
    await expect(rolledBack).rejects.toThrow('no');
    expect([await countOf('orchestration.run'), await countOf('orchestration.signal')]).toEqual([0, 0]);
    const run = await callers.transaction((manager) =>
      orchestrator.signalWithStart(Words, 1, Go, 'kept', { key: 'k', manager }),
    );
    expect(await run.result({ timeout: '5s' })).toEqual(['kept']);

    const active = await orchestrator.start(Words, 1, { key: 'active' });
    const conflict = orchestrator.signalWithStart(Words, 2, Go, 'x', { key: 'active' });
    await expect(conflict).rejects.toThrow(RunConflictError);
    const rejected = orchestrator.signalWithStart(Words, 1, Go, 'x', { key: 'active', onConflict: 'reject' });
    await expect(rejected).rejects.toThrow(RunConflictError);
    await expect(orchestrator.signalWithStart(Words, 1, Go, 'x', {} as never)).rejects.toThrow(/key is needed/);
    await active.signal(Go, 'only');
    expect(await active.result({ timeout: '5s' })).toEqual(['only']);
  });
});

it('signals to a paused and to a blocked run are buffered', async () => {
  const Step = workflow('one', ({ ctx }) => ctx.step('old', () => 1).then(() => ctx.waitForSignal(Go)));
  const Changed = workflow('one', ({ ctx }) => ctx.step('new', () => 1).then(() => ctx.waitForSignal(Go)));
  const first = await startApp({ database, providers: [Step], options: HINTS_ONLY });
  const run = await first.orchestrator.start(Step, undefined);
  await untilWaiting(first, run.id);
  await sql.query('update orchestration.run set paused = true');
  await run.signal(Go, 'paused');
  await first.crash();
  const changed = await startApp({ database, providers: [Changed] });
  expect(await changed.orchestrator.history(run.id)).toHaveLength(1);
  await sql.query('update orchestration.run set paused = false');
  await until('it is blocked', async () => (await changed.orchestrator.get(run.id)).status === 'blocked');
  await changed.orchestrator.signal(run.id, Go, 'blocked');
  expect((await changed.orchestrator.get(run.id)).status).toBe('blocked');
  await changed.close();
  const next = await startApp({ database, providers: [Step] });

  expect(await next.orchestrator.result(run.id, { timeout: '5s' })).toBe('paused');
});

it('15. names, ids and payloads of any text change nothing', async () => {
  const names = [
    '__proto__',
    'constructor',
    `it's "quoted"`,
    '\u0000',
    '\\u0000',
    '\ud800',
    '"},{"kind":"signal"',
    '$1; --',
  ];
  const Any = workflow<string>('any', ({ ctx }, name) => ctx.waitForSignal(name));
  const app = await startApp({ database, providers: [Any], options: HINTS_ONLY });
  const runs = await app.orchestrator.startMany(
    Any,
    names.map((input) => ({ input })),
  );
  await untilWaiting(app, ...runs.map(({ id }) => id));
  expect((await app.orchestrator.get(runs[3]!.id)).waitingFor).toMatchObject([{ kind: 'signal', name: '\u0000' }]);
  const payload = JSON.parse('{"__proto__":"own"}') as object;
  for (const [index, run] of runs.entries()) {
    // Its own name comes last, for that ends it.
    for (const name of [...names.filter((_, other) => other !== index), names[index]!])
      await run.signal(name, { name, payload }, { id: `${name} once`, scope: index % 2 ? 'tree' : 'run' });
  }

  const outputs = (await Promise.all(runs.map((run) => run.result({ timeout: '5s' })))) as {
    name: string;
    payload: object;
  }[];
  expect(outputs.map(({ name }) => name)).toEqual(names);
  expect(outputs.every((output) => Object.hasOwn(output.payload, '__proto__'))).toBe(true);
});

it('retry makes the signals unread again that came after the outcome it forgets', async () => {
  let fails = true;
  const Fails = workflow('fails', async ({ ctx }) => {
    const first = await ctx.waitForSignal(Go);
    await ctx
      .step(
        'fails',
        () => {
          if (fails) throw new Error('once');
        },
        { retry: { maxAttempts: 1 } },
      )
      .catch(async (error: unknown) => {
        await ctx.waitForSignal(Go);
        throw error;
      });
    return [first, await ctx.waitForSignal(Go)];
  });
  const { orchestrator } = await startApp({ database, providers: [Fails], options: HINTS_ONLY });
  const run = await orchestrator.start(Fails, undefined);
  await run.signal(Go, 'one');
  await run.signal(Go, 'two');
  await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_FAILED' });
  fails = false;
  await orchestrator.retry(run.id);

  expect(await run.result({ timeout: '5s' })).toEqual(['one', 'two']);
});
