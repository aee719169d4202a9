import type { Context } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import type { SubscriptionStatus, SubscriptionView } from '../resources/subscriptionView.ts';
import { subscriptions } from '../tables.ts';

/** Where a subscription can go from where. `canceled` and `incomplete_expired` are ends. */
export const LEGAL_MOVES: Readonly<Record<SubscriptionStatus, readonly SubscriptionStatus[]>> = {
  incomplete: ['active', 'incomplete_expired', 'canceled'],
  incomplete_expired: [],
  trialing: ['active', 'past_due', 'paused', 'canceled', 'unpaid'],
  active: ['past_due', 'unpaid', 'paused', 'trialing', 'canceled'],
  past_due: ['active', 'unpaid', 'paused', 'canceled'],
  unpaid: ['active', 'paused', 'canceled'],
  paused: ['active', 'past_due', 'trialing', 'canceled'],
  canceled: [],
};

const ENDED: readonly SubscriptionStatus[] = ['canceled', 'incomplete_expired'];

export function hasEnded({ status }: SubscriptionView): boolean {
  return ENDED.includes(status);
}

/** @throws ApiError `resource_missing` */
export function findSubscription(
  ctx: Context,
  id: string,
  param = 'id',
  status: 400 | 404 = 404,
): SubscriptionView {
  const found = ctx.store.get(subscriptions, id);
  if (!found) throw noSuch('subscription', id, param, status);
  return found.view;
}

/** @throws ApiError 404 also for one that has ended, as Stripe does when it is to be changed. */
export function findLiveSubscription(ctx: Context, id: string): SubscriptionView {
  const found = findSubscription(ctx, id);
  if (hasEnded(found)) {
    throw badRequest(
      `A canceled subscription can only update its cancellation_details and metadata: ${id} is ${found.status}.`,
      { param: 'id' },
    );
  }
  return found;
}

/**
 * Changes a subscription and tells it, with the old values, unless nothing changed.
 * @throws Error for an illegal move of its status: a defect of the caller.
 */
export function updateSubscription(
  ctx: Context,
  id: string,
  change: Partial<SubscriptionView>,
  eventTypes: readonly string[] = ['customer.subscription.updated'],
): SubscriptionView {
  const before = findSubscription(ctx, id);
  assertLegal(before, change.status);
  const after = ctx.store.patch(subscriptions, id, change).view;
  const previous = changedAttributes(before, after);
  if (!previous) return before;
  for (const type of eventTypes) {
    emit(ctx, type, after, type === 'customer.subscription.updated' ? previous : undefined);
  }
  return after;
}

/** Without an event: for what another event of the same moment tells. */
export function patchSubscription(
  ctx: Context,
  id: string,
  change: Partial<SubscriptionView>,
): SubscriptionView {
  assertLegal(findSubscription(ctx, id), change.status);
  return ctx.store.patch(subscriptions, id, change).view;
}

function assertLegal(before: SubscriptionView, to: SubscriptionStatus | undefined): void {
  if (to === undefined || to === before.status || LEGAL_MOVES[before.status].includes(to)) return;
  throw new Error(`The subscription ${before.id} cannot go from ${before.status} to ${to}.`);
}
