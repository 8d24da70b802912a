import { type Duration, tryParseDuration } from './duration.js';
import { type ErrorKind, type RetryOptions, retryProblems } from './retry-policy.js';

/** What a workflow class has: its code. `run` may be async or not. */
export interface WorkflowHandler<Input = unknown, Output = unknown> {
  run(input: Input): Promise<Output> | Output;
}

/** A workflow class; inputs and outputs are inferred from its `run`. */
// The argument list of a provider is Nest's affair and may be anything.
export type WorkflowClass<Input = never, Output = unknown> = abstract new (
  ...args: never[]
) => WorkflowHandler<Input, Output>;

/** The input of a workflow class. */
export type InputOf<W> = W extends abstract new (...args: never[]) => { run(input: infer Input): unknown }
  ? Input
  : never;
/** The output of a workflow class. */
export type OutputOf<W> = W extends abstract new (...args: never[]) => { run(...args: never[]): infer Output }
  ? Awaited<Output>
  : never;

/** Options of `@Workflow`. */
export interface WorkflowOptions {
  /** Unique with `version`. Default: the class name in kebab-case without `Workflow`. */
  name?: string;
  /** A run stays on the version it started with. Default 1. */
  version?: number;
  /** Where its runs are claimed from, unless a start says otherwise. Default `'default'`. */
  queue?: string;
  /** How long a run may take from its start, waits included. Default: for ever. */
  timeout?: Duration;
  /** How long the clean-up of a cancelled run may take. Default `'1m'`. */
  cancelTimeout?: Duration;
  /** The engine (`forRoot({ name })`) that runs it, where a process has several. */
  orchestration?: string;
}

/** Options of `@Step` and of `ctx.step`. */
export interface StepOptions {
  /** Default: the method's name on the workflow class, `ClassName.method` elsewhere. */
  name?: string;
  /** Default: 3 attempts, 1 s, doubled each time, at most 1 m, jitter 0.2. */
  retry?: RetryOptions;
  /** How long one attempt may take. Default: no limit. */
  timeout?: Duration;
  /** Errors, by class or name, that another attempt would not mend. */
  nonRetryable?: ErrorKind[];
  /** Asked after each failed attempt; false ends the step. */
  retryIf?: (error: unknown) => boolean;
}

/** A workflow as the engine knows it. */
export interface WorkflowDefinition {
  name: string;
  version: number;
  queue: string;
  timeoutMs: number | undefined;
  cancelTimeoutMs: number;
  /** The class, for those who name a workflow by it. */
  target: WorkflowClass;
  run(input: unknown): unknown;
}

/** `order@1`: how a definition is named in the database and to people. */
export function definitionId(workflow: string, version: number): string {
  return `${workflow}@${version}`;
}

const WORKFLOW_OPTIONS = new Set<string>([
  'name',
  'version',
  'queue',
  'timeout',
  'cancelTimeout',
  'orchestration',
] satisfies (keyof WorkflowOptions)[]);
const STEP_OPTIONS = new Set<string>([
  'name',
  'retry',
  'timeout',
  'nonRetryable',
  'retryIf',
] satisfies (keyof StepOptions)[]);

/** What is wrong with the options of a workflow, for the report at boot. */
export function workflowProblems(options: WorkflowOptions): string[] {
  const problems = unknownOptions(options, WORKFLOW_OPTIONS);
  if (options.name !== undefined && !isName(options.name)) problems.push('name must be a text that is not empty');
  if (options.queue !== undefined && !isName(options.queue)) problems.push('queue must be a text that is not empty');
  if (options.version !== undefined && !(Number.isInteger(options.version) && options.version >= 1)) {
    problems.push(`version must be a whole number from 1, not ${String(options.version)}`);
  }
  return [...problems, ...durationProblems({ timeout: options.timeout, cancelTimeout: options.cancelTimeout })];
}

/** What is wrong with the options of a step. */
export function stepProblems(options: StepOptions): string[] {
  const problems = unknownOptions(options, STEP_OPTIONS);
  if (options.name !== undefined && !isName(options.name)) problems.push('name must be a text that is not empty');
  if (options.retryIf !== undefined && typeof options.retryIf !== 'function')
    problems.push('retryIf must be a function');
  for (const kind of options.nonRetryable ?? []) {
    if (typeof kind !== 'string' && typeof kind !== 'function')
      problems.push(`nonRetryable takes error classes and names, not ${String(kind)}`);
  }
  return [...problems, ...durationProblems({ timeout: options.timeout }), ...retryProblems(options.retry ?? {})];
}

function durationProblems(durations: Record<string, unknown>): string[] {
  return Object.entries(durations)
    .filter(([, value]) => value !== undefined && !((tryParseDuration(value) ?? 0) > 0))
    .map(([option, value]) => `${option} '${String(value)}' is no duration above zero`);
}

function unknownOptions(options: object, known: Set<string>): string[] {
  return Object.keys(options)
    .filter((option) => !known.has(option))
    .map((option) => `unknown option '${option}' (known: ${[...known].join(', ')})`);
}

function isName(value: unknown): boolean {
  return typeof value === 'string' && value.length > 0;
}
