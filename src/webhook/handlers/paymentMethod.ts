import { callStripe, isMissingAtStripe } from '../../checkout/stripeErrors.ts';
import { readCustomer, readMember } from '../../core/stripeFields.ts';
import type { HandledEvent, Handler, HandlerDeps } from './handler.ts';

/** attached and detached: written down for whom it belongs to, without anything of the card. */
export const paymentMethodMoved: Handler = async (deps, event) => {
  const object = event.object ?? (await fetchMethod(deps, event.objectId));
  const customerId = readCustomer(object) ?? readCustomer(event.before);
  if (customerId === null) {
    return [{ kind: 'ignore', reason: 'the payment method belongs to no customer' }];
  }
  const { user_id: userId } = await deps.db.rpc<{ user_id: string | null }>(
    'find_user_by_customer',
    { p_customer_id: customerId },
  );
  if (userId === null) {
    return [{ kind: 'ignore', reason: `the customer ${customerId} is nobody we know` }];
  }
  return [
    {
      kind: 'audit',
      action: action(event),
      user_id: userId,
      reason: null,
      after: {
        payment_method: event.objectId,
        customer: customerId,
        type: readMember(object, 'type') ?? null,
      },
    },
  ];
};

function action({ type }: HandledEvent): string {
  return type.endsWith('.detached') ? 'payment_method_detached' : 'payment_method_attached';
}

/** A detached method may be gone by the time a thin notification of it is read. */
async function fetchMethod({ stripe }: HandlerDeps, id: string): Promise<unknown> {
  try {
    return await callStripe(() => stripe.paymentMethods.retrieve(id));
  } catch (error) {
    if (isMissingAtStripe(error)) return null;
    throw error;
  }
}
