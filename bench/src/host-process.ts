import { type ChildProcess, fork } from 'node:child_process';
import type { Answer, Demand, Introduction, Operation } from './protocol.js';
import type { Load, Steady } from './load.js';
import type { Role } from './system.js';

const HOST = new URL('./host.js', import.meta.url);
/** How the error begins when a system took too long. */
export const NO_ANSWER = 'No answer within';
const PATIENCE_MS = 180_000;
/** Of every system: room for the young garbage of hundreds of runs in flight, as docs/scaling.md recommends. */
const NODE_OPTIONS = ['--expose-gc', '--max-semi-space-size=64'];
const LAST_LINES = 2_000;

export interface Timed {
  value: unknown;
  startedAt: number;
  endedAt: number;
}

/** A process of a system, as the benchmark sees it. */
export class HostProcess {
  private readonly waiting = new Map<number, { resolve(answer: Answer): void; reject(error: Error): void }>();
  private nextId = 1;
  private output = '';
  private gone: Error | undefined;

  private constructor(private readonly child: ChildProcess) {
    child.on('message', (message) => this.receive(message as Answer));
    child.on('exit', (code, signal) => this.fail(`The process ended with ${signal ?? code}. ${this.output}`.trim()));
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (text: Buffer) => (this.output = (this.output + text.toString()).slice(-LAST_LINES)));
  }

  operations: readonly string[] = [];
  settings = '';
  lacks: Record<string, string> = {};

  static async start(module: string, url: string, role: Role): Promise<HostProcess> {
    const child = fork(HOST, [module, url, JSON.stringify(role)], {
      execArgv: NODE_OPTIONS,
      env: { ...process.env, NODE_ENV: 'production' },
      serialization: 'advanced',
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    const host = new HostProcess(child);
    Object.assign(host, (await host.answerTo(0, PATIENCE_MS)).value as Introduction);
    return host;
  }

  /** Calls an operation once. */
  async call<Value = unknown>(operation: Operation, ...args: unknown[]): Promise<Value> {
    return (await this.timed(operation, ...args)).value as Value;
  }

  /** The same, with the times of its beginning and its end. */
  async timed(operation: Operation, ...args: unknown[]): Promise<Timed> {
    return (await this.ask({ kind: 'call', operation, args })) as Timed;
  }

  async steady(operation: Operation, options: { args?: unknown[] } & Load): Promise<Steady> {
    const patienceMs = PATIENCE_MS + options.measureMs;
    return (await this.ask({ kind: 'steady', operation, ...options }, patienceMs)).value as Steady;
  }

  async latencies(
    operation: Operation,
    options: { args?: unknown[]; count: number; limitMs: number },
  ): Promise<number[]> {
    return (await this.ask({ kind: 'latencies', operation, ...options })).value as number[];
  }

  async batch(operation: Operation, options: { args?: unknown[]; count: number; inFlight: number }): Promise<void> {
    await this.ask({ kind: 'batch', operation, ...options });
  }

  /** Heap and external memory in MiB, after a garbage collection. */
  async memory(): Promise<number> {
    return (await this.ask({ kind: 'memory' })).value as number;
  }

  async close(): Promise<void> {
    try {
      if (!this.gone) await this.ask({ kind: 'close' }, 30_000);
    } finally {
      await this.kill();
    }
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await exited;
  }

  private async ask(demand: Demand, patienceMs = PATIENCE_MS): Promise<Answer> {
    if (this.gone) throw this.gone;
    const id = this.nextId++;
    const answer = this.answerTo(id, patienceMs);
    this.child.send({ id, ...demand });
    return answer;
  }

  private answerTo(id: number, patienceMs: number): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${NO_ANSWER} ${patienceMs / 1_000} s.`)), patienceMs);
      const settle = () => {
        clearTimeout(timer);
        this.waiting.delete(id);
      };
      this.waiting.set(id, {
        resolve: (answer) => (settle(), resolve(answer)),
        reject: (error) => (settle(), reject(error)),
      });
    });
  }

  private receive(answer: Answer): void {
    const asked = this.waiting.get(answer.id);
    if (answer.error === undefined) asked?.resolve(answer);
    else asked?.reject(new Error(answer.error));
  }

  private fail(reason: string): void {
    this.gone = new Error(reason);
    for (const { reject } of this.waiting.values()) reject(this.gone);
  }
}
