import { randomUUID } from 'node:crypto';
import type { Database, Json } from '../core/ports.ts';
import { storableJson } from '../core/storableJson.ts';
import type { Failure } from './failure.ts';
import type { StripeEvent } from './stripeEvent.ts';
import type { RetryAnswer, RetryRequest } from './webhook.types.ts';

/** The inbox functions of the database, typed; see sql/stripe_webhook_events_migration.sql. */

/** Longer than the slowest attempt: every call in it is bounded well below. */
const LEASE_SECONDS = 60;

export interface LeasedEvent {
  event_id: string;
  event_type: string;
  object_id: string | null;
  /** Events with the same key are worked on one at a time. */
  order_key: string | null;
  /** Proof of the lease; an older one is refused. */
  fence: number;
  /** 1 = the first. */
  attempt: number;
  payload: unknown;
}

/** An event as the inbox keeps it, however it came. */
function inboxRow(event: StripeEvent) {
  return {
    event_id: event.id,
    event_type: event.type,
    object_id: event.objectId,
    order_key: event.orderKey,
    created_at: event.createdAt.toISOString(),
    payload: storableJson(event.payload) as Json,
  };
}

/** `lease` false leaves the event to the sweep, for a process that is busy enough. */
export function receiveEvent(
  db: Database,
  event: StripeEvent,
  lease: boolean,
): Promise<{ outcome: 'received' | 'duplicate' | 'requeued'; leased: boolean; fence?: number }> {
  const row = inboxRow(event);
  return db.rpc('receive_webhook_event', {
    p_event_id: row.event_id,
    p_event_type: row.event_type,
    p_object_id: row.object_id,
    p_order_key: row.order_key,
    p_event_created_at: row.created_at,
    p_payload: row.payload,
    p_lease_seconds: lease ? LEASE_SECONDS : null,
    p_holder: randomUUID(),
  });
}

/** Leases due events. The token makes the adapter's own repeat of a lost answer find them again. */
export function claimEvents(
  db: Database,
  limit: number,
  orderKey?: string,
): Promise<LeasedEvent[]> {
  return db.rpc('claim_webhook_events', {
    p_limit: limit,
    p_lease_seconds: LEASE_SECONDS,
    p_order_key: orderKey,
    p_holder: randomUUID(),
  });
}

/** `delaySeconds` null = give up: the event is dead until a person asks again. */
export function failEvent(
  db: Database,
  event: { id: string; fence: number },
  failure: Failure,
  delaySeconds: number | null,
): Promise<{ outcome: 'failed' | 'dead' | 'stale' }> {
  return db.rpc('fail_webhook_event', {
    p_event_id: event.id,
    p_fence: event.fence,
    p_error: failure.message,
    p_delay_seconds: delaySeconds,
    p_code: failure.code,
    p_cause: failure.cause,
  });
}

export function requeueEvents(
  db: Database,
  request: RetryRequest,
  actor: string,
): Promise<RetryAnswer> {
  return db.rpc('requeue_webhook_events', {
    p_event_ids: request.event_ids,
    p_status: request.status,
    p_type: request.type,
    p_since: request.since,
    p_dry_run: request.dry_run ?? false,
    p_actor: actor,
  });
}

export function requeueParkedEvents(db: Database, limit: number): Promise<{ requeued: number }> {
  return db.rpc('requeue_parked_events', { p_limit: limit });
}

/** One page of the clean-up; `keepPayloads` spares events that wrote entries. */
export function deleteOldEvents(
  db: Database,
  days: number,
  keepPayloads: boolean,
  limit: number,
): Promise<{ deleted: number }> {
  return db.rpc('delete_old_webhook_events', {
    p_days: days,
    p_keep_payloads: keepPayloads,
    p_limit: limit,
  });
}

/**
 * Commits those events (100 at most) that were never delivered; being listed is not being delivered
 * again, so the others stay as they are. `actor`: audited as that person's doing. Idempotent.
 */
export function receiveMissedEvents(
  db: Database,
  events: StripeEvent[],
  { dryRun, actor }: { dryRun: boolean; actor: string | null },
): Promise<{ received: string[]; duplicates: number }> {
  return db.rpc('receive_missed_events', {
    p_events: events.map(inboxRow),
    p_dry_run: dryRun,
    p_actor: actor,
  });
}
