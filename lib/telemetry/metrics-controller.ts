import { type CanActivate, Controller, Get, Header, Inject, type Type, UseGuards } from '@nestjs/common';
import { TelemetryHost } from './telemetry-host.js';

const TEXT_FORMAT = 'text/plain; version=0.0.4; charset=utf-8';

/** The endpoint that Prometheus reads, at a path and behind guards that the app chooses. */
export function metricsControllerAt(path: string, guards: (Type<CanActivate> | CanActivate)[]): Type<object> {
  @Controller(path)
  @UseGuards(...guards)
  class MetricsController {
    constructor(@Inject(TelemetryHost) private readonly host: TelemetryHost) {}

    @Get()
    @Header('content-type', TEXT_FORMAT)
    async metrics(): Promise<string> {
      return this.host.metricsText();
    }
  }
  return MetricsController;
}
