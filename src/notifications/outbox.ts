import { randomUUID } from 'node:crypto';
import type { Database, Json } from '../core/ports.ts';

/** A message under its lease; see claim_notifications in sql/. */
export interface LeasedMessage {
  id: number;
  key: string;
  kind: string;
  user_id: string | null;
  /** Null for alerts. */
  to: string | null;
  data: Record<string, unknown>;
  fence: number;
  /** 1 = the first. */
  attempt: number;
  created_at: string;
}

export interface Ending {
  outcome: 'sent' | 'kept' | 'dropped' | 'failed';
  error?: string;
  /** Of `failed`: null = the message is dead. */
  delaySeconds?: number | null;
  transport?: string;
  providerId?: string | null;
  subject?: string;
  /** Kept with its data, for the next attempt. */
  progress?: Record<string, Json>;
}

export function claimMessages(
  db: Database,
  limit: number,
  leaseSeconds: number,
): Promise<LeasedMessage[]> {
  return db.rpc('claim_notifications', {
    p_limit: limit,
    p_lease_seconds: leaseSeconds,
    p_holder: randomUUID(),
  });
}

/** `stale`: the lease was lost, somebody else has the message. */
export function finishMessage(
  db: Database,
  { id, fence }: Pick<LeasedMessage, 'id' | 'fence'>,
  ending: Ending,
): Promise<{ outcome: 'sent' | 'kept' | 'dropped' | 'failed' | 'dead' | 'stale' }> {
  return db.rpc('finish_notification', {
    p_id: id,
    p_fence: fence,
    p_outcome: ending.outcome,
    p_error: ending.error ?? null,
    p_delay_seconds: ending.delaySeconds ?? null,
    p_transport: ending.transport ?? null,
    p_provider_id: ending.providerId ?? null,
    p_subject: ending.subject ?? null,
    p_progress: ending.progress ?? {},
  });
}

/** One page of the clean-up: address and data of messages that ended so long ago are taken out. */
export function forgetMessages(
  db: Database,
  days: number,
  limit: number,
): Promise<{ forgotten: number }> {
  return db.rpc('forget_notifications', { p_days: days, p_limit: limit });
}
