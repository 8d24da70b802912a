import { setFlagsFromString, getHeapSpaceStatistics } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { ChurningMap } from '../../lib/engine/churning-map.js';

interface Churned {
  set(key: string, value: object): unknown;
  delete(key: string): unknown;
}

const LIVE = 200;
const MEBIBYTE = 2 ** 20;

/** Of a class: V8 may take a literal for long-lived, and keep it with the old from the beginning. */
class Entry {
  readonly parts = Array.from({ length: 100 }, () => new Date());
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as (options?: { type: 'minor' }) => void;

function oldGeneration(): number {
  return getHeapSpaceStatistics().find((space) => space.space_name === 'old_space')!.space_used_size;
}

/** How much the old generation has grown, in MiB, when 20,000 entries of which 200 are live at a time have gone through the map. */
function growthBy(map: Churned): number {
  collect();
  const before = oldGeneration();
  for (let entry = 0; entry < 20_000; entry++) {
    map.set(`key-${entry}`, new Entry());
    map.delete(`key-${entry - LIVE}`);
    if (entry % 1_000 === 999) collect({ type: 'minor' });
  }
  return (oldGeneration() - before) / MEBIBYTE;
}

describe('A map whose entries come and go', () => {
  it('has what was set, in the order of the keys, and what was deleted no more', () => {
    const map = new ChurningMap<string, number>();
    map.set('a', 1);
    map.set('b', 2);
    map.set('c', 3);
    map.delete('a');
    map.delete('unknown');
    map.set('d', 4);
    map.set('b', 5);

    expect(map.keys()).toEqual(['b', 'c', 'd']);
    expect(map.values()).toEqual([5, 3, 4]);
    expect([map.size, map.has('a'), map.get('a'), map.has('d'), map.get('d')]).toEqual([3, false, undefined, true, 4]);
    map.clear();
    expect([map.size, map.values(), map.get('b')]).toEqual([0, [], undefined]);
    map.set('e', 6);
    expect(map.values()).toEqual([6]);
  });

  it('does not keep what it had: the collection of young garbage frees it, which with a plain Map it does not', () => {
    const [plain, churning] = [growthBy(new Map()), growthBy(new ChurningMap())];

    expect(churning).toBeLessThan(plain / 5);
  });
});
