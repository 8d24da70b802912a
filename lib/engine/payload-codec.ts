/**
 * Changes what payloads look like in the database: encrypts them, for instance. It is synchronous, because it is asked in
 * the middle of a run; keys are loaded at boot (`forRootAsync`). {@link AesGcmPayloadCodec} is one.
 */
export interface PayloadCodec {
  /** What to store of a payload: text without NUL. What it throws fails the step or the start with PayloadError. */
  encode(payload: string): string;
  /** The payload of what was stored. What it throws blocks the run, until a process can read it. */
  decode(stored: string): string;
  /**
   * What to store of the digest of an input, by which calls are compared. It must be the same for ever, whatever the key
   * that encrypts payloads. Without it, the plain SHA-256 is stored.
   */
  digest?(digest: string): string;
}

/** What is wrong with an object as a codec, for the report at boot. */
export function codecProblems(codec: object): string[] {
  if (typeof codec !== 'object' || codec === null)
    return [`payload.codec must be an object, not ${JSON.stringify(codec)}`];
  return (['encode', 'decode'] satisfies (keyof PayloadCodec)[])
    .filter((method) => typeof (codec as Record<string, unknown>)[method] !== 'function')
    .map((method) => `payload.codec has no method ${method}`);
}
