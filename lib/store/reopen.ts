import { isTerminal, type RunStatus } from '../engine/run.js';
import type { PayloadSerializer } from '../engine/serialization.js';
import type { StoredError } from '../engine/stored-error.js';
import { displayKey } from '../engine/command.js';
import type { RecordedOutcome, WokenRun } from '../engine/store.js';
import type { Run } from './database.js';
import { outcomeFromRow, type OutcomeRow, wokenFromRow, type WokenRow } from './rows.js';
import type { Statements } from './statements/all.js';

export interface Reopened {
  status: RunStatus;
  retried: boolean;
  woken: WokenRun[];
}

/**
 * Makes a run that failed, was cancelled or is blocked claimable again. The outcome that made it end is forgotten, with
 * what the code did upon it; everything else it has recorded stays, so finished steps do not run again.
 */
export async function reopen(
  run: Run,
  sql: Statements,
  serializer: PayloadSerializer,
  runId: string,
): Promise<Reopened | undefined> {
  const [locked] = await run<{ status: RunStatus; error: string | null }>(sql.lockRun, [runId]);
  if (!locked) return undefined;
  const { status } = locked;
  if (status === 'completed' || !(isTerminal(status) || status === 'blocked'))
    return { status, retried: false, woken: [] };
  if (status !== 'blocked') {
    const outcomes = (await run<OutcomeRow>(sql.loadOutcomes, [[runId]])).map(outcomeFromRow);
    const fatal = findFatal(outcomes, serializer.decodeError(locked.error));
    if (fatal) await run(sql.forgetFrom, [runId, fatal.seq]);
    await run(sql.forgetAttempts, [runId]);
    await run(sql.supersedeFailed, [runId]);
  }
  const woken = (await run<WokenRow>(sql.reopenRun, [runId])).map(wokenFromRow);
  return { status, retried: true, woken };
}

/** The outcome that the run ended by: its cancellation, or the one whose error the code let through. */
function findFatal(outcomes: RecordedOutcome[], error: StoredError): RecordedOutcome | undefined {
  const ordered = outcomes.filter((outcome) => outcome.scope === '' && outcome.kind !== 'retry');
  const cancelled = ordered.find((outcome) => outcome.kind === 'cancel');
  if (cancelled) return cancelled;
  const unsuccessful = ordered.filter((outcome) => outcome.status !== 'completed').reverse();
  for (let link: StoredError | undefined = error; link; link = link.cause) {
    const { step, childId, code, signal } = link;
    const fatal = unsuccessful.find(({ kind, ...outcome }) => {
      if (kind === 'step') return displayKey(outcome.name, outcome.ordinal) === step;
      if (kind === 'signal') return code === 'SIGNAL_TIMEOUT' && outcome.name === signal;
      return outcome.childId !== null && outcome.childId === childId;
    });
    if (fatal) return fatal;
  }
  return undefined;
}
