import type { Context } from '../context.ts';
import { badRequest } from '../errors.ts';
import { AMOUNT_MAX, multiply } from '../money.ts';
import {
  currency,
  decimal,
  flag,
  integer,
  list,
  metadata,
  object,
  refused,
  required,
  text,
  url,
} from '../params.ts';
import { products } from '../tables.ts';
import { applyMetadata, type Metadata } from './fields.ts';
import {
  amount,
  createPrice,
  findPrice,
  type PriceView,
  recurringParam,
  taxBehavior,
  unitIn,
} from './priceFactory.ts';
import { createProduct } from './products.ts';

type LineItemView = {
  id: string;
  object: 'item';
  adjustable_quantity: { enabled: boolean; maximum: number | null; minimum: number | null } | null;
  amount_discount: number;
  amount_subtotal: number;
  amount_tax: number;
  amount_total: number;
  currency: string;
  description: string | null;
  metadata: Metadata;
  price: PriceView;
  quantity: number;
};

/** An item with its unit price in the session's currency, which may differ from the price's own. */
export type Line = { item: LineItemView; unit: string };

const LINE_ITEMS_MAX = 100;
const QUANTITY_MAX = 999_999;
/** What an adjustable quantity is limited to when the caller does not say. */
const ADJUSTABLE_MAX = 99;

const quantity = integer({ min: 1, max: QUANTITY_MAX });

const lineItem = object({
  adjustable_quantity: object({
    enabled: required(flag),
    maximum: integer({ min: 1, max: QUANTITY_MAX }),
    minimum: integer({ min: 0, max: QUANTITY_MAX }),
  }),
  metadata,
  price: text(),
  price_data: object({
    currency: required(currency),
    product: text(),
    product_data: object({
      description: text(),
      images: list(url, 8),
      metadata,
      name: required(text(250)),
      tax_code: text(),
      tax_details: refused(),
      unit_label: text(12),
    }),
    recurring: recurringParam,
    tax_behavior: taxBehavior,
    unit_amount: amount,
    unit_amount_decimal: decimal,
  }),
  quantity,
  tax_rates: refused(),
});
export const lineItemsParam = list(lineItem, LINE_ITEMS_MAX);

type Given = ReturnType<typeof lineItem.parse>;

/**
 * The items of a new session, priced in the session's currency.
 * @throws ApiError when a price is missing, inactive, of the wrong kind or in another currency.
 */
export function priceLines(
  ctx: Context,
  mode: 'payment' | 'subscription',
  given: readonly Given[],
  wantedCurrency: string | undefined,
): Line[] {
  if (given.length === 0) {
    throw badRequest('Missing required param: line_items.', {
      param: 'line_items',
      code: 'parameter_missing',
    });
  }
  const lines = given.map((line, at) =>
    priceLine(ctx, mode, line, `line_items[${at}]`, wantedCurrency),
  );
  const [first] = lines;
  if (mode === 'subscription' && lines.every(({ item }) => item.price.type === 'one_time')) {
    throw badRequest(
      'You must provide at least one recurring price in `subscription` mode when using prices.',
      { param: 'line_items' },
    );
  }
  for (const { item } of lines) {
    if (item.currency !== first?.item.currency) {
      throw badRequest(
        `All prices of a Checkout Session must have the same currency: found ${first?.item.currency} and ${item.currency}.`,
        { param: 'line_items' },
      );
    }
  }
  return lines;
}

/** The same line with another quantity, as the buyer may choose on the page. */
export function withQuantity({ item, unit }: Line, quantity: number): Line {
  const amount = lineAmount(unit, quantity, item.id);
  return { unit, item: { ...item, quantity, amount_subtotal: amount, amount_total: amount } };
}

export function totalOf(lines: readonly Line[]): number {
  return lines.reduce((total, { item }) => total + item.amount_total, 0);
}

function lineAmount(unit: string, quantity: number, param: string): number {
  const amount = multiply(unit, quantity);
  if (amount > AMOUNT_MAX) {
    throw badRequest(`The amount of ${param} must be at most ${AMOUNT_MAX}.`, {
      param,
      code: 'amount_too_large',
    });
  }
  return amount;
}

function priceLine(
  ctx: Context,
  mode: 'payment' | 'subscription',
  line: Given,
  path: string,
  wantedCurrency: string | undefined,
): Line {
  if ((line.price === undefined) === (line.price_data === undefined)) {
    throw badRequest(`You must specify either \`price\` or \`price_data\` in ${path}.`, {
      param: path,
    });
  }
  if (line.quantity === undefined) {
    throw badRequest(`Missing required param: ${path}[quantity].`, {
      param: `${path}[quantity]`,
      code: 'parameter_missing',
    });
  }
  const price =
    line.price === undefined
      ? inlinePrice(ctx, line, path)
      : findPrice(ctx, line.price, `${path}[price]`, 400);
  if (line.price !== undefined) checkActive(ctx, price, path);
  if (mode === 'payment' && price.type === 'recurring') {
    throw badRequest(
      'You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only one-time prices.',
      { param: `${path}[price]` },
    );
  }
  const unit = unitIn(ctx, price, wantedCurrency ?? price.currency, `the price of ${path}`);
  const total = lineAmount(unit, line.quantity, path);
  const adjustable = line.adjustable_quantity;
  const item: LineItemView = {
    id: ctx.newId('li_'),
    object: 'item',
    adjustable_quantity: adjustable
      ? {
          enabled: adjustable.enabled,
          maximum: adjustable.enabled ? (adjustable.maximum ?? ADJUSTABLE_MAX) : null,
          minimum: adjustable.enabled ? (adjustable.minimum ?? 0) : null,
        }
      : null,
    amount_discount: 0,
    amount_subtotal: total,
    amount_tax: 0,
    amount_total: total,
    currency: wantedCurrency ?? price.currency,
    description: ctx.store.get(products, price.product)?.view.name ?? null,
    metadata: applyMetadata({}, line.metadata),
    price,
    quantity: line.quantity,
  };
  return { item, unit };
}

function checkActive(ctx: Context, price: PriceView, path: string): void {
  const param = `${path}[price]`;
  if (!price.active) {
    throw badRequest('The price specified is inactive. This field only accepts active prices.', {
      param,
      code: 'price_inactive',
    });
  }
  if (ctx.store.get(products, price.product)?.view.active === false) {
    throw badRequest(`The product of price ${price.id} is not active.`, {
      param,
      code: 'product_inactive',
    });
  }
}

/** A price made on the spot is not offered again: Stripe makes it, and its product, inactive. */
function inlinePrice(ctx: Context, line: Given, path: string): PriceView {
  const data = line.price_data;
  if (!data) throw new Error('price_data was checked to be given');
  if ((data.product === undefined) === (data.product_data === undefined)) {
    throw badRequest(
      `You must specify either \`product\` or \`product_data\` in ${path}[price_data].`,
      {
        param: `${path}[price_data]`,
      },
    );
  }
  const product =
    data.product ??
    createProduct(ctx, { ...data.product_data, name: data.product_data?.name ?? '', active: false })
      .id;
  const { product_data: _made, ...pricing } = data;
  return createPrice(ctx, { ...pricing, product, active: false }, `${path}[price_data]`);
}
