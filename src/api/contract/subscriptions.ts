import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import { timestampSchema, userIdSchema } from './primitives.ts';

const subscriptionSchema = z
  .object({
    user_id: z.string(),
    status: z.string().meta({
      description:
        'As Stripe names it: `active`, `trialing`, `past_due`, `unpaid`, `paused`, `incomplete`, `canceled`, `incomplete_expired`; `none` = never subscribed.',
    }),
    plan: z.string().meta({ description: 'Catalogue id; the free plan without a subscription.' }),
    tier: z.string(),
    current_period_start: timestampSchema.nullable(),
    current_period_end: timestampSchema.nullable(),
    cancel_at_period_end: z.boolean(),
    cancel_at: timestampSchema.nullable(),
    trial_end: timestampSchema.nullable(),
    suspended: z.boolean().meta({
      description:
        'True while a payment of the subscription has failed: credits of the plan are blocked, bought ones never are.',
    }),
    quotas: z.record(z.string(), z.int()).meta({ description: 'Of the plan, from the catalogue.' }),
    usage: z.record(z.string(), z.int()).meta({
      description: 'In the current period; without a subscription in the calendar month (UTC).',
    }),
    cached: z.boolean().meta({
      description:
        'True when answered from the five-minute cache, which every change of the subscription ends at once.',
    }),
    as_of: timestampSchema,
  })
  .meta({ id: 'Subscription' });

export const getSubscription = declareRoute({
  id: 'getSubscription',
  method: 'get',
  path: '/api/subscription',
  tag: 'Subscriptions',
  summary: 'Your subscription',
  auth: 'user',
  query: z.strictObject({}),
  responses: { 200: { description: 'The subscription.', body: subscriptionSchema } },
  errors: ['user_not_found', 'dependency_down'],
});

export const getUserSubscription = declareRoute({
  id: 'getUserSubscription',
  method: 'get',
  path: '/api/users/:userId/subscription',
  tag: 'Subscriptions',
  summary: 'A user’s subscription',
  auth: 'service',
  params: z.strictObject({ userId: userIdSchema }),
  query: z.strictObject({}),
  responses: { 200: { description: 'The subscription.', body: subscriptionSchema } },
  errors: ['user_not_found', 'dependency_down'],
});
