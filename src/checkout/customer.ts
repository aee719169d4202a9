import type Stripe from 'stripe';
import { PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';
import { digest } from './digest.ts';
import { callStripe, isMissingAtStripe } from './stripeErrors.ts';

export interface CustomerDeps {
  db: Database;
  stripe: Stripe;
}

export interface CustomerOwner {
  userId: string;
  email: string | null;
}

/**
 * The user's Stripe customer, created when there is none. Two callers at once end with the same
 * one: Stripe's idempotency key makes one customer, the database decides who is linked.
 */
async function ensureCustomer(deps: CustomerDeps, owner: CustomerOwner): Promise<string> {
  const customerId = await createCustomer(deps, owner, 'first');
  const answer = await deps.db.rpc<{ outcome: string; customer_id: string | null }>(
    'link_stripe_customer',
    { p_user_id: owner.userId, p_customer_id: customerId },
  );
  if (answer.customer_id === null || answer.customer_id === undefined) {
    throw new PurserError('user_not_found', {
      detail: `The Stripe customer ${customerId} could not be linked to user ${owner.userId} (${answer.outcome}).`,
    });
  }
  return answer.customer_id;
}

/**
 * Runs `work` for the user's customer, `known` or the one that is made now. Somebody may have
 * deleted it at Stripe: then a new one takes its place and `work` is run once more, for a user must
 * still be able to buy.
 */
export async function withCustomer<T>(
  deps: CustomerDeps,
  owner: CustomerOwner,
  known: string | null,
  work: (customerId: string) => Promise<T>,
): Promise<T> {
  const customerId = known ?? (await ensureCustomer(deps, owner));
  try {
    return await work(customerId);
  } catch (error) {
    if (!isMissingAtStripe(error, 'customer')) throw error;
    return work(await replaceCustomer(deps, owner, customerId));
  }
}

async function replaceCustomer(
  deps: CustomerDeps,
  owner: CustomerOwner,
  goneCustomerId: string,
): Promise<string> {
  const customerId = await createCustomer(deps, owner, goneCustomerId);
  await deps.db.rpc('ensure_user', {
    p_user_id: owner.userId,
    p_stripe_customer_id: customerId,
    p_replace: true,
  });
  return customerId;
}

async function createCustomer(
  { stripe }: CustomerDeps,
  { userId, email }: CustomerOwner,
  nonce: string,
): Promise<string> {
  const customer = await callStripe(() =>
    stripe.customers.create(
      { ...(email ? { email } : {}), metadata: { userId } },
      { idempotencyKey: `purser:customer:${digest(userId, email ?? '', nonce)}` },
    ),
  );
  return customer.id;
}
