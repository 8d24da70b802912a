import type { ClaimedRun } from './store.js';

/** What the keys of steps, and random values, of a run follow from: another for each of its generations. */
export function seedOf({ id, generation }: Pick<ClaimedRun, 'id' | 'generation'>): string {
  return generation === 0 ? id : `${id}.${generation}`;
}
