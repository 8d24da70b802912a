import type { DatabaseClock } from '../engine/clock.js';
import { fromStoredLimits, type QueueState, type StoredLimits } from '../engine/queue-limits.js';
import { fromSqlText, toSqlText } from '../engine/serialization.js';
import type { GatedClaim, GatedClaimRequest, QueueStore } from '../engine/queue-store.js';
import type { Database, Run } from './database.js';
import { claimFromRow, type ClaimRow } from './rows.js';
import type { Statements } from './statements/all.js';

const LARGEST_GATING = 1_000;

interface Gate {
  paused: boolean;
  limits: StoredLimits;
  after_tenant: string;
}

/**
 * Queues with limits. Whoever claims from one locks its row first, so claims of one queue come one after the other over the
 * whole fleet, and then counts, by a statement of its own, what those before have taken.
 */
export class QueuesOnTypeOrm implements QueueStore {
  constructor(
    private readonly database: Database,
    private readonly sql: Statements,
    private readonly clock: DatabaseClock,
  ) {}

  async configure(limits: ReadonlyMap<string, StoredLimits>): Promise<void> {
    if (limits.size === 0) return;
    const texts = [...limits.values()].map((stored) => JSON.stringify(stored));
    await this.database.patiently(() =>
      this.database.run(this.sql.configureQueues, [[...limits.keys()].map(toSqlText), texts]),
    );
  }

  async setPaused(name: string, paused: boolean): Promise<void> {
    await this.database.patiently(() => this.database.run(this.sql.pauseQueue, [toSqlText(name), paused]));
  }

  async override(name: string, limits: StoredLimits | null): Promise<void> {
    const text = limits && JSON.stringify(limits);
    await this.database.patiently(() => this.database.run(this.sql.overrideQueue, [toSqlText(name), text]));
  }

  async gateRuns(name: string): Promise<void> {
    for (let gated = LARGEST_GATING; gated === LARGEST_GATING;)
      gated = (await this.database.persistently(() => this.gateSome(name))).length;
  }

  claim(request: GatedClaimRequest): Promise<GatedClaim> {
    return this.database.persistently(() => this.database.transaction((run) => this.claimOn(run, request)));
  }

  async list(): Promise<QueueState[]> {
    interface Row {
      name: string;
      paused: boolean;
      limits: StoredLimits;
      pending: number;
      running: number;
      oldest_due_at: number | null;
    }
    const rows = await this.database.patiently(() => this.database.run<Row>(this.sql.listQueues, []));
    return rows.map(({ name, paused, limits, pending, running, oldest_due_at: oldest }) => ({
      name: fromSqlText(name),
      paused,
      limits: fromStoredLimits(limits),
      pending,
      running,
      oldestDueAt: oldest === null ? null : new Date(oldest),
    }));
  }

  private gateSome(name: string): Promise<{ id: string }[]> {
    return this.database.run(this.sql.gateRuns, [toSqlText(name), LARGEST_GATING]);
  }

  private async claimOn(run: Run, request: GatedClaimRequest): Promise<GatedClaim> {
    const queue = toSqlText(request.queue);
    const [gate] = await run<Gate>(this.sql.lockGate, [queue]);
    if (!gate || gate.paused) return { runs: [], moreAt: null };
    const { concurrency, concurrencyPerTenant, rate } = gate.limits;
    const { slots, starts, moreAt } = await this.free(run, queue, request.limit, { concurrency, rate });
    if (slots === 0) return { runs: [], moreAt: null };
    const common = [request.workerId, queue, request.definitions.map(toSqlText), slots, starts];
    const rows = concurrencyPerTenant
      ? await run<ClaimRow>(this.sql.claimFairly, [...common, concurrencyPerTenant, gate.after_tenant])
      : await run<ClaimRow>(this.sql.claimGated, common);
    const begun = rows.filter(({ fresh }) => fresh).length;
    if (rate && begun > 0) await run(this.sql.recordBegun, [queue, begun, rate.perMs]);
    if (rows[0]) this.clock.synchronise(rows[0].at);
    return { runs: rows.map(claimFromRow), moreAt: begun === starts ? moreAt : null };
  }

  /** How many runs may be claimed, how many of them anew, and when more of those. */
  private async free(
    run: Run,
    queue: string,
    limit: number,
    { concurrency, rate }: Pick<StoredLimits, 'concurrency' | 'rate'>,
  ): Promise<{ slots: number; starts: number; moreAt: number | null }> {
    if (concurrency === undefined && !rate) return { slots: limit, starts: limit, moreAt: null };
    const [counted] = await run<{ running: number; begun: number; more_at: number | null }>(this.sql.countGated, [
      queue,
      rate?.perMs ?? 0,
    ]);
    const { running, begun, more_at: moreAt } = counted!;
    const slots = Math.max(0, Math.min(limit, (concurrency ?? Infinity) - running));
    const starts = rate ? Math.max(0, Math.min(slots, rate.limit - begun)) : slots;
    return { slots, starts, moreAt: rate && starts < slots ? (moreAt ?? this.clock.now() + rate.perMs) : null };
  }
}
