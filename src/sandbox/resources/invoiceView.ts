import type { Address } from './customers.ts';
import type { Metadata } from './fields.ts';
import type { CollectionMethod } from './subscriptionView.ts';

export type InvoiceStatus = 'draft' | 'open' | 'paid' | 'uncollectible' | 'void';
export type BillingReason =
  | 'automatic_pending_invoice_item_invoice'
  | 'manual'
  | 'subscription_create'
  | 'subscription_cycle'
  | 'subscription_update';

/** For a credit: the debit it takes back. */
export type CreditedItems = { invoice: string; invoice_line_items: string[] } | null;

export type LineParent =
  | {
      invoice_item_details: {
        invoice_item: string;
        proration: boolean;
        proration_details: { credited_items: CreditedItems };
        subscription: string | null;
      };
      subscription_item_details: null;
      type: 'invoice_item_details';
    }
  | {
      invoice_item_details: null;
      subscription_item_details: {
        invoice_item: string | null;
        proration: boolean;
        proration_details: { credited_items: CreditedItems };
        subscription: string;
        subscription_item: string;
      };
      type: 'subscription_item_details';
    };

export type LinePricing = {
  price_details: { price: string; product: string };
  type: 'price_details';
  unit_amount_decimal: string;
} | null;

export type InvoiceLineView = {
  id: string;
  object: 'line_item';
  amount: number;
  currency: string;
  description: string | null;
  discount_amounts: { amount: number; discount: string }[];
  discountable: boolean;
  discounts: string[];
  invoice: string;
  livemode: false;
  metadata: Metadata;
  parent: LineParent;
  period: { end: number; start: number };
  pretax_credit_amounts: { amount: number; discount: string; type: 'discount' }[];
  pricing: LinePricing;
  quantity: number;
  quantity_decimal: string;
  subscription: string | null;
  subtotal: number;
  taxes: never[];
};

export type InvoiceView = {
  id: string;
  object: 'invoice';
  account_country: 'US';
  account_name: string;
  account_tax_ids: null;
  amount_due: number;
  amount_overpaid: number;
  amount_paid: number;
  amount_paid_off_stripe: number;
  amount_remaining: number;
  amount_shipping: number;
  application: null;
  attempt_count: number;
  attempted: boolean;
  auto_advance: boolean;
  automatic_tax: {
    disabled_reason: null;
    enabled: boolean;
    liability: { type: 'self' } | null;
    provider: string | null;
    status: 'complete' | null;
  };
  automatically_finalizes_at: number | null;
  billing_reason: BillingReason;
  collection_method: CollectionMethod;
  created: number;
  currency: string;
  custom_fields: null;
  customer: string;
  customer_account: null;
  customer_address: Address | null;
  customer_email: string | null;
  customer_name: string | null;
  customer_phone: string | null;
  customer_shipping: null;
  customer_tax_exempt: 'exempt' | 'none' | 'reverse';
  customer_tax_ids: never[];
  default_payment_method: string | null;
  default_source: null;
  default_tax_rates: never[];
  description: string | null;
  discounts: string[];
  due_date: number | null;
  effective_at: number | null;
  ending_balance: number | null;
  footer: string | null;
  from_invoice: null;
  hosted_invoice_url: string | null;
  invoice_pdf: string | null;
  issuer: { type: 'self' };
  last_finalization_error: null;
  latest_revision: null;
  lines: { object: 'list'; data: InvoiceLineView[]; has_more: boolean; url: string };
  livemode: false;
  metadata: Metadata;
  next_payment_attempt: number | null;
  number: string | null;
  on_behalf_of: null;
  parent: {
    quote_details: null;
    subscription_details: {
      metadata: Metadata;
      subscription: string;
      subscription_proration_date?: number;
    };
    type: 'subscription_details';
  } | null;
  payment_settings: {
    default_mandate: null;
    payment_method_options: null;
    payment_method_types: null;
  };
  period_end: number;
  period_start: number;
  post_payment_credit_notes_amount: number;
  pre_payment_credit_notes_amount: number;
  receipt_number: string | null;
  rendering: null;
  shipping_cost: null;
  shipping_details: null;
  starting_balance: number;
  statement_descriptor: string | null;
  status: InvoiceStatus;
  status_transitions: {
    finalized_at: number | null;
    marked_uncollectible_at: number | null;
    paid_at: number | null;
    voided_at: number | null;
  };
  subtotal: number;
  subtotal_excluding_tax: number;
  test_clock: null;
  total: number;
  total_discount_amounts: { amount: number; discount: string }[];
  total_excluding_tax: number;
  total_pretax_credit_amounts: { amount: number; discount: string; type: 'discount' }[];
  total_taxes: never[];
  webhooks_delivered_at: number | null;
};

export type InvoiceHidden = {
  /** All of them; the view shows the first ten. */
  lines: InvoiceLineView[];
  /** The intent its money is asked with; made when it is finalised with something to pay. */
  payment_intent: string | null;
  /** The event of its creation: a renewal's draft waits for the endpoints that have not taken it. */
  created_event: string | null;
  /** Automatic attempts after the first. */
  retries: number;
};
