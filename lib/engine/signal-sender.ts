import { RunFinishedError, RunNotFoundError } from './errors.js';
import { newId } from './new-id.js';
import { nameOfSignal, type SendOptions, type Signal, validatedPayload } from './signal.js';
import { check } from './start-options.js';
import type { PayloadSerializer } from './serialization.js';
import type { NewSignal, SentSignal } from './sent-signal.js';

const OPTIONS = new Set(['id', 'scope']);

/** A signal and its payload, as they are sent to a run. */
export interface Message {
  signal: Signal | string;
  payload: unknown;
  options: SendOptions;
}

/** What is sent. Throws ValidationError and PayloadError. */
export async function toNewSignal(
  runId: string,
  { signal, payload, options }: Message,
  serializer: PayloadSerializer,
): Promise<NewSignal> {
  const name = nameOfSignal(signal);
  check(`The options of signal '${name}'`, options, OPTIONS);
  return {
    runId,
    id: options.id ?? newId(),
    name,
    payload: serializer.encode(await validatedPayload(signal, payload), `the payload of signal '${name}'`),
    toTree: options.scope === 'tree',
  };
}

/** Throws RunNotFoundError and RunFinishedError. */
export function checkSent({ outcome, status }: SentSignal, runId: string): void {
  if (outcome === 'unknown') throw new RunNotFoundError(runId);
  if (outcome === 'finished') throw new RunFinishedError(runId, status!);
}
