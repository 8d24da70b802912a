import type { Lease } from './lease.js';
import type { Pulse } from './pulse.js';
import type { QueueGates } from './queue-gates.js';
import type { WorkflowRegistry } from './registry.js';
import type { RunsInMemory } from './runs-in-memory.js';
import type { ClaimedRun } from './claimed-run.js';
import type { RecordedRun } from './recorded-run.js';
import type { Store } from './store.js';

const LARGEST_CLAIM = 200;

interface ClaimsParts {
  store: Pick<Store, 'claim' | 'loadHistories'>;
  registry: WorkflowRegistry;
  queues: readonly string[];
  runs: RunsInMemory;
  gates: QueueGates;
  pulse: Pulse;
  lease: Pick<Lease, 'workerId'>;
  takesRuns(): boolean;
  /** A batch that was claimed. */
  claimed(runs: readonly ClaimedRun[]): void;
  takeOn(run: ClaimedRun, recorded: RecordedRun | undefined): void;
  guardRuns(work: () => Promise<void>): Promise<void>;
}

/**
 * Claims runs for the free slots of a worker: when something may have become claimable, and when a slot becomes free while there
 * is a backlog. One claim at a time; while it is under way, the slots that it may fill are reserved.
 * Invariant: what the database gave to a claim is taken on, or handed back later with the strays.
 */
export class Claims {
  /** There may be more to claim than there were slots. */
  private hasBacklog = false;
  private isClaiming = false;
  private gatesComeFirst = false;
  private claiming: Promise<void> = Promise.resolve();

  constructor(private readonly parts: ClaimsParts) {}

  /** Something may have become claimable. */
  soon(): void {
    this.hasBacklog = true;
    this.parts.pulse.claimDue();
    if (this.isClaiming) return;
    this.isClaiming = true;
    setImmediate(() => {
      this.claiming = this.claim();
    });
  }

  slotFreed(): void {
    if (this.hasBacklog) this.soon();
  }

  /** The regular look has found nothing to claim. */
  nothingReady(): void {
    if (!this.isClaiming) this.parts.pulse.claimed();
  }

  /** Resolves when the claim that is under way has ended. */
  settled(): Promise<void> {
    return this.claiming;
  }

  private async claim(): Promise<void> {
    const { runs, pulse, takesRuns, guardRuns } = this.parts;
    while (this.hasBacklog && takesRuns() && runs.freeSlots > 0) {
      const limit = Math.min(runs.freeSlots, LARGEST_CLAIM);
      this.hasBacklog = false;
      runs.reserve(limit);
      await guardRuns(async () => {
        await this.claimUpTo(limit);
        pulse.claimed();
      });
      runs.release(limit);
    }
    this.isClaiming = false;
    if (!takesRuns() || runs.freeSlots <= 0) pulse.claimed();
  }

  /** Queues without limits by one statement, each other by its own; they take turns in coming first, so that neither starves. */
  private async claimUpTo(limit: number): Promise<void> {
    const { store, gates, queues, lease } = this.parts;
    const definitions = this.parts.registry.ids();
    const gated = (free: number) => gates.claim(lease.workerId, definitions, free);
    const others = (free: number) => store.claim({ workerId: lease.workerId, queues, definitions, limit: free });
    this.gatesComeFirst = !this.gatesComeFirst;
    let free = limit;
    for (const claim of this.gatesComeFirst ? [gated, others] : [others, gated]) {
      if (free === 0) break;
      const runs = await claim(free);
      free -= runs.length;
      await this.takeOnClaimed(runs);
    }
    if (free === 0) this.hasBacklog = true;
  }

  private async takeOnClaimed(claimed: readonly ClaimedRun[]): Promise<void> {
    const { store, runs, takeOn } = this.parts;
    this.parts.claimed(claimed);
    // Of a run that parked and was woken at once, the claim may be answered before the park.
    for (const run of claimed) await runs.findExecuting(run.id)?.whenAnswered();
    const cold = claimed.filter((run) => !this.resumeParked(run));
    const begun = cold.filter((run) => !run.fresh).map((run) => run.id);
    const recorded = begun.length ? await store.loadHistories(begun) : new Map<string, RecordedRun>();
    for (const run of cold) takeOn(run, recorded.get(run.id));
  }

  /** A run that was parked here, and that nobody else has had since, goes on without a replay. */
  private resumeParked(run: ClaimedRun): boolean {
    const { runs } = this.parts;
    const execution = runs.findParked(run.id);
    if (!execution) return false;
    if (execution.run.epoch !== run.epoch - 1) {
      runs.remove(execution);
      execution.drop('Another worker has had the run');
      return false;
    }
    runs.unpark(execution);
    execution.resume(run);
    execution.touched(run.wakes);
    return true;
  }
}
