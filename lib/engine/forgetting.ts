import { COMPENSATION_SCOPE, displayKey, pathOf } from './command.js';
import { isOutcome } from './history.js';
import type { OutcomeKind, RecordedOutcome, RecordedRun } from './recorded-run.js';
import type { StoredError } from './stored-error.js';

/** What a run that is retried does not remember. */
export interface Forgotten {
  /** Entries of its history, by `seq`. */
  seqs: number[];
  /** Children that will be started anew, though they may have completed: what they did was undone. */
  childIds: string[];
}

/**
 * A retry forgets the outcome that the run ended by, with what the code asked for upon receiving it. Outcomes of calls
 * that were made before stay, even if they came later, so that a finished step does not run again. Of a step that is
 * forgotten so, what failed in its body is too: its body would come upon that again.
 *
 * What was undone does run again: each completed compensation forgets from the entry that it was registered upon, which is
 * the outcome of its own step. One that failed has undone nothing, and what it belongs to stays. So does the way the run goes at a
 * change of its code.
 */
export function whatToForget(recorded: RecordedRun, error: StoredError): Forgotten {
  const outcomes = recorded.outcomes.filter(({ kind }) => kind !== 'patch');
  const fatal = findFatal(outcomes, error);
  const isUndone = undoneIn(outcomes);
  const failed = new Set(outcomes.filter(({ kind }) => kind === 'retry').map(attemptOf));
  const isOfTheEnd = (one: RecordedOutcome): boolean =>
    ENDS.has(one.kind) ||
    (fatal !== undefined && (isUpon(fatal, one) || failedInBodyOf(fatal, one))) ||
    (one.kind === 'attempt' && (failed.has(attemptOf(one)) || (fatal?.kind === 'step' && isNoteOf(fatal, one))));

  const [undone, others] = [outcomes.filter(isUndone), outcomes.filter((one) => !isUndone(one))];
  const kept = new Set(others.filter((one) => !isOfTheEnd(one)));
  const keptChildren = new Set([...kept].map(({ childId }) => childId));
  const undoneChildren = new Set(undone.map(({ childId }) => childId));
  const scopes = undone.filter(({ kind }) => kind === 'step').map((step) => `${pathOf(step)}@`);
  const isInUndone = (scope: string) => [COMPENSATION_SCOPE, ...scopes].some((start) => scope.startsWith(start));
  return {
    seqs: outcomes.filter((one) => !kept.has(one)).map(({ seq }) => seq),
    childIds: recorded.children
      .filter(({ carriedOver, scope, id }) =>
        carriedOver ? false : isInUndone(scope) || (undoneChildren.has(id) && !keptChildren.has(id)),
      )
      .map(({ id }) => id),
  };
}

/** How the run ended is not how it will end, and failed attempts do not count any more. */
const ENDS: ReadonlySet<OutcomeKind> = new Set<OutcomeKind>(['retry', 'compensation', 'expiry']);

/** Tells what was undone, or followed from that, or happened in the body of such a step or of a compensation. */
function undoneIn(outcomes: readonly RecordedOutcome[]): (one: RecordedOutcome) => boolean {
  const from = outcomes
    .filter(({ kind, status }) => kind === 'compensation' && status === 'completed')
    .map(({ afterSeq }) => afterSeq);
  const follows = ({ seq, afterSeq }: RecordedOutcome) =>
    from.some((first) => seq === first || (seq > first && afterSeq >= first));
  const steps = outcomes.filter((one) => one.kind === 'step' && follows(one));
  const scopes = [COMPENSATION_SCOPE, ...steps.map((step) => `${pathOf(step)}@`)];
  return (one) =>
    follows(one) || scopes.some((start) => one.scope.startsWith(start)) || steps.some((step) => isNoteOf(step, one));
}

/** Whether it is recorded of that step, and is not its outcome. */
function isNoteOf(step: RecordedOutcome, one: RecordedOutcome): boolean {
  return !isOutcome(one.kind) && one.scope === step.scope && one.name === step.name && one.ordinal === step.ordinal;
}

function attemptOf({ scope, name, ordinal, attempts }: RecordedOutcome): string {
  return JSON.stringify([scope, name, ordinal, attempts]);
}

function isUpon(fatal: RecordedOutcome, { seq, afterSeq, status }: RecordedOutcome): boolean {
  return seq === fatal.seq || (seq > fatal.seq && (afterSeq >= fatal.seq || status === 'cancelled'));
}

/** Whether it is the outcome, and no success, of a call in the body of that step. */
function failedInBodyOf(fatal: RecordedOutcome, { kind, scope, status }: RecordedOutcome): boolean {
  return fatal.kind === 'step' && status !== 'completed' && isOutcome(kind) && scope.startsWith(`${pathOf(fatal)}@`);
}

/** The outcome that the run ended by: its cancellation, or the one whose error the code let through. */
function findFatal(outcomes: readonly RecordedOutcome[], error: StoredError): RecordedOutcome | undefined {
  const ordered = outcomes.filter((one) => one.scope === '' && isOutcome(one.kind) && !ENDS.has(one.kind));
  const cancelled = ordered.find((outcome) => outcome.kind === 'cancel');
  if (cancelled) return cancelled;
  const unsuccessful = ordered.filter((outcome) => outcome.status !== 'completed').reverse();
  for (let link: StoredError | undefined = error; link; link = link.cause) {
    const { step, childId, code, signal, input } = link;
    const fatal = unsuccessful.find(({ kind, ...outcome }) => {
      if (kind === 'step') return displayKey(outcome.name, outcome.ordinal) === step;
      if (kind === 'signal') return code === 'SIGNAL_TIMEOUT' && outcome.name === signal;
      if (kind === 'input') return code === 'INPUT_TIMEOUT' && outcome.name === input;
      return outcome.childId !== null && outcome.childId === childId;
    });
    if (fatal) return fatal;
  }
  return undefined;
}
