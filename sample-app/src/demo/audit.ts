import { DataSource, type EntityTarget, type ObjectLiteral } from 'typeorm';

import { Charge } from '../external/charge.entity.js';
import { SentEmail } from '../external/sent-email.entity.js';
import { Order, type OrderStatus } from '../orders/order.entity.js';
import type { PlacedOrder } from '../orders/placed-order.js';
import { Payment } from '../payments/payment.entity.js';
import { Shipment } from '../shipping/shipment.entity.js';
import { CATALOGUE } from '../stock/catalogue.js';
import { Product } from '../stock/product.entity.js';

/** Something that must hold, and where it does not. */
export interface Finding {
  claim: string;
  problems: string[];
}

/** How the provider must see an order that ended like this. */
const CHARGES: Partial<Record<OrderStatus, Charge['status'][]>> = {
  shipped: ['captured'],
  cancelled: ['refunded'],
  'payment declined': ['declined'],
  'out of stock': [],
};

/** Checks in the tables of the shop, of the payment provider and of the mailer that each order ended exactly once. */
export async function audit(dataSource: DataSource, placed: PlacedOrder[]): Promise<Finding[]> {
  const rowsOf = <Row extends ObjectLiteral>(entity: EntityTarget<Row>) => dataSource.getRepository(entity).find();
  const orders = await rowsOf(Order);
  const charges = groupByOrder(await rowsOf(Charge));
  const payments = groupByOrder(await rowsOf(Payment));
  const emails = groupByOrder(await rowsOf(SentEmail));
  const shipments = groupByOrder(await rowsOf(Shipment));
  const shelves = await rowsOf(Product);

  return [
    {
      claim: `all ${placed.length} orders are in the books, and have ended as orders should`,
      problems: compareBooks(placed, orders),
    },
    {
      claim: 'the provider charged each card once at most, with the right amount; who got nothing paid nothing',
      problems: orders.flatMap((order) => checkCharges(order, charges(order.id))),
    },
    {
      claim: "the shop's own payments say the same",
      problems: orders.flatMap(({ id }) => {
        const [ours, theirs] = [payments(id), charges(id)].map((rows) => rows.map(({ status }) => status).join(', '));
        return ours === theirs
          ? []
          : [`${id}: ${ours || 'nothing'} in the shop, ${theirs || 'nothing'} at the provider`];
      }),
    },
    {
      claim: 'every customer got one e-mail',
      problems: orders.flatMap(({ id }) => expectCount(`${id}: e-mails`, emails(id).length, 1)),
    },
    {
      claim: 'every item that was paid for was delivered once',
      problems: orders.flatMap((order) => {
        const delivered = shipments(order.id).filter(({ status }) => status === 'delivered');
        const expected = order.status === 'shipped' ? itemsOf(order) : 0;
        return expectCount(`${order.id}: items delivered`, sum(delivered.map(({ items }) => items)), expected);
      }),
    },
    {
      claim: 'the shelves hold what they held before, less what was delivered',
      problems: checkShelves(shelves, orders),
    },
  ];
}

function compareBooks(placed: PlacedOrder[], orders: Order[]): string[] {
  const ids = new Set(orders.map(({ id }) => id));
  return [
    ...placed.filter(({ id }) => !ids.has(id)).map(({ id }) => `${id}: not in the books`),
    ...orders.filter(({ status }) => !(status in CHARGES)).map(({ id, status }) => `${id}: ended as '${status}'`),
    ...expectCount('orders in the books', orders.length, placed.length),
  ];
}

function checkCharges({ id, status, total }: Order, charges: Charge[]): string[] {
  const found = charges.map((charge) => `${charge.status} ${charge.amount} ${charge.currency}`);
  const expected = (CHARGES[status] ?? []).map((charge) => `${charge} ${total?.amount} ${total?.currency}`);
  if (found.join() === expected.join()) return [];
  return [`${id} (${status}): the provider has [${found.join(', ')}] and not [${expected.join(', ')}]`];
}

function checkShelves(shelves: Product[], orders: Order[]): string[] {
  const sold = orders.filter(({ status }) => status === 'shipped').flatMap(({ placed }) => placed.lines);
  return CATALOGUE.flatMap(({ sku, stock }) => {
    const left = stock - sum(sold.filter((line) => line.sku === sku).map(({ quantity }) => quantity));
    return expectCount(`${sku} on the shelf`, shelves.find((product) => product.sku === sku)?.stock ?? 0, left);
  });
}

function groupByOrder<Row extends { orderId: string }>(rows: Row[]): (orderId: string) => Row[] {
  const groups = new Map<string, Row[]>();
  for (const row of rows) groups.set(row.orderId, [...(groups.get(row.orderId) ?? []), row]);
  return (orderId) => groups.get(orderId) ?? [];
}

function expectCount(what: string, found: number, expected: number): string[] {
  return found === expected ? [] : [`${what}: ${found}, and not ${expected}`];
}

function itemsOf({ placed }: Order): number {
  return sum(placed.lines.map(({ quantity }) => quantity));
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
