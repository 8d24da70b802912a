import pg from 'pg';

import { ChildOrchestrator, type Orchestrator, RunContext, Workflow } from '../../lib/index.js';
import { closeApps, startApp } from '../support/app.js';
import { expectWithin } from '../support/budget.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { measure, type Measurement } from '../support/statements.js';

/** How often the code of parents has been executed, from its beginning. */
let passes = 0;

@Workflow('leaf')
class LeafWorkflow {
  constructor(private readonly ctx: RunContext) {}

  run(value: number): Promise<number> {
    return this.ctx.step('work', () => value);
  }
}

@Workflow('mapping')
class MappingWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  async run(count: number): Promise<number> {
    passes += 1;
    const values = Array.from({ length: count }, (_, index) => index);
    const results = await this.children.map(LeafWorkflow, values);
    return results.length;
  }
}

@Workflow('all')
class AllWorkflow {
  constructor(
    private readonly ctx: RunContext,
    private readonly children: ChildOrchestrator,
  ) {}

  async run(count: number): Promise<number> {
    passes += 1;
    const calls = Array.from({ length: count }, (_, index) => [
      `${index}`,
      () => this.children.call(LeafWorkflow, index),
    ]);
    return Object.keys(await this.ctx.all(Object.fromEntries(calls))).length;
  }
}

@Workflow('calling')
class CallingWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  run(value: number): Promise<number> {
    passes += 1;
    return this.children.call(LeafWorkflow, value);
  }
}

@Workflow('stepping')
class SteppingWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(count: number): Promise<void> {
    for (let step = 0; step < count; step++) await this.ctx.step('step', () => 1);
  }
}

@Workflow('sleeping')
class SleepingWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(): Promise<void> {
    passes += 1;
    await this.ctx.sleep(1);
  }
}

@Workflow({ name: 'gated', queue: 'gated' })
class GatedWorkflow {
  constructor(private readonly ctx: RunContext) {}

  run(value: number): Promise<number> {
    return this.ctx.step('work', () => value);
  }
}

const PROVIDERS = [
  ...[LeafWorkflow, MappingWorkflow, AllWorkflow, CallingWorkflow],
  ...[SteppingWorkflow, SleepingWorkflow, GatedWorkflow],
];

let database: TestDatabase;
let client: pg.Client;
let orchestrator: Orchestrator;

beforeAll(async () => {
  database = await createTestDatabase();
  ({ orchestrator } = await startApp({
    database,
    providers: PROVIDERS,
    options: {
      queues: { gated: { concurrency: 200 } },
      worker: { pollInterval: '1m', lease: '10m', concurrency: 200, queues: ['default', 'gated'] },
    },
  }));
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await Promise.all(Array.from({ length: 20 }, (_, index) => orchestrator.execute(CallingWorkflow, index)));
});

afterAll(async () => {
  await client.end();
  await closeApps();
  await database.drop();
});

async function counted(work: () => Promise<unknown>): Promise<Measurement & { passes: number }> {
  const before = passes;
  const measured = await measure(database, work);
  return Object.assign(measured, { passes: passes - before });
}

describe.each([
  ['children.map', MappingWorkflow],
  ['ctx.all', AllWorkflow],
] as const)('A parent of many children by %s', (_how, workflow) => {
  it('executes its code three times at most, and sends statements in proportion to its children', async () => {
    const small = await counted(() => orchestrator.execute(workflow, 1_000));
    const large = await counted(() => orchestrator.execute(workflow, 2_000));

    expect(Math.max(small.passes, large.passes)).toBeLessThanOrEqual(3);
    expectWithin(small, { commits: 45, statements: 45 });
    expectWithin(large, { commits: 90, statements: 90 });
  });
});

describe('200 at once', () => {
  const inputs = Array.from({ length: 200 }, (_, index) => index);

  it('with a child each need a quarter of a statement per pair, and no replay', async () => {
    const measured = await counted(() =>
      Promise.all(inputs.map((value) => orchestrator.execute(CallingWorkflow, value))),
    );

    expectWithin(measured, { commits: 50, statements: 50 });
    expect(measured.passes).toBe(200);
  });

  it('that sleep need a quarter of a statement each, and no replay', async () => {
    const measured = await counted(() =>
      Promise.all(inputs.map(() => orchestrator.execute(SleepingWorkflow, undefined as never))),
    );

    expectWithin(measured, { commits: 50, statements: 50 });
    expect(measured.passes).toBe(200);
  });

  it('on a queue with limits need a quarter of a statement each', async () => {
    const measured = await counted(() =>
      Promise.all(inputs.map((value) => orchestrator.execute(GatedWorkflow, value))),
    );

    expectWithin(measured, { commits: 50, statements: 50 });
  });
});

describe('What is written to the log of the database', () => {
  /**
   * The least of many, until it is no more than that: whole pages after a checkpoint, an autovacuum and what other databases of the
   * server write come on top of some. A neighbour that writes all the time needs patience.
   */
  async function leastLogOf(work: () => Promise<unknown>, expected: number): Promise<number> {
    let least = Infinity;
    for (const end = Date.now() + 15_000; least > expected && Date.now() < end;) {
      const before = await logPosition();
      await work();
      least = Math.min(least, (await logPosition()) - before);
    }
    return least;
  }

  async function logPosition(): Promise<number> {
    const { rows } = await client.query<{ at: string }>(`select pg_current_wal_insert_lsn() - '0/0' as at`);
    return Number(rows[0]!.at);
  }

  it('is 1.4 kB for a one-step run, 0.4 kB for each further step, 4.1 kB for a parent with its child', async () => {
    const [one, step, pair] = [1_400, 430, 4_100];

    expect(await leastLogOf(() => orchestrator.execute(SteppingWorkflow, 1), one)).toBeLessThanOrEqual(one);
    const eleven = one + 10 * step;
    expect(await leastLogOf(() => orchestrator.execute(SteppingWorkflow, 11), eleven)).toBeLessThanOrEqual(eleven);
    expect(await leastLogOf(() => orchestrator.execute(CallingWorkflow, 1), pair)).toBeLessThanOrEqual(pair);
  });
});
