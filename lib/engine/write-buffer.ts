import type { ClaimedRun } from './claimed-run.js';
import type { NewRun } from './new-run.js';
import type { RecordedOutcome } from './recorded-run.js';
import type { CommittedRun, Effects, Move, RunWrite } from './run-write.js';
import type { Attributes } from './run.js';

/** What became of a write: the run's row after it, or `lost` when another worker has the run now. */
export type WriteResult = { lost: false; run: CommittedRun; refusedChildren: ReadonlySet<string> } | { lost: true };

/** Where buffered writes go when there are any. */
export interface WriteSink {
  /** The buffer has something to commit. Called once until {@link WriteBuffer.take}. */
  enqueue(buffer: WriteBuffer): void;
}

/**
 * The writes of one run, in order. What is added while nothing is taken becomes one write, so that an outcome and all
 * that the code does upon it, its end included, commit together.
 *
 * Invariant: at most one write of a run is in flight; `isDurable` says that none is open or in flight, which is the
 * barrier that a step body waits for.
 */
export class WriteBuffer {
  private pending: RunWrite | undefined;
  private listeners: ((result: WriteResult) => void)[] = [];
  /** The listeners of the write in flight, while there is one. */
  private inFlight: ((result: WriteResult) => void)[] | undefined;
  private writeNo = 0;
  /** Set once the cancellation has been recorded; every later write says that it knows. */
  private cancelIsKnown = false;

  constructor(
    private readonly run: ClaimedRun,
    private readonly sink: WriteSink,
    private readonly onResult: (result: WriteResult, write: RunWrite) => void,
  ) {}

  get runId(): string {
    return this.run.id;
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
    return new Promise((resolve) => listeners.push((result) => !result.lost && resolve()));
  }

  /** Resolves when the write in flight has its result, whatever that is. */
  whenAnswered(): Promise<void> {
    return new Promise((resolve) => (this.inFlight ? this.inFlight.push(() => resolve()) : resolve()));
  }

  addOutcome(outcome: RecordedOutcome): void {
    this.open().outcomes.push(outcome);
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

  /** Called with the result of the write that is open now. */
  onCommitted(listener: (result: WriteResult) => void): void {
    this.open();
    this.listeners.push(listener);
  }

  /** The open write, to be committed now, or undefined while an earlier one is in flight. */
  take(): { write: RunWrite; finish: (result: WriteResult, written?: RunWrite) => void } | undefined {
    const write = this.pending;
    if (!write || this.inFlight) return undefined;
    const listeners = this.listeners;
    this.pending = undefined;
    this.listeners = [];
    this.inFlight = listeners;
    return { write, finish: (result, written = write) => this.finish(written, listeners, result) };
  }

  private finish(write: RunWrite, listeners: ((result: WriteResult) => void)[], result: WriteResult): void {
    this.inFlight = undefined;
    for (const listener of listeners) listener(result);
    this.onResult(result, write);
    if (!result.lost && this.pending) this.sink.enqueue(this);
  }

  private open(): RunWrite {
    if (!this.pending) {
      this.pending = {
        runId: this.run.id,
        workflow: this.run.workflow,
        epoch: this.run.epoch,
        writeNo: ++this.writeNo,
        parentId: this.run.parentAwaits ? this.run.parentId : null,
        outcomes: [],
        children: [],
        move: null,
        seenWakes: this.run.wakes,
        state: undefined,
        attributes: null,
        knowsCancel: this.cancelIsKnown,
        effects: null,
      };
      if (!this.inFlight) this.sink.enqueue(this);
    }
    return this.pending;
  }
}
