/** What `health_figures()` answers; see sql/health_migration.sql. Times are seconds. */
export interface HealthFigures {
  failed_webhooks: number;
  dead_letters: number;
  dead_last_hour: number;
  parked_events: number;
  parked_over_a_day: number;
  unprocessed_events: number;
  unprocessed_over_a_minute: number;
  oldest_unprocessed_seconds: number;
  events_last_day: number;
  good_last_day: number;
  failed_last_hour: number;
  /** Mean from receipt to end, of events of the last hour that went through at once. */
  processing_ms: number;
  missing_purchase_records: number;
  orphaned_purchases: number;
  drifted_users: number;
  open_findings: number;
  last_reconciliation: LastReconciliation | null;
  reconciliation_age_seconds: number;
  overdue_jobs: string[];
  failed_jobs: string[];
  undelivered_notifications: number;
  notifications_last_day: number;
  sent_last_day: number;
  open_dunning_cases: number;
  overdue_dunning_steps: number;
  cache_bytes: number;
  cache_entries: number;
  cache_expired: number;
  cache_hits: number;
  cache_lookups: number;
  cache_invalidations_last_hour: number;
  /** Null: Redis did not answer. */
  mirror_lag_seconds: number | null;
  checked_at: string;
}

export interface LastReconciliation {
  id: string;
  finished_at: string;
  findings: number;
  repaired: number;
}

export type HealthStatus = 'healthy' | 'degraded' | 'critical';

export interface Deduction {
  /** The rule's code. */
  code: string;
  points: number;
  severity: 'critical' | 'warning' | 'info';
  /** What was seen and what it should be. */
  detail: string;
  /** Page of the dashboard where one goes on. */
  link: string;
}

/** The answer of `GET /api/admin/stripe/subscription-health`. */
export interface HealthReport {
  /** 0 to 100. */
  health_score: number;
  status: HealthStatus;
  failed_webhooks: number;
  dead_letters: number;
  parked_events: number;
  unprocessed_events: number;
  oldest_unprocessed_seconds: number;
  /** Of the last 24 hours, 0 to 1; 1 when there were no events. */
  webhook_success_rate: number;
  missing_purchase_records: number;
  orphaned_purchases: number;
  drifted_users: number;
  open_findings: number;
  mirror_lag_seconds: number | null;
  last_reconciliation: LastReconciliation | null;
  overdue_jobs: string[];
  failed_jobs: string[];
  undelivered_notifications: number;
  open_dunning_cases: number;
  overdue_dunning_steps: number;
  deductions: Deduction[];
  checked_at: string;
}

export interface Health {
  /** Looks now. Errors: `dependency_down` when the database does not answer. */
  report(): Promise<HealthReport>;
  /** The job: looks, keeps the report, and raises and resolves the alerts of the rules. */
  check(): Promise<{ health_score: number; broken: string[]; raised: number; resolved: number }>;
  /** What the last look of this process told, for metrics; null before the first. */
  last(): HealthReport | null;
}
