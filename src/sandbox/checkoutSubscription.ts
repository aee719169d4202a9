import { takeFailure } from './billing/nextFailures.ts';
import { subscribe } from './billing/subscribe.ts';
import { isCardNumber, testCard } from './cards.ts';
import type { Purchase } from './checkout.ts';
import { billingOf, ensureCustomer } from './checkoutBuyer.ts';
import { type Context, seconds } from './context.ts';
import { badRequest } from './errors.ts';
import { emit } from './events.ts';
import { chargeIntent } from './payments.ts';
import type { Refusal } from './resources/charges.ts';
import { findSession } from './resources/checkoutSessions.ts';
import { asksForMethod } from './resources/checkoutTotals.ts';
import { findCoupon } from './resources/coupons.ts';
import { findCustomer } from './resources/customers.ts';
import { createPaymentIntent, findPaymentIntent, moveIntent } from './resources/paymentIntents.ts';
import { createCard } from './resources/paymentMethodRoutes.ts';
import { sessions } from './tables.ts';

const DAY_SECONDS = 86_400;
const DEFAULT_CARD = '4242424242424242';

/**
 * The buyer's card is saved and the subscription starts, paid or in its trial. A refused card leaves
 * the session open and makes no subscription.
 */
export function buySubscription(
  ctx: Context,
  id: string,
  given: Purchase,
): { refusal: Refusal | null } {
  const { view } = findSession(ctx, id);
  if (given.method !== 'card') {
    throw badRequest(`This Checkout Session does not offer ${given.method}.`, { param: 'method' });
  }
  const customer = ensureCustomer(ctx, id);
  if (customer === null) throw new Error('A subscription session has a customer.');
  const due = view.amount_total ?? 0;
  if (!asksForMethod(view, due)) {
    start(ctx, id, customer, null);
    return { refusal: null };
  }
  const number = given.cardNumber ?? DEFAULT_CARD;
  if (!isCardNumber(number)) throw badRequest('Your card number is invalid.', { param: 'card' });
  const card = testCard(number);
  const refusal = takeFailure(ctx, customer) ?? (due > 0 || !card.attaches ? card.refusal : null);
  const billing = billingOf(findSession(ctx, id).view);
  const method = createCard(ctx, number, refusal ? null : customer, {
    billing,
    ...(given.expMonth === undefined ? {} : { expMonth: given.expMonth }),
    ...(given.expYear === undefined ? {} : { expYear: given.expYear }),
  });
  if (refusal) {
    if (due > 0) decline(ctx, id, customer, method, refusal);
    return { refusal };
  }
  emit(ctx, 'payment_method.attached', method);
  start(ctx, id, customer, method.id);
  return { refusal: null };
}

function start(ctx: Context, id: string, customer: string, method: string | null): void {
  const { view, hidden } = findSession(ctx, id);
  if (hidden.declined_intent !== null) {
    moveIntent(
      ctx,
      hidden.declined_intent,
      { status: 'canceled', canceled_at: seconds(ctx), cancellation_reason: 'abandoned' },
      'payment_intent.canceled',
    );
  }
  const { subscription: data } = hidden;
  const trialEnd =
    data.trial_end ??
    (data.trial_period_days === null ? null : seconds(ctx) + data.trial_period_days * DAY_SECONDS);
  const recurring = hidden.lines.filter(({ item }) => item.price.type === 'recurring');
  const once = hidden.lines.filter(({ item }) => item.price.type === 'one_time');
  const subscription = subscribe(ctx, {
    customer: findCustomer(ctx, customer, 'customer', 400),
    currency: view.currency ?? 'usd',
    items: recurring.map(({ item }) => ({ price: item.price, quantity: item.quantity })),
    extras: once.map(({ item, unit }) => ({
      price: item.price,
      unit,
      quantity: item.quantity,
      amount: item.amount_subtotal,
    })),
    trialEnd,
    defaultPaymentMethod: method,
    description: data.description,
    metadata: data.metadata,
    missingMethod: data.missing_method,
    automaticTax: view.automatic_tax.enabled,
    discounts: hidden.discounts.map(({ coupon, promotionCode }) => ({
      coupon: findCoupon(ctx, coupon, 'discounts', 400),
      promotionCode,
    })),
    checkoutSession: id,
    onSession: true,
  });
  ctx.store.patch(sessions, id, {
    subscription: subscription.id,
    invoice: subscription.latest_invoice,
  });
}

/** Each refused try of a session is made with one intent, as a buyer who types again makes it. */
function decline(
  ctx: Context,
  id: string,
  customer: string,
  method: ReturnType<typeof createCard>,
  refusal: Refusal,
): void {
  const { view, hidden } = findSession(ctx, id);
  const intent =
    hidden.declined_intent === null
      ? createPaymentIntent(ctx, {
          amount: view.amount_total ?? 0,
          currency: view.currency ?? 'usd',
          customer,
          methods: ['card'],
          data: { ...hidden.payment, description: 'Subscription creation' },
        })
      : findPaymentIntent(ctx, hidden.declined_intent);
  ctx.store.patch(sessions, id, {}, { declined_intent: intent.id });
  chargeIntent(ctx, { ...intent, amount: view.amount_total ?? 0 }, method, refusal);
}
