import { Entity, Index, PrimaryColumn } from 'typeorm';

/** A run that waits for the end of another that is not its child. */
@Entity('watch')
export class WatchEntity {
  @PrimaryColumn('uuid', { name: 'run_id' })
  runId!: string;

  @Index('watch_watcher')
  @PrimaryColumn('uuid', { name: 'watcher_id' })
  watcherId!: string;
}
