import type { NewRun, Placement, StartResult, Store } from './store.js';

const LARGEST_BATCH = 1_000;

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

  private async flush(): Promise<void> {
    this.isFlushing = true;
    while (this.waiting.length) {
      await new Promise((resolve) => setImmediate(resolve));
      await this.start(this.waiting.splice(0, LARGEST_BATCH));
    }
    this.isFlushing = false;
  }

  private async start(batch: Waiting[]): Promise<void> {
    const runs = batch.map(({ run }) => run);
    try {
      const results = await this.store.start(runs, await this.place(runs));
      this.started(runs, results);
      batch.forEach(({ resolve }, index) => resolve(results[index]!));
    } catch (error) {
      this.started(runs, []);
      if (batch.length === 1) return batch[0]!.reject(error);
      for (const one of batch) await this.start([one]);
    }
  }
}
