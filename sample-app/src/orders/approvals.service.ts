import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Orchestrator } from 'nestjs-orchestration';
import { In, type Repository } from 'typeorm';

import { Order } from './order.entity.js';
import { OrdersService } from './orders.service.js';

/** A large order that waits for a manager. */
export interface PendingApproval {
  orderId: string;
  prompt: string | undefined;
  /** Until when the answer counts. */
  expiresAt: Date | undefined;
}

/** The managers' side of large orders. It needs no worker: what a run waits for is in the database. */
@Injectable()
export class ApprovalsService {
  constructor(
    private readonly orchestrator: Orchestrator,
    private readonly orders: OrdersService,
    @InjectRepository(Order) private readonly orderRows: Repository<Order>,
  ) {}

  /** Those that have waited longest. */
  async list(): Promise<PendingApproval[]> {
    const { items } = await this.orchestrator.inputs.list({ workflow: 'order' });
    const orders = await this.orderRows.findBy({ runId: In(items.map(({ runId }) => runId)) });
    const idOf = new Map(orders.map(({ runId, id }) => [runId, id]));
    return items.map(({ runId, prompt, expiresAt }) => ({ orderId: idOf.get(runId)!, prompt, expiresAt }));
  }

  /**
   * @throws ValidationError (400) when the answer is neither true nor false
   * @throws InputNotPendingError (409) when the order waits for no answer, or not any more
   */
  async answer(orderId: string, isApproved: unknown): Promise<void> {
    const { runId } = await this.orders.find(orderId);
    await this.orchestrator.inputs.provide(runId, 'approval', isApproved);
  }
}
