import type { DunningPolicy } from '../catalogue/dunningPolicy.ts';
import type { DunningEffect } from '../credits/effects.ts';
import type { DunningCase, DunningDecision, DunningStep } from './dunning.types.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** A retry so near may make a mail untrue before it is read. */
const RETRY_SOON_MS = DAY_MS;
/** Stripe needs a while for a retry, and its outcome for the way to us. */
const RETRY_MARGIN_MS = 2 * HOUR_MS;
/** A mail does not wait longer than this for one retry after the other. */
const MAIL_POSTPONED_MAX_MS = 2 * DAY_MS;
/** What waits for a person or a payment is looked at daily. */
const LOOK_AGAIN_MS = DAY_MS;
/** A case without a step left is given up this long after its failure: Stripe itself has by then. */
const WATCHED_MAX_MS = 90 * DAY_MS;

const ENDED: ReadonlySet<string> = new Set(['canceled', 'incomplete_expired']);
const LATE: ReadonlySet<string> = new Set(['past_due', 'unpaid']);

/**
 * What to do with a case whose time has come, by what Stripe says of its invoice and subscription
 * now. Pure. Stripe's own retries come first: a mail waits for one that is near, a cancellation
 * for any that is planned, as long as the policy allows.
 */
export function decideStep(
  dunning: Pick<DunningCase, 'failed_at'> & { step: DunningStep | null },
  facts: Pick<DunningEffect, 'subscription' | 'invoice'>,
  policy: Pick<DunningPolicy, 'waitForRetriesDays'>,
  now: Date,
): DunningDecision {
  const { subscription, invoice } = facts;
  const { step } = dunning;
  if (ENDED.has(subscription.status)) return { action: 'settle', reason: 'subscription_ended' };
  if (invoice !== null && invoice.verdict !== 'failing' && invoice.verdict !== 'other') {
    return { action: 'settle', reason: invoice.verdict };
  }
  const nowMs = now.getTime();
  const postpone = (reason: string, untilMs: number): DunningDecision => ({
    action: 'postpone',
    reason,
    until: new Date(untilMs).toISOString(),
  });
  if (subscription.collection_paused) {
    const resumes = subscription.collection_resumes_at;
    const until = resumes === null ? 0 : Date.parse(resumes);
    return postpone('collection_paused', until > nowMs ? until : nowMs + LOOK_AGAIN_MS);
  }
  if (subscription.status === 'paused') {
    return postpone('subscription_paused', nowMs + LOOK_AGAIN_MS);
  }
  if (step === null) {
    return nowMs - Date.parse(dunning.failed_at) < WATCHED_MAX_MS
      ? postpone('nothing_left', nowMs + LOOK_AGAIN_MS)
      : { action: 'keep', reason: 'given_up' };
  }
  const planned = Date.parse(step.due_at);
  const retry = invoice?.next_payment_attempt ? Date.parse(invoice.next_payment_attempt) : null;
  const retries = retry !== null && retry > nowMs - RETRY_MARGIN_MS;
  const afterRetry = Math.max(retry ?? 0, nowMs) + RETRY_MARGIN_MS;
  if (step.action === 'mail') {
    const near = retries && (retry ?? 0) <= nowMs + RETRY_SOON_MS;
    return near && nowMs < planned + MAIL_POSTPONED_MAX_MS
      ? postpone('retry_soon', afterRetry)
      : { action: 'mail', reason: `day ${step.day}` };
  }
  if (!LATE.has(subscription.status)) return { action: 'keep', reason: 'subscription_in_order' };
  return retries && nowMs < planned + policy.waitForRetriesDays * DAY_MS
    ? postpone(
        'retry_scheduled',
        Math.min(afterRetry, planned + policy.waitForRetriesDays * DAY_MS),
      )
    : { action: 'cancel', reason: `day ${step.day}` };
}
