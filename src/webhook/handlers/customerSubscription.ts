import { subscriptionCanceled, trialEnding } from '../../subscriptions/mails.ts';
import { effectsOfSubscription } from '../../subscriptions/settleSubscription.ts';
import type { Handler } from './handler.ts';

/** customer.subscription.*: whatever happened, its state at Stripe now is what counts. */
export const subscriptionChanged: Handler = async (deps, event) => {
  const { reading, effects } = await effectsOfSubscription(deps, event.objectId);
  return [
    ...effects,
    ...(event.type === 'customer.subscription.deleted' ? subscriptionCanceled(reading) : []),
    { kind: 'stripe_changed', event_type: event.type, object_id: event.objectId },
  ];
};

/** trial_will_end: three days before, or at once for a shorter trial. */
export const trialWillEnd: Handler = async (deps, event) => {
  const { reading, effects } = await effectsOfSubscription(deps, event.objectId);
  const { trial_end: end } = reading.subscription;
  return [
    ...effects,
    ...(reading.userId === null
      ? []
      : [
          {
            kind: 'audit',
            action: 'trial_will_end',
            user_id: reading.userId,
            reason: null,
            after: {
              subscription_id: event.objectId,
              trial_end: end === null ? null : new Date(end * 1000).toISOString(),
            },
          } as const,
        ]),
    ...trialEnding(reading),
  ];
};
