import type Stripe from 'stripe';
import { readInvoiceSubscription } from '../core/stripeFields.ts';
import type { Effect } from '../credits/effects.ts';
import { findBuyer } from './buyer.ts';
import { invoiceCredits } from './invoiceCredits.ts';
import { readInvoiceLines } from './invoiceLines.ts';
import { firstIntentOf, paymentsOfInvoice, readInvoicePayments } from './invoicePayments.ts';
import { offerClaim, purchaseReceipt } from './receipts.ts';
import { grantEffect, idOf, type SettledLine, type SettlementDeps } from './settlement.ts';
import { settleSession } from './settleSession.ts';
import { callStripe } from './stripeErrors.ts';

/**
 * Reads an invoice from Stripe and says what it leads to. The invoice behind a checkout
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
  const subscriptionId = readInvoiceSubscription(invoice);
  if (subscriptionId !== null) {
    return deps.subscriptions.ofInvoice(invoice, subscriptionId, paidAt);
  }
  if (invoice.status !== 'paid') {
    return [
      {
        kind: 'ignore',
        reason: `the invoice is ${invoice.status ?? 'without a status'}, not paid`,
      },
    ];
  }
  const payments = await readInvoicePayments(stripe, invoiceId);
  const paymentIntentId = firstIntentOf(payments);
  const session = paymentIntentId === null ? null : await sessionOf(stripe, paymentIntentId);
  if (session !== null) return (await settleSession(deps, session.id, paidAt)).effects;

  const { lines, effects } = await readPacks(deps, invoice);
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
      ...offerClaim(
        invoiceId,
        invoice.customer_email,
        lines.reduce((sum, { credits }) => sum + credits, 0),
      ),
    ];
  }
  const grant = grantEffect(deps.clock, {
    userId,
    sessionId: null,
    invoiceId,
    paymentIntentId,
    payments: paymentsOfInvoice(invoice, payments),
    currency: invoice.currency,
    amountTotal: invoice.total,
    paidAt,
    lines,
  });
  return [
    ...effects,
    grant,
    ...purchaseReceipt(deps.clock, {
      grant,
      amount: invoice.total,
      currency: invoice.currency,
      invoiceId,
      paymentIntentId,
      buyerEmail: invoice.customer_email,
    }),
  ];
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

/** The packs among the lines. Plans come with subscriptions, whose invoices are not read here. */
async function readPacks(
  deps: SettlementDeps,
  invoice: Stripe.Invoice,
): Promise<{ lines: SettledLine[]; effects: Effect[] }> {
  const { lines, effects } = await readInvoiceLines(deps, invoice);
  const packs = lines.filter(({ worth }) => !worth.fromPlan);
  const credits = invoiceCredits(packs.map(({ part }) => part));
  const [first] = packs;
  if (credits === 0 || first === undefined) return { lines: [], effects };
  const { expiresAfterDays } = first.worth;
  const sameExpiry = packs.every(({ worth }) => worth.expiresAfterDays === expiresAfterDays);
  return {
    lines: [
      {
        credits,
        quantity: 1,
        name: [...new Set(packs.map(({ worth }) => worth.name))].join(', '),
        catalogueId: packs.length === 1 ? first.worth.catalogueId : null,
        priceId: first.priceId,
        // One floor over all lines makes one lot; lines that disagree must not cost the buyer time.
        expiresAfterDays: sameExpiry ? expiresAfterDays : null,
        costAmount: invoice.total,
      },
    ],
    effects,
  };
}
