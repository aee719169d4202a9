/** What explanations and statements answer, in the shapes of the HTTP contract. */
import type { CreditTransaction, TransactionType } from './credits.types.ts';

export interface ExplainedLot {
  grant_id: string;
  entry_number: number;
  type: TransactionType;
  amount: number;
  remaining: number;
  /** Credits that are due and whose expiry is not in the book yet; not in `remaining`. */
  expired_unwritten: number;
  paid: boolean;
  from_plan: boolean;
  priority: number;
  expires_at: string | null;
  created_at: string;
  /** What was paid, in the smallest unit of `cost_currency`. */
  cost_amount: number | null;
  cost_currency: string | null;
  catalogue_id: string | null;
  price_id: string | null;
  /** Stripe objects that paid for it: `checkout:cs_...`, `invoice:in_...`, `payment:pi_...`. */
  sources: string[];
  /** What each of the entries shown did to it, oldest first. */
  story: { entry_number: number; type: TransactionType; amount: number; at: string }[];
}

export interface Explanation {
  user_id: string;
  /** The account was deleted; its book is kept. */
  closed: boolean;
  at: string;
  balance: number;
  held: number;
  available: number;
  debt: number;
  expired_unwritten: number;
  /** How many entries there are up to `at`. */
  entries: number;
  /** True when only the newest entries are shown. */
  truncated: boolean;
  lots: ExplainedLot[];
  debts: {
    entry_number: number;
    type: TransactionType;
    before: number;
    after: number;
    at: string;
  }[];
  holds: {
    hold_id: string;
    amount: number;
    captured: number;
    remaining: number;
    expires_at: string;
    created_at: string;
    description: string | null;
  }[];
  expiring: { grant_id: string; credits: number; expires_at: string }[];
  stripe: { source: string; entry_number: number; at: string }[];
  /** The same in plain English, oldest first. */
  sentences: string[];
}

export interface Statement {
  user_id: string;
  from: string | null;
  to: string;
  opening_balance: number;
  closing_balance: number;
  totals: { transaction_type: TransactionType; entries: number; amount: number }[];
  /** Oldest first. */
  data: CreditTransaction[];
  has_more: boolean;
  next_cursor: string | null;
}

export interface StatementFilter {
  userId: string;
  /** Inclusive, ISO 8601; left out: from the first entry. */
  from?: string | undefined;
  /** Exclusive, ISO 8601; left out: until now. */
  to?: string | undefined;
  /** 1 to 1000 entries a page. */
  limit: number;
  cursor?: string | undefined;
}

/** Explanations and statements as the API sees them. */
export interface Explain {
  /**
   * How a balance came about: as of `at`, past or future, or of now. At most `limit` entries back
   * (1 to 500). Errors: `user_not_found`, `dependency_down`.
   */
  explain(request: {
    userId: string;
    at?: string | undefined;
    limit: number;
  }): Promise<Explanation>;
  /** Errors: `invalid_request` (cursor), `user_not_found`, `dependency_down`. */
  statement(filter: StatementFilter): Promise<Statement>;
}
