import { type Branch, Frame } from './branch.js';
import { Command, type CommandIdentity, displayKey, type OutcomeDraft, pathOf } from './command.js';
import { LazyAbortSignal } from './lazy-abort-signal.js';
import { DeterministicSource } from './deterministic-source.js';
import { DeadlineTimer } from './deadline-timer.js';
import { type CancelledError, StepFailedError, StepTimeoutError } from './errors.js';
import { backoffMs, type ErrorKind, isRetryable, type RetryPolicy } from './retry-policy.js';
import { cancellationOf, type Returned } from './run-end.js';
import type { RunExecution } from './run-execution.js';
import { seedOf } from './seed.js';
import type { LogLine, WaitingFor } from './run.js';
import { StepLog } from './step-log.js';
import { reviveError } from './stored-error.js';
import type { RecordedOutcome } from './recorded-run.js';
import { StepProgress } from './step-progress.js';
import type { ObservedAttempt } from './telemetry.js';
import type { OpenTransaction } from './transactions.js';

/** What the body of a step knows of itself. */
export interface StepContext {
  /** The step's name with the number of its call. */
  readonly step: string;
  /** 1 for the first attempt. */
  readonly attempt: number;
  /** The same for every attempt and every recovery of this step: give it to services that de-duplicate. */
  readonly idempotencyKey: string;
  /** Aborted when the attempt times out, the run is cancelled, or the run is lost to another worker. */
  readonly signal: AbortSignal;
  /** What an earlier attempt, or this one in a process that died, last gave to `heartbeat`; undefined when there is nothing. */
  readonly progress: unknown;
  /**
   * Says that the attempt is alive, and how far it is; `orchestrator.get` shows it. It is kept within about a second, however
   * often it is called, and need not be awaited. Throws PayloadError for a progress that cannot be stored.
   */
  heartbeat(this: void, progress?: unknown): void;
}

/** The options of a step, made ready once. */
export interface StepPlan {
  retry: RetryPolicy;
  timeoutMs: number | undefined;
  nonRetryable: readonly ErrorKind[];
  retryIf: ((error: unknown) => boolean) | undefined;
  /** Whether the body's writes commit together with its outcome. */
  transactional: boolean;
  /** Whether an attempt is recorded before its body begins, and none is begun twice. */
  atMostOnce: boolean;
}

/** What a step does. */
export interface StepWork {
  plan: StepPlan;
  /** What undoes it, once it has completed and the run does not. */
  compensation?: StepCompensation | undefined;
  observer?: StepObserver;
  body(context: StepContext): unknown;
}

/** Who hears what becomes of a step in this process: not of what a replay only repeats. */
export interface StepObserver {
  begins(): void;
  gaveUp(key: string, error: unknown): void;
}

/** What undoes a step: its body gets what the step has returned. */
export interface StepCompensation {
  plan: StepPlan;
  body(output: unknown, context: StepContext): unknown;
}

/** One try of a step's body. Its own durable calls are numbered under it. */
export interface StepAttempt {
  readonly context: StepContext;
  readonly scope: string;
  /** Random bytes that are the same in every pass over this attempt. */
  readonly source: DeterministicSource;
  /** Undefined: nobody traces it. */
  readonly observed: ObservedAttempt | undefined;
  /** What the body of a transactional step writes in. */
  readonly transaction: OpenTransaction | undefined;
  /** Whether its body may make durable calls that wait. */
  readonly mayWait: boolean;
  /** Keeps a line that the body writes through a logger. */
  log(line: Omit<LogLine, 'at' | 'attempt'>): void;
  /** A durable call inside the body has begun, or has stopped, to wait without running anything. */
  waits(delta: 1 | -1): void;
}

/**
 * One step: its attempts and its one outcome. A body starts only when all that the run did before is committed; a failed
 * attempt is recorded with the time of the next; the outcome is written once, at the end.
 *
 * The cancellation of the run ends a step at once, and nobody waits for its body. But a body that is at rest in durable
 * calls unwinds like the code of the run: it gets the error where it waits, a child after its end, and the step ends when
 * the body has, by an outcome of its own. Invariant: which of the two it was is in the history, in the write that has the
 * cancellation, so that a replay takes the same way. After a crash the body of a step that unwinds is entered again, cancelled
 * from its beginning: calls that have an outcome give it, waits for children go on, everything else ends at once.
 */
export class StepCommand extends Command {
  protected attempts = 0;
  private running: RunningAttempt | undefined;
  private ownProgress: StepProgress | undefined;
  private ownKey: string | undefined;
  private unwindsBy: CancelledError | undefined;

  constructor(
    execution: RunExecution,
    branch: Branch,
    digest: string | null,
    private readonly work: StepWork,
  ) {
    super(execution, branch, digest);
  }

  begin(): void {
    this.work.observer?.begins();
    const failed = this.execution.history.findFailedAttempt(this.identity);
    this.attempts = failed?.attempts ?? 0;
    if (failed && !this.unwindsBy) this.retryAt(failed.finishedAt);
    else this.startAttempt();
  }

  override fire(): void {
    this.wakeAt = null;
    this.startAttempt();
  }

  override get timesOutAt(): number | undefined {
    return this.running?.timesOutAt;
  }

  override clockMoved(): void {
    this.running?.clockMoved();
  }

  standing(): WaitingFor | 'busy' | 'suspended' {
    if (this.wakeAt !== null) return { kind: 'retry', name: this.key, until: new Date(this.wakeAt) };
    return this.running?.isActive === false ? 'suspended' : 'busy';
  }

  override cancel(error: CancelledError): void {
    const { execution, running } = this;
    const unwinds =
      execution.cancellation === error &&
      (running ? running.awaitsCalls : execution.history.isUnwinding(this.identity));
    if (unwinds) this.unwindsBy = error;
    if (unwinds && running) execution.notes.unwinding(this);
    running?.cancel(error);
    if (!unwinds) super.cancel(error);
  }

  override get outlives(): boolean {
    return this.execution.history.isUnwinding(this.identity);
  }

  override drop(reason: string): void {
    this.running?.abort(reason);
    super.drop(reason);
  }

  /** What undoes the step is registered as the code hears that it was done: in a replay at the same place. */
  override deliver(outcome: RecordedOutcome, after?: Promise<void>): void {
    const { compensation } = this.work;
    if (compensation && this.open && outcome.status === 'completed') this.registerCompensation(compensation, outcome);
    super.deliver(outcome, after);
  }

  private registerCompensation({ plan, body }: StepCompensation, { name, output }: RecordedOutcome): void {
    const { compensations, serializer } = this.execution;
    compensations.register({ plan, name, body: (context) => body(serializer.decode(output), context) });
  }

  protected valueOf(outcome: RecordedOutcome): unknown {
    const { serializer } = this.execution;
    if (outcome.status === 'completed') return serializer.decode(outcome.output);
    if (outcome.status === 'cancelled') throw this.branch.cancellation!;
    throw new StepFailedError(this.key, outcome.attempts, reviveError(serializer.decodeError(outcome.error)));
  }

  protected override release(): void {
    this.running?.stop();
    this.running = undefined;
  }

  get key(): string {
    return (this.ownKey ??= displayKey(this.identity.name, this.identity.ordinal));
  }

  get plan(): StepPlan {
    return this.work.plan;
  }

  get progress(): StepProgress {
    return (this.ownProgress ??= new StepProgress(this.execution, this, `the progress of step '${this.key}'`));
  }

  /** The body has begun, or has stopped, to rest in durable calls of its own. */
  restChanged(): void {
    this.execution.standingChanged(this);
  }

  private retryAt(due: number): void {
    this.wakeAt = due;
    if (due <= this.execution.clock.now()) this.fire();
    else this.execution.standingChanged(this);
  }

  protected startAttempt(): void {
    const { execution } = this;
    if (!execution.mayBegin(this)) return;
    const attempt = new RunningAttempt(execution, this.branch, new AttemptFacts(this, this.attempts + 1));
    this.running = attempt;
    if (this.unwindsBy) attempt.abort(this.unwindsBy);
    attempt.begin(
      (context) => this.perform(attempt, context),
      (returned) => this.ended(attempt, returned),
    );
  }

  protected perform(_attempt: RunningAttempt, context: StepContext): unknown {
    return this.work.body(context);
  }

  /** The late end of an attempt that timed out, was cancelled or replaced changes nothing. */
  private ended(attempt: RunningAttempt, returned: Returned): void {
    if (this.running !== attempt || !this.open) return;
    this.running = undefined;
    this.logs = attempt.logs?.encode(this.execution.serializer) ?? null;
    attempt.observed?.end(returned);
    attempt.stop();
    this.attempts++;
    if (this.unwindsBy) this.endCancelled(this.unwindsBy, returned);
    else if ('error' in returned) this.failAttempt(returned.error);
    else this.succeed(returned.value);
  }

  private endCancelled(cancellation: CancelledError, returned: Returned): void {
    const error = cancellationOf(cancellation, returned, this.execution.serializer);
    this.execution.settle(this, { status: 'cancelled', error, attempts: this.attempts });
  }

  private succeed(value: unknown): void {
    let output: string | null;
    try {
      output = this.execution.serializer.encode(value, `the result of step '${this.key}'`);
    } catch (error) {
      return this.fail(error);
    }
    this.complete({ status: 'completed', output, attempts: this.attempts });
  }

  protected complete(outcome: OutcomeDraft): void {
    this.execution.settle(this, outcome);
  }

  protected failAttempt(error: unknown): void {
    const { plan } = this.work;
    let mayRetry: boolean;
    try {
      mayRetry =
        this.attempts < plan.retry.maxAttempts &&
        isRetryable(error, plan.nonRetryable) &&
        (plan.retryIf?.(error) ?? true);
    } catch (predicateError) {
      return this.fail(predicateError);
    }
    if (!mayRetry) return this.fail(error);
    const due = this.execution.clock.now() + backoffMs(plan.retry, this.attempts, Math.random());
    const stored = this.execution.serializer.encodeError(error);
    this.execution.attemptFailed(this, {
      error: stored,
      attempts: this.attempts,
      progress: this.ownProgress?.stored ?? null,
      due,
    });
    this.retryAt(due);
  }

  protected fail(error: unknown): void {
    this.work.observer?.gaveUp(this.key, error);
    this.execution.settle(this, {
      status: 'failed',
      error: this.execution.serializer.encodeError(error),
      attempts: this.attempts,
    });
  }
}

class AttemptFacts {
  readonly identity: CommandIdentity;
  readonly step: string;
  /** Where its body's calls are numbered, and what is unique to the step in the run. */
  readonly path: string;
  readonly timeoutMs: number | undefined;
  readonly mayWait: boolean;

  constructor(
    readonly owner: StepCommand,
    readonly attempt: number,
  ) {
    const { transactional, atMostOnce, timeoutMs } = owner.plan;
    this.identity = owner.identity;
    this.step = owner.key;
    this.path = pathOf(owner.identity);
    this.timeoutMs = timeoutMs;
    this.mayWait = !transactional && !atMostOnce;
  }
}

/** What a body gets. The rarely wanted parts of it are made when they are. */
class AttemptContext implements StepContext {
  readonly step: string;
  readonly attempt: number;
  readonly #attempt: RunningAttempt;

  constructor({ step, attempt }: AttemptFacts, running: RunningAttempt) {
    this.step = step;
    this.attempt = attempt;
    this.#attempt = running;
  }

  get idempotencyKey(): string {
    return this.#attempt.idempotencyKey;
  }

  get signal(): AbortSignal {
    return this.#attempt.signal;
  }

  get progress(): unknown {
    return this.#attempt.progress;
  }

  get heartbeat(): StepContext['heartbeat'] {
    return (progress) => this.#attempt.beat(progress);
  }
}

/** A body while it runs: its signal, its timeout, and whether it only waits for durable calls of its own. */
export class RunningAttempt implements StepAttempt {
  readonly context: StepContext;
  readonly scope: string;
  private ownSource: DeterministicSource | undefined;
  private readonly abortion = new LazyAbortSignal();
  private readonly branch: Branch;
  private readonly timer: DeadlineTimer | undefined;
  private ended!: (returned: Returned) => void;
  observed: ObservedAttempt | undefined;
  transaction: OpenTransaction | undefined;
  logs: StepLog | undefined;
  private openWaits = 0;
  private isRunning = true;
  isActive = false;

  constructor(
    private readonly execution: RunExecution,
    private readonly parent: Branch,
    private readonly facts: AttemptFacts,
  ) {
    this.scope = `${facts.path}@${facts.attempt}/`;
    this.branch = parent.fork();
    this.context = new AttemptContext(facts, this);
    if (facts.timeoutMs !== undefined) this.timer = new DeadlineTimer(() => this.timeOut(facts.timeoutMs!));
  }

  /** Runs the body once all before it is durable. It may be told to have ended twice: when it timed out, and when it does end. */
  begin(body: (context: StepContext) => unknown, ended: (returned: Returned) => void): void {
    this.ended = ended;
    this.setActive(true);
    if (this.execution.isDurable) this.run(body);
    else void this.execution.whenDurable().then(() => this.isRunning && this.run(body));
  }

  private run(body: (context: StepContext) => unknown): void {
    promiseOf(() => this.enter(body)).then(
      (value) => this.ended({ value }),
      (error: unknown) => this.ended({ error }),
    );
  }

  private enter(body: (context: StepContext) => unknown): unknown {
    this.startTimer();
    const { identity, step, attempt } = this.facts;
    this.observed = this.execution.observed?.attempt({ identity, step, attempt, scope: this.scope });
    return this.execution.enter(new Frame(this.execution, this.branch, this), () => body(this.context));
  }

  get idempotencyKey(): string {
    return `${seedOf(this.execution.run)}/${this.facts.path}`;
  }

  get signal(): AbortSignal {
    return this.abortion.signal;
  }

  get progress(): unknown {
    return this.facts.owner.progress.value;
  }

  beat(progress: unknown): void {
    if (this.isRunning) this.facts.owner.progress.beat(this.facts.attempt, progress);
  }

  get mayWait(): boolean {
    return this.facts.mayWait;
  }

  get isOver(): boolean {
    return !this.isRunning;
  }

  get source(): DeterministicSource {
    return (this.ownSource ??= new DeterministicSource(() => `${seedOf(this.execution.run)}/${this.scope}`));
  }

  log(line: Omit<LogLine, 'at' | 'attempt'>): void {
    if (!this.isRunning) return;
    this.logs ??= new StepLog();
    this.logs.add({ at: Math.floor(this.execution.clock.now()), attempt: this.facts.attempt, ...line });
  }

  /** While all that the body does is wait, the run may be parked; the timeout starts anew afterwards. */
  waits(delta: 1 | -1): void {
    const waited = this.openWaits > 0;
    this.openWaits += delta;
    if (!this.facts.mayWait) return;
    if (this.openWaits > 0 === waited || !this.isRunning) return;
    if (waited) this.startTimer();
    else this.stopTimer();
    this.setActive(waited);
  }

  /** Whether the body has made durable calls that have not ended. */
  get awaitsCalls(): boolean {
    return this.facts.mayWait && this.branch.hasOpenCalls;
  }

  abort(reason: Error | string): void {
    this.abortion.abort(reason);
  }

  /** The part of the run that the step is in is cancelled: so are the body's own calls. */
  cancel(error: CancelledError): void {
    this.abort(error);
    this.branch.cancel(error);
  }

  /** The attempt is over, however it ended. */
  stop(): void {
    this.isRunning = false;
    this.observed?.end(undefined);
    this.timer?.clear();
    this.setActive(false);
    this.execution.attemptEnded(this);
    this.parent.leave(this.branch);
  }

  /** Undefined while nothing limits it. */
  timesOutAt: number | undefined;

  clockMoved(): void {
    if (this.timesOutAt !== undefined) this.timer?.set(this.timesOutAt - this.execution.clock.now());
  }

  private startTimer(): void {
    const { timeoutMs } = this.facts;
    if (timeoutMs === undefined) return;
    this.timesOutAt = this.execution.clock.now() + timeoutMs;
    this.timer?.set(timeoutMs);
  }

  private stopTimer(): void {
    this.timesOutAt = undefined;
    this.timer?.clear();
  }

  private timeOut(timeoutMs: number): void {
    this.timesOutAt = undefined;
    const error = new StepTimeoutError(this.facts.step, timeoutMs);
    this.abortion.abort(error);
    this.ended({ error });
  }

  private setActive(active: boolean): void {
    if (this.isActive === active) return;
    this.isActive = active;
    this.execution.bodyActive(active ? 1 : -1);
    this.facts.owner.restChanged();
  }
}

/** Code may be synchronous, and throw at once. An `async` wrapper would do, at the cost of two promises for each step. */
export function promiseOf(code: () => unknown): Promise<unknown> {
  try {
    return Promise.resolve(code());
  } catch (error) {
    return rejected(error);
  }
}

async function rejected(error: unknown): Promise<never> {
  throw error;
}
