import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import { timestampSchema } from './primitives.ts';

const packSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    description: z.string().nullable(),
    credits: z.int(),
    unit_amount: z.int().meta({ description: 'In the smallest unit of the currency.' }),
    currency: z.string(),
    price_id: z.string(),
    product_id: z.string(),
  })
  .meta({ id: 'Pack' });

const planSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    interval: z.enum(['month', 'year']),
    credits: z.int().meta({ description: 'Granted per interval.' }),
    unit_amount: z.int(),
    currency: z.string(),
    price_id: z.string(),
    product_id: z.string(),
  })
  .meta({ id: 'Plan' });

export const pricingSchema = z
  .object({
    mode: z.enum(['local', 'test', 'live']),
    currency: z.string(),
    packs: z.array(packSchema),
    plans: z.array(planSchema),
    as_of: timestampSchema,
  })
  .meta({ id: 'Pricing' });

export const getPricing = declareRoute({
  id: 'getPricing',
  method: 'get',
  path: '/api/pricing',
  tag: 'Pricing',
  summary: 'What is for sale',
  description: 'Packs and plans with their prices from Stripe, at most a minute old.',
  auth: 'public',
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'The packs and plans.',
      body: pricingSchema,
      headers: { ETag: 'Changes when anything but `as_of` does.' },
    },
    304: { description: 'Nothing changed since the ETag sent in If-None-Match.' },
  },
  errors: ['dependency_down'],
});
