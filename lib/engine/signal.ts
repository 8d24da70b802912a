import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { WorkflowReference } from './definition.js';
import { ValidationError } from './errors.js';
import type { WithinTransaction } from './orchestrator.js';
import { check } from './start-options.js';

const OPTIONS = new Set(['schema']);

/** A named message to a run, with the type of its payload: what a wait returns, and what a sender gives. */
export interface Signal<Payload = unknown, Input = Payload> {
  readonly name: string;
  readonly schema: StandardSchemaV1<Input, Payload> | undefined;
}

/** A run by its id, or by its workflow and key. */
export type RunRef = string | { workflow: WorkflowReference; key: string };

/** How a signal is sent to a run of the own family. */
export interface SendOptions {
  /** A signal with the same id counts once for that run, however often it is sent. Default: each call is a signal of its own. */
  id?: string;
  /** `'tree'`: also a copy for each live descendant that waits for that signal at this moment. Default `'run'`. */
  scope?: 'run' | 'tree';
}

/** How a signal is sent from outside. */
export interface SignalOptions extends SendOptions, WithinTransaction {}

/** What is sent, and how; a payload that may be `undefined` may be left out. */
export type PayloadAndOptions<Input, Options> = undefined extends Input
  ? [payload?: Input, options?: Options]
  : [payload: Input, options?: Options];

/** Sends a signal to one run. @throws RunFinishedError, RunNotFoundError, ValidationError, PayloadError */
export interface SendSignal<Options> {
  <Input>(signal: Signal<unknown, Input>, ...args: PayloadAndOptions<Input, Options>): Promise<void>;
  (signal: string, payload?: unknown, options?: Options): Promise<void>;
}

/**
 * A signal with a typed payload, to be shared by those who send it and those who wait for it. With a schema (Zod, Valibot,
 * ArkType or any other Standard Schema, sync or async) each payload is validated where it is sent, and what the schema
 * makes of it is what is sent. @throws ValidationError
 *
 * @example
 * const Approve = defineSignal<{ by: string }>('approve');
 */
export function defineSignal<Schema extends StandardSchemaV1>(
  name: string,
  options: { schema: Schema },
): Signal<StandardSchemaV1.InferOutput<Schema>, StandardSchemaV1.InferInput<Schema>>;
export function defineSignal<Payload = unknown>(
  name: string,
  options?: { schema?: StandardSchemaV1<unknown, Payload> },
): Signal<Payload>;
export function defineSignal(name: string, options: { schema?: StandardSchemaV1 } = {}): Signal {
  checkName(name);
  check(`The options of signal '${name}'`, options, OPTIONS);
  return { name, schema: options.schema };
}

/** The name of a signal that is given as one or by its name. @throws ValidationError */
export function nameOfSignal(signal: Signal | string): string {
  const name = typeof signal === 'string' ? signal : (signal as Signal | undefined)?.name;
  checkName(name);
  return name;
}

/** What the schema of the signal makes of a payload. @throws ValidationError with the schema's issues */
export async function validatedPayload(signal: Signal | string, payload: unknown): Promise<unknown> {
  const schema = typeof signal === 'string' ? undefined : signal.schema;
  if (!schema) return payload;
  const result = await schema['~standard'].validate(payload);
  if (!result.issues) return result.value;
  throw new ValidationError(`The payload of signal '${nameOfSignal(signal)}'`, result.issues.map(plainIssue));
}

function plainIssue({ message, path }: StandardSchemaV1.Issue) {
  return { message, ...(path && { path: path.map((part) => (typeof part === 'object' ? part.key : part)) }) };
}

function checkName(name: unknown): asserts name is string {
  if (typeof name !== 'string' || name === '')
    throw new ValidationError('A signal', [
      { message: `its name must be a text that is not empty, not ${JSON.stringify(name)}`, path: ['name'] },
    ]);
}
