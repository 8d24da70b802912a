import type { RunExecution } from './run-execution.js';
import type { BufferedSignal } from './sent-signal.js';

/** A call that waits for a signal. */
export interface SignalTaker {
  readonly signal: string;
  readonly askedAt: number;
  /** It has no time to wait. That a signal was there is told by the look, not by the clock of the process, which may be behind. */
  readonly takesWhatIsThere: boolean;
  /** What it was given, until its code has received that. */
  readonly taken: BufferedSignal | undefined;
  take(signal: BufferedSignal): void;
  /** It is to receive this one instead. */
  exchange(signal: BufferedSignal): void;
}

/**
 * The signals of a run that its code has not received, as far as this process knows them.
 *
 * Loaded only for names that are waited for, in the order in which they were sent. A run's wakes count its signals too: while the
 * count stands still, what is known of a name stays complete (`known`). Whatever raises it makes all names unknown, and
 * those that are waited for are looked up at once; the run does not park before that look has ended. So a signal is seen
 * by a look, or comes after its snapshot, and then the park is refused or finds the run made claimable.
 * A signal is numbered and committed under the lock of the run's row: what is loaded later has a higher number.
 */
export class SignalBuffer {
  /** In the order in which the code asked. Those that have been given a signal are no longer among them. */
  private readonly waits = new Set<SignalTaker>();
  /** Those whose code has not received yet what they took. */
  private readonly takers = new Set<SignalTaker>();
  private unread: BufferedSignal[] = [];
  private readonly loadedUpTo = new Map<string, number>();
  private readonly known = new Set<string>();
  private changes = 0;
  private isLooking = false;
  private afterNextLook: (() => void)[] = [];

  constructor(
    private readonly execution: RunExecution,
    /** Nothing has happened to the run from outside yet. */
    private hasNone: boolean,
  ) {}

  /** The call takes the first signal of its name that there is or will be. */
  add(wait: SignalTaker): void {
    this.waits.add(wait);
    this.serve();
    this.look();
  }

  /** The call waits no longer, or its code has received what it took. */
  remove(wait: SignalTaker): void {
    this.waits.delete(wait);
    this.takers.delete(wait);
  }

  /**
   * A signal that a call took and the code did not receive: the next call gets it, in its place in the order. One that has taken a
   * later signal in the same moment passes that on.
   */
  giveBack(signal: BufferedSignal): void {
    let back = signal;
    for (const taker of this.takers) {
      const { taken } = taker;
      if (taken === undefined || taken.seq < back.seq || !mayTake(taker, back)) continue;
      taker.exchange(back);
      back = taken;
    }
    this.buffer(back);
    if (this.execution.isLive) this.serve();
  }

  /** Something has happened to the run: it may have signals that are not known. */
  touched(): void {
    this.hasNone = false;
    this.changes++;
    this.known.clear();
    this.look();
  }

  /** A signal that was sent in this process; a parked run has it when it resumes. False when another may have come before it: then it has to be looked for. */
  handOver(signal: BufferedSignal): boolean {
    if (!this.hasNone && !this.known.has(signal.name)) return false;
    this.keep(signal);
    if (!this.execution.isParked) this.serve();
    return true;
  }

  get isAwaited(): boolean {
    return this.waits.size > 0;
  }

  /** Looks once more for what nobody may have told of yet, and then does that. */
  lookBefore(then: () => void): void {
    this.afterNextLook.push(then);
    this.touched();
  }

  private look(): void {
    if (this.isLooking) return;
    const names = this.hasNone ? [] : this.unknownNames();
    const then = this.afterNextLook.splice(0);
    if (names.length === 0) return then.forEach((call) => call());
    this.isLooking = true;
    void this.execution.lookUp(async () => {
      await this.load(names);
      for (const call of then) call();
      this.look();
    });
  }

  private async load(names: string[]): Promise<void> {
    const { changes } = this;
    const { run, host } = this.execution;
    const found = await Promise.all(
      names.map((name) => host.loadSignals({ runId: run.id, name, afterSeq: this.loadedUpTo.get(name) ?? 0 })),
    );
    this.isLooking = false;
    if (!this.execution.isLive) return;
    for (const { signals } of found) for (const signal of signals) this.keep(signal);
    if (changes === this.changes) names.forEach((name, index) => !found[index]!.hasMore && this.known.add(name));
    this.serve();
  }

  private unknownNames(): string[] {
    return [...new Set([...this.waits].map(({ signal }) => signal))].filter((name) => !this.known.has(name));
  }

  private keep(signal: BufferedSignal): void {
    this.loadedUpTo.set(signal.name, Math.max(signal.seq, this.loadedUpTo.get(signal.name) ?? 0));
    this.buffer(signal);
  }

  private buffer(signal: BufferedSignal): void {
    this.unread.push(signal);
    this.unread.sort((one, other) => one.seq - other.seq);
  }

  /** Gives what there is to those who wait for it. */
  serve(): void {
    for (const signal of [...this.unread]) {
      const first = this.takerOf(signal);
      if (!first) continue;
      // What was due before it was sent comes first. That may end the very wait that would have taken it.
      if (!first.takesWhatIsThere) this.execution.fireUntil(signal.sentAt);
      const taker = this.takerOf(signal);
      if (!taker) continue;
      this.unread.splice(this.unread.indexOf(signal), 1);
      this.waits.delete(taker);
      this.takers.add(taker);
      taker.take(signal);
    }
    // Who asks from now on has asked too late for these.
    this.unread = this.unread.filter(({ forWaits }) => !forWaits);
  }

  private takerOf(signal: BufferedSignal): SignalTaker | undefined {
    for (const wait of this.waits) if (mayTake(wait, signal)) return wait;
    return undefined;
  }
}

/** A copy for those who waited when it was sent is not for one that never waits. */
function mayTake(wait: SignalTaker, { name, forWaits, sentAt }: BufferedSignal): boolean {
  return wait.signal === name && (!forWaits || (!wait.takesWhatIsThere && wait.askedAt <= sentAt));
}
