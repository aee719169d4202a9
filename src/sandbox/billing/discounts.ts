import { add, type Context, seconds } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { emit } from '../events.ts';
import type { CouponView } from '../resources/coupons.ts';
import { coupons, discounts, promotionCodes } from '../tables.ts';
import { addMonths } from './calendar.ts';
import { share, split } from './proration.ts';

export type DiscountView = {
  id: string;
  object: 'discount';
  checkout_session: string | null;
  customer: string;
  customer_account: null;
  end: number | null;
  invoice: string | null;
  invoice_item: null;
  promotion_code: string | null;
  source: { coupon: string; type: 'coupon' };
  start: number;
  subscription: string | null;
  subscription_item: null;
};

/** As callers name a discount: exactly one of the three. */
export interface DiscountChoice {
  readonly coupon?: string | undefined;
  readonly promotion_code?: string | undefined;
  readonly discount?: string | undefined;
}

/** The coupon behind a choice, and whether it may be used. @throws ApiError */
export function chooseCoupon(
  ctx: Context,
  choice: DiscountChoice,
  path: string,
): { coupon: CouponView; promotionCode: string | null } {
  if (choice.promotion_code === undefined) {
    const id = choice.coupon ?? '';
    const coupon = ctx.store.get(coupons, id)?.view;
    if (!coupon) throw noSuch('coupon', id, `${path}[coupon]`, 400);
    return { coupon: usable(ctx, coupon, `${path}[coupon]`), promotionCode: null };
  }
  const param = `${path}[promotion_code]`;
  const code = ctx.store.get(promotionCodes, choice.promotion_code)?.view;
  if (!code) throw noSuch('promotion code', choice.promotion_code, param, 400);
  const spent = code.max_redemptions !== null && code.times_redeemed >= code.max_redemptions;
  const late = code.expires_at !== null && code.expires_at <= seconds(ctx);
  if (!code.active || spent || late) {
    throw badRequest('This promotion code is no longer valid.', {
      param,
      code: 'resource_missing',
    });
  }
  const coupon = ctx.store.get(coupons, code.promotion.coupon)?.view;
  if (!coupon) throw noSuch('coupon', code.promotion.coupon, param, 400);
  return { coupon: usable(ctx, coupon, param), promotionCode: code.id };
}

function usable(ctx: Context, coupon: CouponView, param: string): CouponView {
  if (coupon.valid && (coupon.redeem_by === null || coupon.redeem_by > seconds(ctx))) return coupon;
  throw badRequest(`Coupon expired or used up: ${coupon.id}`, { param, code: 'coupon_expired' });
}

/** Redeems a coupon for a subscription or an invoice. */
export function createDiscount(
  ctx: Context,
  given: {
    coupon: CouponView;
    promotionCode: string | null;
    customer: string;
    subscription?: string | null;
    invoice?: string | null;
    checkoutSession?: string | null;
    currency: string;
  },
): DiscountView {
  const { coupon } = given;
  if (coupon.currency !== null && coupon.currency !== given.currency) {
    throw badRequest(
      `The coupon ${coupon.id} takes off ${coupon.currency} and cannot be used for ${given.currency}.`,
      { param: 'discounts' },
    );
  }
  const now = seconds(ctx);
  const { view } = add(
    ctx,
    discounts,
    {
      id: ctx.newId('di_'),
      object: 'discount',
      checkout_session: given.checkoutSession ?? null,
      customer: given.customer,
      customer_account: null,
      end: coupon.duration_in_months === null ? null : addMonths(now, coupon.duration_in_months),
      invoice: given.invoice ?? null,
      invoice_item: null,
      promotion_code: given.promotionCode,
      source: { coupon: coupon.id, type: 'coupon' },
      start: now,
      subscription: given.subscription ?? null,
      subscription_item: null,
    },
    {},
  );
  redeemCoupon(ctx, coupon, given.promotionCode);
  // A discount of one invoice is no discount of the customer.
  if (view.subscription !== null) emit(ctx, 'customer.discount.created', view);
  return view;
}

/** Counts a use, against the limits of the coupon and of the code it was chosen by. */
export function redeemCoupon(ctx: Context, coupon: CouponView, promotionCode: string | null): void {
  const times = coupon.times_redeemed + 1;
  ctx.store.patch(coupons, coupon.id, {
    times_redeemed: times,
    valid: coupon.max_redemptions === null || times < coupon.max_redemptions,
  });
  if (promotionCode === null) return;
  const code = ctx.store.get(promotionCodes, promotionCode)?.view;
  if (code) {
    ctx.store.patch(promotionCodes, code.id, { times_redeemed: code.times_redeemed + 1 });
  }
}

/** The discounts of these ids that still hold at `at` (seconds), with their coupons. */
export function activeDiscounts(
  ctx: Context,
  ids: readonly string[],
  at: number,
): { discount: DiscountView; coupon: CouponView }[] {
  return ids.flatMap((id) => {
    const discount = ctx.store.get(discounts, id)?.view;
    const coupon = discount ? ctx.store.get(coupons, discount.source.coupon)?.view : undefined;
    if (!discount || !coupon || (discount.end !== null && discount.end <= at)) return [];
    return [{ discount, coupon }];
  });
}

/** Ends a discount of a subscription: replaced, removed, or used up. */
export function endDiscount(ctx: Context, id: string): void {
  const discount = ctx.store.get(discounts, id)?.view;
  if (discount) emit(ctx, 'customer.discount.deleted', discount);
}

interface Discountable {
  readonly amount: number;
  readonly discountable: boolean;
  readonly product: string | null;
}

/**
 * What each discount takes off each line, one discount after the other. Lines keep their amount;
 * fixed amounts are shared between the lines in proportion and never exceed what is left of them.
 */
export function discountAmounts(
  lines: readonly Discountable[],
  applied: readonly { discount: { id: string }; coupon: CouponView }[],
): { discount: string; amount: number }[][] {
  const left = lines.map((line) => Math.max(0, line.amount));
  const result: { discount: string; amount: number }[][] = lines.map(() => []);
  for (const { discount, coupon } of applied) {
    const weights = lines.map((line, at) =>
      line.discountable && fits(coupon, line.product) ? (left[at] ?? 0) : 0,
    );
    const whole = weights.reduce((sum, weight) => sum + weight, 0);
    const parts =
      coupon.percent_off === null
        ? split(Math.min(coupon.amount_off ?? 0, whole), weights)
        : weights.map((weight) =>
            share(weight, Math.round((coupon.percent_off ?? 0) * 100), 10_000),
          );
    parts.forEach((amount, at) => {
      if ((weights[at] ?? 0) === 0) return;
      left[at] = (left[at] ?? 0) - amount;
      result[at]?.push({ discount: discount.id, amount });
    });
  }
  return result;
}

function fits(coupon: CouponView, product: string | null): boolean {
  const only = coupon.applies_to?.products;
  return only === undefined || (product !== null && only.includes(product));
}

/** A net amount, for prorations: their discount is included in the amount and not itemised. */
export function afterDiscounts(
  line: Discountable,
  applied: readonly { discount: { id: string }; coupon: CouponView }[],
): number {
  const [taken = []] = discountAmounts([line], applied);
  return line.amount - taken.reduce((sum, { amount }) => sum + amount, 0);
}
