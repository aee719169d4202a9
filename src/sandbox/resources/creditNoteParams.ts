import {
  choice,
  clearable,
  decimal,
  expand,
  integer,
  list,
  metadata,
  object,
  paging,
  range,
  refused,
  required,
  text,
} from '../params.ts';

const LINES_MAX = 250;
const REFUNDS_MAX = 20;

const shared = {
  amount: integer({ min: 1 }),
  credit_amount: integer({ min: 1 }),
  effective_at: integer({ min: 0 }),
  email_type: choice('credit_note', 'none'),
  invoice: required(text()),
  lines: list(
    object({
      amount: integer({ min: 1 }),
      description: text(),
      invoice_line_item: text(),
      metadata,
      quantity: integer({ min: 1 }),
      tax_amounts: refused(),
      tax_rates: refused(),
      type: required(choice('custom_line_item', 'invoice_line_item')),
      unit_amount: integer({ min: 1 }),
      unit_amount_decimal: decimal,
    }),
    LINES_MAX,
  ),
  memo: text(),
  metadata,
  out_of_band_amount: integer({ min: 1 }),
  reason: choice('duplicate', 'fraudulent', 'order_change', 'product_unsatisfactory'),
  refund_amount: integer({ min: 1 }),
  refunds: list(
    object({
      amount_refunded: integer({ min: 1 }),
      payment_record_refund: refused(),
      refund: required(text()),
      type: choice('refund'),
    }),
    REFUNDS_MAX,
  ),
  shipping_cost: refused(),
};

export const creditNoteParams = { ...shared, expand };
export const previewLinesParams = { ...shared, ...paging };
export const creditNoteUpdateParams = { expand, memo: clearable(text()), metadata };
export const creditNoteListParams = {
  ...paging,
  created: range,
  customer: text(),
  customer_account: refused(),
  invoice: text(),
};
