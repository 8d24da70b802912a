import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { DefinitionError, UnreadablePayloadError } from './errors.js';
import type { PayloadCodec } from './payload-codec.js';

/** A key and its name, which stands in front of each payload that was encrypted by it. */
export interface PayloadKey {
  /** Letters, digits, `.`, `_` and `-`. Never give another key an id that was in use. */
  id: string;
  /** 32 random bytes, or their base64: `openssl rand -base64 32`. */
  key: Uint8Array | string;
}

/** Options of {@link AesGcmPayloadCodec}. */
export interface AesGcmPayloadCodecOptions {
  /** All keys under which something may be stored. */
  keys: readonly PayloadKey[];
  /** The id of the key that encrypts from now on. Default: the first. */
  current?: string;
  /** Keys the digests of inputs, so that inputs cannot be guessed from them. It cannot be changed later. */
  digestKey?: Uint8Array | string;
}

const FORM = 'aes-256-gcm';
const STORED = new RegExp(`^(${FORM}:([\\w.-]+):)(.*)$`, 's');
const ID = /^[\w.-]{1,64}$/;
const KEY_BYTES = 32;
const SALT_BYTES = 16;
const IV_BYTES = 12;
const TAG_BYTES = 16;

/**
 * Encrypts payloads with AES-256-GCM: `aes-256-gcm:<key id>:<base64 of salt, IV, tag and ciphertext>`. The key id is
 * authenticated too. Each payload has a key of its own, derived from the named one by a random salt (HKDF-Expand), so that
 * a key may be used for any number of payloads, without the limit that random IVs have.
 */
export class AesGcmPayloadCodec implements PayloadCodec {
  private readonly keys: ReadonlyMap<string, KeyObject>;
  private readonly current: { header: string; key: KeyObject };
  private readonly digestKey: KeyObject | undefined;

  /** Throws {@link DefinitionError} for keys of a wrong length, ids used twice, and a `current` that no key has. */
  constructor({ keys, current = keys[0]?.id, digestKey }: AesGcmPayloadCodecOptions) {
    const problems = keysProblems(keys, current, digestKey);
    if (problems.length) throw new DefinitionError(problems.map((problem) => `AesGcmPayloadCodec: ${problem}`));
    this.keys = new Map(keys.map(({ id, key }) => [id, createSecretKey(bytesOf(key))]));
    this.current = { header: `${FORM}:${current!}:`, key: this.keys.get(current!)! };
    this.digestKey = digestKey === undefined ? undefined : createSecretKey(bytesOf(digestKey));
  }

  encode(payload: string): string {
    const { header, key } = this.current;
    const random = randomBytes(SALT_BYTES + IV_BYTES);
    const cipher = createCipheriv(FORM, keyOf(key, random), random.subarray(SALT_BYTES));
    cipher.setAAD(Buffer.from(header));
    const ciphertext = Buffer.concat([cipher.update(payload, 'utf8'), cipher.final()]);
    return header + Buffer.concat([random, cipher.getAuthTag(), ciphertext]).toString('base64');
  }

  decode(stored: string): string {
    const [, header, id, base64] = STORED.exec(stored) ?? [];
    if (header === undefined) throw foreign(stored);
    const key = this.keys.get(id!);
    if (!key) throw missingKey(id!, [...this.keys.keys()]);
    try {
      return decrypt(key, Buffer.from(header), Buffer.from(base64!, 'base64'));
    } catch (cause) {
      throw tampered(id!, cause);
    }
  }

  digest(digest: string): string {
    return this.digestKey
      ? createHmac('sha256', this.digestKey).update(digest).digest('base64url').slice(0, 22)
      : digest;
  }
}

/** HKDF-Expand of one block: the key is uniformly random already. */
function keyOf(key: KeyObject, random: Buffer): Buffer {
  return createHmac('sha256', key).update(FORM).update(random.subarray(0, SALT_BYTES)).update('\x01').digest();
}

function decrypt(key: KeyObject, header: Buffer, sealed: Buffer): string {
  const tagAt = SALT_BYTES + IV_BYTES;
  const decipher = createDecipheriv(FORM, keyOf(key, sealed), sealed.subarray(SALT_BYTES, tagAt), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(header);
  decipher.setAuthTag(sealed.subarray(tagAt, tagAt + TAG_BYTES));
  return decipher.update(sealed.subarray(tagAt + TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
}

function missingKey(id: string, known: string[]): UnreadablePayloadError {
  return new UnreadablePayloadError(
    `it is encrypted with the key '${id}', which this process does not have (it has: ${known.join(', ')})`,
    { keyId: id, advice: `Add the key '${id}' to the keys of AesGcmPayloadCodec` },
  );
}

function tampered(id: string, cause: unknown): UnreadablePayloadError {
  return new UnreadablePayloadError(
    `it was changed in the database, or the key '${id}' is not the one that encrypted it`,
    { keyId: id, cause, advice: `Restore the row, or give AesGcmPayloadCodec the key that '${id}' was` },
  );
}

function foreign(stored: string): UnreadablePayloadError {
  return new UnreadablePayloadError(
    `it is of a form that AesGcmPayloadCodec did not write ('${stored.slice(0, 16)}…')`,
    {
      advice: 'Configure the payload.codec that wrote it',
    },
  );
}

function keysProblems(
  keys: readonly PayloadKey[],
  current: string | undefined,
  digestKey: Uint8Array | string | undefined,
): string[] {
  if (keys.length === 0) return ['give it at least one key'];
  const ids = keys.map(({ id }) => id);
  const twice = new Set(ids.filter((id, index) => ids.indexOf(id) !== index));
  return [
    ...ids
      .filter((id) => !ID.test(id))
      .map((id) => `the key id '${id}' must be 1 to 64 letters, digits, '.', '_' or '-'`),
    ...[...twice].map((id) => `two keys have the id '${id}'`),
    ...keys.flatMap(({ id, key }) => keyProblems(`the key '${id}'`, key)),
    ...(digestKey === undefined ? [] : keyProblems('digestKey', digestKey)),
    ...(ids.includes(current!) ? [] : [`no key has the id of current, '${current}' (there are: ${ids.join(', ')})`]),
  ];
}

/** The key itself is never told. */
function keyProblems(what: string, key: unknown): string[] {
  if (typeof key !== 'string' && !(key instanceof Uint8Array)) return [`${what} must be bytes or their base64`];
  const { length } = bytesOf(key);
  return length === KEY_BYTES ? [] : [`${what} has ${length} bytes, and AES-256 takes ${KEY_BYTES}`];
}

function bytesOf(key: Uint8Array | string): Buffer {
  return typeof key === 'string' ? Buffer.from(key, 'base64') : Buffer.from(key);
}
