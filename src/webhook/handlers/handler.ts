import type { SettlementDeps } from '../../checkout/settlement.ts';
import type { RedisStore } from '../../core/ports.ts';
import type { Effect } from '../../credits/effects.ts';
import type { StripeEvent } from '../stripeEvent.ts';

export type HandlerDeps = SettlementDeps & { redis: RedisStore };

/** An event as handlers see it: about an object, `type` without the `v1.` of thin notifications. */
export type HandledEvent = StripeEvent & { objectId: string };

/**
 * Says what an event leads to; writes nothing. The payload only tells which object changed: state
 * is read from Stripe, so order and age of events do not matter. A thrown error is recorded and
 * tried again.
 */
export type Handler = (deps: HandlerDeps, event: HandledEvent) => Promise<Effect[]>;
