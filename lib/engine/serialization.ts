import * as devalue from 'devalue';
import { types } from 'node:util';
import { PayloadError, UnreadablePayloadError } from './errors.js';
import { LongTexts } from './long-texts.js';
import type { PayloadCodec } from './payload-codec.js';
import { reviveError, toStoredError, type StoredError } from './stored-error.js';

/*
 * Payloads are text. Plain JSON values are stored as JSON, which is the fast path and readable in psql; what JSON would
 * lose (Date, bigint, Map, Set, undefined, NaN, Error, Buffer) is encoded by devalue behind a '~'. `undefined` itself is
 * SQL null. What went through a codec stands behind a '!', so that what was stored before there was one stays readable.
 * Types are told by util.types and tags, never by instanceof: values cross realms in test runners.
 */
const TYPED = '~';
const CODED = '!';
const LONGEST_CUT_MESSAGE = 10_000;
/** An error that a codec did not encode is not told in plain either. */
const UNTOLD = JSON.stringify({
  name: 'PayloadError',
  code: 'PAYLOAD',
  message: 'An error was thrown here, and the payload codec failed to encode it.',
});
/** How paths in messages begin. */
const ROOT = 'value';

/** Turns values into what the database stores, and back. Bounded by `maxBytes`, which counts what the codec is given. */
export class PayloadSerializer {
  private readonly longTexts = new LongTexts();

  constructor(
    private readonly maxBytes: number,
    private readonly codec?: PayloadCodec,
  ) {}

  /** The stored text of a value. Throws {@link PayloadError} naming `what`, the path and the problem. */
  encode(value: unknown, what: string): string | null {
    if (value === undefined) return null;
    const known = this.longTexts.storedOf(value);
    if (known !== undefined) return known;
    const text = toText(value, what);
    const bytes = Buffer.byteLength(text);
    if (bytes > this.maxBytes) {
      throw new PayloadError(what, this.largestPath(value, what), `${bytes} bytes (the limit is ${this.maxBytes})`, {
        bytes,
      });
    }
    if (this.codec) return this.coded(text, what);
    this.longTexts.add(value, text);
    return text;
  }

  private coded(text: string, what: string): string {
    let stored: unknown;
    try {
      stored = this.codec!.encode(text);
    } catch (cause) {
      throw new PayloadError(what, ROOT, `the payload codec failed (${describe(cause)})`, {
        cause,
        advice: 'See what its method encode throws.',
      });
    }
    if (typeof stored === 'string' && stored.isWellFormed() && !stored.includes('\0')) return CODED + stored;
    throw new PayloadError(what, ROOT, 'the payload codec gave something that is no text without NUL', {
      advice: 'Return base64 from its method encode.',
    });
  }

  /** The innermost member that is too large all by itself, which is what to store elsewhere. */
  private largestPath(value: unknown, what: string, path = ROOT): string {
    if (!isObject(value) || isLeaf(value)) return path;
    for (const [key, member] of Object.entries(value)) {
      const isTooLarge = member !== undefined && Buffer.byteLength(toText(member, what)) > this.maxBytes;
      if (isTooLarge)
        return this.largestPath(member, what, Array.isArray(value) ? `${path}[${key}]` : `${path}.${key}`);
    }
    return path;
  }

  /** The value of a stored text. Throws {@link UnreadablePayloadError}. */
  decode(text: string | null): unknown {
    if (text === null) return undefined;
    const known = this.longTexts.valueOf(text);
    if (known !== undefined) return known;
    try {
      const plain = isCoded(text) ? this.decoded(text.slice(CODED.length)) : text;
      return fromText(plain);
    } catch (cause) {
      if (cause instanceof UnreadablePayloadError) throw cause;
      throw new UnreadablePayloadError(describe(cause), { cause, advice: 'Restore the row from a backup' });
    }
  }

  private decoded(stored: string): string {
    if (this.codec) return this.codec.decode(stored);
    throw new UnreadablePayloadError('it was written through a payload codec, and this process has none', {
      advice: 'Give OrchestrationModule.forRoot the payload.codec of the processes that write',
    });
  }

  /** The stored text of anything that was thrown. Never throws: what does not fit is cut down to its message. */
  encodeError(thrown: unknown): string {
    const stored = toStoredError(thrown);
    try {
      return this.encode(stored, 'error')!;
    } catch {
      return this.encodeCutDown(stored);
    }
  }

  private encodeCutDown({ name, code, message }: StoredError): string {
    const text = JSON.stringify({ name, code, message: message.slice(0, LONGEST_CUT_MESSAGE) });
    try {
      return this.codec ? this.coded(text, 'error') : text;
    } catch {
      return UNTOLD;
    }
  }

  /** The stored error of a text, as data. Throws {@link UnreadablePayloadError}. */
  decodeError(text: string | null): StoredError {
    return (this.decode(text) ?? { name: 'Error', message: 'unknown' }) as StoredError;
  }

  /** The value for people to look at: in place of one that cannot be read stands the error that says why. */
  show(text: string | null): unknown {
    try {
      return this.decode(text);
    } catch (error) {
      return error;
    }
  }

  showError(text: string | null): StoredError {
    try {
      return this.decodeError(text);
    } catch (error) {
      return toStoredError(error);
    }
  }

  /** The stored form of a digest: the digest of a payload that can be guessed would tell the payload. */
  sealDigest(digest: string): string {
    return this.codec?.digest?.(digest) ?? digest;
  }

  /** Whether a stored digest, which may be older than the codec, is that of the same value. */
  isDigest(stored: string, digest: string): boolean {
    return stored === digest || stored === this.sealDigest(digest);
  }
}

/** Whether a stored payload, or its beginning, went through a codec. */
export function isCoded(text: string): boolean {
  return text.startsWith(CODED);
}

function toText(value: unknown, what: string): string {
  return isPlainScalar(value) || isPlain(value, what)
    ? JSON.stringify(value)
    : TYPED + devalue.stringify(value, REDUCERS);
}

/** The value as it would come back from the database. Throws {@link PayloadError}. */
export function copyOf(value: unknown, what: string): unknown {
  return typeof value === 'object' && value !== null ? fromText(toText(value, what)) : value;
}

function fromText(text: string): unknown {
  return text.startsWith(TYPED) ? devalue.parse(text.slice(1), REVIVERS) : (JSON.parse(text) as unknown);
}

/** Whether it is a text, a truth, null, or a number that JSON has; told without a walk, for many results are no more. */
function isPlainScalar(value: unknown): boolean {
  if (typeof value === 'number') return Number.isFinite(value) && !Object.is(value, -0);
  return typeof value === 'string' || typeof value === 'boolean' || value === null;
}

/** Whether JSON keeps the value as it is. Throws {@link PayloadError} for what no encoding can keep. */
function isPlain(root: unknown, what: string): boolean {
  let plain = true;
  const ancestors: object[] = [];
  /** The keys and indexes on the way to where it is; made to a path only for a message. */
  const trail: (string | number)[] = [];
  const refuse = (problem: string): never => {
    throw new PayloadError(what, pathOf(trail), problem);
  };
  const visit = (value: unknown): void => {
    switch (typeof value) {
      case 'function':
        return refuse(`a function${value.name ? ` (${value.name})` : ''}`);
      case 'symbol':
        return refuse('a symbol');
      case 'object':
        return value === null ? undefined : visitObject(value);
      default:
        plain &&= isPlainScalar(value);
    }
  };
  const visitAt = (segment: string | number, value: unknown): void => {
    trail.push(segment);
    visit(value);
    trail.pop();
  };
  const visitObject = (value: object): void => {
    if (ancestors.includes(value)) refuse('a cycle');
    if (ancestors.length > 500) refuse('more than 500 levels of nesting');
    ancestors.push(value);
    if (Array.isArray(value)) {
      for (let index = 0; index < value.length; index++) visitAt(index, value[index]);
    } else if (isLiteral(value)) {
      visitMembers(value);
    } else if (isLeaf(value)) {
      plain = false;
    } else if (types.isMap(value)) {
      plain = false;
      for (const [key, item] of value) {
        visitAt('<key>', key);
        visitAt(`<${String(key)}>`, item);
      }
    } else if (types.isSet(value)) {
      plain = false;
      for (const item of value) visitAt('<item>', item);
    } else if (types.isPromise(value)) {
      refuse('a Promise (an await is missing)');
    } else if (hasHiddenContent(value)) {
      refuse(`a ${Object.prototype.toString.call(value).slice(8, -1)} (what is in it would be lost)`);
    } else {
      visitMembers(value);
    }
    ancestors.pop();
  };
  const visitMembers = (value: object): void => {
    if (hasToJson(value)) return;
    for (const key of Object.keys(value)) visitAt(key, (value as Record<string, unknown>)[key]);
  };
  visit(root);
  return plain;
}

function pathOf(trail: readonly (string | number)[]): string {
  return ROOT + trail.map((segment) => (typeof segment === 'number' ? `[${segment}]` : `.${segment}`)).join('');
}

/** What most members are, told at once; an object of another realm is looked at more closely. */
function isLiteral(value: object): boolean {
  return Object.getPrototypeOf(value) === Object.prototype;
}

/** Objects that are encoded whole. */
function isLeaf(value: object): boolean {
  return (
    types.isDate(value) ||
    types.isNativeError(value) ||
    types.isRegExp(value) ||
    ArrayBuffer.isView(value) ||
    types.isAnyArrayBuffer(value) ||
    value instanceof URL
  );
}

/** What would come back as an empty object. */
function hasHiddenContent(value: object): boolean {
  const isIterator = 'next' in value && (Symbol.iterator in value || Symbol.asyncIterator in value);
  return isIterator || types.isWeakMap(value) || types.isWeakSet(value);
}

function hasToJson(value: object): boolean {
  return typeof (value as { toJSON?: unknown }).toJSON === 'function';
}

function isPojo(value: unknown): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function describe(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

const REDUCERS = {
  Error: (value: unknown) => types.isNativeError(value) && toStoredError(value),
  Buffer: (value: unknown) => isObject(value) && Buffer.isBuffer(value) && value.toString('base64'),
  /** An own `__proto__` key, which devalue refuses, and instances of classes, which are kept as their own data. */
  Data: (value: unknown) => {
    if (!isObject(value) || Array.isArray(value) || isLeaf(value) || types.isMap(value) || types.isSet(value))
      return false;
    if (hasToJson(value)) return [(value as { toJSON(): unknown }).toJSON()];
    return (!isPojo(value) || Object.hasOwn(value, '__proto__')) && Object.entries(value).flat();
  },
};

const REVIVERS = {
  Error: (stored: StoredError) => reviveError(stored),
  Buffer: (base64: string) => Buffer.from(base64, 'base64'),
  Data: (parts: unknown[]) => {
    if (parts.length === 1) return parts[0];
    const data = {};
    for (let index = 0; index < parts.length; index += 2) {
      Object.defineProperty(data, parts[index] as string, {
        value: parts[index + 1],
        configurable: true,
        enumerable: true,
        writable: true,
      });
    }
    return data;
  },
};

/**
 * PostgreSQL's text holds neither NUL nor lone surrogates; names, keys and labels may. Both are escaped with a backslash,
 * so that two different names stay different and come back as they were.
 */
export function toSqlText(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.isWellFormed() && !/[\0\\]/.test(text)
    ? text
    : text.replace(/[\0\\]|[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, (unit) =>
        unit === '\\' ? '\\\\' : `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
      );
}

/** The name that {@link toSqlText} stored. */
export function fromSqlText(text: string): string {
  return text.includes('\\')
    ? text.replace(/\\(?:\\|u([0-9a-f]{4}))/g, (_, hex: string | undefined) =>
        hex ? String.fromCharCode(parseInt(hex, 16)) : '\\',
      )
    : text;
}
