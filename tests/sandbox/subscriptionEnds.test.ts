import { describe, expect, it } from '@jest/globals';
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
