import { describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import { LEGAL_MOVES } from '../../src/sandbox/billing/subscriptionState.ts';
import {
  billingSandbox,
  customerWith,
  DAY,
  eventsSince,
  invoicesOf,
  lastEvent,
  START,
  subscribed,
} from './support/billing.ts';
import { returnTo } from './support/sandbox.ts';

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

describe('changing a plan', () => {
  const half = 14 * DAY;

  it('credits the rest of the old price and charges the new one with the next cycle', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox);
    await sandbox.advance({ seconds: half });
    const before = await lastEvent(sandbox);
    const item = String(made.items.data[0]?.id);
    await stripe.subscriptions.update(made.id, { items: [{ id: item, price: 'price_big' }] });
    const told = await eventsSince(sandbox, before);
    expect(told.map(({ type }) => type)).toEqual([
      'invoiceitem.created',
      'invoiceitem.created',
      'customer.subscription.updated',
    ]);
    const pending = await stripe.invoiceItems.list({ pending: true });
    expect(pending.data.map(({ amount, proration }) => [amount, proration])).toEqual([
      [1_500, true],
      [-500, true],
    ]);
    await sandbox.advance({ days: 15 });
    const [, cycle] = await invoicesOf(sandbox, made.id);
    expect(cycle).toMatchObject({ total: 4_000, status: 'paid', amount_paid: 4_000 });
    expect(
      cycle?.lines.data.map((line) => [
        line.amount,
        line.parent?.subscription_item_details?.proration,
        line.pricing?.price_details?.price,
      ]),
    ).toEqual([
      [-500, true, 'price_small'],
      [1_500, true, 'price_big'],
      [3_000, false, 'price_big'],
    ]);
    // The credit names the debit it takes back.
    const [first] = await invoicesOf(sandbox, made.id);
    expect(
      cycle?.lines.data[0]?.parent?.subscription_item_details?.proration_details,
    ).toMatchObject({
      credited_items: { invoice: first?.id, invoice_line_items: [first?.lines.data[0]?.id] },
    });
  });

  it('bills an upgrade at once when asked to, and turns a downgrade into credit', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox);
    const item = String(made.items.data[0]?.id);
    await sandbox.advance({ seconds: half });
    const up = await stripe.subscriptions.update(made.id, {
      items: [{ id: item, price: 'price_big' }],
      proration_behavior: 'always_invoice',
      expand: ['latest_invoice'],
    });
    expect(up.latest_invoice).toMatchObject({
      billing_reason: 'subscription_update',
      status: 'paid',
      total: 1_000,
      amount_paid: 1_000,
    });
    const down = await stripe.subscriptions.update(made.id, {
      items: [{ id: item, price: 'price_small' }],
      proration_behavior: 'always_invoice',
      expand: ['latest_invoice'],
    });
    expect(down.latest_invoice).toMatchObject({
      status: 'paid',
      total: -1_000,
      amount_due: 0,
      amount_paid: 0,
      starting_balance: 0,
      ending_balance: -1_000,
    });
    expect(await stripe.customers.retrieve(String(made.customer))).toMatchObject({
      balance: -1_000,
    });
    await sandbox.advance({ days: 15 });
    const billed = await invoicesOf(sandbox, made.id);
    expect(billed.at(-1)).toMatchObject({
      total: 1_000,
      amount_due: 0,
      amount_paid: 0,
      status: 'paid',
      starting_balance: -1_000,
      ending_balance: 0,
    });
    expect(
      (await stripe.customers.listBalanceTransactions(String(made.customer))).data.map(
        ({ amount, ending_balance }) => [amount, ending_balance],
      ),
    ).toEqual([
      [1_000, 0],
      [-1_000, -1_000],
    ]);
  });

  it('does neither when asked for none, and bills quantities by the same rule', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox);
    const item = String(made.items.data[0]?.id);
    await sandbox.advance({ seconds: half });
    await stripe.subscriptions.update(made.id, {
      items: [{ id: item, quantity: 5 }],
      proration_behavior: 'none',
    });
    expect((await stripe.invoiceItems.list()).data).toEqual([]);
    await stripe.subscriptions.update(made.id, { items: [{ id: item, quantity: 3 }] });
    expect((await stripe.invoiceItems.list()).data.map(({ amount }) => amount)).toEqual([
      1_500, -2_500,
    ]);
  });

  it('begins a new period with another interval, less the rest of the old one', async () => {
    const sandbox = await billingSandbox();
    const made = await subscribed(sandbox);
    await sandbox.advance({ seconds: half });
    const after = await sandbox.stripe.subscriptions.update(made.id, {
      items: [{ id: String(made.items.data[0]?.id), price: 'price_year' }],
      expand: ['latest_invoice'],
    });
    expect(after).toMatchObject({
      billing_cycle_anchor: START + half,
      latest_invoice: {
        status: 'paid',
        total: 8_500,
        lines: { data: [{ amount: -500 }, { amount: 9_000 }] },
      },
    });
    expect(iso(after.items.data[0]?.current_period_end)).toBe('2027-02-14T12:00:00.000Z');
  });

  it('from free to paid is billed from now', async () => {
    const sandbox = await billingSandbox();
    const made = await subscribed(sandbox, { items: [{ price: 'price_zero' }] });
    expect(made.status).toBe('active');
    await sandbox.advance({ days: 3 });
    const after = await sandbox.stripe.subscriptions.update(made.id, {
      items: [{ id: String(made.items.data[0]?.id), price: 'price_small' }],
      expand: ['latest_invoice'],
    });
    expect(after).toMatchObject({
      billing_cycle_anchor: START + 3 * DAY,
      latest_invoice: { total: 1_000, status: 'paid' },
    });
  });
});

describe('a payment that fails', () => {
  it('is tried again after 3, 5 and 7 days, and then the subscription ends', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox);
    await sandbox.setCard(String(made.customer), '4000000000000341');
    const before = await lastEvent(sandbox);
    await sandbox.advance({ days: 28 }).then(() => sandbox.advance({ hours: 1 }));
    expect(await stripe.subscriptions.retrieve(made.id)).toMatchObject({ status: 'past_due' });
    const due = START + 28 * DAY + 3_600;
    const [, open] = await invoicesOf(sandbox, made.id);
    expect(open).toMatchObject({
      status: 'open',
      attempted: true,
      attempt_count: 1,
      next_payment_attempt: due + 3 * DAY,
    });
    expect(await stripe.customers.retrieve(String(made.customer))).toMatchObject({
      delinquent: true,
    });
    await sandbox.advance({ days: 16 });
    const told = (await eventsSince(sandbox, before)).filter(({ type }) =>
      /payment_failed|deleted/.test(type),
    );
    expect(
      told
        .filter(({ type }) => type !== 'payment_intent.payment_failed')
        .map(({ type, created }) => [type, (created - due) / DAY]),
    ).toEqual([
      ['invoice.payment_failed', 0],
      ['invoice.payment_failed', 3],
      ['invoice.payment_failed', 8],
      ['invoice.payment_failed', 15],
      ['customer.subscription.deleted', 15],
    ]);
    expect(await stripe.subscriptions.retrieve(made.id)).toMatchObject({
      status: 'canceled',
      cancellation_details: { reason: 'payment_failed' },
    });
    expect(await stripe.invoices.retrieve(String(open?.id))).toMatchObject({
      status: 'open',
      attempt_count: 4,
      next_payment_attempt: null,
      auto_advance: false,
    });
  });

  it('is forgotten when a retry succeeds with another card', async () => {
    const sandbox = await billingSandbox();
    const made = await subscribed(sandbox);
    await sandbox.failNextPayments(String(made.customer), { times: 1 });
    await sandbox.advance({ days: 29 });
    expect((await sandbox.stripe.subscriptions.retrieve(made.id)).status).toBe('past_due');
    const before = await lastEvent(sandbox);
    await sandbox.advance({ days: 3 });
    expect((await sandbox.stripe.subscriptions.retrieve(made.id)).status).toBe('active');
    expect((await eventsSince(sandbox, before)).map(({ type }) => type)).toEqual([
      'charge.succeeded',
      'payment_intent.succeeded',
      'invoice.updated',
      'customer.subscription.updated',
      'invoice.paid',
      'invoice.payment_succeeded',
      'invoice_payment.paid',
      'customer.updated',
    ]);
  });

  it('leaves the subscription unpaid when the account says so; its next bills stay drafts', async () => {
    const sandbox = await billingSandbox();
    await sandbox.setSettings({ after_last_retry: 'mark_unpaid', retry_days: [1] });
    const made = await subscribed(sandbox);
    await sandbox.setCard(String(made.customer), '4000000000000341');
    await sandbox.advance({ days: 61 });
    expect((await sandbox.stripe.subscriptions.retrieve(made.id)).status).toBe('unpaid');
    const billed = await invoicesOf(sandbox, made.id);
    expect(billed.map(({ status, auto_advance }) => [status, auto_advance])).toEqual([
      ['paid', false],
      ['open', true],
      ['draft', false],
    ]);
    await sandbox.setCard(String(made.customer), '4242424242424242');
    const last = String(billed.at(-1)?.id);
    await sandbox.stripe.invoices.pay(last);
    expect((await sandbox.stripe.subscriptions.retrieve(made.id)).status).toBe('active');
  });
});

describe('the end', () => {
  it('comes at the period end when it is planned, and can be called off', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox);
    const end = Number(made.items.data[0]?.current_period_end);
    const planned = await stripe.subscriptions.update(made.id, { cancel_at_period_end: true });
    expect(planned).toMatchObject({
      status: 'active',
      cancel_at: end,
      canceled_at: START,
      cancellation_details: { reason: 'cancellation_requested' },
    });
    expect((await eventsSince(sandbox)).at(-1)?.data.previous_attributes).toMatchObject({
      cancel_at_period_end: false,
      cancel_at: null,
    });
    await stripe.subscriptions.update(made.id, { cancel_at_period_end: false });
    await sandbox.advance({ days: 29 });
    await stripe.subscriptions.update(made.id, { cancel_at_period_end: true });
    await sandbox.advance({ days: 40 });
    const ended = await stripe.subscriptions.retrieve(made.id);
    expect([ended.status, iso(ended.ended_at)]).toEqual(['canceled', '2026-03-31T12:00:00.000Z']);
    expect(await invoicesOf(sandbox, made.id)).toHaveLength(2);
    expect((await eventsSince(sandbox)).at(-1)?.type).toBe('customer.subscription.deleted');
  });

  it('comes at once when asked, with the rest as credit if wanted', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox);
    await sandbox.advance({ days: 14 });
    const ended = await stripe.subscriptions.cancel(made.id, { prorate: true, invoice_now: true });
    expect(ended).toMatchObject({ status: 'canceled', ended_at: START + 14 * DAY });
    expect(await stripe.customers.retrieve(String(made.customer))).toMatchObject({ balance: -500 });
    await expect(stripe.subscriptions.cancel(made.id)).rejects.toMatchObject({ statusCode: 400 });
    expect((await stripe.subscriptions.list()).data).toEqual([]);
    expect((await stripe.subscriptions.list({ status: 'all' })).data).toHaveLength(1);
  });

  it('comes at a day of its own, with the rest of the period as credit', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox);
    const planned = await stripe.subscriptions.update(made.id, { cancel_at: START + 21 * DAY });
    expect(planned).toMatchObject({ status: 'active', cancel_at: START + 21 * DAY });
    await sandbox.advance({ days: 30 });
    expect(await stripe.subscriptions.retrieve(made.id)).toMatchObject({
      status: 'canceled',
      ended_at: START + 21 * DAY,
    });
    expect((await stripe.invoiceItems.list({ pending: true })).data).toMatchObject([
      { amount: -250, proration: true },
    ]);
  });

  it('bills prorations that waited for a cycle which does not come', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox);
    await sandbox.advance({ days: 14 });
    await stripe.subscriptions.update(made.id, {
      items: [{ id: String(made.items.data[0]?.id), price: 'price_big' }],
      cancel_at_period_end: true,
    });
    await sandbox.advance({ days: 20 });
    expect((await stripe.subscriptions.retrieve(made.id)).status).toBe('canceled');
    expect(
      (await invoicesOf(sandbox, made.id)).map(({ total, status }) => [total, status]),
    ).toEqual([
      [1_000, 'paid'],
      [1_000, 'paid'],
    ]);
  });

  it('comes with the deletion of the customer', async () => {
    const sandbox = await billingSandbox();
    const made = await subscribed(sandbox);
    await sandbox.stripe.customers.del(String(made.customer));
    expect((await sandbox.stripe.subscriptions.retrieve(made.id)).status).toBe('canceled');
    await sandbox.advance({ days: 60 });
    expect(await invoicesOf(sandbox, made.id)).toHaveLength(1);
  });
});

describe('a pause', () => {
  it.each([
    ['keep_as_draft', 'draft'],
    ['mark_uncollectible', 'uncollectible'],
    ['void', 'void'],
  ] as const)('of collection leaves it active and its bills %s', async (behavior, status) => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox);
    await stripe.subscriptions.update(made.id, {
      pause_collection: { behavior, resumes_at: START + 40 * DAY },
    });
    await sandbox.advance({ days: 70 });
    expect(await stripe.subscriptions.retrieve(made.id)).toMatchObject({
      status: 'active',
      pause_collection: null,
    });
    expect((await invoicesOf(sandbox, made.id)).map((invoice) => invoice.status)).toEqual([
      'paid',
      status,
      'paid',
    ]);
  });

  it('of the subscription gives the unused time back and bills nothing until it is resumed', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox);
    await sandbox.advance({ days: 14 });
    const before = await lastEvent(sandbox);
    const paused = await stripe.subscriptions.pause(made.id);
    expect(paused).toMatchObject({
      status: 'paused',
      status_details: { paused: { subscription: { type: 'pause_requested' } } },
    });
    expect((await eventsSince(sandbox, before)).map(({ type }) => type)).toEqual([
      'invoiceitem.created',
      'customer.subscription.updated',
      'customer.subscription.paused',
    ]);
    await sandbox.advance({ days: 60 });
    expect(await invoicesOf(sandbox, made.id)).toHaveLength(1);
    const resumed = await stripe.subscriptions.resume(made.id, { expand: ['latest_invoice'] });
    expect(resumed).toMatchObject({
      status: 'active',
      billing_cycle_anchor: START + 74 * DAY,
      latest_invoice: { total: 500, status: 'paid', lines: { data: [{ amount: -500 }, {}] } },
    });
    expect(resumed.status_details).toBeUndefined();
    expect((await eventsSince(sandbox)).map(({ type }) => type)).toContain(
      'customer.subscription.resumed',
    );
  });
});

describe('a coupon', () => {
  it('takes its part off each invoice for as long as it lasts', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const coupon = await stripe.coupons.create({
      percent_off: 25,
      duration: 'repeating',
      duration_in_months: 2,
    });
    const made = await subscribed(sandbox, { discounts: [{ coupon: coupon.id }] });
    await sandbox.advance({ days: 95 });
    const billed = await invoicesOf(sandbox, made.id);
    expect(
      billed.map(({ subtotal, total, amount_paid }) => [subtotal, total, amount_paid]),
    ).toEqual([
      [1_000, 750, 750],
      [1_000, 750, 750],
      [1_000, 1_000, 1_000],
      [1_000, 1_000, 1_000],
    ]);
    // The line's amount is before the discount.
    expect(billed[0]?.lines.data[0]).toMatchObject({
      amount: 1_000,
      discount_amounts: [{ amount: 250 }],
    });
    expect(await stripe.coupons.retrieve(coupon.id)).toMatchObject({ times_redeemed: 1 });
  });

  it('of 100 % makes a paid invoice without a payment, and `once` is for one invoice', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const coupon = await stripe.coupons.create({ percent_off: 100, duration: 'once' });
    const made = await subscribed(sandbox, { discounts: [{ coupon: coupon.id }] }, null);
    expect(made.status).toBe('active');
    await sandbox.setCard(String(made.customer), '4242424242424242');
    await sandbox.advance({ days: 29 });
    const billed = await invoicesOf(sandbox, made.id);
    expect(billed.map(({ total, amount_paid, status }) => [total, amount_paid, status])).toEqual([
      [0, 0, 'paid'],
      [1_000, 1_000, 'paid'],
    ]);
    expect((await stripe.invoicePayments.list({ invoice: String(billed[0]?.id) })).data).toEqual(
      [],
    );
  });

  it('makes prorations net of it', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const coupon = await stripe.coupons.create({
      amount_off: 200,
      currency: 'usd',
      duration: 'forever',
    });
    const made = await subscribed(sandbox, { discounts: [{ coupon: coupon.id }] });
    await sandbox.advance({ days: 14 });
    await stripe.subscriptions.update(made.id, {
      items: [{ id: String(made.items.data[0]?.id), price: 'price_big' }],
    });
    expect((await stripe.invoiceItems.list()).data.map(({ amount }) => amount)).toEqual([
      1_400, -400,
    ]);
  });

  it('comes by a promotion code typed at the checkout', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const coupon = await stripe.coupons.create({ percent_off: 50, duration: 'once' });
    await stripe.promotionCodes.create({
      code: 'HALF',
      promotion: { type: 'coupon', coupon: coupon.id },
      max_redemptions: 1,
    });
    const open = () =>
      stripe.checkout.sessions.create({
        mode: 'subscription',
        line_items: [{ price: 'price_small', quantity: 1 }],
        allow_promotion_codes: true,
        ...returnTo,
      });
    const session = await open();
    await expect(sandbox.pay(session.id, { promotion_code: 'NONE' })).rejects.toThrow('not valid');
    await sandbox.pay(session.id, { promotion_code: 'half' });
    const done = await stripe.checkout.sessions.retrieve(session.id, { expand: ['invoice'] });
    expect(done).toMatchObject({
      amount_total: 500,
      total_details: { amount_discount: 500 },
      invoice: { subtotal: 1_000, total: 500, amount_paid: 500 },
    });
    const second = await open();
    await expect(sandbox.pay(second.id, { promotion_code: 'HALF' })).rejects.toThrow('no longer');
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
