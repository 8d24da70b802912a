import { HttpException, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { NonRetryableError, RunContext, Step } from 'nestjs-orchestration';
import type { Repository } from 'typeorm';

import { ExternalServices } from '../external/external-services.js';
import { PATIENT } from '../external/patient.js';
import { Payment } from './payment.entity.js';

/** What to take from which card. */
export interface PaymentRequest {
  orderId: string;
  card: string;
  /** In the smallest unit of the currency. */
  amount: number;
  currency: string;
}

/** The card's bank said no, and would say so again. */
export class PaymentDeclinedError extends NonRetryableError {}

const PAYMENT_REQUIRED = 402;

/** Talks to the payment provider and keeps the shop's own record. Every method may be repeated. */
@Injectable()
export class PaymentsService {
  constructor(
    private readonly services: ExternalServices,
    private readonly ctx: RunContext,
    @InjectRepository(Payment) private readonly payments: Repository<Payment>,
  ) {}

  /** Charges the card; without effect when this step has charged it already. */
  @Step({ retry: PATIENT, timeout: '5s' })
  async charge(request: PaymentRequest): Promise<void> {
    try {
      await this.services.post('payments/charges', request);
    } catch (error) {
      if (!(error instanceof HttpException) || error.getStatus() !== PAYMENT_REQUIRED) throw error;
      throw new PaymentDeclinedError(error.message, { cause: error });
    }
  }

  @Step({ transactional: true })
  async record({ orderId, amount, currency }: PaymentRequest, status: 'captured' | 'declined'): Promise<void> {
    await this.ctx.manager.save(Payment, { orderId, amount, currency, status });
  }

  /** Gives back what was taken for an order, if anything. */
  @Step({ retry: PATIENT, timeout: '5s' })
  async refund(orderId: string): Promise<void> {
    await this.services.post('payments/refunds', { orderId });
    await this.payments.update({ orderId, status: 'captured' }, { status: 'refunded' });
  }
}
