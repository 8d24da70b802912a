import pg from 'pg';

import type { TestDatabase } from './database.js';

/**
 * Puts a finished run back to where it stood when its first `kept` outcomes were committed and its worker died: the next
 * worker that looks replays them and goes on from there.
 */
export async function rewindRun(database: TestDatabase, runId: string, kept: number): Promise<void> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    await client.query('begin');
    await client.query(
      `delete from orchestration.history h
       where run_id = $1
         and seq > (select coalesce(max(seq), 0) from (
           select seq from orchestration.history where run_id = $1 order by seq limit $2) first)`,
      [runId, kept],
    );
    await client.query(
      `update orchestration.run
       set status = 'pending', ready_at = now(), epoch = epoch + 1, worker_id = null, output = null, error = null, finished_at = null
       where id = $1`,
      [runId],
    );
    await client.query('commit');
  } finally {
    await client.end();
  }
}
