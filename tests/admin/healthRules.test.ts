import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { judge, toReport } from '../../src/admin/health.ts';
import type { HealthFigures } from '../../src/admin/health.types.ts';
import { HEALTH_RULES } from '../../src/admin/healthRules.ts';

/** An installation with which all is well. */
const WELL: HealthFigures = {
  failed_webhooks: 0,
  dead_letters: 0,
  dead_last_hour: 0,
  parked_events: 0,
  parked_over_a_day: 0,
  unprocessed_events: 0,
  unprocessed_over_a_minute: 0,
  oldest_unprocessed_seconds: 0,
  events_last_day: 10_000,
  good_last_day: 10_000,
  failed_last_hour: 0,
  processing_ms: 120,
  missing_purchase_records: 0,
  orphaned_purchases: 0,
  drifted_users: 0,
  open_findings: 0,
  last_reconciliation: null,
  reconciliation_age_seconds: 3_600,
  overdue_jobs: [],
  failed_jobs: [],
  undelivered_notifications: 0,
  notifications_last_day: 100,
  sent_last_day: 100,
  open_dunning_cases: 3,
  overdue_dunning_steps: 0,
  cache_bytes: 1_000_000,
  cache_entries: 100,
  cache_expired: 10,
  cache_hits: 9_000,
  cache_lookups: 9_100,
  cache_invalidations_last_hour: 5,
  mirror_lag_seconds: 1,
  checked_at: '2026-11-21T10:00:00.000Z',
};

type Change = Partial<HealthFigures>;

/** Each rule: the worst that is still fine, what breaks it, and what that costs. */
const CASES: Record<string, { holds: Change; breaks: Change; points: number }> = {
  credit_drift: { holds: {}, breaks: { drifted_users: 1 }, points: 100 },
  dead_letters: { holds: {}, breaks: { dead_letters: 2 }, points: 20 },
  dead_letters_hourly: {
    holds: { dead_last_hour: 10 },
    breaks: { dead_last_hour: 11 },
    points: 0,
  },
  failed_webhooks: { holds: {}, breaks: { failed_webhooks: 1 }, points: 8 },
  failing_webhooks: {
    holds: { failed_last_hour: 5 },
    breaks: { failed_last_hour: 6 },
    points: 10,
  },
  inbox_age: {
    holds: { oldest_unprocessed_seconds: 300 },
    breaks: { oldest_unprocessed_seconds: 301 },
    points: 20,
  },
  unprocessed_events: {
    holds: { unprocessed_events: 900, unprocessed_over_a_minute: 10 },
    breaks: { unprocessed_over_a_minute: 11 },
    points: 5,
  },
  webhook_success_rate: {
    holds: { events_last_day: 100, good_last_day: 99 },
    breaks: { events_last_day: 100, good_last_day: 98 },
    points: 10,
  },
  webhook_success_target: {
    holds: { good_last_day: 9_995 },
    breaks: { good_last_day: 9_994 },
    points: 0,
  },
  slow_webhooks: { holds: { processing_ms: 5_000 }, breaks: { processing_ms: 5_001 }, points: 5 },
  webhook_latency_target: {
    holds: { processing_ms: 500 },
    breaks: { processing_ms: 501 },
    points: 0,
  },
  parked_events: { holds: { parked_events: 4 }, breaks: { parked_over_a_day: 1 }, points: 2 },
  missing_purchase_records: {
    holds: {},
    breaks: { missing_purchase_records: 1 },
    points: 10,
  },
  orphaned_purchases: { holds: {}, breaks: { orphaned_purchases: 1 }, points: 5 },
  open_findings: { holds: {}, breaks: { open_findings: 2 }, points: 2 },
  stale_reconciliation: {
    holds: { reconciliation_age_seconds: 43_200 },
    breaks: { reconciliation_age_seconds: 43_201 },
    points: 20,
  },
  mirror_lag: { holds: { mirror_lag_seconds: 60 }, breaks: { mirror_lag_seconds: 61 }, points: 10 },
  overdue_jobs: { holds: {}, breaks: { overdue_jobs: ['webhook-sweep'] }, points: 10 },
  failed_jobs: { holds: {}, breaks: { failed_jobs: ['reconcile'] }, points: 5 },
  overdue_dunning: { holds: {}, breaks: { overdue_dunning_steps: 1 }, points: 5 },
  undelivered_mail: { holds: {}, breaks: { undelivered_notifications: 1 }, points: 5 },
  mail_success_rate: {
    holds: { sent_last_day: 95 },
    breaks: { sent_last_day: 94 },
    points: 5,
  },
  cache_size: {
    holds: { cache_bytes: 104_857_600 },
    breaks: { cache_bytes: 104_857_601 },
    points: 2,
  },
  cache_hit_rate: {
    holds: { cache_hits: 70, cache_lookups: 100 },
    breaks: { cache_hits: 69, cache_lookups: 100 },
    points: 1,
  },
  cache_expired_share: {
    holds: { cache_expired: 30 },
    breaks: { cache_expired: 31 },
    points: 1,
  },
  cache_expired: {
    holds: { cache_entries: 1_000, cache_expired: 50 },
    breaks: { cache_entries: 1_000, cache_expired: 51 },
    points: 1,
  },
  cache_invalidations: {
    holds: { cache_invalidations_last_hour: 100 },
    breaks: { cache_invalidations_last_hour: 101 },
    points: 0,
  },
};

const codesOf = (change: Change) => judge({ ...WELL, ...change }).map(({ code }) => code);

describe('the table of health rules', () => {
  it('has a case here for every rule, a source, a title and a page for each', () => {
    expect(HEALTH_RULES.map(({ code }) => code).sort()).toEqual(Object.keys(CASES).sort());
    const docs = readFileSync(new URL('../../docs/health.md', import.meta.url), 'utf8');
    for (const { code, title, source, link } of HEALTH_RULES) {
      expect(docs).toContain(`| \`${code}\` | ${title} |`);
      expect(title).toMatch(/[^.]$/);
      expect(source).toMatch(/\.$/);
      expect(link).toMatch(/^\/admin\//);
    }
  });

  it('takes nothing off where all is well', () => {
    expect(toReport(WELL)).toMatchObject({
      health_score: 100,
      status: 'healthy',
      deductions: [],
      webhook_success_rate: 1,
    });
  });

  it.each(Object.keys(CASES))('%s holds at its threshold and breaks beyond it', (code) => {
    const { holds, breaks, points } = CASES[code] ?? { holds: {}, breaks: {}, points: -1 };
    expect(codesOf(holds)).not.toContain(code);
    const broken = toReport({ ...WELL, ...breaks });
    const deduction = broken.deductions.find((one) => one.code === code);
    expect(deduction).toMatchObject({ points, link: expect.stringMatching(/^\/admin\//) });
    expect(deduction?.detail).toMatch(/[.?]$/);
    const all = broken.deductions.reduce((sum, one) => sum + one.points, 0);
    expect(broken.health_score).toBe(Math.max(0, 100 - all));
  });

  it('costs more with each, up to the bound of the rule', () => {
    const score = (change: Change) => toReport({ ...WELL, ...change }).health_score;
    expect([1, 2, 3, 4, 9].map((n) => score({ dead_letters: n }))).toEqual([90, 80, 70, 60, 60]);
    expect([1, 2, 3, 9].map((n) => score({ failed_webhooks: n }))).toEqual([92, 84, 76, 76]);
  });

  it('counts a Redis that does not answer as one that lags', () => {
    expect(codesOf({ mirror_lag_seconds: null })).toEqual(['mirror_lag']);
  });

  it('judges no rate by too few', () => {
    expect(codesOf({ events_last_day: 19, good_last_day: 0 })).toEqual([]);
    expect(codesOf({ notifications_last_day: 19, sent_last_day: 0 })).toEqual([]);
    expect(codesOf({ cache_hits: 0, cache_lookups: 99 })).toEqual([]);
    expect(toReport({ ...WELL, events_last_day: 0, good_last_day: 0 }).webhook_success_rate).toBe(
      1,
    );
  });

  it.each([
    [{ dead_letters: 2 }, 80, 'healthy'],
    [{ dead_letters: 2, open_findings: 1 }, 79, 'degraded'],
    [{ dead_letters: 4, overdue_jobs: ['a'] }, 50, 'degraded'],
    [{ dead_letters: 4, overdue_jobs: ['a'], open_findings: 1 }, 49, 'critical'],
    [{ drifted_users: 1, dead_letters: 9 }, 0, 'critical'],
  ])('%j is %i: %s', (change, score, status) => {
    expect(toReport({ ...WELL, ...change })).toMatchObject({ health_score: score, status });
  });
});
