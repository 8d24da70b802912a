import { validate } from 'uuid';
import type { Branch } from './branch.js';
import type { ChildLink } from './child-links.js';
import { Command } from './command.js';
import {
  type CancelledError,
  ChildCancelledError,
  ChildFailedError,
  ChildTimeoutError,
  RunNotFoundError,
  WorkflowNotRegisteredError,
} from './errors.js';
import type { ChildStartListener } from './child-starts.js';
import type { RunExecution } from './run-execution.js';
import type { WaitingFor } from './run.js';
import { reviveError, type StoredError } from './stored-error.js';
import type { NewRun } from './new-run.js';
import type { RecordedOutcome } from './recorded-run.js';
import type { RunEnd } from './store.js';

/** How a waited-for run ended, or that it did not in time. */
export type SettledChild<Output> =
  | { status: 'completed'; value: Output }
  | { status: 'failed'; error: ChildFailedError }
  | { status: 'cancelled'; error: ChildCancelledError }
  | { status: 'timeout'; error: ChildTimeoutError };

/** Starts a child and ends when its row is committed. */
export class ChildStartCommand extends Command implements ChildStartListener {
  constructor(
    execution: RunExecution,
    branch: Branch,
    private readonly link: ChildLink,
    private readonly newRun: NewRun,
  ) {
    super(execution, branch, newRun.inputDigest);
  }

  begin(): void {
    if (this.link.isDurable) this.durable();
    else this.execution.childStarts.start(this.link, this.newRun, this);
  }

  durable(): void {
    this.execution.settle(this, { status: 'completed', childId: this.link.id });
  }

  refused(error: unknown): void {
    this.execution.settle(this, { status: 'failed', error: this.execution.serializer.encodeError(error) });
  }

  /** Of the cancellation itself the call hears by `cancel`. */
  cancelled(): void {}

  isWanted(): boolean {
    return this.open;
  }

  /** The commit of the child's row is under way. */
  standing(): 'busy' {
    return 'busy';
  }

  protected valueOf(outcome: RecordedOutcome): ChildLink {
    if (outcome.status === 'failed') throw reviveRefusal(this.execution.serializer.decodeError(outcome.error));
    return this.link;
  }
}

export interface ChildWaitPlan {
  link: ChildLink;
  /** Set for a call: the child to start when there is none yet. */
  newRun: NewRun | undefined;
  timeoutMs: number | undefined;
  /** What a timeout does to the child. */
  onTimeout: 'cancel' | 'abandon';
  /** Whether a cancelled run ends before this child has ended. */
  cancellation: 'wait' | 'try';
}

/** Waits for the end of a run: parked, without a slot or a query, and woken by the end itself. */
export class ChildWaitCommand extends Command implements ChildStartListener {
  private cancelledWith: CancelledError | undefined;
  /** The cancellation was before the child's start. */
  private hasNoChild = false;
  private isTimedOut = false;
  /** When the wait ends without an end of the child. */
  private expiresAt: number | null = null;
  private unsubscribe: (() => void) | undefined;
  private untimedWait: WaitingFor | undefined;

  constructor(
    execution: RunExecution,
    branch: Branch,
    private readonly plan: ChildWaitPlan,
  ) {
    super(execution, branch, plan.newRun?.inputDigest ?? null);
  }

  begin(): void {
    const { link, newRun, timeoutMs } = this.plan;
    if (this.cancelledWith && !link.isDurable) return this.cancelled();
    if (!validate(link.id)) return this.refused(new RunNotFoundError(link.id));
    if (link.isDurable || !newRun) this.awaitEnd();
    else this.execution.childStarts.start(link, newRun, this);
    if (timeoutMs !== undefined) this.expiresAt = this.execution.countsFrom(this) + timeoutMs;
    this.unsubscribe = this.execution.children.onEnd(link, () => this.settleWith(link.end!));
    if (this.expiresAt === null || !this.open || this.cancelledWith || link.end) return;
    // A child that is only being started has not ended: its cancellation goes with its start.
    if (!link.isDurable && this.expiresAt <= this.execution.clock.now()) this.timeOut();
    else this.execution.fireAt(this, this.expiresAt);
  }

  /** A child that was started for a call wakes the run by itself. */
  durable(): void {
    if (!this.plan.link.wakesUs) this.awaitEnd();
  }

  /** There is no such run or workflow: that is the outcome, and no child has it. */
  refused(error: unknown): void {
    this.execution.settle(this, { status: 'failed', error: this.execution.serializer.encodeError(error) });
  }

  cancelled(): void {
    this.hasNoChild = true;
    if (this.cancelledWith) this.execution.settle(this, { status: 'cancelled' });
  }

  isWanted(): boolean {
    if (this.isTimedOut) return this.plan.onTimeout === 'abandon';
    return this.open && !this.cancelledWith;
  }

  override get isTimed(): boolean {
    return this.plan.timeoutMs !== undefined;
  }

  /** The child may have ended in time, and nobody has told of it yet. */
  override fire(): void {
    this.wakeAt = null;
    const { link } = this.plan;
    this.execution.childStarts.lookSoon(link.id, () => {
      if (this.open && !link.end && !this.cancelledWith) this.timeOut();
    });
  }

  standing(): WaitingFor {
    const { wakeAt } = this;
    if (wakeAt !== null) return this.waitUntil(new Date(wakeAt));
    // A parent of thousands is asked for each of them whenever it parks.
    return (this.untimedWait ??= this.waitUntil(null));
  }

  private waitUntil(until: Date | null): WaitingFor {
    return { kind: 'child', name: this.plan.link.ref, until };
  }

  /**
   * The run is being cancelled, and its children with it: it ends after they have. That the call ends is an outcome in the
   * history, whatever this process knew of the child at that moment, so that a replay takes the same way.
   */
  override cancel(error: CancelledError): void {
    const { link, newRun } = this.plan;
    if (this.execution.cancellation === error) {
      if (!this.waitsForCancelled) return super.cancel(error);
      this.cancelledWith = error;
      this.wakeAt = this.expiresAt = null;
      if (this.hasNoChild) this.cancelled();
      return;
    }
    if (newRun && link.isChild && !link.end) this.execution.cancelRun(link.id, error.reason ?? 'left behind');
    super.cancel(error);
  }

  override get outlives(): boolean {
    return this.plan.link.isDurable && this.waitsForCancelled;
  }

  /** Whether the child is cancelled with the run, which ends after it. */
  private get waitsForCancelled(): boolean {
    const { link, cancellation } = this.plan;
    return link.isChild && link.cascades && cancellation === 'wait';
  }

  protected override release(): void {
    this.unsubscribe?.();
  }

  protected valueOf(outcome: RecordedOutcome): SettledChild<unknown> {
    if (this.cancelledWith) throw this.cancelledWith;
    const { id, ref, workflow } = this.plan.link;
    const { serializer } = this.execution;
    switch (outcome.status) {
      case 'completed':
        return { status: 'completed', value: serializer.decode(outcome.output) };
      case 'timeout':
        return { status: 'timeout', error: new ChildTimeoutError(id, ref, workflow, this.plan.timeoutMs ?? 0) };
      case 'cancelled': {
        const { reason } = serializer.decodeError(outcome.error);
        return {
          status: 'cancelled',
          error: new ChildCancelledError(id, ref, workflow, typeof reason === 'string' ? reason : undefined),
        };
      }
      case 'failed': {
        const stored = serializer.decodeError(outcome.error);
        if (outcome.childId === null) throw reviveRefusal(stored);
        return { status: 'failed', error: new ChildFailedError(id, ref, workflow, reviveError(stored)) };
      }
    }
  }

  private awaitEnd(): void {
    const { link } = this.plan;
    this.execution.childStarts.awaitEnd(link, () => this.refused(new RunNotFoundError(link.id)));
  }

  private timeOut(): void {
    const { link, onTimeout, timeoutMs } = this.plan;
    this.wakeAt = null;
    this.isTimedOut = true;
    if (onTimeout === 'cancel' && link.isChild && !link.end)
      this.execution.cancelRun(link.id, `its parent's wait timed out after ${timeoutMs} ms`);
    this.execution.settle(this, { status: 'timeout', childId: link.id });
  }

  private settleWith(end: RunEnd): void {
    const isTooLate = this.expiresAt !== null && end.endedAt !== null && end.endedAt > this.expiresAt;
    if (isTooLate) this.timeOut();
    else this.execution.settle(this, { status: end.status, output: end.output, error: end.error, childId: end.id });
  }
}

/** The error of a call that found nothing to wait for. */
function reviveRefusal(stored: StoredError): Error {
  if (stored.code === 'RUN_NOT_FOUND') return new RunNotFoundError(stored['runId'] as string);
  if (stored.code === 'WORKFLOW_NOT_REGISTERED')
    return new WorkflowNotRegisteredError(stored['workflow'] as string, stored['nearest'] as string | undefined);
  return reviveError(stored);
}
