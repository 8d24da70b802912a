import { type CanActivate, type DynamicModule, Module, type Type } from '@nestjs/common';
import type { MeterProvider, TracerProvider } from '@opentelemetry/api';
import { DefinitionError } from '../engine/errors.js';
import { telemetryToken } from '../nest/tokens.js';
import { OrchestrationHealthIndicator } from './health-indicator.js';
import { metricsControllerAt } from './metrics-controller.js';
import { TelemetryHost } from './telemetry-host.js';

/** Options of `OrchestrationTelemetryModule.forRoot`. Every one is optional. */
export interface TelemetryOptions {
  /** The engine's name, when its module has one. */
  name?: string;
  /** Serves the engine's metrics to Prometheus at this path, such as `'/metrics'`. Default: there is no endpoint. */
  path?: string;
  /** Guards of the endpoint. */
  guards?: (Type<CanActivate> | CanActivate)[];
  /** Default: the global one, which the SDK registers when it is started. */
  tracerProvider?: TracerProvider;
  /** Default: the global one. It must be registered before the app is created. */
  meterProvider?: MeterProvider;
}

const OPTIONS = new Set<string>([
  'name',
  'path',
  'guards',
  'tracerProvider',
  'meterProvider',
] satisfies (keyof TelemetryOptions)[]);

/**
 * OpenTelemetry traces and metrics of the runs, and a Prometheus endpoint. Import it
 * once beside OrchestrationModule; it is global. Throws DefinitionError for bad options.
 */
@Module({})
export class OrchestrationTelemetryModule {
  static forRoot(options: TelemetryOptions = {}): DynamicModule {
    const problems = telemetryProblems(options);
    if (problems.length) throw new DefinitionError(problems);
    const { name, path, guards = [] } = options;
    return {
      module: OrchestrationTelemetryModule,
      global: true,
      providers: [
        { provide: TelemetryHost, useFactory: () => hostOf(options) },
        { provide: telemetryToken(name), inject: [TelemetryHost], useFactory: (host: TelemetryHost) => host.telemetry },
        OrchestrationHealthIndicator,
      ],
      controllers: path === undefined ? [] : [metricsControllerAt(path, guards)],
      exports: [telemetryToken(name), OrchestrationHealthIndicator],
    };
  }
}

/** Prometheus' packages are needed only where its endpoint is asked for. */
async function hostOf({ path, tracerProvider, meterProvider }: TelemetryOptions): Promise<TelemetryHost> {
  const prometheus = path === undefined ? undefined : new (await import('./prometheus.js')).PrometheusMetrics();
  return new TelemetryHost({ tracerProvider, meterProvider }, prometheus);
}

function telemetryProblems(options: TelemetryOptions): string[] {
  const problems = Object.keys(options)
    .filter((option) => !OPTIONS.has(option))
    .map(
      (option) =>
        `OrchestrationTelemetryModule.forRoot: unknown option '${option}' (known: ${[...OPTIONS].join(', ')})`,
    );
  const { path, guards } = options;
  if (path !== undefined && (typeof path !== 'string' || path === ''))
    problems.push(
      `OrchestrationTelemetryModule.forRoot: path must be a text that is not empty, not ${JSON.stringify(path)}`,
    );
  if (guards !== undefined && path === undefined)
    problems.push('OrchestrationTelemetryModule.forRoot: guards are for the endpoint; give its path, too');
  return problems;
}
