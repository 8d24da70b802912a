import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** What the process is to do: see fixtures/nest-app.mjs. */
export interface NestTask {
  task: 'double' | 'race' | 'order';
  url?: string;
  value?: number;
  /** Of an order: the step hangs, to be killed, or ends. */
  mode?: 'hang' | 'finish';
  runId?: string;
}

const SCRIPT = fileURLToPath(new URL('./fixtures/nest-app.mjs', import.meta.url));

/** A Nest app in a process of its own. */
export class NestProcess {
  readonly #messages: unknown[] = [];
  #output = '';

  private constructor(private readonly child: ChildProcess) {
    child.on('message', (message) => this.#messages.push(message));
    child.stderr?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
  }

  static start(task: NestTask, cwd?: string): NestProcess {
    const root = process.env.ORCHESTRATION_TEST_BUILD;
    if (!root) throw new Error('ORCHESTRATION_TEST_BUILD is not set: the global set-up of jest compiles the sources.');
    const env = { ...process.env, ORCHESTRATION_TEST_BUILD: root, NODE_ENV: 'test' };
    const stdio = ['ignore', 'ignore', 'pipe', 'ipc'] as const;
    return new NestProcess(fork(SCRIPT, [JSON.stringify(task)], { cwd, env, execArgv: [], stdio: [...stdio] }));
  }

  /** What it says next. */
  async message(): Promise<unknown> {
    while (this.#messages.length === 0) {
      if (this.hasEnded) throw new Error(`The app ended without a word: ${this.#output}`);
      await Promise.race([once(this.child, 'message'), once(this.child, 'close')]);
    }
    return this.#messages.shift();
  }

  /** Lets it go on where it waits for the test. */
  go(): void {
    this.child.send('go');
  }

  async end(): Promise<void> {
    if (!this.hasEnded) await once(this.child, 'close');
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.end();
  }

  private get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }
}
