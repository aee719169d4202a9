import type { Context } from '../context.ts';
import type { InvoiceView } from '../resources/invoiceView.ts';
import { subscriptions } from '../tables.ts';
import { unschedule } from '../tasks.ts';
import { planSubscription } from './planSubscription.ts';
import { hasEnded, updateSubscription } from './subscriptionState.ts';

/** What a paid invoice does to the status of its subscription. */
export function settleSubscription(ctx: Context, invoice: InvoiceView): void {
  const id = invoice.parent?.subscription_details.subscription;
  const subscription = ctx.store.get(subscriptions, id ?? '')?.view;
  if (!subscription || hasEnded(subscription)) return;
  const latest = subscription.latest_invoice === invoice.id;
  switch (subscription.status) {
    case 'incomplete':
      if (invoice.billing_reason !== 'subscription_create') return;
      unschedule(ctx, 'expire_incomplete', subscription.id);
      updateSubscription(ctx, subscription.id, { status: 'active' });
      return;
    // Only the newest invoice counts: an older one may stay open while the service goes on.
    case 'past_due':
    case 'unpaid':
      if (latest) updateSubscription(ctx, subscription.id, { status: 'active' });
      return;
    case 'paused':
      if (ctx.store.get(subscriptions, subscription.id)?.hidden.resuming_invoice === invoice.id) {
        activate(ctx, subscription.id);
      }
      return;
    default:
  }
}

/** Ends a pause. */
export function activate(ctx: Context, id: string): void {
  ctx.store.patch(subscriptions, id, {}, { resuming_invoice: null });
  const active = updateSubscription(ctx, id, { status: 'active', status_details: undefined }, [
    'customer.subscription.updated',
    'customer.subscription.resumed',
  ]);
  planSubscription(ctx, active);
}

/** An automatic payment failed: the subscription is late. One that waits for its start stays so. */
export function tellOverdue(
  ctx: Context,
  id: string,
  status: 'past_due' | 'unpaid' = 'past_due',
): void {
  const subscription = ctx.store.get(subscriptions, id)?.view;
  if (!subscription || hasEnded(subscription)) return;
  const from = status === 'past_due' ? ['active', 'trialing'] : ['active', 'trialing', 'past_due'];
  if (from.includes(subscription.status)) updateSubscription(ctx, id, { status });
}
