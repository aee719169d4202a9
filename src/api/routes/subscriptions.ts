import { getSubscription, getUserSubscription } from '../contract/subscriptions.ts';
import { defineRoute } from '../defineRoute.ts';

export const subscriptionRoutes = [
  defineRoute(getSubscription, async ({ subscriptions }, { caller }) => ({
    body: await subscriptions.state(caller.userId),
  })),

  defineRoute(getUserSubscription, async ({ subscriptions }, { params }) => ({
    body: await subscriptions.state(params.userId),
  })),
];
