import { Column, Entity, Index, PrimaryColumn } from 'typeorm';
import type { OutcomeKind, OutcomeStatus } from '../../engine/recorded-run.js';

/** One recorded outcome of a run, or a note on the way to one. Written once and never changed, but for the note of a step's progress. */
@Entity('history')
@Index('history_receipt', ['runId', 'digest'], { where: "kind = 'signal'" })
export class HistoryEntity {
  @PrimaryColumn('uuid', { name: 'run_id' })
  runId!: string;

  @PrimaryColumn('int')
  seq!: number;

  @Column('text')
  kind!: OutcomeKind;

  /** The step attempt whose body made the call; '' for the workflow's own code. */
  @Column('text')
  scope!: string;

  @Column('text')
  name!: string;

  @Column('int')
  ordinal!: number;

  @Column('text')
  status!: OutcomeStatus;

  /** Of what the call was made with; of a wait for a signal, the id of the one that it received. */
  @Column('text', { nullable: true })
  digest!: string | null;

  @Column('text', { nullable: true })
  output!: string | null;

  @Column('text', { nullable: true })
  error!: string | null;

  @Column('int')
  attempts!: number;

  /** The entry upon whose delivery the code made the call. */
  @Column('int', { name: 'after_seq' })
  afterSeq!: number;

  @Column('timestamptz', { name: 'started_at' })
  startedAt!: Date;

  @Column('timestamptz', { name: 'finished_at' })
  finishedAt!: Date;

  @Column('uuid', { name: 'child_id', nullable: true })
  childId!: string | null;

  /** What the body of a step has logged in this attempt. */
  @Column('text', { nullable: true })
  logs!: string | null;

  /** The output is that of the completed run, whose row has it: what is long is stored once. */
  @Column('boolean', { name: 'output_in_run', nullable: true })
  outputInRun!: boolean | null;
}
