import { Column, Entity, PrimaryColumn } from 'typeorm';

/** Something to buy, and how much of it is left. */
@Entity()
export class Product {
  @PrimaryColumn('text')
  sku!: string;

  @Column('text')
  name!: string;

  /** The price in euro cents. */
  @Column('int')
  cents!: number;

  /** What is on the shelf and not promised to anybody. */
  @Column('int')
  stock!: number;
}
