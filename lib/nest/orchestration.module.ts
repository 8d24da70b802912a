import { type DynamicModule, Logger, Module, type Provider } from '@nestjs/common';
import { DiscoveryModule, DiscoveryService, ModuleRef } from '@nestjs/core';
import { ChildOrchestrator } from '../engine/child-orchestrator.js';
import { Orchestrator } from '../engine/orchestrator.js';
import { orchestratorToken } from '../engine/orchestrator-token.js';
import { RunContext } from '../engine/run-context.js';
import type { Telemetry } from '../engine/telemetry.js';
import { EngineHost } from './engine-host.js';
import { FeatureAssignment } from './explorer.js';
import type { OrchestrationModuleOptions } from './module-options.js';
import {
  type ASYNC_OPTIONS_TYPE,
  ConfigurableModuleClass,
  MODULE_OPTIONS_TOKEN,
  type OPTIONS_TYPE,
} from './orchestration.module-definition.js';
import { hostToken, telemetryToken } from './tokens.js';

/**
 * Durable workflows on the app's PostgreSQL. Import it once (`forRoot`, `forRootAsync`); it is global. Workflow classes
 * are ordinary providers of any module and are found by themselves.
 */
@Module({ imports: [DiscoveryModule] })
export class OrchestrationModule extends ConfigurableModuleClass {
  /** Every option is optional: without any, the app's DataSource or else an embedded PostgreSQL is used. */
  static override forRoot(options: typeof OPTIONS_TYPE = {}): DynamicModule {
    const { name, ...rest } = options;
    return withServices(super.forRoot(rest), name);
  }

  /** As forRoot, with options from a factory, a class or another provider. */
  static override forRootAsync(options: typeof ASYNC_OPTIONS_TYPE): DynamicModule {
    return withServices(super.forRootAsync(options), options.name);
  }

  /** Provides workflow classes; with a name, for the engine of that name. */
  static forFeature(workflows: (new (...args: never[]) => object)[], name?: string): DynamicModule {
    const assignment = new FeatureAssignment(workflows, name);
    return {
      module: FeatureModule,
      providers: [...(workflows as Provider[]), { provide: assignment.token, useValue: assignment }],
      exports: workflows as Provider[],
    };
  }
}

@Module({})
class FeatureModule {}

function withServices(module: DynamicModule, name: string | undefined): DynamicModule {
  const host = hostToken(name);
  const services: Provider[] = [
    {
      provide: host,
      inject: [MODULE_OPTIONS_TOKEN, DiscoveryService, ModuleRef, { token: telemetryToken(name), optional: true }],
      useFactory: (
        options: OrchestrationModuleOptions | undefined,
        discovery: DiscoveryService,
        moduleRef: ModuleRef,
        telemetry: Telemetry | undefined,
      ) => new EngineHost(name, options ?? {}, { discovery, moduleRef, telemetry }),
    },
    {
      provide: orchestratorToken(name),
      inject: [host],
      useFactory: (engineHost: EngineHost) => new Orchestrator(() => engineHost.engine(), engineHost.events$),
    },
    { provide: ChildOrchestrator, useFactory: () => new ChildOrchestrator() },
    { provide: RunContext, useFactory: () => new RunContext((context) => new Logger(context)) },
  ];
  return {
    ...module,
    providers: [...(module.providers ?? []), ...services],
    exports: [orchestratorToken(name), ChildOrchestrator, RunContext],
  };
}
