import { type Command, type CommandIdentity, ownerOf } from './command.js';
import { NonDeterminismError } from './errors.js';
import { describeCall, isOutcome } from './history.js';
import type { RecordedOutcome } from './recorded-run.js';

/** How long replay waits for code that awaits something that is not durable, before it calls that a divergence. */
const PATIENCE_MS = 1_000;

/**
 * The calls that the code makes while it is replayed, matched with what is recorded. Nothing of a call is begun here: what
 * has no outcome at the end of the replay is begun then.
 */
export class Replay {
  /** Made for the first call: most runs that begin have nothing to replay. */
  private asked: Map<string, Command> | undefined;
  private hasReturned = false;
  private onChange: (() => void) | undefined;

  constructor(private readonly isDigest: (stored: string, digest: string) => boolean) {}

  /** The code makes a call. */
  ask(command: Command): void {
    (this.asked ??= new Map()).set(callKey(command.identity), command);
    this.onChange?.();
  }

  /** The code has ended: it will make no further call. */
  end(): void {
    this.hasReturned = true;
    this.onChange?.();
  }

  /** The call that the code makes for this entry. Throws {@link NonDeterminismError} when it makes another, or none. */
  callFor(outcome: RecordedOutcome): Command | Promise<Command> {
    const key = callKey(isOutcome(outcome.kind) ? outcome : ownerOf(outcome));
    const command = this.asked?.get(key);
    return command ? this.alike(command, outcome) : this.lateCallFor(outcome, key);
  }

  private async lateCallFor(outcome: RecordedOutcome, key: string): Promise<Command> {
    const patience = Date.now() + PATIENCE_MS;
    const call = () => this.asked?.get(key);
    while (!call() && !this.hasReturned && Date.now() < patience) await this.change(patience - Date.now());
    const command = call();
    if (!command) throw divergence(outcome, this.whatCodeDoes());
    return this.alike(command, outcome);
  }

  private alike(command: Command, outcome: RecordedOutcome): Command {
    if (command.digest !== null && outcome.digest !== null && !this.isDigest(outcome.digest, command.digest)) {
      throw divergence(outcome, `asked for ${describeCall(command.identity)} with other arguments`);
    }
    return command;
  }

  /** The call has its outcome. */
  matched(command: Command): void {
    this.asked?.delete(callKey(command.identity));
  }

  /** The calls that have no outcome, in the order in which the code made them. */
  unmatched(): Command[] {
    return [...(this.asked?.values() ?? [])];
  }

  private change(patienceMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timeout = setTimeout(done, patienceMs);
      function done(): void {
        clearTimeout(timeout);
        resolve();
      }
      this.onChange = done;
    });
  }

  private whatCodeDoes(): string {
    if (this.hasReturned) return 'ended before it';
    const calls = this.unmatched().map((command) => describeCall(command.identity));
    return calls.length ? `asked for ${calls.join(', ')}` : 'asked for nothing';
  }
}

function divergence(outcome: RecordedOutcome, found: string): NonDeterminismError {
  return new NonDeterminismError(outcome.seq, describeCall(outcome), found);
}

function callKey({ kind, name, ordinal }: Pick<CommandIdentity, 'kind' | 'name' | 'ordinal'>): string {
  return `${kind}:${ordinal}:${name}`;
}
