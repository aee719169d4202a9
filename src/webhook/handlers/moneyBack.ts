import { callStripe } from '../../checkout/stripeErrors.ts';
import { readPayment } from '../../core/stripeFields.ts';
import type { Effect } from '../../credits/effects.ts';
import { grantsBehind } from '../grantsBehind.ts';
import { paymentStateOf } from '../paymentState.ts';
import type { HandledEvent, HandlerDeps } from './handler.ts';

export interface MoneyBack {
  effects: Effect[];
  /** The charge, refund or dispute, as the event shows it or Stripe does. */
  object: unknown;
  userId: string | null;
}

/**
 * What charges, refunds and disputes have in common: they are about a payment, and the payment is
 * read whole. `fetchObject` asks Stripe for the object where the event does not say which payment
 * it is about, as thin notifications never do.
 */
export async function moneyBack(
  deps: HandlerDeps,
  event: HandledEvent,
  fetchObject: () => Promise<unknown>,
): Promise<MoneyBack> {
  const told = readPayment(event.object);
  const object = told === null ? await callStripe(fetchObject) : event.object;
  const payment = told ?? readPayment(object);
  if (payment === null) return { effects: nobodysMoney(event), object, userId: null };
  const { effects, state, granted, userId } = await paymentStateOf(deps, payment);
  const wentBack = state.refunded + state.disputed > 0;
  const grants = wentBack && !granted ? await grantsBehind(deps, payment, event.createdAt) : [];
  return { effects: [...effects, ...grants], object, userId: userId ?? grants[0]?.user_id ?? null };
}

/** Money that moved for no payment we can name must not go unseen. */
function nobodysMoney(event: HandledEvent): Effect[] {
  const reason = `${event.objectId} is about no charge and no payment intent`;
  return [
    {
      kind: 'finding',
      code: 'money_without_payment',
      subject: event.objectId,
      user_id: null,
      detail: { event_id: event.id, event_type: event.type, reason },
    },
    { kind: 'ignore', reason },
  ];
}
