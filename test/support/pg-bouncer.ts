import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pg from 'pg';

import type { TestConnection } from './database.js';
import { until } from './until.js';

/** Debian's, where it is installed. */
export const hasPgBouncer = spawnSync('pgbouncer', ['--version']).status === 0;

const SERVER_CONNECTIONS = 6;

/** A pooler in transaction mode in front of a server, with few connections to each of its databases. */
export class PgBouncer {
  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
    readonly connection: TestConnection,
  ) {}

  static async start(connection: TestConnection): Promise<PgBouncer> {
    const port = await freePort();
    const folder = mkdtempSync(join(tmpdir(), 'pgbouncer-'));
    const { host, port: serverPort, username, password } = connection;
    const file = join(folder, 'pgbouncer.ini');
    writeFileSync(
      file,
      `[databases]
* = host=${host} port=${serverPort} user=${username} ${password ? `password=${password}` : ''}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = ${SERVER_CONNECTIONS}
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
`,
    );
    chmodSync(folder, 0o755);
    // It refuses to run as root.
    const asUser = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
    const child = spawn('pgbouncer', ['-q', ...asUser, file], { stdio: 'ignore' });
    const bouncer = new PgBouncer(child, folder, { ...connection, host: '127.0.0.1', port });
    await until('the pooler answers', () => bouncer.answers());
    return bouncer;
  }

  get url(): string {
    const { host, port, username, password, database } = this.connection;
    return `postgres://${encodeURIComponent(username)}:${encodeURIComponent(password)}@${host}:${port}/${database}`;
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await ended;
    rmSync(this.folder, { recursive: true, force: true });
  }

  private async answers(): Promise<boolean> {
    const { host, port, username: user, password, database } = this.connection;
    const client = new pg.Client({ host, port, user, password, database });
    try {
      await client.connect();
      return true;
    } catch {
      return false;
    } finally {
      await client.end();
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
