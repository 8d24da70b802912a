import type { DatabaseClock } from '../engine/clock.js';
import type { RunStatus } from '../engine/run.js';
import { fromSqlText, type PayloadSerializer, toSqlText } from '../engine/serialization.js';
import type { CancelResult } from '../engine/cancellation.js';
import type { NewChild, Placement } from '../engine/new-run.js';
import { movedAsAsked, parentToWake } from '../engine/run-end.js';
import type { CommitResult, CommittedRun, Effects, RunWrite } from '../engine/run-write.js';
import type { Canceller } from './canceller.js';
import type { Run } from './database.js';
import {
  cancelFromRow,
  childToRow,
  endToRow,
  inOrderOfIds,
  outcomesToRows,
  recorderToRow,
  toBeWokenRow,
  wokenFromRow,
  wokenParentRow,
  type WokenRow,
  writeToRow,
} from './rows.js';
import type { Statements } from './statements/all.js';
import { ENDS, ENDS_AND_PARENTS, OUTCOMES, RECORDERS, WRITES } from './statements/commit.sql.js';
import { CHILDREN } from './statements/new-runs.sql.js';
import type { TypeOrmInputStore } from './typeorm-input-store.js';

/** What a row of the reply is about: all writes, one of them that has something to tell, a run that they woke, all new children, one of them. */
interface CommitRow {
  tag: 'all' | 'own' | 'woken' | 'children' | 'begun' | 'child';
  id: string;
  status: RunStatus;
  wakes: number | null;
  epoch: number | null;
  queue: string | null;
  worker_id: string | null;
  watched: boolean | null;
  cancel_requested_at: number | null;
  cancel_reason: string | null;
  deadline: number | null;
  at: number | null;
}

/** What stands in the way of one commit of ends (somebody waits in another process) mostly does in that of the next. */
const PASSED_ENDS = 15;

/** The parents of runs that end. */
interface Parents {
  /** They have not been told of it, or have nothing to write upon it here. */
  woken: ReadonlySet<string>;
  /** Of these: the ones that write nothing here. */
  silent: readonly string[];
  /** Their code is in this process. */
  resident: ReadonlySet<string>;
}

const NO_PARENTS: Parents = { woken: new Set(), silent: [], resident: new Set() };

interface Sending {
  placement: Placement;
  /** An earlier try may have been committed. */
  isRepeated: boolean;
}

interface GenerationRow {
  worker_id: string | null;
  generation: number;
  epoch: number;
  wakes: number;
  started_at: number;
}

/**
 * Writes of runs. Of one that was made as asked, on a run that nothing happened to, the database says no more than that:
 * those are counted. Each member runs inside a transaction, or a statement, of the caller's.
 */
export class Commits {
  /** How many more commits of ends go by the general statement at once. */
  private endsToPass = 0;

  constructor(
    private readonly sql: Statements,
    private readonly serializer: PayloadSerializer,
    private readonly clock: DatabaseClock,
    private readonly others: { canceller: Canceller; inputs: Pick<TypeOrmInputStore, 'applyEffects'> },
  ) {}

  /** One statement. */
  async write(run: Run, writes: readonly RunWrite[], how: Sending): Promise<CommitResult> {
    const result = toCommitResult(await this.send(run, writes, how), writes);
    this.clock.synchronise(result.at);
    return result;
  }

  private async send(run: Run, writes: readonly RunWrite[], { placement, isRepeated }: Sending): Promise<CommitRow[]> {
    const outcomes = OUTCOMES.parameters(writes.flatMap(outcomesToRows));
    const areRecorders = writes.every(onlyRecords);
    const parents = areRecorders ? NO_PARENTS : parentsOf(writes, placement.resident);
    const workerId = placement.workerId ?? null;
    if (!isRepeated) {
      const done = areRecorders
        ? await run<CommitRow>(this.sql.commitOutcomes, [
            ...RECORDERS.parameters(inOrderOfIds(writes.map(recorderToRow))),
            ...outcomes,
          ])
        : await this.tryEnds(run, writes, parents, { outcomes, workerId });
      if (done.length) return done;
    }

    const children = writes.flatMap((write) => write.children.map((child) => childToRow(child, this.serializer)));
    return run(children.length ? this.sql.commitWithChildren : this.sql.commitWrites, [
      ...WRITES.parameters([...writes.map(writeToRow), ...parents.silent.map(toBeWokenRow)]),
      ...outcomes,
      workerId,
      placement.resident,
      ...(children.length ? [...CHILDREN.parameters(children), placement.definitions.map(toSqlText)] : []),
    ]);
  }

  /** Writes that only record or end, which special statements do: all of them, or none. Then there are no rows. */
  private async tryEnds(
    run: Run,
    writes: readonly RunWrite[],
    parents: Parents,
    rest: { outcomes: readonly unknown[]; workerId: string | null },
  ): Promise<CommitRow[]> {
    if (!areEnds(writes, parents)) return [];
    if (this.endsToPass > 0) {
      this.endsToPass--;
      return [];
    }
    const ended = await this.sendEnds(run, writes, parents, rest);
    if (ended.length === 0) this.endsToPass = PASSED_ENDS;
    return ended;
  }

  private sendEnds(
    run: Run,
    writes: readonly RunWrite[],
    { woken, silent, resident }: Parents,
    { outcomes, workerId }: { outcomes: readonly unknown[]; workerId: string | null },
  ): Promise<CommitRow[]> {
    const rows = inOrderOfIds([
      ...writes.map((write) => endToRow(write, { resident: resident.has(write.runId), woken: woken.has(write.runId) })),
      ...silent.map(wokenParentRow),
    ]);
    if (resident.size === 0) return run(this.sql.commitEnds, [...ENDS.parameters(rows), ...outcomes]);
    return run(woken.size ? this.sql.commitEndsWakingParents : this.sql.commitEndsWithParents, [
      ...ENDS_AND_PARENTS.parameters(rows),
      ...outcomes,
      workerId,
    ]);
  }

  /** What a write does to other runs is done only when it was made under the current epoch. */
  async writeWithEffects(run: Run, write: RunWrite, how: Sending): Promise<CommitResult> {
    const { runId, epoch } = write;
    const effects = write.effects!;
    // Before the write itself, whose new children take over the refs.
    if (effects.supersedes.length) await run(this.sql.supersedeRuns, [effects.supersedes, runId, epoch]);
    const result = await this.write(run, [write], how);
    const [owned] = result.runs;
    if (owned) {
      result.readyOn = await this.awaitEnds(run, runId, effects);
      await this.others.inputs.applyEffects(run, write, effects);
      if (effects.compensation) await run(this.sql.markCompensation, [runId, effects.compensation]);
      result.cancelled = await this.cancel(run, await this.toCancel(run, runId, effects, owned.status));
    }
    if (write.move?.to === 'continued' && !owned?.cancel) await this.continueRun(run, write, result);
    return result;
  }

  /** Returns the queues on which what is waited for can be claimed. */
  private async awaitEnds(run: Run, runId: string, { awaits, watches }: Effects): Promise<string[]> {
    interface Awaited {
      ready_on: string | null;
    }
    const children = awaits.length ? await run<Awaited>(this.sql.awaitChildren, [runId, awaits]) : [];
    const others = watches.length ? await run<Awaited>(this.sql.watchRuns, [runId, watches]) : [];
    return queuesOf([...children, ...others]);
  }

  /** Those that the run asks for, and the children that close with it when it has ended. */
  private async toCancel(
    run: Run,
    runId: string,
    { cancels, closesChildren }: Effects,
    status: RunStatus,
  ): Promise<Effects['cancels']> {
    if (!closesChildren || (status !== 'completed' && status !== 'failed')) return cancels;
    const closing = await run<{ id: string }>(this.sql.closingChildren, [runId]);
    return [...cancels, { runIds: closing.map(({ id }) => id), reason: `its parent ended (${status})` }];
  }

  private async cancel(run: Run, cancels: Effects['cancels']): Promise<CancelResult | null> {
    let cancelled: CancelResult | null = null;
    for (const { runIds, reason } of cancels) {
      if (runIds.length === 0) continue;
      const result = await this.others.canceller.cancel(run, runIds, { reason, terminate: false });
      cancelled = cancelled ? mergeCancels(cancelled, result) : result;
    }
    return cancelled;
  }

  private async continueRun(run: Run, { runId, epoch, move, effects }: RunWrite, result: CommitResult): Promise<void> {
    const input = move?.to === 'continued' ? move.input : null;
    const values = [runId, input, effects!.continues!.generation, epoch];
    const [row] = await run<GenerationRow>(this.sql.continueRun, values);
    if (!row) return;
    const { worker_id, started_at, ...facts } = row;
    const next = { ...facts, workerId: worker_id, startedAt: started_at };
    result.runs = [{ id: runId, status: 'running', wakes: row.wakes, cancel: null, watched: false, next }];
  }
}

/** Leaves the row of its run as it is. */
function onlyRecords(write: RunWrite): boolean {
  return write.move === null && saysNothingElse(write);
}

/** They end their runs, or only record outcomes. Parents that wait for such an end are here, and at most would park, which they are woken from. */
function areEnds(writes: readonly RunWrite[], { woken, resident }: Parents): boolean {
  return writes.every((write) => {
    const { move, runId, parentId } = write;
    if (!saysNothingElse(write)) return false;
    if (move === null) return true;
    if (woken.has(runId)) return move.to === 'waiting';
    return (move.to === 'completed' || move.to === 'failed') && (parentId === null || resident.has(parentId));
  });
}

/** But for outcomes and its move. */
function saysNothingElse({ children, state, attributes }: RunWrite): boolean {
  return children.length === 0 && state === undefined && attributes === null;
}

function parentsOf(writes: readonly RunWrite[], resident: readonly string[]): Parents {
  const written = new Set(writes.map(({ runId }) => runId));
  const woken = new Set<string>();
  for (const write of writes) {
    const parentId = parentToWake(write);
    if (parentId !== null && !(write.toldParent && written.has(parentId))) woken.add(parentId);
  }
  return { woken, silent: [...woken].filter((id) => !written.has(id)), resident: new Set(resident) };
}

function toCommitResult(rows: readonly CommitRow[], writes: readonly RunWrite[]): CommitResult {
  const result: CommitResult = { runs: [], woken: [], children: [], cancelled: null, readyOn: [], at: 0 };
  const runs = new Map<string, CommittedRun>();
  const children = new Map<string, NewChild>();
  let [owned, there] = [0, 0];
  for (const row of rows) {
    if (row.tag === 'all') {
      result.at = row.at!;
      owned = row.wakes!;
    } else if (row.tag === 'children') there = row.wakes!;
    else if (row.tag === 'own') runs.set(row.id, committedFromRow(row));
    else if (row.tag === 'woken') result.woken.push(wokenFromRow(row as WokenRow));
    else children.set(row.id, { id: row.id, begins: row.tag === 'begun', deadline: row.deadline });
  }
  for (const write of writes) {
    const run = runs.get(write.runId) ?? (owned === writes.length ? movedAsAsked(write) : undefined);
    if (run) result.runs.push(run);
  }
  const asked = writes.flatMap((write) => write.children);
  for (const { id } of asked) {
    const child = children.get(id) ?? (there === asked.length ? { id, begins: false, deadline: null } : undefined);
    if (child) result.children.push(child);
  }
  return result;
}

function committedFromRow(row: CommitRow): CommittedRun {
  return {
    id: row.id,
    status: row.status,
    wakes: row.wakes!,
    watched: row.watched!,
    cancel: cancelFromRow(row.cancel_requested_at, row.cancel_reason),
    next: undefined,
  };
}

function mergeCancels(one: CancelResult, other: CancelResult): CancelResult {
  return {
    found: one.found || other.found,
    ended: [...one.ended, ...other.ended],
    unwinding: [...one.unwinding, ...other.unwinding],
    woken: [...one.woken, ...other.woken],
  };
}

/** Of runs that can be claimed: where. */
export function queuesOf(runs: readonly { ready_on: string | null }[]): string[] {
  return [...new Set(runs.flatMap(({ ready_on: queue }) => (queue === null ? [] : [fromSqlText(queue)])))];
}
