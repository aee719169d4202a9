import type Stripe from 'stripe';
import type { Catalogue } from '../catalogue/catalogue.ts';
import type { Clock, Database, Logger } from '../core/ports.ts';
import type { Effect, GrantLot, GrantPayment } from '../credits/effects.ts';
import type { StripeCache } from './stripeCache.ts';

/**
 * What sessions and invoices have in common: one settlement, known by all its identities, whose
 * lines become the lots of one purchase entry.
 */

/** Reads and decides; what both kinds of settlement need. */
export interface SettlementBase {
  db: Database;
  stripe: Stripe;
  catalogue: Catalogue;
  clock: Clock;
  logger: Logger;
  /** For what never changes in a price; the rest is asked of Stripe each time. */
  stripeCache: Pick<StripeCache, 'read'>;
}

/** What subscriptions add to settlements. They build upon this domain, so they are handed in. */
export interface SubscriptionSettlement {
  /** Of a session of mode `subscription`: whose it is, and the subscription's state; no credits. */
  ofSession(session: Stripe.Checkout.Session): Promise<Effect[]>;
  /** Of a subscription's invoice in any state: the subscription's state; credits where it is paid. */
  ofInvoice(invoice: Stripe.Invoice, subscriptionId: string, paidAt: Date): Promise<Effect[]>;
}

export type SettlementDeps = SettlementBase & { subscriptions: SubscriptionSettlement };

export interface SettledLine {
  credits: number;
  quantity: number;
  name: string;
  catalogueId: string | null;
  priceId: string;
  expiresAfterDays: number | null;
  costAmount: number | null;
}

export interface Settlement {
  userId: string;
  sessionId: string | null;
  invoiceId: string | null;
  paymentIntentId: string | null;
  /** Everything that paid for it. */
  payments: GrantPayment[];
  currency: string | null;
  amountTotal: number | null;
  /** When it was paid, at Stripe. */
  paidAt: Date;
  lines: SettledLine[];
}

/** A late event must not make a lot that is dead at birth. */
const EXPIRY_MIN_DAYS = 3;
const DAY_MS = 86_400_000;

export function grantEffect(
  clock: Clock,
  settlement: Settlement,
): Extract<Effect, { kind: 'grant' }> {
  const { sessionId, invoiceId, paymentIntentId, lines } = settlement;
  const sources = [
    ...(sessionId ? [`checkout:${sessionId}`] : []),
    ...(invoiceId ? [`invoice:${invoiceId}`] : []),
    ...(paymentIntentId ? [`payment:${paymentIntentId}`] : []),
  ];
  const key = sources[0];
  if (key === undefined) throw new Error('A settlement has at least one Stripe object.');
  return {
    kind: 'grant',
    user_id: settlement.userId,
    type: 'purchase',
    key,
    sources,
    payments: settlement.payments,
    lots: lines.map((line) => toLot(clock, settlement, line)),
    description: lines
      .map((line) => (line.quantity === 1 ? line.name : `${line.name} × ${line.quantity}`))
      .join(', ')
      .slice(0, 500),
    metadata: {
      items: lines.map(({ catalogueId, priceId, quantity, credits }) => ({
        catalogue_id: catalogueId,
        price_id: priceId,
        quantity,
        credits,
      })),
      amount_total: settlement.amountTotal,
      currency: settlement.currency,
    },
    session_id: sessionId,
    payment_intent_id: paymentIntentId,
    invoice_id: invoiceId,
    event_at: settlement.paidAt.toISOString(),
  };
}

function toLot(clock: Clock, { paidAt, currency }: Settlement, line: SettledLine): GrantLot {
  const expiresAt =
    line.expiresAfterDays === null
      ? null
      : Math.max(
          paidAt.getTime() + line.expiresAfterDays * DAY_MS,
          clock.now().getTime() + EXPIRY_MIN_DAYS * DAY_MS,
        );
  return {
    credits: line.credits,
    expires_at: expiresAt === null ? null : new Date(expiresAt).toISOString(),
    cost_amount: line.costAmount,
    cost_currency: currency,
    catalogue_id: line.catalogueId,
    price_id: line.priceId,
  };
}

export function idOf(reference: string | { id: string } | null | undefined): string | null {
  if (reference == null) return null;
  return typeof reference === 'string' ? reference : reference.id;
}
