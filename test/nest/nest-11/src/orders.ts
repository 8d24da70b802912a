import { type CanActivate, type ExecutionContext, Injectable, UseGuards } from '@nestjs/common';
import { ChildOrchestrator, RunContext, Step, Workflow } from 'nestjs-orchestration';
import { Column, Entity, PrimaryColumn } from 'typeorm';

export interface Order {
  id: string;
  amount: number;
}

@Entity()
export class Payment {
  @PrimaryColumn()
  orderId!: string;

  @Column()
  amount!: number;
}

@Injectable()
export class LimitGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const [order] = context.getArgs<[Order]>();
    return order.amount <= 1_000;
  }
}

@Injectable()
export class Payments {
  constructor(private readonly ctx: RunContext) {}

  @UseGuards(LimitGuard)
  @Step({ transactional: true })
  async pay({ id, amount }: Order): Promise<string> {
    await this.ctx.manager.save(Payment, { orderId: id, amount });
    return `paid ${amount}`;
  }
}

@Workflow('payment')
export class PaymentWorkflow {
  constructor(private readonly payments: Payments) {}

  async run(order: Order): Promise<string> {
    return this.payments.pay(order);
  }
}

@Workflow('order')
export class OrderWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  async run(order: Order): Promise<string> {
    return `${order.id}: ${await this.children.call(PaymentWorkflow, order, { ref: 'payment' })}`;
  }
}
