import { type Context, seconds } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import { chargeMinimum } from '../money.ts';
import { findCustomer, takeInvoiceNumber } from '../resources/customers.ts';
import { openInvoicePayment } from '../resources/invoicePayments.ts';
import type { InvoiceHidden, InvoiceView } from '../resources/invoiceView.ts';
import { createPaymentIntent } from '../resources/paymentIntents.ts';
import { invoices } from '../tables.ts';
import { unschedule } from '../tasks.ts';
import { changeBalance } from './customerBalance.ts';

/** @throws ApiError `resource_missing` */
export function findInvoice(ctx: Context, id: string, param = 'invoice', status: 400 | 404 = 404) {
  const found = ctx.store.get(invoices, id);
  if (!found) throw noSuch('invoice', id, param, status);
  return found;
}

/** Changes an invoice and tells it as `invoice.updated`, unless nothing changed. */
export function updateInvoice(
  ctx: Context,
  id: string,
  change: Partial<InvoiceView>,
  hidden: Partial<InvoiceHidden> = {},
): InvoiceView {
  const before = findInvoice(ctx, id).view;
  const after = ctx.store.patch(invoices, id, change, hidden).view;
  const previous = changedAttributes(before, after);
  if (previous) emit(ctx, 'invoice.updated', after, previous);
  return after;
}

/**
 * Draft to open: takes a number, applies the customer's balance, and asks for the rest with an intent.
 * Money that has come already (`paidBy`) needs no second intent.
 */
export function finalizeInvoice(
  ctx: Context,
  id: string,
  paidBy: { intent: string | null } | null = null,
): InvoiceView {
  const draft = findInvoice(ctx, id).view;
  if (draft.status !== 'draft') {
    throw badRequest(
      `Invoice ${id} is already finalized: only drafts can be, and it is ${draft.status}.`,
      { code: 'invoice_not_editable', param: 'invoice' },
    );
  }
  unschedule(ctx, 'finalize_invoice', id);
  const customer = findCustomer(ctx, draft.customer, 'customer', 400);
  const now = seconds(ctx);
  const due = paidBy
    ? {
        amount_due: draft.total,
        amount_remaining: draft.total,
        ending_balance: customer.balance,
      }
    : settleBalance(ctx, draft, customer.balance);
  const { view: open } = ctx.store.patch(invoices, id, {
    ...due,
    automatically_finalizes_at: null,
    effective_at: draft.effective_at ?? now,
    hosted_invoice_url: `${ctx.origin()}/i/${id}`,
    invoice_pdf: `${ctx.origin()}/i/${id}/pdf`,
    number: takeInvoiceNumber(ctx, draft.customer),
    starting_balance: customer.balance,
    status: 'open',
    status_transitions: { ...draft.status_transitions, finalized_at: now },
    webhooks_delivered_at: draft.webhooks_delivered_at ?? now,
  });
  emit(ctx, 'invoice.finalized', open);
  if (open.amount_due > 0 && paidBy === null) askFor(ctx, open);
  return findInvoice(ctx, id).view;
}

/** The customer's credit is used first; what is too small to charge is put on the balance. */
function settleBalance(
  ctx: Context,
  draft: InvoiceView,
  balance: number,
): Pick<InvoiceView, 'amount_due' | 'amount_remaining' | 'ending_balance'> {
  const { currency, customer, id, total } = draft;
  const wanted = total + balance;
  const small = wanted > 0 && wanted < chargeMinimum(currency);
  const due = small ? 0 : Math.max(0, wanted);
  const ending = wanted - due;
  if (ending !== balance) {
    changeBalance(ctx, {
      customer,
      currency,
      invoice: id,
      amount: ending - balance,
      type: small && balance <= 0 ? 'invoice_too_small' : 'applied_to_invoice',
    });
  }
  return { amount_due: due, amount_remaining: due, ending_balance: ending };
}

function askFor(ctx: Context, invoice: InvoiceView): void {
  const intent = createPaymentIntent(ctx, {
    amount: invoice.amount_due,
    currency: invoice.currency,
    customer: invoice.customer,
    methods: ['card'],
    data: {
      description: descriptionOf(invoice),
      metadata: {},
      receipt_email: null,
      setup_future_usage: invoice.parent ? 'off_session' : null,
      statement_descriptor: invoice.statement_descriptor,
      statement_descriptor_suffix: null,
      transfer_group: null,
    },
  });
  ctx.store.patch(invoices, invoice.id, {}, { payment_intent: intent.id });
  openInvoicePayment(ctx, invoice, intent.id);
}

function descriptionOf(invoice: InvoiceView): string | null {
  switch (invoice.billing_reason) {
    case 'subscription_create':
      return 'Subscription creation';
    case 'subscription_cycle':
    case 'subscription_update':
      return 'Subscription update';
    default:
      return `Payment for Invoice ${invoice.number ?? ''}`.trim();
  }
}
