import { AsyncLocalStorage } from 'node:async_hooks';
import type { Command } from './command.js';
import type { CancelledError } from './errors.js';
import type { RunExecution } from './run-execution.js';
import type { StepAttempt } from './step-execution.js';

/** Where in a run the current code stands. */
export class Frame {
  constructor(
    readonly execution: RunExecution,
    readonly branch: Branch,
    /** The step attempt whose body this is; undefined in the workflow's own code. */
    readonly attempt: StepAttempt | undefined,
  ) {}

  /** A part of the code there. */
  in(branch: Branch): Frame {
    return new Frame(this.execution, branch, this.attempt);
  }
}

const frames = new AsyncLocalStorage<Frame>();

export function currentFrame(): Frame | undefined {
  return frames.getStore();
}

/** Goes on in a part of the run's code. From outside of it, the run lets code in: {@link RunExecution.enter}. */
export function runInFrame<T>(frame: Frame, code: () => T): T {
  return frames.run(frame, code);
}

/**
 * A part of a run that is cancelled as a whole: the run itself, a member of a race, a shield. It knows the durable calls
 * that were made in it and are still open.
 */
export class Branch {
  /** Both are made when there is something in them: most branches are a step's attempt, whose body makes no durable calls. */
  private open: Set<Command> | undefined;
  private branches: Set<Branch> | undefined;
  private cancelledWith: CancelledError | undefined;
  private isLeft = false;

  /** `level` counts the shields around this branch: a cancellation reaches the parts of its own level only. */
  private constructor(private readonly level: number) {}

  static root(): Branch {
    return new Branch(0);
  }

  fork(): Branch {
    return this.add(new Branch(this.level));
  }

  /** A part that goes on to its end although what is around it is cancelled. */
  shield(): Branch {
    return this.add(new Branch(this.level + 1));
  }

  /** The part has ended: nothing in it is left to cancel. */
  leave(part: Branch): void {
    this.branches?.delete(part);
  }

  get isShielded(): boolean {
    return this.level > 0;
  }

  /** Whether it has a durable call, or a shield, that has not ended. */
  get hasOpenCalls(): boolean {
    if (this.open?.size) return true;
    for (const part of this.branches ?? []) if (part.level > this.level || part.hasOpenCalls) return true;
    return false;
  }

  /** The error that durable calls in this branch end with from now on, if it was cancelled. */
  get cancellation(): CancelledError | undefined {
    return this.cancelledWith;
  }

  opened(command: Command): void {
    (this.open ??= new Set()).add(command);
  }

  closed(command: Command): void {
    this.open?.delete(command);
  }

  /** Ends every open durable call of this branch and of its parts, but for shields. */
  cancel(error: CancelledError): void {
    if (this.cancelledWith) return;
    this.cancelledWith = error;
    for (const command of [...(this.open ?? [])]) command.cancel(error);
    for (const branch of [...(this.branches ?? [])]) if (branch.level === this.level) branch.cancel(error);
  }

  /** The code of this branch, shields included, is not gone on with: its calls never end, and what it asks for is not begun. */
  abandon(): void {
    this.isLeft = true;
    this.open?.clear();
    for (const part of this.branches ?? []) part.abandon();
  }

  get isAbandoned(): boolean {
    return this.isLeft;
  }

  private add(part: Branch): Branch {
    part.isLeft = this.isLeft;
    if (this.cancelledWith && part.level === this.level) part.cancelledWith = this.cancelledWith;
    (this.branches ??= new Set()).add(part);
    return part;
  }
}
