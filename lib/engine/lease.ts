import { hostname } from 'node:os';
import { performance } from 'node:perf_hooks';
import { DeadlineTimer } from './deadline-timer.js';
import { newId } from './new-id.js';
import type { WokenRun } from './store.js';
import type { WorkerStore } from './worker-store.js';

interface LeaseParts {
  store: WorkerStore;
  leaseMs: number;
  queues: readonly string[];
  definitions(): string[];
  /** It could not be renewed in time: another worker may take the runs over at any moment now. */
  lost(): void;
  /** There is one again, instead of that worker's. */
  regained(former: string): void;
}

/**
 * The lease of a worker: its row in the database, valid for a time, and renewed by its regular look.
 *
 *   (registered) → held → held (renewed when a third is over) → lost (not renewed in time) → ended → held, under a new id
 *
 * Invariant: while the lease is held here, the database holds it too, for it is lost here a margin earlier. Only then are the
 * worker's runs its own.
 */
export class Lease {
  workerId = newId();
  isHeld = false;
  /** Under which id the worker had its last one, while it has none. */
  private former: string | undefined;
  private renewedAt = 0;
  private readonly timer = new DeadlineTimer(() => this.lose());

  constructor(private readonly parts: LeaseParts) {}

  async register(): Promise<void> {
    const sentAt = performance.now();
    const { store, leaseMs, queues } = this.parts;
    await store.register({
      id: this.workerId,
      host: hostname(),
      pid: process.pid,
      leaseMs,
      queues,
      definitions: this.parts.definitions(),
    });
    this.renewed(sentAt);
    if (this.former) this.parts.regained(this.former);
    this.former = undefined;
  }

  /** Whether a look that is sent at that time shall renew it. */
  isToBeRenewed(sentAt: number): boolean {
    return sentAt - this.renewedAt >= this.parts.leaseMs / 3;
  }

  /** It counts from when that was asked for: the database's count begins later. */
  renewed(sentAt: number): void {
    const { leaseMs } = this.parts;
    this.isHeld = true;
    this.renewedAt = sentAt;
    const margin = Math.min(2_000, leaseMs / 5);
    this.timer.set(sentAt + leaseMs - margin - performance.now());
  }

  /** Gives back whatever the database shows as this worker's, but for these runs. */
  handBack(selection: { except: readonly string[] }): Promise<WokenRun[]> {
    return this.parts.store.handBack(this.workerId, selection);
  }

  /** Ends it in the database, and gives all runs back. */
  retire(): Promise<WokenRun[]> {
    return this.parts.store.retire(this.workerId);
  }

  /** Ends it, for one under a new id: the worker of the old one may have been declared dead. Gives all runs back. */
  async end(): Promise<WokenRun[]> {
    if (this.isHeld) this.lose();
    const woken = await this.retire();
    this.former = this.workerId;
    this.workerId = newId();
    return woken;
  }

  /** Renews it no more; what the database has of it stays until it runs out. */
  abandon(): void {
    this.timer.clear();
  }

  private lose(): void {
    this.isHeld = false;
    this.parts.lost();
  }
}
