import type Stripe from 'stripe';
import type { Effect } from '../credits/effects.ts';
import { findBuyer } from './buyer.ts';
import { creditsOfPrice } from './creditsOfPrice.ts';
import { offerClaim, purchaseReceipt } from './receipts.ts';
import { getRecordedSession } from './recordedSession.ts';
import { grantEffect, idOf, type SettledLine, type SettlementDeps } from './settlement.ts';
import { callStripe } from './stripeErrors.ts';

/** Sessions hold at most 100 line items; more pages than this would be a fault at Stripe. */
const LINE_ITEMS_MAX = 500;

/**
 * Reads a checkout session from Stripe and says what it leads to. The webhook and the success
 * page both come through here, so they cannot disagree. An unpaid session grants nothing and is
 * not marked: its payment may still settle. Errors: `dependency_down`, `not_found`.
 */
export async function settleSession(
  deps: SettlementDeps,
  sessionId: string,
  paidAt: Date,
): Promise<{ session: Stripe.Checkout.Session; effects: Effect[] }> {
  const session = await callStripe(() => deps.stripe.checkout.sessions.retrieve(sessionId));
  return { session, effects: await effectsOfSession(deps, session, paidAt) };
}

async function effectsOfSession(
  deps: SettlementDeps,
  session: Stripe.Checkout.Session,
  paidAt: Date,
): Promise<Effect[]> {
  if (session.mode === 'setup') return [ignore('a session of mode setup sells nothing')];
  if (session.status === 'expired') {
    return [{ kind: 'checkout_state', session_id: session.id, state: 'expired' }];
  }
  if (session.status !== 'complete') return [];
  if (session.mode === 'subscription') return deps.subscriptions.ofSession(session);
  if (session.payment_status === 'unpaid') {
    return [{ kind: 'checkout_state', session_id: session.id, state: 'complete' }];
  }

  const { lines, effects } = await readLines(deps, session);
  if (lines.length === 0) {
    return [...effects, ignore('no line item is a pack of the catalogue')];
  }
  const customerId = idOf(session.customer);
  const userId = await findBuyer(deps, {
    metadataUserId: session.metadata?.userId,
    recordedUserId: async () =>
      (await getRecordedSession(deps.db, session.id)).session?.user_id ?? null,
    customerId,
    clientReferenceId: session.client_reference_id,
    claimable: [session.id, idOf(session.invoice), idOf(session.payment_intent)].filter(
      (id) => id !== null,
    ),
  });
  if (userId === null) {
    return [
      ...effects,
      { kind: 'park', waiting_for: customerId, reason: 'nobody is known as the buyer' },
      ...offerClaim(
        session.id,
        session.customer_details?.email,
        lines.reduce((sum, { credits }) => sum + credits, 0),
      ),
    ];
  }
  const paymentIntentId = idOf(session.payment_intent);
  const { currency, amount_total: amountTotal } = session;
  const grant = grantEffect(deps.clock, {
    userId,
    sessionId: session.id,
    invoiceId: idOf(session.invoice),
    paymentIntentId,
    payments:
      paymentIntentId === null
        ? []
        : [{ payment: paymentIntentId, paid: amountTotal ?? 0, currency }],
    currency,
    amountTotal,
    paidAt,
    lines,
  });
  return [
    ...effects,
    grant,
    ...(customerId === null
      ? []
      : [{ kind: 'customer', customer_id: customerId, user_id: userId } as const]),
    ...purchaseReceipt(deps.clock, {
      grant,
      amount: amountTotal,
      currency,
      invoiceId: idOf(session.invoice),
      paymentIntentId,
      buyerEmail: session.customer_details?.email ?? null,
    }),
  ];
}

/** The lines that are worth credits; the others are noted where somebody should look. */
async function readLines(
  { stripe, catalogue }: SettlementDeps,
  session: Stripe.Checkout.Session,
): Promise<{ lines: SettledLine[]; effects: Effect[] }> {
  const items = await callStripe(() =>
    stripe.checkout.sessions
      .listLineItems(session.id, { limit: 100, expand: ['data.price.product'] })
      .autoPagingToArray({ limit: LINE_ITEMS_MAX }),
  );
  const lines: SettledLine[] = [];
  const effects: Effect[] = [];
  for (const item of items) {
    const quantity = item.quantity ?? 1;
    if (item.price === null || quantity < 1) continue;
    const worth = creditsOfPrice(catalogue, item.price);
    if (worth.kind === 'worth') {
      const { credits, name, catalogueId, expiresAfterDays } = worth.worth;
      lines.push({
        credits: credits * quantity,
        quantity,
        name,
        catalogueId,
        priceId: item.price.id,
        expiresAfterDays,
        costAmount: item.amount_total,
      });
    } else if (worth.kind !== 'foreign') {
      effects.push({
        kind: 'finding',
        code: 'line_without_credits',
        subject: `checkout:${session.id}:${item.id}`,
        user_id: session.metadata?.userId ?? null,
        detail: {
          price_id: item.price.id,
          reason:
            worth.kind === 'invalid'
              ? worth.reason
              : `plan ${worth.plan.id} was paid for once, without a subscription`,
        },
      });
    }
  }
  return { lines, effects };
}

function ignore(reason: string): Effect {
  return { kind: 'ignore', reason };
}
