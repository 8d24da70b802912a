import { setTimeout as delay } from 'node:timers/promises';

/** Asks again until the answer is true: for what only the database, or another process, can tell. */
export async function until(what: string, probe: () => Promise<boolean> | boolean, timeoutMs = 30_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`Not in ${timeoutMs} ms: ${what}`);
    await delay(10);
  }
}
