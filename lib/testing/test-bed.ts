import type { InjectionToken, ModuleMetadata, Provider, Type } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { embeddedPostgres } from '../embedded/embedded-postgres.js';
import { type Duration, parseDuration } from '../engine/duration.js';
import type { Engine } from '../engine/engine.js';
import { Orchestrator, type RunHandle } from '../engine/orchestrator.js';
import { checkReplay } from '../engine/replay-check.js';
import type { EngineHost } from '../nest/engine-host.js';
import { defaultSchema, type OrchestrationModuleOptions } from '../nest/module-options.js';
import { OrchestrationModule } from '../nest/orchestration.module.js';
import { hostToken } from '../nest/tokens.js';
import type { PostgresOptions } from '../store/database.js';
import { TestDatabase } from '../store/test-database.js';
import { untilAtRest } from './rest.js';

type Imports = NonNullable<ModuleMetadata['imports']>;

/** What a test bed is made of; all of it is optional. */
export interface TestBedOptions {
  /** Modules of the app, without the OrchestrationModule; or a function that makes them for the bed's database. */
  imports?: Imports | ((connection: PostgresOptions) => Imports);
  /** Workflows, and what they inject. */
  providers?: Provider[];
  controllers?: Type[];
  /** Values in the place of providers: `[[PaymentsService, fake]]`. After a crash they are the same. */
  overrides?: readonly (readonly [token: InjectionToken, value: unknown])[];
  /** The server to make the bed's database on, whose user must be allowed to. Default: the embedded PostgreSQL. */
  connection?: PostgresOptions;
  /** More options of `OrchestrationModule.forRoot`. With a `dataSource`, that one has to lead to the bed's database. */
  orchestration?: Omit<OrchestrationModuleOptions, 'connection' | 'schema' | 'migrate'>;
  /** How long a step's body may take before `skip` no longer waits for it. Default `'1s'`. */
  patience?: Duration;
}

/** The engine looks often, so that tests are fast. */
const POLL_INTERVAL = '100ms';
const SCHEMA = defaultSchema(undefined);

/**
 * A Nest testing module with the engine, on a fresh database of its own. It knows no test runner: any will do.
 *
 *     const bed = await OrchestrationTestBed.create({ providers: [OrderWorkflow], overrides: [[PaymentsService, fake]] });
 */
export class OrchestrationTestBed {
  private module!: TestingModule;
  private readonly patienceMs: number;
  private closing: Promise<void> | undefined;

  private constructor(
    private readonly options: TestBedOptions,
    private readonly database: TestDatabase,
  ) {
    this.patienceMs = parseDuration(options.patience ?? '1s');
  }

  /**
   * Starts the embedded PostgreSQL unless it runs, makes a database on it, and starts the app.
   * @throws EmbeddedDatabaseError, DatabaseUnavailableError, DefinitionError
   */
  static async create(options: TestBedOptions = {}): Promise<OrchestrationTestBed> {
    const database = await TestDatabase.create(options.connection ?? (await embeddedPostgres()), SCHEMA);
    try {
      const bed = new OrchestrationTestBed(options, database);
      bed.module = await bed.boot();
      return bed;
    } catch (error) {
      await database.drop();
      throw error;
    }
  }

  /** Of the app as it runs now: after a crash it is another one. */
  get orchestrator(): Orchestrator {
    return this.module.get(Orchestrator, { strict: false });
  }

  /** A provider of the app as it runs now. */
  get<T>(token: Type<T> | InjectionToken<T>): T {
    return this.module.get<T>(token, { strict: false });
  }

  /** How to reach the bed's database. */
  get connection(): PostgresOptions {
    return this.database.connection;
  }

  /** As `orchestrator.start`. */
  get start(): Orchestrator['start'] {
    const { orchestrator } = this;
    return orchestrator.start.bind(orchestrator);
  }

  /** As `orchestrator.signal`. */
  get signal(): Orchestrator['signal'] {
    const { orchestrator } = this;
    return orchestrator.signal.bind(orchestrator);
  }

  /** As `orchestrator.result`, also for a run that was started before a crash. */
  result<Output>(run: RunHandle<Output>, options?: { timeout?: Duration }): Promise<Output>;
  result<Output = unknown>(runId: string, options?: { timeout?: Duration }): Promise<Output>;
  result<Output>(run: RunHandle<Output> | string, options?: { timeout?: Duration }): Promise<Output> {
    return this.orchestrator.result<Output>(typeof run === 'string' ? run : run.id, options);
  }

  /**
   * Moves the engine's clock, and runs what becomes due on the way, each at its time: a run that sleeps a day three times has done
   * so after `skip('3d')`. Resolves when all runs are at rest again. Before, it waits until they are, so that a run that was
   * just started begins to sleep first.
   * @throws ValidationError for what is no duration
   */
  async skip(duration: Duration): Promise<void> {
    const end = (await this.atRest()).aheadMs + parseDuration(duration);
    for (;;) {
      const next = await this.nextAhead();
      if (next === null || next >= end) break;
      await this.moveClock(next);
    }
    await this.moveClock(end);
  }

  /**
   * Loses all that is in memory, as a killed process does, and starts the app anew on the same database, which goes on with the
   * runs at once. A step's body that was running gets its AbortSignal, and nothing that it does is written. Handles
   * of runs are of the old app: use `bed.result(run)`, `bed.signal(run.id, …)`.
   */
  async crash(): Promise<void> {
    const host = this.host();
    const { worker } = await host.engine();
    await host.abandon();
    // What is the app's own has to be closed in order, for its process goes on.
    await this.module.close();
    if (worker) await this.database.expireLease(worker.id);
    this.module = await this.boot();
  }

  /**
   * Replays what is recorded of a run against the present code. Nothing is written, and no step's body begins. The code of a run that
   * has completed must complete again, whatever it returns.
   * @throws NonDeterminismError, RunNotFoundError, WorkflowNotRegisteredError
   */
  async assertReplays(runId: string): Promise<void> {
    await checkReplay(await this.engine(), runId);
  }

  /** Stops the app, and removes its database. */
  close(): Promise<void> {
    this.closing ??= this.remove();
    return this.closing;
  }

  private async remove(): Promise<void> {
    try {
      await this.module.close();
    } finally {
      await this.database.drop();
    }
  }

  private async boot(): Promise<TestingModule> {
    const { imports = [], providers, controllers, overrides = [], orchestration = {} } = this.options;
    const { connection } = this.database;
    const { worker, dataSource } = orchestration;
    const engine = OrchestrationModule.forRoot({
      ...orchestration,
      migrate: false,
      ...(dataSource === undefined && { connection }),
      worker: worker === false ? false : { pollInterval: POLL_INTERVAL, ...worker },
    });
    const own = typeof imports === 'function' ? imports(connection) : imports;
    const builder = Test.createTestingModule({ imports: [...own, engine], providers, controllers });
    for (const [token, value] of overrides) builder.overrideProvider(token).useValue(value);
    const module = await builder.compile();
    try {
      return await module.init();
    } catch (error) {
      await module.close().catch(() => {});
      throw error;
    }
  }

  private host(): EngineHost {
    return this.module.get<EngineHost>(hostToken(), { strict: false });
  }

  private engine(): Promise<Engine> {
    return this.host().engine();
  }

  private atRest() {
    return untilAtRest(() => this.database.lookAround(), this.patienceMs);
  }

  /** By how much the clock will be ahead when the next is due, in the database or in a run that has its slot. */
  private async nextAhead(): Promise<number | null> {
    const { nextAheadMs, aheadMs, realTime } = await this.database.lookAround();
    const executing = ((await this.engine()).worker?.executionsDueAt() ?? [])
      .map((time) => time - realTime)
      .filter((ahead) => ahead > aheadMs);
    const times = nextAheadMs === null ? executing : [...executing, nextAheadMs];
    return times.length ? Math.min(...times) : null;
  }

  private async moveClock(aheadMs: number): Promise<void> {
    await this.database.moveClock(aheadMs);
    await (await this.engine()).worker?.clockMoved();
    await this.atRest();
  }
}
