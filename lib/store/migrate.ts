import type { QueryConfig } from 'pg';
import { SchemaBehindError } from '../engine/errors.js';
import type { Database } from './database.js';
import { quoteIdentifier } from './statements/statement.js';

const UNDEFINED_TABLE = '42P01';
/** The wait for another process that migrates is no sign of a dead connection. */
const LOCK_PATIENCE_MS = 600_000;

/**
 * Brings the schema up to date, or says that it is behind. One process at a time: the others wait for its advisory lock
 * and then find nothing to do.
 */
export async function migrate(database: Database, mayMigrate: boolean): Promise<void> {
  try {
    const pending = await pendingMigrations(database);
    if (pending.length === 0) return;
    if (!mayMigrate) throw new SchemaBehindError(database.schema, pending);
    await underLock(database, async () => {
      await database.dataSource.query(`create schema if not exists ${quoteIdentifier(database.schema)}`);
      await database.dataSource.runMigrations();
    });
  } catch (error) {
    throw database.explained(error);
  }
}

/** The names of the migrations that the schema lacks. */
export async function pendingMigrations(database: Database): Promise<string[]> {
  const known = database.dataSource.migrations.map((migration) => migration.name ?? migration.constructor.name);
  const done = await executedMigrations(database);
  return known.filter((name) => !done.has(name));
}

async function executedMigrations(database: Database): Promise<Set<string>> {
  try {
    const rows: { name: string }[] = await database.dataSource.query(
      `select name from ${quoteIdentifier(database.schema)}.migrations`,
    );
    return new Set(rows.map((row) => row.name));
  } catch (error) {
    if ((error as { code?: string }).code === UNDEFINED_TABLE) return new Set();
    throw error;
  }
}

/** A lock of a transaction, not of a session: it works behind a pooler too, and goes when the process dies. */
async function underLock(database: Database, work: () => Promise<void>): Promise<void> {
  const client = await database.connect();
  let failure: Error | undefined;
  // A connection that breaks fails its statement, and without a listener would end the process, too.
  const onError = (error: Error) => (failure = error);
  client.on('error', onError);
  try {
    await client.query('begin');
    await client.query(lockOf(database.schema));
    await work();
    await client.query('commit');
  } catch (error) {
    failure = error as Error;
    throw error;
  } finally {
    client.off('error', onError);
    client.release(failure);
  }
}

function lockOf(schema: string): QueryConfig & { query_timeout: number } {
  return {
    text: 'select pg_advisory_xact_lock(hashtextextended($1, 0))',
    values: [`orchestration:${schema}`],
    query_timeout: LOCK_PATIENCE_MS,
  };
}
