import { callStripe } from '../../checkout/stripeErrors.ts';
import { readMember, readMetadata } from '../../core/stripeFields.ts';
import { paymentStateOf } from '../paymentState.ts';
import type { Handler } from './handler.ts';

/**
 * succeeded grants nothing: its session or invoice does, and they may not have come yet. A payment
 * that is known already is brought up to date.
 */
export const paymentSucceeded: Handler = async (deps, event) => {
  const { effects, known } = await paymentStateOf(deps, event.objectId);
  if (known) return effects;
  return [
    { kind: 'ignore', reason: 'nothing is known of the payment; its session or invoice grants' },
  ];
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
