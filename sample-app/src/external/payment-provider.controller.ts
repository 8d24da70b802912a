import { Body, Controller, Headers, HttpException, Post, UseInterceptors } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';

import { Charge } from './charge.entity.js';
import { UnreliableInterceptor } from './unreliable.interceptor.js';

const DECLINED_CARDS: Record<string, string | undefined> = {
  tok_declined: 'the bank declined the card',
  tok_expired: 'the card has expired',
  tok_no_funds: 'insufficient funds',
};

const PAYMENT_REQUIRED = 402;

/** Plays the payment provider: one charge for each idempotency key, however often it is asked for. */
@Controller('external/payments')
@UseInterceptors(UnreliableInterceptor)
export class PaymentProviderController {
  constructor(@InjectRepository(Charge) private readonly charges: Repository<Charge>) {}

  @Post('charges')
  async charge(
    @Headers('idempotency-key') idempotencyKey: string,
    @Body() { card, ...request }: Pick<Charge, 'orderId' | 'amount' | 'currency'> & { card: string },
  ): Promise<Charge> {
    const reason = DECLINED_CARDS[card];
    const status = reason ? 'declined' : 'captured';
    await this.charges
      .createQueryBuilder()
      .insert()
      .values({ ...request, idempotencyKey, status, reason })
      .orIgnore()
      .execute();
    if (reason) throw new HttpException(reason, PAYMENT_REQUIRED);
    return this.charges.findOneByOrFail({ idempotencyKey });
  }

  /** Gives back what was captured for an order, if anything. */
  @Post('refunds')
  async refund(@Body() { orderId }: Pick<Charge, 'orderId'>): Promise<{ refunded: boolean }> {
    const { affected } = await this.charges.update({ orderId, status: 'captured' }, { status: 'refunded' });
    return { refunded: affected === 1 };
  }
}
