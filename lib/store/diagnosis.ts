import { fromSqlText } from '../engine/serialization.js';
import type { Database } from './database.js';
import { expectedIndexes, type Index } from './expected-indexes.js';
import { diagnosisStatements } from './statements/diagnosis.sql.js';
import { inSchema } from './statements/statement.js';

export interface ClockFacts {
  /** The database's, epoch ms. */
  at: number;
  /** How far the engine's clock was moved away from it. */
  movedMs: number;
  /** How far the newest times in the tables lie in the future; null: there are none. */
  aheadMs: number | null;
}

interface RunFacts {
  id: string;
  workflow: string;
  version: number;
}

/** Looks for what may be wrong with an engine's database, its workers and runs. Says what is there, not what to think of it. */
export class Diagnosis {
  private readonly sql: ReturnType<typeof inSchema<typeof diagnosisStatements>>;

  constructor(private readonly database: Database) {
    this.sql = inSchema(diagnosisStatements, database.schema);
  }

  async clock(): Promise<ClockFacts> {
    const [row] = await this.database.run<{ at: number; moved_ms: number; ahead_ms: number | null }>(
      this.sql.describeClock,
      [],
    );
    return { at: row!.at, movedMs: row!.moved_ms, aheadMs: row!.ahead_ms };
  }

  /** A standby, or set to be so. */
  async isReadOnly(): Promise<boolean> {
    const [row] = await this.database.run<{ is_read_only: boolean }>(this.sql.askReadOnly, []);
    return row!.is_read_only;
  }

  /** Indexes that are not there, or that a failed `create index concurrently` has left unusable. */
  async lostIndexes(): Promise<(Index & { isInvalid: boolean })[]> {
    const rows = await this.database.run<{ name: string; is_valid: boolean }>(this.sql.listIndexes, [
      this.database.schema,
    ]);
    const isValid = new Map(rows.map((row) => [row.name, row.is_valid]));
    return expectedIndexes(this.database)
      .filter(({ name }) => !isValid.get(name))
      .map((index) => ({ ...index, isInvalid: isValid.has(index.name) }));
  }

  async fleet(): Promise<{ live: number; hasActiveRuns: boolean }> {
    const [row] = await this.database.run<{ live: number; has_active_runs: boolean }>(this.sql.countFleet, []);
    return { live: row!.live, hasActiveRuns: row!.has_active_runs };
  }

  /** Workers whose lease has ended, and how many runs are still theirs. */
  async deadWorkers(): Promise<{ id: string; host: string; pid: number; expiredAt: Date; runs: number }[]> {
    interface Row {
      id: string;
      host: string;
      pid: number;
      expired_at: number;
      runs: number;
    }
    const rows = await this.database.run<Row>(this.sql.listDeadWorkers, []);
    return rows.map(({ expired_at, ...row }) => ({ ...row, expiredAt: new Date(expired_at) }));
  }

  /** Definitions with active runs that no live worker has. */
  unservedDefinitions(): Promise<{ workflow: string; version: number; runs: number; example: string }[]> {
    return this.named(this.sql.listUnservedDefinitions);
  }

  /** Queues with claimable runs that no live worker serves. */
  unservedQueues(): Promise<{ queue: string; runs: number; since: Date }[]> {
    return this.named(this.sql.listUnservedQueues);
  }

  /** Queues with runs that could have been claimed for so long. */
  overdue(ms: number): Promise<{ queue: string; gated: boolean; runs: number; since: Date }[]> {
    return this.named(this.sql.listOverdue, ms);
  }

  async overdueTimers(ms: number): Promise<{ runs: number; since: Date | undefined }> {
    const [row] = await this.database.run<{ runs: number; since: number | null }>(this.sql.countOverdueTimers, [ms]);
    return { runs: row!.runs, since: toDate(row!.since) };
  }

  /** Paused queues on which runs wait. */
  pausedQueues(): Promise<{ name: string; runs: number }[]> {
    return this.named(this.sql.listPausedQueues);
  }

  /** `error`: the stored one of the newest, the example. */
  blocked(): Promise<{ workflow: string; version: number; runs: number; example: string; error: string | null }[]> {
    return this.named(this.sql.listBlocked);
  }

  /** Runs that execute nowhere although they should. */
  orphans(): Promise<RunFacts[]> {
    return this.named(this.sql.listOrphans);
  }

  /** Runs that execute and have recorded nothing for so long. */
  silent(ms: number): Promise<(RunFacts & { since: Date })[]> {
    return this.named(this.sql.listSilent, ms);
  }

  /** Runs whose worker died so often, without anything recorded in between. */
  crashing(times: number): Promise<(RunFacts & { recoveries: number })[]> {
    return this.named(this.sql.listCrashing, times);
  }

  longHistories(entries: number): Promise<(RunFacts & { entries: number })[]> {
    return this.named(this.sql.listLongHistories, entries);
  }

  /** Runs that were cancelled so long ago, and have not ended. */
  unwinding(ms: number): Promise<(RunFacts & { since: Date })[]> {
    return this.named(this.sql.listUnwinding, ms);
  }

  async idleSchedules(
    ms: number,
  ): Promise<{ id: string; workflow: string; isOverdue: boolean; isUnserved: boolean }[]> {
    interface Row {
      id: string;
      workflow: string;
      is_overdue: boolean;
      is_unserved: boolean;
    }
    const rows = await this.named<Row>(this.sql.listIdleSchedules, ms);
    return rows
      .map(({ id, workflow, is_overdue, is_unserved }) => ({
        id,
        workflow,
        isOverdue: is_overdue,
        isUnserved: is_unserved,
      }))
      .filter(({ isOverdue, isUnserved }) => isOverdue || isUnserved);
  }

  /** Rows with their names as people gave them, and `since` as a time. */
  private async named<Row extends object>(
    statement: (typeof this.sql)[keyof typeof this.sql],
    ...values: number[]
  ): Promise<Row[]> {
    const rows = await this.database.run<Row>(statement, values);
    return rows.map(
      (row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, shown(name, value)])) as Row,
    );
  }
}

const NAMES = new Set(['workflow', 'queue', 'name']);

function shown(name: string, value: unknown): unknown {
  if (name === 'since') return new Date(value as number);
  return NAMES.has(name) ? fromSqlText(value as string) : value;
}

function toDate(ms: number | null): Date | undefined {
  return ms === null ? undefined : new Date(ms);
}
