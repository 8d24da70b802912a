import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import type { OrchestrationModuleOptions } from '../../lib/nest/module-options.js';
import type { TestDatabase } from './database.js';

export interface WorkerSetup {
  database: Pick<TestDatabase, 'connection' | 'url' | 'appUrl'>;
  options?: OrchestrationModuleOptions;
  /** Its step bodies are not held. */
  isOpen?: boolean;
  /** A program to start it with: its words before the command. */
  wrapper?: string[];
  nodeOptions?: string[];
  /** Whose workflows it has. Default: worker.mjs. */
  script?: 'worker.mjs' | 'bank.mjs' | 'fleet.mjs';
  env?: Record<string, string>;
}

/** What the bodies of its steps do, and what it logs. */
export interface WorkerEvent {
  event: 'ready' | 'began' | 'ended' | 'aborted' | 'said';
  /** When it was told, by the host's clock. */
  toldAt: number;
  step: string;
  attempt: number;
  runId: string;
  pid: number;
}

const scriptAt = (name: string) => fileURLToPath(new URL(`../crash/fixtures/${name}`, import.meta.url));
const running = new Set<WorkerProcess>();

/** A process with a worker, to be killed, stopped and continued. Its workflows stand in test/crash/fixtures. */
export class WorkerProcess {
  readonly events: WorkerEvent[] = [];
  #errors = '';

  private constructor(readonly child: ChildProcess) {
    running.add(this);
    child.on('message', (event: WorkerEvent) => {
      this.events.push(event);
      child.emit('told');
    });
    child.on('exit', () => child.emit('told'));
    child.stderr?.on('data', (chunk: Buffer) => (this.#errors += chunk.toString()));
  }

  /** Resolves when it is at work. */
  static async start({
    wrapper = [],
    nodeOptions = [],
    env = {},
    script = 'worker.mjs',
    ...setup
  }: WorkerSetup): Promise<WorkerProcess> {
    const build = process.env.ORCHESTRATION_TEST_BUILD;
    if (!build) throw new Error('ORCHESTRATION_TEST_BUILD is not set: the global set-up of jest compiles the sources.');
    const [command, ...words] = [
      ...wrapper,
      process.execPath,
      ...nodeOptions,
      scriptAt(script),
      build,
      JSON.stringify(setup),
    ];
    const child = spawn(command, words, {
      // A process group of its own: a wrapper may have the worker as its child, and both get what is sent.
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, ...env },
    });
    const worker = new WorkerProcess(child);
    await worker.until('it is ready', ({ event }) => event === 'ready');
    return worker;
  }

  get pid(): number {
    return this.child.pid!;
  }

  get isAlive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Resolves when so many of its events are such ones. */
  async until(what: string, isOne: (event: WorkerEvent) => boolean, count = 1): Promise<WorkerEvent[]> {
    for (;;) {
      const found = this.events.filter(isOne);
      if (found.length >= count) return found;
      if (!this.isAlive) throw new Error(`The worker ended before ${what}: ${this.#errors}`);
      await once(this.child, 'told');
    }
  }

  /** Lets its step bodies go on. */
  open(): void {
    this.child.send({ open: true });
  }

  signal(signal: NodeJS.Signals): void {
    if (this.isAlive) process.kill(-this.pid, signal);
  }

  async ended(): Promise<void> {
    if (this.isAlive) await once(this.child, 'exit');
    running.delete(this);
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.ended();
  }
}

/** For `afterEach`: also of a test that failed. */
export async function killWorkers(): Promise<void> {
  await Promise.all([...running].map((worker) => worker.kill()));
}
