import { add, type Context, seconds } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import { inRange, listRows } from '../listing.ts';
import { AMOUNT_MAX } from '../money.ts';
import {
  choice,
  clearable,
  currency,
  expand,
  integer,
  list,
  metadata,
  object,
  type Parsed,
  paging,
  percent,
  range,
  refused,
  text,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { coupons } from '../tables.ts';
import { applyMetadata, type Metadata, present } from './fields.ts';

export type CouponView = {
  id: string;
  object: 'coupon';
  amount_off: number | null;
  applies_to?: { products: string[] };
  created: number;
  currency: string | null;
  duration: 'forever' | 'once' | 'repeating';
  duration_in_months: number | null;
  livemode: false;
  max_redemptions: number | null;
  metadata: Metadata;
  name: string | null;
  percent_off: number | null;
  redeem_by: number | null;
  times_redeemed: number;
  valid: boolean;
};

const createParams = {
  amount_off: integer({ min: 1, max: AMOUNT_MAX }),
  applies_to: object({ products: list(text()) }),
  currency,
  currency_options: refused('make one coupon for each currency'),
  duration: choice('forever', 'once', 'repeating'),
  duration_in_months: integer({ min: 1 }),
  expand,
  id: text(200),
  max_redemptions: integer({ min: 1 }),
  metadata,
  name: text(40),
  percent_off: percent,
  redeem_by: integer(),
};

function createCoupon(ctx: Context, given: Parsed<typeof createParams>): CouponView {
  if ((given.amount_off === undefined) === (given.percent_off === undefined)) {
    throw badRequest('You must pass exactly one of percent_off or amount_off.', {
      param: 'percent_off',
    });
  }
  if (given.amount_off !== undefined && given.currency === undefined) {
    throw badRequest('You must pass currency when passing amount_off.', { param: 'currency' });
  }
  if ((given.duration === 'repeating') !== (given.duration_in_months !== undefined)) {
    throw badRequest('duration_in_months is needed for, and only for, duration=repeating.', {
      param: 'duration_in_months',
    });
  }
  const id = given.id ?? ctx.newId('', 8);
  if (ctx.store.get(coupons, id)) {
    throw badRequest('Coupon already exists.', { param: 'id', code: 'resource_already_exists' });
  }
  const { view } = add(
    ctx,
    coupons,
    {
      id,
      object: 'coupon',
      amount_off: given.amount_off ?? null,
      ...(given.applies_to?.products
        ? { applies_to: { products: given.applies_to.products } }
        : {}),
      created: seconds(ctx),
      currency: given.amount_off === undefined ? null : (given.currency ?? null),
      duration: given.duration ?? 'once',
      duration_in_months: given.duration_in_months ?? null,
      livemode: false,
      max_redemptions: given.max_redemptions ?? null,
      metadata: applyMetadata({}, given.metadata),
      name: given.name ?? null,
      percent_off: given.percent_off ?? null,
      redeem_by: given.redeem_by ?? null,
      times_redeemed: 0,
      valid: true,
    },
    { deleted: false },
  );
  emit(ctx, 'coupon.created', view);
  return view;
}

export function findCoupon(ctx: Context, id: string, param: string, status: 400 | 404): CouponView {
  const found = ctx.store.get(coupons, id);
  if (!found || found.hidden.deleted) throw noSuch('coupon', id, param, status);
  return found.view;
}

export const couponRoutes: Route[] = [
  route('POST', '/v1/coupons', createParams, createCoupon),
  route('GET', '/v1/coupons', { ...paging, created: range }, (ctx, filter) =>
    listRows(
      ctx,
      coupons,
      '/v1/coupons',
      filter,
      ({ view, hidden }) => !hidden.deleted && inRange(view.created, filter.created),
    ),
  ),
  route('GET', '/v1/coupons/:id', { expand }, (ctx, _params, ids) =>
    findCoupon(ctx, idOf(ids), 'coupon', 404),
  ),
  route(
    'POST',
    '/v1/coupons/:id',
    { currency_options: refused(), expand, metadata, name: clearable(text(40)) },
    (ctx, given, ids) => {
      const before = findCoupon(ctx, idOf(ids), 'coupon', 404);
      const { view } = ctx.store.patch(coupons, before.id, {
        ...present({ name: given.name }),
        metadata: applyMetadata(before.metadata, given.metadata),
      });
      const previous = changedAttributes(before, view);
      if (previous) emit(ctx, 'coupon.updated', view, previous);
      return view;
    },
  ),
  // What was redeemed before goes on, as at Stripe: the row stays and is no longer found.
  route('DELETE', '/v1/coupons/:id', {}, (ctx, _params, ids) => {
    const before = findCoupon(ctx, idOf(ids), 'coupon', 404);
    const gone = ctx.store.patch(coupons, before.id, { valid: false }, { deleted: true });
    emit(ctx, 'coupon.deleted', gone.view);
    return { id: before.id, object: 'coupon', deleted: true };
  }),
];
