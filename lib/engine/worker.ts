import type { CallerContext } from './caller-context.js';
import { Claims } from './claims.js';
import type { DatabaseClock } from './clock.js';
import { CommitQueue, type CommitQueueHost } from './commit-queue.js';
import { Draining } from './draining.js';
import { endsWithin } from './ends-within.js';
import type { EventSink } from './events.js';
import type { WorkerHealth } from './health.js';
import { HeartbeatBuffer } from './heartbeat-buffer.js';
import { HintBuffer } from './hint-buffer.js';
import type { Hints } from './hints.js';
import { Lease } from './lease.js';
import { Notices } from './notices.js';
import { observedCommits } from './observed-commits.js';
import { Openings } from './openings.js';
import { Placements } from './placements.js';
import { Pulse } from './pulse.js';
import { QueueGates } from './queue-gates.js';
import type { WorkflowRegistry } from './registry.js';
import { RegularLook } from './regular-look.js';
import type { KeptFor } from './retention.js';
import { RetentionSweep } from './retention-sweep.js';
import { RunsInMemory } from './runs-in-memory.js';
import type { Fired } from './schedule-store.js';
import type { PayloadSerializer } from './serialization.js';
import { SignalLooks } from './signal-looks.js';
import type { CancelRequest, CancelResult } from './cancellation.js';
import type { ClaimedRun } from './claimed-run.js';
import type { NewRun, Placement, StartResult } from './new-run.js';
import type { RecordedRun } from './recorded-run.js';
import type { RunWrite } from './run-write.js';
import type { BufferedSignal, NewSignal, SentSignal } from './sent-signal.js';
import type { RunEnd, Store, WokenRun } from './store.js';
import type { Telemetry } from './telemetry.js';
import { TickTimer } from './tick-timer.js';
import type { Transactions } from './transactions.js';
import { WakeTimer } from './wake-timer.js';
import { WorkerHost } from './worker-host.js';

/** How long a worker that shuts down tries to say so. */
const FAREWELL_MS = 5_000;

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
 * The loop: claim, execute, release. What it does all the time are parts of their own: its lease, its regular look, its claims,
 * what it takes on itself of what starts here, and whom it tells what has happened.
 *
 * Invariant: every run that the database shows as running under this worker's id is in `runs`, or on its way there in `claims` or
 * `placements`; what a lost reply left behind is handed back after trouble.
 */
export class Worker {
  private readonly pulse = new Pulse();
  private readonly runs: RunsInMemory;
  private readonly lease: Lease;
  private readonly hints: HintBuffer;
  private readonly heartbeats: HeartbeatBuffer;
  private readonly gates: QueueGates;
  private readonly claims: Claims;
  private readonly placements: Placements;
  private readonly notices: Notices;
  private readonly wakeTimer: WakeTimer;
  private readonly ticks: TickTimer;
  private readonly retention: RetentionSweep;
  private readonly draining: Draining;
  private readonly regularLook: RegularLook;
  private readonly host: WorkerHost;
  private isStopped = true;

  constructor(
    private readonly parts: WorkerParts,
    readonly settings: WorkerSettings,
  ) {
    const { store, clock, serializer, registry, events, telemetry, warn } = parts;
    const { queues, leaseMs, maxRecoveries } = settings;
    const isStopped = () => this.isStopped;
    const guard = (work: () => Promise<void>) => this.guard(work);
    const guardRuns = (work: () => Promise<void>) => this.guardRuns(work);
    const takesRuns = () => this.takesRuns;
    const serves = (queue: string) => this.serves(queue);
    const ready = (queue: string) => this.announceReady(queue);
    const slotFreed = (queue: string) => this.slotFreed(queue);
    const takeOn = (run: ClaimedRun, recorded?: RecordedRun) => this.host.takeOn(run, recorded);
    const runs = (this.runs = new RunsInMemory(settings));
    const lease = (this.lease = new Lease({
      ...{ store: store.workers, leaseMs, queues },
      definitions: () => registry.ids(),
      lost: () => this.leaseLost(),
      regained: (former) => warn(`Worker ${former} has a lease again, under its new id ${this.id}; it takes runs.`),
    }));
    const hints = (this.hints = new HintBuffer(store.hints));
    const heartbeats = (this.heartbeats = new HeartbeatBuffer(store, warn));
    const gates = (this.gates = new QueueGates(store.queues, {
      clock,
      runningOf: (queue) => runs.executingOn(queue),
      claimSoon: () => this.claims.soon(),
    }));
    const claims = (this.claims = new Claims({
      ...{ store, registry, queues, runs, gates, pulse: this.pulse, lease, takesRuns, takeOn, guardRuns },
      claimed: (claimed) => telemetry?.claimed(claimed, clock.now()),
    }));
    const openings = new Openings({ clock, passOver: (run) => this.host.passOver(run, undefined) });
    this.placements = new Placements({
      ...{ registry, runs, gates, openings, takesRuns, serves, takeOn },
      takeOnOpened: (opening, at) => this.host.takeOnOpened(opening, at),
      taker: () => (this.isDraining || this.isStopped ? undefined : lease.workerId),
      dueAt: (time) => this.wakeTimer.dueAt(time),
      ready: ({ workflow, version, queue }) => (registry.has(workflow, version) ? ready(queue) : hints.queue(queue)),
    });
    const notices = (this.notices = new Notices({
      ...{ runs, hints, lease, events, ready },
      lookAgain: () => this.lookAgain(),
      left: (execution) => this.host.left(execution, undefined),
    }));
    const wakeTimer = (this.wakeTimer = new WakeTimer({ store, clock, guard, woken: (woken) => notices.woken(woken) }));
    const ticks = (this.ticks = new TickTimer({
      ...{ store: store.schedules, clock, guard, warn },
      fired: (fired) => this.noticeFired(fired),
    }));
    const retention = (this.retention = new RetentionSweep({
      ...{ store: store.retention, kept: settings.retention, definitions: registry.newest(), guard },
    }));
    const draining = (this.draining = new Draining({
      runs,
      // Their next attempts go on from what the last ones said.
      beforeHandBack: () => heartbeats.flush(),
      handBack: async () => this.hintAt(await lease.handBack({ except: runs.executingIds })),
    }));
    this.regularLook = new RegularLook({
      ...{ settings, store: store.workers, channel: store.hints, registry, lease, runs, gates, claims, notices },
      ...{ wakeTimer, ticks, retention, pulse: this.pulse, guard },
    });
    const committing: CommitQueueHost = {
      placementFor: (writes) => this.placements.forWrites(writes),
      beforeResults: (writes, result) => {
        openings.learn(writes);
        notices.wokenByWrites(writes, result);
      },
      afterResults: (writes, result) => {
        this.placements.takeOnChildren(writes, result);
        notices.committed(result);
      },
      failed: (writes) => this.placements.withdraw(writes),
      failureOf: (error) => serializer.encodeError(error),
      lost: (write, error) => this.lost(write, error),
    };
    const commits = new CommitQueue(observedCommits(store, telemetry), committing, settings.concurrency);
    const signalLooks = new SignalLooks(store, warn, isStopped);
    this.host = new WorkerHost(parts, {
      ...{ maxRecoveries, runs, lease, commits, heartbeats, signalLooks, notices, wakeTimer, draining },
      ...{ isStopped, slotFreed, guard, guardRuns },
      mayResume: (queue) => this.takesRuns && !gates.has(queue),
      lookForStrays: () => {
        this.regularLook.trouble();
        this.lookAgain();
      },
    });
  }

  async start(): Promise<void> {
    this.parts.store.hints.onHints((hints) => this.heard(hints));
    this.parts.store.onTrouble(() => this.regularLook.trouble());
    await this.lease.register();
    this.isStopped = false;
    this.regularLook.start();
    this.claims.soon();
  }

  private heard({ workers, queues, gates }: Hints): void {
    const isForUs = workers.includes(this.id);
    if (isForUs || gates?.some((queue) => this.serves(queue))) this.lookAgain();
    for (const queue of queues) this.gates.ready(queue);
    if (isForUs || queues.some((queue) => this.serves(queue))) this.claims.soon();
  }

  /**
   * Stops claiming, lets step bodies end up to the shutdown timeout, and hands every run back, so that another worker
   * goes on with it at once. A database that does not answer is not waited for: then others take over when the lease ends. Safe
   * to call twice.
   */
  async stop(): Promise<void> {
    if (this.isStopped) return;
    const { shutdownTimeoutMs } = this.settings;
    const isDrained = await endsWithin(shutdownTimeoutMs + FAREWELL_MS, this.draining.upTo(shutdownTimeoutMs));
    this.halt('The worker shuts down');
    if (isDrained && (await endsWithin(FAREWELL_MS, this.retire()))) return;
    this.parts.warn(
      `The database does not answer, so worker ${this.id} ends without a word; others take over what it has when its lease ends.`,
    );
  }

  private async retire(): Promise<void> {
    await this.heartbeats.flush();
    this.hintAt(await this.lease.retire());
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
    this.regularLook.stop();
    this.lease.abandon();
    this.wakeTimer.clear();
    this.ticks.clear();
    this.gates.stop();
    this.retention.stop();
    this.runs.dropAll(reason);
  }

  // ---- what it says of itself

  get id(): string {
    return this.lease.workerId;
  }

  get load(): { running: number; parked: number } {
    return this.runs.load;
  }

  get health(): WorkerHealth {
    return {
      id: this.id,
      hasLease: this.lease.isHeld,
      leaseMs: this.settings.leaseMs,
      claimAgeMs: Math.round(this.pulse.ageMs),
    };
  }

  isExecuting(runId: string): boolean {
    return this.runs.find(runId) !== undefined;
  }

  /** When runs that have their slots have something to do by themselves, in epoch ms. */
  executionsDueAt(): number[] {
    return this.runs.executing.flatMap((execution) => execution.nextDue() ?? []);
  }

  /** The process shuts down: no run is claimed and no step body begins any more. */
  get isDraining(): boolean {
    return this.draining.hasBegun;
  }

  private get takesRuns(): boolean {
    return this.lease.isHeld && !this.isDraining && !this.isStopped;
  }

  private serves(queue: string): boolean {
    return this.settings.queues.includes(queue);
  }

  // ---- what can be claimed, and what starts here

  /** Something on that queue can be claimed, here or by another worker. */
  announceReady(queue: string): void {
    const takesIt = this.takesRuns && this.serves(queue);
    this.gates.ready(queue);
    if (takesIt) this.claims.soon();
    if (!takesIt || this.runs.freeSlots <= 0 || this.gates.has(queue)) this.hints.queue(queue);
  }

  /**
   * Marks the runs that this worker can begin at once, and keeps slots for them. A claim that is under way holds all free
   * slots and mostly needs few of them, so it is waited for. `mayOpen`: runs may be committed with their openings.
   */
  async placementForStarts(runs: readonly NewRun[], mayOpen = false): Promise<Placement> {
    await this.claims.settled();
    return mayOpen ? this.placements.forOpenings(runs) : this.placements.forStarts(runs);
  }

  /** Begins those of the reserved runs that the database gave to this worker. */
  takeOnStarted(runs: readonly NewRun[], resultOf: (run: NewRun) => StartResult | undefined): void {
    this.placements.takeOn(runs, resultOf);
  }

  private slotFreed(queue: string): void {
    if (this.gates.has(queue)) {
      this.gates.ready(queue);
      this.hints.queue(queue);
    }
    this.draining.changed();
    this.claims.slotFreed();
  }

  // ---- what has happened, for those it concerns

  noticeElsewhere(runs: readonly WokenRun[]): void {
    this.notices.woken(runs);
  }

  noticeCancelled(result: CancelResult): void {
    this.notices.cancelled(result);
  }

  /** A run was paused in this process. */
  noticePaused(runId: string): void {
    this.runs.findParked(runId)?.pause();
  }

  /** The limits of a queue were changed in this process. */
  noticeChanged(queue: string): void {
    this.gates.changed(queue);
    this.lookAgain();
  }

  /** A signal that was sent in this process. */
  handOver(run: WokenRun, signal: BufferedSignal): void {
    this.notices.signalled(run, signal);
  }

  /** Schedules have started runs, and perhaps cancelled the ones before. */
  private noticeFired({ started, cancelled }: Fired): void {
    if (cancelled) this.notices.cancelled(cancelled);
    this.notices.woken(started);
  }

  // ---- the regular look

  /** Something has changed of which the regular look tells. */
  lookAgain(): void {
    this.regularLook.now();
  }

  /** The database's clock has been moved: what became due is not left to timers that were set before. Resolves when that is noticed. */
  async clockMoved(): Promise<void> {
    await this.guard(() => this.regularLook.look());
    for (const execution of this.runs.executing) execution.clockMoved();
  }

  private leaseLost(): void {
    const { running } = this.runs.load;
    this.parts.warn(`Worker ${this.id} could not renew its lease; it stops its ${running} runs until it can.`);
    this.runs.dropExecuting('The lease of the worker ran out');
  }

  /** Background work: what fails is said, and tried again at the next beat. */
  private async guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!this.isStopped)
        this.parts.warn(
          `The worker met a problem and goes on: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
        );
    }
  }

  /**
   * Background work upon runs of this worker. When it fails, the database may show as this worker's what it does not execute;
   * that is handed back with the strays.
   */
  private guardRuns(work: () => Promise<void>): Promise<void> {
    return this.guard(async () => {
      try {
        await work();
      } catch (error) {
        this.regularLook.trouble();
        throw error;
      }
    });
  }

  private hintAt(runs: readonly WokenRun[]): void {
    for (const { queue } of runs) this.hints.queue(queue);
  }

  /** The database takes neither the write nor that its run failed by it: the run is handed back with the strays. */
  private lost(write: RunWrite, error: unknown): void {
    this.parts.warn(`A write of run ${write.runId} cannot be stored: ${String(error)}`);
    this.regularLook.trouble();
  }
}
