import { performance } from 'node:perf_hooks';

/**
 * The database's clock, estimated between statements. Every statement that returns the time corrects it; in between it
 * runs on the host's monotonic clock, so a host whose wall clock is wrong, or jumps, changes nothing.
 */
export class DatabaseClock {
  private offsetMs: number | undefined;

  /** Takes over the time, in epoch ms, that a statement has just returned. */
  synchronise(databaseTime: number): void {
    this.offsetMs = databaseTime - performance.now();
  }

  /** Epoch ms by the database. */
  now(): number {
    if (this.offsetMs === undefined) throw new Error('The database clock was read before the first statement');
    return performance.now() + this.offsetMs;
  }

  /** By how many ms it is ahead of the host's wall clock; 0 as long as the database has not told it. */
  aheadMs(): number {
    return this.offsetMs === undefined ? 0 : this.now() - Date.now();
  }
}
