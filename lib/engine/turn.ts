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
