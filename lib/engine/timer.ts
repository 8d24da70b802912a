import type { Branch } from './branch.js';
import { Command } from './command.js';
import type { RunExecution } from './run-execution.js';
import type { WaitingFor } from './run.js';

/** A durable sleep. Its end follows from the history alone (the run's time when it was asked for), so it needs no record to begin. */
export class TimerCommand extends Command {
  constructor(
    execution: RunExecution,
    branch: Branch,
    private readonly endOf: (askedAt: number) => number,
  ) {
    super(execution, branch, null);
  }

  begin(): void {
    const end = this.endOf(this.askedAt);
    if (end <= this.askedAt) this.fire();
    else this.execution.fireAt(this, end);
  }

  override get isTimed(): boolean {
    return true;
  }

  override fire(): void {
    this.wakeAt = null;
    this.execution.settle(this, { status: 'completed' });
  }

  standing(): WaitingFor {
    return { kind: 'timer', name: this.identity.name, until: this.wakeAt === null ? null : new Date(this.wakeAt) };
  }

  protected valueOf(): void {}
}
