import type { KeptFor, RetentionStore, SweepPosition } from '../engine/retention.js';
import type { TerminalStatus } from '../engine/run.js';
import { toSqlText } from '../engine/serialization.js';
import { CALL_PATIENCE_MS, type Database, type Run } from './database.js';
import { deleteFamilies, deleteUnneeded } from './delete-family.js';
import type { Statements } from './statements/all.js';

/** How many roots are looked at in a transaction, and how many runs it deletes at most. */
const BATCH = { roots: 500, runs: 5_000 };
const STATUSES: readonly TerminalStatus[] = ['completed', 'failed', 'cancelled'];

interface OldRoot {
  id: string;
  finished_at: string;
}

/**
 * Retention. What is locked are finished runs, which nobody else writes but a retry. Families are judged without locks
 * first, and again under the locks of all their members before they are deleted.
 */
export class StoredRetention implements RetentionStore {
  constructor(
    private readonly database: Database,
    private readonly sql: Statements,
  ) {}

  async declare(keptMs: ReadonlyMap<string, number | null>): Promise<void> {
    const parameters = [[...keptMs.keys()].map(toSqlText), [...keptMs.values()]];
    await this.database.persistently(() => this.database.run(this.sql.declareRetention, parameters), CALL_PATIENCE_MS);
  }

  sweep(kept: KeptFor, from: SweepPosition): Promise<{ next: SweepPosition | undefined } | 'busy'> {
    return this.database.persistently(() => this.database.transaction((run) => this.sweepLocked(run, kept, from)));
  }

  private async sweepLocked(
    run: Run,
    kept: KeptFor,
    from: SweepPosition,
  ): Promise<{ next: SweepPosition | undefined } | 'busy'> {
    const [lock] = await run<{ locked: boolean }>(this.sql.lockSweep, [
      `orchestration:${this.database.schema}:retention`,
    ]);
    return lock!.locked ? { next: await this.sweepBatch(run, kept, from) } : 'busy';
  }

  private async sweepBatch(run: Run, kept: KeptFor, from: SweepPosition): Promise<SweepPosition | undefined> {
    const { status, after } = from;
    const roots = await run<OldRoot>(this.sql.findOldRoots, [
      status,
      kept[status],
      after?.finishedAt ?? null,
      after?.id ?? null,
      BATCH.roots,
    ]);
    const last = roots.length ? await this.deleteExpired(run, kept, roots) : undefined;
    const isAtEnd = roots.length < BATCH.roots && last === roots.at(-1);
    if (isAtEnd) return nextStatus(status);
    return { status, after: last ? { finishedAt: last.finished_at, id: last.id } : after };
  }

  /** As many of them as one transaction shall delete; gives the last root that is dealt with, or undefined. */
  private async deleteExpired(run: Run, kept: KeptFor, roots: readonly OldRoot[]): Promise<OldRoot | undefined> {
    const expired = new Map(
      (
        await run<{ id: string; members: number }>(this.sql.expiredFamilies, [
          roots.map(({ id }) => id),
          ...STATUSES.map((status) => kept[status]),
        ])
      ).map(({ id, members }) => [id, members]),
    );
    let [runs, dealtWith] = [0, 0];
    for (const { id } of roots) {
      runs += expired.get(id) ?? 0;
      if (runs > BATCH.runs) break;
      dealtWith++;
    }
    if (dealtWith === 0) return (await this.deleteLeaves(run, roots[0]!.id)) ? undefined : roots[0];
    const batch = roots.slice(0, dealtWith);
    const rootIds = batch.map(({ id }) => id).filter((id) => expired.has(id));
    if (rootIds.length) await deleteFamilies(run, this.sql, rootIds);
    return batch.at(-1);
  }

  /** A family that is too large for one transaction loses its leaves first. False: it has none that can go. */
  private async deleteLeaves(run: Run, rootId: string): Promise<boolean> {
    for (let parent: string | undefined = rootId; parent;) {
      const leaves = await run<{ id: string }>(this.sql.lockLeaves, [parent, BATCH.runs]);
      if (leaves.length)
        return await deleteUnneeded(
          run,
          this.sql,
          leaves.map(({ id }) => id),
        );
      parent = (await run<{ id: string }>(this.sql.findBranch, [parent]))[0]?.id;
    }
    return false;
  }
}

function nextStatus(status: TerminalStatus): SweepPosition | undefined {
  const next = STATUSES[STATUSES.indexOf(status) + 1];
  return next && { status: next, after: undefined };
}
