const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
] as const;

/** A length of time by its two largest units: `3d 4h`, `2m 5s`, `320ms`. */
export function describeDuration(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))}ms`;
  if (ms < 10_000) return `${Number((ms / 1_000).toFixed(1))}s`;
  const whole = Math.round(ms / 1_000) * 1_000;
  const first = UNITS.findIndex(([, length]) => whole >= length);
  const [unit, length] = UNITS[first]!;
  const parts = [`${Math.floor(whole / length)}${unit}`];
  const next = UNITS[first + 1];
  if (next) {
    const rest = Math.floor((whole % length) / next[1]);
    if (rest > 0) parts.push(`${rest}${next[0]}`);
  }
  return parts.join(' ');
}

/** As far away as it is from now: `3m ago`, `in 2h 5m`. */
export function describeAge(time: Date): string {
  const ms = Date.now() - time.getTime();
  return ms >= 0 ? `${describeDuration(ms)} ago` : `in ${describeDuration(-ms)}`;
}

/** `2026-11-20 14:05:06 (3m ago)`, in the time zone of whoever looks. */
export function describeTime(time: Date): string {
  const local = new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString();
  return `${local.slice(0, 10)} ${local.slice(11, 19)} (${describeAge(time)})`;
}
