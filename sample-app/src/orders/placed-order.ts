import { randomUUID } from 'node:crypto';

import { z } from 'zod';

import { SKUS } from '../stock/catalogue.js';
import { CURRENCIES } from './pricing.js';

const line = z.strictObject({
  sku: z.enum(SKUS),
  quantity: z.int().min(1).max(1_000),
});

/** What a customer sends; the same over HTTP and in an orders file. */
export const placedOrderSchema = z.strictObject({
  /** The customer's own number of the order: placed twice under one number, it is one order. */
  id: z
    .string()
    .regex(/^[\w-]{1,64}$/, 'must have 1 to 64 letters, digits, - or _')
    .default(() => randomUUID()),
  customer: z.string().min(1).max(200),
  email: z.email(),
  city: z.string().min(1).max(200),
  currency: z.enum(CURRENCIES).default('EUR'),
  card: z.string().regex(/^tok_\w+$/, "must be a card's token, such as tok_visa"),
  delivery: z.enum(['standard', 'express', 'slow boat']).default('standard'),
  giftNote: z.string().max(1_000).optional(),
  lines: z
    .array(line)
    .min(1)
    .max(20)
    .refine((lines) => new Set(lines.map(({ sku }) => sku)).size === lines.length, 'must name each product once'),
});

export type PlacedOrder = z.output<typeof placedOrderSchema>;
