import { Column, CreateDateColumn, Entity, PrimaryGeneratedColumn } from 'typeorm';

/** A call that one of the external services received, and how it answered. */
@Entity()
export class ReceivedCall {
  @PrimaryGeneratedColumn()
  id!: number;

  @Column('text')
  path!: string;

  @Column('text')
  idempotencyKey!: string;

  @Column('text')
  answer!: 'answered' | 'failed before the work' | 'failed after the work';

  @CreateDateColumn({ type: 'timestamptz' })
  at!: Date;
}
