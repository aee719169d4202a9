import type Stripe from 'stripe';
import type { Effect } from '../credits/effects.ts';
import { findBuyer } from './buyer.ts';
import { creditsOfPrice, type PriceWorth } from './creditsOfPrice.ts';
import { type InvoicePart, invoiceCredits } from './invoiceCredits.ts';
import { paymentsOfInvoice } from './invoicePayments.ts';
import { grantEffect, idOf, type SettledLine, type SettlementDeps } from './settlement.ts';
import { settleSession } from './settleSession.ts';
import { callStripe } from './stripeErrors.ts';

const LINES_MAX = 1000;
/** A grant names at most 100 payments, the customer balance among them. */
const PAYMENTS_MAX = 99;

/**
 * Reads a paid invoice from Stripe and says what it leads to. The invoice behind a checkout
 * session is settled as that session, so that both events know the same identities whichever
 * comes first. Errors: `dependency_down`, `not_found`.
 */
export async function settleInvoice(
  deps: SettlementDeps,
  invoiceId: string,
  paidAt: Date,
): Promise<Effect[]> {
  const { stripe } = deps;
  const invoice = await callStripe(() => stripe.invoices.retrieve(invoiceId));
  if (invoice.status !== 'paid') {
    return [
      {
        kind: 'ignore',
        reason: `the invoice is ${invoice.status ?? 'without a status'}, not paid`,
      },
    ];
  }
  if (invoice.parent?.subscription_details) {
    return [
      { kind: 'ignore', reason: 'invoices of subscriptions are not credited by this version' },
    ];
  }
  const payments = await readPayments(stripe, invoiceId);
  const paymentIntentId = firstIntentOf(payments);
  const session = paymentIntentId === null ? null : await sessionOf(stripe, paymentIntentId);
  if (session !== null) return (await settleSession(deps, session.id, paidAt)).effects;

  const { lines, effects } = await readLines(deps, invoice);
  if (lines.length === 0) {
    return [
      ...effects,
      { kind: 'ignore', reason: 'no line of the invoice is a pack of the catalogue' },
    ];
  }
  const customerId = idOf(invoice.customer);
  const userId = await findBuyer(deps, {
    metadataUserId: invoice.metadata?.userId,
    recordedUserId: async () => null,
    customerId,
    clientReferenceId: null,
    claimable: paymentIntentId === null ? [invoiceId] : [invoiceId, paymentIntentId],
  });
  if (userId === null) {
    return [
      ...effects,
      {
        kind: 'park',
        waiting_for: customerId,
        reason: 'the customer of the invoice is nobody we know',
      },
    ];
  }
  return [
    ...effects,
    grantEffect(deps.clock, {
      userId,
      sessionId: null,
      invoiceId,
      paymentIntentId,
      payments: paymentsOfInvoice(invoice, payments),
      currency: invoice.currency,
      amountTotal: invoice.total,
      paidAt,
      lines,
    }),
  ];
}

function readPayments(stripe: Stripe, invoiceId: string): Promise<Stripe.InvoicePayment[]> {
  return callStripe(() =>
    stripe.invoicePayments
      .list({ invoice: invoiceId, status: 'paid', limit: 100 })
      .autoPagingToArray({ limit: PAYMENTS_MAX }),
  );
}

function firstIntentOf(payments: Stripe.InvoicePayment[]): string | null {
  for (const { payment } of payments) {
    const id = idOf(payment.payment_intent);
    if (id !== null) return id;
  }
  return null;
}

async function sessionOf(
  stripe: Stripe,
  paymentIntentId: string,
): Promise<Stripe.Checkout.Session | null> {
  const sessions = await callStripe(() =>
    stripe.checkout.sessions.list({ payment_intent: paymentIntentId, limit: 1 }),
  );
  return sessions.data[0] ?? null;
}

async function readLines(
  { stripe, catalogue }: SettlementDeps,
  invoice: Stripe.Invoice,
): Promise<{ lines: SettledLine[]; effects: Effect[] }> {
  const items = await callStripe(() =>
    stripe.invoices
      .listLineItems(invoice.id, { limit: 100 })
      .autoPagingToArray({ limit: LINES_MAX }),
  );
  const parts: InvoicePart[] = [];
  const worths: (PriceWorth & { priceId: string })[] = [];
  const effects: Effect[] = [];
  for (const item of items) {
    const priceId = idOf(item.pricing?.price_details?.price);
    if (priceId === null) continue;
    const price = await callStripe(() =>
      stripe.prices.retrieve(priceId, { expand: ['product', 'currency_options'] }),
    );
    const worth = creditsOfPrice(catalogue, price);
    if (worth.kind === 'invalid') {
      effects.push({
        kind: 'finding',
        code: 'line_without_credits',
        subject: `invoice:${invoice.id}:${item.id}`,
        user_id: invoice.metadata?.userId ?? null,
        detail: { price_id: priceId, reason: worth.reason },
      });
    }
    if (worth.kind !== 'worth') continue;
    worths.push({ ...worth.worth, priceId });
    parts.push({
      credits: worth.worth.credits,
      amount: item.amount,
      unitAmount:
        price.currency === item.currency
          ? price.unit_amount
          : (price.currency_options?.[item.currency]?.unit_amount ?? null),
      quantity: item.quantity ?? 1,
      proration: item.parent?.invoice_item_details?.proration ?? false,
    });
  }
  const credits = invoiceCredits(parts);
  const [first] = worths;
  if (credits === 0 || first === undefined) return { lines: [], effects };
  const sameExpiry = worths.every((worth) => worth.expiresAfterDays === first.expiresAfterDays);
  return {
    lines: [
      {
        credits,
        quantity: 1,
        name: [...new Set(worths.map((worth) => worth.name))].join(', '),
        catalogueId: worths.length === 1 ? first.catalogueId : null,
        priceId: first.priceId,
        // One floor over all lines makes one lot; lines that disagree must not cost the buyer time.
        expiresAfterDays: sameExpiry ? first.expiresAfterDays : null,
        costAmount: invoice.total,
      },
    ],
    effects,
  };
}
