import type { BookReport } from '../../../src/sandbox/books.ts';
import { API_VERSION } from '../../../src/sandbox/context.ts';
import { returnTo } from './sandbox.ts';
import { createWalker, HOUR_MS, type Thing, type Walker } from './walker.ts';

/** One random step. `pick` chooses the object, `share` the part of its amount in percent. */
export interface Action {
  readonly kind: Kind;
  readonly pick: number;
  readonly share: number;
}

/** Of a hundred each. */
const EVENT_PAGES_CHECKED = 10;
/** Lists whose states are counted at the end. */
const LISTED = ['charges', 'refunds', 'disputes', 'credit_notes', 'invoices', 'subscriptions'];

type Kind = keyof typeof steps;

const CARDS = [
  '4242424242424242',
  '4242424242424242',
  '4000000000000259',
  '4000000000001976',
  '4000000000007726',
  '4000000000005126',
  '4000000000000002',
];
const PLANS = ['price_small', 'price_big', 'price_zero'];

const plan = (id: string, unit_amount: number) => ({
  id,
  product: 'prod_plan',
  currency: 'usd',
  unit_amount,
  recurring: { interval: 'month' },
});
const CATALOGUE = {
  products: [
    { id: 'prod_pack_50', name: '50 credits' },
    { id: 'prod_plan', name: 'Plan' },
  ],
  prices: [
    { id: 'price_pack_50', product: 'prod_pack_50', currency: 'usd', unit_amount: 500 },
    plan('price_small', 1_000),
    plan('price_big', 3_000),
    plan('price_zero', 0),
  ],
};

/** What the walk knows by id, in the order it met them. */
interface Known {
  readonly sessions: string[];
  readonly charges: string[];
  readonly refunds: string[];
  readonly disputes: string[];
  readonly invoices: string[];
  readonly notes: string[];
  readonly customers: string[];
  readonly subscriptions: string[];
}

type Step = (walker: Walker, known: Known, action: Action) => Promise<unknown>;

/** Half of the picks are of the latest few, so that one object gets into many states. */
function pickFrom(ids: readonly string[], pick: number): string {
  const near = pick % 2 === 0 ? Math.min(ids.length, 8) : ids.length;
  return ids[ids.length - 1 - (Math.floor(pick / 2) % Math.max(1, near))] ?? 'none';
}

async function chargeOf(walker: Walker, { charges }: Known, pick: number) {
  return await walker.api('GET', `/v1/charges/${pickFrom(charges, pick)}`);
}

const note = (ids: string[], thing: Thing | null | undefined) => {
  if (thing) ids.push(thing.id);
};

/** The latest of a customer, so that later steps meet them in every state. */
async function learnInvoices(walker: Walker, { invoices }: Known, customer: string): Promise<void> {
  const found = await walker.all(`/v1/invoices?customer=${customer}&`);
  for (const { id } of found.slice(0, 2)) if (!invoices.includes(id)) invoices.push(id);
}

async function buy(walker: Walker, known: Known, { pick, share }: Action): Promise<void> {
  const session = await walker.api('POST', '/v1/checkout/sessions', {
    mode: 'payment',
    'line_items[0][price]': 'price_pack_50',
    'line_items[0][quantity]': 1 + (share % 5),
    ...(pick % 2 === 0 ? { 'invoice_creation[enabled]': 'true' } : {}),
    ...returnTo,
  });
  if (!session) throw new Error('A session could not be made.');
  known.sessions.push(session.id);
  const debit = pick % 5 === 0;
  const body = debit
    ? { outcome: 'settles_later' }
    : { card_number: CARDS[share % CARDS.length] ?? '' };
  await walker.control('POST', `checkout/sessions/${session.id}/pay`, body);
  const paid = await walker.api('GET', `/v1/checkout/sessions/${session.id}`);
  const intent = await walker.api('GET', `/v1/payment_intents/${String(paid?.payment_intent)}`);
  if (typeof intent?.latest_charge === 'string') known.charges.push(intent.latest_charge);
  if (typeof paid?.invoice === 'string') known.invoices.push(paid.invoice);
}

const steps = {
  buy,
  buy_more: buy,
  settle: (walker, { sessions }, { pick, share }) =>
    walker.control('POST', `checkout/sessions/${pickFrom(sessions, pick)}/settle`, {
      outcome: share % 3 === 0 ? 'failed' : 'succeeded',
    }),
  refund: async (walker, known, { pick, share }) => {
    const charge = await chargeOf(walker, known, pick);
    if (!charge) return;
    const amount = Math.ceil((Number(charge.amount) * share) / 100);
    note(
      known.refunds,
      await walker.api('POST', '/v1/refunds', {
        ...(pick % 3 === 0
          ? { payment_intent: String(charge.payment_intent) }
          : { charge: charge.id }),
        ...(share > 60 ? {} : { amount }),
      }),
    );
  },
  refund_course: async (walker, known, { pick, share }) => {
    const courses = ['succeeded', 'pending', 'fails_later', 'requires_action'];
    const answer = await walker.control('POST', `charges/${pickFrom(known.charges, pick)}/refund`, {
      course: courses[share % 4],
      amount: share,
    });
    note(known.refunds, answer?.refund as Thing | undefined);
  },
  end_refund: (walker, { refunds }, { pick, share }) =>
    walker.control('POST', `refunds/${pickFrom(refunds, pick)}/end`, {
      status: ['succeeded', 'failed', 'canceled'][share % 3],
    }),
  cancel_refund: (walker, { refunds }, { pick }) =>
    walker.api('POST', `/v1/refunds/${pickFrom(refunds, pick)}/cancel`),
  dispute: async (walker, known, { pick, share }) => {
    const answer = await walker.control(
      'POST',
      `charges/${pickFrom(known.charges, pick)}/dispute`,
      {
        kind: ['dispute', 'inquiry', 'prevented'][share % 3],
        ...(share % 4 === 0 ? { amount: share } : {}),
      },
    );
    note(known.disputes, answer?.dispute as Thing | undefined);
  },
  decide: (walker, { disputes }, { pick, share }) =>
    walker.control('POST', `disputes/${pickFrom(disputes, pick)}/decide`, {
      status: ['won', 'lost', 'warning_closed', 'needs_response', 'appeal_needs_response'][
        share % 5
      ],
    }),
  answer_dispute: (walker, { disputes }, { pick, share }) =>
    walker.api('POST', `/v1/disputes/${pickFrom(disputes, pick)}`, {
      'evidence[uncategorized_text]':
        ['winning_evidence', 'losing_evidence', 'escalate_inquiry_evidence', 'text'][share % 4] ??
        '',
      submit: String(share % 5 !== 0),
    }),
  close_dispute: (walker, { disputes }, { pick }) =>
    walker.api('POST', `/v1/disputes/${pickFrom(disputes, pick)}/close`),
  credit: async (walker, known, { pick, share }) => {
    const invoice = await walker.api('GET', `/v1/invoices/${pickFrom(known.invoices, pick)}`);
    if (!invoice) return;
    const amount = Math.ceil((Number(invoice.total) * share) / 100);
    const part = Math.floor(amount / 2);
    const ways: Record<string, number>[] = [
      { out_of_band_amount: amount },
      { refund_amount: amount },
      { credit_amount: amount },
      { refund_amount: part, credit_amount: amount - part },
    ];
    note(
      known.notes,
      await walker.api('POST', '/v1/credit_notes', {
        invoice: invoice.id,
        amount,
        ...(invoice.status === 'paid' ? ways[share % 4] : {}),
      }),
    );
  },
  subscribe: async (walker, known, { pick, share }) => {
    const customer = await walker.api('POST', '/v1/customers', {
      email: 'ada@example.com',
      payment_method: 'pm_card_visa',
      'invoice_settings[default_payment_method]': 'pm_card_visa',
    });
    if (!customer) throw new Error('A customer could not be made.');
    known.customers.push(customer.id);
    const subscription = await walker.api('POST', '/v1/subscriptions', {
      customer: customer.id,
      'items[0][price]': PLANS[share % 3] ?? '',
      'items[0][quantity]': 1 + (share % 4),
      ...(pick % 4 === 0 ? { trial_period_days: 7 } : {}),
      ...(pick % 5 === 0 ? { 'discounts[0][coupon]': 'half' } : {}),
      ...(pick % 7 === 0 ? { collection_method: 'send_invoice', days_until_due: 10 } : {}),
    });
    note(known.subscriptions, subscription);
    await learnInvoices(walker, known, customer.id);
  },
  change_plan: async (walker, known, { pick, share }) => {
    const id = pickFrom(known.subscriptions, pick);
    const now = await walker.api('GET', `/v1/subscriptions/${id}`);
    const items = (now?.items as { data: { id: string }[] } | undefined)?.data;
    await walker.api('POST', `/v1/subscriptions/${id}`, {
      'items[0][id]': items?.[0]?.id ?? '',
      'items[0][price]': PLANS[share % 3] ?? '',
      'items[0][quantity]': 1 + (share % 5),
      proration_behavior:
        ['create_prorations', 'always_invoice', 'none'][Math.floor(share / 3) % 3] ?? '',
    });
    await learnInvoices(walker, known, String(now?.customer));
  },
  renew: async (walker, known, { pick }) => {
    const id = pickFrom(known.subscriptions, pick);
    const answer = await walker.control('POST', `subscriptions/${id}/renew`);
    const invoice = answer?.invoice as Thing | null | undefined;
    note(known.invoices, invoice);
  },
  end_subscription: (walker, { subscriptions }, { pick, share }) =>
    walker.control('POST', `subscriptions/${pickFrom(subscriptions, pick)}/cancel`, {
      at_period_end: share % 2 === 0,
      prorate: share % 3 === 0,
    }),
  pause: (walker, { subscriptions }, { pick, share }) =>
    walker.control(
      'POST',
      `subscriptions/${pickFrom(subscriptions, pick)}/${share % 2 === 0 ? 'pause' : 'resume'}`,
    ),
  fail_payments: (walker, { customers }, { pick, share }) =>
    walker.control('POST', `customers/${pickFrom(customers, pick)}/fail_payments`, {
      times: share % 5,
    }),
  adjust_balance: (walker, { customers }, { pick, share }) =>
    walker.api('POST', `/v1/customers/${pickFrom(customers, pick)}/balance_transactions`, {
      amount: (share - 60) * 20,
      currency: 'usd',
    }),
  bill: async (walker, known, { pick, share }) => {
    const customer = pickFrom(known.customers, pick);
    await walker.api('POST', '/v1/invoiceitems', {
      customer,
      amount: (share - 20) * 10,
      currency: 'usd',
    });
    note(
      known.invoices,
      await walker.api('POST', '/v1/invoices', {
        customer,
        pending_invoice_items_behavior: 'include',
        ...(pick % 3 === 0 ? { 'discounts[0][coupon]': 'half' } : {}),
      }),
    );
  },
  finalize: (walker, { invoices }, { pick }) =>
    walker.api('POST', `/v1/invoices/${pickFrom(invoices, pick)}/finalize`),
  pay_invoice: (walker, { invoices }, { pick, share }) =>
    walker.control('POST', `invoices/${pickFrom(invoices, pick)}/pay`, {
      ...(share % 3 === 0 ? { amount: share } : {}),
      ...(share % 7 === 0 ? { out_of_band: true } : {}),
    }),
  void_invoice: (walker, { invoices }, { pick, share }) =>
    walker.api(
      'POST',
      `/v1/invoices/${pickFrom(invoices, pick)}/${share % 3 === 0 ? 'mark_uncollectible' : 'void'}`,
    ),
  void_note: (walker, { notes }, { pick }) =>
    walker.api('POST', `/v1/credit_notes/${pickFrom(notes, pick)}/void`),
  touch: (walker, { charges }, { pick, share }) =>
    walker.api('POST', `/v1/charges/${pickFrom(charges, pick)}`, { 'metadata[n]': share }),
  wait: async (walker, _known, { share }) => walker.pass(share * HOUR_MS),
} satisfies Record<string, Step>;

export const kinds = Object.keys(steps) as Kind[];

export async function createWalk() {
  const walker = createWalker();
  const known: Known = {
    sessions: [],
    charges: [],
    refunds: [],
    disputes: [],
    invoices: [],
    notes: [],
    customers: [],
    subscriptions: [],
  };
  await walker.control('PUT', 'catalogue', CATALOGUE);
  await walker.api('POST', '/v1/coupons', { id: 'half', percent_off: 50, duration: 'forever' });
  return {
    take: (action: Action) => (steps[action.kind] as Step)(walker, known, action),
    async books(): Promise<BookReport> {
      return (await walker.control('GET', 'books')) as unknown as BookReport;
    },
    /** How many objects are in each state, e.g. `refund.failed`. */
    async met(): Promise<Map<string, number>> {
      const counts = new Map<string, number>();
      for (const path of LISTED) {
        for (const { object, status } of await walker.all(
          `/v1/${path}${path === 'subscriptions' ? '?status=all&' : ''}`,
        )) {
          const name = `${object}.${status}`;
          counts.set(name, (counts.get(name) ?? 0) + 1);
        }
      }
      return counts;
    },
    /** The newest events have Stripe's shape of each version, whatever state their object was in. */
    async checkEvents(): Promise<void> {
      for (const api_version of ['2022-08-01', '2024-06-20', '2025-09-30.clover', API_VERSION]) {
        await walker.control('PUT', 'settings', { api_version });
        let after = '';
        for (let page = 0; page < EVENT_PAGES_CHECKED; page += 1) {
          const list = await walker.api('GET', `/v1/events?limit=100${after}`);
          const last = (list?.data as Thing[] | undefined)?.at(-1);
          if (!last || !list?.has_more) break;
          after = `&starting_after=${last.id}`;
        }
      }
    },
    defects: walker.defects,
    stop: walker.stop,
  };
}
