import { add, type Context } from './context.ts';
import { type FaultPlan, takeFaultPlan } from './faults.ts';
import { deliveries, events } from './tables.ts';

export type Attempt = {
  /** Wall clock, milliseconds. */
  at: number;
  duration_ms: number;
  /** Null when no answer came. */
  status_code: number | null;
  /** Null when the endpoint answered 2xx. */
  error: string | null;
  /** 0 for the regular attempt, 1.. for copies a duplicate fault added. */
  copy: number;
};

export const DELIVERY_STATUSES = ['pending', 'succeeded', 'failed', 'dropped', 'canceled'] as const;
type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

export type DeliveryView = {
  id: string;
  object: 'sandbox.delivery';
  event: string;
  event_type: string;
  endpoint: string;
  /** `canceled`: the endpoint was deleted or disabled, as at Stripe. */
  status: DeliveryStatus;
  /** Regular attempts made; copies do not count. */
  tries: number;
  attempts: Attempt[];
  /** Account's clock, milliseconds; null when nothing more will be sent, or while held to reorder. */
  next_attempt_at: number | null;
  fault: FaultPlan | null;
  /** Account's clock, milliseconds. */
  created: number;
};

/** Finished deliveries kept for the control API; the oldest go first. */
const DELIVERIES_MAX = 20_000;
/** How many pending ones are passed over, at most, to find a finished one to forget. */
const FORGET_LOOK_MAX = 100;

/**
 * Opens the delivery of an event to an endpoint; the deliverer sees it when the transaction commits.
 * Planned in the account's clock, so that advancing it sends and retries. Only the attempts and their
 * signatures have wall clock times: receivers check the signature's age by their own clock.
 */
export function openDelivery(
  ctx: Context,
  event: { id: string; type: string },
  endpoint: string,
  options: { faults: boolean } = { faults: true },
): DeliveryView {
  const id = ctx.newId('whd_', 24);
  const fault = options.faults ? takeFaultPlan(ctx, { id, type: event.type, endpoint }) : null;
  const now = ctx.now();
  const { view } = add(
    ctx,
    deliveries,
    {
      id,
      object: 'sandbox.delivery',
      event: event.id,
      event_type: event.type,
      endpoint,
      status: fault?.drop ? 'dropped' : 'pending',
      tries: 0,
      attempts: [],
      next_attempt_at: fault?.drop || fault?.reorder ? null : now + (fault?.delay_ms ?? 0),
      fault,
      created: now,
    },
    {},
  );
  forgetOldest(ctx);
  return view;
}

/** Writes down one attempt and what follows from it. `retryScheduleMs` bounds the number of tries. */
export function recordAttempt(
  ctx: Context,
  id: string,
  attempt: Attempt,
  retryScheduleMs: readonly number[],
): void {
  const before = ctx.store.get(deliveries, id)?.view;
  if (!before) return;
  const attempts = [...before.attempts, attempt];
  if (attempt.error === null) {
    ctx.store.patch(deliveries, id, { attempts, status: 'succeeded', next_attempt_at: null });
    markDelivered(ctx, before.event, before.endpoint);
    return;
  }
  if (attempt.copy > 0 || before.status !== 'pending') {
    ctx.store.patch(deliveries, id, { attempts });
    return;
  }
  const wait = retryScheduleMs[before.tries];
  ctx.store.patch(deliveries, id, {
    attempts,
    tries: before.tries + 1,
    status: wait === undefined ? 'failed' : 'pending',
    next_attempt_at: wait === undefined ? null : ctx.now() + wait,
  });
}

export function cancelDelivery(ctx: Context, id: string): void {
  ctx.store.patch(deliveries, id, { status: 'canceled', next_attempt_at: null });
}

/** `pending_webhooks` counts endpoints that have not taken the event yet. */
function markDelivered(ctx: Context, event: string, endpoint: string): void {
  const row = ctx.store.get(events, event);
  if (!row?.hidden.waiting.includes(endpoint)) return;
  const waiting = row.hidden.waiting.filter((id) => id !== endpoint);
  ctx.store.patch(events, event, { pending_webhooks: waiting.length }, { waiting });
}

function forgetOldest(ctx: Context): void {
  if (ctx.store.size(deliveries) <= DELIVERIES_MAX) return;
  let looked = 0;
  for (const { id, view } of ctx.store.walk(deliveries, 'oldest_first')) {
    if (view.status !== 'pending') {
      ctx.store.remove(deliveries, id);
      return;
    }
    looked += 1;
    if (looked === FORGET_LOOK_MAX) return;
  }
}
