import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import ts from 'typescript';

import { stopEmbeddedPostgres } from '../../lib/embedded/embedded-postgres.js';
import { DocumentCompiler } from './compile.js';
import { brokenLinks, codeBlocks, readDocuments } from './documents.js';

const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const documents = readDocuments(root);
const blocks = documents.flatMap(codeBlocks).filter(({ language }) => language === 'ts');

describe('The documents', () => {
  const compiler = new DocumentCompiler(root);

  it('have files that compile as they are, in a project as nest new makes it', () => {
    expect(compiler.checkFiles(blocks.filter(({ file }) => file !== undefined))).toEqual([]);
  });

  it('have fragments that compile', () => {
    expect(compiler.checkFragments(blocks.filter(({ file }) => file === undefined))).toEqual([]);
  });

  it('have links that lead somewhere', () => {
    expect(documents.flatMap((document) => brokenLinks(root, document))).toEqual([]);
  });
});

describe("The README's first workflow", () => {
  let app: ReadmeApp;

  beforeAll(async () => {
    app = new ReadmeApp();
    await app.start();
  });

  afterAll(async () => {
    await app.remove();
  });

  it('runs as pasted, without a database installed', async () => {
    expect(await app.place('4711')).toBe('4711: paid 42');
  });

  it('gives the same run when the order is placed again', async () => {
    const answers = await Promise.all([app.place('4712'), app.place('4712')]);

    expect(answers).toEqual(['4712: paid 42', '4712: paid 42']);
  });
});

/** The files of the README in a folder of their own, whose node_modules is that of this repository. */
class ReadmeApp {
  private url = '';
  private readonly folder = mkdtempSync(join(tmpdir(), 'readme-'));
  private process: ChildProcess | undefined;

  constructor() {
    if (!existsSync(join(root, 'dist/index.js'))) throw new Error('dist is missing: run `npm run build` first.');
    // Open to the account that runs the embedded PostgreSQL when the tests run as root.
    chmodSync(this.folder, 0o755);
    symlinkSync(join(root, 'node_modules'), join(this.folder, 'node_modules'), 'junction');
    this.write('package.json', JSON.stringify({ type: 'module' }));
    for (const { document, file, text } of blocks)
      if (document === 'README.md' && file) this.write(file.replace(/\.ts$/, '.js'), toJavaScript(text));
  }

  async start(): Promise<void> {
    const port = await freePort();
    this.url = `http://127.0.0.1:${port}`;
    this.process = spawn(process.execPath, ['src/main.js'], {
      cwd: this.folder,
      env: { ...process.env, NODE_ENV: 'development', NO_COLOR: '1', PORT: String(port) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const lines: string[] = [];
    for (const output of [this.process.stdout!, this.process.stderr!]) {
      createInterface(output).on('line', (line) => lines.push(line));
    }
    await untilStarted(this.process, lines);
  }

  async place(order: string): Promise<string> {
    return (await fetch(`${this.url}/orders/${order}`, { method: 'POST' })).text();
  }

  async remove(): Promise<void> {
    if (this.process?.exitCode === null) {
      this.process.kill('SIGTERM');
      await once(this.process, 'exit');
    }
    await stopEmbeddedPostgres({ dir: join(this.folder, '.orchestration') });
    rmSync(this.folder, { recursive: true, force: true });
  }

  private write(path: string, text: string): void {
    mkdirSync(dirname(join(this.folder, path)), { recursive: true });
    writeFileSync(join(this.folder, path), text);
  }
}

async function untilStarted(app: ChildProcess, lines: string[]): Promise<void> {
  const started = new Promise<void>((resolve) => {
    createInterface(app.stdout!).on('line', (line) => line.includes('successfully started') && resolve());
  });
  const ended = once(app, 'exit').then(() => {
    throw new Error(`The app ended:\n${lines.join('\n')}`);
  });
  await Promise.race([started, ended]);
  ended.catch(() => {});
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
