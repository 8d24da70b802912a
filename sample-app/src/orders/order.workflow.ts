import { ChildOrchestrator, RunContext, Workflow, type WorkflowHandler } from 'nestjs-orchestration';

import { EmailWorkflow } from '../mail/email.workflow.js';
import { PaymentWorkflow } from '../payments/payment.workflow.js';
import { PaymentsService } from '../payments/payments.service.js';
import { ShippingWorkflow } from '../shipping/shipping.workflow.js';
import { ShopSettings } from '../shop-settings.js';
import { StockService } from '../stock/stock.service.js';
import { type Ending, endingOf, OrderRefusedError } from './ending.js';
import { confirmationOf, farewellTo } from './letters.js';
import { OrderBook } from './order-book.js';
import type { PlacedOrder } from './placed-order.js';
import { formatMoney, type Money } from './pricing.js';

/** An order from the click to the door. Until it is there, whatever ends the run undoes what was done, the last first. */
@Workflow('order')
export class OrderWorkflow implements WorkflowHandler<PlacedOrder, void> {
  constructor(
    private readonly children: ChildOrchestrator,
    private readonly ctx: RunContext,
    private readonly settings: ShopSettings,
    private readonly book: OrderBook,
    private readonly stock: StockService,
    private readonly payments: PaymentsService,
  ) {}

  async run(order: PlacedOrder): Promise<void> {
    let ending: Ending = 'failed';
    // Registered first, it comes last: when everything else is undone.
    this.ctx.compensate('close', () => this.close(order, ending));
    try {
      await this.fulfil(order);
    } catch (error) {
      ending = endingOf(error);
      throw error;
    }
  }

  private async fulfil(order: PlacedOrder): Promise<void> {
    const { id, card, city, delivery, lines } = order;
    const { total, isLarge } = await this.book.price(order);

    // Commits the goods and the outcome of the step together, and is undone by its `compensate`.
    await this.stock.reserve(id, lines);
    if (isLarge) await this.askManager(order, total);

    // Registered before the call: a payment that ends with an error may have taken the money.
    this.ctx.compensate('refund', () => this.payments.refund(id));
    // Waits for the child, at no cost, over any number of restarts.
    await this.children.call(PaymentWorkflow, { orderId: id, card, ...total }, { ref: 'payment', timeout: '2m' });
    await this.book.setStatus(id, 'paid');

    // Starts the child and goes on; it will be sent even if this run ends first.
    await this.children.start(EmailWorkflow, confirmationOf(order, total), { ref: 'confirmation' });

    const items = lines.reduce((sum, { quantity }) => sum + quantity, 0);
    await this.children.call(ShippingWorkflow, { orderId: id, city, delivery, items }, { ref: 'shipping' });

    // The customer has the goods: from here on nothing is undone, and a cancellation comes too late.
    this.ctx.commit();
    await this.ctx.shield(() => this.book.setStatus(id, 'shipped'));
  }

  /** Waits for the manager's answer until the deadline. Her silence is a no: it throws as well. */
  private async askManager({ id, customer }: PlacedOrder, total: Money): Promise<void> {
    const isApproved = await this.ctx.waitForInput('approval', {
      type: 'approval',
      prompt: `${customer} orders for ${formatMoney(total)}. Shall order ${id} go ahead?`,
      timeout: this.settings.approvalDeadline,
    });
    if (!isApproved) throw new OrderRefusedError(`The manager refused order ${id}`);
  }

  private async close(order: PlacedOrder, ending: Ending): Promise<void> {
    await this.children.start(EmailWorkflow, farewellTo(order, ending), { ref: 'farewell' });
    await this.book.setStatus(order.id, ending);
  }
}
