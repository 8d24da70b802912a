import { Column, Entity, PrimaryColumn } from 'typeorm';

/** A process that executes runs, and its lease: its right to those that it has claimed. */
@Entity('worker')
export class WorkerEntity {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text')
  host!: string;

  @Column('int')
  pid!: number;

  @Column('timestamptz', { name: 'started_at' })
  startedAt!: Date;

  @Column('timestamptz', { name: 'heartbeat_at' })
  heartbeatAt!: Date;

  @Column('timestamptz', { name: 'expires_at' })
  expiresAt!: Date;

  @Column('text', { array: true })
  queues!: string[];

  /** `order@1` of everything it can run. */
  @Column('text', { array: true })
  definitions!: string[];
}
