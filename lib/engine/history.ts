import { type CommandIdentity, displayKey, identityKey, ownerOf, pathOf } from './command.js';
import type { NoteKind, OutcomeKind, RecordedOutcome } from './recorded-run.js';

export const NOTES: ReadonlySet<OutcomeKind> = new Set<NoteKind>([
  'retry',
  'begun',
  'unwinding',
  'attempt',
  'progress',
]);

/** Whether that is a kind of outcomes, which a call ends by and which people are shown. */
export function isOutcome(kind: OutcomeKind): kind is Exclude<OutcomeKind, NoteKind> {
  return !NOTES.has(kind);
}

/** What is recorded, by what it is looked up for. */
class RecordedCalls {
  readonly ordered: RecordedOutcome[] = [];
  readonly nested = new Map<string, RecordedOutcome>();
  readonly failedAttempts = new Map<string, RecordedOutcome>();
  readonly begun = new Map<string, RecordedOutcome>();
  readonly unwinding = new Set<string>();
  readonly attempts = new Map<string, RecordedOutcome>();
  readonly progress = new Map<string, RecordedOutcome>();
  readonly patches = new Set<string>();
  readonly lastSeq: number;

  constructor(outcomes: readonly RecordedOutcome[]) {
    for (const outcome of outcomes) this.add(outcome);
    this.lastSeq = outcomes.reduce((last, { seq }) => Math.max(last, seq), 0);
  }

  private add(outcome: RecordedOutcome): void {
    if (outcome.kind === 'retry') this.failedAttempts.set(stepKeyOf(outcome), outcome);
    else if (outcome.kind === 'begun')
      this.begun.set(identityKey({ ...outcome, kind: outcome.digest as CommandIdentity['kind'] }), outcome);
    else if (outcome.kind === 'unwinding') this.unwinding.add(stepKeyOf(outcome));
    else if (outcome.kind === 'attempt') this.attempts.set(stepKeyOf(outcome), outcome);
    else if (outcome.kind === 'progress') this.progress.set(stepKeyOf(outcome), outcome);
    else if (outcome.kind === 'patch') this.patches.add(outcome.name);
    else if (outcome.scope !== '') this.nested.set(identityKey(outcome), outcome);
    else this.ordered.push(outcome);
    if (outcome.kind !== 'step' && outcome.kind !== 'compensation') return;
    if (this.failedAttempts.size + this.attempts.size === 0) return;
    this.failedAttempts.delete(identityKey(outcome));
    this.attempts.delete(identityKey(outcome));
  }
}

const NO_OUTCOMES: readonly RecordedOutcome[] = [];

/** Of a run that begins; all of these share it. */
const NOTHING_RECORDED = new RecordedCalls([]);

/**
 * The recorded outcomes of a run, as replay needs them. The workflow's own code receives its outcomes strictly in the
 * order of `seq`; the calls of a step that was interrupted in its body are looked up by name, because a step's body is
 * ordinary code and not replayed.
 */
export class History {
  private readonly recorded: RecordedCalls;
  private readonly counters = new Map<string, number>();
  /** Keys of the calls in step bodies that this pass has come to again. */
  private reached: Set<string> | undefined;
  private position = 0;
  private lastSeq: number;

  constructor(outcomes: readonly RecordedOutcome[] = []) {
    this.recorded = outcomes.length ? new RecordedCalls(outcomes) : NOTHING_RECORDED;
    this.lastSeq = this.recorded.lastSeq;
  }

  /** Attempts of steps of the workflow's own code that failed or were begun, and have no outcome: the code asks for these as well. */
  get unfinished(): readonly RecordedOutcome[] {
    const { failedAttempts, attempts } = this.recorded;
    if (failedAttempts.size + attempts.size === 0) return NO_OUTCOMES;
    return [...failedAttempts.values(), ...attempts.values()].filter((attempt) => ownerOf(attempt).scope === '');
  }

  /** The outcome that the code must receive next, while there is one. */
  get next(): RecordedOutcome | undefined {
    return this.recorded.ordered[this.position];
  }

  get isReplaying(): boolean {
    return this.position < this.recorded.ordered.length;
  }

  advance(): void {
    this.position++;
  }

  nextSeq(): number {
    return ++this.lastSeq;
  }

  /** The outcome of a call inside a step's body, if an earlier pass recorded it. */
  findNested(identity: CommandIdentity): RecordedOutcome | undefined {
    return this.reach(this.recorded.nested, identity);
  }

  /** When a timed wait in a step's body began, if an earlier pass recorded it. */
  findBegun(identity: CommandIdentity): number | undefined {
    return this.reach(this.recorded.begun, identity)?.finishedAt;
  }

  /** Whether the cancellation reached the step while its body was at rest in durable calls, so that it ends when the body has. */
  isUnwinding(identity: CommandIdentity): boolean {
    return this.recorded.unwinding.has(identityKey(identity));
  }

  /** The last failed attempt of a step that is still being retried. */
  findFailedAttempt(identity: CommandIdentity): RecordedOutcome | undefined {
    const { failedAttempts } = this.recorded;
    return failedAttempts.size > 0 ? failedAttempts.get(identityKey(identity)) : undefined;
  }

  /** Whether the run goes the new way at that change of the code. */
  hasPatch(id: string): boolean {
    return this.recorded.patches.has(id);
  }

  /** Whether a step body that was left has calls on record that this pass has not come to. */
  hasUnreachedCalls(): boolean {
    const { nested, begun } = this.recorded;
    return [...nested, ...begun].some(([key, { scope }]) => !this.reached?.has(key) && !this.hasEnded(scope));
  }

  /** Whether an earlier pass recorded a call in a scope that begins so. */
  hasCallsIn(scopes: string): boolean {
    const { nested, begun } = this.recorded;
    return [...nested.values(), ...begun.values()].some(({ scope }) => scope.startsWith(scopes));
  }

  /** Whether the step attempt of that scope is over, so that nobody will make its calls again. */
  hasEnded(scope: string): boolean {
    const { ordered, nested, failedAttempts } = this.recorded;
    const steps = [...ordered, ...nested.values(), ...failedAttempts.values()];
    return steps.some((step) => isStepOf(scope, step));
  }

  /** The last attempt that a step was about to begin, if that is recorded and it has no outcome. */
  findAttempt(identity: CommandIdentity): RecordedOutcome | undefined {
    return this.recorded.attempts.get(identityKey(identity));
  }

  /** What the attempts of a step have last said of their progress: by a heartbeat, or when one failed. */
  findProgress(identity: CommandIdentity): { seq: number | undefined; progress: string | null } {
    const kept = this.recorded.progress.get(identityKey(identity));
    const failed = this.findFailedAttempt(identity);
    const isNewer = failed && failed.output !== null && failed.attempts >= (kept?.attempts ?? 0);
    return { seq: kept?.seq, progress: (isNewer ? failed.output : kept?.output) ?? null };
  }

  /** Numbers the calls of one name in the order in which the code makes them. */
  number(kind: string, scope: string, name: string): number {
    const key = `${kind} ${scope.length} ${scope}${name}`;
    const ordinal = (this.counters.get(key) ?? 0) + 1;
    this.counters.set(key, ordinal);
    return ordinal;
  }

  private reach(calls: ReadonlyMap<string, RecordedOutcome>, identity: CommandIdentity): RecordedOutcome | undefined {
    if (calls.size === 0) return undefined;
    const key = identityKey(identity);
    const found = calls.get(key);
    if (found) (this.reached ??= new Set()).add(key);
    return found;
  }
}

/** Whether the scope is of an attempt, of that step or within it, that this row has ended. */
function isStepOf(scope: string, row: RecordedOutcome): boolean {
  const isOver = row.kind === 'step' || row.kind === 'compensation';
  if (!isOver && row.kind !== 'retry') return false;
  const attemptsOf = `${pathOf(isOver ? row : ownerOf(row))}@`;
  return scope.startsWith(attemptsOf) && (isOver || Number.parseInt(scope.slice(attemptsOf.length)) <= row.attempts);
}

function stepKeyOf(note: RecordedOutcome): string {
  return identityKey(ownerOf(note));
}

const KIND_WORDS: Record<RecordedOutcome['kind'], string> = {
  step: 'step',
  timer: 'timer',
  child: 'the end of child',
  signal: 'the wait for signal',
  start: 'the start of child',
  decision: 'the decision on step',
  compensation: 'the compensation',
  input: 'the answer to input',
  cancel: 'the cancellation',
  expiry: 'the expiry of',
  retry: 'a failed attempt of step',
  begun: 'the begin of a wait for',
  unwinding: 'the unwinding of step',
  attempt: 'an attempt of step',
  progress: 'the progress of step',
  patch: 'the change',
};

/** `step 'charge#2'`: a call or an entry for people. */
export function describeCall({ kind, name, ordinal }: Pick<CommandIdentity, 'kind' | 'name' | 'ordinal'>): string {
  return kind === 'cancel' ? KIND_WORDS.cancel : `${KIND_WORDS[kind]} '${displayKey(name, ordinal)}'`;
}
