import type Stripe from 'stripe';
import { PurserError } from '../core/errors.ts';
import type { Logger } from '../core/ports.ts';
import type { Credits } from '../credits/credits.types.ts';
import {
  type AppliedEffects,
  applyEffects,
  type Effect,
  type EffectsDeps,
} from '../credits/effects.ts';
import type { Checkout, CheckoutStatusAnswer } from './checkout.types.ts';
import { type CreateSessionDeps, createCheckoutSession } from './createSession.ts';
import { withCustomer } from './customer.ts';
import { getRecordedSession, type RecordedSession } from './recordedSession.ts';
import { checkReturnUrl } from './returnUrl.ts';
import { settleInvoice } from './settleInvoice.ts';
import { idOf, type SettlementDeps } from './settlement.ts';
import { settleSession } from './settleSession.ts';
import { callStripe } from './stripeErrors.ts';

export type CheckoutDeps = CreateSessionDeps &
  SettlementDeps &
  EffectsDeps & { credits: Credits; logger: Logger };

/** Others write to a subscription now and then; whoever is overtaken so often gives up. */
const READINGS_MAX = 5;

/** Shown while a worker is busy with the session; a hint, removed when it is done. */
export function processingKey(sessionId: string): string {
  return `processing:${sessionId}`;
}

export function createCheckout(deps: CheckoutDeps): Checkout {
  const { db, redis, stripe, credits, prices, clock, logger } = deps;

  /** The state of a session from our own records; null when only Stripe can tell. */
  async function recordedStatus(
    sessionId: string,
    recorded: RecordedSession,
  ): Promise<CheckoutStatusAnswer['status'] | null> {
    if (recorded.entry !== null) return 'credited';
    const state = recorded.session?.state;
    if (state === 'failed' || state === 'expired') return state;
    const events = await db.rpc<{ parked: boolean; in_flight: boolean }>('get_object_events', {
      p_object_id: sessionId,
    });
    if (events.parked) return 'parked';
    if (events.in_flight || state === 'complete') return 'processing';
    const marked = await redis.hasMarker(processingKey(sessionId)).catch((error: unknown) => {
      logger.warn('processing: hint could not be read', { error });
      return false;
    });
    return marked ? 'processing' : null;
  }

  async function answer(
    sessionId: string,
    userId: string | null,
    recorded: RecordedSession,
    status: CheckoutStatusAnswer['status'],
  ): Promise<CheckoutStatusAnswer> {
    const owner = recorded.entry?.user_id ?? recorded.session?.user_id;
    return {
      session_id: sessionId,
      status,
      credits: recorded.entry?.amount ?? recorded.session?.credits ?? 0,
      ...(userId !== null && userId === owner
        ? { balance: (await credits.balance(userId)).balance }
        : {}),
    };
  }

  async function recordedOrNotFound(sessionId: string): Promise<RecordedSession> {
    const recorded = await getRecordedSession(db, sessionId);
    if (recorded.session === null && recorded.entry === null) {
      throw new PurserError('not_found', { detail: `There is no checkout session ${sessionId}.` });
    }
    return recorded;
  }

  /** Decides anew for as long as what the decision rests on moves before it is written. */
  async function settleNow(
    decide: () => Promise<Effect[]>,
  ): Promise<{ effects: Effect[]; applied: AppliedEffects }> {
    for (let reading = 1; reading <= READINGS_MAX; reading += 1) {
      const effects = await decide();
      // A finding or an ignore belongs to the webhook's own row; here only what moves matters.
      const moving = effects.filter(({ kind }) => kind !== 'ignore' && kind !== 'park');
      const applied = await applyEffects(deps, null, moving);
      if (applied.outcome !== 'read_again') return { effects, applied };
    }
    throw new PurserError('in_progress', {
      detail: 'The purchase is being settled by somebody else at this moment. Ask again shortly.',
    });
  }

  return {
    pricing: () => prices.pricing(),
    createSession: (request) => createCheckoutSession(deps, request),

    async sessionStatus({ sessionId, userId }) {
      const recorded = await recordedOrNotFound(sessionId);
      let status = await recordedStatus(sessionId, recorded);
      if (status === null) {
        const session = await callStripe(() => stripe.checkout.sessions.retrieve(sessionId));
        status =
          session.status === 'complete'
            ? 'processing'
            : session.status === 'expired'
              ? 'expired'
              : 'open';
      }
      return answer(sessionId, userId, recorded, status);
    },

    async fulfill({ sessionId, userId }) {
      const recorded = await recordedOrNotFound(sessionId);
      if (recorded.entry !== null) return answer(sessionId, userId, recorded, 'credited');
      let session: Stripe.Checkout.Session | undefined;
      let { effects, applied } = await settleNow(async () => {
        const read = await settleSession(deps, sessionId, clock.now());
        session = read.session;
        return read.effects;
      });
      const invoiceId = idOf(session?.invoice);
      if (session?.mode === 'subscription' && invoiceId !== null) {
        // A plan's credits come with its invoice, under the same key as from the webhook.
        ({ effects, applied } = await settleNow(() => settleInvoice(deps, invoiceId, clock.now())));
      }
      const settled = await getRecordedSession(db, sessionId);
      const status =
        settled.entry !== null
          ? 'credited'
          : applied.outcome === 'parked' || effects.some(({ kind }) => kind === 'park')
            ? 'parked'
            : ((await recordedStatus(sessionId, settled)) ??
              (session?.status === 'open' ? 'open' : 'processing'));
      return answer(sessionId, userId, settled, status);
    },

    async portalSession({ userId, email, returnUrl }) {
      const origins = [new URL(deps.publicUrl()).origin, ...deps.returnOrigins];
      const target = returnUrl ?? `${deps.publicUrl()}/account`;
      const return_url = checkReturnUrl('return_url', target, origins);
      const user = await credits.ensureUser({ userId, email: email ?? undefined });
      const owner = { userId: user.user_id, email: email ?? user.email };
      const portal = await withCustomer(deps, owner, user.stripe_customer_id, (customer) =>
        callStripe(() => stripe.billingPortal.sessions.create({ customer, return_url })),
      );
      return { url: portal.url };
    },
  };
}
