import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { StoredLimits } from '../../engine/queue-limits.js';

/** A queue that has, or had, limits, or was paused. Others have no row. */
@Entity('queue')
export class QueueEntity {
  @PrimaryColumn('text')
  name!: string;

  @Column('boolean', { default: false })
  paused!: boolean;

  /** What the last boot said. */
  @Column('jsonb', { default: {} })
  configured!: StoredLimits;

  /** What `queues.configure` said, until a reset. */
  @Column('jsonb', { nullable: true })
  override!: StoredLimits | null;

  /** Where the next claim that goes round the tenants begins. */
  @Column('text', { name: 'after_tenant', default: '' })
  afterTenant!: string;
}
