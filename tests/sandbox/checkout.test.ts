import { describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import { eventually, openSession, receiver, testSandbox } from './support/sandbox.ts';

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
