import { Column, Entity, Index, PrimaryColumn } from 'typeorm';
import type { InputType } from '../../engine/input-options.js';

/** What a run waits for a person to answer, from the write that begins the wait until the write that ends it. */
@Entity('input')
@Index('input_asked', ['askedAt', 'runId'])
@Index('input_workflow', ['workflow', 'askedAt', 'runId'])
export class InputEntity {
  @PrimaryColumn('uuid', { name: 'run_id' })
  runId!: string;

  /** The step attempt whose body asks; '' for the workflow's own code. */
  @PrimaryColumn('text')
  scope!: string;

  @PrimaryColumn('text')
  name!: string;

  @PrimaryColumn('int')
  ordinal!: number;

  @Column('text')
  workflow!: string;

  @Column('text')
  type!: InputType;

  @Column('text', { nullable: true })
  prompt!: string | null;

  /** Of a choice: a JSON array of texts. */
  @Column('text', { nullable: true })
  choices!: string | null;

  /** Its schema is in the run's code. */
  @Column('boolean', { name: 'judged_by_run' })
  judgedByRun!: boolean;

  /** Asked in a shield: open although the run is being cancelled. */
  @Column('boolean')
  shielded!: boolean;

  @Column('text')
  state!: 'pending' | 'offered' | 'refused' | 'answered';

  @Column('timestamptz', { name: 'asked_at' })
  askedAt!: Date;

  @Column('timestamptz', { name: 'expires_at', nullable: true })
  expiresAt!: Date | null;

  @Column('uuid', { name: 'offer_id', nullable: true })
  offerId!: string | null;

  /** Until when an offer stands. */
  @Column('timestamptz', { name: 'offered_until', nullable: true })
  offeredUntil!: Date | null;

  @Column('text', { nullable: true, select: false })
  answer!: string | null;

  @Column('timestamptz', { name: 'answered_at', nullable: true })
  answeredAt!: Date | null;

  /** Why the run has refused the offer. */
  @Column('text', { nullable: true, select: false })
  issues!: string | null;
}
