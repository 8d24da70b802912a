import type { Placement } from './new-run.js';
import type { CommitResult, CommittedRun, RunWrite } from './run-write.js';
import { hasMoved, parentToWake } from './run-end.js';
import type { Store } from './store.js';
import { rest } from './turn.js';
import type { TakenWrite, WriteBuffer, WriteResult, WriteSink } from './write-buffer.js';

const MOST_IN_FLIGHT = 2;
/** One large payload does not hold up everybody else's. */
const MOST_BYTES = 1_048_576;
/** Fewer writes than that are not worth a commit of their own; with more, a commit gets no cheaper. */
const SHARE = { least: 25, most: 100 };

const NONE: ReadonlySet<string> = new Set();
const NOBODY: ReadonlySet<WriteBuffer> = new Set();

/** What the queue needs of its worker. */
export interface CommitQueueHost {
  /** What this process can take on itself, for these writes. */
  placementFor(writes: readonly RunWrite[]): Placement;
  /** A commit is done; each write's own result has not been handed out yet. */
  beforeResults(writes: readonly RunWrite[], result: CommitResult): void;
  afterResults(writes: readonly RunWrite[], result: CommitResult): void;
  /** The commit has failed: nothing of these writes was taken. */
  failed(writes: readonly RunWrite[]): void;
  /** The stored form of an error. */
  failureOf(error: unknown): string;
  /** A write that the database takes in no form. */
  lost(write: RunWrite, error: unknown): void;
}

/**
 * Group commit. While commits are in flight, the writes of all other runs queue; the next commit takes them all as one
 * statement. An idle queue commits at the end of the next turn, so batching costs no latency. Two commits may be in flight,
 * so that this process works on the results of one while the database works on the other. Runs that were started together
 * would write together ever after, and the two take turns; so a commit takes the writes of half of the slots at most.
 *
 * Invariants: a run has at most one write in flight (WriteBuffer), so its writes keep their order; two transactions in
 * flight never touch the same run, so a wake-up is not told before the park that it belongs to; a write is given up only
 * when the database says that the run is no longer ours, or that what it says cannot be stored.
 * Writes that reach other runs go one by one, beside these, each in a transaction of its own.
 * A parent that was told of its child's end writes in the same commit as that end, or after it, and never without it.
 */
export class CommitQueue implements WriteSink {
  private waiting: WriteBuffer[] = [];
  private readonly withEffects: TakenWrite[] = [];
  /** The runs that what is in flight touches. */
  private readonly touched = new Set<string>();
  private inFlight = 0;
  private isGathering = false;
  private isFlushingEffects = false;
  private readonly mostWrites: number;

  constructor(
    private readonly store: Pick<Store, 'commit' | 'commitWithEffects'>,
    private readonly host: CommitQueueHost,
    /** How many runs execute at a time at most. */
    slots: number,
  ) {
    this.mostWrites = Math.min(Math.max(Math.ceil(slots / MOST_IN_FLIGHT), SHARE.least), SHARE.most);
  }

  enqueue(buffer: WriteBuffer): void {
    this.waiting.push(buffer);
    void this.flush();
  }

  private async flush(): Promise<void> {
    if (this.isGathering || this.inFlight === MOST_IN_FLIGHT || this.waiting.length === 0) return;
    this.isGathering = true;
    // Every run that has just received something ends or parks first, and what is in flight is not waited for.
    await rest();
    this.isGathering = false;
    const batch = this.takeBatch();
    if (batch.length === 0) return;
    this.inFlight++;
    void this.flush();
    await this.commit(batch);
    this.inFlight--;
    this.landed(batch);
  }

  private takeBatch(): TakenWrite[] {
    this.takeWithEffects();
    const batch = new Batch(this.mostWrites);
    this.waiting = this.waiting.filter((buffer) => {
      if (batch.isFull || !this.mayJoin(batch, buffer)) return true;
      if (buffer.putOff()) return false;
      batch.take(buffer);
      const { follower } = buffer;
      if (follower && this.mayJoin(batch, follower)) batch.take(follower);
      return false;
    });
    this.departs(batch.writes);
    return batch.writes;
  }

  private takeWithEffects(): void {
    this.waiting = this.waiting.filter((buffer) => {
      if (!buffer.next?.effects || this.isHeldUp(buffer, NOBODY)) return true;
      const taken = buffer.take()!;
      this.departs([taken]);
      this.withEffects.push(taken);
      return false;
    });
    if (!this.isFlushingEffects) void this.flushEffects();
  }

  private departs(batch: readonly TakenWrite[]): void {
    for (const { write } of batch) for (const runId of touchedBy(write)) this.touched.add(runId);
  }

  /** These writes have their results: what they held up may follow. */
  private landed(batch: readonly TakenWrite[]): void {
    for (const { write } of batch) for (const runId of touchedBy(write)) this.touched.delete(runId);
    void this.flush();
  }

  private mayJoin(batch: Batch, buffer: WriteBuffer): boolean {
    return !buffer.next?.effects && !this.isHeldUp(buffer, batch.buffers);
  }

  private isHeldUp(buffer: WriteBuffer, taken: ReadonlySet<WriteBuffer>): boolean {
    const { next, leaders } = buffer;
    if (leaders.size > 0 && [...leaders].some((leader) => !taken.has(leader) || leader.leaders.size > 0)) return true;
    return this.touched.size > 0 && next !== undefined && touchedBy(next).some((runId) => this.touched.has(runId));
  }

  private async commit(batch: TakenWrite[]): Promise<void> {
    const writes = batch.map((taken) => taken.write);
    try {
      this.handOut(batch, await this.store.commit(writes, this.host.placementFor(writes)));
    } catch (error) {
      await this.isolate(batch, error);
    }
  }

  /** One write of the batch is at fault for what it says: alone, the others go through, and its run fails with the error. */
  private async isolate(batch: TakenWrite[], error: unknown): Promise<void> {
    this.host.failed(batch.map((taken) => taken.write));
    for (const { write, buffer } of batch) {
      buffer.follower?.breakOff(buffer);
      write.toldParent = false;
    }
    if (batch.length > 1) {
      for (const taken of batch) await this.commit([taken]);
      return;
    }
    for (const taken of batch) {
      const failure = failedBy(taken.write, this.host.failureOf(error));
      try {
        this.handOut([taken.saying(failure)], await this.store.commit([failure], this.host.placementFor([failure])));
      } catch (again) {
        this.host.failed([failure]);
        this.host.lost(taken.write, again);
        taken.finish({ lost: true });
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
      this.landed([taken]);
    }
    this.isFlushingEffects = false;
  }

  private handOut(batch: TakenWrite[], result: CommitResult): void {
    const writes = batch.map((taken) => taken.write);
    const committed = new Map(result.runs.map((run) => [run.id, run]));
    const children = new Set(result.children.map((child) => child.id));
    this.tellFollowers(batch, committed, result);
    this.host.beforeResults(writes, result);
    for (const taken of batch) {
      const { write } = taken;
      taken.finish(resultOf(write, committed.get(write.runId), children));
    }
    this.host.afterResults(writes, result);
  }

  /** Whether the ends that parents were told of are kept, and the parents run by them: with a write of their own, or woken. */
  private tellFollowers(
    batch: TakenWrite[],
    committed: ReadonlyMap<string, CommittedRun>,
    { woken }: CommitResult,
  ): void {
    for (const { write, buffer } of batch) {
      const { follower } = buffer;
      if (!follower) continue;
      const run = committed.get(write.runId);
      const wake = woken.find(({ id }) => id === follower.runId);
      const goesOn = wake ? wake.status === 'running' && wake.epoch === follower.epoch : committed.has(follower.runId);
      if (run && hasMoved(write.move!, run) && goesOn) follower.endKept(buffer);
      else follower.breakOff(buffer);
    }
  }
}

/** What one commit takes. */
class Batch {
  readonly writes: TakenWrite[] = [];
  readonly buffers = new Set<WriteBuffer>();
  private bytes = 0;

  constructor(private readonly mostWrites: number) {}

  get isFull(): boolean {
    return this.writes.length >= this.mostWrites || this.bytes >= MOST_BYTES;
  }

  /** Nothing, when the buffer's write was taken before. */
  take(buffer: WriteBuffer): void {
    const taken = buffer.take();
    if (!taken) return;
    this.writes.push(taken);
    this.buffers.add(buffer);
    this.bytes += sizeOf(taken.write);
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
  const refused = write.children.filter(({ id }) => !made.has(id));
  return { lost: false, run, refusedChildren: refused.length ? new Set(refused.map(({ id }) => id)) : NONE };
}

function sizeOf(write: RunWrite): number {
  const move = write.move?.to === 'completed' ? (write.move.output?.length ?? 0) : 0;
  const outcomes = write.outcomes.reduce(
    (sum, outcome) => sum + (outcome.output?.length ?? 0) + (outcome.error?.length ?? 0),
    0,
  );
  return move + outcomes + write.children.reduce((sum, child) => sum + (child.input?.length ?? 0), 0);
}

/** The run itself, and the parent that its end wakes. */
function touchedBy(write: RunWrite): string[] {
  const parentId = parentToWake(write);
  return parentId === null ? [write.runId] : [write.runId, parentId];
}
