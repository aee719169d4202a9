/** What corrections of the credits domain take and answer, in the shapes of the HTTP contract. */
import type { ConsumeAnswer } from './credits.types.ts';

export const GRANT_TYPES = ['bonus', 'adjustment'] as const;

export const PRIORITY_MIN = 0;
export const PRIORITY_MAX = 1000;

/** An entry that was written; `lots` are those that took credits in, or gave them. */
export type CorrectionAnswer = ConsumeAnswer;

export interface GrantAnswer extends CorrectionAnswer {
  /** The lot that was made. */
  grant_id: string;
}

export interface RefundRequest {
  userId: string;
  /** The usage entry, of a consume or a capture. */
  transactionId: string;
  /** Left out: all that is left of it. */
  amount?: number | undefined;
  /** Chosen by the caller; permanent and unique per user. */
  idempotencyKey: string;
  description?: string | undefined;
  metadata?: Record<string, unknown> | undefined;
}

export interface GrantRequest {
  userId: string;
  amount: number;
  type: (typeof GRANT_TYPES)[number];
  /** Shown in the history. */
  reason: string;
  /** ISO 8601, in the future; left out: the credits do not expire. */
  expiresAt?: string | undefined;
  /** PRIORITY_MIN to PRIORITY_MAX, the lower is spent first; default 100. */
  priority?: number | undefined;
  idempotencyKey: string;
}

export interface AdjustRequest {
  userId: string;
  /** Signed, not 0. */
  amount: number;
  /** Shown in the history and the audit log. */
  reason: string;
  idempotencyKey: string;
}

/**
 * Corrections of the book: new entries, each once per key. `replayed` tells that the answer is the
 * first one's. Every call may meet `user_not_found`, `idempotency_key_reused` and
 * `dependency_down`.
 */
export interface Corrections {
  /**
   * Gives a spend back, in whole or in part, to where it was taken from; debt is repaid first.
   * Errors: `not_found` (no such usage entry of this user's), `invalid_request` (more than is left
   * of it).
   */
  refundUsage(request: RefundRequest): Promise<{ answer: CorrectionAnswer; replayed: boolean }>;
  /** Gives credits nobody paid for. Errors: `invalid_request` (it would have expired already). */
  grant(request: GrantRequest): Promise<{ answer: GrantAnswer; replayed: boolean }>;
  /**
   * Adds or takes credits by a person's word, audited with `actor`. The answer's `amount` has the
   * sign of the request's. Errors: `insufficient_credits` (what open holds reserve is not taken).
   */
  adjust(
    request: AdjustRequest,
    actor: string,
  ): Promise<{ answer: CorrectionAnswer; replayed: boolean }>;
}
