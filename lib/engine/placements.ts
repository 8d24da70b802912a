import type { QueueGates } from './queue-gates.js';
import type { WorkflowRegistry } from './registry.js';
import type { RunsInMemory } from './runs-in-memory.js';
import { StartedRun } from './started-run.js';
import type { ClaimedRun } from './claimed-run.js';
import type { NewChild, NewRun, Placement, StartResult } from './new-run.js';
import type { MadeOpening, Openings } from './openings.js';
import { parentToWake } from './run-end.js';
import type { CommitResult, RunWrite } from './run-write.js';

interface PlacementsParts {
  registry: WorkflowRegistry;
  runs: RunsInMemory;
  gates: Pick<QueueGates, 'has'>;
  takesRuns(): boolean;
  serves(queue: string): boolean;
  /** The worker that may be given runs; undefined when it does not take any. */
  taker(): string | undefined;
  openings: Pick<Openings, 'of' | 'take'>;
  takeOn(run: ClaimedRun): void;
  takeOnOpened(opening: MadeOpening, at: number): void;
  /** One of the new runs is not begun at once: it is due then, or ready for whoever claims it. */
  dueAt(time: number): void;
  ready(run: NewRun): void;
}

/** What matters here of what became of a start. */
type Begun = Pick<StartResult, 'started' | 'begins' | 'at' | 'deadline' | 'opened'>;

/**
 * What a worker takes on itself of the runs that are started here, so that they need not be claimed.
 * Invariant: a run that is marked as eager has a slot reserved, until `takeOn` is told what became of it.
 */
export class Placements {
  constructor(private readonly parts: PlacementsParts) {}

  /** Marks those of the new runs that can begin at once, and keeps slots for them. */
  forStarts(runs: readonly NewRun[]): Placement {
    for (const run of runs) {
      run.eager = this.canBegin(run) && this.parts.runs.freeSlots > 0;
      if (run.eager) this.parts.runs.reserve(1);
    }
    return { ...this.common, resident: [], openings: [] };
  }

  /** The same, and runs their openings: a run that waits from the beginning leaves its slot to its children. */
  async forOpenings(runs: readonly NewRun[]): Promise<Placement> {
    const placement = this.forStarts(runs);
    const openings = await this.parts.openings.of(runs);
    this.parts.runs.leave(openings.length);
    for (const { children } of openings) this.reserveFor(children);
    return { ...placement, openings };
  }

  /** Of the children that these writes start; and the parents that go on in the slots of the children that end. */
  forWrites(writes: readonly RunWrite[]): Placement {
    const { runs } = this.parts;
    runs.leave(leaving(writes));
    for (const { children } of writes) this.reserveFor(children);
    return { ...this.common, resident: this.parts.takesRuns() ? this.residentParents(writes) : [], openings: [] };
  }

  /** Begins those of the reserved runs that the database gave to this worker. */
  takeOn(runs: readonly NewRun[], resultOf: (run: NewRun) => Begun | undefined): void {
    for (const run of runs) {
      const result = resultOf(run);
      if (run.eager) this.releaseSlotOf(run);
      const opening = this.parts.openings.take(run.id);
      if (opening) this.takeOnOpening(opening, result);
      // One whose reply was late may have been claimed, and be here already.
      if (!result?.started || result.opened || this.parts.runs.find(run.id)) continue;
      if (result.begins && run.eager) this.parts.takeOn(new StartedRun(run, result));
      else if (run.delayMs !== null || run.startAt !== null) this.parts.dueAt(result.at + (run.delayMs ?? 0));
      else this.parts.ready(run);
    }
  }

  /** The database has taken nothing of these writes. */
  withdraw(writes: readonly RunWrite[]): void {
    const { runs } = this.parts;
    runs.leave(-leaving(writes));
    for (const { children } of writes) for (const child of children) if (child.eager) runs.releaseForChild();
  }

  /** Begins those of the children that the database gave to this worker. */
  takeOnChildren(writes: readonly RunWrite[], { children, at }: CommitResult): void {
    this.parts.runs.leave(-leaving(writes));
    const made = new Map(children.map((child) => [child.id, child]));
    for (const write of writes) if (write.children.length) this.takeOnMade(write.children, made, at);
  }

  private takeOnMade(children: readonly NewRun[], made: ReadonlyMap<string, NewChild>, at: number): void {
    this.takeOn(children, (child) => {
      const row = made.get(child.id);
      return row && { ...row, started: true, at };
    });
  }

  /** Of a run that was to be committed with its opening. */
  private takeOnOpening(opening: MadeOpening, result: Begun | undefined): void {
    const { opened, at } = result ?? {};
    this.parts.runs.leave(-1);
    if (opened && this.parts.takesRuns()) this.parts.takeOnOpened(opening, at!);
    else opening.execution.drop('The run was not committed with its opening');
    this.takeOnMade(opening.children, new Map(opened?.map((child) => [child.id, child])), at ?? 0);
  }

  private reserveFor(children: readonly NewRun[]): void {
    const { runs } = this.parts;
    for (const child of children) {
      child.eager = this.canBegin(child) && runs.freeSlotsForChildren > 0;
      if (child.eager) runs.reserveForChild();
    }
  }

  private get common(): Omit<Placement, 'resident' | 'openings'> {
    return { workerId: this.parts.taker(), definitions: this.parts.registry.ids() };
  }

  private releaseSlotOf({ parent }: NewRun): void {
    const { runs } = this.parts;
    if (parent) runs.releaseForChild();
    else runs.release(1);
  }

  private canBegin(run: NewRun): boolean {
    const { registry, gates, takesRuns, serves } = this.parts;
    return (
      takesRuns() &&
      run.delayMs === null &&
      run.startAt === null &&
      serves(run.queue) &&
      !gates.has(run.queue) &&
      registry.has(run.workflow, run.version)
    );
  }

  /**
   * Of the runs that end. Also one that executes: its row is that of a parked run if it goes on by an end that is not committed.
   */
  private residentParents(writes: readonly RunWrite[]): string[] {
    const parents = new Set(writes.map(parentToWake));
    return [...parents].filter((id): id is string => id !== null && this.parts.runs.find(id) !== undefined);
  }
}

/** How many of these runs park or end, and have not passed their slots on yet. */
function leaving(writes: readonly RunWrite[]): number {
  return writes.filter(({ move, toldParent }) => move !== null && move.to !== 'continued' && !toldParent).length;
}
