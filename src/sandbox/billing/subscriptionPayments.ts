import type { Context } from '../context.ts';
import type { InvoiceView } from '../resources/invoiceView.ts';
import type { PaymentMethodView } from '../resources/paymentMethods.ts';
import { invoices, subscriptions } from '../tables.ts';
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

/**
 * An automatic payment failed: the subscription is late. One that waits for its start stays so, and
 * an older invoice says nothing when a newer one was finalised.
 */
export function tellOverdue(
  ctx: Context,
  invoice: InvoiceView,
  status: 'past_due' | 'unpaid' = 'past_due',
): void {
  const id = invoice.parent?.subscription_details.subscription ?? '';
  const subscription = ctx.store.get(subscriptions, id)?.view;
  if (!subscription || hasEnded(subscription)) return;
  const latest = ctx.store.get(invoices, subscription.latest_invoice ?? '')?.view;
  if (latest && latest.id !== invoice.id && latest.status !== 'draft') return;
  const from = status === 'past_due' ? ['active', 'trialing'] : ['active', 'trialing', 'past_due'];
  if (from.includes(subscription.status)) updateSubscription(ctx, id, { status });
}

/** A card that paid becomes the subscription's own where it asks for that. */
export function keepMethod(ctx: Context, invoice: InvoiceView, method: PaymentMethodView): void {
  const id = invoice.parent?.subscription_details.subscription ?? '';
  const subscription = ctx.store.get(subscriptions, id)?.view;
  if (!subscription || hasEnded(subscription) || method.customer !== subscription.customer) return;
  if (subscription.payment_settings.save_default_payment_method !== 'on_subscription') return;
  updateSubscription(ctx, id, { default_payment_method: method.id });
}
