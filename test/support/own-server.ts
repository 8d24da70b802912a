import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { embeddedPostgres, stopEmbeddedPostgres } from '../../lib/embedded/embedded-postgres.js';
import type { TestConnection, TestDatabase } from './database.js';
import { until } from './until.js';

const NAME = 'on_its_own_server';

/** A PostgreSQL of a test's own, to be crashed. What it has acknowledged survives that, as in production. */
export class OwnServer {
  private constructor(
    private readonly folder: string,
    readonly database: TestDatabase,
  ) {}

  static async start(): Promise<OwnServer> {
    const folder = await mkdtemp(join(tmpdir(), 'orchestration-server-'));
    // Root's server runs under another account.
    await chmod(folder, 0o755);
    const connection = await embeddedPostgres({ dir: folder, database: NAME });
    return new OwnServer(
      folder,
      databaseOf(connection, () => remove(folder)),
    );
  }

  /** As by `pg_ctl stop --mode=immediate`: each of its processes quits where it is. */
  async crash(): Promise<void> {
    const cluster = (await readdir(this.folder)).find((name) => name.startsWith('postgres-'))!;
    const [pid] = (await readFile(join(this.folder, cluster, 'data', 'postmaster.pid'), 'utf8')).split('\n');
    process.kill(Number(pid), 'SIGQUIT');
    await until('the server is gone', async () => !(await this.accepts()));
  }

  /** On the same port. Resolves when it lets everybody in again. */
  async recover(): Promise<void> {
    const { port } = await embeddedPostgres({ dir: this.folder, database: NAME });
    if (port !== this.database.connection.port) throw new Error('Another program has taken the port of the server.');
  }

  private accepts(): Promise<boolean> {
    const { port, host } = this.database.connection;
    return new Promise((resolve) => {
      const socket = connect(port, host);
      socket.once('error', () => resolve(false));
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
    });
  }
}

async function remove(folder: string): Promise<void> {
  await stopEmbeddedPostgres({ dir: folder });
  await rm(folder, { recursive: true });
}

function databaseOf(connection: TestConnection, drop: () => Promise<void>): TestDatabase {
  const { username, password, host, port, database: name } = connection;
  const url = `postgres://${username}:${password}@${host}:${port}/${name}`;
  return { name, url, appUrl: url, connection, drop };
}
