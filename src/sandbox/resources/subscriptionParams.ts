import {
  choice,
  clearable,
  currency,
  expand,
  flag,
  integer,
  list,
  metadata,
  object,
  only,
  paging,
  range,
  refused,
  required,
  text,
  timeOr,
} from '../params.ts';
import { discountsParam } from './invoiceParams.ts';

const QUANTITY_MAX = 999_999;
const self = object({ account: refused(), type: required(only('self', 'there is one account')) });

const proration = choice('always_invoice', 'create_prorations', 'none');
const behavior = choice(
  'allow_incomplete',
  'default_incomplete',
  'error_if_incomplete',
  'pending_if_incomplete',
);
const cancellation = object({
  comment: clearable(text()),
  feedback: clearable(
    choice(
      'customer_service',
      'low_quality',
      'missing_features',
      'other',
      'switched_service',
      'too_complex',
      'too_expensive',
      'unused',
    ),
  ),
  feedback_option: refused(),
});

const newItem = {
  billing_thresholds: refused(),
  current_trial: refused(),
  discounts: refused('use the discounts of the subscription'),
  metadata,
  plan: refused('use price'),
  price: text(),
  price_data: refused('make the price first'),
  quantity: integer({ min: 0, max: QUANTITY_MAX }),
  tax_rates: refused(),
};

const shared = {
  application_fee_percent: refused(),
  automatic_tax: object({ enabled: required(flag), liability: self }),
  billing_schedules: refused(),
  billing_thresholds: refused(),
  cancel_at: clearable(timeOr('max_billed_until', 'max_period_end', 'min_period_end')),
  cancel_at_period_end: flag,
  collection_method: choice('charge_automatically', 'send_invoice'),
  days_until_due: integer({ min: 0 }),
  default_payment_method: text(),
  default_source: refused(),
  default_tax_rates: refused(),
  description: clearable(text(500)),
  discounts: clearable(discountsParam),
  expand,
  invoice_settings: refused(),
  metadata,
  off_session: flag,
  on_behalf_of: refused(),
  payment_behavior: behavior,
  payment_settings: object({
    payment_method_options: refused(),
    payment_method_types: clearable(list(text(50))),
    save_default_payment_method: choice('off', 'on_subscription'),
  }),
  pending_invoice_item_interval: refused(),
  proration_behavior: proration,
  transfer_data: refused(),
  trial_end: timeOr('now'),
  trial_from_plan: flag,
  trial_settings: object({
    end_behavior: required(
      object({
        billing_cycle_anchor: refused(),
        missing_payment_method: choice('cancel', 'create_invoice', 'pause'),
      }),
    ),
  }),
};

export const createParams = {
  ...shared,
  add_invoice_items: list(
    object({
      discountable: flag,
      discounts: refused(),
      metadata,
      period: refused(),
      price: text(),
      price_data: refused('make the price first'),
      quantity: integer({ min: 1, max: QUANTITY_MAX }),
      tax_rates: refused(),
    }),
    20,
  ),
  backdate_start_date: refused(),
  billing_cycle_anchor: integer(),
  billing_cycle_anchor_config: refused(),
  billing_mode: object({
    flexible: object({ proration_discounts: only('included', 'prorations are net') }),
    type: required(only('flexible', 'it is the default of this API version')),
  }),
  currency,
  customer: text(),
  customer_account: refused(),
  items: list(object(newItem), 20),
  trial_period_days: integer({ min: 1, max: 730 }),
};

export const updateParams = {
  ...shared,
  add_invoice_items: refused('make an invoice item first'),
  billing_cycle_anchor: object({ type: required(choice('now', 'unchanged')) }),
  cancellation_details: cancellation,
  items: list(object({ ...newItem, clear_usage: refused(), deleted: flag, id: text() }), 20),
  pause_collection: clearable(
    object({
      behavior: required(choice('keep_as_draft', 'mark_uncollectible', 'void')),
      resumes_at: integer(),
    }),
  ),
  proration_date: integer(),
};

export const cancelParams = {
  cancellation_details: cancellation,
  expand,
  invoice_now: flag,
  prorate: flag,
};

export const pauseParams = {
  bill_for: object({
    outstanding_usage_through: refused(),
    unused_time_from: object({
      type: required(choice('item_current_period_start', 'none', 'now')),
    }),
  }),
  expand,
  invoicing_behavior: choice('invoice', 'pending_invoice_item'),
  type: choice('subscription'),
};

export const resumeParams = {
  billing_cycle_anchor: object({ type: required(choice('now', 'unchanged')) }),
  expand,
  payment_behavior: choice('resume_on_payment_attempt', 'resume_on_payment_success'),
  proration_behavior: proration,
  proration_date: refused(),
};

export const listParams = {
  ...paging,
  automatic_tax: refused(),
  collection_method: choice('charge_automatically', 'send_invoice'),
  created: range,
  current_period_end: range,
  current_period_start: range,
  customer: text(),
  customer_account: refused(),
  plan: text(),
  price: text(),
  status: choice(
    'active',
    'all',
    'canceled',
    'ended',
    'incomplete',
    'incomplete_expired',
    'past_due',
    'paused',
    'trialing',
    'unpaid',
  ),
  test_clock: refused('use the clock of the sandbox'),
};
