import type { DatabaseClock } from './clock.js';
import type { CommandIdentity } from './command.js';
import type { QueueState } from './queue-limits.js';
import type { Returned } from './run-end.js';
import type { PayloadSerializer } from './serialization.js';
import type { ClaimedRun } from './claimed-run.js';
import type { NewRun } from './new-run.js';
import type { RecordedOutcome } from './recorded-run.js';
import type { Move } from './run-write.js';

/**
 * Follows what this process does with runs, for those who trace and measure it. Absent unless an app asks for it: then
 * nothing of it is made, and nobody is asked.
 */
export interface Telemetry {
  /** The engine is open: what can be looked up at any time. */
  opened(engine: ObservedEngine): void;
  /** Runs are started from outside, by `start`; it gives each its `trace` before. */
  starting<T>(runs: readonly StartedTrace[], start: () => Promise<T>): Promise<T>;
  /** Runs have been claimed, at that time of the database. */
  claimed(runs: readonly ClaimedRun[], at: number): void;
  /** A pass over a run begins; it has its slot. */
  pass(run: ClaimedRun, execution: ObservedExecution): ObservedPass;
  /** Outcomes of a run are durable. */
  recorded(run: ClaimedRun, outcomes: readonly RecordedOutcome[]): void;
  /** A group commit is done. */
  committed(writes: number, ms: number): void;
}

export interface ObservedEngine {
  readonly clock: Pick<DatabaseClock, 'now'>;
  /** Undefined: this process executes no runs. */
  readonly load: { running: number; parked: number } | undefined;
  /** Asks the database. */
  queues(): Promise<QueueState[]>;
}

/** A run that is started, as far as it is known; `trace` is written. */
export type StartedTrace = Pick<NewRun, 'id' | 'trace'> &
  Partial<Pick<NewRun, 'workflow' | 'version' | 'queue' | 'tenant'>>;

export interface ObservedExecution {
  readonly clock: Pick<DatabaseClock, 'now'>;
  readonly serializer: Pick<PayloadSerializer, 'decodeError'>;
}

/** One pass over one run. It has its slot from its beginning until it `ends`, and again from when it `resumes`. */
export interface ObservedPass {
  /** Runs code of the run in its trace. Replays enter it too. */
  enter<T>(code: () => T): T;
  /** A body begins: not in a replay. */
  attempt(attempt: BegunAttempt): ObservedAttempt;
  /** A child is started, and gets its `trace`: not in a replay. */
  startsChild(child: NewRun): void;
  resumes(): void;
  /** The run has moved on so, or (`undefined`) this process has given it up or lost it. Repeating it changes nothing. */
  ends(to: Move['to'] | undefined, error?: string): void;
}

export interface BegunAttempt {
  identity: CommandIdentity;
  /** Its name with the number of its call. */
  step: string;
  attempt: number;
  /** Where its body's own calls are numbered. */
  scope: string;
}

export interface ObservedAttempt {
  enter<T>(code: () => T): T;
  /** `undefined`: its end is of no interest any more. Repeating it changes nothing. */
  end(returned: Returned | undefined): void;
}
