import { isTerminal, type RunStatus } from '../engine/run.js';
import type { Deletion } from '../engine/store.js';
import type { Run } from './database.js';
import type { Statements } from './statements/all.js';

/**
 * Deletes a run with all its descendants, unless one of them is active or an active run needs one. Runs inside a
 * transaction of the caller's.
 */
export async function deleteFamily(run: Run, sql: Statements, runId: string): Promise<Deletion | undefined> {
  const family = await lockFamily(run, sql, runId);
  if (family.length === 0) return undefined;
  const active = family.find(({ status }) => !isTerminal(status));
  if (active) return { hindrance: { ...active, needs: undefined } };
  const ids = family.map(({ id }) => id);
  const [user] = await run<{ id: string; status: RunStatus; needs: string }>(sql.findUsers, [runId, ids]);
  if (user) return { hindrance: user };
  await run(sql.deleteRuns, [ids]);
  return { hindrance: undefined };
}

/** Again until it finds nobody new: a member that was retried while this waited for its lock may have started a child. */
async function lockFamily(run: Run, sql: Statements, runId: string): Promise<{ id: string; status: RunStatus }[]> {
  for (let known = 0; ;) {
    const family = await run<{ id: string; status: RunStatus }>(sql.lockFamily, [runId]);
    if (family.length === known) return family;
    known = family.length;
  }
}
