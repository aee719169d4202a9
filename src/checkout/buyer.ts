import type Stripe from 'stripe';
import type { Database } from '../core/ports.ts';
import { callStripe, isMissingAtStripe } from './stripeErrors.ts';

export interface BuyerDeps {
  db: Database;
  stripe: Stripe;
}

export interface BuyerHints {
  /** metadata.userId of the session or the invoice. */
  metadataUserId: string | undefined;
  /** The user Purser itself made the session for; asked only when the metadata names nobody. */
  recordedUserId: () => Promise<string | null>;
  customerId: string | null;
  /** Typed into the URL by whoever opened the link, so it counts only when such a user exists. */
  clientReferenceId: string | null;
  /** Objects of the purchase by which somebody may have claimed it while it was parked. */
  claimable?: readonly string[];
}

/**
 * Whose purchase it is, in the order of the contract: metadata.userId, Purser's own record, the
 * stored customer, metadata.userId of the customer, a client_reference_id that exists, whoever
 * claimed it. Null = nobody known. (A claim wins over all of them: apply_webhook_effects sees to
 * that; here it matters only where nobody else is named.) An e-mail address is never matched: it was typed, not verified.
 */
export async function findBuyer(deps: BuyerDeps, hints: BuyerHints): Promise<string | null> {
  if (hints.metadataUserId) return hints.metadataUserId;
  const recorded = await hints.recordedUserId();
  if (recorded !== null) return recorded;
  if (hints.customerId !== null) {
    const mapped = await deps.db.rpc<{ user_id: string | null }>('find_user_by_customer', {
      p_customer_id: hints.customerId,
    });
    if (mapped.user_id !== null) return mapped.user_id;
    const named = await userIdOfCustomer(deps.stripe, hints.customerId);
    if (named !== null) return named;
  }
  if (hints.clientReferenceId !== null) {
    const user = await deps.db.rpc<{ outcome: string; user_id: string }>('get_credit_balance', {
      p_user_id: hints.clientReferenceId,
    });
    if (user.outcome === 'found') return user.user_id;
  }
  if (hints.claimable === undefined) return null;
  const claimed = await deps.db.rpc<{ user_id: string | null }>('find_claimed_user', {
    p_object_ids: [...hints.claimable],
  });
  return claimed.user_id;
}

async function userIdOfCustomer(stripe: Stripe, customerId: string): Promise<string | null> {
  try {
    const customer = await callStripe(() => stripe.customers.retrieve(customerId));
    return customer.deleted ? null : (customer.metadata.userId ?? null);
  } catch (error) {
    if (isMissingAtStripe(error)) return null;
    throw error;
  }
}
