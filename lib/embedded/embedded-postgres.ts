import { existsSync } from 'node:fs';
import { dirname } from 'node:path';

import pg from 'pg';

import { EmbeddedDatabaseError } from '../engine/errors.js';
import { findBinariesPackage, prepareBinaries, type Binaries } from './binaries.js';
import { initialiseCluster, isInitialised, locateCluster, readPassword, USERNAME, type Cluster } from './cluster.js';
import { errorCode } from './error-code.js';
import { HOST, startOrAttach, stopServer, type StartSettings } from './server.js';

export interface EmbeddedPostgresOptions {
  /** The folder of the data, relative to the working directory; `.orchestration` by default. */
  dir?: string;
  /** The database, created if absent; `orchestration` by default. */
  database?: string;
  /** @internal For tests: faster, and the data may be lost when the machine crashes. */
  ephemeral?: boolean;
}

/** TypeORM connection options, which `pg` understands as well once `username` is passed as `user`. */
export interface EmbeddedPostgresConnection {
  type: 'postgres';
  host: string;
  port: number;
  username: string;
  password: string;
  database: string;
  ssl: false;
}

const DEFAULT_DIR = '.orchestration';
const DEFAULT_DATABASE = 'orchestration';

/**
 * Starts the embedded PostgreSQL, or attaches to the one that already runs in `dir`, and gives TypeORM connection options.
 * It is a real PostgreSQL server for development, tests and small installations. Any number of processes of one machine
 * may share it. It keeps its data safe as any PostgreSQL does, and it goes on running when the app ends or crashes, so that
 * the next start takes milliseconds; it can be stopped with `stopEmbeddedPostgres`, or by removing `dir`.
 *
 * @example TypeOrmModule.forRootAsync({ useFactory: () => embeddedPostgres() })
 * @throws EmbeddedDatabaseError when there are no PostgreSQL binaries for this machine, or the server does not start.
 */
export async function embeddedPostgres(options: EmbeddedPostgresOptions = {}): Promise<EmbeddedPostgresConnection> {
  const settings = { durable: !options.ephemeral };
  const { cluster, findBinaries } = await findCluster(options.dir);
  if (!(await isInitialised(cluster))) await initialiseCluster(cluster, await findBinaries(), settings);
  return startAndConnect(options.database ?? DEFAULT_DATABASE, { cluster, findBinaries, settings });
}

/** The same for the one that is in `dir` already: undefined where there is none. */
export async function existingEmbeddedPostgres(
  options: EmbeddedPostgresOptions = {},
): Promise<EmbeddedPostgresConnection | undefined> {
  if (!existsSync(options.dir ?? DEFAULT_DIR)) return undefined;
  const { cluster } = await findCluster(options.dir);
  return (await isInitialised(cluster)) ? embeddedPostgres(options) : undefined;
}

/**
 * Stops the embedded PostgreSQL of `dir`, whoever started it, and disconnects everybody from it; true if one was running.
 * The data stays.
 */
export async function stopEmbeddedPostgres(options: Pick<EmbeddedPostgresOptions, 'dir'> = {}): Promise<boolean> {
  if (!existsSync(options.dir ?? DEFAULT_DIR)) return false;
  const { cluster, findBinaries } = await findCluster(options.dir);
  return stopServer(cluster, findBinaries);
}

interface ClusterAccess {
  cluster: Cluster;
  /** Only for those who start a server: whoever attaches needs no programs. */
  findBinaries: () => Promise<Binaries>;
}

async function findCluster(dir = DEFAULT_DIR): Promise<ClusterAccess> {
  const source = await findBinariesPackage();
  const cluster = await locateCluster(dir, source.major);
  return {
    cluster,
    findBinaries: () => prepareBinaries(source, { copyFolder: dirname(cluster.folder), user: cluster.user }),
  };
}

/** Between the look at postmaster.pid and the login somebody may have stopped or killed the server: then once more. */
async function startAndConnect(
  database: string,
  { cluster, findBinaries, settings }: ClusterAccess & { settings: StartSettings },
): Promise<EmbeddedPostgresConnection> {
  const password = await readPassword(cluster);
  for (let attempt = 1; ; attempt += 1) {
    const port = await startOrAttach(cluster, findBinaries, settings);
    // `ssl: false` keeps PGSSLMODE, which is meant for another server, away from this one.
    const connection = {
      type: 'postgres',
      host: HOST,
      port,
      username: USERNAME,
      password,
      database,
      ssl: false,
    } as const;
    try {
      await ensureDatabase(connection);
      return connection;
    } catch (error) {
      if (attempt < CONNECT_ATTEMPTS && SERVER_GONE.has(errorCode(error) ?? '')) continue;
      throw new EmbeddedDatabaseError(
        `The embedded PostgreSQL in ${cluster.folder} runs on port ${port} but does not let us in: ` +
          `${String(error)}. See ${cluster.logFile}.`,
        { cause: error },
      );
    }
  }
}

const CONNECT_ATTEMPTS = 5;
const SERVER_GONE = new Set(['ECONNREFUSED', 'ECONNRESET', '57P01', '57P02', '57P03']);

async function ensureDatabase(connection: EmbeddedPostgresConnection): Promise<void> {
  try {
    await execute(connection, 'select 1');
  } catch (error) {
    if (errorCode(error) !== UNDEFINED_DATABASE) throw error;
    await createDatabase(connection);
  }
}

const UNDEFINED_DATABASE = '3D000';
const DUPLICATE_DATABASE = new Set(['42P04', '23505']);

async function createDatabase(connection: EmbeddedPostgresConnection): Promise<void> {
  const name = `"${connection.database.replaceAll('"', '""')}"`;
  // From template0, which nobody can be connected to.
  await execute({ ...connection, database: 'postgres' }, `create database ${name} template template0`).catch(
    (error: unknown) => {
      // Another process created it at the same moment.
      if (!DUPLICATE_DATABASE.has(errorCode(error) ?? '')) throw error;
    },
  );
}

async function execute({ username, ...connection }: EmbeddedPostgresConnection, statement: string): Promise<void> {
  const client = new pg.Client({ ...connection, user: username, connectionTimeoutMillis: 10_000 });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
