import type { Page } from '../engine/run.js';
import type {
  Fired,
  FiredDue,
  Schedule,
  ScheduleFilter,
  ScheduleRecord,
  ScheduleStore,
  ScheduleSummary,
} from '../engine/schedule-store.js';
import { fromSqlText, type PayloadSerializer, toSqlText } from '../engine/serialization.js';
import type { Database, Run } from './database.js';
import { ScheduleEntity } from './entities/schedule.entity.js';
import { checkFilter, LIMIT, limit, text } from './list-filter.js';
import { ScheduleTransactions } from './schedule-transactions.js';
import type { Statements } from './statements/all.js';

/** The schedules in PostgreSQL. */
export class StoredSchedules implements ScheduleStore {
  private readonly transactions: ScheduleTransactions;

  constructor(
    private readonly database: Database,
    private readonly sql: Statements,
    private readonly serializer: PayloadSerializer,
  ) {
    this.transactions = new ScheduleTransactions(sql, serializer);
  }

  async upsert(record: ScheduleRecord): Promise<void> {
    while (!(await this.called((run) => this.transactions.upsert(run, record)))) continue;
  }

  async deleteUndeclared(workflows: readonly string[], except: readonly string[]): Promise<void> {
    const parameters = [workflows.map(toSqlText), except.map(toSqlText)];
    await this.called((run) => run(this.sql.deleteUndeclaredSchedules, parameters));
  }

  async get(id: string): Promise<Schedule | undefined> {
    const row = await this.database.patiently(() =>
      this.query()
        .addSelect('schedule.input')
        .where({ id: toSqlText(id) })
        .getOne(),
    );
    return row ? { ...toSummary(row), input: this.serializer.show(row.input) } : undefined;
  }

  async list(filter: ScheduleFilter): Promise<Page<ScheduleSummary>> {
    checkFilter('schedules.list', filter, { limit, cursor: text });
    const { limit: most = LIMIT.default, cursor } = filter;
    const rows = await this.database.patiently(() => {
      const query = this.query()
        .orderBy('schedule.id')
        .take(most + 1);
      if (cursor !== undefined) query.where('schedule.id > :cursor', { cursor: toSqlText(cursor) });
      return query.getMany();
    });
    const items = rows.slice(0, most).map(toSummary);
    return { items, nextCursor: rows.length > most ? items.at(-1)!.id : undefined };
  }

  pause(id: string): Promise<boolean> {
    return this.called((run) => this.transactions.setPaused(run, toSqlText(id), true));
  }

  resume(id: string): Promise<boolean> {
    return this.called((run) => this.transactions.setPaused(run, toSqlText(id), false));
  }

  trigger(id: string, runId: string): Promise<(Fired & { runId: string }) | undefined> {
    return this.called((run) => this.transactions.trigger(run, toSqlText(id), runId));
  }

  async delete(id: string): Promise<void> {
    await this.called((run) => run(this.sql.deleteSchedule, [toSqlText(id)]));
  }

  fireDue(most: number): Promise<FiredDue> {
    return this.database.persistently(() => this.database.transaction((run) => this.transactions.fireDue(run, most)));
  }

  private called<T>(work: (run: Run) => Promise<T>): Promise<T> {
    return this.database.patiently(() => this.database.transaction(work));
  }

  private query() {
    return this.database.dataSource.getRepository(ScheduleEntity).createQueryBuilder('schedule');
  }
}

function toSummary(row: ScheduleEntity): ScheduleSummary {
  return {
    id: fromSqlText(row.id),
    workflow: fromSqlText(row.workflow),
    cron: row.cron ?? undefined,
    every: row.everyMs ?? undefined,
    timeZone: row.timeZone,
    overlap: row.overlap,
    missed: row.missed,
    jitter: row.jitterMs,
    declared: row.declared,
    paused: row.paused,
    createdAt: row.createdAt,
    lastRunAt: row.lastRunAt ?? undefined,
    lastRunId: row.lastRunId ?? undefined,
    nextRunAt: row.dueAt ?? undefined,
  };
}
