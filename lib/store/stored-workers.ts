import type { DatabaseClock } from '../engine/clock.js';
import { fromSqlText, toSqlText } from '../engine/serialization.js';
import type { WorkerInfo } from '../engine/statistics.js';
import type { Gate } from '../engine/queue-store.js';
import type { WokenRun } from '../engine/store.js';
import type { Beat, BeatRequest, WorkerRegistration, WorkerStore } from '../engine/worker-store.js';
import type { Database, Run } from './database.js';
import { cancelFromRow, definitionFromText, wokenFromRow, type WokenRow } from './rows.js';
import type { Statements } from './statements/all.js';

const UNBLOCKED_AT_A_TIME = 500;
/** Before all ids. */
const NO_ID = '00000000-0000-0000-0000-000000000000';

interface UnblockedRow {
  runs: number;
  last_id: string | null;
}

interface BeatRow {
  alive: boolean;
  ready: boolean;
  gates: Gate[];
  next_wake_at: number | null;
  next_tick_at: number | null;
  expired_workers: boolean;
  lost: string[];
  attention: {
    id: string;
    wakes: number;
    cancelRequestedAt: number | null;
    cancelReason: string | null;
    paused: boolean;
  }[];
  at: number;
}

interface WorkerRow extends Pick<WorkerInfo, 'id' | 'host' | 'pid' | 'alive' | 'queues' | 'running'> {
  started_at: Date;
  heartbeat_at: Date;
  definitions: string[];
}

/**
 * The rows of workers. A run must never be `running` under a worker that is gone, so whoever removes a row looks for its runs by
 * a statement after that.
 */
export class StoredWorkers implements WorkerStore {
  constructor(
    private readonly database: Database,
    private readonly sql: Statements,
    private readonly clock: DatabaseClock,
  ) {}

  async register({ id, host, pid, leaseMs, queues, definitions }: WorkerRegistration): Promise<void> {
    const parameters = [id, host, pid, leaseMs, queues.map(toSqlText), definitions.map(toSqlText)];
    const [row] = await this.database.persistently(() =>
      this.database.run<{ at: number }>(this.sql.registerWorker, parameters),
    );
    this.clock.synchronise(row!.at);
    await this.unblockRuns(id, definitions.map(toSqlText));
  }

  /** In pieces: there may be very many, when a deploy has broken a workflow. */
  private async unblockRuns(workerId: string, definitions: readonly string[]): Promise<void> {
    for (let lastId = NO_ID; ;) {
      const parameters = [workerId, definitions, lastId, UNBLOCKED_AT_A_TIME];
      const rows: UnblockedRow[] = await this.database.persistently(() =>
        this.database.run(this.sql.unblockRuns, parameters),
      );
      const { runs, last_id } = rows[0]!;
      if (runs < UNBLOCKED_AT_A_TIME) return;
      lastId = last_id!;
    }
  }

  async beat({ workerId, queues, definitions, renewByMs, executing }: BeatRequest): Promise<Beat> {
    const parameters = [
      workerId,
      queues.map(toSqlText),
      definitions.map(toSqlText),
      renewByMs,
      executing.map(({ id }) => id),
      executing.map(({ epoch }) => epoch),
    ];
    const [row] = await this.database.persistently(() => this.database.run<BeatRow>(this.sql.beat, parameters));
    this.clock.synchronise(row!.at);
    return beatFromRow(row!);
  }

  async takeOver(limit: number): Promise<{ runs: WokenRun[]; more: boolean }> {
    const runs = await this.woken((run) => run(this.sql.takeOver, [limit]));
    const more = runs.length === limit;
    if (!more) await this.database.persistently(() => this.database.transaction((run) => this.removeExpired(run)));
    return { runs, more };
  }

  /** First the lock, then the look for what is left: a run that a worker was just making its own is seen. */
  private async removeExpired(run: Run): Promise<void> {
    const expired = await run<{ id: string }>(this.sql.lockExpired, []);
    if (expired.length) await run(this.sql.removeExpired, [expired.map(({ id }) => id)]);
  }

  handBack(workerId: string, { except }: { except: readonly string[] }): Promise<WokenRun[]> {
    return this.woken((run) => run(this.sql.handBack, [workerId, except]));
  }

  /** The worker goes first: the removal waits for what it was just making its own, and then that is handed back too. */
  retire(workerId: string): Promise<WokenRun[]> {
    return this.database.persistently(() =>
      this.database.transaction(async (run) => {
        await run(this.sql.removeWorker, [workerId]);
        return (await run<WokenRow>(this.sql.handBack, [workerId, []])).map(wokenFromRow);
      }),
    );
  }

  async list(): Promise<WorkerInfo[]> {
    const rows = await this.database.patiently(() => this.database.run<WorkerRow>(this.sql.listWorkers, []));
    return rows.map(({ started_at, heartbeat_at, definitions, queues, ...facts }) => ({
      ...facts,
      startedAt: started_at,
      heartbeatAt: heartbeat_at,
      queues: queues.map(fromSqlText),
      workflows: definitions.map(fromSqlText),
    }));
  }

  async liveDefinitions(): Promise<{ workflow: string; version: number }[]> {
    const rows = await this.database.patiently(() =>
      this.database.run<{ definition: string }>(this.sql.liveDefinitions, []),
    );
    return rows.map(({ definition }) => definitionFromText(definition));
  }

  private async woken(work: (run: Run) => Promise<WokenRow[]>): Promise<WokenRun[]> {
    return (await this.database.persistently(() => work(this.database.run))).map(wokenFromRow);
  }
}

function beatFromRow(row: BeatRow): Beat {
  return {
    alive: row.alive,
    ready: row.ready,
    gates: row.gates.map((gate) => ({ ...gate, queue: fromSqlText(gate.queue) })),
    nextWakeAt: row.next_wake_at,
    nextTickAt: row.next_tick_at,
    expiredWorkers: row.expired_workers,
    lost: row.lost,
    attention: row.attention.map((run) => ({
      id: run.id,
      wakes: run.wakes,
      paused: run.paused,
      cancel: cancelFromRow(run.cancelRequestedAt, run.cancelReason),
    })),
  };
}
