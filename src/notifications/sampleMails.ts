import type { NotificationKind } from './kinds.ts';

/** Made-up messages of every kind, for the preview page. */
export const SAMPLE_MAILS: Readonly<
  Record<string, { kind: NotificationKind; data: Record<string, unknown> }>
> = {
  purchase_receipt: {
    kind: 'purchase_receipt',
    data: {
      name: '200 credits',
      credits: 200,
      balance: 245,
      amount: 1800,
      currency: 'usd',
      invoice_url: 'https://invoice.stripe.com/i/example',
      receipt_url: 'https://pay.stripe.com/receipts/example',
    },
  },
  payment_receipt: {
    kind: 'payment_receipt',
    data: {
      amount: 2999,
      currency: 'usd',
      invoice_number: 'PUR-0042',
      invoice_url: 'https://invoice.stripe.com/i/example',
      invoice_pdf: 'https://pay.stripe.com/invoice/example/pdf',
      plan_name: 'Team',
      credits: 200,
      balance: 1_260,
      period_start: '2026-11-21T00:00:00Z',
      period_end: '2026-12-21T00:00:00Z',
    },
  },
  trial_ending: {
    kind: 'trial_ending',
    data: {
      plan_name: 'Individual',
      trial_end: '2026-11-24T12:00:00Z',
      amount: 999,
      currency: 'usd',
      manage_url: null,
    },
  },
  payment_failed_first: { kind: 'payment_failed', data: failed('first', 1, 0) },
  payment_failed_second: { kind: 'payment_failed', data: failed('second', 2, 3) },
  payment_failed_final: { kind: 'payment_failed', data: failed('final', 4, 7) },
  subscription_canceled: {
    kind: 'subscription_canceled',
    data: { plan_name: 'Team', ended_at: '2026-11-21T08:00:00Z', reason: 'requested' },
  },
  subscription_canceled_unpaid: {
    kind: 'subscription_canceled',
    data: { plan_name: 'Team', ended_at: '2026-11-21T08:00:00Z', reason: 'payment_failed' },
  },
  low_balance: {
    kind: 'low_balance',
    data: { available: 8, threshold: 10, buy_url: null },
  },
  credits_expiring: {
    kind: 'credits_expiring',
    data: { credits: 30, expires_at: '2026-11-28T00:00:00Z', buy_url: null },
  },
  claim_link: {
    kind: 'claim_link',
    data: { token: 'example', credits: 50, expires_at: '2026-12-21T00:00:00Z' },
  },
};

function failed(urgency: string, attempts: number, days: number): Record<string, unknown> {
  return {
    urgency,
    attempt_count: attempts,
    days_overdue: days,
    amount: 2999,
    currency: 'usd',
    invoice_url: 'https://invoice.stripe.com/i/example',
    next_attempt_at: urgency === 'final' ? null : '2026-11-24T12:00:00Z',
    invoice_number: 'PUR-0042',
  };
}
