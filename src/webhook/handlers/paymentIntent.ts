import { callStripe } from '../../checkout/stripeErrors.ts';
import { readMember, readMetadata } from '../../core/stripeFields.ts';
import { knownAs, paymentStateOf } from '../paymentState.ts';
import type { Handler } from './handler.ts';

/**
 * succeeded grants nothing: its session or invoice does, and says then what was paid. So it tells
 * something new only of a payment that is known as failed. Of others Stripe is not even asked, for
 * each renewal sends one.
 */
export const paymentSucceeded: Handler = async (deps, event) => {
  const known = await knownAs(deps, event.objectId);
  if (known === 'unpaid') return (await paymentStateOf(deps, event.objectId)).effects;
  const reason =
    known === 'paid'
      ? 'the payment is known as paid'
      : 'nothing is known of the payment; its session or invoice grants';
  return [{ kind: 'ignore', reason }];
};

/** payment_failed: the row says so (paid 0, unless another attempt has succeeded since). */
export const paymentFailed: Handler = async (deps, event) => {
  const { effects, userId } = await paymentStateOf(deps, event.objectId);
  const intent =
    event.object ?? (await callStripe(() => deps.stripe.paymentIntents.retrieve(event.objectId)));
  return [
    ...effects,
    {
      kind: 'audit',
      action: 'payment_failed',
      user_id: userId ?? readMetadata(intent).userId ?? null,
      reason: null,
      after: {
        payment: event.objectId,
        code: readMember(intent, 'last_payment_error', 'code') ?? null,
        decline_code: readMember(intent, 'last_payment_error', 'decline_code') ?? null,
      },
    },
  ];
};
