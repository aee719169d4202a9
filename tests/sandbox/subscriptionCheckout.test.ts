import { describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import { billingSandbox, customerWith, eventsSince, invoicesOf } from './support/billing.ts';
import { returnTo } from './support/sandbox.ts';

describe('a subscription by checkout', () => {
  const open = (stripe: Stripe, more: Partial<Stripe.Checkout.SessionCreateParams> = {}) =>
    stripe.checkout.sessions.create({
      mode: 'subscription',
      line_items: [{ price: 'price_small', quantity: 2 }],
      subscription_data: { metadata: { userId: 'u1' } },
      ...returnTo,
      ...more,
    });

  it('starts with the card of its buyer, whom it makes a customer', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const session = await open(stripe);
    await sandbox.pay(session.id, { email: 'ada@example.com' });
    const done = await stripe.checkout.sessions.retrieve(session.id, {
      expand: ['subscription.default_payment_method', 'customer', 'invoice'],
    });
    expect(done).toMatchObject({
      status: 'complete',
      payment_status: 'paid',
      amount_total: 2_000,
      payment_intent: null,
      customer: { email: 'ada@example.com' },
      subscription: {
        status: 'active',
        metadata: { userId: 'u1' },
        default_payment_method: { card: { last4: '4242' } },
        items: { data: [{ quantity: 2, price: { id: 'price_small' } }] },
      },
      invoice: { status: 'paid', amount_paid: 2_000, billing_reason: 'subscription_create' },
    });
    expect((await eventsSince(sandbox)).map(({ type }) => type)).toEqual([
      'customer.created',
      'payment_method.attached',
      'customer.subscription.created',
      'invoice.created',
      'invoice.finalized',
      'payment_intent.created',
      'charge.succeeded',
      'payment_intent.succeeded',
      'invoice.updated',
      'customer.subscription.updated',
      'invoice.paid',
      'invoice.payment_succeeded',
      'invoice_payment.paid',
      'checkout.session.completed',
    ]);
  });

  it('makes no subscription of a refused card, and one of the next', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const session = await open(stripe);
    expect(await sandbox.pay(session.id, { outcome: 'declined' })).toMatchObject({
      outcome: 'declined',
      session: { status: 'open' },
    });
    expect((await stripe.subscriptions.list({ status: 'all' })).data).toEqual([]);
    await sandbox.pay(session.id);
    expect((await stripe.subscriptions.list({ status: 'all' })).data).toHaveLength(1);
  });

  it('starts a trial without a payment, with or without a card', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const trial = { trial_period_days: 7, metadata: {} };
    const session = await open(stripe, { subscription_data: trial });
    expect(session.amount_total).toBe(0);
    await sandbox.pay(session.id);
    const bare = await open(stripe, {
      subscription_data: trial,
      payment_method_collection: 'if_required',
    });
    await sandbox.pay(bare.id);
    const [without, with_] = (
      await stripe.checkout.sessions.list({ expand: ['data.subscription'] })
    ).data;
    for (const done of [without, with_]) {
      expect(done).toMatchObject({
        payment_status: 'no_payment_required',
        subscription: { status: 'trialing' },
      });
    }
    expect(with_).toMatchObject({
      subscription: { default_payment_method: expect.stringMatching(/^pm_/) },
    });
    expect(without).toMatchObject({ subscription: { default_payment_method: null } });
  });

  it('bills one-time items with the first invoice', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const session = await open(stripe, {
      line_items: [
        { price: 'price_small', quantity: 1 },
        { price: 'price_pack_50', quantity: 2 },
      ],
    });
    await sandbox.pay(session.id);
    const done = await stripe.checkout.sessions.retrieve(session.id, { expand: ['invoice'] });
    expect(done).toMatchObject({ amount_total: 2_000, invoice: { total: 2_000 } });
    await sandbox.advance({ days: 29 });
    expect(
      (await invoicesOf(sandbox, String(done.subscription))).map(({ total }) => total),
    ).toEqual([2_000, 1_000]);
  });

  it('uses the customer it is given, and takes part in his default card', async () => {
    const sandbox = await billingSandbox();
    const customer = await customerWith(sandbox);
    const session = await open(sandbox.stripe, { customer: customer.id });
    await sandbox.pay(session.id);
    expect((await sandbox.stripe.subscriptions.list({ customer: customer.id })).data).toHaveLength(
      1,
    );
  });
});
