import type { AppDeps } from './deps.ts';

/** What an operation is asked for: credits, or units of a feature; the schema allows one of the two. */
export interface Priced {
  amount?: number | undefined;
  feature?: string | undefined;
  /** Default 1. */
  units?: number | undefined;
}

/** The price of an operation in credits. Errors: `invalid_request` for an unknown feature. */
export function costOf({ catalogue }: AppDeps, { amount, feature, units }: Priced): number {
  return amount ?? catalogue.cost(feature ?? '', units ?? 1);
}
