import { ResultTimeoutError, RunCancelledError, RunFailedError, RunNotFoundError } from './errors.js';
import type { PayloadSerializer } from './serialization.js';
import { reviveError } from './stored-error.js';
import type { RunEnd, Store } from './store.js';

/** A run that executes here mostly ends here, soon: only after this long is its end asked of the database. */
const LOCAL_GRACE_MS = 250;
/** The announcement of an end may be lost; so it is looked up now and then. */
const LOOK_AGAIN_MS = { first: 1_000, longest: 15_000 };

interface Waiting {
  resolve(end: RunEnd): void;
  reject(error: unknown): void;
}

/** Those who wait in this process for the end of a run, wherever it executes. */
export class Results {
  private readonly waiting = new Map<string, Set<Waiting>>();

  constructor(
    private readonly store: Pick<Store, 'watch' | 'onHints'>,
    private readonly serializer: PayloadSerializer,
    private readonly isExecutedHere: (runId: string) => boolean,
  ) {
    store.onHints(({ ended }) => {
      for (const runId of ended) this.lookAt(runId);
    });
  }

  /** The run may have ended elsewhere. */
  lookAt(runId: string): void {
    if (this.waiting.has(runId)) void this.look(runId);
  }

  /** The output of a run. Throws its error, or {@link ResultTimeoutError}. */
  async of(runId: string, timeoutMs: number | undefined): Promise<unknown> {
    const end = await this.end(runId, timeoutMs);
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

  private end(runId: string, timeoutMs: number | undefined): Promise<RunEnd> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        resolve: (end) => (clearTimeout(timer), resolve(end)),
        reject: (error) => (clearTimeout(timer), reject(error as Error)),
      };
      const timer = timeoutMs === undefined ? undefined : setTimeout(() => this.giveUp(runId, waiting, timeoutMs), Math.min(Math.max(0, timeoutMs), 2 ** 31 - 1));
      const others = this.waiting.get(runId);
      if (others) others.add(waiting);
      else {
        this.waiting.set(runId, new Set([waiting]));
        this.lookLater(runId, this.isExecutedHere(runId) ? LOCAL_GRACE_MS : 0, LOOK_AGAIN_MS.first);
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
    const timer = setTimeout(async () => {
      if (this.waiting.get(runId) !== asked) return;
      await this.look(runId);
      if (this.waiting.get(runId) === asked) this.lookLater(runId, nextDelayMs, Math.min(2 * nextDelayMs, LOOK_AGAIN_MS.longest));
    }, delayMs);
    timer.unref();
  }

  private async look(runId: string): Promise<void> {
    try {
      const end = await this.store.watch(runId);
      if (end === null) this.fail(runId, new RunNotFoundError(runId));
      else if (end) this.ended(end);
    } catch (error) {
      this.fail(runId, error);
    }
  }

  private fail(runId: string, error: unknown): void {
    const waiting = this.waiting.get(runId);
    this.waiting.delete(runId);
    for (const { reject } of waiting ?? []) reject(error);
  }
}
