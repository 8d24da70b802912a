import { Column, Entity, Index, PrimaryColumn } from 'typeorm';
import type { Attributes, CompensationStatus, RunStatus } from '../../engine/run.js';

/** One execution of a workflow. Times are the database's; payloads are text (see PayloadSerializer). */
@Entity('run')
@Index('run_key', ['workflow', 'key'], { unique: true, where: 'key IS NOT NULL AND NOT superseded' })
@Index('run_ref', ['parentId', 'ref'], { unique: true, where: 'parent_id IS NOT NULL AND NOT superseded' })
@Index('run_parent', ['parentId', 'id'], { where: 'parent_id IS NOT NULL' })
@Index('run_ready', { synchronize: false })
@Index('run_slot', ['queue', 'tenant'], { where: "gated AND status = 'running'" })
@Index('run_woken', { synchronize: false })
@Index('run_turn', { synchronize: false })
@Index('run_tenant', ['tenant', 'id'], { where: 'tenant IS NOT NULL' })
@Index('run_attributes', { synchronize: false })
@Index('run_timer', ['wakeAt'], { where: 'wake_at IS NOT NULL' })
@Index('run_worker', ['workerId'], { where: 'worker_id IS NOT NULL' })
@Index('run_finished', ['workflow', 'status', 'finishedAt', 'id'], {
  where: 'parent_id IS NULL AND finished_at IS NOT NULL',
})
@Index('run_status', ['status', 'id'], {
  where: "status IN ('pending', 'waiting', 'blocked', 'failed', 'cancelled')",
})
export class RunEntity {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text')
  workflow!: string;

  @Column('int')
  version!: number;

  @Column('text', { nullable: true })
  key!: string | null;

  @Column('text')
  status!: RunStatus;

  @Column('boolean', { default: false })
  paused!: boolean;

  @Column('text')
  queue!: string;

  @Column('int', { default: 0 })
  priority!: number;

  @Column('text', { nullable: true })
  tenant!: string | null;

  @Column('text', { nullable: true })
  label!: string | null;

  @Column('jsonb', { nullable: true })
  attributes!: Attributes | null;

  @Column('text', { nullable: true, select: false })
  input!: string | null;

  @Column('text', { name: 'input_digest' })
  inputDigest!: string;

  @Column('text', { nullable: true, select: false })
  output!: string | null;

  @Column('text', { nullable: true, select: false })
  error!: string | null;

  /** What surrounded its start (CallerContext). */
  @Column('text', { nullable: true, select: false })
  context!: string | null;

  /** The trace that it belongs to: a traceparent, and perhaps a tracestate behind it. */
  @Column('text', { nullable: true, select: false })
  trace!: string | null;

  /** What the run last gave to `ctx.setState`. */
  @Column('text', { nullable: true })
  state!: string | null;

  @Column('uuid', { name: 'parent_id', nullable: true })
  parentId!: string | null;

  @Column('uuid', { name: 'root_id' })
  rootId!: string;

  @Column('int')
  depth!: number;

  /** The name its parent gave it. */
  @Column('text', { nullable: true })
  ref!: string | null;

  /** The step attempt of the parent that started it; '' for the workflow's own code. */
  @Column('text', { default: '' })
  scope!: string;

  /** A newer child or run has its ref or key, or may have: its parent has continued as new. */
  @Column('boolean', { default: false })
  superseded!: boolean;

  /** Its end wakes its parent. */
  @Column('boolean', { default: false })
  awaited!: boolean;

  /** Its parent's cancellation reaches it. */
  @Column('boolean', { default: true })
  cascades!: boolean;

  @Column('boolean', { name: 'closes_with_parent', default: false })
  closesWithParent!: boolean;

  /** Somebody outside its family waits for its end. */
  @Column('boolean', { default: false })
  watched!: boolean;

  /** Its queue has, or had, limits: it is counted there. */
  @Column('boolean', { default: false })
  gated!: boolean;

  /** The fencing number of the right to write this run: each claim raises it. */
  @Column('int', { default: 0 })
  epoch!: number;

  /** The last write under this epoch that changed this row. */
  @Column('int', { name: 'write_no', default: 0 })
  writeNo!: number;

  /** How often something happened to the run from outside; a park that has not seen all of it is refused. */
  @Column('int', { default: 0 })
  wakes!: number;

  @Column('uuid', { name: 'worker_id', nullable: true })
  workerId!: string | null;

  /** Recoveries since it last recorded something, and how much it had recorded at the last. */
  @Column('int', { default: 0 })
  recoveries!: number;

  @Column('int', { name: 'recovered_seq', default: 0 })
  recoveredSeq!: number;

  /** How often it has continued as new, and when it last did. */
  @Column('int', { default: 0 })
  generation!: number;

  @Column('timestamptz', { name: 'history_begins_at', nullable: true })
  historyBeginsAt!: Date | null;

  /** When it was last made to go on after its end: what it waits for since before has its whole time from then. */
  @Column('timestamptz', { name: 'retried_at', nullable: true })
  retriedAt!: Date | null;

  /** The run that it is a fork of, and JSON of Ancestor[]. */
  @Column('uuid', { name: 'forked_from', nullable: true })
  forkedFrom!: string | null;

  @Column('text', { nullable: true })
  ancestors!: string | null;

  /** Started by an earlier generation of its parent. */
  @Column('boolean', { name: 'carried_over', default: false })
  carriedOver!: boolean;

  /** Set while it is claimable: since when. */
  @Column('timestamptz', { name: 'ready_at', nullable: true })
  readyAt!: Date | null;

  /** When it becomes claimable by itself. */
  @Column('timestamptz', { name: 'wake_at', nullable: true })
  wakeAt!: Date | null;

  @Column('timestamptz', { nullable: true })
  deadline!: Date | null;

  /** JSON of WaitingFor[] while it is parked. */
  @Column('text', { name: 'waiting_for', nullable: true })
  waitingFor!: string | null;

  @Column('text', { default: 'none' })
  compensation!: CompensationStatus;

  @Column('timestamptz', { name: 'cancel_requested_at', nullable: true })
  cancelRequestedAt!: Date | null;

  @Column('text', { name: 'cancel_reason', nullable: true })
  cancelReason!: string | null;

  @Column('timestamptz', { name: 'created_at' })
  createdAt!: Date;

  @Column('timestamptz', { name: 'started_at', nullable: true })
  startedAt!: Date | null;

  @Column('timestamptz', { name: 'finished_at', nullable: true })
  finishedAt!: Date | null;
}
