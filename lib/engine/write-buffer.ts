import { performance } from 'node:perf_hooks';
import type { ClaimedRun } from './claimed-run.js';
import type { NewRun } from './new-run.js';
import type { RecordedOutcome } from './recorded-run.js';
import type { CommittedRun, Effects, Move, RunWrite } from './run-write.js';
import type { Attributes } from './run.js';

/** So many outcomes are worth a commit of their own; and so long the first of them may wait for the next. */
const MANY_OUTCOMES = 100;
const LONGEST_WAIT_MS = 20;

/** Of how many ends a run is told before they are committed. */
const MOST_LEADERS = 25;

/** What became of a write: the run's row after it, or `lost` when another worker has the run now. */
export type WriteResult = { lost: false; run: CommittedRun; refusedChildren: ReadonlySet<string> } | { lost: true };

type Listener = (result: WriteResult) => void;

/** A write on its way to the database, and who is told what became of it. */
export class TakenWrite {
  constructor(
    readonly buffer: WriteBuffer,
    readonly write: RunWrite,
    private readonly listeners: readonly Listener[],
  ) {}

  /** The same, with this in place of what it says. */
  saying(write: RunWrite): TakenWrite {
    return new TakenWrite(this.buffer, write, this.listeners);
  }

  finish(result: WriteResult): void {
    this.buffer.finish(this.write, this.listeners, result);
  }
}

/** What a run has to write, while it grows. */
class OpenWrite implements RunWrite {
  readonly runId: string;
  readonly workflow: string;
  readonly epoch: number;
  readonly parentId: string | null;
  readonly outcomes: RecordedOutcome[] = [];
  readonly children: NewRun[] = [];
  move: Move | null = null;
  seenWakes: number;
  state: string | null | undefined = undefined;
  attributes: Attributes | null = null;
  toldParent = false;
  effects: Effects | null = null;

  constructor(
    { id, workflow, epoch, parentId, parentAwaits, wakes }: ClaimedRun,
    readonly writeNo: number,
    public knowsCancel: boolean,
  ) {
    this.runId = id;
    this.workflow = workflow;
    this.epoch = epoch;
    this.parentId = parentAwaits ? parentId : null;
    this.seenWakes = wakes;
  }
}

const NO_BUFFERS: ReadonlySet<WriteBuffer> = new Set();

/** Where buffered writes go when there are any. */
export interface WriteSink {
  /** The buffer has something to commit. Called once until {@link WriteBuffer.take}. */
  enqueue(buffer: WriteBuffer): void;
}

/** Whose writes they are. */
export interface WritingRun {
  readonly run: ClaimedRun;
  /** Its code is given one outcome after the other, and more of them are at hand. */
  readonly isReceiving: boolean;
  committed(result: WriteResult, write: RunWrite): void;
  /** What it has written last counts on the end of another run, and that was not kept. */
  brokenOff(): void;
}

/**
 * The writes of one run, in order. What is added while nothing is taken becomes one write, so that an outcome and all
 * that the code does upon it, its end included, commit together.
 *
 * Invariant: at most one write of a run is in flight; `isDurable` says that none is open or in flight, which is the
 * barrier that a step body waits for.
 *
 * The end of a child may be told to its parent before it is committed (`follow`): what the parent does upon it then commits with
 * it, or after it. Invariant: no write of a follower is kept without the ends that it follows. If one of them is
 * not kept, nothing that the follower has done since is, and it is begun anew from what is recorded.
 */
export class WriteBuffer {
  private pending: OpenWrite | undefined;
  private listeners: Listener[] = [];
  /** The listeners of the write in flight, while there is one. */
  private inFlight: Listener[] | undefined;
  private writeNo = 0;
  /** Set once the cancellation has been recorded; every later write says that it knows. */
  private cancelIsKnown = false;
  private openedAt = 0;
  private isPutOff = false;
  private followed: Set<WriteBuffer> | undefined;
  private parentTold: WriteBuffer | undefined;

  constructor(
    private readonly owner: WritingRun,
    private readonly sink: WriteSink,
  ) {}

  get runId(): string {
    return this.run.id;
  }

  get epoch(): number {
    return this.run.epoch;
  }

  private get run(): ClaimedRun {
    return this.owner.run;
  }

  get isDurable(): boolean {
    return !this.pending && !this.inFlight;
  }

  /** The open write, if there is one. */
  get next(): Readonly<RunWrite> | undefined {
    return this.pending;
  }

  /** Resolves when all that was added so far is committed; never when the run is lost. */
  whenDurable(): Promise<void> {
    const listeners = this.pending ? this.listeners : this.inFlight;
    if (!listeners) return Promise.resolve();
    this.bringForward();
    return new Promise((resolve) => listeners.push((result) => !result.lost && resolve()));
  }

  /** Resolves when the write in flight, or the one that counts on ends which are not committed yet, has its result, whatever that is. */
  whenAnswered(): Promise<void> {
    const listeners = this.inFlight ?? (this.leaders.size ? this.listeners : undefined);
    return new Promise((resolve) => (listeners ? listeners.push(() => resolve()) : resolve()));
  }

  /** The run is being started: that is its write in flight, until {@link takeForStart}. */
  hold(): void {
    this.inFlight = [];
  }

  /** What a held run has to write, to be committed by its start. */
  takeForStart(): TakenWrite | undefined {
    this.listeners.push(...this.inFlight!);
    this.inFlight = undefined;
    return this.take();
  }

  addOutcome(outcome: RecordedOutcome): void {
    this.open().outcomes.push(outcome);
    if (this.isPutOff && !this.mayGrow) this.bringForward();
  }

  addChild(child: NewRun): void {
    this.open().children.push(child);
  }

  setState(state: string | null): void {
    this.open().state = state;
  }

  addAttributes(attributes: Attributes): void {
    const write = this.open();
    write.attributes = { ...write.attributes, ...attributes };
  }

  /** The cancellation has been delivered: what is written from now on was decided in its knowledge. */
  knowCancel(): void {
    this.cancelIsKnown = true;
    if (this.pending) this.pending.knowsCancel = true;
  }

  move(move: Move): void {
    const write = this.open();
    write.move = move;
    write.seenWakes = this.run.wakes;
  }

  addEffects(add: (effects: Effects) => void): void {
    const write = this.open();
    write.effects ??= {
      cancels: [],
      awaits: [],
      watches: [],
      supersedes: [],
      closesChildren: false,
      compensation: null,
      asks: [],
      closes: [],
      closesInputs: false,
      continues: null,
    };
    add(write.effects);
  }

  // ---- an end that is told before it is committed

  /** Those whose ends the run has been told of, and that are not committed yet. */
  get leaders(): ReadonlySet<WriteBuffer> {
    return this.followed ?? NO_BUFFERS;
  }

  /** Whether it may follow one more: not without end, for its own write waits for all of them. */
  get mayFollowMore(): boolean {
    const { size } = this.leaders;
    return size > 0 && size < MOST_LEADERS && this.isOpen && [...this.leaders].every(({ isOpen }) => isOpen);
  }

  /** Who has been told of the end that the open write, or the one in flight, makes. */
  get follower(): WriteBuffer | undefined {
    return this.parentTold;
  }

  /** Whether nothing is in flight, and something is open. */
  get isOpen(): boolean {
    return this.pending !== undefined && !this.inFlight;
  }

  /** Whether what is open can be told of: it depends on no earlier write. */
  get isAlone(): boolean {
    return this.isOpen && !this.pending!.effects;
  }

  /** The run has been told of the end that the open write of that one makes. From now on it is not durable. */
  follow(leader: WriteBuffer): void {
    (this.followed ??= new Set()).add(leader);
    leader.parentTold = this;
    leader.pending!.toldParent = true;
    this.open();
  }

  /** The end that the leader makes is committed. */
  endKept(leader: WriteBuffer): void {
    this.followed?.delete(leader);
  }

  /** The end that the leader makes is not kept. */
  breakOff(leader: WriteBuffer): void {
    if (!this.leaders.has(leader)) return;
    this.followed = undefined;
    this.pending = undefined;
    for (const listener of this.listeners.splice(0)) listener({ lost: true });
    this.owner.brokenOff();
  }

  /** Called with the result of the write that is open now. */
  onCommitted(listener: Listener): void {
    this.open();
    this.bringForward();
    this.listeners.push(listener);
  }

  // ---- a run that receives many outcomes in a row writes them together

  /** Whether the open write is about to grow, and is left until {@link bringForward}. Only one that nobody waits for. */
  putOff(): boolean {
    const { pending, listeners, leaders, owner } = this;
    const isWaitedFor = listeners.length + leaders.size > 0 || pending?.move != null;
    this.isPutOff = owner.isReceiving && !isWaitedFor && this.mayGrow;
    return this.isPutOff;
  }

  private get mayGrow(): boolean {
    const { pending, openedAt } = this;
    return (
      pending !== undefined && pending.outcomes.length < MANY_OUTCOMES && performance.now() - openedAt < LONGEST_WAIT_MS
    );
  }

  /** All that was at hand has been received, or somebody waits: a write that was put off is to be committed. */
  bringForward(): void {
    if (!this.isPutOff) return;
    this.isPutOff = false;
    this.sink.enqueue(this);
  }

  /** The open write, to be committed now, or undefined while an earlier one is in flight. */
  take(): TakenWrite | undefined {
    const write = this.pending;
    if (!write || this.inFlight) return undefined;
    const listeners = this.listeners;
    this.pending = undefined;
    this.listeners = [];
    this.inFlight = listeners;
    return new TakenWrite(this, write, listeners);
  }

  /** The write that was taken has its result. Called by {@link TakenWrite}. */
  finish(write: RunWrite, listeners: readonly Listener[], result: WriteResult): void {
    this.inFlight = undefined;
    this.parentTold = undefined;
    if (result.lost) this.followed = undefined;
    for (const listener of listeners) listener(result);
    this.owner.committed(result, write);
    if (!result.lost && this.pending) this.sink.enqueue(this);
  }

  private open(): OpenWrite {
    if (!this.pending) {
      this.openedAt = performance.now();
      this.pending = new OpenWrite(this.run, ++this.writeNo, this.cancelIsKnown);
      if (!this.inFlight) this.sink.enqueue(this);
    }
    return this.pending;
  }
}
