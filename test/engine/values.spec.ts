import { BadRequestException, HttpException, InternalServerErrorException, NotFoundException } from '@nestjs/common';

import { digestOf } from '../../lib/engine/digest.js';
import { parseDuration, tryParseDuration, type Duration } from '../../lib/engine/duration.js';
import { NonRetryableError, PayloadError, StepTimeoutError, ValidationError } from '../../lib/engine/errors.js';
import { backoffMs, isRetryable, retryProblems, toRetryPolicy } from '../../lib/engine/retry-policy.js';
import { fromSqlText, PayloadSerializer, toSqlText } from '../../lib/engine/serialization.js';
import { causedBy, reviveError, rootCause, toStoredError, type StoredError } from '../../lib/engine/stored-error.js';

const NASTY_TEXTS = [
  '',
  '~',
  "'; drop table run; --",
  '"quoted" \\ back',
  'nul \u0000 inside',
  '\u0000',
  '\\u0000',
  'lone \ud800 high',
  '\udc00 low first',
  'pair \u{1f600}',
  '\u2028\u2029',
  '__proto__',
];

class Money {
  constructor(
    readonly amount: bigint,
    readonly at: Date,
  ) {}
}

describe('a payload', () => {
  const serializer = new PayloadSerializer(2 * 1024 * 1024);
  const roundTrip = (value: unknown): unknown => serializer.decode(serializer.encode(value, 'a value'));

  it.each([
    ['undefined', undefined],
    ['null', null],
    ['zero', 0],
    ['minus zero', -0],
    ['NaN', NaN],
    ['an infinity', -Infinity],
    ['an empty text', ''],
    ['false', false],
    ['a bigint beyond the safe integers', 2n ** 80n],
    ['a Date', new Date('2024-02-29T12:34:56.789Z')],
    [
      'a Map with keys that are no texts',
      new Map<unknown, unknown>([
        [{ id: 1 }, new Set([1n])],
        [null, undefined],
      ]),
    ],
    ['a Set', new Set([1, '1', undefined])],
    ['nested values of many types', { a: [undefined, { b: new Date(0), c: 1n }], d: undefined, e: [-0, NaN] }],
    ['a typed array', new Uint16Array([1, 65535])],
    ['an empty object', {}],
    ['an empty list', []],
  ])('keeps %s', (_, value) => {
    expect(roundTrip(value)).toStrictEqual(value);
  });

  it('keeps long texts, the one that was encoded last as well as those before', () => {
    const texts = ['a', 'b'].map((letter) => letter.repeat(2_000) + '"\n\ud800');
    const stored = texts.map((text) => serializer.encode(text, 'a text'));

    expect(stored).toEqual(texts.map((text) => JSON.stringify(text)));
    expect([...stored, ...stored.toReversed()].map((text) => serializer.decode(text))).toEqual([
      ...texts,
      ...texts.toReversed(),
    ]);
    expect(serializer.encode(texts[1], 'a text')).toBe(stored[1]);
  });

  it.each(NASTY_TEXTS)('keeps the text %j, as a value and as a key, in both encodings', (text) => {
    const plain = Object.fromEntries([[text, text]]);

    expect(roundTrip(text)).toBe(text);
    expect(roundTrip(plain)).toStrictEqual(plain);
    expect(roundTrip([1n, plain])).toStrictEqual([1n, plain]);
  });

  it('keeps own __proto__ and constructor keys as data, and touches no prototype', () => {
    const hostile: unknown = JSON.parse(
      '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}',
    );

    for (const value of [hostile, { hostile, typed: 1n }, [new Date(0), [hostile]]]) {
      expect(JSON.stringify(roundTrip(value), withoutBigints)).toBe(JSON.stringify(value, withoutBigints));
    }
    expect(Object.hasOwn(roundTrip(hostile) as object, '__proto__')).toBe(true);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  it('keeps a Buffer as a Buffer and an Error with its name, code, fields and causes', () => {
    const error = Object.assign(new RangeError('too far', { cause: new TypeError('inner') }), {
      code: 'E_FAR',
      distance: 3,
    });

    const [buffer, revived] = roundTrip([Buffer.from([0, 255]), error]) as [Buffer, Error & { cause: Error }];

    expect(Buffer.isBuffer(buffer)).toBe(true);
    expect([...buffer]).toEqual([0, 255]);
    expect(revived).toMatchObject({ name: 'RangeError', message: 'too far', code: 'E_FAR', distance: 3 });
    expect(revived.cause).toMatchObject({ name: 'TypeError', message: 'inner' });
  });

  it('keeps an instance of a class as its data, and what has a toJSON as that', () => {
    const instance = new Money(5n, new Date(0));

    expect(roundTrip(instance)).toEqual({ amount: 5n, at: new Date(0) });
    expect(roundTrip({ price: { toJSON: () => ({ amount: 5 }) }, typed: 1n })).toEqual({
      price: { amount: 5 },
      typed: 1n,
    });
  });

  it('keeps a value that stands in two places, as long as it does not contain itself', () => {
    const shared = { n: 1 };

    expect(roundTrip([shared, shared])).toEqual([shared, shared]);
    expect(roundTrip({ a: shared, b: [shared, 1n] })).toEqual({ a: shared, b: [shared, 1n] });
  });

  it('stores plain data as JSON that people can read', () => {
    expect(serializer.encode({ a: [1, 'x', null] }, 'a value')).toBe('{"a":[1,"x",null]}');
  });

  const cycle: Record<string, unknown> = { list: [] };
  (cycle['list'] as unknown[]).push({ self: cycle });

  it.each([
    ['a function', { order: { items: [{ price: () => 1 }] } }, 'value.order.items[0].price', 'a function (price)'],
    ['a symbol', [Symbol('s')], 'value[0]', 'a symbol'],
    ['a cycle', cycle, 'value.list[0].self', 'a cycle'],
    ['a promise', { total: Promise.resolve(1) }, 'value.total', 'a Promise (an await is missing)'],
    ['a WeakMap', { seen: [new WeakMap()] }, 'value.seen[0]', 'a WeakMap (what is in it would be lost)'],
    [
      'an iterator',
      { rows: new Map([['x', 1]]).values() },
      'value.rows',
      'a Map Iterator (what is in it would be lost)',
    ],
    ['a function in a Map', { byId: new Map([['x', () => 1]]) }, 'value.byId.<x>', 'a function'],
  ])('refuses %s and names where it is', (_, value, path, problem) => {
    expect(() => serializer.encode(value, 'the input')).toThrow(
      expect.objectContaining({
        code: 'PAYLOAD',
        what: 'the input',
        path,
        problem,
        message: expect.stringContaining(path) as unknown,
      }) as Error,
    );
  });

  it('refuses what is too large, and names the member that makes it so, and its size', () => {
    const tooLarge = { order: { notes: ['short', 'x'.repeat(3 * 1024 * 1024)] }, id: 7 };

    expect(() => serializer.encode(tooLarge, 'the input')).toThrow(
      expect.objectContaining({
        code: 'PAYLOAD',
        path: 'value.order.notes[1]',
        bytes: JSON.stringify(tooLarge).length,
        problem: `${JSON.stringify(tooLarge).length} bytes (the limit is 2097152)`,
      }) as Error,
    );
  });

  it('names the whole value when no member alone is too large', () => {
    const half = 'x'.repeat(1.5 * 1024 * 1024);

    expect(() => serializer.encode([half, half], 'the input')).toThrow(
      expect.objectContaining({
        code: 'PAYLOAD',
        path: 'value',
        problem: expect.stringContaining('2097152') as unknown,
      }) as Error,
    );
  });

  it('counts bytes, not characters', () => {
    expect(() => new PayloadSerializer(10).encode('\u00e9'.repeat(5), 'a value')).toThrow(PayloadError);
    expect(new PayloadSerializer(12).encode('\u00e9'.repeat(5), 'a value')).toBe('"\u00e9\u00e9\u00e9\u00e9\u00e9"');
  });
});

describe('a name in the database', () => {
  it('comes back as it was, and different names stay different', () => {
    const texts = [...NASTY_TEXTS, '\\', '\\\\', '\\ud800', '\\\u0000'];
    const stored = texts.map(toSqlText);

    expect(stored.map(fromSqlText)).toEqual(texts);
    expect(new Set(stored).size).toBe(new Set(texts).size);
    for (const text of stored) expect(text.isWellFormed() && !text.includes('\u0000')).toBe(true);
  });
});

describe('the digest of an input', () => {
  it('is the same whatever the order of keys, and whether a field is undefined or missing', () => {
    const digest = digestOf({ a: 1, b: { c: [1, 2], d: 'x' } });

    expect(digestOf({ b: { d: 'x', c: [1, 2] }, a: 1 })).toBe(digest);
    expect(digestOf({ b: { d: 'x', c: [1, 2], e: undefined }, a: 1 })).toBe(digest);
  });

  it('is that of every other process and version: these are the values of the first release', () => {
    expect(digestOf(undefined)).toBe('6wRdeNJzEHNIsDAMAdKbdV');
    expect(digestOf({ b: [1, 'x', null], a: { d: 1n, c: new Date(0) } })).toBe('bMLcDtdgIQUeq7q0wYTyJ-');
  });

  it('is the same after the input was stored and loaded', () => {
    const serializer = new PayloadSerializer(1_000_000);
    const input = {
      at: new Date(5),
      tags: new Set(['b', 'a']),
      byId: new Map([['z', 1n]]),
      bytes: Buffer.from('hi'),
      gone: undefined,
    };

    expect(digestOf(serializer.decode(serializer.encode(input, 'an input')))).toBe(digestOf(input));
  });

  it.each<[string, unknown, unknown]>([
    ['a number and its text', 1, '1'],
    ['null and undefined', null, undefined],
    ['a bigint and a number', 1n, 1],
    ['a Date and its text', new Date(0), new Date(0).toISOString()],
    ['lists of another order', [1, 2], [2, 1]],
    ['a list and an object', [], {}],
    ['a list and a Set', [1], new Set([1])],
    ['a nested list', [[1], 2], [[1, 2]]],
    ['a key that contains what looks like another field', { 'a":1,"b': 1 }, { a: 1, b: 1 }],
    ['a Map and an object', new Map([['a', 1]]), { a: 1 }],
    ['regular expressions', /a/, /b/],
    ['buffers of bytes', new Uint8Array([1]).buffer, new Uint8Array([2]).buffer],
    [
      'errors that differ in a field',
      Object.assign(new Error('x'), { code: 1 }),
      Object.assign(new Error('x'), { code: 2 }),
    ],
  ])('tells apart %s', (_, one, other) => {
    expect(digestOf(one)).not.toBe(digestOf(other));
  });

  it('has one for arguments that cannot be stored, cycles too', () => {
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;

    expect(digestOf([() => 1, Symbol('s'), new AbortController().signal, cycle])).toEqual(expect.any(String));
  });
});

describe('a duration', () => {
  it.each<[Duration, number]>([
    [250, 250],
    ['1500ms', 1_500],
    ['10s', 10_000],
    ['0.5s', 500],
    ['5m', 300_000],
    ['1h', 3_600_000],
    ['2d', 172_800_000],
    ['1w', 604_800_000],
    ['0s', 0],
    ['-5s', -5_000],
  ])('%p is %d ms', (duration, ms) => {
    expect(parseDuration(duration)).toBe(ms);
  });

  it.each(['', '10', 's', '10 s', '1 week', '1e3s', '10S', '1y', NaN, Infinity, null, undefined, {}])(
    'refuses %p, and says what is accepted',
    (value) => {
      expect(tryParseDuration(value)).toBeUndefined();
      expect(() => parseDuration(value as Duration)).toThrow(/is no duration: .*'10s'/);
      expect(() => parseDuration(value as Duration)).toThrow(ValidationError);
    },
  );
});

describe('a retry policy', () => {
  it('pauses 1 s, then doubles up to 1 m, unless it says otherwise', () => {
    const policy = toRetryPolicy();

    expect(policy.maxAttempts).toBe(3);
    expect([1, 2, 3, 6, 7, 8, 5_000].map((attempt) => backoffMs(policy, attempt, 0.5))).toEqual([
      1_000, 2_000, 4_000, 32_000, 60_000, 60_000, 60_000,
    ]);
    expect([0, 1].map((random) => backoffMs(policy, 1, random))).toEqual([800, 1_200]);
  });

  it('multiplies each pause by its own coefficient, up to its own longest one', () => {
    const policy = toRetryPolicy({ initialInterval: '2s', backoffCoefficient: 3, maxInterval: '1h', jitter: 0 });

    expect([1, 2, 3, 7, 8].map((attempt) => backoffMs(policy, attempt, 0.9))).toEqual([
      2_000, 6_000, 18_000, 1_458_000, 3_600_000,
    ]);
  });

  it('takes an option that is undefined as one that is not given', () => {
    const options = { maxAttempts: undefined, initialInterval: undefined, jitter: 0 };

    expect(retryProblems(options)).toEqual([]);
    expect(toRetryPolicy(options)).toEqual({ ...toRetryPolicy(), jitter: 0 });
  });

  it('spreads a pause by the jitter to either side', () => {
    const policy = toRetryPolicy({ initialInterval: '10s', jitter: 0.5 });

    expect([0, 0.5, 1].map((random) => backoffMs(policy, 1, random))).toEqual([5_000, 10_000, 15_000]);
  });

  it('has a pause for every attempt, however many there were', () => {
    expect(backoffMs(toRetryPolicy({ initialInterval: 0 }), 5_000, 0.5)).toBe(0);
  });

  it('names everything that is wrong with it', () => {
    const problems = retryProblems({
      maxAttempts: 0,
      backoffCoefficient: 0.5,
      jitter: 2,
      initialInterval: 'soon' as Duration,
      attempts: 3,
    } as never);

    expect(problems).toHaveLength(5);
    expect(problems.join()).toMatch(/attempts.*maxAttempts.*backoffCoefficient.*jitter.*initialInterval/s);
  });

  class PaymentDeclined extends Error {}
  class CardExpired extends PaymentDeclined {}
  class OutOfStock extends NonRetryableError {
    override readonly code = 'OUT_OF_STOCK';
  }

  it.each<[string, unknown, boolean]>([
    ['an ordinary error', new Error('x'), true],
    ['a thrown text', 'x', true],
    ['nothing at all', undefined, true],
    ['a timed-out attempt', new StepTimeoutError('s', 1), true],
    ['NonRetryableError', new NonRetryableError('x'), false],
    ['a subclass of NonRetryableError with a code of its own', new OutOfStock('x'), false],
    ['a result that cannot be stored', new PayloadError('x', 'y', 'z'), false],
    ['HTTP 302', new HttpException('x', 302), true],
    ['HTTP 400', new BadRequestException(), false],
    ['HTTP 404', new HttpException('x', 404), false],
    ['HTTP 408', new HttpException('x', 408), true],
    ['HTTP 409', new HttpException('x', 409), false],
    ['HTTP 422', new HttpException('x', 422), false],
    ['HTTP 425', new HttpException('x', 425), true],
    ['HTTP 429', new HttpException('x', 429), true],
    ['HTTP 499', new HttpException('x', 499), false],
    ['HTTP 500', new InternalServerErrorException(), true],
  ])('after %s another attempt makes sense: %p (last column)', (_, error, expected) => {
    expect(isRetryable(error)).toBe(expected);
  });

  it('stops at the named errors and classes, subclasses included', () => {
    expect(isRetryable(new CardExpired('x'), [PaymentDeclined])).toBe(false);
    expect(isRetryable(new CardExpired('x'), ['PaymentDeclined'])).toBe(false);
    expect(isRetryable(new PaymentDeclined('x'), [CardExpired])).toBe(true);
    expect(isRetryable(Object.assign(new Error('x'), { name: 'AxiosError' }), ['AxiosError'])).toBe(false);
  });
});

describe('a stored error (scenario 11)', () => {
  class PaymentDeclined extends Error {
    readonly code = 'DECLINED';

    constructor(
      readonly amount: number,
      options?: ErrorOptions,
    ) {
      super(`declined ${amount}`, options);
    }
  }

  it('keeps class name, code, message, stack, own fields and the cause chain', () => {
    const stored = restore(new PaymentDeclined(12, { cause: new TypeError('inner', { cause: 'a text' }) }));

    expect(stored).toMatchObject({
      name: 'PaymentDeclined',
      code: 'DECLINED',
      message: 'declined 12',
      amount: 12,
      stack: expect.stringContaining('values.spec') as unknown,
      cause: { name: 'TypeError', message: 'inner', cause: { name: 'NonError', message: 'a text', thrown: 'a text' } },
    });
  });

  it.each([
    ['a text', 'boom', 'boom'],
    ['undefined', undefined, 'undefined'],
    ['null', null, 'null'],
    ['a number', 42, '42'],
    ['an object', { reason: 'x' }, '{"reason":"x"}'],
  ])('keeps %s that was thrown', (_, thrown, message) => {
    expect(restore(thrown)).toMatchObject({ name: 'NonError', message, thrown });
  });

  it('keeps up to 20 links whole', () => {
    expect(names(restore(chainOf(20)))).toEqual(Array.from({ length: 20 }, (_, index) => `link ${index + 1}`));
  });

  it('keeps the ends of a longer chain, and one link that counts what was left out', () => {
    const links = names(restore(chainOf(25)));

    expect(links).toHaveLength(20);
    expect(links.slice(0, 18)).toEqual(Array.from({ length: 18 }, (_, index) => `link ${index + 1}`));
    expect(links.slice(18)).toEqual(['6 causes were left out here', 'link 25']);
  });

  it('keeps a chain of 20 when it is stored again and again', () => {
    let stored = toStoredError(chainOf(30));
    for (let hop = 0; hop < 5; hop++) stored = restore(new Error(`hop ${hop}`, { cause: reviveError(stored) }));

    expect(names(stored)).toHaveLength(20);
    expect(names(stored).at(-1)).toBe('link 30');
  });

  it('ends a chain that runs in a circle', () => {
    const error = new Error('a');
    error.cause = new Error('b', { cause: error });

    expect(names(restore(error))).toEqual(['a', 'b']);
  });

  it('keeps the errors of an AggregateError, with their causes, in each hop', () => {
    const parts = [
      Object.assign(new RangeError('one', { cause: new PaymentDeclined(1) }), { code: 7 }),
      new AggregateError([new TypeError('inner')], 'two'),
    ];
    let error: Error = new AggregateError(parts, 'none succeeded');
    for (let hop = 0; hop < 3; hop++) error = reviveError(restore(error));

    expect(error).toMatchObject({
      name: 'AggregateError',
      message: 'none succeeded',
      errors: [
        { name: 'RangeError', message: 'one', code: 7, cause: { name: 'PaymentDeclined' } },
        { name: 'AggregateError', message: 'two', errors: [{ name: 'TypeError', message: 'inner' }] },
      ],
    });
    expect((error as AggregateError).errors[0]).toBeInstanceOf(Error);
    for (const kind of ['RangeError', PaymentDeclined, 'TypeError']) expect(causedBy(error, kind)).toBe(true);
    expect(causedBy(error, 'SyntaxError')).toBe(false);
  });

  it('keeps the first 19 of many errors and counts the rest, and ends one that contains itself', () => {
    const many = new AggregateError(Array.from({ length: 50 }, (_, index) => new Error(`error ${index}`)));
    many.errors[0] = new Error('a part of its own', { cause: many });
    many.errors[1] = many;

    const { errors } = restore(reviveError(restore(many))) as { errors: StoredError[] } & StoredError;

    expect(errors).toHaveLength(20);
    expect(errors[18]!.message).toBe('error 18');
    expect(errors[19]).toMatchObject({ name: 'OmittedErrors', count: 31 });
  });

  it("keeps an own list of errors that is another's, as data, and a code that is a number", () => {
    const invalid = Object.assign(new Error('invalid'), { errors: [{ path: 'a', message: 'is missing' }], code: 14 });

    expect(reviveError(restore(invalid))).toMatchObject({ errors: [{ path: 'a', message: 'is missing' }], code: 14 });
  });

  it('leaves out fields that cannot be stored, and nothing else', () => {
    const request: Record<string, unknown> = { config: { transform: [() => 1] }, status: 503, tries: 2n };
    request['socket'] = { owner: request };
    request['limits'] = { cents: 5n, until: new Date(0) };

    const stored = restore(Object.assign(new Error('x', { cause: new Error('inner') }), request));

    expect(stored).toMatchObject({
      message: 'x',
      status: 503,
      tries: 2n,
      limits: { cents: 5n, until: new Date(0) },
      cause: { message: 'inner' },
      stack: expect.any(String) as unknown,
    });
    expect(stored).not.toHaveProperty('config');
    expect(stored).not.toHaveProperty('socket');
  });

  it('is cut down when it is too large, and never throws', () => {
    const serializer = new PayloadSerializer(1_000);

    expect(serializer.decodeError(serializer.encodeError(new TypeError('x'.repeat(5_000)))).name).toBe('TypeError');
  });

  it('can be asked for the classes that its own extends, after each hop, as instanceof would', () => {
    class CardExpired extends PaymentDeclined {
      override readonly name = 'card expired';
    }
    const thrown = new NotFoundException('no order', { cause: new CardExpired(3) });
    let error: unknown = thrown;
    for (let hop = 0; hop < 3; hop++) {
      for (const kind of [
        NotFoundException,
        HttpException,
        'HttpException',
        CardExpired,
        PaymentDeclined,
        'card expired',
      ])
        expect(causedBy(error, kind)).toBe(true);
      for (const kind of [BadRequestException, RangeError]) expect(causedBy(error, kind)).toBe(false);
      error = reviveError(restore(error));
    }
    expect(restore(thrown).cause?.kinds).toEqual(['CardExpired', 'PaymentDeclined']);
    expect(restore(new RangeError('x'))).not.toHaveProperty('kinds');
    expect(Object.keys(reviveError(restore(new CardExpired(3))))).not.toContain('kinds');
    expect(isRetryable(reviveError(restore(new CardExpired(3))), [PaymentDeclined])).toBe(false);
  });

  it('can be asked for its causes by class and by name', () => {
    const error = reviveError(
      restore(new Error('outer', { cause: new PaymentDeclined(1, { cause: new RangeError('root') }) })),
    );

    expect(causedBy(error, PaymentDeclined)).toBe(true);
    expect(causedBy(error, 'PaymentDeclined')).toBe(true);
    expect(causedBy(error, 'DECLINED')).toBe(true);
    expect(causedBy(error, TypeError)).toBe(false);
    expect(rootCause(error)).toMatchObject({ name: 'RangeError', message: 'root' });
    expect(rootCause('alone')).toBe('alone');
  });
});

function withoutBigints(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}

function chainOf(length: number): Error {
  let error = new Error(`link ${length}`);
  for (let link = length - 1; link >= 1; link--) error = new Error(`link ${link}`, { cause: error });
  return error;
}

function names(error: StoredError | undefined): string[] {
  return error ? [error.message, ...names(error.cause)] : [];
}

function restore(thrown: unknown): StoredError {
  const serializer = new PayloadSerializer(2 * 1024 * 1024);
  return serializer.decodeError(serializer.encodeError(thrown));
}
