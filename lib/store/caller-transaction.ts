import type { EntityManager, QueryRunner } from 'typeorm';
import { ValidationError } from '../engine/errors.js';
import { Database, type Run } from './database.js';
import type { Statements } from './statements/all.js';

/** A transaction that the app has open: statements go through it, and it ends when the app ends it. */
export interface CallerTransaction {
  run: Run;
  isOpen(this: void): boolean;
}

/** Throws ValidationError: what was given is no open transaction, or none that can be used. */
export async function enterTransaction(
  manager: unknown,
  { database, sql }: { database: Database; sql: Statements },
): Promise<CallerTransaction> {
  const queryRunner = openTransactionOf(manager);
  const run = await Database.within(queryRunner);
  const [row] = await run<{ level: string; ours: boolean }>(sql.describeTransaction, []);
  if (!row!.ours) {
    throw wrongManager(`there is no "${database.schema}".run in its database: it is not the database of the engine`);
  }
  // Where others' commits are not seen, a key that was taken meanwhile would not be either.
  if (row!.level !== 'read committed') {
    throw wrongManager(
      `its transaction is ${row!.level}, and READ COMMITTED is required: under another level a key that was taken meanwhile would not be seen`,
    );
  }
  return { run, isOpen: () => queryRunner.isTransactionActive };
}

function openTransactionOf(manager: unknown): QueryRunner {
  const queryRunner = (manager as EntityManager | null | undefined)?.queryRunner;
  if (queryRunner?.isTransactionActive) return queryRunner;
  throw wrongManager(
    'it must be the EntityManager of an open transaction (dataSource.transaction(async (manager) => …))',
  );
}

function wrongManager(message: string): ValidationError {
  return new ValidationError('manager', [{ message, path: ['manager'] }]);
}
