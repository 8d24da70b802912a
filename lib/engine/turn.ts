import { performance } from 'node:perf_hooks';

/** One for all who ask within a turn: hundreds of runs take their steps at once. */
let nextTurn: Promise<void> | undefined;

/** Lets code react to what it has just received: all microtasks run before the next macrotask. */
export function turn(): Promise<void> {
  return (nextTurn ??= new Promise((resolve) =>
    setImmediate(() => {
      nextTurn = undefined;
      resolve();
    }),
  ));
}

/** Resolves when all that this turn lets go on has come to rest, and before anything else arrives. */
export function rest(): Promise<void> {
  void turn();
  return new Promise((resolve) => setImmediate(resolve));
}

/** For so long, at most, nothing else of the process has its turn. */
const SLICE_MS = 5;
let sliceEnd = 0;

/**
 * Lets code react to what a replay feeds it, as {@link turn} does, at a tenth of the cost: node runs what `nextTick` is given once
 * the microtasks have run dry, without a pass of the event loop.
 */
export function reaction(): Promise<void> {
  if (performance.now() < sliceEnd) return new Promise((resolve) => process.nextTick(resolve));
  return turn().then(() => {
    sliceEnd = performance.now() + SLICE_MS;
  });
}
