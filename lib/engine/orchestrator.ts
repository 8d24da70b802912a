import type { Observable } from 'rxjs';
import { bulk, type BulkOptions, type BulkRequest, type BulkResult } from './bulk.js';
import { currentFrame } from './branch.js';
import type { FlowClass, InputOf, OutputOf, WorkflowClass, WorkflowReference } from './definition.js';
import { digestOf } from './digest.js';
import { type Duration, parseDuration } from './duration.js';
import type { Engine } from './engine.js';
import {
  InsideRunError,
  ResultTimeoutError,
  RunConflictError,
  RunNotFinishedError,
  RunNotFoundError,
  ValidationError,
} from './errors.js';
import type { RunEvent } from './events.js';
import { explain, type ExplainedRun, type ExplainedWorkflow, type Explanation } from './explain.js';
import { Inputs } from './inputs.js';
import { newId } from './new-id.js';
import { Queues } from './queues.js';
import type { HistoryEntry, Page, RunDetails, RunStatus, RunSummary, RunTree } from './run.js';
import type { PayloadAndOptions, RunRef, SendSignal, Signal, SignalOptions } from './signal.js';
import { checkSent, toNewSignal } from './signal-sender.js';
import type { ListFilter } from './run-queries.js';
import type { NewRun, StartResult } from './new-run.js';
import { check, type StartOptions, toNewRun } from './start-options.js';
import { type Stats, Workers } from './statistics.js';
import { Schedules } from './schedules.js';

/** A run that was started, or found by its key. */
export interface RunHandle<Output = unknown> {
  readonly id: string;
  /** False when the key found an existing run. */
  readonly started: boolean;
  /** Waits for the output. Throws as {@link Orchestrator.result} does. */
  result<Value = never>(options?: ResultOptions<Value>): Promise<Output | Value>;
  status(): Promise<RunStatus>;
  /** Sends a signal to the run. Throws as {@link Orchestrator.signal} does. */
  readonly signal: SendSignal<SignalOptions>;
  cancel(options?: CancelOptions): Promise<CancelCount>;
  children(filter?: ChildFilter): Promise<Page<RunSummary>>;
}

/** Options of a wait for a result. */
export interface ResultOptions<Value = never> {
  /** How long to wait; the run goes on. Default: until it ends. */
  timeout?: Duration;
  /** Given as an own property, even `undefined`, it is returned instead of {@link ResultTimeoutError}. */
  timeoutValue?: Value;
}

export interface CancelOptions {
  reason?: string;
  /** `'graceful'` (default): the code gets a CancelledError and may clean up. `'terminate'`: no user code runs any more. */
  mode?: 'graceful' | 'terminate';
}

/** `cancelled` are terminal now, `requested` still unwind; both 0 on a finished run. */
export interface CancelCount {
  cancelled: number;
  requested: number;
}

export interface ForkOptions {
  /** The first step that is not shared: its name, and the number of its call where that is not the first (`'charge#2'`). */
  fromStep: string;
  /** Default: the input of the original. */
  input?: unknown;
}

const CANCEL_OPTIONS = new Set(['reason', 'mode']);
const RESULT_OPTIONS = new Set(['timeout', 'timeoutValue']);
const FORK_OPTIONS = new Set(['fromStep', 'input']);

export type ChildFilter = Pick<ListFilter, 'status' | 'limit' | 'cursor'>;

/** The caller's TypeORM EntityManager: the start commits or rolls back with the caller's own writes. */
export interface WithinTransaction {
  manager?: TransactionManager;
}

/** Options of `orchestrator.signalWithStart`: those of the start, and the signal's `id`. */
export interface SignalWithStartOptions extends StartOptions, WithinTransaction {
  key: string;
  /** A signal with the same id counts once for that run. */
  id?: string;
}

/** What the engine needs of TypeORM's EntityManager. */
export interface TransactionManager {
  readonly queryRunner?: unknown;
}

/** Starts, watches and cancels runs, from anywhere in the app. */
export class Orchestrator {
  /** What runs wait for people to answer. */
  readonly inputs: Inputs;

  /** The queues: what waits there, pausing them, their limits at run time. */
  readonly queues: Queues;

  /** What starts runs at times. */
  readonly schedules: Schedules;

  /** The processes that execute runs. */
  readonly workers: Workers;

  constructor(
    private readonly engine: () => Promise<Engine>,
    /** What happens to runs in this process. */
    readonly events$: Observable<RunEvent>,
  ) {
    this.inputs = new Inputs(engine);
    this.queues = new Queues(engine);
    this.workers = new Workers(engine);
    this.schedules = new Schedules(engine, (run) => this.handle(run));
  }

  /**
   * Starts a run. Resolves when it is committed, or written when a `manager` is given.
   * @throws WorkflowNotRegisteredError, RunConflictError (the key has a run with another input), StartLimitError, PayloadError,
   *   ValidationError
   */
  async start<W extends WorkflowClass>(
    workflow: W,
    input: InputOf<W>,
    options?: StartOptions & WithinTransaction,
  ): Promise<RunHandle<OutputOf<W>>>;
  async start<Output = unknown>(
    workflow: FlowClass | string,
    input: unknown,
    options?: StartOptions & WithinTransaction,
  ): Promise<RunHandle<Output>>;
  async start(
    workflow: WorkflowReference,
    input: unknown,
    { manager, ...options }: StartOptions & WithinTransaction = {},
  ): Promise<RunHandle> {
    const engine = await this.engine();
    const { name, version, definition } = await engine.resolve(workflow);
    const run = toNewRun({ id: newId(), workflow: name, version, definition, input, options }, engine);
    if (manager !== undefined) {
      refuseFor('start with manager', options);
      return this.handleOf(run, { ...(await engine.startWithin(manager, run)), options });
    }
    if (options.debounce !== undefined) return this.handleOf(run, { result: await engine.startDebounced(run) });
    if (options.onConflict === 'replace') return this.handleOf(run, { result: await engine.startReplacing(run) });
    return this.handleOf(run, { result: await engine.start(run), options });
  }

  /** Starts many runs by one statement. Resolves when all are committed. */
  async startMany<W extends WorkflowClass>(
    workflow: W,
    starts: readonly ({ input: InputOf<W> } & StartOptions)[],
  ): Promise<RunHandle<OutputOf<W>>[]>;
  async startMany<Output = unknown>(
    workflow: FlowClass | string,
    starts: readonly ({ input: unknown } & StartOptions)[],
  ): Promise<RunHandle<Output>[]>;
  async startMany(
    workflow: WorkflowReference,
    starts: readonly ({ input: unknown } & StartOptions)[],
  ): Promise<RunHandle[]> {
    const engine = await this.engine();
    const { name, version, definition } = await engine.resolve(workflow);
    for (const { input: _, ...options } of starts) refuseFor('startMany', options);
    const runs = starts.map(({ input, ...options }) =>
      toNewRun({ id: newId(), workflow: name, version, definition, input, options }, engine),
    );
    const results = await engine.startMany(runs);
    return results.map((result, index) => this.handleOf(runs[index]!, { result, options: starts[index]! }));
  }

  /** Starts a run and waits for its result. */
  async execute<W extends WorkflowClass>(workflow: W, input: InputOf<W>, options?: StartOptions): Promise<OutputOf<W>>;
  async execute<Output = unknown>(
    workflow: FlowClass | string,
    input: unknown,
    options?: StartOptions,
  ): Promise<Output>;
  async execute(workflow: WorkflowReference, input: unknown, options?: StartOptions): Promise<unknown> {
    refuseInsideRun('orchestrator.execute', 'children.call');
    return (await this.start(workflow as string, input, options)).result();
  }

  /**
   * Waits for the output of a run; woken by its end, wherever it executes.
   * @throws RunFailedError, RunCancelledError, ResultTimeoutError, RunNotFoundError, ValidationError; InsideRunError inside a run
   */
  async result<Output = unknown, Value = never>(
    runId: string,
    options: ResultOptions<Value> = {},
  ): Promise<Output | Value> {
    return this.resultOf<Output, Value>(runId, options);
  }

  /**
   * Cancels a run and all its active descendants; the request reaches them in one transaction. Idempotent.
   * @throws RunNotFoundError, ValidationError
   */
  async cancel(runId: string, options: CancelOptions = {}): Promise<CancelCount> {
    check('The options of cancel', options, CANCEL_OPTIONS);
    const engine = await this.engine();
    return engine.cancel(runId, { reason: options.reason ?? null, terminate: options.mode === 'terminate' });
  }

  /**
   * Sends a signal to a run. It is buffered until the code waits for it, also while the run is paused or blocked. Resolves when
   * it is committed, or written when a `manager` is given. @throws RunNotFoundError, RunFinishedError, ValidationError, PayloadError
   */
  async signal<Input>(
    run: RunRef,
    signal: Signal<unknown, Input>,
    ...args: PayloadAndOptions<Input, SignalOptions>
  ): Promise<void>;
  async signal(run: RunRef, signal: string, payload?: unknown, options?: SignalOptions): Promise<void>;
  async signal(
    run: RunRef,
    signal: Signal | string,
    payload?: unknown,
    { manager, ...options }: SignalOptions = {},
  ): Promise<void> {
    const engine = await this.engine();
    const runId = typeof run === 'string' ? run : await this.idOf(run);
    const newSignal = await toNewSignal(runId, { signal, payload, options }, engine.serializer);
    const sent =
      manager === undefined ? await engine.signal(newSignal) : await engine.store.signalWithin(manager, newSignal);
    checkSent(sent, runId);
  }

  /**
   * Starts a run with that key, or finds the one that has it, and sends it a signal: both or neither.
   * @throws RunFinishedError (the run of that key has ended), and as {@link start} and {@link signal}
   */
  async signalWithStart<W extends WorkflowClass, Input>(
    workflow: W,
    input: InputOf<W>,
    signal: Signal<unknown, Input>,
    payload: Input,
    options: SignalWithStartOptions,
  ): Promise<RunHandle<OutputOf<W>>>;
  async signalWithStart<W extends WorkflowClass>(
    workflow: W,
    input: InputOf<W>,
    signal: string,
    payload: unknown,
    options: SignalWithStartOptions,
  ): Promise<RunHandle<OutputOf<W>>>;
  async signalWithStart<Output = unknown, Input = unknown>(
    workflow: FlowClass | string,
    input: unknown,
    signal: Signal<unknown, Input> | string,
    payload: Input,
    options: SignalWithStartOptions,
  ): Promise<RunHandle<Output>>;
  async signalWithStart(
    workflow: WorkflowReference,
    input: unknown,
    signal: Signal | string,
    payload: unknown,
    { id, manager, ...options }: SignalWithStartOptions,
  ): Promise<RunHandle> {
    if (options.key === undefined)
      throw new ValidationError('The options of signalWithStart', [
        { message: 'key is needed: it says which run the signal is for', path: ['key'] },
      ]);
    refuseFor('signalWithStart', options);
    const engine = await this.engine();
    const { name, version, definition } = await engine.resolve(workflow);
    const run = toNewRun({ id: newId(), workflow: name, version, definition, input, options }, engine);
    const newSignal = await toNewSignal(run.id, { signal, payload, options: { id } }, engine.serializer);
    if (manager !== undefined) {
      const started = await engine.startWithin(manager, run);
      const handle = this.handleOf(run, { ...started, options });
      checkSent(await engine.store.signalWithin(manager, { ...newSignal, runId: handle.id }), handle.id);
      return handle;
    }
    const isRefused = (start: StartResult) => conflictOf(run, start, options) !== undefined;
    const { start, sent } = await engine.startWithSignal({ run, signal: newSignal, isRefused });
    const handle = this.handleOf(run, { result: start, options });
    checkSent(sent!, handle.id);
    return handle;
  }

  /** A run with its payloads. @throws RunNotFoundError */
  async get(runId: string): Promise<RunDetails> {
    const run = await (await this.engine()).store.runs.get(runId);
    if (!run) throw new RunNotFoundError(runId);
    return run;
  }

  /** The run that was started with that key, or undefined. */
  async findByKey(workflow: WorkflowReference, key: string): Promise<RunDetails | undefined> {
    const engine = await this.engine();
    const name = typeof workflow === 'string' ? workflow : (await engine.resolve(workflow)).name;
    return engine.store.runs.findByKey(name, key);
  }

  /** The recorded outcomes of a run, in the order of `seq`. */
  async history(runId: string): Promise<HistoryEntry[]> {
    return (await this.engine()).store.runs.history(runId);
  }

  /** A run and its descendants; for the whole family give it the run's `rootId`. @throws RunNotFoundError */
  async tree(runId: string): Promise<RunTree> {
    const tree = await (await this.engine()).store.runs.tree(runId);
    if (!tree) throw new RunNotFoundError(runId);
    return tree;
  }

  /** Runs without their payloads, newest first, page by page. @throws ValidationError */
  async list(filter: ListFilter = {}): Promise<Page<RunSummary>> {
    return (await this.engine()).store.runs.list(filter);
  }

  /** The children of a run, newest first. */
  listChildren(runId: string, filter: ChildFilter = {}): Promise<Page<RunSummary>> {
    return this.list({ ...filter, parentId: runId });
  }

  /**
   * Pauses a run: a step that is running ends, and its outcome is recorded; then nothing of the run is executed until
   * {@link resume}. What happens to it meanwhile is kept. A cancellation ends the pause. Idempotent.
   * @throws RunNotFoundError, RunFinishedError
   */
  async pause(runId: string): Promise<void> {
    await (await this.engine()).pause(runId);
  }

  /** Lets a paused run go on. Idempotent. @throws RunNotFoundError, RunFinishedError */
  async resume(runId: string): Promise<void> {
    await (await this.engine()).resume(runId);
  }

  /**
   * Lets a failed, cancelled or blocked run go on from its last recorded outcome, with fresh attempts.
   * @throws RunNotFoundError, RunNotFinishedError
   */
  async retry(runId: string): Promise<void> {
    const engine = await this.engine();
    const result = await engine.store.retry(runId);
    if (!result) throw new RunNotFoundError(runId);
    if (!result.retried)
      throw new RunNotFinishedError(runId, result.status, 'only a failed, cancelled or blocked run can be retried');
    engine.woken(result.woken);
  }

  /**
   * Starts a run that shares the history of another before a step, and goes on from there: with the same input, or with the one
   * that is given. The original is not touched, whatever its status; children that the shared history has are not started again.
   * @throws RunNotFoundError, ValidationError (no such step), StartLimitError, PayloadError
   */
  async fork<Output = unknown>(runId: string, options: ForkOptions): Promise<RunHandle<Output>> {
    const engine = await this.engine();
    check(
      `The options of fork('${runId}')`,
      { ...options, fromStep: (options.fromStep as string | undefined) ?? null },
      FORK_OPTIONS,
    );
    const forkId = newId();
    const input = Object.hasOwn(options, 'input')
      ? { stored: engine.serializer.encode(options.input, 'the input of the fork'), digest: digestOf(options.input) }
      : undefined;
    const fork = await engine.fork({ runId, newId: forkId, fromStep: options.fromStep, input });
    if (!fork) throw new RunNotFoundError(runId);
    if ('steps' in fork) throw unknownStep(runId, options.fromStep, fork.steps);
    engine.woken(fork.woken);
    return this.handle<Output>({ id: forkId, started: true });
  }

  /**
   * Deletes a finished run and all its descendants, with their histories, in one transaction; its key is free again. Refused while one of them
   * is active, or an active run needs one: its parent, or a run that waits for it.
   * @throws RunNotFoundError, RunNotFinishedError
   */
  async delete(runId: string): Promise<void> {
    const deletion = await (await this.engine()).store.delete(runId);
    if (!deletion) throw new RunNotFoundError(runId);
    const { hindrance } = deletion;
    if (hindrance) throw new RunNotFinishedError(hindrance.id, hindrance.status, whyKept(runId, hindrance));
  }

  /**
   * The shape of a workflow of this process (its class or name), or what a run (its id) did so far and waits for, with its
   * descendants. A large run is cut: see {@link ExplainedRun.isCut}.
   * @throws RunNotFoundError, WorkflowNotRegisteredError
   */
  async explain(workflow: WorkflowClass | FlowClass): Promise<Explanation<ExplainedWorkflow>>;
  async explain<Tree extends ExplainedWorkflow | ExplainedRun = ExplainedRun>(
    runIdOrName: string,
  ): Promise<Explanation<Tree>>;
  async explain(subject: WorkflowReference): Promise<Explanation> {
    return explain(await this.engine(), subject);
  }

  private async idOf({ workflow, key }: Exclude<RunRef, string>): Promise<string> {
    const engine = await this.engine();
    const name = typeof workflow === 'string' ? workflow : (await engine.resolve(workflow)).name;
    const id = await engine.store.runs.findId(name, key);
    if (id === undefined)
      throw new RunNotFoundError(`${name}/${key}`, `run of workflow '${name}' with the key '${key}'`);
    return id;
  }

  /**
   * Cancels, retries or deletes all runs that a filter matches, in batches; with `dryRun` it only counts them. After an
   * interruption the same call goes on. @throws ValidationError
   */
  async bulk(request: BulkRequest, options: BulkOptions = {}): Promise<BulkResult> {
    return bulk(await this.engine(), request, options);
  }

  /** How many runs there are, where, since when the oldest is due, and how large the tables are. */
  async stats(): Promise<Stats> {
    return (await this.engine()).store.stats();
  }

  private async resultOf<Output, Value = never>(
    runId: string,
    options: ResultOptions<Value>,
    isUncommitted?: IsUncommitted,
  ): Promise<Output | Value> {
    refuseInsideRun('orchestrator.result', 'children.await');
    check('The options of result', options, RESULT_OPTIONS);
    const timeoutMs = options.timeout === undefined ? undefined : parseDuration(options.timeout);
    const { results } = await this.engine();
    try {
      return (await results.of(runId, { timeoutMs, isUncommitted })) as Output;
    } catch (error) {
      if (error instanceof ResultTimeoutError && Object.hasOwn(options, 'timeoutValue')) return options.timeoutValue!;
      throw error;
    }
  }

  private handleOf<Output>(run: NewRun, { result, options, isUncommitted }: Started): RunHandle<Output> {
    if (options) checkConflict(run, result, options);
    return this.handle<Output>(result, isUncommitted);
  }

  private handle<Output>(
    { id, started }: Pick<StartResult, 'id' | 'started'>,
    isUncommitted?: IsUncommitted,
  ): RunHandle<Output> {
    return {
      id,
      started,
      result: <Value = never>(options: ResultOptions<Value> = {}) =>
        this.resultOf<Output, Value>(id, options, isUncommitted),
      status: async () => (await this.get(id)).status,
      signal: (signal: Signal | string, ...args: [payload?: unknown, options?: SignalOptions]) =>
        this.signal(id, signal as string, ...args),
      cancel: (how) => this.cancel(id, how),
      children: (filter) => this.listChildren(id, filter),
    };
  }
}

/** Asked while the run is not seen: whether the transaction that wrote it has not ended yet. */
type IsUncommitted = (this: void) => boolean;

interface Started {
  result: StartResult;
  /** Undefined: there is no conflict with the run that has the key. */
  options?: StartOptions;
  isUncommitted?: IsUncommitted;
}

/** They change the run that has the key, which a batch, or somebody's long transaction, would hold up. */
function refuseFor(what: string, { debounce, onConflict }: StartOptions): void {
  const option = debounce === undefined ? onConflict === 'replace' && "onConflict: 'replace'" : 'debounce';
  if (!option) return;
  throw new ValidationError(`The options of ${what}`, [
    { message: `${option} is for a start of its own: use start() without a manager`, path: [option.split(':')[0]!] },
  ]);
}

function checkConflict(run: NewRun, result: StartResult, options: StartOptions): void {
  const conflict = conflictOf(run, result, options);
  if (conflict) throw conflict;
}

function conflictOf(run: NewRun, result: StartResult, options: StartOptions): RunConflictError | undefined {
  if (result.started || run.key === null) return undefined;
  if (result.inputDigest !== run.inputDigest)
    return new RunConflictError(run.workflow, run.key, result.id, 'other input');
  return options.onConflict === 'reject'
    ? new RunConflictError(run.workflow, run.key, result.id, 'rejected')
    : undefined;
}

function unknownStep(runId: string, fromStep: string, steps: string[]): ValidationError {
  const known = steps.length ? `it has ${steps.map((step) => `'${step}'`).join(', ')}` : 'it has none';
  const message = `run ${runId} has no step '${fromStep}' on record; ${known}`;
  return new ValidationError('fromStep', [{ message, path: ['fromStep'] }]);
}

/** What an active run has to do with the run that was to be deleted. */
function whyKept(runId: string, { id, needs }: { id: string; needs: string | undefined }): string {
  if (needs) return `it needs run ${needs}, which can be deleted when it has ended`;
  if (id === runId) return 'only a finished run can be deleted, so cancel it first';
  return `it is a descendant of run ${runId}, which can be deleted when it has ended`;
}

/** It would hold the run's slot while it waits, and a replay would wait for something else. */
function refuseInsideRun(member: string, instead: string): void {
  if (currentFrame()) throw new InsideRunError(member, instead);
}
