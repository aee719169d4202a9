import type { Context } from '../context.ts';
import { badRequest } from '../errors.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import {
  choice,
  clearable,
  currency,
  expand,
  flag,
  list,
  metadata,
  object,
  paging,
  range,
  refused,
  required,
  text,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { prices, products } from '../tables.ts';
import { applyMetadata, present } from './fields.ts';
import {
  claimLookupKey,
  createPrice,
  currencyOption,
  currencyOptions,
  findPrice,
  priceCreateParams,
  taxBehavior,
  updatePrice,
} from './priceFactory.ts';
import { createProduct } from './products.ts';

const LOOKUP_KEYS_MAX = 10;

const createParams = {
  ...priceCreateParams,
  expand,
  product: text(),
  product_data: object({
    active: flag,
    id: text(255),
    metadata,
    name: required(text(250)),
    statement_descriptor: text(22),
    tax_code: text(),
    tax_details: refused(),
    unit_label: text(12),
  }),
};

const updateParams = {
  active: flag,
  currency_options: currencyOptions,
  expand,
  lookup_key: clearable(text(200)),
  metadata,
  nickname: clearable(text()),
  tax_behavior: taxBehavior,
  transfer_lookup_key: flag,
};

const listParams = {
  ...paging,
  active: flag,
  created: range,
  currency,
  lookup_keys: list(text(200), LOOKUP_KEYS_MAX),
  product: text(),
  recurring: object({
    interval: choice('day', 'week', 'month', 'year'),
    meter: refused(),
    usage_type: choice('licensed', 'metered'),
  }),
  type: choice('one_time', 'recurring'),
};

export const priceExpandable: Expandable = {
  product: (ctx, view) => ctx.store.get(products, String(view.product))?.view,
  currency_options: (ctx, view) => ctx.store.get(prices, String(view.id))?.hidden.currency_options,
};

export const priceRoutes: Route[] = [
  route('POST', '/v1/prices', createParams, (ctx, { product, product_data, ...given }) => {
    if ((product === undefined) === (product_data === undefined)) {
      throw badRequest(
        'You must specify either `product` or `product_data` when creating a price.',
        {
          param: 'product',
        },
      );
    }
    return createPrice(ctx, { ...given, product: product ?? newProduct(ctx, product_data) });
  }),
  route('GET', '/v1/prices', listParams, (ctx, filter) =>
    listRows(
      ctx,
      prices,
      '/v1/prices',
      filter,
      ({ view }) =>
        matchesFilter(filter.active, view.active) &&
        matchesFilter(filter.currency, view.currency) &&
        matchesFilter(filter.product, view.product) &&
        matchesFilter(filter.type, view.type) &&
        matchesFilter(filter.recurring?.interval, view.recurring?.interval ?? null) &&
        matchesFilter(filter.recurring?.usage_type, view.recurring?.usage_type ?? null) &&
        (filter.lookup_keys === undefined ||
          (view.lookup_key !== null && filter.lookup_keys.includes(view.lookup_key))) &&
        inRange(view.created, filter.created),
    ),
  ),
  route('GET', '/v1/prices/:id', { expand }, (ctx, _params, ids) =>
    findPrice(ctx, idOf(ids), 'id', 404),
  ),
  route('POST', '/v1/prices/:id', updateParams, (ctx, given, ids) => {
    const before = findPrice(ctx, idOf(ids), 'id', 404);
    if (given.lookup_key) {
      claimLookupKey(ctx, before.id, given.lookup_key, given.transfer_lookup_key ?? false);
    }
    const { active, lookup_key, nickname, tax_behavior } = given;
    const options = Object.entries(given.currency_options ?? {}).map(([code, option]) => [
      currency.parse(code, 'currency_options'),
      currencyOption(option, `currency_options[${code}]`),
    ]);
    return updatePrice(
      ctx,
      before.id,
      {
        ...present({ active, lookup_key, nickname, tax_behavior }),
        metadata: applyMetadata(before.metadata, given.metadata),
      },
      {
        ...ctx.store.get(prices, before.id)?.hidden.currency_options,
        ...Object.fromEntries(options),
      },
    );
  }),
];

function newProduct(ctx: Context, data: Parameters<typeof createProduct>[1] | undefined): string {
  if (!data) throw new Error('product_data was checked to be given');
  return createProduct(ctx, data).id;
}
