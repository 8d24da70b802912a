import { OrchestrationError } from './errors.js';
import { type Duration, parseDuration, tryParseDuration } from './duration.js';
import { namesOf } from './stored-error.js';

/** How a step is tried again. Every field is optional; the defaults are those of {@link DEFAULT_RETRY}. */
export interface RetryOptions {
  /** Attempts in all, the first one included. */
  maxAttempts?: number;
  /** The pause after the first failed attempt. */
  initialInterval?: Duration;
  /** What each further pause is multiplied by. */
  backoffCoefficient?: number;
  /** The longest pause. */
  maxInterval?: Duration;
  /** The share of a pause that is random, 0 to 1: 0.2 spreads it by 20 % to either side. */
  jitter?: number;
}

export interface RetryPolicy {
  maxAttempts: number;
  initialIntervalMs: number;
  backoffCoefficient: number;
  maxIntervalMs: number;
  jitter: number;
}

const DEFAULT_RETRY = {
  maxAttempts: 3,
  initialInterval: '1s',
  backoffCoefficient: 2,
  maxInterval: '1m',
  jitter: 0.2,
} as const satisfies Required<RetryOptions>;

export function toRetryPolicy(options: RetryOptions = {}): RetryPolicy {
  const { initialInterval, maxInterval, ...rest } = withDefaults(options);
  return { ...rest, initialIntervalMs: parseDuration(initialInterval), maxIntervalMs: parseDuration(maxInterval) };
}

/** What is wrong with retry options, for the report at boot. */
export function retryProblems(options: RetryOptions): string[] {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    return [`retry must be an object, not ${JSON.stringify(options)}`];
  const { maxAttempts, initialInterval, backoffCoefficient, maxInterval, jitter, ...unknown } = withDefaults(options);
  const problems = Object.keys(unknown).map((option) => `unknown retry option '${option}'`);
  if (!Number.isInteger(maxAttempts) || maxAttempts < 1)
    problems.push(`retry.maxAttempts must be a whole number from 1, not ${maxAttempts}`);
  if (!(backoffCoefficient >= 1))
    problems.push(`retry.backoffCoefficient must be at least 1, not ${backoffCoefficient}`);
  if (!(jitter >= 0 && jitter <= 1)) problems.push(`retry.jitter must be between 0 and 1, not ${jitter}`);
  for (const [option, value] of Object.entries({ initialInterval, maxInterval })) {
    if (!((tryParseDuration(value) ?? -1) >= 0)) problems.push(`retry.${option} '${String(value)}' is no duration`);
  }
  return problems;
}

/** An option that is `undefined` is not given, as everywhere. */
function withDefaults(options: RetryOptions): Required<RetryOptions> {
  return {
    ...DEFAULT_RETRY,
    ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)),
  };
}

/** The pause before the attempt after number `attempt`, in ms. `random` is 0 to 1. */
export function backoffMs(policy: RetryPolicy, attempt: number, random: number): number {
  // After a thousand attempts the factor would be infinite, and an initial interval of 0 times that is no number.
  const factor = Math.min(policy.backoffCoefficient ** (attempt - 1), Number.MAX_VALUE);
  const pause = Math.min(policy.maxIntervalMs, policy.initialIntervalMs * factor);
  return Math.max(0, Math.round(pause * (1 + policy.jitter * (2 * random - 1))));
}

/** A class of errors, or the name of one. */
export type ErrorKind = string | (abstract new (...args: never[]) => Error);

const RETRYABLE_CLIENT_STATUS = new Set([408, 425, 429]);
const FINAL_CODES = new Set([
  'PAYLOAD',
  'VALIDATION',
  'CHILD_REF_CONFLICT',
  'DEPTH_LIMIT',
  'NOT_IN_RUN',
  'INSIDE_RUN',
  'NOT_IN_TRANSACTION',
  'INSIDE_STEP',
  'STEP_INTERRUPTED',
]);

/** Whether another attempt makes sense after this error: not for what says or shows that it would end the same way. */
export function isRetryable(error: unknown, nonRetryable: readonly ErrorKind[] = []): boolean {
  if (error instanceof OrchestrationError && FINAL_CODES.has(error.code)) return false;
  if (isFinalHttpError(error)) return false;
  const names = namesOf(error);
  // By name, so that a subclass may have a code of its own.
  if (names.has('NonRetryableError')) return false;
  return !nonRetryable.some((kind) => names.has(typeof kind === 'string' ? kind : kind.name));
}

/** A 4xx of Nest's HttpException, told by its methods: the class may come from another copy of @nestjs/common. */
function isFinalHttpError(error: unknown): boolean {
  const getStatus = (error as { getStatus?: unknown } | null | undefined)?.getStatus;
  if (typeof getStatus !== 'function') return false;
  const status: unknown = getStatus.call(error);
  return typeof status === 'number' && status >= 400 && status < 500 && !RETRYABLE_CLIENT_STATUS.has(status);
}
