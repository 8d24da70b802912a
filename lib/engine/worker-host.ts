import { type CallerContext, outside } from './caller-context.js';
import type { DatabaseClock } from './clock.js';
import type { Draining } from './draining.js';
import type { ExecutionHost } from './execution-host.js';
import type { HeartbeatBuffer } from './heartbeat-buffer.js';
import type { Lease } from './lease.js';
import type { Notices } from './notices.js';
import type { MadeOpening } from './openings.js';
import type { WorkflowRegistry } from './registry.js';
import { RunExecution } from './run-execution.js';
import { reportEnd, reportStart, reportWrite } from './run-reports.js';
import type { RunsInMemory } from './runs-in-memory.js';
import type { PayloadSerializer } from './serialization.js';
import type { SignalLooks } from './signal-looks.js';
import type { CancelRequest } from './cancellation.js';
import type { ClaimedRun } from './claimed-run.js';
import type { RecordedRun } from './recorded-run.js';
import type { Generation, RunWrite } from './run-write.js';
import type { NewSignal, SentSignal, SignalsFound, SignalsWanted } from './sent-signal.js';
import type { RunEnd, Store } from './store.js';
import type { Telemetry } from './telemetry.js';
import type { Transactions } from './transactions.js';
import type { WakeTimer } from './wake-timer.js';
import type { WorkerParts } from './worker.js';
import type { WriteBuffer, WriteSink } from './write-buffer.js';

interface PartsOfWorker {
  maxRecoveries: number;
  runs: RunsInMemory;
  lease: Lease;
  commits: WriteSink;
  heartbeats: HeartbeatBuffer;
  signalLooks: SignalLooks;
  notices: Notices;
  wakeTimer: WakeTimer;
  draining: Draining;
  isStopped(): boolean;
  /** Whether a run of that queue that is parked here may go on. */
  mayResume(queue: string): boolean;
  lookForStrays(): void;
  slotFreed(queue: string): void;
  guard(work: () => Promise<void>): Promise<void>;
  guardRuns(work: () => Promise<void>): Promise<void>;
}

/** The worker as its runs see it: they come into memory here, ask for what they need, and leave. */
export class WorkerHost implements ExecutionHost {
  readonly store: Store;
  readonly clock: DatabaseClock;
  readonly serializer: PayloadSerializer;
  readonly registry: WorkflowRegistry;
  readonly callerContext: CallerContext | undefined;
  readonly transactions: Transactions | undefined;
  readonly telemetry: Telemetry | undefined;
  readonly heartbeats: HeartbeatBuffer;

  constructor(
    private readonly parts: WorkerParts,
    private readonly own: PartsOfWorker,
  ) {
    this.store = parts.store;
    this.clock = parts.clock;
    this.serializer = parts.serializer;
    this.registry = parts.registry;
    this.callerContext = parts.callerContext;
    this.transactions = parts.transactions;
    this.telemetry = parts.telemetry;
    this.heartbeats = own.heartbeats;
  }

  /** Begins or replays a run that is this worker's. */
  takeOn(run: ClaimedRun, recorded: RecordedRun | undefined): void {
    const execution = this.passOver(run, recorded);
    this.own.runs.add(execution);
    if (run.fresh) reportStart(this.parts.events, run);
    outside(() => execution.start(this.own.maxRecoveries));
  }

  passOver(run: ClaimedRun, recorded: RecordedRun | undefined): RunExecution {
    const definition = this.registry.get(run.workflow, run.version);
    if (!definition)
      throw new Error(`Run ${run.id} of the unknown definition ${run.workflow}@${run.version} was claimed`);
    return new RunExecution(run, definition, recorded, this);
  }

  /** A run that is committed with its opening: it is parked here from the beginning, unless it was claimed meanwhile. */
  takeOnOpened(opening: MadeOpening, at: number): void {
    const { execution } = opening;
    const { run } = execution;
    if (this.own.runs.find(run.id)) return execution.drop('It was claimed anew');
    execution.committedAt(at);
    reportStart(this.parts.events, run);
    outside(() => opening.finish());
  }

  // ---- what runs ask for

  get isDraining(): boolean {
    return this.own.draining.hasBegun;
  }

  enqueue(buffer: WriteBuffer): void {
    this.own.commits.enqueue(buffer);
  }

  cancel(runId: string, request: CancelRequest): Promise<{ cancelled: number; requested: number }> {
    return this.parts.cancel(runId, request);
  }

  resolveVersion(workflow: string): Promise<number> {
    return this.parts.resolveVersion(workflow);
  }

  loadSignals(wanted: SignalsWanted): Promise<SignalsFound> {
    return this.own.signalLooks.load(wanted);
  }

  signal(signal: NewSignal): Promise<SentSignal> {
    return this.parts.signal(signal);
  }

  checkExists(runId: string, onUnknown: () => void): void {
    void this.own.guard(async () => {
      if (!(await this.store.runs.exists(runId))) onUnknown();
    });
  }

  wake(execution: RunExecution): void {
    void this.own.guard(async () => this.own.notices.woken(await this.store.wake(execution.run.id)));
  }

  lookUp(execution: RunExecution, look: () => Promise<void>): Promise<void> {
    return this.own.guardRuns(async () => {
      try {
        await look();
      } catch (error) {
        execution.drop('What it waits for could not be looked up');
        this.left(execution, undefined);
        throw error;
      }
    });
  }

  warn(message: string): void {
    this.parts.warn(message);
  }

  // ---- what they tell

  committed(execution: RunExecution, write: Pick<RunWrite, 'outcomes' | 'move'>): void {
    reportWrite(this.parts.events, execution.run, write, this.clock.now());
    this.telemetry?.recorded(execution.run, write.outcomes);
    this.own.draining.changed();
  }

  /** A parent that is parked here goes on in the slot of the child that ends. */
  ends(execution: RunExecution, end: RunEnd): void {
    const { runs, mayResume } = this.own;
    const parent = runs.find(execution.run.parentId!);
    if (!parent?.mayFollow || !mayResume(parent.run.queue)) return;
    if (parent.isParked) {
      runs.passSlotOn(execution);
      runs.unpark(parent);
    }
    outside(() => parent.follow(execution, end));
  }

  /** The database may show it as running here. */
  brokenOff(): void {
    this.own.lookForStrays();
  }

  endRefused(execution: RunExecution): void {
    this.own.runs.takeSlotBack(execution);
  }

  parked(execution: RunExecution): void {
    this.own.runs.park(execution);
    if (execution.parkedUntil !== null) this.own.wakeTimer.dueAt(execution.parkedUntil);
    this.own.slotFreed(execution.run.queue);
  }

  paused(execution: RunExecution): void {
    const { id, epoch, queue } = execution.run;
    execution.drop('The run is paused');
    this.own.runs.remove(execution);
    this.own.slotFreed(queue);
    void this.own.guardRuns(async () => {
      await this.heartbeats.flush();
      this.own.notices.woken(await this.store.giveUp(id, epoch));
    });
  }

  left(execution: RunExecution, end: RunEnd | undefined): void {
    this.own.runs.remove(execution);
    if (end) {
      reportEnd(this.parts.events, execution.run, end.status, this.clock.now());
      this.parts.onEnd(end);
    }
    this.own.slotFreed(execution.run.queue);
  }

  continued(execution: RunExecution, input: string | null, { workerId, ...next }: Generation): void {
    const { run } = execution;
    const { runs, lease, isStopped, slotFreed } = this.own;
    execution.drop('The run has begun anew');
    runs.remove(execution);
    runs.reserve(1);
    const begun = this.own.guardRuns(async () => {
      const recorded = await this.store.loadHistories([run.id]);
      // Without its lease, stopped or under another id by now, this worker has handed the run back, or will.
      if (workerId !== lease.workerId || !lease.isHeld || isStopped()) return;
      this.takeOn(
        { ...run, ...next, input, ancestors: null, recoveries: 0, cancel: null, fresh: false },
        recorded.get(run.id),
      );
    });
    void begun.finally(() => {
      runs.release(1);
      slotFreed(run.queue);
    });
  }
}
