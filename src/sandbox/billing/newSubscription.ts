import { type Context, seconds } from '../context.ts';
import { badRequest } from '../errors.ts';
import type { CouponView } from '../resources/coupons.ts';
import type { LiveCustomer } from '../resources/customers.ts';
import type { Metadata } from '../resources/fields.ts';
import type { PriceView } from '../resources/priceFactory.ts';
import {
  type CollectionMethod,
  type MissingMethod,
  type ProrationBehavior,
  planOf,
  type SubscriptionItemView,
  type SubscriptionView,
} from '../resources/subscriptionView.ts';
import type { Period } from './calendar.ts';

/** Stripe's limit of items. */
const ITEMS_MAX = 20;

interface NewItem {
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

/** An item in the period of its subscription. */
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

/** A subscription as it starts, not kept or told yet. */
export function newView(
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
