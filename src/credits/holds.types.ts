/** What the holds of the credits domain answer, in the shapes of the HTTP contract. */

export const HOLD_STATUSES = ['open', 'captured', 'released', 'expired'] as const;

export type HoldStatus = (typeof HOLD_STATUSES)[number];

/** Bounds of how long a hold lasts, counted from the call; the database has the same. */
export const HOLD_SECONDS_MIN = 1;
export const HOLD_SECONDS_MAX = 30 * 86_400;
export const HOLD_SECONDS_DEFAULT = 600;

/** Always amount = captured + released + remaining. */
export interface HoldState {
  /** h_<n>. */
  hold_id: string;
  user_id: string;
  status: HoldStatus;
  amount: number;
  captured: number;
  /** Given back when the hold ended; of an expired one it can still be captured, if it can be had. */
  released: number;
  /** Reserved now. */
  remaining: number;
  expires_at: string;
}

/** A hold and the account it left. */
export interface HoldAnswer extends HoldState {
  /** The entry a capture wrote; null for everything else. */
  transaction_id: string | null;
  balance: number;
  held: number;
  available: number;
  version: number;
}

export interface HoldDetails extends HoldState {
  description: string | null;
  metadata: Record<string, unknown>;
  created_at: string;
}

export interface HoldPage {
  data: HoldDetails[];
  has_more: boolean;
  /** hold_id of the last one shown. */
  next_cursor: string | null;
}

interface Notes {
  description?: string | undefined;
  metadata?: Record<string, unknown> | undefined;
}

export interface HoldRequest extends Notes {
  userId: string;
  /** Whole credits, 1 to 2^53 - 1. */
  amount: number;
  /** HOLD_SECONDS_MIN to HOLD_SECONDS_MAX. */
  expiresInSeconds: number;
  /** Chosen by the caller; permanent and unique per user. */
  idempotencyKey: string;
}

export interface CaptureRequest extends Notes {
  holdId: string;
  /** Left out: all that was not captured yet. */
  amount?: number | undefined;
  /** Chosen by the caller; permanent and unique per hold. */
  idempotencyKey: string;
}

/**
 * Credits reserved for work that is not done yet. Every call may meet `dependency_down`, and every
 * call that names a hold `not_found` (no such hold) and `user_not_found` (its account is closed).
 */
export interface Holds {
  /**
   * Reserves, once per key. `replayed` tells that the answer is the first one's. Errors:
   * `insufficient_credits`, `suspended`, `idempotency_key_reused`, `user_not_found`.
   */
  create(request: HoldRequest): Promise<{ answer: HoldAnswer; replayed: boolean }>;
  /**
   * Spends of what is reserved, once per key. A hold that expired is captured if the credits can
   * still be had. Errors: `hold_ended`, `invalid_request` (more than remains),
   * `insufficient_credits`, `suspended`, `idempotency_key_reused`.
   */
  capture(request: CaptureRequest): Promise<{ answer: HoldAnswer; replayed: boolean }>;
  /** Gives the rest back. Repeatable: a hold that has ended is answered as it is. */
  release(holdId: string): Promise<HoldAnswer>;
  /** Counted from now by the database clock; never shortens. Errors: `hold_ended`. */
  extend(request: { holdId: string; expiresInSeconds: number }): Promise<HoldAnswer>;
  /** A hold of a closed account too, as it was left. */
  get(holdId: string): Promise<HoldDetails>;
  /**
   * The user's open holds, oldest first; `limit` 1 to 100, `cursor` the `next_cursor` of the page
   * before. Errors: `user_not_found`.
   */
  listOpen(request: {
    userId: string;
    limit: number;
    cursor?: string | undefined;
  }): Promise<HoldPage>;
}
