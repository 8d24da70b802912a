import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import type { Cluster } from './cluster.js';
import { errorCode } from './error-code.js';
import { runProgram } from './run-program.js';

/** The running server of a cluster, as its postmaster.pid tells. */
export interface Postmaster {
  pid: number;
  port: number;
  status: 'ready' | 'starting' | 'stopping';
}

/**
 * The live server of the cluster, if there is one. A postmaster.pid that a killed server left behind does not count:
 * PostgreSQL removes it at the next start, unless its process id belongs to another program by now. That one is removed
 * here, because PostgreSQL would refuse to start until that other program ends.
 */
export async function findPostmaster(cluster: Cluster): Promise<Postmaster | undefined> {
  const pidFile = join(cluster.dataFolder, 'postmaster.pid');
  const content = await readFile(pidFile, 'utf8').catch(() => undefined);
  if (content === undefined) return undefined;

  const [pid, dataFolder, , port, , , , status] = content.split('\n').map((line) => line.trim());
  if (!isAlive(Number(pid))) return undefined;
  if (!(await servesFolder(Number(pid), dataFolder ?? cluster.dataFolder))) {
    await removeIfUnchanged(pidFile, content);
    return undefined;
  }
  // The server writes the file line by line: without a status it has only just begun.
  return {
    pid: Number(pid),
    port: Number(port),
    status: status === 'ready' || status === 'stopping' ? status : 'starting',
  };
}

/** Where the server was last reached. The next start prefers that port, so that the pools of other processes find it again. */
export async function readLastPort(cluster: Cluster): Promise<number | undefined> {
  const commandLine = await readFile(join(cluster.dataFolder, 'postmaster.opts'), 'utf8').catch(() => '');
  const port = /"port=(\d+)"/.exec(commandLine)?.[1];
  return port === undefined ? undefined : Number(port);
}

function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch (error) {
    return errorCode(error) === 'EPERM';
  }
}

/** False for another program that got the id of a dead server, and for a dead server which nobody has reaped. */
async function servesFolder(pid: number, dataFolder: string): Promise<boolean> {
  const commandLine = await readCommandLine(pid);
  return commandLine === undefined || commandLine.includes(dataFolder);
}

/** Undefined where it cannot be told; there PostgreSQL's own check has the last word. */
async function readCommandLine(pid: number): Promise<string | undefined> {
  if (process.platform === 'win32') return undefined;
  if (process.platform === 'linux') {
    return readFile(`/proc/${pid}/cmdline`, 'utf8').catch((error: unknown) =>
      errorCode(error) === 'ENOENT' ? '' : undefined,
    );
  }
  const listing = await runProgram('ps', ['-ww', '-o', 'command=', '-p', String(pid)]);
  return listing.spawnErrorCode ? undefined : listing.output;
}

/** Another process may have come to the same conclusion and started a server since: its file is put back. */
async function removeIfUnchanged(pidFile: string, content: string): Promise<void> {
  const aside = `${pidFile}.${randomUUID()}`;
  try {
    await rename(pidFile, aside);
    if ((await readFile(aside, 'utf8')) !== content) await link(aside, pidFile);
  } catch (error) {
    const code = errorCode(error);
    if (code !== 'ENOENT' && code !== 'EEXIST') throw error;
  } finally {
    await rm(aside, { force: true });
  }
}
