import { createHash } from 'node:crypto';
import type { PricingAnswer } from '../../checkout/checkout.types.ts';
import { PurserError } from '../../core/errors.ts';
import {
  createBillingPortalSession,
  createCheckoutSession,
  fulfillCheckoutSession,
  getCheckoutSession,
} from '../contract/checkout.ts';
import { getPricing } from '../contract/pricing.ts';
import { defineRoute } from '../defineRoute.ts';

/** Weak: two answers that differ in `as_of` alone say the same. */
function etagOf({ as_of: _, ...pricing }: PricingAnswer): string {
  const digest = createHash('sha256').update(JSON.stringify(pricing)).digest('base64url');
  return `W/"${digest.slice(0, 22)}"`;
}

export const checkoutRoutes = [
  defineRoute(getPricing, async ({ checkout }) => {
    const pricing = await checkout.pricing();
    return {
      body: pricing,
      headers: { ETag: etagOf(pricing), 'Cache-Control': 'public, max-age=0, must-revalidate' },
    };
  }),

  defineRoute(createCheckoutSession, async ({ checkout }, { caller, body, headers }) => {
    if (caller.anonymous) {
      throw new PurserError('forbidden', {
        detail:
          'An anonymous sign-in cannot buy: its credits would be lost with it. Sign up first.',
      });
    }
    return {
      body: await checkout.createSession({
        userId: caller.userId,
        email: caller.email,
        plan: body.plan,
        priceId: body.price_id,
        quantity: body.quantity,
        successUrl: body.success_url,
        cancelUrl: body.cancel_url,
        idempotencyKey: headers['idempotency-key'],
      }),
    };
  }),

  defineRoute(getCheckoutSession, async ({ checkout }, { caller, params }) => ({
    body: await checkout.sessionStatus({ sessionId: params.id, userId: caller?.userId ?? null }),
  })),

  defineRoute(fulfillCheckoutSession, async ({ checkout }, { caller, params }) => ({
    body: await checkout.fulfill({ sessionId: params.id, userId: caller?.userId ?? null }),
  })),

  defineRoute(createBillingPortalSession, async ({ checkout }, { caller, body }) => ({
    body: await checkout.portalSession({
      userId: caller.userId,
      email: caller.email,
      returnUrl: body.return_url,
    }),
  })),
];
