import pg from 'pg';

import type { TestDatabase } from './database.js';

/** Moves the engine's clock to so many ms after the real time; every process of that database notices at its next look. */
export async function moveClock(database: TestDatabase, aheadMs: number): Promise<void> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    await client.query(
      `create or replace function orchestration.engine_now() returns timestamptz language sql stable
       as 'select now() + interval ''${Math.round(aheadMs)} milliseconds'''`,
    );
  } finally {
    await client.end();
  }
}
