import { Global, Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';

import { Charge } from './charge.entity.js';
import { ExternalServices } from './external-services.js';
import { MailerController } from './mailer.controller.js';
import { PaymentProviderController } from './payment-provider.controller.js';
import { ReceivedCall } from './received-call.entity.js';
import { SentEmail } from './sent-email.entity.js';

/** Other companies' services: how the shop calls them, and controllers that play them. */
@Global()
@Module({
  imports: [TypeOrmModule.forFeature([Charge, SentEmail, ReceivedCall])],
  controllers: [PaymentProviderController, MailerController],
  providers: [ExternalServices],
  exports: [ExternalServices],
})
export class ExternalServicesModule {}
