import { describe, expect, it } from '@jest/globals';
import Stripe from 'stripe';
import * as fields from '../../src/core/stripeFields.ts';
import { customerWith } from '../sandbox/support/billing.ts';
import { paidCharge } from '../sandbox/support/money.ts';
import {
  eventually,
  type Received,
  receiver,
  type TestSandbox,
  testSandbox,
} from '../sandbox/support/sandbox.ts';

const OLD_VERSIONS = ['2020-08-27', '2024-06-20', '2025-02-24.acacia'] as const;
/** What only one of the shapes says. */
const OLD_ONLY = ['readInvoicePayments', 'readInvoice'];

type Told = { type: string; before: unknown; since: unknown };

/** Has the sandbox tell `story` to an endpoint of that version and to one of the newest. */
async function tell(
  version: string,
  story: (sandbox: TestSandbox) => Promise<unknown>,
): Promise<Told[]> {
  const sandbox = await testSandbox({ delaySettleMs: 3_600_000 });
  const [old, fresh] = [await receiver(), await receiver()];
  await sandbox.ensureWebhookEndpoint({ url: old.url, apiVersion: version });
  await sandbox.ensureWebhookEndpoint({ url: fresh.url });
  await story(sandbox);
  await eventually(async () =>
    expect(await sandbox.deliveries({ status: 'pending' })).toHaveLength(0),
  );
  const objectOf = ({ event }: Received) => event.data.object as unknown;
  return fresh.received.flatMap((since) => {
    const before = old.received.find(({ event }) => event.id === since.event.id);
    if (before === undefined) return [];
    return [{ type: since.event.type, before: objectOf(before), since: objectOf(since) }];
  });
}

async function storyOfSubscription(sandbox: TestSandbox) {
  const { stripe } = sandbox;
  await paidCharge(sandbox);
  const coupon = await stripe.coupons.create({ percent_off: 10, duration: 'forever' });
  const customer = await customerWith(sandbox);
  const subscription = await stripe.subscriptions.create({
    customer: customer.id,
    items: [{ price: 'price_plan' }],
    metadata: { userId: 'u1' },
    discounts: [{ coupon: coupon.id }],
  });
  await stripe.subscriptions.update(subscription.id, {
    items: [{ id: subscription.items.data[0]?.id ?? '', quantity: 2 }],
    proration_behavior: 'always_invoice',
  });
}

async function storyOfMoneyBack(sandbox: TestSandbox) {
  const { stripe } = sandbox;
  const { session, charge } = await paidCharge(
    sandbox,
    {},
    { invoice_creation: { enabled: true } },
  );
  await stripe.creditNotes.create({
    invoice: String(session.invoice),
    amount: 700,
    refund_amount: 700,
  });
  await sandbox.dispute(charge.id, { amount: 300 });
}

const linesOf = (object: unknown): unknown[] =>
  (object as { lines?: { data: unknown[] } }).lines?.data ?? [];

/** Everything the readers say of an object and its lines. */
function readAll(object: unknown): Record<string, unknown> {
  const readers = Object.entries(fields as unknown as Record<string, (value: unknown) => unknown>)
    .filter(
      ([name]) =>
        !['readChoice', 'readMember', 'readAmount', 'readDecimal', 'readId'].includes(name),
    )
    .filter(([name]) => !OLD_ONLY.includes(name));
  const ofLines = readers.filter(([name]) => name.startsWith('readLine'));
  return {
    ...Object.fromEntries(
      readers
        .filter(([name]) => !name.startsWith('readLine'))
        .map(([name, read]) => [name, read(object)]),
    ),
    lines: linesOf(object).map((line) =>
      Object.fromEntries(ofLines.map(([name, read]) => [name, read(line)])),
    ),
  };
}

describe.each(OLD_VERSIONS)(
  'every field reads the same in %s as in the newest version',
  (version) => {
    it('of sessions, subscriptions, invoices and their lines', async () => {
      const told = await tell(version, storyOfSubscription);
      expect(told.length).toBeGreaterThan(15);
      // Pending items are read as the lines they become, discounts with what they are given to.
      const read = told.filter(({ type }) => !/^(invoiceitem|customer\.discount)\./.test(type));
      for (const { type, before, since } of read) {
        const coupons = { readCoupons: expect.anything() };
        // Old invoices and subscriptions carry the one discount whole, newer ones its id.
        expect({ type, ...readAll(before), ...coupons }).toEqual({
          type,
          ...readAll(since),
          ...coupons,
        });
      }
      const invoice = told.filter(({ type }) => type === 'invoice.paid').at(-1);
      expect(fields.readInvoiceSubscription(invoice?.before)).toMatch(/^sub_/);
      expect(fields.readInvoiceSubscriptionMetadata(invoice?.before)).toEqual({ userId: 'u1' });
      expect(fields.readInvoicePayments(invoice?.before)).toEqual([expect.stringMatching(/^pi_/)]);
      expect(fields.readInvoicePayments(invoice?.since)).toEqual([]);
      expect(fields.readCoupons(invoice?.before)).toHaveLength(1);
      const lines = linesOf(invoice?.since);
      expect(lines.map(fields.readLineProration)).toEqual([true, true]);
      expect(lines.map((line) => fields.readLinePrice(line)?.price)).toEqual([
        'price_plan',
        'price_plan',
      ]);
      expect(new Set(lines.map(fields.readLineUnitAmount))).toEqual(new Set(['999']));
      const subscription = told.find(({ type }) => type === 'customer.subscription.created');
      const period = fields.readSubscriptionPeriod(subscription?.before);
      expect(period).toEqual({ start: expect.any(Number), end: expect.any(Number) });
    });

    it('of charges, refunds, disputes and credit notes', async () => {
      const told = await tell(version, storyOfMoneyBack);
      for (const { type, before, since } of told) {
        expect({ type, ...readAll(before) }).toEqual({ type, ...readAll(since) });
      }
      const about = (type: string) => told.find((one) => one.type === type);
      const intents = ['charge.refunded', 'refund.created', 'charge.dispute.created'].map((type) =>
        fields.readPayment(about(type)?.before),
      );
      expect(intents).toEqual(Array(3).fill(fields.readPayment(about('charge.succeeded')?.since)));
      expect(intents[0]).toMatch(/^pi_/);
      expect(fields.readCreditNoteRefunds(about('credit_note.created')?.before)).toEqual([
        expect.stringMatching(/^re_/),
      ]);
      expect(fields.readInvoice(about('charge.refunded')?.before)).toMatch(/^in_/);
      expect(fields.readInvoice(about('charge.refunded')?.since)).toBeNull();
    });
  },
);

describe('a reader', () => {
  const strange: unknown[] = [
    undefined,
    null,
    '',
    'text',
    0,
    Number.NaN,
    true,
    [],
    {},
    [null],
    { id: 7 },
    { data: null },
    { parent: null, lines: null, items: { data: [null, 'x', { price: 4 }] } },
    { parent: 'x', pricing: [], discounts: 'x', payments: { data: {} }, refunds: [null] },
    JSON.parse('{"__proto__": {"id": "in_x"}, "toString": 3}'),
    new Proxy({}, {}),
  ];

  it('survives anything, and says nothing of it', () => {
    for (const value of strange) {
      for (const [name, read] of Object.entries(fields)) {
        if (name === 'readChoice' || name === 'readMember') continue;
        const answer = (read as (value: unknown) => unknown)(value);
        if (name === 'readId' && value === 'text') continue;
        if (value === 0 && ['readAmount', 'readDecimal'].includes(name)) continue;
        expect({ name, value, empty: isEmpty(answer) }).toEqual({ name, value, empty: true });
      }
    }
  });

  it('takes a reference as its id, expanded or deleted', () => {
    for (const customer of ['cus_1', { id: 'cus_1' }, { id: 'cus_1', deleted: true }]) {
      expect(fields.readCustomer({ customer })).toBe('cus_1');
    }
    expect(fields.readCustomer({ object: 'customer', id: 'cus_1' })).toBe('cus_1');
  });

  it('takes decimals as text, number or object of the SDK, and amounts as whole numbers alone', () => {
    const decimals = ['12.5', 12.5, Stripe.Decimal.from('12.5')];
    expect(decimals.map(fields.readDecimal)).toEqual(['12.5', '12.5', '12.5']);
    expect([Number.NaN, '1e5', 'x', { toString: 'x' }].map(fields.readDecimal)).toEqual(
      Array(4).fill(null),
    );
    expect([5, '5', -5, 0.5, '0.5', 2 ** 60, '99999999999999999'].map(fields.readAmount)).toEqual([
      5,
      5,
      -5,
      null,
      null,
      null,
      null,
    ]);
  });

  it('does not take an unknown word for a known one', () => {
    expect(fields.readChoice('won', ['won', 'lost'])).toBe('won');
    expect(fields.readChoice('settled_on_mars', ['won', 'lost'])).toBeNull();
  });

  it('takes the widest period of the items that count', () => {
    const item = (price: string, start: number, end: number) => ({
      price: { id: price },
      current_period_start: start,
      current_period_end: end,
    });
    const subscription = {
      items: { data: [item('a', 10, 20), item('b', 5, 18), item('mug', 1, 99)] },
    };
    expect(fields.readSubscriptionPeriod(subscription, (price) => price !== 'mug')).toEqual({
      start: 5,
      end: 20,
    });
    expect(fields.readSubscriptionPeriod(subscription, () => false)).toEqual({ start: 1, end: 99 });
  });

  it('knows payments, prices and coupons of each generation', () => {
    expect(
      fields.readInvoicePayments({
        payments: {
          data: [
            { payment: { type: 'payment_intent', payment_intent: 'pi_1' } },
            { payment: { type: 'charge', charge: { id: 'ch_1' } } },
            { payment: { type: 'payment_record', payment_record: 'payrec_1' } },
          ],
        },
      }),
    ).toEqual(['pi_1', 'ch_1', 'payrec_1']);
    expect(fields.readInvoicePayments({ payment_intent: null, charge: 'ch_1' })).toEqual(['ch_1']);
    expect(fields.readLinePrice({ plan: { id: 'p', product: 'prod' } })).toEqual({
      price: 'p',
      product: 'prod',
    });
    expect(fields.readCoupons({ discounts: [{ source: { coupon: 'c' } }, 'di_1'] })).toEqual(['c']);
    expect(fields.readCoupons({ discounts: [{ coupon: { id: 'c' } }] })).toEqual(['c']);
    expect(fields.readPayment({ object: 'charge', id: 'ch_1', payment_intent: null })).toBe('ch_1');
    expect(fields.readPayment({ object: 'refund', charge: null, payment_intent: null })).toBeNull();
  });
});

function isEmpty(answer: unknown): boolean {
  return (
    answer === null ||
    answer === false ||
    (typeof answer === 'object' && Object.keys(answer).length === 0)
  );
}
