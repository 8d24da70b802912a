import { CancelledError, causedBy, InputTimeoutError } from 'nestjs-orchestration';

import { PaymentDeclinedError } from '../payments/payments.service.js';
import { OutOfStockError } from '../stock/stock.service.js';
import type { OrderStatus } from './order.entity.js';

/** How an order ends that is not shipped. */
export type Ending = Exclude<OrderStatus, 'placed' | 'paid' | 'shipped'>;

/** The manager said no. */
export class OrderRefusedError extends Error {}

const ENDINGS = [
  [OutOfStockError, 'out of stock'],
  [OrderRefusedError, 'refused'],
  [InputTimeoutError, 'not approved in time'],
  [PaymentDeclinedError, 'payment declined'],
  [CancelledError, 'cancelled'],
] as const;

/** What an error means for the order. Not `instanceof`: it may come from a child, and on a replay from the database. */
export function endingOf(error: unknown): Ending {
  return ENDINGS.find(([kind]) => causedBy(error, kind))?.[1] ?? 'failed';
}
