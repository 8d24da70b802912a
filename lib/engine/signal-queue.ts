import { endsWithin } from './ends-within.js';
import { DatabaseUnavailableError } from './errors.js';
import type { NewSignal, SentSignal } from './sent-signal.js';
import type { Store } from './store.js';
import { turn } from './turn.js';

const LARGEST_BATCH = 500;
const PATIENCE_MS = 200;

interface Waiting {
  signal: NewSignal;
  resolve(sent: SentSignal): void;
  reject(error: unknown): void;
}

/** Signals that are sent while one statement is in flight go together in the next. */
export class SignalQueue {
  private readonly waiting: Waiting[] = [];
  private isFlushing = false;

  constructor(
    private readonly store: Pick<Store, 'signal'>,
    /** Tells those whom it concerns. */
    private readonly sent: (results: readonly SentSignal[]) => void,
  ) {}

  add(signal: NewSignal): Promise<SentSignal> {
    const result = new Promise<SentSignal>((resolve, reject) => this.waiting.push({ signal, resolve, reject }));
    if (!this.isFlushing) void this.flush();
    return result;
  }

  private async flush(): Promise<void> {
    this.isFlushing = true;
    while (this.waiting.length) {
      await turn();
      // One of the runs may be locked for longer, by the cancellation of a large family; the others do not wait for that.
      await endsWithin(PATIENCE_MS, this.send(this.waiting.splice(0, LARGEST_BATCH)));
    }
    this.isFlushing = false;
  }

  private async send(batch: Waiting[]): Promise<void> {
    try {
      const results = await this.store.signal(batch.map(({ signal }) => signal));
      this.sent(results);
      batch.forEach(({ resolve }, index) => resolve(results[index]!));
    } catch (error) {
      const isHopeless = batch.length === 1 || error instanceof DatabaseUnavailableError;
      for (const one of batch) {
        if (isHopeless) one.reject(error);
        else void this.send([one]);
      }
    }
  }
}
