import type { PoolClient } from 'pg';
import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import { NonRetryableError } from '../engine/errors.js';
import { toSqlText } from '../engine/serialization.js';
import type { CommitEnd, OpenTransaction, OutcomeWrite, Transactions } from '../engine/transactions.js';
import { Database } from './database.js';
import { outcomeToRow } from './rows.js';
import { allStatements, type Statements } from './statements/all.js';
import { OUTCOMES } from './statements/commit.sql.js';
import { isCollision, isTransient } from './transient-errors.js';

// Exported from here, so that whoever imports the package gets the declaration below with it.
export type { StepManager } from '../engine/transactions.js';
declare module '../engine/transactions.js' {
  interface StepManager extends EntityManager {}
}

/** Transactions on the app's DataSource, with its pool and its isolation level; what becomes of them is asked on the engine's. */
export class AppTransactions implements Transactions {
  private readonly sql: Statements;

  constructor(
    private readonly dataSource: DataSource,
    private readonly database: Database,
  ) {
    this.sql = allStatements(database.schema);
  }

  begin(): Promise<OpenTransaction> {
    return this.database.persistently(() => this.open());
  }

  mayRunAgain(error: unknown, during: 'body' | 'commit'): boolean {
    return during === 'body' ? isCollision(error) : isTransient(error);
  }

  private async open(): Promise<OpenTransaction> {
    const queryRunner = this.dataSource.createQueryRunner();
    const client = (await queryRunner.connect()) as PoolClient;
    try {
      await queryRunner.startTransaction();
      return new AppTransaction(queryRunner, client, this.database, this.sql);
    } catch (error) {
      await discard(client, queryRunner);
      throw error;
    }
  }
}

/** Not given back to the pool, which would hand it out again: nobody knows what becomes of it. */
async function discard(client: PoolClient, queryRunner: QueryRunner): Promise<void> {
  (client as unknown as { end(): Promise<void> }).end().catch(() => {});
  await queryRunner.release();
}

/** What node-postgres knows of a connection, beside its types. */
interface ClientState {
  readonly readyForQuery: boolean;
  readonly processID: number;
  readonly connection: { stream: { localPort?: number } };
}

class AppTransaction implements OpenTransaction {
  private isOpen = true;

  constructor(
    private readonly queryRunner: QueryRunner,
    private readonly client: PoolClient,
    private readonly database: Database,
    private readonly sql: Statements,
  ) {}

  get manager(): EntityManager {
    return this.queryRunner.manager;
  }

  async commit(write: OutcomeWrite): Promise<CommitEnd> {
    this.isOpen = false;
    if (!(await this.record(write))) return 'lost';
    try {
      await this.queryRunner.commitTransaction();
    } catch (error) {
      await this.close();
      if (await this.isRecorded(write)) return 'committed';
      throw error;
    }
    await this.queryRunner.release();
    return 'committed';
  }

  rollback(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    void this.undo();
  }

  /** Never by ROLLBACK: what a body writes behind that, before the connection is given back, would be kept. */
  abandon(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    void (this.state.readyForQuery ? this.close() : this.interrupt());
  }

  /** False when the run is another worker's now; then, and when it throws, everything is rolled back. */
  private async record({ epoch, outcome, runId }: OutcomeWrite): Promise<boolean> {
    let isOurs = false;
    try {
      this.checkThatItIsWhole();
      const run = await Database.within(this.queryRunner);
      const rows = await run(this.sql.recordOutcome, [epoch, ...OUTCOMES.parameters([outcomeToRow(runId, outcome)])]);
      isOurs = rows.length > 0;
    } finally {
      if (!isOurs) await this.undo();
    }
    return isOurs;
  }

  /** The outcome must not be rolled back alone, by a savepoint, nor be recorded without the body's writes. */
  private checkThatItIsWhole(): void {
    const { isTransactionActive, transactionDepth } = this.queryRunner as unknown as {
      isTransactionActive: boolean;
      transactionDepth: number;
    };
    if (isTransactionActive && transactionDepth === 1) return;
    throw new NonRetryableError(
      isTransactionActive
        ? 'The body of a transactional step has left a nested transaction open. Await ctx.manager.transaction(…) in it.'
        : 'The body of a transactional step has ended its own transaction. It commits when the body returns, and is rolled back when it throws.',
    );
  }

  /**
   * The reply to the commit was lost, or says that it failed. While the transaction is still under way, it holds the run's
   * row: so that is locked first, and then, with a new snapshot, its outcome is looked for.
   */
  private isRecorded({ runId, outcome }: OutcomeWrite): Promise<boolean> {
    const { seq, scope, name, ordinal } = outcome;
    return this.database.persistently(() =>
      this.database.transaction(async (run) => {
        await run(this.sql.lockRun, [runId]);
        const found = await run(this.sql.findOutcome, [runId, seq, toSqlText(scope), toSqlText(name), ordinal]);
        return found.length > 0;
      }),
    );
  }

  /** Rolls back; a connection that is not free for that is closed, which does the same. */
  private async undo(): Promise<void> {
    try {
      if (!this.state.readyForQuery) return await this.interrupt();
      while (this.queryRunner.isTransactionActive) await this.queryRunner.rollbackTransaction();
      await this.queryRunner.release();
    } catch {
      await this.close();
    }
  }

  /** A statement that waits for a lock would hold those that the transaction has, although nobody waits for it any more. */
  private async interrupt(): Promise<void> {
    const { processID, connection } = this.state;
    try {
      const { localPort } = connection.stream;
      if (localPort !== undefined) await this.database.run(this.sql.cancelStatement, [processID, localPort]);
    } catch {
      // The database is away, or the engine is closed: the end of the connection has to do.
    } finally {
      await this.close();
    }
  }

  private close(): Promise<void> {
    return discard(this.client, this.queryRunner);
  }

  private get state(): ClientState {
    return this.client as unknown as ClientState;
  }
}
