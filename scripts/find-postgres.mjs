import { userInfo } from 'node:os';
import pg from 'pg';

const HOST = '127.0.0.1:5432';
const USERS = ['postgres', userInfo().username];

/** The URL of a PostgreSQL on this machine that lets us in without a password (or with PGPASSWORD) and create databases. */
export async function findPostgres() {
  for (const user of USERS) {
    const url = `postgres://${user}@${HOST}/postgres`;
    if (await mayCreateDatabases(url)) return url;
  }
  return undefined;
}

async function mayCreateDatabases(url) {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  try {
    await client.connect();
    const { rows } = await client.query(
      'select rolcreatedb or rolsuper as may from pg_roles where rolname = current_user',
    );
    return rows[0].may;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}
