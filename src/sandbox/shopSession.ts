import type { Context } from './context.ts';
import { ApiError, badRequest, noSuch } from './errors.ts';
import type { FormObject } from './form.ts';
import { parseShape } from './params.ts';
import { sessionCreateParams } from './resources/checkoutParams.ts';
import { createSession } from './resources/checkoutSessions.ts';
import type { SessionView } from './resources/checkoutView.ts';
import { prices } from './tables.ts';

/** Prices named to whom asked for one that is not there. */
const OFFERED_MAX = 12;

export interface ShopOrder {
  /** Id or lookup key. */
  readonly price: string;
  readonly quantity?: number | undefined;
  /** One that exists; else the buyer is new. */
  readonly customer?: string | undefined;
  /** Fills the page in for a new buyer who is to pay by hand. */
  readonly customer_email?: string | undefined;
  /** Ask for an invoice of a one-time purchase; subscriptions have theirs anyway. */
  readonly invoice?: boolean | undefined;
  readonly client_reference_id?: string | undefined;
  /** Of a plan only. */
  readonly trial_days?: number | undefined;
  /** Also of the payment intent or the subscription: Stripe copies it from nowhere. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
}

/** A checkout session as a shop would make it, for buying without a shop. */
export function openShopSession(ctx: Context, order: ShopOrder): SessionView {
  const price = findByIdOrKey(ctx, order.price);
  const mode = price.recurring ? 'subscription' : 'payment';
  if (order.invoice && mode === 'subscription') {
    throw badRequest('A subscription makes its invoices itself: leave `invoice` out.', {
      param: 'invoice',
    });
  }
  if (order.trial_days !== undefined && mode === 'payment') {
    throw badRequest('Only a plan can be tried.', { param: 'trial_days' });
  }
  const metadata = { ...order.metadata };
  const form: FormObject = {
    mode,
    metadata,
    line_items: { 0: { price: price.id, quantity: String(order.quantity ?? 1) } },
    success_url: `${ctx.origin()}/`,
    ...(order.customer === undefined ? {} : { customer: order.customer }),
    ...(order.customer_email === undefined ? {} : { customer_email: order.customer_email }),
    ...(order.invoice ? { invoice_creation: { enabled: 'true' } } : {}),
    ...(order.client_reference_id === undefined
      ? {}
      : { client_reference_id: order.client_reference_id }),
    ...(mode === 'payment' ? { payment_intent_data: { metadata } } : {}),
    ...(mode === 'payment'
      ? {}
      : {
          subscription_data: {
            metadata,
            ...(order.trial_days === undefined
              ? {}
              : { trial_period_days: String(order.trial_days) }),
          },
        }),
  };
  return createSession(ctx, parseShape(sessionCreateParams, form));
}

function findByIdOrKey(ctx: Context, name: string) {
  const direct = ctx.store.get(prices, name)?.view;
  if (direct) return direct;
  for (const { view } of ctx.store.walk(prices, 'newest_first')) {
    if (view.lookup_key === name) return view;
  }
  const { body } = noSuch('price', name, 'price', 404);
  throw new ApiError(404, { ...body, message: `${body.message}. ${offered(ctx)}` });
}

/** Nobody knows the ids of a catalogue by heart. */
function offered(ctx: Context): string {
  const names: string[] = [];
  for (const { view } of ctx.store.walk(prices, 'newest_first')) {
    if (names.length === OFFERED_MAX) break;
    if (view.active) names.push(view.lookup_key ?? view.id);
  }
  return names.length === 0
    ? 'There are no prices yet: `npm run sandbox -- catalogue` makes two samples.'
    : `To buy: ${names.join(', ')}.`;
}
