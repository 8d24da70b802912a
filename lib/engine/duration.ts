import { ValidationError } from './errors.js';

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;

/** A length of time: a number of milliseconds, or `'1500ms' | '10s' | '5m' | '1h' | '2d' | '1w'`. */
export type Duration = number | `${number}${keyof typeof UNIT_MS}`;

/** Milliseconds of a duration, or `undefined` when it is none. */
export function tryParseDuration(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  const match = typeof value === 'string' ? /^(-?\d+(?:\.\d+)?)(ms|[smhdw])$/.exec(value) : null;
  return match ? Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS] : undefined;
}

/** Milliseconds of a duration. @throws ValidationError that names the value and the accepted forms */
export function parseDuration(value: Duration, what = 'A duration'): number {
  const ms = tryParseDuration(value);
  if (ms === undefined)
    throw new ValidationError(what, [
      {
        message: `'${String(value)}' is no duration: use a number of milliseconds or '1500ms', '10s', '5m', '1h', '2d', '1w'`,
      },
    ]);
  return ms;
}
