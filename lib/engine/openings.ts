import { outside } from './caller-context.js';
import { ChurningMap } from './churning-map.js';
import type { ClaimedRun } from './claimed-run.js';
import type { DatabaseClock } from './clock.js';
import { beginsWithStart, type NewRun, type Opening } from './new-run.js';
import { movedAsAsked } from './run-end.js';
import type { RunExecution } from './run-execution.js';
import type { RunWrite } from './run-write.js';
import { StartedRun } from './started-run.js';
import type { TakenWrite } from './write-buffer.js';

/** One statement starts no more children than that. */
const MOST_CHILDREN = 100;

const NONE: ReadonlySet<string> = new Set();

/** An opening, and the pass that goes on from it. */
export class MadeOpening implements Opening {
  readonly runId: string;
  readonly waitingFor: string;
  readonly children: readonly NewRun[];

  constructor(
    readonly execution: RunExecution,
    private readonly taken: TakenWrite,
    { runId, move, children }: OpeningWrite,
  ) {
    this.runId = runId;
    this.waitingFor = move.waitingFor;
    this.children = children;
  }

  /** It is committed, with its run. */
  finish(): void {
    this.taken.finish({ lost: false, run: movedAsAsked(this.taken.write), refusedChildren: NONE });
  }
}

interface OpeningsParts {
  clock: DatabaseClock;
  passOver(run: ClaimedRun): RunExecution;
}

/**
 * Openings: what the code of a run does before anything has happened to it. If it only starts children or waits for signals, and then
 * parks, that is committed by the statement that starts the run: it is inserted as waiting, with its children, and one commit is
 * spared. Pure database effects need no barrier; a step body does, so a run that begins with one has no opening.
 *
 * The code runs before there is a run. So it is begun only for workflows whose last run in this process was seen to begin
 * like that, and not for a start whose key may find another run. Invariant: nothing of an opening is kept without its run, nor of
 * one that has used what only the commit tells (the time of the start). Whatever else the code does, or becomes of
 * the start, the pass is dropped, and the run is begun as if there had been none.
 */
export class Openings {
  /** Workflows whose last new run had nothing but an opening in its first write. */
  private readonly expected = new Set<string>();
  /** Those that were expected to have one and had not; and those of them that it was right to expect it of: they never will. */
  private readonly doubted = new Set<string>();
  private readonly unfit = new Set<string>();
  private readonly made = new ChurningMap<string, MadeOpening>();

  constructor(private readonly parts: OpeningsParts) {}

  /** What the first writes of new runs say of their workflows. */
  learn(writes: readonly RunWrite[]): void {
    for (const write of writes) if (write.epoch === 1 && write.writeNo === 1) this.learnFrom(write);
  }

  private learnFrom(write: RunWrite): void {
    const { workflow } = write;
    const isDoubted = this.doubted.delete(workflow);
    if (!isOpening(write)) this.expected.delete(workflow);
    else if (isDoubted) this.unfit.add(workflow);
    else if (!this.unfit.has(workflow)) this.expected.add(workflow);
  }

  /** Of runs that are started together: those that have one, if all of them are to begin here. */
  async of(runs: readonly NewRun[]): Promise<Opening[]> {
    const isExpected = this.expected.size > 0 && runs.every(beginsWithStart);
    const candidates = isExpected ? runs.filter((run) => this.mayHaveOpening(run)) : [];
    const openings = await Promise.all(candidates.map((run) => this.make(run)));
    return openings.filter((opening) => opening !== undefined);
  }

  /** The opening of a run that is being started, to be begun or dropped. */
  take(runId: string): MadeOpening | undefined {
    const opening = this.made.get(runId);
    this.made.delete(runId);
    return opening;
  }

  private mayHaveOpening({ workflow, timeoutMs, deadline }: NewRun): boolean {
    return this.expected.has(workflow) && timeoutMs === null && deadline === null;
  }

  private async make(run: NewRun): Promise<MadeOpening | undefined> {
    const execution = this.parts.passOver(new StartedRun(run, { at: this.parts.clock.now(), deadline: null }));
    const taken = await outside(() => execution.open());
    if (!taken || !isOpening(taken.write)) {
      execution.drop('The run begins when it is committed');
      this.expected.delete(run.workflow);
      this.doubted.add(run.workflow);
      return undefined;
    }
    const opening = new MadeOpening(execution, taken, taken.write);
    this.made.set(run.id, opening);
    return opening;
  }
}

type OpeningWrite = RunWrite & { move: { to: 'waiting'; waitingFor: string } };

/** Starts children, and waits for something that is not a time. */
function isOpening(write: RunWrite): write is OpeningWrite {
  const { move, outcomes, children, effects, state, attributes } = write;
  const waits = move?.to === 'waiting' && move.wakeAt === null;
  const hasMore = outcomes.length > 0 || effects !== null || state !== undefined || attributes !== null;
  return waits && !hasMore && children.length <= MOST_CHILDREN;
}
