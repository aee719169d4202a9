/** What the credits domain answers, in the shapes of the HTTP contract. */

export const TRANSACTION_TYPES = [
  'purchase',
  'allocation',
  'bonus',
  'usage',
  'usage_refund',
  'clawback',
  'clawback_reversal',
  'expiration',
  'adjustment',
] as const;

export type TransactionType = (typeof TRANSACTION_TYPES)[number];

export interface ExpiringLot {
  grant_id: string;
  credits: number;
  expires_at: string;
}

export interface BalanceAnswer {
  user_id: string;
  balance: number;
  held: number;
  available: number;
  debt: number;
  version: number;
  source: 'redis' | 'ledger';
  plan: string;
  expiring: ExpiringLot[];
  next_grant: { credits: number; at: string } | null;
  as_of: string;
}

export interface CreditTransaction {
  id: string;
  entry_number: number;
  transaction_type: TransactionType;
  amount: number;
  balance_after: number;
  description: string | null;
  idempotency_key: string;
  /** Number of the entry that this one takes back, in whole or in part. */
  reverses: number | null;
  /** Its id. */
  reverses_transaction_id: string | null;
  stripe_session_id: string | null;
  stripe_payment_intent_id: string | null;
  stripe_invoice_id: string | null;
  metadata: Record<string, unknown>;
  event_at: string;
  created_at: string;
}

export interface TransactionFilter {
  userId: string;
  /** 1 to 100 entries a page. */
  limit: number;
  /** Opaque `next_cursor` of the page before. */
  cursor?: string | undefined;
  type?: TransactionType | undefined;
  /** Inclusive lower bound of `created_at`, ISO 8601. */
  from?: string | undefined;
  /** Exclusive upper bound of `created_at`, ISO 8601. */
  to?: string | undefined;
}

export interface TransactionPage {
  data: CreditTransaction[];
  has_more: boolean;
  next_cursor: string | null;
}

export interface CheckAnswer {
  user_id: string;
  allowed: boolean;
  amount: number;
  balance: number;
  held: number;
  available: number;
  version: number;
  source: 'redis' | 'ledger';
  reason: 'insufficient_credits' | 'suspended' | null;
  buy_url: string | null;
}

export interface SpentLot {
  grant_id: string;
  amount: number;
}

export interface ConsumeAnswer {
  outcome: 'applied';
  transaction_id: string;
  user_id: string;
  amount: number;
  balance: number;
  held: number;
  available: number;
  version: number;
  lots: SpentLot[];
  created_at: string;
}

/** One spend. */
export interface ConsumeRequest {
  userId: string;
  /** Whole credits, 1 to 2^53 - 1. */
  amount: number;
  /** Chosen by the caller; permanent and unique per user. */
  idempotencyKey: string;
  description?: string | undefined;
  metadata?: Record<string, unknown> | undefined;
}

/** What became of one spend of a batch. */
export interface BatchedSpend {
  /** Its place in the request, from 0. */
  index: number;
  idempotency_key: string;
  /** `busy`: the user was locked by other work, nothing was spent; send it again. */
  outcome:
    | 'applied'
    | 'replayed'
    | 'insufficient_credits'
    | 'suspended'
    | 'conflict'
    | 'not_found'
    | 'busy';
  /** Null unless applied or replayed. */
  transaction_id: string | null;
  /** After the spend; of a refusal as it stands. Null where neither is known. */
  balance: number | null;
  available: number | null;
}

export interface UserAnswer {
  user_id: string;
  email: string | null;
  stripe_customer_id: string | null;
  created: boolean;
}

/** The credits domain as the API, the jobs and the webhook see it. */
export interface Credits {
  /** Errors: `user_not_found`, `dependency_down`. */
  balance(userId: string): Promise<BalanceAnswer>;
  /** One Redis round trip when the mirror is fresh; the ledger otherwise. Errors: as `balance`. */
  check(request: { userId: string; amount: number }): Promise<CheckAnswer>;
  /**
   * Spends from the ledger, durably, once per key. `replayed` tells that the answer is the first
   * one's. Those that come together share a call of the database (src/credits/coalescer.ts).
   * Errors: `insufficient_credits`, `suspended`, `idempotency_key_reused`, `user_not_found`,
   * `overloaded`, `dependency_down`.
   */
  consume(request: ConsumeRequest): Promise<{ answer: ConsumeAnswer; replayed: boolean }>;
  /**
   * At most 500 spends in one call of the database, each judged by itself; answers in the order
   * of the request. Errors: `overloaded`, `dependency_down`, with which none was spent or, where
   * the answer was lost, all are found again by their keys.
   */
  consumeBatch(requests: ConsumeRequest[]): Promise<BatchedSpend[]>;
  /** Takes no more spends by `consume`; resolves when all that were taken have been answered. */
  drain(): Promise<void>;
  /** Newest first. Errors: `invalid_request` (cursor), `user_not_found`. */
  transactions(filter: TransactionFilter): Promise<TransactionPage>;
  /**
   * Creates the row when there is none. What is given fills empty columns, and with `replace`
   * (an app's own word about its user) takes their place. Errors: `user_not_found` where no row
   * can be made of the id.
   */
  ensureUser(user: {
    userId: string;
    email?: string | undefined;
    stripeCustomerId?: string | undefined;
    replace?: boolean;
  }): Promise<UserAnswer>;
}
