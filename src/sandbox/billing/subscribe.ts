import { add, type Context, seconds } from '../context.ts';
import { ApiError, badRequest, cardError } from '../errors.ts';
import { emit } from '../events.ts';
import { chargeMinimum } from '../money.ts';
import { findCustomer } from '../resources/customers.ts';
import { createInvoiceItem } from '../resources/invoiceItems.ts';
import type { InvoiceView } from '../resources/invoiceView.ts';
import { productName } from '../resources/products.ts';
import type { SubscriptionItemView, SubscriptionView } from '../resources/subscriptionView.ts';
import { subscriptions } from '../tables.ts';
import { schedule } from '../tasks.ts';
import { type Period, periodAt } from './calendar.ts';
import { createDiscount } from './discounts.ts';
import { tellCreated } from './draftInvoice.ts';
import { finalizeInvoice } from './finalizeInvoice.ts';
import { itemLine, priceOf } from './invoiceLines.ts';
import { checkItems, type NewSubscription, newView } from './newSubscription.ts';
import { attemptPayment, collectInvoice, settleInvoice } from './payInvoice.ts';
import { planSubscription } from './planSubscription.ts';
import { share } from './proration.ts';
import { draftSubscriptionInvoice } from './subscriptionInvoice.ts';
import { findSubscription, patchSubscription } from './subscriptionState.ts';

/** An unpaid first invoice lets the subscription expire after 23 hours. */
const INCOMPLETE_SECONDS = 23 * 3_600;
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
