import type { BatchObservableResult, Meter } from '@opentelemetry/api';
import type { ClaimedRun } from '../engine/claimed-run.js';
import { endsWithin } from '../engine/ends-within.js';
import type { RecordedOutcome } from '../engine/recorded-run.js';
import type { TerminalStatus } from '../engine/run.js';
import type { ObservedEngine } from '../engine/telemetry.js';

const SHORT = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const LONG = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400, 604_800];
const ATTEMPTS = [1, 2, 3, 5, 10, 20, 50];
const WRITES = [1, 2, 5, 10, 20, 50, 100, 200, 500];

/** So long a collection waits for the database. */
const COLLECTION_PATIENCE_MS = 5_000;

/** What a process counts and measures, as instruments of one meter. Attributes have few values: no ids, no keys, no step names. */
export class RunMetrics {
  private readonly instruments;
  private stopObserving: (() => void) | undefined;

  constructor(private readonly meter: Meter) {
    const seconds = (name: string, description: string, explicitBucketBoundaries: number[]) =>
      meter.createHistogram(name, { description, unit: 's', advice: { explicitBucketBoundaries } });
    const counts = (name: string, description: string, explicitBucketBoundaries: number[]) =>
      meter.createHistogram(name, { description, advice: { explicitBucketBoundaries } });
    this.instruments = {
      started: meter.createCounter('orchestration.runs.started', { description: 'Runs that began here' }),
      ended: meter.createCounter('orchestration.runs.ended', { description: 'Runs that ended here, by how they did' }),
      runDuration: seconds('orchestration.run.duration', 'From the first slot of a run until its end', LONG),
      stepDuration: seconds('orchestration.step.duration', 'From the call of a step until its outcome', LONG),
      stepAttempts: counts('orchestration.step.attempts', 'Attempts that a step has taken', ATTEMPTS),
      claimLatency: seconds('orchestration.claim.latency', 'From when a run was claimable until it was claimed', SHORT),
      commitDuration: seconds('orchestration.commit.duration', 'A group commit', SHORT),
      commitWrites: counts('orchestration.commit.writes', 'Runs whose writes went into one group commit', WRITES),
    };
  }

  began({ workflow, queue }: ClaimedRun): void {
    this.instruments.started.add(1, { workflow, queue });
  }

  ended({ workflow, queue, startedAt }: ClaimedRun, status: TerminalStatus, at: number): void {
    const attributes = { workflow, queue, status };
    this.instruments.ended.add(1, attributes);
    this.instruments.runDuration.record(secondsBetween(startedAt, at), attributes);
  }

  recorded({ workflow, queue }: ClaimedRun, outcomes: readonly RecordedOutcome[]): void {
    for (const { kind, status, startedAt, finishedAt, attempts } of outcomes) {
      if (kind !== 'step') continue;
      const attributes = { workflow, queue, status };
      this.instruments.stepDuration.record(secondsBetween(startedAt, finishedAt), attributes);
      this.instruments.stepAttempts.record(attempts, attributes);
    }
  }

  claimed(runs: readonly ClaimedRun[], at: number): void {
    for (const { queue, readyAt } of runs)
      if (readyAt !== null) this.instruments.claimLatency.record(secondsBetween(readyAt, at), { queue });
  }

  committed(writes: number, ms: number): void {
    this.instruments.commitWrites.record(writes);
    this.instruments.commitDuration.record(ms / 1_000);
  }

  /** What is looked up when metrics are collected: the load of this process, and by one query the queues of the fleet. */
  observe(engine: ObservedEngine): void {
    const { meter } = this;
    const gauges = {
      load: meter.createObservableGauge('orchestration.worker.runs', {
        description: 'Runs in the memory of this process: running (with a slot) and parked',
      }),
      runs: meter.createObservableGauge('orchestration.queue.runs', {
        description: 'Runs of the whole fleet that wait for a slot or their time, and that run',
      }),
      oldest: meter.createObservableGauge('orchestration.queue.oldest_due', {
        description: 'How long the longest-waiting claimable run has been claimable',
        unit: 's',
      }),
    };
    const collect = async (result: BatchObservableResult) => {
      const { load } = engine;
      for (const state of ['running', 'parked'] as const) if (load) result.observe(gauges.load, load[state], { state });
      for (const { name: queue, pending, running, oldestDueAt } of await queuesOf(engine)) {
        result.observe(gauges.runs, pending, { queue, state: 'pending' });
        result.observe(gauges.runs, running, { queue, state: 'running' });
        const age = oldestDueAt ? secondsBetween(oldestDueAt.getTime(), engine.clock.now()) : 0;
        result.observe(gauges.oldest, age, { queue });
      }
    };
    const observables = Object.values(gauges);
    meter.addBatchObservableCallback(collect, observables);
    this.stopObserving = () => meter.removeBatchObservableCallback(collect, observables);
  }

  close(): void {
    this.stopObserving?.();
  }
}

/** Nothing while the database is away: then there is nothing to say, and the other metrics must not wait for it. */
async function queuesOf(engine: ObservedEngine) {
  const queues = engine.queues().catch(() => []);
  return (await endsWithin(COLLECTION_PATIENCE_MS, queues)) ? queues : [];
}

/** Clocks of processes differ by a little. */
function secondsBetween(from: number, to: number): number {
  return Math.max(0, to - from) / 1_000;
}
