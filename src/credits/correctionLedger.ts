import type { Database, Json, MirrorRecord } from '../core/ports.ts';
import type { CorrectionAnswer, GrantRequest } from './corrections.types.ts';

/**
 * The functions of sql/credit_corrections_migration.sql, typed. One function here is one SQL
 * function; rules, outcomes and locks are documented there.
 */

interface Account {
  user_id: string;
  balance: number;
  held: number;
  available: number;
  version: number;
  mirror: MirrorRecord;
}

type Written = Omit<CorrectionAnswer, 'outcome'> & {
  outcome: 'applied' | 'replayed';
  /** Only with `applied`. */
  repaid_debt?: number;
  mirror: MirrorRecord;
};
type Conflict = { outcome: 'conflict' };
type NotFound = { outcome: 'not_found' };

export type RefundOutcome =
  | Written
  | Conflict
  | (Account & { outcome: 'exceeds_usage'; left: number })
  /** With `transaction_id`: the user is there, the usage entry is not. */
  | (NotFound & { transaction_id?: string });
export type GrantOutcome = Written | Conflict | NotFound | { outcome: 'expired' };
export type AdjustOutcome =
  | Written
  | Conflict
  | NotFound
  | (Account & { outcome: 'insufficient_credits' });

export function refundUsage(
  db: Database,
  request: {
    userId: string;
    transactionId: string;
    amount?: number | undefined;
    key: string;
    description?: string | undefined;
    metadata?: Json | undefined;
  },
): Promise<RefundOutcome> {
  return db.rpc('refund_usage', {
    p_user_id: request.userId,
    p_transaction_id: request.transactionId,
    p_amount: request.amount,
    p_key: request.key,
    p_description: request.description,
    p_metadata: request.metadata,
  });
}

export function grantFreeCredits(db: Database, request: GrantRequest): Promise<GrantOutcome> {
  return db.rpc('grant_free_credits', {
    p_user_id: request.userId,
    p_amount: request.amount,
    p_type: request.type,
    p_key: request.idempotencyKey,
    p_reason: request.reason,
    p_expires_at: request.expiresAt,
    p_priority: request.priority,
  });
}

export function adjustCredits(
  db: Database,
  request: { userId: string; amount: number; key: string; reason: string; actor: string },
): Promise<AdjustOutcome> {
  return db.rpc('adjust_credits', {
    p_user_id: request.userId,
    p_amount: request.amount,
    p_key: request.key,
    p_reason: request.reason,
    p_actor: request.actor,
  });
}
