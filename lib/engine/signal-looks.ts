import { setTimeout as delay } from 'node:timers/promises';
import type { SignalsFound, SignalsWanted } from './sent-signal.js';
import type { Store } from './store.js';

const LARGEST_LOOK = 500;
const PAUSE_MS = 1_000;

interface Look {
  wanted: SignalsWanted;
  found(signals: SignalsFound): void;
}

/** Looks for signals: what the runs of a process ask for in one turn is one statement. */
export class SignalLooks {
  private asked: Look[] = [];

  constructor(
    private readonly store: Pick<Store, 'loadSignals'>,
    private readonly warn: (message: string) => void,
    private readonly isStopped: () => boolean,
  ) {}

  load(wanted: SignalsWanted): Promise<SignalsFound> {
    return new Promise((found) => {
      if (this.asked.push({ wanted, found }) === 1) setImmediate(() => void this.look());
    });
  }

  private async look(): Promise<void> {
    const asked = this.asked.splice(0, LARGEST_LOOK);
    if (this.asked.length) setImmediate(() => void this.look());
    const results = await this.untilFound(asked.map(({ wanted }) => wanted));
    asked.forEach(({ found }, index) => found(results[index]!));
  }

  /** A run that was not told of its signals would wait for them for ever. */
  private async untilFound(wanted: SignalsWanted[]): Promise<SignalsFound[]> {
    for (;;) {
      try {
        return await this.store.loadSignals(wanted);
      } catch (error) {
        // Nobody is left who would be told.
        if (this.isStopped()) return await new Promise<never>(() => {});
        this.warn(`The signals of ${wanted.length} runs cannot be loaded, which is tried again: ${String(error)}`);
        await delay(PAUSE_MS, undefined, { ref: false });
      }
    }
  }
}
