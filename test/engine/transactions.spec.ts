import { once } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { Injectable } from '@nestjs/common';
import pg from 'pg';
import {
  Column,
  DataSource,
  Entity,
  type EntitySubscriberInterface,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  type TransactionCommitEvent,
} from 'typeorm';

import {
  causedBy,
  ChildOrchestrator,
  NonRetryableError,
  RunContext,
  Step,
  type StepOptions,
  Workflow,
} from '../../lib/index.js';
import { closeApps, startApp, type TestApp, untilDraining, workerOf } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { ChaosProxy } from '../support/chaos-proxy.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

@Entity()
class Account {
  @PrimaryColumn('text')
  id!: string;

  @Column('int')
  balance!: number;
}

/** What a body writes, however often: nothing but the transaction keeps it from being there twice. */
@Entity()
class Entry {
  @PrimaryGeneratedColumn()
  no!: number;

  @Column('text')
  what!: string;
}

let database: TestDatabase;
let sql: pg.Client;
const dataSources: DataSource[] = [];
const proxies: ChaosProxy[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  sql = new pg.Client({ connectionString: database.url });
  await sql.connect();
  await sql.query(`create table account (id text primary key, balance int not null);
    create table entry (no serial primary key, what text not null);
    create table once (what text unique deferrable initially deferred)`);
});
beforeEach(() => sql.query(`truncate account, entry, once; insert into account values ('a', 100), ('b', 100)`));
afterEach(async () => {
  await HeldRows.releaseAll();
  await closeApps();
  for (const dataSource of dataSources.splice(0)) await dataSource.destroy();
  for (const proxy of proxies.splice(0)) proxy.close();
});
afterAll(async () => {
  await sql.end();
  await database.drop();
});

type DataSourceSetup = Partial<Extract<ConstructorParameters<typeof DataSource>[0], { type: 'postgres' }>>;

let dataSourceNo = 0;
async function openDataSource(options: DataSourceSetup = {}): Promise<DataSource> {
  const dataSource = new DataSource({
    ...database.connection,
    applicationName: `shop-${process.pid}-${++dataSourceNo}`,
    entities: [Account, Entry],
    poolErrorHandler: () => {},
    ...options,
  });
  await dataSource.initialize();
  dataSources.push(dataSource);
  return dataSource;
}

interface Setup {
  providers: NonNullable<Parameters<typeof startApp>[0]['providers']>;
  dataSource?: DataSourceSetup;
  worker?: object;
}

async function start({ providers, dataSource, worker }: Setup): Promise<TestApp> {
  return startApp({
    database,
    providers,
    options: { dataSource: await openDataSource(dataSource), ...(worker && { worker }) },
  });
}

const AT_ONCE = { initialInterval: 0, jitter: 0 } as const;
const TRANSACTIONAL = { transactional: true } as const satisfies StepOptions;

async function entries(): Promise<string[]> {
  const { rows } = await sql.query<{ what: string }>('select what from entry order by no');
  return rows.map(({ what }) => what);
}

/** Lets a test stand at the commit of a transaction, before it is sent or after its reply. */
class AtCommit implements EntitySubscriberInterface {
  before: (() => unknown) | undefined;
  after: (() => unknown) | undefined;

  async beforeTransactionCommit(_event: TransactionCommitEvent): Promise<void> {
    await this.before?.();
  }

  async afterTransactionCommit(_event: TransactionCommitEvent): Promise<void> {
    await this.after?.();
  }
}

async function startAtCommit(setup: Setup): Promise<{ app: TestApp; atCommit: AtCommit }> {
  const dataSource = await openDataSource(setup.dataSource);
  const atCommit = new AtCommit();
  dataSource.subscribers.push(atCommit);
  const app = await startApp({ database, providers: setup.providers, options: { dataSource } });
  return { app, atCommit };
}

describe('A transactional step', () => {
  it('23. commits what its body wrote together with its outcome', async () => {
    @Injectable()
    class Accounts {
      constructor(private readonly ctx: RunContext) {}

      @Step({ transactional: true })
      async withdraw(id: string, amount: number): Promise<number> {
        const account = await this.ctx.manager.findOneByOrFail(Account, { id });
        account.balance -= amount;
        await this.ctx.manager.save(account);
        return account.balance;
      }
    }
    @Workflow('withdrawal')
    class WithdrawalWorkflow {
      constructor(private readonly accounts: Accounts) {}

      run(amount: number): Promise<number> {
        return this.accounts.withdraw('a', amount);
      }
    }
    const { orchestrator } = await start({ providers: [Accounts, WithdrawalWorkflow] });

    const run = await orchestrator.start(WithdrawalWorkflow, 30);

    await expect(run.result()).resolves.toBe(70);
    const { rows } = await sql.query(
      `select a.balance, h.output, h.status, a.xmin = h.xmin as is_one_transaction
       from account a, orchestration.history h where a.id = 'a' and h.run_id = $1`,
      [run.id],
    );
    expect(rows).toEqual([{ balance: 70, output: '70', status: 'completed', is_one_transaction: true }]);
  });

  it('23. keeps neither when its body throws: nothing of it is there, and the next attempt begins anew', async () => {
    const Failing = workflow('failing', ({ ctx }) =>
      ctx.step(
        'write',
        async ({ attempt }) => {
          await ctx.manager.insert(Entry, { what: `attempt ${attempt}` });
          if (attempt === 1) throw new Error('not yet');
          return attempt;
        },
        { transactional: true, retry: AT_ONCE },
      ),
    );
    const { orchestrator } = await start({ providers: [Failing] });

    const run = await orchestrator.start(Failing, undefined);

    await expect(run.result()).resolves.toBe(2);
    expect(await entries()).toEqual(['attempt 2']);
    await expect(orchestrator.history(run.id)).resolves.toMatchObject([{ status: 'completed', attempts: 2 }]);
  });

  it('23. that gives up leaves its error, and no write', async () => {
    const Failing = workflow('giving-up', ({ ctx }) =>
      ctx.step(
        'write',
        async () => {
          await ctx.manager.insert(Entry, { what: 'never' });
          throw new NonRetryableError('no');
        },
        TRANSACTIONAL,
      ),
    );
    const Unstorable = workflow('unstorable', ({ ctx }) =>
      ctx.step(
        'write',
        () => ctx.manager.insert(Entry, { what: 'never' }).then(() => () => 'a function'),
        TRANSACTIONAL,
      ),
    );
    const { orchestrator } = await start({ providers: [Failing, Unstorable] });

    await expect(orchestrator.execute(Failing, undefined)).rejects.toMatchObject({ cause: { code: 'STEP_FAILED' } });
    const error = await orchestrator.execute(Unstorable, undefined).catch((caught: unknown) => caught);

    expect(causedBy(error, 'PAYLOAD')).toBe(true);
    expect(await entries()).toEqual([]);
  });

  it('24. whose process dies after the commit and before it hears of it has its result, and its row once', async () => {
    const bodies: string[] = [];
    const Work = workflow('dies-after', ({ ctx }) =>
      ctx.step(
        'write',
        async () => {
          bodies.push('ran');
          await ctx.manager.insert(Entry, { what: 'once' });
          return 'result';
        },
        TRANSACTIONAL,
      ),
    );
    const { app, atCommit } = await startAtCommit({ providers: [Work] });
    const committed = new Barrier();
    atCommit.after = () => committed.pass();
    const { id } = await app.orchestrator.start(Work, undefined);
    await committed.reached();

    await app.crash();
    const other = await start({ providers: [Work] });

    await expect(other.orchestrator.result(id)).resolves.toBe('result');
    expect(await entries()).toEqual(['once']);
    expect(bodies).toEqual(['ran']);
  });

  it('24. whose process dies before the commit runs again, and has its row once', async () => {
    const Work = workflow('dies-before', ({ ctx }) =>
      ctx.step(
        'write',
        ({ attempt }) => ctx.manager.insert(Entry, { what: 'once' }).then(() => attempt),
        TRANSACTIONAL,
      ),
    );
    const { app, atCommit } = await startAtCommit({ providers: [Work] });
    const recorded = new Barrier();
    atCommit.before = () => recorded.pass();
    const { id } = await app.orchestrator.start(Work, undefined);
    await recorded.reached();

    await app.crash();
    const other = await start({ providers: [Work] });

    await expect(other.orchestrator.result(id)).resolves.toBe(1);
    expect(await entries()).toEqual(['once']);
  });

  it('is one whose outcome waits until what the run did before is durable', async () => {
    const gates = { plain: new Barrier(), wrote: new Barrier() };
    const inTheWay = [new Barrier(), new Barrier()];
    const Other = workflow('in-the-way', ({ ctx }, no: number) => ctx.step('other', () => inTheWay[no]!.pass()));
    const Work = workflow('in-order', ({ ctx }) =>
      Promise.all([
        ctx.step('plain', () => gates.plain.pass().then(() => 'plain')),
        ctx.step(
          'write',
          async () => {
            await ctx.manager.insert(Entry, { what: 'once' });
            await gates.wrote.pass();
            return 'written';
          },
          TRANSACTIONAL,
        ),
      ]),
    );
    const app = await start({ providers: [Work, Other] });
    const { id } = await app.orchestrator.start(Work, undefined);
    const others = await app.orchestrator.startMany(Other, [{ input: 0 }, { input: 1 }]);
    await Promise.all([...Object.values(gates), ...inTheWay].map((gate) => gate.reached()));
    const held = await HeldRows.hold(database, ...others.map((other) => other.id));
    // What the others write is under way, as much as may be, and what this run writes next waits behind it in the process.
    for (const [no, gate] of inTheWay.entries()) {
      gate.open();
      await held.untilWaiting(no + 1);
    }
    gates.plain.open();
    gates.wrote.open();
    await untilSettled();
    await expect(app.orchestrator.history(id)).resolves.toEqual([]);

    await app.crash();
    await held.release();
    const next = await start({ providers: [Work, Other] });

    await expect(next.orchestrator.result(id)).resolves.toEqual(['plain', 'written']);
    expect(await entries()).toEqual(['once']);
  });

  /** Nothing is on its way to the database, but for what waits for a lock there. */
  async function untilSettled(): Promise<void> {
    for (let turn = 0; turn < 20; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      await sql.query('select 1');
    }
  }

  it('that timed out is rolled back at once, also when it waits for a lock', async () => {
    const Work = workflow('timing-out', ({ ctx }) =>
      ctx.step(
        'write',
        async ({ attempt }) => {
          await ctx.manager.insert(Entry, { what: `attempt ${attempt}` });
          if (attempt === 1) await ctx.manager.increment(Account, { id: 'a' }, 'balance', 1);
          return attempt;
        },
        { transactional: true, timeout: 300, retry: AT_ONCE },
      ),
    );
    const { orchestrator } = await start({ providers: [Work] });
    await sql.query(`begin; select from account where id = 'a' for update`);

    await expect(orchestrator.execute(Work, undefined)).resolves.toBe(2);

    await until('nobody waits for the row', async () => {
      const { rowCount } = await sql.query(
        `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      );
      return rowCount === 0;
    });
    await sql.query('commit');
    expect(await entries()).toEqual(['attempt 2']);
  });

  it('24. that timed out writes nothing any more, although its body goes on while it is rolled back', async () => {
    const late: unknown[] = [];
    const Work = workflow('late-writes', ({ ctx }) =>
      ctx.step(
        'write',
        async ({ attempt, signal }) => {
          if (attempt === 2) return;
          const { manager } = ctx;
          await once(signal, 'abort');
          for (let no = 0; no < 20; no++) {
            late.push(manager.query(`insert into entry (what) values ('late ${no}')`).catch((error: unknown) => error));
            await nextTurn();
          }
        },
        { transactional: true, timeout: 100, retry: AT_ONCE },
      ),
    );
    const { orchestrator } = await start({ providers: [Work] });

    await orchestrator.execute(Work, undefined);
    await until('the first body has ended', () => late.length === 20);

    for (const end of await Promise.all(late)) expect(end).toBeInstanceOf(Error);
    expect(await entries()).toEqual([]);
  });

  it('of a run that is cancelled, or of a branch that is left behind, is rolled back', async () => {
    const written = new Barrier();
    const reasons: unknown[] = [];
    const write = (ctx: RunContext) =>
      ctx.step(
        'write',
        async ({ signal }) => {
          signal.addEventListener('abort', () => reasons.push(signal.reason));
          await ctx.manager.insert(Entry, { what: 'never' });
          await written.pass();
        },
        TRANSACTIONAL,
      );
    const Cancelled = workflow('cancelled', ({ ctx }) => write(ctx));
    const Racing = workflow('racing', ({ ctx }) =>
      ctx.race({ late: () => write(ctx), early: () => ctx.step('early', () => written.reached(2)) }),
    );
    const { orchestrator } = await start({ providers: [Cancelled, Racing] });
    const run = await orchestrator.start(Cancelled, undefined);
    await written.reached();

    await run.cancel();
    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    await expect(orchestrator.execute(Racing, undefined)).resolves.toMatchObject({ winner: 'early' });
    written.open();

    await until('no transaction is open', async () => {
      const { rowCount } = await sql.query(
        `select from pg_stat_activity where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()`,
      );
      return rowCount === 0;
    });
    expect(await entries()).toEqual([]);
    expect(reasons).toHaveLength(2);
  });

  it('of a run that is another worker’s by now is rolled back, and its run leaves the process', async () => {
    const held = new Barrier();
    const bodies: number[] = [];
    const Work = workflow('zombie', ({ ctx }) =>
      ctx.step(
        'write',
        async () => {
          bodies.push(bodies.length + 1);
          await ctx.manager.insert(Entry, { what: 'once' });
          await held.pass();
          return bodies.length;
        },
        TRANSACTIONAL,
      ),
    );
    // It looks seldom: nobody but the commit tells it.
    const zombie = await start({ providers: [Work], worker: { pollInterval: '1m', lease: '10m' } });
    const { id } = await zombie.orchestrator.start(Work, undefined);
    await held.reached();
    await sql.query(
      `update orchestration.run set status = 'pending', epoch = epoch + 1, worker_id = null, ready_at = now() where id = $1`,
      [id],
    );
    const other = await start({ providers: [Work], worker: { pollInterval: 50 } });
    await held.reached(2);
    const worker = await workerOf(zombie);
    expect(worker.isExecuting(id)).toBe(true);

    held.open();

    await expect(other.orchestrator.result(id)).resolves.toBe(2);
    await until('the run has left', () => !worker.isExecuting(id));
    expect(await entries()).toEqual(['once']);
  });

  describe('whose commit is in doubt', () => {
    async function startBehindProxy(providers: Setup['providers']) {
      const { host, port } = database.connection;
      const proxy = new ChaosProxy(port, host);
      proxies.push(proxy);
      const dataSource = { host: '127.0.0.1', port: await proxy.listen(), extra: { query_timeout: 500 } };
      return { proxy, ...(await startAtCommit({ providers, dataSource })) };
    }

    const writing = (name: string, bodies: number[]) =>
      workflow(name, ({ ctx }) =>
        ctx.step(
          'write',
          async ({ attempt }) => {
            bodies.push(attempt);
            await ctx.manager.insert(Entry, { what: 'once' });
            return 'result';
          },
          { transactional: true, retry: { maxAttempts: 1 } },
        ),
      );

    it('12. for a reply that was lost is found out about: it is delivered, and the body does not run again', async () => {
      const bodies: number[] = [];
      const Work = writing('lost-reply', bodies);
      const { app, atCommit, proxy } = await startBehindProxy([Work]);
      const sent = new Barrier();
      atCommit.before = async () => {
        if (sent.arrived > 0) return;
        proxy.cutReplies();
        sent.open();
        await sent.pass();
      };
      const run = await app.orchestrator.start(Work, undefined);
      await sent.reached();
      await until('the database has committed', async () => (await entries()).length > 0);
      proxy.heal();

      await expect(run.result()).resolves.toBe('result');
      expect(bodies).toEqual([1]);
      expect(await entries()).toEqual(['once']);
    });

    it('12. and that never arrived is rolled back: the body runs again, and no attempt is used up', async () => {
      const bodies: number[] = [];
      const Work = writing('lost-commit', bodies);
      const { app, atCommit, proxy } = await startBehindProxy([Work]);
      atCommit.before = () => bodies.length === 1 && proxy.reset();

      await expect(app.orchestrator.execute(Work, undefined)).resolves.toBe('result');
      expect(bodies).toEqual([1, 1]);
      expect(await entries()).toEqual(['once']);
    });

    it('begins on a new connection when all of the pool have fallen silent, as behind a firewall that forgot them', async () => {
      const together = new Barrier();
      const Work = workflow('silent', ({ ctx }) => ctx.step('write', () => together.pass(), { transactional: true }));
      const { app, proxy } = await startBehindProxy([Work]);
      const first = [1, 2, 3].map(() => app.orchestrator.execute(Work, undefined));
      await together.reached(3);
      together.open();
      await Promise.all(first);

      proxy.strand();

      await app.orchestrator.execute(Work, undefined);
      expect(together.arrived).toBe(4);
    });
  });

  describe('that collides with another one', () => {
    it('26. in a deadlock is run again, and no attempt is used up', async () => {
      const bothHaveOne = new Barrier();
      const Transfer = workflow('deadlock', ({ ctx }, [from, to]: [string, string]) =>
        ctx.step(
          'transfer',
          async ({ attempt }) => {
            await ctx.manager.decrement(Account, { id: from }, 'balance', 1);
            await bothHaveOne.pass();
            await ctx.manager.increment(Account, { id: to }, 'balance', 1);
            return attempt;
          },
          { transactional: true, retry: { maxAttempts: 1 } },
        ),
      );
      const { orchestrator } = await start({ providers: [Transfer] });
      const runs = await orchestrator.startMany(Transfer, [{ input: ['a', 'b'] }, { input: ['b', 'a'] }]);
      await bothHaveOne.reached(2);
      bothHaveOne.open();

      await expect(Promise.all(runs.map((run) => run.result()))).resolves.toEqual([1, 1]);
      expect(bothHaveOne.arrived).toBeGreaterThanOrEqual(3);
    });

    it.each(['SERIALIZABLE', 'REPEATABLE READ'] as const)(
      '26. under %s is run again until it fits, and no attempt is used up',
      async (isolationLevel) => {
        const Add = workflow(`add-${isolationLevel}`, ({ ctx }) =>
          ctx.step(
            'add',
            async ({ attempt }) => {
              const account = await ctx.manager.findOneByOrFail(Account, { id: 'a' });
              await ctx.manager.update(Account, { id: 'a' }, { balance: account.balance + 1 });
              const [level] =
                await ctx.manager.query<[{ transaction_isolation: string }]>('show transaction_isolation');
              return { attempt, level: level.transaction_isolation };
            },
            TRANSACTIONAL,
          ),
        );
        const { orchestrator } = await start({ providers: [Add], dataSource: { isolationLevel } });

        const runs = await orchestrator.startMany(
          Add,
          Array.from({ length: 5 }, () => ({ input: undefined })),
        );
        const results = await Promise.all(runs.map((run) => run.result()));

        expect(results).toEqual(runs.map(() => ({ attempt: 1, level: isolationLevel.toLowerCase() })));
        const { rows } = await sql.query(`select balance from account where id = 'a'`);
        expect(rows).toEqual([{ balance: 105 }]);
      },
    );

    it('26. again and again has failed an attempt', async () => {
      let bodies = 0;
      const Work = workflow('always-colliding', ({ ctx }) =>
        ctx.step(
          'collide',
          async () => {
            bodies++;
            await ctx.manager.query(`do $$ begin raise exception 'collided' using errcode = '40001'; end $$`);
          },
          { transactional: true, retry: { maxAttempts: 1 } },
        ),
      );
      const { orchestrator } = await start({ providers: [Work] });

      const error = await orchestrator.execute(Work, undefined).catch((caught: unknown) => caught);

      expect(error).toMatchObject({ cause: { code: 'STEP_FAILED', attempts: 1 } });
      expect(causedBy(error, '40001')).toBe(true);
      expect(bodies).toBe(11);
    });
  });

  it('26. whose commit the database refuses fails by that error, which is recorded once', async () => {
    await sql.query(`insert into once values ('taken')`);
    const Work = workflow('refused-commit', ({ ctx }) =>
      ctx.step(
        'write',
        async () => {
          await ctx.manager.insert(Entry, { what: 'never' });
          await ctx.manager.query(`insert into once values ('taken')`);
        },
        { transactional: true, retry: { maxAttempts: 2, ...AT_ONCE } },
      ),
    );
    const { orchestrator } = await start({ providers: [Work] });

    const run = await orchestrator.start(Work, undefined);
    const error = await run.result().catch((caught: unknown) => caught);

    expect(causedBy(error, '23505')).toBe(true);
    await expect(orchestrator.history(run.id)).resolves.toMatchObject([{ status: 'failed', attempts: 2 }]);
    expect(await entries()).toEqual([]);
  });

  it('25. starts runs with its own writes', async () => {
    const Started = workflow('started-within', (_, what: string) => what);
    const Starter = workflow('starter', ({ ctx }, isGood: boolean) =>
      ctx.step(
        'start',
        async () => {
          const run = await starter.orchestrator.start(Started, 'started', { manager: ctx.manager });
          await ctx.manager.insert(Entry, { what: run.id });
          if (!isGood) throw new NonRetryableError('changed its mind');
          return run.id;
        },
        TRANSACTIONAL,
      ),
    );
    const starter = await start({ providers: [Started, Starter] });
    const { orchestrator } = starter;

    const id = await orchestrator.execute(Starter, true);
    await expect(orchestrator.execute(Starter, false)).rejects.toThrow('changed its mind');

    await expect(orchestrator.result(id)).resolves.toBe('started');
    expect(await entries()).toEqual([id]);
    await expect(orchestrator.list({ workflow: 'started-within' })).resolves.toMatchObject({ items: [{ id }] });
  });

  it('25. may be old when it starts a run: a timeout counts from the start', async () => {
    const Started = workflow('started-late', () => 'in time');
    const dataSource = await openDataSource();
    const { orchestrator } = await startApp({ database, providers: [Started], options: { dataSource } });

    const run = await dataSource.transaction(async (manager) => {
      await manager.query('select pg_sleep(2.1)');
      return orchestrator.start(Started, undefined, { manager, timeout: '2s' });
    });

    await expect(run.result()).resolves.toBe('in time');
  });

  it('has the steps that its body calls as parts of it, and refuses durable calls', async () => {
    const Child = workflow('child', () => 'child');
    const codes: unknown[] = [];
    const codeOf = (call: Promise<unknown>) =>
      call.then(
        () => codes.push('no error'),
        (error: unknown) => codes.push((error as { code?: unknown }).code),
      );
    @Workflow('parts')
    class PartsWorkflow {
      constructor(
        private readonly ctx: RunContext,
        private readonly children: ChildOrchestrator,
      ) {}

      async run(): Promise<string[]> {
        return [await this.outer(), await this.plain('after')];
      }

      @Step({ transactional: true })
      async outer(): Promise<string> {
        await codeOf(this.ctx.sleep(1));
        await codeOf(this.children.call(Child, undefined));
        await codeOf(this.children.start(Child, undefined));
        const inline = await this.ctx.step('inline', ({ step }) => `inline of ${step}`);
        return `${await this.plain('in')}, ${inline}`;
      }

      @Step()
      async plain(what: string): Promise<string> {
        if (what === 'in') await this.ctx.manager.insert(Entry, { what });
        return `${what} ${this.ctx.currentStep.step}`;
      }
    }
    const { orchestrator } = await start({ providers: [PartsWorkflow, Child] });

    const run = await orchestrator.start(PartsWorkflow, undefined as never);

    await expect(run.result()).resolves.toEqual(['in outer, inline of outer', 'after plain']);
    expect(codes).toEqual(['INSIDE_STEP', 'INSIDE_STEP', 'INSIDE_STEP']);
    expect(await entries()).toEqual(['in']);
    const history = await orchestrator.history(run.id);
    expect(history.map(({ key }) => key)).toEqual(['outer', 'plain']);
    await expect(orchestrator.listChildren(run.id)).resolves.toMatchObject({ items: [] });
  });

  it('is refused an end of its own transaction, and a nested one that is left open', async () => {
    const Ending = workflow('ending', ({ ctx }, how: 'commit' | 'nest') =>
      ctx.step(
        'end',
        async () => {
          const runner = ctx.manager.queryRunner!;
          if (how === 'nest') await runner.startTransaction();
          await ctx.manager.insert(Entry, { what: how });
          if (how === 'commit') await runner.rollbackTransaction();
        },
        TRANSACTIONAL,
      ),
    );
    const { orchestrator } = await start({ providers: [Ending] });

    await expect(orchestrator.execute(Ending, 'commit')).rejects.toThrow('has ended its own transaction');
    await expect(orchestrator.execute(Ending, 'nest')).rejects.toThrow('has left a nested transaction open');
    expect(await entries()).toEqual([]);
  });

  it('62. is let go on to its commit by a shutdown', async () => {
    const held = new Barrier();
    const Work = workflow('shut-down', async ({ ctx }) => {
      const written = await ctx.step(
        'write',
        async () => {
          await ctx.manager.insert(Entry, { what: 'once' });
          await held.pass();
          return process.pid;
        },
        TRANSACTIONAL,
      );
      return ctx.step('next', () => written);
    });
    const app = await start({ providers: [Work], worker: { shutdownTimeout: '10s' } });
    const { id } = await app.orchestrator.start(Work, undefined);
    await held.reached();

    const closing = app.close();
    await untilDraining(app);
    held.open();
    await closing;

    expect(await entries()).toEqual(['once']);
    const other = await start({ providers: [Work] });
    await expect(other.orchestrator.result(id)).resolves.toBe(process.pid);
    expect(held.arrived).toBe(1);
  });
});

describe('ctx.manager', () => {
  it('is an error outside a transactional step, which names the option', async () => {
    const OutsideStep = workflow('outside-step', ({ ctx }) => Promise.resolve(ctx.manager.query('select 1')));
    const PlainStep = workflow('plain-step', ({ ctx }) => ctx.step('plain', () => ctx.manager.query('select 1')));
    const { orchestrator, get } = await start({ providers: [OutsideStep, PlainStep] });

    await expect(orchestrator.execute(OutsideStep, undefined)).rejects.toThrow('transactional: true');
    await expect(orchestrator.execute(PlainStep, undefined)).rejects.toMatchObject({
      cause: { code: 'STEP_FAILED', attempts: 1, cause: { code: 'NOT_IN_TRANSACTION' } },
    });
    expect(() => get(RunContext).manager).toThrow('used outside a run');
  });
});

describe('Without a DataSource of the app, a transactional step', () => {
  it('76. is refused at boot with the reason, of a workflow and of another provider', async () => {
    @Injectable()
    class Stock {
      @Step({ transactional: true })
      reserve(): void {}
    }
    @Workflow('shop')
    class ShopWorkflow {
      run(): void {}

      @Step({ transactional: true })
      pay(): void {}
    }

    await expect(startApp({ database, providers: [Stock, ShopWorkflow] })).rejects.toMatchObject({
      code: 'DEFINITION',
      problems: [
        expect.stringMatching(/^Stock\.reserve: transactional: true needs a TypeORM DataSource of the app/),
        expect.stringMatching(/^ShopWorkflow\.pay: transactional: true needs/),
      ],
    });
  });

  it('that is inline is refused when it is called', async () => {
    const Inline = workflow('inline', ({ ctx }) => ctx.step('write', () => {}, TRANSACTIONAL));
    const { orchestrator } = await startApp({ database, providers: [Inline] });

    await expect(orchestrator.execute(Inline, undefined)).rejects.toMatchObject({
      cause: { code: 'VALIDATION', message: expect.stringContaining('DataSource of the app') as string },
    });
  });
});
