import type { Email } from '../mail/mailer.js';
import type { Ending } from './ending.js';
import type { PlacedOrder } from './placed-order.js';
import { formatMoney, type Money } from './pricing.js';

export function confirmationOf({ id, customer, email, city, giftNote }: PlacedOrder, total: Money): Email {
  const gift = giftNote === undefined ? '' : `\n\nYour note goes with it:\n${giftNote}`;
  return {
    orderId: id,
    to: email,
    subject: `Your order ${id}`,
    text: `Dear ${customer},\n\nthank you: ${formatMoney(total)} are paid, and the tea is on its way to ${city}.${gift}`,
  };
}

/** To a customer who gets nothing. */
export function farewellTo({ id, customer, email }: PlacedOrder, ending: Ending): Email {
  const text = ending === 'cancelled' ? 'your order is cancelled' : `we could not fulfil your order: ${ending}`;
  return {
    orderId: id,
    to: email,
    subject: `Your order ${id}: ${ending}`,
    text: `Dear ${customer},\n\n${text}. What you may have paid is given back.`,
  };
}
