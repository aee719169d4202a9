import type { CreditTransaction } from '../credits/credits.types.ts';
import type { HoldDetails } from '../credits/holds.types.ts';
import type { EventSummary } from '../webhook/eventLog.types.ts';

/** What an admin looks at, in the shapes of the HTTP contract. */

export interface AuditEvent {
  id: string;
  /** `admin:<fingerprint>`, `service:<fingerprint>`, `user:<id>`, `job:<name>`, ... */
  actor: string;
  action: string;
  user_id: string | null;
  reason: string | null;
  before: unknown;
  after: unknown;
  created_at: string;
}

export interface AuditFilter {
  /** Exactly, or with * at the end whatever begins with it. */
  actor?: string | undefined;
  action?: string | undefined;
  user_id?: string | undefined;
  from?: string | undefined;
  to?: string | undefined;
  cursor?: string | undefined;
  limit?: number | undefined;
}

interface Page<Row> {
  data: Row[];
  has_more: boolean;
  next_cursor: string | null;
}

/** Who did what, newest first. Errors: `invalid_request` for a cursor that is not ours. */
export interface Audit {
  list(filter: AuditFilter): Promise<Page<AuditEvent>>;
}

export interface FoundUser {
  user_id: string;
  email: string | null;
  plan: string;
  stripe_customer_id: string | null;
  balance: number;
  available: number;
  suspended: boolean;
}

/** How Redis' copy stands to the ledger. */
export interface MirrorView {
  /**
   * `equal`; `behind`: follows within seconds; `ahead`: of a ledger that was restored; `foreign`: of
   * another ledger; `missing`: the next read writes it; `unreachable`: Redis does not answer.
   */
  state: 'equal' | 'behind' | 'ahead' | 'foreign' | 'missing' | 'unreachable';
  version: number | null;
  balance: number | null;
  available: number | null;
  valid_until: string | null;
}

export interface UserView {
  profile: {
    user_id: string;
    email: string | null;
    plan: string;
    stripe_customer_id: string | null;
    /** All that are known; a user may have several. */
    customers: string[];
    suspended: boolean;
    /** Deleted; the book is kept. */
    closed: boolean;
  };
  ledger: {
    balance: number;
    held: number;
    debt: number;
    available: number;
    version: number;
    entries: number;
    /** Lots or holds have ended that the next call takes; until then they still count here. */
    due: boolean;
  };
  mirror: MirrorView;
  subscriptions: {
    stripe_subscription_id: string;
    status: string;
    plan: string | null;
    stripe_customer_id: string | null;
    current_period_start: string | null;
    current_period_end: string | null;
    cancel_at_period_end: boolean;
    as_of: string;
  }[];
  lots: {
    grant_id: string;
    amount: number;
    remaining: number;
    paid: boolean;
    from_plan: boolean;
    priority: number;
    catalogue_id: string | null;
    expires_at: string | null;
    created_at: string;
  }[];
  holds: HoldDetails[];
  recent_entries: CreditTransaction[];
  payments: {
    payment: string;
    currency: string | null;
    paid: number;
    refunded: number;
    disputed: number;
    status: string | null;
    entry_number: number | null;
    updated_at: string;
  }[];
  open_findings: {
    id: string;
    code: string;
    subject: string;
    detail: unknown;
    times: number;
    first_seen_at: string;
    last_seen_at: string;
  }[];
  waiting_events: EventSummary[];
  as_of: string;
}

export interface AdminUsers {
  /** By the beginning of an id or e-mail, or by a Stripe customer; all without `q`. */
  search(filter: {
    q?: string | undefined;
    cursor?: string | undefined;
    limit?: number | undefined;
  }): Promise<Page<FoundUser>>;
  /** Reads the ledger and Redis, and asks Stripe nothing. Errors: `user_not_found`. */
  view(userId: string): Promise<UserView>;
}
