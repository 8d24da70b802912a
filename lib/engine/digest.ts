import { hash } from 'node:crypto';
import { types } from 'node:util';

/**
 * A digest of a value by structure: the same for equal data in every process and Node version, whatever the order of its
 * keys. What cannot be stored (functions, instances without data) counts by its kind, so arguments of any sort have one.
 */
export function digestOf(value: unknown): string {
  return hash('sha256', canonical(value, []), 'base64url').slice(0, 22);
}

function canonical(value: unknown, ancestors: object[]): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value);
    case 'number':
      return Object.is(value, -0) ? '0' : String(value);
    case 'bigint':
      return `${value}n`;
    case 'function':
      return 'function';
    case 'object':
      return value === null ? 'null' : canonicalObject(value, ancestors);
    default:
      return typeof value === 'symbol' ? 'symbol' : String(value);
  }
}

function canonicalObject(value: object, ancestors: object[]): string {
  const special = isOrdinary(value) ? undefined : canonicalSpecial(value, ancestors);
  if (special !== undefined) return special;
  if (ancestors.includes(value)) return 'cycle';
  ancestors.push(value);
  const text = canonicalContent(value, ancestors);
  ancestors.pop();
  return text;
}

/** What most values are, told at once. */
function isOrdinary(value: object): boolean {
  return Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
}

function canonicalSpecial(value: object, ancestors: object[]): string | undefined {
  if (types.isDate(value)) return `date(${value.getTime()})`;
  if (types.isNativeError(value))
    return `error(${canonical([value.name, value.message, (value as { code?: unknown }).code], ancestors)})`;
  if (ArrayBuffer.isView(value))
    return `bytes(${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64')})`;
  if (types.isAnyArrayBuffer(value)) return `bytes(${Buffer.from(value).toString('base64')})`;
  if (types.isRegExp(value)) return `regexp(${String(value)})`;
  return value instanceof AbortSignal ? 'signal' : undefined;
}

function canonicalContent(value: object, ancestors: object[]): string {
  const each = (items: readonly unknown[]) => {
    let text = '';
    for (let index = 0; index < items.length; index++)
      text += (index === 0 ? '' : ',') + canonical(items[index], ancestors);
    return text;
  };
  if (Array.isArray(value)) return `[${each(value)}]`;
  if (types.isMap(value))
    return `map[${Array.from(value, (entry) => each(entry))
      .sort()
      .join(';')}]`;
  if (types.isSet(value))
    return `set[${Array.from(value, (item) => canonical(item, ancestors))
      .sort()
      .join(',')}]`;
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function')
    return canonical((value as { toJSON(): unknown }).toJSON(), ancestors);
  const fields = value as Record<string, unknown>;
  const parts = Object.keys(fields)
    .sort()
    .filter((key) => fields[key] !== undefined)
    .map((key) => `${JSON.stringify(key)}:${canonical(fields[key], ancestors)}`);
  return `{${parts.join(',')}}`;
}
