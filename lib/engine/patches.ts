import type { RunExecution } from './run-execution.js';
import type { RecordedOutcome } from './recorded-run.js';
import type { WriteBuffer } from './write-buffer.js';

/**
 * The changes inside one version of the code (`ctx.patched`), and which way this run goes at each.
 *
 * A run goes the new way when it comes to the change with nothing recorded beyond it: then it keeps that in a row, and no
 * later pass asks further. Otherwise it has gone the old way, and so it goes the old way again.
 * Invariant: all passes over a run give one answer, as long as anything hangs on it. For what would tell two apart:
 * - The run parked, or its process died, beyond the change and with no outcome since: no row and no record contradict the
 *   new way. But a child that was started, a failed attempt and the calls of a step's body that was left are records
 *   as well as outcomes are; with one of them ahead, the answer is the old way.
 * - Answered 'new', and the process dies: what the code did upon it rides in the same write as the row, or in a later one.
 * - Answered 'old', and another pass comes: what was ahead is still there. Only a retry forgets it, with all beyond.
 * - Answered 'new', then retried: the row stays, though outcomes are forgotten.
 * - Asked again at another place of the code: the first answer holds for the whole pass.
 * A row whose call is gone from the code is no divergence: rows are found by id and not replayed.
 */
export class Patches {
  private readonly answers = new Map<string, boolean>();
  private readonly unwritten: string[] = [];

  constructor(
    private readonly execution: RunExecution,
    private readonly writes: WriteBuffer,
  ) {}

  /** Whether the run goes the new way. */
  has(id: string): boolean {
    const known = this.answers.get(id);
    if (known !== undefined) return known;
    const isRecorded = this.execution.history.hasPatch(id);
    const answer = isRecorded || this.hasNothingAhead();
    this.answers.set(id, answer);
    if (answer && !isRecorded) this.record(id);
    return answer;
  }

  /** The run has its slot again: what it decided while it was parked can be written. */
  writeRest(): void {
    for (const id of this.unwritten.splice(0)) this.write(id);
  }

  private hasNothingAhead(): boolean {
    const { history, children, isLive } = this.execution;
    return isLive && !history.hasUnreachedCalls() && !children.hasUnreached();
  }

  /** A parked run cannot write; its code may go on, though, by something that is not durable. */
  private record(id: string): void {
    if (this.execution.mayWrite) this.write(id);
    else this.unwritten.push(id);
  }

  private write(id: string): void {
    const { history, time, receivedSeq } = this.execution;
    const now = Math.max(Math.floor(this.execution.clock.now()), time);
    const row: RecordedOutcome = {
      kind: 'patch',
      scope: '',
      name: id,
      ordinal: 1,
      seq: history.nextSeq(),
      status: 'completed',
      digest: null,
      output: null,
      error: null,
      attempts: 1,
      afterSeq: receivedSeq,
      startedAt: now,
      finishedAt: now,
      childId: null,
    };
    this.writes.addOutcome(row);
  }
}
