/** How an engine is: its own worker, and what the database says of all. */
export interface EngineHealth extends FleetHealth {
  /** Undefined: this process executes no runs. */
  worker: WorkerHealth | undefined;
}

export interface WorkerHealth {
  id: string;
  /** Whether it may execute runs; it stops them when it cannot renew its lease. */
  hasLease: boolean;
  leaseMs: number;
  /** How long ago it last looked at the database, or since when it has had something to claim in vain. */
  claimAgeMs: number;
}

export interface FleetHealth {
  /** How long the run that is next on its queue, or due by a timer, has waited for it; null: none is due. */
  oldestDueMs: number | null;
  liveWorkers: number;
  /** Workers whose lease has run out and whose runs have not been taken over. */
  deadWorkers: DeadWorker[];
}

export interface DeadWorker {
  id: string;
  host: string;
  pid: number;
  /** For how long its lease has been over. */
  deadMs: number;
}
