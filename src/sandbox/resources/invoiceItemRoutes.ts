import { lineView, setLines } from '../billing/draftInvoice.ts';
import { findInvoice } from '../billing/finalizeInvoice.ts';
import { pendingLine } from '../billing/invoiceLines.ts';
import { type Context, seconds } from '../context.ts';
import { badRequest } from '../errors.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import { AMOUNT_MAX } from '../money.ts';
import {
  clearable,
  currency,
  expand,
  flag,
  integer,
  metadata,
  object,
  type Parsed,
  paging,
  range,
  refused,
  required,
  text,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { invoiceItems, invoices } from '../tables.ts';
import { expandCustomer, findCustomer } from './customers.ts';
import { applyMetadata, present } from './fields.ts';
import {
  amountOf,
  createInvoiceItem,
  findInvoiceItem,
  type InvoiceItemView,
  removeInvoiceItem,
} from './invoiceItems.ts';
import { findPrice, unitIn } from './priceFactory.ts';
import { productName } from './products.ts';

const details = {
  amount: integer({ min: -AMOUNT_MAX, max: AMOUNT_MAX }),
  description: clearable(text()),
  discountable: flag,
  discounts: refused('use the discounts of the invoice'),
  expand,
  metadata,
  period: object({ end: required(integer()), start: required(integer()) }),
  price_data: refused('make the price first'),
  pricing: object({ price: text() }),
  quantity: integer({ min: 0, max: 999_999 }),
  quantity_decimal: refused(),
  tax_behavior: refused(),
  tax_code: refused(),
  tax_rates: refused(),
  unit_amount_decimal: refused(),
};

const createParams = {
  ...details,
  currency,
  customer: text(),
  customer_account: refused(),
  invoice: text(),
  subscription: text(),
};

function create(ctx: Context, given: Parsed<typeof createParams>): InvoiceItemView {
  if (given.customer === undefined) {
    throw badRequest('Missing required param: customer.', {
      param: 'customer',
      code: 'parameter_missing',
    });
  }
  const customer = findCustomer(ctx, given.customer, 'customer', 400);
  const price =
    given.pricing?.price === undefined
      ? null
      : findPrice(ctx, given.pricing.price, 'pricing[price]', 400);
  if (price?.recurring) {
    throw badRequest('The price specified recurs: this field only accepts one-time prices.', {
      param: 'pricing[price]',
    });
  }
  const into = given.currency ?? price?.currency ?? customer.currency ?? 'usd';
  const unit = price ? unitIn(ctx, price, into, `The price ${price.id}`) : undefined;
  const quantity = given.quantity ?? 1;
  const now = seconds(ctx);
  const item = createInvoiceItem(ctx, {
    customer: customer.id,
    currency: into,
    amount: amountOf(unit, given.amount, quantity),
    description: given.description ?? (price ? productName(ctx, price.product) : null),
    discountable: given.discountable ?? (given.amount ?? 0) >= 0,
    metadata: applyMetadata({}, given.metadata),
    period: given.period ?? { start: now, end: now },
    pricing: price
      ? {
          price_details: { price: price.id, product: price.product },
          type: 'price_details',
          unit_amount_decimal: unit ?? price.unit_amount_decimal,
        }
      : null,
    quantity,
    subscription: given.subscription === undefined ? null : { id: given.subscription },
  });
  return given.invoice === undefined ? item : putOn(ctx, item, given.invoice);
}

/** On a draft that was made before. */
function putOn(ctx: Context, item: InvoiceItemView, id: string): InvoiceItemView {
  const { view, hidden } = findInvoice(ctx, id, 'invoice', 400);
  assertDraft(view.status);
  const line = lineView(ctx, id, view.currency, pendingLine(item));
  setLines(ctx, view, [...hidden.lines, line]);
  return ctx.store.patch(invoiceItems, item.id, { invoice: id }).view;
}

function assertDraft(status: string): void {
  if (status === 'draft') return;
  throw badRequest(`This invoice is ${status} and its items can no longer be changed.`, {
    code: 'invoice_not_editable',
    param: 'invoice',
  });
}

/** The lines of its draft follow a change of the item, or its end (null). */
function relay(ctx: Context, item: InvoiceItemView, next: InvoiceItemView | null): void {
  if (item.invoice === null) return;
  const { view, hidden } = findInvoice(ctx, item.invoice, 'invoice', 400);
  assertDraft(view.status);
  const lines = hidden.lines.flatMap((line) => {
    const { invoice_item_details, subscription_item_details } = line.parent;
    const owner = invoice_item_details?.invoice_item ?? subscription_item_details?.invoice_item;
    if (owner !== item.id) return [line];
    return next
      ? [{ ...lineView(ctx, view.id, view.currency, pendingLine(next)), id: line.id }]
      : [];
  });
  setLines(ctx, view, lines);
}

export const invoiceItemExpandable: Expandable = {
  customer: expandCustomer,
  invoice: (ctx, view) => ctx.store.get(invoices, String(view.invoice))?.view,
};

const listParams = {
  ...paging,
  created: range,
  customer: text(),
  customer_account: refused(),
  invoice: text(),
  pending: flag,
};

export const invoiceItemRoutes: Route[] = [
  route('POST', '/v1/invoiceitems', createParams, create),
  route('GET', '/v1/invoiceitems', listParams, (ctx, filter) =>
    listRows(
      ctx,
      invoiceItems,
      '/v1/invoiceitems',
      filter,
      ({ view }) =>
        matchesFilter(filter.customer, view.customer) &&
        matchesFilter(filter.invoice, view.invoice) &&
        matchesFilter(filter.pending, view.invoice === null) &&
        inRange(view.date, filter.created),
    ),
  ),
  route('GET', '/v1/invoiceitems/:id', { expand }, (ctx, _params, ids) =>
    findInvoiceItem(ctx, idOf(ids)),
  ),
  route('POST', '/v1/invoiceitems/:id', details, (ctx, given, ids) => {
    const before = findInvoiceItem(ctx, idOf(ids));
    if (given.pricing) throw badRequest('Delete the item and make another.', { param: 'pricing' });
    const { amount, description, discountable, period } = given;
    const { view } = ctx.store.patch(invoiceItems, before.id, {
      ...present({ amount, description, discountable, period }),
      ...(amount === undefined ? {} : { net_amount: amount }),
      metadata: applyMetadata(before.metadata, given.metadata),
    });
    relay(ctx, before, view);
    return view;
  }),
  route('DELETE', '/v1/invoiceitems/:id', {}, (ctx, _params, ids) => {
    const before = findInvoiceItem(ctx, idOf(ids));
    relay(ctx, before, null);
    removeInvoiceItem(ctx, before);
    return { id: before.id, object: 'invoiceitem', deleted: true };
  }),
];
