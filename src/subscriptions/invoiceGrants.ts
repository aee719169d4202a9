import type Stripe from 'stripe';
import { costsNothing, invoiceCredits } from '../checkout/invoiceCredits.ts';
import type { InvoiceLine } from '../checkout/invoiceLines.ts';
import type { Effect, GrantLot, GrantPayment } from '../credits/effects.ts';

/** A late event must not make a lot that is dead at birth. */
const EXPIRY_MIN_DAYS = 3;
const DAY_MS = 86_400_000;

export interface PaidInvoice {
  invoice: Stripe.Invoice;
  subscription: Stripe.Subscription;
  lines: InvoiceLine[];
  userId: string;
  /** The session the subscription was bought in; only of its first invoice. */
  sessionId: string | null;
  paymentIntentId: string | null;
  payments: GrantPayment[];
  paidAt: Date;
  now: Date;
}

type Grant = Extract<Effect, { kind: 'grant' }>;

/**
 * The grants of a subscription's paid invoice: what its lines are worth, by one formula and with
 * one floor, under `invoice:<id>`; and the credits of a trial, once for each subscription.
 */
export function grantsOfInvoice(paid: PaidInvoice): Grant[] {
  const { invoice, subscription, lines, sessionId, paymentIntentId } = paid;
  const sources = [
    `invoice:${invoice.id}`,
    ...(sessionId === null ? [] : [`checkout:${sessionId}`]),
    ...(paymentIntentId === null ? [] : [`payment:${paymentIntentId}`]),
  ];
  const lots = lotsOf(paid);
  const bought = toGrant(paid, lots, sources, lines);
  const trialLines = lines.filter((line) => isTrial(subscription, line));
  const trialLots = trialLines.flatMap((line) => trialLot(paid, line));
  const trialSource = `trial:${subscription.id}`;
  if (trialLots.length === 0) return lots.length === 0 ? [] : [bought];
  if (lots.length === 0) {
    return [toGrant(paid, trialLots, [...sources, trialSource], trialLines, 'Trial of ')];
  }
  return [
    bought,
    {
      ...toGrant(paid, trialLots, [trialSource], trialLines, 'Trial of '),
      payments: [],
      session_id: null,
      payment_intent_id: null,
    },
  ];
}

/**
 * One floor over all lines. Packs on the same invoice have a lot of their own: what was bought is
 * never blocked when a later payment of the subscription fails.
 */
function lotsOf(paid: PaidInvoice): GrantLot[] {
  const { invoice, lines } = paid;
  const total = invoiceCredits(lines.map(({ part }) => part));
  const ofPacks = lines.filter(({ worth }) => !worth.fromPlan);
  const packs = Math.min(total, invoiceCredits(ofPacks.map(({ part }) => part)));
  const common = { paid: invoice.total > 0, cost_currency: invoice.currency };
  const lot = (credits: number, from: InvoiceLine[], fromPlan: boolean): GrantLot[] => {
    // The newest price of an upgrade is the one that is paid for.
    const main = from.filter(({ part }) => part.amount > 0).at(-1) ?? from.at(-1);
    if (credits === 0 || main === undefined) return [];
    return [
      {
        ...common,
        credits,
        from_plan: fromPlan,
        expires_at: expiryOf(paid, from),
        cost_amount: packs === 0 || packs === total ? invoice.total : null,
        catalogue_id: main.worth.catalogueId,
        price_id: main.priceId,
      },
    ];
  };
  return [
    ...lot(
      total - packs,
      lines.filter(({ worth }) => worth.fromPlan),
      true,
    ),
    ...lot(packs, ofPacks, false),
  ];
}

/** A line of a trial costs nothing although its price does; it lasts no longer than the trial. */
function isTrial({ trial_end: end }: Stripe.Subscription, { part, worth, periodEnd }: InvoiceLine) {
  return (
    worth.plan !== null &&
    part.amount === 0 &&
    !part.proration &&
    !costsNothing(part.unitAmount) &&
    end !== null &&
    periodEnd.getTime() <= end * 1000
  );
}

function trialLot(paid: PaidInvoice, line: InvoiceLine): GrantLot[] {
  const credits = (line.worth.plan?.trialCredits ?? 0) * line.part.quantity;
  if (credits === 0) return [];
  return [
    {
      credits,
      from_plan: true,
      paid: false,
      expires_at: expiryOf(paid, [line]),
      cost_amount: 0,
      cost_currency: paid.invoice.currency,
      catalogue_id: line.worth.catalogueId,
      price_id: line.priceId,
    },
  ];
}

/** Lines that disagree must not cost the buyer time: the longest counts. Null = never. */
function expiryOf({ paidAt, now }: PaidInvoice, lines: InvoiceLine[]): string | null {
  const charged = lines.filter(({ part }) => part.amount > 0);
  const times = (charged.length > 0 ? charged : lines).map(({ worth, periodEnd }) => {
    if (worth.plan !== null && !worth.plan.rollover) return periodEnd.getTime();
    if (worth.expiresAfterDays === null) return Number.POSITIVE_INFINITY;
    return paidAt.getTime() + worth.expiresAfterDays * DAY_MS;
  });
  const latest = Math.max(now.getTime() + EXPIRY_MIN_DAYS * DAY_MS, ...times);
  return Number.isFinite(latest) ? new Date(latest).toISOString() : null;
}

function toGrant(
  { invoice, subscription, userId, sessionId, paymentIntentId, payments, paidAt }: PaidInvoice,
  lots: GrantLot[],
  sources: string[],
  lines: InvoiceLine[],
  prefix = '',
): Grant {
  return {
    kind: 'grant',
    user_id: userId,
    type: lots.every((lot) => !lot.from_plan) ? 'purchase' : 'allocation',
    key: sources[0] ?? '',
    sources,
    payments,
    lots,
    description: `${prefix}${[...new Set(lines.map(({ worth }) => worth.name))].join(', ')}`.slice(
      0,
      500,
    ),
    metadata: {
      invoice_id: invoice.id,
      subscription_id: subscription.id,
      billing_reason: invoice.billing_reason,
      items: lines.map(({ worth, priceId, part }) => ({
        catalogue_id: worth.catalogueId,
        price_id: priceId,
        quantity: part.quantity,
        amount: part.amount,
        proration: part.proration,
      })),
      amount_total: invoice.total,
      currency: invoice.currency,
    },
    session_id: sessionId,
    payment_intent_id: paymentIntentId,
    invoice_id: invoice.id,
    event_at: paidAt.toISOString(),
  };
}
