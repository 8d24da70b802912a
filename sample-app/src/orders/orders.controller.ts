import { Body, Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import type { CancelCount } from 'nestjs-orchestration';

import type { Order } from './order.entity.js';
import { type OrderDetails, OrdersService } from './orders.service.js';
import { type PlacedOrder, placedOrderSchema } from './placed-order.js';

@Controller('orders')
export class OrdersController {
  constructor(private readonly orders: OrdersService) {}

  @Post()
  place(@Body({ schema: placedOrderSchema }) placed: PlacedOrder): Promise<Order> {
    return this.orders.place(placed);
  }

  @Get()
  list(): Promise<Order[]> {
    return this.orders.list();
  }

  @Get(':id')
  get(@Param('id') id: string): Promise<OrderDetails> {
    return this.orders.get(id);
  }

  @Post(':id/cancel')
  @HttpCode(202)
  cancel(@Param('id') id: string): Promise<CancelCount> {
    return this.orders.cancel(id, 'the customer asked for it');
  }
}
