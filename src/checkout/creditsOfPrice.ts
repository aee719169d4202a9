import type Stripe from 'stripe';
import type { Catalogue, Plan } from '../catalogue/catalogue.ts';

/** What one unit of a Stripe price is worth. */
export interface PriceWorth {
  credits: number;
  /** Null for prices that carry `metadata.credits` and have no entry. */
  catalogueId: string | null;
  name: string;
  expiresAfterDays: number | null;
}

/** What of a Stripe price is needed to know what it is worth. */
export type ValuedPrice = Pick<Stripe.Price, 'id' | 'lookup_key' | 'metadata'> & {
  product:
    | string
    | ({ id: string } & Partial<Pick<Stripe.Product, 'name' | 'metadata'>>)
    | Stripe.DeletedProduct;
};

export type Worth =
  | { kind: 'worth'; worth: PriceWorth }
  /** Another product of the same Stripe account. */
  | { kind: 'foreign' }
  /** A plan: its credits come with the subscription's invoices. */
  | { kind: 'plan'; plan: Plan }
  | { kind: 'invalid'; reason: string };

/**
 * The credits of a price: its catalogue entry, else `metadata.credits` of the price, else of the
 * product (which must be expanded to be read). Amounts paid are not compared with the catalogue:
 * coupons, taxes and other currencies change them rightly, so the price id is what counts.
 */
export function creditsOfPrice(catalogue: Catalogue, price: ValuedPrice): Worth {
  const entry = catalogue.entryOfPrice(price);
  if (entry?.kind === 'plan') return { kind: 'plan', plan: entry };
  if (entry !== null) {
    const { credits, id, name, expiresAfterDays } = entry;
    return { kind: 'worth', worth: { credits, catalogueId: id, name, expiresAfterDays } };
  }
  const product =
    typeof price.product === 'object' && !('deleted' in price.product) ? price.product : null;
  const written = price.metadata.credits ?? product?.metadata?.credits;
  if (written === undefined) return { kind: 'foreign' };
  if (!/^[1-9]\d{0,14}$/.test(written)) {
    return {
      kind: 'invalid',
      reason: `metadata.credits of price ${price.id} must be a whole number, not "${written}"`,
    };
  }
  return {
    kind: 'worth',
    worth: {
      credits: Number(written),
      catalogueId: null,
      name: product?.name ?? `${written} credits`,
      expiresAfterDays: null,
    },
  };
}
