import { createHash, randomBytes } from 'node:crypto';
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

import { EmbeddedDatabaseError } from '../engine/errors.js';
import type { Binaries } from './binaries.js';
import { errorCode } from './error-code.js';
import { chooseServerUser, type OperatingSystemUser } from './operating-system-user.js';
import { runProgram } from './run-program.js';

/** One data folder with what belongs to it. It appears whole, by one rename, or not at all. */
export interface Cluster {
  folder: string;
  dataFolder: string;
  logFile: string;
  passwordFile: string;
  /** The account that owns the folder and runs the server; absent when that is the account of this process. */
  user: OperatingSystemUser | undefined;
}

/** The superuser, the only role of an embedded database. */
export const USERNAME = 'postgres';

const FOLDER_FOR_ROOT = '/var/lib/nestjs-orchestration';
const UNFINISHED_PREFIX = 'unfinished-';
const ABANDONED_AFTER_MS = 10 * 60_000;

/** Where the cluster of `dir` is or will be. Creates `dir`, and nothing else. */
export async function locateCluster(dir: string, major: number): Promise<Cluster> {
  const wanted = await makeFolder(resolve(dir));
  const user = await chooseServerUser(join(wanted, folderName(major)));
  const base = user && !(await canUse(wanted, user)) ? await moveAside(wanted, user) : wanted;
  const folder = join(base, folderName(major));
  return {
    folder,
    dataFolder: join(folder, 'data'),
    logFile: join(folder, 'server.log'),
    passwordFile: join(folder, 'password'),
    user,
  };
}

/** One data folder per major, because a server cannot open the files of another major. */
function folderName(major: number): string {
  return `postgres-${major}`;
}

async function makeFolder(path: string): Promise<string> {
  try {
    await mkdir(path, { recursive: true });
    await writeFile(join(path, '.gitignore'), '*\n', { flag: 'wx' }).catch((error: unknown) => {
      if (errorCode(error) !== 'EEXIST') throw error;
    });
    return await realpath(path);
  } catch (error) {
    throw new EmbeddedDatabaseError(
      `The folder ${path} for the embedded PostgreSQL cannot be created or written to (${errorCode(error)}). ` +
        'Pass another one as `dir`, or configure `dataSource` or `connection`.',
      { cause: error },
    );
  }
}

/** Tried rather than computed from mode bits, which know nothing of access lists and mounts. */
async function canUse(folder: string, user: OperatingSystemUser): Promise<boolean> {
  return (await runProgram('/bin/sh', ['-c', 'cd "$1"', 'sh', folder], { user, cwd: '/' })).succeeded;
}

/**
 * Root's own folders are closed to the account that runs the server. /var/lib and not /tmp: the data must outlast a
 * reboot and the cleaning of old files.
 */
async function moveAside(wanted: string, user: OperatingSystemUser): Promise<string> {
  const id = createHash('sha256').update(wanted).digest('hex').slice(0, 12);
  const folder = await makeFolder(join(FOLDER_FOR_ROOT, `${basename(dirname(wanted))}-${id}`));
  await chmod(dirname(folder), 0o755);
  await chmod(folder, 0o755);
  if (!(await canUse(folder, user))) {
    throw new EmbeddedDatabaseError(
      `Running as root, the embedded PostgreSQL runs under the account with uid ${user.uid}, which can reach neither ${wanted} ` +
        `nor ${folder}. Run the app as another user, or pass a \`dir\` which that account can reach.`,
    );
  }
  warnOnce(
    `Running as root, the embedded PostgreSQL runs under the account with uid ${user.uid}, which cannot reach ${wanted}. ` +
      `Its data is in ${folder} instead.`,
  );
  return folder;
}

const warnings = new Set<string>();

function warnOnce(message: string): void {
  if (warnings.has(message)) return;
  warnings.add(message);
  process.emitWarning(message, 'EmbeddedDatabaseWarning');
}

/** Whether there is a cluster to start or attach to. @throws EmbeddedDatabaseError when there is half of one. */
export async function isInitialised({ folder, dataFolder, passwordFile }: Cluster): Promise<boolean> {
  if (!(await entriesOf(folder))) return false;
  const files = await Promise.all([join(dataFolder, 'PG_VERSION'), passwordFile].map(readOwnFile));
  if (files.every((content) => content !== undefined)) return true;
  throw new EmbeddedDatabaseError(
    `The data folder of the embedded PostgreSQL, ${folder}, is incomplete: it was not written by a finished \`initdb\` or was ` +
      'changed since. Move it away to start with an empty database, or put back a copy of it.',
  );
}

/** The password of the superuser, written when the cluster was made. */
export async function readPassword(cluster: Cluster): Promise<string> {
  return (await readOwnFile(cluster.passwordFile)) ?? '';
}

async function readOwnFile(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch((error: unknown) => explainUnreadable(path, error));
}

async function entriesOf(folder: string): Promise<string[] | undefined> {
  return readdir(folder).catch((error: unknown) => explainUnreadable(folder, error));
}

function explainUnreadable(path: string, error: unknown): undefined {
  if (errorCode(error) === 'ENOENT') return undefined;
  throw new EmbeddedDatabaseError(
    `${path} of the embedded PostgreSQL cannot be read (${errorCode(error)}): it belongs to another account, probably because the ` +
      'app ran as root before. Run it as that account again, move the folder away, or pass another `dir`.',
    { cause: error },
  );
}

/**
 * Makes the cluster in a folder of its own and renames it into place. Of racing processes one rename succeeds and the
 * others throw their work away; a process killed in between leaves a folder that nobody mistakes for a cluster.
 */
export async function initialiseCluster(
  cluster: Cluster,
  binaries: Binaries,
  settings: { durable: boolean },
): Promise<void> {
  const base = dirname(cluster.folder);
  await removeAbandonedFolders(base);
  const unfinished = await mkdtemp(join(base, UNFINISHED_PREFIX));
  try {
    await runInitdb(unfinished, cluster, { binaries, ...settings });
    await rename(unfinished, cluster.folder).catch(async (error: unknown) => {
      if (!(await isInitialised(cluster))) throw error;
    });
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

async function runInitdb(
  folder: string,
  { user }: Cluster,
  { binaries, durable }: { binaries: Binaries; durable: boolean },
): Promise<void> {
  const passwordFile = join(folder, 'password');
  await writeFile(passwordFile, randomBytes(24).toString('base64url'), { mode: 0o600 });
  if (user) await Promise.all([folder, passwordFile].map((path) => chown(path, user.uid, user.gid)));

  const result = await runProgram(
    binaries.initdb,
    [
      `--pgdata=${join(folder, 'data')}`,
      `--username=${USERNAME}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      // The same order and the same lower() on every machine, whatever locales it has.
      '--encoding=UTF8',
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--no-instructions',
      ...(durable ? [] : ['--no-sync']),
    ],
    { user, cwd: folder },
  );
  if (!result.succeeded)
    throw new EmbeddedDatabaseError(`The embedded PostgreSQL could not create its data folder:\n${result.output}`);
}

/** What processes killed during `initdb` left behind. */
async function removeAbandonedFolders(base: string): Promise<void> {
  const unfinished = (await readdir(base))
    .filter((name) => name.startsWith(UNFINISHED_PREFIX))
    .map((name) => join(base, name));
  for (const folder of unfinished) {
    const modifiedAt = await stat(folder).then((stats) => stats.mtimeMs, Date.now);
    if (Date.now() - modifiedAt > ABANDONED_AFTER_MS) await rm(folder, { recursive: true, force: true });
  }
}
