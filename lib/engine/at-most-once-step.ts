import { StepInterruptedError } from './errors.js';
import { StepCommand } from './step-execution.js';
import type { RecordedOutcome } from './recorded-run.js';

/**
 * A step whose body is never entered twice in one attempt: that the attempt begins is recorded, and durable, before it does.
 *
 * Invariant: a pass that finds an attempt begun, and neither its end nor its failure, does not know how far the body came, and
 * enters none: the step ends with StepInterruptedError. What has been recorded as begun is begun, also while the process
 * shuts down, so that only a process that dies, or a body that outlasts the shutdown, interrupts a step.
 */
export class AtMostOnceStepCommand extends StepCommand {
  override begin(): void {
    const { history } = this.execution;
    const begun = history.findAttempt(this.identity)?.attempts ?? 0;
    if (begun <= (history.findFailedAttempt(this.identity)?.attempts ?? 0)) return super.begin();
    this.attempts = begun;
    this.fail(new StepInterruptedError(this.key, begun));
  }

  protected override startAttempt(): void {
    if (!this.execution.mayBegin(this)) return;
    this.execution.notes.attempt(this, this.attempts + 1);
    super.startAttempt();
  }

  protected override valueOf(outcome: RecordedOutcome): unknown {
    if (outcome.status === 'failed') {
      const { code, step, attempt } = this.execution.serializer.decodeError(outcome.error);
      // A body may let such an error of a step in it through: that is a failure of this one.
      if (code === 'STEP_INTERRUPTED' && step === this.key && attempt === outcome.attempts)
        throw new StepInterruptedError(this.key, outcome.attempts);
    }
    return super.valueOf(outcome);
  }
}
