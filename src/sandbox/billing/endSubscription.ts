import { type Context, seconds } from '../context.ts';
import { emit } from '../events.ts';
import type { CancellationDetails, SubscriptionView } from '../resources/subscriptionView.ts';
import { invoices } from '../tables.ts';
import { unschedule } from '../tasks.ts';
import { updateInvoice } from './finalizeInvoice.ts';
import { findSubscription, patchSubscription } from './subscriptionState.ts';

/** Nothing more becomes due for it. */
export function unscheduleSubscription(ctx: Context, id: string): void {
  unschedule(ctx, 'renew_subscription', id);
  unschedule(ctx, 'trial_will_end', id);
  unschedule(ctx, 'expire_incomplete', id);
  unschedule(ctx, 'resume_collection', id);
  unschedule(ctx, 'cancel_subscription', id);
}

/** Ends it now, as `customer.subscription.deleted` tells. Its open invoices are no longer collected. */
export function endSubscription(
  ctx: Context,
  id: string,
  details: Partial<CancellationDetails>,
): SubscriptionView {
  const before = findSubscription(ctx, id);
  const now = seconds(ctx);
  unscheduleSubscription(ctx, id);
  const ended = patchSubscription(ctx, id, {
    canceled_at: before.cancel_at_period_end ? before.canceled_at : now,
    cancellation_details: { ...before.cancellation_details, ...details },
    ended_at: now,
    pause_collection: null,
    status: 'canceled',
    status_details: undefined,
  });
  emit(ctx, 'customer.subscription.deleted', ended);
  for (const { view } of ctx.store.lookUp(invoices, 'subscription', id)) {
    if (view.status !== 'open' && view.status !== 'draft') continue;
    unschedule(ctx, 'retry_invoice', view.id);
    unschedule(ctx, 'finalize_invoice', view.id);
    updateInvoice(ctx, view.id, {
      auto_advance: false,
      automatically_finalizes_at: null,
      next_payment_attempt: null,
    });
  }
  return ended;
}
