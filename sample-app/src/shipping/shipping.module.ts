import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';

import { Carrier } from './carrier.js';
import { ParcelWorkflow } from './parcel.workflow.js';
import { Shipment } from './shipment.entity.js';
import { ShippingWorkflow } from './shipping.workflow.js';

@Module({
  imports: [TypeOrmModule.forFeature([Shipment])],
  providers: [Carrier, ParcelWorkflow, ShippingWorkflow],
  exports: [TypeOrmModule],
})
export class ShippingModule {}
