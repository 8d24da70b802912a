import type { Engine } from './engine.js';
import type { RunStatus } from './run.js';

type ActiveStatus = 'pending' | 'running' | 'waiting' | 'blocked';

/** Active runs by their status. */
export type ActiveRuns = Record<ActiveStatus, number>;

/** What `orchestrator.stats()` gives. */
export interface Stats {
  runs: Record<RunStatus, number>;
  /**
   * Statuses whose numbers in `runs` are estimates by the planner's statistics, so that a large table need not be read: none while the table of
   * runs is below 64 MB, else the finished ones.
   */
  estimated: RunStatus[];
  /** By queue, with active runs only. */
  queues: ({ queue: string; oldestDueAt: Date | undefined } & ActiveRuns)[];
  /** By workflow, likewise. */
  workflows: ({ workflow: string } & ActiveRuns)[];
  /** Since when the longest-waiting claimable run has been claimable. */
  oldestDueAt: Date | undefined;
  /** Rows are the planner's estimate; bytes include the indexes. */
  tables: { name: string; rows: number; bytes: number }[];
}

/** A process that executes runs. */
export interface WorkerInfo {
  id: string;
  host: string;
  pid: number;
  startedAt: Date;
  heartbeatAt: Date;
  /** False: its lease has expired, and its runs are about to be taken over. */
  alive: boolean;
  queues: string[];
  /** `order@1` of everything that it can run. */
  workflows: string[];
  /** How many runs it executes; parked ones do not count. */
  running: number;
}

/** `orchestrator.workers`: the processes that execute runs. */
export class Workers {
  constructor(private readonly engine: () => Promise<Engine>) {}

  /** The longest running first. */
  async list(): Promise<WorkerInfo[]> {
    return (await this.engine()).store.workers.list();
  }
}
