import { add, type Context, seconds } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import { AMOUNT_MAX, shortestDecimal, wholeAmount } from '../money.ts';
import {
  choice,
  currency,
  decimal,
  flag,
  integer,
  map,
  metadata,
  object,
  only,
  type Parsed,
  refused,
  required,
  text,
} from '../params.ts';
import { prices, products } from '../tables.ts';
import { applyMetadata, type Metadata } from './fields.ts';

type TaxBehavior = 'exclusive' | 'inclusive' | 'unspecified';

type CurrencyOption = {
  custom_unit_amount: null;
  tax_behavior: TaxBehavior;
  unit_amount: number | null;
  unit_amount_decimal: string;
};

export type Recurring = {
  interval: 'day' | 'week' | 'month' | 'year';
  interval_count: number;
  meter: null;
  trial_period_days: number | null;
  usage_type: 'licensed';
};

export type PriceView = {
  id: string;
  object: 'price';
  active: boolean;
  billing_scheme: 'per_unit';
  created: number;
  currency: string;
  custom_unit_amount: null;
  livemode: false;
  lookup_key: string | null;
  metadata: Metadata;
  nickname: string | null;
  product: string;
  recurring: Recurring | null;
  tax_behavior: TaxBehavior;
  tiers_mode: null;
  transform_quantity: null;
  type: 'one_time' | 'recurring';
  unit_amount: number | null;
  unit_amount_decimal: string;
};
/** Shown only when expanded. */
export type PriceHidden = { currency_options: Record<string, CurrencyOption> };

export const taxBehavior = choice('exclusive', 'inclusive', 'unspecified');
export const amount = integer({ min: 0, max: AMOUNT_MAX });

const unitPrice = { unit_amount: amount, unit_amount_decimal: decimal };

export const currencyOptions = map(
  object({
    ...unitPrice,
    custom_unit_amount: refused(),
    tax_behavior: taxBehavior,
    tiers: refused(),
  }),
);

export const recurringParam = object({
  interval: required(choice('day', 'week', 'month', 'year')),
  interval_count: integer({ min: 1, max: 1_095 }),
});

/** The part of a price that `prices.create`, `price_data` and `default_price_data` have in common. */
const pricing = { ...unitPrice, currency: required(currency), tax_behavior: taxBehavior };

export const defaultPriceData = object({
  ...pricing,
  currency_options: currencyOptions,
  custom_unit_amount: refused(),
  metadata,
  recurring: recurringParam,
});

export const priceCreateParams = {
  ...pricing,
  active: flag,
  billing_scheme: only('per_unit', 'prices are per unit'),
  currency_options: currencyOptions,
  custom_unit_amount: refused(),
  lookup_key: text(200),
  metadata,
  nickname: text(),
  recurring: object({
    interval: required(choice('day', 'week', 'month', 'year')),
    interval_count: integer({ min: 1, max: 1_095 }),
    meter: refused(),
    trial_period_days: integer({ min: 1, max: 730 }),
    usage_type: only('licensed', 'metered usage needs meters'),
  }),
  tiers: refused(),
  tiers_mode: refused(),
  transfer_lookup_key: flag,
  transform_quantity: refused(),
};

type NewPrice = Partial<Omit<Parsed<typeof priceCreateParams>, 'recurring'>> & {
  id?: string;
  currency: string;
  product: string;
  recurring?:
    | {
        interval: Recurring['interval'];
        interval_count?: number | undefined;
        trial_period_days?: number | undefined;
      }
    | undefined;
};

/** @throws ApiError when the product is missing, the amount is not given once, or the key is taken. */
export function createPrice(ctx: Context, given: NewPrice, path = ''): PriceView {
  if (!ctx.store.get(products, given.product)) {
    throw noSuch('product', given.product, path === '' ? 'product' : `${path}[product]`, 400);
  }
  const id = given.id ?? ctx.newId('price_');
  if (given.lookup_key !== undefined) {
    claimLookupKey(ctx, id, given.lookup_key, given.transfer_lookup_key ?? false);
  }
  const { view } = add(
    ctx,
    prices,
    {
      id,
      object: 'price',
      active: given.active ?? true,
      billing_scheme: 'per_unit',
      created: seconds(ctx),
      currency: given.currency,
      custom_unit_amount: null,
      livemode: false,
      lookup_key: given.lookup_key ?? null,
      metadata: applyMetadata({}, given.metadata),
      nickname: given.nickname ?? null,
      product: given.product,
      recurring: given.recurring
        ? {
            interval: given.recurring.interval,
            interval_count: given.recurring.interval_count ?? 1,
            meter: null,
            trial_period_days: given.recurring.trial_period_days ?? null,
            usage_type: 'licensed',
          }
        : null,
      tax_behavior: given.tax_behavior ?? 'unspecified',
      tiers_mode: null,
      transform_quantity: null,
      type: given.recurring ? 'recurring' : 'one_time',
      ...unitAmounts(given, path),
    },
    { currency_options: allCurrencies(given, path) },
  );
  emit(ctx, 'price.created', view);
  return view;
}

/** Nothing happens, and no event is made, when the change changes nothing. */
export function updatePrice(
  ctx: Context,
  id: string,
  change: Partial<PriceView>,
  options?: Record<string, CurrencyOption>,
): PriceView {
  const before = findPrice(ctx, id, 'id', 404);
  const after = { ...before, ...change };
  const previous = changedAttributes(before, after);
  const row = ctx.store.patch(prices, id, after, options ? { currency_options: options } : {});
  if (previous) emit(ctx, 'price.updated', row.view, previous);
  return row.view;
}

export function findPrice(ctx: Context, id: string, param: string, status: 400 | 404): PriceView {
  const found = ctx.store.get(prices, id);
  if (!found) throw noSuch('price', id, param, status);
  return found.view;
}

/** The unit price in a currency: `currency_options` let one price be charged in another one. */
export function unitIn(ctx: Context, price: PriceView, wanted: string, named: string): string {
  const row = ctx.store.get(prices, price.id);
  if (wanted === price.currency) return row?.view.unit_amount_decimal ?? price.unit_amount_decimal;
  const option = row?.hidden.currency_options[wanted];
  if (option) return option.unit_amount_decimal;
  throw badRequest(`${named} has no currency_options for ${wanted}.`, { param: 'currency' });
}

/** A lookup key names one price at a time. */
export function claimLookupKey(ctx: Context, id: string, key: string, transfer: boolean): void {
  for (const { view } of ctx.store.walk(prices, 'newest_first')) {
    if (view.lookup_key !== key || view.id === id) continue;
    if (!transfer) {
      throw badRequest(
        `A price (\`${view.id}\`) already uses that lookup key. Pass transfer_lookup_key=true to move it.`,
        { param: 'lookup_key', code: 'resource_already_exists' },
      );
    }
    updatePrice(ctx, view.id, { lookup_key: null });
  }
}

interface UnitPrice {
  readonly unit_amount?: number | undefined;
  readonly unit_amount_decimal?: string | undefined;
  readonly tax_behavior?: TaxBehavior | undefined;
}

function unitAmounts(given: UnitPrice, path: string) {
  const at = (name: string) => (path === '' ? name : `${path}[${name}]`);
  const { unit_amount: whole, unit_amount_decimal: exact } = given;
  if (whole !== undefined && exact !== undefined) {
    throw badRequest(
      'You may only specify one of these parameters: unit_amount, unit_amount_decimal.',
      { param: at('unit_amount') },
    );
  }
  const text = exact ?? (whole === undefined ? undefined : String(whole));
  if (text === undefined) {
    throw badRequest(`Missing required param: ${at('unit_amount')}.`, {
      param: at('unit_amount'),
      code: 'parameter_missing',
    });
  }
  return { unit_amount: wholeAmount(text), unit_amount_decimal: shortestDecimal(text) };
}

export function currencyOption(given: UnitPrice, path: string): CurrencyOption {
  return {
    custom_unit_amount: null,
    tax_behavior: given.tax_behavior ?? 'unspecified',
    ...unitAmounts(given, path),
  };
}

// Stripe's currency_options always contain the price's own currency too.
function allCurrencies(given: NewPrice, path: string): Record<string, CurrencyOption> {
  const others = Object.entries(given.currency_options ?? {}).map(
    ([code, option]) =>
      [
        currency.parse(code, 'currency_options'),
        currencyOption(option, `currency_options[${code}]`),
      ] as const,
  );
  return { [given.currency]: currencyOption(given, path), ...Object.fromEntries(others) };
}
