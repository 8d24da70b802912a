import type { StandardSchemaV1 } from '@standard-schema/spec';
import { types } from 'node:util';
import { v4 as uuid } from 'uuid';
import type { Frame } from './branch.js';
import { continueAsNew } from './continuation.js';
import { frameFor, tolerant } from './current-run.js';
import type { TimeoutValue } from './child-orchestrator.js';
import type { InlineStepOptions } from './definition.js';
import { type CronOptions, parseCron } from './cron.js';
import { type Duration, parseDuration } from './duration.js';
import { NotInRunError, NotInTransactionError, ValidationError } from './errors.js';
import {
  type ApprovalOptions,
  checkInputOptions,
  type ChoiceOptions,
  type FormOptions,
  type InputOptions,
  type TextOptions,
} from './input-options.js';
import { InputWaitCommand } from './input-wait.js';
import type { Attributes } from './run.js';
import type { RunExecution } from './run-execution.js';
import type { Signal } from './signal.js';
import { type SignalWaitOptions, waitForSignal } from './signal-wait.js';
import { attributesProblem, check } from './start-options.js';
import type { StepContext } from './step-execution.js';
import { callStep, checkDataSource, checkedPlan, compensationInStep, StepCall } from './steps.js';
import {
  all,
  allSettled,
  any,
  type Branches,
  checkBranches,
  checkFunction,
  checkItems,
  mapInBranches,
  race,
  type SettledBranch,
  shield,
} from './structure.js';
import { TimerCommand } from './timer.js';
import type { StepManager } from './transactions.js';

const NO_ARGUMENTS: readonly unknown[] = [];

/** What `ctx.logger` has: Nest's Logger without its static side. */
export interface RunLogger {
  log(message: unknown, ...more: unknown[]): void;
  error(message: unknown, ...more: unknown[]): void;
  warn(message: unknown, ...more: unknown[]): void;
  debug(message: unknown, ...more: unknown[]): void;
  verbose(message: unknown, ...more: unknown[]): void;
}

/** The branch of a race that won, and its value. */
export type Winner<B extends Branches> = {
  [Name in keyof B & string]: { winner: Name; value: Awaited<ReturnType<B[Name]>> };
}[keyof B & string];

/** The current run, for the code of workflows and steps. Outside a run its members throw {@link NotInRunError}. */
export class RunContext {
  constructor(private readonly loggerOf: (context: string) => RunLogger) {}

  get runId(): string {
    return this.run('runId').id;
  }

  get workflow(): string {
    return this.run('workflow').workflow;
  }

  get version(): number {
    return this.run('version').version;
  }

  get key(): string | undefined {
    return this.run('key').key ?? undefined;
  }

  get parentId(): string | undefined {
    return this.run('parentId').parentId ?? undefined;
  }

  get rootId(): string {
    return this.run('rootId').rootId;
  }

  get tenant(): string | undefined {
    return this.run('tenant').tenant ?? undefined;
  }

  get attributes(): Readonly<Attributes> {
    return this.run('attributes').attributes;
  }

  /** Aborted when the run is cancelled, or lost to another worker. */
  get signal(): AbortSignal {
    return frameFor('ctx.signal').execution.signal;
  }

  /** Writes with the run's id and workflow; silent while the code is replayed. */
  get logger(): RunLogger {
    const { execution } = frameFor('ctx.logger');
    if (execution.isReplaying) return SILENT;
    const logger = this.loggerOf(`${execution.run.workflow} ${execution.run.id}`);
    return execution.hasBegun ? logger : onceBegun(execution, logger);
  }

  /** The attempt whose body this is. @throws NotInRunError outside the body of a step */
  get currentStep(): StepContext {
    const { attempt } = frameFor('ctx.currentStep');
    if (!attempt) throw new NotInRunError('ctx.currentStep', 'step');
    return attempt.context;
  }

  /** TypeORM's EntityManager of the transaction that this step's outcome commits in. @throws NotInTransactionError */
  get manager(): StepManager {
    const { attempt } = frameFor('ctx.manager');
    if (!attempt?.transaction) throw new NotInTransactionError();
    return attempt.transaction.manager;
  }

  /** The run's time: that of the last outcome that the code received, the same in every replay. In a step body: now. */
  now(): Date {
    const { execution, attempt } = frameFor('ctx.now');
    return new Date(attempt ? execution.clock.now() : execution.time);
  }

  /** A random number from 0 to 1, the same in every replay. */
  random(): number {
    return this.bytes('ctx.random').readUIntBE(0, 6) / 2 ** 48;
  }

  /** A random UUID, the same in every replay. */
  uuid(): string {
    return uuid({ random: this.bytes('ctx.uuid').subarray(0, 16) });
  }

  /** Sleeps durably: parked, over restarts, and without starting anew. Zero or less ends at once. */
  sleep(duration: Duration): Promise<void> {
    const frame = frameFor('ctx.sleep');
    const ms = parseDuration(duration, 'ctx.sleep');
    return sleepUntil(frame, (askedAt) => askedAt + ms);
  }

  /** Sleeps durably until a point in time. */
  sleepUntil(date: Date): Promise<void> {
    const frame = frameFor('ctx.sleepUntil');
    const time = types.isDate(date) ? date.getTime() : NaN;
    if (Number.isNaN(time))
      throw new ValidationError('ctx.sleepUntil', [{ message: `it takes a valid Date, not '${String(date)}'` }]);
    return sleepUntil(frame, () => time);
  }

  /**
   * Sleeps durably until the next tick of a cron expression, of 5 fields or of 6 with the seconds first. The time zone is UTC
   * unless one is given. @throws ValidationError
   */
  sleepUntilNext(cron: string, options: CronOptions = {}): Promise<void> {
    const frame = frameFor('ctx.sleepUntilNext');
    check('The options of ctx.sleepUntilNext', options, CRON_OPTIONS);
    return sleepUntil(frame, parseCron('ctx.sleepUntilNext', cron, options));
  }

  /**
   * For a change inside one version: true for runs that come to it after the change, false for those that were beyond it, in
   * every replay. One id is one change, and one answer in all of the run. @throws ValidationError
   */
  patched(id: string): boolean {
    const { execution } = frameFor('ctx.patched');
    if (typeof id !== 'string' || id === '')
      throw new ValidationError('ctx.patched', [{ message: 'the id must be a text that is not empty', path: ['id'] }]);
    return execution.isPatched(id);
  }

  /**
   * Waits, parked, for the next signal of that name: one that was sent before the wait, or the first to come. Each is received
   * once, in the order in which they were sent. @throws SignalTimeoutError, unless `timeoutValue` is given
   */
  waitForSignal<Payload, Value = never>(
    signal: Signal<Payload, unknown>,
    options?: SignalWaitOptions & TimeoutValue<Value>,
  ): Promise<Payload | Value>;
  waitForSignal<Payload = unknown>(
    signal: string,
    options?: SignalWaitOptions & TimeoutValue<unknown>,
  ): Promise<Payload>;
  waitForSignal(signal: Signal | string, options: SignalWaitOptions & TimeoutValue<unknown> = {}): Promise<unknown> {
    return waitForSignal(frameFor('ctx.waitForSignal'), signal, options);
  }

  /**
   * Asks a person, and waits for the answer: parked, and over restarts. `orchestrator.inputs` lists what is asked and takes
   * the answers. @throws InputTimeoutError, unless the options have the property `timeoutValue`; ValidationError
   */
  waitForInput<Value = never>(name: string, options: ApprovalOptions & TimeoutValue<Value>): Promise<boolean | Value>;
  waitForInput<Choice extends string, Value = never>(
    name: string,
    options: ChoiceOptions<Choice> & TimeoutValue<Value>,
  ): Promise<Choice | Value>;
  waitForInput<Value = never>(name: string, options: TextOptions & TimeoutValue<Value>): Promise<string | Value>;
  waitForInput<Schema extends StandardSchemaV1<unknown, unknown>, Value = never>(
    name: string,
    options: FormOptions<Schema> & TimeoutValue<Value>,
  ): Promise<StandardSchemaV1.InferOutput<Schema> | Value>;
  waitForInput(name: string, options: InputOptions & TimeoutValue<unknown>): Promise<unknown> {
    const frame = frameFor('ctx.waitForInput');
    checkInputOptions(name, options);
    const command = new InputWaitCommand(frame.execution, frame.branch, {
      type: options.type,
      prompt: options.prompt ?? null,
      choices: options.type === 'choice' ? options.choices : null,
      schema: options.type === 'form' ? options.schema : undefined,
      timeoutMs: options.timeout === undefined ? undefined : parseDuration(options.timeout),
      instead: Object.hasOwn(options, 'timeoutValue') ? { value: options.timeoutValue } : undefined,
    });
    frame.execution.issue(command, { kind: 'input', name }, frame);
    return command.promise;
  }

  /** Runs code as a step of that name; its outcome is recorded once. @throws StepFailedError when its attempts are used up */
  step<Value>(
    name: string,
    body: (context: StepContext) => Promise<Value> | Value,
    options?: InlineStepOptions,
  ): Promise<Value> {
    const frame = frameFor('ctx.step');
    const plan = checkedPlan(name, options);
    checkFunction(`ctx.step('${name}')`, body);
    return callStep(frame, new StepCall(name, NO_ARGUMENTS, plan, body)) as Promise<Value>;
  }

  /** The first branch to end, even by an error. The others are cancelled: their children, timers and step bodies. */
  race<B extends Branches>(branches: B): Promise<Winner<B>> {
    const frame = frameFor('ctx.race');
    checkBranches('ctx.race', branches, 1);
    return tolerant(race(frame, branches) as Promise<Winner<B>>);
  }

  /** The first branch to succeed; the others are cancelled. Throws an AggregateError when none does. */
  any<B extends Branches>(branches: B): Promise<Winner<B>> {
    const frame = frameFor('ctx.any');
    checkBranches('ctx.any', branches, 1);
    return tolerant(any(frame, branches) as Promise<Winner<B>>);
  }

  /** The values of all branches by name; the first error cancels the others. */
  all<B extends Branches>(branches: B): Promise<{ [Name in keyof B]: Awaited<ReturnType<B[Name]>> }> {
    const frame = frameFor('ctx.all');
    checkBranches('ctx.all', branches);
    return tolerant(all(frame, branches) as Promise<{ [Name in keyof B]: Awaited<ReturnType<B[Name]>> }>);
  }

  /** How each branch ended, by name. */
  allSettled<B extends Branches>(
    branches: B,
  ): Promise<{ [Name in keyof B]: SettledBranch<Awaited<ReturnType<B[Name]>>> }> {
    const frame = frameFor('ctx.allSettled');
    checkBranches('ctx.allSettled', branches);
    return tolerant(
      allSettled(frame, branches) as Promise<{
        [Name in keyof B]: SettledBranch<Awaited<ReturnType<B[Name]>>>;
      }>,
    );
  }

  /** Maps items, at most `concurrency` at a time; values in the order of the items. The first error cancels the rest. */
  map<Item, Value>(
    items: readonly Item[],
    code: (item: Item, index: number) => Promise<Value> | Value,
    options: { concurrency?: number } = {},
  ): Promise<Value[]> {
    const frame = frameFor('ctx.map');
    check('The options of ctx.map', options, MAP_OPTIONS);
    checkItems('ctx.map', items);
    checkFunction('ctx.map', code);
    const { concurrency = Infinity } = options;
    return tolerant(mapInBranches(frame, items, code, { concurrency }) as Promise<Value[]>);
  }

  /** Runs to its end even when the run is cancelled meanwhile. */
  shield<Value>(code: () => Promise<Value> | Value): Promise<Value> {
    const frame = frameFor('ctx.shield');
    checkFunction('ctx.shield', code);
    return tolerant(shield(frame, code));
  }

  /**
   * Begins the run anew with another input: the same id, key, deadline and version, a fresh history. Never resolves: what the
   * code still waits for is dropped. Children, and signals that were not read, stay. @throws PayloadError, ValidationError in a
   * step's body, CancelledError when the run is being cancelled
   */
  continueAsNew(input?: unknown): Promise<never> {
    return tolerant(continueAsNew(frameFor('ctx.continueAsNew'), input));
  }

  /**
   * Registers what undoes something that the run has done: called when the run fails or is cancelled, the last registered
   * first, recorded and tried again like a step. Register it right after the call that it undoes.
   * @throws ValidationError in the body of a step
   */
  compensate(name: string, undo: (context: StepContext) => unknown, options?: InlineStepOptions): void {
    const frame = frameFor('ctx.compensate');
    if (frame.attempt) throw compensationInStep(`ctx.compensate('${name}')`);
    checkFunction(`ctx.compensate('${name}')`, undo);
    const plan = checkedPlan(name, options);
    checkDataSource(frame, name, plan);
    frame.execution.compensations.register({ plan, name, body: undo });
  }

  /** The point of no return: what was registered so far will not be undone. @throws ValidationError in the body of a step */
  commit(): void {
    const { execution, attempt } = frameFor('ctx.commit');
    if (attempt) throw compensationInStep('ctx.commit()');
    execution.compensations.commit();
  }

  /** Progress that `orchestrator.get(id).state` shows. Need not be awaited. @throws PayloadError */
  setState(value: unknown): Promise<void> {
    const { execution } = frameFor('ctx.setState');
    execution.setState(execution.serializer.encode(value, 'the state of the run'));
    return Promise.resolve();
  }

  /** Adds to the values by which the run can be listed. Need not be awaited. @throws ValidationError */
  setAttributes(attributes: Attributes): Promise<void> {
    const { execution } = frameFor('ctx.setAttributes');
    const problem = attributesProblem(attributes);
    if (problem) throw new ValidationError('ctx.setAttributes', [{ message: `attributes ${problem}` }]);
    execution.setAttributes(attributes);
    return Promise.resolve();
  }

  private run(member: string) {
    return frameFor(`ctx.${member}`).execution.run;
  }

  private bytes(member: string): Buffer {
    const { execution, attempt } = frameFor(member);
    return (attempt ? attempt.source : execution.source).bytes();
  }
}

function sleepUntil(frame: Frame, endOf: (askedAt: number) => number): Promise<void> {
  const command = new TimerCommand(frame.execution, frame.branch, endOf);
  frame.execution.issue(command, { kind: 'timer', name: 'sleep' }, frame);
  return command.promise as Promise<void>;
}

const CRON_OPTIONS = new Set(['timeZone']);

const MAP_OPTIONS: ReadonlySet<string> = new Set(['concurrency']);

/** Of a run that is not committed: it may never be, and then it has written nothing. */
function onceBegun(execution: RunExecution, logger: RunLogger): RunLogger {
  const write =
    (level: keyof RunLogger) =>
    (...line: [unknown, ...unknown[]]) =>
      execution.whenBegun(() => logger[level](...line));
  return {
    log: write('log'),
    error: write('error'),
    warn: write('warn'),
    debug: write('debug'),
    verbose: write('verbose'),
  };
}

const nothing = (): void => {};
const SILENT: RunLogger = { log: nothing, error: nothing, warn: nothing, debug: nothing, verbose: nothing };
