import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Injectable, Module } from '@nestjs/common';
import { InjectDataSource, TypeOrmModule } from '@nestjs/typeorm';
import pg from 'pg';
import { DataSource } from 'typeorm';

import {
  ChildOrchestrator,
  DefinitionError,
  defineSignal,
  NonDeterminismError,
  Orchestrator,
  rootCause,
  RunContext,
  RunNotFoundError,
  Step,
  Workflow,
} from '../../lib/index.js';
import { OrchestrationTestBed, type TestBedOptions } from '../../lib/testing/index.js';
import { Barrier } from '../support/barrier.js';
import { testServerUrl } from '../support/database.js';
import { until } from '../support/until.js';

const DAY_MS = 24 * 60 * 60_000;
const Approve = defineSignal<{ by: string }>('approve');

/** What the world outside has seen. */
let calls: string[] = [];
/** Bodies that hang until it is opened. */
let gate = new Barrier();
/** How the code of ChangingWorkflow is deployed at the moment. */
let code: (ctx: RunContext) => Promise<unknown>;

@Injectable()
class Mailer {
  async send(text: string): Promise<string> {
    calls.push(text);
    return `sent ${text}`;
  }
}

@Workflow('reminder')
class ReminderWorkflow {
  constructor(
    private readonly ctx: RunContext,
    private readonly mailer: Mailer,
  ) {}

  async run(days: number): Promise<string[]> {
    const sent: string[] = [];
    for (let day = 1; day <= days; day++) {
      await this.ctx.sleep('1d');
      sent.push(await this.remind(`${day}`));
    }
    return sent;
  }

  @Step()
  async remind(day: string): Promise<string> {
    return this.mailer.send(`${day} at ${Math.round((this.ctx.now().getTime() - Date.now()) / DAY_MS)}d`);
  }
}

@Workflow('approval')
class ApprovalWorkflow {
  constructor(
    private readonly ctx: RunContext,
    private readonly children: ChildOrchestrator,
  ) {}

  async run(): Promise<string> {
    const first = await this.ctx.step('first', async () => (calls.push('first'), 1));
    const { by } = await this.ctx.waitForSignal(Approve);
    await this.children.call(ChildWorkflow, first);
    return by;
  }
}

@Workflow('child')
class ChildWorkflow {
  async run(n: number): Promise<number> {
    return n + 1;
  }
}

@Workflow('hanging')
class HangingWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(): Promise<string> {
    const { winner } = await this.ctx.race({
      body: () => this.body(),
      late: () => this.ctx.sleep('1h'),
    });
    return winner;
  }

  @Step()
  async body(): Promise<void> {
    await gate.pass();
  }
}

@Workflow('changing')
class ChangingWorkflow {
  constructor(private readonly ctx: RunContext) {}

  run(): Promise<unknown> {
    return code(this.ctx);
  }
}

const startWith = (bed: OrchestrationTestBed, deployed: typeof code) => {
  code = deployed;
  return bed.start(ChangingWorkflow, undefined);
};
const refuse = () => Promise.reject(new Error('no'));
const step = (ctx: RunContext, name: string) => ctx.step(name, async () => (calls.push(name), name));

describe('OrchestrationTestBed', () => {
  const beds: OrchestrationTestBed[] = [];
  const create = async (options: TestBedOptions = {}) => {
    const bed = await OrchestrationTestBed.create({
      connection: { type: 'postgres', url: testServerUrl() },
      providers: [ReminderWorkflow, ApprovalWorkflow, ChildWorkflow, HangingWorkflow, ChangingWorkflow, Mailer],
      ...options,
    });
    beds.push(bed);
    return bed;
  };
  beforeEach(() => {
    calls = [];
    gate = new Barrier();
  });
  afterEach(async () => {
    gate.open();
    await Promise.all(beds.splice(0).map((bed) => bed.close()));
  });

  describe('time', () => {
    it('skips through all that becomes due on the way, each at its time', async () => {
      const bed = await create();
      const run = await bed.start(ReminderWorkflow, 3);

      await bed.skip('2d');
      const afterTwoDays = [...calls];
      const { status } = await bed.orchestrator.get(run.id);
      await bed.skip('1d');

      expect(afterTwoDays).toEqual(['1 at 1d', '2 at 2d']);
      expect(status).toBe('waiting');
      expect(await bed.result(run)).toEqual(['sent 1 at 1d', 'sent 2 at 2d', 'sent 3 at 3d']);
    });

    it('leaves alone what is not due', async () => {
      const bed = await create();
      const run = await bed.start(ReminderWorkflow, 1);

      await bed.skip('23h');

      expect(calls).toEqual([]);
      expect(await bed.orchestrator.get(run.id)).toMatchObject({ status: 'waiting', recoveries: 0 });
    });

    it('passes beside a step whose body hangs, and reaches its run', async () => {
      const bed = await create({ patience: '300ms' });
      const run = await bed.start(HangingWorkflow, undefined);
      await gate.reached();

      await bed.skip('1h');

      expect(await bed.result(run, { timeout: '10s' })).toBe('late');
    });

    it('lets a step time out whose body hangs, and tries it again', async () => {
      const bed = await create({ patience: '300ms' });
      const run = await startWith(bed, (ctx) =>
        ctx.step('slow', () => gate.pass(), {
          timeout: '10s',
          retry: { maxAttempts: 2, initialInterval: '1m', jitter: 0 },
        }),
      );
      await gate.reached();

      await bed.skip('9s');
      const before = gate.arrived;
      await bed.skip('2m');

      expect(before).toBe(1);
      const error = await bed.result(run).catch((thrown: unknown) => thrown);
      expect(rootCause(error)).toMatchObject({ name: 'StepTimeoutError' });
      expect(await bed.orchestrator.history(run.id)).toMatchObject([{ name: 'slow', attempts: 2 }]);
      expect(gate.arrived).toBe(2);
    });

    it('keeps the lease of the worker, and its runs, over any stretch of time', async () => {
      const bed = await create({ patience: '200ms' });
      const run = await startWith(bed, async (ctx) => ctx.step('body', async () => gate.pass()));
      const { workerId } = await bed.orchestrator.get(run.id);

      await bed.skip('400d');
      await bed.skip('400d');
      const later = await bed.orchestrator.get(run.id);
      gate.open();
      await bed.result(run);

      expect(later).toMatchObject({ workerId, status: 'running', recoveries: 0 });
    });

    it('starts what was delayed, and lets schedules tick', async () => {
      const bed = await create();
      code = (ctx) => step(ctx, 'only');
      const run = await bed.start(ChangingWorkflow, undefined, { delay: '1h' });
      await bed.orchestrator.schedules.upsert('hourly', { workflow: ChildWorkflow, input: 1, every: '1h' });

      await bed.skip('3h');

      expect(await bed.result(run)).toBe('only');
      expect((await bed.orchestrator.list({ workflow: 'child' })).items).toHaveLength(3);
    });

    it('refuses what is no duration', async () => {
      const bed = await create();

      await expect(bed.skip('soon' as '1s')).rejects.toThrow(/'soon'/);
    });
  });

  describe('crashes', () => {
    it('goes on from what is recorded, with what the test has put in place of providers', async () => {
      const fake = { send: async (text: string) => (calls.push('fake'), text) };
      const bed = await create({ overrides: [[Mailer, fake]] });
      const run = await bed.start(ReminderWorkflow, 2);
      await bed.skip('1d');
      const orchestrator = bed.get(Orchestrator);

      await bed.crash();
      await bed.skip('1d');

      expect(await bed.result(run)).toHaveLength(2);
      expect(calls).toEqual(['fake', 'fake']);
      expect(bed.get(Orchestrator)).not.toBe(orchestrator);
    });

    it('runs a step again that was in its body, and refuses what that body does later', async () => {
      const bed = await create();
      let attempts = 0;
      code = (ctx) =>
        ctx.step('body', async ({ signal }) => {
          if (++attempts > 1) return 'second';
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
          return 'first';
        });
      const run = await bed.start(ChangingWorkflow, undefined);
      await until('the body has begun', () => attempts === 1);

      await bed.crash();

      expect(await bed.result(run)).toBe('second');
      expect(await bed.orchestrator.history(run.id)).toMatchObject([{ name: 'body', output: 'second', attempts: 1 }]);
    });

    it('keeps the time', async () => {
      const bed = await create();
      const run = await bed.start(ReminderWorkflow, 2);
      await bed.skip('36h');

      await bed.crash();
      await bed.skip('12h');

      expect(await bed.result(run, { timeout: '10s' })).toHaveLength(2);
    });
  });

  describe('assertReplays', () => {
    const linear = async (ctx: RunContext) => [await step(ctx, 'a'), await step(ctx, 'b')];

    it('is content with the code that the run has had, whatever its status', async () => {
      const bed = await create();
      const done = await startWith(bed, linear);
      await bed.result(done);
      const waiting = await bed.start(ApprovalWorkflow, undefined);
      const asleep = await bed.start(ReminderWorkflow, 2);
      await bed.skip('1d');
      const before = await everything(bed);
      calls = [];

      await bed.assertReplays(done.id);
      await bed.assertReplays(waiting.id);
      await bed.assertReplays(asleep.id);

      expect(calls).toEqual([]);
      expect(await everything(bed)).toEqual(before);
      await bed.signal(waiting.id, Approve, { by: 'Ada' });
      expect(await bed.result(waiting)).toBe('Ada');
      await bed.assertReplays(waiting.id);
    });

    it.each([
      [
        'another step',
        async (ctx: RunContext) => [await step(ctx, 'a'), await step(ctx, 'c')],
        2,
        /asked for step 'c'/,
      ],
      ['less', (ctx: RunContext) => step(ctx, 'a'), 2, /ended before it/],
      ['more', async (ctx: RunContext) => [await linear(ctx), await step(ctx, 'c')], 3, /goes on/],
      ['an error', (ctx: RunContext) => linear(ctx).then(refuse), 3, /Error: no/],
    ])('refuses code that does %s, and leaves the run as it is', async (_what, changed, seq, found) => {
      const bed = await create();
      const run = await startWith(bed, linear);
      await bed.result(run);
      const before = await everything(bed);

      code = changed;
      const error = await bed.assertReplays(run.id).catch((thrown: unknown) => thrown);

      expect(error).toBeInstanceOf(NonDeterminismError);
      expect(error).toMatchObject({ seq, found: expect.stringMatching(found) });
      expect(calls).toEqual(['a', 'b']);
      expect(await everything(bed)).toEqual(before);
    });

    it('refuses other code for a run that waits, which goes on unharmed with its own', async () => {
      const bed = await create();
      const waits = async (ctx: RunContext) => [await step(ctx, 'a'), await ctx.sleep('1h')];
      const run = await startWith(bed, waits);
      await bed.skip('1m');

      code = async (ctx) => [await step(ctx, 'other')];
      await expect(bed.assertReplays(run.id)).rejects.toThrow(NonDeterminismError);
      code = waits;
      await bed.skip('1h');

      expect(await bed.result(run)).toHaveLength(2);
    });

    it('replays failed and cancelled runs, and knows which runs there are', async () => {
      const bed = await create();
      code = (ctx) => step(ctx, 'a').then(refuse);
      const failed = await bed.start(ChangingWorkflow, undefined);
      await bed.result(failed).catch(() => {});
      const cancelled = await bed.start(ReminderWorkflow, 2);
      await bed.skip('1d');
      await bed.orchestrator.cancel(cancelled.id);
      await bed.result(cancelled).catch(() => {});

      await bed.assertReplays(failed.id);
      await bed.assertReplays(cancelled.id);
      await expect(bed.assertReplays('019af000-0000-7000-8000-000000000000')).rejects.toThrow(RunNotFoundError);
    });
  });

  describe('the bed', () => {
    it('gives each bed a database of its own, which goes with it', async () => {
      const [one, other] = await Promise.all([create(), create()]);
      code = (ctx) => step(ctx, 'a');
      await one.result(await one.start(ChangingWorkflow, undefined, { key: 'same' }));
      const names = [one, other].map((bed) => bed.connection.database!);

      expect((await other.orchestrator.list()).items).toEqual([]);
      await Promise.all([one.close(), other.close(), one.close()]);
      expect(await databases(names)).toEqual([]);
    });

    it('has the modules that it is given, also after a crash', async () => {
      @Module({ providers: [Mailer], exports: [Mailer] })
      class MailModule {}
      const bed = await create({ imports: [MailModule], providers: [ReminderWorkflow] });
      const run = await bed.start(ReminderWorkflow, 2);
      await bed.skip('1d');

      await bed.crash();
      await bed.skip('1d');

      expect(await bed.result(run)).toEqual(['sent 1 at 1d', 'sent 2 at 2d']);
    });

    it("runs transactional steps on the app's DataSource, also after a crash", async () => {
      @Workflow('transactional')
      class TransactionalWorkflow {
        constructor(
          private readonly ctx: RunContext,
          @InjectDataSource() private readonly dataSource: DataSource,
        ) {}

        async run(): Promise<unknown> {
          await this.insert();
          await this.ctx.sleep('1h');
          return this.dataSource.query('select n from public.booked');
        }

        @Step({ transactional: true })
        async insert(): Promise<void> {
          await this.ctx.manager.query('create table public.booked as select 1 as n');
        }
      }
      const bed = await create({
        imports: (connection) => [TypeOrmModule.forRoot(connection)],
        providers: [TransactionalWorkflow],
        orchestration: { dataSource: 'default' },
      });
      const run = await bed.start(TransactionalWorkflow, undefined);
      await bed.skip('1m');

      await bed.crash();
      await bed.skip('1h');

      expect(await bed.result(run)).toEqual([{ n: 1 }]);
    });

    it('leaves no database behind when the app does not start', async () => {
      @Workflow('approval')
      class Twin {
        async run(): Promise<void> {}
      }
      const before = await databases();

      await expect(create({ providers: [Twin, ApprovalWorkflow, ChildWorkflow] })).rejects.toThrow(DefinitionError);

      expect(await databases()).toEqual(before);
    });
  });
});

/** All that the engine has written, but for what a worker says of itself. */
async function everything(bed: OrchestrationTestBed): Promise<unknown> {
  return sql(bed.connection.url!, (client) =>
    client.query(
      `select (select json_agg(r order by id) from orchestration.run r) as runs,
        (select json_agg(h order by run_id, seq) from orchestration.history h) as history,
        (select json_agg(s order by run_id) from orchestration.signal s) as signals`,
    ),
  );
}

async function databases(names?: string[]): Promise<string[]> {
  const rows = await sql(testServerUrl(), (client) =>
    client.query<{ datname: string }>(`select datname from pg_database where datname like 'orchestration_bed_%'`),
  );
  const all = rows.map(({ datname }) => datname).toSorted();
  return names ? all.filter((name) => names.includes(name)) : all;
}

async function sql<Row extends object>(
  url: string,
  query: (client: pg.Client) => Promise<pg.QueryResult<Row>>,
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await query(client)).rows;
  } finally {
    await client.end();
  }
}
