import { expect } from '@jest/globals';
import type { Stories } from './tellStories.ts';

/** Name -> what happens; `told` says the balance that must follow, however the events come. */
export const MONEY_BACK_STORIES: Stories = {
  async 'a partial refund takes its share, rounded down'(world) {
    const session = await world.buy();
    await world.told(50);
    await world.sandbox.refund(session, { amount: 33 });
    await world.told(47);
  },

  async 'cumulative refunds are one target, not a sum of roundings'(world) {
    const session = await world.buy();
    await world.told(50);
    for (const amount of [33, 34]) await world.sandbox.refund(session, { amount });
    await world.told(44);
    await world.sandbox.refund(session);
    await world.told(0);
  },

  async 'a full refund takes everything, once'(world) {
    const session = await world.buy();
    await world.sandbox.refund(session);
    await world.told(0);
    const taken = (await world.entries()).reduce((sum, [, amount]) => sum + Math.abs(amount), 0);
    expect([0, 100]).toContain(taken);
  },

  async 'a refund that fails days later brings its credits back'(world) {
    const session = await world.buy();
    const { id } = await world.sandbox.refund(session, { course: 'fails_later' });
    await world.told(0);
    await world.sandbox.endRefund(id, 'failed');
    await world.told(50);
  },

  async 'a refund on its way counts when it arrives'(world) {
    const session = await world.buy();
    const { id } = await world.sandbox.refund(session, { amount: 250, course: 'pending' });
    await world.told(50);
    await world.sandbox.endRefund(id, 'succeeded');
    await world.told(25);
  },

  async 'a refund that waits for the customer and is canceled takes nothing'(world) {
    const session = await world.buy();
    const { id } = await world.sandbox.refund(session, { course: 'requires_action' });
    await world.told(50);
    await world.sandbox.endRefund(id, 'canceled');
    await world.told(50);
    expect(await world.entries()).toEqual([['purchase', 50]]);
  },

  async 'a refund told before its purchase leaves what is left of it'(world) {
    const session = await world.buy();
    await world.sandbox.refund(session, { amount: 250 });
    await world.told(25, { latestFirst: true });
  },

  async 'a refund of spent credits becomes debt, which the next purchase repays'(world) {
    const session = await world.buy();
    await world.told(50);
    expect(await world.spend(40)).toBe(200);
    await world.sandbox.refund(session);
    await world.told(-40);
    expect(await world.spend(1)).toBe(402);
    await world.buy();
    await world.told(10);
    expect(await world.spend(10)).toBe(200);
  },

  async 'a dispute takes the credits when it is opened and won ones return them'(world) {
    const session = await world.buy();
    await world.told(50);
    const { id } = await world.sandbox.dispute(session);
    await world.told(0);
    await world.sandbox.decideDispute(id, 'won');
    await world.told(50);
  },

  async 'a lost dispute keeps the credits, unless an appeal is won'(world) {
    const session = await world.buy();
    const { id } = await world.sandbox.dispute(session);
    await world.sandbox.decideDispute(id, 'lost');
    await world.told(0);
    await world.sandbox.decideDispute(id, 'appeal_needs_response');
    await world.told(0);
    await world.stripe.disputes.update(id, { evidence: { uncategorized_text: 'A receipt.' } });
    await world.sandbox.decideDispute(id, 'won');
    await world.told(50);
  },

  async 'an inquiry takes nothing until it becomes a dispute'(world) {
    const session = await world.buy();
    const { id } = await world.sandbox.dispute(session, { kind: 'inquiry' });
    await world.told(50);
    expect(await world.entries()).toEqual([['purchase', 50]]);
    await world.sandbox.decideDispute(id, 'needs_response');
    await world.told(0);
  },

  async 'a closed inquiry and a prevented dispute take no more than was refunded'(world) {
    const [asked, prevented] = [await world.buy(), await world.buy()];
    const { id } = await world.sandbox.dispute(asked, { kind: 'inquiry' });
    await world.sandbox.decideDispute(id, 'warning_closed');
    await world.sandbox.dispute(prevented, { kind: 'prevented', amount: 250 });
    await world.told(75);
  },

  async 'a refund and a dispute of one payment take no more than it granted'(world) {
    const session = await world.buy();
    await world.told(50);
    await world.sandbox.refund(session, { amount: 250 });
    await world.sandbox.dispute(session, { amount: 500 });
    await world.told(0);
  },

  async 'a refund of two packs in one session is a share of both'(world) {
    const session = await world.buy({ price_id: 'price_pack_200', quantity: 2 });
    await world.told(400);
    await world.sandbox.refund(session, { amount: 1_200 });
    await world.told(267);
  },

  async 'a card that fails first leaves one payment, paid once'(world) {
    const session = await world.open();
    await world.sandbox.pay(session, { outcome: 'declined' });
    await world.told(0);
    await world.sandbox.pay(session);
    await world.told(50);
    await world.sandbox.refund(session, { amount: 100 });
    await world.told(40);
  },

  async 'a bank debit is refunded like a card'(world) {
    const session = await world.buy(undefined, { outcome: 'settles_later' });
    await world.told(0);
    await world.sandbox.settle(session);
    await world.told(50);
    const { id } = await world.sandbox.refund(session, { amount: 100 });
    await world.told(50);
    await world.sandbox.endRefund(id, 'succeeded');
    await world.told(40);
  },

  async 'a credit note takes what it refunds, and nothing for the rest'(world) {
    const session = await world.stripe.checkout.sessions.retrieve(await world.buy());
    const invoice = String(session.invoice);
    await world.told(50);
    await world.stripe.creditNotes.create({ invoice, amount: 100, refund_amount: 100 });
    await world.told(40);
    await world.stripe.creditNotes.create({ invoice, amount: 100, credit_amount: 100 });
    await world.told(40);
  },

  async 'an invoice paid in two parts is taken back by the share of each'(world) {
    const { stripe, sandbox, user } = world;
    await world.open();
    const customers = await stripe.customers.list({ email: `${user}@example.com`, limit: 1 });
    const customer = customers.data[0]?.id ?? '';
    const method = await stripe.paymentMethods.attach('pm_card_visa', { customer });
    await stripe.customers.update(customer, {
      invoice_settings: { default_payment_method: method.id },
    });
    const invoice = await stripe.invoices.create({ customer, metadata: { userId: user } });
    await stripe.invoiceItems.create({
      customer,
      invoice: invoice.id,
      pricing: { price: 'price_pack_50' },
    });
    await stripe.invoices.finalizeInvoice(invoice.id, { auto_advance: false });
    await sandbox.payInvoice(invoice.id, { amount: 200 });
    await world.told(0);
    await sandbox.payInvoice(invoice.id);
    await world.told(50);
    const payments = await stripe.invoicePayments.list({ invoice: invoice.id, status: 'paid' });
    const first = payments.data.find(({ amount_paid }) => amount_paid === 200);
    await sandbox.refund(String(first?.payment.payment_intent));
    await world.told(30);
    expect(payments.data).toHaveLength(2);
  },
};
