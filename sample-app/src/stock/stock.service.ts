import { Injectable } from '@nestjs/common';
import { RunContext, Step } from 'nestjs-orchestration';
import { DataSource, type EntityManager, In } from 'typeorm';

import { Product } from './product.entity.js';
import { type Quantity, Reservation } from './reservation.entity.js';

/** Takes goods off the shelves and puts them back, each once, however often the steps are repeated. */
@Injectable()
export class StockService {
  constructor(
    private readonly dataSource: DataSource,
    private readonly ctx: RunContext,
  ) {}

  /** Reserves everything or nothing; false when something is short. */
  @Step()
  async reserve(orderId: string, items: Quantity[]): Promise<boolean> {
    const { idempotencyKey } = this.ctx.currentStep;
    return this.dataSource.transaction(async (manager) => {
      const shelves = await lockShelves(manager, items);
      // An attempt that died after its commit: the goods are reserved already.
      if (await manager.existsBy(Reservation, { id: idempotencyKey })) return true;
      if (items.some(({ sku, quantity }) => (shelves.get(sku) ?? 0) < quantity)) return false;
      for (const { sku, quantity } of items) await manager.decrement(Product, { sku }, 'stock', quantity);
      await manager.insert(Reservation, { id: idempotencyKey, orderId, items });
      return true;
    });
  }

  /** Puts back what an order had reserved, if anything. */
  @Step()
  async release(orderId: string): Promise<void> {
    await this.dataSource.transaction(async (manager) => {
      const reservation = await manager.findOne(Reservation, {
        where: { orderId, released: false },
        lock: { mode: 'pessimistic_write' },
      });
      if (!reservation) return;
      await lockShelves(manager, reservation.items);
      for (const { sku, quantity } of reservation.items) await manager.increment(Product, { sku }, 'stock', quantity);
      await manager.update(Reservation, { id: reservation.id }, { released: true });
    });
  }
}

/** What is on these shelves. Always locked in the same order, so that two orders never wait for each other. */
async function lockShelves(manager: EntityManager, items: Quantity[]): Promise<Map<string, number>> {
  const products = await manager.find(Product, {
    where: { sku: In(items.map(({ sku }) => sku)) },
    order: { sku: 'ASC' },
    lock: { mode: 'pessimistic_write' },
  });
  return new Map(products.map(({ sku, stock }) => [sku, stock]));
}
