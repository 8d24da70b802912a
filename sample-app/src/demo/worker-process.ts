import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('../worker.main.js', import.meta.url));
const PATIENCE_MS = 5_000;

/** A worker in a process of its own, which can really be killed. */
export class WorkerProcess {
  #output = '';

  private constructor(private readonly child: ChildProcess) {
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => (this.#output += String(chunk)));
  }

  /** Resolves when it works. */
  static async start(): Promise<WorkerProcess> {
    const child = fork(SCRIPT, {
      env: { ...process.env, SHOP_WORKER: 'on' },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    const worker = new WorkerProcess(child);
    await Promise.race([once(child, 'message'), once(child, 'exit')]);
    worker.expectAlive();
    return worker;
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** What it has complained about. */
  get complaints(): string {
    return this.#output;
  }

  /** @throws Error when it has ended */
  expectAlive(): void {
    if (this.hasEnded) throw new Error(`The worker process ended by itself:\n${this.complaints}`);
  }

  /** SIGKILL: no goodbye, nothing handed back. */
  async kill(): Promise<void> {
    await this.end('SIGKILL');
  }

  /** SIGTERM; when that takes too long, SIGKILL. */
  async stop(): Promise<void> {
    const timer = setTimeout(() => this.child.kill('SIGKILL'), PATIENCE_MS);
    await this.end('SIGTERM');
    clearTimeout(timer);
  }

  private get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    if (this.hasEnded) return;
    const ended = once(this.child, 'exit');
    this.child.kill(signal);
    await ended;
  }
}
