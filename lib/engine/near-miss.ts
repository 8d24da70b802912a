import { distance } from 'fastest-levenshtein';

/** The candidate that somebody may have meant by a name that there is not; undefined when none is like it. */
export function nearMiss(name: string, candidates: Iterable<string>): string | undefined {
  let nearest: string | undefined;
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of candidates) {
    const changes = distance(name.toLowerCase(), candidate.toLowerCase());
    if (changes < least) [nearest, least] = [candidate, changes];
  }
  return nearest;
}
