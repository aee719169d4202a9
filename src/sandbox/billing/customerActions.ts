import { type Context, seconds } from '../context.ts';
import { emit } from '../events.ts';
import { setDefault } from '../resources/customerRoutes.ts';
import { findCustomer } from '../resources/customers.ts';
import { createCard } from '../resources/paymentMethodRoutes.ts';
import { periodOf, type SubscriptionView } from '../resources/subscriptionView.ts';
import { subscriptions } from '../tables.ts';
import { findLiveSubscription, hasEnded, updateSubscription } from './subscriptionState.ts';

/** A new card: his default, and that of his subscriptions which have one of their own. */
export function changeCard(ctx: Context, id: string, number: string) {
  const { id: customer } = findCustomer(ctx, id, 'customer', 404);
  const method = createCard(ctx, number, customer);
  emit(ctx, 'payment_method.attached', method);
  for (const { view } of ctx.store.lookUp(subscriptions, 'customer', customer)) {
    if (hasEnded(view) || view.default_payment_method === null) continue;
    updateSubscription(ctx, view.id, { default_payment_method: method.id });
  }
  return { customer: setDefault(ctx, customer, method.id), payment_method: method };
}

/** The end at the period's end, planned or called off. */
export function planEnd(ctx: Context, id: string, ends: boolean): SubscriptionView {
  const before = findLiveSubscription(ctx, id);
  return updateSubscription(ctx, id, {
    cancel_at: ends ? periodOf(before).end : null,
    cancel_at_period_end: ends,
    canceled_at: ends ? seconds(ctx) : null,
    cancellation_details: {
      ...before.cancellation_details,
      reason: ends ? 'cancellation_requested' : null,
    },
  });
}
