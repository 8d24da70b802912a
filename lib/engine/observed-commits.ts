import { performance } from 'node:perf_hooks';
import type { Store } from './store.js';
import type { Telemetry } from './telemetry.js';

type Commits = Pick<Store, 'commit' | 'commitWithEffects'>;

/** The group commits of a worker, each told with its size and duration once it is done. */
export function observedCommits(store: Commits, telemetry: Telemetry | undefined): Commits {
  if (!telemetry) return store;
  const observed = async <T>(writes: number, commit: () => Promise<T>): Promise<T> => {
    const begunAt = performance.now();
    const result = await commit();
    telemetry.committed(writes, performance.now() - begunAt);
    return result;
  };
  return {
    commit: (writes, placement) => observed(writes.length, () => store.commit(writes, placement)),
    commitWithEffects: (write, placement) => observed(1, () => store.commitWithEffects(write, placement)),
  };
}
