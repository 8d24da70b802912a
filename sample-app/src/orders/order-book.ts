import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Step } from 'nestjs-orchestration';
import { In, type Repository } from 'typeorm';

import { ShopSettings } from '../shop-settings.js';
import { Product } from '../stock/product.entity.js';
import { Order, type OrderStatus } from './order.entity.js';
import type { PlacedOrder } from './placed-order.js';
import { fromEuroCents, type Money } from './pricing.js';

/** What an order costs, and whether somebody must look at it. */
export interface Quote {
  total: Money;
  isLarge: boolean;
}

/** What the workflow of an order writes down about it. */
@Injectable()
export class OrderBook {
  constructor(
    @InjectRepository(Order) private readonly orders: Repository<Order>,
    @InjectRepository(Product) private readonly products: Repository<Product>,
    private readonly settings: ShopSettings,
  ) {}

  /** As of now: recorded, it stays what it is, whatever the products cost and the settings say later. */
  @Step()
  async price({ id, lines, currency }: PlacedOrder): Promise<Quote> {
    const products = await this.products.findBy({ sku: In(lines.map(({ sku }) => sku)) });
    const cents = new Map(products.map((product) => [product.sku, product.cents]));
    const sum = lines.reduce((total, { sku, quantity }) => total + quantity * (cents.get(sku) ?? 0), 0);
    const quote = { total: fromEuroCents(sum, currency), isLarge: sum > this.settings.largeOrderCents };
    await this.orders.update({ id }, quote);
    return quote;
  }

  @Step()
  async setStatus(id: string, status: OrderStatus): Promise<void> {
    await this.orders.update({ id }, { status });
  }
}
