import type { ClaimedRun } from './claimed-run.js';
import type { QueueState, StoredLimits } from './queue-limits.js';

/** Queues with limits, and those that are paused. */
export interface QueueStore {
  /** What the configuration of an app says; `{}` of a queue that it gives no limits. */
  configure(limits: ReadonlyMap<string, StoredLimits>): Promise<void>;
  setPaused(name: string, paused: boolean): Promise<void>;
  /** Limits instead of the configured ones, or null for those. */
  override(name: string, limits: StoredLimits | null): Promise<void>;
  /** What was on a queue before it got limits counts as well. */
  gateRuns(name: string): Promise<void>;
  /** Takes what the limits of a queue allow. */
  claim(request: GatedClaimRequest): Promise<GatedClaim>;
  list(): Promise<QueueState[]>;
}

export interface GatedClaimRequest {
  workerId: string;
  queue: string;
  definitions: readonly string[];
  limit: number;
}

export interface GatedClaim {
  runs: ClaimedRun[];
  /** When the rate limit, which has been used up, allows the next. */
  moreAt: number | null;
}

/** A queue that is paused or has limits, as the regular look finds it. */
export interface Gate {
  queue: string;
  perWorker: number | null;
  /** Something of it is claimable, as far as its limits allow. */
  ready: boolean;
}
