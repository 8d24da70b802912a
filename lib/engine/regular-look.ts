import { performance } from 'node:perf_hooks';
import type { Claims } from './claims.js';
import { DeadlineTimer } from './deadline-timer.js';
import type { HintChannel } from './hints.js';
import type { Lease } from './lease.js';
import type { Notices } from './notices.js';
import type { Pulse } from './pulse.js';
import type { QueueGates } from './queue-gates.js';
import type { WorkflowRegistry } from './registry.js';
import type { RetentionSweep } from './retention-sweep.js';
import type { RunsInMemory } from './runs-in-memory.js';
import type { TickTimer } from './tick-timer.js';
import type { WakeTimer } from './wake-timer.js';
import type { Beat, WorkerStore } from './worker-store.js';

/** The pause between looks that find something, where hints are not heard. */
const SHORTEST_POLL_MS = 25;
/** Beyond it, doubling the pause changes nothing. */
const MOST_DOUBLINGS = 20;
const LARGEST_TAKEOVER = 500;

interface RegularLookParts {
  settings: { queues: readonly string[]; pollIntervalMs: number; leaseMs: number };
  store: WorkerStore;
  channel: Pick<HintChannel, 'isHeard'>;
  registry: WorkflowRegistry;
  lease: Lease;
  runs: RunsInMemory;
  gates: QueueGates;
  claims: Claims;
  notices: Notices;
  wakeTimer: WakeTimer;
  ticks: TickTimer;
  retention: RetentionSweep;
  pulse: Pulse;
  guard(work: () => Promise<void>): Promise<void>;
}

/**
 * A worker's regular look at the database: one statement, once per poll interval and whenever something may have changed. It
 * renews the lease, and tells what hints may have been lost of.
 *
 *   in touch → (the lease was lost, here or there) → all runs given back, and a new lease under a new id → in touch
 *
 * Invariant: what the database shows as this worker's, and it does not execute itself, is given back at the first look after
 * trouble.
 */
export class RegularLook {
  private readonly timer = new DeadlineTimer(() => this.now());
  private isLooking = false;
  private looksAgain = false;
  private isStopped = true;
  private hadTrouble = false;
  /** Looks since the last one that found something. */
  private vainLooks = 0;

  constructor(private readonly parts: RegularLookParts) {}

  start(): void {
    this.isStopped = false;
    this.now();
  }

  stop(): void {
    this.isStopped = true;
    this.timer.clear();
  }

  now(): void {
    void this.lookInTurn();
  }

  /** Something has happened of which nobody here heard. */
  trouble(): void {
    this.hadTrouble = true;
  }

  /** One at a time: while the database is away, looks must not pile up. */
  private async lookInTurn(): Promise<void> {
    if (this.isStopped) return;
    if (this.isLooking) return void (this.looksAgain = true);
    this.isLooking = true;
    // Also where the lease is shorter than the poll: it must be renewed in time.
    this.timer.set(Math.min(this.pauseMs, this.parts.settings.leaseMs / 4));
    await this.parts.guard(async () => {
      await this.look();
      this.parts.pulse.looked();
    });
    this.isLooking = false;
    if (!this.looksAgain) return;
    this.looksAgain = false;
    this.now();
  }

  /** Where hints are not heard, looks follow each other quickly while there is something to find, and ever slower when not. */
  private get pauseMs(): number {
    const { pollIntervalMs } = this.parts.settings;
    return this.parts.channel.isHeard
      ? pollIntervalMs
      : Math.min(SHORTEST_POLL_MS * 2 ** this.vainLooks, pollIntervalMs);
  }

  async look(): Promise<void> {
    const { settings, store, registry, lease, runs, notices } = this.parts;
    const sentAt = performance.now();
    const renews = lease.isToBeRenewed(sentAt);
    const executing = runs.executing.map(({ run }) => ({ id: run.id, epoch: run.epoch }));
    const beat = await store.beat({
      workerId: lease.workerId,
      queues: settings.queues,
      definitions: registry.ids(),
      renewByMs: renews ? settings.leaseMs : null,
      executing,
    });
    this.vainLooks = beat.ready || beat.attention.length ? 0 : Math.min(this.vainLooks + 1, MOST_DOUBLINGS);
    if (this.isStopped) return;
    if (!beat.alive || !lease.isHeld) return await this.comeBack();
    if (renews) lease.renewed(sentAt);
    if (this.hadTrouble) await this.handBackStrays();
    for (const { id, epoch } of executing)
      if (beat.lost.includes(id) && runs.findExecuting(id)?.run.epoch === epoch) notices.endedByForce(id);
    await this.attendTo(beat);
  }

  private async attendTo(beat: Beat): Promise<void> {
    const { gates, claims, wakeTimer, ticks, retention, runs } = this.parts;
    if (gates.update(beat.gates) || beat.ready) claims.soon();
    else claims.nothingReady();
    if (beat.nextWakeAt !== null) wakeTimer.dueAt(beat.nextWakeAt);
    ticks.set(beat.nextTickAt);
    retention.look();
    wakeTimer.arm();
    for (const { id, wakes, cancel, paused } of beat.attention) {
      const execution = runs.findExecuting(id);
      if (paused) execution?.pause();
      if (cancel) execution?.requestCancel(cancel);
      execution?.touched(wakes);
    }
    if (beat.expiredWorkers) await this.takeOver();
  }

  private async takeOver(): Promise<void> {
    for (let more = true; more;) {
      const result = await this.parts.store.takeOver(LARGEST_TAKEOVER);
      this.parts.notices.woken(result.runs);
      more = result.more;
    }
  }

  /** Its runs are given back before the new lease. */
  private async comeBack(): Promise<void> {
    const { lease, runs, notices, claims } = this.parts;
    const woken = await lease.end();
    runs.forgetParked();
    await lease.register();
    notices.woken(woken);
    claims.soon();
  }

  /** After lost replies, the database may show runs as ours of which we never heard. */
  private async handBackStrays(): Promise<void> {
    const { lease, runs, notices } = this.parts;
    if (runs.hasReserved) return;
    this.hadTrouble = false;
    notices.woken(await lease.handBack({ except: runs.executingIds }));
  }
}
