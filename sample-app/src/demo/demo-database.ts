import { embeddedPostgres, stopEmbeddedPostgres } from 'nestjs-orchestration';
import pg from 'pg';

import { UsageError } from '../exit-with-reason.js';

export const SHOP_SCHEMA = 'shop_demo';
export const RUNS_SCHEMA = 'shop_demo_runs';

/** Two empty schemas for one demo, on the server that DATABASE_URL names or on the embedded one. */
export class DemoDatabase {
  private constructor(
    readonly url: string,
    private readonly client: pg.Client,
    private readonly isEmbedded: boolean,
  ) {}

  static async open(): Promise<DemoDatabase> {
    const given = process.env.DATABASE_URL;
    const url = given || (await embeddedUrl());
    const database = new DemoDatabase(url, await connect(url), !given);
    await database.prepare();
    return database;
  }

  async describe(): Promise<string> {
    const { rows } = await this.client.query<{ version: string }>(
      `select current_setting('server_version') as version`,
    );
    return `${this.isEmbedded ? 'embedded PostgreSQL' : 'PostgreSQL of DATABASE_URL'} ${rows[0]?.version.split(' ')[0]}`;
  }

  /** Leaves the server as it was found. */
  async close(): Promise<void> {
    await this.dropSchemas();
    const isInUse = await this.isUsedByOthers();
    await this.client.end();
    if (this.isEmbedded && !isInUse) await stopEmbeddedPostgres();
  }

  private async prepare(): Promise<void> {
    // Held until the connection ends, however it ends.
    const { rows } = await this.client.query<{ alone: boolean }>(
      `select pg_try_advisory_lock(hashtext('${SHOP_SCHEMA}')) as alone`,
    );
    if (!rows[0]?.alone) {
      await this.client.end();
      throw new UsageError(
        'Another demo is running on this database. Wait for its end, or give DATABASE_URL another one.',
      );
    }
    await this.dropSchemas();
    await this.client.query(`create schema ${SHOP_SCHEMA}`);
  }

  private async dropSchemas(): Promise<void> {
    await this.client.query(`drop schema if exists ${SHOP_SCHEMA}, ${RUNS_SCHEMA} cascade`);
  }

  private async isUsedByOthers(): Promise<boolean> {
    const { rowCount } = await this.client.query(
      `select from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`,
    );
    return rowCount !== 0;
  }
}

async function embeddedUrl(): Promise<string> {
  const { username, password, host, port, database } = await embeddedPostgres();
  return `postgres://${username}:${password}@${host}:${port}/${database}`;
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  // The end of the server is told by the next query.
  client.on('error', () => undefined);
  await client.connect().catch((error: unknown) => {
    throw new UsageError(`The database of DATABASE_URL cannot be used: ${(error as Error).message}`, { cause: error });
  });
  return client;
}
