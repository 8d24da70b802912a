import { outside } from './caller-context.js';
import type { DatabaseClock } from './clock.js';
import type { Command } from './command.js';
import { DeadlineTimer } from './deadline-timer.js';

/** The time that the code of a run had, or that a cancelled one had for its clean-up, is over. */
export interface Expiry {
  name: 'deadline' | 'clean-up';
  at: number;
}

/** What is asked of the run whose times they are. Times are epoch ms of the database. */
export interface TimedRun {
  readonly clock: DatabaseClock;
  /** It has its slot, and no park is under way. */
  readonly mayWrite: boolean;
  /** Until when its code may run; null: for ever. */
  readonly deadline: number | null;
  /** Until when a cancelled run may clean up; null: it is not cancelled, or undoes what it has done. */
  readonly cleanUpEnd: number | null;
  /** Looks for what was sent or answered, or has ended, by now, and then does that. */
  lookBefore(then: () => void): void;
  expire(expiry: Expiry): void;
}

/**
 * What of a run is due by time: sleeps, timeouts of waits, next attempts, and the end of the time that it has itself.
 *
 * Invariant: what is due is fired in the order of the database's clock. A signal, an answer or the end of an awaited run
 * that was there before a timer was due comes before it, also when both are noticed late; so before anything is fired, those are
 * looked for.
 */
export class DueTimes {
  private readonly timer = new DeadlineTimer(() => this.check());
  private isCheckScheduled = false;
  private isLooking = false;

  constructor(
    private readonly run: TimedRun,
    private readonly pending: ReadonlySet<Command>,
  ) {}

  /** Fires the command at that time, or soon when the run is late for it: what else the code asks for now is to be known by then. */
  fireAt(command: Command, time: number): void {
    command.wakeAt = time;
    if (this.isCheckScheduled || time > this.run.clock.now()) return;
    this.isCheckScheduled = true;
    setImmediate(() => {
      this.isCheckScheduled = false;
      this.check();
    });
  }

  /** Fires what was due by that time, the earliest first. */
  fireUntil(time: number): void {
    const due = [...this.pending].filter(({ wakeAt }) => wakeAt !== null && wakeAt <= time);
    for (const command of due.sort((one, other) => one.wakeAt! - other.wakeAt!)) {
      if (command.wakeAt !== null) outside(() => command.fire());
    }
  }

  /** Sets the local timer to what is due next, and tells when that is. */
  arm(): number | null {
    const next = this.next();
    if (next === null) this.timer.clear();
    else this.timer.set(next - this.run.clock.now());
    return next;
  }

  disarm(): void {
    this.timer.clear();
  }

  /** Something may be due by now. */
  check(): void {
    if (!this.run.mayWrite || this.isLooking) return;
    const now = this.run.clock.now();
    const next = this.next();
    if (next === null || next > now) return void this.arm();
    this.isLooking = true;
    this.run.lookBefore(() => this.fireDue(now));
  }

  /** The database's clock was moved: what is due by it is not left to timers that were set before. */
  clockMoved(): void {
    for (const command of this.pending) command.clockMoved();
    this.check();
  }

  /** When something of it is due next, timeouts of step bodies included. */
  nextOfAll(): number | null {
    let next = this.next();
    for (const { timesOutAt } of this.pending) if (timesOutAt !== undefined) next = earlier(next, timesOutAt);
    return next;
  }

  /** The time that the run had, if it is over. */
  findExpiry(): Expiry | undefined {
    const { deadline, cleanUpEnd, clock } = this.run;
    if (this.isPastDeadline()) return { name: 'deadline', at: deadline! };
    return cleanUpEnd !== null && cleanUpEnd <= clock.now() ? { name: 'clean-up', at: cleanUpEnd } : undefined;
  }

  /** Whether the time for the code was over by then. */
  isPastDeadline(at = this.run.clock.now()): boolean {
    const { deadline } = this.run;
    return deadline !== null && deadline <= at;
  }

  /** When something that it waits for is due, or its time is over. */
  next(): number | null {
    let next: number | null = null;
    for (const { wakeAt } of this.pending) if (wakeAt !== null) next = earlier(next, wakeAt);
    const { deadline, cleanUpEnd } = this.run;
    if (deadline !== null) next = earlier(next, deadline);
    return cleanUpEnd === null ? next : earlier(next, cleanUpEnd);
  }

  private fireDue(now: number): void {
    this.isLooking = false;
    if (!this.run.mayWrite) return;
    const expiry = this.findExpiry();
    if (expiry) return this.run.expire(expiry);
    this.fireUntil(now);
    this.arm();
  }
}

/** The last point of time that a Date, and the database, can hold. */
const END_OF_TIME = 8.64e15;

function earlier(one: number | null, other: number): number {
  return Math.min(one ?? END_OF_TIME, other);
}
