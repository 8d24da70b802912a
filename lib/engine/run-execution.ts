import { Branch, Frame, runInFrame } from './branch.js';
import { runInContext } from './caller-context.js';
import { ChildLinks } from './child-links.js';
import { ChildStarts } from './child-starts.js';
import type { DatabaseClock } from './clock.js';
import type { Compensations } from './compensation.js';
import { type Command, type CommandIdentity, type OutcomeDraft } from './command.js';
import { DeterministicSource } from './deterministic-source.js';
import { DueTimes, type Expiry } from './due-times.js';
import type { WorkflowDefinition, WorkflowReference } from './definition.js';
import {
  CancelledError,
  InsideStepError,
  NonDeterminismError,
  RunPoisonedError,
  UnreadablePayloadError,
} from './errors.js';
import type { ExecutionHost } from './execution-host.js';
import { describeCall, History } from './history.js';
import { LazyAbortSignal } from './lazy-abort-signal.js';
import { Notes } from './notes.js';
import { waitsOf } from './parked-waits.js';
import { Delivery, OutcomeDelivery } from './outcome-delivery.js';
import { Patches } from './patches.js';
import { Replay } from './replay.js';
import { SignalBuffer } from './signal-buffer.js';
import type { Attributes } from './run.js';
import { RunInputs } from './run-inputs.js';
import { endOf, failure, hasMoved } from './run-end.js';
import { RunEnding } from './run-ending.js';
import { seedAfter } from './seed.js';
import type { PayloadSerializer } from './serialization.js';
import type { StepAttempt } from './step-execution.js';
import type { CancelMark } from './cancellation.js';
import type { ClaimedRun } from './claimed-run.js';
import type { RecordedOutcome, RecordedRun } from './recorded-run.js';
import type { Effects, Move, RunWrite } from './run-write.js';
import type { BufferedSignal } from './sent-signal.js';
import type { RunEnd } from './store.js';
import type { ObservedPass } from './telemetry.js';
import { rest, turn } from './turn.js';
import { type TakenWrite, WriteBuffer, type WriteResult, type WritingRun } from './write-buffer.js';

/** A wait that ends sooner than this is sat out with the slot; parking would cost more. */
const SHORTEST_PARK_MS = 200;

/**
 * One pass over one run: replay, deliver outcomes in order, settle.
 *
 * States: replaying → live ⇄ parking → parked → live …; at the end settled (its last write is under way) or dropped (the
 * run is another worker's now, or waits in the database).
 * Invariant: an outcome gets its `seq` at the moment when the code receives it, one at a time, each followed by a
 * macrotask turn. So replay, which feeds the recorded outcomes in that order, takes the code along the same path.
 * Dropping a run never resolves its promises, so no `catch` or `finally` of the user runs at a suspension.
 */
export class RunExecution implements WritingRun {
  readonly clock: DatabaseClock;
  readonly serializer: PayloadSerializer;
  readonly history: History;
  readonly notes: Notes;
  readonly source: DeterministicSource;
  readonly observed: ObservedPass | undefined;
  private state: 'replaying' | 'live' | 'parking' | 'parked' | 'settled' | 'dropped' = 'replaying';
  private readonly writes: WriteBuffer;
  private readonly root = Branch.root();
  private readonly abortion = new LazyAbortSignal();
  /** Calls that have no outcome yet. In replay they wait for theirs; what is left at its end is begun. */
  private readonly pending = new Set<Command>();
  private readonly replaying = new Replay((stored, digest) => this.serializer.isDigest(stored, digest));
  /** The open ones of those that step bodies have made. */
  private nestedCalls: Map<Command, { attempt: StepAttempt; isWaiting: boolean }> | undefined;
  private readonly ending = new RunEnding(this);
  private readonly delivery: OutcomeDelivery;
  private readonly times = new DueTimes(this, this.pending);
  /** It is to be paused: outcomes are recorded, and not delivered any more. */
  private isPausing = false;
  /** It was paused while it was parked. */
  private isHeld = false;
  private isCheckScheduled = false;
  private activeBodies = 0;
  private signalBuffer: SignalBuffer | undefined;
  private deliveredSeq = 0;
  private runTime: number;
  /** Set while the run is not committed: what is to be done when it is. */
  private onceBegun: (() => void)[] | undefined;
  /** Its time is known when it is committed: an opening that has asked for that before is not kept. */
  private hasUsedTime = false;
  private cancelledWith: CancelledError | undefined;
  private cancelSeq = 0;
  private patches: Patches | undefined;
  private ownInputs: RunInputs | undefined;
  private ownChildren: ChildLinks | undefined;
  private ownChildStarts: ChildStarts | undefined;

  constructor(
    readonly run: ClaimedRun,
    readonly definition: WorkflowDefinition,
    recorded: RecordedRun | undefined,
    readonly host: ExecutionHost,
  ) {
    this.clock = host.clock;
    this.serializer = host.serializer;
    this.source = new DeterministicSource(() => seedAfter(this.deliveredSeq, run));
    this.history = new History(recorded?.outcomes);
    if (recorded) this.ownChildren = new ChildLinks(this, recorded);
    this.writes = new WriteBuffer(this, host);
    this.delivery = new OutcomeDelivery(this, this.writes);
    this.notes = new Notes(this, this.writes);
    this.runTime = Math.floor(run.startedAt);
    this.observed = host.telemetry?.pass(run, this);
  }

  /** Runs the code: against its history first, then on. */
  start(maxRecoveries: number): void {
    if (this.run.recoveries > maxRecoveries)
      return this.endUnseen(failure(new RunPoisonedError(this.run.id, this.run.recoveries), this.serializer));
    // One that has begun may have something to undo, which only its code can tell.
    if (this.run.fresh && this.times.isPastDeadline()) return this.ending.expire(this.times.findExpiry()!);
    void this.replay();
  }

  // ---- the opening, which runs before the run itself is committed

  /** Runs the code as far as it goes by itself. Gives what it wants to write if it parks by that, without having asked for the time. */
  async open(): Promise<TakenWrite | undefined> {
    this.onceBegun = [];
    this.writes.hold();
    void this.replay();
    await rest();
    return this.state === 'parking' && !this.hasUsedTime ? this.writes.takeForStart() : undefined;
  }

  /** The run is committed, with its opening. */
  committedAt(at: number): void {
    this.run.startedAt = at;
    this.runTime = Math.floor(at);
    for (const command of this.pending) command.askedAt = this.runTime;
    const acts = this.onceBegun;
    this.onceBegun = undefined;
    for (const act of acts ?? []) act();
  }

  /** False while its opening runs: there may never be such a run. */
  get hasBegun(): boolean {
    return this.onceBegun === undefined;
  }

  /** For what is seen outside: done at once, or when the run is committed. */
  whenBegun(act: () => void): void {
    if (this.onceBegun) this.onceBegun.push(act);
    else act();
  }

  // ---- what workflow code asks for

  /** Numbers the call, and begins it unless replay has or may have its outcome. The call's promise is `command.promise`. */
  issue(command: Command, call: DurableCall, frame: Frame): void {
    const { attempt } = frame;
    const { kind, name, ordinal, afterSeq = this.deliveredSeq } = call;
    const scope = attempt?.scope ?? '';
    command.identity = { kind, name, scope, ordinal: ordinal ?? this.history.number(kind, scope, name) };
    command.afterSeq = afterSeq;
    command.askedAt = this.runTime;
    if (this.isOver || command.branch.isAbandoned) return;
    if (attempt && !attempt.mayWait && kind !== 'step')
      return command.endBy(new InsideStepError(describeCall(command.identity), attempt.context.step));
    if (attempt) return this.issueNested(command, attempt);
    const cancellation = command.branch.cancellation;
    if (cancellation) return command.endBy(cancellation);
    this.opened(command);
    if (this.state === 'replaying') {
      this.replaying.ask(command);
    } else {
      this.beginLive(command);
    }
  }

  /** What a class or a name stands for in this process. Throws for a class that is not registered. */
  findDefinition(workflow: WorkflowReference): WorkflowDefinition | undefined {
    const definition = this.host.registry.find(workflow);
    if (!definition && (typeof workflow !== 'string' || workflow === ''))
      throw this.host.registry.notRegistered(workflow);
    return definition;
  }

  /** The code's last word on where it is; kept even when nobody awaits it. */
  setState(state: string | null): void {
    if (this.isLive) this.writes.setState(state);
  }

  setAttributes(attributes: Attributes): void {
    this.run.attributes = { ...this.run.attributes, ...attributes };
    if (this.isLive) this.writes.addAttributes(attributes);
  }

  /** The code wants to begin anew with this input: it makes no further call. */
  continueAs(input: string | null): void {
    this.ending.codeReturned({ nextInput: input });
  }

  /** Whether the run goes the new way at that change of the code. */
  isPatched(id: string): boolean {
    return (this.patches ??= new Patches(this, this.writes)).has(id);
  }

  /** The time of the last outcome that the code received: the same in every replay. */
  get time(): number {
    this.hasUsedTime ||= !this.hasBegun;
    return this.runTime;
  }

  get signal(): AbortSignal {
    return this.abortion.signal;
  }

  /** What is undone when the run does not complete. */
  get compensations(): Compensations {
    return this.ending.compensations;
  }

  /** Until when what the run calls must end; compensations take the time that they need. */
  get deadline(): number | null {
    return this.ending.isUndoing ? null : this.run.deadline;
  }

  /** Whether the time for its code was over by then; null: by now. */
  isTooLateAt(time: number | null): boolean {
    return this.times.isPastDeadline(time ?? undefined);
  }

  get cleanUpEnd(): number | null {
    if (!this.cancelledWith || this.ending.isUndoing) return null;
    return this.run.cancel!.at + this.definition.cancelTimeoutMs;
  }

  /** The entry that the code has received last. */
  get receivedSeq(): number {
    return this.deliveredSeq;
  }

  get isReplaying(): boolean {
    return this.state === 'replaying';
  }

  get cancellation(): CancelledError | undefined {
    return this.cancelledWith;
  }

  /** What people are asked; made for the first question. */
  get inputs(): RunInputs {
    return (this.ownInputs ??= new RunInputs(this, this.writes));
  }

  /** Made for the first child. */
  get children(): ChildLinks {
    return (this.ownChildren ??= new ChildLinks(this, undefined));
  }

  get childStarts(): ChildStarts {
    return (this.ownChildStarts ??= new ChildStarts(this, this.writes));
  }

  // ---- what commands ask for

  get isDurable(): boolean {
    return this.writes.isDurable;
  }

  /**
   * False while the process shuts down: what has begun may end, nothing else begins. While the run pauses, what the bodies
   * that run ask for still does.
   */
  mayBegin(command: Command): boolean {
    return !this.host.isDraining && (!this.isPausing || command.identity.scope !== '');
  }

  whenDurable(): Promise<void> {
    return this.writes.whenDurable();
  }

  /** Resolves when the write in flight has its result, whatever that is. */
  whenAnswered(): Promise<void> {
    return this.writes.whenAnswered();
  }

  /** The command has its outcome; the code receives it when its turn comes. */
  settle(command: Command, outcome: OutcomeDraft): void {
    this.deliverSoon(Delivery.of(command, outcome));
  }

  /** The command has its outcome at once, and the code receives it in the same turn: it is recorded with what comes next. */
  settleAtOnce(command: Command, outcome: OutcomeDraft): void {
    this.delivery.recordAndDeliver(Delivery.of(command, outcome));
  }

  private opened(command: Command): void {
    this.pending.add(command);
    command.branch.opened(command);
  }

  /** The command has been delivered or cancelled. */
  closed(command: Command): void {
    this.pending.delete(command);
    this.standingChanged(command);
    this.nestedCalls?.delete(command);
  }

  /** The call may have begun or stopped to wait: the body that made it rests while it does. */
  standingChanged(command: Command): void {
    const call = this.nestedCalls?.get(command);
    if (!call || this.isOver) return;
    const isWaiting = command.open && command.standing() !== 'busy';
    if (call.isWaiting === isWaiting) return;
    call.isWaiting = isWaiting;
    call.attempt.waits(isWaiting ? 1 : -1);
  }

  /** From when the timeout of a wait counts: a retry of the run gives it its whole time anew. */
  countsFrom({ askedAt }: Command): number {
    return Math.max(askedAt, this.run.retriedAt ?? askedAt);
  }

  /** Fires the command at that time, or soon when the run is late for it. */
  fireAt(command: Command, time: number): void {
    this.times.fireAt(command, time);
  }

  /** Fires what was due by that time, the earliest first. */
  fireUntil(time: number): void {
    this.times.fireUntil(time);
  }

  /** The step has failed and is to be tried again. */
  attemptFailed(command: Command, attempt: Parameters<Notes['failedAttempt']>[1]): void {
    if (this.isOver) return;
    this.notes.failedAttempt(command, attempt);
    this.checkParkingSoon();
  }

  /** The stored form of what tells that a call is the same. */
  storedDigestOf({ digest }: Command): string | null {
    return digest === null ? null : this.serializer.sealDigest(digest);
  }

  /** The body of an attempt has ended, with or without an outcome. */
  attemptEnded({ scope }: StepAttempt): void {
    this.ownInputs?.leaveBehind(scope);
  }

  /** How far the compensations are, for the run's row. */
  markCompensation(compensation: Effects['compensation']): void {
    this.writes.addEffects((effects) => (effects.compensation = compensation));
  }

  /** Cancels another run, with its descendants, in the next write. */
  cancelRun(runId: string, reason: string): void {
    if (!this.isLive) return;
    this.writes.addEffects(({ cancels }) => {
      const alike = cancels.find((cancel) => cancel.reason === reason);
      if (alike) alike.runIds.push(runId);
      else cancels.push({ runIds: [runId], reason });
    });
  }

  supersede(runId: string): void {
    this.writes.addEffects((effects) => effects.supersedes.push(runId));
  }

  /** A step body (or work like it) runs in this process, or does not any more: while one does, the run keeps its slot. */
  bodyActive(delta: 1 | -1): void {
    this.activeBodies += delta;
    if (this.activeBodies === 0) this.checkParkingSoon();
  }

  /**
   * Looks something up in the database. The run keeps its slot meanwhile: it would be parked with the wake-up counted that
   * made it look, and a crash before it acts on what it finds would lose that wake-up.
   */
  async lookUp(look: () => Promise<void>): Promise<void> {
    this.bodyActive(1);
    await this.host.lookUp(this, look);
    this.bodyActive(-1);
    this.checkParkingSoon();
  }

  /** The code does something else than what is recorded after the last outcome it received: the run is blocked. */
  diverge(expected: string, found: string): void {
    if (this.isOver) return;
    this.block(new NonDeterminismError(this.deliveredSeq + 1, expected, found));
  }

  /**
   * Other code, or another process, can go on from here: the run keeps its history and waits for that. One whose time is over
   * ends, though its code has changed, unless that code has something to undo.
   */
  block(error: NonDeterminismError | UnreadablePayloadError): void {
    if (this.isOver) return;
    const hasNothingToUndo = error instanceof NonDeterminismError && !this.ending.mayUndo && !this.ending.isUndoing;
    if (this.times.isPastDeadline() && hasNothingToUndo) return this.expireUnseen(this.times.findExpiry()!);
    // A run that is being cancelled would end by this write, and lose the clean-up to a process that cannot read it.
    if (this.run.cancel && error instanceof UnreadablePayloadError) this.writes.knowCancel();
    this.end({ to: 'blocked', error: this.serializer.encodeError(error) });
  }

  // ---- what the worker tells

  /** The end of a run that this one may wait for. */
  childEnded(end: RunEnd): void {
    this.ownChildren?.ended(end);
  }

  requestCancel(mark: CancelMark): void {
    if (this.run.cancel) return;
    this.cancelSoon(mark);
  }

  /**
   * The run is to be paused. Its code is not gone on with: what ends from now on is recorded and waits for a replay. When no body
   * runs any more and all is durable, the run gives its slot up. Invariant: nothing that has ended is lost, and nothing is
   * begun but what a running body needs. A run that is just parking, or ending, is left to that: a parked one is not claimed.
   * A cancellation does not wait for the bodies, which get their AbortSignal: the next pass unwinds the run.
   */
  pause(): void {
    if (this.isPausing || this.isOver) return;
    if (this.state === 'parked') return void (this.isHeld = true);
    this.isPausing = true;
    this.checkParkingSoon();
  }

  private keepBack(command: Command): void {
    this.pending.delete(command);
    command.drop('The run is paused');
  }

  private checkPaused(): void {
    const isAtRest = this.state === 'replaying' || (this.state === 'live' && this.delivery.isAtRest);
    if (isAtRest && this.isDurable && (this.activeBodies === 0 || this.run.cancel)) this.host.paused(this);
  }

  private cancelSoon(mark: CancelMark): void {
    this.run.cancel = mark;
    const error = this.serializer.encodeError(new CancelledError(mark.reason ?? undefined));
    const event = { kind: 'cancel', name: 'cancel', at: mark.at } as const;
    this.deliverSoon(Delivery.ofEvent(event, { status: 'cancelled', error }));
  }

  /** Something has happened to the run's row: what it waits for is looked at, once for each count of wakes. */
  touched(wakes: number): void {
    if (wakes <= this.run.wakes) return;
    this.run.wakes = wakes;
    this.signalBuffer?.touched();
    const awaited = this.ownChildren?.awaited();
    if (awaited?.length) void this.lookUp(() => this.children.look(awaited));
    this.ownInputs?.look();
  }

  /** The signals of the run that its code has not received. */
  get signals(): SignalBuffer {
    return (this.signalBuffer ??= new SignalBuffer(this, this.run.wakes === 0));
  }

  /** A signal that was sent in this process. */
  signalled(signal: BufferedSignal): void {
    if (signal.seq === this.run.wakes + 1 && this.signalBuffer?.handOver(signal)) this.run.wakes = signal.seq;
    else this.touched(signal.seq);
  }

  /** A wake whose cause was told in this process: nothing to look up. */
  countWake(wakes: number): boolean {
    if (wakes !== this.run.wakes + 1) return false;
    this.run.wakes = wakes;
    return true;
  }

  /** The parked run has a slot again, under this epoch. */
  resume(claim: { epoch: number; cancel: CancelMark | null }): void {
    this.run.epoch = claim.epoch;
    this.isHeld = false;
    this.observed?.resumes();
    this.state = 'live';
    this.patches?.writeRest();
    if (claim.cancel) this.requestCancel(claim.cancel);
    this.signalBuffer?.serve();
    this.times.check();
    this.delivery.goOn();
    this.checkParkingSoon();
  }

  // ---- the end of a child that executes here, told before it is committed

  /**
   * Whether it can go on by the end of a child before that is committed. Should the end not be kept, the code is begun anew: not
   * where a step's body rests in a call, which would run again.
   */
  get mayFollow(): boolean {
    if (this.state === 'live') return this.writes.mayFollowMore;
    return this.state === 'parked' && !this.isHeld && this.delivery.isEmpty && !this.nestedCalls?.size;
  }

  /** The child has come to that end, which its next write makes. */
  follow(child: RunExecution, end: RunEnd): void {
    this.writes.follow(child.writes);
    if (this.state === 'parked') this.resume({ epoch: this.run.epoch, cancel: null });
    this.childEnded(end);
  }

  /** When the parked run wakes by itself. */
  parkedUntil: number | null = null;

  /** Whether nothing of the run is executing at this moment, so that it can be handed back without losing work. */
  get isIdle(): boolean {
    return this.activeBodies === 0 && this.delivery.isEmpty && this.isDurable;
  }

  /** Gives the run up without touching it: its promises never end, its step bodies get their AbortSignal. */
  drop(reason: string): void {
    if (this.state === 'dropped') return;
    this.state = 'dropped';
    this.times.disarm();
    this.abortion.abort(reason);
    this.dropPending(reason);
    this.delivery.clear();
    this.observed?.ends(undefined);
  }

  // ---- replay

  /** Resolves when the code has received what is recorded, and what it made of that at once. */
  async replay(): Promise<void> {
    try {
      const { unfinished } = this.history;
      if (!this.history.isReplaying && unfinished.length === 0 && !this.times.findExpiry()) this.state = 'live';
      const quiescence = turn();
      this.runCode();
      await quiescence;
      while (this.history.isReplaying && !this.isOver) await this.replayNext(this.history.next!);
      for (const attempt of unfinished) if (!this.isOver) await this.replaying.callFor(attempt);
      if (this.state === 'replaying') this.beginUnmatched();
      this.ending.replayed();
      if (this.run.cancel && !this.cancelledWith) this.cancelSoon(this.run.cancel);
      await this.delivery.deliverAll();
    } catch (error) {
      if (this.isOver) return;
      if (error instanceof NonDeterminismError || error instanceof UnreadablePayloadError) this.block(error);
      else this.end(failure(error, this.serializer));
    }
  }

  private async replayNext(outcome: RecordedOutcome): Promise<void> {
    const isEvent = outcome.kind === 'cancel' || outcome.kind === 'expiry';
    const call = isEvent ? undefined : this.replaying.callFor(outcome);
    const command = call instanceof Promise ? await call : call;
    if (this.isOver) return;
    this.history.advance();
    if (command) this.replaying.matched(command);
    const isLast = !this.history.isReplaying && this.history.unfinished.length === 0 && !this.times.findExpiry();
    if (isLast) this.state = 'live';
    const quiescence = turn();
    this.deliver(outcome, command);
    if (isLast) this.beginUnmatched();
    await quiescence;
  }

  /** Replay has matched every entry: what was asked for without an outcome, and is not cancelled, is begun now. */
  private beginUnmatched(): void {
    this.state = 'live';
    const expiry = this.times.findExpiry();
    if (expiry) return this.expireUnseen(expiry);
    for (const command of this.replaying.unmatched()) if (command.open) command.begin();
  }

  // ---- delivering

  private deliverSoon(delivery: Delivery): void {
    if (this.isOver) return;
    this.delivery.add(delivery);
    if (this.state === 'parked') this.host.wake(this);
  }

  /** The next pass hears of a cancellation from the run's row, and can act upon it. What its code is over for comes too late. */
  refuses({ command, event }: Delivery): boolean {
    if (event && this.isPausing) return true;
    return command ? !command.open : event?.kind === 'expiry' && this.ending.isUndoing;
  }

  committedAside(outcome: RecordedOutcome): void {
    this.host.committed(this, { outcomes: [outcome], move: null });
  }

  lostAside(): void {
    this.leave(undefined);
  }

  get isReceiving(): boolean {
    return this.delivery.goesOn;
  }

  delivered(): void {
    this.writes.bringForward();
    this.checkParking();
  }

  /** The code receives an outcome: one that is just recorded, or one that is replayed. */
  deliver(outcome: RecordedOutcome, command: Command | undefined): void {
    if (this.isPausing && command && outcome.scope === '') return this.keepBack(command);
    if (outcome.scope === '') {
      this.deliveredSeq = outcome.seq;
      this.runTime = outcome.finishedAt;
    }
    if (!command) this.deliverEvent(outcome);
    // A body acts on the world at once; what it acts on must not be forgotten by a crash.
    else if (outcome.scope !== '') command.deliver(outcome, this.writes.whenDurable());
    else command.deliver(outcome);
  }

  private deliverEvent(outcome: RecordedOutcome): void {
    if (outcome.kind === 'cancel') this.deliverCancel(outcome);
    else this.ending.expired({ name: outcome.name as Expiry['name'], at: outcome.startedAt });
  }

  /** The run's cancellation reaches its code: what it waits for ends with CancelledError, and so will what it asks for. */
  private deliverCancel(outcome: RecordedOutcome): void {
    const { reason } = this.serializer.decodeError(outcome.error);
    this.cancelledWith = new CancelledError(typeof reason === 'string' ? reason : undefined);
    this.cancelSeq = outcome.seq;
    this.run.cancel ??= { reason: this.cancelledWith.reason ?? null, at: outcome.startedAt };
    this.writes.knowCancel();
    this.abortion.abort(this.cancelledWith);
    this.root.cancel(this.cancelledWith);
    this.times.arm();
    this.ending.cancelled();
  }

  /** A call in a step's body: the body is ordinary code, so its calls are answered by name, whatever their order. */
  private issueNested(command: Command, attempt: StepAttempt): void {
    const recorded = this.history.findNested(command.identity);
    const { cancellation } = command.branch;
    const outlives = cancellation === this.cancelledWith && (recorded !== undefined || command.outlives);
    if (cancellation && !outlives) return command.endBy(cancellation);
    this.opened(command);
    if (cancellation && !(recorded && recorded.seq < this.cancelSeq)) command.cancel(cancellation);
    if (recorded) return command.deliver(recorded);
    command.askedAt = this.history.findBegun(command.identity) ?? this.notes.begun(command);
    (this.nestedCalls ??= new Map()).set(command, { attempt, isWaiting: false });
    this.beginLive(command);
    this.standingChanged(command);
  }

  private beginLive(command: Command): void {
    command.begin();
    if (this.state === 'parked') this.host.wake(this);
    else this.checkParkingSoon();
  }

  // ---- the code and its end

  /** Runs code of the user's: in that place of the run, and in the context that the run was started in. */
  enter<T>(frame: Frame, code: () => T): T {
    const { callerContext } = this.host;
    const observed = frame.attempt?.observed ?? this.observed;
    const traced = observed ? () => observed.enter(code) : code;
    if (!callerContext) return runInFrame(frame, traced);
    return runInContext(callerContext, this.serializer.decode(this.run.context), () => runInFrame(frame, traced));
  }

  private runCode(): void {
    const input = this.serializer.decode(this.run.input);
    const code = this.enter(new Frame(this, this.root, undefined), async () => await this.definition.run(input));
    code.then(
      (value) => this.ending.codeReturned({ value }),
      (error: unknown) => this.ending.codeReturned({ error }),
    );
  }

  codeIsOver(): void {
    this.replaying.end();
  }

  abandonCode(): void {
    this.root.abandon();
    this.dropPending('The code of the run is over');
    if (this.isLive) this.ownInputs?.closeAll();
  }

  lacksChild(): boolean {
    const unasked = this.cancelledWith ? undefined : this.ownChildren?.findUnasked();
    if (unasked) this.diverge(`the start of child '${unasked.ref}'`, 'ended before it');
    return unasked !== undefined;
  }

  recordExpiry({ name, at }: Expiry): void {
    this.deliverSoon(Delivery.ofEvent({ kind: 'expiry', name, at }, { status: 'timeout' }));
  }

  /** The time for the code is over. */
  expire(expiry: Expiry): void {
    this.ending.expire(expiry);
  }

  /** The time was over before this pass began anything, and so before it could tell what an earlier one has left open. */
  private expireUnseen(expiry: Expiry): void {
    this.inputs.closeAll();
    this.expire(expiry);
  }

  /** Ends the run without running its code, which would tell what an earlier pass has left open. */
  private endUnseen(move: Move): void {
    if (!this.run.fresh) this.inputs.closeAll();
    this.end(move);
  }

  /** The last write of this pass: how the run ends, that it is blocked, or that it begins anew. */
  end(move: Move): void {
    this.state = 'settled';
    this.times.disarm();
    this.dropPending('The run is over');
    if (this.ending.isUndoing && move.to !== 'blocked') this.markCompensation(this.compensations.result);
    if (move.to === 'continued')
      this.writes.addEffects((effects) => (effects.continues = { generation: this.run.generation }));
    else if (this.ownChildren?.mustClose && move.to !== 'blocked')
      this.writes.addEffects((effects) => (effects.closesChildren = true));
    if (move.to !== 'blocked') this.ownInputs?.closeAll();
    this.writes.move(move);
    const end = this.writes.isAlone && this.run.parentAwaits ? endOf(this.run, move) : undefined;
    if (end) this.host.ends(this, end);
  }

  private dropPending(reason: string): void {
    for (const command of this.pending) command.drop(reason);
    this.pending.clear();
  }

  // ---- parking

  private checkParkingSoon(): void {
    if (this.isCheckScheduled) return;
    this.isCheckScheduled = true;
    setImmediate(() => {
      this.isCheckScheduled = false;
      this.checkParking();
    });
  }

  private checkParking(): void {
    if (this.isPausing) return this.checkPaused();
    if (this.state !== 'live') return;
    // Timers and the deadline come due beside a step body that runs, too.
    const wakeAt = this.times.arm();
    if (!this.delivery.isAtRest || this.activeBodies > 0) return;
    const waits = waitsOf(this.pending);
    if (!waits || (wakeAt !== null && wakeAt - this.clock.now() < SHORTEST_PARK_MS)) return;
    this.state = 'parking';
    this.parkedUntil = wakeAt;
    this.writes.move({ to: 'waiting', wakeAt, waitingFor: JSON.stringify(waits) });
  }

  /** When something of it is due next, timeouts of step bodies included. */
  nextDue(): number | null {
    return this.times.nextOfAll();
  }

  /** The database's clock was moved. */
  clockMoved(): void {
    this.times.clockMoved();
  }

  /** When something that it waits for is due, or its time is over. */
  nextWakeAt(): number | null {
    return this.times.next();
  }

  /** An answer, a signal or an end that was there before a timer was due comes before it, so that is looked for first. */
  lookBefore(then: () => void): void {
    this.lookForAnswers(() => this.lookForSignals(() => this.lookForEnds(then)));
  }

  private lookForAnswers(then: () => void): void {
    if (this.ownInputs?.isAwaited) this.inputs.lookBefore(then);
    else then();
  }

  private lookForSignals(then: () => void): void {
    if (this.signalBuffer?.isAwaited) this.signals.lookBefore(then);
    else then();
  }

  private lookForEnds(then: () => void): void {
    if (this.ownChildren?.isAwaiting) this.children.lookBefore(then);
    else then();
  }

  // ---- what became of a write

  committed(result: WriteResult, write: RunWrite): void {
    if (result.lost) return this.leave(undefined);
    this.host.committed(this, !write.move || hasMoved(write.move, result.run) ? write : { ...write, move: null });
    const { run } = result;
    if (run.next && write.move?.to === 'continued') {
      this.observed?.ends('continued');
      return this.host.continued(this, write.move.input, run.next);
    }
    if (this.state === 'dropped') return;
    if (this.isPausing) this.checkParkingSoon();
    if (run.cancel && !write.knowsCancel) return this.interrupted(run.cancel);
    if (!write.move) return this.touched(run.wakes);
    if (write.move.to === 'waiting') return this.parkEnded(run.status === 'waiting', run.wakes);
    this.observed?.ends(write.move.to, 'error' in write.move ? write.move.error : undefined);
    this.leave(endOf(this.run, write.move));
  }

  /** The write was kept, but its move was not: the run was cancelled before it. A look may have told us of that already. */
  private interrupted(mark: CancelMark): void {
    if (this.state === 'settled') {
      this.host.endRefused(this);
      if (this.ending.hasReturned && this.ending.mayUndo) {
        this.state = 'live';
        return this.cancelSoon(mark);
      }
      this.run.cancel = mark;
      this.cancelledWith = new CancelledError(mark.reason ?? undefined);
      this.writes.knowCancel();
      this.end(this.ending.move);
      return;
    }
    if (this.state === 'parking') this.state = 'live';
    this.patches?.writeRest();
    this.requestCancel(mark);
    this.delivery.goOn();
  }

  private parkEnded(isParked: boolean, wakes: number): void {
    if (this.state !== 'parking') return;
    this.state = isParked ? 'parked' : 'live';
    if (isParked) {
      this.isPausing = false;
      this.times.disarm();
      this.observed?.ends('waiting');
      this.host.parked(this);
      if (!this.delivery.isEmpty) this.host.wake(this);
      return;
    }
    this.patches?.writeRest();
    this.touched(wakes);
    this.delivery.goOn();
    this.checkParkingSoon();
  }

  /** An end that the code was told of is not kept: the run is begun anew from what is recorded. */
  brokenOff(): void {
    this.leave(undefined);
    this.host.brokenOff();
  }

  private leave(end: RunEnd | undefined): void {
    this.drop('The run has left this process');
    this.host.left(this, end);
  }

  /** Past its replay, and not over: what the code does now is new. */
  get isLive(): boolean {
    return this.state === 'live' || this.state === 'parking' || this.state === 'parked';
  }

  /** It has its slot, and no park is under way. */
  get mayWrite(): boolean {
    return this.state === 'live';
  }

  get isParked(): boolean {
    return this.state === 'parked';
  }

  get isOver(): boolean {
    return this.state === 'settled' || this.state === 'dropped';
  }
}

/** A durable call as it is made; it is numbered, and follows what the code has received last, unless it says otherwise. */
interface DurableCall {
  kind: CommandIdentity['kind'];
  name: string;
  ordinal?: number;
  afterSeq?: number;
}
