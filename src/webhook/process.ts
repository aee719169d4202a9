import type { StripeCache } from '../checkout/stripeCache.ts';
import { type Random, retryDelaySeconds } from '../core/backoff.ts';
import { PurserError } from '../core/errors.ts';
import { type AppliedEffects, applyEffects, type EffectsDeps } from '../credits/effects.ts';
import { type DispatchDeps, dispatch } from './dispatch.ts';
import { classifyFailure } from './failure.ts';
import { claimEvents, failEvent, type LeasedEvent } from './inbox.ts';
import { readStoredEvent } from './stripeEvent.ts';

export type ProcessDeps = DispatchDeps &
  EffectsDeps & { random: Random; stripeCache: Pick<StripeCache, 'forget'> };

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
    return { outcome, waiting: applied.waiting };
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
): Promise<AppliedEffects & { outcome: Exclude<AppliedEffects['outcome'], 'read_again'> }> {
  for (let reading = 1; reading <= READINGS_MAX; reading += 1) {
    const effects = await dispatch(deps, readStoredEvent(leased, deps.livemode));
    const applied = await applyEffects(deps, event, effects);
    if (effects.some(({ kind }) => kind === 'stripe_changed')) deps.stripeCache.forget();
    const { outcome } = applied;
    if (outcome !== 'read_again') return { ...applied, outcome };
  }
  throw new PurserError('in_progress', {
    detail: `The payment was changed by others ${READINGS_MAX} times while this event was worked on.`,
  });
}
