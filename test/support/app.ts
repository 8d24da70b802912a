import {
  type DynamicModule,
  type INestApplicationContext,
  type LoggerService,
  Module,
  type ModuleMetadata,
  type Provider,
  type Type,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import pg from 'pg';
import type { DataSource } from 'typeorm';

import type { Engine } from '../../lib/engine/engine.js';
import { Orchestrator } from '../../lib/engine/orchestrator.js';
import type { Worker } from '../../lib/engine/worker.js';
import type { EngineHost } from '../../lib/nest/engine-host.js';
import type { OrchestrationModuleOptions } from '../../lib/nest/module-options.js';
import { OrchestrationModule } from '../../lib/nest/orchestration.module.js';
import type { TestDatabase } from './database.js';
import { until } from './until.js';

export interface TestAppSetup {
  database: TestDatabase;
  providers?: Provider[];
  imports?: ModuleMetadata['imports'];
  /** Of `forRoot`; the connection is the database's unless they name another one. */
  options?: OrchestrationModuleOptions;
  /** Who hears the app's log lines. Default: nobody. */
  logger?: LoggerService;
}

/** A Nest application context with the module on a test database: one process, as far as the database can tell. */
export interface TestApp {
  context: INestApplicationContext;
  orchestrator: Orchestrator;
  get<T>(token: Type<T>): T;
  /** The orderly shutdown. */
  close(): Promise<void>;
  /**
   * What a SIGKILL does, as seen from the database: connections end, whatever was in flight on them with them; nothing is
   * handed back; memory is gone. Its lease counts as expired, so that another app takes over at once. Step bodies
   * that are running cannot be unwound: they get their AbortSignal, and nothing that they do is written.
   * Promises of this app's handles may never end; ask another app for results.
   */
  crash(): Promise<void>;
}

@Module({})
class TestAppModule {}

const running = new Set<TestApp>();
let appNo = 0;

export async function startApp(setup: TestAppSetup): Promise<TestApp> {
  const { database, providers = [], imports = [], options = {}, logger = false } = setup;
  const applicationName = nameOf(options.dataSource) ?? `test-app-${process.pid}-${++appNo}`;
  const connection = options.dataSource
    ? undefined
    : { applicationName, ...(options.connection ?? database.connection) };
  // As in production: behind a pooler, notifications come over a connection that goes past it.
  const listenUrl = database.appUrl === database.url ? {} : { listenUrl: database.url };
  const worker = options.worker === false ? (false as const) : { shutdownTimeout: '2s' as const, ...options.worker };
  const root: DynamicModule = {
    module: TestAppModule,
    imports: [
      ...imports,
      OrchestrationModule.forRoot({ ...listenUrl, ...options, ...(connection && { connection }), worker }),
    ],
    providers,
  };
  const context = await NestFactory.createApplicationContext(root, { logger, abortOnError: false });
  const app: TestApp = {
    context,
    orchestrator: context.get(Orchestrator, { strict: false }),
    get: (token) => context.get(token, { strict: false }),
    close: async () => {
      running.delete(app);
      await context.close();
    },
    crash: async () => {
      running.delete(app);
      await crash(context, { database, applicationName, schema: options.schema ?? 'orchestration' });
    },
  };
  running.add(app);
  return app;
}

/** The connections of a DataSource are told by their own name. */
function nameOf(dataSource: OrchestrationModuleOptions['dataSource']): string | undefined {
  const options = (dataSource as DataSource | undefined)?.options;
  return options && 'applicationName' in options ? options.applicationName : undefined;
}

/** The worker inside of an app. */
export function engineOf(app: TestApp): Promise<Engine> {
  return app.context.get<EngineHost>('EngineHost:', { strict: false }).engine();
}

export async function workerOf(app: TestApp): Promise<Worker> {
  return (await engineOf(app)).worker!;
}

/** Resolves when an app that is told to close begins no more step bodies. */
export async function untilDraining(app: TestApp): Promise<void> {
  const worker = await workerOf(app);
  await until('the worker drains', () => worker.isDraining);
}

/** For `afterEach`: what a test has left open, also one that failed. */
export async function closeApps(): Promise<void> {
  await Promise.all([...running].map((app) => app.close()));
}

interface Victim {
  database: TestDatabase;
  applicationName: string;
  schema: string;
}

async function crash(context: INestApplicationContext, { database, applicationName, schema }: Victim): Promise<void> {
  const host = context.get<EngineHost>('EngineHost:', { strict: false });
  const { worker } = await host.engine();
  const abandoned = host.abandon();
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    // A backend that dies has released its locks only when it has left pg_stat_activity.
    while ((await terminateBackends(client, applicationName)) > 0) continue;
    if (worker) await client.query(`update "${schema}".worker set expires_at = '-infinity' where id = $1`, [worker.id]);
  } finally {
    await client.end();
  }
  await abandoned;
  // The app's own connections; the engine has nothing left to do here.
  await context.close();
}

async function terminateBackends(client: pg.Client, applicationName: string): Promise<number> {
  const { rowCount } = await client.query(
    'select pg_terminate_backend(pid, 1000) from pg_stat_activity where datname = current_database() and application_name = $1',
    [applicationName],
  );
  return rowCount ?? 0;
}
