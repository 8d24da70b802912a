import { z } from 'zod';

import { NonRetryableError } from '../../lib/index.js';
import { workflow } from '../support/workflow.js';

/** Workflows whose runs stand still in each state that there is. */
export const Parcel = workflow<{ weight: number }>('parcel', async ({ ctx }) => ctx.waitForSignal('delivered'));

export const Order = workflow<{ id: string; total: number }, { paid: number; by: unknown }>(
  'order',
  async ({ ctx, children }, order) => {
    await ctx.setState({ charged: order.total });
    await ctx.step('charge', () => `receipt of ${order.id}`);
    await children.start(Parcel, { weight: 2 }, { ref: 'parcel', label: 'the blue one' });
    const by = await ctx.waitForSignal('approve', { timeout: '2h' });
    return { paid: order.total, by };
  },
);

export const Refund = workflow<string>('refund', async ({ ctx }, type) => {
  switch (type) {
    case 'choice':
      return ctx.waitForInput('how', { type: 'choice', choices: ['cash', 'card'], prompt: 'How to refund?' });
    case 'form':
      return ctx.waitForInput('form', { type: 'form', schema: z.object({ count: z.number() }) });
    case 'text':
      return ctx.waitForInput('why', { type: 'text', timeout: '10m' });
    default:
      return ctx.waitForInput('refund', { type: 'approval', prompt: 'Refund order 4711?' });
  }
});

export const Charge = workflow<number, number>('charge', async ({ ctx }, amount) =>
  ctx.step('pay', () => {
    if (amount < 0) throw new NonRetryableError(`cannot charge ${amount}`, { cause: new Error('a negative amount') });
    return amount;
  }),
);

export const WORKFLOWS = [Parcel, Order, Refund, Charge];
