/**
 * Every series of /metrics. Labels take values of closed lists only (routes, types of events we
 * act upon, jobs, tables), never ids: a scraper keeps each combination for ever.
 */
export interface Series {
  type: 'counter' | 'gauge' | 'histogram';
  help: string;
  labels?: readonly string[];
  /** Upper bounds, of histograms. */
  buckets?: readonly number[];
  /** `database`: the same in every process, so not to be summed over them. */
  from: 'process' | 'database';
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;
const LAGS = [0.1, 0.25, 0.5, 1, 2, 5, 10, 60, 600, 3_600, 86_400] as const;
const RUNS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120] as const;
const BATCHES = [1, 2, 5, 10, 20, 50, 100, 200, 500] as const;

const counter = (help: string, labels: readonly string[] = []): Series => ({
  type: 'counter',
  help,
  labels,
  from: 'process',
});
const histogram = (
  help: string,
  buckets: readonly number[],
  labels: readonly string[] = [],
): Series => ({ type: 'histogram', help, labels, buckets, from: 'process' });
const gauge = (help: string, labels: readonly string[] = []): Series => ({
  type: 'gauge',
  help,
  labels,
  from: 'database',
});

export const SERIES = {
  purser_http_request_duration_seconds: histogram(
    'Time from the arrival of a request to the end of its answer; its count is the number of requests.',
    SECONDS,
    ['method', 'route', 'status'],
  ),
  purser_idempotency_replays_total: counter(
    'Mutations of money whose key had been used before, answered from the ledger.',
    ['route'],
  ),

  purser_webhook_deliveries_total: counter(
    'Deliveries with a good signature: new, or duplicate where the event was in the inbox already.',
    ['result'],
  ),
  purser_webhook_events_total: counter(
    'Attempts at events by how they ended (applied, ignored, parked, failed, dead, stale), and events that ended with another one (covered); attempt is first or retry.',
    ['type', 'outcome', 'attempt'],
  ),
  purser_webhook_lag_seconds: histogram(
    'From the creation of an event at Stripe to the commit of its effects.',
    LAGS,
  ),
  purser_inbox_events: gauge('Events in the inbox that have not ended well, by status.', [
    'status',
  ]),
  purser_inbox_oldest_seconds: gauge('Age of the oldest event of that status.', ['status']),
  purser_inbox_due_events: gauge('Events that are due and not being worked on.'),
  purser_inbox_due_oldest_seconds: gauge('How long the oldest of them has been due.'),

  purser_spend_batch_operations: histogram(
    'Spends in one call of the coalescer; shared: of several users, alone: of one.',
    BATCHES,
    ['kind'],
  ),
  purser_spends_waiting: {
    type: 'gauge',
    help: 'Spends that waited for a call when the last one was sent.',
    from: 'process',
  },

  purser_redis_operations_total: counter(
    'Operations on Redis by result: hit, miss, applied, equal, stale, ok, failed.',
    ['operation', 'result'],
  ),
  purser_mirror_lag_seconds: gauge(
    'Age of the oldest change of the ledger that mirror-repair has not yet compared with Redis.',
  ),
  purser_stripe_cache_reads_total: counter(
    'Reads of cached Stripe answers: hit, miss, or stale (shown past its end, Stripe was away).',
    ['result'],
  ),
  purser_stripe_cache_renewals_total: counter(
    'Answers fetched again before their end, behind the reader’s back.',
  ),

  purser_job_duration_seconds: histogram(
    'Runs of jobs in this process by outcome; their count is the number of runs.',
    RUNS,
    ['job', 'outcome'],
  ),
  purser_job_items_total: counter(
    'What runs of jobs have reported as done, by word: repaired copies, retried events, e-mails sent.',
    ['job', 'item'],
  ),
  purser_job_last_success_timestamp_seconds: gauge(
    'When the job last ended well, wherever it ran.',
    ['job'],
  ),
  purser_job_failures_in_row: gauge('Runs that failed or died since the last that ended well.', [
    'job',
  ]),
  purser_job_overdue: gauge('1 when nobody has taken the job up for twice its pace.', ['job']),

  purser_findings_open: gauge('Findings of checks and reconciliation that need a person.', [
    'code',
  ]),
  purser_messages_waiting: gauge('Messages of the outbox that are due, by kind.', ['kind']),
  purser_messages_oldest_seconds: gauge('Age of the oldest message that is due.', ['kind']),
  purser_dunning_cases: gauge(
    'Invoices that could not be collected, by state; recovered / (recovered + canceled + closed) is the completion.',
    ['state'],
  ),
  purser_health_score: gauge('0 to 100, as GET /api/admin/stripe/subscription-health tells it.'),
  purser_table_bytes: gauge('Size of a table with its indexes.', ['table']),
  purser_table_rows: gauge('Rows of a table as the database last estimated them.', ['table']),
  purser_database_scrape_failed: {
    type: 'gauge',
    help: '1 when the database did not answer this scrape: its series are missing then.',
    from: 'process',
  },
} as const satisfies Record<string, Series>;

export type SeriesName = keyof typeof SERIES;
