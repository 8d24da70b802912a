import { open, stat } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { EmbeddedDatabaseError } from '../engine/errors.js';
import type { Binaries } from './binaries.js';
import type { Cluster } from './cluster.js';
import { findPostmaster, readLastPort, type Postmaster } from './postmaster.js';
import { runProgram } from './run-program.js';

/** The one address the server listens on. */
export const HOST = '127.0.0.1';

const START_TIMEOUT_MS = 60_000;
const POLL_MS = 20;
const RETRY_MS = 100;
const LOG_TAIL_BYTES = 4_000;

/** What makes a start fail although the next one may well succeed. */
const PASSING_FAILURES = [
  // Another program took the port between the probe and the start.
  /could not bind|Address already in use/i,
  // Another process starts the same cluster: PostgreSQL itself sees to it that only one server opens a data folder.
  /lock file "postmaster.pid" already exists/,
  // The server processes of a killed postmaster need a moment to notice that it is gone.
  /pre-existing shared memory block/,
];

export interface StartSettings {
  /** False only in tests: the data does not survive a crash of the machine. */
  durable: boolean;
}

/**
 * The port of the cluster's server, which is started if it does not run. There is no lock of our own, which a crashed
 * process could leave behind: postmaster.pid, which PostgreSQL guards, decides who started the server, and everybody
 * else attaches to it.
 */
export async function startOrAttach(
  cluster: Cluster,
  findBinaries: () => Promise<Binaries>,
  settings: StartSettings,
): Promise<number> {
  const giveUpAt = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const postmaster = await waitUntilSettled(cluster, giveUpAt);
    if (postmaster) return postmaster.port;
    const failure = await startServer(cluster, await findBinaries(), settings);
    if (!failure) continue;
    if (!failure.passing || Date.now() > giveUpAt) throw new EmbeddedDatabaseError(failure.message);
    await delay(RETRY_MS);
  }
}

/** The server once it is ready, or undefined once there is none. */
async function waitUntilSettled(cluster: Cluster, giveUpAt: number): Promise<Postmaster | undefined> {
  for (;;) {
    const postmaster = await findPostmaster(cluster);
    if (!postmaster || postmaster.status === 'ready') return postmaster;
    if (Date.now() > giveUpAt) {
      throw new EmbeddedDatabaseError(
        `The embedded PostgreSQL (process ${postmaster.pid}) has been ${postmaster.status} for a minute:\n${await readLog(cluster)}`,
      );
    }
    await delay(POLL_MS);
  }
}

/** `pg_ctl` puts the server into a session of its own: it outlives this process and does not hear the terminal's Ctrl-C. */
async function startServer(
  cluster: Cluster,
  binaries: Binaries,
  settings: StartSettings,
): Promise<{ message: string; passing: boolean } | undefined> {
  const port = await findFreePort(await readLastPort(cluster));
  const logSize = await sizeOf(cluster.logFile);
  const result = await runProgram(
    binaries.pgCtl,
    [
      'start',
      `--pgdata=${cluster.dataFolder}`,
      `--log=${cluster.logFile}`,
      `--options=${serverOptions(port, binaries, settings)}`,
      `--timeout=${START_TIMEOUT_MS / 1000}`,
      '--wait',
    ],
    { user: cluster.user, cwd: cluster.folder },
  );
  if (result.succeeded) return undefined;
  const log = await readLog(cluster, logSize);
  return {
    passing: PASSING_FAILURES.some((pattern) => pattern.test(log)),
    message:
      `The embedded PostgreSQL in ${cluster.folder} did not start:\n${log || result.output}\n` +
      'If its files are damaged, move that folder away to start with an empty database, or put back a copy of it.',
  };
}

function serverOptions(port: number, binaries: Binaries, { durable }: StartSettings): string {
  const settings = {
    port,
    listen_addresses: HOST,
    // TCP alone, since the path of a socket in a deep folder is soon too long for the operating system.
    unix_socket_directories: '',
    // Several processes with several pools share it; an unused slot costs a few kilobytes.
    max_connections: 200,
    log_checkpoints: 'off',
    ...(binaries.hasStatementStatistics && { shared_preload_libraries: 'pg_stat_statements' }),
    ...(!durable && { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }),
  };
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(' ');
}

async function findFreePort(preferred = 0): Promise<number> {
  return (await probePort(preferred)) ?? (await probePort(0)) ?? 0;
}

/** The port if it is free (any free one for 0), else undefined. */
function probePort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(undefined));
    probe.listen(port, HOST, () => {
      const { port: found } = probe.address() as AddressInfo;
      probe.close(() => resolve(found));
    });
  });
}

/** Stops the server; true if there was one. */
export async function stopServer(cluster: Cluster, findBinaries: () => Promise<Binaries>): Promise<boolean> {
  if (!(await findPostmaster(cluster))) return false;
  const { pgCtl } = await findBinaries();
  const result = await runProgram(
    pgCtl,
    ['stop', `--pgdata=${cluster.dataFolder}`, '--mode=fast', '--wait', '--timeout=60'],
    { user: cluster.user, cwd: cluster.folder },
  );
  if (result.succeeded) return true;
  throw new EmbeddedDatabaseError(
    `The embedded PostgreSQL in ${cluster.folder} could not be stopped:\n${result.output}`,
  );
}

/** The end of the server's log, at most from byte `from` on. */
async function readLog(cluster: Cluster, from = 0): Promise<string> {
  const size = await sizeOf(cluster.logFile);
  const start = Math.max(from, size - LOG_TAIL_BYTES);
  if (start >= size) return '';
  const file = await open(cluster.logFile);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start);
    return buffer.toString('utf8', 0, bytesRead).trim();
  } finally {
    await file.close();
  }
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    (stats) => stats.size,
    () => 0,
  );
}
