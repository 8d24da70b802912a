import type { OrderStatus } from '../orders/order.entity.js';
import { paint } from './paint.js';

const BAR_WIDTH = 30;
const UNDER_WAY: ReadonlySet<OrderStatus> = new Set(['placed', 'paid']);

/** Whether an order with this status, or one that is not in the books yet, has still something before it. */
export function isUnderWay(status: OrderStatus | undefined): boolean {
  return status === undefined || UNDER_WAY.has(status);
}

/** `━━━━━━━━━━──────────  20 of 60 ended: 17 shipped, 3 payment declined; 12 under way` */
export function drawProgress(statuses: OrderStatus[], total: number): string {
  const ended = statuses.filter((status) => !isUnderWay(status));
  const width = Math.round((ended.length / total) * BAR_WIDTH);
  const bar = paint('green', '━'.repeat(width)) + paint('dim', '─'.repeat(BAR_WIDTH - width));
  const underWay = statuses.length - ended.length;
  return `${bar}  ${ended.length} of ${total} ended${ended.length > 0 ? `: ${countEach(ended)}` : ''}; ${underWay} under way`;
}

/** `17 shipped, 3 payment declined` */
export function countEach(statuses: OrderStatus[]): string {
  const counts = new Map<OrderStatus, number>();
  for (const status of statuses) counts.set(status, (counts.get(status) ?? 0) + 1);
  const sorted = [...counts].sort(([, one], [, other]) => other - one);
  return sorted.map(([status, count]) => `${count} ${status}`).join(', ');
}
