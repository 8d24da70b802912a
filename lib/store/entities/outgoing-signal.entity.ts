import { Column, Entity, PrimaryColumn } from 'typeorm';

/** What a caller's transaction that is still open sends. At its commit a trigger makes signals of its rows. */
@Entity('outgoing_signal')
export class OutgoingSignalEntity {
  /** The number of that transaction. */
  @PrimaryColumn('bigint')
  sender!: string;

  /** In the order of the calls. */
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid', { name: 'run_id' })
  runId!: string;

  @Column('text', { name: 'signal_id' })
  signalId!: string;

  @Column('text')
  name!: string;

  @Column('text', { nullable: true })
  payload!: string | null;

  /** It goes to the tree: what the list of a run that waits for it contains. */
  @Column('text', { name: 'tree_wait', nullable: true })
  treeWait!: string | null;
}
