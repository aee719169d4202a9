import { describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import { eventsSince } from './support/billing.ts';
import { catalogue, openSession, returnTo, testSandbox } from './support/sandbox.ts';

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
      (await eventsSince(sandbox)).filter(({ type }) => type === 'checkout.session.expired'),
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
