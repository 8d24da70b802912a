import { LRUCache } from 'lru-cache';
import type { RunExecution } from './run-execution.js';

/**
 * The runs whose code is in the memory of a worker, and its slots. A run that executes has a slot; slots are also reserved for
 * runs that are on their way here. A parked run has none, and stays while there is room for it.
 * Invariant: a run is executing or parked, never both.
 */
export class RunsInMemory {
  private readonly executions = new Map<string, RunExecution>();
  private readonly parkedRuns: LRUCache<string, RunExecution>;
  private reserved = 0;

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
    return this.room.concurrency - this.executions.size - this.reserved;
  }

  get hasReserved(): boolean {
    return this.reserved > 0;
  }

  reserve(slots: number): void {
    this.reserved += slots;
  }

  release(slots: number): void {
    this.reserved -= slots;
  }

  // ---- which runs are here

  get load(): { running: number; parked: number } {
    return { running: this.executions.size, parked: this.parkedRuns.size };
  }

  get executing(): RunExecution[] {
    return [...this.executions.values()];
  }

  get executingIds(): string[] {
    return [...this.executions.keys()];
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
    if (this.executions.get(id) === execution) this.executions.delete(id);
    if (this.parkedRuns.peek(id) === execution) this.parkedRuns.delete(id);
  }

  dropExecuting(reason: string): void {
    for (const execution of this.executions.values()) execution.drop(reason);
    this.executions.clear();
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
