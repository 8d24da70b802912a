import type { ClaimedRun } from './claimed-run.js';

/** A run whose history, up to an entry, another one shares: its random values are those of the shared part. */
export interface Ancestor {
  seed: string;
  /** The last shared entry: what is drawn after it is delivered belongs to the next ancestor, or to the run itself. */
  until: number;
}

/** What the keys of steps, and random values, of a run follow from: another for each of its generations. */
export function seedOf({ id, generation }: Pick<ClaimedRun, 'id' | 'generation'>): string {
  return generation === 0 ? id : `${id}.${generation}`;
}

/** What random values that are drawn behind that entry follow from. */
export function seedAfter(seq: number, run: Pick<ClaimedRun, 'id' | 'generation' | 'ancestors'>): string {
  return run.ancestors?.find(({ until }) => seq < until)?.seed ?? seedOf(run);
}

/** The ancestors of a run that shares the history of this one up to an entry. */
export function ancestorsOfFork(
  original: Pick<ClaimedRun, 'id' | 'generation' | 'ancestors'>,
  lastShared: number,
): Ancestor[] {
  const all = [...(original.ancestors ?? []), { seed: seedOf(original), until: Infinity }];
  return all
    .filter((_, index) => index === 0 || all[index - 1]!.until < lastShared)
    .map(({ seed, until }) => ({ seed, until: Math.min(until, lastShared) }));
}
