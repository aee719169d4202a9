import type Stripe from 'stripe';
import { idOf } from '../checkout/settlement.ts';
import type { Json } from '../core/ports.ts';
import { readId, readPayment } from '../core/stripeFields.ts';
import type { PageBook, PaymentRow, SourceRow, SubscriptionRow } from './book.ts';
import type { DifferenceCode } from './reconcile.types.ts';

/**
 * Stripe's objects against what the ledger knows of them, without a call. A suspicion is cheap and
 * may be wrong: the settlement code looks at the object again and has the last word.
 */

export type Settle =
  | { kind: 'session' | 'invoice'; id: string; paidAt: Date }
  | { kind: 'payment' | 'subscription'; id: string };

export interface Suspect {
  code: DifferenceCode;
  subject: string;
  userId: string | null;
  detail: Record<string, Json>;
  /** What settles it; null: it is for a person. */
  settle: Settle | null;
  /** Prices of which one must be ours for it to concern us; null: it does. */
  prices: string[] | null;
  /** When the object was made, unix seconds: it is looked at again until nothing is open about it. */
  created: number | null;
  /** The subject of another object of the same purchase. */
  sameAs?: string;
}

const iso = (seconds: number | null) =>
  seconds === null ? null : new Date(seconds * 1000).toISOString();

export function compareSession(session: Stripe.Checkout.Session, book: PageBook): Suspect[] {
  // Their invoices grant, and name them.
  if (session.mode !== 'payment') return [];
  const subject = `checkout:${session.id}`;
  const source = book.sources.get(subject);
  const isPaid = session.status === 'complete' && session.payment_status !== 'unpaid';
  const common = { subject, created: session.created };
  if (source === undefined) {
    if (!isPaid) return [];
    const items = session.line_items;
    const invoice = idOf(session.invoice);
    return [
      {
        ...common,
        ...(invoice === null ? {} : { sameAs: `invoice:${invoice}` }),
        code: 'missing_grant',
        userId: session.metadata?.userId ?? null,
        detail: {
          amount_total: session.amount_total,
          currency: session.currency,
          created: iso(session.created),
        },
        settle: { kind: 'session', id: session.id, paidAt: new Date(session.created * 1000) },
        prices:
          items === undefined || items.has_more
            ? null
            : items.data.flatMap(({ price }) => (price === null ? [] : [price.id])),
      },
    ];
  }
  if (!isPaid) {
    return [
      unpaid(source, common, `${session.status ?? 'without status'}, ${session.payment_status}`),
    ];
  }
  const amount = amountDiffers(source, session.amount_total, common);
  return [...amount, ...paidDiffers(session, source, book)];
}

function unpaid(
  source: SourceRow,
  common: { subject: string; created: number },
  status: string,
): Suspect {
  return {
    ...common,
    code: 'unpaid_grant',
    userId: source.user_id,
    detail: { transaction_id: source.transaction_id, amount: source.amount, status },
    settle: null,
    prices: null,
  };
}

function amountDiffers(
  source: SourceRow,
  total: number | null,
  common: { subject: string; created: number },
): Suspect[] {
  if (source.amount_total === null || total === null || source.amount_total === total) return [];
  return [
    {
      ...common,
      code: 'amount_differs',
      userId: source.user_id,
      detail: {
        transaction_id: source.transaction_id,
        ledger_amount_total: source.amount_total,
        stripe_amount_total: total,
      },
      settle: null,
      prices: null,
    },
  ];
}

function paidDiffers(
  { payment_intent: intent, amount_total: total, created }: Stripe.Checkout.Session,
  source: SourceRow,
  book: PageBook,
): Suspect[] {
  const payment = idOf(intent);
  if (payment === null || total === null) return [];
  const row = book.payments.get(payment);
  if (row !== undefined && row.version > 0 && row.paid === total) return [];
  return [paymentSuspect(payment, row, source.user_id, created, { stripe_paid: total })];
}

function paymentSuspect(
  payment: string,
  row: PaymentRow | undefined,
  userId: string | null,
  created: number,
  stripe: Record<string, Json>,
): Suspect {
  return {
    code: 'payment_differs',
    subject: `payment:${payment}`,
    userId,
    detail: {
      ledger_paid: row?.paid ?? 0,
      ledger_refunded: row?.refunded ?? 0,
      ledger_disputed: row?.disputed ?? 0,
      ...stripe,
    },
    settle: { kind: 'payment', id: payment },
    prices: null,
    created,
  };
}

export function compareInvoice(invoice: Stripe.Invoice, book: PageBook): Suspect[] {
  const subject = `invoice:${invoice.id}`;
  const source = book.sources.get(subject);
  const common = { subject, created: invoice.created };
  if (source === undefined) {
    if (invoice.status !== 'paid') return [];
    const paidAt = invoice.status_transitions.paid_at ?? invoice.created;
    const { data, has_more } = invoice.lines;
    return [
      {
        ...common,
        code: 'missing_grant',
        userId: invoice.metadata?.userId ?? null,
        detail: {
          amount_total: invoice.total,
          currency: invoice.currency,
          created: iso(invoice.created),
        },
        settle: { kind: 'invoice', id: invoice.id, paidAt: new Date(paidAt * 1000) },
        prices: has_more
          ? null
          : data.flatMap(({ pricing }) => idOf(pricing?.price_details?.price) ?? []),
      },
    ];
  }
  if (invoice.status !== 'paid') {
    return [unpaid(source, common, invoice.status ?? 'without status')];
  }
  // An entry that a session wrote noted the session's amount, and is compared there.
  return source.session_id === null || source.type === 'allocation'
    ? amountDiffers(source, invoice.total, common)
    : [];
}

/** Refunds and disputes by the payment they are about; what is unknown here is somebody else's. */
export function compareMoneyBack(
  object: Stripe.Refund | Stripe.Dispute,
  book: PageBook,
): Suspect[] {
  const payment = readPayment(object);
  const row = payment === null ? undefined : book.payments.get(payment);
  if (payment === null || row === undefined) return [];
  const noted = (object.object === 'refund' ? row.refunds : row.disputes).find(
    ({ id }) => id === object.id,
  );
  if (noted?.amount === object.amount && noted.status === object.status) return [];
  return [
    paymentSuspect(payment, row, row.user_id, object.created, {
      [object.object]: { id: object.id, amount: object.amount, status: object.status },
    }),
  ];
}

export function compareSubscription(
  subscription: Stripe.Subscription,
  row: SubscriptionRow | undefined,
): Suspect[] {
  const items = subscription.items.data;
  if (row !== undefined && isSame(subscription, row)) return [];
  return [
    {
      code: 'subscription_differs',
      subject: `subscription:${subscription.id}`,
      userId: row?.user_id ?? subscription.metadata.userId ?? null,
      detail: {
        ledger_status: row?.status ?? null,
        stripe_status: subscription.status,
        ledger_price: row?.price_id ?? null,
        stripe_prices: items.map(({ price }) => price.id),
        ledger_period_end: row?.period_end ?? null,
        stripe_period_end: iso(Math.max(0, ...items.map((item) => item.current_period_end))),
        ledger_cancel_at_period_end: row?.cancel_at_period_end ?? null,
        stripe_cancel_at_period_end: subscription.cancel_at_period_end,
      },
      settle: { kind: 'subscription', id: subscription.id },
      prices:
        row !== undefined || subscription.items.has_more
          ? null
          : items.map(({ price }) => price.id),
      created: subscription.created,
    },
  ];
}

function isSame(subscription: Stripe.Subscription, row: SubscriptionRow): boolean {
  const { status, collection_method: collection, items } = subscription;
  const item = items.data.find(({ price }) => price.id === row.price_id);
  const failing =
    (status === 'past_due' || status === 'unpaid') && collection === 'charge_automatically';
  return (
    row.status === status &&
    item !== undefined &&
    (item.quantity ?? 1) === row.quantity &&
    items.data.some(({ current_period_end: end }) => sameTime(row.period_end, end)) &&
    row.cancel_at_period_end === subscription.cancel_at_period_end &&
    sameTime(row.cancel_at, subscription.cancel_at) &&
    row.payment_failed === failing
  );
}

function sameTime(text: string | null, seconds: number | null): boolean {
  return text === null || seconds === null ? text === seconds : Date.parse(text) === seconds * 1000;
}

/** A subscription that lives by our book and is not among those alive at Stripe. */
export function unlisted(row: SubscriptionRow): Suspect {
  return {
    code: 'subscription_differs',
    subject: `subscription:${row.id}`,
    userId: row.user_id,
    detail: { ledger_status: row.status, stripe_status: 'not among those alive' },
    settle: { kind: 'subscription', id: row.id },
    prices: null,
    created: null,
  };
}

/** The refund or dispute's payment, for the look-up of its page. */
export function paymentsOf(objects: (Stripe.Refund | Stripe.Dispute)[]): string[] {
  return objects.flatMap((object) => readPayment(object) ?? []);
}

export function intentsOf(sessions: Stripe.Checkout.Session[]): string[] {
  return sessions.flatMap(({ payment_intent: intent }) => readId(intent) ?? []);
}
