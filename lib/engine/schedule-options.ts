import type { CronOptions } from './cron.js';
import type { FlowClass, InputOf, WorkflowClass } from './definition.js';
import { type Duration, tryParseDuration } from './duration.js';
import { ValidationError } from './errors.js';
import { type Missed, type Overlap, ticksOf, type Timing } from './schedule.js';

type Problem = { message: string; path: string[] };

/** When a schedule starts runs: by a cron expression, or at all multiples of a length of time since the epoch. */
export type ScheduleTiming =
  | ({
      /** 5 fields, or 6 with the seconds first. */
      cron: string;
      every?: never;
    } & CronOptions)
  | {
      /** At least 1 s. */
      every: Duration;
      cron?: never;
      timeZone?: never;
    };

/** How a schedule starts its runs. */
export interface ScheduleRules {
  /**
   * What becomes of a tick while the run before it is active. `'skip'` (default): nothing. `'allow'`: it starts. `'cancel'`: it
   * starts, and the run before it is cancelled. `'buffer'`: it begins when the run before it has ended; further ticks until
   * then are skipped.
   */
  overlap?: Overlap;
  /**
   * What becomes of ticks that nobody could start within a minute. `'skip'`: nothing. `'once'` (default): the last of them
   * starts. `'all'`: all of them start, at most the last 100, one after the other unless `overlap` is `'allow'`.
   */
  missed?: Missed;
  /** Each tick is late by a length of time below this one, the same for that tick in every process. Default 0. */
  jitter?: Duration;
}

/** A schedule as `@Workflow` declares it. */
export type DeclaredSchedule = ScheduleTiming &
  ScheduleRules & {
    /** Unique among all schedules. Default: the name of the workflow. */
    id?: string;
    /** The input of its runs. */
    input?: unknown;
  };

/** A schedule as `orchestrator.schedules.upsert` takes it. */
export type ScheduleOptions<W extends WorkflowClass | FlowClass | string = string> = ScheduleTiming &
  ScheduleRules & {
    workflow: W;
  } & (W extends WorkflowClass
    ? undefined extends InputOf<W>
      ? { input?: InputOf<W> }
      : { input: InputOf<W> }
    : { input?: unknown });

const RULES = ['input', 'cron', 'every', 'timeZone', 'overlap', 'missed', 'jitter'];
const DECLARED = new Set([...RULES, 'id']);
const GIVEN = new Set([...RULES, 'workflow']);
const SHORTEST_EVERY_MS = 1_000;
const LONGEST_JITTER_MS = 86_400_000;

const OVERLAPS: readonly unknown[] = ['skip', 'allow', 'cancel', 'buffer'] satisfies Overlap[];
const MISSED: readonly unknown[] = ['skip', 'once', 'all'] satisfies Missed[];

/** Throws {@link ValidationError} with all that is wrong. */
export function checkSchedule(id: unknown, options: ScheduleOptions): void {
  const issues = [...idProblems(id), ...optionProblems(options, GIVEN)];
  if (issues.length) throw new ValidationError(`Schedule '${String(id)}'`, issues);
}

/** What is wrong with a declared schedule, for the report at boot. */
export function declaredProblems(schedule: DeclaredSchedule): string[] {
  if (typeof schedule !== 'object' || schedule === null)
    return [`it must be an object, not ${JSON.stringify(schedule)}`];
  const issues = [...(schedule.id === undefined ? [] : idProblems(schedule.id)), ...optionProblems(schedule, DECLARED)];
  return issues.map(({ message }) => message);
}

function idProblems(id: unknown): Problem[] {
  if (typeof id === 'string' && id !== '') return [];
  return [{ message: `its id must be a text that is not empty, not ${JSON.stringify(id)}`, path: ['id'] }];
}

function optionProblems(options: ScheduleTiming & ScheduleRules, known: ReadonlySet<string>): Problem[] {
  const issues: Problem[] = Object.keys(options)
    .filter((option) => !known.has(option))
    .map((option) => ({ message: `unknown option '${option}' (known: ${[...known].join(', ')})`, path: [option] }));
  const refuse = (path: string, message: string) => issues.push({ message: `${path} ${message}`, path: [path] });
  const { overlap, missed, jitter } = options;
  if (overlap !== undefined && !OVERLAPS.includes(overlap))
    refuse('overlap', `must be one of ${OVERLAPS.join(', ')}, not ${JSON.stringify(overlap)}`);
  if (missed !== undefined && !MISSED.includes(missed))
    refuse('missed', `must be one of ${MISSED.join(', ')}, not ${JSON.stringify(missed)}`);
  if (jitter !== undefined && !isBetween(tryParseDuration(jitter), 0, LONGEST_JITTER_MS))
    refuse('jitter', `'${String(jitter)}' must be a duration of at most a day`);
  return [...issues, ...timingProblems(options)];
}

function timingProblems(timing: ScheduleTiming): Problem[] {
  const { cron, every, timeZone } = timing as { cron: unknown; every: unknown; timeZone: unknown };
  if ((cron === undefined) === (every === undefined))
    return [{ message: 'give either cron or every', path: [cron === undefined ? 'cron' : 'every'] }];
  if (every === undefined) return issuesOf(() => ticksOf('cron', toTiming(timing)));
  if (timeZone !== undefined)
    return [{ message: 'timeZone goes with cron: every is aligned to the epoch', path: ['timeZone'] }];
  if (isBetween(tryParseDuration(every), SHORTEST_EVERY_MS, Number.MAX_SAFE_INTEGER)) return [];
  return [{ message: `every ${JSON.stringify(every)} must be a duration of at least 1s`, path: ['every'] }];
}

function isBetween(value: number | undefined, least: number, most: number): boolean {
  return value !== undefined && value >= least && value <= most;
}

function issuesOf(read: () => unknown): Problem[] {
  try {
    read();
    return [];
  } catch (error) {
    if (error instanceof ValidationError) return error.issues as Problem[];
    throw error;
  }
}

/** The timing of options that are checked. */
export function toTiming({ cron, every, timeZone }: ScheduleTiming): Timing {
  return {
    cron: cron?.trim() ?? null,
    everyMs: every === undefined ? null : tryParseDuration(every)!,
    timeZone: timeZone ?? 'UTC',
  };
}
