import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Step } from 'nestjs-orchestration';
import { In, type Repository } from 'typeorm';

import { Product } from '../stock/product.entity.js';
import { Order, type OrderStatus } from './order.entity.js';
import type { PlacedOrder } from './placed-order.js';
import { fromEuroCents, type Money } from './pricing.js';

/** What the workflow of an order writes down about it. */
@Injectable()
export class OrderBook {
  constructor(
    @InjectRepository(Order) private readonly orders: Repository<Order>,
    @InjectRepository(Product) private readonly products: Repository<Product>,
  ) {}

  /** The price as of now: recorded, it stays what it is, whatever the products cost later. */
  @Step()
  async price({ id, lines, currency }: PlacedOrder): Promise<Money> {
    const products = await this.products.findBy({ sku: In(lines.map(({ sku }) => sku)) });
    const cents = new Map(products.map((product) => [product.sku, product.cents]));
    const sum = lines.reduce((total, { sku, quantity }) => total + quantity * (cents.get(sku) ?? 0), 0);
    const total = fromEuroCents(sum, currency);
    await this.orders.update({ id }, { total });
    return total;
  }

  @Step()
  async setStatus(id: string, status: OrderStatus): Promise<void> {
    await this.orders.update({ id }, { status });
  }
}
