import type { INestApplication, ModuleMetadata, Provider } from '@nestjs/common';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';

import { OrchestrationDashboardModule, type OrchestrationDashboardOptions } from '../../lib/dashboard/index.js';
import { OrchestrationModule, Orchestrator } from '../../lib/index.js';
import type { TestDatabase } from '../support/database.js';

export type Platform = 'express' | 'fastify';

interface DashboardSetup {
  database: TestDatabase;
  platform?: Platform;
  dashboard?: OrchestrationDashboardOptions;
  providers?: Provider[];
  imports?: ModuleMetadata['imports'];
  /** The engine's name. */
  name?: string;
  /** What the app does before it listens. */
  configure?: (app: INestApplication) => void;
}

/** An app with a dashboard, that listens. */
export interface DashboardApp {
  app: INestApplication;
  orchestrator: Orchestrator;
  /** Of the server, without a slash at its end. */
  url: string;
}

const open: INestApplication[] = [];

export async function startDashboard(setup: DashboardSetup): Promise<DashboardApp> {
  const { database, platform = 'express', dashboard, providers = [], imports = [], name, configure } = setup;
  @Module({
    imports: [
      ...imports,
      OrchestrationModule.forRoot({ name, connection: database.connection, worker: { shutdownTimeout: '2s' } }),
      OrchestrationDashboardModule.forRoot(dashboard),
    ],
    providers,
  })
  class AppModule {}
  const options = { logger: false, abortOnError: false } as const;
  const app =
    platform === 'express'
      ? await NestFactory.create(AppModule, options)
      : await NestFactory.create(AppModule, new FastifyAdapter(), options);
  open.push(app);
  configure?.(app);
  await app.listen(0, '127.0.0.1');
  const { port } = (app.getHttpServer() as { address(): { port: number } }).address();
  const token = name === undefined ? Orchestrator : `Orchestrator:${name}`;
  return { app, orchestrator: app.get<Orchestrator>(token, { strict: false }), url: `http://127.0.0.1:${port}` };
}

/** For `afterEach`. */
export async function closeDashboards(): Promise<void> {
  await Promise.all(open.splice(0).map((app) => app.close()));
}
