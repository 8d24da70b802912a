import { types } from 'node:util';

/** The stored form of an error: what survives a process, a database and a version. Own fields stand beside these. */
export interface StoredError {
  name: string;
  code?: string | number | undefined;
  message: string;
  stack?: string | undefined;
  cause?: StoredError | undefined;
  /** The names of its classes beside `name`, so that {@link causedBy} finds a subclass by the class that it extends. */
  kinds?: unknown;
  /** What an AggregateError consists of. */
  errors?: unknown;
  [field: string]: unknown;
}

/** How many links of a cause chain are kept; what lies between is one link that counts it. */
const MAX_LINKS = 20;
const OWN_PLACES = new Set(['name', 'code', 'message', 'stack', 'cause', 'errors']);

/** The stored form of anything that was thrown, a string or `undefined` too. Never throws. */
export function toStoredError(thrown: unknown): StoredError {
  return toStoredTree(thrown, new Set());
}

/** `around`: the aggregates that it is a part of, so that one which contains itself has an end. */
function toStoredTree(thrown: unknown, around: ReadonlySet<unknown>): StoredError {
  const links = shorten(chainOf(thrown).map((link) => toLink(link, around)));
  for (let index = links.length - 2; index >= 0; index--) links[index]!.cause = links[index + 1];
  return links[0]!;
}

/** An Error with the name, code, message, stack, own fields and cause chain of its stored form. */
export function reviveError(stored: StoredError): Error {
  const { name, code, message, stack, cause, kinds, errors, ...fields } = stored;
  const error = new Error(message, cause ? { cause: reviveError(cause) } : undefined);
  Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true });
  if (stack !== undefined) Object.defineProperty(error, 'stack', { value: stack, configurable: true, writable: true });
  if (kinds !== undefined) Object.defineProperty(error, 'kinds', { value: kinds, configurable: true, writable: true });
  if (code !== undefined) fields['code'] = code;
  if (errors !== undefined) fields['errors'] = Array.isArray(errors) ? errors.map(revivePart) : errors;
  for (const [field, value] of Object.entries(fields)) {
    Object.defineProperty(error, field, { value, configurable: true, writable: true, enumerable: true });
  }
  return error;
}

/** Of an error's own list `errors` a part may be anything. */
function revivePart(part: unknown): unknown {
  return hasErrorShape(part) && !types.isNativeError(part) ? reviveError(part) : part;
}

/**
 * Whether the error, or anything in its cause chain and in the aggregates in it, is of that class or a subclass of it, or has
 * that name or code. Errors that went through the database have lost their classes and kept the names, so names are compared.
 *
 *     catch (error) { if (causedBy(error, PaymentDeclined)) ... }
 */
export function causedBy(error: unknown, kind: string | (abstract new (...args: never[]) => unknown)): boolean {
  const name = typeof kind === 'string' ? kind : kind.name;
  return isCausedBy(error, name, new Set());
}

function isCausedBy(error: unknown, name: string, seen: Set<unknown>): boolean {
  return chainOf(error).some((link) => {
    if (seen.has(link)) return false;
    seen.add(link);
    if (namesOf(link).has(name) || (link as { code?: unknown } | null)?.code === name) return true;
    return partsOf(link).some((part) => isCausedBy(part, name, seen));
  });
}

/** The innermost cause of an error: the error itself when it has none. */
export function rootCause(error: unknown): unknown {
  return chainOf(error).at(-1);
}

/** The class name of an error, for classes that set no `name` too. */
function nameOf(error: unknown): string {
  if (!types.isNativeError(error) && !hasErrorShape(error)) return 'NonError';
  const { name } = error;
  return name && name !== 'Error' ? name : (error.constructor?.name ?? 'Error');
}

/** The names of an error's classes: its own, and those it extends. */
export function namesOf(error: unknown): Set<string> {
  const names = new Set([nameOf(error)]);
  if (typeof error !== 'object' || error === null) return names;
  const { kinds } = error as { kinds?: unknown };
  if (Array.isArray(kinds)) for (const kind of kinds) names.add(String(kind));
  for (let type: unknown = Object.getPrototypeOf(error); type; type = Object.getPrototypeOf(type))
    names.add(String((type as { constructor?: { name?: unknown } }).constructor?.name));
  return names;
}

/** What {@link namesOf} cannot tell once the error is stored; most have nothing of the kind. */
function kindsOf(error: object): string[] {
  const name = nameOf(error);
  return [...namesOf(error)].filter((kind) => kind !== name && kind !== 'Error' && kind !== 'Object');
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

/** The errors of an AggregateError. Another error's own list `errors` may be anything, as validators have it. */
function partsOf(error: unknown): unknown[] {
  const errors = typeof error === 'object' && error !== null ? (error as { errors?: unknown }).errors : undefined;
  return Array.isArray(errors) && errors.every((part) => types.isNativeError(part)) ? errors : [];
}

function hasErrorShape(value: unknown): value is Error {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as Error).message === 'string' &&
    typeof (value as Error).name === 'string'
  );
}

function toLink(thrown: unknown, around: ReadonlySet<unknown>): StoredError {
  if (!types.isNativeError(thrown) && !hasErrorShape(thrown)) {
    return { name: 'NonError', message: describe(thrown), thrown: isStorable(thrown) ? thrown : describe(thrown) };
  }
  const error = thrown as Error & { code?: unknown; errors?: unknown };
  const link: StoredError = { name: nameOf(error), message: textOf(error.message) };
  if (error.code !== undefined) link.code = Number.isFinite(error.code) ? (error.code as number) : textOf(error.code);
  if (typeof error.stack === 'string') link.stack = error.stack;
  const kinds = kindsOf(error);
  if (kinds.length) link.kinds = kinds;
  for (const [field, value] of Object.entries(error)) {
    if (!OWN_PLACES.has(field) && isStorable(value)) link[field] = value;
  }
  const parts = around.has(error) ? [] : partsOf(error);
  if (parts.length) link.errors = shortenParts(parts, new Set([...around, error]));
  else if (error.errors !== undefined && isStorable(error.errors)) link.errors = error.errors;
  return link;
}

/** The first ones; of what is left out, one that counts it. Aggregates in aggregates share the room. */
function shortenParts(parts: unknown[], around: ReadonlySet<unknown>): StoredError[] {
  const room = Math.max(2, Math.floor(MAX_LINKS / around.size));
  if (parts.length <= room) return parts.map((part) => toStoredTree(part, around));
  const left = parts.length - room + 1;
  return [
    ...parts.slice(0, room - 1).map((part) => toStoredTree(part, around)),
    { name: 'OmittedErrors', message: `${left} errors were left out here`, count: left },
  ];
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

/** JSON would leave functions out in silence, and the payload's encoding refuses them; bigints it keeps. */
function refuseCode(key: string, value: unknown): unknown {
  if (typeof value === 'function' || typeof value === 'symbol' || types.isPromise(value))
    throw new TypeError(`${key} is code`);
  return typeof value === 'bigint' ? String(value) : value;
}

/** Own fields are kept when they are plain, small data; sockets and request objects are not. */
function isStorable(value: unknown): boolean {
  if (value === null || value === undefined) return true;
  if (typeof value === 'function' || typeof value === 'symbol') return false;
  if (typeof value !== 'object') return true;
  try {
    return JSON.stringify(value, refuseCode).length <= 16_384;
  } catch {
    return false;
  }
}
