import { ConflictException, Injectable, NotFoundException } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type CancelCount, type HistoryEntry, Orchestrator, type RunTree } from 'nestjs-orchestration';
import { DataSource, type Repository } from 'typeorm';

import { EmailWorkflow } from '../mail/email.workflow.js';
import { Payment } from '../payments/payment.entity.js';
import { Shipment } from '../shipping/shipment.entity.js';
import { farewellTo } from './letters.js';
import { Order } from './order.entity.js';
import { OrderWorkflow } from './order.workflow.js';
import type { PlacedOrder } from './placed-order.js';

/** An order with all that belongs to it. */
export interface OrderDetails {
  order: Order;
  payment: Payment | null;
  shipments: Shipment[];
  /** The run of the order, and the runs that it started. */
  runs: RunTree;
  /** What the run of the order has done so far. */
  history: HistoryEntry[];
}

const LATEST = 50;

@Injectable()
export class OrdersService {
  constructor(
    private readonly dataSource: DataSource,
    private readonly orchestrator: Orchestrator,
    @InjectRepository(Order) private readonly orders: Repository<Order>,
    @InjectRepository(Payment) private readonly payments: Repository<Payment>,
    @InjectRepository(Shipment) private readonly shipments: Repository<Shipment>,
  ) {}

  /**
   * Writes the order down and starts its run in one transaction: there is never one without the other.
   * @throws RunConflictError (409) when another order has this id
   */
  async place(placed: PlacedOrder): Promise<Order> {
    await this.dataSource.transaction(async (manager) => {
      const { id } = placed;
      const run = await this.orchestrator.start(OrderWorkflow, placed, { key: id, label: `Order ${id}`, manager });
      const order = { id, placed, runId: run.id };
      await manager.createQueryBuilder().insert().into(Order).values(order).orIgnore().execute();
    });
    return this.orders.findOneByOrFail({ id: placed.id });
  }

  list(): Promise<Order[]> {
    return this.orders.find({ order: { placedAt: 'DESC' }, take: LATEST });
  }

  async get(id: string): Promise<OrderDetails> {
    const order = await this.find(id);
    const [payment, shipments, runs, history] = await Promise.all([
      this.payments.findOneBy({ orderId: id }),
      this.shipments.find({ where: { orderId: id }, order: { parcel: 'ASC' } }),
      this.orchestrator.tree(order.runId),
      this.orchestrator.history(order.runId),
    ]);
    return { order, payment, shipments, runs, history };
  }

  /** Cancels the run of an order and every run that it started; they undo what they have done themselves. */
  async cancel(id: string, reason: string): Promise<CancelCount> {
    const order = await this.find(id);
    const count = await this.orchestrator.cancel(order.runId, { reason });
    const { startedAt } = await this.orchestrator.get(order.runId);
    if (!startedAt) await this.closeUnbegun(order);
    if (count.cancelled + count.requested > 0) return count;
    throw new ConflictException(`The order '${id}' has ended already: ${(await this.find(id)).status}`);
  }

  /** A run that ends before its code has begun can tell nobody. */
  private async closeUnbegun({ id, placed }: Order): Promise<void> {
    await this.dataSource.transaction(async (manager) => {
      await manager.update(Order, { id }, { status: 'cancelled' });
      const key = `farewell to ${id}`;
      await this.orchestrator.start(EmailWorkflow, farewellTo(placed, 'cancelled'), { key, manager });
    });
  }

  /** @throws NotFoundException */
  async find(id: string): Promise<Order> {
    const order = await this.orders.findOneBy({ id });
    if (!order) throw new NotFoundException(`There is no order '${id}'`);
    return order;
  }
}
