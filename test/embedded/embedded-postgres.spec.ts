import { spawn } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';

import { embeddedPostgres, stopEmbeddedPostgres } from '../../lib/embedded/embedded-postgres.js';
import type { EmbeddedPostgresConnection } from '../../lib/embedded/embedded-postgres.js';
import { AppProcess, runApp } from './app-process.js';

const dirs: string[] = [];

/** A place for a cluster which every account can reach; stopped and removed at the end. */
async function newDir(name = '.orchestration'): Promise<string> {
  const parent = await mkdtemp(join(tmpdir(), 'orchestration-embedded-'));
  await chmod(parent, 0o755);
  const dir = join(parent, name);
  dirs.push(dir);
  return dir;
}

afterAll(async () => {
  for (const dir of dirs) {
    await stopEmbeddedPostgres({ dir }).catch(() => false);
    await rm(join(dir, '..'), { recursive: true, force: true });
  }
});

describe('The embedded PostgreSQL', () => {
  it('is one server for four processes that start it at the same moment', async () => {
    const dir = await newDir();

    const reports = await Promise.all([1, 2, 3, 4].map(() => runApp({ options: { dir, ephemeral: true } })));

    expect(reports.map(({ error }) => error)).toEqual([undefined, undefined, undefined, undefined]);
    expect(new Set(reports.map(({ connection }) => JSON.stringify(connection))).size).toBe(1);
    expect((await readdir(dir)).toSorted()).toEqual(['.gitignore', 'postgres-18']);
  });

  it('is attached to within 200 ms by the next process, and found with its data', async () => {
    const dir = await newDir();
    const first = await runApp({ options: { dir, ephemeral: true } });
    await query(first.connection, 'create table kept as select 42 as answer');
    const pid = await postmasterPid(dir);

    const second = await runApp({ options: { dir, ephemeral: true } });

    expect(second.tookMs).toBeLessThan(200);
    expect(await postmasterPid(dir)).toBe(pid);
    expect(await query(second.connection, 'select answer from kept')).toEqual([{ answer: 42 }]);
  });

  it('outlives an app that is killed', async () => {
    const dir = await newDir();
    const app = AppProcess.start({ options: { dir, ephemeral: true }, stay: true });
    const { connection } = await app.report();

    await app.kill('SIGKILL');

    expect(await query(connection, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  it('does not hear Ctrl-C in the terminal of the app', async () => {
    const dir = await newDir();
    const app = AppProcess.start({ options: { dir, ephemeral: true }, stay: true });
    const { connection } = await app.report();

    await app.interruptGroup();

    expect(app.child.signalCode).toBe('SIGINT');
    expect(await query(connection, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  it('starts again after a SIGKILL of its postmaster, on the same port and with every commit', async () => {
    const dir = await newDir();
    const before = await embeddedPostgres({ dir });
    await query(before, 'create table kept as select 42 as answer');

    await killPostmaster(dir);
    const after = await embeddedPostgres({ dir });

    expect(after).toEqual(before);
    expect(await query(after, 'select answer from kept')).toEqual([{ answer: 42 }]);
  });

  it('is one server for four processes that find its postmaster killed', async () => {
    const dir = await newDir();
    await embeddedPostgres({ dir, ephemeral: true });
    await killPostmaster(dir);

    const reports = await Promise.all([1, 2, 3, 4].map(() => runApp({ options: { dir } })));

    expect(reports.map(({ error }) => error)).toEqual([undefined, undefined, undefined, undefined]);
    expect(new Set(reports.map(({ connection }) => connection?.port)).size).toBe(1);
  });

  it('starts although the process id of the killed postmaster belongs to another program by now', async () => {
    const dir = await newDir();
    const before = await embeddedPostgres({ dir, ephemeral: true });
    await killPostmaster(dir);
    // Of the account that runs the server, since PostgreSQL itself knows the other accounts' processes apart.
    const { uid, gid } = await stat(dataFolder(dir));
    const bystander = spawn('sleep', ['60'], { uid, gid });
    const pidFile = join(dataFolder(dir), 'postmaster.pid');
    await writeFile(pidFile, (await readFile(pidFile, 'utf8')).replace(/^\d+/, String(bystander.pid)));

    const after = await embeddedPostgres({ dir, ephemeral: true });

    expect(after.port).toBe(before.port);
    expect(await query(after, 'select 1 as one')).toEqual([{ one: 1 }]);
    bystander.kill();
  });

  it('takes another port when its last one is taken', async () => {
    const dir = await newDir();
    const before = await embeddedPostgres({ dir, ephemeral: true });
    await stopEmbeddedPostgres({ dir });
    const squatter = createServer();
    await new Promise<void>((listening) => squatter.listen(before.port, before.host, listening));

    const after = await embeddedPostgres({ dir, ephemeral: true });

    expect(after.port).not.toBe(before.port);
    expect(await query(after, 'select 1 as one')).toEqual([{ one: 1 }]);
    await new Promise((closed) => squatter.close(closed));
  });

  it('is made anew after the app was killed while it made the data folder', async () => {
    const dir = await newDir();
    const app = AppProcess.start({ options: { dir } });
    await waitFor(async () => (await readdir(dir).catch(() => [])).some((name) => name.startsWith('unfinished-')));
    await app.kill('SIGKILL');

    const { error, connection } = await runApp({ options: { dir } });

    expect(error).toBeUndefined();
    expect(await query(connection, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  it('lets nobody in without the password, which only its owner can read', async () => {
    const dir = await newDir();
    const connection = await embeddedPostgres({ dir, ephemeral: true });
    const passwordFile = join(dir, 'postgres-18', 'password');

    expect(await readFile(passwordFile, 'utf8')).toBe(connection.password);
    expect((await stat(passwordFile)).mode & 0o777).toBe(0o600);
    await expect(query({ ...connection, password: 'guessed' }, 'select 1')).rejects.toMatchObject({ code: '28P01' });
    await expect(query({ ...connection, password: '' }, 'select 1')).rejects.toThrow(/password/);
  });

  it('keeps its data as safe as any PostgreSQL, and listens on this machine alone', async () => {
    const dir = await newDir();
    const connection = await embeddedPostgres({ dir });

    expect(await query(connection, 'show fsync')).toEqual([{ fsync: 'on' }]);
    expect(await query(connection, 'show synchronous_commit')).toEqual([{ synchronous_commit: 'on' }]);
    expect(await query(connection, 'show listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }]);
  });

  it('makes the database that is asked for, also when several ask at once', async () => {
    const dir = await newDir();

    const connections = await Promise.all(
      ['shop', 'shop', 'Odd "name"'].map((database) => embeddedPostgres({ dir, database, ephemeral: true })),
    );

    for (const connection of connections) {
      expect(await query(connection, 'select current_database() as name')).toEqual([{ name: connection.database }]);
    }
  });

  it('works in a folder whose path has spaces and quotes', async () => {
    const dir = await newDir("it's a folder");

    const connection = await embeddedPostgres({ dir, ephemeral: true });

    expect(await query(connection, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  it('stops on request, and says whether it ran', async () => {
    const dir = await newDir();
    const connection = await embeddedPostgres({ dir, ephemeral: true });

    expect(await stopEmbeddedPostgres({ dir })).toBe(true);
    expect(await stopEmbeddedPostgres({ dir })).toBe(false);
    await expect(query(connection, 'select 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('names the folder when its data is incomplete', async () => {
    const dir = await newDir();
    await mkdir(dataFolder(dir), { recursive: true });

    const start = embeddedPostgres({ dir });

    await expect(start).rejects.toMatchObject({
      name: 'EmbeddedDatabaseError',
      message: expect.stringContaining(`${join(dir, 'postgres-18')}, is incomplete`),
    });
  });

  it('shows the end of the server log when its data is damaged', async () => {
    const dir = await newDir();
    await embeddedPostgres({ dir, ephemeral: true });
    await stopEmbeddedPostgres({ dir });
    await writeFile(join(dataFolder(dir), 'global', 'pg_control'), 'damaged');

    const start = embeddedPostgres({ dir });

    await expect(start).rejects.toMatchObject({
      name: 'EmbeddedDatabaseError',
      message: expect.stringMatching(/did not start:[^]*pg_control[^]*move that folder away/),
    });
  });
});

function dataFolder(dir: string): string {
  return join(dir, 'postgres-18', 'data');
}

async function postmasterPid(dir: string): Promise<number> {
  return Number.parseInt(await readFile(join(dataFolder(dir), 'postmaster.pid'), 'utf8'), 10);
}

async function killPostmaster(dir: string): Promise<void> {
  process.kill(await postmasterPid(dir), 'SIGKILL');
}

async function query(connection: EmbeddedPostgresConnection | undefined, statement: string): Promise<unknown[]> {
  const client = new pg.Client({ ...connection, user: connection?.username });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(statement)).rows;
  } finally {
    await client.end();
  }
}

async function waitFor(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resume) => setImmediate(resume));
}
