import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { createTestDatabase, type TestDatabase } from '../support/database.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const sources = join(repository, 'test/nest/nest-11');

interface Placed {
  said: string;
  payments: { orderId: string; amount: number }[];
}

describe('77. A CommonJS app of Nest 11', () => {
  let folder: string;
  let app: string;
  let database: TestDatabase;
  const processes: ChildProcess[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'nest-11-'));
    app = join(folder, 'app');
    await installApp(folder, app);
    await promisify(execFile)(process.execPath, [join(repository, 'node_modules/typescript/bin/tsc'), '-p', app]);
    database = await createTestDatabase();
  });

  afterAll(async () => {
    for (const process of processes) process.kill('SIGKILL');
    await database.drop();
    await rm(folder, { recursive: true, force: true });
  });

  it('77. gives the package its own Nest', () => {
    const { resolve } = createRequire(join(app, 'node_modules/nestjs-orchestration/dist/index.js'));
    const { version } = JSON.parse(readFileSync(resolve('@nestjs/core/package.json'), 'utf8')) as { version: string };

    expect(version).toMatch(/^11\./);
  });

  it('77. runs a family with a guard and a transactional step, and serves metrics and the dashboard', async () => {
    const server = start('main');
    const url = await firstLine(server);

    const paid = await place(`${url}/orders/4711/42`);
    const refused = await place(`${url}/orders/4712/5000`);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    const runs = (await (await fetch(`${url}/orchestration/api/runs`)).json()) as { items: { status: string }[] };
    const page = await fetch(`${url}/orchestration`);

    expect(paid.said).toBe('4711: paid 42');
    expect(refused.said).toContain("Step 'Payments.pay' failed after 1 attempt: Forbidden resource");
    expect(refused.payments).toEqual([{ orderId: '4711', amount: 42 }]);
    expect(metrics).toMatch(/orchestration_runs_ended_total\{workflow="order",queue="default",status="failed".*\} 1/);
    expect(page.headers.get('content-type')).toContain('text/html');
    expect(runs.items.map(({ status }) => status)).toEqual(['failed', 'failed', 'completed', 'completed']);

    server.kill('SIGTERM');
    expect(await once(server, 'exit')).toEqual([null, 'SIGTERM']);
  });

  it('77. tests its workflows on a bed', async () => {
    expect(await firstLine(start('bed'))).toBe('4711: paid 42');
  });

  function start(script: 'main' | 'bed'): ChildProcess {
    const env = { ...process.env, DATABASE_URL: database.url, NODE_ENV: 'test' };
    const main = join(app, 'dist', `${script}.js`);
    const child = spawn(process.execPath, [main], { cwd: app, env, stdio: ['ignore', 'pipe', 'pipe'] });
    processes.push(child);
    return child;
  }
});

/** The package as npm would install it, beside the packages of Nest 11; what is in neither is found in the folder above. */
async function installApp(folder: string, app: string): Promise<void> {
  const installed = join(app, 'node_modules/nestjs-orchestration');
  await chmod(folder, 0o755);
  await mkdir(installed, { recursive: true });
  for (const part of ['package.json', 'tsconfig.json', 'src'])
    await cp(join(sources, part), join(app, part), { recursive: true });
  for (const part of ['package.json', 'dist'])
    await cp(join(repository, part), join(installed, part), { recursive: true });
  await symlink(join(sources, 'node_modules/@nestjs'), join(app, 'node_modules/@nestjs'), 'junction');
  await symlink(join(repository, 'node_modules'), join(folder, 'node_modules'), 'junction');
}

/** What the process says first; an error with what it complained of, when it ends without a word. */
async function firstLine(process: ChildProcess): Promise<string> {
  let complaints = '';
  process.stderr?.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
  if (!process.stdout) throw new Error('The process has no output');
  for await (const line of createInterface(process.stdout)) return line;
  throw new Error(`The app ended without a word: ${complaints}`);
}

async function place(url: string): Promise<Placed> {
  const response = await fetch(url, { method: 'POST' });
  return (await response.json()) as Placed;
}
