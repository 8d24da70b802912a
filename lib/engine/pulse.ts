import { performance } from 'node:perf_hooks';

/** How long ago a worker last did what it does all the time: look at the database, and claim what it was to claim. */
export class Pulse {
  private lookedAt = performance.now();
  private claimDueSince: number | undefined;

  looked(): void {
    this.lookedAt = performance.now();
  }

  claimDue(): void {
    this.claimDueSince ??= performance.now();
  }

  /** Done, or there is nothing to claim. */
  claimed(): void {
    this.claimDueSince = undefined;
  }

  get ageMs(): number {
    return performance.now() - Math.min(this.lookedAt, this.claimDueSince ?? Infinity);
  }
}
