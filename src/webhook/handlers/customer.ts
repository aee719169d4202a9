import { callStripe, isMissingAtStripe } from '../../checkout/stripeErrors.ts';
import type { Effect } from '../../credits/effects.ts';
import type { Handler, HandlerDeps } from './handler.ts';

/** customer.created and .updated: whose it is, and an e-mail address for an empty column. */
export const customerChanged: Handler = async (deps, event) => {
  const changed: Effect = {
    kind: 'stripe_changed',
    event_type: event.type,
    object_id: event.objectId,
  };
  const customer = await readCustomer(deps, event.objectId);
  if (customer === null) {
    return [{ kind: 'customer_deleted', customer_id: event.objectId }, changed];
  }
  const mapped = await deps.db.rpc<{ user_id: string | null }>('find_user_by_customer', {
    p_customer_id: event.objectId,
  });
  const userId = mapped.user_id ?? customer.userId;
  return [
    userId === null
      ? { kind: 'ignore', reason: 'the customer is nobody we know' }
      : {
          kind: 'customer',
          customer_id: event.objectId,
          user_id: userId,
          email: customer.email,
        },
    changed,
  ];
};

/** Its ledger stays; nothing more is sold to it. */
export const customerDeleted: Handler = async (_deps, event) => [
  { kind: 'customer_deleted', customer_id: event.objectId },
  { kind: 'stripe_changed', event_type: event.type, object_id: event.objectId },
];

/** Null = deleted since. */
async function readCustomer(
  { stripe }: HandlerDeps,
  customerId: string,
): Promise<{ userId: string | null; email: string | null } | null> {
  try {
    const customer = await callStripe(() => stripe.customers.retrieve(customerId));
    if (customer.deleted) return null;
    return { userId: customer.metadata.userId ?? null, email: customer.email };
  } catch (error) {
    if (isMissingAtStripe(error)) return null;
    throw error;
  }
}
