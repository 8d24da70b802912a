import { ConflictException, Injectable, NotFoundException } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type CancelCount, type HistoryEntry, Orchestrator, type RunTree } from 'nestjs-orchestration';
import { DataSource, type Repository } from 'typeorm';

import { Payment } from '../payments/payment.entity.js';
import { Shipment } from '../shipping/shipment.entity.js';
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
      await manager.createQueryBuilder().insert().into(Order).values({ id: placed.id, placed }).orIgnore().execute();
      await this.orchestrator.start(OrderWorkflow, placed, { key: placed.id, label: `Order ${placed.id}`, manager });
    });
    return this.orders.findOneByOrFail({ id: placed.id });
  }

  list(): Promise<Order[]> {
    return this.orders.find({ order: { placedAt: 'DESC' }, take: LATEST });
  }

  async get(id: string): Promise<OrderDetails> {
    const run = await this.runOf(id);
    const [order, payment, shipments, runs, history] = await Promise.all([
      this.orders.findOneByOrFail({ id }),
      this.payments.findOneBy({ orderId: id }),
      this.shipments.find({ where: { orderId: id }, order: { parcel: 'ASC' } }),
      this.orchestrator.tree(run.id),
      this.orchestrator.history(run.id),
    ]);
    return { order, payment, shipments, runs, history };
  }

  /** Cancels the run of an order and every run that it started; they put things back in order themselves. */
  async cancel(id: string, reason: string): Promise<CancelCount> {
    const run = await this.runOf(id);
    const count = await this.orchestrator.cancel(run.id, { reason });
    if (count.cancelled + count.requested > 0) return count;
    throw new ConflictException(`The order '${id}' has ended already: ${(await this.get(id)).order.status}`);
  }

  private async runOf(id: string): Promise<{ id: string }> {
    const run = await this.orchestrator.findByKey(OrderWorkflow, id);
    if (!run) throw new NotFoundException(`There is no order '${id}'`);
    return run;
  }
}
