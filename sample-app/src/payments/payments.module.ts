import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';

import { Payment } from './payment.entity.js';
import { PaymentWorkflow } from './payment.workflow.js';
import { PaymentsService } from './payments.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([Payment])],
  providers: [PaymentsService, PaymentWorkflow],
  exports: [TypeOrmModule, PaymentsService],
})
export class PaymentsModule {}
