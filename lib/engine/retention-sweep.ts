import { setTimeout as delay } from 'node:timers/promises';
import type { WorkflowDefinition } from './definition.js';
import type { KeptFor, RetentionStore, SweepPosition } from './retention.js';

/** How often it is looked for what is past its time: ten times in the shortest time, within these. */
const ROUND_MS = { shortest: 1_000, longest: 600_000 };
/** After a batch it rests for a multiple of what that took, so that the database is free for the runs. */
const REST = 4;

interface RetentionSweepParts {
  store: RetentionStore;
  kept: KeptFor;
  definitions: readonly Pick<WorkflowDefinition, 'retentionMs'>[];
  guard(work: () => Promise<void>): Promise<void>;
}

/** Deletes finished families that are past their time, now and then, one process at a time, in small batches. */
export class RetentionSweep {
  /** Never, where nothing says how long runs are kept. */
  private nextRoundAt: number;
  private readonly intervalMs: number;
  private isSweeping = false;
  private isStopped = false;

  constructor(private readonly parts: RetentionSweepParts) {
    const times = [...Object.values(parts.kept), ...parts.definitions.map(({ retentionMs }) => retentionMs ?? null)];
    const shortestMs = Math.min(...times.filter((time) => time !== null));
    this.intervalMs = Math.min(Math.max(shortestMs / 10, ROUND_MS.shortest), ROUND_MS.longest);
    this.nextRoundAt = shortestMs === Infinity ? Infinity : 0;
  }

  /** At each regular look of the worker. */
  look(): void {
    if (this.isSweeping || performance.now() < this.nextRoundAt) return;
    this.isSweeping = true;
    void this.parts.guard(() => this.round()).finally(() => this.rest());
  }

  stop(): void {
    this.isStopped = true;
  }

  private async round(): Promise<void> {
    let position: SweepPosition | undefined;
    for (let more = true; more && !this.isStopped;) {
      const startedAt = performance.now();
      const sweep = await this.parts.store.sweep(this.parts.kept, position);
      if (sweep === 'busy') return;
      position = sweep.next;
      more = position !== undefined;
      if (more) await delay(REST * (performance.now() - startedAt), undefined, { ref: false });
    }
  }

  private rest(): void {
    this.nextRoundAt = performance.now() + this.intervalMs;
    this.isSweeping = false;
  }
}
