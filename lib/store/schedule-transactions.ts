import { newId } from '../engine/new-id.js';
import type { PayloadSerializer } from '../engine/serialization.js';
import { fromSqlText } from '../engine/serialization.js';
import {
  dueAt,
  type DueTick,
  dueTicks,
  type Firing,
  firingOf,
  type LastRun,
  tickKey,
  ticksOf,
} from '../engine/schedule.js';
import type { Fired, FiredDue, ScheduleRecord } from '../engine/schedule-store.js';
import type { NewRun } from '../engine/new-run.js';
import { Canceller } from './canceller.js';
import type { Run } from './database.js';
import { definitionFromText, newRunToRow, type ScheduleRow, scheduleToRow } from './rows.js';
import type { Statements } from './statements/all.js';
import { SCHEDULES } from './statements/schedule.sql.js';
import { NEW_RUNS } from './statements/start.sql.js';

/** How long a schedule that cannot be read is left alone. */
const UNREADABLE_MS = 60_000;

interface Locked extends ScheduleRow {
  at: number;
}

/** A schedule whose tick has come, and what it starts; `runId`: of the first of them. */
interface Due {
  schedule: Locked;
  firing: Firing;
  runId?: string;
}

/** What becomes of schedules, inside transactions of the caller's. */
export class ScheduleTransactions {
  private readonly canceller: Canceller;

  constructor(
    private readonly sql: Statements,
    private readonly serializer: PayloadSerializer,
  ) {
    this.canceller = new Canceller(sql, serializer);
  }

  /** False: another one has made it at the same time. */
  async upsert(run: Run, record: ScheduleRecord): Promise<boolean> {
    const stored = await this.lock(run, record.id);
    const schedule = scheduleToRow(record, this.serializer);
    if (stored) {
      const { paused, last_tick, last_run_id, last_run_at } = stored;
      const next = sameTiming(stored, schedule) ? stored.next_tick : nextTick(schedule, stored);
      await this.save(run, [placed({ ...schedule, paused, last_tick, last_run_id, last_run_at }, next)]);
      return true;
    }
    const { at } = await this.nextDue(run);
    const row = placed(schedule, nextTick(schedule, { at, last_tick: null }));
    return (await run(this.sql.insertSchedule, SCHEDULES.parameters([row]))).length > 0;
  }

  async setPaused(run: Run, id: string, paused: boolean): Promise<boolean> {
    const schedule = await this.lock(run, id);
    if (schedule && schedule.paused !== paused)
      await this.save(run, [placed({ ...schedule, paused }, nextTick(schedule, schedule))]);
    return schedule !== undefined;
  }

  async trigger(run: Run, id: string, runId: string): Promise<(Fired & { runId: string }) | undefined> {
    const schedule = await this.lock(run, id);
    if (!schedule) return undefined;
    // The reply to the commit was lost, and it is asked again.
    if (schedule.last_run_id === runId) return { runId, started: [], cancelled: null };
    const tick: DueTick = { time: Math.floor(schedule.at), missed: false };
    const firing = firingOf(schedule.overlap, [tick], await this.lastRunOf(run, schedule));
    const fired = await this.carryOut(run, [{ schedule, firing, runId }]);
    await this.save(run, [schedule]);
    return { runId: schedule.last_run_id!, ...fired };
  }

  async fireDue(run: Run, limit: number): Promise<FiredDue> {
    const locked = await run<Locked>(this.sql.lockDueSchedules, [limit]);
    const unreadable: FiredDue['unreadable'] = [];
    const due: Due[] = [];
    const lastRuns = await this.lastRunsOf(run, locked);
    for (const schedule of locked) {
      try {
        const { due: ticks, next } = dueTicks(planOf(schedule), schedule.next_tick, schedule.at);
        due.push({ schedule, firing: firingOf(schedule.overlap, ticks, lastRuns(schedule)) });
        schedule.last_tick = ticks.at(-1)?.time ?? schedule.last_tick;
        Object.assign(schedule, placed(schedule, next));
      } catch (error) {
        // A zone that this host does not know, for instance: it keeps its place, and the others are not held up.
        unreadable.push({ id: fromSqlText(schedule.id), error });
        schedule.due_at = schedule.at + UNREADABLE_MS;
      }
    }
    const fired = await this.carryOut(run, due);
    if (locked.length) await this.save(run, locked);
    const { next } = await this.nextDue(run);
    return { ...fired, nextAt: next, more: locked.length === limit, unreadable };
  }

  // ---- starting runs

  /** Starts the runs, and notes the last of each schedule in its row. */
  private async carryOut(run: Run, due: readonly Due[]): Promise<Fired> {
    const toCancel = due.flatMap(({ schedule, firing }) => (firing.cancelsLast ? [schedule.last_run_id!] : []));
    const cancelled = toCancel.length
      ? await this.canceller.cancel(run, toCancel, { reason: 'the next run of its schedule starts', terminate: false })
      : null;
    const version = due.some(({ firing }) => firing.starts.length) ? await this.versions(run) : undefined;
    if (!version) return { started: [], cancelled };
    const planned = due.flatMap(({ schedule, firing, runId = newId() }) =>
      firing.starts.map(({ time, behind }, index) => {
        const id = index === 0 ? runId : newId();
        return { schedule, behind, row: toRunRow(schedule, { id, time, version: version(schedule) }, this.serializer) };
      }),
    );
    const inserted = await run<{ id: string }>(this.sql.insertRuns, [
      ...NEW_RUNS.parameters(planned.map(({ row }) => row)),
      null,
      [],
      null,
    ]);
    const made = new Set(inserted.map(({ id }) => id));
    const started: Fired['started'] = [];
    for (const { schedule, behind, row } of planned) {
      // Its key says that the run of this tick is there already.
      if (!made.has(row.id)) continue;
      if (!behind || !(await this.waitsBehind(run, row.id, schedule.last_run_id!)))
        started.push(toStarted(schedule, row.id));
      schedule.last_run_id = row.id;
      schedule.last_run_at = schedule.at;
    }
    return { started, cancelled };
  }

  /** First the lock of the run before it, then the look whether that has ended. */
  private async waitsBehind(run: Run, runId: string, beforeId: string): Promise<boolean> {
    await run(this.sql.watchRuns, [runId, [beforeId]]);
    const waits = JSON.stringify([{ kind: 'child', name: beforeId, until: null }]);
    return (await run(this.sql.waitBehind, [runId, beforeId, waits])).length > 0;
  }

  /** The highest version that a live worker registers; while there is none, the one that the schedule was made with. */
  private async versions(run: Run): Promise<(schedule: ScheduleRow) => number> {
    const highest = new Map<string, number>();
    for (const { definition } of await run<{ definition: string }>(this.sql.liveDefinitions, [])) {
      const { workflow, version } = definitionFromText(definition);
      highest.set(workflow, Math.max(version, highest.get(workflow) ?? 0));
    }
    return (schedule) => highest.get(fromSqlText(schedule.workflow)) ?? schedule.version;
  }

  // ---- rows

  private async lock(run: Run, id: string): Promise<Locked | undefined> {
    return (await run<Locked>(this.sql.lockSchedule, [id]))[0];
  }

  private async nextDue(run: Run): Promise<{ next: number | null; at: number }> {
    return (await run<{ next: number | null; at: number }>(this.sql.nextScheduleDue, []))[0]!;
  }

  private async save(run: Run, schedules: readonly ScheduleRow[]): Promise<void> {
    await run(this.sql.updateSchedules, SCHEDULES.parameters(schedules));
  }

  private async lastRunOf(run: Run, schedule: ScheduleRow): Promise<LastRun> {
    return (await this.lastRunsOf(run, [schedule]))(schedule);
  }

  private async lastRunsOf(run: Run, schedules: readonly ScheduleRow[]): Promise<(of: ScheduleRow) => LastRun> {
    const ids = schedules.flatMap(({ last_run_id }) => last_run_id ?? []);
    const rows = ids.length ? await run<{ id: string; waits: boolean }>(this.sql.activeLastRuns, [ids]) : [];
    const active = new Map(rows.map(({ id, waits }) => [id, waits ? 'waiting' : 'active'] as const));
    return ({ last_run_id }) => (last_run_id === null ? undefined : active.get(last_run_id)) ?? 'ended';
  }
}

function planOf({ id, cron, every_ms, time_zone, missed, jitter_ms }: ScheduleRow) {
  return { id: fromSqlText(id), cron, everyMs: every_ms, timeZone: time_zone, missed, jitterMs: jitter_ms };
}

function sameTiming(one: ScheduleRow, other: ScheduleRow): boolean {
  return one.cron === other.cron && one.every_ms === other.every_ms && one.time_zone === other.time_zone;
}

/** The first tick from now on; none comes twice, whatever the clock does. */
function nextTick(schedule: ScheduleRow, { at, last_tick }: Pick<Locked, 'at' | 'last_tick'>): number {
  const plan = planOf(schedule);
  return ticksOf(`Schedule '${plan.id}'`, plan).next(Math.max(at, last_tick ?? 0));
}

/** The schedule with its next tick there. */
function placed(schedule: ScheduleRow, next: number): ScheduleRow {
  return { ...schedule, next_tick: next, due_at: schedule.paused ? null : dueAt(planOf(schedule), next) };
}

function toRunRow(
  schedule: ScheduleRow,
  { id, time, version }: { id: string; time: number; version: number },
  serializer: PayloadSerializer,
) {
  const newRun: NewRun = {
    id,
    workflow: fromSqlText(schedule.workflow),
    version,
    key: tickKey(fromSqlText(schedule.id), time),
    queue: fromSqlText(schedule.queue),
    priority: 0,
    tenant: null,
    label: null,
    attributes: null,
    input: schedule.input,
    inputDigest: schedule.input_digest,
    context: null,
    trace: null,
    delayMs: null,
    startAt: null,
    timeoutMs: schedule.timeout_ms,
    deadline: null,
    parent: null,
    eager: false,
  };
  // The digest was sealed when the schedule was written.
  return { ...newRunToRow(newRun, serializer), input_digest: schedule.input_digest };
}

function toStarted({ queue }: ScheduleRow, id: string): Fired['started'][number] {
  return { id, status: 'pending', epoch: 0, wakes: 0, queue: fromSqlText(queue), workerId: null };
}
