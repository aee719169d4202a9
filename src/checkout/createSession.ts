import { randomUUID } from 'node:crypto';
import type Stripe from 'stripe';
import type { Catalogue, CatalogueEntry, Plan } from '../catalogue/catalogue.ts';
import { PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';
import type { Credits } from '../credits/credits.types.ts';
import type { CheckoutSessionAnswer, CheckoutSessionRequest } from './checkout.types.ts';
import { withCustomer } from './customer.ts';
import { digest } from './digest.ts';
import type { Prices } from './prices.ts';
import { checkReturnUrl } from './returnUrl.ts';
import { callStripe } from './stripeErrors.ts';

const QUANTITY_MAX = 100;

export interface CreateSessionDeps {
  db: Database;
  stripe: Stripe;
  catalogue: Catalogue;
  prices: Prices;
  credits: Credits;
  /** Origin of our own pages, known once the server listens. */
  publicUrl: () => string;
  returnOrigins: string[];
}

/** Subscriptions of one customer that are looked through. */
const SUBSCRIPTIONS_MAX = 100;

/**
 * Makes a Stripe Checkout session for a pack or a plan of the catalogue. Price and credits come from the
 * catalogue alone; userId, userEmail and plan are put on every object Stripe makes of it, since
 * metadata does not travel from one to the other (Stripe: session, payment intent, invoice,
 * subscription). Stripe would sell one customer any number of subscriptions: a second one is
 * refused here, the portal changes the first.
 */
export async function createCheckoutSession(
  deps: CreateSessionDeps,
  request: CheckoutSessionRequest,
): Promise<CheckoutSessionAnswer> {
  const { db, stripe, credits, prices, publicUrl } = deps;
  const entry = await findEntry(deps, request);
  const quantity = checkQuantity(request.quantity);
  const origins = [new URL(publicUrl()).origin, ...deps.returnOrigins];
  const successUrl = checkReturnUrl(
    'success_url',
    request.successUrl ?? `${publicUrl()}/success?session_id={CHECKOUT_SESSION_ID}`,
    origins,
  );
  const cancelUrl = checkReturnUrl(
    'cancel_url',
    request.cancelUrl ?? `${publicUrl()}/pricing`,
    origins,
  );
  const priceId = await prices.priceId(entry);
  if (priceId === null) {
    throw new PurserError('dependency_down', {
      detail: `Stripe has no active price with the look-up key "${entry.lookupKey}". Create it, then try again.`,
    });
  }

  const email = request.email ?? undefined;
  const user = await credits.ensureUser({ userId: request.userId, email });
  const metadata = {
    userId: user.user_id,
    userEmail: request.email ?? user.email ?? '',
    plan: entry.id,
  };
  const mode = entry.kind === 'plan' ? 'subscription' : 'payment';
  // The nonce makes two purchases two sessions; the caller's own key makes his retry one.
  const nonce = request.idempotencyKey ?? randomUUID();
  const create = async (customer: string) => {
    if (entry.kind === 'plan') await refuseSecondPlan(deps, customer, entry);
    return callStripe(() =>
      stripe.checkout.sessions.create(
        {
          customer,
          line_items: [{ price: priceId, quantity }],
          metadata,
          ...(entry.kind === 'plan'
            ? { mode, subscription_data: { metadata } }
            : {
                mode,
                payment_intent_data: { metadata },
                ...(entry.invoice
                  ? { invoice_creation: { enabled: true, invoice_data: { metadata } } }
                  : {}),
              }),
          success_url: successUrl,
          cancel_url: cancelUrl,
        },
        { idempotencyKey: `purser:checkout:${digest(user.user_id, customer, nonce)}` },
      ),
    );
  };

  const owner = { userId: user.user_id, email: request.email ?? user.email };
  const session = await withCustomer(deps, owner, user.stripe_customer_id, create);

  const expiresAt = new Date(session.expires_at * 1000).toISOString();
  await db.rpc('record_checkout_session', {
    p_session_id: session.id,
    p_user_id: user.user_id,
    p_customer_id: typeof session.customer === 'string' ? session.customer : null,
    p_mode: mode,
    p_catalogue_id: entry.id,
    p_price_id: priceId,
    p_quantity: quantity,
    p_credits: entry.credits * quantity,
    p_expires_at: expiresAt,
  });
  if (session.url === null) {
    throw new PurserError('in_progress', {
      detail: 'The checkout of this Idempotency-Key has ended. Use a new key for a new purchase.',
    });
  }
  return {
    session_id: session.id,
    url: session.url,
    mode,
    plan: entry.id,
    credits: entry.credits * quantity,
    expires_at: expiresAt,
  };
}

async function findEntry(
  { catalogue, prices }: CreateSessionDeps,
  { plan, priceId }: CheckoutSessionRequest,
): Promise<CatalogueEntry> {
  const entry =
    plan !== undefined
      ? catalogue.entry(plan)
      : priceId !== undefined
        ? await prices.entryOfPrice(priceId)
        : null;
  if (entry !== null) return entry;
  const path = plan !== undefined ? 'plan' : 'price_id';
  const known = [...catalogue.packs, ...catalogue.plans].map(({ id }) => id).join(', ');
  throw new PurserError('invalid_request', {
    detail: `${path} "${plan ?? priceId ?? ''}" is not in the catalogue. It has: ${known}.`,
    extensions: { errors: [{ path, message: 'is not in the catalogue' }] },
  });
}

/** Asks Stripe itself: our own copy of a subscription bought a moment ago may not be here yet. */
async function refuseSecondPlan(
  { stripe, catalogue, publicUrl }: CreateSessionDeps,
  customer: string,
  plan: Plan,
): Promise<void> {
  // Without a status Stripe lists all that are not canceled.
  const running = await callStripe(() =>
    stripe.subscriptions
      .list({ customer, limit: 100 })
      .autoPagingToArray({ limit: SUBSCRIPTIONS_MAX }),
  );
  for (const { status, items } of running) {
    if (status === 'incomplete' || status === 'incomplete_expired') continue;
    const current = items.data
      .map(({ price }) => catalogue.entryOfPrice(price))
      .find((entry) => entry?.kind === 'plan');
    if (!current) continue;
    throw new PurserError('invalid_request', {
      detail: `You already have the plan "${current.id}" (${status}), so "${plan.id}" was not sold as a second one. Change or cancel it in the billing portal: POST ${publicUrl()}/api/billing-portal-session answers its address.`,
      extensions: { errors: [{ path: 'plan', message: 'there is a subscription already' }] },
    });
  }
}

function checkQuantity(quantity: number): number {
  if (Number.isInteger(quantity) && quantity >= 1 && quantity <= QUANTITY_MAX) return quantity;
  throw new PurserError('invalid_request', {
    detail: `quantity must be a whole number from 1 to ${QUANTITY_MAX}.`,
    extensions: { errors: [{ path: 'quantity', message: `must be from 1 to ${QUANTITY_MAX}` }] },
  });
}
