import { describe, expect, it } from '@jest/globals';
import { billingSandbox } from './support/billing.ts';
import { balanceOf, eventsOf, paidCharge, typesOf } from './support/money.ts';
import { eventually, receiver, type TestSandbox, testSandbox } from './support/sandbox.ts';

/** No refund settles of itself during the test. */
const still = (): Promise<TestSandbox> => testSandbox({ delaySettleMs: 3_600_000 });

describe('a refund', () => {
  it('gives the whole charge back, is told once, and moves the balance', async () => {
    const sandbox = await still();
    const { charge, intent } = await paidCharge(sandbox);
    expect(await balanceOf(sandbox)).toEqual([1_500, 1_500]);
    const told = await eventsOf(sandbox, () =>
      sandbox.stripe.refunds.create({
        charge: charge.id,
        reason: 'requested_by_customer',
        metadata: { ticket: '7' },
      }),
    );
    expect(told).toMatchObject([
      {
        type: 'refund.created',
        data: { object: { amount: 1_500, status: 'succeeded', payment_intent: intent } },
      },
      {
        type: 'charge.refunded',
        data: {
          object: { id: charge.id, amount_refunded: 1_500, refunded: true },
          previous_attributes: { amount_refunded: 0, refunded: false },
        },
      },
    ]);
    const [refund] = (
      await sandbox.stripe.refunds.list({
        charge: charge.id,
        expand: ['data.balance_transaction', 'data.charge', 'data.payment_intent'],
      })
    ).data;
    expect(refund).toMatchObject({
      metadata: { ticket: '7' },
      reason: 'requested_by_customer',
      balance_transaction: { amount: -1_500, type: 'refund', source: refund?.id },
      charge: { refunded: true },
      payment_intent: { amount_received: 1_500, status: 'succeeded' },
    });
    expect(await balanceOf(sandbox)).toEqual([0, 0]);
  });

  it('can be partial and several, by charge or payment intent, up to what is left', async () => {
    const sandbox = await still();
    const { stripe } = sandbox;
    const { charge, intent } = await paidCharge(sandbox);
    await stripe.refunds.create({ charge: charge.id, amount: 400 });
    await stripe.refunds.create({ payment_intent: intent, amount: 600 });
    await expect(stripe.refunds.create({ charge: charge.id, amount: 501 })).rejects.toMatchObject({
      statusCode: 400,
      param: 'amount',
      message: 'Refund amount ($5.01) is greater than unrefunded amount on charge ($5.00)',
    });
    expect(await stripe.charges.retrieve(charge.id)).toMatchObject({
      amount_refunded: 1_000,
      refunded: false,
    });
    const told = await eventsOf(sandbox, () => stripe.refunds.create({ payment_intent: intent }));
    expect(told[1]?.data.previous_attributes).toEqual({ amount_refunded: 1_000, refunded: false });
    await expect(stripe.refunds.create({ charge: charge.id })).rejects.toMatchObject({
      code: 'charge_already_refunded',
    });
    const after = await stripe.charges.retrieve(charge.id, {
      expand: ['refunds', 'balance_transaction'],
    });
    expect(after.refunds?.data.map(({ amount }) => amount)).toEqual([500, 600, 400]);
    expect(after.balance_transaction).toMatchObject({ net: 1_500, type: 'charge' });
    expect(await balanceOf(sandbox)).toEqual([0, 0]);
  });

  it('is refused for what was not paid, not named, or unknown', async () => {
    const sandbox = await still();
    const { stripe } = sandbox;
    const {
      session,
      charge: pending,
      intent,
    } = await paidCharge(sandbox, { outcome: 'settles_later' });
    const refusals: [object, object][] = [
      [{ charge: pending.id }, { code: 'charge_not_refundable' }],
      [{ payment_intent: intent }, { code: 'charge_not_refundable' }],
      [{}, { code: 'parameter_missing' }],
      [{ charge: pending.id, payment_intent: intent }, { param: 'charge' }],
      [{ charge: 'ch_x' }, { code: 'resource_missing', param: 'charge' }],
      [{ payment_intent: 'pi_x' }, { code: 'resource_missing', param: 'payment_intent' }],
      [{ charge: pending.id, amount: 0 }, { param: 'amount' }],
      [{ charge: pending.id, reverse_transfer: true }, { code: 'sandbox_not_simulated' }],
    ];
    for (const [params, error] of refusals) {
      await expect(stripe.refunds.create(params)).rejects.toMatchObject(error);
    }
    await sandbox.settle(session.id, 'failed');
    await expect(stripe.refunds.create({ payment_intent: intent })).rejects.toMatchObject({
      code: 'payment_intent_unexpected_state',
    });
  });

  it('of a bank debit is pending first and arrives when the bank has worked on it', async () => {
    const sandbox = await still();
    const { stripe } = sandbox;
    const { session, charge, intent } = await paidCharge(sandbox, { outcome: 'settles_later' });
    expect(charge).toMatchObject({ status: 'pending', balance_transaction: null });
    await sandbox.settle(session.id);
    const refund = await stripe.refunds.create({ payment_intent: intent });
    expect(refund).toMatchObject({ status: 'pending', pending_reason: 'processing' });
    const told = await eventsOf(sandbox, () => sandbox.endRefund(refund.id, 'succeeded'));
    expect(typesOf(told)).toEqual(['refund.updated', 'charge.refund.updated']);
    expect(told[0]?.data).toMatchObject({
      object: { status: 'succeeded' },
      previous_attributes: { status: 'pending', pending_reason: 'processing' },
    });
    expect((await stripe.balanceTransactions.list({ source: refund.id })).data).toMatchObject([
      { type: 'payment_refund', amount: -1_500 },
    ]);
  });

  it('that fails days later gives the money back to the seller', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 20 });
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url, enabledEvents: ['refund.failed'] });
    const { charge } = await paidCharge(sandbox, { card_number: '4000000000005126' });
    const refund = await sandbox.stripe.refunds.create({ charge: charge.id, amount: 900 });
    expect(refund.status).toBe('succeeded');
    await eventually(() => expect(hook.types()).toEqual(['refund.failed']));
    expect(hook.received[0]?.event.data.object).toMatchObject({
      id: refund.id,
      status: 'failed',
      failure_reason: 'expired_or_canceled_card',
    });
    const failed = await sandbox.stripe.refunds.retrieve(refund.id, {
      expand: ['failure_balance_transaction', 'charge'],
    });
    expect(failed).toMatchObject({
      failure_balance_transaction: { amount: 900, type: 'refund_failure' },
      charge: { amount_refunded: 0, refunded: false },
    });
    expect(await balanceOf(sandbox)).toEqual([1_500, 1_500]);
    // All of it can be refunded again.
    expect((await sandbox.stripe.refunds.create({ charge: charge.id })).amount).toBe(1_500);
  });

  it('with a card of pending refunds succeeds later', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 20 });
    const { charge } = await paidCharge(sandbox, { card_number: '4000000000007726' });
    const { id, status } = await sandbox.stripe.refunds.create({ charge: charge.id });
    expect(status).toBe('pending');
    await eventually(async () =>
      expect((await sandbox.stripe.refunds.retrieve(id)).status).toBe('succeeded'),
    );
  });

  it('shows the bank reference later and is told as updated, with the same amount', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 20 });
    const { charge } = await paidCharge(sandbox);
    const { id } = await sandbox.stripe.refunds.create({ charge: charge.id });
    await eventually(async () =>
      expect((await sandbox.stripe.refunds.retrieve(id)).destination_details?.card).toMatchObject({
        reference_status: 'available',
      }),
    );
    const [update] = (await sandbox.stripe.events.list({ type: 'refund.updated' })).data;
    expect(update?.data.previous_attributes).toEqual({
      destination_details: { card: { reference: null, reference_status: 'pending' } },
    });
  });

  it('that waits for the customer can be canceled, no other can', async () => {
    const sandbox = await still();
    const { stripe } = sandbox;
    const { charge } = await paidCharge(sandbox);
    const asked = await sandbox.refund(charge.id, { amount: 500, course: 'requires_action' });
    const told = await eventsOf(sandbox, () => stripe.refunds.cancel(asked.id));
    expect(told[0]).toMatchObject({
      type: 'refund.updated',
      data: { object: { status: 'canceled' }, previous_attributes: { status: 'requires_action' } },
    });
    expect((await stripe.charges.retrieve(charge.id)).amount_refunded).toBe(0);
    const done = await stripe.refunds.create({ charge: charge.id });
    for (const id of [asked.id, done.id]) {
      await expect(stripe.refunds.cancel(id)).rejects.toMatchObject({
        code: 'refund_unexpected_state',
      });
    }
    await expect(sandbox.endRefund(asked.id, 'succeeded')).rejects.toThrow('cannot become');
  });

  it('takes metadata, and the charge takes a description', async () => {
    const sandbox = await still();
    const { stripe } = sandbox;
    const { charge } = await paidCharge(sandbox);
    const { id } = await stripe.refunds.create({ charge: charge.id, metadata: { a: '1', b: '2' } });
    const told = await eventsOf(sandbox, async () => {
      await stripe.refunds.update(id, { metadata: { b: '', c: '3' } });
      await stripe.refunds.update(id, {});
      await stripe.charges.update(charge.id, { description: 'three packs' });
    });
    expect(told.map(({ type, data }) => [type, data.previous_attributes])).toEqual([
      ['refund.updated', { metadata: { b: '2', c: null } }],
      ['charge.refund.updated', { metadata: { b: '2', c: null } }],
      ['charge.updated', { description: null }],
    ]);
    await expect(stripe.refunds.retrieve('re_x')).rejects.toMatchObject({ statusCode: 404 });
  });

  it('asked for twice with one idempotency key is made once', async () => {
    const sandbox = await still();
    const { stripe } = sandbox;
    const { charge } = await paidCharge(sandbox);
    const once = { idempotencyKey: 'refund-1' };
    const first = await stripe.refunds.create({ charge: charge.id, amount: 100 }, once);
    const again = await stripe.refunds.create({ charge: charge.id, amount: 100 }, once);
    expect(again.id).toBe(first.id);
    await expect(
      stripe.refunds.create({ charge: charge.id, amount: 101 }, once),
    ).rejects.toMatchObject({ type: 'StripeIdempotencyError' });
    expect((await stripe.charges.retrieve(charge.id)).amount_refunded).toBe(100);
  });

  it('is listed in pages both ways', async () => {
    const sandbox = await still();
    const { stripe } = sandbox;
    const { charge } = await paidCharge(sandbox);
    for (const amount of [1, 2, 3]) await stripe.refunds.create({ charge: charge.id, amount });
    const newest = await stripe.refunds.list({ limit: 2 });
    expect([newest.has_more, newest.data.map(({ amount }) => amount)]).toEqual([true, [3, 2]]);
    const rest = await stripe.refunds.list({ starting_after: newest.data[1]?.id ?? '' });
    expect(rest.data.map(({ amount }) => amount)).toEqual([1]);
    const back = await stripe.refunds.list({ limit: 1, ending_before: rest.data[0]?.id ?? '' });
    expect([back.has_more, back.data.map(({ amount }) => amount)]).toEqual([true, [2]]);
  });

  it('is made for whatever was paid: a session, its invoice, or the subscription it began', async () => {
    const sandbox = await billingSandbox({ delaySettleMs: 3_600_000 });
    const { session } = await sandbox.buy({ price: 'price_small', email: 'ada@example.com' });
    const found = await sandbox.stripe.checkout.sessions.retrieve(session.id);
    const paid = [session.id, String(found.invoice), String(found.subscription), 'last'];
    for (const id of paid) expect((await sandbox.refund(id, { amount: 100 })).amount).toBe(100);
    const { data: charges } = await sandbox.stripe.charges.list();
    expect(charges).toMatchObject([{ amount: 1_000, amount_refunded: 400 }]);
    await expect(sandbox.refund('in_x')).rejects.toThrow('Nothing was charged for in_x');
    await expect(sandbox.refund('sub_x')).rejects.toThrow('Nothing was charged for sub_x');
  });
});
