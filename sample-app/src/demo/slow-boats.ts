import type { RunTree } from 'nestjs-orchestration';

import type { PlacedOrder } from '../orders/placed-order.js';
import { Shipment } from '../shipping/shipment.entity.js';
import type { DemoShop } from './demo-shop.js';
import { isUnderWay } from './progress.js';
import { seconds } from './seconds.js';

/** Goes first where no order of the file is slow enough to be cancelled on its way. */
const SLOW_BOAT_OF_THE_DEMO: PlacedOrder = {
  id: 'demo-by-slow-boat',
  customer: 'The demo',
  email: 'demo@example.com',
  city: 'Tristan da Cunha',
  currency: 'EUR',
  card: 'tok_visa',
  delivery: 'slow boat',
  lines: [{ sku: 'earl-grey', quantity: 40 }],
};

export function isBySlowBoat({ delivery }: PlacedOrder): boolean {
  return delivery === 'slow boat';
}

export function withSlowBoat(orders: PlacedOrder[]): PlacedOrder[] {
  return orders.some(isBySlowBoat) ? orders : [SLOW_BOAT_OF_THE_DEMO, ...orders];
}

/** Cancels every order whose parcels are at sea, and gives what to say of it and the family of one of them. */
export async function cancelAtSea(
  shop: DemoShop,
  orders: PlacedOrder[],
): Promise<{ summary: string; family?: RunTree }> {
  const slow = orders.filter(isBySlowBoat);
  await shop.waitUntilNone(async () => (await listOpen(shop, slow)).length - (await listAtSea(shop, slow)).length);
  const atSea = await listAtSea(shop, slow);
  if (!atSea[0]) return { summary: 'There is nothing to cancel: no order is at sea' };

  const startedAt = Date.now();
  const counts = await Promise.all(atSea.map((id) => shop.orders.cancel(id, 'the customer does not want to wait')));
  await shop.waitUntilNone(async () => (await listOpen(shop, slow)).length);
  const runs = counts.reduce((sum, { cancelled, requested }) => sum + cancelled + requested, 0);
  return {
    summary: `${atSea.join(', ')} cancelled at sea: ${runs} runs ended, the money and the goods are back, in ${seconds(Date.now() - startedAt)}`,
    family: await shop.familyOf(atSea[0]),
  };
}

async function listOpen(shop: DemoShop, slow: PlacedOrder[]): Promise<string[]> {
  const statuses = await shop.statuses();
  return slow.map(({ id }) => id).filter((id) => isUnderWay(statuses.get(id)));
}

async function listAtSea(shop: DemoShop, slow: PlacedOrder[]): Promise<string[]> {
  const shipments = await shop.dataSource.getRepository(Shipment).findBy({ status: 'in transit' });
  const atSea = new Set(shipments.map(({ orderId }) => orderId));
  return (await listOpen(shop, slow)).filter((id) => atSea.has(id));
}
