import { Column, Entity, Index, PrimaryColumn } from 'typeorm';

/** A parcel on its way. */
@Entity()
export class Shipment {
  /** The idempotency key of the step that handed it over. */
  @PrimaryColumn('text')
  id!: string;

  @Index()
  @Column('text')
  orderId!: string;

  /** The number of the parcel within its order, from 1. */
  @Column('int')
  parcel!: number;

  @Column('text')
  city!: string;

  @Column('int')
  items!: number;

  @Column('text')
  status!: 'in transit' | 'delivered' | 'called back';
}
