import type { Json } from '../core/ports.ts';

/** Reconciliation as the API, the jobs and the CLI see it. */

/** What may differ. docs/reconciliation.md says of each what it means and what heals it. */
export const DIFFERENCES = [
  'missing_grant',
  'unassigned_purchase',
  'unpaid_grant',
  'amount_differs',
  'credits_differ',
  'payment_differs',
  'subscription_differs',
  'unassigned_subscription',
  'orphaned_grant',
  'orphaned_subscription',
  'settlement_conflict',
  'settlement_failed',
  'mirror_behind',
  'mirror_ahead',
  'mirror_differs',
  'mirror_orphaned',
] as const;
export type DifferenceCode = (typeof DIFFERENCES)[number];

/** What to do about a finding. */
export interface Repair {
  /** For programs. */
  kind: string;
  /** For people: one or two sentences. */
  sentence: string;
  /** To be run as it is with PUBLIC_URL and PURSER_ADMIN_KEY set; null where none can be known. */
  command: string | null;
}

export interface Difference {
  code: DifferenceCode;
  /** `checkout:cs_...`, `invoice:in_...`, `payment:pi_...`, `subscription:sub_...`, `mirror:<user>`. */
  subject: string;
  user_id: string | null;
  detail: Record<string, Json>;
  repair: Repair;
  /**
   * `would_repair`: in a dry run. `open`: for a person, found now; `seen`: open since before;
   * `accepted`: a person has said of this very state that it is well so.
   */
  outcome: 'repaired' | 'would_repair' | 'open' | 'seen' | 'accepted';
}

/** In this order; each is compared page by page. */
export const STAGES = [
  'sessions',
  'invoices',
  'refunds',
  'disputes',
  'subscriptions',
  'unlisted_subscriptions',
  'grants',
  'mirror',
] as const;
export type StageName = (typeof STAGES)[number];

export interface StageProgress {
  /** The oldest that is compared, ISO 8601. */
  from: string;
  pages: number;
  objects: number;
  /** When the oldest object was made that may still change; the next run begins there. */
  oldest_unsettled: string | null;
  done: boolean;
}

export interface Progress {
  /** The stage under way; null before the first page. */
  stage: StageName | null;
  /** Where its next page begins. */
  after: string | null;
  stages: Partial<Record<StageName, StageProgress>>;
}

export interface ReconciliationRun {
  /** `r_1`. */
  id: string;
  /** `paused`: interrupted; the next one to come goes on. */
  status: 'running' | 'paused' | 'done' | 'canceled';
  actor: string;
  since: string | null;
  /** Objects made before this are compared. */
  compared_until: string;
  progress: Progress;
  objects: number;
  stripe_calls: number;
  /** Differences it was the first to see, repaired ones included. */
  findings: number;
  repaired: number;
  /** Differences found before and open still. */
  still_open: number;
  error: string | null;
  started_at: string;
  updated_at: string;
  finished_at: string | null;
}

export interface ReconciliationAnswer {
  /** `busy`: another process works on a run, and nothing was done here. */
  outcome: 'done' | 'paused' | 'busy' | 'nothing_to_resume';
  dry_run: boolean;
  /** Null in a dry run, which leaves no trace. */
  run_id: string | null;
  since: string | null;
  compared_until: string | null;
  progress: Progress | null;
  objects: number;
  stripe_calls: number;
  findings: number;
  repaired: number;
  still_open: number;
  /** Why it paused: `time`, `calls`, or what failed. */
  paused_because: string | null;
  /** The first 200 met by this call. */
  differences: Difference[];
}

export interface ReconciliationFinding {
  id: string;
  code: string;
  subject: string;
  user_id: string | null;
  status: 'open' | 'resolved';
  detail: Record<string, unknown>;
  repair: Repair | null;
  /** Runs, or events, that have met it. */
  times: number;
  run_id: string | null;
  first_seen_at: string;
  last_seen_at: string;
  resolved_at: string | null;
  /** `reconcile`, or who it was. */
  resolved_by: string | null;
  resolution: string | null;
}

export interface ReconciliationState {
  clean_as_of: string | null;
  compared_until: string | null;
  open_findings: number;
  open_by_code: Record<string, number>;
  cursors: Record<string, { position: string; compared_until: string | null }>;
  last_reconciliation: {
    id: string;
    finished_at: string;
    findings: number;
    repaired: number;
  } | null;
}

/** One object as Stripe and the ledger have it. */
export interface ComparedObject {
  subject: string;
  stripe: Record<string, Json> | null;
  ledger: Record<string, Json> | null;
  agrees: boolean;
}

export interface UserCheck {
  user_id: string;
  clean: boolean;
  clean_as_of: string | null;
  stripe: { customers: string[]; sessions: number; invoices: number; subscriptions: number };
  ledger: {
    email: string | null;
    balance: number;
    held: number;
    debt: number;
    version: number;
    plan: string;
    suspended: boolean;
    entries: number;
  };
  /** Null: there is no copy, which costs its reader a look at the ledger. */
  mirror: Record<string, Json> | null;
  mirror_agrees: boolean;
  objects: ComparedObject[];
  /** Found now. */
  differences: Difference[];
  /** Found before and open. */
  open_findings: ReconciliationFinding[];
  stripe_calls: number;
  checked_at: string;
}

/** What a repair changes in a user's account. */
export interface Standing {
  balance: number;
  version: number;
}

export interface UserFix {
  user_id: string;
  dry_run: boolean;
  differences: Difference[];
  repaired: number;
  before: Standing;
  /** In a dry run: what would be. */
  after: Standing;
  stripe_calls: number;
}

export interface ReconcileRequest {
  /** ISO 8601; default: where the last run ended. */
  since?: string | undefined;
  dry_run?: boolean | undefined;
}

export interface Reconcile {
  /**
   * Compares page by page until it is done or `shouldStop` says so; what is left is for `resume`.
   * Errors: `invalid_request` for a time that must not be compared.
   */
  run(
    request: ReconcileRequest,
    actor: string,
    shouldStop: () => boolean,
  ): Promise<ReconciliationAnswer>;
  /** Goes on with an interrupted run, if there is one. */
  resume(shouldStop: () => boolean): Promise<ReconciliationAnswer>;
  /** The last 50 runs, newest first. */
  runs(): Promise<ReconciliationRun[]>;
  /** Errors: `not_found`. */
  getRun(id: string): Promise<ReconciliationRun>;
  findings(filter: {
    status?: 'open' | 'resolved' | undefined;
    code?: string | undefined;
    user_id?: string | undefined;
    run_id?: string | undefined;
    cursor?: string | undefined;
    limit?: number | undefined;
  }): Promise<{ data: ReconciliationFinding[]; has_more: boolean; next_cursor: string | null }>;
  /** Errors: `not_found`. */
  getFinding(id: string): Promise<ReconciliationFinding>;
  /** A person says why it is well so, or what was done. Errors: `not_found`. */
  resolveFinding(id: string, reason: string, actor: string): Promise<ReconciliationFinding>;
  /** How clean the books are, of one user or overall. */
  state(userId?: string): Promise<ReconciliationState>;
  /** Stripe, ledger and mirror of one user side by side; writes nothing. Errors: `user_not_found`. */
  checkUser(userId: string): Promise<UserCheck>;
  /**
   * Heals what differs for one user, audited with the reason. With a subscription its customer is
   * linked to the user first, where it is nobody's. Errors: `user_not_found`, `not_found`,
   * `invalid_request` for what belongs to somebody else.
   */
  fixUser(
    userId: string,
    request: {
      stripe_subscription_id?: string | undefined;
      dry_run?: boolean | undefined;
      reason: string;
    },
    actor: string,
  ): Promise<UserFix>;
}
