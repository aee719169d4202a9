import { describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import { EVENT_VERSIONS } from '../../src/sandbox/versions.ts';
import { billingSandbox, subscribed } from './support/billing.ts';
import { paidCharge } from './support/money.ts';
import { CHANGED_FIELDS } from './support/oldShapes.ts';
import {
  eventually,
  type Receiver,
  receiver,
  type TestSandbox,
  testSandbox,
} from './support/sandbox.ts';
import { schemas, schemaVersion } from './support/stripeSchema.ts';

type Fields = { [field: string]: unknown };

const told = (hook: Receiver, type: string) =>
  hook.received.find(({ event }) => event.type === type)?.event.data as unknown as {
    object: Fields & { lines: { data: Fields[] } };
    previous_attributes?: Fields;
  };

/** A pack bought with an invoice, then half of it credited and refunded. */
async function buyAndCredit(sandbox: TestSandbox) {
  const bought = await paidCharge(sandbox, {}, { invoice_creation: { enabled: true } });
  await sandbox.stripe.creditNotes.create({
    invoice: String(bought.session.invoice),
    amount: 700,
    refund_amount: 700,
  });
  return bought;
}

describe('an endpoint of an older API version', () => {
  it('is told invoices, lines, charges and credit notes in the shape before basil', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 3_600_000 });
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url, apiVersion: '2024-06-20' });
    const { session, intent, charge } = await buyAndCredit(sandbox);
    await eventually(() => expect(hook.types()).toContain('invoice.updated'));
    await eventually(async () =>
      expect(await sandbox.deliveries({ status: 'pending' })).toHaveLength(0),
    );
    expect(new Set(hook.received.map(({ event }) => event.api_version))).toEqual(
      new Set(['2024-06-20']),
    );
    const invoice = told(hook, 'invoice.paid').object;
    expect(invoice).toMatchObject({
      id: session.invoice,
      subscription: null,
      subscription_details: null,
      payment_intent: intent,
      charge: charge.id,
      paid: true,
      paid_out_of_band: false,
      tax: null,
      total_tax_amounts: [],
    });
    expect(invoice.lines.data[0]).toMatchObject({
      type: 'invoiceitem',
      price: { id: 'price_pack_50', object: 'price', unit_amount: 500 },
      plan: null,
      proration: false,
      amount: 1_500,
      quantity: 3,
    });
    expect(told(hook, 'charge.refunded')).toMatchObject({
      object: { invoice: session.invoice, amount_refunded: 700 },
      previous_attributes: { amount_refunded: 0 },
    });
    expect(told(hook, 'credit_note.created').object).toMatchObject({
      refund: expect.stringMatching(/^re_/),
    });
    expect(told(hook, 'checkout.session.completed').object).toMatchObject({
      shipping_details: null,
      ui_mode: 'hosted',
    });
    // The invoice existed before its payment did.
    expect(told(hook, 'invoice.created').object).toMatchObject({ payment_intent: null });
    expect(hook.types()).not.toContain('invoice_payment.paid');
    expect(hook.types()).not.toContain(undefined);
  });

  it('hears of the same facts under the same ids as one of the newest version', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 3_600_000 });
    const [old, fresh] = [await receiver(), await receiver()];
    const { secret } = await sandbox.ensureWebhookEndpoint({
      url: old.url,
      apiVersion: '2020-08-27',
    });
    await sandbox.ensureWebhookEndpoint({ url: fresh.url });
    const { charge } = await buyAndCredit(sandbox);
    await eventually(() => expect(fresh.types()).toContain('invoice.updated'));
    await eventually(async () =>
      expect(await sandbox.deliveries({ status: 'pending' })).toHaveLength(0),
    );
    const ids = (hook: Receiver) =>
      hook.received
        .filter(({ event }) => event.type !== 'invoice_payment.paid')
        .map(({ event }) => event.id)
        .sort();
    expect(ids(old)).toEqual(ids(fresh));
    expect(told(old, 'charge.refunded').object.refunds).toMatchObject({
      object: 'list',
      data: [{ amount: 700, charge: charge.id }],
    });
    expect(told(fresh, 'charge.refunded').object).not.toHaveProperty('refunds');
    expect(fresh.received[0]?.event.api_version).toBe(schemaVersion);
    const { body, signature } = old.received[0] ?? { body: '', signature: '' };
    expect(sandbox.stripe.webhooks.constructEvent(body, signature, secret).api_version).toBe(
      '2020-08-27',
    );
  });

  it('keeps its shape when the event is sent once more', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 3_600_000 });
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({
      url: hook.url,
      apiVersion: '2025-01-27.acacia',
      enabledEvents: ['invoice.created'],
    });
    await buyAndCredit(sandbox);
    await eventually(() => expect(hook.received).toHaveLength(1));
    await sandbox.resend(hook.received[0]?.event.id ?? '');
    await eventually(() => expect(hook.received).toHaveLength(2));
    expect(hook.received[1]?.event.data).toEqual(hook.received[0]?.event.data);
  });

  it('is told subscriptions, plans, prorations and discounts as they were', async () => {
    const sandbox = await billingSandbox();
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url, apiVersion: '2024-06-20' });
    const { stripe } = sandbox;
    await stripe.coupons.create({ id: 'half', percent_off: 50, duration: 'forever' });
    const made = await subscribed(sandbox, {
      discounts: [{ coupon: 'half' }],
      metadata: { userId: 'u1' },
    });
    await sandbox.advance({ days: 10 });
    await stripe.subscriptions.update(made.id, {
      items: [{ id: made.items.data[0]?.id ?? '', price: 'price_big' }],
      proration_behavior: 'always_invoice',
    });
    await eventually(async () => {
      expect(hook.types()).toContain('customer.subscription.updated');
      expect(await sandbox.deliveries({ status: 'pending' })).toHaveLength(0);
    });
    expect(told(hook, 'customer.subscription.created').object).toMatchObject({
      current_period_start: made.created,
      discount: { object: 'discount', coupon: { id: 'half', percent_off: 50 } },
      plan: { id: 'price_small', object: 'plan', interval: 'month' },
      quantity: 1,
    });
    const first = told(hook, 'invoice.paid').object;
    expect(first).toMatchObject({
      subscription: made.id,
      subscription_details: { metadata: { userId: 'u1' } },
      payment_intent: expect.stringMatching(/^pi_/),
      charge: expect.stringMatching(/^ch_/),
      discount: { coupon: { id: 'half' } },
    });
    expect(first.lines.data[0]).toMatchObject({
      type: 'subscription',
      subscription_item: made.items.data[0]?.id,
      plan: { id: 'price_small', amount: 1_000 },
      proration: false,
    });
    const prorated = hook.received.findLast(({ event }) => event.type === 'invoice.paid');
    const object = prorated?.event.data.object as unknown as { lines: { data: Fields[] } } | null;
    expect(object?.lines.data.map(({ proration, type }) => [proration, type])).toEqual([
      [true, 'invoiceitem'],
      [true, 'invoiceitem'],
    ]);
    const changes = hook.received
      .filter(({ event }) => event.type === 'customer.subscription.updated')
      .map(({ event }) => event.data.previous_attributes);
    expect(changes).toContainEqual(
      expect.objectContaining({ plan: expect.objectContaining({ id: 'price_small' }) }),
    );
  });

  it('shares its shape with the events API when the whole account is of that version', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 3_600_000 });
    await sandbox.setSettings({ api_version: '2024-06-20' });
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url, enabledEvents: ['invoice.paid'] });
    const { intent } = await buyAndCredit(sandbox);
    await eventually(() => expect(hook.received).toHaveLength(1));
    const [listed] = (await sandbox.stripe.events.list({ type: 'invoice.paid' })).data;
    expect(listed).toMatchObject({
      api_version: '2024-06-20',
      data: { object: { payment_intent: intent } },
    });
    expect(hook.received[0]?.event.data).toEqual(listed?.data);
  });

  it('can be made by the API, in any version since 2020', async () => {
    const { stripe } = await testSandbox();
    const endpoint = await stripe.webhookEndpoints.create({
      url: 'http://127.0.0.1:1/',
      enabled_events: ['*'],
      api_version: '2023-10-16',
    });
    expect(endpoint.api_version).toBe('2023-10-16');
    const field = (schemas.WebhookEndpointCreateParams as { properties: Fields }).properties
      .api_version as { enum: string[] };
    const since = field.enum.indexOf('2020-08-27');
    expect(EVENT_VERSIONS).toEqual(
      field.enum.slice(since).filter((version) => version !== '2025-03-01.dashboard'),
    );
  });
});

describe('a thin endpoint', () => {
  it('is told what happened to which object, and fetches the rest', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 3_600_000 });
    const { stripe } = sandbox;
    const [thin, snapshot] = [await receiver(), await receiver()];
    const { secret } = await sandbox.ensureWebhookEndpoint({
      url: thin.url,
      payload: 'thin',
      enabledEvents: ['v1.checkout.session.completed', 'v1.charge.refunded'],
    });
    await sandbox.ensureWebhookEndpoint({ url: snapshot.url });
    const { session, charge } = await paidCharge(sandbox);
    await stripe.refunds.create({ charge: charge.id }, { idempotencyKey: 'r1' });
    await eventually(() => expect(thin.received).toHaveLength(2));
    await eventually(() => expect(snapshot.types()).toContain('charge.refunded'));
    const notes = thin.received.map(({ body, signature }) =>
      stripe.parseEventNotification(body, signature, secret),
    );
    const [paid, refunded] = notes.sort((left, right) => (left.type < right.type ? 1 : -1));
    expect(paid).toMatchObject({
      type: 'v1.checkout.session.completed',
      related_object: {
        id: session.id,
        type: 'checkout.session',
        url: `/v1/checkout/sessions/${session.id}`,
      },
    });
    expect(paid).not.toHaveProperty('data');
    expect(refunded).toMatchObject({ reason: { request: { idempotency_key: 'r1' } } });
    const same = snapshot.received.find(({ event }) => event.type === 'charge.refunded')?.event.id;
    expect((refunded as { snapshot_event?: string }).snapshot_event).toBe(same);
    expect(
      await (
        paid as Stripe.Events.V1CheckoutSessionCompletedEventNotification
      ).fetchRelatedObject(),
    ).toMatchObject({
      id: session.id,
      payment_status: 'paid',
    });
    expect(await stripe.v2.core.events.retrieve(paid?.id ?? '')).toMatchObject({
      id: paid?.id,
      type: 'v1.checkout.session.completed',
    });
    // The two ways to be told do not know each other's payloads.
    const { body, signature } = thin.received[0] ?? { body: '', signature: '' };
    expect(() => stripe.webhooks.constructEvent(body, signature, secret)).toThrow();
    expect((await stripe.webhookEndpoints.list()).data).toHaveLength(1);
  });

  it('lists its events by type and object, in pages, for 30 days', async () => {
    let now = Date.parse('2026-11-01T00:00:00Z');
    const sandbox = await testSandbox({ now: () => now });
    const { stripe } = sandbox;
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url, payload: 'thin' });
    const names = ['a', 'b', 'c', 'd', 'e'];
    for (const name of names) await stripe.products.create({ name });
    const customer = await stripe.customers.create({});
    const page = await stripe.v2.core.events.list({ limit: 2, types: ['v1.product.created'] });
    expect(page.data).toHaveLength(2);
    const all = [];
    for await (const { type } of stripe.v2.core.events.list({
      limit: 2,
      types: ['v1.product.created', 'v1.price.created'],
    })) {
      all.push(type);
    }
    expect(all).toEqual(names.map(() => 'v1.product.created'));
    const about = await stripe.v2.core.events.list({ object_id: customer.id });
    expect(about.data.map(({ type }) => type)).toEqual(['v1.customer.created']);
    const [first] = about.data;
    await eventually(() => expect(hook.received).toHaveLength(6));
    await sandbox.resend(first?.id ?? '');
    await eventually(() => expect(hook.received).toHaveLength(7));
    now += 31 * 24 * 3_600_000;
    await expect(stripe.v2.core.events.retrieve(first?.id ?? '')).rejects.toMatchObject({
      statusCode: 404,
    });
    expect((await stripe.v2.core.events.list()).data).toEqual([]);
  });

  it('is not made with the type names of the first API', async () => {
    const sandbox = await testSandbox();
    const make = (enabledEvents: string[]) =>
      sandbox.ensureWebhookEndpoint({ url: 'http://127.0.0.1:1/', payload: 'thin', enabledEvents });
    await expect(make(['invoice.paid'])).rejects.toThrow('invoice.paid is not an event type');
    await expect(make(['v1.invoice.payed'])).rejects.toThrow('is not an event type');
  });
});

it('the table of changed fields names only fields the newest shape has, or has no more', () => {
  const names: Record<string, string> = {
    invoice: 'Invoice',
    line_item: 'InvoiceLineItem',
    charge: 'Charge',
    payment_intent: 'PaymentIntent',
    credit_note: 'CreditNote',
    'checkout.session': 'Checkout.Session',
  };
  for (const { object, before, since } of CHANGED_FIELDS) {
    const schema = schemas[names[object] ?? ''] as { properties: Fields } | undefined;
    if (!schema) continue;
    const fields = Object.keys(schema.properties);
    expect([object, since.filter((field) => !fields.includes(field))]).toEqual([object, []]);
    // A charge shows its refunds again when they are expanded.
    const back = before.filter((field) => fields.includes(field) && field !== 'refunds');
    expect([object, back]).toEqual([object, []]);
  }
});
