import type { Context } from '../context.ts';
import { badRequest } from '../errors.ts';
import { emit } from '../events.ts';
import { idOf, type Route, route } from '../route.ts';
import { invoiceItems, invoices, prices, products, sessions, subscriptions } from '../tables.ts';
import { findPrice } from './priceFactory.ts';
import { findProduct } from './products.ts';

export const catalogueDeletionRoutes: readonly Route[] = [
  route('DELETE', '/v1/products/:id', {}, (ctx, _params, ids) => deleteProduct(ctx, idOf(ids))),
];

/**
 * As by Stripe's API. @throws ApiError 400 while the product has prices, also ones that are not
 * active: it can be made inactive instead.
 */
function deleteProduct(ctx: Context, id: string) {
  const product = findProduct(ctx, id, 'id', 404);
  for (const { view } of ctx.store.walk(prices, 'oldest_first')) {
    if (view.product === id) {
      throw badRequest(
        `The product ${id} has prices, so it cannot be deleted. Set \`active\` to false instead.`,
        { param: 'id' },
      );
    }
  }
  ctx.store.remove(products, id);
  emit(ctx, 'product.deleted', product);
  return { id, object: product.object, deleted: true };
}

/**
 * As in Stripe's dashboard: its API deletes no price. @throws ApiError 400 for a price that was
 * ever offered, billed or made a product's default.
 */
export function deletePrice(ctx: Context, id: string) {
  const price = findPrice(ctx, id, 'id', 404);
  if (isUsed(ctx, id)) {
    throw badRequest(
      `The price ${id} has been used, so it cannot be deleted. Set \`active\` to false instead.`,
      { param: 'id' },
    );
  }
  ctx.store.remove(prices, id);
  emit(ctx, 'price.deleted', price);
  return { id, object: price.object, deleted: true };
}

function isUsed(ctx: Context, id: string): boolean {
  const { store } = ctx;
  const some = <T>(rows: Iterable<T>, fits: (row: T) => boolean) => {
    for (const row of rows) if (fits(row)) return true;
    return false;
  };
  return (
    some(store.walk(products, 'oldest_first'), ({ view }) => view.default_price === id) ||
    some(store.walk(sessions, 'oldest_first'), ({ hidden }) =>
      hidden.lines.some(({ item }) => item.price.id === id),
    ) ||
    some(store.walk(subscriptions, 'oldest_first'), ({ view }) =>
      view.items.data.some(({ price }) => price.id === id),
    ) ||
    some(
      store.walk(invoiceItems, 'oldest_first'),
      ({ view }) => view.pricing?.price_details.price === id,
    ) ||
    some(store.walk(invoices, 'oldest_first'), ({ hidden }) =>
      hidden.lines.some(({ pricing }) => pricing?.price_details.price === id),
    )
  );
}
