import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import ts from 'typescript';

import { stopEmbeddedPostgres } from '../../lib/embedded/embedded-postgres.js';
import type { CodeBlock } from './documents.js';

const PATIENCE_MS = 45_000;

/**
 * The files of a document as an app of their own, run as a process with the built package. Its node_modules is that of
 * this repository, and its database the embedded one, as for a user who has none.
 */
export class DocumentedApp {
  /** What all processes of the app have written. */
  readonly output: string[] = [];
  private folder = '';
  private url = '';
  private process: ChildProcess | undefined;

  constructor(
    private readonly root: string,
    private readonly files: readonly CodeBlock[],
  ) {}

  /** Of its files. */
  get texts(): string[] {
    return this.files.map(({ text }) => text);
  }

  async start(): Promise<void> {
    this.folder ||= this.createFolder();
    const port = await freePort();
    this.url = `http://127.0.0.1:${port}`;
    this.process = spawn(process.execPath, ['src/main.js'], {
      cwd: this.folder,
      env: { ...process.env, NODE_ENV: 'development', NO_COLOR: '1', PORT: String(port) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    await this.untilStarted(this.process);
  }

  async stop(): Promise<void> {
    if (this.process?.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill('SIGTERM');
    await once(this.process, 'exit');
  }

  async remove(): Promise<void> {
    if (!this.folder) return;
    await this.stop();
    await stopEmbeddedPostgres({ dir: join(this.folder, '.orchestration') });
    rmSync(this.folder, { recursive: true, force: true });
  }

  async request(method: string, path: string, body?: object): Promise<string> {
    const json = body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    return (await fetch(this.url + path, { method, ...json })).text();
  }

  /** Does what a command with curl does that the document shows, and gives the answer. */
  async curl(words: readonly string[]): Promise<string> {
    const text = { type: 'string' } as const;
    const options = {
      request: { ...text, short: 'X' },
      header: { ...text, short: 'H' },
      data: { ...text, short: 'd' },
    };
    const { values, positionals } = parseArgs({ args: words.slice(1), options, allowPositionals: true });
    const path = positionals[0]!.replace(/^localhost:3000/, '');
    const body = values.data === undefined ? undefined : (JSON.parse(values.data) as object);
    return this.request(values.request ?? (body ? 'POST' : 'GET'), path, body);
  }

  async until(condition: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!(await condition())) {
      if (performance.now() > deadline) throw new Error(`It did not come to that:\n${this.output.join('\n')}`);
      await delay(50);
    }
  }

  private createFolder(): string {
    if (!existsSync(join(this.root, 'dist/index.js'))) throw new Error('dist is missing: run `npm run build` first.');
    const folder = mkdtempSync(join(tmpdir(), 'documented-app-'));
    // Open to the account that runs the embedded PostgreSQL when the tests run as root.
    chmodSync(folder, 0o755);
    symlinkSync(join(this.root, 'node_modules'), join(folder, 'node_modules'), 'junction');
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
    for (const { file, text } of this.files) {
      const path = join(folder, file!.replace(/\.ts$/, '.js'));
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, toJavaScript(text));
    }
    return folder;
  }

  private async untilStarted(app: ChildProcess): Promise<void> {
    let ended = false;
    let started = false;
    app.once('exit', () => (ended = true));
    for (const stream of [app.stdout!, app.stderr!]) {
      createInterface(stream).on('line', (line) => {
        this.output.push(line);
        started ||= line.includes('successfully started');
      });
    }
    await this.until(() => Promise.resolve(started || ended));
    if (ended) throw new Error(`The app ended:\n${this.output.join('\n')}`);
    // Nest says so a moment before the server listens.
    const answers = (): Promise<boolean> =>
      fetch(this.url).then(
        () => true,
        () => false,
      );
    await this.until(answers);
  }
}

function toJavaScript(text: string): string {
  const compilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    experimentalDecorators: true,
    emitDecoratorMetadata: true,
  };
  return ts.transpileModule(text, { compilerOptions }).outputText;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}
