import { isTerminal, type RunStatus } from '../engine/run.js';
import type { Deletion } from '../engine/store.js';
import type { Run } from './database.js';
import type { Statements } from './statements/all.js';

interface Member {
  id: string;
  status: RunStatus;
  root_id: string;
}

interface User {
  id: string;
  status: RunStatus;
  needs: string;
}

/**
 * Deletes a run with all its descendants, unless one of them is active or an active run needs one. Runs inside a
 * transaction of the caller's, as all of these do.
 */
export async function deleteFamily(run: Run, sql: Statements, runId: string): Promise<Deletion | undefined> {
  const family = await lockFamilies(run, sql, [runId]);
  if (family.length === 0) return undefined;
  const active = family.find(({ status }) => !isTerminal(status));
  if (active) return { hindrance: { id: active.id, status: active.status, needs: undefined } };
  const ids = family.map(({ id }) => id);
  const [user] = await run<User>(sql.findUsers, [[runId], ids]);
  if (user) return { hindrance: user };
  await run(sql.deleteRuns, [ids]);
  return { hindrance: undefined };
}

/** Deletes whole families, by their roots, but for those with an active member, or one that an active run needs. Gives the number of runs. */
export async function deleteFamilies(run: Run, sql: Statements, rootIds: readonly string[]): Promise<number> {
  const members = await lockFamilies(run, sql, rootIds);
  const rootOf = new Map(members.map(({ id, root_id }) => [id, root_id]));
  const kept = new Set(members.filter(({ status }) => !isTerminal(status)).map(({ root_id }) => root_id));
  const users = await run<User>(sql.findUsers, [[], [...rootOf.keys()]]);
  for (const { needs } of users) kept.add(rootOf.get(needs)!);
  const ids = members.filter(({ root_id }) => !kept.has(root_id)).map(({ id }) => id);
  await run(sql.deleteRuns, [ids]);
  return ids.length;
}

/** Deletes runs that this transaction has locked, but for those that an active run needs. Gives their number. */
export async function deleteUnneeded(run: Run, sql: Statements, ids: readonly string[]): Promise<number> {
  const needed = new Set((await run<User>(sql.findUsers, [[], ids])).map(({ needs }) => needs));
  const unneeded = ids.filter((id) => !needed.has(id));
  await run(sql.deleteRuns, [unneeded]);
  return unneeded.length;
}

/** Again until it finds nobody new: a member that was retried while this waited for its lock may have started a child. */
async function lockFamilies(run: Run, sql: Statements, runIds: readonly string[]): Promise<Member[]> {
  for (let known = 0; ;) {
    const family = await run<Member>(sql.lockFamilies, [runIds]);
    if (family.length === known) return family;
    known = family.length;
  }
}
