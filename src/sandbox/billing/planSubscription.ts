import { type Context, seconds } from '../context.ts';
import type { SubscriptionView } from '../resources/subscriptionView.ts';
import { schedule } from '../tasks.ts';

/** `trial_will_end` comes this long before, or at once when the trial is shorter. */
const TRIAL_WARNING_SECONDS = 3 * 86_400;

/** What becomes due for it by its dates. Scheduling again moves what is planned. */
export function planSubscription(ctx: Context, subscription: SubscriptionView): void {
  const { id, trial_end, status } = subscription;
  const [first] = subscription.items.data;
  if (first) schedule(ctx, 'renew_subscription', id, first.current_period_end * 1_000);
  if (status !== 'trialing' || trial_end === null) return;
  const warned = Math.max(seconds(ctx), trial_end - TRIAL_WARNING_SECONDS);
  schedule(ctx, 'trial_will_end', id, warned * 1_000);
}
