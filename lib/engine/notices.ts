import type { EventSink } from './events.js';
import type { HintBuffer } from './hint-buffer.js';
import type { Lease } from './lease.js';
import { isTerminal } from './run.js';
import { endsByParent } from './run-end.js';
import type { RunExecution } from './run-execution.js';
import { reportCancelled } from './run-reports.js';
import type { RunsInMemory } from './runs-in-memory.js';
import type { CancelResult } from './cancellation.js';
import type { CommitResult, RunWrite } from './run-write.js';
import type { BufferedSignal } from './sent-signal.js';
import type { RunEnd, WokenRun } from './store.js';

interface NoticesParts {
  runs: RunsInMemory;
  hints: HintBuffer;
  lease: Pick<Lease, 'workerId'>;
  events: EventSink;
  /** Something on that queue can be claimed. */
  ready(queue: string): void;
  lookAgain(): void;
  left(execution: RunExecution): void;
}

/**
 * Tells what has happened to runs: at once to those that are in memory here, by a hint to the worker that has them, or to whoever
 * can claim them.
 */
export class Notices {
  constructor(private readonly parts: NoticesParts) {}

  /** Runs were woken that have to be claimed, here or by another worker, or that are executing, here or elsewhere. */
  woken(woken: readonly WokenRun[]): void {
    const { runs, hints, lease, ready } = this.parts;
    for (const { id, workerId, status, queue, wakes } of woken) {
      if (workerId !== null && workerId !== lease.workerId) hints.worker(workerId);
      else if (status === 'pending') ready(queue);
      else runs.findExecuting(id)?.touched(wakes);
    }
  }

  /** Runs were woken by writes that end others: a parent in memory gets the ends of its children with the news. */
  wokenByWrites(writes: readonly RunWrite[], result: CommitResult): void {
    if (result.woken.length === 0) return;
    // Not of a run whose end was refused because it is being cancelled.
    const ended = new Set(result.runs.filter((run) => isTerminal(run.status)).map((run) => run.id));
    const ends = endsByParent(writes.filter((write) => ended.has(write.runId)));
    for (const woken of result.woken) this.wokenByEnds(woken, ends.get(woken.id));
  }

  private wokenByEnds(woken: WokenRun, ends: RunEnd[] | undefined): void {
    const { runs } = this.parts;
    if (woken.status === 'running') this.resumeParked(woken);
    const execution = runs.findExecuting(woken.id);
    if (!execution || woken.status !== 'running') return this.woken([woken]);
    if (ends && execution.countWake(woken.wakes)) for (const end of ends) execution.childEnded(end);
    else execution.touched(woken.wakes);
  }

  /** It goes on in the slot of the child that has ended. */
  private resumeParked({ id, workerId, epoch }: WokenRun): void {
    const { runs, lease } = this.parts;
    const parked = runs.findParked(id);
    if (!parked || workerId !== lease.workerId || parked.run.epoch !== epoch) return;
    runs.unpark(parked);
    parked.resume({ epoch, cancel: null });
  }

  /** What else a commit tells: runs that have ended and are waited for elsewhere, those it has cancelled, and what can be claimed. */
  committed({ runs, cancelled, readyOn }: CommitResult): void {
    for (const run of runs) if (run.watched && isTerminal(run.status)) this.parts.hints.ended(run.id);
    if (cancelled) this.cancelled(cancelled);
    for (const queue of readyOn) this.parts.ready(queue);
  }

  /** Runs that a cancellation has reached. */
  cancelled({ ended, unwinding, woken }: CancelResult): void {
    const { hints, lease, events, lookAgain } = this.parts;
    reportCancelled(events, ended);
    for (const run of ended) if (run.watched) hints.ended(run.id);
    for (const run of ended) this.endedByForce(run.id);
    if (unwinding.some((run) => run.status === 'running' && run.workerId === lease.workerId)) lookAgain();
    this.woken([...unwinding, ...woken]);
  }

  endedByForce(runId: string): void {
    const execution = this.parts.runs.find(runId);
    if (!execution) return;
    execution.drop('The run was ended');
    this.parts.left(execution);
  }

  /** A signal that was sent in this process: a run that is here need not look for it. */
  signalled(run: WokenRun, signal: BufferedSignal): void {
    const execution = this.parts.runs.find(run.id);
    if (execution?.run.epoch === run.epoch) execution.signalled(signal);
  }
}
