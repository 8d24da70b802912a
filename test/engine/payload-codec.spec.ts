import { randomBytes } from 'node:crypto';

import pg from 'pg';

import { digestOf } from '../../lib/engine/digest.js';
import { PayloadSerializer } from '../../lib/engine/serialization.js';
import {
  AesGcmPayloadCodec,
  DefinitionError,
  NonRetryableError,
  type PayloadCodec,
  PayloadError,
  UnreadablePayloadError,
} from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const OLD = { id: '2025', key: randomBytes(32) };
const NEW = { id: '2026', key: randomBytes(32).toString('base64') };
const digestKey = randomBytes(32);
const hexadecimal: PayloadCodec = {
  encode: (payload) => Buffer.from(payload).toString('hex'),
  decode: (stored) => Buffer.from(stored, 'hex').toString(),
};

describe('AesGcmPayloadCodec', () => {
  const codec = new AesGcmPayloadCodec({ keys: [OLD] });

  it.each(['', '"x"', '{"a":"\u00e9\u{1f600}"}', '~[1]', 'x'.repeat(100_000)])(
    'gives back what it was given',
    (payload) => {
      expect(codec.decode(codec.encode(payload))).toBe(payload);
    },
  );

  it('says by which key, shows nothing else, and never the same for the same', () => {
    const [one, other] = [codec.encode('"secret"'), codec.encode('"secret"')];

    expect(one).toMatch(/^aes-256-gcm:2025:[A-Za-z0-9+/]+=*$/);
    expect(one).not.toContain(Buffer.from('secret').toString('base64').slice(0, 6));
    expect(one.length).toBe(other.length);
    expect(one).not.toBe(other);
  });

  it('encrypts by the current key and decrypts by every other', () => {
    const rotated = new AesGcmPayloadCodec({ keys: [OLD, NEW], current: '2026' });

    expect(rotated.decode(codec.encode('1'))).toBe('1');
    expect(rotated.encode('1')).toContain(':2026:');
    expect(new AesGcmPayloadCodec({ keys: [NEW] }).decode(rotated.encode('1'))).toBe('1');
  });

  it('names the key that it lacks', () => {
    const stored = new AesGcmPayloadCodec({ keys: [NEW] }).encode('1');

    expect(() => codec.decode(stored)).toThrow(
      expect.objectContaining({
        code: 'PAYLOAD_UNREADABLE',
        keyId: '2026',
        message: expect.stringMatching(/'2026'.*does not have \(it has: 2025\).*Add the key '2026'/) as unknown,
      }) as Error,
    );
  });

  it.each<[string, (stored: string) => string]>([
    ['a changed byte', (stored) => stored.replace(/.{4}$/, (end) => (end === 'AAAA' ? 'BBBB' : 'AAAA'))],
    ['a payload that was cut off', (stored) => stored.slice(0, -12)],
    ['hardly any payload', (stored) => stored.slice(0, 30)],
    ['no payload', () => 'aes-256-gcm:2025:'],
    ['another key of that id', () => new AesGcmPayloadCodec({ keys: [{ ...NEW, id: '2025' }] }).encode('1')],
    ['the id of another key that it has', () => new AesGcmPayloadCodec({ keys: [{ ...OLD, id: '2024' }] }).encode('1')],
  ])('refuses %s', (_, change) => {
    const both = new AesGcmPayloadCodec({ keys: [OLD, { ...OLD, id: '2023' }, { ...OLD, id: '2024' }] });
    const stored = change(codec.encode('"a payload"')).replace(':2024:', ':2023:');

    expect(() => both.decode(stored)).toThrow(
      expect.objectContaining({
        code: 'PAYLOAD_UNREADABLE',
        keyId: expect.stringMatching(/202[35]/) as unknown,
      }) as Error,
    );
  });

  it('refuses what it did not write', () => {
    expect(() => codec.decode('vault:v1:abc')).toThrow(UnreadablePayloadError);
    expect(() => codec.decode('')).toThrow(UnreadablePayloadError);
  });

  it('refuses wrong keys at once, all together, and tells none', () => {
    const short = randomBytes(16).toString('base64');
    const wrong = () =>
      new AesGcmPayloadCodec({
        keys: [OLD, OLD, { id: 'a:b', key: short }, { id: 'text', key: 7 as never }],
        current: '2027',
        digestKey: new Uint8Array(31),
      });

    expect(wrong).toThrow(DefinitionError);
    expect(wrong).toThrow(
      expect.objectContaining({
        problems: [
          "AesGcmPayloadCodec: the key id 'a:b' must be 1 to 64 letters, digits, '.', '_' or '-'",
          "AesGcmPayloadCodec: two keys have the id '2025'",
          "AesGcmPayloadCodec: the key 'a:b' has 16 bytes, and AES-256 takes 32",
          "AesGcmPayloadCodec: the key 'text' must be bytes or their base64",
          'AesGcmPayloadCodec: digestKey has 31 bytes, and AES-256 takes 32',
          "AesGcmPayloadCodec: no key has the id of current, '2027' (there are: 2025, 2025, a:b, text)",
        ],
      }) as Error,
    );
    expect(() => new AesGcmPayloadCodec({ keys: [] })).toThrow(/at least one key/);
  });

  it('gives a digest that survives the rotation of keys', () => {
    const before = new AesGcmPayloadCodec({ keys: [OLD], digestKey });
    const after = new AesGcmPayloadCodec({ keys: [NEW], digestKey: digestKey.toString('base64') });

    expect(before.digest('d')).toBe(after.digest('d'));
    expect(before.digest('d')).not.toBe('d');
    expect(codec.digest('d')).toBe('d');
  });
});

describe('a serializer with a codec', () => {
  it('reads what was stored before there was one', () => {
    const value = { at: new Date(0), texts: ['!', '~'] };
    const before = new PayloadSerializer(1_000);
    const after = new PayloadSerializer(1_000, hexadecimal);

    expect(after.decode(before.encode(value, 'v'))).toEqual(value);
    expect(after.decode(before.encode('!', 'v'))).toBe('!');
    expect(after.decode(after.encode(value, 'v'))).toEqual(value);
    expect(after.encode(undefined, 'v')).toBeNull();
  });

  it('limits the size of what the codec is given, not of what it gives', () => {
    const growing = new PayloadSerializer(10, { encode: (text) => text.repeat(9), decode: (text) => text });

    expect(growing.encode('12345678', 'v')).toHaveLength(91);
    expect(() => growing.encode('123456789', 'v')).toThrow(PayloadError);
  });

  it.each<[string, () => string]>([
    [
      'throws',
      () => {
        throw new TypeError('no key');
      },
    ],
    ['gives NUL', () => 'a\0b'],
    ['gives no text', () => Buffer.from('x') as never],
  ])('has a PayloadError for a codec that %s, and tells no error in plain', (_, encode) => {
    const serializer = new PayloadSerializer(1_000, { encode, decode: (text) => text });

    expect(() => serializer.encode(1, 'the input')).toThrow(
      expect.objectContaining({
        code: 'PAYLOAD',
        message: expect.stringMatching(/^the input cannot.*codec/) as unknown,
      }) as Error,
    );
    expect(serializer.encodeError(new Error('my secret'))).not.toContain('secret');
    expect(serializer.decodeError(serializer.encodeError(new Error('my secret')))).toMatchObject({ code: 'PAYLOAD' });
  });

  it('says that there is no codec, and that a payload is broken', () => {
    const stored = new PayloadSerializer(1_000, hexadecimal).encode(1, 'v');
    const without = new PayloadSerializer(1_000);

    expect(() => without.decode(stored)).toThrow(/Give OrchestrationModule.forRoot the payload.codec/);
    expect(() => without.decode('{"a":')).toThrow(UnreadablePayloadError);
    expect(without.show(stored)).toBeInstanceOf(UnreadablePayloadError);
    expect(without.showError(stored)).toMatchObject({ name: 'UnreadablePayloadError', code: 'PAYLOAD_UNREADABLE' });
  });
});

describe('runs with encrypted payloads', () => {
  let database: TestDatabase;
  let client: pg.Client;

  beforeAll(async () => {
    database = await createTestDatabase();
    client = new pg.Client({ connectionString: database.url });
    await client.connect();
  });

  afterEach(closeApps);

  afterAll(async () => {
    await client.end();
    await database.drop();
  });

  type Providers = NonNullable<Parameters<typeof startApp>[0]['providers']>;

  function start(providers: Providers, codec?: PayloadCodec, worker: object | false = {}): Promise<TestApp> {
    return startApp({
      database,
      providers,
      options: { worker: worker && { pollInterval: '20ms', ...worker }, payload: { codec, maxBytes: 10_000 } },
    });
  }

  /** Every row of every table, as text. */
  async function everythingStored(): Promise<string> {
    const { rows: tables } = await client.query<{ name: string }>(
      "select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname = 'orchestration'",
    );
    const texts = [];
    for (const { name } of tables) {
      const { rows } = await client.query<{ text: string }>(`select t::text as text from ${name} t`);
      texts.push(...rows.map(({ text }) => text));
    }
    return texts.join('\n');
  }

  const statusOf = async ({ orchestrator }: TestApp, id: string) => (await orchestrator.get(id)).status;

  it('have no plaintext in the database: input, output, error, state, child, retry, signal, answer, progress', async () => {
    const codec = new AesGcmPayloadCodec({ keys: [OLD], digestKey });
    const child = workflow<string, string>('secret-child', async (_, input) => `${input}, child: s3cret-child`);
    const secretive = workflow<{ pin: string }, string>('secretive', async ({ ctx, children }, { pin }) => {
      await ctx.setState({ seen: 's3cret-state' });
      const flaky = await ctx.step(
        'flaky',
        ({ attempt, heartbeat }) => {
          heartbeat({ seen: 's3cret-progress' });
          if (attempt === 1) throw Object.assign(new Error('s3cret-attempt'), { field: 's3cret-field' });
          return 's3cret-output';
        },
        { retry: { initialInterval: 1 } },
      );
      const answer = await children.call(child, `${pin} s3cret-child-input`, { ref: 'asked' });
      await ctx
        .step('cannot', () => {
          throw new NonRetryableError('s3cret-failure');
        })
        .catch(() => {});
      const signalled = await ctx.waitForSignal<string>('go');
      const code = await ctx.waitForInput('code', { type: 'text' });
      return `${flaky}, ${answer}, ${signalled}, ${code}, s3cret-result`;
    });
    const failing = workflow('secret-failing', () => Promise.reject(new Error('s3cret-end')));
    const app = await start([secretive, child, failing], codec);

    const run = await app.orchestrator.start(secretive, { pin: 's3cret-1234' }, { key: 'public' });
    await app.orchestrator.signal(run.id, 'never awaited', 's3cret-buffered');
    await app.orchestrator.signal(run.id, 'go', 's3cret-signal');
    await until('it asks', async () => (await app.orchestrator.inputs.list()).items.length === 1);
    const whileAsking = await everythingStored();
    await app.orchestrator.inputs.provide(run.id, 'code', 's3cret-answer');
    const output = await run.result();
    const failed = await app.orchestrator.start(failing, undefined);
    await expect(failed.result()).rejects.toMatchObject({ cause: { message: 's3cret-end' } });
    const stored = await everythingStored();
    const history = await app.orchestrator.history(run.id);

    expect(output).toBe(
      's3cret-output, s3cret-1234 s3cret-child-input, child: s3cret-child, s3cret-signal, s3cret-answer, s3cret-result',
    );
    expect(history.map((entry) => entry.error?.message ?? entry.output)).toEqual([
      's3cret-output',
      's3cret-1234 s3cret-child-input, child: s3cret-child',
      's3cret-failure',
      's3cret-signal',
      's3cret-answer',
    ]);
    expect((await app.orchestrator.get(run.id)).state).toEqual({ seen: 's3cret-state' });
    expect(stored).toContain('!aes-256-gcm:2025:');
    expect(stored).toContain('public');
    expect(whileAsking + stored).not.toContain('s3cret');
    // Nor the plain digest of the input, from which a PIN is guessed at once.
    expect(stored).not.toContain(digestOf({ pin: 's3cret-1234' }));
    await expect(app.orchestrator.start(secretive, { pin: 'other' }, { key: 'public' })).rejects.toMatchObject({
      code: 'RUN_CONFLICT',
    });
    expect((await app.orchestrator.start(secretive, { pin: 's3cret-1234' }, { key: 'public' })).started).toBe(false);
  });

  it('go on over the rotation of keys, and from before there was a codec', async () => {
    const bodies: string[] = [];
    const long = workflow<string, string[]>('rotated', async ({ ctx }, input) => {
      const outputs = [input];
      for (const name of ['one', 'two', 'three']) {
        outputs.push(await ctx.step(name, () => (bodies.push(name), `${name}-value`)));
        await ctx.sleep('700ms');
      }
      return outputs;
    });
    const codecs = [
      undefined,
      new AesGcmPayloadCodec({ keys: [OLD], digestKey }),
      new AesGcmPayloadCodec({ keys: [NEW, OLD], digestKey }),
    ];
    const first = await start([long]);
    const run = await first.orchestrator.start(long, 'in', { key: 'rotated' });
    await until('the first step', () => bodies.length === 1);
    await first.close();

    const second = await start([long], codecs[1]);
    await until('the second step', () => bodies.length === 2);
    // The digest was stored in plain, and is that of the same input.
    expect((await second.orchestrator.start(long, 'in', { key: 'rotated' })).started).toBe(false);
    await second.close();
    const third = await start([long], codecs[2]);
    const output = await third.orchestrator.result(run.id);
    const { rows } = await client.query<{ output: string }>(
      "select output from orchestration.history where run_id = $1 and kind = 'step' order by seq",
      [run.id],
    );

    expect(output).toEqual(['in', 'one-value', 'two-value', 'three-value']);
    expect(bodies).toEqual(['one', 'two', 'three']);
    expect(rows.map((row) => row.output.split(':')[1] ?? row.output)).toEqual(['"one-value"', '2025', '2026']);
  });

  it.each<[string, PayloadCodec | undefined, RegExp]>([
    ['lacks the key', new AesGcmPayloadCodec({ keys: [NEW] }), /'2025'.*Add the key/],
    ['has no codec', undefined, /payload\.codec/],
    ['has another codec', hexadecimal, /cannot be read/],
  ])(
    'are blocked, not failed, by a worker that %s, and go on in one that can read them',
    async (what, wrong, message) => {
      const bodies: string[] = [];
      const caught: unknown[] = [];
      const steps = workflow<string, string>(`needs the key, ${what}`, async ({ ctx }, input) => {
        // Code that forgives everything must not take a payload that cannot be read for an outcome.
        const value = await ctx
          .step('work', () => (bodies.push('work'), 'worked'))
          .catch((error: unknown) => (caught.push(error), 'x'));
        // Long enough to be seen on a machine that is busy.
        await ctx.sleep('2s');
        return `${input} ${value}`;
      });
      const right = new AesGcmPayloadCodec({ keys: [OLD] });
      const first = await start([steps], right);
      const begun = await first.orchestrator.start(steps, 'begun');
      await until('it sleeps', async () => (await begun.status()) === 'waiting');
      await first.close();
      const client1 = await start([steps], right, false);
      const fresh = await client1.orchestrator.start(steps, 'fresh');

      const other = await start([steps], wrong);
      for (const { id } of [begun, fresh])
        await until('it is blocked', async () => (await statusOf(other, id)) === 'blocked');
      const seenByOther = await other.orchestrator.get(begun.id);
      const history = await other.orchestrator.history(begun.id);
      const list = await other.orchestrator.list({ workflow: `needs the key, ${what}` });
      const error = await other.orchestrator
        .get(begun.id)
        .then((run) => (run.status === 'blocked' ? run.error : undefined));
      await other.close();
      const last = await start([steps], new AesGcmPayloadCodec({ keys: [NEW, OLD] }));

      expect(await last.orchestrator.result(begun.id)).toBe('begun worked');
      expect(await last.orchestrator.result(fresh.id)).toBe('fresh worked');
      expect(bodies).toEqual(['work', 'work']);
      expect(caught).toEqual([]);
      expect(error).toMatchObject({ code: 'PAYLOAD_UNREADABLE', message: expect.stringMatching(message) as unknown });
      // What people look at shows what there is, and why the rest cannot be read.
      expect(seenByOther.input).toBeInstanceOf(UnreadablePayloadError);
      expect(history[0]).toMatchObject({
        key: 'work',
        status: 'completed',
        output: expect.any(UnreadablePayloadError) as unknown,
      });
      expect(list.items).toHaveLength(2);
    },
  );

  it('are blocked when a child ends in a process whose key this one lacks, and keep that end', async () => {
    const child = workflow<void, string>({ name: 'other-key-child', queue: 'children' }, () => 'from the child');
    const parent = workflow<void, string>({ name: 'other-key-parent', queue: 'parents' }, async ({ children }) =>
      children.call(child, undefined, { ref: 'child' }).catch(() => 'caught'),
    );
    const parents = await start([parent, child], new AesGcmPayloadCodec({ keys: [OLD] }), { queues: ['parents'] });
    await start([child, parent], new AesGcmPayloadCodec({ keys: [NEW, OLD] }), { queues: ['children'] });

    const run = await parents.orchestrator.start(parent, undefined);
    await until('it is blocked', async () => (await statusOf(parents, run.id)) === 'blocked');
    await parents.close();
    const mended = await start([parent, child], new AesGcmPayloadCodec({ keys: [OLD, NEW] }), { queues: ['parents'] });

    expect(await mended.orchestrator.result(run.id)).toBe('from the child');
    expect(await mended.orchestrator.history(run.id)).toMatchObject([{ kind: 'child', output: 'from the child' }]);
  });

  it('are blocked when the progress of a step cannot be read, and no attempt is used up', async () => {
    const seen: unknown[] = [];
    let isHeld = true;
    const copying = workflow('copying-in-secret', ({ ctx }) =>
      ctx.step(
        'copy',
        async ({ attempt, progress, heartbeat }) => {
          seen.push([attempt, progress]);
          heartbeat({ rows: 100 });
          if (isHeld) await new Promise(() => {});
        },
        { retry: { maxAttempts: 1 } },
      ),
    );
    const right = new AesGcmPayloadCodec({ keys: [OLD] });
    const first = await start([copying], right);
    const run = await first.orchestrator.start(copying, undefined);
    await until('it beats', async () => (await first.orchestrator.get(run.id)).heartbeats.length === 1);
    await first.crash();

    const other = await start([copying]);
    await until('it is blocked', async () => (await statusOf(other, run.id)) === 'blocked');
    await other.close();
    isHeld = false;
    const last = await start([copying], right);

    await last.orchestrator.result(run.id);
    expect(seen).toEqual([
      [1, undefined],
      [1, { rows: 100 }],
    ]);
  });

  it('are blocked when their cancellation cannot be read, and end cancelled when it can', async () => {
    const cleaning = workflow('unreadable-cancel', async ({ ctx }) => {
      await ctx.sleep('1h').catch(() => {});
      await ctx.shield(() => ctx.sleep('500ms'));
    });
    const right = new AesGcmPayloadCodec({ keys: [OLD] });
    const first = await start([cleaning], right);
    const run = await first.orchestrator.start(cleaning, undefined);
    await until('it sleeps', async () => (await run.status()) === 'waiting');
    await run.cancel({ reason: 'enough' });
    await until('it cleans up', async () => (await first.orchestrator.history(run.id)).length >= 1);
    await first.crash();

    const other = await start([cleaning]);
    await until('it is blocked', async () => (await statusOf(other, run.id)) === 'blocked');
    await other.close();
    const last = await start([cleaning], right);

    await expect(last.orchestrator.result(run.id)).rejects.toMatchObject({ code: 'RUN_CANCELLED', reason: 'enough' });
  });

  it('tell a client without the key what it lacks, and fail the step or the start whose payload the codec refuses', async () => {
    const picky: PayloadCodec = {
      ...hexadecimal,
      encode: (payload) => {
        if (payload === '"refused"') throw new Error('the vault is sealed');
        return hexadecimal.encode(payload);
      },
    };
    const target = workflow<string, string>('picky', async ({ ctx }, input) =>
      ctx.step('answer', () => (input === 'ask for it' ? 'refused' : 'fine')),
    );
    const app = await start([target], picky);
    const without = await start([target], undefined, false);

    const fine = await app.orchestrator.start(target, 'x');
    await fine.result();
    const refused = await app.orchestrator.start(target, 'ask for it');

    await expect(without.orchestrator.result(fine.id)).rejects.toMatchObject({ code: 'PAYLOAD_UNREADABLE' });
    await expect(app.orchestrator.start(target, 'refused')).rejects.toMatchObject({
      code: 'PAYLOAD',
      cause: { message: 'the vault is sealed' },
    });
    await expect(refused.result()).rejects.toMatchObject({
      cause: {
        code: 'STEP_FAILED',
        attempts: 1,
        cause: { code: 'PAYLOAD', cause: { message: 'the vault is sealed' } },
      },
    });
  });

  it('need a codec that is one, and say so at boot', async () => {
    await expect(start([], { encode: String } as never)).rejects.toMatchObject({
      code: 'DEFINITION',
      problems: ['payload.codec has no method decode'],
    });
  });
});
