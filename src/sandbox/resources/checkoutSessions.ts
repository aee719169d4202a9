import { chooseCoupon } from '../billing/discounts.ts';
import { add, type Context, seconds } from '../context.ts';
import { badRequest, noSuch, notSimulated } from '../errors.ts';
import { emit } from '../events.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listItems, listRows, matchesFilter } from '../listing.ts';
import { chargeMinimum, formatAmount } from '../money.ts';
import { expand, paging } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { invoices, paymentIntents, products, sessions, subscriptions } from '../tables.ts';
import { schedule, unschedule } from '../tasks.ts';
import type { Refusal } from './charges.ts';
import { type Line, priceLines, totalOf } from './checkoutLines.ts';
import { sessionCreateParams, sessionListParams } from './checkoutParams.ts';
import { withDiscounts } from './checkoutTotals.ts';
import { type NewSession, type SessionView, sessionView } from './checkoutView.ts';
import { expandCustomer, findCustomer } from './customers.ts';
import { applyMetadata, type Metadata } from './fields.ts';
import { cancelPaymentIntent } from './paymentIntents.ts';
import type { MissingMethod } from './subscriptionView.ts';

export type { SessionView } from './checkoutView.ts';

export type SessionHidden = {
  lines: Line[];
  /** Given at creation for the payment intent that is made when the buyer pays. */
  payment: {
    description: string | null;
    metadata: Metadata;
    receipt_email: string | null;
    setup_future_usage: 'off_session' | 'on_session' | null;
    statement_descriptor: string | null;
    statement_descriptor_suffix: string | null;
    transfer_group: string | null;
  };
  subscription: {
    description: string | null;
    metadata: Metadata;
    trial_period_days: number | null;
    /** Seconds. */
    trial_end: number | null;
    missing_method: MissingMethod;
  };
  discounts: { coupon: string; promotionCode: string | null }[];
  /** The intent of refused cards of a subscription session. */
  declined_intent: string | null;
  /** A bank debit on its way, and how it will end. */
  settlement: { refusal: Refusal | null } | null;
};

/** Stripe's bounds for `expires_at`, counted from creation. Seconds. */
const LIFETIME_MIN_SECONDS = 30 * 60;
const LIFETIME_MAX_SECONDS = 24 * 3_600;

export function createSession(ctx: Context, given: NewSession): SessionView {
  if (given.mode === 'setup') throw notSimulated('mode=setup');
  if (given.payment_intent_data?.capture_method === 'manual') {
    throw notSimulated('payment_intent_data[capture_method]=manual');
  }
  checkCombinations(given);
  const customer =
    given.customer === undefined ? null : findCustomer(ctx, given.customer, 'customer', 400);
  const discounts = discountsOf(ctx, given);
  const priced = priceLines(ctx, given.mode, given.line_items ?? [], given.currency);
  const lines = withDiscounts(ctx, priced, discounts);
  checkTotal(lines);
  const id = ctx.newId('cs_test_', 58);
  const expiresAt = expiryOf(ctx, given.expires_at);
  const trial = given.subscription_data;
  const trialing = trial?.trial_period_days !== undefined || trial?.trial_end !== undefined;
  const view = sessionView(ctx, id, given, lines, customer, expiresAt, discounts, trialing);
  if (view.payment_method_types.length === 0) {
    throw badRequest('No payment method is left that this session could offer.', {
      param: 'allowed_payment_method_types',
    });
  }
  add(ctx, sessions, view, {
    lines,
    payment: {
      description: given.payment_intent_data?.description ?? null,
      metadata: applyMetadata({}, given.payment_intent_data?.metadata),
      receipt_email: given.payment_intent_data?.receipt_email ?? null,
      setup_future_usage: given.payment_intent_data?.setup_future_usage ?? null,
      statement_descriptor: given.payment_intent_data?.statement_descriptor ?? null,
      statement_descriptor_suffix: given.payment_intent_data?.statement_descriptor_suffix ?? null,
      transfer_group: given.payment_intent_data?.transfer_group ?? null,
    },
    subscription: {
      description: given.subscription_data?.description ?? null,
      metadata: applyMetadata({}, given.subscription_data?.metadata),
      trial_period_days: given.subscription_data?.trial_period_days ?? null,
      trial_end: given.subscription_data?.trial_end ?? null,
      missing_method:
        given.subscription_data?.trial_settings?.end_behavior.missing_payment_method ??
        'create_invoice',
    },
    discounts,
    declined_intent: null,
    settlement: null,
  });
  schedule(ctx, 'expire_session', id, view.expires_at * 1_000);
  return view;
}

export function findSession(ctx: Context, id: string) {
  const found = ctx.store.get(sessions, id);
  if (!found) throw noSuch('checkout.session', id, 'id', 404);
  return found;
}

/** @throws ApiError 400 unless the session is open. */
export function expireSession(ctx: Context, id: string): SessionView {
  const before = findSession(ctx, id).view;
  if (before.status !== 'open') {
    throw badRequest(
      `Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of \`${before.status}\`.`,
    );
  }
  const { view } = ctx.store.patch(sessions, id, { status: 'expired', url: null });
  unschedule(ctx, 'expire_session', id);
  if (view.payment_intent !== null) cancelPaymentIntent(ctx, view.payment_intent);
  emit(ctx, 'checkout.session.expired', view);
  return view;
}

function checkCombinations(given: NewSession): void {
  if (given.success_url === undefined) {
    throw badRequest('Missing required param: success_url.', {
      param: 'success_url',
      code: 'parameter_missing',
    });
  }
  if (given.customer !== undefined && given.customer_email !== undefined) {
    throw badRequest('You may only specify one of these parameters: customer, customer_email.', {
      param: 'customer',
    });
  }
  if (given.customer !== undefined && given.customer_creation !== undefined) {
    throw badRequest('You may only specify one of these parameters: customer, customer_creation.', {
      param: 'customer',
    });
  }
  if (given.customer === undefined && given.customer_update !== undefined) {
    throw badRequest('`customer_update` can only be used with `customer`.', {
      param: 'customer_update',
    });
  }
  const misplaced = {
    payment: ['subscription_data'],
    subscription: ['payment_intent_data', 'invoice_creation', 'customer_creation', 'submit_type'],
    setup: [],
  } as const;
  for (const name of misplaced[given.mode]) {
    if (given[name] !== undefined) {
      throw badRequest(`You can not pass \`${name}\` in \`${given.mode}\` mode.`, { param: name });
    }
  }
  if (given.allowed_payment_method_types && given.excluded_payment_method_types) {
    throw badRequest(
      'You may only specify one of these parameters: allowed_payment_method_types, excluded_payment_method_types.',
      { param: 'allowed_payment_method_types' },
    );
  }
}

function discountsOf(ctx: Context, given: NewSession): SessionHidden['discounts'] {
  if (given.discounts && given.allow_promotion_codes) {
    throw badRequest(
      'You may only specify one of these parameters: allow_promotion_codes, discounts.',
      {
        param: 'discounts',
      },
    );
  }
  return (given.discounts ?? []).map((choice, at) => {
    const { coupon, promotionCode } = chooseCoupon(ctx, choice, `discounts[${at}]`);
    return { coupon: coupon.id, promotionCode };
  });
}

/** True when its buyer starts with a trial. */
export function startsTrial({ subscription }: SessionHidden): boolean {
  return subscription.trial_period_days !== null || subscription.trial_end !== null;
}

function checkTotal(lines: readonly Line[]): void {
  const total = totalOf(lines);
  const currency = lines[0]?.item.currency ?? 'usd';
  const minimum = chargeMinimum(currency);
  if (total > 0 && total < minimum) {
    throw badRequest(
      `The Checkout Session's total amount due must add up to at least ${formatAmount(minimum, currency)} ${currency}`,
      { code: 'amount_too_small', param: 'line_items' },
    );
  }
}

function expiryOf(ctx: Context, given: number | undefined): number {
  if (given === undefined) return seconds(ctx) + LIFETIME_MAX_SECONDS;
  const lifetime = given - seconds(ctx);
  if (lifetime < LIFETIME_MIN_SECONDS || lifetime > LIFETIME_MAX_SECONDS) {
    throw badRequest(
      'The `expires_at` timestamp must be at least 30 minutes and at most 24 hours after Checkout Session creation.',
      { param: 'expires_at' },
    );
  }
  return given;
}

export const itemExpandable: Expandable = {
  'price.product': (ctx, view) => {
    const price = view.price as { product?: unknown } | null;
    return ctx.store.get(products, String(price?.product))?.view;
  },
};

export const sessionExpandable: Expandable = {
  customer: expandCustomer,
  invoice: (ctx, view) => ctx.store.get(invoices, String(view.invoice))?.view,
  line_items: (ctx, view) => itemsOf(ctx, String(view.id), {}),
  payment_intent: (ctx, view) => ctx.store.get(paymentIntents, String(view.payment_intent))?.view,
  subscription: (ctx, view) => ctx.store.get(subscriptions, String(view.subscription))?.view,
};

function itemsOf(ctx: Context, id: string, page: Parameters<typeof listItems>[2]) {
  const items = findSession(ctx, id).hidden.lines.map(({ item }) => item);
  return listItems(items, `/v1/checkout/sessions/${id}/line_items`, page);
}

export const sessionRoutes: Route[] = [
  route('POST', '/v1/checkout/sessions', sessionCreateParams, createSession),
  route('GET', '/v1/checkout/sessions', sessionListParams, (ctx, filter) =>
    listRows(
      ctx,
      sessions,
      '/v1/checkout/sessions',
      filter,
      ({ view }) =>
        matchesFilter(filter.payment_intent, view.payment_intent) &&
        matchesFilter(filter.customer, view.customer) &&
        matchesFilter(filter.subscription, view.subscription) &&
        matchesFilter(filter.status, view.status) &&
        matchesFilter(filter.customer_details?.email, view.customer_details?.email ?? null) &&
        inRange(view.created, filter.created),
    ),
  ),
  route(
    'GET',
    '/v1/checkout/sessions/:id',
    { expand },
    (ctx, _params, ids) => findSession(ctx, idOf(ids)).view,
  ),
  route('GET', '/v1/checkout/sessions/:id/line_items', paging, (ctx, page, ids) =>
    itemsOf(ctx, idOf(ids), page),
  ),
  route('POST', '/v1/checkout/sessions/:id/expire', { expand }, (ctx, _params, ids) =>
    expireSession(ctx, idOf(ids)),
  ),
];
