import type { Results } from '../results.js';
import { median, spread } from '../statistics.js';

/** The medians of a run of the benchmark. */
export class Numbers {
  constructor(readonly results: Results) {}

  /** All values of a metric, one for each round. */
  values(system: string, metric: string): number[] {
    return this.results.values[system]?.[metric] ?? [];
  }

  of(system: string, metric: string): number | undefined {
    const values = this.values(system, metric);
    return values.length > 0 ? median(values) : undefined;
  }

  ours(metric: string): number | undefined {
    const [system] = this.systems('ours');
    return system === undefined ? undefined : this.of(system, metric);
  }

  /** The largest or the smallest among the durable peers. */
  bestPeer(metric: string, better: 'largest' | 'smallest'): number | undefined {
    const values = this.systems('durable').flatMap((system) => this.of(system, metric) ?? []);
    if (values.length === 0) return undefined;
    return better === 'largest' ? Math.max(...values) : Math.min(...values);
  }

  systems(...kinds: string[]): string[] {
    return this.results.systems.filter(({ kind }) => kinds.includes(kind)).map(({ name }) => name);
  }

  /** `1,234 (± 5 %)`: the median, and how far the rounds spread. */
  text(system: string, metric: string): string | undefined {
    const values = this.values(system, metric);
    if (values.length === 0) return undefined;
    const middle = short(median(values));
    return values.length > 1 && median(values) > 0 ? `${middle} (${Math.round(spread(values) * 100)} %)` : middle;
  }
}

/** Three digits, or all before the point. */
export function short(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en');
  return String(Number(value.toPrecision(3)));
}
