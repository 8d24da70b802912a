import type { DatabaseClock } from './clock.js';
import { DeadlineTimer } from './deadline-timer.js';
import type { Fired, ScheduleStore } from './schedule-store.js';

/** Enough for all that start at midnight to go by a few transactions. */
const LARGEST_FIRING = 100;

interface TickTimerParts {
  store: ScheduleStore;
  clock: DatabaseClock;
  guard(work: () => Promise<void>): Promise<void>;
  fired(fired: Fired): void;
  warn(message: string): void;
}

/**
 * Has a worker look for due ticks in time. Every worker does, and one of them starts the runs. That is all it is for: when
 * this one dies, or the lock of a schedule is another's, the tick stays due, and the regular look says so again.
 */
export class TickTimer {
  private readonly timer = new DeadlineTimer(() => void this.fire());
  private isFiring = false;
  private isStopped = false;

  constructor(private readonly parts: TickTimerParts) {}

  /** When the next tick of any schedule is due, as the regular look has found it. */
  set(nextAt: number | null): void {
    if (nextAt === null || this.isStopped) this.timer.clear();
    else this.timer.set(nextAt - this.parts.clock.now());
  }

  /** For good: also a firing that is under way sets it no more. */
  clear(): void {
    this.isStopped = true;
    this.timer.clear();
  }

  private async fire(): Promise<void> {
    if (this.isFiring) return;
    this.isFiring = true;
    const { store, clock, guard, fired, warn } = this.parts;
    await guard(async () => {
      const result = await store.fireDue(LARGEST_FIRING);
      fired(result);
      for (const { id, error } of result.unreadable)
        warn(`Schedule '${id}' cannot be read here and is tried again in a minute: ${String(error)}`);
      // What is due and was not taken is in another worker's hands: not to be asked for again at once.
      if (result.more || (result.nextAt ?? 0) > clock.now()) this.set(result.nextAt);
    });
    this.isFiring = false;
  }
}
