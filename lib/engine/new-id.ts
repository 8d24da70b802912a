import { randomFillSync } from 'node:crypto';
import { v7 } from 'uuid';

const BYTES = 16;
/** Asking the system for random bytes takes several microseconds, for many as for few. */
const pool = Buffer.alloc(256 * BYTES);
let used = pool.length;
let msecs = 0;
let seq = 0;

/** A new id: a uuid v7. Those that a process makes are in the order in which it made them, also within a millisecond. */
export function newId(): string {
  const random = takeRandom();
  const now = Date.now();
  if (now > msecs) {
    msecs = now;
    // Of its 32 bits the first stays free, so that counting on does not come to an end.
    seq = random.readUInt32BE() >>> 1;
  } else {
    seq++;
  }
  return v7({ random, msecs, seq });
}

function takeRandom(): Buffer {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  return pool.subarray(used, (used += BYTES));
}
