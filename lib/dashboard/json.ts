import { types } from 'node:util';
import { toStoredError } from '../engine/stored-error.js';

/**
 * A value as JSON, whatever payloads may have in them: a bigint and a number that JSON lacks are texts, a Date is in ISO, bytes
 * are in base64, a Set is a list, a Map is a list of pairs, an Error is its stored form.
 */
export function toJson(value: unknown): string {
  return JSON.stringify(plain(value));
}

/** Payloads are bounded in their depth, and have no cycles. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  if (typeof value !== 'object' || value === null || types.isDate(value)) return value;
  if (ArrayBuffer.isView(value))
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
  if (types.isNativeError(value)) return plain(toStoredError(value));
  if (Array.isArray(value) || types.isSet(value) || types.isMap(value))
    return Array.from(value as Iterable<unknown>, plain);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}
