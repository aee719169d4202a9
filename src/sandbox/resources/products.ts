import { add, type Context, seconds } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import {
  choice,
  clearable,
  expand,
  flag,
  list,
  metadata,
  object,
  type Parsed,
  paging,
  range,
  refused,
  required,
  text,
  url,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { prices, products } from '../tables.ts';
import { applyMetadata, type Metadata, present } from './fields.ts';
import { createPrice, defaultPriceData } from './priceFactory.ts';

export type ProductView = {
  id: string;
  object: 'product';
  active: boolean;
  created: number;
  default_price: string | null;
  description: string | null;
  images: string[];
  livemode: false;
  marketing_features: { name: string }[];
  metadata: Metadata;
  name: string;
  package_dimensions: null;
  shippable: boolean | null;
  statement_descriptor: string | null;
  tax_code: string | null;
  tax_details: null;
  type: 'good' | 'service';
  unit_label: string | null;
  updated: number;
  url: string | null;
};

const details = {
  active: flag,
  description: text(40_000),
  images: list(url, 8),
  marketing_features: list(object({ name: required(text(80)) }), 15),
  metadata,
  package_dimensions: refused(),
  shippable: flag,
  statement_descriptor: text(22),
  tax_code: text(),
  tax_details: refused(),
  unit_label: text(12),
  url,
  expand,
};

const createParams = {
  ...details,
  default_price_data: defaultPriceData,
  id: text(255),
  name: required(text(250)),
  type: choice('good', 'service'),
};

const updateParams = {
  ...details,
  default_price: text(),
  description: clearable(details.description),
  images: clearable(details.images),
  name: text(250),
  unit_label: clearable(details.unit_label),
  url: clearable(url),
};

const listParams = {
  ...paging,
  active: flag,
  created: range,
  ids: list(text()),
  shippable: flag,
  type: choice('good', 'service'),
  url,
};

type NewProduct = Omit<Parsed<typeof createParams>, 'expand' | 'default_price_data'>;

/** @throws ApiError `resource_already_exists` when the caller chose an id that is taken. */
export function createProduct(ctx: Context, given: Partial<NewProduct> & { name: string }) {
  const id = given.id ?? ctx.newId('prod_', 14);
  if (ctx.store.get(products, id)) {
    throw badRequest('Product already exists.', { param: 'id', code: 'resource_already_exists' });
  }
  const { view } = add(
    ctx,
    products,
    {
      id,
      object: 'product',
      active: given.active ?? true,
      created: seconds(ctx),
      default_price: null,
      description: given.description ?? null,
      images: given.images ?? [],
      livemode: false,
      marketing_features: given.marketing_features ?? [],
      metadata: applyMetadata({}, given.metadata),
      name: given.name,
      package_dimensions: null,
      shippable: given.shippable ?? null,
      statement_descriptor: given.statement_descriptor ?? null,
      tax_code: given.tax_code ?? null,
      tax_details: null,
      type: given.type ?? 'service',
      unit_label: given.unit_label ?? null,
      updated: seconds(ctx),
      url: given.url ?? null,
    },
    {},
  );
  emit(ctx, 'product.created', view);
  return view;
}

/** Nothing happens, and no event is made, when the change changes nothing. */
export function updateProduct(ctx: Context, id: string, change: Partial<ProductView>) {
  const before = findProduct(ctx, id, 'id', 404);
  const after = { ...before, ...change, updated: seconds(ctx) };
  const previous = changedAttributes(before, after);
  if (!previous) return before;
  const { view } = ctx.store.patch(products, id, after);
  emit(ctx, 'product.updated', view, { ...previous, updated: before.updated });
  return view;
}

export function findProduct(ctx: Context, id: string, param: string, status: 400 | 404) {
  const found = ctx.store.get(products, id);
  if (!found) throw noSuch('product', id, param, status);
  return found.view;
}

/** How lines call what they sell, unless they say something else. */
export function productName(ctx: Context, id: string): string {
  return ctx.store.get(products, id)?.view.name ?? id;
}

export const productExpandable: Expandable = {
  default_price: (ctx, view) =>
    typeof view.default_price === 'string'
      ? ctx.store.get(prices, view.default_price)?.view
      : undefined,
};

export const productRoutes: Route[] = [
  route('POST', '/v1/products', createParams, (ctx, { default_price_data, ...given }) => {
    const product = createProduct(ctx, given);
    if (!default_price_data) return product;
    const price = createPrice(ctx, { ...default_price_data, product: product.id });
    return ctx.store.patch(products, product.id, { default_price: price.id }).view;
  }),
  route('GET', '/v1/products', listParams, (ctx, filter) =>
    listRows(
      ctx,
      products,
      '/v1/products',
      filter,
      ({ view }) =>
        matchesFilter(filter.active, view.active) &&
        matchesFilter(filter.shippable, view.shippable) &&
        matchesFilter(filter.type, view.type) &&
        matchesFilter(filter.url, view.url) &&
        (filter.ids === undefined || filter.ids.includes(view.id)) &&
        inRange(view.created, filter.created),
    ),
  ),
  route('GET', '/v1/products/:id', { expand }, (ctx, _params, ids) =>
    findProduct(ctx, idOf(ids), 'id', 404),
  ),
  route('POST', '/v1/products/:id', updateParams, (ctx, given, ids) => {
    const before = findProduct(ctx, idOf(ids), 'id', 404);
    if (given.default_price !== undefined) {
      const price = ctx.store.get(prices, given.default_price)?.view;
      if (price?.product !== before.id) {
        throw noSuch('price', given.default_price, 'default_price', 400);
      }
    }
    const { expand: _expand, metadata: change, images, ...plain } = given;
    return updateProduct(ctx, before.id, {
      ...present(plain),
      ...(images === undefined ? {} : { images: images ?? [] }),
      metadata: applyMetadata(before.metadata, change),
    });
  }),
];
