import { describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import { LEGAL_MOVES } from '../../src/sandbox/billing/subscriptionState.ts';
import {
  billingSandbox,
  DAY,
  eventsSince,
  invoicesOf,
  lastEvent,
  START,
  subscribed,
} from './support/billing.ts';

const iso = (at: number | null | undefined) => new Date((at ?? 0) * 1_000).toISOString();

describe('a subscription by the API', () => {
  it('starts paid, and renews at the month ends of its anchor', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox, {
      items: [{ price: 'price_small', quantity: 3 }],
      metadata: { userId: 'u1' },
      expand: ['latest_invoice.payments'],
    });
    expect(made).toMatchObject({
      status: 'active',
      billing_cycle_anchor: START,
      items: { data: [{ quantity: 3, current_period_start: START }] },
      latest_invoice: {
        status: 'paid',
        billing_reason: 'subscription_create',
        amount_paid: 3_000,
        parent: { subscription_details: { subscription: made.id, metadata: { userId: 'u1' } } },
        payments: { data: [{ status: 'paid', amount_paid: 3_000 }] },
        lines: {
          data: [
            {
              amount: 3_000,
              quantity: 3,
              period: { start: START },
              parent: { type: 'subscription_item_details' },
              pricing: { price_details: { price: 'price_small', product: 'prod_plan' } },
            },
          ],
        },
      },
    });
    const ends: string[] = [];
    for (let month = 0; month < 3; month += 1) {
      const { items } = await stripe.subscriptions.retrieve(made.id);
      ends.push(iso(items.data[0]?.current_period_end));
      await sandbox.advance({ to: Number(items.data[0]?.current_period_end) });
    }
    expect(ends).toEqual([
      '2026-02-28T12:00:00.000Z',
      '2026-03-31T12:00:00.000Z',
      '2026-04-30T12:00:00.000Z',
    ]);
    await sandbox.advance({ hours: 2 });
    const billed = await invoicesOf(sandbox, made.id);
    expect(
      billed.map(({ billing_reason, status, total }) => [billing_reason, status, total]),
    ).toEqual([
      ['subscription_create', 'paid', 3_000],
      ['subscription_cycle', 'paid', 3_000],
      ['subscription_cycle', 'paid', 3_000],
      ['subscription_cycle', 'paid', 3_000],
    ]);
    // The invoice's own period is the one that has passed; its line's is the one it pays.
    expect([iso(billed[1]?.period_start), iso(billed[1]?.lines.data[0]?.period.start)]).toEqual([
      '2026-01-31T12:00:00.000Z',
      '2026-02-28T12:00:00.000Z',
    ]);
  });

  it('tells its start and its renewal in order, with what changed', async () => {
    const sandbox = await billingSandbox();
    const { id } = await subscribed(sandbox);
    expect((await eventsSince(sandbox)).map(({ type }) => type)).toEqual([
      'customer.created',
      'payment_method.attached',
      'customer.updated',
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
    ]);
    const before = await lastEvent(sandbox);
    await sandbox.advance({ days: 28 });
    const draft = await eventsSince(sandbox, before);
    expect(draft.map(({ type }) => type)).toEqual([
      'customer.subscription.updated',
      'invoice.created',
    ]);
    expect(draft[0]?.data.previous_attributes).toMatchObject({
      items: { data: [{ current_period_start: START }] },
      latest_invoice: expect.stringMatching(/^in_/),
    });
    expect(Object.keys(draft[0]?.data.previous_attributes ?? {}).sort()).toEqual([
      'items',
      'latest_invoice',
    ]);
    expect(draft[1]?.data.object).toMatchObject({ status: 'draft', auto_advance: true });
    const drafted = await lastEvent(sandbox);
    await sandbox.advance({ hours: 1 });
    const paid = await eventsSince(sandbox, drafted);
    expect(paid.map(({ type, created }) => [type, created - START - 28 * DAY])).toEqual(
      [
        'invoice.finalized',
        'payment_intent.created',
        'charge.succeeded',
        'payment_intent.succeeded',
        'invoice.updated',
        'invoice.paid',
        'invoice.payment_succeeded',
        'invoice_payment.paid',
      ].map((type) => [type, 3_600]),
    );
    expect(paid[4]?.data.previous_attributes).toMatchObject({ status: 'open', amount_paid: 0 });
    expect((await sandbox.stripe.subscriptions.retrieve(id)).status).toBe('active');
  });

  it('waits for its first payment and expires after 23 hours without it', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox, {}, 'pm_card_chargeCustomerFail');
    expect(made.status).toBe('incomplete');
    const saved = await subscribed(sandbox, {}, 'pm_card_chargeCustomerFail');
    await stripe.paymentMethods
      .attach('pm_card_visa', { customer: String(saved.customer) })
      .then((method) =>
        stripe.invoices.pay(String(saved.latest_invoice), { payment_method: method.id }),
      );
    expect((await stripe.subscriptions.retrieve(saved.id)).status).toBe('active');
    await sandbox.advance({ hours: 24 });
    expect(await stripe.subscriptions.retrieve(made.id)).toMatchObject({
      status: 'incomplete_expired',
      ended_at: START + 23 * 3_600,
    });
    expect((await stripe.invoices.retrieve(String(made.latest_invoice))).status).toBe('void');
    expect((await stripe.subscriptions.retrieve(saved.id)).status).toBe('active');
  });

  it('is not made at all when its first payment must succeed and does not', async () => {
    const sandbox = await billingSandbox();
    await expect(
      subscribed(
        sandbox,
        { payment_behavior: 'error_if_incomplete' },
        'pm_card_chargeCustomerFail',
      ),
    ).rejects.toMatchObject({ type: 'StripeCardError', statusCode: 402, code: 'card_declined' });
    expect((await sandbox.stripe.subscriptions.list({ status: 'all' })).data).toEqual([]);
  });

  it('asks its holder to authenticate, and goes on when he has', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox, {}, 'pm_card_authenticationRequired');
    expect(made.status).toBe('incomplete');
    const types = (await eventsSince(sandbox)).map(({ type }) => type);
    expect(types).toContain('invoice.payment_action_required');
    expect(types).toContain('payment_intent.requires_action');
    await stripe.invoices.pay(String(made.latest_invoice), { off_session: false });
    expect((await stripe.subscriptions.retrieve(made.id)).status).toBe('active');
  });
});

describe('the first period', () => {
  it('is short and billed by its share when the billing day is given', async () => {
    const sandbox = await billingSandbox();
    const made = await subscribed(sandbox, {
      billing_cycle_anchor: START + 14 * DAY,
      expand: ['latest_invoice'],
    });
    expect(made).toMatchObject({
      billing_cycle_anchor: START + 14 * DAY,
      items: { data: [{ current_period_end: START + 14 * DAY }] },
      // 14 of the 31 days before the anchor.
      latest_invoice: { total: 452, status: 'paid' },
    });
    await sandbox.advance({ days: 15 });
    expect((await invoicesOf(sandbox, made.id)).map(({ total }) => total)).toEqual([452, 1_000]);
  });

  it('makes the card that paid it the default of the subscription when asked to', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(
      sandbox,
      {
        payment_behavior: 'default_incomplete',
        payment_settings: { save_default_payment_method: 'on_subscription' },
        expand: ['latest_invoice.confirmation_secret'],
      },
      null,
    );
    expect(made).toMatchObject({
      status: 'incomplete',
      latest_invoice: { status: 'open', confirmation_secret: { type: 'payment_intent' } },
    });
    const { id: method } = await stripe.paymentMethods.attach('pm_card_mastercard', {
      customer: String(made.customer),
    });
    const invoice = made.latest_invoice as Stripe.Invoice;
    await stripe.invoices.pay(invoice.id, { payment_method: method });
    expect(await stripe.subscriptions.retrieve(made.id)).toMatchObject({
      status: 'active',
      default_payment_method: method,
    });
  });
});

describe('a trial', () => {
  it('is free, warns three days before, and is paid for from its end', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox, {
      trial_period_days: 14,
      expand: ['latest_invoice'],
    });
    expect(made).toMatchObject({
      status: 'trialing',
      trial_start: START,
      trial_end: START + 14 * DAY,
      latest_invoice: {
        status: 'paid',
        total: 0,
        lines: { data: [{ amount: 0, description: 'Trial period for 1 × Individual' }] },
      },
    });
    const before = await lastEvent(sandbox);
    await sandbox.advance({ days: 15 });
    const told = await eventsSince(sandbox, before);
    expect(
      told
        .filter(({ type }) => type.startsWith('customer.subscription'))
        .map(({ type, created }) => [type, (created - START) / DAY]),
    ).toEqual([
      ['customer.subscription.trial_will_end', 11],
      ['customer.subscription.updated', 14],
    ]);
    expect(told.find(({ type }) => type === 'customer.subscription.updated')?.data).toMatchObject({
      object: { status: 'active' },
      previous_attributes: { status: 'trialing' },
    });
    expect(
      (await invoicesOf(sandbox, made.id)).map(({ total, status }) => [total, status]),
    ).toEqual([
      [0, 'paid'],
      [1_000, 'paid'],
    ]);
    expect(await stripe.subscriptions.retrieve(made.id)).toMatchObject({
      status: 'active',
      billing_cycle_anchor: START + 14 * DAY,
    });
  });

  it.each([
    ['create_invoice', 'past_due'],
    ['cancel', 'canceled'],
    ['pause', 'paused'],
  ] as const)('without a card ends as its settings say: %s', async (behavior, status) => {
    const sandbox = await billingSandbox();
    const made = await subscribed(
      sandbox,
      {
        trial_period_days: 7,
        trial_settings: { end_behavior: { missing_payment_method: behavior } },
      },
      null,
    );
    await sandbox.advance({ days: 8 });
    const after = await sandbox.stripe.subscriptions.retrieve(made.id);
    expect(after.status).toBe(status);
    const types = (await eventsSince(sandbox)).map(({ type }) => type);
    expect(types.includes('customer.subscription.paused')).toBe(behavior === 'pause');
    expect(types.includes('customer.subscription.deleted')).toBe(behavior === 'cancel');
    expect(types.includes('invoice.payment_failed')).toBe(behavior === 'create_invoice');
  });

  it('can be ended now, and is billed at once', async () => {
    const sandbox = await billingSandbox();
    const made = await subscribed(sandbox, { trial_period_days: 7 });
    await sandbox.advance({ days: 2 });
    const after = await sandbox.stripe.subscriptions.update(made.id, {
      trial_end: 'now',
      expand: ['latest_invoice'],
    });
    expect(after).toMatchObject({
      status: 'active',
      billing_cycle_anchor: START + 2 * DAY,
      trial_end: START + 2 * DAY,
      latest_invoice: { status: 'paid', total: 1_000 },
    });
  });
});

describe('the moves of a status', () => {
  it('are a table in which ends stay ends and every other status can end', () => {
    const statuses = Object.keys(LEGAL_MOVES) as (keyof typeof LEGAL_MOVES)[];
    const ends = statuses.filter((status) => LEGAL_MOVES[status].length === 0);
    expect(ends.sort()).toEqual(['canceled', 'incomplete_expired']);
    for (const status of statuses) {
      if (!ends.includes(status)) expect(LEGAL_MOVES[status]).toContain('canceled');
    }
  });

  it('are refused when the table does not have them', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox, { trial_period_days: 7 });
    await expect(stripe.subscriptions.pause(made.id)).rejects.toThrow('trialing');
    await expect(stripe.subscriptions.resume(made.id)).rejects.toThrow('Only a paused');
    await stripe.subscriptions.cancel(made.id);
    await expect(
      stripe.subscriptions.update(made.id, { cancel_at_period_end: true }),
    ).rejects.toThrow('canceled subscription');
    expect(
      await stripe.subscriptions.update(made.id, { metadata: { note: 'kept' } }),
    ).toMatchObject({ metadata: { note: 'kept' } });
  });
});
