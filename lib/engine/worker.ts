import { hostname } from 'node:os';
import { performance } from 'node:perf_hooks';
import { LRUCache } from 'lru-cache';
import { v7 as uuid } from 'uuid';
import type { DatabaseClock } from './clock.js';
import { type CallerContext, outside } from './caller-context.js';
import { CommitQueue } from './commit-queue.js';
import { DeadlineTimer } from './deadline-timer.js';
import type { EventSink } from './events.js';
import type { WorkerHealth } from './health.js';
import { HeartbeatBuffer } from './heartbeat-buffer.js';
import { HintBuffer } from './hint-buffer.js';
import { observedCommits } from './observed-commits.js';
import { Pulse } from './pulse.js';
import { QueueGates } from './queue-gates.js';
import type { WorkflowRegistry } from './registry.js';
import { isTerminal } from './run.js';
import type { ExecutionHost } from './execution-host.js';
import { RunExecution } from './run-execution.js';
import type { Fired } from './schedule-store.js';
import { endsByParent } from './run-end.js';
import type { KeptFor } from './retention.js';
import { RetentionSweep } from './retention-sweep.js';
import { reportCancelled, reportEnd, reportStart, reportWrite } from './run-reports.js';
import type { PayloadSerializer } from './serialization.js';
import { SignalLooks } from './signal-looks.js';
import { toClaimedRun } from './started-run.js';
import type {
  BufferedSignal,
  CancelRequest,
  CancelResult,
  ClaimedRun,
  CommitResult,
  Generation,
  NewRun,
  NewSignal,
  Placement,
  RecordedRun,
  RunEnd,
  RunWrite,
  SentSignal,
  SignalsFound,
  SignalsWanted,
  StartResult,
  Store,
  WokenRun,
} from './store.js';
import type { Telemetry } from './telemetry.js';
import { TickTimer } from './tick-timer.js';
import type { Transactions } from './transactions.js';
import type { Beat } from './worker-store.js';
import type { WriteBuffer } from './write-buffer.js';

/** The pause between looks that find something, where hints are not heard. */
const SHORTEST_POLL_MS = 25;
const LARGEST_CLAIM = 200;
const LARGEST_WAKE = 500;
const LARGEST_TAKEOVER = 500;

export interface WorkerSettings {
  /** Runs executing at a time in this process; parked ones do not count. */
  concurrency: number;
  queues: readonly string[];
  leaseMs: number;
  shutdownTimeoutMs: number;
  maxRecoveries: number;
  stickyRuns: number;
  pollIntervalMs: number;
  retention: KeptFor;
}

export interface WorkerParts {
  store: Store;
  clock: DatabaseClock;
  serializer: PayloadSerializer;
  registry: WorkflowRegistry;
  callerContext: CallerContext | undefined;
  events: EventSink;
  /** Undefined: the app has no DataSource. */
  transactions: Transactions | undefined;
  telemetry: Telemetry | undefined;
  onEnd(end: RunEnd): void;
  cancel(runId: string, request: CancelRequest): Promise<{ cancelled: number; requested: number }>;
  resolveVersion(workflow: string): Promise<number>;
  signal(signal: NewSignal): Promise<SentSignal>;
  warn(message: string): void;
}

/**
 * The loop: claim, execute, release.
 *
 * A worker has a lease, one row in the database that it renews. While it is valid, the runs that it claimed are its own;
 * when it expires, any worker returns them under a higher epoch. The worker stops its runs itself before that happens
 * (`selfStop`), and comes back under a new id, after handing back what was still its old one's.
 * Invariant: every run that the database shows as running under this id is in `executions`, or on its way there in
 * `claim` or `takeOnStarted`; what a lost reply left behind is handed back after trouble.
 */
export class Worker implements ExecutionHost {
  id = uuid();
  readonly clock: DatabaseClock;
  readonly serializer: PayloadSerializer;
  isDraining = false;
  private readonly executions = new Map<string, RunExecution>();
  private readonly parkedRuns: LRUCache<string, RunExecution>;
  private readonly commits: CommitQueue;
  readonly heartbeats: HeartbeatBuffer;
  private readonly hints: HintBuffer;
  private readonly signalLooks: SignalLooks;
  private readonly gates: QueueGates;
  private readonly beatTimer = new DeadlineTimer(() => void this.beat());
  private readonly wakeTimer = new DeadlineTimer(() => void this.wakeDue());
  private readonly ticks: TickTimer;
  private readonly retention: RetentionSweep;
  private readonly leaseTimer = new DeadlineTimer(() => this.selfStop());
  private nextWakeAt: number | null = null;
  private reserved = 0;
  private isClaiming = false;
  private gatesComeFirst = false;
  private claiming: Promise<void> = Promise.resolve();
  private hasBacklog = false;
  private isStopped = true;
  private renewedAt = 0;
  private hasLease = false;
  private hadTrouble = false;
  private isBeating = false;
  private readonly pulse = new Pulse();
  /** Looks since the last one that found something. */
  private vainLooks = 0;
  private beatsAgain = false;
  private onIdle: (() => void) | undefined;

  constructor(
    private readonly parts: WorkerParts,
    readonly settings: WorkerSettings,
  ) {
    this.clock = parts.clock;
    this.serializer = parts.serializer;
    this.hints = new HintBuffer(parts.store.hints);
    this.heartbeats = new HeartbeatBuffer(parts.store, parts.warn);
    this.signalLooks = new SignalLooks(parts.store, parts.warn, () => this.isStopped);
    this.gates = new QueueGates(parts.store.queues, this);
    this.retention = new RetentionSweep({
      store: parts.store.retention,
      kept: settings.retention,
      definitions: parts.registry.newest(),
      guard: (work) => this.guard(work),
    });
    this.ticks = new TickTimer({
      store: parts.store.schedules,
      clock: parts.clock,
      guard: (work) => this.guard(work),
      fired: (fired) => this.noticeFired(fired),
      warn: parts.warn,
    });
    this.parkedRuns = new LRUCache({
      max: settings.stickyRuns,
      dispose: (execution, _id, reason) => {
        if (reason === 'evict') execution.drop('Left the cache of parked runs');
      },
    });
    this.commits = new CommitQueue(observedCommits(parts.store, parts.telemetry), {
      placementFor: (writes) => this.placementFor(writes),
      beforeResults: (writes, result) => this.noticeWoken(writes, result),
      afterResults: (writes, result) => this.takeOnChildren(writes, result),
      failureOf: (error) => this.serializer.encodeError(error),
      lost: (write, error) => this.lost(write, error),
    });
  }

  async start(): Promise<void> {
    this.parts.store.hints.onHints((hints) => {
      if (hints.workers.includes(this.id) || hints.gates?.some((queue) => this.serves(queue))) this.lookAgain();
      for (const queue of hints.queues) this.gates.ready(queue);
      if (hints.workers.includes(this.id) || hints.queues.some((queue) => this.serves(queue))) this.claimSoon();
    });
    this.parts.store.onTrouble(() => (this.hadTrouble = true));
    await this.register();
    this.isStopped = false;
    void this.beat();
    this.claimSoon();
  }

  /**
   * Stops claiming, lets step bodies end up to the shutdown timeout, and hands every run back, so that another worker
   * goes on with it at once. Safe to call twice.
   */
  async stop(): Promise<void> {
    if (this.isStopped) return;
    this.isDraining = true;
    await this.drained(this.settings.shutdownTimeoutMs);
    this.halt('The worker shuts down');
    await this.heartbeats.flush();
    this.hintAt(await this.parts.store.workers.retire(this.id));
    await this.hints.flush();
  }

  /**
   * Ends as a killed process does: nothing is handed back, and its lease stays until it runs out. Only for tests, which close
   * its store before.
   */
  abandon(): void {
    this.halt('The process was killed');
  }

  private halt(reason: string): void {
    this.isStopped = true;
    for (const timer of [this.beatTimer, this.wakeTimer, this.leaseTimer, this.ticks]) timer.clear();
    this.gates.stop();
    this.retention.stop();
    for (const execution of [...this.executions.values(), ...this.parkedRuns.values()]) execution.drop(reason);
    this.executions.clear();
    this.parkedRuns.clear();
  }

  /** Something has changed of which the regular look tells. */
  lookAgain(): void {
    void this.beat();
  }

  runningOf(queue: string): number {
    let running = 0;
    for (const { run } of this.executions.values()) if (run.queue === queue) running++;
    return running;
  }

  isExecuting(runId: string): boolean {
    return this.executions.has(runId) || this.parkedRuns.has(runId);
  }

  get load(): { running: number; parked: number } {
    return { running: this.executions.size, parked: this.parkedRuns.size };
  }

  get health(): WorkerHealth {
    return {
      id: this.id,
      hasLease: this.hasLease,
      leaseMs: this.settings.leaseMs,
      claimAgeMs: Math.round(this.pulse.ageMs),
    };
  }

  // ---- starts in this process

  /**
   * Marks the runs that this worker can begin at once, and keeps slots for them. A claim that is under way holds all free
   * slots and mostly needs few of them, so it is waited for.
   */
  async placementForStarts(runs: readonly NewRun[]): Promise<Placement> {
    await this.claiming;
    this.reserveFor(runs, 0);
    return this.placement;
  }

  private reserveFor(runs: readonly NewRun[], slotsAboutToBeFree: number): void {
    for (const run of runs) {
      run.eager = this.canBegin(run) && this.freeSlots + slotsAboutToBeFree > 0;
      if (run.eager) this.reserved++;
    }
  }

  /** Begins those of the reserved runs that the database gave to this worker. */
  takeOnStarted(runs: readonly NewRun[], statusOf: (run: NewRun) => StartResult | undefined): void {
    for (const run of runs) {
      if (run.eager) this.reserved--;
      const result = statusOf(run);
      if (!result?.started) continue;
      if (result.status === 'running' && run.eager) this.takeOn(toClaimedRun(run, result), undefined);
      else if (run.delayMs !== null || run.startAt !== null) this.wakeAt(result.at + (run.delayMs ?? 0));
      else if (this.parts.registry.has(run.workflow, run.version)) this.announceReady(run.queue);
      else this.hints.queue(run.queue);
    }
  }

  private get placement(): Placement {
    return {
      workerId: this.isDraining || this.isStopped ? undefined : this.id,
      definitions: this.parts.registry.ids(),
      resident: [],
    };
  }

  // ---- what executions ask for (ExecutionHost)

  enqueue(buffer: WriteBuffer): void {
    this.commits.enqueue(buffer);
  }

  get store(): Store {
    return this.parts.store;
  }

  get transactions(): Transactions | undefined {
    return this.parts.transactions;
  }

  cancel(runId: string, request: CancelRequest): Promise<{ cancelled: number; requested: number }> {
    return this.parts.cancel(runId, request);
  }

  get callerContext(): CallerContext | undefined {
    return this.parts.callerContext;
  }

  get telemetry(): Telemetry | undefined {
    return this.parts.telemetry;
  }

  get registry(): WorkflowRegistry {
    return this.parts.registry;
  }

  async resolveVersion(workflow: string): Promise<number> {
    return await this.parts.resolveVersion(workflow);
  }

  loadSignals(wanted: SignalsWanted): Promise<SignalsFound> {
    return this.signalLooks.load(wanted);
  }

  signal(signal: NewSignal): Promise<SentSignal> {
    return this.parts.signal(signal);
  }

  checkExists(runId: string, onUnknown: () => void): void {
    void this.guard(async () => {
      if (!(await this.parts.store.runs.exists(runId))) onUnknown();
    });
  }

  wake(execution: RunExecution): void {
    void this.guard(async () => this.noticeElsewhere(await this.parts.store.wake(execution.run.id)));
  }

  parked(execution: RunExecution): void {
    this.executions.delete(execution.run.id);
    this.parkedRuns.set(execution.run.id, execution);
    if (execution.parkedUntil !== null) this.wakeAt(execution.parkedUntil);
    this.slotFreed(execution.run.queue);
  }

  paused(execution: RunExecution): void {
    const { id, epoch, queue } = execution.run;
    execution.drop('The run is paused');
    this.executions.delete(id);
    this.slotFreed(queue);
    void this.guard(async () => {
      await this.heartbeats.flush();
      this.noticeElsewhere(await this.parts.store.giveUp(id, epoch));
    });
  }

  left(execution: RunExecution, end: RunEnd | undefined): void {
    if (this.executions.get(execution.run.id) === execution) this.executions.delete(execution.run.id);
    if (this.parkedRuns.peek(execution.run.id) === execution) this.parkedRuns.delete(execution.run.id);
    if (end) {
      reportEnd(this.parts.events, execution.run, end.status, this.clock.now());
      this.parts.onEnd(end);
    }
    this.slotFreed(execution.run.queue);
  }

  continued(execution: RunExecution, input: string | null, { workerId, ...next }: Generation): void {
    const { run } = execution;
    execution.drop('The run has begun anew');
    if (this.executions.get(run.id) === execution) this.executions.delete(run.id);
    this.reserved++;
    void this.guard(async () => {
      const recorded = await this.parts.store.loadHistories([run.id]);
      // Without its lease, stopped or under another id by now, this worker has handed the run back, or will.
      if (workerId !== this.id || !this.hasLease || this.isStopped) return;
      this.takeOn(
        { ...run, ...next, input, ancestors: null, recoveries: 0, cancel: null, fresh: false },
        recorded.get(run.id),
      );
    }).finally(() => {
      this.reserved--;
      this.slotFreed(run.queue);
    });
  }

  warn(message: string): void {
    this.parts.warn(message);
  }

  committed(execution: RunExecution, write: Pick<RunWrite, 'outcomes' | 'move'>): void {
    reportWrite(this.parts.events, execution.run, write, this.clock.now());
    this.parts.telemetry?.recorded(execution.run, write.outcomes);
    if (this.isDraining) this.onIdle?.();
  }

  // ---- claiming

  private get freeSlots(): number {
    return this.settings.concurrency - this.executions.size - this.reserved;
  }

  private get takesRuns(): boolean {
    return this.hasLease && !this.isDraining && !this.isStopped;
  }

  private canBegin(run: NewRun): boolean {
    return (
      this.takesRuns &&
      run.delayMs === null &&
      run.startAt === null &&
      this.serves(run.queue) &&
      !this.gates.has(run.queue) &&
      this.parts.registry.has(run.workflow, run.version)
    );
  }

  private serves(queue: string): boolean {
    return this.settings.queues.includes(queue);
  }

  private slotFreed(queue: string): void {
    if (this.gates.has(queue)) {
      this.gates.ready(queue);
      this.hints.queue(queue);
    }
    if (this.isDraining) this.onIdle?.();
    if (this.hasBacklog) this.claimSoon();
  }

  /** Something on that queue can be claimed, here or by another worker. */
  announceReady(queue: string): void {
    const takesIt = this.takesRuns && this.serves(queue);
    this.gates.ready(queue);
    if (takesIt) this.claimSoon();
    if (!takesIt || this.freeSlots <= 0 || this.gates.has(queue)) this.hints.queue(queue);
  }

  claimSoon(): void {
    this.hasBacklog = true;
    this.pulse.claimDue();
    if (this.isClaiming) return;
    this.isClaiming = true;
    setImmediate(() => {
      this.claiming = this.claim();
    });
  }

  private async claim(): Promise<void> {
    while (this.hasBacklog && this.takesRuns && this.freeSlots > 0) {
      const limit = Math.min(this.freeSlots, LARGEST_CLAIM);
      this.hasBacklog = false;
      this.reserved += limit;
      await this.guard(async () => {
        await this.claimUpTo(limit);
        this.pulse.claimed();
      });
      this.reserved -= limit;
    }
    this.isClaiming = false;
    if (!this.takesRuns || this.freeSlots <= 0) this.pulse.claimed();
  }

  /** Queues without limits by one statement, each other by its own; they take turns in coming first, so that neither starves. */
  private async claimUpTo(limit: number): Promise<void> {
    const { store, registry } = this.parts;
    const { queues } = this.settings;
    const definitions = registry.ids();
    const gated = (free: number) => this.gates.claim(this.id, definitions, free);
    const others = (free: number) => store.claim({ workerId: this.id, queues, definitions, limit: free });
    this.gatesComeFirst = !this.gatesComeFirst;
    let free = limit;
    for (const claim of this.gatesComeFirst ? [gated, others] : [others, gated]) {
      if (free === 0) break;
      const runs = await claim(free);
      free -= runs.length;
      await this.takeOnClaimed(runs);
    }
    if (free === 0) this.hasBacklog = true;
  }

  private async takeOnClaimed(runs: ClaimedRun[]): Promise<void> {
    this.parts.telemetry?.claimed(runs, this.clock.now());
    // Of a run that parked and was woken at once, the claim may be answered before the park.
    for (const run of runs) await this.executions.get(run.id)?.whenAnswered();
    const cold = runs.filter((run) => !this.resumeParked(run));
    const begun = cold.filter((run) => !run.fresh).map((run) => run.id);
    const recorded = begun.length ? await this.parts.store.loadHistories(begun) : new Map<string, RecordedRun>();
    for (const run of cold) this.takeOn(run, recorded.get(run.id));
  }

  /** A run that was parked here, and that nobody else has had since, goes on without a replay. */
  private resumeParked(run: ClaimedRun): boolean {
    const execution = this.parkedRuns.get(run.id);
    if (!execution) return false;
    this.parkedRuns.delete(run.id);
    if (execution.run.epoch !== run.epoch - 1) {
      execution.drop('Another worker has had the run');
      return false;
    }
    this.executions.set(run.id, execution);
    execution.resume(run);
    execution.touched(run.wakes);
    return true;
  }

  private takeOn(run: ClaimedRun, recorded: RecordedRun | undefined): void {
    const definition = this.parts.registry.get(run.workflow, run.version);
    if (!definition)
      throw new Error(`Run ${run.id} of the unknown definition ${run.workflow}@${run.version} was claimed`);
    const execution = new RunExecution(run, definition, recorded, this);
    this.executions.set(run.id, execution);
    if (run.fresh) reportStart(this.parts.events, run);
    outside(() => execution.start(this.settings.maxRecoveries));
  }

  // ---- commits

  private placementFor(writes: readonly RunWrite[]): Placement {
    // A run that parks or ends leaves its slot to the children that start in the same commit.
    const leaving = writes.filter(({ move }) => move !== null && move.to !== 'continued').length;
    for (const write of writes) this.reserveFor(write.children, leaving);
    const resident = this.takesRuns
      ? writes.filter((write) => this.endsAndWakesResident(write)).map((write) => write.parentId!)
      : [];
    return { ...this.placement, resident };
  }

  /** The parent of a run that ends is parked here: it goes on in the slot that the child leaves. */
  private endsAndWakesResident({ move, parentId }: RunWrite): boolean {
    return parentId !== null && move !== null && move.to !== 'waiting' && this.parkedRuns.has(parentId);
  }

  private noticeWoken(writes: readonly RunWrite[], result: CommitResult): void {
    if (result.woken.length === 0) return;
    // Not of a run whose end was refused because it is being cancelled.
    const ended = new Set(result.runs.filter((run) => isTerminal(run.status)).map((run) => run.id));
    const ends = endsByParent(writes.filter((write) => ended.has(write.runId)));
    for (const woken of result.woken) this.noticeOne(woken, ends.get(woken.id));
  }

  private noticeOne(woken: WokenRun, ends: RunEnd[] | undefined): void {
    const parked = this.parkedRuns.peek(woken.id);
    if (woken.status === 'running' && parked && woken.workerId === this.id && parked.run.epoch === woken.epoch) {
      this.parkedRuns.delete(woken.id);
      this.executions.set(woken.id, parked);
      parked.resume({ epoch: woken.epoch, cancel: null });
    }
    const execution = this.executions.get(woken.id);
    if (!execution || woken.status !== 'running') return this.noticeElsewhere([woken]);
    if (ends && execution.countWake(woken.wakes)) for (const end of ends) execution.childEnded(end);
    else execution.touched(woken.wakes);
  }

  /** Runs were woken that have to be claimed, here or by another worker, or that are executing, here or elsewhere. */
  noticeElsewhere(runs: readonly WokenRun[]): void {
    for (const { id, workerId, status, queue, wakes } of runs) {
      if (workerId !== null && workerId !== this.id) this.hints.worker(workerId);
      else if (status === 'pending') this.announceReady(queue);
      else this.executions.get(id)?.touched(wakes);
    }
  }

  /** A signal that was sent in this process: a run that is here need not look for it. */
  handOver(run: WokenRun, signal: BufferedSignal): void {
    const execution = this.executions.get(run.id) ?? this.parkedRuns.peek(run.id);
    if (execution?.run.epoch === run.epoch) execution.signalled(signal);
  }

  private takeOnChildren(writes: readonly RunWrite[], result: CommitResult): void {
    const made = new Map(result.children.map((child) => [child.id, child]));
    for (const { children } of writes) {
      this.takeOnStarted(children, (child) => {
        const row = made.get(child.id);
        return row && { ...row, started: true, inputDigest: child.inputDigest, at: result.at };
      });
    }
    for (const run of result.runs) if (run.watched && isTerminal(run.status)) this.hints.ended(run.id);
    if (result.cancelled) this.noticeCancelled(result.cancelled);
    for (const queue of result.readyOn) this.announceReady(queue);
  }

  /** Runs that a cancellation has reached: those here are told at once, others by a hint. */
  noticeCancelled({ ended, unwinding, woken }: CancelResult): void {
    reportCancelled(this.parts.events, ended);
    for (const run of ended) if (run.watched) this.hints.ended(run.id);
    for (const end of ended) this.dropEnded(end.id);
    const here = unwinding.some((run) => run.status === 'running' && run.workerId === this.id);
    if (here) this.lookAgain();
    this.noticeElsewhere([...unwinding, ...woken]);
  }

  /** Schedules have started runs, and perhaps cancelled the ones before. */
  noticeFired({ started, cancelled }: Fired): void {
    if (cancelled) this.noticeCancelled(cancelled);
    this.noticeElsewhere(started);
  }

  /** When runs that have their slots have something to do by themselves, in epoch ms. */
  executionsDueAt(): number[] {
    return [...this.executions.values()].flatMap((execution) => execution.nextDue() ?? []);
  }

  /** The database's clock has been moved: what became due is not left to timers that were set before. Resolves when that is noticed. */
  async clockMoved(): Promise<void> {
    await this.guard(() => this.look());
    for (const execution of this.executions.values()) execution.clockMoved();
  }

  private dropEnded(runId: string): void {
    const execution = this.executions.get(runId) ?? this.parkedRuns.peek(runId);
    if (!execution) return;
    execution.drop('The run was ended');
    this.left(execution, undefined);
  }

  // ---- time

  private wakeAt(time: number): void {
    if (this.nextWakeAt !== null && this.nextWakeAt <= time) return;
    this.nextWakeAt = time;
    this.armWakeTimer();
  }

  private armWakeTimer(): void {
    if (this.nextWakeAt !== null) this.wakeTimer.set(this.nextWakeAt - this.clock.now());
  }

  private async wakeDue(): Promise<void> {
    this.nextWakeAt = null;
    await this.guard(async () => {
      const woken = await this.parts.store.wakeDue(LARGEST_WAKE);
      this.noticeElsewhere(woken);
      if (woken.length === LARGEST_WAKE) this.wakeAt(this.clock.now());
    });
  }

  /** One look at a time: while the database is away, looks must not pile up. */
  private async beat(): Promise<void> {
    if (this.isStopped) return;
    if (this.isBeating) return void (this.beatsAgain = true);
    this.isBeating = true;
    // Also where the lease is shorter than the poll: it must be renewed in time.
    this.beatTimer.set(Math.min(this.pollPauseMs, this.settings.leaseMs / 4));
    await this.guard(async () => {
      await this.look();
      this.pulse.looked();
    });
    this.isBeating = false;
    if (!this.beatsAgain) return;
    this.beatsAgain = false;
    void this.beat();
  }

  /** Where hints are not heard, looks follow each other quickly while there is something to find, and ever slower when not. */
  private get pollPauseMs(): number {
    const { pollIntervalMs } = this.settings;
    return this.parts.store.hints.isHeard
      ? pollIntervalMs
      : Math.min(SHORTEST_POLL_MS * 2 ** this.vainLooks, pollIntervalMs);
  }

  private async look(): Promise<void> {
    const sentAt = performance.now();
    const renews = sentAt - this.renewedAt >= this.settings.leaseMs / 3;
    const { store, registry } = this.parts;
    const executing = [...this.executions.values()].map(({ run }) => ({ id: run.id, epoch: run.epoch }));
    const beat = await store.workers.beat({
      workerId: this.id,
      queues: this.settings.queues,
      definitions: registry.ids(),
      renewByMs: renews ? this.settings.leaseMs : null,
      executing,
    });
    this.vainLooks = beat.ready || beat.attention.length ? 0 : Math.min(this.vainLooks + 1, 20);
    if (this.isStopped) return;
    if (!beat.alive || !this.hasLease) return await this.comeBack();
    if (renews) this.leaseRenewed(sentAt);
    if (this.hadTrouble) await this.handBackStrays();
    for (const { id, epoch } of executing)
      if (beat.lost.includes(id) && this.executions.get(id)?.run.epoch === epoch) this.dropEnded(id);
    await this.attendTo(beat);
  }

  private async attendTo(beat: Beat): Promise<void> {
    if (this.gates.update(beat.gates) || beat.ready) this.claimSoon();
    else if (!this.isClaiming) this.pulse.claimed();
    if (beat.nextWakeAt !== null) this.wakeAt(beat.nextWakeAt);
    this.ticks.set(beat.nextTickAt);
    this.retention.look();
    // The database's clock may have moved on since: a failover, or a test that moves the time.
    this.armWakeTimer();
    for (const { id, wakes, cancel, paused } of beat.attention) {
      const execution = this.executions.get(id);
      if (paused) execution?.pause();
      if (cancel) execution?.requestCancel(cancel);
      execution?.touched(wakes);
    }
    if (beat.expiredWorkers) await this.takeOver();
  }

  private async takeOver(): Promise<void> {
    for (let more = true; more;) {
      const result = await this.parts.store.workers.takeOver(LARGEST_TAKEOVER);
      this.noticeElsewhere(result.runs);
      more = result.more;
    }
  }

  // ---- the lease

  private async register(): Promise<void> {
    const sentAt = performance.now();
    const { queues, leaseMs } = this.settings;
    const definitions = this.parts.registry.ids();
    await this.parts.store.workers.register({
      id: this.id,
      host: hostname(),
      pid: process.pid,
      leaseMs,
      queues,
      definitions,
    });
    this.leaseRenewed(sentAt);
  }

  private leaseRenewed(sentAt: number): void {
    this.hasLease = true;
    this.renewedAt = sentAt;
    const margin = Math.min(2_000, this.settings.leaseMs / 5);
    this.leaseTimer.set(sentAt + this.settings.leaseMs - margin - performance.now());
  }

  /** The lease could not be renewed in time: another worker may take the runs over at any moment now. */
  private selfStop(): void {
    this.hasLease = false;
    this.parts.warn(
      `Worker ${this.id} could not renew its lease; it stops its ${this.executions.size} runs until it can.`,
    );
    for (const execution of this.executions.values()) execution.drop('The lease of the worker ran out');
    this.executions.clear();
  }

  /** Under a new id, for the old one may have been declared dead; its runs are given back before the new lease. */
  private async comeBack(): Promise<void> {
    if (this.hasLease) this.selfStop();
    const old = this.id;
    const woken = await this.parts.store.workers.retire(old);
    this.id = uuid();
    this.parkedRuns.clear();
    await this.register();
    this.noticeElsewhere(woken);
    this.claimSoon();
  }

  /** After lost replies, the database may show runs as ours of which we never heard. */
  private async handBackStrays(): Promise<void> {
    if (this.reserved > 0) return;
    this.hadTrouble = false;
    this.noticeElsewhere(await this.parts.store.workers.handBack(this.id, { except: [...this.executions.keys()] }));
  }

  // ---- shutdown

  private async drained(timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (performance.now() < deadline) {
      const idle = [...this.executions.values()].filter((execution) => execution.isIdle);
      for (const execution of idle) this.release(execution);
      // Before anybody else has the runs: their next attempts go on from what the last ones said.
      if (idle.length) await this.heartbeats.flush();
      if (this.executions.size === 0 && this.reserved === 0) return;
      if (idle.length)
        this.hintAt(await this.parts.store.workers.handBack(this.id, { except: [...this.executions.keys()] }));
      await this.nextChange(Math.min(100, deadline - performance.now()));
    }
  }

  private release(execution: RunExecution): void {
    execution.drop('The worker shuts down');
    this.executions.delete(execution.run.id);
  }

  private nextChange(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.onIdle = () => (clearTimeout(timer), resolve());
    });
  }

  private hintAt(runs: readonly WokenRun[]): void {
    for (const { queue } of runs) this.hints.queue(queue);
  }

  /** The database takes neither the write nor that its run failed by it: the run is handed back with the strays. */
  private lost(write: RunWrite, error: unknown): void {
    this.parts.warn(`A write of run ${write.runId} cannot be stored: ${String(error)}`);
    this.hadTrouble = true;
  }

  /** Background work: what fails is said, and tried again at the next beat. */
  async guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!this.isStopped)
        this.parts.warn(
          `The worker met a problem and goes on: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
        );
    }
  }
}
