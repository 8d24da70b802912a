import { CancelledError, ChildOrchestrator, RunContext, Workflow, type WorkflowHandler } from 'nestjs-orchestration';

import { EmailWorkflow } from '../mail/email.workflow.js';
import { PaymentWorkflow } from '../payments/payment.workflow.js';
import { PaymentsService } from '../payments/payments.service.js';
import { ShippingWorkflow } from '../shipping/shipping.workflow.js';
import { StockService } from '../stock/stock.service.js';
import { apologyFor, confirmationOf } from './letters.js';
import { OrderBook } from './order-book.js';
import type { OrderStatus } from './order.entity.js';
import type { PlacedOrder } from './placed-order.js';

/** An order from the click to the door. Read `fulfil` first. */
@Workflow('order')
export class OrderWorkflow implements WorkflowHandler<PlacedOrder, OrderStatus> {
  constructor(
    private readonly children: ChildOrchestrator,
    private readonly ctx: RunContext,
    private readonly book: OrderBook,
    private readonly stock: StockService,
    private readonly payments: PaymentsService,
  ) {}

  async run(order: PlacedOrder): Promise<OrderStatus> {
    try {
      return await this.fulfil(order);
    } catch (error) {
      // In a shield even a cancelled run may put things back in order before it ends.
      await this.ctx.shield(() => this.undo(order, error instanceof CancelledError ? 'cancelled' : 'failed'));
      throw error;
    }
  }

  private async fulfil(order: PlacedOrder): Promise<OrderStatus> {
    const { id, card, city, delivery, lines } = order;
    const total = await this.book.price(order);
    if (!(await this.stock.reserve(id, lines))) return this.turnDown(order, 'out of stock');

    // Waits for the child, and branches on how it ended.
    const payment = await this.children.callSettled(
      PaymentWorkflow,
      { orderId: id, card, ...total },
      { ref: 'payment', timeout: '2m' },
    );
    if (payment.status !== 'completed') return this.turnDown(order, 'payment declined');
    await this.book.setStatus(id, 'paid');

    // Starts the child and goes on; it will be sent even if this run ends first.
    await this.children.start(EmailWorkflow, confirmationOf(order, total), { ref: 'confirmation' });

    // Waits again: for as long as it takes, at no cost, over any number of restarts.
    const items = lines.reduce((sum, { quantity }) => sum + quantity, 0);
    await this.children.call(ShippingWorkflow, { orderId: id, city, delivery, items }, { ref: 'shipping' });
    await this.book.setStatus(id, 'shipped');
    return 'shipped';
  }

  /** Not an error: some orders end like this. */
  private async turnDown(order: PlacedOrder, status: 'out of stock' | 'payment declined'): Promise<OrderStatus> {
    await this.children.start(EmailWorkflow, apologyFor(order, status), { ref: 'apology' });
    await this.undo(order, status);
    return status;
  }

  private async undo({ id }: PlacedOrder, status: OrderStatus): Promise<void> {
    await this.payments.refund(id);
    await this.stock.release(id);
    await this.book.setStatus(id, status);
  }
}
