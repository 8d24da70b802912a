import type { Attributes, RunStatus, TerminalStatus } from '../engine/run.js';
import type { Ancestor } from '../engine/seed.js';
import type { Missed, Overlap } from '../engine/schedule.js';
import type { ScheduleRecord } from '../engine/schedule-store.js';
import { fromSqlText, type PayloadSerializer, toSqlText } from '../engine/serialization.js';
import type { CancelMark } from '../engine/cancellation.js';
import type { ClaimedRun } from '../engine/claimed-run.js';
import type { NewRun } from '../engine/new-run.js';
import type { Heartbeat, RecordedChild, RecordedOutcome } from '../engine/recorded-run.js';
import type { RunWrite } from '../engine/run-write.js';
import type { RunEnd, WokenRun } from '../engine/store.js';
import { USUAL_OUTCOME } from './statements/commit.sql.js';

/** What statements take and return, and what the engine speaks: the one place where both meet. */

export const nullable = (text: string | null): string | null => (text === null ? null : toSqlText(text));

/** jsonb holds no NUL either; names and values are escaped alike. */
export function attributesToRow(attributes: Attributes | null): string | null {
  if (!attributes) return null;
  const entries = Object.entries(attributes).map(([name, value]) => [
    toSqlText(name),
    typeof value === 'string' ? toSqlText(value) : value,
  ]);
  return JSON.stringify(Object.fromEntries(entries));
}

export function attributesFromRow(attributes: Attributes | null): Attributes {
  const entries = Object.entries(attributes ?? {}).map(([name, value]) => [
    fromSqlText(name),
    typeof value === 'string' ? fromSqlText(value) : value,
  ]);
  return Object.fromEntries(entries) as Attributes;
}

/** Has the columns of NEW_RUNS and of BEGUN_RUNS. `waitingFor`: of one whose opening is committed with it. */
export function newRunToRow(run: NewRun, serializer: PayloadSerializer, waitingFor: string | null = null) {
  return {
    id: run.id,
    workflow: toSqlText(run.workflow),
    version: run.version,
    key: nullable(run.key),
    queue: toSqlText(run.queue),
    priority: run.priority,
    tenant: nullable(run.tenant),
    label: nullable(run.label),
    attributes: attributesToRow(run.attributes),
    input: run.input,
    input_digest: serializer.sealDigest(run.inputDigest),
    context: run.context,
    trace: run.trace,
    delay_ms: run.delayMs,
    start_at: run.startAt,
    timeout_ms: run.timeoutMs,
    eager: run.eager,
    waiting_for: waitingFor,
  };
}

/** Written out: spread over the row of a start, its members cost as much as everything else of a child's start. */
export function childToRow(child: NewRun, serializer: PayloadSerializer) {
  const parent = child.parent!;
  return {
    id: child.id,
    parent_id: parent.parentId,
    root_id: parent.rootId,
    depth: parent.depth,
    ref: toSqlText(parent.ref),
    scope: toSqlText(parent.scope),
    awaited: parent.awaited,
    cascades: parent.cascades,
    closes_with_parent: parent.closesWithParent,
    shielded: parent.shielded,
    deadline: child.deadline,
    timeout_ms: child.timeoutMs,
    eager: child.eager,
    workflow: toSqlText(child.workflow),
    version: child.version,
    queue: toSqlText(child.queue),
    priority: child.priority,
    tenant: nullable(child.tenant),
    label: nullable(child.label),
    attributes: attributesToRow(child.attributes),
    input: child.input,
    input_digest: serializer.sealDigest(child.inputDigest),
    context: child.context,
    trace: child.trace,
  };
}

export function writeToRow(write: RunWrite) {
  const { move } = write;
  return {
    id: write.runId,
    epoch: write.epoch,
    write_no: write.writeNo,
    move: move?.to ?? null,
    output: outputOf(write),
    error: move && 'error' in move ? move.error : null,
    wake_at: move?.to === 'waiting' ? move.wakeAt : null,
    waiting_for: move?.to === 'waiting' ? move.waitingFor : null,
    seen_wakes: write.seenWakes,
    knows_cancel: write.knowsCancel,
    told_parent: write.toldParent,
    has_state: write.state !== undefined,
    state: write.state ?? null,
    attributes: attributesToRow(write.attributes),
  };
}

function outputOf({ move }: RunWrite): string | null {
  return move?.to === 'completed' ? move.output : null;
}

/**
 * A write that ends its run, or after which it runs on: then it has to be told of wake-ups that it has not seen. What wakes it here it is
 * told of anyway.
 */
export function endToRow(write: RunWrite, { resident, woken }: { resident: boolean; woken: boolean }) {
  const { runId, epoch, writeNo, move, seenWakes, parentId } = write;
  const isEnd = move !== null && move.to !== 'waiting';
  return {
    id: runId,
    epoch,
    write_no: writeNo,
    status: isEnd ? move.to : 'running',
    seen_wakes: isEnd || woken ? null : seenWakes,
    output: outputOf(write),
    error: move && 'error' in move ? move.error : null,
    awaited: parentId !== null,
    resident,
    woken,
  };
}

/** A parent that is woken by the ends that are written with it, and writes nothing itself. */
export function wokenParentRow(id: string) {
  return {
    ...{ id, epoch: null, write_no: null, status: 'running', seen_wakes: null, output: null, error: null },
    ...{ awaited: false, resident: true, woken: true },
  };
}

/** A write that only records outcomes. */
export function recorderToRow({ runId, epoch, seenWakes }: RunWrite) {
  return { id: runId, epoch, seen_wakes: seenWakes };
}

/** In the order of ids, in which PostgreSQL has them too. */
export function inOrderOfIds<Row extends { id: string }>(rows: readonly Row[]): Row[] {
  return rows.toSorted((one, other) => (one.id < other.id ? -1 : 1));
}

/** A run that the end of another may wake: locked with the writes, and not written itself. */
export function toBeWokenRow(id: string) {
  return {
    id,
    epoch: null,
    write_no: null,
    move: null,
    output: null,
    error: null,
    wake_at: null,
    waiting_for: null,
    seen_wakes: null,
    knows_cancel: false,
    told_parent: false,
    has_state: false,
    state: null,
    attributes: null,
  };
}

/** Shorter outputs are stored with their outcomes and with the run, where people find them in either row. */
const SHORTEST_SHARED_OUTPUT = 1_024;

export function outcomesToRows(write: RunWrite) {
  const output = outputOf(write);
  const isLong = output !== null && output.length >= SHORTEST_SHARED_OUTPUT;
  const inRun = isLong ? write.outcomes.findIndex((outcome) => outcome.output === output) : -1;
  return write.outcomes.map((outcome, index) => outcomeToRow(write.runId, outcome, index === inRun));
}

/** `isInRun`: its output is that of the run, which the same write completes. */
export function outcomeToRow(runId: string, outcome: RecordedOutcome, isInRun = false) {
  return {
    run_id: runId,
    seq: outcome.seq,
    kind: outcome.kind,
    scope: toSqlText(outcome.scope),
    name: toSqlText(outcome.name),
    ordinal: outcome.ordinal,
    status: outcome.status,
    digest: outcome.digest,
    output: isInRun ? null : outcome.output,
    error: outcome.error,
    attempts: outcome.attempts,
    after_seq: outcome.afterSeq,
    started_at: outcome.startedAt,
    finished_at: outcome.finishedAt,
    child_id: outcome.childId,
    logs: outcome.logs ?? null,
    output_in_run: isInRun || null,
  };
}

export function heartbeatToRow({ runId, epoch, seq, identity, progress, attempt, afterSeq, startedAt }: Heartbeat) {
  return {
    run_id: runId,
    epoch,
    seq,
    scope: toSqlText(identity.scope),
    name: toSqlText(identity.name),
    ordinal: identity.ordinal,
    progress,
    attempt,
    after_seq: afterSeq,
    started_at: startedAt,
  };
}

/** Null in place of what is usual (USUAL_OUTCOME), of the entry before as `after_seq`, and of 1 as the run's position among those that were asked for. */
export interface OutcomeRow {
  position: number | null;
  seq: number;
  kind: RecordedOutcome['kind'] | null;
  scope: string | null;
  name: string;
  ordinal: number;
  status: RecordedOutcome['status'] | null;
  digest: string | null;
  output: string | null;
  error: string | null;
  attempts: number | null;
  after_seq: number | null;
  started_at: number;
  finished_at: number;
  child_id: string | null;
}

export function outcomeFromRow(row: OutcomeRow): RecordedOutcome {
  return {
    seq: row.seq,
    kind: row.kind ?? USUAL_OUTCOME.kind,
    scope: row.scope === null ? USUAL_OUTCOME.scope : fromSqlText(row.scope),
    name: fromSqlText(row.name),
    ordinal: row.ordinal,
    status: row.status ?? USUAL_OUTCOME.status,
    digest: row.digest,
    output: row.output,
    error: row.error,
    attempts: row.attempts ?? USUAL_OUTCOME.attempts,
    afterSeq: row.after_seq ?? row.seq - 1,
    startedAt: row.started_at,
    finishedAt: row.finished_at,
    childId: row.child_id,
  };
}

export interface ChildRow {
  parent_id: string;
  id: string;
  ref: string;
  scope: string;
  workflow: string;
  version: number;
  input_digest: string;
  status: RunStatus;
  awaited: boolean;
  closes_with_parent: boolean;
  cascades: boolean;
  carried_over: boolean;
}

export function childFromRow(row: ChildRow): RecordedChild {
  return {
    id: row.id,
    ref: fromSqlText(row.ref),
    scope: fromSqlText(row.scope),
    workflow: fromSqlText(row.workflow),
    version: row.version,
    inputDigest: row.input_digest,
    status: row.status,
    awaited: row.awaited,
    closesWithParent: row.closes_with_parent,
    cascades: row.cascades,
    carriedOver: row.carried_over,
  };
}

export interface ClaimRow {
  id: string;
  workflow: string;
  version: number;
  key: string | null;
  queue: string;
  priority: number;
  tenant: string | null;
  attributes: Attributes | null;
  input: string | null;
  context: string | null;
  trace: string | null;
  parent_id: string | null;
  awaited: boolean;
  root_id: string;
  depth: number;
  epoch: number;
  wakes: number;
  recoveries: number;
  generation: number;
  ancestors: string | null;
  fresh: boolean;
  ready_at: number | null;
  started_at: number;
  retried_at: number | null;
  deadline: number | null;
  cancel_requested_at: number | null;
  cancel_reason: string | null;
  at: number;
}

export function claimFromRow(row: ClaimRow): ClaimedRun {
  return {
    id: row.id,
    workflow: fromSqlText(row.workflow),
    version: row.version,
    key: row.key === null ? null : fromSqlText(row.key),
    queue: fromSqlText(row.queue),
    priority: row.priority,
    tenant: row.tenant === null ? null : fromSqlText(row.tenant),
    attributes: attributesFromRow(row.attributes),
    input: row.input,
    context: row.context,
    trace: row.trace,
    parentId: row.parent_id,
    parentAwaits: row.awaited,
    rootId: row.root_id,
    depth: row.depth,
    epoch: row.epoch,
    wakes: row.wakes,
    recoveries: row.recoveries,
    generation: row.generation,
    ancestors: row.ancestors === null ? null : (JSON.parse(row.ancestors) as Ancestor[]),
    startedAt: row.started_at,
    retriedAt: row.retried_at,
    deadline: row.deadline,
    cancel: cancelFromRow(row.cancel_requested_at, row.cancel_reason),
    fresh: row.fresh,
    readyAt: row.ready_at,
  };
}

export function cancelFromRow(at: number | null, reason: string | null): CancelMark | null {
  return at === null ? null : { at, reason: reason === null ? null : fromSqlText(reason) };
}

export interface WokenRow {
  id: string;
  status: RunStatus;
  epoch: number;
  wakes: number;
  queue: string;
  worker_id: string | null;
}

export function wokenFromRow(row: WokenRow): WokenRun {
  return {
    id: row.id,
    status: row.status,
    epoch: row.epoch,
    wakes: row.wakes,
    queue: fromSqlText(row.queue),
    workerId: row.worker_id,
  };
}

export interface EndRow {
  id: string;
  workflow: string;
  status: TerminalStatus;
  output: string | null;
  error: string | null;
  ended_at: number;
}

export function endFromRow({ id, workflow, status, output, error, ended_at }: EndRow): RunEnd {
  return { id, workflow: fromSqlText(workflow), status, output, error, endedAt: ended_at };
}

/** Of `order@1`. */
export function definitionFromText(definition: string): { workflow: string; version: number } {
  const at = definition.lastIndexOf('@');
  return { workflow: fromSqlText(definition.slice(0, at)), version: Number(definition.slice(at + 1)) };
}

export interface ScheduleRow {
  id: string;
  workflow: string;
  version: number;
  queue: string;
  timeout_ms: number | null;
  input: string | null;
  input_digest: string;
  cron: string | null;
  every_ms: number | null;
  time_zone: string;
  overlap: Overlap;
  missed: Missed;
  jitter_ms: number;
  declared: boolean;
  paused: boolean;
  last_tick: number | null;
  last_run_id: string | null;
  last_run_at: number | null;
  next_tick: number;
  due_at: number | null;
}

/** A new schedule; its first tick is still to be found. */
export function scheduleToRow(schedule: ScheduleRecord, serializer: PayloadSerializer): ScheduleRow {
  return {
    id: toSqlText(schedule.id),
    workflow: toSqlText(schedule.workflow),
    version: schedule.version,
    queue: toSqlText(schedule.queue),
    timeout_ms: schedule.timeoutMs,
    input: schedule.input,
    input_digest: serializer.sealDigest(schedule.inputDigest),
    cron: schedule.cron,
    every_ms: schedule.everyMs,
    time_zone: schedule.timeZone,
    overlap: schedule.overlap,
    missed: schedule.missed,
    jitter_ms: schedule.jitterMs,
    declared: schedule.declared,
    paused: false,
    last_tick: null,
    last_run_id: null,
    last_run_at: null,
    next_tick: 0,
    due_at: null,
  };
}
