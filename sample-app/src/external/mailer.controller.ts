import { Body, Controller, Headers, HttpCode, Post, UseInterceptors } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';

import { SentEmail } from './sent-email.entity.js';
import { UnreliableInterceptor } from './unreliable.interceptor.js';

/** Plays the mailer: one e-mail for each idempotency key, however often it is asked for. */
@Controller('external/mailer')
@UseInterceptors(UnreliableInterceptor)
export class MailerController {
  constructor(@InjectRepository(SentEmail) private readonly sent: Repository<SentEmail>) {}

  @Post('messages')
  @HttpCode(202)
  async send(
    @Headers('idempotency-key') idempotencyKey: string,
    @Body() { orderId, to, subject, text }: Pick<SentEmail, 'orderId' | 'to' | 'subject' | 'text'>,
  ): Promise<void> {
    await this.sent
      .createQueryBuilder()
      .insert()
      .values({ idempotencyKey, orderId, to, subject, text })
      .orIgnore()
      .execute();
  }
}
