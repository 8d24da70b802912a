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

interface Waiting extends Pick<Request, 'isUncommitted'> {
  resolve(end: RunEnd): void;
  reject(error: Error): void;
}

/** Those who wait in this process for the end of a run, wherever it executes. */
export class Results {
  private readonly waiting = new Map<string, Set<Waiting>>();
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
    if (!this.waiting.has(runId)) return;
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
    const waiting = this.waiting.get(end.id);
    this.waiting.delete(end.id);
    for (const { resolve } of waiting ?? []) resolve(end);
  }

  private end(runId: string, { timeoutMs, isUncommitted }: Request): Promise<RunEnd> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        isUncommitted,
        resolve: (end) => (clearTimeout(timer), resolve(end)),
        reject: (error: Error) => (clearTimeout(timer), reject(error)),
      };
      const timer =
        timeoutMs === undefined
          ? undefined
          : setTimeout(() => this.giveUp(runId, waiting, timeoutMs), Math.min(Math.max(0, timeoutMs), 2 ** 31 - 1));
      const others = this.waiting.get(runId);
      if (others) others.add(waiting);
      else {
        this.waiting.set(runId, new Set([waiting]));
        this.lookLater(runId, FIRST_LOOK_MS[this.whereIs(runId)], this.lookAgain.first);
      }
    });
  }

  private giveUp(runId: string, waiting: Waiting, timeoutMs: number): void {
    const others = this.waiting.get(runId);
    others?.delete(waiting);
    if (others?.size === 0) this.waiting.delete(runId);
    waiting.reject(new ResultTimeoutError(runId, timeoutMs));
  }

  private lookLater(runId: string, delayMs: number, nextDelayMs: number): void {
    const asked = this.waiting.get(runId);
    const timer = setTimeout(() => {
      if (this.waiting.get(runId) !== asked) return;
      this.lookAt(runId);
      this.lookLater(runId, nextDelayMs, Math.min(2 * nextDelayMs, this.lookAgain.longest));
    }, delayMs);
    timer.unref();
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
    return [...(this.waiting.get(runId) ?? [])].some((waiting) => waiting.isUncommitted?.());
  }

  private fail(runId: string, error: Error): void {
    const waiting = this.waiting.get(runId);
    this.waiting.delete(runId);
    for (const { reject } of waiting ?? []) reject(error);
  }
}
