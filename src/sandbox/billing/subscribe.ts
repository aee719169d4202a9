import { add, type Context, seconds } from '../context.ts';
import { ApiError, badRequest, cardError } from '../errors.ts';
import { emit } from '../events.ts';
import { chargeMinimum } from '../money.ts';
import type { CouponView } from '../resources/coupons.ts';
import { findCustomer, type LiveCustomer } from '../resources/customers.ts';
import type { Metadata } from '../resources/fields.ts';
import { createInvoiceItem } from '../resources/invoiceItems.ts';
import type { InvoiceView } from '../resources/invoiceView.ts';
import type { PriceView } from '../resources/priceFactory.ts';
import { productName } from '../resources/products.ts';
import {
  type CollectionMethod,
  type MissingMethod,
  type ProrationBehavior,
  planOf,
  type SubscriptionItemView,
  type SubscriptionView,
} from '../resources/subscriptionView.ts';
import { subscriptions } from '../tables.ts';
import { schedule } from '../tasks.ts';
import { type Period, periodAt } from './calendar.ts';
import { createDiscount } from './discounts.ts';
import { tellCreated } from './draftInvoice.ts';
import { finalizeInvoice } from './finalizeInvoice.ts';
import { itemLine, priceOf } from './invoiceLines.ts';
import { attemptPayment, collectInvoice, settleInvoice } from './payInvoice.ts';
import { planSubscription } from './planSubscription.ts';
import { share } from './proration.ts';
import { draftSubscriptionInvoice } from './subscriptionInvoice.ts';
import { findSubscription, patchSubscription } from './subscriptionState.ts';

/** An unpaid first invoice lets the subscription expire after 23 hours. */
const INCOMPLETE_SECONDS = 23 * 3_600;
/** Stripe's limit of items. */
export const ITEMS_MAX = 20;

export interface NewItem {
  readonly price: PriceView;
  readonly quantity: number;
  readonly metadata?: Metadata;
}
export type PaymentBehavior = 'allow_incomplete' | 'default_incomplete' | 'error_if_incomplete';

export interface NewSubscription {
  readonly customer: LiveCustomer;
  readonly currency: string;
  readonly items: readonly NewItem[];
  /** Billed once, with the first invoice. */
  readonly extras?: readonly { price: PriceView; unit: string; amount: number; quantity: number }[];
  /** Seconds; null: no trial. */
  readonly trialEnd?: number | null;
  /** Seconds, ahead: the first period is short and ends there. */
  readonly anchor?: number | undefined;
  readonly prorationBehavior?: ProrationBehavior;
  readonly paymentBehavior?: PaymentBehavior;
  readonly defaultPaymentMethod?: string | null;
  readonly saveDefaultPaymentMethod?: 'off' | 'on_subscription';
  readonly collectionMethod?: CollectionMethod;
  readonly daysUntilDue?: number | null;
  readonly description?: string | null;
  readonly metadata?: Metadata;
  readonly discounts?: readonly { coupon: CouponView; promotionCode: string | null }[];
  readonly checkoutSession?: string | null;
  readonly missingMethod?: MissingMethod;
  readonly automaticTax?: boolean;
  /** The buyer is there: his card asks him, not us. */
  readonly onSession?: boolean;
}

/**
 * Starts a subscription and bills its first period.
 * @throws ApiError 402 with `error_if_incomplete` when the first payment fails; nothing is kept then.
 */
export function subscribe(ctx: Context, given: NewSubscription): SubscriptionView {
  checkItems(given.items);
  const id = ctx.newId('sub_');
  const now = seconds(ctx);
  const trialing = (given.trialEnd ?? 0) > now;
  const view = newView(ctx, id, given, firstPeriod(given, now), trialing);
  add(ctx, subscriptions, view, { cancel_prorates: false, resuming_invoice: null });
  const discounts = (given.discounts ?? []).map(
    (chosen) =>
      createDiscount(ctx, {
        ...chosen,
        customer: view.customer,
        currency: view.currency,
        subscription: id,
        checkoutSession: given.checkoutSession ?? null,
      }).id,
  );
  const started = patchSubscription(ctx, id, { discounts });
  const invoice = draftFirst(ctx, started, given, trialing);
  tellStarted(ctx, id, invoice, trialing);
  return collectFirst(ctx, id, invoice.id, given);
}

function draftFirst(
  ctx: Context,
  subscription: SubscriptionView,
  given: NewSubscription,
  trialing: boolean,
): InvoiceView {
  const { id, customer, currency } = subscription;
  const now = seconds(ctx);
  for (const extra of given.extras ?? []) {
    createInvoiceItem(ctx, {
      customer,
      currency,
      amount: extra.amount,
      description: productName(ctx, extra.price.product),
      discountable: true,
      metadata: {},
      period: { start: now, end: now },
      pricing: {
        price_details: { price: extra.price.id, product: extra.price.product },
        type: 'price_details',
        unit_amount_decimal: extra.unit,
      },
      quantity: extra.quantity,
      subscription: { id },
    });
  }
  const lines = subscription.items.data.map((item) => {
    const period = { start: item.current_period_start, end: item.current_period_end };
    const part = trialing ? 0 : shortAmount(ctx, subscription, item, given);
    return itemLine(ctx, subscription, item, period, part);
  });
  return draftSubscriptionInvoice(ctx, subscription, {
    reason: 'subscription_create',
    lines,
    period: { start: now, end: now },
    finalizesAt: null,
  });
}

/** With an anchor ahead the first period is billed by its share of a whole one, or not at all. */
function shortAmount(
  ctx: Context,
  subscription: SubscriptionView,
  item: SubscriptionItemView,
  given: NewSubscription,
): number | undefined {
  if (given.anchor === undefined) return undefined;
  if (given.prorationBehavior === 'none') return 0;
  const { current_period_start: start, current_period_end: end } = item;
  const before = periodAt(backwards(end, item), item.plan, start);
  const { amount } = priceOf(ctx, subscription, item);
  return Math.min(amount, share(amount, end - start, end - before.start));
}

/** An anchor in the past that has `end` as one of its dates. */
function backwards(end: number, item: SubscriptionItemView): number {
  const { interval, interval_count } = item.plan;
  const days = { day: 1, week: 7, month: 31, year: 366 }[interval] * interval_count;
  return end - days * 86_400;
}

function tellStarted(ctx: Context, id: string, invoice: InvoiceView, trialing: boolean): void {
  const subscription = findSubscription(ctx, id);
  const customer = findCustomer(ctx, subscription.customer, 'customer', 400);
  const wanted = invoice.total + customer.balance;
  const free = wanted < Math.max(1, chargeMinimum(invoice.currency));
  const later = subscription.collection_method === 'send_invoice';
  const status = trialing ? 'trialing' : free || later ? 'active' : 'incomplete';
  const { view } = ctx.store.patch(subscriptions, id, { status });
  emit(ctx, 'customer.subscription.created', view);
  tellCreated(ctx, invoice.id);
  planSubscription(ctx, view);
  if (status === 'incomplete') {
    schedule(ctx, 'expire_incomplete', id, (view.created + INCOMPLETE_SECONDS) * 1_000);
  }
}

function collectFirst(
  ctx: Context,
  id: string,
  invoiceId: string,
  given: NewSubscription,
): SubscriptionView {
  const invoice = finalizeInvoice(ctx, invoiceId);
  if (invoice.amount_due === 0) settleInvoice(ctx, invoiceId);
  else if (invoice.collection_method === 'send_invoice') collectInvoice(ctx, invoiceId);
  else if (given.paymentBehavior !== 'default_incomplete') payFirst(ctx, invoiceId, given);
  return findSubscription(ctx, id);
}

function payFirst(ctx: Context, invoice: string, given: NewSubscription): void {
  const attempt = attemptPayment(ctx, invoice, {
    automatic: true,
    onSession: given.onSession ?? false,
  });
  if (given.paymentBehavior !== 'error_if_incomplete' || attempt.outcome === 'paid') return;
  if (attempt.outcome === 'failed') throw cardError(attempt.refusal, false);
  throw new ApiError(402, {
    type: 'card_error',
    code: 'subscription_payment_intent_requires_action',
    message:
      'Payment for this subscription requires additional user action before it can be completed.',
  });
}

function firstPeriod(given: NewSubscription, now: number): Period & { anchor: number } {
  const [first] = given.items;
  const every = first?.price.recurring;
  if (!every) throw new Error('The items were checked to recur.');
  const ahead = (given.trialEnd ?? 0) > now ? given.trialEnd : given.anchor;
  if (ahead != null && ahead > now) {
    const trial = ahead === given.trialEnd;
    const whole = periodAt(now, every, now).end;
    if (!trial && ahead > whole) {
      throw badRequest('billing_cycle_anchor cannot be later than the next natural billing date.', {
        param: 'billing_cycle_anchor',
      });
    }
    return { start: now, end: ahead, anchor: ahead };
  }
  return { ...periodAt(now, every, now), anchor: now };
}

/** @throws ApiError 400 unless all of them recur, in the same rhythm, each price once. */
export function checkItems(items: readonly { price: PriceView }[]): void {
  const [first] = items;
  if (!first || items.length > ITEMS_MAX) {
    throw badRequest(`A subscription has from 1 to ${ITEMS_MAX} items.`, { param: 'items' });
  }
  const seen = new Set<string>();
  items.forEach(({ price }, at) => {
    const param = `items[${at}][price]`;
    if (!price.recurring) {
      throw badRequest(
        `The price specified is set to \`type=one_time\` but this field only accepts prices with \`type=recurring\`.`,
        { param },
      );
    }
    if (seen.has(price.id)) {
      throw badRequest(`Price ${price.id} is used by more than one item of the subscription.`, {
        param,
      });
    }
    seen.add(price.id);
    const { interval, interval_count } = price.recurring;
    const other = first.price.recurring;
    if (interval !== other?.interval || interval_count !== other.interval_count) {
      throw badRequest('The sandbox bills all items of a subscription in one interval.', {
        param,
        code: 'sandbox_not_simulated',
      });
    }
  });
}

export function newItem(
  ctx: Context,
  subscription: string,
  given: NewItem,
  period: Period,
): SubscriptionItemView {
  return {
    id: ctx.newId('si_', 14),
    object: 'subscription_item',
    billing_thresholds: null,
    created: seconds(ctx),
    current_period_end: period.end,
    current_period_start: period.start,
    current_trial: null,
    discounts: [],
    metadata: given.metadata ?? {},
    plan: planOf(given.price),
    price: given.price,
    quantity: given.quantity,
    subscription,
    tax_rates: [],
  };
}

function newView(
  ctx: Context,
  id: string,
  given: NewSubscription,
  period: Period & { anchor: number },
  trialing: boolean,
): SubscriptionView {
  const now = seconds(ctx);
  const tax = given.automaticTax ?? false;
  return {
    id,
    object: 'subscription',
    application: null,
    application_fee_percent: null,
    automatic_tax: {
      disabled_reason: null,
      enabled: tax,
      liability: tax ? { type: 'self' } : null,
    },
    billing_cycle_anchor: period.anchor,
    billing_cycle_anchor_config: null,
    billing_mode: { flexible: { proration_discounts: 'included' }, type: 'flexible' },
    billing_schedules: [],
    billing_thresholds: null,
    cancel_at: null,
    cancel_at_period_end: false,
    canceled_at: null,
    cancellation_details: { comment: null, feedback: null, feedback_option: null, reason: null },
    collection_method: given.collectionMethod ?? 'charge_automatically',
    created: now,
    currency: given.currency,
    customer: given.customer.id,
    customer_account: null,
    days_until_due: given.daysUntilDue ?? null,
    default_payment_method: given.defaultPaymentMethod ?? null,
    default_source: null,
    default_tax_rates: [],
    description: given.description ?? null,
    discounts: [],
    ended_at: null,
    invoice_settings: {
      account_tax_ids: null,
      custom_fields: null,
      description: null,
      footer: null,
      issuer: { type: 'self' },
    },
    items: {
      object: 'list',
      data: given.items.map((item) => newItem(ctx, id, item, period)),
      has_more: false,
      url: `/v1/subscription_items?subscription=${id}`,
    },
    latest_invoice: null,
    livemode: false,
    managed_payments: null,
    metadata: given.metadata ?? {},
    next_pending_invoice_item_invoice: null,
    on_behalf_of: null,
    pause_collection: null,
    payment_settings: {
      payment_method_options: null,
      payment_method_types: null,
      save_default_payment_method: given.saveDefaultPaymentMethod ?? 'off',
    },
    pending_invoice_item_interval: null,
    pending_setup_intent: null,
    pending_update: null,
    schedule: null,
    start_date: now,
    status: trialing ? 'trialing' : 'incomplete',
    test_clock: null,
    transfer_data: null,
    trial_end: trialing ? period.end : null,
    trial_settings: {
      end_behavior: {
        billing_cycle_anchor: null,
        missing_payment_method: given.missingMethod ?? 'create_invoice',
      },
    },
    trial_start: trialing ? now : null,
  };
}
