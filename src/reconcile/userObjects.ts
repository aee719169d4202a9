import type Stripe from 'stripe';
import { idOf } from '../checkout/settlement.ts';
import { callStripe, isMissingAtStripe } from '../checkout/stripeErrors.ts';
import type { Json } from '../core/ports.ts';
import { readPayment } from '../core/stripeFields.ts';
import { lookUp, type PageBook, type SourceRow, type UserBook } from './book.ts';
import { compareInvoice, compareSession, compareSubscription, type Suspect } from './compare.ts';
import type { LedgerPagesDeps } from './ledgerPages.ts';
import type { ComparedObject } from './reconcile.types.ts';
import { creditsDiffer } from './stripePages.ts';

/** All that Stripe and the ledger have about one user. */

const CUSTOMERS_MAX = 20;
/** Of each kind and customer; more needs the run over everything. */
const OBJECTS_MAX = 500;
/** Objects without a customer (guests) that the ledger names are asked for one by one. */
const GUESTS_MAX = 100;
const LOOK_UP_MAX = 1_000;
const ENDED: ReadonlySet<string> = new Set(['canceled', 'incomplete_expired']);

export interface UserObjects {
  customers: string[];
  sessions: Stripe.Checkout.Session[];
  invoices: Stripe.Invoice[];
  subscriptions: Stripe.Subscription[];
  charges: Stripe.Charge[];
  /** Keys of the ledger whose object is not at Stripe. */
  missing: ReadonlySet<string>;
}

/** Errors: `dependency_down`. */
export async function readUserObjects(deps: LedgerPagesDeps, book: UserBook): Promise<UserObjects> {
  const { stripe } = deps;
  const customers = [...new Set(book.customers)].slice(0, CUSTOMERS_MAX);
  const found: UserObjects = {
    customers,
    sessions: [],
    invoices: [],
    subscriptions: [],
    charges: [],
    missing: new Set(),
  };
  const all = { limit: OBJECTS_MAX };
  for (const customer of customers) {
    const page = { customer, limit: 100 };
    const [sessions, invoices, subscriptions, charges] = await Promise.all([
      listed(() =>
        stripe.checkout.sessions
          .list({ ...page, expand: ['data.line_items'] })
          .autoPagingToArray(all),
      ),
      listed(() => stripe.invoices.list(page).autoPagingToArray(all)),
      listed(() => stripe.subscriptions.list({ ...page, status: 'all' }).autoPagingToArray(all)),
      listed(() => stripe.charges.list(page).autoPagingToArray(all)),
    ]);
    found.sessions.push(...sessions);
    found.invoices.push(...invoices);
    found.subscriptions.push(...subscriptions);
    found.charges.push(...charges);
  }
  return addGuests(deps, book, found);
}

/** A customer that was deleted has lists all the same; one of another account has none. */
async function listed<T>(list: () => Promise<T[]>): Promise<T[]> {
  try {
    return await callStripe(list);
  } catch (error) {
    if (isMissingAtStripe(error)) return [];
    throw error;
  }
}

async function addGuests(
  deps: LedgerPagesDeps,
  book: UserBook,
  found: UserObjects,
): Promise<UserObjects> {
  const { stripe } = deps;
  const known = new Set(
    [...found.sessions, ...found.invoices]
      .map(({ id }) => id)
      .concat(found.charges.flatMap((charge) => readPayment(charge) ?? [])),
  );
  const missing = new Set<string>();
  const unknown = book.sources.map(({ key }) => key).filter((key) => !known.has(objectOf(key)));
  const fetch: Record<string, (id: string) => Promise<void>> = {
    checkout: async (id) => {
      const expand = ['line_items'];
      found.sessions.push(
        await callStripe(() => stripe.checkout.sessions.retrieve(id, { expand })),
      );
    },
    invoice: async (id) => {
      found.invoices.push(await callStripe(() => stripe.invoices.retrieve(id)));
    },
    payment: async (id) => {
      if (id.startsWith('balance:')) return;
      if (!id.startsWith('pi_')) {
        found.charges.push(await callStripe(() => stripe.charges.retrieve(id)));
        return;
      }
      const { data } = await callStripe(() =>
        stripe.charges.list({ payment_intent: id, limit: 100 }),
      );
      if (data.length === 0) await callStripe(() => stripe.paymentIntents.retrieve(id));
      found.charges.push(...data);
    },
  };
  for (const key of unknown.slice(0, GUESTS_MAX)) {
    try {
      await fetch[key.slice(0, key.indexOf(':'))]?.(objectOf(key));
    } catch (error) {
      if (!isMissingAtStripe(error)) throw error;
      missing.add(key);
    }
  }
  return { ...found, missing };
}

/** Suspicions about everything of the user, and the rows that show both sides. */
export async function compareUser(
  deps: LedgerPagesDeps,
  book: UserBook,
  objects: UserObjects,
): Promise<{ suspects: Suspect[]; rows: ComparedObject[] }> {
  const ledger = await lookUpAll(deps, book, objects);
  const suspects: Suspect[] = [];
  const rows: ComparedObject[] = [];
  for (const session of objects.sessions) {
    const subject = `checkout:${session.id}`;
    const source = ledger.sources.get(subject);
    suspects.push(...compareSession(session, ledger));
    if (source !== undefined) suspects.push(...(await creditsDiffer(deps, session, source)));
    const { status, payment_status, mode, amount_total, currency } = session;
    const shown = { mode, status, payment_status, amount_total, currency };
    rows.push(rowOf(subject, { ...shown, ...made(session) }, source));
  }
  for (const invoice of objects.invoices) {
    const subject = `invoice:${invoice.id}`;
    suspects.push(...compareInvoice(invoice, ledger));
    const { status, total, currency } = invoice;
    const shown = { status, total, currency, ...made(invoice) };
    rows.push(rowOf(subject, shown, ledger.sources.get(subject)));
  }
  for (const subscription of objects.subscriptions) {
    const row = ledger.subscriptions.get(subscription.id);
    // What ended before Purser knew of it changes nothing.
    if (row === undefined && ENDED.has(subscription.status)) continue;
    suspects.push(...compareSubscription(subscription, row));
    const { status, cancel_at_period_end } = subscription;
    rows.push({
      subject: `subscription:${subscription.id}`,
      stripe: { status, cancel_at_period_end, ...made(subscription) },
      ledger: row === undefined ? null : { ...row },
      agrees: true,
    });
  }
  for (const charge of objects.charges) comparePayment(charge, ledger, suspects, rows);
  for (const row of book.subscriptions) {
    if (ENDED.has(row.status) || objects.subscriptions.some(({ id }) => id === row.id)) continue;
    const subject = `subscription:${row.id}`;
    const settle = { kind: 'subscription', id: row.id } as const;
    const detail = { ledger_status: row.status, stripe_status: 'not of his customers' };
    const userId = row.user_id;
    suspects.push({
      code: 'subscription_differs',
      ...{ subject, userId, detail, settle },
      prices: null,
      created: null,
    });
    rows.push({ subject, stripe: null, ledger: { ...row }, agrees: true });
  }
  suspects.push(...orphansOf(book, objects.missing));
  for (const key of objects.missing) {
    rows.push(
      rowOf(
        key,
        null,
        book.sources.find((source) => source.key === key),
      ),
    );
  }
  return { suspects, rows };
}

async function lookUpAll(
  { db }: LedgerPagesDeps,
  book: UserBook,
  objects: UserObjects,
): Promise<PageBook> {
  const sources = [
    ...objects.sessions.map(({ id }) => `checkout:${id}`),
    ...objects.invoices.map(({ id }) => `invoice:${id}`),
  ];
  const payments = [
    ...objects.sessions.flatMap(({ payment_intent: intent }) => idOf(intent) ?? []),
    ...objects.charges.flatMap((charge) => readPayment(charge) ?? []),
  ];
  const subscriptions = [
    ...objects.subscriptions.map(({ id }) => id),
    ...book.subscriptions.map(({ id }) => id),
  ];
  const whole: PageBook = {
    sources: new Map(),
    payments: new Map(),
    subscriptions: new Map(),
    open: [],
  };
  const longest = Math.max(sources.length, payments.length, subscriptions.length);
  for (let at = 0; at < longest; at += LOOK_UP_MAX) {
    const slice = (keys: string[]) => keys.slice(at, at + LOOK_UP_MAX);
    const page = await lookUp(db, {
      sources: slice(sources),
      payments: slice(payments),
      subscriptions: slice(subscriptions),
    });
    for (const [key, row] of page.sources) whole.sources.set(key, row);
    for (const [key, row] of page.payments) whole.payments.set(key, row);
    for (const [key, row] of page.subscriptions) whole.subscriptions.set(key, row);
  }
  return whole;
}

/** A charge says how much came back; which refunds and disputes it were is read when that differs. */
function comparePayment(
  charge: Stripe.Charge,
  ledger: PageBook,
  suspects: Suspect[],
  rows: ComparedObject[],
): void {
  const payment = readPayment(charge);
  const row = payment === null ? undefined : ledger.payments.get(payment);
  if (payment === null || row === undefined || charge.status !== 'succeeded') return;
  const subject = `payment:${payment}`;
  const stripe = {
    paid: charge.amount_captured,
    refunded: charge.amount_refunded,
    disputed: charge.disputed,
  };
  const { paid, refunded, disputed } = row;
  rows.push({
    subject,
    stripe: { ...stripe, currency: charge.currency, ...made(charge) },
    ledger: { paid, refunded, disputed },
    agrees: true,
  });
  const tellsOfDispute = charge.disputed === row.disputes.length > 0;
  if (paid === stripe.paid && refunded === stripe.refunded && tellsOfDispute) return;
  suspects.push({
    code: 'payment_differs',
    subject,
    userId: row.user_id,
    detail: {
      ledger_paid: paid,
      ledger_refunded: refunded,
      ledger_disputed: disputed,
      stripe_paid: stripe.paid,
      stripe_refunded: stripe.refunded,
      stripe_disputed: stripe.disputed,
    },
    settle: { kind: 'payment', id: payment },
    prices: null,
    created: null,
  });
}

/** Entries of which no object is at Stripe. */
function orphansOf(book: UserBook, missing: ReadonlySet<string>): Suspect[] {
  const entries = new Map<string, SourceRow[]>();
  for (const source of book.sources) {
    entries.set(source.transaction_id, [...(entries.get(source.transaction_id) ?? []), source]);
  }
  return [...entries.values()].flatMap((sources) => {
    const [first] = sources;
    if (first === undefined || !sources.every(({ key }) => missing.has(key))) return [];
    return [
      {
        code: 'orphaned_grant',
        subject: first.key,
        userId: first.user_id,
        detail: {
          transaction_id: first.transaction_id,
          amount: first.amount,
          keys: sources.map(({ key }) => key),
        },
        settle: null,
        prices: null,
        created: null,
      } as const,
    ];
  });
}

function rowOf(
  subject: string,
  stripe: Record<string, Json> | null,
  source: SourceRow | undefined,
): ComparedObject {
  return {
    subject,
    stripe,
    ledger:
      source === undefined
        ? null
        : {
            user_id: source.user_id,
            transaction_id: source.transaction_id,
            credits: source.amount,
            amount_total: source.amount_total,
          },
    agrees: true,
  };
}

function made({ created }: { created: number }): { created: string } {
  return { created: new Date(created * 1000).toISOString() };
}

function objectOf(key: string): string {
  return key.slice(key.indexOf(':') + 1);
}
