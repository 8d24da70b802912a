import { InvalidArgumentError } from 'commander';
import { type Duration, tryParseDuration } from '../engine/duration.js';
import { type Attributes, RUN_STATUSES, type RunStatus } from '../engine/run.js';

/** Readers of arguments, for Commander: each says what is wrong with a text. */

export function toCount(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a whole number.');
}

export function toInteger(text: string): number {
  if (/^-?\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a whole number.');
}

export function toDuration(text: string): Duration {
  if (tryParseDuration(text) !== undefined) return text as Duration;
  throw new InvalidArgumentError("It must be a length of time, such as '30s', '5m' or '2d'.");
}

export function toDurationMs(text: string): number {
  return tryParseDuration(toDuration(text))!;
}

/** A point in time. A length of time counts back from now. */
export function toPastTime(text: string): Date {
  const ms = tryParseDuration(text);
  return ms === undefined ? toTime(text) : new Date(Date.now() - ms);
}

export function toTime(text: string): Date {
  const time = new Date(text);
  if (!Number.isNaN(time.getTime())) return time;
  throw new InvalidArgumentError("It must be a time, such as '2026-11-20T14:00:00Z'.");
}

export function toStatuses(text: string, before: RunStatus[] = []): RunStatus[] {
  const statuses = text.split(',') as RunStatus[];
  const wrong = statuses.find((status) => !RUN_STATUSES.includes(status));
  if (wrong === undefined) return [...before, ...statuses];
  throw new InvalidArgumentError(`A status is one of ${RUN_STATUSES.join(', ')}.`);
}

/** `name` or `name@version`. */
export function toWorkflow(text: string): { workflow: string; version?: number } {
  const match = /^(.+)@(\d+)$/.exec(text);
  return match ? { workflow: match[1]!, version: Number(match[2]) } : { workflow: text };
}

/** `name=value`, where the value is JSON or else a text. */
export function toAttributes(text: string, before: Attributes = {}): Attributes {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('It must be name=value.');
  const value = text.slice(at + 1);
  return {
    ...before,
    [text.slice(0, at)]: /^(true|false|null|-?\d+(\.\d+)?)$/.test(value) ? (JSON.parse(value) as number) : value,
  };
}

export function toJsonValue(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new InvalidArgumentError('It must be JSON: a text needs its quotes, \'"like this"\'.');
  }
}
