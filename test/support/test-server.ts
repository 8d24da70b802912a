import { readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import pg from 'pg';

import { embeddedPostgres, stopEmbeddedPostgres } from '../../lib/embedded/embedded-postgres.js';
import { errorCode } from '../../lib/embedded/error-code.js';
import { connectionTo, dropLeftoverDatabases } from './database.js';
import { PgBouncer } from './pg-bouncer.js';

/** The PostgreSQL server of a test run. */
export interface TestServer {
  /** Of an administrator's database, not of one to test in. */
  url: string;
  /** Where its databases are reached instead, in a test run that goes through a pooler. */
  poolerUrl?: string;
  stop(): Promise<void>;
}

const CONTAINER_IMAGE = 'postgres:16-alpine';

/** What makes tests fast and statements countable; data that survives a crash of the machine is not wanted here. */
const CONTAINER_COMMAND = [
  'postgres',
  ...['fsync=off', 'max_connections=200', 'shared_preload_libraries=pg_stat_statements'].flatMap((setting) => [
    '-c',
    setting,
  ]),
];

/**
 * Always a real PostgreSQL: the one DATABASE_URL names, else one in a container, else the embedded one, whose data goes
 * to `runFolder`, outside of the checkout. With TEST_POOLER=pgbouncer there is a PgBouncer in transaction mode in front of it.
 *
 * @public The global set-up loads it by a computed path.
 */
export async function startTestServer(runFolder: string): Promise<TestServer> {
  await removeAbandonedRuns(dirname(runFolder));
  const server = useDatabaseUrl() ?? (await startContainer()) ?? (await startEmbedded(serverFolder(runFolder)));
  try {
    await requireCreateDatabase(server.url);
    await dropLeftoverDatabases(server.url);
    return process.env.TEST_POOLER === 'pgbouncer' ? await behindPooler(server) : server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

function useDatabaseUrl(): TestServer | undefined {
  const url = process.env.DATABASE_URL;
  return url ? { url, stop: () => Promise.resolve() } : undefined;
}

async function startContainer(): Promise<TestServer | undefined> {
  const { getContainerRuntimeClient } = await import('testcontainers');
  const hasRuntime = await getContainerRuntimeClient().then(
    () => true,
    () => false,
  );
  if (!hasRuntime) return undefined;
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql');
  const container = await new PostgreSqlContainer(CONTAINER_IMAGE).withCommand(CONTAINER_COMMAND).start();
  return {
    url: container.getConnectionUri(),
    stop: async () => {
      await container.stop();
    },
  };
}

async function startEmbedded(dir: string): Promise<TestServer> {
  const { username, password, host, port, database } = await embeddedPostgres({ dir, ephemeral: true });
  return {
    url: `postgres://${username}:${password}@${host}:${port}/${database}`,
    stop: async () => {
      await stopEmbeddedPostgres({ dir });
    },
  };
}

async function behindPooler({ url, stop }: TestServer): Promise<TestServer> {
  const pooler = await PgBouncer.start(connectionTo(url));
  return {
    url,
    poolerUrl: pooler.url,
    stop: async () => {
      await pooler.stop();
      await stop();
    },
  };
}

function serverFolder(runFolder: string): string {
  return join(runFolder, 'server');
}

/** An embedded server outlives a test run that is killed; the next run stops it. */
async function removeAbandonedRuns(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const pid = /^orchestration-tests-(\d+)-/.exec(name)?.[1];
    if (!pid || isAlive(Number(pid))) continue;
    // It may belong to another account, or another run may be removing it at this moment.
    await stopEmbeddedPostgres({ dir: serverFolder(join(parent, name)) }).catch(() => false);
    await rm(join(parent, name), { recursive: true, force: true }).catch(() => undefined);
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return errorCode(error) === 'EPERM';
  }
}

async function requireCreateDatabase(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ user: string; allowed: boolean }>(
      'select current_user as user, rolcreatedb or rolsuper as allowed from pg_roles where rolname = current_user',
    );
    if (rows[0]?.allowed) return;
    throw new Error(
      `The tests create a database per test file, which the user "${rows[0]?.user}" of DATABASE_URL may not. ` +
        `Run \`alter role "${rows[0]?.user}" createdb\`, or unset DATABASE_URL to test on a container or the embedded PostgreSQL.`,
    );
  } finally {
    await client.end();
  }
}
