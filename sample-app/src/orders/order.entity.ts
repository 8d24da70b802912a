import { Column, CreateDateColumn, Entity, Index, PrimaryColumn } from 'typeorm';

import type { PlacedOrder } from './placed-order.js';
import type { Money } from './pricing.js';

/** All but the first two are final. */
export type OrderStatus =
  | 'placed'
  | 'paid'
  | 'shipped'
  | 'out of stock'
  | 'refused'
  | 'not approved in time'
  | 'payment declined'
  | 'cancelled'
  | 'failed';

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

  /** Whether it needs a manager's approval; null until it is priced. */
  @Column('boolean', { nullable: true })
  isLarge!: boolean | null;

  /** The run that fulfils it. */
  @Index()
  @Column('uuid')
  runId!: string;

  @CreateDateColumn({ type: 'timestamptz' })
  placedAt!: Date;
}
