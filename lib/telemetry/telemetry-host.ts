import type { OnApplicationShutdown } from '@nestjs/common';
import { type MeterProvider, metrics, trace, type TracerProvider } from '@opentelemetry/api';
import type { PrometheusMetrics } from './prometheus.js';
import { RunTelemetry, SCOPE } from './run-telemetry.js';

interface Providers {
  tracerProvider: TracerProvider | undefined;
  meterProvider: MeterProvider | undefined;
}

/** The telemetry of one engine in the life of a Nest app. */
export class TelemetryHost implements OnApplicationShutdown {
  readonly telemetry: RunTelemetry;

  constructor(
    { tracerProvider, meterProvider }: Providers,
    private readonly prometheus: PrometheusMetrics | undefined,
  ) {
    const meter = (meterProvider ?? metrics).getMeter(SCOPE);
    const tracer = (tracerProvider ?? trace).getTracer(SCOPE);
    this.telemetry = new RunTelemetry(prometheus ? [meter, prometheus.meter] : [meter], tracer);
  }

  async metricsText(): Promise<string> {
    return (await this.prometheus?.text()) ?? '';
  }

  async onApplicationShutdown(): Promise<void> {
    this.telemetry.close();
    await this.prometheus?.close();
  }
}
