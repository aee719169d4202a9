import type { Metadata } from './fields.ts';
import type { PriceView } from './priceFactory.ts';

export type SubscriptionStatus =
  | 'active'
  | 'canceled'
  | 'incomplete'
  | 'incomplete_expired'
  | 'past_due'
  | 'paused'
  | 'trialing'
  | 'unpaid';

export type ProrationBehavior = 'create_prorations' | 'always_invoice' | 'none';
export type CollectionMethod = 'charge_automatically' | 'send_invoice';
export type MissingMethod = 'cancel' | 'create_invoice' | 'pause';
export type PauseReason = 'pause_requested' | 'trial_end_without_payment_method';

export type PlanView = {
  id: string;
  object: 'plan';
  active: boolean;
  amount: number | null;
  amount_decimal: string;
  billing_scheme: 'per_unit';
  created: number;
  currency: string;
  interval: 'day' | 'week' | 'month' | 'year';
  interval_count: number;
  livemode: false;
  metadata: Metadata;
  meter: null;
  nickname: string | null;
  product: string;
  tiers_mode: null;
  transform_usage: null;
  trial_period_days: number | null;
  usage_type: 'licensed';
};

export type SubscriptionItemView = {
  id: string;
  object: 'subscription_item';
  billing_thresholds: null;
  created: number;
  current_period_end: number;
  current_period_start: number;
  current_trial: null;
  discounts: string[];
  metadata: Metadata;
  plan: PlanView;
  price: PriceView;
  quantity: number;
  subscription: string;
  tax_rates: never[];
};

export type PauseCollection = {
  behavior: 'keep_as_draft' | 'mark_uncollectible' | 'void';
  resumes_at: number | null;
};

export type CancellationDetails = {
  comment: string | null;
  feedback: string | null;
  feedback_option: null;
  reason: 'cancellation_requested' | 'payment_failed' | 'payment_disputed' | null;
};

type PausedDetails = {
  paused: { subscription: { type: PauseReason }; transitioned_at: number; type: 'subscription' };
};

export type SubscriptionView = {
  id: string;
  object: 'subscription';
  application: null;
  application_fee_percent: null;
  automatic_tax: {
    disabled_reason: null;
    enabled: boolean;
    liability: { type: 'self' } | null;
  };
  billing_cycle_anchor: number;
  billing_cycle_anchor_config: null;
  billing_mode: { flexible: { proration_discounts: 'included' }; type: 'flexible' };
  billing_schedules: never[];
  billing_thresholds: null;
  cancel_at: number | null;
  cancel_at_period_end: boolean;
  canceled_at: number | null;
  cancellation_details: CancellationDetails;
  collection_method: CollectionMethod;
  created: number;
  currency: string;
  customer: string;
  customer_account: null;
  days_until_due: number | null;
  default_payment_method: string | null;
  default_source: null;
  default_tax_rates: never[];
  description: string | null;
  discounts: string[];
  ended_at: number | null;
  invoice_settings: {
    account_tax_ids: null;
    custom_fields: null;
    description: null;
    footer: null;
    issuer: { type: 'self' };
  };
  items: { object: 'list'; data: SubscriptionItemView[]; has_more: false; url: string };
  latest_invoice: string | null;
  livemode: false;
  managed_payments: null;
  metadata: Metadata;
  next_pending_invoice_item_invoice: null;
  on_behalf_of: null;
  pause_collection: PauseCollection | null;
  payment_settings: {
    payment_method_options: null;
    payment_method_types: string[] | null;
    save_default_payment_method: 'off' | 'on_subscription';
  };
  pending_invoice_item_interval: null;
  pending_setup_intent: null;
  pending_update: null;
  schedule: null;
  start_date: number;
  status: SubscriptionStatus;
  status_details?: PausedDetails | undefined;
  test_clock: null;
  transfer_data: null;
  trial_end: number | null;
  trial_settings: {
    end_behavior: {
      billing_cycle_anchor: 'now' | 'unchanged' | null;
      missing_payment_method: MissingMethod;
    };
  };
  trial_start: number | null;
};

/** What is not shown. `cancel_prorates`: a planned end gives back the time already paid. */
export type SubscriptionHidden = {
  cancel_prorates: boolean;
  /** Paused until this invoice is paid. */
  resuming_invoice: string | null;
};

/** The current period; all items of a subscription share it. */
export function periodOf(subscription: SubscriptionView): { start: number; end: number } {
  const [first] = subscription.items.data;
  if (!first) throw new Error(`The subscription ${subscription.id} has no items.`);
  return { start: first.current_period_start, end: first.current_period_end };
}

export function withPeriod(
  subscription: SubscriptionView,
  period: { start: number; end: number },
): SubscriptionView['items'] {
  const data = subscription.items.data.map((item) => ({
    ...item,
    current_period_start: period.start,
    current_period_end: period.end,
  }));
  return { ...subscription.items, data };
}

export function planOf(price: PriceView): PlanView {
  const { recurring } = price;
  if (!recurring) throw new Error(`The price ${price.id} does not recur.`);
  return {
    id: price.id,
    object: 'plan',
    active: price.active,
    amount: price.unit_amount,
    amount_decimal: price.unit_amount_decimal,
    billing_scheme: 'per_unit',
    created: price.created,
    currency: price.currency,
    interval: recurring.interval,
    interval_count: recurring.interval_count,
    livemode: false,
    metadata: price.metadata,
    meter: null,
    nickname: price.nickname,
    product: price.product,
    tiers_mode: null,
    transform_usage: null,
    trial_period_days: recurring.trial_period_days,
    usage_type: 'licensed',
  };
}
