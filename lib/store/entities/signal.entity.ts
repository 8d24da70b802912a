import { Column, Entity, Index, PrimaryColumn } from 'typeorm';

/** A signal that a run has got. That it was received is in the run's history. */
@Entity('signal')
@Index('signal_order', ['runId', 'name', 'seq'], { unique: true, where: 'NOT consumed' })
export class SignalEntity {
  @PrimaryColumn('uuid', { name: 'run_id' })
  runId!: string;

  /** The sender's: what has the same id is the same signal of that run. */
  @PrimaryColumn('text')
  id!: string;

  /** The run's count of wakes with this signal. */
  @Column('int')
  seq!: number;

  @Column('text')
  name!: string;

  @Column('text', { nullable: true })
  payload!: string | null;

  /** Only a wait that had begun when it was sent takes it. */
  @Column('boolean', { name: 'for_waits', default: false })
  forWaits!: boolean;

  /** It was received, and the history that says so is no longer there. Its payload is gone; its id still counts. */
  @Column('boolean', { default: false })
  consumed!: boolean;

  @Column('timestamptz', { name: 'sent_at' })
  sentAt!: Date;
}
