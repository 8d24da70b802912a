import { Column, Entity, Index, PrimaryGeneratedColumn } from 'typeorm';

/** A parcel on its way. */
@Entity()
export class Shipment {
  /** The tracking number. */
  @PrimaryGeneratedColumn('uuid')
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
