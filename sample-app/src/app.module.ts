import { Module } from '@nestjs/common';
import { APP_PIPE } from '@nestjs/core';
import { StandardSchemaValidationPipe } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { OrchestrationModule } from 'nestjs-orchestration';

import { ExternalServicesModule } from './external/external-services.module.js';
import { HomeController } from './home.controller.js';
import { MailModule } from './mail/mail.module.js';
import { OrdersModule } from './orders/orders.module.js';
import { PaymentsModule } from './payments/payments.module.js';
import { ShippingModule } from './shipping/shipping.module.js';
import { shopDatabase } from './shop-database.js';
import { ShopSettings, ShopSettingsModule } from './shop-settings.js';
import { StockModule } from './stock/stock.module.js';

@Module({
  imports: [
    ShopSettingsModule,
    TypeOrmModule.forRootAsync({ inject: [ShopSettings], useFactory: shopDatabase }),
    // It keeps its runs in the database of the TypeORM connection above, in a schema of its own.
    OrchestrationModule.forRootAsync({
      inject: [ShopSettings],
      useFactory: ({ runsSchema, isWorker, lease }: ShopSettings) => ({
        schema: runsSchema,
        worker: isWorker ? { lease } : false,
      }),
    }),
    OrdersModule,
    StockModule,
    PaymentsModule,
    ShippingModule,
    MailModule,
    ExternalServicesModule,
  ],
  controllers: [HomeController],
  providers: [{ provide: APP_PIPE, useClass: StandardSchemaValidationPipe }],
})
export class AppModule {}
