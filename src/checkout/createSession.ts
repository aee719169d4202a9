import { randomUUID } from 'node:crypto';
import type Stripe from 'stripe';
import type { Catalogue, Pack } from '../catalogue/catalogue.ts';
import { PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';
import type { Credits } from '../credits/credits.types.ts';
import type { CheckoutSessionAnswer, CheckoutSessionRequest } from './checkout.types.ts';
import { ensureCustomer, replaceCustomer } from './customer.ts';
import { digest } from './digest.ts';
import type { Prices } from './prices.ts';
import { checkReturnUrl } from './returnUrl.ts';
import { callStripe, isMissingAtStripe } from './stripeErrors.ts';

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

/**
 * Makes a Stripe Checkout session for a pack of the catalogue. Price and credits come from the
 * catalogue alone; userId, userEmail and plan are put on every object Stripe makes of it, since
 * metadata does not travel from one to the other (Stripe: session, payment intent, invoice).
 */
export async function createCheckoutSession(
  deps: CreateSessionDeps,
  request: CheckoutSessionRequest,
): Promise<CheckoutSessionAnswer> {
  const { db, stripe, credits, prices, publicUrl } = deps;
  const pack = await findPack(deps, request);
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
  const priceId = await prices.priceId(pack);
  if (priceId === null) {
    throw new PurserError('dependency_down', {
      detail: `Stripe has no active price with the look-up key "${pack.lookupKey}". Create it, then try again.`,
    });
  }

  const email = request.email ?? undefined;
  const user = await credits.ensureUser({ userId: request.userId, email });
  const metadata = {
    userId: user.user_id,
    userEmail: request.email ?? user.email ?? '',
    plan: pack.id,
  };
  // The nonce makes two purchases two sessions; the caller's own key makes his retry one.
  const nonce = request.idempotencyKey ?? randomUUID();
  const create = (customer: string) =>
    callStripe(() =>
      stripe.checkout.sessions.create(
        {
          mode: 'payment',
          customer,
          line_items: [{ price: priceId, quantity }],
          metadata,
          payment_intent_data: { metadata },
          ...(pack.invoice
            ? { invoice_creation: { enabled: true, invoice_data: { metadata } } }
            : {}),
          success_url: successUrl,
          cancel_url: cancelUrl,
        },
        { idempotencyKey: `purser:checkout:${digest(user.user_id, customer, nonce)}` },
      ),
    );

  const owner = { userId: user.user_id, email: request.email ?? user.email };
  const customer = user.stripe_customer_id ?? (await ensureCustomer(deps, owner));
  let session: Stripe.Checkout.Session;
  try {
    session = await create(customer);
  } catch (error) {
    if (!isMissingAtStripe(error, 'customer')) throw error;
    // Somebody deleted the customer at Stripe; the user must still be able to buy.
    session = await create(await replaceCustomer(deps, owner, customer));
  }

  const expiresAt = new Date(session.expires_at * 1000).toISOString();
  await db.rpc('record_checkout_session', {
    p_session_id: session.id,
    p_user_id: user.user_id,
    p_customer_id: typeof session.customer === 'string' ? session.customer : null,
    p_mode: 'payment',
    p_catalogue_id: pack.id,
    p_price_id: priceId,
    p_quantity: quantity,
    p_credits: pack.credits * quantity,
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
    mode: 'payment',
    plan: pack.id,
    credits: pack.credits * quantity,
    expires_at: expiresAt,
  };
}

async function findPack(
  { catalogue, prices }: CreateSessionDeps,
  { plan, priceId }: CheckoutSessionRequest,
): Promise<Pack> {
  const entry =
    plan !== undefined
      ? catalogue.entry(plan)
      : priceId !== undefined
        ? await prices.entryOfPrice(priceId)
        : null;
  const path = plan !== undefined ? 'plan' : 'price_id';
  if (entry === null) {
    const known = catalogue.packs.map((pack) => pack.id).join(', ');
    throw new PurserError('invalid_request', {
      detail: `${path} "${plan ?? priceId ?? ''}" is not in the catalogue. Packs: ${known}.`,
      extensions: { errors: [{ path, message: 'is not in the catalogue' }] },
    });
  }
  if (entry.kind === 'plan') {
    throw new PurserError('invalid_request', {
      detail: `"${entry.id}" is a plan: plans come with subscriptions. Choose a pack.`,
      extensions: { errors: [{ path, message: 'plans come with subscriptions' }] },
    });
  }
  return entry;
}

function checkQuantity(quantity: number): number {
  if (Number.isInteger(quantity) && quantity >= 1 && quantity <= QUANTITY_MAX) return quantity;
  throw new PurserError('invalid_request', {
    detail: `quantity must be a whole number from 1 to ${QUANTITY_MAX}.`,
    extensions: { errors: [{ path: 'quantity', message: `must be from 1 to ${QUANTITY_MAX}` }] },
  });
}
