import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import { userIdSchema } from './primitives.ts';

export const putUser = declareRoute({
  id: 'putUser',
  method: 'put',
  path: '/api/users/:userId',
  tag: 'Users',
  summary: 'Create or update a user',
  description:
    'Also resolves purchases that were parked because the user was unknown. Repeating it changes nothing.',
  auth: 'service',
  params: z.strictObject({ userId: userIdSchema }),
  query: z.strictObject({}),
  body: z
    .strictObject({
      email: z
        .email('must be an e-mail address')
        .max(254, 'must not be longer than 254 characters'),
      stripe_customer_id: z
        .string()
        .regex(/^cus_\w{1,200}$/, 'must be the id of a Stripe customer (cus_...)')
        .optional(),
    })
    .meta({ id: 'UserRequest' }),
  responses: {
    200: {
      description: 'The user.',
      body: z
        .object({
          user_id: z.string(),
          email: z.string().nullable(),
          stripe_customer_id: z.string().nullable(),
          created: z.boolean(),
        })
        .meta({ id: 'User' }),
    },
  },
  errors: ['user_not_found', 'dependency_down'],
});
