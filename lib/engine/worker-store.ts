import type { WorkerInfo } from './statistics.js';
import type { CancelMark } from './cancellation.js';
import type { Gate } from './queue-store.js';
import type { WokenRun } from './store.js';

/** Workers and their leases: which process has which runs, and what becomes of those whose worker is gone. */
export interface WorkerStore {
  register(worker: WorkerRegistration): Promise<void>;
  /** The worker's regular look at the database: renews its lease when asked, and says what needs attention. */
  beat(request: BeatRequest): Promise<Beat>;
  /** Returns runs of workers whose lease has expired, oldest first; true when there may be more. */
  takeOver(limit: number): Promise<{ runs: WokenRun[]; more: boolean }>;
  /** Hands the runs of a worker, but for some, back so that another takes them at once. */
  handBack(workerId: string, selection: { except: readonly string[] }): Promise<WokenRun[]>;
  /** Ends a worker: its lease is gone, and all its runs are handed back. */
  retire(workerId: string): Promise<WokenRun[]>;
  /** The longest running first. */
  list(): Promise<WorkerInfo[]>;
  /** Names and versions that live workers register. */
  liveDefinitions(): Promise<{ workflow: string; version: number }[]>;
}

export interface WorkerRegistration {
  id: string;
  host: string;
  pid: number;
  leaseMs: number;
  queues: readonly string[];
  definitions: readonly string[];
}

export interface BeatRequest {
  workerId: string;
  queues: readonly string[];
  definitions: readonly string[];
  /** Renews the lease by that much, or null to leave it. */
  renewByMs: number | null;
  /** The runs it executes, and under which epochs. */
  executing: readonly { id: string; epoch: number }[];
}

export interface Beat {
  /** False: the lease had expired (or was given away) and could not be renewed. */
  alive: boolean;
  /** Something is claimable for this worker. */
  ready: boolean;
  gates: Gate[];
  /** The next timer of any run, epoch ms. */
  nextWakeAt: number | null;
  /** When the next tick of any schedule is due, epoch ms. */
  nextTickAt: number | null;
  expiredWorkers: boolean;
  /** Executing runs that are another worker's now, or ended by force. */
  lost: string[];
  /** Executing runs that something happened to. */
  attention: { id: string; wakes: number; cancel: CancelMark | null; paused: boolean }[];
}
