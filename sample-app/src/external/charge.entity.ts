import { Column, Entity, Index, PrimaryColumn } from 'typeorm';

/** What the payment provider did with a card. */
@Entity()
export class Charge {
  @PrimaryColumn('text')
  idempotencyKey!: string;

  @Index()
  @Column('text')
  orderId!: string;

  /** In the smallest unit of the currency. */
  @Column('int')
  amount!: number;

  @Column('text')
  currency!: string;

  @Column('text')
  status!: 'captured' | 'refunded' | 'declined';

  /** Why it was declined. */
  @Column('text', { nullable: true })
  reason!: string | null;
}
