import { Compensations } from './compensation.js';
import type { Expiry } from './due-times.js';
import { type CancelledError, RunTimeoutError } from './errors.js';
import { cancelledBy, type CodeEnd, failure, moveOfReturn } from './run-end.js';
import type { RunExecution } from './run-execution.js';
import type { PayloadSerializer } from './serialization.js';
import type { ClaimedRun } from './claimed-run.js';
import type { Move } from './run-write.js';

/** The ends that make a run undo what it has done. */
const UNDONE: ReadonlySet<Move['to']> = new Set<Move['to']>(['failed', 'cancelled']);

/** What is asked of the run that comes to its end. */
export interface EndingRun {
  readonly run: ClaimedRun;
  readonly serializer: PayloadSerializer;
  readonly cancellation: CancelledError | undefined;
  /** Past its replay, and not over. */
  readonly isLive: boolean;
  readonly isOver: boolean;
  /** Whether it is blocked because a child is recorded that its code has not asked for. */
  lacksChild(): boolean;
  /** The code makes no further call. */
  codeIsOver(): void;
  /** The code is left where it stands: nothing that it waits for reaches it any more. */
  abandonCode(): void;
  /** The code hears of the expiry in its turn, and in every replay at that place. */
  recordExpiry(expiry: Expiry): void;
  /** The last write of this pass. */
  end(move: Move): void;
}

/**
 * How a run comes to its end: its code returns, or its time is over; what it has done is undone if it does not complete;
 * then it ends.
 *
 * States: the code runs → it has returned → (undoing) → finished. A cancellation and an expiry that the code receives may
 * lead from the second one to the third as well, while the end is being written. In a replay, `finished` is reached without a
 * write: what is recorded comes first.
 */
export class RunEnding {
  private undoing: Compensations | undefined;
  private returned: CodeEnd | undefined;
  /** The code has ended, and what had to be undone is undone. */
  private isFinished = false;

  constructor(private readonly execution: RunExecution & EndingRun) {}

  /** What is undone when the run does not complete. */
  get compensations(): Compensations {
    return (this.undoing ??= new Compensations(this.execution));
  }

  /** The code is over, and its compensations are what the run does. */
  get isUndoing(): boolean {
    return this.undoing?.hasBegun ?? false;
  }

  /** Whether there is something to undo, and that has not begun. */
  get mayUndo(): boolean {
    return this.undoing !== undefined && !this.undoing.isEmpty && !this.isUndoing;
  }

  get hasReturned(): boolean {
    return this.returned !== undefined;
  }

  /** How the run ends, as its code stands now. */
  get move(): Move {
    const { cancellation, run, serializer } = this.execution;
    if (cancellation) return cancelledBy(cancellation, this.returned, serializer);
    return moveOfReturn(this.returned!, run.workflow, serializer);
  }

  codeReturned(returned: CodeEnd): void {
    if (this.execution.isOver || this.returned || this.isUndoing) return;
    this.returned = returned;
    this.conclude();
  }

  /** A cancellation has reached the code, perhaps while the end of the run was being written. */
  cancelled(): void {
    if (this.returned && !this.isUndoing) this.conclude();
  }

  /** The code has received that its time is over: what it has done is undone. */
  expired({ name, at }: Expiry): void {
    if (name === 'deadline') this.returned = { error: new RunTimeoutError(this.execution.run.id, new Date(at)) };
    this.undo();
  }

  /** All that is recorded has been received: a run that is finished by that ends now. */
  replayed(): void {
    if (this.isFinished && !this.execution.isOver) this.finished();
  }

  /** The time for the code is over. That is recorded when there is something to undo: a replay must leave the code at the same place. */
  expire(expiry: Expiry): void {
    const { execution } = this;
    if (this.mayUndo) return execution.recordExpiry(expiry);
    if (expiry.name !== 'deadline') return execution.end(this.move);
    execution.end(failure(new RunTimeoutError(execution.run.id, new Date(expiry.at)), execution.serializer));
  }

  /** The code has ended, and so does the run; one that does not complete undoes what it has done before. */
  private conclude(): void {
    if (this.mayUndo && UNDONE.has(this.move.to)) this.undo();
    else this.finished();
  }

  private finished(): void {
    const { execution } = this;
    this.isFinished = true;
    execution.codeIsOver();
    if (execution.isLive && !execution.lacksChild()) execution.end(this.move);
  }

  private undo(): void {
    if (this.execution.lacksChild()) return;
    this.isFinished = false;
    this.execution.abandonCode();
    void this.compensations.run().then(() => this.execution.isOver || this.finished());
  }
}
