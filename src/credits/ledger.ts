import { PurserError } from '../core/errors.ts';
import type { Database, Json, MirrorRecord } from '../core/ports.ts';
import type {
  BalanceAnswer,
  ConsumeAnswer,
  CreditTransaction,
  UserAnswer,
} from './credits.types.ts';

/**
 * The money functions of the database, typed. One function here is one SQL function; the rules,
 * outcomes and locks are documented there (sql/README.md says in which file).
 */

export type LedgerBalance = Omit<BalanceAnswer, 'source' | 'next_grant'> & { mirror: MirrorRecord };

interface Refusal {
  user_id: string;
  balance: number;
  held: number;
  available: number;
  version: number;
}

/** What a spend comes to. */
export type ConsumeOutcome =
  | (Omit<ConsumeAnswer, 'outcome'> & { outcome: 'applied' | 'replayed' })
  | { outcome: 'conflict' }
  | (Refusal & { outcome: 'insufficient_credits' | 'suspended' })
  | { outcome: 'not_found' };

/** `busy`: the user is locked by another transaction; nothing was written. */
export type BatchedOutcome = ConsumeOutcome | { outcome: 'busy' };

/** One spend, as consume_credits_batch takes it. */
export interface SpendOperation {
  user_id: string;
  /** Whole credits, 1 to 2^53 - 1. */
  amount: number;
  /** Permanent and unique per user; 1 to 255 bytes. */
  idempotency_key: string;
  description?: string;
  metadata?: Json;
}

export const BATCH_OPERATIONS_MAX = 500;

export async function getCreditBalance(db: Database, userId: string): Promise<LedgerBalance> {
  const answer = await db.rpc<(LedgerBalance & { outcome: 'found' }) | { outcome: 'not_found' }>(
    'get_credit_balance',
    { p_user_id: userId },
  );
  if (answer.outcome === 'not_found') throw userNotFound(userId);
  return answer;
}

/** Waits for the lock of the user. The record is null where there is no user. */
export async function consumeCredits(
  db: Database,
  operation: SpendOperation,
): Promise<{ outcome: ConsumeOutcome; mirror: UserMirrorRecord | null }> {
  const { mirror, ...outcome } = await db.rpc<ConsumeOutcome & { mirror?: MirrorRecord }>(
    'consume_credits',
    {
      p_user_id: operation.user_id,
      p_amount: operation.amount,
      p_key: operation.idempotency_key,
      p_description: operation.description,
      p_metadata: operation.metadata,
    },
  );
  const { user_id } = outcome as { user_id?: string };
  return {
    outcome: outcome as ConsumeOutcome,
    mirror: mirror === undefined ? null : { ...mirror, user_id: user_id ?? operation.user_id },
  };
}

/**
 * At most BATCH_OPERATIONS_MAX spends in one transaction, each with its own outcome, in any order
 * and named by its `index`; one record of each user that was locked. `wait`: for locked users
 * instead of answering `busy`, up to the lock timeout.
 */
export function consumeCreditsBatch(
  db: Database,
  operations: SpendOperation[],
  wait: boolean,
): Promise<{
  results: (BatchedOutcome & { index: number; idempotency_key: string })[];
  mirrors: UserMirrorRecord[];
}> {
  return db.rpc('consume_credits_batch', {
    p_operations: operations as unknown as Json,
    p_wait: wait,
  });
}

export async function listCreditTransactions(
  db: Database,
  filter: {
    userId: string;
    limit: number;
    beforeEntry?: number | undefined;
    type?: string | undefined;
    from?: string | undefined;
    to?: string | undefined;
  },
): Promise<{ data: CreditTransaction[]; has_more: boolean; next_before_entry: number | null }> {
  type Page = { data: CreditTransaction[]; has_more: boolean; next_before_entry: number | null };
  const answer = await db.rpc<(Page & { outcome: 'found' }) | { outcome: 'not_found' }>(
    'list_credit_transactions',
    {
      p_user_id: filter.userId,
      p_limit: filter.limit,
      p_before_entry: filter.beforeEntry,
      p_type: filter.type,
      p_from: filter.from,
      p_to: filter.to,
    },
  );
  if (answer.outcome === 'not_found') throw userNotFound(filter.userId);
  return answer;
}

export async function ensureUser(
  db: Database,
  user: {
    userId: string;
    email?: string;
    stripeCustomerId?: string;
    replace: boolean;
    welcomeCredits: number;
  },
): Promise<UserAnswer> {
  const answer = await db.rpc<
    (UserAnswer & { outcome: 'created' | 'exists' }) | { outcome: 'not_found'; reason?: string }
  >('ensure_user', {
    p_user_id: user.userId,
    p_email: user.email,
    p_stripe_customer_id: user.stripeCustomerId,
    p_replace: user.replace,
    p_welcome_credits: user.welcomeCredits,
  });
  if (answer.outcome === 'not_found') {
    throw new PurserError('user_not_found', {
      detail:
        `There is no user ${user.userId} and no row could be made for it` +
        `${answer.reason ? `: ${answer.reason}` : ''}. Insert it into the users table first.`,
    });
  }
  const { user_id, email, stripe_customer_id, created } = answer;
  return { user_id, email, stripe_customer_id, created };
}

export type UserMirrorRecord = MirrorRecord & { user_id: string };

export interface MirrorChanges {
  ledger: string;
  /** Grows with every entry; lower than before = the database was restored. */
  position: number;
  /** Database time of the page. */
  as_of: string;
  complete: boolean;
  last_change: string | null;
  records: UserMirrorRecord[];
  /** Users who changed and are gone. */
  gone: string[];
}

export function listMirrorChanges(
  db: Database,
  since: string,
  limit: number,
): Promise<MirrorChanges> {
  return db.rpc('list_mirror_changes', { p_since: since, p_limit: limit });
}

/** A page of all users in the order of their ids; `after` null begins. */
export function listMirrorRecords(
  db: Database,
  after: string | null,
  limit: number,
): Promise<{ complete: boolean; last: string | null; records: UserMirrorRecord[] }> {
  return db.rpc('list_mirror_records', { p_after: after, p_limit: limit });
}

/** Of these users (at most 1000) those that exist, in any order. */
export async function getMirrorRecords(
  db: Database,
  userIds: string[],
): Promise<UserMirrorRecord[]> {
  const answer = await db.rpc<{ records: UserMirrorRecord[] }>('get_mirror_records', {
    p_user_ids: userIds,
  });
  return answer.records;
}

/** Which of these copies (at most 1000) the ledger does not bear out; see judge_mirror_copies. */
export function judgeMirrorCopies(
  db: Database,
  seen: { user_id: string; ledger: string | null; version: number | null }[],
): Promise<{ gone: string[]; ahead: UserMirrorRecord[] }> {
  return db.rpc('judge_mirror_copies', { p_seen: seen });
}

export function expireDueCredits(
  db: Database,
  limit: number,
): Promise<{ users: number; more: boolean }> {
  return db.rpc('expire_due_credits', { p_limit: limit });
}

export function sealCreditEntries(
  db: Database,
  limit: number,
): Promise<{ users: number; entries: number; more: boolean }> {
  return db.rpc('seal_credit_entries', { p_limit: limit });
}

export function userNotFound(userId: string): PurserError {
  return new PurserError('user_not_found', {
    detail: `There is no user ${userId}. Create it with PUT /api/users/<id>, or sign in once.`,
  });
}
