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
import { returnTo } from './support/sandbox.ts';

const iso = (at: number | null | undefined) => new Date((at ?? 0) * 1_000).toISOString();

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
