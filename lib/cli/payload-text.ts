import { inspect, types } from 'node:util';
import { UnreadablePayloadError } from '../engine/errors.js';
import { type StoredError, toStoredError } from '../engine/stored-error.js';

/** JSON of anything that a payload may be. What JSON has no form for gets the nearest one. */
export function toJson(data: unknown): string {
  return JSON.stringify(data, asJson, 2) ?? 'null';
}

/** `this` holds the value before its `toJSON`: a Buffer is still one. */
function asJson(this: unknown, key: string, value: unknown): unknown {
  const original = (this as Record<string, unknown>)[key];
  if (Buffer.isBuffer(original)) return original.toString('base64');
  if (typeof original === 'bigint') return original.toString();
  if (types.isMap(original)) return [...original];
  if (types.isSet(original)) return [...original];
  if (original instanceof UnreadablePayloadError) return { unreadable: original.problem };
  if (types.isNativeError(original)) return toStoredError(original);
  return value;
}

/** A payload for people, at most so many lines of so many columns. */
export function describePayload(value: unknown, { columns, lines }: { columns: number; lines: number }): string {
  if (value instanceof UnreadablePayloadError) return unreadable(value.problem);
  const text = inspect(value, {
    ...{ depth: 8, breakLength: Math.min(columns, 120), maxStringLength: 10_000 },
    maxArrayLength: lines === Infinity ? null : 100,
  });
  const all = text.split('\n');
  if (all.length <= lines) return text;
  return [...all.slice(0, lines), `… ${all.length - lines} more lines (--full)`].join('\n');
}

/** A payload on one line. */
export function summarisePayload(value: unknown): string {
  if (value === undefined) return '';
  if (value instanceof UnreadablePayloadError) return unreadable(value.problem);
  return inspect(value, { depth: 3, breakLength: Infinity, compact: true, maxArrayLength: 20, maxStringLength: 200 });
}

export function summariseError(error: StoredError): string {
  if (error.code === 'PAYLOAD_UNREADABLE') return unreadable(String(error['problem']));
  return `${error.name}: ${error.message.split('\n')[0]}`;
}

/** An error with its causes, a line each. */
export function describeError(error: StoredError): string {
  const chain: string[] = [];
  for (let link: StoredError | undefined = error; link; link = link.cause) chain.push(summariseError(link));
  return chain.join('\ncaused by ');
}

function unreadable(problem: string): string {
  return problem.includes('codec') ? '(encrypted)' : `(unreadable: ${problem})`;
}
