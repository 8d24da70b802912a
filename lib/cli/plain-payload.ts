import type { Engine } from '../engine/engine.js';
import { EncryptedPayloadsError } from './exit-code.js';

/** Where payloads go through a codec, which only the apps have, one from here would lie in the database as it is. */
export async function checkReadable({ store }: Engine, what: string): Promise<void> {
  if (await store.runs.haveCodedPayloads()) throw new EncryptedPayloadsError(what);
}
