import type { Branch, Frame } from './branch.js';
import { Command, type OutcomeDraft } from './command.js';
import { tolerant } from './current-run.js';
import { type Duration, parseDuration } from './duration.js';
import { SignalTimeoutError } from './errors.js';
import type { RunExecution } from './run-execution.js';
import type { WaitingFor } from './run.js';
import { nameOfSignal, type Signal } from './signal.js';
import type { SignalTaker } from './signal-buffer.js';
import { check } from './start-options.js';
import type { RecordedOutcome } from './recorded-run.js';
import type { BufferedSignal } from './sent-signal.js';

/** Options of `ctx.waitForSignal`. */
export interface SignalWaitOptions {
  /** How long to wait. Durable: a restart does not start it anew; zero or less gives what is there. */
  timeout?: Duration;
}

const OPTIONS = new Set(['timeout', 'timeoutValue']);

/** Waits for a signal: parked, and woken by the signal itself. Its outcome in the history is the receipt. */
class SignalWaitCommand extends Command implements SignalTaker {
  taken: BufferedSignal | undefined;
  private outcome: OutcomeDraft | undefined;

  constructor(
    execution: RunExecution,
    branch: Branch,
    readonly signal: string,
    private readonly timeoutMs: number | undefined,
    private readonly instead: { value: unknown } | undefined,
  ) {
    super(execution, branch, null);
  }

  get takesWhatIsThere(): boolean {
    return this.timeoutMs !== undefined && this.timeoutMs <= 0;
  }

  begin(): void {
    const { execution, timeoutMs } = this;
    if (timeoutMs !== undefined) execution.fireAt(this, execution.countsFrom(this) + timeoutMs);
    execution.signals.add(this);
  }

  take(signal: BufferedSignal): void {
    this.taken = signal;
    this.wakeAt = null;
    this.outcome = { status: 'completed', output: signal.payload, digest: signal.id };
    this.execution.settle(this, this.outcome);
  }

  exchange(signal: BufferedSignal): void {
    this.taken = signal;
    Object.assign(this.outcome!, { output: signal.payload, digest: signal.id });
  }

  /** Also without a timeout: who waited when a signal was sent to a tree is told by when the wait began. */
  override get isTimed(): boolean {
    return true;
  }

  override fire(): void {
    this.wakeAt = null;
    this.execution.signals.remove(this);
    this.execution.settle(this, { status: 'timeout' });
  }

  standing(): WaitingFor {
    return { kind: 'signal', name: this.signal, until: this.wakeAt === null ? null : new Date(this.wakeAt) };
  }

  override deliver(outcome: RecordedOutcome, after?: Promise<void>): void {
    this.taken = undefined;
    super.deliver(outcome, after);
  }

  protected override release(): void {
    const { signals } = this.execution;
    signals.remove(this);
    if (this.taken) signals.giveBack(this.taken);
    this.taken = undefined;
  }

  protected valueOf(outcome: RecordedOutcome): unknown {
    if (outcome.status === 'completed') return this.execution.serializer.decode(outcome.output);
    if (this.instead) return this.instead.value;
    throw new SignalTimeoutError(this.signal, this.timeoutMs ?? 0);
  }
}

export function waitForSignal(
  frame: Frame,
  signal: Signal | string,
  options: SignalWaitOptions & { timeoutValue?: unknown },
): Promise<unknown> {
  check('The options of ctx.waitForSignal', options, OPTIONS);
  const name = nameOfSignal(signal);
  const timeoutMs = options.timeout === undefined ? undefined : parseDuration(options.timeout);
  const instead = Object.hasOwn(options, 'timeoutValue') ? { value: options.timeoutValue } : undefined;
  const command = new SignalWaitCommand(frame.execution, frame.branch, name, timeoutMs, instead);
  frame.execution.issue(command, { kind: 'signal', name }, frame);
  return tolerant(command.promise);
}
