import type { CancelRequest, CancelResult } from './cancellation.js';
import type { ClaimRequest, ClaimedRun } from './claimed-run.js';
import type { FleetHealth } from './health.js';
import type { HintChannel } from './hints.js';
import type { InputStore } from './input-store.js';
import type { NewRun, Placement, StartOutcome, StartResult, StartWithin } from './new-run.js';
import type { QueueStore } from './queue-store.js';
import type { Heartbeat, RecordedRun } from './recorded-run.js';
import type { RetentionStore } from './retention.js';
import type { RunStatus, TerminalStatus } from './run.js';
import type { RunQueries } from './run-queries.js';
import type { CommitResult, RunWrite } from './run-write.js';
import type { ScheduleStore } from './schedule-store.js';
import type { NewSignal, SentSignal, SignalsFound, SignalsWanted, StartWithSignal } from './sent-signal.js';
import type { Stats } from './statistics.js';
import type { BeatRequest, WorkerStore } from './worker-store.js';

/*
 * The engine's only door to the database: transitions, never rows. Payloads are stored text (PayloadSerializer), times
 * are epoch ms of the database's clock, and every write of a run carries the epoch of the claim it was made under; a
 * write under an older epoch changes nothing.
 */
export interface Store {
  readonly workers: WorkerStore;
  readonly runs: RunQueries;
  readonly inputs: InputStore;
  readonly queues: QueueStore;
  readonly schedules: ScheduleStore;
  readonly retention: RetentionStore;
  readonly hints: HintChannel;

  /**
   * Inserts runs; a key that is taken gives the run that has it. One statement, whatever the number, unless tenants have a
   * limit. `together`: when one is refused by that, none is started.
   */
  start(runs: readonly NewRun[], placement: Placement, together: boolean): Promise<StartOutcome[]>;
  /** Starts a run in place of the one that has its key, which is cancelled if it is active. */
  startReplacing(run: NewRun): Promise<{ start: StartResult; cancelled: CancelResult | null }>;
  /** Starts a run after its delay; or gives its input to the one that has its key and has not begun, and delays that anew. */
  startDebounced(run: NewRun): Promise<StartResult>;
  /** The same inside the caller's transaction: durable and visible when that commits. */
  startWithin(transaction: unknown, run: NewRun): Promise<StartWithin>;

  /** Takes up to `limit` claimable runs for a worker, most urgent first, and raises their epochs. */
  claim(request: ClaimRequest): Promise<ClaimedRun[]>;
  /** A run as a claim would give it, and its status; nothing is claimed. */
  loadRun(runId: string): Promise<(ClaimedRun & { status: RunStatus }) | undefined>;
  /** What is recorded of these runs: the outcomes in their order, and the children. */
  loadHistories(runIds: readonly string[]): Promise<Map<string, RecordedRun>>;
  /** The outcomes of those of these runs that have ended. */
  loadEnds(runIds: readonly string[]): Promise<RunEnd[]>;

  /** Group commit: all writes of all runs in one statement and one commit. */
  commit(writes: readonly RunWrite[], placement: Placement): Promise<CommitResult>;
  /** One write that also reaches other runs (cancels, awaits…), in one transaction of its own. */
  commitWithEffects(write: RunWrite, placement: Placement): Promise<CommitResult>;

  /** The newest heartbeat of steps, one for each. Those of runs that are another worker's by now are left out. */
  keepHeartbeats(heartbeats: readonly Heartbeat[]): Promise<void>;

  /** Makes due timers claimable. */
  wakeDue(limit: number): Promise<WokenRun[]>;
  /** Wakes a parked run that its own worker found to be not done waiting. */
  wake(runId: string): Promise<WokenRun[]>;
  /** Requests the cancellation of runs and of all their active descendants, in one transaction. */
  cancel(runIds: readonly string[], request: CancelRequest): Promise<CancelResult>;
  /** Pauses a run, or lets it go on; undefined when there is no such run, or it has ended. */
  setPaused(runId: string, paused: boolean): Promise<WokenRun | undefined>;
  /** Makes a run that is executed under this epoch, and that nothing is under way of, claimable. */
  giveUp(runId: string, epoch: number): Promise<WokenRun[]>;
  /** Makes a finished or blocked run claimable again, without the outcomes that made it end. */
  retry(runId: string): Promise<{ status: RunStatus; retried: boolean; woken: WokenRun[] } | undefined>;

  /** Starts a run that shares the history of another before a step; undefined when there is no such run. */
  fork(request: ForkRequest): Promise<Fork | undefined>;

  /** Deletes a finished run with all its descendants; undefined when there is no such run. */
  delete(runId: string): Promise<Deletion | undefined>;

  /** Sends signals, each committed with the wake-up of its run. */
  signal(signals: readonly NewSignal[]): Promise<SentSignal[]>;
  /** The same inside the caller's transaction: sent, in its place after what was sent meanwhile, when that commits. */
  signalWithin(transaction: unknown, signal: NewSignal): Promise<SentSignal>;
  /** Starts a run, or finds the one of its key, and sends it a signal unless that is refused. One transaction. */
  startWithSignal(
    start: StartWithSignal,
    placement: Placement,
  ): Promise<{ start: StartResult; sent: SentSignal | undefined }>;
  /** Unread signals, of each run and name in the order in which they were sent. */
  loadSignals(wanted: readonly SignalsWanted[]): Promise<SignalsFound[]>;
  /** The ends of those of these runs that have one; whoever ends the others will announce it. */
  watch(runIds: readonly string[]): Promise<Watched>;
  /** Called when a reply was lost, so that something may have happened of which nobody here heard. */
  onTrouble(listener: () => void): void;

  stats(): Promise<Stats>;
  /** Of runs that this worker could claim; undefined: that any live one could. */
  health(worker: Pick<BeatRequest, 'queues' | 'definitions'> | undefined): Promise<FleetHealth>;
}

/** What is known of runs that are watched from now on. */
export interface Watched {
  ends: RunEnd[];
  unknown: string[];
  /** Queues on which some of them can be claimed; a claim that came in between has skipped those. */
  readyOn: string[];
}

export interface RunEnd {
  id: string;
  workflow: string;
  status: TerminalStatus;
  output: string | null;
  error: string | null;
  /** Epoch ms of the database; null when it is told as it happens. */
  endedAt: number | null;
}

export interface WokenRun {
  id: string;
  status: RunStatus;
  epoch: number;
  wakes: number;
  queue: string;
  workerId: string | null;
}

export interface ForkRequest {
  runId: string;
  newId: string;
  /** The step with the number of its call. */
  fromStep: string;
  /** Undefined: the input of the original. */
  input: { stored: string | null; digest: string } | undefined;
  /** The trace that the new run belongs to. */
  trace: string | null;
}

/** The new run; or, when the original has no such step, those that it has. */
export type Fork = { woken: WokenRun[] } | { steps: string[] };

/** Undefined hindrance: the runs are gone. */
export interface Deletion {
  /** An active member of the family; or an active run outside of it, and which member it needs. */
  hindrance: { id: string; status: RunStatus; needs: string | undefined } | undefined;
}
