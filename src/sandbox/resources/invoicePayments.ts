import { add, type Context, seconds } from '../context.ts';
import { noSuch } from '../errors.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import { choice, expand, object, paging, range, refused, required, text } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { charges, invoicePayments, invoices, paymentIntents } from '../tables.ts';
import type { ChargeView } from './charges.ts';
import { cancelPaymentIntent } from './paymentIntents.ts';

export type InvoicePaymentView = {
  id: string;
  object: 'invoice_payment';
  amount_paid: number | null;
  amount_requested: number;
  created: number;
  currency: string;
  invoice: string;
  is_default: boolean;
  livemode: false;
  payment: { type: 'payment_intent'; payment_intent: string };
  status: 'open' | 'paid' | 'canceled';
  status_transitions: { canceled_at: number | null; paid_at: number | null };
};

/** The payment an invoice waits for; there is one for each intent, found again when it is asked for. */
export function openInvoicePayment(
  ctx: Context,
  invoice: { id: string; amount_remaining: number; currency: string },
  paymentIntent: string,
  part: { amount: number; isDefault: boolean } | null = null,
): InvoicePaymentView {
  const present = ctx.store
    .lookUp(invoicePayments, 'invoice', invoice.id)
    .find(({ view }) => view.payment.payment_intent === paymentIntent);
  if (present) return present.view;
  return add(
    ctx,
    invoicePayments,
    {
      id: ctx.newId('inpay_'),
      object: 'invoice_payment',
      amount_paid: null,
      amount_requested: part?.amount ?? invoice.amount_remaining,
      created: seconds(ctx),
      currency: invoice.currency,
      invoice: invoice.id,
      is_default: part?.isDefault ?? true,
      livemode: false,
      payment: { type: 'payment_intent', payment_intent: paymentIntent },
      status: 'open',
      status_transitions: { canceled_at: null, paid_at: null },
    },
    {},
  ).view;
}

/** What an invoice was paid with, the latest payment first. */
export function chargesOfInvoice(ctx: Context, invoice: string): ChargeView[] {
  return ctx.store
    .lookUp(invoicePayments, 'invoice', invoice)
    .reverse()
    .flatMap(({ view }) => {
      if (view.status !== 'paid') return [];
      const intent = ctx.store.get(paymentIntents, view.payment.payment_intent)?.view;
      const charge = intent?.latest_charge && ctx.store.get(charges, intent.latest_charge)?.view;
      return charge ? [charge] : [];
    });
}

/** With what its intent took, which may be less than was asked for at first. */
export function payInvoicePayment(ctx: Context, id: string): InvoicePaymentView {
  const before = ctx.store.get(invoicePayments, id)?.view;
  if (!before) throw new Error(`The sandbox has no invoice payment ${id}.`);
  const intent = ctx.store.get(paymentIntents, before.payment.payment_intent)?.view;
  return ctx.store.patch(invoicePayments, id, {
    amount_paid: intent?.amount_received ?? before.amount_requested,
    status: 'paid',
    status_transitions: { ...before.status_transitions, paid_at: seconds(ctx) },
  }).view;
}

/** The invoice is voided or paid elsewhere: nobody may pay its open intents any more. */
export function cancelInvoicePayments(ctx: Context, invoice: string): void {
  for (const { view } of ctx.store.lookUp(invoicePayments, 'invoice', invoice)) {
    if (view.status !== 'open') continue;
    ctx.store.patch(invoicePayments, view.id, {
      status: 'canceled',
      status_transitions: { ...view.status_transitions, canceled_at: seconds(ctx) },
    });
    cancelPaymentIntent(ctx, view.payment.payment_intent, 'void_invoice');
  }
}

export const invoicePaymentExpandable: Expandable = {
  invoice: (ctx, view) => ctx.store.get(invoices, String(view.invoice))?.view,
  'payment.payment_intent': (ctx, view) => {
    const payment = view.payment as { payment_intent?: unknown };
    return ctx.store.get(paymentIntents, String(payment.payment_intent))?.view;
  },
};

const listParams = {
  ...paging,
  created: range,
  invoice: text(),
  payment: object({
    payment_intent: text(),
    payment_record: refused(),
    type: required(choice('payment_intent', 'payment_record')),
  }),
  status: choice('canceled', 'open', 'paid'),
};

export const invoicePaymentRoutes: Route[] = [
  route('GET', '/v1/invoice_payments', listParams, (ctx, filter) =>
    listRows(
      ctx,
      invoicePayments,
      '/v1/invoice_payments',
      filter,
      ({ view }) =>
        matchesFilter(filter.invoice, view.invoice) &&
        matchesFilter<string>(filter.payment?.type, view.payment.type) &&
        matchesFilter(filter.payment?.payment_intent, view.payment.payment_intent) &&
        matchesFilter<string>(filter.status, view.status) &&
        inRange(view.created, filter.created),
    ),
  ),
  route('GET', '/v1/invoice_payments/:id', { expand }, (ctx, _params, ids) => {
    const found = ctx.store.get(invoicePayments, idOf(ids));
    if (!found) throw noSuch('invoice_payment', idOf(ids), 'id', 404);
    return found.view;
  }),
];
