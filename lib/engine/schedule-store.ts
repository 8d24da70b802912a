import type { Page } from './run.js';
import type { Overlap, TickPlan } from './schedule.js';
import type { CancelResult } from './cancellation.js';
import type { WokenRun } from './store.js';

/** A schedule as it is written: what it starts, and when. */
export interface ScheduleRecord extends TickPlan {
  workflow: string;
  /** Started while no live worker registers the workflow; else it is the highest version that one does. */
  version: number;
  queue: string;
  timeoutMs: number | null;
  input: string | null;
  inputDigest: string;
  overlap: Overlap;
  /** By `@Workflow`. */
  declared: boolean;
}

/** A schedule as lists show it: without the input of its runs. Times are the database's. */
export interface ScheduleSummary {
  id: string;
  workflow: string;
  cron: string | undefined;
  /** In ms. */
  every: number | undefined;
  /** Of `cron`. */
  timeZone: string;
  overlap: Overlap;
  missed: TickPlan['missed'];
  /** In ms. */
  jitter: number;
  /** By `@Workflow`. */
  declared: boolean;
  paused: boolean;
  createdAt: Date;
  /** When it last started a run, and which. */
  lastRunAt: Date | undefined;
  lastRunId: string | undefined;
  /** When its next tick is due; undefined while it is paused. */
  nextRunAt: Date | undefined;
}

export interface Schedule extends ScheduleSummary {
  /** The input of its runs. */
  input: unknown;
}

/** Which page of the schedules, in the order of their ids. */
export interface ScheduleFilter {
  /** 1 to 1,000; default 50. */
  limit?: number;
  cursor?: string;
}

export interface Fired {
  started: WokenRun[];
  cancelled: CancelResult | null;
}

export interface FiredDue extends Fired {
  /** When the next tick of any schedule is due, epoch ms. */
  nextAt: number | null;
  /** Not all that was due was looked at. */
  more: boolean;
  /** Schedules that this process cannot read; they are tried again in a minute. */
  unreadable: { id: string; error: unknown }[];
}

/**
 * The schedules in the database. A tick starts its run in the transaction that moves its schedule on to the next tick, under
 * the lock of the schedule's row: whatever dies, a tick starts one run, and is not lost. Beside that, its run has the tick in
 * its key.
 */
export interface ScheduleStore {
  /** Makes or changes a schedule. It keeps its place in its ticks unless its timing changes, and stays paused. */
  upsert(record: ScheduleRecord): Promise<void>;
  /** Deletes the declared schedules of these workflows, but for some. */
  deleteUndeclared(workflows: readonly string[], except: readonly string[]): Promise<void>;
  get(id: string): Promise<Schedule | undefined>;
  list(filter: ScheduleFilter): Promise<Page<ScheduleSummary>>;
  /** Ticks that come while it is paused are not made up for. False: there is none with that id. */
  pause(id: string): Promise<boolean>;
  resume(id: string): Promise<boolean>;
  /** Starts a run now, as a tick would; gives the one that `overlap` lets stand instead. `runId`: of the new run. */
  trigger(id: string, runId: string): Promise<(Fired & { runId: string }) | undefined>;
  delete(id: string): Promise<void>;
  /** Starts the runs of ticks that are due, of up to `limit` schedules. */
  fireDue(limit: number): Promise<FiredDue>;
}
