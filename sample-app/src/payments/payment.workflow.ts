import { causedBy, RunContext, Workflow, type WorkflowHandler } from 'nestjs-orchestration';

import { PaymentDeclinedError, type PaymentRequest, PaymentsService } from './payments.service.js';

/** Takes the money for an order. A declined card fails the run; its parent decides what that means. */
@Workflow('payment')
export class PaymentWorkflow implements WorkflowHandler<PaymentRequest, void> {
  constructor(
    private readonly ctx: RunContext,
    private readonly payments: PaymentsService,
  ) {}

  async run(request: PaymentRequest): Promise<void> {
    // Not cut short when the order is cancelled: a charge could reach the bank after its refund.
    await this.ctx.shield(() => this.take(request));
  }

  private async take(request: PaymentRequest): Promise<void> {
    try {
      await this.payments.charge(request);
    } catch (error) {
      // Not `instanceof`: on a replay the error comes from the database.
      if (causedBy(error, PaymentDeclinedError)) await this.payments.record(request, 'declined');
      throw error;
    }
    await this.payments.record(request, 'captured');
  }
}
