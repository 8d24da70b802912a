import type { Engine } from '../engine/engine.js';
import { RunNotFoundError } from '../engine/errors.js';
import { UsageError } from './exit-code.js';

const DIGITS = 32;
const FEWEST = 4;
const CANDIDATES = 5;

/** How people name a run: by its id, a beginning of it that is no other's, or `workflow/key`. */
export async function findRunId({ store }: Engine, text: string): Promise<string> {
  const digits = text.replaceAll('-', '').toLowerCase();
  if (/^[0-9a-f]+$/.test(digits) && digits.length >= FEWEST && digits.length <= DIGITS) {
    const first = toUuid(digits.padEnd(DIGITS, '0'));
    if (digits.length === DIGITS) return first;
    const ids = await store.runs.idsBetween(first, toUuid(digits.padEnd(DIGITS, 'f')), CANDIDATES + 1);
    if (ids.length > 1) throw ambiguous(text, ids);
    if (ids[0] !== undefined) return ids[0];
    throw new RunNotFoundError(text);
  }
  const slash = text.indexOf('/');
  if (slash < 1)
    throw new UsageError(
      `'${text}' names no run: give its id, the first digits of it (${FEWEST} at least), or workflow/key.`,
    );
  const id = await store.runs.findId(text.slice(0, slash), text.slice(slash + 1));
  if (id === undefined) throw new RunNotFoundError(text);
  return id;
}

function toUuid(digits: string): string {
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function ambiguous(text: string, ids: readonly string[]): UsageError {
  const listed = ids.slice(0, CANDIDATES).map((id) => `\n  ${id}`);
  return new UsageError(
    `'${text}' is the beginning of several ids:${listed.join('')}${ids.length > CANDIDATES ? '\n  …' : ''}`,
  );
}
