export { type HealthOptions, type HealthResult, OrchestrationHealthIndicator } from './health-indicator.js';
export { OrchestrationTelemetryModule, type TelemetryOptions } from './telemetry.module.js';
