import { endsWithin } from './ends-within.js';
import { DatabaseUnavailableError } from './errors.js';
import type { NewRun, Placement, StartOutcome, StartResult } from './new-run.js';
import type { Store } from './store.js';
import { turn } from './turn.js';

const LARGEST_BATCH = 1_000;
const PATIENCE_MS = 200;

interface Waiting {
  run: NewRun;
  resolve(result: StartResult): void;
  reject(error: unknown): void;
}

/** Starts that are asked for while one statement is in flight go together in the next. */
export class StartQueue {
  private waiting: Waiting[] = [];
  private isFlushing = false;

  constructor(
    private readonly store: Pick<Store, 'start'>,
    /** Marks those that this process can begin at once, and says as whom. */
    private readonly place: (runs: readonly NewRun[]) => Promise<Placement>,
    private readonly started: (runs: readonly NewRun[], results: readonly StartResult[]) => void,
  ) {}

  add(run: NewRun): Promise<StartResult> {
    const result = new Promise<StartResult>((resolve, reject) => this.waiting.push({ run, resolve, reject }));
    if (!this.isFlushing) void this.flush();
    return result;
  }

  /** A batch of its own. */
  addAll(runs: readonly NewRun[]): Promise<StartResult[]> {
    const batch: Waiting[] = [];
    const results = runs.map(
      (run) => new Promise<StartResult>((resolve, reject) => batch.push({ run, resolve, reject })),
    );
    void this.start(batch, true);
    return Promise.all(results);
  }

  private async flush(): Promise<void> {
    this.isFlushing = true;
    while (this.waiting.length) {
      await turn();
      await this.startSoon(this.waiting.splice(0, LARGEST_BATCH));
    }
    this.isFlushing = false;
  }

  /** A start may wait for a key that an open transaction holds; those that come after it need not. */
  private async startSoon(batch: Waiting[]): Promise<void> {
    await endsWithin(PATIENCE_MS, this.start(batch));
  }

  private async start(batch: Waiting[], together = false): Promise<void> {
    const runs = batch.map(({ run }) => run);
    try {
      const outcomes = await this.store.start(runs, await this.place(runs), together);
      this.started(runs, outcomes.filter(isStarted));
      outcomes.forEach((outcome, index) => {
        if (isStarted(outcome)) batch[index]!.resolve(outcome);
        else batch[index]!.reject(outcome.refusal);
      });
    } catch (error) {
      this.started(runs, []);
      if (batch.length === 1 || error instanceof DatabaseUnavailableError) return rejectAll(batch, error);
      // One of them is at fault, or has a key that somebody's open transaction holds: nobody else waits for that.
      for (const one of batch) void this.start([one]);
    }
  }
}

function isStarted(outcome: StartOutcome): outcome is StartResult {
  return !('refusal' in outcome);
}

function rejectAll(batch: readonly Waiting[], error: unknown): void {
  for (const { reject } of batch) reject(error);
}
