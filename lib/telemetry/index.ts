export { OrchestrationTelemetryModule, type TelemetryOptions } from './telemetry.module.js';
