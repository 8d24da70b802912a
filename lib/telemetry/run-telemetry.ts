import type { Meter, Tracer } from '@opentelemetry/api';
import type { ClaimedRun } from '../engine/claimed-run.js';
import type { RecordedOutcome } from '../engine/recorded-run.js';
import type { Move } from '../engine/run-write.js';
import type { ObservedEngine, ObservedExecution, ObservedPass, StartedTrace, Telemetry } from '../engine/telemetry.js';
import { RunMetrics } from './run-metrics.js';
import { RunTraces } from './run-traces.js';

/** The name under which its tracer and its meter are known. */
export const SCOPE = 'nestjs-orchestration';

/** Traces and measures the runs of one engine. */
export class RunTelemetry implements Telemetry {
  private readonly traces: RunTraces;
  private readonly metrics: RunMetrics[];

  constructor(meters: readonly Meter[], tracer: Tracer) {
    this.traces = new RunTraces(tracer);
    this.metrics = meters.map((meter) => new RunMetrics(meter));
  }

  opened(engine: ObservedEngine): void {
    for (const one of this.metrics) one.observe(engine);
  }

  starting<T>(runs: readonly StartedTrace[], start: () => Promise<T>): Promise<T> {
    return this.traces.starting(runs, start);
  }

  claimed(runs: readonly ClaimedRun[], at: number): void {
    for (const one of this.metrics) one.claimed(runs, at);
  }

  pass(run: ClaimedRun, execution: ObservedExecution): ObservedPass {
    if (run.fresh) for (const one of this.metrics) one.began(run);
    return this.traces.pass(run, execution, (to) => this.ended(run, to, execution.clock.now()));
  }

  recorded(run: ClaimedRun, outcomes: readonly RecordedOutcome[]): void {
    for (const one of this.metrics) one.recorded(run, outcomes);
  }

  committed(writes: number, ms: number): void {
    for (const one of this.metrics) one.committed(writes, ms);
  }

  close(): void {
    for (const one of this.metrics) one.close();
  }

  private ended(run: ClaimedRun, to: Move['to'] | undefined, at: number): void {
    if (to === 'completed' || to === 'failed' || to === 'cancelled') {
      for (const one of this.metrics) one.ended(run, to, at);
    }
  }
}
