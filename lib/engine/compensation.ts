import { Branch, Frame } from './branch.js';
import type { RunExecution } from './run-execution.js';
import type { StepObserver, StepWork } from './step-execution.js';
import { newStepCommand } from './steps.js';

/** What undoes something that the run has done. */
export interface Compensation extends StepWork {
  name: string;
}

interface Registered {
  compensation: Compensation;
  ordinal: number;
  /** The entry that the code had received last: a retry of the run forgets what came from there on. */
  afterSeq: number;
}

/**
 * What a run undoes when it does not complete: it is registered as the code receives the outcomes of its steps, so that
 * a replay registers the same, and done one after the other, the last first, after the code has ended.
 *
 * Invariant: a compensation is a durable call like a step, made by the run itself in the order of the history. Nothing else of
 * the run is open by then, and neither a cancellation nor a deadline reaches it; so a crash half-way goes on where it was.
 */
export class Compensations implements StepObserver {
  private readonly registered: Registered[] = [];
  private state: 'waiting' | 'running' | 'done' = 'waiting';
  private isMarked = false;
  private hasFailed = false;

  constructor(private readonly execution: RunExecution) {}

  get isEmpty(): boolean {
    return this.registered.length === 0;
  }

  /** The code of the run is over. */
  get hasBegun(): boolean {
    return this.state !== 'waiting';
  }

  /** How it went, once all have ended. */
  get result(): 'done' | 'failed' {
    return this.hasFailed ? 'failed' : 'done';
  }

  register(compensation: Compensation): void {
    if (this.hasBegun) return;
    const { history, receivedSeq } = this.execution;
    const ordinal = history.number('compensation', '', compensation.name);
    this.registered.push({ compensation, ordinal, afterSeq: receivedSeq });
  }

  /** The point of no return: what was registered so far will not be undone. */
  commit(): void {
    if (!this.hasBegun) this.registered.length = 0;
  }

  /** Undoes everything. One that fails does not keep the others from being tried. */
  async run(): Promise<void> {
    this.state = 'running';
    const frame = new Frame(this.execution, Branch.root().shield(), undefined);
    for (let next = this.registered.pop(); next; next = this.registered.pop()) {
      const { compensation, ordinal, afterSeq } = next;
      const command = newStepCommand(frame, null, { ...compensation, observer: this });
      this.execution.issue(command, { kind: 'compensation', name: compensation.name, ordinal, afterSeq }, frame);
      await command.promise.catch(() => (this.hasFailed = true));
    }
    this.state = 'done';
  }

  /** The run's row says so before the first of them acts; once in each pass, for nobody knows what an earlier one has written. */
  begins(): void {
    if (this.isMarked) return;
    this.isMarked = true;
    this.execution.markCompensation('running');
  }

  gaveUp(key: string, error: unknown): void {
    const { run, host } = this.execution;
    host.warn(
      `The compensation '${key}' of run ${run.id} (${run.workflow}) has failed, what it should undo stands: ${String(error)}`,
    );
  }
}
