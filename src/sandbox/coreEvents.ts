import { add, type Context } from './context.ts';
import type { EventView } from './events.ts';
import { THIN_PREFIX } from './resources/webhookEndpoints.ts';
import { coreEvents } from './tables.ts';

/** An event of the second API: what happened to which object, and nothing of the object itself. */
export type CoreEventView = {
  id: string;
  object: 'v2.core.event';
  /** ISO 8601, unlike everywhere in the first API. */
  created: string;
  livemode: false;
  reason?: { type: 'request'; request: { id: string; idempotency_key: string } };
  related_object: { id: string; type: string; url: string } | null;
  /** The event of the first API that tells the same. */
  snapshot_event: string;
  type: string;
};

/** Where an object is fetched, by its name; others are told without one. */
const PATHS: Readonly<Record<string, string>> = {
  charge: 'charges',
  'checkout.session': 'checkout/sessions',
  coupon: 'coupons',
  credit_note: 'credit_notes',
  customer: 'customers',
  dispute: 'disputes',
  invoice: 'invoices',
  invoice_payment: 'invoice_payments',
  invoiceitem: 'invoiceitems',
  payment_intent: 'payment_intents',
  payment_method: 'payment_methods',
  price: 'prices',
  product: 'products',
  promotion_code: 'promotion_codes',
  refund: 'refunds',
  subscription: 'subscriptions',
};

export function addCoreEvent(ctx: Context, event: EventView): CoreEventView {
  const { id, object } = event.data.object;
  const path = PATHS[String(object)];
  const { request } = event;
  return add(
    ctx,
    coreEvents,
    {
      id: ctx.newId('evt_test_', 32),
      object: 'v2.core.event',
      created: new Date(ctx.now()).toISOString(),
      livemode: false,
      ...(request.id === null
        ? {}
        : {
            reason: {
              type: 'request' as const,
              request: { id: request.id, idempotency_key: request.idempotency_key ?? '' },
            },
          }),
      related_object:
        path === undefined
          ? null
          : { id: String(id), type: String(object), url: `/v1/${path}/${String(id)}` },
      snapshot_event: event.id,
      type: `${THIN_PREFIX}${event.type}`,
    },
    {},
  ).view;
}
