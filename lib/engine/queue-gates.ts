import { DeadlineTimer } from './deadline-timer.js';
import type { DatabaseClock } from './clock.js';
import type { ClaimedRun } from './claimed-run.js';
import type { Gate, QueueStore } from './queue-store.js';

const GATING_INTERVAL_MS = 60_000;

/** What the gates need of their worker. */
export interface GatesHost {
  readonly clock: DatabaseClock;
  /** Runs of a queue that execute here. */
  runningOf(queue: string): number;
  claimSoon(): void;
}

interface KnownGate extends Gate {
  gatedAt: number;
}

/**
 * The queues of this worker that are paused or have limits: what is claimed from them is claimed one queue at a time. They
 * are known from the worker's look at the database; until then nothing is taken from them, because every other claim leaves
 * them out by what the database says.
 */
export class QueueGates {
  private gates = new Map<string, KnownGate>();
  /** Queues whose limits have changed since the last look. */
  private readonly unknown = new Set<string>();
  private readonly timer: DeadlineTimer;

  constructor(
    private readonly store: QueueStore,
    private readonly host: GatesHost,
  ) {
    this.timer = new DeadlineTimer(() => this.readyAll());
  }

  has(queue: string): boolean {
    return this.gates.has(queue) || this.unknown.has(queue);
  }

  /** Its limits have changed: nothing begins on it before the next look tells what they are. */
  changed(queue: string): void {
    this.unknown.add(queue);
  }

  /** What the regular look has found. Returns whether anything can be claimed. */
  update(gates: readonly Gate[]): boolean {
    const known = this.gates;
    this.unknown.clear();
    this.gates = new Map(gates.map((gate) => [gate.queue, { ...gate, gatedAt: known.get(gate.queue)?.gatedAt ?? 0 }]));
    return gates.some(({ ready }) => ready);
  }

  /** Something on that queue may have become claimable, or a slot of it free. */
  ready(queue: string): void {
    const gate = this.gates.get(queue);
    if (!gate) return;
    gate.ready = true;
    this.host.claimSoon();
  }

  /** Takes up to `limit` runs from the queues that have something to take. */
  async claim(workerId: string, definitions: readonly string[], limit: number): Promise<ClaimedRun[]> {
    const runs: ClaimedRun[] = [];
    for (const gate of [...this.gates.values()]) {
      const free = Math.min(limit - runs.length, (gate.perWorker ?? Infinity) - this.host.runningOf(gate.queue));
      if (!gate.ready || free <= 0) continue;
      gate.ready = false;
      await this.gateStrays(gate);
      const claimed = await this.store.claim({ workerId, queue: gate.queue, definitions, limit: free });
      runs.push(...claimed.runs);
      gate.ready = claimed.runs.length === free;
      if (claimed.moreAt !== null) this.timer.set(claimed.moreAt - this.host.clock.now());
      this.toTheEnd(gate);
    }
    return runs;
  }

  stop(): void {
    this.timer.clear();
  }

  /** The next claim begins with another queue. */
  private toTheEnd(gate: KnownGate): void {
    if (!this.gates.delete(gate.queue)) return;
    this.gates.set(gate.queue, gate);
  }

  /** A start that did not see the new limits may commit after them, so this is repeated now and then. */
  private async gateStrays(gate: KnownGate): Promise<void> {
    if (performance.now() - gate.gatedAt < GATING_INTERVAL_MS && gate.gatedAt > 0) return;
    gate.gatedAt = performance.now();
    await this.store.gateRuns(gate.queue);
  }

  private readyAll(): void {
    for (const gate of this.gates.values()) gate.ready = true;
    this.host.claimSoon();
  }
}
