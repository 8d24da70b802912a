import type { Heartbeat } from './recorded-run.js';
import type { Store } from './store.js';

/** The newest heartbeat of each step goes out at most this often; the first of a quiet time goes at once. */
const INTERVAL_MS = 1_000;

/** Gathers the heartbeats of all step bodies of a worker, and keeps the newest of each, by one statement beside the hot commit. */
export class HeartbeatBuffer {
  private readonly newest = new Map<string, Heartbeat>();
  private sending: Promise<void> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;
  private lastSentAt = -Infinity;

  constructor(
    private readonly store: Pick<Store, 'keepHeartbeats'>,
    private readonly warn: (message: string) => void,
  ) {}

  add(heartbeat: Heartbeat): void {
    this.newest.set(`${heartbeat.runId}/${heartbeat.seq}`, heartbeat);
    // Node warns of a negative delay.
    this.timer ??= setTimeout(() => void this.flush(), Math.max(0, this.lastSentAt + INTERVAL_MS - performance.now()));
  }

  /** Resolves when all that was added so far is kept. */
  flush(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.sending = this.sending.then(() => this.send());
    return this.sending;
  }

  private async send(): Promise<void> {
    if (this.newest.size === 0) return;
    const heartbeats = [...this.newest.values()];
    this.newest.clear();
    this.lastSentAt = performance.now();
    try {
      await this.store.keepHeartbeats(heartbeats);
    } catch (error) {
      this.warn(`The heartbeats of ${heartbeats.length} steps could not be kept: ${String(error)}`);
    }
  }
}
