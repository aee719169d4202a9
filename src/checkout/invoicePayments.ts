import type Stripe from 'stripe';
import { readPaidWith } from '../core/stripeFields.ts';
import type { GrantPayment } from '../credits/effects.ts';
import { idOf } from './settlement.ts';
import { callStripe } from './stripeErrors.ts';

/** A grant names at most 100 payments, the customer balance among them. */
const PAYMENTS_MAX = 99;

export function readInvoicePayments(
  stripe: Stripe,
  invoiceId: string,
): Promise<Stripe.InvoicePayment[]> {
  return callStripe(() =>
    stripe.invoicePayments
      .list({ invoice: invoiceId, status: 'paid', limit: 100 })
      .autoPagingToArray({ limit: PAYMENTS_MAX }),
  );
}

/**
 * The invoices that an intent has paid, since a charge does not name its invoice any more. Without
 * an intent there is no such question at Stripe, and the answer is none.
 */
export async function readInvoicesOf(stripe: Stripe, payment: string): Promise<string[]> {
  if (!payment.startsWith('pi_')) return [];
  const paid = await callStripe(() =>
    stripe.invoicePayments
      .list({
        payment: { type: 'payment_intent', payment_intent: payment },
        status: 'paid',
        limit: 100,
      })
      .autoPagingToArray({ limit: PAYMENTS_MAX }),
  );
  return [...new Set(paid.map(({ invoice }) => idOf(invoice)).filter((id) => id !== null))];
}

export function firstIntentOf(payments: Pick<Stripe.InvoicePayment, 'payment'>[]): string | null {
  for (const { payment } of payments) {
    const id = idOf(payment.payment_intent);
    if (id !== null) return id;
  }
  return null;
}

/**
 * Everything that paid for an invoice: its payments (the intent; the charge, or the record of a
 * payment made elsewhere, where there is none), and the customer balance it used. Since API version
 * basil an invoice does not name its payments; its invoice payments do.
 */
export function paymentsOfInvoice(
  invoice: Pick<Stripe.Invoice, 'id' | 'currency' | 'starting_balance' | 'ending_balance'>,
  payments: Pick<Stripe.InvoicePayment, 'amount_paid' | 'currency' | 'payment'>[],
): GrantPayment[] {
  const found = new Map<string, GrantPayment>();
  for (const invoicePayment of payments) {
    const { amount_paid, currency } = invoicePayment;
    const id = readPaidWith(invoicePayment);
    if (id === null) continue;
    const before = found.get(id)?.paid ?? 0;
    found.set(id, { payment: id, paid: before + (amount_paid ?? 0), currency });
  }
  const used = usedBalance(invoice);
  if (used > 0) {
    const payment = `balance:${invoice.id}`;
    found.set(payment, { payment, paid: used, currency: invoice.currency });
  }
  return [...found.values()];
}

/** A credit at Stripe is a negative balance: from -500 to -200 an invoice has used 300 of it. */
function usedBalance({
  starting_balance: start,
  ending_balance: end,
}: Pick<Stripe.Invoice, 'starting_balance' | 'ending_balance'>): number {
  return Math.max(0, Math.min(end ?? start, 0) - start);
}
