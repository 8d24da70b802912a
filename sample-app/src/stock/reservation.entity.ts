import { Column, Entity, Index, PrimaryColumn } from 'typeorm';

/** How much of a product. */
export interface Quantity {
  sku: string;
  quantity: number;
}

/** What was taken off the shelves for an order. */
@Entity()
export class Reservation {
  /** The idempotency key of the step that reserved: whoever repeats the step finds the row. */
  @PrimaryColumn('text')
  id!: string;

  @Index()
  @Column('text')
  orderId!: string;

  @Column('jsonb')
  items!: Quantity[];

  /** Put back on the shelves. */
  @Column('boolean', { default: false })
  released!: boolean;
}
