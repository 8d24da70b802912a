import { setTimeout as delay } from 'node:timers/promises';
import type { Offer, Verdict } from './input-store.js';
import type { Store } from './store.js';

/** A verdict is announced; looking for it without that is for announcements that were lost. */
const LOOK_AGAIN_MS = 1_000;

/** Those who wait in this process until a run has judged the answer that they offer. */
export class InputVerdicts {
  private readonly waiting = new Map<string, Set<() => void>>();

  constructor(private readonly store: Pick<Store, 'inputs' | 'hints'>) {
    store.hints.onHints(({ judged = [] }) => {
      for (const runId of judged) for (const look of this.waiting.get(runId) ?? []) look();
    });
  }

  /** What the run says to the offer, or undefined when it has said nothing in time. */
  async of(offer: Offer, timeoutMs: number): Promise<Verdict | undefined> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const announced = this.announced(offer.runId);
      try {
        const verdict = await this.store.inputs.verdictOf(offer);
        if (verdict.is !== 'open') return verdict;
        const left = deadline - performance.now();
        if (left <= 0) return undefined;
        await announced.within(Math.min(left, LOOK_AGAIN_MS));
      } finally {
        announced.ignore();
      }
    }
  }

  /** The next announcement of that run, listened to from now on: one that comes during a look is not missed. */
  private announced(runId: string) {
    const stop = new AbortController();
    const listeners = this.waiting.get(runId) ?? new Set();
    const listener = () => stop.abort();
    this.waiting.set(runId, listeners.add(listener));
    return {
      within: (ms: number) => delay(ms, undefined, { signal: stop.signal }).catch(() => {}),
      ignore: () => {
        listeners.delete(listener);
        if (listeners.size === 0 && this.waiting.get(runId) === listeners) this.waiting.delete(runId);
      },
    };
  }
}
