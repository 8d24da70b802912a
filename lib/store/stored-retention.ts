import type { KeptFor, RetentionStore, Sweep, SweepPosition } from '../engine/retention.js';
import { toSqlText } from '../engine/serialization.js';
import type { Database, Run } from './database.js';
import { deleteFamilies, deleteUnneeded } from './delete-family.js';
import type { Statements } from './statements/all.js';

/** How many workflows and statuses, and how many old roots, a transaction looks at, and how many runs it deletes at most. */
const BATCH = { groups: 100, roots: 500, runs: 5_000 };

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
    await this.database.patiently(() => this.database.run(this.sql.declareRetention, parameters));
  }

  sweep(kept: KeptFor, from: SweepPosition | undefined): Promise<Sweep | 'busy'> {
    return this.database.persistently(() => this.database.transaction((run) => this.sweepLocked(run, kept, from)));
  }

  private async sweepLocked(run: Run, kept: KeptFor, from: SweepPosition | undefined): Promise<Sweep | 'busy'> {
    const [lock] = await run<{ locked: boolean }>(this.sql.lockSweep, [
      `orchestration:${this.database.schema}:retention`,
    ]);
    return lock!.locked ? this.sweepBatch(run, kept, from) : 'busy';
  }

  private async sweepBatch(run: Run, kept: KeptFor, from: SweepPosition | undefined): Promise<Sweep> {
    let deleted = 0;
    let position = from ?? (await this.nextGroup(run));
    for (let groups = 0; position && groups < BATCH.groups; groups++) {
      const roots = await this.oldRoots(run, kept, position);
      const batch = roots.length ? await this.deleteExpired(run, kept, roots) : undefined;
      const last = batch?.last;
      deleted += batch?.deleted ?? 0;
      const isAtEnd = roots.length < BATCH.roots && last === roots.at(-1);
      if (isAtEnd) position = await this.nextGroup(run, position);
      else if (last) position = { ...position, after: { finishedAt: last.finished_at, id: last.id } };
      if (roots.length) break;
    }
    return { next: position, deleted };
  }

  private async nextGroup(run: Run, before?: SweepPosition): Promise<SweepPosition | undefined> {
    const parameters = [before?.workflow ?? null, before?.status ?? null];
    const [group] = await run<Pick<SweepPosition, 'workflow' | 'status'>>(this.sql.nextEndedGroup, parameters);
    return group && { ...group, after: undefined };
  }

  private oldRoots(run: Run, kept: KeptFor, { workflow, status, after }: SweepPosition): Promise<OldRoot[]> {
    const parameters = [workflow, status, kept[status], after?.finishedAt ?? null, after?.id ?? null, BATCH.roots];
    return run<OldRoot>(this.sql.findOldRoots, parameters);
  }

  /** As many of them as one transaction shall delete; gives the last root that is dealt with, or undefined, and how many runs went. */
  private async deleteExpired(
    run: Run,
    kept: KeptFor,
    roots: readonly OldRoot[],
  ): Promise<{ last: OldRoot | undefined; deleted: number }> {
    const expired = new Map(
      (
        await run<{ id: string; members: number }>(this.sql.expiredFamilies, [
          roots.map(({ id }) => id),
          ...[kept.completed, kept.failed, kept.cancelled],
        ])
      ).map(({ id, members }) => [id, members]),
    );
    let [runs, dealtWith] = [0, 0];
    for (const { id } of roots) {
      runs += expired.get(id) ?? 0;
      if (runs > BATCH.runs) break;
      dealtWith++;
    }
    if (dealtWith === 0) {
      const leaves = await this.deleteLeaves(run, roots[0]!.id);
      return { last: leaves > 0 ? undefined : roots[0], deleted: leaves };
    }
    const batch = roots.slice(0, dealtWith);
    const rootIds = batch.map(({ id }) => id).filter((id) => expired.has(id));
    return { last: batch.at(-1), deleted: rootIds.length ? await deleteFamilies(run, this.sql, rootIds) : 0 };
  }

  /** A family that is too large for one transaction loses its leaves first. Gives their number; 0: it has none that can go. */
  private async deleteLeaves(run: Run, rootId: string): Promise<number> {
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
    return 0;
  }
}
