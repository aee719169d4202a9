import { describe, expect, it } from '@jest/globals';
import { balanceOf, eventsOf, paidCharge, typesOf } from './support/money.ts';
import { eventually, type TestSandbox, testSandbox } from './support/sandbox.ts';

const DAY_MS = 24 * 3_600_000;

/** Nothing is decided of itself during the test. */
const still = (): Promise<TestSandbox> => testSandbox({ delaySettleMs: 3_600_000 });

describe('a dispute', () => {
  it('takes the money at once and marks the charge', async () => {
    const sandbox = await still();
    const { charge, intent } = await paidCharge(sandbox);
    const told = await eventsOf(sandbox, () =>
      sandbox.dispute(charge.id, { reason: 'product_not_received' }),
    );
    expect(typesOf(told)).toEqual(['charge.dispute.created', 'charge.dispute.funds_withdrawn']);
    expect(told[0]?.data.object).toMatchObject({
      object: 'dispute',
      amount: 1_500,
      status: 'needs_response',
      reason: 'product_not_received',
      charge: charge.id,
      payment_intent: intent,
      is_charge_refundable: false,
      balance_transactions: [{ amount: -1_500, type: 'adjustment', reporting_category: 'dispute' }],
    });
    expect(told[0]?.data.object).not.toHaveProperty('customer');
    expect((await sandbox.stripe.charges.retrieve(charge.id)).disputed).toBe(true);
    expect(await balanceOf(sandbox)).toEqual([0, 0]);
    await expect(sandbox.dispute(charge.id)).rejects.toThrow('is disputed already');
  });

  it('lets nothing be refunded until it is won', async () => {
    const sandbox = await still();
    const { stripe } = sandbox;
    const { charge } = await paidCharge(sandbox);
    const { id } = await sandbox.dispute(charge.id, { amount: 1_000 });
    const refund = () => stripe.refunds.create({ charge: charge.id, amount: 100 });
    await expect(refund()).rejects.toMatchObject({ code: 'charge_disputed' });
    const told = await eventsOf(sandbox, () => sandbox.decideDispute(id, 'won'));
    expect(typesOf(told)).toEqual(['charge.dispute.closed', 'charge.dispute.funds_reinstated']);
    expect(told[0]?.data.object).toMatchObject({
      status: 'won',
      balance_transactions: [
        { amount: -1_000 },
        { amount: 1_000, reporting_category: 'dispute_reversal' },
      ],
    });
    expect((await refund()).amount).toBe(100);
    expect(await balanceOf(sandbox)).toEqual([1_400, 1_400]);
  });

  it('is won or lost by the texts Stripe has for it', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 20 });
    const { stripe } = sandbox;
    for (const [text, status, kept] of [
      ['winning_evidence', 'won', 1_500],
      ['losing_evidence', 'lost', 0],
    ] as const) {
      const [before] = await balanceOf(sandbox);
      const { charge } = await paidCharge(sandbox);
      const { id } = await sandbox.dispute(charge.id);
      const answered = await stripe.disputes.update(id, {
        evidence: { uncategorized_text: text, customer_name: 'Ada' },
      });
      expect(answered).toMatchObject({
        status: 'under_review',
        evidence: { customer_name: 'Ada' },
        evidence_details: { has_evidence: true, submission_count: 1, submission_method: 'manual' },
      });
      await eventually(async () =>
        expect((await stripe.disputes.retrieve(id)).status).toBe(status),
      );
      expect(await balanceOf(sandbox)).toEqual([before + kept, before + kept]);
    }
  });

  it('keeps staged evidence without sending it', async () => {
    const sandbox = await still();
    const { stripe } = sandbox;
    const { charge } = await paidCharge(sandbox);
    const { id } = await sandbox.dispute(charge.id);
    const told = await eventsOf(sandbox, () =>
      stripe.disputes.update(id, {
        evidence: { product_description: 'credits' },
        metadata: { case: '1' },
        submit: false,
      }),
    );
    expect(told).toMatchObject([
      {
        type: 'charge.dispute.updated',
        data: {
          object: { status: 'needs_response', evidence_details: { submission_count: 0 } },
          previous_attributes: {
            evidence: { product_description: null },
            evidence_details: { has_evidence: false },
            metadata: { case: null },
          },
        },
      },
    ]);
    expect((await stripe.disputes.update(id, { submit: true })).status).toBe('under_review');
    await expect(
      stripe.disputes.update(id, { evidence: { product_description: 'more' } }),
    ).rejects.toMatchObject({ code: 'dispute_unexpected_state', param: 'evidence' });
    await expect(
      stripe.disputes.update(id, { evidence: { receipt: 'file_1' } }),
    ).rejects.toMatchObject({ code: 'sandbox_not_simulated' });
  });

  it('is lost when it is accepted or not answered in time', async () => {
    let now = Date.parse('2026-11-01T00:00:00Z');
    const sandbox = await testSandbox({ now: () => now });
    const { stripe } = sandbox;
    const accepted = await sandbox.dispute((await paidCharge(sandbox)).charge.id);
    expect((await stripe.disputes.close(accepted.id)).status).toBe('lost');
    await expect(stripe.disputes.close(accepted.id)).rejects.toMatchObject({
      code: 'dispute_unexpected_state',
      message: `Dispute ${accepted.id} is lost and cannot become lost, only appeal_needs_response.`,
    });
    const late = await sandbox.dispute((await paidCharge(sandbox)).charge.id);
    expect(late.evidence_details.due_by).toBe(now / 1_000 + 7 * 24 * 3_600);
    now += 8 * DAY_MS;
    await eventually(async () =>
      expect(await stripe.disputes.retrieve(late.id)).toMatchObject({
        status: 'lost',
        evidence_details: { past_due: true },
      }),
    );
  });

  it('can be appealed after it was lost, and won then', async () => {
    const sandbox = await still();
    const { charge } = await paidCharge(sandbox);
    const { id } = await sandbox.dispute(charge.id);
    await sandbox.decideDispute(id, 'lost');
    await sandbox.decideDispute(id, 'appeal_needs_response');
    expect((await sandbox.stripe.disputes.update(id, { submit: true })).status).toBe(
      'appeal_under_review',
    );
    expect(await balanceOf(sandbox)).toEqual([0, 0]);
    await sandbox.decideDispute(id, 'won');
    expect(await balanceOf(sandbox)).toEqual([1_500, 1_500]);
  });

  it('makes refunds that were on their way fail, and is about the whole rest', async () => {
    const sandbox = await still();
    const { stripe } = sandbox;
    const { charge } = await paidCharge(sandbox);
    await stripe.refunds.create({ charge: charge.id, amount: 300 });
    const waiting = await sandbox.refund(charge.id, { amount: 200, course: 'pending' });
    expect((await sandbox.dispute(charge.id)).amount).toBe(1_200);
    expect(await stripe.refunds.retrieve(waiting.id)).toMatchObject({
      status: 'failed',
      failure_reason: 'charge_for_pending_refund_disputed',
    });
    expect((await stripe.charges.retrieve(charge.id)).amount_refunded).toBe(300);
    expect(await balanceOf(sandbox)).toEqual([0, 0]);
  });

  it('comes of itself from the test cards for it', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 20 });
    for (const [card_number, status, reason] of [
      ['4000000000000259', 'needs_response', 'fraudulent'],
      ['4000000000002685', 'needs_response', 'product_not_received'],
      ['4000000000001976', 'warning_needs_response', 'general'],
    ] as const) {
      const { charge, intent } = await paidCharge(sandbox, { card_number });
      await eventually(async () =>
        expect(
          (await sandbox.stripe.disputes.list({ payment_intent: intent, expand: ['data.charge'] }))
            .data,
        ).toMatchObject([{ status, reason, charge: { id: charge.id, disputed: true } }]),
      );
    }
  });
});

describe('an inquiry', () => {
  it('moves no money, and ends when the charge is refunded', async () => {
    const sandbox = await still();
    const { stripe } = sandbox;
    const { charge } = await paidCharge(sandbox);
    const told = await eventsOf(sandbox, () => sandbox.dispute(charge.id, { kind: 'inquiry' }));
    expect(typesOf(told)).toEqual(['charge.dispute.created']);
    expect(told[0]?.data.object).toMatchObject({
      status: 'warning_needs_response',
      balance_transactions: [],
      is_charge_refundable: true,
      payment_method_details: { card: { case_type: 'inquiry' } },
    });
    await stripe.refunds.create({ charge: charge.id, amount: 500 });
    const end = await eventsOf(sandbox, () => stripe.refunds.create({ charge: charge.id }));
    expect(typesOf(end)).toEqual(['refund.created', 'charge.refunded', 'charge.dispute.closed']);
    expect((await stripe.disputes.list({ charge: charge.id })).data[0]?.status).toBe(
      'warning_closed',
    );
    expect(await balanceOf(sandbox)).toEqual([0, 0]);
  });

  it('can become a dispute, which takes the money then', async () => {
    const sandbox = await still();
    const { charge } = await paidCharge(sandbox);
    const { id } = await sandbox.dispute(charge.id, { kind: 'inquiry' });
    const told = await eventsOf(sandbox, () => sandbox.decideDispute(id, 'needs_response'));
    expect(typesOf(told)).toEqual(['charge.dispute.updated', 'charge.dispute.funds_withdrawn']);
    expect(told[0]?.data).toMatchObject({
      object: { payment_method_details: { card: { case_type: 'chargeback' } } },
      previous_attributes: { status: 'warning_needs_response', is_charge_refundable: true },
    });
    expect(await balanceOf(sandbox)).toEqual([0, 0]);
    await expect(sandbox.decideDispute(id, 'warning_closed')).rejects.toThrow(
      'cannot become warning_closed, only under_review or won or lost',
    );
  });

  it('is closed by an answer', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 20 });
    const { charge } = await paidCharge(sandbox);
    const { id } = await sandbox.dispute(charge.id, { kind: 'inquiry' });
    await sandbox.stripe.disputes.update(id, { evidence: { service_date: '2026-11-01' } });
    await eventually(async () =>
      expect((await sandbox.stripe.disputes.retrieve(id)).status).toBe('warning_closed'),
    );
    expect(await balanceOf(sandbox)).toEqual([1_500, 1_500]);
  });
});

describe('a prevented dispute', () => {
  it('has been refunded before it could be one', async () => {
    const sandbox = await still();
    const { charge } = await paidCharge(sandbox);
    const told = await eventsOf(sandbox, () => sandbox.dispute(charge.id, { kind: 'prevented' }));
    expect(typesOf(told)).toEqual(['refund.created', 'charge.refunded', 'charge.dispute.created']);
    expect(told[2]?.data.object).toMatchObject({ status: 'prevented', balance_transactions: [] });
    expect(await balanceOf(sandbox)).toEqual([0, 0]);
    await expect(sandbox.dispute(charge.id, { kind: 'prevented' })).rejects.toThrow(
      'refunded already',
    );
  });
});
