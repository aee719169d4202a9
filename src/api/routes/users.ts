import { putUser } from '../contract/users.ts';
import { defineRoute } from '../defineRoute.ts';

export const userRoutes = [
  defineRoute(putUser, async ({ credits }, { params, body }) => ({
    body: await credits.ensureUser({
      userId: params.userId,
      email: body.email,
      stripeCustomerId: body.stripe_customer_id,
      // The app's own word about its user counts, also over what Stripe or a token said before.
      replace: true,
    }),
  })),
];
