import { Column, Entity, PrimaryColumn } from 'typeorm';

/** How many runs of a queue with a rate limit have begun when. What is past the stretch of the limit is deleted. */
@Entity('queue_claim')
export class QueueClaimEntity {
  @PrimaryColumn('text')
  queue!: string;

  @PrimaryColumn('timestamptz', { name: 'claimed_at' })
  claimedAt!: Date;

  @Column('int')
  runs!: number;
}
