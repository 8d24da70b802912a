import { randomBytes } from 'node:crypto';

const POOL = randomBytes(3 * 2 ** 20).toString('base64');

/** A text of that length which hardly compresses, another one at each call. */
export function randomText(bytes: number): string {
  const from = Math.floor(Math.random() * (POOL.length - bytes));
  return POOL.slice(from, from + bytes);
}
