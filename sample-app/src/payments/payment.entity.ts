import { Column, Entity, PrimaryColumn } from 'typeorm';

/** How an order was paid for, as the shop knows it. */
@Entity()
export class Payment {
  @PrimaryColumn('text')
  orderId!: string;

  /** In the smallest unit of the currency. */
  @Column('int')
  amount!: number;

  @Column('text')
  currency!: string;

  @Column('text')
  status!: 'captured' | 'declined' | 'refunded';
}
