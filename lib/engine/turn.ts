/** Lets code react to what it has just received: all microtasks run before the next macrotask. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
