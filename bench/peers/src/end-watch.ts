import { setTimeout as delay } from 'node:timers/promises';

const INTERVAL_MS = 10;

/**
 * Notices the ends of runs by one query for all that are waited for, every 10 ms. Systems whose own handle looks once in a second or so, for each
 * run by itself, are measured with it: it is their execution that is compared, not how they tell of it.
 */
export class EndWatch {
  private readonly waiting = new Map<string, { promise: Promise<void>; resolve(): void; reject(error: Error): void }>();
  private isLooking = false;

  constructor(private readonly ended: (ids: string[]) => Promise<{ id: string; completed: boolean }[]>) {}

  wait(id: string): Promise<void> {
    const known = this.waiting.get(id);
    if (known) return known.promise;
    let settle!: { resolve(): void; reject(error: Error): void };
    const promise = new Promise<void>((resolve, reject) => (settle = { resolve, reject }));
    this.waiting.set(id, { promise, ...settle });
    if (!this.isLooking) void this.look();
    return promise;
  }

  private async look(): Promise<void> {
    this.isLooking = true;
    try {
      while (this.waiting.size > 0) {
        for (const { id, completed } of await this.ended([...this.waiting.keys()])) this.settle(id, completed);
        await delay(INTERVAL_MS);
      }
    } catch (error) {
      for (const { reject } of this.waiting.values()) reject(error as Error);
      this.waiting.clear();
    } finally {
      this.isLooking = false;
    }
  }

  private settle(id: string, completed: boolean): void {
    const { resolve, reject } = this.waiting.get(id)!;
    this.waiting.delete(id);
    if (completed) resolve();
    else reject(new Error(`The run ${id} did not complete.`));
  }
}
