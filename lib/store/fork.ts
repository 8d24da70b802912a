import { displayKey } from '../engine/command.js';
import { isOutcome } from '../engine/history.js';
import { type Ancestor, ancestorsOfFork } from '../engine/seed.js';
import type { PayloadSerializer } from '../engine/serialization.js';
import type { RecordedOutcome } from '../engine/recorded-run.js';
import type { Fork, ForkRequest } from '../engine/store.js';
import type { Run } from './database.js';
import { outcomeFromRow, type OutcomeRow, wokenFromRow, type WokenRow } from './rows.js';
import type { Statements } from './statements/all.js';

interface Original {
  id: string;
  generation: number;
  ancestors: string | null;
}

/**
 * Starts a run that shares the history of another before a step: the outcomes that the code received until then. What the
 * original had under way at that point (the attempts of other steps, children whose end it had not received) is begun anew.
 * Runs inside a transaction of the caller's.
 */
export async function fork(
  run: Run,
  sql: Statements,
  serializer: PayloadSerializer,
  { runId, newId, fromStep, input, trace }: ForkRequest,
): Promise<Fork | undefined> {
  const [original] = await run<Original>(sql.lockOriginal, [runId]);
  if (!original) return undefined;
  const outcomes = (await run<OutcomeRow>(sql.loadOutcomes, [[runId]])).map(outcomeFromRow);
  const steps = stepsOf(outcomes);
  const cut = steps.get(fromStep);
  if (cut === undefined) return { steps: [...steps.keys()] };
  const shared = outcomes.filter(({ seq, scope, kind }) => seq < cut && scope === '' && isOutcome(kind));
  const lastShared = shared.findLast(({ kind }) => kind !== 'patch')?.seq ?? 0;
  const ancestors = lastShared === 0 ? null : JSON.stringify(ancestorsOfFork(parse(original), lastShared));
  const rows = await run<WokenRow>(sql.forkRun, [
    ...[runId, newId, shared.map(({ seq }) => seq), lastShared],
    ...[
      input !== undefined,
      input?.stored ?? null,
      input ? serializer.sealDigest(input.digest) : null,
      ancestors,
      trace,
    ],
  ]);
  return { woken: rows.map(wokenFromRow) };
}

/** Where the steps of the workflow's own code stand in the history: at their outcome, or at the first attempt on record. */
function stepsOf(outcomes: readonly RecordedOutcome[]): Map<string, number> {
  const steps = new Map<string, number>();
  for (const { kind, scope, name, ordinal, seq } of outcomes) {
    // What ran behind a cancellation is its clean-up.
    if (kind === 'cancel') break;
    const key = displayKey(name, ordinal);
    const isAttempt = kind === 'retry' || kind === 'attempt';
    if (scope === '' && (kind === 'step' || (isAttempt && !steps.has(key)))) steps.set(key, seq);
  }
  return steps;
}

function parse({ ancestors, ...original }: Original) {
  return { ...original, ancestors: ancestors === null ? null : (JSON.parse(ancestors) as Ancestor[]) };
}
