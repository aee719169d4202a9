import type Stripe from 'stripe';
import { worthOfKeptPrice } from '../checkout/invoiceLines.ts';
import { readPrice } from '../checkout/readPrice.ts';
import type { SettlementBase } from '../checkout/settlement.ts';
import { callStripe, isMissingAtStripe } from '../checkout/stripeErrors.ts';
import { lookUp, type PageBook, type SourceRow } from './book.ts';
import {
  compareInvoice,
  compareMoneyBack,
  compareSession,
  compareSubscription,
  intentsOf,
  paymentsOf,
  type Suspect,
} from './compare.ts';
import type { StageName } from './reconcile.types.ts';

/** As many as Stripe gives at a time. */
const PAGE = 100;

/** A page of objects, compared. */
export interface ComparedPage {
  objects: number;
  suspects: Suspect[];
  /** Ids met at Stripe. */
  seen: string[];
  /** Open findings about the objects of the page; those not found again are over. */
  open: [code: string, subject: string][];
  /** Unix seconds. */
  oldestUnsettled: number | null;
  /** Where the next page begins; null: this was the last. */
  next: string | null;
}

export interface Window {
  /** Unix seconds; null: from the beginning of time. */
  from: number | null;
  until: number;
}

/** How one kind of object is listed, looked up and compared. */
interface Kind<T extends { id: string; created: number }> {
  list(
    stripe: Stripe,
    page: Stripe.PaginationParams & { created: { gte?: number; lt: number } },
  ): Promise<{ data: T[]; has_more: boolean }>;
  lookUp(deps: SettlementBase, objects: T[]): Promise<PageBook>;
  compare(deps: SettlementBase, object: T, book: PageBook): Promise<Suspect[]>;
  /** Nothing more happens to it, so later runs may pass it over. */
  isSettled(object: T): boolean;
}

/** Reads and compares the page after `after`. Errors: `dependency_down`. */
type ReadPage = (
  deps: SettlementBase,
  window: Window,
  after: string | null,
) => Promise<ComparedPage>;

function pagesOf<T extends { id: string; created: number }>(kind: Kind<T>): ReadPage {
  return async (deps, window, after) => {
    const list = (startingAfter: string | null) =>
      callStripe(() =>
        kind.list(deps.stripe, {
          limit: PAGE,
          created: { ...(window.from === null ? {} : { gte: window.from }), lt: window.until },
          ...(startingAfter === null ? {} : { starting_after: startingAfter }),
        }),
      );
    // A draft may be deleted between two pages: then the list is walked from its beginning.
    const { data, has_more } = await list(after).catch((error: unknown) => {
      if (after !== null && isMissingAtStripe(error, 'starting_after')) return list(null);
      throw error;
    });
    const book = await kind.lookUp(deps, data);
    const suspects: Suspect[] = [];
    for (const object of data) suspects.push(...(await kind.compare(deps, object, book)));
    const unsettled = data.filter((object) => !kind.isSettled(object));
    const last = data.at(-1);
    return {
      objects: data.length,
      suspects: onceEach(suspects),
      seen: data.map(({ id }) => id),
      open: book.open,
      oldestUnsettled:
        unsettled.length === 0 ? null : Math.min(...unsettled.map(({ created }) => created)),
      next: has_more && last !== undefined ? last.id : null,
    };
  };
}

/** Three refunds of one payment are one suspicion. */
function onceEach(suspects: Suspect[]): Suspect[] {
  return [
    ...new Map(suspects.map((suspect) => [`${suspect.code} ${suspect.subject}`, suspect])).values(),
  ];
}

/** Line items come with the page: which sessions sell something of ours needs no call. */
const readSessions = pagesOf<Stripe.Checkout.Session>({
  list: (stripe, page) => stripe.checkout.sessions.list({ ...page, expand: ['data.line_items'] }),
  lookUp: ({ db }, sessions) =>
    lookUp(db, {
      sources: sessions.map(({ id }) => `checkout:${id}`),
      payments: intentsOf(sessions),
    }),
  async compare(deps, session, book) {
    const source = book.sources.get(`checkout:${session.id}`);
    return [
      ...compareSession(session, book),
      ...(source === undefined ? [] : await creditsDiffer(deps, session, source)),
    ];
  },
  isSettled: ({ status, payment_status: payment }) =>
    status === 'expired' || (status === 'complete' && payment !== 'unpaid'),
});

/**
 * Entries say what their items were worth, by the catalogue of that day. Of those that do not say
 * (another program wrote them) the worth is compared with today's.
 */
export async function creditsDiffer(
  deps: SettlementBase,
  session: Stripe.Checkout.Session,
  source: SourceRow,
): Promise<Suspect[]> {
  const items = session.line_items;
  if (session.mode !== 'payment' || source.type !== 'purchase' || items === undefined) return [];
  if (items.has_more || source.items_credits === source.amount) return [];
  let expected = 0;
  for (const { price, quantity } of items.data) {
    if (price === null) continue;
    const worth = worthOfKeptPrice(deps, await readPrice(deps, price.id));
    if (!('problem' in worth)) expected += worth.credits * (quantity ?? 1);
  }
  if (expected === source.amount) return [];
  return [
    {
      code: 'credits_differ',
      subject: `checkout:${session.id}`,
      userId: source.user_id,
      detail: { transaction_id: source.transaction_id, granted: source.amount, expected },
      settle: null,
      prices: null,
      created: session.created,
    },
  ];
}

const readInvoices = pagesOf<Stripe.Invoice>({
  list: (stripe, page) => stripe.invoices.list(page),
  lookUp: ({ db }, invoices) => lookUp(db, { sources: invoices.map(({ id }) => `invoice:${id}`) }),
  compare: async (_deps, invoice, book) => compareInvoice(invoice, book),
  isSettled: ({ status }) => status === 'paid' || status === 'void',
});

/** Banks send refunds back weeks after they succeeded, so none is ever settled. */
const readRefunds = pagesOf<Stripe.Refund>({
  list: (stripe, page) => stripe.refunds.list(page),
  lookUp: ({ db }, refunds) => lookUp(db, { payments: paymentsOf(refunds) }),
  compare: async (_deps, refund, book) => compareMoneyBack(refund, book),
  isSettled: () => false,
});

const readDisputes = pagesOf<Stripe.Dispute>({
  list: (stripe, page) => stripe.disputes.list(page),
  lookUp: ({ db }, disputes) => lookUp(db, { payments: paymentsOf(disputes) }),
  compare: async (_deps, dispute, book) => compareMoneyBack(dispute, book),
  isSettled: ({ status }) => ['won', 'lost', 'warning_closed', 'prevented'].includes(status),
});

/** Those that live at Stripe, all of them: they change long after they were made. */
const readSubscriptions = pagesOf<Stripe.Subscription>({
  list: (stripe, page) => stripe.subscriptions.list(page),
  lookUp: ({ db }, subscriptions) =>
    lookUp(db, { subscriptions: subscriptions.map(({ id }) => id) }),
  compare: async (_deps, subscription, book) =>
    compareSubscription(subscription, book.subscriptions.get(subscription.id)),
  isSettled: () => true,
});

interface StripeStage {
  read: ReadPage;
  /** How long after its making an object may still change; older ones hold no cursor back. */
  lateDays: number;
  /** What findings about its objects are called by. */
  subject: string;
}

export const STRIPE_STAGES: Readonly<Partial<Record<StageName, StripeStage>>> = {
  sessions: { read: readSessions, lateDays: 30, subject: 'checkout:' },
  invoices: { read: readInvoices, lateDays: 60, subject: 'invoice:' },
  refunds: { read: readRefunds, lateDays: 35, subject: 'payment:' },
  disputes: { read: readDisputes, lateDays: 120, subject: 'payment:' },
  subscriptions: { read: readSubscriptions, lateDays: 0, subject: 'subscription:' },
};
