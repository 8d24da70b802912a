import { ChurningMap } from './churning-map.js';
import { LONGEST_TIMER_MS } from './deadline-timer.js';
import { ResultTimeoutError, RunCancelledError, RunFailedError, RunNotFoundError } from './errors.js';
import type { PayloadSerializer } from './serialization.js';
import { reviveError } from './stored-error.js';
import type { RunEnd, Store } from './store.js';

/**
 * When the end of a run is first looked up: a run that executes here mostly ends here, and then we are told without; one
 * that waits to be claimed may come here. From the first look on, its finisher announces the end. Later looks are for
 * announcements that were lost.
 */
const FIRST_LOOK_MS = { here: 1_000, 'perhaps here': 200, elsewhere: 10 };
const LOOK_AGAIN_MS = { first: 2_000, longest: 30_000 };
/** Where announcements cannot be heard. */
const POLL_AGAIN_MS = { first: 50, longest: 1_000 };

interface Request {
  timeoutMs: number | undefined;
  /** Whether a run that is not seen may yet appear: the transaction that wrote it has not ended. */
  isUncommitted: ((this: void) => boolean) | undefined;
}

/** Somebody who waits for the end of a run. */
class Waiting {
  readonly end: Promise<RunEnd>;
  resolve!: (end: RunEnd) => void;
  reject!: (error: Error) => void;
  timer: NodeJS.Timeout | undefined;

  constructor(readonly isUncommitted: Request['isUncommitted']) {
    this.end = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

/** A run that somebody waits for. */
class AwaitedRun {
  readonly waiting = new Set<Waiting>();
  /** When it is looked for next. */
  timer: NodeJS.Timeout | undefined;

  constructor(readonly id: string) {}

  /** Nobody waits for it any more. */
  settle(tell: (waiting: Waiting) => void): void {
    clearTimeout(this.timer);
    for (const waiting of this.waiting) {
      clearTimeout(waiting.timer);
      tell(waiting);
    }
    this.waiting.clear();
  }
}

/** Those who wait in this process for the end of a run, wherever it executes. */
export class Results {
  private readonly awaited = new ChurningMap<string, AwaitedRun>();
  private readonly due = new Set<string>();

  constructor(
    private readonly store: Pick<Store, 'watch' | 'hints'>,
    private readonly serializer: PayloadSerializer,
    private readonly whereIs: (runId: string) => keyof typeof FIRST_LOOK_MS,
    /** Something on that queue can be claimed. */
    private readonly ready: (queue: string) => void,
  ) {
    store.hints.onHints(({ ended }) => {
      for (const runId of ended) this.lookAt(runId);
    });
  }

  /** The run may have ended elsewhere. Those that are asked for at the same time are looked up together. */
  lookAt(runId: string): void {
    if (!this.awaited.has(runId)) return;
    if (this.due.size === 0) setImmediate(() => void this.look());
    this.due.add(runId);
  }

  /** The output of a run. Throws its error, or {@link ResultTimeoutError}. */
  async of(runId: string, request: Request): Promise<unknown> {
    const end = await this.end(runId, request);
    if (end.status === 'completed') return this.serializer.decode(end.output);
    const error = this.serializer.decodeError(end.error);
    if (end.status === 'failed') throw new RunFailedError(runId, end.workflow, reviveError(error));
    throw new RunCancelledError(runId, end.workflow, typeof error['reason'] === 'string' ? error['reason'] : undefined);
  }

  /** A run has ended in this process. */
  ended(end: RunEnd): void {
    this.settle(end.id, (waiting) => waiting.resolve(end));
  }

  private end(runId: string, { timeoutMs, isUncommitted }: Request): Promise<RunEnd> {
    const run = this.awaitedRun(runId);
    const waiting = new Waiting(isUncommitted);
    run.waiting.add(waiting);
    if (timeoutMs !== undefined) {
      const delayMs = Math.min(Math.max(0, timeoutMs), LONGEST_TIMER_MS);
      waiting.timer = setTimeout(() => this.giveUp(run, waiting, timeoutMs), delayMs);
    }
    return waiting.end;
  }

  private awaitedRun(runId: string): AwaitedRun {
    const known = this.awaited.get(runId);
    if (known) return known;
    const run = new AwaitedRun(runId);
    this.awaited.set(runId, run);
    this.lookLater(run, FIRST_LOOK_MS[this.whereIs(runId)], this.lookAgain.first);
    return run;
  }

  private giveUp(run: AwaitedRun, waiting: Waiting, timeoutMs: number): void {
    run.waiting.delete(waiting);
    if (run.waiting.size === 0) this.settle(run.id, () => {});
    waiting.reject(new ResultTimeoutError(run.id, timeoutMs));
  }

  private settle(runId: string, tell: (waiting: Waiting) => void): void {
    const run = this.awaited.get(runId);
    if (!run) return;
    this.awaited.delete(runId);
    run.settle(tell);
  }

  private lookLater(run: AwaitedRun, delayMs: number, nextDelayMs: number): void {
    run.timer = setTimeout(() => {
      this.lookAt(run.id);
      this.lookLater(run, nextDelayMs, Math.min(2 * nextDelayMs, this.lookAgain.longest));
    }, delayMs);
    run.timer.unref();
  }

  private get lookAgain(): typeof LOOK_AGAIN_MS {
    return this.store.hints.isHeard ? LOOK_AGAIN_MS : POLL_AGAIN_MS;
  }

  private async look(): Promise<void> {
    const runIds = [...this.due];
    this.due.clear();
    const uncommitted = new Set(runIds.filter((runId) => this.isUncommitted(runId)));
    try {
      const { ends, unknown, readyOn } = await this.store.watch(runIds);
      for (const queue of readyOn) this.ready(queue);
      for (const end of ends) this.ended(end);
      for (const runId of unknown) if (!uncommitted.has(runId)) this.fail(runId, new RunNotFoundError(runId));
    } catch (error) {
      for (const runId of runIds) this.fail(runId, error as Error);
    }
  }

  private isUncommitted(runId: string): boolean {
    return [...(this.awaited.get(runId)?.waiting ?? [])].some((waiting) => waiting.isUncommitted?.());
  }

  private fail(runId: string, error: Error): void {
    this.settle(runId, (waiting) => waiting.reject(error));
  }
}
