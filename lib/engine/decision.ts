import type { Branch, Frame } from './branch.js';
import { Command, displayKey } from './command.js';
import type { RunExecution } from './run-execution.js';
import type { RecordedOutcome } from './recorded-run.js';

/**
 * A choice that the workflow's own code makes once, without waiting: a replay is given the recorded answer, so that a
 * changed deploy or changed data takes no other way.
 *
 * Invariant: an answer is recorded in the turn in which the code asks, before the code goes on. So its entry comes right after
 * the outcome that the code had received last, in the same write as what follows. Code that asks a question with no entry is
 * new, and has diverged if the step that it is about has begun: replay sees that by the step's entries, and here it is seen by
 * what the step's body did.
 */
class DecisionCommand extends Command {
  constructor(
    execution: RunExecution,
    branch: Branch,
    private readonly choose: () => boolean,
  ) {
    super(execution, branch, null);
  }

  begin(): void {
    const { execution } = this;
    const scopes = `${displayKey(this.identity.name, 1)}@`;
    if (execution.history.hasCallsIn(scopes) || execution.children.hasAnyIn(scopes))
      return execution.diverge(`in the body of step '${this.identity.name}'`, 'asked for the decision on it');
    let answer: boolean;
    try {
      answer = this.choose();
    } catch (error) {
      return this.endBy(error);
    }
    execution.settleAtOnce(this, { status: 'completed', output: execution.serializer.encode(answer, 'a decision') });
  }

  standing(): 'busy' {
    return 'busy';
  }

  protected valueOf(outcome: RecordedOutcome): unknown {
    return this.execution.serializer.decode(outcome.output);
  }
}

/** The recorded answer, or a new one. What `choose` throws is thrown, and not recorded. */
export async function decide(frame: Frame, name: string, choose: () => boolean): Promise<boolean> {
  const command = new DecisionCommand(frame.execution, frame.branch, choose);
  frame.execution.issue(command, { kind: 'decision', name }, frame);
  return (await command.promise) as boolean;
}
