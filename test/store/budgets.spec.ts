import { setTimeout as delay } from 'node:timers/promises';

import { DataSource } from 'typeorm';

import { ChildOrchestrator, type Orchestrator, RunContext, Workflow } from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { expectWithin, sentBy, statementsOf } from '../support/budget.js';
import { countCommitsOnServer, countStatementsOnServer, measure, type Measurement } from '../support/statements.js';
import { until } from '../support/until.js';

@Workflow('steps')
class StepsWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(count: number): Promise<number> {
    let done = 0;
    for (let step = 0; step < count; step++) done += await this.ctx.step('step', () => 1);
    return done;
  }
}

@Workflow('transactional')
class TransactionalWorkflow {
  constructor(private readonly ctx: RunContext) {}

  run(transactional: boolean): Promise<unknown> {
    return this.ctx.step('step', () => (transactional ? this.ctx.manager.query('select 1') : 1), { transactional });
  }
}

@Workflow('parent')
class ParentWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  run(): Promise<number> {
    return this.children.call(StepsWorkflow, 1);
  }
}

@Workflow('signalled')
class SignalledWorkflow {
  constructor(private readonly ctx: RunContext) {}

  run(): Promise<unknown> {
    return this.ctx.waitForSignal('go');
  }
}

@Workflow('sleeper')
class SleeperWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(): Promise<void> {
    await this.ctx.sleep('30d');
  }
}

@Workflow('waiting-parent')
class WaitingParentWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  run(): Promise<void> {
    return this.children.call(SleeperWorkflow, undefined as never);
  }
}

let database: TestDatabase;
let app: TestApp;
let orchestrator: Orchestrator;
const waiting = new Set<string>();

/** The regular look and the lease are out of the way for a minute, so that all that is counted is for the runs. */
async function startQuietApp(on: TestDatabase): Promise<TestApp> {
  const providers = [StepsWorkflow, ParentWorkflow, SleeperWorkflow, SignalledWorkflow, WaitingParentWorkflow];
  return startApp({ database: on, providers, options: { worker: { pollInterval: '1m', lease: '10m' } } });
}

beforeAll(async () => {
  database = await createTestDatabase();
  app = await startQuietApp(database);
  orchestrator = app.orchestrator;
  orchestrator.events$.subscribe(({ type, runId }) => type === 'run.waiting' && waiting.add(runId));
  // Connections open and statements are prepared.
  await Promise.all(Array.from({ length: 20 }, () => orchestrator.execute(ParentWorkflow, undefined as never)));
});

afterAll(async () => {
  await closeApps();
  await database.drop();
});

/** The cheapest of a few: what other work of the process happened to come between is not the run's. */
async function cheapestOf(times: number, work: () => Promise<unknown>): Promise<Measurement> {
  let cheapest: Measurement | undefined;
  for (let time = 0; time < times; time++) {
    const measured = await measure(database, work);
    if (!cheapest || measured.commits < cheapest.commits) cheapest = measured;
  }
  return cheapest!;
}

/** Resolves when the run is parked, without asking the database. */
function parking(runId: string): Promise<unknown> {
  return until('it is parked', () => Promise.resolve(waiting.has(runId)));
}

describe('The budget of', () => {
  it('a one-step run alone is 2 commits and 3 statements, its start included', async () => {
    const measured = await cheapestOf(3, () => orchestrator.execute(StepsWorkflow, 1));

    expectWithin(measured, { commits: 2, statements: 3 });
  });

  it('a ten-step run alone is 11 commits and 12 statements', async () => {
    const measured = await cheapestOf(3, () => orchestrator.execute(StepsWorkflow, 10));

    expectWithin(measured, { commits: 11, statements: 12 });
  });

  it('a parent and a one-step child in one process is 2 commits and 2 statements, of 5 that are allowed', async () => {
    const measured = await cheapestOf(3, () => orchestrator.execute(ParentWorkflow, undefined as never));

    expectWithin(measured, { commits: 2, statements: 2 });
  });

  it('a start, a wait, a signal and the end is 4 statements when the signal comes to a parked run, 6 when it comes before', async () => {
    const parked = await cheapestOf(3, async () => {
      const run = await orchestrator.start(SignalledWorkflow, undefined as never);
      await parking(run.id);
      await run.signal('go', 1);
      await run.result();
    });
    const before = await cheapestOf(3, () =>
      orchestrator
        .signalWithStart(SignalledWorkflow, undefined as never, 'go', 1, { key: `${performance.now()}` })
        .then((run) => run.result()),
    );

    expectWithin(parked, { commits: 4, statements: 4 });
    expectWithin(before, { commits: 6, statements: 6 });
  });

  it('200 one-step runs at once is a tenth of a statement for each', async () => {
    const inputs = Array.from({ length: 200 }, () => 1);

    const measured = await cheapestOf(3, () =>
      Promise.all(inputs.map((input) => orchestrator.execute(StepsWorkflow, input))),
    );

    expectWithin(measured, { commits: 20, statements: 20 });
  });
});

describe('A transactional step', () => {
  it('costs one statement of the engine more than another one, beside its transaction', async () => {
    const dataSource = await new DataSource({ ...database.connection }).initialize();
    const worker = { pollInterval: '1m', lease: '10m' } as const;
    const own = await startApp({ database, providers: [TransactionalWorkflow], options: { dataSource, worker } });
    const execute = (transactional: boolean) => own.orchestrator.execute(TransactionalWorkflow, transactional);
    for (let time = 0; time < 5; time++) await Promise.all([execute(true), execute(false)]);

    const plain = await cheapestOf(3, () => execute(false));
    const measured = await cheapestOf(3, () => execute(true));

    expectWithin(measured, { commits: plain.commits + 1, statements: statementsOf(plain) + 2 });
    const transaction = ['START TRANSACTION', 'select 1', 'COMMIT'];
    expect(transaction.map((text) => measured.byQuery.get(text))).toEqual([1, 1, 1]);
    await own.close();
    await dataSource.destroy();
  });
});

describe('On the server', () => {
  it('a run costs the same: commits by pg_stat_database', async () => {
    const counted = await createTestDatabase();
    // Sessions report what they did when they end, so each number is that of a whole app; what it costs itself is subtracted.
    const commitsOf = (runs: number) =>
      countCommitsOnServer(counted, async () => {
        const own = await startQuietApp(counted);
        for (let run = 0; run < runs; run++) await own.orchestrator.execute(StepsWorkflow, 10);
        await own.close();
      });
    await commitsOf(1);
    const [appAlone, withRuns] = [await commitsOf(0), await commitsOf(20)];

    // A connection that the app opens only for runs is a commit, too.
    expect(withRuns - appAlone).toBeLessThanOrEqual(20 * 11 + 8);
    expect(withRuns - appAlone).toBeGreaterThanOrEqual(20 * 10);
    await counted.drop();
  });

  it('a run costs the same: statements by pg_stat_statements, where that is loaded', async () => {
    let seen: Measurement | undefined;
    const counted = await countStatementsOnServer(database, async () => {
      seen = await measure(database, () => orchestrator.execute(StepsWorkflow, 10));
    });

    expect(counted && statementsOf({ byQuery: counted })).toBe(seen && statementsOf(seen));
  });
});

describe('Parked runs', () => {
  let parked: TestDatabase;

  beforeAll(async () => {
    parked = await createTestDatabase();
  });

  afterAll(() => parked.drop());

  it('cost no statement: an idle worker with 500 of them sends no more than one in a second', async () => {
    const idle = await startApp({
      database: parked,
      providers: [SleeperWorkflow],
      options: { worker: { lease: '5s' } },
    });
    const handles = await idle.orchestrator.startMany(
      SleeperWorkflow,
      Array.from({ length: 500 }, () => ({ input: undefined as never })),
    );
    const last = handles.at(-1)!;
    await until('all are parked', async () => {
      const { items } = await idle.orchestrator.list({ status: ['pending', 'running'], limit: 1 });
      return items.length === 0 && (await last.status()) === 'waiting';
    });
    const seconds = 5;

    const measured = await measure(parked, () => delay(seconds * 1_000));

    // One more for the beat at the edge of the interval.
    expectWithin(measured, { commits: seconds + 1, statements: seconds + 1 });
    await idle.close();
  });

  it('in a quiet process cost nothing at all', async () => {
    const quiet = await startQuietApp(parked);
    const run = await quiet.orchestrator.start(SleeperWorkflow, undefined as never);
    await until('it is parked', async () => (await run.status()) === 'waiting');

    const measured = await measure(parked, () => delay(2_000));

    expect(sentBy(measured)).toEqual([]);
    await quiet.close();
  });

  it('that wait for children hold no connection and ask nothing, a hundred of them', async () => {
    const quiet = await startQuietApp(parked);
    const parents = await quiet.orchestrator.startMany(
      WaitingParentWorkflow,
      Array.from({ length: 100 }, () => ({ input: undefined as never })),
    );
    const tenth = parents.filter((_, index) => index % 10 === 9);
    await until('they wait', async () => {
      const { items } = await quiet.orchestrator.list({ status: ['pending', 'running'], limit: 1 });
      const statuses = await Promise.all(tenth.map((run) => run.status()));
      return items.length === 0 && statuses.every((status) => status === 'waiting');
    });

    const measured = await measure(parked, () => delay(2_000));

    expect(sentBy(measured)).toEqual([]);
    expect(await quiet.orchestrator.execute(StepsWorkflow, 1)).toBe(1);
    await quiet.close();
  });
});
