import { setTimeout as delay } from 'node:timers/promises';
import type { Surroundings } from '../store/test-database.js';

const LOOK_MS = 5;

/**
 * Resolves when all runs are at rest: nothing executes and nothing is due. Or when nothing has happened for as long as
 * `patienceMs`: what is left then waits for the test itself (a step's body that hangs), or cannot go on (a queue that is paused).
 */
export async function untilAtRest(lookAround: () => Promise<Surroundings>, patienceMs: number): Promise<Surroundings> {
  let changedAt = performance.now();
  let happened: string | undefined;
  for (;;) {
    const seen = await lookAround();
    if (!seen.isBusy) return seen;
    if (seen.happened !== happened) changedAt = performance.now();
    else if (performance.now() - changedAt >= patienceMs) return seen;
    happened = seen.happened;
    await delay(LOOK_MS);
  }
}
