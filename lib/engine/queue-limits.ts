import { type Duration, parseDuration, tryParseDuration } from './duration.js';
import { ValidationError } from './errors.js';

/** What may run of a queue, over the whole fleet unless it says otherwise. A parked run holds no slot. */
export interface QueueLimits {
  /** Runs executing at a time. */
  concurrency?: number;
  /** Runs executing at a time in one process. */
  concurrencyPerWorker?: number;
  /** Runs of one tenant executing at a time; slots go to the tenant that has the fewest. Runs without a tenant are not limited by it. */
  concurrencyPerTenant?: number;
  /** Runs that begin, in any stretch of that length. Going on after a wait does not count. */
  rateLimit?: { limit: number; per: Duration };
}

/** Limits as they are stored. */
export interface StoredLimits {
  concurrency?: number;
  concurrencyPerWorker?: number;
  concurrencyPerTenant?: number;
  rate?: { limit: number; perMs: number };
}

/** A queue as `orchestrator.queues.list()` shows it. */
export interface QueueState {
  name: string;
  paused: boolean;
  limits: QueueLimits;
  /** Runs that wait for a slot, or for their time. */
  pending: number;
  running: number;
  /** Since when the longest-waiting claimable run has been claimable. */
  oldestDueAt: Date | null;
}

const COUNTS = ['concurrency', 'concurrencyPerWorker', 'concurrencyPerTenant'] as const;
const OPTIONS = new Set<string>([...COUNTS, 'rateLimit'] satisfies (keyof QueueLimits)[]);

/** What is wrong with the limits of a queue. */
export function limitProblems(limits: QueueLimits): string[] {
  if (typeof limits !== 'object' || limits === null) return [`limits must be an object, not ${JSON.stringify(limits)}`];
  const problems = Object.keys(limits)
    .filter((option) => !OPTIONS.has(option))
    .map((option) => `unknown option '${option}' (known: ${[...OPTIONS].join(', ')})`);
  for (const option of COUNTS) {
    const value = limits[option];
    if (value !== undefined && !isCount(value))
      problems.push(`${option} must be a whole number from 1, not ${JSON.stringify(value)}`);
  }
  return [...problems, ...rateProblems('rateLimit', limits.rateLimit)];
}

/** What is wrong with so many in a stretch of time. */
export function rateProblems(name: string, rate: QueueLimits['rateLimit']): string[] {
  if (rate === undefined) return [];
  if (typeof rate !== 'object' || rate === null) return [`${name} must be { limit, per }, not ${JSON.stringify(rate)}`];
  const problems = isCount(rate.limit)
    ? []
    : [`${name}.limit must be a whole number from 1, not ${JSON.stringify(rate.limit)}`];
  if (!((tryParseDuration(rate.per) ?? 0) > 0))
    problems.push(`${name}.per '${String(rate.per)}' is no duration above zero`);
  return problems;
}

/** Throws {@link ValidationError}. */
export function toStoredLimits(queue: string, limits: QueueLimits): StoredLimits {
  const problems = limitProblems(limits);
  if (problems.length)
    throw new ValidationError(
      `The limits of queue '${queue}'`,
      problems.map((message) => ({ message })),
    );
  const { rateLimit, ...counts } = limits;
  const rate = rateLimit && { limit: rateLimit.limit, perMs: parseDuration(rateLimit.per) };
  return given({ ...counts, rate });
}

export function fromStoredLimits({ rate, ...counts }: StoredLimits): QueueLimits {
  return { ...counts, ...(rate && { rateLimit: { limit: rate.limit, per: rate.perMs } }) };
}

/** Of no limit nothing is stored: a queue without any must look like one that never had any. */
function given(limits: StoredLimits): StoredLimits {
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}

function isCount(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 1;
}
