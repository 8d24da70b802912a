import type { CallerContext } from './caller-context.js';
import { digestOf } from './digest.js';
import { type Duration, tryParseDuration } from './duration.js';
import { ValidationError } from './errors.js';
import type { Attributes } from './run.js';
import type { NewRun } from './new-run.js';
import type { PayloadSerializer } from './serialization.js';
import type { WorkflowDefinition } from './definition.js';

/** Options that a start, from outside or as a child, shares. */
export interface RunOptions {
  /** Where the run is claimed from. Default: the queue of its workflow. */
  queue?: string;
  /** Higher is claimed first. Default 0; a child's is its parent's. */
  priority?: number;
  /** A name for people. */
  label?: string;
  /** Values by which the run can be listed. */
  attributes?: Attributes;
}

/** Options of `orchestrator.start`. */
export interface StartOptions extends RunOptions {
  /** Unique for each workflow name: a second start with it gives the run that there is. */
  key?: string;
  /**
   * What to do when the key is taken: `'existing'` (default) gives that run if its input is the same, `'reject'` always
   * throws, `'replace'` cancels that run if it is active, and starts anew.
   */
  onConflict?: 'existing' | 'reject' | 'replace';
  /**
   * Begins so long after the last start with the same key, with the input of that one. A start after the run has begun makes a
   * new run. Needs a key.
   */
  debounce?: Duration;
  /** Begin later, by a length of time. */
  delay?: Duration;
  /** Begin later, at a point in time. */
  startAt?: Date;
  /** How long the run may take from its start. Default: the workflow's. */
  timeout?: Duration;
  /** Whose run it is; its children inherit it. */
  tenant?: string;
}

/** What there is to say of a run before it is started. */
export interface RunPlan {
  id: string;
  workflow: string;
  version: number;
  definition: WorkflowDefinition | undefined;
  input: unknown;
  options: StartOptions;
}

const OPTIONS = new Set([
  'key',
  'onConflict',
  'debounce',
  'delay',
  'startAt',
  'timeout',
  'tenant',
  'queue',
  'priority',
  'label',
  'attributes',
]);

/** What the engine of a process gives to a start. */
interface Starter {
  serializer: PayloadSerializer;
  callerContext: CallerContext | undefined;
}

/** The row of a run that is started from outside. Throws {@link ValidationError} and {@link PayloadError}. */
export function toNewRun(
  { id, workflow, version, definition, input, options }: RunPlan,
  { serializer, callerContext }: Starter,
): NewRun {
  check(`The options of start('${workflow}')`, options, OPTIONS);
  checkKeyed(`The options of start('${workflow}')`, options);
  return {
    id,
    workflow,
    version,
    key: options.key ?? null,
    queue: options.queue ?? definition?.queue ?? 'default',
    priority: options.priority ?? 0,
    tenant: options.tenant ?? null,
    label: options.label ?? null,
    attributes: options.attributes ?? null,
    input: serializer.encode(input, `the input of workflow '${workflow}'`),
    inputDigest: digestOf(input),
    context: callerContext ? serializer.encode(callerContext.capture(), 'the context of the caller') : null,
    trace: null,
    delayMs: delayOf(options),
    startAt: options.startAt?.getTime() ?? null,
    timeoutMs: options.timeout === undefined ? (definition?.timeoutMs ?? null) : tryParseDuration(options.timeout)!,
    deadline: null,
    parent: null,
    eager: false,
  };
}

function delayOf({ delay, debounce }: StartOptions): number | null {
  const length = debounce ?? delay;
  return length === undefined ? null : Math.max(0, tryParseDuration(length)!);
}

/** What concerns the run that has the key makes no sense without a key, nor two such things at once. */
function checkKeyed(what: string, options: StartOptions): void {
  const { key, debounce, onConflict, delay, startAt } = options;
  const issues: { message: string; path: string[] }[] = [];
  if (key === undefined && debounce !== undefined)
    issues.push({ message: 'debounce needs a key: it says which starts belong together', path: ['debounce'] });
  if (key === undefined && onConflict === 'replace')
    issues.push({ message: "onConflict: 'replace' needs a key: it says which run is replaced", path: ['onConflict'] });
  if (debounce !== undefined && [delay, startAt, onConflict].some((other) => other !== undefined))
    issues.push({ message: 'debounce goes with neither delay, startAt nor onConflict', path: ['debounce'] });
  if (issues.length) throw new ValidationError(what, issues);
}

/** Refuses options that are unknown or of a wrong form, all at once. */
export function check(what: string, options: object, known: ReadonlySet<string>): void {
  const issues = Object.entries(options).flatMap(([option, value]: [string, unknown]) => {
    if (!known.has(option))
      return [{ message: `unknown option '${option}' (known: ${[...known].join(', ')})`, path: [option] }];
    const problem = value === undefined ? undefined : FORMS[option]?.(value);
    return problem ? [{ message: `${option} ${problem}`, path: [option] }] : [];
  });
  if ('delay' in options && 'startAt' in options && options.delay !== undefined && options.startAt !== undefined) {
    issues.push({ message: 'give delay or startAt, not both', path: ['startAt'] });
  }
  if (issues.length) throw new ValidationError(what, issues);
}

const duration = (value: unknown) =>
  tryParseDuration(value) === undefined ? `'${String(value)}' is no duration ('10s', '5m', or ms)` : undefined;
const isText = (value: unknown) => typeof value === 'string' && value !== '';
const text = (value: unknown) =>
  isText(value) ? undefined : `must be a text that is not empty, not ${JSON.stringify(value)}`;
const oneOf =
  (...values: string[]) =>
  (value: unknown) =>
    values.includes(value as string) ? undefined : `must be one of ${values.join(', ')}, not ${JSON.stringify(value)}`;
const flag = (value: unknown) =>
  typeof value === 'boolean' ? undefined : `must be true or false, not ${JSON.stringify(value)}`;

const FORMS: Record<string, (value: unknown) => string | undefined> = {
  key: text,
  fromStep: text,
  onConflict: oneOf('existing', 'reject', 'replace'),
  debounce: duration,
  delay: duration,
  timeout: duration,
  startAt: (value) => (value instanceof Date && !Number.isNaN(value.getTime()) ? undefined : 'must be a valid Date'),
  queue: text,
  tenant: text,
  label: text,
  ref: text,
  id: text,
  scope: oneOf('run', 'tree'),
  mode: oneOf('graceful', 'terminate'),
  reason: (value) => (typeof value === 'string' ? undefined : `must be a text, not ${JSON.stringify(value)}`),
  priority: (value) =>
    Number.isInteger(value) && Math.abs(value as number) < 2 ** 31
      ? undefined
      : `must be a whole number, not ${JSON.stringify(value)}`,
  attributes: attributesProblem,
  type: text,
  prompt: text,
  choices: (value) =>
    Array.isArray(value) && value.length > 0 && value.every(isText) && new Set(value).size === value.length
      ? undefined
      : `must be different texts that are not empty, one at least, not ${JSON.stringify(value)}`,
  schema: (value) =>
    isStandardSchema(value) ? undefined : 'must be a Standard Schema: an object with validate() under ~standard',
  onTimeout: oneOf('cancel', 'abandon'),
  parentClose: oneOf('abandon', 'cancel'),
  cancellation: oneOf('wait', 'try'),
  detached: flag,
  inherit: (value) =>
    Array.isArray(value) && value.every((one) => one === 'attributes' || one === 'context')
      ? undefined
      : `takes 'attributes' and 'context' in a list, not ${JSON.stringify(value)}`,
  concurrency: (value) =>
    value === Infinity || isCount(value, 1) ? undefined : `must be a whole number from 1, not ${String(value)}`,
  minSuccessful: (value) => (isCount(value, 1) ? undefined : `must be a whole number from 1, not ${String(value)}`),
  tolerateFailures: (value) => (isCount(value, 0) ? undefined : `must be a whole number from 0, not ${String(value)}`),
};

function isCount(value: unknown, least: number): boolean {
  return Number.isInteger(value) && (value as number) >= least;
}

function isStandardSchema(value: unknown): boolean {
  const { '~standard': standard } = (value ?? {}) as { '~standard'?: { validate?: unknown } };
  return typeof standard?.validate === 'function';
}

export function attributesProblem(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'must be an object';
  const wrong = Object.entries(value).find(
    ([, entry]) => entry !== null && !['string', 'boolean'].includes(typeof entry) && !Number.isFinite(entry),
  );
  return wrong ? `.${wrong[0]} must be a text, a finite number, a boolean or null` : undefined;
}
