import type { Branch } from './branch.js';
import { type CancelledError, UnreadablePayloadError } from './errors.js';
import type { RunExecution } from './run-execution.js';
import type { WaitingFor } from './run.js';
import type { OutcomeKind, RecordedOutcome } from './recorded-run.js';
import type { CommitEnd, OutcomeWrite } from './transactions.js';

/** What a command is known by in the history: stable over replays because calls are numbered in the order they are made. */
export interface CommandIdentity {
  kind: OutcomeKind;
  /** The step attempt whose body made the call; '' for the workflow's own code. */
  scope: string;
  name: string;
  /** 1 for the first call of that name in that scope. */
  ordinal: number;
}

export function identityKey({ kind, scope, name, ordinal }: CommandIdentity): string {
  return `${kind} ${ordinal} ${scope.length} ${scope}${name}`;
}

/** `charge`, `charge#2`; a '#' of the name itself is doubled, so that step `a#2` is not the second `a`. */
export function displayKey(name: string, ordinal: number): string {
  const escaped = name.includes('#') ? name.replaceAll('#', '##') : name;
  return ordinal === 1 ? escaped : `${escaped}#${ordinal}`;
}

/** What belongs to a compensation has a scope that begins so. No step has such a name: its '#' would be doubled. */
export const COMPENSATION_SCOPE = '#compensation/';

/** What is unique to a step, or to a compensation, in its run. The scopes of its attempts begin so. */
export function pathOf({ kind, scope, name, ordinal }: CommandIdentity): string {
  return (kind === 'compensation' ? COMPENSATION_SCOPE : scope) + displayKey(name, ordinal);
}

type NoteIdentity = Pick<CommandIdentity, 'scope' | 'name' | 'ordinal'>;

/** How what is recorded of a step or of a compensation, but for its outcome, tells whose it is. */
export function notedAs({ kind, scope, name, ordinal }: CommandIdentity): NoteIdentity {
  return { scope: kind === 'compensation' ? COMPENSATION_SCOPE : scope, name, ordinal };
}

/** Whose note that is. */
export function ownerOf({ scope, name, ordinal }: NoteIdentity): CommandIdentity & { kind: 'step' | 'compensation' } {
  return scope === COMPENSATION_SCOPE
    ? { kind: 'compensation', scope: '', name, ordinal }
    : { kind: 'step', scope, name, ordinal };
}

/** A part of an outcome that the command knows; the run adds its place and time. */
export interface OutcomeDraft
  extends
    Partial<Pick<RecordedOutcome, 'output' | 'error' | 'attempts' | 'childId' | 'digest'>>,
    Pick<RecordedOutcome, 'status'> {
  /** Records it together with what else its transaction holds, instead of by the run's next write; `undone`: nothing was kept. */
  commit?: (write: OutcomeWrite) => Promise<CommitEnd | 'undone'>;
}

/**
 * A durable call that workflow code has made and awaits: a step, a timer, a child. It is begun once replay has found no
 * outcome for it, ends by one recorded outcome, and gives the code its value or error when that outcome is delivered.
 */
export abstract class Command {
  readonly promise: Promise<unknown>;
  identity!: CommandIdentity;
  /** The entry after whose delivery it was asked for, and the run's time then. */
  afterSeq = 0;
  askedAt = 0;
  /** What the last attempt of a step has logged. */
  logs: string | null = null;
  private isOpen = true;
  private resolvePromise!: (value: unknown) => void;
  private rejectPromise!: (error: unknown) => void;

  constructor(
    protected readonly execution: RunExecution,
    readonly branch: Branch,
    readonly digest: string | null,
  ) {
    this.promise = new Promise((resolve, reject) => {
      this.resolvePromise = resolve;
      this.rejectPromise = reject;
    });
  }

  get open(): boolean {
    return this.isOpen;
  }

  /** Starts what the call asks for. Called once at most, never during replay. */
  abstract begin(): void;

  /** The value, or throws the error, that a recorded outcome stands for. */
  protected abstract valueOf(outcome: RecordedOutcome): unknown;

  /**
   * What the run waits for in this call; or `busy` while something of it runs in this process, and `suspended` when a body
   * is at rest in durable calls of its own.
   */
  abstract standing(): WaitingFor | 'busy' | 'suspended';

  /** When {@link fire} is due, in epoch ms of the database. */
  wakeAt: number | null = null;

  /** Whether its end follows from the time when it was asked for. */
  get isTimed(): boolean {
    return false;
  }

  /** `wakeAt` has come. */
  fire(): void {}

  /** When a timeout is due that a local timer keeps, in epoch ms of the database. */
  get timesOutAt(): number | undefined {
    return undefined;
  }

  /** The database's clock was moved: such a timeout is looked at anew. */
  clockMoved(): void {}

  /** What ends with the command when its outcome is delivered or it is cancelled. */
  protected release(): void {}

  /** Gives the code the outcome; `after` that, when the code may act on it outside of the run. */
  deliver(outcome: RecordedOutcome, after?: Promise<void>): void {
    if (!this.close()) return;
    if (after) void after.then(() => this.handOver(outcome));
    else this.handOver(outcome);
  }

  private handOver(outcome: RecordedOutcome): void {
    try {
      this.resolvePromise(this.valueOf(outcome));
    } catch (error) {
      if (error instanceof UnreadablePayloadError) this.execution.block(error);
      else this.reject(error);
    }
  }

  /** A call that nobody awaits must not end the process by its error; whoever awaits it gets the error all the same. */
  private reject(reason: unknown): void {
    this.promise.catch(() => {});
    this.rejectPromise(reason);
  }

  /** The run has left this process: what the call still does here is stopped, and its promise never ends. */
  drop(_reason: string): void {
    this.isOpen = false;
    this.release();
  }

  /** The part of the run that the call was made in is cancelled. */
  cancel(error: CancelledError): void {
    this.endBy(error);
  }

  /** Of a call that a cancelled body makes anew after a crash: whether what it had begun before is still waited for. */
  get outlives(): boolean {
    return false;
  }

  /** Ends the call for the code, at once; its late outcome is refused. */
  endBy(error: unknown): void {
    if (!this.close()) return;
    this.reject(error);
  }

  private close(): boolean {
    if (!this.isOpen) return false;
    this.isOpen = false;
    this.wakeAt = null;
    this.branch.closed(this);
    this.execution.closed(this);
    this.release();
    return true;
  }
}
