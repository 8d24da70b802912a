import type { DatabaseClock } from './clock.js';
import type { Command, OutcomeDraft } from './command.js';
import type { History } from './history.js';
import type { ClaimedRun } from './claimed-run.js';
import type { RecordedOutcome } from './recorded-run.js';
import { turn } from './turn.js';
import type { WriteBuffer } from './write-buffer.js';

/** The outcome of a call, or something that happens to the run. */
export type Delivery = { outcome: OutcomeDraft } & (
  | { command: Command; event?: undefined }
  | { command?: undefined; event: { kind: 'cancel' | 'expiry'; name: string; at: number } }
);

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
        await this.commitAndDeliver(command, outcome, outcome.commit);
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
    const recorded = this.inItsPlace(delivery);
    this.writes.addOutcome(recorded);
    this.run.deliver(recorded, delivery.command);
  }

  /**
   * Delivers an outcome that is recorded in a transaction of its own, once that is committed. An entry gets its place only
   * when those before it are durable: a crash between the two commits would keep this one without them.
   */
  private async commitAndDeliver(
    command: Command,
    outcome: OutcomeDraft,
    commit: NonNullable<OutcomeDraft['commit']>,
  ): Promise<void> {
    const { run } = this;
    if (!this.writes.isDurable) await this.writes.whenDurable();
    if (!command.open || !run.mayWrite) return;
    const recorded = this.inItsPlace({ command, outcome });
    const end = await commit({ runId: run.run.id, epoch: run.run.epoch, outcome: recorded });
    if (end === 'undone' || run.isOver) return;
    if (end === 'lost') return run.lostAside();
    run.committedAside(recorded);
    const quiescence = turn();
    run.deliver(recorded, command);
    await quiescence;
  }

  private inItsPlace({ command, event, outcome }: Delivery): RecordedOutcome {
    const { run } = this;
    const { kind, scope, name, ordinal } = command?.identity ?? { ...event!, scope: '', ordinal: 1 };
    return {
      kind,
      scope,
      name,
      ordinal,
      seq: run.history.nextSeq(),
      status: outcome.status,
      digest: outcome.digest ?? (command ? run.storedDigestOf(command) : null),
      output: outcome.output ?? null,
      error: outcome.error ?? null,
      attempts: outcome.attempts ?? 1,
      afterSeq: command?.afterSeq ?? run.receivedSeq,
      startedAt: command?.askedAt ?? event!.at,
      // Whole milliseconds: the database rounds what is finer, and ctx.now would show another time in a replay.
      finishedAt: Math.max(Math.floor(run.clock.now()), run.time),
      childId: outcome.childId ?? null,
      logs: command?.logs ?? null,
    };
  }
}
