import pg from 'pg';

import type { EngineHost } from '../../lib/nest/engine-host.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { ChaosProxy } from '../support/chaos-proxy.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { errorOf } from '../support/error-of.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { untilStatus } from '../support/until-status.js';
import { workflow } from '../support/workflow.js';

let database: TestDatabase;
let client: pg.Client;
let proxy: ChaosProxy;
/** The bodies that ran, in all processes of a test. */
let bodies: string[];

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  proxy = new ChaosProxy(database.connection.port, database.connection.host);
});

beforeEach(() => {
  bodies = [];
});

afterEach(async () => {
  proxy.heal();
  await HeldRows.releaseAll();
  await closeApps();
});

afterAll(async () => {
  proxy.close();
  await client.end();
  await database.drop();
});

function start(...providers: NonNullable<Parameters<typeof startApp>[0]['providers']>): Promise<TestApp> {
  return startApp({ database, providers, options: { worker: { pollInterval: '20ms' } } });
}

async function rowOf(runId: string): Promise<Record<string, unknown>> {
  const { rows } = await client.query<Record<string, unknown>>('select * from orchestration.run where id = $1', [
    runId,
  ]);
  return rows[0]!;
}

const resting = workflow('resting', ({ ctx }, _name?: string) => ctx.sleep('30d'));

/** Counts to its limit, a generation for each number. */
const counting = workflow('counting', async ({ ctx }, { count, limit }: { count: number; limit: number }) => {
  const next = await ctx.step('add', () => {
    bodies.push(`add ${count}`);
    return count + 1;
  });
  if (next === limit) return next;
  return ctx.continueAsNew({ count: next, limit });
});

describe('ctx.continueAsNew', () => {
  it('goes through 1,000 generations under one id, with a history that does not grow', async () => {
    const { orchestrator } = await start(counting);

    const run = await orchestrator.start(counting, { count: 0, limit: 1_000 }, { key: 'counter' });
    const output = await run.result();

    expect(output).toBe(1_000);
    expect(bodies).toEqual(Array.from({ length: 1_000 }, (_, count) => `add ${count}`));
    expect(await orchestrator.history(run.id)).toMatchObject([{ seq: 1, name: 'add' }]);
    expect(await orchestrator.findByKey(counting, 'counter')).toMatchObject({
      id: run.id,
      status: 'completed',
      input: { count: 999, limit: 1_000 },
    });
  });

  it('keeps what the run is; time, randomness and the keys of steps are those of the new generation', async () => {
    const seen: Record<string, unknown>[] = [];
    const keeping = workflow({ name: 'keeping', version: 2, timeout: '1h' }, async ({ ctx }, generation: number) => {
      const now = ctx.now().getTime();
      const key = await ctx.step('look', ({ idempotencyKey }) => idempotencyKey);
      const inBody = await ctx.step('draw', () => ctx.uuid());
      seen.push({ id: ctx.runId, key: ctx.key, version: ctx.version, tenant: ctx.tenant, ...ctx.attributes });
      seen.push({ now, step: key, uuid: ctx.uuid(), random: ctx.random(), inBody });
      if (generation === 0) {
        await ctx.setAttributes({ city: 'Oslo' });
        await ctx.setState('once');
        await ctx.sleep(20);
        await ctx.continueAsNew(1);
      }
      return 'done';
    });
    const { orchestrator } = await start(keeping);
    const run = await orchestrator.start(keeping, 0, { key: 'kept', tenant: 'acme', attributes: { colour: 'red' } });
    const { deadline } = await rowOf(run.id);

    expect(await run.result()).toBe('done');
    const [before, own, after, renewed] = seen;
    expect(before).toEqual({ id: run.id, key: 'kept', version: 2, tenant: 'acme', colour: 'red' });
    expect(after).toEqual({ ...before, city: 'Oslo' });
    expect(own!.step).toBe(`${run.id}/look`);
    expect(renewed!.step).toBe(`${run.id}.1/look`);
    expect(renewed!.now).toBeGreaterThanOrEqual((own!.now as number) + 20);
    for (const drawn of ['uuid', 'random', 'inBody']) expect(renewed![drawn]).not.toEqual(own![drawn]);
    expect((await rowOf(run.id)).deadline).toEqual(deadline);
    expect(await orchestrator.get(run.id)).toMatchObject({ state: 'once', input: 1, attributes: { city: 'Oslo' } });
  });

  it('is found by its key with the input that it was started with', async () => {
    const { orchestrator } = await start(counting);
    const run = await orchestrator.start(counting, { count: 0, limit: 3 }, { key: 'singleton' });
    await run.result();

    const again = await orchestrator.start(counting, { count: 0, limit: 3 }, { key: 'singleton' });

    expect(again).toMatchObject({ id: run.id, started: false });
    expect(await errorOf(orchestrator.start(counting, { count: 2, limit: 3 }, { key: 'singleton' }))).toMatchObject({
      code: 'RUN_CONFLICT',
    });
  });

  it('drops what the code still waits for, without running any of its catch and finally', async () => {
    const unwound: string[] = [];
    const aborted = new Barrier();
    const dropping = workflow('dropping', async ({ ctx }, generation: number) => {
      if (generation === 1) return 'done';
      const begun = new Barrier();
      const work = ctx.step('work', async ({ signal }) => {
        void begun.pass();
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        void aborted.pass();
      });
      const watched = [work, ctx.sleep('30d'), ctx.race({ never: () => ctx.sleep('1d') })].map(async (wait) => {
        try {
          await wait;
        } finally {
          unwound.push('finally');
        }
      });
      await begun.reached();
      try {
        await Promise.race([...watched, ctx.continueAsNew(1)]);
      } finally {
        unwound.push('finally');
      }
      return 'not reached';
    });
    const { orchestrator } = await start(dropping);
    const run = await orchestrator.start(dropping, 0);

    expect(await run.result()).toBe('done');
    await aborted.reached();
    expect(unwound).toEqual([]);
    expect(await orchestrator.history(run.id)).toEqual([]);
  });

  it('in the body of a step is refused, and the run goes on', async () => {
    const refused = workflow('refused', ({ ctx }) =>
      ctx.step('inside', () => ctx.continueAsNew(1), { retry: { maxAttempts: 1 } }).catch((error: unknown) => error),
    );
    const { orchestrator } = await start(refused);

    expect(await orchestrator.execute(refused, undefined)).toMatchObject({
      cause: { name: 'ValidationError', message: expect.stringContaining("in the body of step 'inside'") as unknown },
    });
  });

  it('with an input that cannot be stored throws a PayloadError, and the code may go on', async () => {
    const unstorable = workflow('unstorable', async ({ ctx }, isCaught: boolean) => {
      await ctx.step('first', () => 'first');
      const error = ctx.continueAsNew({ nested: () => 'a function' });
      if (!isCaught) return error;
      return error.catch(async (caught: unknown) => {
        await ctx.step('second', () => 'second');
        return (caught as Error).message;
      });
    });
    const { orchestrator } = await start(unstorable);

    const caught = await orchestrator.execute(unstorable, true);
    const failed = await errorOf(orchestrator.execute(unstorable, false));

    expect(caught).toContain("the input of workflow 'unstorable' cannot be stored");
    expect(caught).toContain('nested');
    expect(failed).toMatchObject({ code: 'RUN_FAILED', cause: { name: 'PayloadError' } });
  });

  it('that leaves out what is recorded is a divergence', async () => {
    let asks = true;
    const leaving = workflow('leaving', async ({ ctx }, generation: number) => {
      if (generation === 1) return 'done';
      if (asks) await ctx.step('first', () => 'first');
      if (asks) await ctx.sleep('500ms');
      return ctx.continueAsNew(1);
    });
    const doomed = await start(leaving);
    const { id } = await doomed.orchestrator.start(leaving, 0);
    await untilStatus(doomed, id, 'waiting');
    await doomed.crash();
    asks = false;
    const broken = await start(leaving);
    await untilStatus(broken, id, 'blocked');
    asks = true;
    await broken.orchestrator.retry(id);

    expect(await broken.orchestrator.result(id)).toBe('done');
  });

  it('asks anew at each patched branch', async () => {
    const answers: boolean[] = [];
    const asking = workflow('asking', async ({ ctx }, generation: number) => {
      answers.push(ctx.patched('way'));
      await ctx.step('first', () => 'first');
      return generation === 2 ? 'done' : ctx.continueAsNew(generation + 1);
    });
    const { orchestrator } = await start(asking);
    const run = await orchestrator.start(asking, 0);

    expect(await run.result()).toBe('done');
    expect(answers).toEqual([true, true, true]);
    expect(await orchestrator.history(run.id)).toHaveLength(2);
  });
});

describe('the signals of a run that has continued', () => {
  it('are each read once, in their order, by whichever generation waits for them', async () => {
    const listening = workflow('listening', async ({ ctx }, read: string[]): Promise<string[]> => {
      const one = await ctx.waitForSignal<string>('word');
      const other = read.length ? undefined : await ctx.step('inside', () => ctx.waitForSignal<string>('word'));
      const all = [...read, one, ...(other ? [other] : [])];
      return all.length < 5 ? ctx.continueAsNew(all) : all;
    });
    const doomed = await start(listening);
    const run = await doomed.orchestrator.start(listening, []);
    for (const word of ['one', 'two', 'three']) await doomed.orchestrator.signal(run.id, 'word', word, { id: word });
    await until('three are read', async () => {
      const { input } = await doomed.orchestrator.get(run.id);
      return (input as string[]).length === 3;
    });
    await doomed.crash();
    const app = await start(listening);
    // Read by an earlier generation, and still known by its id.
    await app.orchestrator.signal(run.id, 'word', 'one again', { id: 'one' });
    for (const word of ['four', 'five']) await app.orchestrator.signal(run.id, 'word', word, { id: word });

    expect(await app.orchestrator.result(run.id)).toEqual(['one', 'two', 'three', 'four', 'five']);
    // What was read is not kept for as long as the run goes on.
    const { rows } = await client.query(
      'select distinct payload from orchestration.signal where run_id = $1 and consumed',
      [run.id],
    );
    expect(rows).toEqual([{ payload: null }]);
  });
});

describe('the children of a run that has continued', () => {
  const echo = workflow('echo', ({ ctx }, text: string) => ctx.step('say', () => text));

  it('are new ones for calls without a ref and for refs whose child has ended', async () => {
    const calling = workflow('calling', async ({ ctx, children }, generation: number): Promise<string[]> => {
      const said = [
        await children.call(echo, `unnamed ${generation}`),
        await children.call(echo, `named ${generation}`, { ref: 'named' }),
        await ctx.step('inside', () => children.call(echo, `inside ${generation}`)),
      ];
      return generation === 2 ? said : ctx.continueAsNew(generation + 1);
    });
    const { orchestrator } = await start(calling, echo);
    const run = await orchestrator.start(calling, 0);

    expect(await run.result()).toEqual(['unnamed 2', 'named 2', 'inside 2']);
    const { items } = await run.children();
    expect(items).toHaveLength(9);
    expect(items.map(({ ref }) => ref).filter((ref) => ref?.startsWith('echo'))).toEqual([
      'echo#3.1',
      'echo#2.1',
      'echo#1',
    ]);
  });

  it('are, by an explicit ref, those that are still active: the next generation goes on with them', async () => {
    const hold = new Barrier();
    const held = workflow('held', ({ ctx }, _name: string) => ctx.step('hold', () => hold.pass().then(() => 'held')));
    const resuming = workflow('resuming', async ({ ctx, children }, generation: number): Promise<unknown> => {
      const known = (await children.get('long'))?.id;
      const long = await children.start(held, 'long', { ref: 'long' });
      if (generation < 2) return ctx.continueAsNew(generation + 1);
      const conflict = await children.call(held, 'another', { ref: 'long' }).catch((error: unknown) => error);
      return { known, id: long.id, output: await long.result(), conflict };
    });
    const app = await start(resuming, held);
    const run = await app.orchestrator.start(resuming, 0);
    await untilStatus(app, run.id, 'waiting');
    const [child, ...others] = (await run.children()).items;
    const { generation } = await rowOf(run.id);
    hold.open();

    expect(others).toEqual([]);
    expect(generation).toBe(2);
    expect(await run.result()).toMatchObject({
      known: child!.id,
      id: child!.id,
      output: 'held',
      conflict: { name: 'ChildRefConflictError', code: 'CHILD_REF_CONFLICT' },
    });
  });

  it('that nobody asks for again are no divergence, and are cancelled with the run', async () => {
    const forgetful = workflow('forgetful', async ({ ctx, children }, generation: number) => {
      if (generation === 0) {
        await children.start(resting, 'explicit', { ref: 'explicit' });
        await children.start(resting, 'unnamed');
        await children.start(resting, 'closing', { ref: 'closing', parentClose: 'cancel' });
        return ctx.continueAsNew(1);
      }
      return generation === 1 ? ctx.sleep('30d') : 'not reached';
    });
    const doomed = await start(forgetful, resting);
    const run = await doomed.orchestrator.start(forgetful, 0);
    await untilStatus(doomed, run.id, 'waiting');
    await doomed.crash();

    // Replayed in another process, where nothing is remembered.
    const app = await start(forgetful, resting);
    await client.query(`update orchestration.run set status = 'pending', ready_at = now() where id = $1`, [run.id]);
    await untilStatus(app, run.id, 'waiting');
    const active = (await app.orchestrator.listChildren(run.id)).items.map(({ status }) => status);
    const { requested } = await app.orchestrator.cancel(run.id);
    await untilStatus(app, run.id, 'cancelled');
    await until('all have ended', async () =>
      (await app.orchestrator.listChildren(run.id)).items.every(({ status }) => status === 'cancelled'),
    );

    expect(active).toEqual(['waiting', 'waiting', 'waiting']);
    expect(requested).toBe(4);
  });

  it('close with the run when it ends, not when it continues', async () => {
    const closing = workflow('closing', async ({ ctx, children }, generation: number) => {
      if (generation === 0) {
        await children.start(resting, 'closing', { ref: 'closing', parentClose: 'cancel' });
        return ctx.continueAsNew(1);
      }
      return (await children.get('closing'))!.status;
    });
    const { orchestrator } = await start(closing, resting);
    const run = await orchestrator.start(closing, 0);

    expect(await run.result()).not.toBe('cancelled');
    await until('it is closed', async () => (await run.children()).items[0]!.status === 'cancelled');
  });

  it('a parent is given the output of the last generation of its child, also when it is replayed', async () => {
    const parent = workflow('parent', async ({ ctx, children }) => {
      const output = await children.call(counting, { count: 0, limit: 5 }, { ref: 'counter' });
      await ctx.sleep('300ms');
      return [output, await children.call(counting, { count: 0, limit: 5 }, { ref: 'counter' })];
    });
    const doomed = await start(parent, counting);
    const { id } = await doomed.orchestrator.start(parent, undefined);
    await until('it sleeps', async () => (await doomed.orchestrator.history(id)).length === 1);
    await untilStatus(doomed, id, 'waiting');
    await doomed.crash();
    const app = await start(parent, counting);

    expect(await app.orchestrator.result(id)).toEqual([5, 5]);
    expect((await app.orchestrator.listChildren(id)).items).toHaveLength(1);
    expect(bodies).toHaveLength(5);
  });
});

describe('a continuation and', () => {
  /** Comes to its continuation when the barrier opens, and sleeps in its second generation. */
  function continuing(name: string, barrier: Barrier, log: string[] = []) {
    return workflow(name, async ({ ctx }, generation: number) => {
      log.push(`generation ${generation}`);
      if (generation === 1) return ctx.sleep('500ms').then(() => 'done');
      await ctx.step('hold', () => barrier.pass());
      return ctx.continueAsNew(1);
    });
  }

  it('a cancellation that comes first: the run ends, and does not continue (forced)', async () => {
    const barrier = new Barrier();
    const log: string[] = [];
    const app = await start(continuing('cancelled-first', barrier, log));
    const run = await app.orchestrator.start('cancelled-first', 0);
    await barrier.reached();
    const held = await HeldRows.hold(database, run.id);
    const cancelling = app.orchestrator.cancel(run.id, { reason: 'stop' });
    await held.untilWaiting(1);
    barrier.open();
    await held.untilWaiting(2);
    await held.release();

    expect(await cancelling).toEqual({ cancelled: 0, requested: 1 });
    expect(await errorOf(run.result())).toMatchObject({ code: 'RUN_CANCELLED', reason: 'stop' });
    expect(log).toEqual(['generation 0']);
    expect(await app.orchestrator.history(run.id)).toMatchObject([{ kind: 'step', name: 'hold' }]);
  });

  it('a cancellation that comes second: the new generation is cancelled (forced)', async () => {
    const barrier = new Barrier();
    const log: string[] = [];
    const app = await start(continuing('continued-first', barrier, log));
    const run = await app.orchestrator.start('continued-first', 0);
    await barrier.reached();
    const held = await HeldRows.hold(database, run.id);
    barrier.open();
    await held.untilWaiting(1);
    const cancelling = app.orchestrator.cancel(run.id, { reason: 'stop' });
    await held.untilWaiting(2);
    await held.release();

    expect(await cancelling).toEqual({ cancelled: 0, requested: 1 });
    expect(await errorOf(run.result())).toMatchObject({ code: 'RUN_CANCELLED', reason: 'stop' });
    expect(log).toEqual(['generation 0', 'generation 1']);
  });

  it('the end of a child that it carries over: the next generation finds a ref, or the freed one (forced)', async () => {
    const [barrier, childBarrier] = [new Barrier(), new Barrier()];
    const ending = workflow('ending', ({ ctx }, _name: string) => ctx.step('hold', () => childBarrier.pass()));
    const parent = workflow('meeting', async ({ ctx, children }, generation: number): Promise<string> => {
      if (generation === 1) return ctx.sleep('300ms').then(() => 'done');
      await children.start(ending, 'x', { ref: 'child' });
      await ctx.step('hold', () => barrier.pass());
      return ctx.continueAsNew(1);
    });
    const app = await start(parent, ending);
    const run = await app.orchestrator.start(parent, 0);
    await barrier.reached();
    await childBarrier.reached();
    const child = (await run.children()).items[0]!;
    // The child's end waits for its row; the continuation, which takes its snapshot meanwhile, queues behind it.
    const held = await HeldRows.hold(database, child.id);
    childBarrier.open();
    await held.untilWaiting(1);
    barrier.open();
    await held.untilWaiting(2);
    await held.release();

    expect(await run.result()).toBe('done');
    expect(await rowOf(child.id)).toMatchObject({ status: 'completed', superseded: true, carried_over: false });
  });

  it('a crash before its commit: the old generation comes to it once more, without running its steps again', async () => {
    const barrier = new Barrier();
    const log: string[] = [];
    const code = workflow('crash-before', async ({ ctx }, generation: number) => {
      log.push(`generation ${generation}`);
      if (generation === 1) return 'done';
      await ctx.step('first', () => bodies.push('first'));
      await ctx.step('hold', () => barrier.pass());
      return ctx.continueAsNew(1);
    });
    const doomed = await start(code);
    const { id } = await doomed.orchestrator.start(code, 0);
    await barrier.reached();
    const held = await HeldRows.hold(database, id);
    barrier.open();
    await held.untilWaiting(1);
    await doomed.crash();
    await held.release();
    const app = await start(code);

    expect(await app.orchestrator.result(id)).toBe('done');
    expect(bodies).toEqual(['first']);
    expect(log).toEqual(['generation 0', 'generation 0', 'generation 1']);
    expect(await rowOf(id)).toMatchObject({ generation: 1 });
  });

  it('a crash after its commit: another worker goes on with the new generation', async () => {
    const barrier = new Barrier();
    barrier.open();
    const log: string[] = [];
    const code = continuing('crash-after', barrier, log);
    const doomed = await start(code);
    const { id } = await doomed.orchestrator.start(code, 0);
    await until('it has continued', async () => (await rowOf(id)).generation === 1);
    await doomed.crash();
    const app = await start(code);

    expect(await app.orchestrator.result(id)).toBe('done');
    expect(log.filter((line) => line === 'generation 0')).toHaveLength(1);
    expect(await rowOf(id)).toMatchObject({ generation: 1 });
  });

  it('a commit whose reply is lost: the run continues once, in the same process (forced)', async () => {
    const barrier = new Barrier();
    const log: string[] = [];
    const port = await proxy.listen();
    const connection = { ...database.connection, host: '127.0.0.1', port };
    const app = await startApp({
      database,
      providers: [continuing('lost-reply', barrier, log)],
      options: { connection, worker: { pollInterval: '20ms' } },
    });
    const run = await app.orchestrator.start('lost-reply', 0);
    await barrier.reached();
    // The commit itself waits for this lock, when all of its statements have been answered.
    await client.query(`create function orchestration.wait_at_commit() returns trigger language plpgsql as
      $$ begin perform pg_advisory_xact_lock_shared(4711); return null; end $$`);
    await client.query(`create constraint trigger wait_at_commit after update of generation on orchestration.run
      deferrable initially deferred for each row execute function orchestration.wait_at_commit()`);
    await client.query('select pg_advisory_lock(4711)');
    barrier.open();
    await until('it commits', async () => {
      const { rowCount } = await client.query(
        `select from pg_locks where locktype = 'advisory' and objid = 4711 and not granted`,
      );
      return rowCount === 1;
    });
    proxy.cutReplies();
    await client.query('select pg_advisory_unlock(4711)');
    await until('it is committed', async () => (await rowOf(run.id)).generation === 1);
    proxy.reset();
    proxy.heal();

    expect(await run.result({ timeout: '20s' })).toBe('done');
    expect(await rowOf(run.id)).toMatchObject({ generation: 1 });
    expect(log.filter((line) => line === 'generation 0')).toHaveLength(1);
    await client.query('drop trigger wait_at_commit on orchestration.run');
  });

  it('a look that finds the new epoch before the commit is answered: the run goes on here', async () => {
    const barrier = new Barrier();
    const app = await start(continuing('early-look', barrier));
    const run = await app.orchestrator.start('early-look', 0);
    await barrier.reached();
    const engine = await app.context.get<EngineHost>('EngineHost:', { strict: false }).engine();
    const worker = engine.worker!;
    const commit = engine.store.commitWithEffects.bind(engine.store);
    let looks = 0;
    engine.store.commitWithEffects = async (...write) => {
      const result = await commit(...write);
      looks++;
      await worker['regularLook'].look();
      return result;
    };
    barrier.open();

    expect(await run.result()).toBe('done');
    expect(looks).toBe(1);
  });

  it('the shutdown of its worker: another one goes on, in an endless loop as well', async () => {
    const endless = workflow('endless', async ({ ctx }, { count, limit }: { count: number; limit: number | null }) => {
      await ctx.step('count', () => bodies.push(`count ${count}`));
      await ctx.sleep(1);
      return count === limit ? 'done' : ctx.continueAsNew({ count: count + 1, limit });
    });
    const first = await start(endless);
    const { id } = await first.orchestrator.start(endless, { count: 0, limit: 200 });
    await until('it has begun', () => bodies.length > 20);
    await first.close();
    const second = await start(endless);

    expect(await second.orchestrator.result(id)).toBe('done');
    expect(bodies).toEqual(Array.from({ length: 201 }, (_, count) => `count ${count}`));
  });

  it('takeovers with progress in between, in each generation, do not poison the run', async () => {
    const barriers: Barrier[] = [];
    const holdOnce = (body: string) => () => {
      bodies.push(body);
      if (bodies.filter((one) => one === body).length > 1) return undefined;
      barriers.push(new Barrier());
      return barriers.at(-1)!.pass();
    };
    const dying = workflow('dying', async ({ ctx }, generation: number) => {
      if (generation === 0) for (const name of ['a', 'b', 'c']) await ctx.step(name, () => name);
      for (const name of ['first', 'second']) await ctx.step(name, holdOnce(`${generation} ${name}`));
      return generation === 1 ? 'done' : ctx.continueAsNew(1);
    });
    const options = { worker: { pollInterval: '20ms', maxRecoveries: 1 } } as const;
    let app = await startApp({ database, providers: [dying], options });
    const { id } = await app.orchestrator.start(dying, 0);
    for (let crashes = 1; crashes <= 4; crashes++) {
      await until('a step runs for the first time', () => barriers.length === crashes);
      await app.crash();
      app = await startApp({ database, providers: [dying], options });
    }

    expect(await app.orchestrator.result(id)).toBe('done');
    const each = ['0 first', '0 second', '1 first', '1 second'];
    expect(bodies).toEqual(each.flatMap((body) => [body, body]));
  });
});
