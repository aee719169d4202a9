import { add, type Context, seconds } from '../context.ts';
import { emit } from '../events.ts';
import { listItems } from '../listing.ts';
import type { LiveCustomer } from '../resources/customers.ts';
import type { Metadata } from '../resources/fields.ts';
import type {
  BillingReason,
  InvoiceLineView,
  InvoiceView,
  LineParent,
  LinePricing,
} from '../resources/invoiceView.ts';
import type { CollectionMethod, SubscriptionView } from '../resources/subscriptionView.ts';
import { invoices } from '../tables.ts';
import { activeDiscounts, discountAmounts } from './discounts.ts';

/** Lines shown inside the invoice; the rest is paged from `/v1/invoices/:id/lines`, as at Stripe. */
export const LINES_SHOWN_MAX = 10;
/** Stripe's limit of lines of one invoice. */
export const INVOICE_LINES_MAX = 250;

export interface LineDraft {
  readonly amount: number;
  readonly description: string | null;
  readonly discountable: boolean;
  readonly metadata: Metadata;
  readonly parent: LineParent;
  readonly period: { readonly start: number; readonly end: number };
  readonly pricing: LinePricing;
  readonly quantity: number;
}

export interface InvoiceDraft {
  readonly customer: LiveCustomer;
  readonly currency: string;
  readonly reason: BillingReason;
  readonly lines: readonly LineDraft[];
  readonly period: { readonly start: number; readonly end: number };
  readonly subscription?: SubscriptionView | null;
  readonly prorationDate?: number | undefined;
  readonly discounts?: readonly string[];
  readonly autoAdvance?: boolean;
  readonly finalizesAt?: number | null;
  readonly collectionMethod?: CollectionMethod;
  readonly dueDate?: number | null;
  readonly defaultPaymentMethod?: string | null;
  readonly description?: string | null;
  readonly footer?: string | null;
  readonly metadata?: Metadata;
  readonly statementDescriptor?: string | null;
  readonly automaticTax?: boolean;
}

/** A new draft. It is told by the caller, who may have to finalise it in the same moment. */
export function createDraft(ctx: Context, draft: InvoiceDraft): InvoiceView {
  const id = ctx.newId('in_');
  const lines = draft.lines.map((line) => lineView(ctx, id, draft.currency, line));
  const view: InvoiceView = {
    ...blank(ctx, id, draft),
    ...amountsOf(ctx, id, lines, draft.discounts ?? []),
  };
  return add(ctx, invoices, view, {
    lines: linesOf(ctx, lines, draft.discounts ?? []),
    payment_intent: null,
    created_event: null,
    retries: 0,
  }).view;
}

/** Replaces the lines of a draft, and what follows from them. */
export function setLines(
  ctx: Context,
  invoice: InvoiceView,
  lines: readonly InvoiceLineView[],
  discounts: readonly string[] = invoice.discounts,
): InvoiceView {
  return ctx.store.patch(
    invoices,
    invoice.id,
    { ...amountsOf(ctx, invoice.id, lines, discounts), discounts: [...discounts] },
    { lines: linesOf(ctx, lines, discounts) },
  ).view;
}

export function tellCreated(ctx: Context, id: string): void {
  const row = ctx.store.get(invoices, id);
  if (!row) throw new Error(`The sandbox has no invoice ${id}.`);
  ctx.store.patch(invoices, id, {}, { created_event: emit(ctx, 'invoice.created', row.view).id });
}

export function lineView(
  ctx: Context,
  invoice: string,
  currency: string,
  line: LineDraft,
): InvoiceLineView {
  const { invoice_item_details, subscription_item_details } = line.parent;
  return {
    id: ctx.newId('il_'),
    object: 'line_item',
    amount: line.amount,
    currency,
    description: line.description,
    discount_amounts: [],
    discountable: line.discountable,
    discounts: [],
    invoice,
    livemode: false,
    metadata: line.metadata,
    parent: line.parent,
    period: { end: line.period.end, start: line.period.start },
    pretax_credit_amounts: [],
    pricing: line.pricing,
    quantity: line.quantity,
    quantity_decimal: String(line.quantity),
    subscription:
      subscription_item_details?.subscription ?? invoice_item_details?.subscription ?? null,
    subtotal: line.amount,
    taxes: [],
  };
}

/** The lines with what their discounts take off. */
function linesOf(
  ctx: Context,
  lines: readonly InvoiceLineView[],
  discounts: readonly string[],
): InvoiceLineView[] {
  const taken = takenOff(ctx, lines, discounts);
  return lines.map((line, at) => {
    const amounts = taken[at] ?? [];
    return {
      ...line,
      discount_amounts: amounts,
      pretax_credit_amounts: amounts.map((amount) => ({ ...amount, type: 'discount' as const })),
    };
  });
}

function takenOff(ctx: Context, lines: readonly InvoiceLineView[], discounts: readonly string[]) {
  if (discounts.length === 0) return [];
  return discountAmounts(
    lines.map(({ amount, discountable, pricing }) => ({
      amount,
      discountable,
      product: pricing?.price_details.product ?? null,
    })),
    activeDiscounts(ctx, discounts, seconds(ctx)),
  );
}

function amountsOf(
  ctx: Context,
  id: string,
  lines: readonly InvoiceLineView[],
  discounts: readonly string[],
) {
  const subtotal = lines.reduce((sum, { amount }) => sum + amount, 0);
  const taken = takenOff(ctx, lines, discounts).flat();
  const perDiscount = discounts.map((discount) => ({
    discount,
    amount: taken.reduce((sum, one) => sum + (one.discount === discount ? one.amount : 0), 0),
  }));
  const total = subtotal - perDiscount.reduce((sum, { amount }) => sum + amount, 0);
  return {
    amount_due: Math.max(0, total),
    amount_remaining: Math.max(0, total),
    lines: listItems(linesOf(ctx, lines, discounts), `/v1/invoices/${id}/lines`, {
      limit: LINES_SHOWN_MAX,
    }),
    subtotal,
    subtotal_excluding_tax: subtotal,
    total,
    total_discount_amounts: perDiscount,
    total_excluding_tax: total,
    total_pretax_credit_amounts: perDiscount
      .filter(({ amount }) => amount > 0)
      .map((one) => ({ ...one, type: 'discount' as const })),
  };
}

function blank(ctx: Context, id: string, draft: InvoiceDraft) {
  const { customer, subscription } = draft;
  const tax = draft.automaticTax ?? false;
  return {
    id,
    object: 'invoice' as const,
    account_country: 'US' as const,
    account_name: 'Sandbox',
    account_tax_ids: null,
    amount_overpaid: 0,
    amount_paid: 0,
    amount_paid_off_stripe: 0,
    amount_shipping: 0,
    application: null,
    attempt_count: 0,
    attempted: false,
    auto_advance: draft.autoAdvance ?? false,
    automatic_tax: {
      disabled_reason: null,
      enabled: tax,
      liability: tax ? { type: 'self' as const } : null,
      provider: tax ? 'stripe' : null,
      status: tax ? ('complete' as const) : null,
    },
    automatically_finalizes_at: draft.finalizesAt ?? null,
    billing_reason: draft.reason,
    collection_method: draft.collectionMethod ?? ('charge_automatically' as const),
    created: seconds(ctx),
    currency: draft.currency,
    custom_fields: null,
    customer: customer.id,
    customer_account: null,
    customer_address: customer.address,
    customer_email: customer.email,
    customer_name: customer.name,
    customer_phone: customer.phone,
    customer_shipping: null,
    customer_tax_exempt: customer.tax_exempt,
    customer_tax_ids: [],
    default_payment_method: draft.defaultPaymentMethod ?? null,
    default_source: null,
    default_tax_rates: [],
    description: draft.description ?? null,
    discounts: [...(draft.discounts ?? [])],
    due_date: draft.dueDate ?? null,
    effective_at: null,
    ending_balance: null,
    footer: draft.footer ?? null,
    from_invoice: null,
    hosted_invoice_url: null,
    invoice_pdf: null,
    issuer: { type: 'self' as const },
    last_finalization_error: null,
    latest_revision: null,
    livemode: false as const,
    metadata: draft.metadata ?? {},
    next_payment_attempt: null,
    number: null,
    on_behalf_of: null,
    parent: subscription
      ? {
          quote_details: null,
          subscription_details: {
            metadata: subscription.metadata,
            subscription: subscription.id,
            ...(draft.prorationDate === undefined
              ? {}
              : { subscription_proration_date: draft.prorationDate }),
          },
          type: 'subscription_details' as const,
        }
      : null,
    payment_settings: {
      default_mandate: null,
      payment_method_options: null,
      payment_method_types: null,
    },
    period_end: draft.period.end,
    period_start: draft.period.start,
    post_payment_credit_notes_amount: 0,
    pre_payment_credit_notes_amount: 0,
    receipt_number: null,
    rendering: null,
    shipping_cost: null,
    shipping_details: null,
    starting_balance: customer.balance,
    statement_descriptor: draft.statementDescriptor ?? null,
    status: 'draft' as const,
    status_transitions: {
      finalized_at: null,
      marked_uncollectible_at: null,
      paid_at: null,
      voided_at: null,
    },
    test_clock: null,
    total_taxes: [],
    webhooks_delivered_at: null,
  };
}
