import type { Email } from '../mail/mailer.js';
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

export function apologyFor({ id, customer, email }: PlacedOrder, reason: string): Email {
  return {
    orderId: id,
    to: email,
    subject: `We are sorry about your order ${id}`,
    text: `Dear ${customer},\n\nwe could not fulfil your order: ${reason}. You have not been charged.`,
  };
}
