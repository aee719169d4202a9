import { changeSubscription, type ItemChange } from '../billing/changeSubscription.ts';
import { chooseCoupon, createDiscount, endDiscount } from '../billing/discounts.ts';
import type { PaymentBehavior } from '../billing/newSubscription.ts';
import { subscribe } from '../billing/subscribe.ts';
import {
  findLiveSubscription,
  findSubscription,
  hasEnded,
  updateSubscription,
} from '../billing/subscriptionState.ts';
import { type Context, seconds } from '../context.ts';
import { badRequest, notSimulated } from '../errors.ts';
import { multiply } from '../money.ts';
import type { Parsed } from '../params.ts';
import { subscriptions } from '../tables.ts';
import { schedule, unschedule } from '../tasks.ts';
import { findCustomer } from './customers.ts';
import { applyMetadata, present } from './fields.ts';
import { findPaymentMethod } from './paymentMethods.ts';
import { findPrice, unitIn } from './priceFactory.ts';
import type { createParams, updateParams } from './subscriptionParams.ts';
import { type CancellationDetails, periodOf, type SubscriptionView } from './subscriptionView.ts';

const DAY_SECONDS = 86_400;

type Create = Parsed<typeof createParams>;
type Update = Parsed<typeof updateParams>;

/** What `POST /v1/subscriptions` asks for. @throws ApiError */
export function createSubscription(ctx: Context, given: Create): SubscriptionView {
  if (given.customer === undefined || given.items === undefined) {
    const param = given.customer === undefined ? 'customer' : 'items';
    throw badRequest(`Missing required param: ${param}.`, { param, code: 'parameter_missing' });
  }
  const customer = findCustomer(ctx, given.customer, 'customer', 400);
  const items = given.items.map((item, at) => ({
    price: activePrice(ctx, item.price, `items[${at}][price]`),
    quantity: item.quantity ?? 1,
    metadata: applyMetadata({}, item.metadata),
  }));
  const currency = given.currency ?? items[0]?.price.currency ?? 'usd';
  for (const { price } of items) unitIn(ctx, price, currency, `The price ${price.id}`);
  const discounts = (given.discounts ?? []).map((choice, at) =>
    chooseCoupon(ctx, choice, `discounts[${at}]`),
  );
  const started = subscribe(ctx, {
    customer,
    currency,
    items,
    extras: extrasOf(ctx, given, currency),
    trialEnd: trialEnd(ctx, given, items[0]?.price.recurring?.trial_period_days ?? null),
    anchor: given.billing_cycle_anchor,
    prorationBehavior: given.proration_behavior ?? 'create_prorations',
    paymentBehavior: paymentBehavior(given.payment_behavior),
    defaultPaymentMethod: ownMethod(ctx, given.default_payment_method, customer.id),
    saveDefaultPaymentMethod: given.payment_settings?.save_default_payment_method ?? 'off',
    collectionMethod: given.collection_method ?? 'charge_automatically',
    daysUntilDue: daysUntilDue(given, given.collection_method),
    description: given.description ?? null,
    metadata: applyMetadata({}, given.metadata),
    discounts,
    missingMethod: given.trial_settings?.end_behavior.missing_payment_method ?? 'create_invoice',
    automaticTax: given.automatic_tax?.enabled ?? false,
    onSession: given.off_session === false,
  });
  const ending = endFields(ctx, started, given);
  return ending ? updateSubscription(ctx, started.id, ending) : started;
}

function activePrice(ctx: Context, id: string | undefined, param: string) {
  if (id === undefined) {
    throw badRequest(`Missing required param: ${param}.`, { param, code: 'parameter_missing' });
  }
  const price = findPrice(ctx, id, param, 400);
  if (price.active) return price;
  throw badRequest('The price specified is inactive. This field only accepts active prices.', {
    param,
    code: 'price_inactive',
  });
}

function extrasOf(ctx: Context, given: Create, currency: string) {
  return (given.add_invoice_items ?? []).map((item, at) => {
    const price = activePrice(ctx, item.price, `add_invoice_items[${at}][price]`);
    const unit = unitIn(ctx, price, currency, `The price ${price.id}`);
    const quantity = item.quantity ?? 1;
    return { price, unit, quantity, amount: multiply(unit, quantity) };
  });
}

function trialEnd(ctx: Context, given: Create, priceDays: number | null): number | null {
  if (given.trial_end !== undefined && given.trial_period_days !== undefined) {
    throw badRequest(
      'You may only specify one of these parameters: trial_end, trial_period_days.',
      {
        param: 'trial_end',
      },
    );
  }
  if (given.trial_end === 'now') return null;
  if (given.trial_end !== undefined) return future(ctx, given.trial_end, 'trial_end');
  const days = given.trial_period_days ?? (given.trial_from_plan ? priceDays : null);
  return days === null ? null : seconds(ctx) + days * DAY_SECONDS;
}

function future(ctx: Context, at: number, param: string): number {
  if (at > seconds(ctx)) return at;
  throw badRequest(`Invalid timestamp: ${param} must be an integer Unix timestamp in the future.`, {
    param,
  });
}

function paymentBehavior(given: Create['payment_behavior']): PaymentBehavior {
  if (given !== 'pending_if_incomplete') return given ?? 'allow_incomplete';
  throw notSimulated('payment_behavior=pending_if_incomplete');
}

function ownMethod(ctx: Context, id: string | undefined, customer: string): string | null {
  if (id === undefined) return null;
  const method = findPaymentMethod(ctx, id, 'default_payment_method', 400);
  if (method.customer === customer) return method.id;
  throw badRequest(
    `The customer does not have a payment method with the ID ${id}. The payment method must be attached to the customer.`,
    { param: 'default_payment_method', code: 'resource_missing' },
  );
}

function daysUntilDue(
  given: { days_until_due?: number | undefined },
  method: string | undefined,
): number | null {
  if ((method === 'send_invoice') === (given.days_until_due !== undefined)) {
    return given.days_until_due ?? null;
  }
  throw badRequest('days_until_due is needed for, and only for, collection_method=send_invoice.', {
    param: 'days_until_due',
  });
}

/** The fields of a planned end, and its task. */
function endFields(
  ctx: Context,
  before: SubscriptionView,
  given: Pick<Update, 'cancel_at' | 'cancel_at_period_end' | 'proration_behavior'>,
): Partial<SubscriptionView> | null {
  const { cancel_at: at, cancel_at_period_end: atEnd } = given;
  if (at === undefined && atEnd === undefined) return null;
  if (at != null && atEnd) {
    throw badRequest(
      'You may only specify one of these parameters: cancel_at, cancel_at_period_end.',
      {
        param: 'cancel_at',
      },
    );
  }
  const { end } = periodOf(before);
  const requested = { ...before.cancellation_details, reason: 'cancellation_requested' as const };
  if (atEnd) {
    unschedule(ctx, 'cancel_subscription', before.id);
    return {
      cancel_at: end,
      cancel_at_period_end: true,
      canceled_at: seconds(ctx),
      cancellation_details: requested,
    };
  }
  if (at == null) {
    unschedule(ctx, 'cancel_subscription', before.id);
    const details = { ...before.cancellation_details, reason: null };
    return {
      cancel_at: null,
      cancel_at_period_end: false,
      canceled_at: null,
      cancellation_details: details,
    };
  }
  const when = typeof at === 'number' ? future(ctx, at, 'cancel_at') : end;
  const prorates = when !== end && given.proration_behavior !== 'none';
  ctx.store.patch(subscriptions, before.id, {}, { cancel_prorates: prorates });
  schedule(ctx, 'cancel_subscription', before.id, when * 1_000);
  return {
    cancel_at: when,
    cancel_at_period_end: false,
    canceled_at: seconds(ctx),
    cancellation_details: requested,
  };
}

/** What `POST /v1/subscriptions/:id` asks for. @throws ApiError */
export function changeGiven(ctx: Context, id: string, given: Update): SubscriptionView {
  const before = findSubscription(ctx, id);
  if (hasEnded(before)) return changeEnded(ctx, before, given);
  const fields = fieldsOf(ctx, before, given);
  const items = given.items?.map((item, at): ItemChange => {
    const price =
      item.price === undefined ? undefined : activePrice(ctx, item.price, `items[${at}][price]`);
    return {
      id: item.id,
      price,
      quantity: item.quantity,
      metadata: item.metadata === undefined ? undefined : applyMetadata({}, item.metadata),
      deleted: item.deleted,
    };
  });
  const bills =
    items !== undefined ||
    given.trial_end !== undefined ||
    given.billing_cycle_anchor?.type === 'now';
  if (!bills) return updateSubscription(ctx, id, fields);
  return changeSubscription(ctx, id, {
    items,
    fields,
    anchor: given.billing_cycle_anchor?.type,
    trialEnd: given.trial_end,
    prorationBehavior: given.proration_behavior,
    prorationDate: given.proration_date,
    paymentBehavior: paymentBehavior(given.payment_behavior),
  });
}

/** What can be changed without a bill. */
function fieldsOf(
  ctx: Context,
  before: SubscriptionView,
  given: Update,
): Partial<SubscriptionView> {
  const method = given.collection_method ?? before.collection_method;
  const methodChanged = method !== before.collection_method;
  return {
    ...present({ description: given.description }),
    metadata: applyMetadata(before.metadata, given.metadata),
    ...(given.default_payment_method === undefined
      ? {}
      : {
          default_payment_method: ownMethod(ctx, given.default_payment_method, before.customer),
        }),
    ...(given.pause_collection === undefined ? {} : pauseFields(ctx, before, given)),
    ...(methodChanged || given.days_until_due !== undefined
      ? { collection_method: method, days_until_due: daysUntilDue(given, method) }
      : {}),
    ...(given.automatic_tax === undefined
      ? {}
      : {
          automatic_tax: {
            disabled_reason: null,
            enabled: given.automatic_tax.enabled,
            liability: given.automatic_tax.enabled ? { type: 'self' as const } : null,
          },
        }),
    ...(given.trial_settings?.end_behavior.missing_payment_method
      ? {
          trial_settings: {
            end_behavior: {
              billing_cycle_anchor: null,
              missing_payment_method: given.trial_settings.end_behavior.missing_payment_method,
            },
          },
        }
      : {}),
    ...(given.payment_settings?.save_default_payment_method
      ? {
          payment_settings: {
            ...before.payment_settings,
            save_default_payment_method: given.payment_settings.save_default_payment_method,
          },
        }
      : {}),
    ...(given.discounts === undefined ? {} : { discounts: newDiscounts(ctx, before, given) }),
    ...endFields(ctx, before, given),
    ...(given.cancellation_details
      ? { cancellation_details: detailsOf(before, given.cancellation_details) }
      : {}),
  };
}

function pauseFields(ctx: Context, before: SubscriptionView, given: Update) {
  const { pause_collection: pause } = given;
  const until = pause?.resumes_at;
  if (until === undefined) unschedule(ctx, 'resume_collection', before.id);
  else schedule(ctx, 'resume_collection', before.id, future(ctx, until, 'resumes_at') * 1_000);
  return {
    pause_collection: pause
      ? { behavior: pause.behavior, resumes_at: pause.resumes_at ?? null }
      : null,
  };
}

/** Kept ones are named by their id; the others end. */
function newDiscounts(ctx: Context, before: SubscriptionView, given: Update): string[] {
  const wanted = (given.discounts ?? []).map((choice, at) => {
    if (choice.discount !== undefined) return choice.discount;
    return createDiscount(ctx, {
      ...chooseCoupon(ctx, choice, `discounts[${at}]`),
      customer: before.customer,
      currency: before.currency,
      subscription: before.id,
    }).id;
  });
  for (const id of before.discounts) if (!wanted.includes(id)) endDiscount(ctx, id);
  return wanted;
}

function changeEnded(ctx: Context, before: SubscriptionView, given: Update): SubscriptionView {
  const { cancellation_details, metadata, expand: _expand, ...other } = given;
  if (Object.keys(other).length > 0) findLiveSubscription(ctx, before.id);
  return updateSubscription(ctx, before.id, {
    metadata: applyMetadata(before.metadata, metadata),
    ...(cancellation_details
      ? { cancellation_details: detailsOf(before, cancellation_details) }
      : {}),
  });
}

function detailsOf(
  before: SubscriptionView,
  given: { comment?: string | null | undefined; feedback?: string | null | undefined },
): CancellationDetails {
  const { comment, feedback } = given;
  return { ...before.cancellation_details, ...present({ comment, feedback }) };
}
