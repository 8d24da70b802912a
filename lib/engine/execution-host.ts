import type { CallerContext } from './caller-context.js';
import type { DatabaseClock } from './clock.js';
import type { HeartbeatBuffer } from './heartbeat-buffer.js';
import type { WorkflowRegistry } from './registry.js';
import type { RunExecution } from './run-execution.js';
import type { PayloadSerializer } from './serialization.js';
import type { CancelRequest } from './cancellation.js';
import type { Generation, RunWrite } from './run-write.js';
import type { NewSignal, SentSignal, SignalsFound, SignalsWanted } from './sent-signal.js';
import type { RunEnd, Store } from './store.js';
import type { Telemetry } from './telemetry.js';
import type { Transactions } from './transactions.js';
import type { WriteSink } from './write-buffer.js';

/** What a run needs of the worker that executes it. */
export interface ExecutionHost extends WriteSink {
  readonly clock: DatabaseClock;
  readonly serializer: PayloadSerializer;
  readonly registry: WorkflowRegistry;
  readonly callerContext: CallerContext | undefined;
  readonly store: Store;
  readonly heartbeats: Pick<HeartbeatBuffer, 'add'>;
  /** Undefined: the app has no DataSource. */
  readonly transactions: Transactions | undefined;
  /** Undefined: nobody traces and measures. */
  readonly telemetry: Telemetry | undefined;
  /** Cancels a run at once, with its descendants. Throws RunNotFoundError. */
  cancel(runId: string, request: CancelRequest): Promise<{ cancelled: number; requested: number }>;
  /** The version that a name stands for which this process does not register. Throws WorkflowNotRegisteredError. */
  resolveVersion(workflow: string): Promise<number>;
  /** A look into the database for the run. When it fails for good, the run leaves, and is begun anew. Never rejects. */
  lookUp(execution: RunExecution, look: () => Promise<void>): Promise<void>;
  /** The unread signals of one name of a run. */
  loadSignals(wanted: SignalsWanted): Promise<SignalsFound>;
  /** Sends a signal to another run. */
  signal(signal: NewSignal): Promise<SentSignal>;
  /** Whether there is such a run. */
  checkExists(runId: string, onUnknown: () => void): void;
  /** Asks for the run to be claimed again: its code goes on although it was parked. */
  wake(execution: RunExecution): void;
  /** The run is paused and nothing of it is under way: it gives its slot up. */
  paused(execution: RunExecution): void;
  /** The run has come to its end, and the write of it is under way: its parent may be told. */
  ends(execution: RunExecution, end: RunEnd): void;
  /** The end was not kept: the run goes on. */
  endRefused(execution: RunExecution): void;
  /** The run has left this process, with what it had not written; it is to be claimed anew. */
  brokenOff(): void;
  /** The run has given its slot up (parked), or has left this process for good. */
  parked(execution: RunExecution): void;
  left(execution: RunExecution, end: RunEnd | undefined): void;
  /** The run has begun anew, and this pass over it is done, also one that was dropped meanwhile. */
  continued(execution: RunExecution, input: string | null, next: Generation): void;
  /** The process shuts down: no further step body begins. */
  readonly isDraining: boolean;
  /** Tells the operator. */
  warn(message: string): void;
  /** A write of the run is committed. */
  committed(execution: RunExecution, write: Pick<RunWrite, 'outcomes' | 'move'>): void;
}
