import type Stripe from 'stripe';
import type { Catalogue, CatalogueEntry } from '../catalogue/catalogue.ts';
import type { Clock, Logger } from '../core/ports.ts';
import type { PricedPack, PricedPlan, PricingAnswer, StripeMode } from './checkout.types.ts';
import { digest } from './digest.ts';
import type { StripeCache } from './stripeCache.ts';
import { callStripe, isMissingAtStripe } from './stripeErrors.ts';

/** Where the prices of the catalogue are kept; see sql/cache_store_migration.sql. */
const PRICES_KEY = 'stripe:prices';
/** Stripe takes at most ten look-up keys in one list call. */
const LOOKUP_KEYS_MAX = 10;

export interface PricesDeps {
  cache: StripeCache;
  /** Fingerprint of the Stripe account whose prices these are. */
  account: string;
  stripe: Stripe;
  catalogue: Catalogue;
  mode: StripeMode;
  clock: Clock;
  logger: Logger;
}

/** Stripe's current prices of the catalogue's entries, from the cache of its answers. */
export interface Prices {
  pricing(): Promise<PricingAnswer>;
  /** The Stripe price an entry is sold at, or null when Stripe has none. */
  priceId(entry: CatalogueEntry): Promise<string | null>;
  /** The entry that is sold at a Stripe price, or null. */
  entryOfPrice(priceId: string): Promise<CatalogueEntry | null>;
}

/** What of a Stripe price is shown. */
type KeptPrice = Pick<Stripe.Price, 'id' | 'currency' | 'unit_amount' | 'lookup_key'> & {
  object: 'price';
  product: string;
  /** The catalogue's entry that is sold at it. */
  entry: string;
};

type KeptPrices = {
  object: 'list';
  data: KeptPrice[];
  /** Of the account and of what was asked for: another catalogue asks again. */
  catalogue: string;
  as_of: string;
};

export function createPrices(deps: PricesDeps): Prices {
  const { cache, catalogue } = deps;
  const entries = [...catalogue.packs, ...catalogue.plans];
  const asked = digest(
    deps.account,
    ...entries.map(({ id, lookupKey, priceId }) => JSON.stringify([id, lookupKey, priceId])),
  );

  function read(): Promise<KeptPrices> {
    return cache.read(
      PRICES_KEY,
      async (): Promise<KeptPrices> => ({
        object: 'list',
        data: [...(await fetchPrices(deps))].map(([entry, price]) => toKept(entry, price)),
        catalogue: asked,
        as_of: deps.clock.now().toISOString(),
      }),
      (kept) => kept.catalogue === asked,
    );
  }

  return {
    pricing: async () => toAnswer(deps, await read()),
    async priceId(entry) {
      return (await read()).data.find((price) => price.entry === entry.id)?.id ?? null;
    },
    async entryOfPrice(priceId) {
      const kept = (await read()).data.find(({ id }) => id === priceId);
      return kept === undefined
        ? catalogue.entryOfPrice({ id: priceId })
        : catalogue.entry(kept.entry);
    },
  };
}

function toKept(entry: string, price: Stripe.Price): KeptPrice {
  const { id, currency, unit_amount, lookup_key, product } = price;
  return {
    object: 'price',
    id,
    currency,
    unit_amount,
    lookup_key,
    product: typeof product === 'string' ? product : product.id,
    entry,
  };
}

/** The price of each entry: by look-up key, which is the link, else by the explicit id. */
async function fetchPrices({
  stripe,
  catalogue,
  logger,
}: PricesDeps): Promise<Map<string, Stripe.Price>> {
  const entries: CatalogueEntry[] = [...catalogue.packs, ...catalogue.plans];
  const found = new Map<string, Stripe.Price>();
  for (let start = 0; start < entries.length; start += LOOKUP_KEYS_MAX) {
    const lookupKeys = entries.slice(start, start + LOOKUP_KEYS_MAX).map((e) => e.lookupKey);
    const page = await callStripe(() =>
      stripe.prices.list({ active: true, lookup_keys: lookupKeys, limit: 100 }),
    );
    for (const price of page.data) {
      const entry = entries.find((candidate) => candidate.lookupKey === price.lookup_key);
      if (entry) found.set(entry.id, price);
    }
  }
  for (const entry of entries) {
    const { priceId } = entry;
    if (found.has(entry.id) || priceId === null) continue;
    try {
      const price = await callStripe(() => stripe.prices.retrieve(priceId));
      if (price.active) found.set(entry.id, price);
    } catch (error) {
      if (!isMissingAtStripe(error)) throw error;
    }
  }
  const missing = entries.filter((entry) => !found.has(entry.id)).map((entry) => entry.id);
  if (missing.length > 0) {
    logger.warn(
      `Stripe has no active price with the look-up key of: ${missing.join(', ')}. They are not offered.`,
    );
  }
  return found;
}

function toAnswer({ catalogue, mode }: PricesDeps, kept: KeptPrices): PricingAnswer {
  const prices = new Map(kept.data.map((price) => [price.entry, price]));
  function priced(entry: CatalogueEntry): PricedPack | null {
    const price = prices.get(entry.id);
    if (price === undefined || price.unit_amount === null) return null;
    return {
      id: entry.id,
      name: entry.name,
      description: entry.description,
      credits: entry.credits,
      unit_amount: price.unit_amount,
      currency: price.currency,
      price_id: price.id,
      product_id: price.product,
    };
  }
  return {
    mode,
    currency: catalogue.currency,
    packs: catalogue.packs.map(priced).filter((pack) => pack !== null),
    plans: catalogue.plans.flatMap((plan): PricedPlan[] => {
      const answer = priced(plan);
      if (answer === null) return [];
      const { description: _, ...fields } = answer;
      return [{ ...fields, interval: plan.interval }];
    }),
    as_of: kept.as_of,
  };
}
