import { Column, CreateDateColumn, Entity, Index, PrimaryColumn } from 'typeorm';

/** An e-mail that left the mailer. */
@Entity()
export class SentEmail {
  @PrimaryColumn('text')
  idempotencyKey!: string;

  @Index()
  @Column('text')
  orderId!: string;

  @Column('text')
  to!: string;

  @Column('text')
  subject!: string;

  @Column('text')
  text!: string;

  @CreateDateColumn({ type: 'timestamptz' })
  sentAt!: Date;
}
