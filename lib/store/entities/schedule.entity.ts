import { Column, Entity, Index, PrimaryColumn } from 'typeorm';
import type { Missed, Overlap } from '../../engine/schedule.js';

/** What starts runs at times, and where it stands in its ticks. */
@Entity('schedule')
@Index('schedule_due', ['dueAt'], { where: 'due_at IS NOT NULL' })
export class ScheduleEntity {
  @PrimaryColumn('text')
  id!: string;

  @Column('text')
  workflow!: string;

  /** Started while no live worker registers the workflow. */
  @Column('int')
  version!: number;

  @Column('text')
  queue!: string;

  @Column('double precision', { name: 'timeout_ms', nullable: true })
  timeoutMs!: number | null;

  @Column('text', { nullable: true, select: false })
  input!: string | null;

  @Column('text', { name: 'input_digest' })
  inputDigest!: string;

  @Column('text', { nullable: true })
  cron!: string | null;

  @Column('double precision', { name: 'every_ms', nullable: true })
  everyMs!: number | null;

  @Column('text', { name: 'time_zone' })
  timeZone!: string;

  @Column('text')
  overlap!: Overlap;

  @Column('text')
  missed!: Missed;

  @Column('double precision', { name: 'jitter_ms' })
  jitterMs!: number;

  /** By `@Workflow`. */
  @Column('boolean')
  declared!: boolean;

  @Column('boolean')
  paused!: boolean;

  /** The last tick that was dealt with. */
  @Column('timestamptz', { name: 'last_tick', nullable: true })
  lastTick!: Date | null;

  @Column('uuid', { name: 'last_run_id', nullable: true })
  lastRunId!: string | null;

  @Column('timestamptz', { name: 'last_run_at', nullable: true })
  lastRunAt!: Date | null;

  @Column('timestamptz', { name: 'next_tick' })
  nextTick!: Date;

  /** When the next tick starts its run; null while it is paused. */
  @Column('timestamptz', { name: 'due_at', nullable: true })
  dueAt!: Date | null;

  @Column('timestamptz', { name: 'created_at' })
  createdAt!: Date;
}
