import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { RAW_CLIENTS, type System } from '../system.js';

export const settings = `pg; single-row commits by ${RAW_CLIENTS} clients.`;

const PAGE = Buffer.alloc(8_192, 1);

/** What the database itself does here and now, through node: what every other number stands on. */
export async function open(url: string): Promise<System> {
  const pool = new pg.Pool({ connectionString: url, max: RAW_CLIENTS });
  await pool.query('create table if not exists raw (id bigserial primary key, value text)');
  const folder = mkdtempSync(join(tmpdir(), 'bench-'));
  const file = openSync(join(folder, 'fsync'), 'w');
  const commit = () => pool.query({ name: 'commit', text: 'insert into raw (value) values ($1)', values: ['x'] });
  return {
    raw: {
      commit,
      async twoCommits() {
        await commit();
        await commit();
      },
      select: () => pool.query({ name: 'select', text: 'select 1' }),
      async fsync() {
        writeSync(file, PAGE, 0, PAGE.length, 0);
        fdatasyncSync(file);
      },
    },
    async close() {
      closeSync(file);
      rmSync(folder, { recursive: true });
      await pool.end();
    },
  };
}
