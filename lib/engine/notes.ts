import { type Command, notedAs } from './command.js';
import type { RunExecution } from './run-execution.js';
import type { NoteKind, RecordedOutcome } from './recorded-run.js';
import type { WriteBuffer } from './write-buffer.js';

interface FailedAttempt {
  error: string;
  attempts: number;
  /** The last that it said of its progress. */
  progress: string | null;
  due: number;
}

/** Rows of the history that are no outcomes: what a later pass has to know of calls that have none yet. */
export class Notes {
  constructor(
    private readonly execution: RunExecution,
    private readonly writes: WriteBuffer,
  ) {}

  /** A step has failed and is to be tried again. */
  failedAttempt(command: Command, { error, attempts, progress, due }: FailedAttempt): void {
    this.add(command, 'retry', {
      status: 'failed',
      digest: this.execution.storedDigestOf(command),
      output: progress,
      error,
      attempts,
      finishedAt: due,
      logs: command.logs,
    });
  }

  /** An attempt that must not be begun twice is about to begin; its body waits until that is durable. */
  attempt(command: Command, attempts: number): void {
    this.add(command, 'attempt', { status: 'completed', digest: this.execution.storedDigestOf(command), attempts });
  }

  /** A step's body unwinds. In the write that has the cancellation, which is just being delivered. */
  unwinding(command: Command): void {
    this.add(command, 'unwinding', { status: 'cancelled' });
  }

  /**
   * A call in a step's body begins. The time of a body is not the run's: when a timed wait in it began is recorded, so that a
   * restart does not start it anew.
   */
  begun(command: Command): number {
    const now = Math.floor(this.execution.clock.now());
    if (command.isTimed)
      this.add(command, 'begun', {
        status: 'completed',
        digest: command.identity.kind,
        startedAt: now,
        finishedAt: now,
      });
    return now;
  }

  private add(
    command: Command,
    kind: NoteKind,
    facts: Pick<RecordedOutcome, 'status'> & Partial<RecordedOutcome>,
  ): void {
    this.writes.addOutcome({
      ...notedAs(command.identity),
      kind,
      seq: this.execution.history.nextSeq(),
      digest: null,
      output: null,
      error: null,
      attempts: 1,
      afterSeq: command.afterSeq,
      startedAt: command.askedAt,
      finishedAt: this.execution.time,
      childId: null,
      ...facts,
    });
  }
}
