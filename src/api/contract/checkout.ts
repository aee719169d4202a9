import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import {
  catalogueIdSchema,
  checkoutSessionIdSchema,
  optionalIdempotencyHeaders,
  returnUrlSchema,
  timestampSchema,
} from './primitives.ts';

const QUANTITY_MAX = 100;

const createBody = z
  .strictObject({
    plan: catalogueIdSchema.optional().meta({
      description:
        'Id of a pack or plan of the catalogue. A plan opens a subscription; a second one is refused.',
    }),
    price_id: z
      .string()
      .regex(/^price_\w{1,200}$/, 'must be the id of a Stripe price (price_...)')
      .optional()
      .meta({ description: 'Id of its Stripe price, in place of `plan`.' }),
    quantity: z
      .int('must be a whole number')
      .min(1, 'must be at least 1')
      .max(QUANTITY_MAX, `must be at most ${QUANTITY_MAX}`)
      .default(1),
    success_url: returnUrlSchema.optional(),
    cancel_url: returnUrlSchema.optional(),
  })
  .superRefine((body, context) => {
    if ((body.plan === undefined) === (body.price_id === undefined)) {
      context.addIssue({
        code: 'custom',
        path: ['plan'],
        message: 'give exactly one of plan and price_id',
      });
    }
  })
  .meta({
    id: 'CheckoutSessionRequest',
    oneOf: [{ required: ['plan'] }, { required: ['price_id'] }],
  });

const sessionSchema = z
  .object({
    session_id: z.string(),
    url: z.string().meta({ description: 'Send the buyer’s browser here.' }),
    mode: z.enum(['payment', 'subscription']),
    plan: z.string(),
    credits: z.int(),
    expires_at: timestampSchema,
  })
  .meta({ id: 'CheckoutSession' });

const statusSchema = z
  .object({
    session_id: z.string(),
    status: z
      .enum(['open', 'processing', 'credited', 'parked', 'expired', 'failed'])
      .meta({ description: '`processing`: paid or being paid, the credits are not written yet.' }),
    credits: z.int(),
    balance: z.int().optional().meta({ description: 'For the owner only.' }),
  })
  .meta({ id: 'CheckoutStatus' });

export const createCheckoutSession = declareRoute({
  id: 'createCheckoutSession',
  method: 'post',
  path: '/api/checkout-session',
  tag: 'Checkout',
  summary: 'Start a purchase',
  description:
    'Opens a Stripe Checkout session for something in the catalogue; the price is never taken from the request.',
  auth: 'user',
  limit: 'checkout',
  headers: optionalIdempotencyHeaders,
  query: z.strictObject({}),
  body: createBody,
  responses: { 200: { description: 'The session.', body: sessionSchema } },
  errors: ['forbidden', 'dependency_down'],
});

export const getCheckoutSession = declareRoute({
  id: 'getCheckoutSession',
  method: 'get',
  path: '/api/checkout-session/:id',
  tag: 'Checkout',
  summary: 'Has the purchase arrived?',
  auth: 'optional-user',
  params: z.strictObject({ id: checkoutSessionIdSchema }),
  query: z.strictObject({}),
  responses: { 200: { description: 'Where the purchase stands.', body: statusSchema } },
  errors: ['not_found', 'dependency_down'],
});

export const fulfillCheckoutSession = declareRoute({
  id: 'fulfillCheckoutSession',
  method: 'post',
  path: '/api/checkout-session/:id/fulfill',
  tag: 'Checkout',
  summary: 'Settle a paid session now',
  description:
    'Asks Stripe and settles through the webhook’s own path, so calling it any number of times, beside any number of webhooks, credits once.',
  auth: 'optional-user',
  params: z.strictObject({ id: checkoutSessionIdSchema }),
  query: z.strictObject({}),
  body: z.strictObject({}),
  bodyOptional: true,
  responses: { 200: { description: 'Where the purchase stands.', body: statusSchema } },
  errors: ['not_found', 'dependency_down'],
});

export const createBillingPortalSession = declareRoute({
  id: 'createBillingPortalSession',
  method: 'post',
  path: '/api/billing-portal-session',
  tag: 'Checkout',
  summary: 'Open the billing portal',
  auth: 'user',
  query: z.strictObject({}),
  body: z
    .strictObject({ return_url: returnUrlSchema.optional() })
    .meta({ id: 'BillingPortalRequest' }),
  bodyOptional: true,
  responses: {
    200: {
      description: 'Where to send the browser.',
      body: z.object({ url: z.string() }).meta({ id: 'BillingPortalSession' }),
    },
  },
  errors: ['dependency_down'],
});
