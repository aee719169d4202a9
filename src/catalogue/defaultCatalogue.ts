import type { CatalogueFile } from './catalogueSchema.ts';

/** What is sold when `PURSER_CATALOGUE` names no other file. */
export const defaultCatalogue: CatalogueFile = {
  currency: 'usd',
  free_plan: { id: 'free', welcome_credits: 0, quotas: {} },
  packs: {
    pack_50: {
      lookup_key: 'pack_50',
      price_id: 'price_pack_50',
      product_id: 'prod_pack_50',
      name: '50 credits',
      credits: 50,
      amount: 500,
      invoice: true,
    },
    pack_200: {
      lookup_key: 'pack_200',
      price_id: 'price_pack_200',
      product_id: 'prod_pack_200',
      name: '200 credits',
      credits: 200,
      amount: 1800,
      invoice: true,
    },
    pack_500: {
      lookup_key: 'pack_500',
      price_id: 'price_pack_500',
      product_id: 'prod_pack_500',
      name: '500 credits',
      credits: 500,
      amount: 4000,
      invoice: true,
    },
  },
  plans: {
    individual: {
      lookup_key: 'individual',
      price_id: 'price_individual',
      product_id: 'prod_individual',
      name: 'Individual',
      interval: 'month',
      credits: 30,
      amount: 999,
    },
    team: {
      lookup_key: 'team',
      price_id: 'price_team',
      product_id: 'prod_team',
      name: 'Team',
      interval: 'month',
      credits: 200,
      amount: 2999,
    },
    custom: {
      lookup_key: 'custom',
      price_id: 'price_custom',
      product_id: 'prod_custom',
      name: 'Custom',
      interval: 'month',
      credits: 500,
      amount: 4999,
    },
  },
  features: { image: 5 },
};
