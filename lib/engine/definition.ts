import { type Duration, tryParseDuration } from './duration.js';
import type { ExplainedGroup, ExplainedStep } from './explain.js';
import { declaredProblems, type DeclaredSchedule } from './schedule-options.js';
import { type ErrorKind, type RetryOptions, retryProblems } from './retry-policy.js';

/** What a workflow class has: its code. `run` may be async or not. */
export interface WorkflowHandler<Input = unknown, Output = unknown> {
  run(input: Input): Promise<Output> | Output;
}

/** Only in types: what a flow takes and gives. */
declare const TYPES: unique symbol;

interface TypedFlow<Input, Output> {
  readonly [TYPES]: (input: Input) => Output;
}

/**
 * A workflow class without `run`: its `@Step` methods run in the order in which they are written. The first gets the input,
 * each later one what the one before returned.
 *
 * `implements Flow<Order, Receipt>` says so to readers, and refuses a `run`. TypeScript infers nothing from `implements`;
 * with `extends Flow<Order, Receipt>` start, call and result are typed as those of a class with `run`.
 */
export type Flow<Input = unknown, Output = unknown> = object & {
  readonly run?: never;
  readonly [TYPES]?: (input: Input) => Output;
};
export const Flow = function () {} as unknown as abstract new <Input = unknown, Output = unknown>() => TypedFlow<
  Input,
  Output
>;

/** A workflow class; inputs and outputs are inferred from its `run`, or from the `Flow` that it extends. */
// The argument list of a provider is Nest's affair and may be anything.
export type WorkflowClass<Input = never, Output = unknown> = abstract new (
  ...args: never[]
) => WorkflowHandler<Input, Output> | TypedFlow<Input, Output>;

/** A flow that does not extend `Flow`: the types of its input and output are given by hand. */
export type FlowClass = abstract new (...args: never[]) => object & { run?: never; [TYPES]?: never };

/** Any workflow, by its class or its name. */
export type WorkflowReference = WorkflowClass | FlowClass | string;

/** The input of a workflow class. */
export type InputOf<W> = W extends abstract new (...args: never[]) => TypedFlow<infer Input, unknown>
  ? Input
  : W extends abstract new (...args: never[]) => { run(input: infer Input): unknown }
    ? Input
    : unknown;
/** The output of a workflow class. */
export type OutputOf<W> = W extends abstract new (...args: never[]) => TypedFlow<never, infer Output>
  ? Output
  : W extends abstract new (...args: never[]) => { run(...args: never[]): infer Output }
    ? Awaited<Output>
    : unknown;

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
  /** How long its runs are kept when they have ended, whatever their end. Default: as `forRoot({ retention })` says. */
  retention?: Duration;
  /** What starts its runs at times: `[{ cron: '0 9 * * *', timeZone: 'Europe/Oslo' }]`. Each process brings them up to date at its boot. */
  schedules?: DeclaredSchedule[];
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
  /**
   * Runs the body inside a transaction on the app's TypeORM DataSource, `ctx.manager`, in which its outcome commits too: what
   * it writes is there exactly once. Default false.
   */
  transactional?: boolean;
  /**
   * Records that an attempt begins before its body does, so that none is begun twice: a process that dies in it surfaces as
   * StepInterruptedError. One attempt, unless `retry` says otherwise. Not together with `transactional`. Default false.
   */
  atMostOnce?: boolean;
  /**
   * The method of the same provider that undoes the step: called with `(output, ...args)` of it when the run fails or is cancelled
   * after the step has completed. It is tried as often as its own `@Step` options say, or as a step is by default.
   */
  compensate?: string;
}

/** Options of a step that is no method. */
export type InlineStepOptions = Omit<StepOptions, 'name' | 'compensate'>;

/** Options of `@Step` that only the steps of a flow have. */
export interface FlowStepOptions {
  /** The group of neighbours that this step runs in, side by side; after it the data is `{ ...data, [group]: { [step]: result } }`. */
  parallel?: string;
  /**
   * Of a group, given on any one of its steps. `'fail_fast'` (default): the first failure cancels the others. `'complete_all'`:
   * each result is `{ status: 'fulfilled', value }` or `{ status: 'rejected', error }`.
   */
  onError?: OnError;
  /** Whether the step runs. Asked once, with the data; the answer is recorded. It must not be async. */
  // What a step before gave is not known to the compiler here, and `(data) => data.paid` shall do.
  // oxlint-disable-next-line typescript/no-explicit-any
  when?: (data: any) => boolean;
}

export type OnError = 'fail_fast' | 'complete_all';

/** A workflow as the engine knows it. */
export interface WorkflowDefinition {
  name: string;
  version: number;
  queue: string;
  timeoutMs: number | undefined;
  cancelTimeoutMs: number;
  retentionMs: number | undefined;
  schedules: readonly DeclaredSchedule[];
  /** The class, for those who name a workflow by it. */
  target: WorkflowClass | FlowClass;
  isFlow: boolean;
  /** The steps that the class declares; those of a flow in their order and groups. */
  steps: readonly (ExplainedStep | ExplainedGroup)[];
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
  'retention',
  'schedules',
  'orchestration',
] satisfies (keyof WorkflowOptions)[]);
const STEP_OPTIONS = new Set<string>([
  'name',
  'retry',
  'timeout',
  'nonRetryable',
  'retryIf',
  'transactional',
  'atMostOnce',
  'compensate',
] satisfies (keyof StepOptions)[]);
/** `compensate` is refused with a hint of its own. */
export const INLINE_STEP_OPTIONS: ReadonlySet<string> = new Set(
  [...STEP_OPTIONS].filter((option) => option !== 'name'),
);
/** What `@Step` knows; what of it the step of a flow may have only, the flow checks. */
export const DECLARED_STEP_OPTIONS: ReadonlySet<string> = new Set<string>([
  ...STEP_OPTIONS,
  ...(['parallel', 'onError', 'when'] satisfies (keyof FlowStepOptions)[]),
]);

/** What is wrong with the options of a workflow, for the report at boot. */
export function workflowProblems(options: WorkflowOptions): string[] {
  const problems = unknownOptions(options, WORKFLOW_OPTIONS);
  if (options.name !== undefined && !isName(options.name)) problems.push('name must be a text that is not empty');
  if (options.queue !== undefined && !isName(options.queue)) problems.push('queue must be a text that is not empty');
  if (options.version !== undefined && !(Number.isInteger(options.version) && options.version >= 1)) {
    problems.push(`version must be a whole number from 1, not ${String(options.version)}`);
  }
  return [
    ...problems,
    ...durationProblems({
      timeout: options.timeout,
      cancelTimeout: options.cancelTimeout,
      retention: options.retention,
    }),
    ...schedulesProblems(options.schedules),
  ];
}

/** What is wrong with the options of a step. */
export function stepProblems(options: StepOptions, known: ReadonlySet<string> = STEP_OPTIONS): string[] {
  const problems = unknownOptions(options, known);
  if (options.name !== undefined && !isName(options.name)) problems.push('name must be a text that is not empty');
  if (options.retryIf !== undefined && typeof options.retryIf !== 'function')
    problems.push('retryIf must be a function');
  for (const option of ['transactional', 'atMostOnce'] as const) {
    if (options[option] !== undefined && typeof options[option] !== 'boolean')
      problems.push(`${option} must be true or false, not ${JSON.stringify(options[option])}`);
  }
  if (options.transactional && options.atMostOnce)
    problems.push(
      'transactional and atMostOnce exclude each other: what a transactional step writes is there exactly once',
    );
  if (options.compensate !== undefined && !isName(options.compensate))
    problems.push('compensate must be the name of a method of the same class');
  for (const kind of [options.nonRetryable ?? []].flat()) {
    if (typeof kind !== 'string' && typeof kind !== 'function')
      problems.push(`nonRetryable takes error classes and names, not ${String(kind)}`);
  }
  if (options.nonRetryable !== undefined && !Array.isArray(options.nonRetryable))
    problems.push('nonRetryable must be a list');
  return [
    ...problems,
    ...durationProblems({ timeout: options.timeout }),
    ...(options.retry === undefined ? [] : retryProblems(options.retry)),
  ];
}

/** Why a transactional step is refused where the engine was given no DataSource of the app. */
export function needsDataSource(): string {
  return (
    'transactional: true needs a TypeORM DataSource of the app, in whose transactions its body writes: register one with ' +
    'TypeOrmModule, or give forRoot a `dataSource` (instead of a `connection`)'
  );
}

function schedulesProblems(schedules: DeclaredSchedule[] = []): string[] {
  if (!Array.isArray(schedules)) return ['schedules must be a list'];
  return schedules.flatMap((schedule, index) =>
    declaredProblems(schedule).map((problem) => `schedules[${index}]: ${problem}`),
  );
}

function durationProblems(durations: Record<string, unknown>): string[] {
  return Object.entries(durations)
    .filter(([, value]) => value !== undefined && !((tryParseDuration(value) ?? 0) > 0))
    .map(([option, value]) => `${option} '${String(value)}' is no duration above zero`);
}

function unknownOptions(options: object, known: ReadonlySet<string>): string[] {
  return Object.keys(options)
    .filter((option) => !known.has(option))
    .map((option) => `unknown option '${option}' (known: ${[...known].join(', ')})`);
}

export function isName(value: unknown): boolean {
  return typeof value === 'string' && value.length > 0;
}
