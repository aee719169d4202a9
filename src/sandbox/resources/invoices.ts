import { add, type Context, seconds } from '../context.ts';
import { noSuch } from '../errors.ts';
import { emit } from '../events.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listItems, listRows, matchesFilter } from '../listing.ts';
import { choice, expand, paging, range, refused, text } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { customers, invoicePayments, invoices, prices } from '../tables.ts';
import { type Line, totalOf } from './checkoutLines.ts';
import type { SessionView } from './checkoutView.ts';
import { expandCustomer, findCustomer, type LiveCustomer } from './customers.ts';
import type { Metadata } from './fields.ts';
import { createInvoicePayment } from './invoicePayments.ts';

/** Lines shown inside the invoice; the rest is paged from `/v1/invoices/:id/lines`, as at Stripe. */
const LINES_SHOWN_MAX = 10;

export type InvoiceLineView = ReturnType<typeof lineView>;
export type InvoiceView = ReturnType<typeof invoiceView>;

function lineView(ctx: Context, invoice: string, { item, unit }: Line) {
  return {
    id: ctx.newId('il_'),
    object: 'line_item' as const,
    amount: item.amount_total,
    currency: item.currency,
    description: item.description,
    discount_amounts: [] as never[],
    discountable: true,
    discounts: [] as never[],
    invoice,
    livemode: false as const,
    metadata: {} as Metadata,
    parent: {
      invoice_item_details: {
        invoice_item: ctx.newId('ii_'),
        proration: false,
        proration_details: { credited_items: null },
        subscription: null,
      },
      subscription_item_details: null,
      type: 'invoice_item_details' as const,
    },
    period: { end: seconds(ctx), start: seconds(ctx) },
    pretax_credit_amounts: [] as never[],
    pricing: {
      price_details: { price: item.price.id, product: item.price.product },
      type: 'price_details' as const,
      unit_amount_decimal: unit,
    },
    quantity: item.quantity,
    quantity_decimal: String(item.quantity),
    subscription: null,
    subtotal: item.amount_subtotal,
    taxes: [] as never[],
  };
}

function invoiceView(
  ctx: Context,
  id: string,
  session: SessionView,
  customer: LiveCustomer,
  lines: readonly InvoiceLineView[],
  total: number,
) {
  const data = session.invoice_creation?.invoice_data;
  return {
    id,
    object: 'invoice' as const,
    account_country: 'US',
    account_name: 'Sandbox',
    account_tax_ids: null,
    amount_due: total,
    amount_overpaid: 0,
    amount_paid: 0,
    amount_remaining: total,
    amount_shipping: 0,
    application: null,
    attempt_count: 0,
    attempted: false,
    auto_advance: false,
    automatic_tax: {
      disabled_reason: null,
      enabled: session.automatic_tax.enabled,
      liability: session.automatic_tax.liability,
      provider: session.automatic_tax.provider,
      status: session.automatic_tax.enabled ? ('complete' as const) : null,
    },
    automatically_finalizes_at: null,
    billing_reason: 'manual' as const,
    collection_method: 'charge_automatically' as const,
    created: seconds(ctx),
    currency: session.currency ?? 'usd',
    custom_fields: null,
    customer: customer.id,
    customer_account: null,
    customer_address: customer.address,
    customer_email: customer.email,
    customer_name: customer.name,
    customer_phone: customer.phone,
    customer_shipping: null,
    customer_tax_exempt: customer.tax_exempt,
    customer_tax_ids: [] as never[],
    default_payment_method: null,
    default_source: null,
    default_tax_rates: [] as never[],
    description: data?.description ?? null,
    discounts: [] as never[],
    due_date: null,
    effective_at: null as number | null,
    ending_balance: null as number | null,
    footer: data?.footer ?? null,
    from_invoice: null,
    hosted_invoice_url: null,
    invoice_pdf: null,
    issuer: { type: 'self' as const },
    last_finalization_error: null,
    latest_revision: null,
    lines: listItems(lines, `/v1/invoices/${id}/lines`, { limit: LINES_SHOWN_MAX }),
    livemode: false as const,
    metadata: data?.metadata ?? {},
    next_payment_attempt: null,
    number: null as string | null,
    on_behalf_of: null,
    parent: null,
    payment_settings: {
      default_mandate: null,
      payment_method_options: null,
      payment_method_types: null,
    },
    period_end: seconds(ctx),
    period_start: seconds(ctx),
    post_payment_credit_notes_amount: 0,
    pre_payment_credit_notes_amount: 0,
    receipt_number: null,
    rendering: null,
    shipping_cost: null,
    shipping_details: null,
    starting_balance: 0,
    statement_descriptor: null,
    status: 'draft' as 'draft' | 'open' | 'paid',
    status_transitions: {
      finalized_at: null as number | null,
      marked_uncollectible_at: null,
      paid_at: null as number | null,
      voided_at: null,
    },
    subtotal: total,
    subtotal_excluding_tax: total,
    test_clock: null,
    total,
    total_discount_amounts: [] as never[],
    total_excluding_tax: total,
    total_pretax_credit_amounts: [] as never[],
    total_taxes: [] as never[],
    webhooks_delivered_at: null,
  };
}

/** The invoice of a paid session, still a draft and not told to anybody. */
export function draftInvoice(
  ctx: Context,
  session: SessionView,
  lines: readonly Line[],
  customerId: string,
): InvoiceView {
  const customer = findCustomer(ctx, customerId, 'customer', 400);
  const id = ctx.newId('in_');
  const views = lines.map((line) => lineView(ctx, id, line));
  const view = invoiceView(ctx, id, session, customer, views, totalOf(lines));
  return add(ctx, invoices, view, { lines: views }).view;
}

/** Finalises and pays a draft with money that has already come, in Stripe's order of events. */
export function payDraft(ctx: Context, id: string, paymentIntent: string | null): InvoiceView {
  const draft = findInvoice(ctx, id).view;
  emit(ctx, 'invoice.created', draft);
  const now = seconds(ctx);
  const { view: open } = ctx.store.patch(invoices, id, {
    status: 'open',
    number: takeNumber(ctx, draft.customer),
    effective_at: now,
    ending_balance: 0,
    status_transitions: { ...draft.status_transitions, finalized_at: now },
  });
  emit(ctx, 'invoice.finalized', open);
  const { view: paid } = ctx.store.patch(invoices, id, {
    status: 'paid',
    amount_paid: open.total,
    amount_remaining: 0,
    attempt_count: paymentIntent === null ? 0 : 1,
    attempted: true,
    status_transitions: { ...open.status_transitions, paid_at: now },
  });
  const payment = paymentIntent === null ? null : createInvoicePayment(ctx, paid, paymentIntent);
  emit(ctx, 'invoice.paid', paid);
  emit(ctx, 'invoice.payment_succeeded', paid);
  if (payment) emit(ctx, 'invoice_payment.paid', payment);
  return paid;
}

export function findInvoice(ctx: Context, id: string, status: 400 | 404 = 404) {
  const found = ctx.store.get(invoices, id);
  if (!found) throw noSuch('invoice', id, 'invoice', status);
  return found;
}

function takeNumber(ctx: Context, customerId: string): string {
  const customer = ctx.store.get(customers, customerId)?.view;
  if (!customer || 'deleted' in customer) throw new Error('A finalised invoice has a customer.');
  const sequence = customer.next_invoice_sequence;
  // Not told as customer.updated: nobody changed the customer.
  const view = { ...customer, next_invoice_sequence: sequence + 1 };
  ctx.store.put(customers, { id: customer.id, view, hidden: {} });
  return `${customer.invoice_prefix}-${String(sequence).padStart(4, '0')}`;
}

export const invoiceLineExpandable: Expandable = {
  'pricing.price_details.price': (ctx, view) => {
    const pricing = view.pricing as { price_details?: { price?: unknown } } | null;
    return ctx.store.get(prices, String(pricing?.price_details?.price))?.view;
  },
};

export const invoiceExpandable: Expandable = {
  customer: expandCustomer,
  payments: (ctx, view) => ({
    object: 'list',
    data: [...ctx.store.walk(invoicePayments, 'newest_first')]
      .map((row) => row.view)
      .filter((payment) => payment.invoice === view.id),
    has_more: false,
    url: `/v1/invoice_payments?invoice=${String(view.id)}`,
  }),
};

const listParams = {
  ...paging,
  collection_method: choice('charge_automatically', 'send_invoice'),
  created: range,
  customer: text(),
  customer_account: refused(),
  due_date: refused(),
  status: choice('draft', 'open', 'paid', 'uncollectible', 'void'),
  subscription: text(),
};

export const invoiceRoutes: Route[] = [
  route('GET', '/v1/invoices', listParams, (ctx, filter) =>
    listRows(
      ctx,
      invoices,
      '/v1/invoices',
      filter,
      ({ view }) =>
        matchesFilter(filter.customer, view.customer) &&
        matchesFilter<string>(filter.status, view.status) &&
        matchesFilter<string>(filter.collection_method, view.collection_method) &&
        // No invoice of the sandbox belongs to a subscription yet.
        filter.subscription === undefined &&
        inRange(view.created, filter.created),
    ),
  ),
  route(
    'GET',
    '/v1/invoices/:id',
    { expand },
    (ctx, _params, ids) => findInvoice(ctx, idOf(ids)).view,
  ),
  route('GET', '/v1/invoices/:id/lines', paging, (ctx, page, ids) => {
    const { id, hidden } = findInvoice(ctx, idOf(ids));
    return listItems(hidden.lines, `/v1/invoices/${id}/lines`, page);
  }),
];
