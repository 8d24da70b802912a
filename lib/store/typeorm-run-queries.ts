import { Between, In, Not, type Repository, type SelectQueryBuilder } from 'typeorm';
import type { DatabaseClock } from '../engine/clock.js';
import { COMPENSATION_SCOPE, displayKey } from '../engine/command.js';
import type { ExplainedEntry } from '../engine/explain.js';
import { isOutcome, NOTES } from '../engine/history.js';
import {
  type CompensationStatus,
  type HistoryEntry,
  isTerminal,
  type LogLine,
  type Page,
  type RunDetails,
  type RunSummary,
  type RunTree,
  type StepHeartbeat,
  type WaitingFor,
} from '../engine/run.js';
import { fromSqlText, isCoded, type PayloadSerializer, toSqlText } from '../engine/serialization.js';
import type { ListFilter, RunQueries } from '../engine/run-queries.js';
import { logLinesOf } from '../engine/step-log.js';
import type { Database } from './database.js';
import { HistoryEntity } from './entities/history.entity.js';
import { RunEntity } from './entities/run.entity.js';
import { isUuid } from './is-uuid.js';
import { applyFilter, checkFilter, LIMIT, RUN_FILTER } from './list-filter.js';
import { attributesFromRow } from './rows.js';

/** A family is loaded level by level, in pieces of this many parents. */
const TREE_PIECE = 1_000;

/** How many runs are looked at for what is likely of the next one. */
const NEWEST = 100;

/** Of an entry, all but its payload. */
const OUTLINE = {
  ...{ seq: true, kind: true, name: true, ordinal: true, status: true, attempts: true },
  ...{ startedAt: true, finishedAt: true, childId: true },
} as const;

/** Lists and details of runs, by TypeORM's query builder. */
export class TypeOrmRunQueries implements RunQueries {
  private readonly runs: Repository<RunEntity>;
  private readonly entries: Repository<HistoryEntity>;

  constructor(
    private readonly database: Database,
    private readonly serializer: PayloadSerializer,
    private readonly clock: DatabaseClock,
  ) {
    this.runs = database.dataSource.getRepository(RunEntity);
    this.entries = database.dataSource.getRepository(HistoryEntity);
  }

  haveCodedPayloads(): Promise<boolean> {
    return this.database.patiently(async () => {
      const query = this.runs.createQueryBuilder('run').select([]);
      for (const payload of ['input', 'output', 'state', 'error']) query.addSelect(`left(run.${payload}, 1)`, payload);
      const rows = await query.orderBy('run.id', 'DESC').limit(NEWEST).getRawMany<Record<string, string | null>>();
      return rows.some((row) => Object.values(row).some((text) => text !== null && isCoded(text)));
    });
  }

  exists(runId: string): Promise<boolean> {
    return this.database.patiently(async () => isUuid(runId) && (await this.runs.existsBy({ id: runId })));
  }

  get(runId: string): Promise<RunDetails | undefined> {
    return this.database.patiently(async () => {
      if (!isUuid(runId)) return undefined;
      return this.details(this.withPayloads().where({ id: runId }));
    });
  }

  findByKey(workflow: string, key: string): Promise<RunDetails | undefined> {
    const where = { workflow: toSqlText(workflow), key: toSqlText(key), superseded: false };
    return this.database.patiently(() => this.details(this.withPayloads().where(where)));
  }

  findId(workflow: string, key: string): Promise<string | undefined> {
    const where = { workflow: toSqlText(workflow), key: toSqlText(key), superseded: false };
    return this.database.patiently(async () => (await this.runs.findOne({ select: { id: true }, where }))?.id);
  }

  idsBetween(first: string, last: string, limit: number): Promise<string[]> {
    return this.database.patiently(async () => {
      const rows = await this.runs.find({
        select: { id: true },
        where: { id: Between(first, last) },
        order: { id: 'ASC' },
        take: limit,
      });
      return rows.map(({ id }) => id);
    });
  }

  history(runId: string): Promise<HistoryEntry[]> {
    return this.database.patiently(async () => {
      if (!isUuid(runId)) return [];
      const rows = await this.entries.find({ where: { runId }, order: { seq: 'ASC' } });
      await this.addOutputsInRun(runId, rows);
      const logs = this.logsOf(rows);
      return rows.filter((row) => isOutcome(row.kind)).map((row) => this.toEntry(row, logs.get(callOf(row)) ?? []));
    });
  }

  /** Those that are stored with the run, once. */
  private async addOutputsInRun(runId: string, rows: readonly HistoryEntity[]): Promise<void> {
    const inRun = rows.filter((row) => row.outputInRun);
    if (inRun.length === 0) return;
    const run = await this.runs.findOne({ select: { id: true, output: true }, where: { id: runId } });
    for (const row of inRun) row.output = run?.output ?? null;
  }

  /** The log lines of each step, of attempts that were tried again too. */
  private logsOf(rows: readonly HistoryEntity[]): Map<string, LogLine[]> {
    const logs = new Map<string, LogLine[]>();
    for (const row of rows) {
      if (row.logs === null) continue;
      logs.set(callOf(row), [...(logs.get(callOf(row)) ?? []), ...logLinesOf(row.logs, this.serializer)]);
    }
    return logs;
  }

  outline(runId: string, limit: number): Promise<ExplainedEntry[]> {
    return this.database.patiently(async () => {
      const rows = await this.entries.find({
        select: OUTLINE,
        where: { runId, kind: Not(In([...NOTES])) },
        order: { seq: 'ASC' },
        take: limit,
      });
      const answers = await this.answersOf(runId, rows);
      return rows.map((row) => ({
        ...identityOf(row),
        status: row.status,
        attempts: row.attempts,
        startedAt: row.startedAt,
        finishedAt: row.finishedAt,
        durationMs: row.finishedAt.getTime() - row.startedAt.getTime(),
        childId: row.childId ?? undefined,
        answer: answers.get(row.seq),
      }));
    });
  }

  /** The outputs of decisions, which are small. */
  private async answersOf(runId: string, rows: readonly HistoryEntity[]): Promise<Map<number, boolean>> {
    const seqs = rows.filter(({ kind }) => kind === 'decision').map(({ seq }) => seq);
    if (seqs.length === 0) return new Map();
    const decisions = await this.entries.find({ select: { seq: true, output: true }, where: { runId, seq: In(seqs) } });
    return new Map(decisions.map(({ seq, output }) => [seq, this.serializer.show(output) === true]));
  }

  tree(runId: string): Promise<RunTree | undefined> {
    return this.database.patiently(async () => {
      if (!isUuid(runId)) return undefined;
      const root = await this.runs.findOneBy({ id: runId });
      if (!root) return undefined;
      const tree = toTree(root);
      let level = new Map([[root.id, tree]]);
      while (level.size > 0) level = await this.addChildren(level);
      return tree;
    });
  }

  /** Newest first. The cursor is the id of the last item: ids are ordered by the time of their start. */
  list(filter: ListFilter): Promise<Page<RunSummary>> {
    return this.database.patiently(async () => {
      checkFilter('list', filter, RUN_FILTER);
      const limit = filter.limit ?? LIMIT.default;
      const query = this.runs
        .createQueryBuilder('run')
        .orderBy('run.id', 'DESC')
        .take(limit + 1);
      applyFilter(query, filter, this.clock);
      const rows = await query.getMany();
      const items = rows.slice(0, limit).map((row) => this.toSummary(row));
      return { items, nextCursor: rows.length > limit ? items.at(-1)!.id : undefined };
    });
  }

  /** In the order of `list`. */
  matching(filter: Omit<ListFilter, 'limit'>, limit: number): Promise<string[]> {
    return this.database.patiently(async () => {
      checkFilter('bulk', filter, RUN_FILTER);
      const query = this.runs.createQueryBuilder('run').select('run.id', 'id').orderBy('run.id', 'DESC').limit(limit);
      applyFilter(query, filter, this.clock);
      return (await query.getRawMany<{ id: string }>()).map(({ id }) => id);
    });
  }

  private withPayloads(): SelectQueryBuilder<RunEntity> {
    return this.runs.createQueryBuilder('run').addSelect(['run.input', 'run.output', 'run.error']);
  }

  private async details(query: SelectQueryBuilder<RunEntity>): Promise<RunDetails | undefined> {
    const row = await query.getOne();
    if (!row) return undefined;
    const details = {
      ...this.toSummary(row),
      input: this.serializer.show(row.input),
      heartbeats: isTerminal(row.status) ? [] : await this.heartbeatsOf(row.id),
    };
    if (row.status === 'completed') return { ...details, output: this.serializer.show(row.output) } as RunDetails;
    if (row.error !== null) return { ...details, error: this.serializer.showError(row.error) } as RunDetails;
    return details as RunDetails;
  }

  /** Of the steps without an outcome. */
  private async heartbeatsOf(runId: string): Promise<StepHeartbeat[]> {
    const rows = await this.entries
      .createQueryBuilder('beat')
      .where(`beat.run_id = :runId and beat.kind = 'progress'`, { runId })
      .andWhere((query) => {
        const ends = query
          .subQuery()
          .select('1')
          .from(HistoryEntity, 'ended')
          .where(
            `ended.run_id = :runId and ended.name = beat.name and ended.ordinal = beat.ordinal
             and (ended.kind = 'step' and ended.scope = beat.scope or ended.kind = 'compensation' and beat.scope = :compensations)`,
            { compensations: COMPENSATION_SCOPE },
          );
        return `not exists ${ends.getQuery()}`;
      })
      .orderBy('beat.seq')
      .getMany();
    return rows.map((row) => ({
      step: displayKey(fromSqlText(row.name), row.ordinal),
      attempt: row.attempts,
      progress: this.serializer.show(row.output),
      at: row.finishedAt,
    }));
  }

  private async addChildren(parents: Map<string, RunTree>): Promise<Map<string, RunTree>> {
    const children = new Map<string, RunTree>();
    const parentIds = [...parents.keys()];
    for (let from = 0; from < parentIds.length; from += TREE_PIECE) {
      const rows = await this.runs
        .createQueryBuilder('run')
        .where('run.parent_id = any(:parentIds)', { parentIds: parentIds.slice(from, from + TREE_PIECE) })
        .orderBy('run.id')
        .getMany();
      for (const row of rows) {
        const child = toTree(row);
        parents.get(row.parentId!)!.children.push(child);
        children.set(child.id, child);
      }
    }
    return children;
  }

  private toSummary(row: RunEntity): RunSummary {
    const facts = {
      id: row.id,
      workflow: fromSqlText(row.workflow),
      version: row.version,
      key: name(row.key),
      paused: row.paused && !isTerminal(row.status),
      queue: fromSqlText(row.queue),
      priority: row.priority,
      tenant: name(row.tenant),
      label: name(row.label),
      attributes: attributesFromRow(row.attributes),
      state: this.serializer.show(row.state),
      parentId: row.parentId ?? undefined,
      ref: name(row.ref),
      forkedFrom: row.forkedFrom ?? undefined,
      rootId: row.rootId,
      depth: row.depth,
      createdAt: row.createdAt,
      startedAt: row.startedAt ?? undefined,
      wakeAt: row.wakeAt ?? undefined,
      waitingFor: row.waitingFor ? parseWaits(row.waitingFor) : [],
      compensation: compensationOf(row),
      recoveries: row.recoveries,
      workerId: row.workerId ?? undefined,
    };
    if (isTerminal(row.status)) return { ...facts, status: row.status, finishedAt: row.finishedAt! };
    return { ...facts, status: row.status, finishedAt: undefined };
  }

  private toEntry(row: HistoryEntity, logs: LogLine[]): HistoryEntry {
    return {
      seq: row.seq,
      ...identityOf(row),
      status: row.status,
      output: this.serializer.show(row.output),
      error: row.error === null ? undefined : this.serializer.showError(row.error),
      attempts: row.attempts,
      startedAt: row.startedAt,
      finishedAt: row.finishedAt,
      childId: row.childId ?? undefined,
      logs,
    };
  }
}

/** The call that a row is about: a step and its failed attempts have the same. */
function callOf(row: HistoryEntity): string {
  return JSON.stringify([row.kind === 'retry' ? 'step' : row.kind, row.scope, row.name, row.ordinal]);
}

function identityOf(row: HistoryEntity): Pick<HistoryEntry, 'kind' | 'name' | 'key'> {
  const kind = row.kind === 'start' ? 'child' : (row.kind as HistoryEntry['kind']);
  const text = fromSqlText(row.name);
  return { kind, name: text, key: kind === 'child' ? text : displayKey(text, row.ordinal) };
}

function toTree(row: RunEntity): RunTree {
  return {
    id: row.id,
    workflow: fromSqlText(row.workflow),
    ref: name(row.ref),
    label: name(row.label),
    status: row.status,
    createdAt: row.createdAt,
    startedAt: row.startedAt ?? undefined,
    finishedAt: row.finishedAt ?? undefined,
    children: [],
  };
}

/** One that was ended by force while it undid what it had done has not undone all of it. */
function compensationOf({ status, compensation }: RunEntity): CompensationStatus {
  return compensation === 'running' && isTerminal(status) ? 'failed' : compensation;
}

function parseWaits(json: string): WaitingFor[] {
  const waits = JSON.parse(json) as (Omit<WaitingFor, 'until'> & { until: string | null })[];
  return waits.map((wait) => ({ ...wait, until: wait.until === null ? null : new Date(wait.until) }));
}

function name(text: string | null): string | undefined {
  return text === null ? undefined : fromSqlText(text);
}
