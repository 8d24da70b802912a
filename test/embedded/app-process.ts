import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import type { EmbeddedPostgresConnection, EmbeddedPostgresOptions } from '../../lib/embedded/embedded-postgres.js';

export interface AppTask {
  options?: EmbeddedPostgresOptions;
  /** Goes on living once it is connected. */
  stay?: boolean;
  /** Pretends to be another kind of processor. */
  arch?: string;
  /** The folder that holds the compiled `lib/` and its node_modules. */
  root?: string;
  cwd?: string;
  uid?: number;
}

export interface AppReport {
  connection?: EmbeddedPostgresConnection;
  tookMs?: number;
  error?: { name: string; code: string; message: string };
}

const SCRIPT = fileURLToPath(new URL('./fixtures/app.mjs', import.meta.url));

/** A process of its own that calls `embeddedPostgres`, in a process group of its own, as a terminal would start it. */
export class AppProcess {
  #output = '';
  #warnings = '';

  private constructor(readonly child: ChildProcess) {
    child.stdout?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (this.#warnings += chunk.toString()));
  }

  static start({ root = buildFolder(), cwd, uid, ...task }: AppTask): AppProcess {
    const account = uid === undefined ? {} : { uid, gid: uid };
    const child = spawn(process.execPath, [SCRIPT, root, JSON.stringify(task)], {
      cwd: cwd ?? root,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...account,
    });
    return new AppProcess(child);
  }

  /** What it wrote to stderr. */
  get warnings(): string {
    return this.#warnings;
  }

  /** What it says once it is connected, or has failed. */
  async report(): Promise<AppReport> {
    while (!this.#output.includes('\n')) {
      if (this.child.exitCode !== null) throw new Error(`The app ended without a word: ${this.#warnings}`);
      await Promise.race([once(this.child.stdout ?? this.child, 'data'), once(this.child, 'close')]);
    }
    return JSON.parse(this.#output) as AppReport;
  }

  async end(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'close');
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    this.child.kill(signal);
    await this.end();
  }

  /** What Ctrl-C in a terminal does: the signal goes to the whole process group. */
  async interruptGroup(): Promise<void> {
    if (this.child.pid !== undefined) process.kill(-this.child.pid, 'SIGINT');
    await this.end();
  }
}

/** Runs an app to its end. */
export async function runApp(task: AppTask): Promise<AppReport & { warnings: string }> {
  const app = AppProcess.start(task);
  const report = await app.report();
  await app.end();
  return { ...report, warnings: app.warnings };
}

/** Where the global set-up compiled the sources to. */
export function buildFolder(): string {
  const folder = process.env.ORCHESTRATION_TEST_BUILD;
  if (!folder) throw new Error('ORCHESTRATION_TEST_BUILD is not set: the global set-up of jest compiles the sources.');
  return folder;
}
