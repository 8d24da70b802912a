import pg from 'pg';

import { closeApps } from './app.js';
import { createTestDatabase, type TestDatabase } from './database.js';
import { HeldRows } from './held-rows.js';

export interface EngineDatabase {
  database: TestDatabase;
  sql: pg.Client;
}

/** A database for the tests of a file. After each, apps are closed and runs removed: none may turn up in the next one. */
export function useEngineDatabase(onOpen: (opened: EngineDatabase) => void): void {
  let database: TestDatabase;
  let sql: pg.Client;
  beforeAll(async () => {
    database = await createTestDatabase();
    sql = new pg.Client({ connectionString: database.url });
    await sql.connect();
    onOpen({ database, sql });
  });
  afterEach(async () => {
    await HeldRows.releaseAll();
    await closeApps();
    await sql.query('truncate orchestration.run, orchestration.history, orchestration.worker, orchestration.watch');
  });
  afterAll(async () => {
    await sql.end();
    await database.drop();
  });
}
