import { hash } from 'node:crypto';
import { cronTicks, type Ticks } from './cron.js';

/*
 * When a schedule starts runs. Its ticks follow from its timing alone, each from the one before, never from the time of a
 * look: however late a worker looks, it finds the same ticks as any other.
 */

/** What becomes of a tick while the run before it is active. */
export type Overlap = 'skip' | 'allow' | 'cancel' | 'buffer';
/** What becomes of ticks that nobody could start in time. */
export type Missed = 'skip' | 'once' | 'all';

/** How late a tick may be before it counts as missed. */
const MISSED_AFTER_MS = 60_000;
/** How many missed ticks are made up for, the latest ones. */
const MOST_MISSED = 100;
/** How many ticks are taken at a time; further ones at the next look. */
const MOST_DUE = 1_000;

export interface Timing {
  cron: string | null;
  everyMs: number | null;
  timeZone: string;
}

/** What ticks are computed from. */
export interface TickPlan extends Timing {
  id: string;
  missed: Missed;
  jitterMs: number;
}

/** A tick that has come; `missed`: one of several that are made up for, whatever else runs. */
export interface DueTick {
  time: number;
  missed: boolean;
}

/** The ticks of a timing. Throws {@link ValidationError} that names what it is `of`. */
export function ticksOf(of: string, { cron, everyMs, timeZone }: Timing): Ticks {
  return everyMs === null ? cronTicks(of, cron, { timeZone }) : everyTicks(everyMs);
}

/** Aligned to the epoch, so that every process means the same. */
function everyTicks(everyMs: number): Ticks {
  const next = (after: number) => (Math.floor(after / everyMs) + 1) * everyMs;
  return {
    next,
    last: (before, count) => Array.from({ length: count }, (_, index) => next(before - 1) - (count - index) * everyMs),
  };
}

/** When a tick is due: later by the jitter, which is the same for that tick in every process. */
export function dueAt({ id, jitterMs }: Pick<TickPlan, 'id' | 'jitterMs'>, tick: number): number {
  if (jitterMs === 0) return tick;
  const fraction = parseInt(hash('sha256', `${id}:${tick}`, 'hex').slice(0, 12), 16) / 16 ** 12;
  return tick + Math.floor(fraction * jitterMs);
}

/** The ticks that are due, from `next` on, and the one after them. */
export function dueTicks(plan: TickPlan, next: number, now: number): { due: DueTick[]; next: number } {
  const ticks = ticksOf(`Schedule '${plan.id}'`, plan);
  const inTimeFrom = now - MISSED_AFTER_MS - plan.jitterMs;
  const due = next < inTimeFrom ? madeUpFor(plan, ticks.last(inTimeFrom, MOST_MISSED), next) : [];
  let tick = next < inTimeFrom ? ticks.next(inTimeFrom - 1) : next;
  for (; due.length < MOST_DUE && dueAt(plan, tick) <= now; tick = ticks.next(tick))
    due.push({ time: tick, missed: false });
  return { due, next: tick };
}

function madeUpFor({ missed }: TickPlan, ticks: number[], from: number): DueTick[] {
  if (missed === 'skip') return [];
  if (missed === 'once') return [{ time: ticks.at(-1)!, missed: false }];
  return ticks.filter((time) => time >= from).map((time) => ({ time, missed: true }));
}

/** How it stands with the run that a schedule started last; `waiting`: it waits itself for the one before. */
export type LastRun = 'ended' | 'active' | 'waiting';

/** What a schedule does about its due ticks. */
export interface Firing {
  /** In their order; one that is `behind` begins when the run before it has ended. */
  starts: { time: number; behind: boolean }[];
  /** The run that was started last is cancelled. */
  cancelsLast: boolean;
}

/**
 * What ticks start. Missed ones that are all made up for run one after the other, unless they may overlap, or each would
 * cancel the one before.
 */
export function firingOf(overlap: Overlap, due: readonly DueTick[], last: LastRun): Firing {
  if (overlap === 'allow') return { starts: due.map(({ time }) => ({ time, behind: false })), cancelsLast: false };
  if (overlap === 'cancel')
    return { starts: due.slice(-1).map(({ time }) => ({ time, behind: false })), cancelsLast: last !== 'ended' };
  const starts: Firing['starts'] = [];
  let before = last;
  for (const { time, missed } of due) {
    if (before !== 'ended' && !missed && !(overlap === 'buffer' && before === 'active')) continue;
    const behind = before !== 'ended';
    starts.push({ time, behind });
    before = behind ? 'waiting' : 'active';
  }
  return { starts, cancelsLast: false };
}

/** The key of the run of a tick. */
export function tickKey(scheduleId: string, tick: number): string {
  return `schedule:${scheduleId}:${new Date(tick).toISOString()}`;
}
