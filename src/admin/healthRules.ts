import type { HealthFigures } from './health.types.ts';

/**
 * Every threshold of health, in one table: what is measured, when it counts as broken, what it
 * costs of the 100 points, whether it is told as an alert, and where it comes from. A rule that is
 * broken is a deduction (0 points too), and an alert where `alert` says so; an alert ends when the
 * rule holds again.
 */
export interface HealthRule {
  /** Stable: deductions and alerts go by it. */
  code: string;
  /** One line for an alert, without a full stop. */
  title: string;
  /** Null: there is too little to judge by, and the rule holds. */
  measure(figures: HealthFigures): number | null;
  breaks: 'above' | 'below';
  threshold: number;
  /** Points for each unit beyond the threshold up to a bound; `each` = `max` is a flat cost. */
  points: { each: number; max: number };
  severity: 'critical' | 'warning' | 'info';
  alert: boolean;
  detail(measured: number, figures: HealthFigures): string;
  /** Page of the dashboard where one goes on. */
  link: string;
  /** Where the threshold comes from, in plain words. */
  source: string;
}

/** Fewer events or lookups say nothing about a rate. */
const RATE_SAMPLE_MIN = 20;
const TARGET_SAMPLE_MIN = 2_000;
const MINUTE = 60;
const HOUR = 3_600;
const MEGABYTE = 1_048_576;

const flat = (points: number) => ({ each: points, max: points });
const rate = (part: number, whole: number, sampleMin: number) =>
  whole < sampleMin ? null : part / whole;
const percent = (share: number) => `${(share * 100).toFixed(2)} %`;
const events = (count: number) => (count === 1 ? '1 event' : `${count} events`);

export const HEALTH_RULES: readonly HealthRule[] = [
  {
    code: 'credit_drift',
    title: 'The credit ledger does not add up',
    measure: (f) => f.drifted_users,
    breaks: 'above',
    threshold: 0,
    points: flat(100),
    severity: 'critical',
    alert: true,
    detail: (n) =>
      `The books of ${n === 1 ? '1 user' : `${n} users`} disagree with their entries; there must be none.`,
    link: '/admin/reconciliation?code=credit_drift',
    source: 'Balance integrity is 100 %, zero discrepancies: one wrong balance outweighs all else.',
  },
  {
    code: 'dead_letters',
    title: 'Events were given up',
    measure: (f) => f.dead_letters,
    breaks: 'above',
    threshold: 0,
    points: { each: 10, max: 40 },
    severity: 'critical',
    alert: true,
    detail: (n) =>
      `${events(n)} given up after a day of attempts; each may be a paid purchase. Replay once the cause is mended.`,
    link: '/admin/events?status=dead',
    source: 'A dead letter is never normal: 10 points each, 40 at most.',
  },
  {
    code: 'dead_letters_hourly',
    title: 'More than 10 events an hour are given up',
    measure: (f) => f.dead_last_hour,
    breaks: 'above',
    threshold: 10,
    points: flat(0),
    severity: 'critical',
    alert: true,
    detail: (n) => `${events(n)} given up within an hour; more than 10 mean one common cause.`,
    link: '/admin/events?status=dead',
    source:
      'Alert for dead letters: more than 10 failures an hour. The points are those of dead_letters.',
  },
  {
    code: 'failed_webhooks',
    title: 'Events wait for another attempt',
    measure: (f) => f.failed_webhooks,
    breaks: 'above',
    threshold: 0,
    points: { each: 8, max: 24 },
    severity: 'warning',
    alert: false,
    detail: (n) => `${events(n)} failed and will be tried again by themselves.`,
    link: '/admin/events?status=failed',
    source: 'The failed webhook count should be near 0; one passes by itself, so it is no alert.',
  },
  {
    code: 'failing_webhooks',
    title: 'More than 5 webhooks failed within an hour',
    measure: (f) => f.failed_last_hour,
    breaks: 'above',
    threshold: 5,
    points: flat(10),
    severity: 'critical',
    alert: true,
    detail: (n) => `${events(n)} failed within the last hour; more than 5 are no accident.`,
    link: '/admin/events?status=failed',
    source: 'Alert: failed webhook events above 5 in 1 hour.',
  },
  {
    code: 'inbox_age',
    title: 'Events are not worked on in time',
    measure: (f) => f.oldest_unprocessed_seconds,
    breaks: 'above',
    threshold: 5 * MINUTE,
    points: flat(20),
    severity: 'critical',
    alert: true,
    detail: (n) =>
      `The oldest event that is due has waited ${Math.floor(n / MINUTE)} minutes; 5 are the most. Does a server run, or is the cron route called?`,
    link: '/admin/events?status=received',
    source: 'The oldest event of the inbox waits 5 minutes at most, else 20 points.',
  },
  {
    code: 'unprocessed_events',
    title: 'More than 10 events wait',
    measure: (f) => f.unprocessed_over_a_minute,
    breaks: 'above',
    threshold: 10,
    points: flat(5),
    severity: 'warning',
    alert: true,
    detail: (n) => `${events(n)} are due and have waited longer than a minute; 10 are the most.`,
    link: '/admin/events?status=received',
    source: 'Alert: unprocessed events above 10; those of the last minute are simply under way.',
  },
  {
    code: 'webhook_success_rate',
    title: 'Less than 99 % of webhooks succeed',
    measure: (f) => rate(f.good_last_day, f.events_last_day, RATE_SAMPLE_MIN),
    breaks: 'below',
    threshold: 0.99,
    points: flat(10),
    severity: 'warning',
    alert: true,
    detail: (n, f) =>
      `${percent(n)} of the ${f.events_last_day} events of the last day succeeded; 99 % is the least.`,
    link: '/admin/events?status=failed',
    source: `Webhook processing success rate above 99 %, measured over a day with at least ${RATE_SAMPLE_MIN} events.`,
  },
  {
    code: 'webhook_success_target',
    title: 'The success rate of webhooks is below its target',
    measure: (f) => rate(f.good_last_day, f.events_last_day, TARGET_SAMPLE_MIN),
    breaks: 'below',
    threshold: 0.9995,
    points: flat(0),
    severity: 'info',
    alert: false,
    detail: (n) => `${percent(n)} of the events of the last day succeeded; the target is 99.95 %.`,
    link: '/admin/events?status=failed',
    source: `Target 99.95 %, told once there are ${TARGET_SAMPLE_MIN} events a day to judge by.`,
  },
  {
    code: 'slow_webhooks',
    title: 'Webhooks take longer than 5 seconds',
    measure: (f) => f.processing_ms,
    breaks: 'above',
    threshold: 5_000,
    points: flat(5),
    severity: 'warning',
    alert: true,
    detail: (n) => `An event takes ${(n / 1000).toFixed(1)} s on average; 5 s is the most.`,
    link: '/admin/events',
    source: 'Alert: webhook processing time above 5 seconds.',
  },
  {
    code: 'webhook_latency_target',
    title: 'Webhooks are slower than their target',
    measure: (f) => f.processing_ms,
    breaks: 'above',
    threshold: 500,
    points: flat(0),
    severity: 'info',
    alert: false,
    detail: (n) => `An event takes ${n} ms on average; the target is 500 ms.`,
    link: '/admin/events',
    source: 'Target: webhook processing below 500 ms.',
  },
  {
    code: 'parked_events',
    title: 'Purchases wait for their user',
    measure: (f) => f.parked_over_a_day,
    breaks: 'above',
    threshold: 0,
    points: { each: 2, max: 10 },
    severity: 'warning',
    alert: true,
    detail: (n) =>
      `${events(n)} have waited for a user for more than a day. Say whose they are, or send the buyer a claim link.`,
    link: '/admin/events?status=parked',
    source: 'Somebody paid and has no credits yet; within a day most sign up.',
  },
  {
    code: 'missing_purchase_records',
    title: 'Paid purchases have no credits',
    measure: (f) => f.missing_purchase_records,
    breaks: 'above',
    threshold: 0,
    points: { each: 10, max: 40 },
    severity: 'critical',
    alert: true,
    detail: (n) =>
      `Reconciliation found ${n === 1 ? '1 purchase' : `${n} purchases`} without an entry that it could not credit itself.`,
    link: '/admin/reconciliation?code=missing_grant',
    source: 'Alert: missing purchase records found during reconciliation.',
  },
  {
    code: 'orphaned_purchases',
    title: 'Credits have no purchase at Stripe',
    measure: (f) => f.orphaned_purchases,
    breaks: 'above',
    threshold: 0,
    points: { each: 5, max: 20 },
    severity: 'warning',
    alert: true,
    detail: (n) =>
      `${n === 1 ? '1 grant names' : `${n} grants name`} an object that Stripe does not have or that is not paid.`,
    link: '/admin/reconciliation?code=orphaned_grant',
    source:
      'Orphaned purchases are part of the health metrics; none is ever removed without a person.',
  },
  {
    code: 'open_findings',
    title: 'Differences wait for a person',
    measure: (f) => f.open_findings,
    breaks: 'above',
    threshold: 0,
    points: { each: 1, max: 5 },
    severity: 'warning',
    alert: true,
    detail: (n) =>
      `${n === 1 ? '1 difference' : `${n} differences`} could not be mended automatically.`,
    link: '/admin/reconciliation',
    source: 'Reconciliation tells what it cannot fix itself.',
  },
  {
    code: 'stale_reconciliation',
    title: 'Stripe was not compared for 12 hours',
    measure: (f) => f.reconciliation_age_seconds,
    breaks: 'above',
    threshold: 12 * HOUR,
    points: flat(20),
    severity: 'warning',
    alert: true,
    detail: (n) =>
      `The last reconciliation that ended is ${Math.floor(n / HOUR)} hours old; it runs every 6.`,
    link: '/admin/reconciliation',
    source: 'Reconciliation runs every 6 hours; older than 12 costs 20 points.',
  },
  {
    code: 'mirror_lag',
    title: 'Redis does not follow the ledger',
    // No answer is worse than a late one.
    measure: (f) => f.mirror_lag_seconds ?? Number.POSITIVE_INFINITY,
    breaks: 'above',
    threshold: MINUTE,
    points: flat(10),
    severity: 'warning',
    alert: true,
    detail: (n) =>
      Number.isFinite(n)
        ? `The oldest change that Redis may lack is ${n} s old; 60 s is the most.`
        : 'Redis does not answer; checks are answered by the ledger, slower.',
    link: '/admin/health',
    source: 'Mirror lag above 60 s costs 10 points.',
  },
  {
    code: 'overdue_jobs',
    title: 'Background jobs are late',
    measure: (f) => f.overdue_jobs.length,
    breaks: 'above',
    threshold: 0,
    points: { each: 10, max: 30 },
    severity: 'critical',
    alert: true,
    detail: (_n, f) =>
      `Due for twice their pace, and nobody takes them up: ${f.overdue_jobs.join(', ')}. Does a server run, or is the cron route called?`,
    link: '/admin/jobs',
    source: 'What heals everything else must itself run.',
  },
  {
    code: 'failed_jobs',
    title: 'Background jobs fail',
    measure: (f) => f.failed_jobs.length,
    breaks: 'above',
    threshold: 0,
    points: { each: 5, max: 15 },
    severity: 'warning',
    alert: true,
    detail: (_n, f) => `Failed three times in a row: ${f.failed_jobs.join(', ')}.`,
    link: '/admin/jobs',
    source:
      'A job that fails is tried again at its pace; three failures in a row do not pass by themselves.',
  },
  {
    code: 'overdue_dunning',
    title: 'Dunning steps are late',
    measure: (f) => f.overdue_dunning_steps,
    breaks: 'above',
    threshold: 0,
    points: { each: 5, max: 10 },
    severity: 'warning',
    alert: true,
    detail: (n) =>
      `${n === 1 ? '1 step' : `${n} steps`} of dunning should have been done more than a day ago.`,
    link: '/admin/dunning',
    source: 'Dunning sequences are to be completed; a step a day late is stuck.',
  },
  {
    code: 'undelivered_mail',
    title: 'Messages do not go out',
    measure: (f) => f.undelivered_notifications,
    breaks: 'above',
    threshold: 0,
    points: { each: 5, max: 10 },
    severity: 'warning',
    alert: true,
    detail: (n) =>
      `${n === 1 ? '1 message was' : `${n} messages were`} given up this week or should have gone out a quarter of an hour ago.`,
    link: '/admin/notifications',
    source:
      'E-mail delivery success is watched; a mail server that is away delays messages and nothing else.',
  },
  {
    code: 'mail_success_rate',
    title: 'Less than 95 % of messages are delivered',
    measure: (f) => rate(f.sent_last_day, f.notifications_last_day, RATE_SAMPLE_MIN),
    breaks: 'below',
    threshold: 0.95,
    points: flat(5),
    severity: 'warning',
    alert: true,
    detail: (n) => `${percent(n)} of the messages of the last day went out; 95 % is the least.`,
    link: '/admin/notifications',
    source: `E-mail delivery success rate, judged from ${RATE_SAMPLE_MIN} messages a day on.`,
  },
  {
    code: 'cache_size',
    title: 'The cache of Stripe’s answers is larger than 100 MB',
    measure: (f) => f.cache_bytes / MEGABYTE,
    breaks: 'above',
    threshold: 100,
    points: flat(2),
    severity: 'warning',
    alert: true,
    detail: (n) =>
      `The cache takes ${Math.round(n)} MB; 100 MB is the most. Let fewer answers be kept, or for less long.`,
    link: '/admin/health',
    source: 'Alert: cache size above 100 MB (excessive caching).',
  },
  {
    code: 'cache_hit_rate',
    title: 'Less than 70 % of cache lookups hit',
    measure: (f) => rate(f.cache_hits, f.cache_lookups, 100),
    breaks: 'below',
    threshold: 0.7,
    points: flat(1),
    severity: 'warning',
    alert: true,
    detail: (n) => `${percent(n)} of the lookups found their answer; 70 % is the least.`,
    link: '/admin/health',
    source:
      'Alert: cache hit rate below 70 % (poor TTL configuration), judged from 100 lookups on.',
  },
  {
    code: 'cache_expired_share',
    title: 'More than 30 % of cache entries have ended',
    measure: (f) => rate(f.cache_expired, f.cache_entries, 50),
    breaks: 'above',
    threshold: 0.3,
    points: flat(1),
    severity: 'warning',
    alert: true,
    detail: (n) => `${percent(n)} of the entries have ended; 30 % is the most.`,
    link: '/admin/health',
    source: 'Alert: expired entries above 30 % (cleanup frequency), judged from 50 entries on.',
  },
  {
    code: 'cache_expired',
    title: 'More than 50 cache entries have ended',
    measure: (f) => f.cache_expired,
    breaks: 'above',
    threshold: 50,
    points: flat(1),
    severity: 'warning',
    alert: true,
    detail: (n) =>
      `${n} entries have ended and are still there; 50 are the most. Does the job cache-warm run?`,
    link: '/admin/jobs',
    source: 'Alert: expired cache entries above 50 (cleanup not running).',
  },
  {
    code: 'cache_invalidations',
    title: 'More than 100 cache invalidations an hour',
    measure: (f) => f.cache_invalidations_last_hour,
    breaks: 'above',
    threshold: 100,
    points: flat(0),
    severity: 'info',
    alert: true,
    detail: (n) =>
      `${events(n)} about products, prices and customers came within an hour; more than 100 keep the cache from helping.`,
    link: '/admin/events?type=customer.updated',
    source: 'Alert: invalidation rate above 100 an hour (check the volume of webhook events).',
  },
];

/** The score itself is watched as well: below this, whatever the reasons, somebody is told. */
export const SCORE_ALERT = {
  code: 'health_score',
  title: 'The health score is below 80',
  threshold: 80,
  source: 'Alert: health score below 80.',
} as const;

/** From here up `healthy`, from the second up `degraded`, below `critical`. */
export const STATUS_SCORES = { healthy: 80, degraded: 50 } as const;
