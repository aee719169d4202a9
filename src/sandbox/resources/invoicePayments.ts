import { add, type Context, seconds } from '../context.ts';
import { noSuch } from '../errors.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import { choice, expand, object, paging, range, refused, required, text } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { charges, invoicePayments, invoices, paymentIntents } from '../tables.ts';
import type { ChargeView } from './charges.ts';

export type InvoicePaymentView = {
  id: string;
  object: 'invoice_payment';
  amount_paid: number;
  amount_requested: number;
  created: number;
  currency: string;
  invoice: string;
  is_default: boolean;
  livemode: false;
  payment: { type: 'payment_intent'; payment_intent: string };
  status: 'paid';
  status_transitions: { canceled_at: null; paid_at: number };
};

export function createInvoicePayment(
  ctx: Context,
  invoice: { id: string; total: number; currency: string },
  paymentIntent: string,
): InvoicePaymentView {
  return add(
    ctx,
    invoicePayments,
    {
      id: ctx.newId('inpay_'),
      object: 'invoice_payment',
      amount_paid: invoice.total,
      amount_requested: invoice.total,
      created: seconds(ctx),
      currency: invoice.currency,
      invoice: invoice.id,
      is_default: true,
      livemode: false,
      payment: { type: 'payment_intent', payment_intent: paymentIntent },
      status: 'paid',
      status_transitions: { canceled_at: null, paid_at: seconds(ctx) },
    },
    {},
  ).view;
}

/** What an invoice was paid with, the latest payment first. */
export function chargesOfInvoice(ctx: Context, invoice: string): ChargeView[] {
  return [...ctx.store.walk(invoicePayments, 'newest_first')].flatMap(({ view }) => {
    if (view.invoice !== invoice || view.status !== 'paid') return [];
    const intent = ctx.store.get(paymentIntents, view.payment.payment_intent)?.view;
    const charge = intent?.latest_charge && ctx.store.get(charges, intent.latest_charge)?.view;
    return charge ? [charge] : [];
  });
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
