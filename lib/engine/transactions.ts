import type { RecordedOutcome } from './recorded-run.js';

/** TypeORM's EntityManager. The store says so (app-transactions.ts): the engine itself knows no TypeORM. */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type
export interface StepManager {}

/** An outcome, and under which claim of its run it is recorded. */
export interface OutcomeWrite {
  runId: string;
  epoch: number;
  outcome: RecordedOutcome;
}

/** `lost`: the run is another worker's now, and everything is rolled back. */
export type CommitEnd = 'committed' | 'lost';

/** Transactions on the app's own database, for transactional steps. */
export interface Transactions {
  /** Waits while the database is away. */
  begin(): Promise<OpenTransaction>;
  /**
   * Whether the transaction failed for what happened beside it, so that running it again may succeed: it collided with
   * another one, or, at its commit, the database went away.
   */
  mayRunAgain(error: unknown, during: 'body' | 'commit'): boolean;
}

/** A transaction that a step's body writes in. */
export interface OpenTransaction {
  readonly manager: StepManager;
  /** Records the outcome in it, under the run's epoch, and commits both. Throws when nothing of it was kept. */
  commit(write: OutcomeWrite): Promise<CommitEnd>;
  /** The body has ended and nothing of it is kept. Never throws; without effect once it commits or is abandoned. */
  rollback(): void;
  /**
   * Ends it, whatever it is doing, although the body may go on: what that still writes fails. Never throws; without effect
   * once it commits or is rolled back.
   */
  abandon(): void;
}
