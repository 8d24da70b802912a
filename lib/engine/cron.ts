import { Cron } from 'croner';
import { ValidationError } from './errors.js';

/** Options of a cron expression. */
export interface CronOptions {
  /** An IANA name such as `'Europe/Oslo'`. Default `'UTC'`, so that every host means the same. */
  timeZone?: string;
}

/** The first tick after a time; both in epoch ms. */
export type NextTick = (after: number) => number;

/** Points in time, in epoch ms, without an end. */
export interface Ticks {
  next: NextTick;
  /** The last ones before a time, the earliest first. */
  last(before: number, count: number): number[];
}

/**
 * Reads a cron expression of 5 fields, or of 6 with the seconds first. Where clocks go forward, a tick in the hour that
 * is left out comes when that hour would have begun; where they go back, one at a fixed hour comes once, the first time.
 * Throws {@link ValidationError} that names what it is `of`.
 */
export function parseCron(of: string, cron: unknown, options: CronOptions): NextTick {
  return cronTicks(of, cron, options).next;
}

/** The ticks of an expression, as {@link parseCron} reads it. */
export function cronTicks(of: string, cron: unknown, { timeZone = 'UTC' }: CronOptions): Ticks {
  const refuse = (message: string, path: string): never => {
    throw new ValidationError(of, [{ message, path: [path] }]);
  };
  if (!isTimeZone(timeZone)) refuse(`'${String(timeZone)}' is no time zone ('Europe/Oslo', 'UTC')`, 'timeZone');
  const expression = String(cron);
  // The library also takes dates, years and words such as '@daily'.
  if (![5, 6].includes(expression.trim().split(/\s+/).length))
    refuse(`'${expression}' is no cron expression of 5 or 6 fields ('*/5 * * * *')`, 'cron');
  const ticks = tryParse(expression, timeZone);
  if ('problem' in ticks) return refuse(`'${expression}' is no cron expression: ${ticks.problem}`, 'cron');
  // Without a year, an expression has ticks at all times or at none.
  if (!ticks.nextRun(new Date(0))) refuse(`'${expression}' never comes`, 'cron');
  return {
    next: (after) => ticks.nextRun(new Date(after))!.getTime(),
    last: (before, count) =>
      ticks
        .previousRuns(count, new Date(before))
        .map((tick) => tick.getTime())
        .reverse(),
  };
}

function tryParse(expression: string, timezone: string): Cron | { problem: string } {
  try {
    return new Cron(expression, { timezone, paused: true });
  } catch (error) {
    return { problem: (error as Error).message.replace(/^CronPattern: /, '') };
  }
}

function isTimeZone(timeZone: unknown): timeZone is string {
  if (typeof timeZone !== 'string') return false;
  try {
    return Boolean(new Intl.DateTimeFormat('en', { timeZone }));
  } catch {
    return false;
  }
}
