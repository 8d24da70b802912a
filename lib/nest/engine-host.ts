import {
  type BeforeApplicationShutdown,
  Logger,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleInit,
} from '@nestjs/common';
import { type DiscoveryService, type ModuleRef, ModulesContainer } from '@nestjs/core';
import { Subject } from 'rxjs';
import { DatabaseClock } from '../engine/clock.js';
import { Engine } from '../engine/engine.js';
import { needsDataSource } from '../engine/definition.js';
import { DefinitionError } from '../engine/errors.js';
import type { RunEvent } from '../engine/events.js';
import { WorkflowRegistry } from '../engine/registry.js';
import { declareRetention } from '../engine/retention.js';
import { declareSchedules } from '../engine/schedules.js';
import { PayloadSerializer } from '../engine/serialization.js';
import type { Telemetry } from '../engine/telemetry.js';
import { AppTransactions } from '../store/app-transactions.js';
import { Database } from '../store/database.js';
import { migrate } from '../store/migrate.js';
import { TypeOrmStore } from '../store/typeorm-store.js';
import { connectionFor, dataSourceOf, dataSourceProblems } from './data-source.js';
import { explore } from './explorer.js';
import {
  configuredLimits,
  DEFAULT_MAX_BYTES,
  defaultSchema,
  moduleProblems,
  type OrchestrationModuleOptions,
  toStartLimit,
  toWorkerSettings,
} from './module-options.js';
import { observeLogger } from './logger-observer.js';
import { RunListeners } from './run-listeners.js';
import { StepEnhancers } from './step-enhancers.js';

/** What the app gives the engine beside its options. */
interface Surroundings {
  discovery: DiscoveryService;
  moduleRef: ModuleRef;
  telemetry: Telemetry | undefined;
}

interface Connected {
  engine: Engine;
  store: TypeOrmStore;
}

/**
 * One engine in the life of a Nest app: checked and connected at init (or at its first use before that), working from
 * bootstrap on, drained before TypeORM closes its connections, closed last.
 */
export class EngineHost
  implements OnModuleInit, OnApplicationBootstrap, BeforeApplicationShutdown, OnApplicationShutdown
{
  readonly events$ = new Subject<RunEvent>();
  private readonly logger = new Logger('Orchestration');
  private connecting: Promise<Connected> | undefined;
  private started: Promise<void> | undefined;
  private stopping: Promise<void> | undefined;

  constructor(
    private readonly name: string | undefined,
    private readonly options: OrchestrationModuleOptions,
    private readonly app: Surroundings,
  ) {}

  /** The engine, connected. Throws what the boot would throw. */
  async engine(): Promise<Engine> {
    return (await this.connect()).engine;
  }

  async onModuleInit(): Promise<void> {
    await this.connect();
    this.enhancers().apply();
    if (this.options.worker !== false) observeLogger();
  }

  async onApplicationBootstrap(): Promise<void> {
    const { engine } = await this.connect();
    this.listeners().subscribe(this.events$, engine.registry);
    await declareSchedules(engine);
    await declareRetention(engine);
    this.started = engine.worker?.start();
    await this.started;
  }

  /** Drains while the app's own connections are still open: step bodies may need them. */
  async beforeApplicationShutdown(): Promise<void> {
    await this.stop();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.stop();
    this.events$.complete();
    const connected = await this.connecting?.catch(() => undefined);
    await connected?.engine.tellOthers();
    await connected?.store.close();
  }

  /** Ends as a killed process does: nothing is handed back, and nothing more is written. Only for tests. */
  async abandon(): Promise<void> {
    const { engine, store } = await this.connect();
    // First, so that nothing is sent any more, nor tried again.
    const closed = store.close();
    engine.worker?.abandon();
    await closed;
  }

  private stop(): Promise<void> {
    this.stopping ??= this.drain();
    return this.stopping;
  }

  private async drain(): Promise<void> {
    if (!this.started) return;
    await this.started.catch(() => {});
    await (await this.engine()).worker?.stop();
  }

  private connect(): Promise<Connected> {
    this.connecting ??= this.open();
    return this.connecting;
  }

  private async open(): Promise<Connected> {
    const registry = this.defined();
    const dataSource = dataSourceOf(this.options, this.app.moduleRef);
    const {
      schema = defaultSchema(this.name),
      payload,
      migrate: mayMigrate = process.env['NODE_ENV'] !== 'production',
    } = this.options;
    const database = await Database.open(await connectionFor(this.options, dataSource), schema);
    database.outage.tellTo(this.logger);
    let store: TypeOrmStore | undefined;
    try {
      await migrate(database, mayMigrate);
      const clock = new DatabaseClock();
      const serializer = new PayloadSerializer(payload?.maxBytes ?? DEFAULT_MAX_BYTES, payload?.codec);
      store = new TypeOrmStore(database, serializer, clock, toStartLimit(this.options));
      await store.hints.listen(this.options.listenUrl, (message) => this.logger.warn(message));
      const worker = toWorkerSettings(this.options, registry);
      await store.queues.configure(configuredLimits(this.options, worker?.queues));
      const engine = new Engine({
        store,
        clock,
        serializer,
        registry,
        callerContext: this.options.context,
        worker,
        events: this.events$,
        transactions: dataSource && new AppTransactions(dataSource, database),
        telemetry: this.app.telemetry,
        warn: (message) => this.logger.warn(message),
      });
      return { engine, store };
    } catch (error) {
      // The listener's connection too, for which the pool would wait.
      await (store ?? database).close();
      throw error;
    }
  }

  private listeners(): RunListeners {
    return new RunListeners(this.app.discovery, this.logger);
  }

  private enhancers(): StepEnhancers {
    return new StepEnhancers(this.app.discovery, this.app.moduleRef.get(ModulesContainer, { strict: false }));
  }

  /** Every definition of the app, checked; all problems are reported at once. */
  private defined(): WorkflowRegistry {
    const { definitions, transactionalSteps, problems } = explore(this.app.discovery, this.name);
    const refused = this.hasDataSource ? [] : transactionalSteps.map((step) => `${step}: ${needsDataSource()}`);
    const all = [
      ...moduleProblems(this.options),
      ...dataSourceProblems(this.options, this.app.moduleRef),
      ...problems,
      ...refused,
      ...this.enhancers().problems(),
      ...this.listeners().problems(),
    ];
    if (all.length) throw new DefinitionError(all);
    const registry = new WorkflowRegistry();
    for (const definition of definitions) registry.add(definition);
    return registry;
  }

  /** One that the options name and that is not there is a problem of its own. */
  private get hasDataSource(): boolean {
    const { connection, dataSource } = this.options;
    return (!connection && dataSource !== undefined) || dataSourceOf(this.options, this.app.moduleRef) !== undefined;
  }
}
