import type { DeadWorker, FleetHealth } from '../engine/health.js';
import { RUN_STATUSES, type RunStatus } from '../engine/run.js';
import { fromSqlText, toSqlText } from '../engine/serialization.js';
import type { ActiveRuns, Stats } from '../engine/statistics.js';
import type { BeatRequest } from '../engine/worker-store.js';
import type { Database } from './database.js';
import type { Statements } from './statements/all.js';

/** Up to here, all runs are counted; it takes some hundredths of a second. */
const SMALL_TABLE_BYTES = 64 * 1024 * 1024;
const ACTIVE = ['pending', 'running', 'waiting', 'blocked'] as const satisfies (keyof ActiveRuns)[];
/** Of a large table: there may be very many. */
const ESTIMATED = ['completed', 'failed', 'cancelled'] as const satisfies RunStatus[];

interface CountRow {
  status: RunStatus;
  queue: string;
  workflow: string;
  runs: number;
  oldest_due_at: number | null;
}

interface TableRow {
  name: string;
  rows: number;
  data_bytes: number;
  bytes: number;
}

/** What an operator wants to know of all runs, at a cost that is bounded however many have ended. */
export class Statistics {
  constructor(
    private readonly database: Database,
    private readonly sql: Statements,
  ) {}

  async stats(): Promise<Stats> {
    const { run, schema } = this.database;
    const tables = await run<TableRow>(this.sql.tableSizes, [schema]);
    const runTable = tables.find(({ name }) => name === 'run')!;
    const isSmall = runTable.data_bytes <= SMALL_TABLE_BYTES;
    const counts = await run<CountRow>(isSmall ? this.sql.countRuns : this.sql.countActiveRuns, []);
    const runs = byStatus(counts);
    if (!isSmall) await this.estimate(runs, runTable.rows);
    const active = counts.filter(({ status }) => (ACTIVE as readonly string[]).includes(status));
    return {
      runs,
      estimated: isSmall ? [] : [...ESTIMATED],
      queues: grouped(active, ({ queue }) => queue).map(([queue, rows]) => ({
        queue,
        ...activeOf(rows),
        oldestDueAt: oldestOf(rows),
      })),
      workflows: grouped(active, ({ workflow }) => workflow).map(([workflow, rows]) => ({
        workflow,
        ...activeOf(rows),
      })),
      oldestDueAt: oldestOf(active),
      tables: tables.map(({ name, rows, bytes }) => ({ name, rows, bytes })),
    };
  }

  async health(worker: Pick<BeatRequest, 'queues' | 'definitions'> | undefined): Promise<FleetHealth> {
    interface Row {
      oldest_ready_ms: number | null;
      oldest_timer_ms: number | null;
      live_workers: number;
      dead_workers: DeadWorker[];
    }
    const [row] = await this.database.run<Row>(this.sql.lookAtHealth, [
      worker?.queues.map(toSqlText) ?? null,
      worker?.definitions.map(toSqlText) ?? null,
    ]);
    const due = [row!.oldest_ready_ms, row!.oldest_timer_ms].filter((ms) => ms !== null);
    return {
      oldestDueMs: due.length ? Math.round(Math.max(...due)) : null,
      liveWorkers: row!.live_workers,
      deadWorkers: row!.dead_workers.map((dead) => ({ ...dead, deadMs: Math.round(dead.deadMs) })),
    };
  }

  private async estimate(runs: Record<RunStatus, number>, all: number): Promise<void> {
    interface Row {
      status: RunStatus;
      frequency: number;
    }
    const rows = await this.database.run<Row>(this.sql.statusFrequencies, [this.database.schema]);
    const frequencies = new Map(rows.map(({ status, frequency }) => [status, frequency]));
    for (const status of ESTIMATED) runs[status] = Math.round(all * (frequencies.get(status) ?? 0));
  }
}

function byStatus(rows: readonly CountRow[]): Record<RunStatus, number> {
  const sum = Object.fromEntries(RUN_STATUSES.map((status) => [status, 0])) as Record<RunStatus, number>;
  for (const { status, runs } of rows) sum[status] += runs;
  return sum;
}

function grouped(rows: readonly CountRow[], keyOf: (row: CountRow) => string): [string, CountRow[]][] {
  const groups = new Map<string, CountRow[]>();
  for (const row of rows) {
    const key = fromSqlText(keyOf(row));
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups].toSorted(([one], [other]) => (one < other ? -1 : 1));
}

function activeOf(rows: readonly CountRow[]): ActiveRuns {
  const { pending, running, waiting, blocked } = byStatus(rows);
  return { pending, running, waiting, blocked };
}

function oldestOf(rows: readonly CountRow[]): Date | undefined {
  const times = rows.flatMap(({ oldest_due_at }) => oldest_due_at ?? []);
  return times.length ? new Date(Math.min(...times)) : undefined;
}
