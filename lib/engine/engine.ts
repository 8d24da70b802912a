import type { CallerContext } from './caller-context.js';
import type { DatabaseClock } from './clock.js';
import type { WorkflowDefinition, WorkflowReference } from './definition.js';
import { endsWithin } from './ends-within.js';
import { RunFinishedError, RunNotFoundError } from './errors.js';
import type { EventSink } from './events.js';
import type { EngineHealth, FleetHealth } from './health.js';
import type { WorkflowRegistry } from './registry.js';
import { InputVerdicts } from './input-verdicts.js';
import { Results } from './results.js';
import { reportCancelled } from './run-reports.js';
import type { Fired } from './schedule-store.js';
import type { PayloadSerializer } from './serialization.js';
import { SignalQueue } from './signal-queue.js';
import { StartQueue } from './start-queue.js';
import type { StartedTrace, Telemetry } from './telemetry.js';
import type { CancelRequest, CancelResult } from './cancellation.js';
import { type NewRun, NOBODY, type Placement, type StartResult, type StartWithin } from './new-run.js';
import type { NewSignal, SentSignal, StartWithSignal } from './sent-signal.js';
import type { Fork, ForkRequest, Store, WokenRun } from './store.js';
import type { Transactions } from './transactions.js';
import { HintBuffer } from './hint-buffer.js';
import { Worker, type WorkerSettings } from './worker.js';

const LIVE_DEFINITIONS_MS = 1_000;
const LAST_WORDS_MS = 1_000;

export interface EngineParts {
  store: Store;
  clock: DatabaseClock;
  serializer: PayloadSerializer;
  registry: WorkflowRegistry;
  /** Carries the context of those who start runs to their code; undefined: it is not carried. */
  callerContext: CallerContext | undefined;
  /** Undefined: this process starts and watches runs, and executes none. */
  worker: WorkerSettings | undefined;
  events: EventSink;
  /** For transactional steps. Undefined: the app has no DataSource. */
  transactions: Transactions | undefined;
  /** Undefined: nobody traces and measures. */
  telemetry: Telemetry | undefined;
  warn(message: string): void;
}

/** One engine of a process: its store, what it can run, its worker, and those who wait for results. */
export class Engine {
  readonly store: Store;
  readonly serializer: PayloadSerializer;
  readonly registry: WorkflowRegistry;
  readonly callerContext: CallerContext | undefined;
  readonly worker: Worker | undefined;
  readonly results: Results;
  readonly inputVerdicts: InputVerdicts;
  private readonly events: EventSink;
  private readonly starts: StartQueue;
  private readonly signals: SignalQueue;
  private readonly hints: HintBuffer;
  private readonly telemetry: Telemetry | undefined;
  private lookingAtFleet: Promise<FleetHealth> | undefined;
  /**
   * The highest versions that workers were ever said to register. When an outage has outlasted their leases, they come back
   * one after the other, and the first one removes the others.
   */
  private readonly heardOf = new Map<string, number>();
  private live: { askedAt: number; answer: Promise<{ workflow: string; version: number }[]> } | undefined;

  constructor(parts: EngineParts) {
    const { store, clock, serializer, registry, callerContext, events, transactions, telemetry, warn } = parts;
    this.store = store;
    this.serializer = serializer;
    this.registry = registry;
    this.callerContext = callerContext;
    this.telemetry = telemetry;
    this.events = events;
    this.hints = new HintBuffer(store.hints);
    const onEnd = (end: Parameters<Results['ended']>[0]) => this.results.ended(end);
    const resolveVersion = async (workflow: string) => (await this.resolve(workflow)).version;
    const cancel = (runId: string, request: CancelRequest) => this.cancel(runId, request);
    const signal = (newSignal: NewSignal) => this.signal(newSignal);
    this.worker =
      parts.worker &&
      new Worker(
        {
          store,
          clock,
          serializer,
          registry,
          callerContext,
          events,
          transactions,
          telemetry,
          onEnd,
          resolveVersion,
          cancel,
          signal,
          warn,
        },
        parts.worker,
      );
    this.results = new Results(
      store,
      serializer,
      (runId) => this.whereIs(runId),
      (queue) => (this.worker ? this.worker.announceReady(queue) : this.hints.queue(queue)),
    );
    this.signals = new SignalQueue(store, (results) => this.signalled(results));
    this.inputVerdicts = new InputVerdicts(store);
    this.starts = new StartQueue(
      store,
      (runs) => this.placementFor(runs, true),
      (runs, results) => this.begin(runs, results),
    );
    const { worker } = this;
    telemetry?.opened({
      clock,
      get load() {
        return worker?.load;
      },
      queues: () => store.queues.list(),
    });
  }

  /** Starts a run, in a batch with those that are started at the same time. */
  start(run: NewRun): Promise<StartResult> {
    return this.traced([run], () => this.starts.add(run));
  }

  /** Starts many runs by one statement. */
  startMany(runs: readonly NewRun[]): Promise<StartResult[]> {
    return this.traced(runs, () => this.starts.addAll(runs));
  }

  /** Sends a signal, in a batch with those that are sent at the same time. */
  signal(signal: NewSignal): Promise<SentSignal> {
    return this.signals.add(signal);
  }

  /** Starts a run in place of the one that has its key. */
  async startReplacing(run: NewRun): Promise<StartResult> {
    const { start, cancelled } = await this.traced([run], () => this.store.startReplacing(run));
    if (cancelled) this.announceCancel(cancelled);
    this.begin([run], [start]);
    return start;
  }

  /** Starts a run after its delay, or delays the one that has its key and has not begun. */
  async startDebounced(run: NewRun): Promise<StartResult> {
    const start = await this.traced([run], () => this.store.startDebounced(run));
    // One that was delayed anew has a new time, too.
    this.begin([run], [{ ...start, started: true }]);
    return start;
  }

  /** Starts a run in a transaction of the caller's. */
  startWithin(transaction: unknown, run: NewRun): Promise<StartWithin> {
    return this.traced([run], () => this.store.startWithin(transaction, run));
  }

  /** Starts a run that shares the history of another. */
  fork(request: Omit<ForkRequest, 'trace'>): Promise<Fork | undefined> {
    const run: StartedTrace = { id: request.newId, trace: null };
    return this.traced([run], () => this.store.fork({ ...request, trace: run.trace }));
  }

  /** Starts a run, or finds the one of its key, and sends it a signal, in one transaction. */
  async startWithSignal(start: StartWithSignal): Promise<{ start: StartResult; sent: SentSignal | undefined }> {
    const runs = [start.run];
    const placement = await this.placementFor(runs);
    try {
      const result = await this.traced(runs, () => this.store.startWithSignal(start, placement));
      this.begin(runs, [result.start]);
      if (result.sent) this.signalled([result.sent]);
      return result;
    } catch (error) {
      this.begin(runs, []);
      throw error;
    }
  }

  /** Of this process and the fleet. Whoever asks while the database is still being asked gets the same answer. */
  async health(): Promise<EngineHealth> {
    const { worker } = this;
    this.lookingAtFleet ??= this.store
      .health(worker && { queues: worker.settings.queues, definitions: this.registry.ids() })
      .finally(() => (this.lookingAtFleet = undefined));
    const fleet = await this.lookingAtFleet;
    return { worker: worker?.health, ...fleet };
  }

  private traced<T>(runs: readonly StartedTrace[], start: () => Promise<T>): Promise<T> {
    return this.telemetry ? this.telemetry.starting(runs, start) : start();
  }

  private signalled(results: readonly SentSignal[]): void {
    for (const { received, woken } of results) {
      if (received) this.worker?.handOver(received.run, received.signal);
      this.woken(received ? [received.run, ...woken] : woken);
    }
  }

  /** Cancels a run and its descendants, and tells those it concerns. */
  async cancel(runId: string, request: CancelRequest): Promise<{ cancelled: number; requested: number }> {
    const result = await this.store.cancel([runId], request);
    if (!result.found) throw new RunNotFoundError(runId);
    this.announceCancel(result);
    return { cancelled: result.ended.length, requested: result.unwinding.length };
  }

  /** The limits of a queue have changed: every worker looks at once. */
  queueChanged(queue: string): void {
    this.hints.gate(queue);
    this.worker?.noticeChanged(queue);
  }

  /** Tells other processes what they may want to look at, before this one ends; they look by themselves, too. */
  async tellOthers(): Promise<void> {
    await endsWithin(LAST_WORDS_MS, this.hints.flush());
  }

  /** Cancels these runs and their descendants, in one transaction. Gives how many of these it reached. */
  async cancelAll(runIds: readonly string[]): Promise<number> {
    if (runIds.length === 0) return 0;
    const result = await this.store.cancel(runIds, { reason: null, terminate: false });
    this.announceCancel(result);
    const reached = new Set([...result.ended, ...result.unwinding].map(({ id }) => id));
    return runIds.filter((id) => reached.has(id)).length;
  }

  /** Asked at most once a second: what is registered changes by deploys. */
  private liveDefinitions(): Promise<{ workflow: string; version: number }[]> {
    if (this.live && performance.now() - this.live.askedAt < LIVE_DEFINITIONS_MS) return this.live.answer;
    const answer = this.store.workers.liveDefinitions();
    this.live = { askedAt: performance.now(), answer };
    answer.catch(() => (this.live = undefined));
    return answer;
  }

  private whereIs(runId: string): 'here' | 'perhaps here' | 'elsewhere' {
    if (!this.worker) return 'elsewhere';
    return this.worker.isExecuting(runId) ? 'here' : 'perhaps here';
  }

  private announceCancel(result: CancelResult): void {
    for (const { id } of result.ended) this.results.lookAt(id);
    if (this.worker) return this.worker.noticeCancelled(result);
    reportCancelled(this.events, result.ended);
    for (const { id, watched } of result.ended) if (watched) this.hints.ended(id);
    this.woken([...result.unwinding, ...result.woken]);
  }

  /** A schedule was triggered. */
  fired({ started, cancelled }: Fired): void {
    if (cancelled) this.announceCancel(cancelled);
    this.woken(started);
  }

  /** Pauses a run, and tells the worker that executes it. */
  async pause(runId: string): Promise<void> {
    const { status, workerId } = await this.setPaused(runId, true);
    this.worker?.noticePaused(runId);
    if (status !== 'running' || workerId === null) return;
    if (workerId === this.worker?.id) this.worker.lookAgain();
    else this.hints.worker(workerId);
  }

  /** Lets a paused run go on, at once if anything has happened that it waited for. */
  async resume(runId: string): Promise<void> {
    this.woken([await this.setPaused(runId, false)]);
  }

  private async setPaused(runId: string, paused: boolean): Promise<WokenRun> {
    const run = await this.store.setPaused(runId, paused);
    if (run) return run;
    const ended = await this.store.runs.get(runId);
    if (!ended) throw new RunNotFoundError(runId);
    throw new RunFinishedError(runId, ended.status, `cannot be ${paused ? 'paused' : 'resumed'} any more.`);
  }

  /** Runs have become claimable, or something happened to them where they execute. */
  woken(runs: readonly WokenRun[]): void {
    if (this.worker) return this.worker.noticeElsewhere(runs);
    for (const { workerId, queue } of runs) {
      if (workerId !== null) this.hints.worker(workerId);
      this.hints.queue(queue);
    }
  }

  /**
   * Which definition a start means: a class is its own version; a name the highest version that this process or a live
   * worker registers. Throws {@link WorkflowNotRegisteredError}.
   */
  async resolve(
    workflow: WorkflowReference,
  ): Promise<{ name: string; version: number; definition: WorkflowDefinition | undefined }> {
    const own = this.registry.find(workflow);
    if (typeof workflow !== 'string') {
      if (!own) throw this.registry.notRegistered(workflow);
      return { name: own.name, version: own.version, definition: own };
    }
    let live = await this.liveDefinitions();
    // Its worker may have come since they were asked for.
    if (!own && !live.some((definition) => definition.workflow === workflow))
      live = await this.store.workers.liveDefinitions();
    for (const definition of live) this.hearOf(definition);
    const versions = live
      .filter((definition) => definition.workflow === workflow)
      .map((definition) => definition.version);
    if (own) versions.push(own.version);
    const heardOf = this.heardOf.get(workflow);
    if (versions.length === 0 && heardOf !== undefined) versions.push(heardOf);
    if (versions.length === 0)
      throw this.registry.notRegistered(
        workflow,
        live.map((definition) => definition.workflow),
      );
    const version = Math.max(...versions);
    return { name: workflow, version, definition: this.registry.get(workflow, version) };
  }

  private hearOf({ workflow, version }: { workflow: string; version: number }): void {
    this.heardOf.set(workflow, Math.max(version, this.heardOf.get(workflow) ?? 0));
  }

  private async placementFor(runs: readonly NewRun[], mayOpen = false): Promise<Placement> {
    return (await this.worker?.placementForStarts(runs, mayOpen)) ?? NOBODY;
  }

  private begin(runs: readonly NewRun[], results: readonly StartResult[]): void {
    // Others in the same batch may have asked for the same key: they have its run's id too, and did not start it.
    const started = new Map(results.filter((result) => result.started).map((result) => [result.id, result]));
    if (this.worker) return this.worker.takeOnStarted(runs, (run) => started.get(run.id));
    for (const run of runs)
      if (started.has(run.id) && run.delayMs === null && run.startAt === null) this.hints.queue(run.queue);
  }
}
