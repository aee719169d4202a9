import type Stripe from 'stripe';
import { readDecimal } from '../core/stripeFields.ts';
import type { SettlementBase } from './settlement.ts';
import { callStripe } from './stripeErrors.ts';

/**
 * What of a price decides about credits. Amounts of a price never change at Stripe; its look-up key
 * and metadata may, and an event about the price or its product then ends the cached copy.
 */
export type KeptPrice = {
  id: string;
  lookup_key: string | null;
  metadata: Record<string, string>;
  product: { id: string; name: string; metadata: Record<string, string> };
  recurring: boolean;
  /** Price of one unit by currency: decimals as text, null for tiered prices. */
  unit_amounts: Record<string, string | null>;
};

/** A price with its product, from the cache of Stripe's answers. Errors: `dependency_down`. */
export function readPrice(
  { stripe, stripeCache }: Pick<SettlementBase, 'stripe' | 'stripeCache'>,
  priceId: string,
): Promise<KeptPrice> {
  return stripeCache.read(
    `stripe:price:${priceId}`,
    async () =>
      toKept(
        await callStripe(() =>
          stripe.prices.retrieve(priceId, { expand: ['product', 'currency_options'] }),
        ),
      ),
    // Whoever fills the table by hand may keep Stripe's own object there.
    (kept) => typeof kept.unit_amounts === 'object' && typeof kept.recurring === 'boolean',
  );
}

function toKept(price: Stripe.Price): KeptPrice {
  const { product } = price;
  const { name = '', metadata = {} } =
    typeof product === 'object' && !('deleted' in product) ? product : {};
  return {
    id: price.id,
    lookup_key: price.lookup_key,
    metadata: { ...price.metadata },
    product: {
      id: typeof product === 'string' ? product : product.id,
      name,
      metadata: { ...metadata },
    },
    recurring: price.recurring !== null,
    unit_amounts: {
      ...Object.fromEntries(
        Object.entries(price.currency_options ?? {}).map(([currency, option]) => [
          currency,
          amountOf(option),
        ]),
      ),
      [price.currency]: amountOf(price),
    },
  };
}

function amountOf({
  unit_amount: amount,
  unit_amount_decimal: decimal,
}: {
  unit_amount: number | null;
  unit_amount_decimal: unknown;
}): string | null {
  return amount === null ? readDecimal(decimal) : String(amount);
}
