import { Column, Entity, PrimaryColumn } from 'typeorm';

/** How long the finished runs of a workflow are kept, where its definition says so. */
@Entity('retention')
export class RetentionEntity {
  @PrimaryColumn('text')
  workflow!: string;

  @Column('double precision', { name: 'kept_ms' })
  keptMs!: number;
}
