import type { CommitResult, CommittedRun, Placement, RunWrite, Store } from './store.js';
import { turn } from './turn.js';
import type { WriteBuffer, WriteResult, WriteSink } from './write-buffer.js';

/** A commit takes at most this much, so that one large payload does not hold up everybody else's. */
const LARGEST_BATCH = { writes: 500, bytes: 1_048_576 };

type Taken = NonNullable<ReturnType<WriteBuffer['take']>>;

/** What the queue needs of its worker. */
export interface CommitQueueHost {
  /** What this process can take on itself, for these writes. */
  placementFor(writes: readonly RunWrite[]): Placement;
  /** A commit is done; each write's own result has not been handed out yet. */
  beforeResults(writes: readonly RunWrite[], result: CommitResult): void;
  afterResults(writes: readonly RunWrite[], result: CommitResult): void;
  /** The stored form of an error. */
  failureOf(error: unknown): string;
  /** A write that the database takes in no form. */
  lost(write: RunWrite, error: unknown): void;
}

/**
 * Group commit. While a commit is in flight, the writes of all other runs queue; the next commit takes them all as one
 * statement. An idle queue commits at the next turn but one, so batching costs no latency.
 *
 * Invariants: a run has at most one write in flight (WriteBuffer), so its writes keep their order; a write is given up
 * only when the database says that the run is no longer ours, or that what it says cannot be stored.
 * Writes that reach other runs go one by one through a second lane, each in a transaction of its own.
 */
export class CommitQueue implements WriteSink {
  private readonly waiting: WriteBuffer[] = [];
  private readonly withEffects: Taken[] = [];
  private isFlushing = false;
  private isFlushingEffects = false;

  constructor(
    private readonly store: Pick<Store, 'commit' | 'commitWithEffects'>,
    private readonly host: CommitQueueHost,
  ) {}

  enqueue(buffer: WriteBuffer): void {
    this.waiting.push(buffer);
    if (!this.isFlushing) void this.flush();
  }

  private async flush(): Promise<void> {
    this.isFlushing = true;
    while (this.waiting.length) {
      // Two turns: in the first, every run that has just received something comes to rest, and ends or parks.
      await turn();
      await turn();
      const batch = this.takeBatch();
      if (batch.length) await this.commit(batch);
    }
    this.isFlushing = false;
  }

  private takeBatch(): Taken[] {
    const batch: Taken[] = [];
    let bytes = 0;
    while (this.waiting.length && batch.length < LARGEST_BATCH.writes && bytes < LARGEST_BATCH.bytes) {
      const taken = this.waiting.shift()!.take();
      if (!taken) continue;
      if (taken.write.effects) {
        this.withEffects.push(taken);
        if (!this.isFlushingEffects) void this.flushEffects();
      } else {
        batch.push(taken);
        bytes += sizeOf(taken.write);
      }
    }
    return batch;
  }

  private async commit(batch: Taken[]): Promise<void> {
    const writes = batch.map((taken) => taken.write);
    try {
      this.handOut(batch, await this.store.commit(writes, this.host.placementFor(writes)));
    } catch (error) {
      await this.isolate(batch, error);
    }
  }

  /** One write of the batch is at fault for what it says: alone, the others go through, and its run fails with the error. */
  private async isolate(batch: Taken[], error: unknown): Promise<void> {
    if (batch.length > 1) {
      for (const taken of batch) await this.commit([taken]);
      return;
    }
    for (const { write, finish } of batch) {
      try {
        const failure = failedBy(write, this.host.failureOf(error));
        this.handOut(
          [{ write: failure, finish }],
          await this.store.commit([failure], this.host.placementFor([failure])),
        );
      } catch (again) {
        this.host.lost(write, again);
        finish({ lost: true });
      }
    }
  }

  private async flushEffects(): Promise<void> {
    this.isFlushingEffects = true;
    for (let taken = this.withEffects.shift(); taken; taken = this.withEffects.shift()) {
      try {
        this.handOut([taken], await this.store.commitWithEffects(taken.write, this.host.placementFor([taken.write])));
      } catch (error) {
        await this.isolate([taken], error);
      }
    }
    this.isFlushingEffects = false;
  }

  private handOut(batch: Taken[], result: CommitResult): void {
    const writes = batch.map((taken) => taken.write);
    const committed = new Map(result.runs.map((run) => [run.id, run]));
    const children = new Set(result.children.map((child) => child.id));
    this.host.beforeResults(writes, result);
    for (const { write, finish } of batch) finish(resultOf(write, committed.get(write.runId), children), write);
    this.host.afterResults(writes, result);
  }
}

/** The run ends by what could not be stored; nothing else of the write is kept. */
function failedBy(write: RunWrite, error: string): RunWrite {
  return {
    ...write,
    outcomes: [],
    children: [],
    state: undefined,
    attributes: null,
    effects: null,
    move: { to: 'failed', error },
  };
}

function resultOf(write: RunWrite, run: CommittedRun | undefined, made: ReadonlySet<string>): WriteResult {
  if (!run) return { lost: true };
  return {
    lost: false,
    run,
    refusedChildren: new Set(write.children.map(({ id }) => id).filter((id) => !made.has(id))),
  };
}

function sizeOf(write: RunWrite): number {
  const move = write.move?.to === 'completed' ? (write.move.output?.length ?? 0) : 0;
  const outcomes = write.outcomes.reduce(
    (sum, outcome) => sum + (outcome.output?.length ?? 0) + (outcome.error?.length ?? 0),
    0,
  );
  return move + outcomes + write.children.reduce((sum, child) => sum + (child.input?.length ?? 0), 0);
}
