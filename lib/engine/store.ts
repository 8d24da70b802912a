import type { FleetHealth } from './health.js';
import type { HintChannel } from './hints.js';
import type { AskedInput, InputIdentity, InputStore } from './input-store.js';
import type { StartLimitError } from './errors.js';
import type { QueueState, StoredLimits } from './queue-limits.js';
import type { Attributes, CompensationStatus, RunStatus, TerminalStatus } from './run.js';
import type { RetentionStore } from './retention.js';
import type { RunQueries } from './run-queries.js';
import type { Ancestor } from './seed.js';
import type { Stats } from './statistics.js';
import type { ScheduleStore } from './schedule-store.js';
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

/** Queues with limits, and those that are paused. */
export interface QueueStore {
  /** What the configuration of an app says; `{}` of a queue that it gives no limits. */
  configure(limits: ReadonlyMap<string, StoredLimits>): Promise<void>;
  setPaused(name: string, paused: boolean): Promise<void>;
  /** Limits instead of the configured ones, or null for those. */
  override(name: string, limits: StoredLimits | null): Promise<void>;
  /** What was on a queue before it got limits counts as well. */
  gateRuns(name: string): Promise<void>;
  /** Takes what the limits of a queue allow. */
  claim(request: GatedClaimRequest): Promise<GatedClaim>;
  list(): Promise<QueueState[]>;
}

export interface GatedClaimRequest {
  workerId: string;
  queue: string;
  definitions: readonly string[];
  limit: number;
}

export interface GatedClaim {
  runs: ClaimedRun[];
  /** When the rate limit, which has been used up, allows the next. */
  moreAt: number | null;
}

/** A queue that is paused or has limits, as the regular look finds it. */
export interface Gate {
  queue: string;
  perWorker: number | null;
  /** Something of it is claimable, as far as its limits allow. */
  ready: boolean;
}

/** What is known of runs that are watched from now on. */
export interface Watched {
  ends: RunEnd[];
  unknown: string[];
  /** Queues on which some of them can be claimed; a claim that came in between has skipped those. */
  readyOn: string[];
}

/** What a process can take on itself, so that what it starts need not be claimed. */
export interface Placement {
  /** The worker, when it has free slots and serves the queue; its own new runs begin at once. */
  workerId: string | undefined;
  /** `order@1` of everything this process can run. */
  definitions: readonly string[];
  /** Parked runs whose code is still in this process: woken, they go on without a claim. */
  resident: readonly string[];
}

export interface NewRun {
  id: string;
  workflow: string;
  version: number;
  key: string | null;
  queue: string;
  priority: number;
  tenant: string | null;
  label: string | null;
  attributes: Attributes | null;
  input: string | null;
  inputDigest: string;
  /** What the caller's context has kept (CallerContext). */
  context: string | null;
  /** The trace that it belongs to, as those who trace it write it down (Telemetry). */
  trace: string | null;
  /** Ms from now, or null for at once. */
  delayMs: number | null;
  startAt: number | null;
  /** Ms from its start on the database's clock. */
  timeoutMs: number | null;
  /** The latest end that it inherits. */
  deadline: number | null;
  parent: ChildPlace | null;
  /** Whether this process would begin it at once. */
  eager: boolean;
}

/** How a child hangs on its parent. */
export interface ChildPlace {
  parentId: string;
  rootId: string;
  depth: number;
  ref: string;
  /** The step attempt that started it, or '' for the workflow's own code. */
  scope: string;
  awaited: boolean;
  /** Whether the parent's cancellation reaches it. */
  cascades: boolean;
  closesWithParent: boolean;
  /** Started in a `shield`: allowed although the parent is being cancelled. */
  shielded: boolean;
}

export interface StartResult {
  id: string;
  /** False when the key found an existing run. */
  started: boolean;
  status: RunStatus;
  inputDigest: string;
  /** The database's time of the start. */
  at: number;
  deadline: number | null;
}

/** The tenant has used its starts up. */
export interface StartRefusal {
  refusal: StartLimitError;
}

export type StartOutcome = StartResult | StartRefusal;

export interface StartWithin {
  result: StartResult;
  /** Whether the caller's transaction has not ended yet: until then, nobody else sees the run. */
  isUncommitted(this: void): boolean;
}

export interface ClaimRequest {
  workerId: string;
  queues: readonly string[];
  definitions: readonly string[];
  limit: number;
}

export interface ClaimedRun {
  id: string;
  workflow: string;
  version: number;
  key: string | null;
  queue: string;
  priority: number;
  tenant: string | null;
  attributes: Attributes;
  input: string | null;
  context: string | null;
  trace: string | null;
  parentId: string | null;
  parentAwaits: boolean;
  rootId: string;
  depth: number;
  epoch: number;
  wakes: number;
  recoveries: number;
  /** How often it has continued as new. */
  generation: number;
  /** Of a fork: whose history it shares, the oldest first. */
  ancestors: Ancestor[] | null;
  /** When its history begins: the run's start, its continuation, or the beginning of the history that it shares. */
  startedAt: number;
  /** When it was last retried after its end. */
  retriedAt: number | null;
  deadline: number | null;
  cancel: CancelMark | null;
  /** Never begun before: it has no history. */
  fresh: boolean;
  /** Since when it could have been claimed; null: it was begun at once. */
  readyAt: number | null;
}

export interface CancelMark {
  reason: string | null;
  at: number;
}

/**
 * What is recorded that is no outcome: a failed attempt, when a timed wait in a step's body began, a body that unwinds, that an
 * at-most-once attempt begins, a heartbeat.
 */
export type NoteKind = 'retry' | 'begun' | 'unwinding' | 'attempt' | 'progress';
/** Kinds of history rows. A `patch` says that the run goes the new way at a change of the code; it is shown, and not replayed. */
export type OutcomeKind =
  | 'step'
  | 'timer'
  | 'signal'
  | 'child'
  | 'start'
  | 'input'
  | 'decision'
  | 'compensation'
  | 'cancel'
  | 'expiry'
  | 'patch'
  | NoteKind;
export type OutcomeStatus = 'completed' | 'failed' | 'cancelled' | 'timeout';

/** What a step's body last said of itself. Its place in the history is the step's own, and overwritten each time. */
export interface Heartbeat {
  runId: string;
  epoch: number;
  seq: number;
  identity: Pick<RecordedOutcome, 'scope' | 'name' | 'ordinal'>;
  attempt: number;
  progress: string | null;
  afterSeq: number;
  startedAt: number;
}

export interface RecordedOutcome {
  seq: number;
  kind: OutcomeKind;
  scope: string;
  name: string;
  ordinal: number;
  status: OutcomeStatus;
  /** Of what the call was made with; of a wait for a signal, which one it received. */
  digest: string | null;
  output: string | null;
  error: string | null;
  attempts: number;
  /** The entry after whose delivery the code asked for this one. */
  afterSeq: number;
  startedAt: number;
  finishedAt: number;
  childId: string | null;
  /** What the body of the step has logged; written, and only looked at by people. */
  logs?: string | null;
}

export interface RecordedChild {
  id: string;
  ref: string;
  scope: string;
  workflow: string;
  version: number;
  inputDigest: string;
  status: RunStatus;
  awaited: boolean;
  closesWithParent: boolean;
  cascades: boolean;
  /** Started by an earlier generation of the parent. */
  carriedOver: boolean;
}

export interface RecordedRun {
  outcomes: RecordedOutcome[];
  children: RecordedChild[];
}

export interface RunEnd {
  id: string;
  workflow: string;
  status: TerminalStatus;
  output: string | null;
  error: string | null;
}

/** How a write moves its run on. */
export type Move =
  | { to: 'completed'; output: string | null }
  | { to: 'failed' | 'cancelled'; error: string }
  | { to: 'blocked'; error: string }
  /** Begins anew with this input and without a history. */
  | { to: 'continued'; input: string | null }
  /** Gives the slot up until something happens. Refused when a wake has come that the write's `seenWakes` does not count. */
  | { to: 'waiting'; wakeAt: number | null; waitingFor: string };

/** What one run has to write: its outcomes, its new children, how it moves on. All or nothing. */
export interface RunWrite {
  runId: string;
  workflow: string;
  epoch: number;
  /** Numbers the writes that change the run's row, so that a repeated one is recognised. */
  writeNo: number;
  /** Who must be touched when this write ends the run. */
  parentId: string | null;
  outcomes: RecordedOutcome[];
  children: NewRun[];
  move: Move | null;
  /** The wakes of the run that were known when its move was decided. */
  seenWakes: number;
  /** Undefined: unchanged. */
  state: string | null | undefined;
  attributes: Attributes | null;
  /** Whether the run knows that it is being cancelled. One that does not cannot end, park or start children. */
  knowsCancel: boolean;
  effects: Effects | null;
}

/** What a write does to other runs, and to what people see of this one. */
export interface Effects {
  /** Children to cancel, with their descendants. */
  cancels: { runIds: string[]; reason: string }[];
  /** Own children whose end now wakes this run. */
  awaits: string[];
  /** Other runs whose end now wakes this run. */
  watches: string[];
  /** Ended children whose ref becomes free. */
  supersedes: string[];
  /** This write ends the run: children that close with it are cancelled. */
  closesChildren: boolean;
  /** Inputs that the run waits for from now on, and those that it does not wait for any more. */
  asks: AskedInput[];
  closes: Omit<InputIdentity, 'runId'>[];
  /** This write ends the run: it waits for no input. */
  closesInputs: boolean;
  /** This write continues the run as its next generation, after this one. */
  continues: { generation: number } | null;
  /** How far the run's own compensations are; null: unchanged. */
  compensation: Exclude<CompensationStatus, 'none'> | null;
}

export interface CommitResult {
  /** Of each write that was made under the current epoch; a run that is missing was lost to another worker. */
  runs: CommittedRun[];
  /** Runs that these writes touched: parents and watchers. */
  woken: WokenRun[];
  /** The new children that were made; one that is missing was refused because its parent is being cancelled. */
  children: { id: string; status: RunStatus; deadline: number | null }[];
  cancelled: CancelResult | null;
  /** Queues on which runs that are waited for from now on can be claimed; a claim that came in between has skipped those. */
  readyOn: string[];
  /** The database's time. */
  at: number;
}

export interface CommittedRun {
  id: string;
  status: RunStatus;
  wakes: number;
  cancel: CancelMark | null;
  /** Another process waits for its result. */
  watched: boolean;
  /** Set when the write has continued the run. */
  next: Generation | undefined;
}

/** A run that has begun anew, still in the hands of its worker. */
export interface Generation {
  workerId: string | null;
  generation: number;
  epoch: number;
  wakes: number;
  startedAt: number;
}

export interface WokenRun {
  id: string;
  status: RunStatus;
  epoch: number;
  wakes: number;
  queue: string;
  workerId: string | null;
}

/** A signal that is sent. */
export interface NewSignal {
  runId: string;
  /** Whatever has the same id is the same signal of that run. */
  id: string;
  name: string;
  payload: string | null;
  /** Also to live descendants that wait for it. */
  toTree: boolean;
}

/** What became of a signal: `finished` and `unknown` runs take none. */
export interface SentSignal {
  outcome: 'sent' | 'repeated' | 'finished' | 'unknown';
  status: RunStatus | undefined;
  /** The addressed run, woken, and what it has got. */
  received: { run: WokenRun; signal: BufferedSignal } | undefined;
  /** Descendants that it was sent to as well. */
  woken: WokenRun[];
}

/** A signal that a run has got. */
export interface BufferedSignal {
  /** As it is stored. */
  id: string;
  /** The run's count of wakes with this signal: the order in which its signals were sent. */
  seq: number;
  name: string;
  payload: string | null;
  sentAt: number;
  /** Only a wait that had begun when it was sent takes it. */
  forWaits: boolean;
}

export interface StartWithSignal {
  run: NewRun;
  /** Its `runId` is that of the new run. */
  signal: NewSignal;
  isRefused(start: StartResult): boolean;
}

export interface SignalsWanted {
  runId: string;
  name: string;
  afterSeq: number;
}

export interface SignalsFound {
  signals: BufferedSignal[];
  hasMore: boolean;
}

export interface CancelRequest {
  reason: string | null;
  /** End at once without running user code. */
  terminate: boolean;
}

export interface CancelResult {
  found: boolean;
  /** Ended by the request itself. */
  ended: { id: string; watched: boolean; workflow: string; parentId: string | null; rootId: string; at: number }[];
  /** Their code still has to unwind. */
  unwinding: WokenRun[];
  /** Parents and watchers of those that ended. */
  woken: WokenRun[];
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
