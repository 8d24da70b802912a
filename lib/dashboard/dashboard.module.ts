import { type DynamicModule, Module } from '@nestjs/common';
import { DefinitionError } from '../engine/errors.js';
import type { Orchestrator } from '../engine/orchestrator.js';
import { orchestratorToken } from '../engine/orchestrator-token.js';
import { DASHBOARD_OPTIONS, DashboardAccess } from './access.js';
import { DASHBOARD_ORCHESTRATOR, dashboardController } from './dashboard-controller.js';
import { dashboardProblems, type OrchestrationDashboardOptions } from './dashboard-options.js';
import { EventStreams } from './event-streams.js';

/** A web page that shows the runs of an app and lets people act on them, with its REST API and live updates. */
@Module({})
export class OrchestrationDashboardModule {
  /** Wrong options, and none of `guards` in production, fail the boot with {@link DefinitionError}. */
  static forRoot(options: OrchestrationDashboardOptions = {}): DynamicModule {
    const { path = '/orchestration', guards = [], imports = [], name } = options;
    const problems = dashboardProblems(options);
    // With wrong options there is nothing to serve: the boot is to fail with all that is wrong.
    const controllers = problems.length === 0 ? [dashboardController(path, guards)] : [];
    return {
      module: OrchestrationDashboardModule,
      imports,
      controllers,
      providers: [
        { provide: DASHBOARD_OPTIONS, useFactory: () => accepted(options) },
        { provide: DASHBOARD_ORCHESTRATOR, useExisting: orchestratorToken(name) },
        {
          provide: EventStreams,
          inject: [DASHBOARD_ORCHESTRATOR],
          useFactory: (orchestrator: Orchestrator) => new EventStreams(orchestrator),
        },
        DashboardAccess,
      ],
    };
  }
}

function accepted(options: OrchestrationDashboardOptions): OrchestrationDashboardOptions {
  const problems = dashboardProblems(options);
  if (problems.length > 0) throw new DefinitionError(problems);
  return options;
}
