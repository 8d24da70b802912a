import { Column, Entity, Index, PrimaryGeneratedColumn } from 'typeorm';

/** How much of a product. */
export interface Quantity {
  sku: string;
  quantity: number;
}

/** What was taken off the shelves for an order. */
@Entity()
export class Reservation {
  @PrimaryGeneratedColumn('uuid')
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
