import type { HintChannel, Hints } from './hints.js';

/** Hints of many commits go out as one, at most this often; the first of a quiet time goes at once. */
const INTERVAL_MS = 5;

/** Gathers what other processes may want to look at, and tells them outside the hot commit. */
export class HintBuffer {
  private readonly queues = new Set<string>();
  private readonly workers = new Set<string>();
  private readonly endedRuns = new Set<string>();
  private readonly gates = new Set<string>();
  private isScheduled = false;
  private lastSentAt = 0;
  private sent: Promise<unknown> = Promise.resolve();

  constructor(private readonly channel: Pick<HintChannel, 'announce'>) {}

  queue(name: string): void {
    this.queues.add(name);
    this.sendSoon();
  }

  worker(id: string): void {
    this.workers.add(id);
    this.sendSoon();
  }

  ended(runId: string): void {
    this.endedRuns.add(runId);
    this.sendSoon();
  }

  gate(queue: string): void {
    this.gates.add(queue);
    this.sendSoon();
  }

  /** Resolves when all that was to be told is told, also what is on its way already: after that, the process may end. */
  async flush(): Promise<void> {
    this.send();
    await this.sent;
  }

  private send(): void {
    this.isScheduled = false;
    const sets = [this.queues, this.workers, this.endedRuns, this.gates];
    if (sets.every((set) => set.size === 0)) return;
    const [queues, workers, ended, gates] = sets.map((set) => [...set]) as [string[], string[], string[], string[]];
    const hints: Hints = { queues, workers, ended, gates };
    for (const set of sets) set.clear();
    this.lastSentAt = Date.now();
    this.sent = Promise.all([this.sent, this.channel.announce(hints)]);
  }

  private sendSoon(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    const wait = this.lastSentAt + INTERVAL_MS - Date.now();
    if (wait <= 0) setImmediate(() => this.send());
    else setTimeout(() => this.send(), wait);
  }
}
