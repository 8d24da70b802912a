import type { Frame } from './branch.js';
import { ChildStartCommand, ChildWaitCommand, type SettledChild } from './child-commands.js';
import type { ChildLink } from './child-links.js';
import { frameFor, tolerant } from './current-run.js';
import type {
  FlowClass,
  InputOf,
  OutputOf,
  WorkflowClass,
  WorkflowDefinition,
  WorkflowReference,
} from './definition.js';
import { digestOf } from './digest.js';
import { type Duration, tryParseDuration } from './duration.js';
import { ChildCancelledError, DepthLimitError, RunNotFoundError, ValidationError } from './errors.js';
import { newId } from './new-id.js';
import type { CancelCount, ChildFilter } from './orchestrator.js';
import type { ExecutionHost } from './execution-host.js';
import type { Page, RunStatus, RunSummary } from './run.js';
import { sendFromRun } from './child-signals.js';
import type { PayloadAndOptions, SendOptions, SendSignal, Signal } from './signal.js';
import { check, type RunOptions } from './start-options.js';
import { callStep, planStep, StepCall } from './steps.js';
import type { NewRun } from './new-run.js';
import { checkItems, mapInBranches } from './structure.js';
import { UNRESOLVED_VERSION } from './unresolved-version.js';

/** How long a chain of children may become; the root counts. */
const DEPTH_LIMIT = 100;

/** Options of every start of a child. */
export interface ChildOptions extends RunOptions {
  /** The child's name in this run. Asking again for a ref gives the child that there is. Default: a new child for each call. */
  ref?: string;
  /** What the child gets of its parent's, beside tenant and priority. */
  inherit?: readonly ('attributes' | 'context')[];
  /** What happens to the child when this run completes or fails while it is active. Default `'abandon'`: it goes on. */
  parentClose?: 'abandon' | 'cancel';
}

/** Options of every wait for a run. */
export interface WaitOptions {
  /** How long to wait. Durable: a restart does not start it anew; zero or less ends at once. */
  timeout?: Duration;
}

/** Given as an own property, even `undefined`, it is returned instead of the timeout's error. */
export interface TimeoutValue<Value> {
  timeoutValue?: Value;
}

/** Options of a call. */
export interface CallOptions extends ChildOptions, WaitOptions {
  /** What a timeout does to the child. Default `'cancel'`. */
  onTimeout?: 'cancel' | 'abandon';
  /** Whether this run, when cancelled, ends after the child has ended (default `'wait'`), or at once. */
  cancellation?: 'wait' | 'try';
}

/** Options of a start that is not waited for. */
export interface ChildStartOptions extends ChildOptions {
  /** Goes on when this run is cancelled. */
  detached?: boolean;
}

/** Options of a map that ends with the first failure. */
export interface MapOptions<Input> extends Omit<CallOptions, 'ref'> {
  /** Names each child. Default: a new child for each input. */
  ref?: (input: Input, index: number) => string;
  /** Children at a time. Default: all. */
  concurrency?: number;
}

/** Options of a map that returns how each child ended. */
export interface SettledMapOptions<Input> extends MapOptions<Input> {
  /** Ends, and cancels the rest, when so many have completed, or no longer can. */
  minSuccessful?: number;
  /** Ends, and cancels the rest, when more than so many have not completed. */
  tolerateFailures?: number;
}

/** A child that was started and is not waited for. */
export interface ChildHandle<Output = unknown> {
  readonly id: string;
  readonly ref: string;
  /** False when the ref found a child that there was. */
  readonly started: boolean;
  /** A durable wait, with the outcomes of {@link ChildOrchestrator.call}. */
  result<Value>(options: WaitOptions & { timeoutValue: Value }): Promise<Output | Value>;
  result(options?: WaitOptions): Promise<Output>;
  status(): Promise<RunStatus>;
  /** The child's own children, newest first. Recorded like a step. */
  children(filter?: ChildFilter): Promise<Page<RunSummary>>;
  /** Recorded like a step. Throws as {@link ChildOrchestrator.signal} does. */
  readonly signal: SendSignal<SendOptions>;
  cancel(reason?: string): Promise<CancelCount>;
}

const RUN_OPTIONS = ['ref', 'queue', 'priority', 'label', 'attributes', 'inherit', 'parentClose'];
const START_OPTIONS = new Set([...RUN_OPTIONS, 'detached']);
const WAIT_OPTIONS = new Set(['timeout', 'timeoutValue']);
const SETTLED_OPTIONS = new Set([...RUN_OPTIONS, 'timeout', 'onTimeout', 'cancellation']);
const CALL_OPTIONS = new Set([...SETTLED_OPTIONS, 'timeoutValue']);
const MAP_OPTIONS = new Set([...SETTLED_OPTIONS, 'concurrency', 'minSuccessful', 'tolerateFailures']);
const QUERY = planStep({ nonRetryable: [ValidationError] });

/** Lets the code of a run call other workflows and wait for them durably, or start them and go on. */
export class ChildOrchestrator {
  /**
   * Runs a child and waits for its output, parked: without a slot, a connection or a query.
   * @throws ChildFailedError, ChildCancelledError, ChildTimeoutError; ChildRefConflictError, DepthLimitError, PayloadError
   */
  call<W extends WorkflowClass, Value = never>(
    workflow: W,
    input: InputOf<W>,
    options?: CallOptions & TimeoutValue<Value>,
  ): Promise<OutputOf<W> | Value>;
  call<Output = unknown>(
    workflow: FlowClass | string,
    input: unknown,
    options?: CallOptions & TimeoutValue<unknown>,
  ): Promise<Output>;
  call(
    workflow: WorkflowReference,
    input: unknown,
    options: CallOptions & TimeoutValue<unknown> = {},
  ): Promise<unknown> {
    const frame = frameFor('children.call');
    return tolerant(
      attempt(() => callChild(frame, { workflow, input, options, allowed: CALL_OPTIONS })).then((settled) =>
        unwrap(settled, options),
      ),
    );
  }

  /** As {@link call}, but how the child ended is returned, not thrown. */
  callSettled<W extends WorkflowClass>(
    workflow: W,
    input: InputOf<W>,
    options?: CallOptions,
  ): Promise<SettledChild<OutputOf<W>>>;
  callSettled<Output = unknown>(
    workflow: FlowClass | string,
    input: unknown,
    options?: CallOptions,
  ): Promise<SettledChild<Output>>;
  callSettled(workflow: WorkflowReference, input: unknown, options: CallOptions = {}): Promise<SettledChild<unknown>> {
    const frame = frameFor('children.callSettled');
    return tolerant(attempt(() => callChild(frame, { workflow, input, options, allowed: SETTLED_OPTIONS })));
  }

  /** Starts a child and resolves when it is durable. @throws ChildRefConflictError, DepthLimitError, PayloadError */
  start<W extends WorkflowClass>(
    workflow: W,
    input: InputOf<W>,
    options?: ChildStartOptions,
  ): Promise<ChildHandle<OutputOf<W>>>;
  start<Output = unknown>(
    workflow: FlowClass | string,
    input: unknown,
    options?: ChildStartOptions,
  ): Promise<ChildHandle<Output>>;
  start(workflow: WorkflowReference, input: unknown, options: ChildStartOptions = {}): Promise<ChildHandle> {
    const frame = frameFor('children.start');
    return tolerant(
      attempt(() => startChild(frame, { workflow, input, options, allowed: START_OPTIONS })).then(({ link, isNew }) =>
        this.handle(link, isNew),
      ),
    );
  }

  /** Waits for the end of any run, also of one that this run did not start. @throws RunNotFoundError, and as {@link call} */
  await<Output = unknown>(runId: string, options: WaitOptions & TimeoutValue<unknown> = {}): Promise<Output> {
    const frame = frameFor('children.await');
    return tolerant(
      attempt(() => awaitRun(frame, runId, options)).then((settled) => unwrap(settled, options) as Output),
    );
  }

  /**
   * A child for each input; the outputs in the order of the inputs. The first that does not complete cancels the rest and
   * throws its error. With `minSuccessful` or `tolerateFailures` it returns how each ended, as soon as that is decided.
   */
  map<W extends WorkflowClass>(
    workflow: W,
    inputs: readonly InputOf<W>[],
    options?: MapOptions<InputOf<W>> & { minSuccessful?: undefined; tolerateFailures?: undefined },
  ): Promise<OutputOf<W>[]>;
  map<W extends WorkflowClass>(
    workflow: W,
    inputs: readonly InputOf<W>[],
    options: SettledMapOptions<InputOf<W>>,
  ): Promise<SettledChild<OutputOf<W>>[]>;
  map<Output = unknown>(
    workflow: FlowClass | string,
    inputs: readonly unknown[],
    options?: SettledMapOptions<unknown>,
  ): Promise<Output[]>;
  map(
    workflow: WorkflowReference,
    inputs: readonly unknown[],
    options: SettledMapOptions<never> = {},
  ): Promise<unknown[]> {
    return tolerant(mapChildren(frameFor('children.map'), workflow, inputs, options));
  }

  /** The children of this run, newest first. Recorded like a step. */
  list(filter: ChildFilter = {}): Promise<Page<RunSummary>> {
    const frame = frameFor('children.list');
    return this.childrenOf(frame, frame.execution.run.id, 'children.list', filter);
  }

  /** The child of that ref, or undefined. Recorded like a step. */
  get(ref: string): Promise<RunSummary | undefined> {
    const frame = frameFor('children.get');
    const link = frame.execution.children.get(ref);
    return this.recorded(frame, 'children.get', ref, ({ store }) => link && store.runs.get(link.id)) as Promise<
      RunSummary | undefined
    >;
  }

  /** Cancels a child with its descendants. Recorded like a step. @throws RunNotFoundError */
  cancel(ref: string, reason?: string): Promise<CancelCount> {
    const frame = frameFor('children.cancel');
    const id = frame.execution.children.get(ref)?.id;
    if (id === undefined) return tolerant(Promise.reject(noSuchRef(frame, ref)));
    return this.recorded(frame, 'children.cancel', ref, (host) =>
      host.cancel(id, { reason: reason ?? null, terminate: false }),
    ) as Promise<CancelCount>;
  }

  /**
   * Sends a signal to a child. Recorded like a step, and sent once whatever crashes.
   * @throws RunNotFoundError (there is no such ref), RunFinishedError, ValidationError, PayloadError
   */
  signal<Input>(
    ref: string,
    signal: Signal<unknown, Input>,
    ...args: PayloadAndOptions<Input, SendOptions>
  ): Promise<void>;
  signal(ref: string, signal: string, payload?: unknown, options?: SendOptions): Promise<void>;
  signal(ref: string, signal: Signal | string, payload?: unknown, options: SendOptions = {}): Promise<void> {
    const frame = frameFor('children.signal');
    const link = frame.execution.children.get(ref);
    if (!link) return tolerant(Promise.reject(noSuchRef(frame, ref)));
    return tolerant(sendFromRun(frame, link, { signal, payload, options }));
  }

  private handle(link: ChildLink, started: boolean): ChildHandle {
    const { id, ref } = link;
    return {
      id,
      ref,
      started,
      signal: (signal: Signal | string, payload?: unknown, options: SendOptions = {}) =>
        tolerant(sendFromRun(frameFor('signal to a child'), link, { signal, payload, options })),
      result: (options?: WaitOptions & TimeoutValue<unknown>) => this.await(id, options),
      status: () =>
        this.recorded(
          frameFor('status of a child'),
          'children.status',
          ref,
          async ({ store }) => (await store.runs.get(id))?.status,
        ) as Promise<RunStatus>,
      children: (filter = {}) => this.childrenOf(frameFor('children of a child'), id, 'children.children', filter),
      cancel: (reason) => this.cancel(ref, reason),
    };
  }

  private childrenOf(frame: Frame, parentId: string, name: string, filter: ChildFilter): Promise<Page<RunSummary>> {
    return this.recorded(frame, name, filter, ({ store }) => store.runs.list({ ...filter, parentId })) as Promise<
      Page<RunSummary>
    >;
  }

  private recorded(
    frame: Frame,
    name: string,
    argument: unknown,
    body: (host: ExecutionHost) => unknown,
  ): Promise<unknown> {
    return callStep(frame, new StepCall(name, [argument], QUERY, () => body(frame.execution.host)));
  }
}

interface ChildCall {
  workflow: WorkflowReference;
  input: unknown;
  options: CallOptions & ChildStartOptions;
  allowed: ReadonlySet<string>;
}

/** What is refused at once is refused as a rejection, as everything else. */
async function attempt<T>(code: () => Promise<T>): Promise<T> {
  return await code();
}

function callChild(frame: Frame, call: ChildCall): Promise<SettledChild<unknown>> {
  const { link, newRun } = askForChild(frame, call, true);
  return wait(frame, link, { ...call.options, newRun });
}

async function startChild(frame: Frame, call: ChildCall): Promise<{ link: ChildLink; isNew: boolean }> {
  const { link, newRun, isNew } = askForChild(frame, call, false);
  const command = new ChildStartCommand(frame.execution, frame.branch, link, newRun);
  frame.execution.issue(command, { kind: 'start', name: link.ref }, frame);
  await command.promise;
  return { link, isNew };
}

function awaitRun(frame: Frame, runId: string, options: WaitOptions): Promise<SettledChild<unknown>> {
  check('The options of children.await', options, WAIT_OPTIONS);
  const { children } = frame.execution;
  return wait(frame, children.getById(runId) ?? children.addStranger(runId), options);
}

function wait(
  frame: Frame,
  link: ChildLink,
  options: WaitOptions & Pick<CallOptions, 'onTimeout' | 'cancellation'> & { newRun?: NewRun },
): Promise<SettledChild<unknown>> {
  const command = new ChildWaitCommand(frame.execution, frame.branch, {
    link,
    newRun: options.newRun,
    timeoutMs: options.timeout === undefined ? undefined : tryParseDuration(options.timeout),
    onTimeout: options.newRun ? (options.onTimeout ?? 'cancel') : 'abandon',
    cancellation: options.cancellation ?? 'wait',
  });
  frame.execution.issue(command, { kind: 'child', name: link.ref }, frame);
  return command.promise as Promise<SettledChild<unknown>>;
}

async function mapChildren(
  frame: Frame,
  workflow: WorkflowReference,
  inputs: readonly unknown[],
  options: SettledMapOptions<never>,
): Promise<unknown[]> {
  const { ref, concurrency = Infinity, minSuccessful, tolerateFailures, ...call } = options;
  check(
    'The options of children.map',
    { ...call, concurrency: options.concurrency, minSuccessful, tolerateFailures },
    MAP_OPTIONS,
  );
  checkItems('children.map', inputs);
  const links: ChildLink[] = [];
  const callOne = async (part: Frame, input: unknown, index: number): Promise<SettledChild<unknown>> => {
    const childOptions = ref ? { ...call, ref: ref(input as never, index) } : call;
    const { link, newRun } = askForChild(
      part,
      { workflow, input, options: childOptions, allowed: SETTLED_OPTIONS },
      true,
    );
    links[index] = link;
    return await wait(part, link, { ...call, newRun });
  };
  if (minSuccessful === undefined && tolerateFailures === undefined) {
    const outputOf = async (input: unknown, index: number) =>
      unwrap(await callOne(frameFor('children.map'), input, index), {});
    return mapInBranches(frame, inputs, outputOf, { concurrency });
  }
  const isDecided = decision(inputs.length, minSuccessful, tolerateFailures);
  const settled = await mapInBranches(
    frame,
    inputs,
    (input, index) => callOne(frameFor('children.map'), input, index),
    { concurrency, isDecided },
  );
  return settled.map((result, index) => result ?? leftBehind(links[index], workflow));
}

/** Whether the results so far decide the map: enough have completed, or enough no longer can. */
function decision(
  total: number,
  minSuccessful = 0,
  tolerateFailures = Infinity,
): (result: SettledChild<unknown>) => boolean {
  let completed = 0;
  let failures = 0;
  return ({ status }) => {
    if (status === 'completed') completed++;
    else failures++;
    return (
      failures > tolerateFailures ||
      (minSuccessful > 0 && (completed >= minSuccessful || total - failures < minSuccessful))
    );
  };
}

function leftBehind(link: ChildLink | undefined, workflow: WorkflowReference): SettledChild<never> {
  const name = typeof workflow === 'string' ? workflow : workflow.name;
  const error = link
    ? new ChildCancelledError(link.id, link.ref, link.workflow, 'left behind')
    : new ChildCancelledError('not started', 'not started', name, 'the map was decided before');
  return { status: 'cancelled', error };
}

function unwrap(settled: SettledChild<unknown>, options: TimeoutValue<unknown>): unknown {
  if (settled.status === 'completed') return settled.value;
  if (settled.status === 'timeout' && Object.hasOwn(options, 'timeoutValue')) return options.timeoutValue;
  throw settled.error;
}

/** The child that a call asks for: the one that there is, or what would become its row. Nothing is written yet. */
function askForChild(
  frame: Frame,
  { workflow, input, options, allowed }: ChildCall,
  awaited: boolean,
): { link: ChildLink; newRun: NewRun; isNew: boolean } {
  const { execution } = frame;
  const definition = execution.findDefinition(workflow);
  const name = definition?.name ?? (workflow as string);
  check(`The options of a child of '${name}'`, options, allowed);
  if (execution.run.depth >= DEPTH_LIMIT) throw new DepthLimitError(DEPTH_LIMIT, name);
  const scope = frame.attempt?.scope ?? '';
  const ref = options.ref ?? defaultRef(frame, name, scope);
  // A class is its own version; a name the highest one, which may be another deployment's.
  const version = typeof workflow === 'string' ? UNRESOLVED_VERSION : definition!.version;
  const newRun = toChildRun(frame, { name, version, definition, input, options, ref, scope, awaited });
  const isFirst = execution.children.isNew(ref);
  const link = execution.children.ask({ newRun, ref, workflow: name, scope, isExplicit: options.ref !== undefined });
  return { link, newRun, isNew: isFirst || link.id === newRun.id };
}

/** The workflow's name and the number of the call, `payment#2`; of a later generation `payment#3.2`. */
function defaultRef({ execution }: Frame, name: string, scope: string): string {
  const { generation } = execution.run;
  const number = execution.history.number('ref', scope, name);
  return `${scope}${name}#${generation === 0 ? '' : `${generation + 1}.`}${number}`;
}

function noSuchRef({ execution }: Frame, ref: string): RunNotFoundError {
  return new RunNotFoundError(
    ref,
    `child '${ref}' of run ${execution.run.id}`,
    'A child has the ref that it was started with; children.list() shows those that there are.',
  );
}

interface ChildPlan {
  name: string;
  version: number;
  definition: WorkflowDefinition | undefined;
  input: unknown;
  options: CallOptions & ChildStartOptions;
  ref: string;
  scope: string;
  awaited: boolean;
}

function toChildRun(
  { execution, branch }: Frame,
  { name, version, definition, input, options, ref, scope, awaited }: ChildPlan,
): NewRun {
  const { run } = execution;
  const inherited = options.inherit?.includes('attributes') ? run.attributes : undefined;
  return {
    id: newId(),
    workflow: name,
    version,
    key: null,
    queue: options.queue ?? definition?.queue ?? 'default',
    priority: options.priority ?? run.priority,
    tenant: run.tenant,
    label: options.label ?? null,
    attributes: inherited || options.attributes ? { ...inherited, ...options.attributes } : null,
    input: execution.serializer.encode(input, `the input of workflow '${name}'`),
    inputDigest: digestOf(input),
    context: options.inherit?.includes('context') ? run.context : null,
    trace: run.trace,
    delayMs: null,
    startAt: null,
    timeoutMs: definition?.timeoutMs ?? null,
    deadline: awaited ? execution.deadline : null,
    eager: false,
    parent: {
      parentId: run.id,
      rootId: run.rootId,
      depth: run.depth + 1,
      ref,
      scope,
      awaited,
      cascades: !options.detached && !branch.isShielded,
      closesWithParent: options.parentClose === 'cancel',
      shielded: branch.isShielded,
    },
  };
}
