import type { Context } from './context.ts';
import { emit } from './events.ts';
import { type ChargeView, createCharge, type Refusal } from './resources/charges.ts';
import { moveIntent, type PaymentIntentView } from './resources/paymentIntents.ts';
import type { PaymentMethodView } from './resources/paymentMethods.ts';

/** One attempt to take the money of an intent, told in Stripe's order. */
export function chargeIntent(
  ctx: Context,
  intent: PaymentIntentView,
  method: PaymentMethodView,
  refusal: Refusal | null,
): ChargeView {
  if (refusal === null) {
    const charge = createCharge(ctx, intent, method, { status: 'succeeded' });
    succeedIntent(ctx, intent, charge);
    return charge;
  }
  const charge = createCharge(ctx, intent, method, { status: 'failed', refusal });
  emit(ctx, 'charge.failed', charge);
  refuseIntent(ctx, intent, charge, method, refusal);
  return charge;
}

export function succeedIntent(ctx: Context, intent: PaymentIntentView, charge: ChargeView): void {
  emit(ctx, 'charge.succeeded', charge);
  moveIntent(
    ctx,
    intent.id,
    {
      amount: intent.amount,
      amount_received: intent.amount,
      last_payment_error: null,
      latest_charge: charge.id,
      next_action: null,
      payment_method: charge.payment_method,
      status: 'succeeded',
    },
    'payment_intent.succeeded',
  );
}

export function refuseIntent(
  ctx: Context,
  intent: PaymentIntentView,
  charge: ChargeView,
  method: PaymentMethodView,
  refusal: Refusal,
): void {
  const { decline_code, ...error } = refusal;
  moveIntent(
    ctx,
    intent.id,
    {
      amount: intent.amount,
      latest_charge: charge.id,
      next_action: null,
      payment_method: null,
      status: 'requires_payment_method',
      last_payment_error: {
        ...error,
        ...(decline_code === null ? {} : { decline_code }),
        type: method.type === 'card' ? 'card_error' : 'invalid_request_error',
        charge: charge.id,
        payment_method: method,
      },
    },
    'payment_intent.payment_failed',
  );
}
