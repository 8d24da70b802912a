import { isTerminal, type RunStatus } from '../engine/run.js';
import type { PayloadSerializer } from '../engine/serialization.js';
import { whatToForget } from '../engine/forgetting.js';
import type { WokenRun } from '../engine/store.js';
import type { Run } from './database.js';
import { childFromRow, type ChildRow, outcomeFromRow, type OutcomeRow, wokenFromRow, type WokenRow } from './rows.js';
import type { Statements } from './statements/all.js';

export interface Reopened {
  status: RunStatus;
  retried: boolean;
  woken: WokenRun[];
}

/**
 * Makes a run that failed, was cancelled or is blocked claimable again. The outcome that made it end is forgotten, with
 * what the code did upon it, and what was undone; everything else it has recorded stays, so finished steps do not run again.
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
    const children = (await run<ChildRow>(sql.loadChildren, [[runId]])).map(childFromRow);
    const { seqs, childIds } = whatToForget({ outcomes, children }, serializer.decodeError(locked.error));
    await run(sql.forget, [runId, seqs]);
    await run(sql.supersedeEnded, [runId, childIds]);
  }
  const woken = (await run<WokenRow>(sql.reopenRun, [runId])).map(wokenFromRow);
  return { status, retried: true, woken };
}
