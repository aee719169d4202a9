import type { Catalogue } from './catalogue.ts';

/** Something to buy where nothing is sold yet: a pack and a monthly plan. */
export const SAMPLE_CATALOGUE: Catalogue = {
  products: [
    { id: 'prod_sample_pack', name: '50 credits' },
    { id: 'prod_sample_plan', name: 'Monthly plan' },
  ],
  prices: [
    { id: 'price_sample_pack', product: 'prod_sample_pack', currency: 'usd', unit_amount: 500 },
    {
      id: 'price_sample_plan',
      product: 'prod_sample_plan',
      currency: 'usd',
      unit_amount: 900,
      recurring: { interval: 'month' },
    },
  ],
};
