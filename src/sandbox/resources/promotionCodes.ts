import { add, type Context, seconds } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import {
  choice,
  expand,
  flag,
  integer,
  metadata,
  object,
  type Parsed,
  paging,
  range,
  refused,
  required,
  text,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { coupons, promotionCodes } from '../tables.ts';
import { findCoupon } from './coupons.ts';
import { findCustomer } from './customers.ts';
import { applyMetadata, type Metadata, present } from './fields.ts';

export type PromotionCodeView = {
  id: string;
  object: 'promotion_code';
  active: boolean;
  code: string;
  created: number;
  customer: string | null;
  customer_account: null;
  expires_at: number | null;
  livemode: false;
  max_redemptions: number | null;
  metadata: Metadata;
  promotion: { coupon: string; type: 'coupon' };
  restrictions: {
    first_time_transaction: false;
    minimum_amount: null;
    minimum_amount_currency: null;
  };
  times_redeemed: number;
};

const createParams = {
  active: flag,
  code: text(500),
  customer: text(),
  customer_account: refused(),
  expand,
  expires_at: integer(),
  max_redemptions: integer({ min: 1 }),
  metadata,
  promotion: required(object({ coupon: text(), type: required(choice('coupon')) })),
  restrictions: refused(),
};

function createPromotionCode(ctx: Context, given: Parsed<typeof createParams>): PromotionCodeView {
  const coupon = findCoupon(ctx, given.promotion.coupon ?? '', 'promotion[coupon]', 400);
  const customer =
    given.customer === undefined ? null : findCustomer(ctx, given.customer, 'customer', 400).id;
  const code = given.code ?? ctx.newId('', 8).toUpperCase();
  if (findByCode(ctx, code)) {
    throw badRequest('An active promotion code with this code already exists.', {
      param: 'code',
      code: 'resource_already_exists',
    });
  }
  const { view } = add(
    ctx,
    promotionCodes,
    {
      id: ctx.newId('promo_'),
      object: 'promotion_code',
      active: given.active ?? true,
      code,
      created: seconds(ctx),
      customer,
      customer_account: null,
      expires_at: given.expires_at ?? null,
      livemode: false,
      max_redemptions: given.max_redemptions ?? null,
      metadata: applyMetadata({}, given.metadata),
      promotion: { coupon: coupon.id, type: 'coupon' },
      restrictions: {
        first_time_transaction: false,
        minimum_amount: null,
        minimum_amount_currency: null,
      },
      times_redeemed: 0,
    },
    {},
  );
  emit(ctx, 'promotion_code.created', view);
  return view;
}

/** What a buyer types; upper and lower case are the same. */
export function findByCode(ctx: Context, code: string): PromotionCodeView | undefined {
  return [...ctx.store.walk(promotionCodes, 'newest_first')].find(
    ({ view }) => view.active && view.code.toLowerCase() === code.toLowerCase(),
  )?.view;
}

function find(ctx: Context, id: string): PromotionCodeView {
  const found = ctx.store.get(promotionCodes, id);
  if (!found) throw noSuch('promotion code', id, 'promotion_code', 404);
  return found.view;
}

export const promotionCodeExpandable: Expandable = {
  'promotion.coupon': (ctx, view) => {
    const promotion = view.promotion as { coupon?: unknown };
    return ctx.store.get(coupons, String(promotion.coupon))?.view;
  },
};

const listParams = {
  ...paging,
  active: flag,
  code: text(500),
  coupon: text(),
  created: range,
  customer: text(),
  customer_account: refused(),
};

export const promotionCodeRoutes: Route[] = [
  route('POST', '/v1/promotion_codes', createParams, createPromotionCode),
  route('GET', '/v1/promotion_codes', listParams, (ctx, filter) =>
    listRows(
      ctx,
      promotionCodes,
      '/v1/promotion_codes',
      filter,
      ({ view }) =>
        matchesFilter(filter.active, view.active) &&
        matchesFilter(filter.code?.toLowerCase(), view.code.toLowerCase()) &&
        matchesFilter(filter.coupon, view.promotion.coupon) &&
        matchesFilter(filter.customer, view.customer) &&
        inRange(view.created, filter.created),
    ),
  ),
  route('GET', '/v1/promotion_codes/:id', { expand }, (ctx, _params, ids) => find(ctx, idOf(ids))),
  route(
    'POST',
    '/v1/promotion_codes/:id',
    { active: flag, expand, metadata, restrictions: refused() },
    (ctx, given, ids) => {
      const before = find(ctx, idOf(ids));
      const { view } = ctx.store.patch(promotionCodes, before.id, {
        ...present({ active: given.active }),
        metadata: applyMetadata(before.metadata, given.metadata),
      });
      const previous = changedAttributes(before, view);
      if (previous) emit(ctx, 'promotion_code.updated', view, previous);
      return view;
    },
  ),
];
