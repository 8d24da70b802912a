import { Body, Controller, Get, Module, Param, Post, Query, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { createServer, type Server, type Socket } from 'node:net';
import pg from 'pg';
import { DataSource, type EntityManager } from 'typeorm';

import {
  ChildOrchestrator,
  DatabaseUnavailableError,
  type ListFilter,
  OrchestrationModule,
  Orchestrator,
  OrchestrationError,
  PayloadError,
  RunConflictError,
  RunContext,
  RunNotFoundError,
  type StartOptions,
  ValidationError,
  Workflow,
  WorkflowNotRegisteredError,
} from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';

@Workflow('order')
class OrderWorkflow {
  constructor(private readonly ctx: RunContext) {}

  run(input: unknown): Promise<unknown> {
    return this.ctx.step('echo', () => input);
  }
}

@Workflow('failing')
class FailingWorkflow {
  run(): never {
    throw new Error('no luck');
  }
}

@Workflow('unregistered')
class UnregisteredWorkflow {
  run(): void {}
}

let database: TestDatabase;
let app: TestApp;
let orchestrator: Orchestrator;

beforeAll(async () => {
  database = await createTestDatabase();
  app = await startApp({ database, providers: [OrderWorkflow, FailingWorkflow] });
  orchestrator = app.orchestrator;
});

afterAll(async () => {
  await closeApps();
  await database.drop();
});

async function runCount(): Promise<number> {
  const { rows } = await withClient(database.url, (client) =>
    client.query<{ count: number }>('select count(*)::int as count from orchestration.run'),
  );
  return rows[0]!.count;
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function errorOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => 'no error',
    (error: unknown) => error,
  );
}

const boot = (connection: object, options: object = {}) =>
  startApp({ database, providers: [OrderWorkflow], options: { connection: connection as never, ...options } });

function expectUnavailable(error: unknown, address: string): void {
  expect(error).toBeInstanceOf(DatabaseUnavailableError);
  expect(error).toMatchObject({
    ...{ code: 'DATABASE_UNAVAILABLE', statusCode: 503, address: expect.stringContaining(address) as string },
  });
  expect((error as Error).message).toContain(address);
  expect(everythingOf(error)).not.toContain('s3cret');
}

/** All that a log would show of an error. */
function everythingOf(error: unknown): string {
  const links: unknown[] = [];
  for (let link = error; link instanceof Error; link = link.cause) {
    links.push(link.message, link.stack, Object.fromEntries(Object.entries(link)));
  }
  return JSON.stringify(links);
}

const insertOrder = (manager: EntityManager, id: string) => manager.query('insert into shop_order values ($1)', [id]);

describe('An unknown workflow', () => {
  it('is an error that names it and the near miss, and starts nothing', async () => {
    const before = await runCount();

    const error = await errorOf(orchestrator.start('ordr', {}));

    expect(error).toBeInstanceOf(WorkflowNotRegisteredError);
    expect(error).toMatchObject({
      code: 'WORKFLOW_NOT_REGISTERED',
      workflow: 'ordr',
      nearest: 'order',
      statusCode: 404,
    });
    expect((error as Error).message).toContain("Did you mean 'order'?");
    expect(await runCount()).toBe(before);
  });

  it('is one whose class is in no module as well', async () => {
    await expect(orchestrator.start(UnregisteredWorkflow, undefined as never)).rejects.toMatchObject({
      code: 'WORKFLOW_NOT_REGISTERED',
      workflow: 'UnregisteredWorkflow',
    });
    await expect(orchestrator.startMany('nothing-like-it', [{ input: 1 }])).rejects.toMatchObject({
      code: 'WORKFLOW_NOT_REGISTERED',
      nearest: undefined,
      message: expect.not.stringContaining('Did you mean') as unknown,
    });
    await expect(orchestrator.execute('nothing-like-it', 1)).rejects.toThrow(WorkflowNotRegisteredError);
  });

  it.each([undefined, null, 5, {}, ''])('is not %j, which is no workflow at all', async (nothing) => {
    await expect(orchestrator.start(nothing as never, {})).rejects.toMatchObject({
      code: 'VALIDATION',
      message: expect.stringMatching(/^The workflow: it is given as its class or its name, not /) as unknown,
    });
  });

  it('fails the run that calls it, which can catch it', async () => {
    @Workflow('caller')
    class CallerWorkflow {
      constructor(private readonly children: ChildOrchestrator) {}
      async run(): Promise<string> {
        return this.children.call<string>('ordr', {}).catch((error: unknown) => (error as OrchestrationError).code);
      }
    }
    const caller = await startApp({ database, providers: [CallerWorkflow], options: { schema: 'caller' } });

    expect(await caller.orchestrator.execute(CallerWorkflow, undefined as never)).toBe('WORKFLOW_NOT_REGISTERED');
  });

  it('by name is the highest version that this process or a live worker registers', async () => {
    @Workflow({ name: 'versioned', version: 1 })
    class FirstVersion {
      run(): number {
        return 1;
      }
    }
    @Workflow({ name: 'versioned', version: 2 })
    class SecondVersion {
      run(): number {
        return 2;
      }
    }
    const options = { schema: 'versions' };
    const older = await startApp({ database, providers: [FirstVersion], options });
    await startApp({ database, providers: [SecondVersion], options });

    expect(await older.orchestrator.execute('versioned', null)).toBe(2);
    expect(await older.orchestrator.execute(FirstVersion, undefined as never)).toBe(1);
  });
});

describe('Input that cannot be stored', () => {
  const cycle: Record<string, unknown> = { name: 'a' };
  cycle['self'] = cycle;

  it.each([
    ['a function', { lines: [{ price: () => 1 }] }, 'value.lines[0].price', /a function \(price\)/],
    ['a symbol', { mark: Symbol('x') }, 'value.mark', /a symbol/],
    ['a cycle', cycle, 'value.self', /a cycle/],
    ['a promise', { total: Promise.resolve(1) }, 'value.total', /an await is missing/],
    ['3 MiB', { text: 'x'.repeat(3 * 1024 * 1024) }, 'value.text', /3145\d+ bytes.*2097152/],
  ])('is a PayloadError that names the path: %s', async (_what, input, path, message) => {
    const before = await runCount();

    const error = await errorOf(orchestrator.start(OrderWorkflow, input));

    expect(error).toBeInstanceOf(PayloadError);
    expect(error).toMatchObject({ path, statusCode: 422, message: expect.stringMatching(message) as string });
    expect(await runCount()).toBe(before);
  });

  it('in one of many starts fails them all before anything is written, and the next start works', async () => {
    const before = await runCount();

    await expect(
      orchestrator.startMany(OrderWorkflow, [
        { input: 1, key: 'many-1' },
        { input: () => 2, key: 'many-2' },
      ]),
    ).rejects.toThrow(PayloadError);

    expect(await runCount()).toBe(before);
    expect(await orchestrator.execute(OrderWorkflow, 3)).toBe(3);
  });
});

describe('A key that is taken', () => {
  it('gives the same run for the same input, compared by structure, whatever its status', async () => {
    const first = await orchestrator.start(OrderWorkflow, { a: 1, b: [new Date(0)] }, { key: 'same' });
    await first.result();

    const second = await orchestrator.start(OrderWorkflow, { b: [new Date(0)], a: 1 }, { key: 'same' });

    expect(second).toMatchObject({ id: first.id, started: false });
    expect(await second.result()).toEqual({ a: 1, b: [new Date(0)] });
  });

  it('is a RunConflictError (409) for another input, names the run, and leaves it as it is', async () => {
    const first = await orchestrator.start(OrderWorkflow, { total: 1 }, { key: 'conflict' });

    const error = await errorOf(orchestrator.start(OrderWorkflow, { total: 2 }, { key: 'conflict' }));

    expect(error).toBeInstanceOf(RunConflictError);
    expect(error).toMatchObject({ key: 'conflict', runId: first.id, workflow: 'order', statusCode: 409 });
    expect(await first.result()).toEqual({ total: 1 });
  });

  it("is an error even for the same input with onConflict: 'reject'", async () => {
    await orchestrator.start(OrderWorkflow, 1, { key: 'reject' });

    await expect(orchestrator.start(OrderWorkflow, 1, { key: 'reject', onConflict: 'reject' })).rejects.toMatchObject({
      code: 'RUN_CONFLICT',
      message: expect.stringContaining("onConflict is 'reject'") as string,
    });
  });

  it('at the same moment in two processes is one run, and whoever comes with another input gets the conflict (scenario 2)', async () => {
    const other = await startApp({ database, providers: [OrderWorkflow] });
    const starts = (input: number) =>
      [orchestrator, other.orchestrator].flatMap((each) =>
        Array.from({ length: 5 }, () => each.start(OrderWorkflow, input, { key: 'race' })),
      );

    const settled = await Promise.allSettled([...starts(1), ...starts(2)]);

    const handles = settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const errors = settled.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
    expect(handles).toHaveLength(10);
    expect(new Set(handles.map(({ id }) => id)).size).toBe(1);
    expect(handles.filter(({ started }) => started)).toHaveLength(1);
    expect(errors.every((error) => error instanceof RunConflictError)).toBe(true);
    const outputs = await Promise.all(handles.map((handle) => handle.result()));
    expect(new Set(outputs).size).toBe(1);
    await other.close();
  });

  it('serves each workflow name of its own', async () => {
    const order = await orchestrator.start(OrderWorkflow, 1, { key: 'per-name' });
    const failing = await orchestrator.start(FailingWorkflow, undefined as never, { key: 'per-name' });

    expect(failing.started).toBe(true);
    expect(failing.id).not.toBe(order.id);
  });

  it('among many starts conflicts for its own start only once all others are made', async () => {
    await orchestrator.start(OrderWorkflow, 1, { key: 'batch-2' });

    const error = await errorOf(
      orchestrator.startMany(OrderWorkflow, [
        { input: 1, key: 'batch-1' },
        { input: 2, key: 'batch-2' },
      ]),
    );

    expect(error).toMatchObject({ code: 'RUN_CONFLICT', key: 'batch-2' });
    expect(await orchestrator.findByKey(OrderWorkflow, 'batch-1')).toMatchObject({ input: 1 });
  });
});

describe('A wrong option', () => {
  it.each<[string, StartOptions, string]>([
    ['unknown', { prority: 1 } as StartOptions, "unknown option 'prority'"],
    ['an empty key', { key: '' }, 'key must be a text'],
    ['a key that is no text', { key: 7 as never }, 'key must be a text'],
    ['a priority that is no whole number', { priority: 0.5 }, 'priority must be a whole number'],
    ['a priority that the database cannot hold', { priority: 2 ** 31 }, 'priority must be a whole number'],
    ['a bad delay', { delay: 'soon' as never }, "delay 'soon' is no duration"],
    ['a bad timeout', { timeout: '1 hour' as never }, "timeout '1 hour' is no duration"],
    ['an invalid date', { startAt: new Date('never') }, 'startAt must be a valid Date'],
    ['a delay and a date', { delay: '1s', startAt: new Date() }, 'give delay or startAt, not both'],
    ['nested attributes', { attributes: { city: { name: 'Oslo' } as never } }, 'attributes .city must be'],
    ['an infinite attribute', { attributes: { total: Infinity } }, 'attributes .total must be'],
    ['a wrong onConflict', { onConflict: 'ignore' as never }, 'onConflict must be one of existing, reject'],
    ['a wrong queue', { queue: '' }, 'queue must be a text'],
  ])('of start is refused before anything is written: %s', async (_what, options, message) => {
    const before = await runCount();

    const error = await errorOf(orchestrator.start(OrderWorkflow, 1, options));

    expect(error).toBeInstanceOf(ValidationError);
    expect((error as ValidationError).message).toContain(message);
    expect(await runCount()).toBe(before);
  });

  it('is reported together with the others, as issues', async () => {
    const error = await errorOf(orchestrator.start(OrderWorkflow, 1, { key: '', priority: 0.5, tenant: '' }));

    expect((error as ValidationError).issues.map(({ path }) => path)).toEqual([['key'], ['priority'], ['tenant']]);
  });

  it('of startMany is one that start has and it has not: nothing is accepted and ignored', async () => {
    const starts = [{ input: 1, manager: {} }] as never;

    await expect(orchestrator.startMany(OrderWorkflow, starts)).rejects.toThrow(/unknown option 'manager'/);
  });

  it.each<[string, (id: string) => Promise<unknown>, string]>([
    [
      'cancel',
      (id) => orchestrator.cancel(id, { mode: 'force' as never }),
      'mode must be one of graceful, terminate, not "force"',
    ],
    [
      'cancel',
      (id) => orchestrator.cancel(id, { reasn: 'x' } as never),
      "unknown option 'reasn' (known: reason, mode)",
    ],
    ['result', (id) => orchestrator.result(id, { timeout: 'soon' as never }), "timeout 'soon' is no duration"],
    [
      'result',
      (id) => orchestrator.result(id, { timeuot: 1 } as never),
      "unknown option 'timeuot' (known: timeout, timeoutValue)",
    ],
    [
      'inputs.provide',
      (id) => orchestrator.inputs.provide(id, 'a', 1, { timeout: 'soon' as never }),
      "timeout 'soon' is no",
    ],
  ])('of %s is refused: it changes nothing', async (_member, ask, message) => {
    const run = await orchestrator.start(OrderWorkflow, 1, { delay: '1h' });

    const error = await errorOf(ask(run.id));

    expect(error).toBeInstanceOf(ValidationError);
    expect((error as ValidationError).message).toContain(message);
    expect(await run.status()).toBe('pending');
  });

  it.each<[string, ListFilter, string]>([
    ['an over-large limit', { limit: 1001 }, 'limit must be 1 to 1000, not 1001'],
    ['no limit at all', { limit: 0 }, 'limit must be 1 to 1000, not 0'],
    ['half a limit', { limit: 1.5 }, 'limit must be 1 to 1000, not 1.5'],
    ['a status that there is not', { status: 'done' as never }, "status 'done' is none of pending, running"],
    ['no status at all', { status: [] }, "status '' is none of pending"],
    ['a cursor that is none', { cursor: 'next' }, "cursor 'next' is no id"],
    ['a parent that is no id', { parentId: '1; drop table run' }, "parentId '1; drop table run' is no id"],
    ['an unknown field', { states: ['failed'] } as ListFilter, 'states is unknown (known: workflow, version, status'],
    ['a date that is none', { createdAfter: new Date('never') }, 'createdAfter must be a valid Date'],
    ['nested attributes', { attributes: { a: [1] as never } }, 'attributes .a must be'],
  ])('of list is refused, never cut: %s', async (_what, filter, message) => {
    const error = await errorOf(orchestrator.list(filter));

    expect(error).toBeInstanceOf(ValidationError);
    expect((error as Error).message).toContain(message);
  });

  it('of listChildren and a handle is refused too', async () => {
    const run = await orchestrator.start(OrderWorkflow, 1);

    await expect(orchestrator.listChildren(run.id, { limit: 5000 })).rejects.toThrow(ValidationError);
    await expect(run.children({ status: 'gone' as never })).rejects.toThrow(ValidationError);
    await expect(run.result({ timeout: 'long' as never })).rejects.toThrow(/'long' is no duration/);
  });
});

describe('A run id that there is not', () => {
  const unknown = '01900000-0000-7000-8000-000000000000';

  it.each([unknown, 'not-an-id', '', "'; drop table run; --"])('is a RunNotFoundError everywhere: %j', async (id) => {
    const notFound = { code: 'RUN_NOT_FOUND', runId: id, statusCode: 404 };

    await expect(orchestrator.get(id)).rejects.toMatchObject(notFound);
    await expect(orchestrator.tree(id)).rejects.toMatchObject(notFound);
    await expect(orchestrator.cancel(id)).rejects.toMatchObject(notFound);
    await expect(orchestrator.retry(id)).rejects.toMatchObject(notFound);
    await expect(orchestrator.result(id)).rejects.toMatchObject(notFound);
  });

  it('is undefined for a key', async () => {
    expect(await orchestrator.findByKey(OrderWorkflow, 'never used')).toBeUndefined();
  });

  it('does not disturb those who wait for other results at the same time', async () => {
    const run = await orchestrator.start(OrderWorkflow, 'fine', { delay: 300 });

    const results = await Promise.allSettled([
      orchestrator.result('nonsense'),
      orchestrator.result(unknown),
      run.result(),
    ]);

    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled']);
  });
});

describe('A start within the caller’s transaction', () => {
  let shop: DataSource;

  beforeAll(async () => {
    shop = await new DataSource({ ...database.connection, poolSize: 5 }).initialize();
    await shop.query('create table shop_order (id text primary key)');
  });

  afterAll(() => shop.destroy());

  const ordersOf = async (id: string) =>
    (await shop.query<unknown[]>('select from shop_order where id = $1', [id])).length;

  it('commits with the caller’s writes, and is visible only then (scenario 25)', async () => {
    const handle = await shop.transaction(async (manager) => {
      await insertOrder(manager, 'committed');
      const run = await orchestrator.start(OrderWorkflow, 'c', { manager, key: 'committed' });
      await expect(run.status()).rejects.toThrow(RunNotFoundError);
      expect(await orchestrator.findByKey(OrderWorkflow, 'committed')).toBeUndefined();
      return run;
    });

    expect(handle.started).toBe(true);
    expect(await handle.result()).toBe('c');
    expect(await ordersOf('committed')).toBe(1);
  });

  it('rolls back with them and leaves no trace (scenario 25)', async () => {
    const before = await runCount();
    let id = '';

    await expect(
      shop.transaction(async (manager) => {
        await insertOrder(manager, 'rolled back');
        id = (await orchestrator.start(OrderWorkflow, 'r', { manager, key: 'rolled back' })).id;
        throw new Error('no stock');
      }),
    ).rejects.toThrow('no stock');

    expect(await runCount()).toBe(before);
    expect(await ordersOf('rolled back')).toBe(0);
    await expect(orchestrator.get(id)).rejects.toThrow(RunNotFoundError);
    expect(await orchestrator.execute(OrderWorkflow, 'again', { key: 'rolled back' })).toBe('again');
  });

  it('may commit later: a result that is asked for before waits (scenario 25)', async () => {
    const queryRunner = shop.createQueryRunner();
    await queryRunner.startTransaction();
    const run = await orchestrator.start(OrderWorkflow, 'late', { manager: queryRunner.manager });
    const result = run.result();
    const early = await Promise.race([result, errorOf(run.result({ timeout: 1200 }))]);

    await queryRunner.commitTransaction();
    await queryRunner.release();

    expect(early).toMatchObject({ code: 'RESULT_TIMEOUT' });
    expect(await result).toBe('late');
  });

  it('waits for another transaction that holds the key, and then finds its run or takes the key', async () => {
    const [winner, loser] = [shop.createQueryRunner(), shop.createQueryRunner()];
    for (const outcome of ['commit', 'rollback'] as const) {
      const key = `held until ${outcome}`;
      await winner.startTransaction();
      await loser.startTransaction();
      const first = await orchestrator.start(OrderWorkflow, 1, { manager: winner.manager, key });
      const waiting = orchestrator.start(OrderWorkflow, 1, { manager: loser.manager, key });
      await until('the second start waits for the first', () => waitsForLock());

      await (outcome === 'commit' ? winner.commitTransaction() : winner.rollbackTransaction());
      const second = await waiting;
      await loser.commitTransaction();

      expect(second.started).toBe(outcome === 'rollback');
      expect(second.id === first.id).toBe(outcome === 'commit');
      expect(await second.result()).toBe(1);
    }
    await Promise.all([winner.release(), loser.release()]);
  });

  it('that holds a key for long does not hold up starts with other keys in a process that asks for that key', async () => {
    const holder = shop.createQueryRunner();
    await holder.startTransaction();
    const held = await orchestrator.start(OrderWorkflow, 'held', { manager: holder.manager, key: 'held' });
    const waiting = orchestrator.start(OrderWorkflow, 'held', { key: 'held' });
    const together = orchestrator.execute(OrderWorkflow, 'together', { key: 'in the same batch' });
    await until('the start waits for the transaction', () => waitsForLock());

    const others = await Promise.all([
      together,
      orchestrator.execute(OrderWorkflow, 'later', { key: 'later' }),
      orchestrator.execute(OrderWorkflow, 'no key'),
    ]);

    expect(others).toEqual(['together', 'later', 'no key']);
    await holder.commitTransaction();
    await holder.release();
    expect(await waiting).toMatchObject({ id: held.id, started: false });
  });

  it('leaves the transaction usable after a conflict', async () => {
    await orchestrator.start(OrderWorkflow, 1, { key: 'in use' });

    await shop.transaction(async (manager) => {
      await expect(orchestrator.start(OrderWorkflow, 2, { manager, key: 'in use' })).rejects.toThrow(RunConflictError);
      await insertOrder(manager, 'after a conflict');
    });

    expect(await ordersOf('after a conflict')).toBe(1);
  });

  it.each([
    ['outside a transaction', () => shop.manager, /EntityManager of an open transaction/],
    ['that is none', () => ({}), /EntityManager of an open transaction/],
    ['that is null', () => null as never, /EntityManager of an open transaction/],
  ])('is refused with a manager %s', async (_what, manager, message) => {
    const before = await runCount();

    await expect(orchestrator.start(OrderWorkflow, 1, { manager: manager() })).rejects.toThrow(message);

    expect(await runCount()).toBe(before);
  });

  it.each(['REPEATABLE READ', 'SERIALIZABLE'] as const)('is refused in %s, with the reason', async (level) => {
    const refused = shop.transaction(level, (manager) => orchestrator.start(OrderWorkflow, 1, { manager }));

    await expect(refused).rejects.toThrow(ValidationError);
    await expect(refused).rejects.toThrow(new RegExp(`${level.toLowerCase()}, and READ COMMITTED is required: .*key`));
  });

  it('is refused with a manager of a database that is not the engine’s', async () => {
    const elsewhere = await new DataSource({ ...database.connection, database: 'postgres' }).initialize();

    const error = await errorOf(elsewhere.transaction((manager) => orchestrator.start(OrderWorkflow, 1, { manager })));

    expect(error).toBeInstanceOf(ValidationError);
    expect((error as Error).message).toMatch(/not the database/);
    await elsewhere.destroy();
  });

  async function waitsForLock(): Promise<boolean> {
    const rows = await shop.query<unknown[]>(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    return rows.length > 0;
  }
});

describe('A database', () => {
  it('that is not there fails the boot at once, with its address and without a password', async () => {
    const at = performance.now();

    const error = await errorOf(boot({ type: 'postgres', url: 'postgres://shop:s3cret@127.0.0.1:1/orders' }));

    expect(performance.now() - at).toBeLessThan(3_000);
    expectUnavailable(error, '127.0.0.1:1/orders');
  });

  it('that never answers fails the boot within seconds', async () => {
    const silent = await listenSilently();
    const { port } = silent.server.address() as { port: number };
    const at = performance.now();

    const error = await errorOf(
      boot({ type: 'postgres', host: '127.0.0.1', port, username: 'shop', password: 's3cret', database: 'orders' }),
    );

    expect(performance.now() - at).toBeLessThan(10_000);
    expectUnavailable(error, `127.0.0.1:${port}/orders`);
    silent.close();
  });

  it('whose name, user or password is wrong fails the boot with what PostgreSQL says', async () => {
    const noDatabase = await errorOf(boot({ ...database.connection, database: 'no_such_database' }));
    const noUser = await errorOf(boot({ ...database.connection, username: 'no_such_user', password: 's3cret' }));

    expectUnavailable(noDatabase, '/no_such_database');
    expect((noDatabase as Error).message).toContain('database "no_such_database" does not exist');
    expectUnavailable(noUser, database.connection.database);
    expect((noUser as Error).message).toContain('no_such_user');
  });

  it('whose address cannot be read fails the boot, and the password is not shown', async () => {
    const error = await errorOf(boot({ type: 'postgres', url: 'postgres://shop:s3c%ret@:x/orders' }));

    expect(error).toBeInstanceOf(DatabaseUnavailableError);
    expect(everythingOf(error)).not.toContain('s3c%ret');
  });

  it('whose url is missing from the environment fails the boot with that hint', async () => {
    const forgotten = { url: undefined, username: 'no_such_user', database: 'no_such_database' };

    const error = await errorOf(boot({ type: 'postgres', ...forgotten }));

    expectUnavailable(error, '/no_such_database');
    expect((error as Error).message).toContain('url is undefined');
  });

  describe('without rights', () => {
    const role = `limited_${process.pid}_${Date.now().toString(36)}`;
    const limited = () => ({ ...database.connection, username: role, password: 's3cret' });

    beforeAll(() =>
      withClient(database.url, async (client) => {
        await client.query(`create role ${role} login password 's3cret'`);
        await client.query(`grant connect on database ${database.name} to ${role}`);
      }),
    );

    afterAll(() =>
      withClient(database.url, async (client) => {
        await client.query(`drop owned by ${role}`);
        await client.query(`drop role ${role}`);
      }),
    );

    it('to create a schema fails the boot and says which to grant', async () => {
      const error = await errorOf(boot(limited(), { schema: 'forbidden' }));

      expectUnavailable(error, database.name);
      expect((error as Error).message).toMatch(/permission denied for database .*CREATE.*"forbidden".*migrate: false/s);
    });

    it('to see or use the tables of another user fails the boot as well', async () => {
      const unseen = await errorOf(boot(limited()));
      await withClient(database.url, async (client) => {
        await client.query(`grant usage on schema orchestration to ${role}`);
        await client.query(`grant select on orchestration.migrations to ${role}`);
      });
      const unusable = await errorOf(boot(limited()));

      expectUnavailable(unseen, database.name);
      expect((unseen as Error).message).toMatch(/permission denied for schema.*USAGE/s);
      expectUnavailable(unusable, database.name);
      expect((unusable as Error).message).toMatch(/permission denied for table.*SELECT, INSERT, UPDATE, DELETE/s);
    });

    it('to create, but granted those that the advice names, is enough with a schema that is migrated', async () => {
      await withClient(database.url, async (client) => {
        await client.query(`grant usage on schema orchestration to ${role}`);
        await client.query(`grant select, insert, update, delete on all tables in schema orchestration to ${role}`);
      });

      const restricted = await boot(limited(), { migrate: false });

      expect(await restricted.orchestrator.execute(OrderWorkflow, 'allowed')).toBe('allowed');
      await restricted.close();
    });
  });
});

async function listenSilently(): Promise<{ server: Server; close(): void }> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket));
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  return { server, close: () => (sockets.forEach((socket) => socket.destroy()), server.close()) };
}

describe('An error that a controller lets through', () => {
  @Controller('runs')
  class RunsController {
    constructor(private readonly runs: Orchestrator) {}

    @Post(':workflow')
    async start(
      @Param('workflow') workflow: string,
      @Body() { input, key, priority }: { input: unknown; key?: string; priority?: number },
    ) {
      const poisoned = input === 'function' ? () => 1 : input;
      return { id: (await this.runs.start(workflow, poisoned, { key, priority })).id };
    }

    @Get()
    list(@Query('limit') limit: string) {
      return this.runs.list({ limit: Number(limit) });
    }

    @Get(':id')
    get(@Param('id') id: string) {
      return this.runs.get(id);
    }

    @Post(':id/retry')
    retry(@Param('id') id: string) {
      return this.runs.retry(id);
    }

    @Get(':id/result')
    result(@Param('id') id: string, @Query('timeout') timeout: string) {
      return this.runs.result(id, { timeout: Number(timeout) });
    }
  }

  const appModule = (): Type => {
    @Module({
      imports: [OrchestrationModule.forRoot({ connection: database.connection })],
      controllers: [RunsController],
      providers: [OrderWorkflow, FailingWorkflow],
    })
    class AppModule {}
    return AppModule;
  };

  it.each([
    ['Express', () => NestFactory.create(appModule(), { logger: false, abortOnError: false })],
    ['Fastify', () => NestFactory.create(appModule(), new FastifyAdapter(), { logger: false, abortOnError: false })],
  ])('has its HTTP status in the default filter of %s', async (platform, create) => {
    const server = await create();
    await server.listen(0, '127.0.0.1');
    const base = `${await server.getUrl()}/runs`;
    const ask = async (path: string, body?: object) => {
      const headers = { 'content-type': 'application/json' };
      const request = body ? { method: 'POST', headers, body: JSON.stringify(body) } : {};
      const response = await fetch(base + path, request);
      const { message, id } = (await response.json()) as { message?: string; id?: string };
      return { status: response.status, message, id };
    };

    const key = `http-${platform}`;
    const { id } = await ask('/order', { input: 1, key });
    await ask(`/${id}/result?timeout=5000`);
    const failing = await ask('/failing', { input: 1 });
    const delayed = await orchestrator.start(OrderWorkflow, 1, { delay: '1h' });

    expect(await ask('/ordr', { input: 1 })).toMatchObject({
      status: 404,
      message: expect.stringContaining("'order'") as string,
    });
    expect(await ask('/order', { input: 2, key })).toMatchObject({
      status: 409,
      message: expect.stringContaining(key) as string,
    });
    expect(await ask('/order', { input: 'function' })).toMatchObject({ status: 422 });
    expect(await ask('/order', { input: 2, priority: 0.5 })).toMatchObject({
      status: 400,
      message: expect.stringContaining('priority') as string,
    });
    expect(await ask('?limit=100000')).toMatchObject({
      status: 400,
      message: expect.stringContaining('1000') as string,
    });
    expect(await ask('/nothing')).toMatchObject({
      status: 404,
      message: expect.stringContaining("'nothing'") as string,
    });
    expect(await ask(`/${id}/retry`, {})).toMatchObject({
      status: 409,
      message: expect.stringContaining('completed') as string,
    });
    expect(await ask(`/${delayed.id}/result?timeout=1`)).toMatchObject({ status: 504 });
    expect(await ask(`/${failing.id}/result?timeout=5000`)).toMatchObject({
      status: 500,
      message: 'Internal server error',
    });
    await delayed.cancel();
    await server.close();
  });
});
