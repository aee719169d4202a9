import type { Database, Json, Logger, MirrorRecord, RedisStore } from '../core/ports.ts';
import { storableJson } from '../core/storableJson.ts';
import type { Mirror } from './mirror.ts';

/** One lot of a grant; see grant_credits in sql/credit_grants_migration.sql. */
export interface GrantLot {
  credits: number;
  expires_at: string | null;
  cost_amount: number | null;
  cost_currency: string | null;
  catalogue_id: string | null;
  price_id: string;
  /** Default: true for a purchase alone. Free lots are spent before paid ones. */
  paid?: boolean;
  /** Lots of a plan are blocked while a payment of the subscription has failed. */
  from_plan?: boolean;
}

/** Something that paid for a grant; see payments in sql/payments_migration.sql. */
export interface GrantPayment {
  /** pi_..., or ch_... where there is no intent, or balance:in_... for customer balance. */
  payment: string;
  /** In the smallest unit of the currency. */
  paid: number;
  currency: string | null;
}

/** See set_subscription_state in sql/subscriptions_migration.sql; times are ISO 8601. */
export interface SubscriptionSnapshot {
  customer_id: string | null;
  price_id: string | null;
  /** Catalogue id of its plan; null where no item is one of ours. */
  plan: string | null;
  tier: string | null;
  quantity: number;
  period_start: string | null;
  period_end: string | null;
  cancel_at_period_end: boolean;
  cancel_at: string | null;
  canceled_at: string | null;
  ended_at: string | null;
  trial_end: string | null;
  collection_paused: boolean;
  payment_failed: boolean;
  metadata: Record<string, string>;
}

/** Of an invoice, as dunning sees it. `other`: it says nothing about dunning. */
export type DunningVerdict =
  | 'failing'
  | 'paid'
  | 'voided'
  | 'uncollectible'
  | 'sent_as_bill'
  | 'other';

/** See purser.note_dunning in sql/dunning_migration.sql; times are ISO 8601. */
export interface DunningEffect {
  kind: 'dunning';
  user_id: string;
  subscription_id: string;
  customer_id: string | null;
  /** When Stripe was asked. */
  at: string;
  plan_name: string | null;
  /** The steps of a case that is opened now. */
  schedule: { day: number; action: 'mail' | 'cancel'; urgency: string | null }[];
  subscription: {
    status: string;
    collection_paused: boolean;
    collection_resumes_at: string | null;
    ended_at: string | null;
    /** Stripe itself ended it, because its payments failed. */
    ended_unpaid: boolean;
  };
  invoice: {
    id: string;
    verdict: DunningVerdict;
    /** When Stripe first tried to collect it: day 0. */
    failed_at: string;
    paid_at: string | null;
    attempt_count: number;
    next_payment_attempt: string | null;
    /** What is left to pay, in the smallest unit of the currency. */
    amount: number;
    currency: string;
    number: string | null;
    url: string | null;
  } | null;
  /** Who acts where it is no event. */
  actor?: string;
  /** What the job does on that ground, under its lease. */
  step?: {
    case_id: string;
    fence: number;
    action: 'mail' | 'postpone' | 'keep';
    until?: string;
    reason?: string;
  };
}

/**
 * What an event leads to. TypeScript decides which effect with which economic key;
 * apply_webhook_effects decides whether and how much, all in one transaction.
 */
export type Effect =
  | {
      kind: 'grant';
      user_id: string;
      type: 'purchase' | 'allocation' | 'bonus' | 'adjustment';
      /** The entry's idempotency key: the first of `sources`. */
      key: string;
      /** All identities of the settlement: checkout:cs_, invoice:in_, payment:pi_. */
      sources: string[];
      /** Everything that paid for it, customer balance too; claw-backs are shares of their sum. */
      payments: GrantPayment[];
      lots: GrantLot[];
      description: string;
      metadata: Record<string, unknown>;
      session_id: string | null;
      payment_intent_id: string | null;
      invoice_id: string | null;
      event_at: string;
    }
  | {
      /** What became of a payment. The first effect, and one at most: see `read_again`. */
      kind: 'payment_state';
      payment: string;
      /** As read before Stripe was asked; 0 = there was no row. */
      version: number;
      paid: number;
      /** Refunds that succeeded. */
      refunded: number;
      /** Disputes that are open or lost; inquiries and disputes that were won count 0. */
      disputed: number;
      currency: string | null;
      status: string | null;
      detail: Record<string, unknown>;
    }
  | { kind: 'checkout_state'; session_id: string; state: 'complete' | 'expired' | 'failed' }
  /** Links a customer to its user; the e-mail fills an empty column and replaces nothing. */
  | { kind: 'customer'; customer_id: string; user_id: string; email?: string | null }
  | { kind: 'customer_deleted'; customer_id: string }
  | {
      /** A subscription as Stripe tells it now. The first effect, and one at most: see `read_again`. */
      kind: 'subscription_state';
      user_id: string;
      subscription_id: string;
      status: string;
      state: SubscriptionSnapshot;
      /** As read before Stripe was asked; 0 = there was no row. */
      version: number;
      /** When Stripe was asked. */
      as_of: string;
      /** The plan of users without a subscription. */
      free_plan: string;
    }
  | {
      /** Who did what, for people who look later; the actor is the event. */
      kind: 'audit';
      action: string;
      user_id: string | null;
      reason: string | null;
      after: Record<string, unknown>;
    }
  | {
      kind: 'finding';
      code: string;
      subject: string;
      user_id: string | null;
      detail: Record<string, unknown>;
    }
  | {
      /** An e-mail into the outbox, at most one per key; see sql/notifications_migration.sql. */
      kind: 'notify';
      key: string;
      notification: string;
      user_id: string | null;
      /** Default: the user's own address when it is sent. */
      recipient?: string;
      data: Record<string, unknown>;
      /** ISO 8601; default: at once. */
      send_at?: string;
      /** Only if the grant with this key is written by the same application of effects. */
      after_grant?: string;
    }
  | {
      /** Told to operators, once while it lasts; see sql/alerts_migration.sql. */
      kind: 'alert';
      code: string;
      subject: string;
      severity: 'critical' | 'warning';
      /** One line. */
      title: string;
      detail: string;
      /** It ends by itself so long after it was last seen. */
      quiet_seconds: number;
    }
  | {
      /** Offers a purchase that is nobody's to its buyer, by mail; see purser.offer_claim. */
      kind: 'claim_link';
      object_id: string;
      /** The address Stripe collected. */
      recipient: string;
      token: string;
      /** SHA-256 of the token, hexadecimal. */
      token_hash: string;
      credits: number;
    }
  /** What Stripe says about collecting a subscription's invoice; after the subscription's state. */
  | DunningEffect
  /** Cached answers of Stripe about the object are old. */
  | { kind: 'stripe_changed'; event_type: string; object_id: string }
  /** What events of these types tell of the object is known by what was read for this one. */
  | { kind: 'covers'; event_types: string[] }
  | { kind: 'ignore'; reason: string }
  | { kind: 'park'; waiting_for: string | null; reason: string };

export interface EffectResult {
  kind: Effect['kind'];
  outcome:
    | 'applied'
    | 'replayed'
    | 'conflict'
    | 'not_found'
    | 'linked'
    | 'exists'
    | 'queued'
    | 'unchanged'
    | 'illegal';
  user_id?: string | null;
  mirror?: MirrorRecord | null;
}

export interface AppliedEffects {
  /**
   * `stale`: the lease was lost. `read_again`: the payment or subscription has moved since its
   * version was read; nothing was written, and the lease stands.
   */
  outcome: 'applied' | 'parked' | 'ignored' | 'stale' | 'read_again';
  reason: string | null;
  results: EffectResult[];
  /** Types of the events that ended with this one. */
  covered: string[];
  /** Other events of the same object are due. */
  waiting: boolean;
}

export interface EffectsDeps {
  db: Database;
  redis: RedisStore;
  mirror: Mirror;
  logger: Logger;
}

/** How long Redis remembers that a session was credited; a hint, the ledger key is the proof. */
const PROCESSED_TTL_SECONDS = 24 * 3600;

export function processedKey(sessionId: string): string {
  return `processed:${sessionId}`;
}

/**
 * Applies effects in one transaction, then mirrors what changed. With an event they end it under
 * its lease; without one (the success page settles its own session) they stand alone. Idempotent:
 * money effects carry keys, the rest only moves forward.
 */
export async function applyEffects(
  deps: EffectsDeps,
  event: { id: string; fence: number } | null,
  effects: Effect[],
): Promise<AppliedEffects> {
  const applied = await deps.db.rpc<AppliedEffects>('apply_webhook_effects', {
    p_event_id: event?.id ?? null,
    p_fence: event?.fence ?? null,
    p_effects: storableJson(effects) as Json[],
  });
  await followEffects(deps, effects, applied);
  return applied;
}

/** What follows effects that another function than apply_webhook_effects has applied: copies and log lines. */
export async function followEffects(
  { redis, mirror, logger }: Omit<EffectsDeps, 'db'>,
  effects: Effect[],
  applied: Pick<AppliedEffects, 'results'>,
): Promise<void> {
  for (const [index, result] of applied.results.entries()) {
    const effect = effects[index];
    if (result.mirror && result.user_id) mirror.update(result.user_id, result.mirror);
    if (effect?.kind !== 'grant') continue;
    reportGrant(logger, { ...effect, user_id: result.user_id ?? effect.user_id }, result.outcome);
    if (effect.session_id && (result.outcome === 'applied' || result.outcome === 'replayed')) {
      await redis
        .setMarker(processedKey(effect.session_id), PROCESSED_TTL_SECONDS)
        .catch((error: unknown) => logger.warn('processed: hint was not set', { error }));
    }
  }
}

function reportGrant(
  logger: Logger,
  effect: Extract<Effect, { kind: 'grant' }>,
  outcome: EffectResult['outcome'],
): void {
  const what = effect.session_id ? `session ${effect.session_id}` : effect.key;
  const fields = { user_id: effect.user_id, sources: effect.sources };
  if (outcome === 'applied') {
    logger.info(`Successfully processed ${what} for user ${effect.user_id}`, fields);
  } else if (outcome === 'replayed') {
    logger.info(`${capital(what)} already processed, skipping`, fields);
  } else if (outcome === 'conflict') {
    logger.error(
      `${capital(what)} was credited to another user or twice; see the findings`,
      fields,
    );
  } else {
    logger.warn(`${capital(what)} waits for user ${effect.user_id}, who does not exist`, fields);
  }
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
