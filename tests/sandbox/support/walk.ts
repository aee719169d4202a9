import type { BookReport } from '../../../src/sandbox/books.ts';
import { createEngine } from '../../../src/sandbox/engine.ts';
import { seededBytes } from '../../../src/sandbox/ids.ts';
import { catalogue, returnTo } from './sandbox.ts';
import { assertStripeShape } from './stripeSchema.ts';

/** One random step. `pick` chooses the object, `share` the part of its amount in percent. */
export interface Action {
  readonly kind: Kind;
  readonly pick: number;
  readonly share: number;
}

type Kind = keyof typeof steps;
type Thing = { id: string; object: string; status?: string; [field: string]: unknown };

const SECRET = 'sk_test_sandbox_walk';
const CARDS = [
  '4242424242424242',
  '4242424242424242',
  '4000000000000259',
  '4000000000001976',
  '4000000000007726',
  '4000000000005126',
  '4000000000000002',
];
const HOUR_MS = 3_600_000;

/** A sandbox without a socket, so that ten thousand actions take seconds. */
function createWalker() {
  let now = Date.parse('2026-01-01T00:00:00Z');
  const defects: string[] = [];
  const engine = createEngine({
    bytes: seededBytes('walk'),
    now: () => now,
    origin: 'http://127.0.0.1:1',
    secretKey: SECRET,
    instance: { instance: 'walk', pid: 0, webhookSecret: 'whsec_walk' },
    delaySettleMs: 12 * HOUR_MS,
    retryScheduleMs: [],
    attemptTimeoutMs: 1_000,
    logger: { info() {}, warn() {}, error: (text, more) => defects.push(`${text} ${more}`) },
  });

  async function send(method: string, path: string, body: string, type: string) {
    const [plain = '', query = ''] = path.split('?');
    const answer = await engine.handle({
      method,
      path: plain,
      query,
      body,
      headers: { authorization: `Bearer ${SECRET}`, 'content-type': type },
    });
    if (answer.status >= 500) throw new Error(`${method} ${path}: ${answer.body} ${defects}`);
    return { status: answer.status, body: JSON.parse(answer.body) as Thing };
  }

  return {
    /** A call of Stripe's API; null when it was refused. Every answer has Stripe's shape. */
    async api(method: 'GET' | 'POST', path: string, form: Record<string, string | number> = {}) {
      const text = new URLSearchParams(
        Object.entries(form).map(([name, value]): [string, string] => [name, String(value)]),
      ).toString();
      const type = 'application/x-www-form-urlencoded';
      const { status, body } = await send(method, path, text, type);
      assertStripeShape(status, body);
      return status === 200 ? body : null;
    },
    async control(method: 'GET' | 'POST' | 'PUT', path: string, body: object = {}) {
      const { status, body: answer } = await send(
        method,
        `/_sandbox/${path}`,
        JSON.stringify(body),
        'application/json',
      );
      return status === 200 ? answer : null;
    },
    /** All objects of a list, newest first. */
    async all(path: string): Promise<Thing[]> {
      const found: Thing[] = [];
      for (let after = ''; ; ) {
        const { body } = await send('GET', `${path}?limit=100${after}`, '', 'text/plain');
        const { data, has_more } = body as unknown as { data: Thing[]; has_more: boolean };
        found.push(...data);
        if (!has_more) return found;
        after = `&starting_after=${data.at(-1)?.id}`;
      }
    },
    pass(ms: number) {
      now += ms;
    },
    defects,
    stop: engine.stop,
  };
}
type Walker = ReturnType<typeof createWalker>;

/** What the walk knows by id, in the order it met them. */
interface Known {
  readonly sessions: string[];
  readonly charges: string[];
  readonly refunds: string[];
  readonly disputes: string[];
  readonly invoices: string[];
  readonly notes: string[];
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
    note(
      known.notes,
      await walker.api('POST', '/v1/credit_notes', {
        invoice: invoice.id,
        amount,
        ...(share % 3 === 0
          ? { out_of_band_amount: amount }
          : share % 3 === 1 || part === 0
            ? { refund_amount: amount }
            : { refund_amount: part, out_of_band_amount: amount - part }),
      }),
    );
  },
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
  };
  await walker.control('PUT', 'catalogue', catalogue);
  return {
    take: (action: Action) => (steps[action.kind] as Step)(walker, known, action),
    async books(): Promise<BookReport> {
      return (await walker.control('GET', 'books')) as unknown as BookReport;
    },
    /** How many objects are in each state, e.g. `refund.failed`. */
    async met(): Promise<Map<string, number>> {
      const counts = new Map<string, number>();
      for (const path of ['charges', 'refunds', 'disputes', 'credit_notes', 'invoices']) {
        for (const { object, status } of await walker.all(`/v1/${path}`)) {
          const name = `${object}.${status}`;
          counts.set(name, (counts.get(name) ?? 0) + 1);
        }
      }
      return counts;
    },
    defects: walker.defects,
    stop: walker.stop,
  };
}
