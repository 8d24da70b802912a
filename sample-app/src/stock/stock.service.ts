import { Injectable } from '@nestjs/common';
import { NonRetryableError, RunContext, Step } from 'nestjs-orchestration';
import { type EntityManager, In } from 'typeorm';

import { Product } from './product.entity.js';
import { type Quantity, Reservation } from './reservation.entity.js';

/** There is not enough on the shelves. */
export class OutOfStockError extends NonRetryableError {}

/** Takes goods off the shelves and puts them back. Each step commits with its outcome, so it happens exactly once. */
@Injectable()
export class StockService {
  constructor(private readonly ctx: RunContext) {}

  /**
   * Reserves everything or nothing, until `release`.
   * @throws OutOfStockError
   */
  @Step({ transactional: true, compensate: 'release' })
  async reserve(orderId: string, items: Quantity[]): Promise<string> {
    const { manager } = this.ctx;
    const shelves = await lockShelves(manager, items);
    const short = items.filter(({ sku, quantity }) => (shelves.get(sku) ?? 0) < quantity);
    if (short.length > 0) throw new OutOfStockError(`Order ${orderId} wants more ${namesOf(short)} than there is`);
    for (const { sku, quantity } of items) await manager.decrement(Product, { sku }, 'stock', quantity);
    const { id } = await manager.save(Reservation, { orderId, items });
    return id;
  }

  /** Puts back what was reserved. */
  @Step({ transactional: true })
  async release(reservationId: string): Promise<void> {
    const { manager } = this.ctx;
    const { items } = await manager.findOneByOrFail(Reservation, { id: reservationId });
    await lockShelves(manager, items);
    for (const { sku, quantity } of items) await manager.increment(Product, { sku }, 'stock', quantity);
    await manager.update(Reservation, { id: reservationId }, { released: true });
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

function namesOf(items: Quantity[]): string {
  return items.map(({ sku }) => sku).join(', ');
}
