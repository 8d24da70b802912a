import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';

import { PaymentsModule } from '../payments/payments.module.js';
import { ShippingModule } from '../shipping/shipping.module.js';
import { StockModule } from '../stock/stock.module.js';
import { ApprovalsController } from './approvals.controller.js';
import { ApprovalsService } from './approvals.service.js';
import { OrderBook } from './order-book.js';
import { Order } from './order.entity.js';
import { OrderWorkflow } from './order.workflow.js';
import { OrdersController } from './orders.controller.js';
import { OrdersService } from './orders.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([Order]), PaymentsModule, ShippingModule, StockModule],
  controllers: [OrdersController, ApprovalsController],
  providers: [OrdersService, ApprovalsService, OrderBook, OrderWorkflow],
})
export class OrdersModule {}
