import { types } from 'node:util';

/** The stored form of an error: what survives a process, a database and a version. Own fields stand beside these. */
export interface StoredError {
  name: string;
  code?: string | undefined;
  message: string;
  stack?: string | undefined;
  cause?: StoredError | undefined;
  [field: string]: unknown;
}

/** How many links of a cause chain are kept; what lies between is one link that counts it. */
const MAX_LINKS = 20;
const OWN_PLACES = new Set(['name', 'code', 'message', 'stack', 'cause']);

/** The stored form of anything that was thrown, a string or `undefined` too. Never throws. */
export function toStoredError(thrown: unknown): StoredError {
  const links = shorten(chainOf(thrown).map(toLink));
  for (let index = links.length - 2; index >= 0; index--) links[index]!.cause = links[index + 1];
  return links[0]!;
}

/** An Error with the name, code, message, stack, own fields and cause chain of its stored form. */
export function reviveError(stored: StoredError): Error {
  const { name, code, message, stack, cause, ...fields } = stored;
  const error = new Error(message, cause ? { cause: reviveError(cause) } : undefined);
  Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true });
  if (stack !== undefined) Object.defineProperty(error, 'stack', { value: stack, configurable: true, writable: true });
  if (code !== undefined) fields['code'] = code;
  for (const [field, value] of Object.entries(fields)) {
    Object.defineProperty(error, field, { value, configurable: true, writable: true, enumerable: true });
  }
  return error;
}

/**
 * Whether the error, or anything in its cause chain, is of that class or name. Errors that went through the database
 * have lost their class and kept its name, so names are compared.
 *
 *     catch (error) { if (causedBy(error, PaymentDeclined)) ... }
 */
export function causedBy(error: unknown, kind: string | (abstract new (...args: never[]) => unknown)): boolean {
  const name = typeof kind === 'string' ? kind : kind.name;
  return chainOf(error).some((link) => nameOf(link) === name || (link as { code?: unknown } | null)?.code === name);
}

/** The innermost cause of an error: the error itself when it has none. */
export function rootCause(error: unknown): unknown {
  return chainOf(error).at(-1);
}

/** The class name of an error, for classes that set no `name` too. */
export function nameOf(error: unknown): string {
  if (!types.isNativeError(error) && !hasErrorShape(error)) return 'NonError';
  const { name } = error;
  return name && name !== 'Error' ? name : (error.constructor?.name ?? 'Error');
}

function chainOf(error: unknown): unknown[] {
  const chain: unknown[] = [error];
  const seen = new Set<unknown>(chain);
  for (let link = causeOf(error); link !== undefined && !seen.has(link); link = causeOf(link)) {
    chain.push(link);
    seen.add(link);
  }
  return chain;
}

function causeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null ? (error as { cause?: unknown }).cause : undefined;
}

function hasErrorShape(value: unknown): value is Error {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as Error).message === 'string' &&
    typeof (value as Error).name === 'string'
  );
}

function toLink(thrown: unknown): StoredError {
  if (!types.isNativeError(thrown) && !hasErrorShape(thrown)) {
    return { name: 'NonError', message: describe(thrown), thrown: isStorable(thrown) ? thrown : describe(thrown) };
  }
  const error = thrown as Error & { code?: unknown };
  const link: StoredError = { name: nameOf(error), message: textOf(error.message) };
  if (error.code !== undefined) link.code = textOf(error.code);
  if (typeof error.stack === 'string') link.stack = error.stack;
  for (const [field, value] of Object.entries(error)) {
    if (!OWN_PLACES.has(field) && isStorable(value)) link[field] = value;
  }
  return link;
}

function shorten(links: StoredError[]): StoredError[] {
  if (links.length <= MAX_LINKS) return links;
  const left = links.length - MAX_LINKS + 1;
  return [
    ...links.slice(0, MAX_LINKS - 2),
    { name: 'OmittedCauses', message: `${left} causes were left out here`, count: left },
    links.at(-1)!,
  ];
}

/** Messages and codes are texts by their types only. */
function textOf(value: unknown): string {
  return typeof value === 'string' ? value : describe(value);
}

function describe(value: unknown): string {
  try {
    return typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  } catch {
    return Object.prototype.toString.call(value);
  }
}

/** JSON would leave functions out in silence, and the payload's encoding refuses them. */
function refuseCode(key: string, value: unknown): unknown {
  if (typeof value === 'function' || typeof value === 'symbol' || types.isPromise(value))
    throw new TypeError(`${key} is code`);
  return value;
}

/** Own fields are kept when they are plain, small data; sockets and request objects are not. */
function isStorable(value: unknown): boolean {
  if (value === null || value === undefined) return true;
  if (typeof value === 'function' || typeof value === 'symbol' || typeof value === 'bigint') return false;
  if (typeof value !== 'object') return true;
  try {
    return JSON.stringify(value, refuseCode).length <= 16_384;
  } catch {
    return false;
  }
}
