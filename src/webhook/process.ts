import type { StripeCache } from '../checkout/stripeCache.ts';
import { type Random, retryDelaySeconds } from '../core/backoff.ts';
import { PurserError } from '../core/errors.ts';
import {
  type AppliedEffects,
  applyEffects,
  type Effect,
  type EffectsDeps,
} from '../credits/effects.ts';
import { type DispatchDeps, dispatch } from './dispatch.ts';
import { classifyFailure } from './failure.ts';
import { claimEvents, failEvent, type LeasedEvent } from './inbox.ts';
import { readStoredEvent } from './stripeEvent.ts';

export type ProcessDeps = DispatchDeps &
  EffectsDeps & {
    random: Random;
    stripeCache: Pick<StripeCache, 'read' | 'forget'>;
    /** Told of the end of each attempt. `lagSeconds`: since Stripe created the event, if applied. */
    observeEvent?: (event: {
      type: string;
      outcome: ProcessOutcome | 'covered';
      attempt: number;
      lagSeconds: number | null;
    }) => void;
  };

/** How the work on one event ended; `stale`: somebody else has the lease by now. */
export type ProcessOutcome = 'applied' | 'ignored' | 'parked' | 'failed' | 'dead' | 'stale';

/** One object cannot keep a worker for ever; what is left is the sweep's. */
const FOLLOW_UPS_MAX = 50;
/** Others move a payment now and then; whoever is overtaken so often lets some time pass. */
const READINGS_MAX = 5;

/**
 * Works on a leased event: decide, then apply in one transaction. A failure is recorded with the
 * time of the next attempt, never swallowed; a crash leaves the lease, which runs out. Afterwards
 * the other due events of the same object are worked on, in order.
 */
export async function processEvent(
  deps: ProcessDeps,
  leased: LeasedEvent,
): Promise<ProcessOutcome> {
  const first = await attempt(deps, leased);
  let waiting = first.waiting;
  for (let round = 0; waiting && leased.order_key !== null && round < FOLLOW_UPS_MAX; round += 1) {
    const [next] = await claimEvents(deps.db, 1, leased.order_key);
    if (next === undefined) break;
    waiting = (await attempt(deps, next)).waiting;
  }
  return first.outcome;
}

async function attempt(
  deps: ProcessDeps,
  leased: LeasedEvent,
): Promise<{ outcome: ProcessOutcome; waiting: boolean }> {
  const { outcome, waiting, createdAt, covered = [] } = await tryOnce(deps, leased);
  const { event_type: type, attempt: number } = leased;
  const lagSeconds =
    outcome === 'applied' && createdAt !== undefined
      ? Math.max(0, (deps.clock.now().getTime() - createdAt.getTime()) / 1000)
      : null;
  deps.observeEvent?.({ type, outcome, attempt: number, lagSeconds });
  for (const other of covered) {
    deps.observeEvent?.({ type: other, outcome: 'covered', attempt: 1, lagSeconds: null });
  }
  return { outcome, waiting };
}

async function tryOnce(
  deps: ProcessDeps,
  leased: LeasedEvent,
): Promise<{ outcome: ProcessOutcome; waiting: boolean; createdAt?: Date; covered?: string[] }> {
  const { logger } = deps;
  const event = { id: leased.event_id, fence: leased.fence };
  const fields = {
    event_id: leased.event_id,
    event_type: leased.event_type,
    attempt: leased.attempt,
  };
  try {
    const applied = await decideAndApply(deps, leased, event);
    const { outcome, reason } = applied;
    if (outcome === 'stale') logger.warn('Lease lost; another worker has the event', fields);
    if (outcome === 'parked') logger.warn(`Event ${event.id} is parked: ${reason}`, fields);
    if (outcome === 'ignored') logger.info(`Event ${event.id} is ignored: ${reason}`, fields);
    const { waiting, createdAt, covered } = applied;
    return { outcome, waiting, createdAt, covered };
  } catch (error) {
    logger.error(`Failed to handle ${leased.event_type}`, { ...fields, error });
    const failure = classifyFailure(error);
    const backoff = retryDelaySeconds(leased.attempt, deps.random);
    const delay = backoff === null ? null : Math.max(backoff, failure.retryAfterSeconds);
    const { outcome } = await failEvent(deps.db, event, failure, delay);
    if (outcome === 'dead') {
      logger.error(`Event ${event.id} is dead after ${leased.attempt} attempts`, fields);
    }
    return { outcome, waiting: false };
  }
}

/** Decides anew for as long as what the decision rests on has moved before it was written. */
async function decideAndApply(
  deps: ProcessDeps,
  leased: LeasedEvent,
  event: { id: string; fence: number },
): Promise<
  AppliedEffects & { outcome: Exclude<AppliedEffects['outcome'], 'read_again'>; createdAt: Date }
> {
  const stored = readStoredEvent(leased, deps.livemode);
  for (let reading = 1; reading <= READINGS_MAX; reading += 1) {
    const effects = await dispatch(deps, stored);
    const applied = await applyEffects(deps, event, effects);
    if (effects.some(isPriceChange)) deps.stripeCache.forget();
    const { outcome } = applied;
    if (outcome !== 'read_again') return { ...applied, outcome, createdAt: stored.createdAt };
  }
  throw new PurserError('in_progress', {
    detail: `The payment or subscription was changed by others ${READINGS_MAX} times while this event was worked on.`,
  });
}

/** Only products and prices are kept in the process. */
function isPriceChange(effect: Effect): boolean {
  return effect.kind === 'stripe_changed' && /^(product|price)\./.test(effect.event_type);
}
