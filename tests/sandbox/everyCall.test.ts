import { describe, expect, it } from '@jest/globals';
import Stripe from 'stripe';
import { createMatcher } from '../../src/sandbox/route.ts';
import { apiRoutes } from '../../src/sandbox/routes.ts';
import { billingSandbox, customerWith, subscribed } from './support/billing.ts';
import { paidCharge } from './support/money.ts';
import { eventually, receiver, returnTo, type TestSandbox } from './support/sandbox.ts';

/** What Purser listens to, and with it what a shop of credits must understand. */
const EVENTS_OF_A_SHOP = [
  'charge.dispute.closed',
  'charge.dispute.created',
  'charge.dispute.funds_reinstated',
  'charge.dispute.funds_withdrawn',
  'charge.dispute.updated',
  'charge.refunded',
  'checkout.session.async_payment_failed',
  'checkout.session.async_payment_succeeded',
  'checkout.session.completed',
  'checkout.session.expired',
  'customer.created',
  'customer.deleted',
  'customer.subscription.created',
  'customer.subscription.deleted',
  'customer.subscription.paused',
  'customer.subscription.resumed',
  'customer.subscription.trial_will_end',
  'customer.subscription.updated',
  'customer.updated',
  'invoice.created',
  'invoice.marked_uncollectible',
  'invoice.paid',
  'invoice.payment_action_required',
  'invoice.payment_failed',
  'invoice.payment_succeeded',
  'invoice.voided',
  'payment_intent.payment_failed',
  'payment_intent.succeeded',
  'payment_method.attached',
  'payment_method.detached',
  'price.created',
  'price.deleted',
  'price.updated',
  'product.created',
  'product.deleted',
  'product.updated',
  'refund.created',
  'refund.failed',
  'refund.updated',
];

async function sell(sandbox: TestSandbox): Promise<void> {
  const { stripe } = sandbox;
  await stripe.accounts.retrieveCurrent();
  await stripe.balance.retrieve();
  const product = await stripe.products.create({ name: 'Pack' });
  await stripe.products.list();
  await stripe.products.retrieve(product.id);
  await stripe.products.update(product.id, { description: 'For a while' });
  const price = await stripe.prices.create({
    product: product.id,
    currency: 'usd',
    unit_amount: 700,
  });
  await stripe.prices.list({ product: product.id });
  await stripe.prices.retrieve(price.id);
  await stripe.prices.update(price.id, { nickname: 'seven' });
  await expect(stripe.products.del(product.id)).rejects.toThrow('has prices');
  await expect(sandbox.deletePrice('price_gone')).rejects.toThrow('No such price');
  await sandbox.deletePrice(price.id);
  expect(await stripe.products.del(product.id)).toEqual(
    expect.objectContaining({ id: product.id, object: 'product', deleted: true }),
  );
  await expect(stripe.products.retrieve(product.id)).rejects.toMatchObject({ statusCode: 404 });

  const coupon = await stripe.coupons.create({ percent_off: 50, duration: 'once' });
  await stripe.coupons.list();
  await stripe.coupons.retrieve(coupon.id);
  expect(await stripe.coupons.update(coupon.id, { name: 'Half' })).toMatchObject({ name: 'Half' });
  const code = await stripe.promotionCodes.create({
    promotion: { type: 'coupon', coupon: coupon.id },
    code: 'HALF',
  });
  expect((await stripe.promotionCodes.list({ code: 'HALF' })).data).toHaveLength(1);
  await stripe.promotionCodes.retrieve(code.id);
  expect(await stripe.promotionCodes.update(code.id, { active: false })).toMatchObject({
    active: false,
  });
  expect(await stripe.coupons.del(coupon.id)).toMatchObject({ deleted: true });
}

async function keepCustomers({ stripe }: TestSandbox): Promise<void> {
  const { id } = await stripe.customers.create({ email: 'ada@example.com' });
  await stripe.customers.list({ email: 'ada@example.com' });
  await stripe.customers.retrieve(id);
  await stripe.customers.update(id, { name: 'Ada' });
  const change = await stripe.customers.createBalanceTransaction(id, {
    amount: -300,
    currency: 'usd',
  });
  await stripe.customers.listBalanceTransactions(id);
  expect(await stripe.customers.retrieveBalanceTransaction(id, change.id)).toMatchObject({
    amount: -300,
    ending_balance: -300,
  });
  const method = await stripe.paymentMethods.create({
    type: 'card',
    card: { number: '4242424242424242', exp_month: 12, exp_year: 2040, cvc: '123' },
  });
  await stripe.paymentMethods.attach(method.id, { customer: id });
  await stripe.paymentMethods.retrieve(method.id);
  expect((await stripe.paymentMethods.list({ customer: id })).data).toHaveLength(1);
  expect((await stripe.customers.listPaymentMethods(id)).data).toHaveLength(1);
  expect(await stripe.paymentMethods.detach(method.id)).toMatchObject({ customer: null });
  expect((await stripe.paymentMethods.list({ customer: id })).data).toEqual([]);
  expect((await stripe.billingPortal.configurations.list()).data).toMatchObject([
    { is_default: true },
  ]);
  await stripe.billingPortal.sessions.create({ customer: id });
  await stripe.customers.del(id);
}

async function buyPacks(sandbox: TestSandbox): Promise<void> {
  const { stripe } = sandbox;
  const { session, intent, charge } = await paidCharge(sandbox);
  await stripe.checkout.sessions.list({ payment_intent: intent });
  await stripe.checkout.sessions.listLineItems(session.id);
  await stripe.paymentIntents.list();
  await stripe.paymentIntents.retrieve(intent);
  await stripe.charges.retrieve(charge.id);
  await stripe.charges.update(charge.id, { metadata: { seen: 'yes' } });
  const open = await stripe.checkout.sessions.create({
    mode: 'payment',
    line_items: [{ price: 'price_pack_50', quantity: 1 }],
    ...returnTo,
  });
  await sandbox.pay(open.id, { outcome: 'declined' });
  await stripe.checkout.sessions.expire(open.id);
  for (const outcome of ['settles_later', 'fails_later'] as const) {
    await sandbox.buy({ price: 'price_pack_50', outcome });
  }
  await stripe.refunds.create({ charge: charge.id, amount: 100 });
  const pending = await sandbox.refund(charge.id, { amount: 100, course: 'requires_action' });
  await stripe.refunds.list();
  await stripe.refunds.retrieve(pending.id);
  await stripe.refunds.update(pending.id, { metadata: { why: 'late' } });
  await stripe.refunds.cancel(pending.id);
  await sandbox.refund(charge.id, { amount: 100, course: 'fails_later' });
  const entries = await stripe.balanceTransactions.list();
  const [entry] = entries.data;
  expect(await stripe.balanceTransactions.retrieve(entry?.id ?? '')).toEqual(
    expect.objectContaining({ ...entry }),
  );
}

async function loseMoney(sandbox: TestSandbox): Promise<void> {
  const { stripe } = sandbox;
  const won = await sandbox.dispute((await paidCharge(sandbox)).charge.id);
  await stripe.disputes.list();
  await stripe.disputes.retrieve(won.id);
  await stripe.disputes.update(won.id, {
    evidence: { uncategorized_text: 'winning_evidence' },
    submit: true,
  });
  const lost = await sandbox.dispute((await paidCharge(sandbox)).charge.id);
  expect(await stripe.disputes.close(lost.id)).toMatchObject({ status: 'lost' });
}

async function bill(sandbox: TestSandbox): Promise<void> {
  const { stripe } = sandbox;
  const { id: customer } = await customerWith(sandbox);
  const item = { customer, pricing: { price: 'price_pack_50' } };
  const waiting = await stripe.invoiceItems.create(item);
  await stripe.invoiceItems.list({ customer });
  await stripe.invoiceItems.retrieve(waiting.id);
  await stripe.invoiceItems.update(waiting.id, { quantity: 2 });
  const dropped = await stripe.invoiceItems.create(item);
  await stripe.invoiceItems.del(dropped.id);
  const draft = async (collection_method: 'charge_automatically' | 'send_invoice') => {
    await stripe.invoiceItems.create(item);
    return stripe.invoices.create({
      customer,
      pending_invoice_items_behavior: 'include',
      collection_method,
      ...(collection_method === 'send_invoice' ? { days_until_due: 5 } : {}),
    });
  };
  const paid = await draft('charge_automatically');
  await stripe.invoices.update(paid.id, { description: 'By hand' });
  await stripe.invoices.finalizeInvoice(paid.id);
  await stripe.invoices.pay(paid.id);
  await stripe.invoices.list({ customer });
  await stripe.invoices.retrieve(paid.id);
  await stripe.invoices.listLineItems(paid.id);
  const [payment] = (await stripe.invoicePayments.list({ invoice: paid.id })).data;
  expect(await stripe.invoicePayments.retrieve(payment?.id ?? '')).toMatchObject({
    invoice: paid.id,
    status: 'paid',
  });
  await stripe.invoices.sendInvoice((await draft('send_invoice')).id);
  const bad = await stripe.invoices.finalizeInvoice((await draft('send_invoice')).id);
  await stripe.invoices.markUncollectible(bad.id);
  const wrong = await stripe.invoices.finalizeInvoice((await draft('send_invoice')).id);
  await stripe.invoices.voidInvoice(wrong.id);
  await stripe.invoices.del((await draft('send_invoice')).id);

  const given = { invoice: paid.id, amount: 100, credit_amount: 100 };
  await stripe.creditNotes.preview(given);
  await stripe.creditNotes.listPreviewLineItems(given);
  const note = await stripe.creditNotes.create(given);
  await stripe.creditNotes.list();
  await stripe.creditNotes.retrieve(note.id);
  await stripe.creditNotes.listLineItems(note.id);
  await stripe.creditNotes.update(note.id, { memo: 'Sorry' });
  const open = await stripe.invoices.finalizeInvoice((await draft('send_invoice')).id);
  await stripe.creditNotes.voidCreditNote(
    (await stripe.creditNotes.create({ invoice: open.id, amount: 100 })).id,
  );
}

async function subscribe(sandbox: TestSandbox): Promise<void> {
  const { stripe } = sandbox;
  const { id } = await subscribed(sandbox);
  await stripe.subscriptions.list();
  await stripe.subscriptions.retrieve(id);
  await stripe.subscriptionItems.list({ subscription: id });
  await stripe.subscriptions.update(id, { metadata: { seat: '1' } });
  await stripe.subscriptions.pause(id);
  await stripe.subscriptions.resume(id);
  await stripe.subscriptions.cancel(id);
  await subscribed(sandbox, {}, 'pm_card_authenticationRequired');
  const failing = await subscribed(sandbox, { trial_period_days: 7 });
  await sandbox.failNextPayments(String(failing.customer));
}

async function listen({ stripe }: TestSandbox): Promise<void> {
  const made = await stripe.webhookEndpoints.create({
    url: 'http://127.0.0.1:9/',
    enabled_events: ['charge.expired'],
  });
  await stripe.webhookEndpoints.list();
  await stripe.webhookEndpoints.retrieve(made.id);
  await stripe.webhookEndpoints.update(made.id, { disabled: true });
  await stripe.webhookEndpoints.del(made.id);
  const [event] = (await stripe.events.list()).data;
  await stripe.events.retrieve(event?.id ?? '');
  const [thin] = (await stripe.v2.core.events.list()).data;
  await stripe.v2.core.events.retrieve(thin?.id ?? '');
}

describe('the official SDK', () => {
  it('carries out every call that is served, and hears every event of a shop, in both shapes', async () => {
    const sandbox = await billingSandbox({ delaySettleMs: 3_600_000 });
    await sandbox.setSettings({ portal_saved: true });
    const endpoints = await Promise.all(
      [undefined, '2024-06-20'].map(async (apiVersion) => {
        const hook = await receiver();
        const { secret } = await sandbox.ensureWebhookEndpoint({ url: hook.url, apiVersion });
        return { hook, secret };
      }),
    );
    const thin = await receiver();
    const thinSecret = (await sandbox.ensureWebhookEndpoint({ url: thin.url, payload: 'thin' }))
      .secret;

    const called = new Set<string>();
    const match = createMatcher(apiRoutes);
    sandbox.stripe.on('response', ({ method, path, status }: Stripe.ResponseEvent) => {
      const found = match(method, path.split('?')[0] ?? '');
      if (found && status === 200) called.add(`${method} ${found.route.pattern}`);
    });
    for (const chapter of [sell, keepCustomers, buyPacks, loseMoney, bill, subscribe, listen]) {
      await chapter(sandbox);
    }
    await sandbox.advance({ days: 40 });

    const served = apiRoutes.map(({ method, pattern }) => `${method} ${pattern}`);
    expect(served.filter((call) => !called.has(call))).toEqual([]);
    expect((await sandbox.checkBooks()).contradictions).toEqual([]);

    await eventually(async () =>
      expect(await sandbox.deliveries({ status: 'pending' })).toEqual([]),
    );
    for (const { hook, secret } of endpoints) {
      for (const { body, signature } of hook.received) {
        expect(Stripe.webhooks.constructEvent(body, signature, secret).object).toBe('event');
      }
      const types = new Set(hook.types());
      expect(EVENTS_OF_A_SHOP.filter((type) => !types.has(type))).toEqual([]);
    }
    for (const { body, signature } of thin.received) {
      sandbox.stripe.parseEventNotification(body, signature, thinSecret);
    }
    const types = new Set(thin.types());
    expect(EVENTS_OF_A_SHOP.filter((type) => !types.has(`v1.${type}`))).toEqual([]);
  });
});
