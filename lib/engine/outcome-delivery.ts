import type { DatabaseClock } from './clock.js';
import type { Command, OutcomeDraft } from './command.js';
import type { History } from './history.js';
import type { ClaimedRun } from './claimed-run.js';
import type { RecordedOutcome } from './recorded-run.js';
import { turn } from './turn.js';
import type { WriteBuffer } from './write-buffer.js';

/** Something that happens to the run as a whole. */
export interface RunHappening {
  readonly kind: 'cancel' | 'expiry';
  readonly name: string;
  readonly at: number;
}

/** The outcome of a call, or of something that happens to the run. */
export class Delivery {
  private constructor(
    readonly outcome: OutcomeDraft,
    readonly command: Command | undefined,
    readonly event: RunHappening | undefined,
  ) {}

  static of(command: Command, outcome: OutcomeDraft): Delivery {
    return new Delivery(outcome, command, undefined);
  }

  static ofEvent(event: RunHappening, outcome: OutcomeDraft): Delivery {
    return new Delivery(outcome, undefined, event);
  }
}

/** What is asked of the run whose outcomes they are. */
export interface ReceivingRun {
  readonly run: ClaimedRun;
  readonly clock: DatabaseClock;
  readonly history: History;
  /** It has its slot, and no park is under way. */
  readonly mayWrite: boolean;
  readonly isOver: boolean;
  /** The entry that the code has received last, and its time. */
  readonly receivedSeq: number;
  readonly time: number;
  storedDigestOf(command: Command): string | null;
  /** Whether it comes too late for the code, or is left to the next pass. */
  refuses(delivery: Delivery): boolean;
  /** The code receives it. */
  deliver(outcome: RecordedOutcome, command: Command | undefined): void;
  /** A transaction of its own has an outcome; or has found that the run is another worker's by now. */
  committedAside(outcome: RecordedOutcome): void;
  lostAside(): void;
  /** All that was there is delivered. */
  delivered(): void;
}

/** An outcome in its place among those of the run. */
class PlacedOutcome implements RecordedOutcome {
  readonly kind: RecordedOutcome['kind'];
  readonly scope: string;
  readonly name: string;
  readonly ordinal: number;
  readonly seq: number;
  readonly status: RecordedOutcome['status'];
  readonly digest: string | null;
  readonly output: string | null;
  readonly error: string | null;
  readonly attempts: number;
  readonly afterSeq: number;
  readonly startedAt: number;
  readonly finishedAt: number;
  readonly childId: string | null;
  readonly logs: string | null;

  constructor(run: ReceivingRun, { command, event, outcome }: Delivery) {
    const cause = command?.identity ?? event!;
    this.kind = cause.kind;
    this.scope = command?.identity.scope ?? '';
    this.name = cause.name;
    this.ordinal = command?.identity.ordinal ?? 1;
    this.seq = run.history.nextSeq();
    this.status = outcome.status;
    this.digest = outcome.digest ?? (command ? run.storedDigestOf(command) : null);
    this.output = outcome.output ?? null;
    this.error = outcome.error ?? null;
    this.attempts = outcome.attempts ?? 1;
    this.afterSeq = command?.afterSeq ?? run.receivedSeq;
    this.startedAt = command?.askedAt ?? event!.at;
    // Whole milliseconds: the database rounds what is finer, and ctx.now would show another time in a replay.
    this.finishedAt = Math.max(Math.floor(run.clock.now()), run.time);
    this.childId = outcome.childId ?? null;
    this.logs = command?.logs ?? null;
  }
}

/**
 * Outcomes on their way to the code. They come at any time, several at a moment, and wait here for their turn.
 *
 * Invariant: one loop at a time gives an outcome its `seq`, hands it over, and waits a macrotask turn in which the code
 * runs as far as it can. So the order of `seq` is the order in which the code has received them; a replay, which feeds the
 * recorded ones in that order, takes it along the same path.
 */
export class OutcomeDelivery {
  private readonly ready: Delivery[] = [];
  /** At first it is the replay that delivers. */
  private isUnderWay = true;

  constructor(
    private readonly run: ReceivingRun,
    private readonly writes: WriteBuffer,
  ) {}

  get isEmpty(): boolean {
    return this.ready.length === 0;
  }

  /** One is being handed over, and there are more. */
  get goesOn(): boolean {
    return this.isUnderWay && !this.isEmpty;
  }

  /** Nothing waits, and nothing is being handed over. */
  get isAtRest(): boolean {
    return this.isEmpty && !this.isUnderWay;
  }

  add(delivery: Delivery): void {
    this.ready.push(delivery);
    this.goOn();
  }

  clear(): void {
    this.ready.length = 0;
  }

  /** Delivers what waits, unless that is under way or the run may not write now. */
  goOn(): void {
    if (!this.isEmpty && !this.isUnderWay && this.run.mayWrite) void this.deliverAll();
  }

  async deliverAll(): Promise<void> {
    this.isUnderWay = true;
    for (let next = this.ready.shift(); next && this.run.mayWrite; next = this.ready.shift()) {
      const { command, outcome } = next;
      if (command && outcome.commit) {
        await this.commitAndDeliver(next, command, outcome.commit);
        continue;
      }
      // Asked for before anything is written: the commit queue, which also waits a turn, then takes what the code does upon it too.
      const quiescence = turn();
      this.recordAndDeliver(next);
      await quiescence;
    }
    this.isUnderWay = false;
    this.run.delivered();
  }

  /** Records it with what the run writes next, and hands it over at once. */
  recordAndDeliver(delivery: Delivery): void {
    if (this.run.refuses(delivery)) return;
    const recorded = new PlacedOutcome(this.run, delivery);
    this.writes.addOutcome(recorded);
    this.run.deliver(recorded, delivery.command);
  }

  /**
   * Delivers an outcome that is recorded in a transaction of its own, once that is committed. An entry gets its place only
   * when those before it are durable: a crash between the two commits would keep this one without them.
   */
  private async commitAndDeliver(
    delivery: Delivery,
    command: Command,
    commit: NonNullable<OutcomeDraft['commit']>,
  ): Promise<void> {
    const { run } = this;
    if (!this.writes.isDurable) await this.writes.whenDurable();
    if (!command.open || !run.mayWrite) return;
    const recorded = new PlacedOutcome(run, delivery);
    const end = await commit({ runId: run.run.id, epoch: run.run.epoch, outcome: recorded });
    if (end === 'undone' || run.isOver) return;
    if (end === 'lost') return run.lostAside();
    run.committedAside(recorded);
    const quiescence = turn();
    run.deliver(recorded, command);
    await quiescence;
  }
}
