import { add, type Context, seconds } from '../context.ts';
import { noSuch } from '../errors.ts';
import { emit } from '../events.ts';
import type { Expandable } from '../expand.ts';
import type { JsonObject } from '../json.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import { expand, paging, range, refused, text } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { charges, paymentIntents, paymentMethods } from '../tables.ts';
import type { SessionHidden } from './checkoutSessions.ts';
import { expandCustomer } from './customers.ts';
import type { PaymentMethodView } from './paymentMethods.ts';

type PaymentError = {
  type: 'card_error' | 'invalid_request_error';
  code: string;
  message: string;
  charge: string;
  decline_code?: string;
  payment_method: PaymentMethodView;
};

export type PaymentIntentView = ReturnType<typeof intentView>;

function intentView(
  ctx: Context,
  given: {
    amount: number;
    currency: string;
    customer: string | null;
    methods: string[];
    data: SessionHidden['payment'];
  },
) {
  const id = ctx.newId('pi_');
  return {
    id,
    object: 'payment_intent' as const,
    allowed_payment_method_types: null,
    amount: given.amount,
    amount_capturable: 0,
    amount_details: { tip: {} },
    amount_received: 0,
    application: null,
    application_fee_amount: null,
    automatic_payment_methods: null,
    canceled_at: null as number | null,
    cancellation_reason: null as 'abandoned' | 'expired' | 'void_invoice' | null,
    capture_method: 'automatic_async' as const,
    client_secret: `${id}_secret_${ctx.newId('', 25)}`,
    confirmation_method: 'automatic' as const,
    created: seconds(ctx),
    currency: given.currency,
    customer: given.customer,
    customer_account: null,
    description: given.data.description,
    excluded_payment_method_types: null,
    last_payment_error: null as PaymentError | null,
    latest_charge: null as string | null,
    livemode: false as const,
    managed_payments: null,
    metadata: given.data.metadata,
    next_action: null as { type: 'use_stripe_sdk'; use_stripe_sdk: JsonObject } | null,
    on_behalf_of: null,
    payment_method: null as string | null,
    payment_method_configuration_details: null,
    payment_method_options: {},
    payment_method_types: given.methods,
    payment_record: null,
    processing: null,
    receipt_email: given.data.receipt_email,
    review: null,
    setup_future_usage: given.data.setup_future_usage,
    shipping: null,
    source: null,
    statement_descriptor: given.data.statement_descriptor,
    statement_descriptor_suffix: given.data.statement_descriptor_suffix,
    status: 'requires_payment_method' as
      | 'requires_payment_method'
      | 'processing'
      | 'requires_action'
      | 'succeeded'
      | 'canceled',
    transfer_data: null,
    transfer_group: given.data.transfer_group,
  };
}

export function createPaymentIntent(
  ctx: Context,
  given: Parameters<typeof intentView>[1],
): PaymentIntentView {
  const { view } = add(ctx, paymentIntents, intentView(ctx, given), {});
  emit(ctx, 'payment_intent.created', view);
  return view;
}

export function findPaymentIntent(
  ctx: Context,
  id: string,
  param = 'intent',
  status: 400 | 404 = 404,
): PaymentIntentView {
  const found = ctx.store.get(paymentIntents, id);
  if (!found) throw noSuch('payment_intent', id, param, status);
  return found.view;
}

/** Changes the intent and tells it with the event of its new state. */
export function moveIntent(
  ctx: Context,
  id: string,
  change: Partial<PaymentIntentView>,
  eventType: string,
): PaymentIntentView {
  const { view } = ctx.store.patch(paymentIntents, id, change);
  emit(ctx, eventType, view);
  return view;
}

/** A session that expires, or an invoice that is voided, takes its unpaid intent with it. */
export function cancelPaymentIntent(
  ctx: Context,
  id: string,
  reason: 'expired' | 'void_invoice' = 'expired',
): void {
  moveIntent(
    ctx,
    id,
    { status: 'canceled', canceled_at: seconds(ctx), cancellation_reason: reason },
    'payment_intent.canceled',
  );
}

export const paymentIntentExpandable: Expandable = {
  customer: expandCustomer,
  latest_charge: (ctx, view) => ctx.store.get(charges, String(view.latest_charge))?.view,
  payment_method: (ctx, view) => ctx.store.get(paymentMethods, String(view.payment_method))?.view,
};

const listParams = { ...paging, created: range, customer: text(), customer_account: refused() };

export const paymentIntentRoutes: Route[] = [
  route('GET', '/v1/payment_intents', listParams, (ctx, filter) =>
    listRows(
      ctx,
      paymentIntents,
      '/v1/payment_intents',
      filter,
      ({ view }) =>
        matchesFilter(filter.customer, view.customer) && inRange(view.created, filter.created),
    ),
  ),
  route('GET', '/v1/payment_intents/:id', { expand }, (ctx, _params, ids) =>
    findPaymentIntent(ctx, idOf(ids)),
  ),
];
