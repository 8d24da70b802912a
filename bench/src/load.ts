export interface Steady {
  /** Ends in a second, in the time that was measured. */
  perSecond: number;
  /** Milliseconds of CPU of this process for each. */
  cpuMs: number;
}

export interface Load {
  inFlight: number;
  /** How long each pauses between two calls; not at all by default. */
  pauseMs?: number;
  warmMs: number;
  measureMs: number;
}

/** How many times the usual stretch a slow system may take. */
const LONGEST = 8;

/**
 * Keeps `inFlight` calls of `work` going, and counts those that end within a stretch of time after the warm-up. So neither filling
 * the pipeline nor draining it counts, and a slow system is measured for hardly longer than a fast one: until as many have ended as are in
 * flight, since their ends may come in lumps.
 */
export async function steady(
  work: (item: number) => Promise<unknown>,
  { inFlight, pauseMs, warmMs, measureMs }: Load,
): Promise<Steady> {
  const state = { next: 0, ends: 0, isOver: false };
  const lane = async (): Promise<void> => {
    while (!state.isOver) {
      await work(state.next++);
      state.ends++;
      if (pauseMs) await pause(pauseMs);
    }
  };
  const lanes = Promise.all(Array.from({ length: inFlight }, lane)).finally(() => (state.isOver = true));
  const measured = (async () => {
    await pause(warmMs);
    const before = { ends: state.ends, at: performance.now(), cpu: process.cpuUsage() };
    await pause(measureMs);
    const until = performance.now() + LONGEST * measureMs;
    while (state.ends - before.ends < inFlight && performance.now() < until && !state.isOver) await pause(10);
    const elapsed = performance.now() - before.at;
    const { user, system } = process.cpuUsage(before.cpu);
    const count = state.ends - before.ends;
    state.isOver = true;
    if (count === 0) throw new Error(`Nothing ended within ${Math.round(elapsed)} ms.`);
    return { perSecond: (count * 1_000) / elapsed, cpuMs: (user + system) / 1_000 / count };
  })();
  const [result] = await Promise.all([measured, lanes]);
  return result;
}

/** Milliseconds of each call, one after the other, until there are `count` or the time is over. */
export async function latencies(
  work: (item: number) => Promise<unknown>,
  { count, limitMs }: { count: number; limitMs: number },
): Promise<number[]> {
  const times: number[] = [];
  const until = performance.now() + limitMs;
  while (times.length < count && performance.now() < until) {
    const startedAt = performance.now();
    await work(times.length);
    times.push(performance.now() - startedAt);
  }
  return times;
}

/** Calls `work` for the items 0 to `count` - 1, `inFlight` at a time. */
export async function batch(
  work: (item: number) => Promise<unknown>,
  { count, inFlight }: { count: number; inFlight: number },
): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
