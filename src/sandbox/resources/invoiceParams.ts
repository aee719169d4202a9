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
} from '../params.ts';

const self = object({ account: refused(), type: required(only('self', 'there is one account')) });

export const discountsParam = list(
  object({ coupon: text(), discount: text(), promotion_code: text() }),
  20,
);

const details = {
  account_tax_ids: refused(),
  application_fee_amount: refused(),
  auto_advance: flag,
  automatic_tax: object({ enabled: required(flag), liability: self }),
  automatically_finalizes_at: refused('a draft with auto_advance is finalised after an hour'),
  collection_method: choice('charge_automatically', 'send_invoice'),
  custom_fields: refused(),
  days_until_due: integer({ min: 0 }),
  default_payment_method: text(),
  default_source: refused(),
  default_tax_rates: refused(),
  description: text(1_500),
  discounts: clearable(discountsParam),
  due_date: integer(),
  effective_at: refused(),
  expand,
  footer: text(),
  issuer: self,
  metadata,
  number: refused(),
  on_behalf_of: refused(),
  payment_settings: refused(),
  rendering: refused(),
  shipping_cost: refused(),
  shipping_details: refused(),
  statement_descriptor: text(22),
  transfer_data: refused(),
};

export const createParams = {
  ...details,
  currency,
  customer: text(),
  customer_account: refused(),
  from_invoice: refused(),
  pending_invoice_items_behavior: choice('exclude', 'include'),
  subscription: text(),
};
export const updateParams = details;
export const finalizeParams = { auto_advance: flag, expand };
export const payParams = {
  expand,
  forgive: flag,
  mandate: refused(),
  off_session: flag,
  paid_out_of_band: flag,
  payment_method: text(),
  source: refused(),
};
export const listParams = {
  ...paging,
  collection_method: choice('charge_automatically', 'send_invoice'),
  created: range,
  customer: text(),
  customer_account: refused(),
  due_date: range,
  status: choice('draft', 'open', 'paid', 'uncollectible', 'void'),
  subscription: text(),
};
