import { DataSource, type EntityTarget, type ObjectLiteral } from 'typeorm';

import { Charge } from '../external/charge.entity.js';
import { SentEmail } from '../external/sent-email.entity.js';
import { Order, type OrderStatus } from '../orders/order.entity.js';
import type { PlacedOrder } from '../orders/placed-order.js';
import { Payment } from '../payments/payment.entity.js';
import { Shipment } from '../shipping/shipment.entity.js';
import { CATALOGUE } from '../stock/catalogue.js';
import { Product } from '../stock/product.entity.js';
import { Reservation } from '../stock/reservation.entity.js';
import type { Decision } from './manager.js';

/** Something that must hold, and where it does not. */
export interface Finding {
  claim: string;
  problems: string[];
}

interface End {
  charges: ('nothing' | Charge['status'])[];
  goods: ('nothing' | 'reserved' | 'put back')[];
}

/** The ways an order may end, and what the provider and the shelves may have seen of it then. */
const ENDS: Partial<Record<OrderStatus, End>> = {
  shipped: { charges: ['captured'], goods: ['reserved'] },
  'out of stock': { charges: ['nothing'], goods: ['nothing'] },
  refused: { charges: ['nothing'], goods: ['put back'] },
  'not approved in time': { charges: ['nothing'], goods: ['put back'] },
  'payment declined': { charges: ['declined'], goods: ['put back'] },
  // As far as it had come.
  cancelled: { charges: ['nothing', 'refunded'], goods: ['nothing', 'put back'] },
};

/** How a large order may have ended, by what the manager did. */
const LARGE_ORDERS: Record<Decision | 'not asked', OrderStatus[]> = {
  approved: ['shipped', 'payment declined', 'cancelled'],
  refused: ['refused'],
  overlooked: ['not approved in time'],
  'not asked': ['out of stock', 'cancelled'],
};

/** Checks in the tables of the shop, of the payment provider and of the mailer that each order ended exactly once. */
export async function audit(
  dataSource: DataSource,
  placed: PlacedOrder[],
  decisions: ReadonlyMap<string, Decision>,
): Promise<Finding[]> {
  const rowsOf = <Row extends ObjectLiteral>(entity: EntityTarget<Row>) => dataSource.getRepository(entity).find();
  const orders = await rowsOf(Order);
  const charges = groupByOrder(await rowsOf(Charge));
  const payments = groupByOrder(await rowsOf(Payment));
  const emails = groupByOrder(await rowsOf(SentEmail));
  const shipments = groupByOrder(await rowsOf(Shipment));
  const reservations = groupByOrder(await rowsOf(Reservation));
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
      claim: 'no large order went ahead without the manager: what she refused or overlooked was turned down',
      problems: orders.flatMap((order) => checkApproval(order, decisions.get(order.id) ?? 'not asked')),
    },
    {
      claim: 'every customer was told how the order ended, and nothing twice',
      problems: orders.flatMap((order) => checkLetters(order, emails(order.id))),
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
      claim: 'goods were reserved once at most for an order, and put back unless it was shipped',
      problems: orders.flatMap((order) => checkReservations(order, reservations(order.id))),
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
    ...orders.filter(({ status }) => !(status in ENDS)).map(({ id, status }) => `${id}: ended as '${status}'`),
    ...expectCount('orders in the books', orders.length, placed.length),
  ];
}

function checkCharges({ id, status, total }: Order, charges: Charge[]): string[] {
  const found = charges.map((charge) => {
    const isRight = charge.amount === total?.amount && charge.currency === total.currency;
    return isRight ? charge.status : `${charge.status} ${charge.amount} ${charge.currency}`;
  });
  return expectOneOf(`${id} (${status}): the card`, found, ENDS[status]?.charges);
}

function checkApproval({ id, status, isLarge }: Order, decision: Decision | 'not asked'): string[] {
  if (!isLarge || LARGE_ORDERS[decision].includes(status)) return [];
  return [`${id}: ${status}, and the manager: ${decision}`];
}

function checkLetters({ id, status }: Order, letters: SentEmail[]): string[] {
  const subjects = letters.map(({ subject }) => subject);
  const last = status === 'shipped' ? `Your order ${id}` : `Your order ${id}: ${status}`;
  if (subjects.includes(last) && new Set(subjects).size === subjects.length) return [];
  return [`${id} (${status}): the letters [${subjects.join(', ')}]`];
}

function checkReservations({ id, status }: Order, reservations: Reservation[]): string[] {
  const found = reservations.map(({ released }) => (released ? 'put back' : 'reserved'));
  return expectOneOf(`${id} (${status}): the goods`, found, ENDS[status]?.goods);
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

function expectOneOf(what: string, found: string[], allowed: string[] = []): string[] {
  const all = found.join(', ') || 'nothing';
  return allowed.includes(all) ? [] : [`${what}: ${all}, and not ${allowed.join(' or ')}`];
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
