import { chooseCoupon, createDiscount } from '../billing/discounts.ts';
import { createDraft, INVOICE_LINES_MAX, setLines, tellCreated } from '../billing/draftInvoice.ts';
import { finalizeInvoice, findInvoice, updateInvoice } from '../billing/finalizeInvoice.ts';
import { attachItems, pendingLine } from '../billing/invoiceLines.ts';
import {
  attemptPayment,
  collectInvoice,
  markUncollectible,
  settleInvoice,
} from '../billing/payInvoice.ts';
import { findSubscription } from '../billing/subscriptionState.ts';
import { voidInvoice } from '../billing/voidInvoice.ts';
import { type Context, seconds } from '../context.ts';
import { ApiError, badRequest, cardError } from '../errors.ts';
import { emit } from '../events.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listItems, listRows, matchesFilter } from '../listing.ts';
import { expand, type Parsed, paging } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { settingsOf } from '../settings.ts';
import {
  discounts,
  invoiceItems,
  invoicePayments,
  invoices,
  paymentIntents,
  paymentMethods,
  prices,
  subscriptions,
} from '../tables.ts';
import { schedule, unschedule } from '../tasks.ts';
import { expandCustomer, findCustomer } from './customers.ts';
import { applyMetadata, present } from './fields.ts';
import { pendingItems } from './invoiceItems.ts';
import {
  createParams,
  finalizeParams,
  listParams,
  payParams,
  updateParams,
} from './invoiceParams.ts';
import type { InvoiceView } from './invoiceView.ts';
import { findPaymentMethod } from './paymentMethods.ts';

const DAY_SECONDS = 86_400;

function createInvoice(ctx: Context, given: Parsed<typeof createParams>): InvoiceView {
  const subscription =
    given.subscription === undefined
      ? null
      : findSubscription(ctx, given.subscription, 'subscription', 400);
  const customerId = given.customer ?? subscription?.customer;
  if (customerId === undefined) {
    throw badRequest('Missing required param: customer.', {
      param: 'customer',
      code: 'parameter_missing',
    });
  }
  const customer = findCustomer(ctx, customerId, 'customer', 400);
  const currency = given.currency ?? subscription?.currency ?? customer.currency ?? 'usd';
  const include =
    subscription !== null || (given.pending_invoice_items_behavior ?? 'exclude') === 'include';
  const items = include
    ? pendingItems(ctx, customer.id, currency, (owner) => owner === (subscription?.id ?? null))
    : [];
  const lines = items.slice(0, INVOICE_LINES_MAX);
  const now = seconds(ctx);
  const applied = subscription && given.discounts === undefined ? subscription.discounts : [];
  const { id } = createDraft(ctx, {
    customer,
    currency,
    reason: 'manual',
    lines: lines.map(pendingLine),
    period: { start: now, end: now },
    subscription,
    discounts: applied,
    autoAdvance: given.auto_advance ?? false,
    collectionMethod: given.collection_method ?? 'charge_automatically',
    dueDate: dueDate(given, given.collection_method, now),
    defaultPaymentMethod: methodOf(ctx, given.default_payment_method),
    description: given.description ?? null,
    footer: given.footer ?? null,
    metadata: applyMetadata({}, given.metadata),
    statementDescriptor: given.statement_descriptor ?? null,
    automaticTax: given.automatic_tax?.enabled ?? false,
  });
  attachItems(ctx, lines, id);
  if (given.discounts) redeem(ctx, id, given.discounts);
  planFinalisation(ctx, id);
  tellCreated(ctx, id);
  return findInvoice(ctx, id).view;
}

function dueDate(
  given: { days_until_due?: number | undefined; due_date?: number | undefined },
  method: string | undefined,
  now: number,
): number | null {
  if (method !== 'send_invoice') {
    if (given.days_until_due === undefined && given.due_date === undefined) return null;
    throw badRequest('A due date is for collection_method=send_invoice only.', {
      param: 'due_date',
    });
  }
  if (given.due_date !== undefined) return given.due_date;
  if (given.days_until_due === undefined) {
    throw badRequest('send_invoice needs days_until_due or due_date.', {
      param: 'days_until_due',
      code: 'parameter_missing',
    });
  }
  return now + given.days_until_due * DAY_SECONDS;
}

function methodOf(ctx: Context, id: string | undefined): string | null {
  return id === undefined ? null : findPaymentMethod(ctx, id, 'default_payment_method', 400).id;
}

function redeem(
  ctx: Context,
  id: string,
  choices: readonly { coupon?: string | undefined; promotion_code?: string | undefined }[],
): void {
  const { view, hidden } = findInvoice(ctx, id);
  const made = choices.map((choice, at) =>
    createDiscount(ctx, {
      ...chooseCoupon(ctx, choice, `discounts[${at}]`),
      customer: view.customer,
      currency: view.currency,
      invoice: id,
    }),
  );
  setLines(
    ctx,
    view,
    hidden.lines,
    made.map((discount) => discount.id),
  );
}

/** A draft that advances by itself is finalised after an hour. */
function planFinalisation(ctx: Context, id: string): void {
  const { view } = findInvoice(ctx, id);
  const at = view.auto_advance ? view.created + settingsOf(ctx).draft_seconds : null;
  ctx.store.patch(invoices, id, { automatically_finalizes_at: at });
  if (at === null) unschedule(ctx, 'finalize_invoice', id);
  else schedule(ctx, 'finalize_invoice', id, at * 1_000);
}

function changeInvoice(ctx: Context, id: string, given: Parsed<typeof updateParams>): InvoiceView {
  const { view: before } = findInvoice(ctx, id);
  const { auto_advance, description, footer, statement_descriptor } = given;
  const draft = before.status === 'draft';
  const fixed = [given.collection_method, given.discounts, given.due_date, given.days_until_due];
  if (!draft && fixed.some((value) => value !== undefined)) {
    throw badRequest('Finalized invoices can only change metadata, description and collection.', {
      code: 'invoice_not_editable',
    });
  }
  const method = given.collection_method ?? before.collection_method;
  const dated = given.due_date !== undefined || given.days_until_due !== undefined;
  const after = updateInvoice(ctx, id, {
    ...present({ auto_advance, description, footer, statement_descriptor }),
    collection_method: method,
    ...(dated ? { due_date: dueDate(given, method, before.created) } : {}),
    ...(given.default_payment_method === undefined
      ? {}
      : { default_payment_method: methodOf(ctx, given.default_payment_method) }),
    metadata: applyMetadata(before.metadata, given.metadata),
  });
  if (given.discounts !== undefined) redeem(ctx, id, given.discounts ?? []);
  if (draft && auto_advance !== undefined) planFinalisation(ctx, id);
  return given.discounts === undefined ? after : findInvoice(ctx, id).view;
}

function payInvoice(ctx: Context, id: string, given: Parsed<typeof payParams>): InvoiceView {
  const { view: before } = findInvoice(ctx, id);
  if (before.status === 'draft') finalizeInvoice(ctx, id);
  const { view } = findInvoice(ctx, id);
  const owed = view.status === 'open' || view.status === 'uncollectible';
  if (given.paid_out_of_band && owed) return settleInvoice(ctx, id, { outOfBand: true });
  if (owed && view.amount_due === 0) return settleInvoice(ctx, id);
  const attempt = attemptPayment(ctx, id, {
    method: given.payment_method,
    // The API's default is that the customer is not there.
    onSession: given.off_session === false,
  });
  if (attempt.outcome === 'failed') throw cardError(attempt.refusal, true);
  if (attempt.outcome === 'paid') return attempt.invoice;
  throw new ApiError(
    402,
    {
      type: 'card_error',
      code: 'invoice_payment_intent_requires_action',
      message: 'This payment requires additional user action before it can be completed.',
    },
    true,
  );
}

function deleteInvoice(ctx: Context, id: string) {
  const { view } = findInvoice(ctx, id);
  if (view.status !== 'draft' || view.parent !== null) {
    throw badRequest('Only drafts that belong to no subscription can be deleted.', {
      param: 'invoice',
    });
  }
  unschedule(ctx, 'finalize_invoice', id);
  for (const item of ctx.store.lookUp(invoiceItems, 'invoice', id)) {
    ctx.store.remove(invoiceItems, item.id);
  }
  ctx.store.remove(invoices, id);
  emit(ctx, 'invoice.deleted', view);
  return { id, object: 'invoice', deleted: true };
}

export const invoiceLineExpandable: Expandable = {
  'pricing.price_details.price': (ctx, view) => {
    const pricing = view.pricing as { price_details?: { price?: unknown } } | null;
    return ctx.store.get(prices, String(pricing?.price_details?.price))?.view;
  },
};

export const invoiceExpandable: Expandable = {
  confirmation_secret: (ctx, view) => {
    const intent = ctx.store.get(invoices, String(view.id))?.hidden.payment_intent;
    const secret = ctx.store.get(paymentIntents, intent ?? '')?.view.client_secret;
    return secret === undefined ? undefined : { client_secret: secret, type: 'payment_intent' };
  },
  customer: expandCustomer,
  default_payment_method: (ctx, view) =>
    ctx.store.get(paymentMethods, String(view.default_payment_method))?.view,
  discounts: (ctx, view) =>
    (view.discounts as string[]).map((id) => ctx.store.get(discounts, id)?.view ?? id),
  'parent.subscription_details.subscription': (ctx, view) => {
    const parent = view.parent as InvoiceView['parent'];
    return ctx.store.get(subscriptions, parent?.subscription_details.subscription ?? '')?.view;
  },
  payments: (ctx, view) => ({
    object: 'list',
    data: ctx.store
      .lookUp(invoicePayments, 'invoice', String(view.id))
      .map((row) => row.view)
      .reverse(),
    has_more: false,
    url: `/v1/invoice_payments?invoice=${String(view.id)}`,
  }),
};

export const invoiceRoutes: Route[] = [
  route('POST', '/v1/invoices', createParams, createInvoice),
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
        matchesFilter(
          filter.subscription,
          view.parent?.subscription_details.subscription ?? null,
        ) &&
        (filter.due_date === undefined || inRange(view.due_date ?? 0, filter.due_date)) &&
        inRange(view.created, filter.created),
      filter.subscription === undefined
        ? { index: 'customer', value: filter.customer }
        : { index: 'subscription', value: filter.subscription },
    ),
  ),
  route(
    'GET',
    '/v1/invoices/:id',
    { expand },
    (ctx, _params, ids) => findInvoice(ctx, idOf(ids)).view,
  ),
  route('POST', '/v1/invoices/:id', updateParams, (ctx, given, ids) =>
    changeInvoice(ctx, idOf(ids), given),
  ),
  route('DELETE', '/v1/invoices/:id', {}, (ctx, _params, ids) => deleteInvoice(ctx, idOf(ids))),
  route('GET', '/v1/invoices/:id/lines', paging, (ctx, page, ids) => {
    const { id, hidden } = findInvoice(ctx, idOf(ids));
    return listItems(hidden.lines, `/v1/invoices/${id}/lines`, page);
  }),
  route('POST', '/v1/invoices/:id/finalize', finalizeParams, (ctx, given, ids) => {
    const { id } = findInvoice(ctx, idOf(ids));
    const open = finalizeInvoice(ctx, id);
    if (given.auto_advance ?? open.auto_advance) return collectInvoice(ctx, id);
    // With nothing to pay there is nothing to wait for.
    return open.amount_due === 0 ? settleInvoice(ctx, id) : open;
  }),
  route('POST', '/v1/invoices/:id/pay', payParams, (ctx, given, ids) =>
    payInvoice(ctx, idOf(ids), given),
  ),
  route('POST', '/v1/invoices/:id/void', { expand }, (ctx, _params, ids) =>
    voidInvoice(ctx, findInvoice(ctx, idOf(ids)).id),
  ),
  route('POST', '/v1/invoices/:id/mark_uncollectible', { expand }, (ctx, _params, ids) =>
    markUncollectible(ctx, findInvoice(ctx, idOf(ids)).id),
  ),
  route('POST', '/v1/invoices/:id/send', { expand }, (ctx, _params, ids) => {
    const { id, view } = findInvoice(ctx, idOf(ids));
    const open = view.status === 'draft' ? finalizeInvoice(ctx, id) : view;
    emit(ctx, 'invoice.sent', open);
    return open;
  }),
];
