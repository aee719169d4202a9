import { chooseCoupon, redeemCoupon } from './billing/discounts.ts';
import { draftSessionInvoice, paySessionInvoice } from './billing/sessionInvoice.ts';
import { BANK_ACCOUNTS, TEST_ROUTING_NUMBER, testCard } from './cards.ts';
import { billingOf, EMPTY_ADDRESS, ensureCustomer } from './checkoutBuyer.ts';
import { buySubscription } from './checkoutSubscription.ts';
import type { Context } from './context.ts';
import { badRequest } from './errors.ts';
import { emit } from './events.ts';
import { chargeIntent, refuseIntent, succeedIntent } from './payments.ts';
import { createCharge, outcomeOf, type Refusal, settleCharge } from './resources/charges.ts';
import { type Line, withQuantity } from './resources/checkoutLines.ts';
import {
  expireSession,
  findSession,
  type SessionHidden,
  startsTrial,
} from './resources/checkoutSessions.ts';
import { sumsOf, withDiscounts } from './resources/checkoutTotals.ts';
import type { SessionView } from './resources/checkoutView.ts';
import { findCoupon } from './resources/coupons.ts';
import {
  createPaymentIntent,
  findPaymentIntent,
  moveIntent,
  type PaymentIntentView,
} from './resources/paymentIntents.ts';
import {
  createPaymentMethod,
  type PaidWith,
  type PaymentMethodView,
} from './resources/paymentMethods.ts';
import { findByCode } from './resources/promotionCodes.ts';
import { charges, paymentMethods, sessions } from './tables.ts';
import { schedule, type TaskHandlers, unschedule } from './tasks.ts';

/** What the buyer does on the page; the control API does the same without one. */
export interface Purchase {
  readonly method: 'card' | 'us_bank_account';
  /** Digits; the test card's number decides the outcome. */
  readonly cardNumber?: string;
  readonly expMonth?: number;
  readonly expYear?: number;
  /** Digits of a test bank account; it decides how the debit ends. */
  readonly bankAccount?: string;
  readonly email?: string;
  readonly name?: string;
  readonly country?: string;
  /** Typed by the buyer, where the session allows promotion codes. */
  readonly promotionCode?: string;
  /** Chosen quantities by line item id, where the session lets them be changed. */
  readonly quantities?: Readonly<Record<string, number>>;
}

type PurchaseResult =
  | { readonly outcome: 'complete'; readonly session: SessionView }
  | { readonly outcome: 'declined'; readonly session: SessionView; readonly refusal: Refusal };

/**
 * The buyer presses Pay. A declined card leaves the session open for another try.
 * @throws ApiError when the session is not open or what was typed is wrong; nothing is changed then.
 */
export function purchase(ctx: Context, id: string, given: Purchase): PurchaseResult {
  const before = findSession(ctx, id);
  if (before.view.status !== 'open') {
    throw badRequest(`This Checkout Session is ${before.view.status} and cannot be paid.`);
  }
  const discounts = typedDiscounts(ctx, before, given.promotionCode);
  const chosen = chosenLines(before.hidden.lines, given.quantities ?? {});
  const lines = withDiscounts(ctx, chosen, discounts);
  const sums = sumsOf(lines, startsTrial(before.hidden));
  const total = sums.amount_total;
  const email = given.email ?? before.view.customer_details?.email ?? null;
  if (email === null) {
    throw badRequest('An e-mail address is needed.', { param: 'email', code: 'parameter_missing' });
  }
  ctx.store.patch(
    sessions,
    id,
    {
      ...sums,
      discounts: discounts.map(({ coupon, promotionCode }) => ({
        coupon: promotionCode === null ? coupon : null,
        promotion_code: promotionCode,
      })),
      customer_details: {
        address: { ...EMPTY_ADDRESS, country: given.country ?? 'US' },
        business_name: null,
        email,
        individual_name: null,
        name: given.name ?? null,
        phone: null,
        tax_exempt: 'none',
        tax_ids: [],
      },
    },
    { lines, discounts },
  );
  if (before.view.mode === 'subscription') {
    const result = buySubscription(ctx, id, given);
    if (result.refusal) {
      return { outcome: 'declined', session: findSession(ctx, id).view, refusal: result.refusal };
    }
    return {
      outcome: 'complete',
      session: complete(ctx, id, total === 0 ? 'no_payment_required' : 'paid'),
    };
  }
  if (total === 0) {
    ensureCustomer(ctx, id);
    return { outcome: 'complete', session: complete(ctx, id, 'no_payment_required') };
  }
  if (!before.view.payment_method_types.includes(given.method)) {
    throw badRequest(`This Checkout Session does not offer ${given.method}.`, { param: 'method' });
  }
  return given.method === 'card' ? payByCard(ctx, id, given) : payByBank(ctx, id, given);
}

/** The bank has answered: what was `unpaid` becomes paid, or stays so for good. */
export function settle(ctx: Context, id: string, refusal?: Refusal | null): SessionView {
  const { view, hidden } = findSession(ctx, id);
  if (!hidden.settlement || view.payment_intent === null) {
    throw badRequest('No bank debit is on its way for this Checkout Session.');
  }
  unschedule(ctx, 'settle_session', id);
  ctx.store.patch(sessions, id, {}, { settlement: null });
  const intent = findPaymentIntent(ctx, view.payment_intent);
  const failed = refusal === undefined ? hidden.settlement.refusal : refusal;
  if (failed) {
    failPayment(ctx, intent, failed);
    emit(ctx, 'checkout.session.async_payment_failed', view);
    return view;
  }
  succeedIntent(ctx, intent, settleCharge(ctx, String(intent.latest_charge)));
  const invoice = draftFor(ctx, id);
  const paid = ctx.store.patch(sessions, id, { payment_status: 'paid', invoice }).view;
  emit(ctx, 'checkout.session.async_payment_succeeded', paid);
  if (invoice !== null) paySessionInvoice(ctx, invoice, intent.id);
  return paid;
}

export const checkoutTasks = {
  expire_session: (ctx, id) => void expireSession(ctx, id),
  settle_session: (ctx, id) => void settle(ctx, id),
} satisfies Partial<TaskHandlers>;

function payByCard(ctx: Context, id: string, given: Purchase): PurchaseResult {
  const number = given.cardNumber ?? '4242424242424242';
  const { brand, funding, refusal } = testCard(number);
  const expYear = given.expYear ?? new Date(ctx.now()).getUTCFullYear() + 4;
  const { intent, method } = begin(ctx, id, {
    type: 'card',
    card: {
      brand,
      funding,
      last4: number.slice(-4),
      exp_month: given.expMonth ?? 12,
      exp_year: expYear,
    },
  });
  chargeIntent(ctx, intent, method, refusal);
  if (refusal) return { outcome: 'declined', session: findSession(ctx, id).view, refusal };
  return { outcome: 'complete', session: complete(ctx, id, 'paid') };
}

function payByBank(ctx: Context, id: string, given: Purchase): PurchaseResult {
  const account = given.bankAccount ?? '000123456789';
  const refusal = BANK_ACCOUNTS[account];
  if (refusal === undefined) {
    throw badRequest(
      `Not a test bank account: use one of ${Object.keys(BANK_ACCOUNTS).join(', ')}.`,
      { param: 'bank_account' },
    );
  }
  const { intent, method } = begin(ctx, id, {
    type: 'us_bank_account',
    us_bank_account: { last4: account.slice(-4), routing_number: TEST_ROUTING_NUMBER },
  });
  const charge = createCharge(ctx, intent, method, { status: 'pending' });
  emit(ctx, 'charge.pending', charge);
  moveIntent(
    ctx,
    intent.id,
    {
      status: 'processing',
      payment_method: method.id,
      latest_charge: charge.id,
      last_payment_error: null,
    },
    'payment_intent.processing',
  );
  ctx.store.patch(sessions, id, {}, { settlement: { refusal } });
  schedule(ctx, 'settle_session', id, ctx.now() + ctx.settleDelayMs);
  return { outcome: 'complete', session: complete(ctx, id, 'unpaid') };
}

/** The customer, the intent (the one of a declined attempt is used again) and how it is paid. */
function begin(
  ctx: Context,
  id: string,
  paidWith: PaidWith,
): { intent: PaymentIntentView; method: PaymentMethodView } {
  const customer = ensureCustomer(ctx, id);
  const { view, hidden } = findSession(ctx, id);
  const method = createPaymentMethod(
    ctx,
    paidWith,
    billingOf(view),
    hidden.payment.setup_future_usage === null ? null : customer,
  );
  const present = view.payment_intent;
  const intent =
    present === null
      ? createPaymentIntent(ctx, {
          amount: view.amount_total,
          currency: view.currency ?? 'usd',
          customer,
          methods: view.payment_method_types,
          data: hidden.payment,
        })
      : findPaymentIntent(ctx, present);
  ctx.store.patch(sessions, id, { payment_intent: intent.id });
  return { intent: { ...intent, amount: view.amount_total }, method };
}

function failPayment(ctx: Context, intent: PaymentIntentView, refusal: Refusal): void {
  const { view: charge } = ctx.store.patch(charges, String(intent.latest_charge), {
    status: 'failed',
    paid: false,
    captured: false,
    amount_captured: 0,
    failure_code: refusal.code,
    failure_message: refusal.message,
    outcome: outcomeOf('failed', refusal),
  });
  const method = ctx.store.get(paymentMethods, charge.payment_method)?.view;
  if (!method) throw new Error(`The sandbox has no payment method ${charge.payment_method}.`);
  emit(ctx, 'charge.failed', charge);
  refuseIntent(ctx, intent, charge, method, refusal);
}

function complete(
  ctx: Context,
  id: string,
  paymentStatus: SessionView['payment_status'],
): SessionView {
  unschedule(ctx, 'expire_session', id);
  // A delayed payment gets its invoice when the money has come.
  const before = findSession(ctx, id).view;
  const paysInvoice = before.mode === 'payment' && paymentStatus !== 'unpaid';
  const drafted = paysInvoice ? draftFor(ctx, id) : null;
  if (before.mode === 'payment' && drafted === null) redeemDiscounts(ctx, id);
  const { view } = ctx.store.patch(sessions, id, {
    automatic_tax: {
      ...before.automatic_tax,
      status: before.automatic_tax.enabled ? 'complete' : null,
    },
    invoice: drafted ?? before.invoice,
    payment_status: paymentStatus,
    status: 'complete',
    url: null,
  });
  emit(ctx, 'checkout.session.completed', view);
  if (drafted !== null) paySessionInvoice(ctx, drafted, view.payment_intent);
  return view;
}

/** Without an invoice there is no discount object; its coupon is used all the same. */
function redeemDiscounts(ctx: Context, id: string): void {
  for (const { coupon, promotionCode } of findSession(ctx, id).hidden.discounts) {
    redeemCoupon(ctx, findCoupon(ctx, coupon, 'discounts', 400), promotionCode);
  }
}

function draftFor(ctx: Context, id: string): string | null {
  const { view, hidden } = findSession(ctx, id);
  if (!view.invoice_creation?.enabled || view.customer === null) return null;
  return draftSessionInvoice(ctx, view, hidden.lines, hidden.discounts, view.customer).id;
}

function typedDiscounts(
  ctx: Context,
  { view, hidden }: ReturnType<typeof findSession>,
  typed: string | undefined,
): SessionHidden['discounts'] {
  if (typed === undefined || typed === '') return hidden.discounts;
  const code = view.allow_promotion_codes ? findByCode(ctx, typed) : undefined;
  if (!code) {
    throw badRequest(`This promotion code is not valid: ${typed}`, { param: 'promotion_code' });
  }
  const { coupon, promotionCode } = chooseCoupon(ctx, { promotion_code: code.id }, 'discounts[0]');
  return [{ coupon: coupon.id, promotionCode }];
}

function chosenLines(lines: readonly Line[], quantities: Readonly<Record<string, number>>): Line[] {
  return lines.map((line) => {
    const wanted = quantities[line.item.id];
    if (wanted === undefined || wanted === line.item.quantity) return line;
    const allowed = line.item.adjustable_quantity;
    const { minimum, maximum } = allowed ?? {};
    if (
      !allowed?.enabled ||
      !Number.isInteger(wanted) ||
      wanted < Math.max(1, minimum ?? 0) ||
      wanted > (maximum ?? 0)
    ) {
      throw badRequest(`The quantity of ${line.item.description} cannot be ${wanted}.`, {
        param: `quantity[${line.item.id}]`,
      });
    }
    return withQuantity(line, wanted);
  });
}

/** For the page and the control API. */
export function successUrl(session: SessionView): string | null {
  return session.success_url?.replaceAll('{CHECKOUT_SESSION_ID}', session.id) ?? null;
}
