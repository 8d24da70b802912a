import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { latencies, median, throughput } from './statistics.js';

/** What the database itself does here and now: the floor that every other number stands on. */
export interface Floor {
  /** Commits of one row each, with 8 clients. */
  commitsPerSecond: number;
  /** One commit of one row, one client, from node. */
  commitMs: number;
  /** One statement without a write. */
  selectMs: number;
  /** One fdatasync of 8 KiB, in the folder for temporary files. */
  fsyncMs: number;
}

const CLIENTS = 8;

export async function measureFloor(url: string, commits: number): Promise<Floor> {
  const pool = new pg.Pool({ connectionString: url, max: CLIENTS });
  try {
    await pool.query('create table if not exists floor (id bigserial primary key, value text)');
    const commit = () => pool.query({ name: 'commit', text: 'insert into floor (value) values ($1)', values: ['x'] });
    const select = () => pool.query({ name: 'select', text: 'select 1' });
    await throughput(commits / 4, CLIENTS, commit);
    return {
      commitsPerSecond: await throughput(commits, CLIENTS, commit),
      commitMs: median(await latencies(300, commit)),
      selectMs: median(await latencies(300, select)),
      fsyncMs: await measureFsync(),
    };
  } finally {
    await pool.end();
  }
}

async function measureFsync(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'));
  const file = openSync(join(folder, 'fsync'), 'w');
  const page = Buffer.alloc(8_192, 1);
  try {
    return median(
      await latencies(200, async (item) => {
        writeSync(file, page, 0, page.length, (item % 16) * page.length);
        fdatasyncSync(file);
      }),
    );
  } finally {
    closeSync(file);
    rmSync(folder, { recursive: true });
  }
}
