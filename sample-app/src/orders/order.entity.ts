import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

import type { PlacedOrder } from './placed-order.js';
import type { Money } from './pricing.js';

/** The last five are final. */
export type OrderStatus = 'placed' | 'paid' | 'shipped' | 'out of stock' | 'payment declined' | 'cancelled' | 'failed';

@Entity()
export class Order {
  @PrimaryColumn('text')
  id!: string;

  @Column('text', { default: 'placed' })
  status!: OrderStatus;

  /** As the customer sent it. */
  @Column('jsonb')
  placed!: PlacedOrder;

  /** Null until it is priced. */
  @Column('jsonb', { nullable: true })
  total!: Money | null;

  @CreateDateColumn({ type: 'timestamptz' })
  placedAt!: Date;
}
