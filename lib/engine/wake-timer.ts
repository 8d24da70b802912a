import type { DatabaseClock } from './clock.js';
import { DeadlineTimer } from './deadline-timer.js';
import type { Store, WokenRun } from './store.js';

const LARGEST_WAKE = 500;

interface WakeTimerParts {
  store: Pick<Store, 'wakeDue'>;
  clock: DatabaseClock;
  guard(work: () => Promise<void>): Promise<void>;
  woken(runs: readonly WokenRun[]): void;
}

/** Has a worker wake parked runs when their time has come. Every worker does; the regular look says what others have set. */
export class WakeTimer {
  private nextAt: number | null = null;
  private readonly timer = new DeadlineTimer(() => void this.wakeDue());

  constructor(private readonly parts: WakeTimerParts) {}

  /** A run is due at that time, in epoch ms. */
  dueAt(time: number): void {
    if (this.nextAt !== null && this.nextAt <= time) return;
    this.nextAt = time;
    this.arm();
  }

  /** The database's clock may have moved on since: a failover, or a test that moves the time. */
  arm(): void {
    if (this.nextAt !== null) this.timer.set(this.nextAt - this.parts.clock.now());
  }

  clear(): void {
    this.timer.clear();
  }

  private async wakeDue(): Promise<void> {
    this.nextAt = null;
    const { store, clock, guard, woken } = this.parts;
    await guard(async () => {
      const runs = await store.wakeDue(LARGEST_WAKE);
      woken(runs);
      if (runs.length === LARGEST_WAKE) this.dueAt(clock.now());
    });
  }
}
