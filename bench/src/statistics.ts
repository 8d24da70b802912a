/** The value below which the share `p` (0 to 1) of the numbers lies. */
export function percentile(numbers: readonly number[], p: number): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))]!;
}

export function median(numbers: readonly number[]): number {
  return percentile(numbers, 0.5);
}

/** How far the middle of the numbers spreads: the distance from the lowest to the highest, as a share of the median. */
export function spread(numbers: readonly number[]): number {
  return (Math.max(...numbers) - Math.min(...numbers)) / median(numbers);
}

/** Runs `work` for items 0 to `count` - 1, `inFlight` at a time. Returns items per second. */
export async function throughput(
  count: number,
  inFlight: number,
  work: (item: number) => Promise<unknown>,
): Promise<number> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: inFlight }, lane));
  return (count * 1_000) / (performance.now() - startedAt);
}

/** Milliseconds of each of `count` calls, one after the other. */
export async function latencies(count: number, work: (item: number) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let item = 0; item < count; item++) {
    const startedAt = performance.now();
    await work(item);
    times.push(performance.now() - startedAt);
  }
  return times;
}
