import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';

import type { Store } from '../../lib/engine/store.js';
import { engineOf, type TestApp } from './app.js';

/** What a process does in the database on its way to or from a wait. */
const GATED = [
  ...(['cancel', 'claim', 'commit', 'commitWithEffects', 'loadEnds', 'loadHistories'] as const),
  ...(['loadSignals', 'signal', 'start', 'wake', 'wakeDue'] as const),
] satisfies (keyof Store)[];
/** In so many turns of the event loop, what reacts to an answer has asked for the next. */
const TURNS_TO_REST = 8;
const PATIENCE_MS = 10_000;

/**
 * Runs what apps ask of the database in an order that a seed decides: each statement is held before it is sent, and its
 * answer before it is received, and one of all that are held is let go when everything else is at rest.
 */
export class Interleaving {
  private readonly held: { what: string; letGo: () => void }[] = [];
  private inFlight = 0;
  private isOpen = true;
  private random: () => number = () => 0;
  /** What was let go, in its order. */
  readonly trace: string[] = [];

  static async of(...apps: TestApp[]): Promise<Interleaving> {
    const interleaving = new Interleaving();
    for (const [index, app] of apps.entries()) {
      const { store } = await engineOf(app);
      interleaving.hold(store, GATED, index);
      interleaving.hold(store.workers, ['beat'], index);
      interleaving.hold(store.hints, ['announce'], index);
    }
    return interleaving;
  }

  /** Lets go one after the other until the work has ended. Throws with the order when it never does. */
  async run<T>(seed: number, work: () => Promise<T>): Promise<T> {
    this.random = randomOf(seed);
    this.trace.length = 0;
    this.isOpen = false;
    const progress = { isOver: false };
    const result = work().finally(() => (progress.isOver = true));
    result.catch(() => {});
    let restSince = performance.now();
    while (!progress.isOver) {
      await this.rest();
      const next = this.held.splice(Math.floor(this.random() * this.held.length), 1)[0];
      if (next) {
        restSince = performance.now();
        this.trace.push(next.what);
        next.letGo();
      } else {
        if (performance.now() - restSince > PATIENCE_MS)
          throw new Error(`Seed ${seed}: nothing happens any more after ${this.trace.join(', ')}`);
        await delay(1);
      }
    }
    this.isOpen = true;
    for (const { letGo } of this.held.splice(0)) letGo();
    return result;
  }

  private hold<Part extends object>(store: Part, names: readonly (keyof Part & string)[], index: number): void {
    for (const name of names) {
      const send = (store[name] as (...args: unknown[]) => Promise<unknown>).bind(store);
      const gated = async (...args: unknown[]): Promise<unknown> => {
        await this.gate(`${index}: ${name}`);
        this.inFlight++;
        const answer = await send(...args).finally(() => this.inFlight--);
        await this.gate(`${index}: answer of ${name}`);
        return answer;
      };
      Object.assign(store, { [name]: gated });
    }
  }

  private async gate(what: string): Promise<void> {
    if (!this.isOpen) await new Promise<void>((letGo) => this.held.push({ what, letGo }));
  }

  private async rest(): Promise<void> {
    for (let turns = 0; turns < TURNS_TO_REST; turns++) {
      const before = this.held.length;
      await turn();
      if (this.inFlight > 0 || this.held.length !== before) turns = 0;
    }
  }
}

/** The same numbers from 0 to 1 for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
