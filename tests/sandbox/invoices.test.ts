import { describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import {
  billingSandbox,
  customerWith,
  DAY,
  eventsSince,
  lastEvent,
  START,
  subscribed,
} from './support/billing.ts';
import { refusingUrl, type TestSandbox } from './support/sandbox.ts';

/** A draft with packs on it, made by hand. */
async function drafted(
  sandbox: TestSandbox,
  more: Partial<Stripe.InvoiceCreateParams> = {},
  { card = 'pm_card_visa' as string | null, lines = 1 } = {},
): Promise<Stripe.Invoice> {
  const { stripe } = sandbox;
  const { id: customer } = await customerWith(sandbox, card);
  for (let line = 0; line < lines; line += 1) {
    await stripe.invoiceItems.create({
      customer,
      pricing: { price: 'price_pack_50' },
      quantity: line + 1,
    });
  }
  return stripe.invoices.create({
    customer,
    pending_invoice_items_behavior: 'include',
    ...more,
  });
}

describe('an invoice by hand', () => {
  it('bills pack prices that waited for it, and is paid by the default card', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const draft = await drafted(sandbox, { metadata: { userId: 'u1' } }, { lines: 2 });
    expect(draft).toMatchObject({
      status: 'draft',
      billing_reason: 'manual',
      auto_advance: false,
      total: 1_500,
      parent: null,
      lines: {
        data: [
          {
            amount: 500,
            parent: { type: 'invoice_item_details', invoice_item_details: { proration: false } },
            pricing: { price_details: { price: 'price_pack_50', product: 'prod_pack_50' } },
          },
          { amount: 1_000, quantity: 2 },
        ],
      },
    });
    const open = await stripe.invoices.finalizeInvoice(draft.id);
    expect(open).toMatchObject({
      status: 'open',
      amount_due: 1_500,
      hosted_invoice_url: `${sandbox.origin}/i/${draft.id}`,
    });
    expect(open.number).toMatch(/-0001$/);
    const paid = await stripe.invoices.pay(draft.id, { expand: ['payments'] });
    expect(paid).toMatchObject({
      status: 'paid',
      amount_paid: 1_500,
      amount_remaining: 0,
      attempt_count: 1,
      payments: { data: [{ status: 'paid', amount_paid: 1_500, is_default: true }] },
    });
    await expect(stripe.invoices.pay(draft.id)).rejects.toThrow('already paid');
    await expect(stripe.invoices.finalizeInvoice(draft.id)).rejects.toMatchObject({
      code: 'invoice_not_editable',
    });
  });

  it('advances by itself after an hour when it may', async () => {
    const sandbox = await billingSandbox();
    const draft = await drafted(sandbox, { auto_advance: true });
    expect(draft.automatically_finalizes_at).toBe(START + 3_600);
    await sandbox.advance({ hours: 1 });
    expect(await sandbox.stripe.invoices.retrieve(draft.id)).toMatchObject({
      status: 'paid',
      status_transitions: { finalized_at: START + 3_600, paid_at: START + 3_600 },
    });
  });

  it('keeps what a refused payment did, and is tried again by itself', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const draft = await drafted(
      sandbox,
      { auto_advance: true },
      { card: 'pm_card_chargeCustomerFail' },
    );
    await expect(stripe.invoices.pay(draft.id)).rejects.toMatchObject({
      type: 'StripeCardError',
      statusCode: 402,
    });
    expect(await stripe.invoices.retrieve(draft.id)).toMatchObject({
      status: 'open',
      attempt_count: 1,
    });
    const types = (await eventsSince(sandbox)).map(({ type }) => type);
    expect(types.slice(-5)).toEqual([
      'payment_intent.created',
      'charge.failed',
      'payment_intent.payment_failed',
      'invoice.updated',
      'invoice.payment_failed',
    ]);
  });

  it('is paid in parts, each with a payment of its own', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const draft = await drafted(sandbox, {}, { lines: 2 });
    await stripe.invoices.finalizeInvoice(draft.id);
    expect(await sandbox.payInvoice(draft.id, { amount: 600 })).toMatchObject({
      invoice: { status: 'open', amount_paid: 600, amount_remaining: 900 },
    });
    const types = async () => (await eventsSince(sandbox)).map(({ type }) => type);
    expect(await types()).not.toContain('invoice.paid');
    expect(await sandbox.payInvoice(draft.id)).toMatchObject({
      invoice: { status: 'paid', amount_paid: 1_500, amount_remaining: 0 },
    });
    const payments = await stripe.invoicePayments.list({ invoice: draft.id });
    expect(payments.data.map(({ amount_paid, status }) => [amount_paid, status])).toEqual([
      [600, 'paid'],
      [900, 'paid'],
    ]);
    expect((await sandbox.checkBooks()).contradictions).toEqual([]);
  });

  it('paid out of band tells `invoice.paid` only, and nobody may pay it again', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const draft = await drafted(sandbox);
    await stripe.invoices.finalizeInvoice(draft.id);
    const before = await lastEvent(sandbox);
    const paid = await stripe.invoices.pay(draft.id, { paid_out_of_band: true });
    expect(paid).toMatchObject({ status: 'paid', amount_paid_off_stripe: 500 });
    expect((await eventsSince(sandbox, before)).map(({ type }) => type)).toEqual([
      'payment_intent.canceled',
      'invoice.updated',
      'invoice.paid',
    ]);
    expect((await stripe.charges.list()).data).toEqual([]);
  });

  it('can be voided, marked uncollectible, and paid after that', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const gone = await drafted(sandbox);
    await expect(stripe.invoices.voidInvoice(gone.id)).rejects.toThrow('draft');
    await stripe.invoices.finalizeInvoice(gone.id);
    expect(await stripe.invoices.voidInvoice(gone.id)).toMatchObject({ status: 'void' });
    await expect(stripe.invoices.pay(gone.id)).rejects.toThrow('void');
    const lost = await drafted(sandbox);
    await stripe.invoices.finalizeInvoice(lost.id);
    expect(await stripe.invoices.markUncollectible(lost.id)).toMatchObject({
      status: 'uncollectible',
    });
    expect(await stripe.invoices.pay(lost.id)).toMatchObject({ status: 'paid' });
    const types = (await eventsSince(sandbox)).map(({ type }) => type);
    expect(types).toContain('invoice.voided');
    expect(types).toContain('invoice.marked_uncollectible');
  });

  it('shows ten lines and pages the rest', async () => {
    const sandbox = await billingSandbox();
    const draft = await drafted(sandbox, {}, { lines: 12 });
    expect(draft.lines).toMatchObject({ has_more: true, data: { length: 10 } });
    const all = await sandbox.stripe.invoices
      .listLineItems(draft.id, { limit: 5 })
      .autoPagingToArray({ limit: 50 });
    expect(all.reduce((sum, { amount }) => sum + amount, 0)).toBe(draft.total);
    expect(all).toHaveLength(12);
  });

  it('follows its items and coupons while it is a draft', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const draft = await drafted(sandbox);
    const customer = String(draft.customer);
    const extra = await stripe.invoiceItems.create({
      customer,
      invoice: draft.id,
      amount: 250,
      currency: 'usd',
      description: 'By hand',
    });
    expect(await stripe.invoices.retrieve(draft.id)).toMatchObject({ total: 750 });
    await stripe.invoiceItems.update(extra.id, { amount: 100 });
    expect(await stripe.invoices.retrieve(draft.id)).toMatchObject({ total: 600 });
    const { id: coupon } = await stripe.coupons.create({ percent_off: 50 });
    expect(await stripe.invoices.update(draft.id, { discounts: [{ coupon }] })).toMatchObject({
      subtotal: 600,
      total: 300,
      total_discount_amounts: [{ amount: 300 }],
    });
    await stripe.invoiceItems.del(extra.id);
    expect(await stripe.invoices.retrieve(draft.id)).toMatchObject({ subtotal: 500, total: 250 });
    expect(await stripe.invoices.del(draft.id)).toMatchObject({ deleted: true });
    expect((await stripe.invoiceItems.list()).data).toEqual([]);
  });

  it('uses the credit of its customer first, and takes over what is too small to charge', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const { id: customer } = await customerWith(sandbox);
    await stripe.customers.createBalanceTransaction(customer, { amount: -470, currency: 'usd' });
    await stripe.invoiceItems.create({ customer, pricing: { price: 'price_pack_50' } });
    const draft = await stripe.invoices.create({
      customer,
      pending_invoice_items_behavior: 'include',
    });
    // 30 cents are left, and Stripe charges 50 at least.
    expect(await stripe.invoices.finalizeInvoice(draft.id)).toMatchObject({
      status: 'paid',
      total: 500,
      amount_due: 0,
      starting_balance: -470,
      ending_balance: 30,
    });
    await stripe.invoiceItems.create({ customer, pricing: { price: 'price_pack_50' } });
    const next = await stripe.invoices.create({
      customer,
      pending_invoice_items_behavior: 'include',
    });
    await stripe.invoices.finalizeInvoice(next.id);
    expect(await stripe.invoices.pay(next.id)).toMatchObject({
      amount_due: 530,
      amount_paid: 530,
      ending_balance: 0,
    });
    expect((await sandbox.checkBooks()).contradictions).toEqual([]);
  });

  it('is sent with a due date when it is not charged automatically', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const draft = await drafted(
      sandbox,
      { collection_method: 'send_invoice', days_until_due: 30 },
      { card: null },
    );
    expect(draft.due_date).toBe(START + 30 * DAY);
    expect(await stripe.invoices.sendInvoice(draft.id)).toMatchObject({ status: 'open' });
    expect((await eventsSince(sandbox)).at(-1)?.type).toBe('invoice.sent');
    await expect(drafted(sandbox, { collection_method: 'send_invoice' })).rejects.toMatchObject({
      param: 'days_until_due',
    });
  });
});

describe('the draft of a renewal', () => {
  it('waits for an endpoint that does not take `invoice.created`, up to three days', async () => {
    const sandbox = await billingSandbox();
    const made = await subscribed(sandbox);
    await sandbox.ensureWebhookEndpoint({
      url: await refusingUrl(),
      enabledEvents: ['invoice.created'],
    });
    await sandbox.advance({ days: 28 });
    const drafts = await sandbox.stripe.invoices.list({ subscription: made.id, status: 'draft' });
    const draft = String(drafts.data[0]?.id);
    await sandbox.advance({ hours: 71 });
    expect((await sandbox.stripe.invoices.retrieve(draft)).status).toBe('draft');
    await sandbox.advance({ hours: 3 });
    expect((await sandbox.stripe.invoices.retrieve(draft)).status).toBe('paid');
  });
});

describe('the pages of an invoice', () => {
  it('let its customer pay it, and show a receipt afterwards', async () => {
    const sandbox = await billingSandbox();
    const draft = await drafted(sandbox, {}, { card: null });
    const unknown = await fetch(`${sandbox.origin}/i/in_none`);
    expect(unknown.status).toBe(404);
    expect((await fetch(`${sandbox.origin}/i/${draft.id}`)).status).toBe(404);
    const open = await sandbox.stripe.invoices.finalizeInvoice(draft.id);
    const url = String(open.hosted_invoice_url);
    const page = await (await fetch(url)).text();
    for (const text of [String(open.number), '$5.00', '50 credits', 'Card number']) {
      expect(page.includes(text) ? null : text).toBeNull();
    }
    const press = (number: string) =>
      fetch(url, {
        method: 'POST',
        body: new URLSearchParams({ card_number: number }),
        redirect: 'manual',
      });
    const refused = await press('4000000000000002');
    expect([refused.status, await refused.text()]).toEqual([
      402,
      expect.stringContaining('Your card was declined'),
    ]);
    expect((await press('12')).status).toBe(400);
    expect((await press('4242 4242 4242 4242')).status).toBe(303);
    const receipt = await (await fetch(url)).text();
    expect(receipt).toContain('Receipt');
    expect(receipt).toContain('$5.00');
    expect(await sandbox.stripe.invoices.retrieve(draft.id)).toMatchObject({ status: 'paid' });
  });
});

describe('the control API of billing', () => {
  it('renews, pauses, resumes and ends a subscription, and refuses what cannot be', async () => {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const made = await subscribed(sandbox);
    await sandbox.advance({ days: 5 });
    const renewed = await sandbox.renew(made.id);
    expect(renewed.invoice).toMatchObject({ status: 'paid', amount_paid: 1_000 });
    expect((await stripe.subscriptions.retrieve(made.id)).items.data[0]).toMatchObject({
      current_period_start: START + 5 * DAY,
    });
    const control = async (action: string, body: object = {}) => {
      const answer = await fetch(`${sandbox.origin}/_sandbox/subscriptions/${made.id}/${action}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', connection: 'close' },
        body: JSON.stringify(body),
      });
      return [answer.status, (await stripe.subscriptions.retrieve(made.id)).status];
    };
    expect(await control('pause')).toEqual([200, 'paused']);
    expect(await control('renew')).toEqual([400, 'paused']);
    expect(await control('resume')).toEqual([200, 'active']);
    expect(await control('cancel', { at_period_end: true })).toEqual([200, 'active']);
    expect(await control('cancel')).toEqual([200, 'canceled']);
    expect(await control('cancel')).toEqual([400, 'canceled']);
    await expect(sandbox.setCard('cus_none', '4242424242424242')).rejects.toThrow('No such');
    await expect(sandbox.setSettings({ retry_days: [0] })).rejects.toThrow('retry_days');
  });

  it('buys a plan for a customer, with a trial when asked', async () => {
    const sandbox = await billingSandbox();
    const { id: customer } = await sandbox.stripe.customers.create({ email: 'ada@example.com' });
    await sandbox.buy({ price: 'price_big', customer, trial_days: 7, metadata: { userId: 'u1' } });
    expect((await sandbox.stripe.subscriptions.list({ customer })).data).toMatchObject([
      { status: 'trialing', metadata: { userId: 'u1' } },
    ]);
  });
});
