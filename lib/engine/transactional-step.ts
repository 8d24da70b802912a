import type { OutcomeDraft } from './command.js';
import { type RunningAttempt, StepCommand, type StepContext } from './step-execution.js';
import type { CommitEnd, OpenTransaction, OutcomeWrite } from './transactions.js';

/** So often a transaction that collided runs again before that counts as a failed attempt. */
const MAX_COLLISIONS = 10;
const COLLISION_PAUSE_MS = { first: 10, longest: 500 };

/**
 * A step whose body writes in a transaction, which commits together with its outcome.
 *
 * The body ends and its transaction stays open until the outcome's turn to be delivered has come. Then everything that
 * the run did before is made durable, the outcome gets its `seq` and is recorded in the transaction, that commits, and
 * only after it the code receives the outcome. Nothing else is delivered meanwhile.
 * Invariant: the body's writes are there if and only if the outcome is, and the code goes on only if both are.
 * What could break it, each of them a test: a crash before, in and after the commit; a commit whose reply is lost; an
 * attempt that timed out, was cancelled or belongs to another worker by now, and whose body goes on to write; an entry
 * before this one that is not durable yet; a late wake-up of all of these.
 */
export class TransactionalStepCommand extends StepCommand {
  private transaction: OpenTransaction | undefined;
  private collisions = 0;
  private pause: NodeJS.Timeout | undefined;
  private isCommitting = false;

  protected override async perform(attempt: RunningAttempt, context: StepContext): Promise<unknown> {
    const transaction = await this.transactions.begin();
    if (attempt.isOver) return transaction.abandon();
    this.transaction = attempt.transaction = transaction;
    try {
      return await super.perform(attempt, context);
    } catch (error) {
      transaction.rollback();
      throw error;
    }
  }

  protected override complete(outcome: OutcomeDraft): void {
    this.setCommitting(true);
    super.complete({ ...outcome, commit: (write) => this.commit(write) });
  }

  protected override failAttempt(error: unknown): void {
    this.abandon();
    this.undone(error, 'body');
  }

  protected override fail(error: unknown): void {
    this.abandon();
    super.fail(error);
  }

  protected override release(): void {
    clearTimeout(this.pause);
    this.abandon();
    this.setCommitting(false);
    super.release();
  }

  private get transactions() {
    return this.execution.host.transactions!;
  }

  /** From here on nobody rolls it back but the database. */
  private async commit(write: OutcomeWrite): Promise<CommitEnd | 'undone'> {
    const transaction = this.transaction!;
    this.transaction = undefined;
    try {
      return await transaction.commit(write);
    } catch (error) {
      this.undone(error, 'commit');
      return 'undone';
    } finally {
      this.setCommitting(false);
    }
  }

  /** A collision is not the body's fault: it runs again soon, and no attempt is used up. */
  private undone(error: unknown, during: 'body' | 'commit'): void {
    if (!this.open) return;
    if (this.collisions >= MAX_COLLISIONS || !this.transactions.mayRunAgain(error, during)) {
      this.collisions = 0;
      return super.failAttempt(error);
    }
    this.attempts--;
    const { first, longest } = COLLISION_PAUSE_MS;
    const pause = Math.min(longest, first * 2 ** this.collisions++) * (0.5 + Math.random());
    this.pause = setTimeout(() => this.startAttempt(), pause);
  }

  private abandon(): void {
    this.transaction?.abandon();
    this.transaction = undefined;
  }

  /** Until it is committed, the run keeps its slot, and a shutdown waits for it. */
  private setCommitting(isCommitting: boolean): void {
    if (this.isCommitting === isCommitting) return;
    this.isCommitting = isCommitting;
    this.execution.bodyActive(isCommitting ? 1 : -1);
  }
}
