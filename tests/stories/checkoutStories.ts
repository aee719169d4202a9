/** Packs bought in every way there is, and invoices for them that somebody wrote by hand. */
import { expect } from '@jest/globals';
import type Stripe from 'stripe';
import type { StoryWorld } from './storyWorld.ts';
import type { Stories } from './tellStories.ts';

export const CHECKOUT_STORIES: Stories = {
  async 'a session, its payment and its invoice are one purchase'(world) {
    const { invoice } = await world.stripe.checkout.sessions.retrieve(await world.buy());
    expect(invoice).toMatch(/^in_/);
    await world.told(50);
    expect(await world.entries()).toEqual([['purchase', 50]]);
  },

  async 'a bank debit that fails leaves nothing'(world) {
    const session = await world.buy(undefined, { outcome: 'fails_later' });
    await world.told(0);
    await world.sandbox.settle(session, 'failed');
    await world.told(0);
    expect(await world.entries()).toEqual([]);
  },

  async 'a bank debit that settles days later is credited then'(world) {
    const session = await world.buy(undefined, { outcome: 'settles_later' });
    await world.told(0);
    await world.sandbox.settle(session);
    await world.told(50);
  },

  async 'a session that expires is worth nothing, and the next one its credits'(world) {
    await world.stripe.checkout.sessions.expire(await world.open());
    await world.told(0);
    await world.buy();
    await world.told(50);
  },

  async 'a code of 100 % leaves nothing to pay and everything to credit'(world) {
    await world.appears();
    const session = await ownSession(world, { discounts: [await coupon(world, 100)] });
    await world.sandbox.pay(session);
    const paid = await world.stripe.checkout.sessions.retrieve(session);
    expect(paid).toMatchObject({ payment_status: 'no_payment_required', payment_intent: null });
    await world.told(50);
  },

  async 'half the price buys all the credits, and half of that back is half of them'(world) {
    await world.appears();
    const session = await ownSession(world, { discounts: [await coupon(world, 50)] });
    await world.sandbox.pay(session);
    await world.told(50);
    await world.sandbox.refund(session, { amount: 125 });
    await world.told(25);
  },

  async 'a cart of twelve lines is credited line by line, other products not at all'(world) {
    await world.appears();
    const { stripe } = world;
    const mug = await stripe.prices.create({
      currency: 'usd',
      unit_amount: 1_500,
      product_data: { name: 'Mug' },
    });
    const packs = await Promise.all(
      Array.from({ length: 11 }, (_, index) =>
        stripe.prices.create({
          currency: 'usd',
          unit_amount: 100,
          product_data: { name: `Coins ${index}`, metadata: { credits: '7' } },
        }),
      ),
    );
    const session = await ownSession(world, {
      line_items: [
        ...packs.map(({ id }) => ({ price: id, quantity: 2 })),
        { price: mug.id, quantity: 1 },
      ],
    });
    await world.sandbox.pay(session);
    await world.told(154);
  },

  async 'whoever is named only by the link is found when he exists'(world) {
    await world.appears();
    await world.sandbox.buy({ price: 'price_pack_50', client_reference_id: world.user });
    await world.told(50);
  },

  async 'a purchase waits for its user, however often it is told'(world) {
    const session = await ownSession(world);
    await world.sandbox.pay(session);
    await world.told(null);
    await world.told(null);
    await world.appears();
    await world.told(50);
    expect(await world.entries()).toEqual([['purchase', 50]]);
  },

  async 'an invoice of twelve lines written by hand is credited once it is paid'(world) {
    const invoice = await invoiceOf(world, 12);
    await world.told(0);
    await world.sandbox.payInvoice(invoice);
    await world.told(600);
    expect(await world.entries()).toEqual([['purchase', 600]]);
  },

  async 'an invoice paid from the balance of the customer is credited'(world) {
    const invoice = await invoiceOf(world, 2, { balance: -1_000 });
    expect(await world.stripe.invoices.retrieve(invoice)).toMatchObject({
      status: 'paid',
      amount_paid: 0,
    });
    await world.told(100);
  },

  async 'an invoice that was given up and is paid after all is credited then'(world) {
    const invoice = await invoiceOf(world, 1);
    await world.stripe.invoices.markUncollectible(invoice);
    await world.told(0);
    await world.stripe.invoices.pay(invoice);
    await world.told(50);
  },

  async 'an invoice paid elsewhere is credited, a void one is not'(world) {
    const [paid, voided] = [await invoiceOf(world, 1), await invoiceOf(world, 1)];
    await world.stripe.invoices.voidInvoice(voided);
    await world.told(0);
    await world.stripe.invoices.pay(paid, { paid_out_of_band: true });
    await world.told(50);
  },
};

/** A session Purser did not make; only its metadata say whose it is. */
async function ownSession(
  { stripe, user }: StoryWorld,
  more: Partial<Stripe.Checkout.SessionCreateParams> = {},
): Promise<string> {
  const { id } = await stripe.checkout.sessions.create({
    mode: 'payment',
    success_url: 'https://example.com/',
    line_items: [{ price: 'price_pack_50', quantity: 1 }],
    metadata: { userId: user },
    ...more,
  });
  return id;
}

async function coupon({ stripe }: StoryWorld, percent: number): Promise<{ coupon: string }> {
  const { id } = await stripe.coupons.create({ percent_off: percent, duration: 'once' });
  return { coupon: id };
}

/** Finalized, for so many packs of 50, to a customer of the user's with a card. */
async function invoiceOf(
  world: StoryWorld,
  packs: number,
  { balance = 0 }: { balance?: number } = {},
): Promise<string> {
  await world.appears();
  const { stripe, user } = world;
  const { id: customer } = await stripe.customers.create({
    email: `${user}@example.com`,
    payment_method: 'pm_card_visa',
    invoice_settings: { default_payment_method: 'pm_card_visa' },
    balance,
  });
  const { id: invoice } = await stripe.invoices.create({
    customer,
    auto_advance: false,
    metadata: { userId: user },
  });
  for (let line = 0; line < packs; line += 1) {
    await stripe.invoiceItems.create({ customer, invoice, pricing: { price: 'price_pack_50' } });
  }
  await stripe.invoices.finalizeInvoice(invoice, { auto_advance: false });
  return invoice;
}
