import type { Database, Json, MirrorRecord } from '../core/ports.ts';
import type { HoldAnswer, HoldDetails } from './holds.types.ts';

/**
 * The functions of sql/credit_holds_migration.sql, typed. One function here is one SQL function;
 * rules, outcomes and locks are documented there.
 */

interface Account {
  user_id: string;
  balance: number;
  held: number;
  available: number;
  version: number;
  mirror: MirrorRecord;
}

type Answered<Outcome extends string> = HoldAnswer & { outcome: Outcome; mirror: MirrorRecord };
/** With `user_id`: the hold is there, but its account is closed. */
type HoldNotFound = { outcome: 'not_found'; user_id?: string };

export type HoldOutcome =
  | Answered<'applied' | 'replayed' | 'conflict'>
  | (Account & { outcome: 'insufficient_credits' | 'suspended' })
  | { outcome: 'not_found' };

export type CaptureOutcome =
  | Answered<
      | 'applied'
      | 'replayed'
      | 'conflict'
      | 'hold_ended'
      | 'hold_exceeded'
      | 'insufficient_credits'
      | 'suspended'
    >
  | HoldNotFound;
export type ReleaseOutcome = Answered<'applied' | 'unchanged'> | HoldNotFound;
export type ExtendOutcome = Answered<'applied' | 'unchanged' | 'hold_ended'> | HoldNotFound;

interface Notes {
  description?: string;
  metadata?: Json;
}

export function holdCredits(
  db: Database,
  request: { userId: string; amount: number; expiresInSeconds: number; key: string } & Notes,
): Promise<HoldOutcome> {
  return db.rpc('hold_credits', {
    p_user_id: request.userId,
    p_amount: request.amount,
    p_expires_in_seconds: request.expiresInSeconds,
    p_key: request.key,
    p_description: request.description,
    p_metadata: request.metadata,
  });
}

export function captureHold(
  db: Database,
  request: { holdId: string; amount?: number | undefined; key: string } & Notes,
): Promise<CaptureOutcome> {
  return db.rpc('capture_hold', {
    p_hold_id: request.holdId,
    p_amount: request.amount,
    p_key: request.key,
    p_description: request.description,
    p_metadata: request.metadata,
  });
}

export function releaseHold(db: Database, holdId: string): Promise<ReleaseOutcome> {
  return db.rpc('release_hold', { p_hold_id: holdId });
}

/** Calling twice lets the hold last a little longer, which is what both calls ask for. */
export function extendHold(
  db: Database,
  holdId: string,
  expiresInSeconds: number,
): Promise<ExtendOutcome> {
  return db.rpc('extend_hold', { p_hold_id: holdId, p_expires_in_seconds: expiresInSeconds });
}

/** `mirror` is null unless the look ended the hold. */
export function getHold(
  db: Database,
  holdId: string,
): Promise<
  (HoldDetails & { outcome: 'found'; mirror: MirrorRecord | null }) | { outcome: 'not_found' }
> {
  return db.rpc('get_hold', { p_hold_id: holdId });
}

export function listOpenHolds(
  db: Database,
  userId: string,
  limit: number,
  after: string | undefined,
): Promise<
  | {
      outcome: 'found';
      data: HoldDetails[];
      has_more: boolean;
      next_after: string | null;
      mirror: MirrorRecord;
    }
  | { outcome: 'not_found' }
> {
  return db.rpc('list_open_holds', { p_user_id: userId, p_limit: limit, p_after: after });
}
