import { creditsOf, isOld } from '../checkout/receipts.ts';
import type { Clock } from '../core/ports.ts';
import type { Effect } from '../credits/effects.ts';
import type { PaidInvoice } from './invoiceGrants.ts';
import type { SubscriptionReading } from './readSubscription.ts';

/** What the owner of a subscription is told of, written with its cause. */

export function trialEnding({
  subscription,
  userId,
  planName,
  planItems,
}: SubscriptionReading): Effect[] {
  const { trial_end: end, status } = subscription;
  if (userId === null || end === null || status !== 'trialing' || planName === null) return [];
  const amounts = planItems.map(({ price, quantity = 1 }) =>
    price.unit_amount === null ? null : price.unit_amount * quantity,
  );
  return [
    {
      kind: 'notify',
      // A trial that is prolonged ends anew.
      key: `trial_ending:${subscription.id}:${end}`,
      notification: 'trial_ending',
      user_id: userId,
      data: {
        plan_name: planName,
        trial_end: toIso(end),
        amount: amounts.reduce<number | null>(
          (sum, each) => (sum === null || each === null ? null : sum + each),
          0,
        ),
        currency: subscription.currency,
        manage_url: null,
      },
    },
  ];
}

export function subscriptionCanceled({
  subscription,
  userId,
  planName,
}: SubscriptionReading): Effect[] {
  if (userId === null || planName === null || subscription.status !== 'canceled') return [];
  const { reason, comment } = subscription.cancellation_details ?? {};
  const unpaid = reason === 'payment_failed' || comment?.includes('(dunning)') === true;
  return [
    {
      kind: 'notify',
      key: `subscription_canceled:${subscription.id}`,
      notification: 'subscription_canceled',
      user_id: userId,
      data: {
        plan_name: planName,
        ended_at: subscription.ended_at === null ? null : toIso(subscription.ended_at),
        reason: unpaid ? 'payment_failed' : 'requested',
      },
    },
  ];
}

/** Of a paid invoice, only together with its first grant. */
export function paymentReceipt(
  clock: Clock,
  { invoice, lines, userId }: PaidInvoice,
  grants: Extract<Effect, { kind: 'grant' }>[],
  planName: string | null,
): Effect[] {
  const [first] = grants;
  if (first === undefined || invoice.amount_paid === 0 || isOld(clock, first.event_at)) return [];
  const periods = lines.filter(({ part }) => part.amount > 0 && !part.proration);
  const to = Math.max(...periods.map(({ periodEnd }) => periodEnd.getTime()));
  const from = Math.min(...periods.map(({ periodStart }) => periodStart.getTime()));
  return [
    {
      kind: 'notify',
      key: `receipt:${first.key}`,
      notification: 'payment_receipt',
      user_id: userId,
      after_grant: first.key,
      data: {
        amount: invoice.amount_paid,
        currency: invoice.currency,
        invoice_number: invoice.number,
        invoice_url: invoice.hosted_invoice_url ?? null,
        invoice_pdf: invoice.invoice_pdf ?? null,
        plan_name: planName ?? first.description,
        credits: grants.reduce((sum, grant) => sum + creditsOf(grant), 0),
        period_start: Number.isFinite(from) ? new Date(from).toISOString() : null,
        period_end: Number.isFinite(to) ? new Date(to).toISOString() : null,
        buyer_email: invoice.customer_email,
      },
    },
  ];
}

function toIso(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
