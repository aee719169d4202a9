import type { Context } from './context.ts';
import { applyMetadata, type Metadata } from './resources/fields.ts';
import {
  claimLookupKey,
  createPrice,
  currencyOption,
  type Recurring,
  updatePrice,
} from './resources/priceFactory.ts';
import { createProduct, updateProduct } from './resources/products.ts';
import { prices, products } from './tables.ts';

interface SeedProduct {
  readonly id: string;
  readonly name: string;
  readonly description?: string | null | undefined;
  readonly metadata?: Metadata | undefined;
  readonly active?: boolean | undefined;
}

interface SeedPrice {
  readonly id: string;
  readonly product: string;
  readonly currency: string;
  /** In the currency's smallest unit; 0 makes a free price. */
  readonly unit_amount: number;
  readonly lookup_key?: string | null | undefined;
  readonly nickname?: string | null | undefined;
  readonly metadata?: Metadata | undefined;
  readonly active?: boolean | undefined;
  readonly recurring?:
    | { readonly interval: Recurring['interval']; readonly interval_count?: number | undefined }
    | null
    | undefined;
}

export interface Catalogue {
  readonly products: readonly SeedProduct[];
  readonly prices: readonly SeedPrice[];
}

/**
 * Makes the objects with these ids, or brings them to this state. Repeating it changes nothing and
 * makes no events. Unlike Stripe's API it also changes an existing price's amount: a seed is the
 * description of a fixture, and a local catalogue that was edited must simply work.
 */
export function seedCatalogue(ctx: Context, catalogue: Catalogue): void {
  for (const seed of catalogue.products) seedProduct(ctx, seed);
  for (const seed of catalogue.prices) seedPrice(ctx, seed);
}

function seedProduct(ctx: Context, seed: SeedProduct): void {
  const metadata = applyMetadata({}, seed.metadata);
  const active = seed.active ?? true;
  const description = seed.description ?? null;
  if (ctx.store.get(products, seed.id)) {
    updateProduct(ctx, seed.id, { name: seed.name, description, metadata, active });
    return;
  }
  createProduct(ctx, {
    id: seed.id,
    name: seed.name,
    metadata,
    active,
    ...(description === null ? {} : { description }),
  });
}

function seedPrice(ctx: Context, seed: SeedPrice): void {
  const lookupKey = seed.lookup_key ?? null;
  const recurring = seed.recurring ?? undefined;
  if (!ctx.store.get(prices, seed.id)) {
    createPrice(ctx, {
      id: seed.id,
      product: seed.product,
      currency: seed.currency,
      unit_amount: seed.unit_amount,
      active: seed.active ?? true,
      metadata: seed.metadata,
      nickname: seed.nickname ?? undefined,
      ...(recurring ? { recurring } : {}),
      ...(lookupKey === null ? {} : { lookup_key: lookupKey, transfer_lookup_key: true }),
    });
    return;
  }
  if (lookupKey !== null) claimLookupKey(ctx, seed.id, lookupKey, true);
  updatePrice(
    ctx,
    seed.id,
    {
      active: seed.active ?? true,
      currency: seed.currency,
      lookup_key: lookupKey,
      metadata: applyMetadata({}, seed.metadata),
      nickname: seed.nickname ?? null,
      product: seed.product,
      recurring: recurring
        ? {
            interval: recurring.interval,
            interval_count: recurring.interval_count ?? 1,
            meter: null,
            trial_period_days: null,
            usage_type: 'licensed',
          }
        : null,
      type: recurring ? 'recurring' : 'one_time',
      unit_amount: seed.unit_amount,
      unit_amount_decimal: String(seed.unit_amount),
    },
    {
      ...ctx.store.get(prices, seed.id)?.hidden.currency_options,
      [seed.currency]: currencyOption({ unit_amount: seed.unit_amount }, ''),
    },
  );
}
