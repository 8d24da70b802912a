import { LRUCache } from 'lru-cache';
import { ChurningMap } from './churning-map.js';
import type { RunExecution } from './run-execution.js';

/**
 * The runs whose code is in the memory of a worker, and its slots. A run that executes has a slot; slots are also reserved for
 * runs that are on their way here. A parked run has none, and stays while there is room for it.
 * A child may get the slot of a run whose park or end is being committed; nobody else, for a park can be refused.
 * Invariant: a run is executing or parked, never both.
 */
export class RunsInMemory {
  private readonly executions = new ChurningMap<string, RunExecution>();
  private readonly parkedRuns: LRUCache<string, RunExecution>;
  /** Those that have come to their end, and have passed their slots on. */
  private readonly slotless = new ChurningMap<string, RunExecution>();
  private reserved = 0;
  private reservedForChildren = 0;
  private aboutToBeFree = 0;

  constructor(private readonly room: { concurrency: number; stickyRuns: number }) {
    this.parkedRuns = new LRUCache({
      max: room.stickyRuns,
      dispose: (execution, _id, reason) => {
        if (reason === 'evict') execution.drop('Left the cache of parked runs');
      },
    });
  }

  // ---- slots

  get freeSlots(): number {
    return this.unusedSlots - this.reserved - Math.max(0, this.reservedForChildren - this.aboutToBeFree);
  }

  get freeSlotsForChildren(): number {
    return this.unusedSlots - this.reserved - this.reservedForChildren + this.aboutToBeFree;
  }

  private get unusedSlots(): number {
    return this.room.concurrency - (this.executions.size - this.slotless.size);
  }

  /** The run has come to its end, and another goes on in its slot. */
  passSlotOn(execution: RunExecution): void {
    this.slotless.set(execution.run.id, execution);
  }

  /** It has not ended after all. */
  takeSlotBack(execution: RunExecution): void {
    const { id } = execution.run;
    if (this.slotless.get(id) === execution) this.slotless.delete(id);
  }

  get hasReserved(): boolean {
    return this.reserved + this.reservedForChildren > 0;
  }

  reserve(slots: number): void {
    this.reserved += slots;
  }

  release(slots: number): void {
    this.reserved -= slots;
  }

  reserveForChild(): void {
    this.reservedForChildren++;
  }

  releaseForChild(): void {
    this.reservedForChildren--;
  }

  /** So many runs more, or less, have a park or an end that is being committed. */
  leave(delta: number): void {
    this.aboutToBeFree += delta;
  }

  // ---- which runs are here

  get load(): { running: number; parked: number } {
    return { running: this.executions.size, parked: this.parkedRuns.size };
  }

  get executing(): RunExecution[] {
    return this.executions.values();
  }

  get executingIds(): string[] {
    return this.executions.keys();
  }

  executingOn(queue: string): number {
    let running = 0;
    for (const { run } of this.executions.values()) if (run.queue === queue) running++;
    return running;
  }

  findExecuting(runId: string): RunExecution | undefined {
    return this.executions.get(runId);
  }

  findParked(runId: string): RunExecution | undefined {
    return this.parkedRuns.peek(runId);
  }

  find(runId: string): RunExecution | undefined {
    return this.findExecuting(runId) ?? this.findParked(runId);
  }

  // ---- how they come and go

  add(execution: RunExecution): void {
    this.executions.set(execution.run.id, execution);
  }

  park(execution: RunExecution): void {
    this.executions.delete(execution.run.id);
    this.parkedRuns.set(execution.run.id, execution);
  }

  /** Gives it a slot again. */
  unpark(execution: RunExecution): void {
    this.parkedRuns.delete(execution.run.id);
    this.executions.set(execution.run.id, execution);
  }

  /** Unless a later pass over the same run has taken its place. */
  remove(execution: RunExecution): void {
    const { id } = execution.run;
    this.takeSlotBack(execution);
    if (this.executions.get(id) === execution) this.executions.delete(id);
    if (this.parkedRuns.peek(id) === execution) this.parkedRuns.delete(id);
  }

  dropExecuting(reason: string): void {
    for (const execution of this.executions.values()) execution.drop(reason);
    this.executions.clear();
    this.slotless.clear();
  }

  dropAll(reason: string): void {
    this.dropExecuting(reason);
    for (const execution of this.parkedRuns.values()) execution.drop(reason);
    this.parkedRuns.clear();
  }

  /** Their code stays as it is, and nobody goes on with it. */
  forgetParked(): void {
    this.parkedRuns.clear();
  }
}
