/** Dunning as the API and the job see it. */

export type DunningState = 'open' | 'paused' | 'canceling' | 'recovered' | 'canceled' | 'closed';

export interface DunningStep {
  /** From 1. */
  step: number;
  /** Counted from the first failure. */
  day: number;
  action: 'mail' | 'cancel';
  urgency: 'first' | 'second' | 'final' | null;
  due_at: string;
  state: 'waiting' | 'done' | 'skipped';
  done_at: string | null;
  /** Why it was skipped. */
  note: string | null;
}

/** A row of dunning_cases; see sql/dunning_migration.sql for the words. */
export interface DunningCase {
  case_id: string;
  user_id: string;
  invoice_id: string;
  subscription_id: string;
  customer_id: string | null;
  state: DunningState;
  /** Why it ended. */
  resolution: string | null;
  /** Day 0: when Stripe first tried to collect the invoice. */
  failed_at: string;
  steps: DunningStep[];
  /** Number of the step that comes next; null when none is left. */
  next_step: number | null;
  /** When it is looked at next; null when it is paused or has ended. */
  due_at: string | null;
  postponed_because: string | null;
  postponements: number;
  plan_name: string | null;
  invoice_number: string | null;
  invoice_url: string | null;
  /** What is left to pay, in the smallest unit of the currency. */
  amount: number;
  currency: string;
  attempt_count: number;
  next_payment_attempt: string | null;
  /** When Stripe was last asked. */
  seen_at: string;
  /** Attempts at the current step that failed. */
  failed_attempts: number;
  error: string | null;
  paused_at: string | null;
  paid_at: string | null;
  ended_at: string | null;
  opened_at: string;
}

export interface DunningDetail extends DunningCase {
  history: {
    actor: string;
    action: string;
    reason: string | null;
    before: Record<string, unknown> | null;
    after: Record<string, unknown> | null;
    created_at: string;
  }[];
  mails: {
    key: string;
    kind: string;
    status: string;
    created_at: string;
    sent_at: string | null;
  }[];
}

/** What is done with a case whose time has come. */
export type DunningDecision =
  /** What was read ends the case, or says that it has ended: nothing is left to decide. */
  | { action: 'settle'; reason: string }
  | { action: 'mail'; reason: string }
  | { action: 'postpone'; reason: string; until: string }
  /** The last step is left out, and the case ends. */
  | { action: 'keep'; reason: 'subscription_in_order' | 'given_up' }
  | { action: 'cancel'; reason: string };

export interface DunningSummary {
  open: number;
  paused: number;
  canceling: number;
  recovered: number;
  canceled: number;
  closed: number;
  /** Due for more than 15 minutes: the job does not run, or Stripe does not answer. */
  overdue_steps: number;
  oldest_overdue_seconds: number;
  failing_steps: number;
  /** Of all cases those that have ended; null without cases. */
  completion_rate: number | null;
  /** Of those paid or canceled the paid ones; null without any. */
  recovery_rate: number | null;
}

/** Dunning as an admin sees it. Errors of all: `dependency_down`. */
export interface Dunning {
  summary(): Promise<DunningSummary>;
  /** Newest first. Errors: `invalid_request` for a cursor that is none. */
  list(filter: {
    state?: DunningState | 'active' | undefined;
    userId?: string | undefined;
    cursor?: string | undefined;
    limit?: number | undefined;
  }): Promise<{ data: DunningCase[]; has_more: boolean; next_cursor: string | null }>;
  /** Errors: `not_found`. */
  get(caseId: string): Promise<DunningDetail>;
  /**
   * What a person does, with why; audited. Repeating it changes nothing (`skip` skips one more).
   * Errors: `not_found`; `in_progress` while it is being canceled; `invalid_request` when it has
   * ended or no step is left.
   */
  change(
    caseId: string,
    change: { action: 'pause' | 'resume' | 'skip' | 'close'; reason: string; actor: string },
  ): Promise<DunningCase>;
  /** What the job would do if it ran at `at` (default now), by what Stripe says now. Writes nothing. */
  preview(options: {
    at?: string | undefined;
    limit?: number | undefined;
  }): Promise<DunningPreview>;
}

export interface DunningPreview {
  at: string;
  cases: {
    case_id: string;
    user_id: string;
    invoice_id: string;
    subscription_id: string;
    due_at: string | null;
    step: DunningStep | null;
    /** Null when Stripe could not be asked; `error` says why. */
    decision: DunningDecision | null;
    error: string | null;
  }[];
}
