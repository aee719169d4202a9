import type Stripe from 'stripe';
import type { Catalogue, CatalogueEntry } from '../catalogue/catalogue.ts';
import type { Clock, Logger } from '../core/ports.ts';
import type { PricedPack, PricedPlan, PricingAnswer, StripeMode } from './checkout.types.ts';
import { callStripe, isMissingAtStripe } from './stripeErrors.ts';

const FRESH_MS = 60_000;
/** While Stripe is down, prices this old are still shown rather than an empty page. */
const STALE_MAX_MS = 3_600_000;
/** Stripe takes at most ten look-up keys in one list call. */
const LOOKUP_KEYS_MAX = 10;

export interface PricesDeps {
  stripe: Stripe;
  catalogue: Catalogue;
  mode: StripeMode;
  clock: Clock;
  logger: Logger;
}

/** Stripe's current prices of the catalogue's entries, kept in the process for 60 s. */
export interface Prices {
  pricing(): Promise<PricingAnswer>;
  /** The Stripe price an entry is sold at, or null when Stripe has none. */
  priceId(entry: CatalogueEntry): Promise<string | null>;
  /** The entry that is sold at a Stripe price, or null. */
  entryOfPrice(priceId: string): Promise<CatalogueEntry | null>;
}

interface Snapshot {
  at: number;
  answer: PricingAnswer;
}

export function createPrices(deps: PricesDeps): Prices {
  const { clock, logger } = deps;
  let kept: Snapshot | null = null;
  let loading: Promise<Snapshot> | null = null;

  async function load(): Promise<Snapshot> {
    const prices = await fetchPrices(deps);
    kept = { at: clock.now().getTime(), answer: toAnswer(deps, prices) };
    return kept;
  }

  async function snapshot(): Promise<Snapshot> {
    const age = kept === null ? Number.POSITIVE_INFINITY : clock.now().getTime() - kept.at;
    if (kept !== null && age < FRESH_MS) return kept;
    // One load at a time: a crowd at the door of a cold cache makes one call.
    loading ??= load().finally(() => {
      loading = null;
    });
    try {
      return await loading;
    } catch (error) {
      if (kept === null || age > STALE_MAX_MS) throw error;
      logger.warn('Prices could not be refreshed, showing the last ones', { error });
      return kept;
    }
  }

  return {
    async pricing() {
      return (await snapshot()).answer;
    },
    async priceId(entry) {
      const { packs, plans } = (await snapshot()).answer;
      const priced = [...packs, ...plans].find((candidate) => candidate.id === entry.id);
      return priced?.price_id ?? null;
    },
    async entryOfPrice(priceId) {
      const { packs, plans } = (await snapshot()).answer;
      const priced = [...packs, ...plans].find((candidate) => candidate.price_id === priceId);
      return priced === undefined
        ? deps.catalogue.entryOfPrice({ id: priceId })
        : deps.catalogue.entry(priced.id);
    },
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

function toAnswer(
  { catalogue, mode, clock }: PricesDeps,
  prices: Map<string, Stripe.Price>,
): PricingAnswer {
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
      product_id: typeof price.product === 'string' ? price.product : price.product.id,
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
    as_of: clock.now().toISOString(),
  };
}
