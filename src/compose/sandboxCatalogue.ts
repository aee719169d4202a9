import type { Catalogue } from '../catalogue/catalogue.ts';

/** The catalogue's entries as products and prices, under the ids it names or makes up. */
export function sandboxCatalogue({ packs, plans, currency }: Catalogue) {
  const entries = [...packs, ...plans];
  const productId = (entry: (typeof entries)[number]) => entry.productId ?? `prod_${entry.id}`;
  return {
    products: entries.map((entry) => ({
      id: productId(entry),
      name: entry.name,
      description: entry.description,
    })),
    prices: entries.map((entry) => ({
      id: entry.priceId ?? `price_${entry.id}`,
      product: productId(entry),
      currency,
      unit_amount: entry.unitAmount,
      lookup_key: entry.lookupKey,
      ...(entry.kind === 'plan' ? { recurring: { interval: entry.interval } } : {}),
    })),
  };
}
