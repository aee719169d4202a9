import type Stripe from 'stripe';
import type { Catalogue } from '../catalogue/catalogue.ts';
import { idOf } from '../checkout/settlement.ts';
import type { DunningEffect, DunningVerdict } from '../credits/effects.ts';
import { scheduleOf } from './schedule.ts';

/** Of a subscription that has ended, or whose payment may be late. */
const ENDED: ReadonlySet<string> = new Set(['canceled', 'incomplete_expired']);
const LATE: ReadonlySet<string> = new Set(['past_due', 'unpaid']);

export interface DunningReading {
  catalogue: Pick<Catalogue, 'entry' | 'dunning'>;
  userId: string;
  /** Catalogue id of the subscription's plan. */
  plan: string | null;
  planName: string | null;
  subscription: Stripe.Subscription;
  /** The invoice this is about; null where only the subscription was read. */
  invoice: Stripe.Invoice | null;
  /** When Stripe was asked. */
  at: Date;
}

/**
 * What a reading of Stripe says about dunning: none, or one effect. It is the same for every event
 * of invoice or subscription, so it does not matter which of them comes, or how often.
 */
export function dunningEffects(reading: DunningReading): DunningEffect[] {
  const { catalogue, userId, subscription, invoice, at } = reading;
  const verdict = invoice === null ? 'other' : verdictOf(invoice, subscription);
  const says = verdict !== 'other' || invoice?.status === 'open' || ENDED.has(subscription.status);
  if (!says) return [];
  const plan = reading.plan === null ? null : catalogue.entry(reading.plan);
  const policy = plan?.kind === 'plan' ? plan.dunning : catalogue.dunning;
  const pause = subscription.pause_collection;
  return [
    {
      kind: 'dunning',
      user_id: userId,
      subscription_id: subscription.id,
      customer_id: idOf(subscription.customer),
      at: at.toISOString(),
      plan_name: reading.planName,
      schedule: scheduleOf(policy),
      subscription: {
        status: subscription.status,
        collection_paused: pause !== null,
        collection_resumes_at: toIso(pause?.resumes_at ?? null),
        ended_at: toIso(subscription.ended_at),
        ended_unpaid: subscription.cancellation_details?.reason === 'payment_failed',
      },
      invoice: invoice === null ? null : invoiceFacts(invoice, verdict),
    },
  ];
}

/** True for a subscription whose newest invoice dunning has to know. */
export function isLate({ status, latest_invoice }: Stripe.Subscription): boolean {
  return LATE.has(status) && latest_invoice !== null;
}

function verdictOf(invoice: Stripe.Invoice, subscription: Stripe.Subscription): DunningVerdict {
  if (invoice.status === 'paid') return 'paid';
  if (invoice.status === 'void') return 'voided';
  if (invoice.status === 'uncollectible') return 'uncollectible';
  if (invoice.status !== 'open') return 'other';
  // A bill is paid when its reader gets round to it: nothing has failed, whatever is late.
  if (
    invoice.collection_method !== 'charge_automatically' ||
    subscription.collection_method !== 'charge_automatically'
  ) {
    return 'sent_as_bill';
  }
  // The buyer of a first payment stands before the form, and Stripe ends it after 23 hours; what is
  // asked for to end a pause is owed only if it is paid.
  if (subscription.status === 'incomplete' || subscription.status === 'paused') return 'other';
  const tried = invoice.attempted && invoice.attempt_count > 0;
  return tried && invoice.amount_remaining > 0 && subscription.pause_collection === null
    ? 'failing'
    : 'other';
}

function invoiceFacts(
  invoice: Stripe.Invoice,
  verdict: DunningVerdict,
): NonNullable<DunningEffect['invoice']> {
  return {
    id: invoice.id,
    verdict,
    failed_at: new Date(
      (invoice.status_transitions.finalized_at ?? invoice.created) * 1000,
    ).toISOString(),
    paid_at: toIso(invoice.status_transitions.paid_at),
    attempt_count: invoice.attempt_count,
    next_payment_attempt: toIso(invoice.next_payment_attempt),
    amount: invoice.amount_remaining,
    currency: invoice.currency,
    number: invoice.number,
    url: invoice.hosted_invoice_url ?? null,
  };
}

function toIso(seconds: number | null): string | null {
  return seconds === null ? null : new Date(seconds * 1000).toISOString();
}
