import { describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import {
  catalogue,
  eventually,
  openSession,
  receiver,
  returnTo,
  testSandbox,
} from './support/sandbox.ts';

async function eventTypes(stripe: Stripe): Promise<string[]> {
  const types: string[] = [];
  for await (const event of stripe.events.list({ limit: 100 })) types.unshift(event.type);
  return types.filter((type) => !/^(product|price)\./.test(type));
}

describe('a session paid by card', () => {
  it('becomes paid with its payment intent, charge and buyer', async () => {
    const sandbox = await testSandbox();
    const { stripe } = sandbox;
    const session = await openSession(sandbox, {
      line_items: [{ price: 'price_pack_50', quantity: 3 }],
      client_reference_id: 'u1',
      metadata: { userId: 'u1', plan: 'pack_50' },
      payment_intent_data: { metadata: { userId: 'u1' }, description: 'three packs' },
    });
    expect(session).toMatchObject({
      status: 'open',
      payment_status: 'unpaid',
      amount_total: 1_500,
      payment_intent: null,
      customer: null,
      url: `${sandbox.origin}/c/pay/${session.id}`,
    });
    expect(session.expires_at - session.created).toBe(24 * 3_600);

    const paid = await sandbox.pay(session.id, { email: 'ada@example.com', name: 'Ada' });

    expect(paid.redirect_url).toBe(`http://127.0.0.1:3000/ok?session_id=${session.id}`);
    const after = await stripe.checkout.sessions.retrieve(session.id, {
      expand: [
        'payment_intent.latest_charge',
        'line_items.data.price.product',
        'payment_intent.payment_method',
      ],
    });
    expect(after).toMatchObject({
      status: 'complete',
      payment_status: 'paid',
      url: null,
      customer: null,
      customer_details: { email: 'ada@example.com', name: 'Ada' },
      metadata: { userId: 'u1', plan: 'pack_50' },
      payment_intent: {
        object: 'payment_intent',
        status: 'succeeded',
        amount_received: 1_500,
        metadata: { userId: 'u1' },
        description: 'three packs',
        latest_charge: { object: 'charge', paid: true, amount: 1_500, amount_captured: 1_500 },
        payment_method: { card: { last4: '4242', brand: 'visa' } },
      },
    });
    expect(after.line_items?.data[0]).toMatchObject({
      quantity: 3,
      amount_total: 1_500,
      price: { id: 'price_pack_50', product: { id: 'prod_pack_50', name: '50 credits' } },
    });
    expect(await eventTypes(stripe)).toEqual([
      'payment_intent.created',
      'charge.succeeded',
      'payment_intent.succeeded',
      'checkout.session.completed',
    ]);
  });

  it('is told with the session as it was at that moment, without line items', async () => {
    const sandbox = await testSandbox();
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url });
    const session = await openSession(sandbox);
    await sandbox.pay(session.id);
    await eventually(() => expect(hook.types()).toContain('checkout.session.completed'));
    const told = hook.received.find(({ event }) => event.type === 'checkout.session.completed');
    expect(told?.event.data.object).toMatchObject({
      id: session.id,
      payment_status: 'paid',
      url: null,
    });
    expect(told?.event.data.object).not.toHaveProperty('line_items');
    expect(told?.event.request).toEqual({ id: null, idempotency_key: null });
  });

  it('stays open after a decline and uses the same payment intent for the next try', async () => {
    const sandbox = await testSandbox();
    const { stripe } = sandbox;
    const session = await openSession(sandbox);
    const declined = await sandbox.pay(session.id, { outcome: 'declined' });
    expect(declined).toMatchObject({ outcome: 'declined', redirect_url: null });
    const open = await stripe.checkout.sessions.retrieve(session.id, {
      expand: ['payment_intent.latest_charge'],
    });
    expect(open).toMatchObject({
      status: 'open',
      payment_status: 'unpaid',
      payment_intent: {
        status: 'requires_payment_method',
        last_payment_error: {
          type: 'card_error',
          code: 'card_declined',
          decline_code: 'generic_decline',
        },
        latest_charge: { status: 'failed', paid: false, failure_code: 'card_declined' },
      },
    });
    await sandbox.pay(session.id);
    const intents = await stripe.paymentIntents.list();
    expect(intents.data).toHaveLength(1);
    expect(intents.data[0]).toMatchObject({ status: 'succeeded', last_payment_error: null });
    expect(await eventTypes(stripe)).toEqual([
      'payment_intent.created',
      'charge.failed',
      'payment_intent.payment_failed',
      'charge.succeeded',
      'payment_intent.succeeded',
      'checkout.session.completed',
    ]);
  });

  it('cannot be paid twice', async () => {
    const sandbox = await testSandbox();
    const session = await openSession(sandbox);
    await sandbox.pay(session.id);
    await expect(sandbox.pay(session.id)).rejects.toThrow('is complete and cannot be paid');
    expect((await sandbox.stripe.charges.list()).data).toHaveLength(1);
  });

  it('charges the quantities the buyer chose where the session allows it', async () => {
    const sandbox = await testSandbox();
    const session = await openSession(sandbox, {
      line_items: [
        { price: 'price_pack_50', quantity: 1, adjustable_quantity: { enabled: true, maximum: 5 } },
        { price: 'price_free', quantity: 1 },
      ],
    });
    const items = await sandbox.stripe.checkout.sessions.listLineItems(session.id);
    const [pack, free] = items.data.map(({ id }) => id) as [string, string];
    await expect(sandbox.pay(session.id, { quantities: { [pack]: 6 } })).rejects.toThrow(
      'cannot be 6',
    );
    await expect(sandbox.pay(session.id, { quantities: { [free]: 2 } })).rejects.toThrow(
      'cannot be 2',
    );
    await sandbox.pay(session.id, { quantities: { [pack]: 4 } });
    const after = await sandbox.stripe.checkout.sessions.retrieve(session.id, {
      expand: ['line_items'],
    });
    expect(after.amount_total).toBe(2_000);
    expect(after.line_items?.data[0]?.quantity).toBe(4);
  });
});

describe('a session with nothing to pay', () => {
  it('completes as no_payment_required without a payment intent', async () => {
    const sandbox = await testSandbox();
    const session = await openSession(sandbox, {
      line_items: [{ price: 'price_free', quantity: 1 }],
    });
    await sandbox.pay(session.id);
    expect(await sandbox.stripe.checkout.sessions.retrieve(session.id)).toMatchObject({
      status: 'complete',
      payment_status: 'no_payment_required',
      payment_intent: null,
      amount_total: 0,
    });
    expect(await eventTypes(sandbox.stripe)).toEqual(['checkout.session.completed']);
  });
});

describe('a session paid by bank debit', () => {
  it('completes unpaid and becomes paid when the debit settles', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 20 });
    const session = await openSession(sandbox, { invoice_creation: { enabled: true } });
    await sandbox.pay(session.id, { outcome: 'settles_later' });
    const after = await eventually(async () => {
      const found = await sandbox.stripe.checkout.sessions.retrieve(session.id, {
        expand: ['invoice'],
      });
      expect(found.payment_status).toBe('paid');
      return found;
    });
    expect(after.invoice).toMatchObject({ status: 'paid', amount_paid: 500 });
    const types = await eventTypes(sandbox.stripe);
    expect(types.slice(0, 8)).toEqual([
      'customer.created',
      'payment_intent.created',
      'charge.pending',
      'payment_intent.processing',
      'checkout.session.completed',
      'charge.succeeded',
      'payment_intent.succeeded',
      'checkout.session.async_payment_succeeded',
    ]);
    const events = await sandbox.stripe.events.list({ type: 'checkout.session.completed' });
    expect(events.data[0]?.data.object).toMatchObject({
      payment_status: 'unpaid',
      status: 'complete',
      invoice: null,
    });
  });

  it('stays unpaid when the debit fails, and says why', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 3_600_000 });
    const session = await openSession(sandbox, { invoice_creation: { enabled: true } });
    await sandbox.pay(session.id, { outcome: 'fails_later' });
    await sandbox.settle(session.id, 'failed');
    const after = await sandbox.stripe.checkout.sessions.retrieve(session.id, {
      expand: ['payment_intent.latest_charge'],
    });
    expect(after).toMatchObject({
      status: 'complete',
      payment_status: 'unpaid',
      invoice: null,
      payment_intent: {
        status: 'requires_payment_method',
        amount_received: 0,
        last_payment_error: { code: 'insufficient_funds' },
        latest_charge: { status: 'failed', captured: false, amount_captured: 0 },
      },
    });
    expect((await eventTypes(sandbox.stripe)).slice(-3)).toEqual([
      'charge.failed',
      'payment_intent.payment_failed',
      'checkout.session.async_payment_failed',
    ]);
    await expect(sandbox.settle(session.id)).rejects.toThrow('No bank debit is on its way');
  });
});

describe('an invoice behind a pack', () => {
  it('is paid, manual, without a parent, and found by its payment intent', async () => {
    const sandbox = await testSandbox();
    const { stripe } = sandbox;
    const session = await openSession(sandbox, {
      line_items: [{ price: 'price_pack_50', quantity: 2 }],
      invoice_creation: { enabled: true, invoice_data: { metadata: { userId: 'u1' } } },
    });
    await sandbox.pay(session.id, { email: 'ada@example.com' });
    const {
      invoice: id,
      payment_intent: intent,
      customer,
    } = await stripe.checkout.sessions.retrieve(session.id);
    const invoice = await stripe.invoices.retrieve(String(id), {
      expand: ['payments', 'customer'],
    });
    expect(invoice).toMatchObject({
      status: 'paid',
      billing_reason: 'manual',
      parent: null,
      total: 1_000,
      amount_paid: 1_000,
      amount_remaining: 0,
      metadata: { userId: 'u1' },
      customer: { id: customer, email: 'ada@example.com' },
      payments: { data: [{ invoice: id, status: 'paid' }] },
      lines: {
        data: [
          {
            amount: 1_000,
            quantity: 2,
            pricing: { price_details: { price: 'price_pack_50', product: 'prod_pack_50' } },
          },
        ],
      },
    });
    expect(invoice.number).toMatch(/-0001$/);
    const byIntent = await stripe.invoicePayments.list({
      payment: { type: 'payment_intent', payment_intent: String(intent) },
      expand: ['data.payment.payment_intent'],
    });
    expect(byIntent.data).toMatchObject([
      { invoice: id, payment: { payment_intent: { id: intent } } },
    ]);
    expect((await stripe.invoicePayments.list({ invoice: String(id) })).data).toHaveLength(1);
    expect((await stripe.invoicePayments.list({ invoice: 'in_other' })).data).toHaveLength(0);
    expect(
      (await stripe.invoices.list({ customer: String(customer), status: 'paid' })).data,
    ).toHaveLength(1);
    expect((await stripe.invoices.list({ status: 'open' })).data).toHaveLength(0);
    expect((await eventTypes(stripe)).slice(5)).toEqual([
      'invoice.created',
      'invoice.finalized',
      'invoice.updated',
      'invoice.paid',
      'invoice.payment_succeeded',
      'invoice_payment.paid',
    ]);
    const told = await stripe.events.list({
      types: ['invoice.created', 'invoice.finalized', 'invoice.paid'],
    });
    expect(told.data.map(({ data }) => (data.object as Stripe.Invoice).status)).toEqual([
      'paid',
      'open',
      'draft',
    ]);
  });

  it('shows ten lines and pages the rest', async () => {
    const sandbox = await testSandbox();
    const session = await openSession(sandbox, {
      line_items: Array.from({ length: 12 }, () => ({ price: 'price_pack_50', quantity: 1 })),
      invoice_creation: { enabled: true },
    });
    await sandbox.pay(session.id);
    const { invoice: id } = await sandbox.stripe.checkout.sessions.retrieve(session.id);
    const invoice = await sandbox.stripe.invoices.retrieve(String(id));
    expect(invoice.lines).toMatchObject({ has_more: true });
    expect(invoice.lines.data).toHaveLength(10);
    const all = await sandbox.stripe.invoices
      .listLineItems(String(id), { limit: 5 })
      .autoPagingToArray({ limit: 50 });
    expect(all).toHaveLength(12);
  });
});

describe('opening a session', () => {
  it('lists by payment intent, customer, status and time', async () => {
    const sandbox = await testSandbox();
    const { stripe } = sandbox;
    const customer = await stripe.customers.create({ email: 'ada@example.com' });
    const paid = await openSession(sandbox, { customer: customer.id });
    const open = await openSession(sandbox);
    await sandbox.pay(paid.id);
    const ids = async (filter: Stripe.Checkout.SessionListParams) =>
      (await stripe.checkout.sessions.list(filter)).data.map(({ id }) => id);
    const { payment_intent: intent } = await stripe.checkout.sessions.retrieve(paid.id);
    expect(await ids({})).toEqual([open.id, paid.id]);
    expect(await ids({ payment_intent: String(intent) })).toEqual([paid.id]);
    expect(await ids({ customer: customer.id })).toEqual([paid.id]);
    expect(await ids({ status: 'open' })).toEqual([open.id]);
    expect(await ids({ customer_details: { email: 'ada@example.com' } })).toEqual([paid.id]);
    expect(await ids({ created: { gt: open.created } })).toEqual([]);
    expect(await ids({ created: { gte: paid.created, lte: open.created } })).toHaveLength(2);
  });

  it('takes inline prices, and other currencies of a price', async () => {
    const sandbox = await testSandbox();
    const { stripe } = sandbox;
    await sandbox.seedCatalogue(catalogue);
    const price = await stripe.prices.create({
      product: 'prod_pack_50',
      currency: 'usd',
      unit_amount: 500,
      currency_options: { eur: { unit_amount: 450 } },
    });
    const euro = await openSession(sandbox, {
      currency: 'eur',
      line_items: [{ price: price.id, quantity: 2 }],
    });
    expect(euro).toMatchObject({ currency: 'eur', amount_total: 900 });
    const inline = await openSession(sandbox, {
      line_items: [
        {
          quantity: 3,
          price_data: {
            currency: 'usd',
            unit_amount_decimal: '33.5',
            product_data: { name: 'Odd' },
          },
        } as never,
      ],
    });
    expect(inline.amount_total).toBe(101);
    await expect(
      openSession(sandbox, { currency: 'gbp', line_items: [{ price: price.id, quantity: 1 }] }),
    ).rejects.toMatchObject({ param: 'currency' });
  });

  it('expires on demand and by itself, once', async () => {
    let now = Date.parse('2026-11-01T00:00:00Z');
    const sandbox = await testSandbox({ now: () => now });
    const { stripe } = sandbox;
    const first = await openSession(sandbox);
    const second = await openSession(sandbox, { expires_at: Math.floor(now / 1_000) + 3_600 });
    await sandbox.pay(second.id, { outcome: 'declined' });
    expect(await stripe.checkout.sessions.expire(first.id)).toMatchObject({
      status: 'expired',
      url: null,
    });
    await expect(stripe.checkout.sessions.expire(first.id)).rejects.toMatchObject({
      statusCode: 400,
    });
    now += 3_600_000;
    const after = await stripe.checkout.sessions.retrieve(second.id, {
      expand: ['payment_intent'],
    });
    expect(after).toMatchObject({ status: 'expired', payment_intent: { status: 'canceled' } });
    expect(
      (await eventTypes(stripe)).filter((type) => type === 'checkout.session.expired'),
    ).toHaveLength(2);
    await expect(sandbox.pay(second.id)).rejects.toThrow('is expired');
  });

  it.each<[string, Record<string, unknown>, string, string]>([
    [
      'payment_method_types',
      { payment_method_types: ['card'] },
      'payment_method_types',
      'Received unknown parameter: payment_method_types',
    ],
    [
      'a nested unknown name',
      { line_items: [{ price: 'price_pack_50', quantity: 1, color: 'red' }] },
      'line_items[0][color]',
      'Received unknown parameter: line_items[0][color]',
    ],
    ['a missing mode', { mode: undefined }, 'mode', 'Missing required param: mode.'],
    [
      'a missing success_url',
      { success_url: undefined },
      'success_url',
      'Missing required param: success_url.',
    ],
    ['no items', { line_items: undefined }, 'line_items', 'Missing required param: line_items.'],
    [
      'an unknown price',
      { line_items: [{ price: 'price_x', quantity: 1 }] },
      'line_items[0][price]',
      "No such price: 'price_x'",
    ],
    [
      'a missing quantity',
      { line_items: [{ price: 'price_pack_50' }] },
      'line_items[0][quantity]',
      'Missing required param',
    ],
    [
      'quantity 0',
      { line_items: [{ price: 'price_pack_50', quantity: 0 }] },
      'line_items[0][quantity]',
      'at least 1',
    ],
    [
      'quantity 1.5',
      { line_items: [{ price: 'price_pack_50', quantity: 1.5 }] },
      'line_items[0][quantity]',
      'Invalid integer: 1.5',
    ],
    [
      'a recurring price in payment mode',
      { line_items: [{ price: 'price_plan', quantity: 1 }] },
      'line_items[0][price]',
      'recurring price',
    ],
    [
      'subscription without a recurring price',
      { mode: 'subscription' },
      'line_items',
      'at least one recurring price',
    ],
    ['an unknown mode', { mode: 'gift' }, 'mode', 'Invalid mode'],
    ['an unknown customer', { customer: 'cus_x' }, 'customer', "No such customer: 'cus_x'"],
    [
      'customer and customer_email',
      { customer: 'cus_x', customer_email: 'a@b.cc' },
      'customer',
      'only specify one of',
    ],
    ['a bad e-mail', { customer_email: 'ada' }, 'customer_email', 'Invalid email address'],
    ['a relative URL', { success_url: '/ok' }, 'success_url', 'Not a valid URL'],
    [
      'a short lifetime',
      { expires_at: Math.floor(Date.now() / 1_000) + 60 },
      'expires_at',
      'at least 30 minutes',
    ],
    [
      'subscription_data in payment mode',
      { subscription_data: { metadata: {}, description: 'x' } },
      'subscription_data',
      'can not pass',
    ],
    [
      'an amount below the minimum',
      {
        line_items: [
          {
            quantity: 1,
            price_data: { currency: 'usd', unit_amount: 49, product_data: { name: 'x' } },
          },
        ],
      },
      'line_items',
      'at least $0.50',
    ],
    [
      'an amount of nine digits',
      { line_items: [{ price: 'price_pack_50', quantity: 999_999 }] },
      'line_items[0]',
      'at most 99999999',
    ],
    [
      'what is not simulated',
      { optional_items: [{ price: 'price_pack_50', quantity: 1 }] },
      'optional_items',
      'does not simulate `optional_items`',
    ],
    ['long metadata', { metadata: { note: 'x'.repeat(501) } }, 'metadata[note]', 'at most 500'],
  ])('refuses %s', async (_name, change, param, message) => {
    const sandbox = await testSandbox();
    await expect(openSession(sandbox, change as never)).rejects.toMatchObject({
      type: 'StripeInvalidRequestError',
      statusCode: 400,
      param,
      message: expect.stringContaining(message),
    });
    expect((await sandbox.stripe.checkout.sessions.list()).data).toEqual([]);
  });

  it('offers only the payment methods the session allows', async () => {
    const sandbox = await testSandbox();
    const session = await openSession(sandbox, {
      excluded_payment_method_types: ['us_bank_account'],
    } as never);
    expect(session.payment_method_types).toEqual(['card']);
    await expect(sandbox.pay(session.id, { outcome: 'settles_later' })).rejects.toThrow(
      'does not offer',
    );
  });

  it('undoes everything when a purchase is refused half way', async () => {
    const sandbox = await testSandbox();
    const session = await openSession(sandbox, {
      customer_creation: 'always',
      excluded_payment_method_types: ['us_bank_account'],
      ...returnTo,
    } as never);
    await expect(
      sandbox.pay(session.id, { outcome: 'settles_later', email: 'x@example.com' }),
    ).rejects.toThrow();
    expect((await sandbox.stripe.customers.list()).data).toEqual([]);
    expect(
      (await sandbox.stripe.checkout.sessions.retrieve(session.id)).customer_details,
    ).toBeNull();
  });
});
