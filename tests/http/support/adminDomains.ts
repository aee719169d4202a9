import type { AppDeps } from '../../../src/api/deps.ts';
import { PurserError } from '../../../src/core/errors.ts';

/** The domains behind the admin's own routes, with one answer each. */
export function adminDomains(
  record: (name: string, ...args: unknown[]) => void,
): Pick<AppDeps, 'audit' | 'adminUsers' | 'subscriptionHealth'> {
  const at = '2026-11-21T10:00:00.000Z';
  const report = {
    health_score: 92,
    status: 'healthy' as const,
    failed_webhooks: 1,
    dead_letters: 0,
    parked_events: 0,
    unprocessed_events: 2,
    oldest_unprocessed_seconds: 4,
    webhook_success_rate: 0.999,
    missing_purchase_records: 0,
    orphaned_purchases: 0,
    drifted_users: 0,
    open_findings: 0,
    mirror_lag_seconds: 0,
    last_reconciliation: { id: 'r_1', finished_at: at, findings: 0, repaired: 0 },
    overdue_jobs: [],
    failed_jobs: [],
    undelivered_notifications: 0,
    open_dunning_cases: 0,
    overdue_dunning_steps: 0,
    deductions: [
      {
        code: 'failed_webhooks',
        points: 8,
        severity: 'warning' as const,
        detail: '1 event failed and will be tried again by itself.',
        link: '/admin/events?status=failed',
      },
    ],
    checked_at: at,
  };
  return {
    audit: {
      async list(filter) {
        record('listAudit', filter);
        const event = {
          id: '7',
          actor: 'admin:1a2b3c4d',
          action: 'adjust_credits',
          user_id: 'u1',
          reason: 'counted twice',
          before: { balance: 50 },
          after: { balance: 45 },
          created_at: at,
        };
        return { data: [event], has_more: false, next_cursor: null };
      },
    },
    adminUsers: {
      async search(filter) {
        record('searchUsers', filter);
        const user = {
          user_id: 'u1',
          email: 'u1@example.com',
          plan: 'free',
          stripe_customer_id: 'cus_1',
          balance: 50,
          available: 45,
          suspended: false,
        };
        return { data: [user], has_more: false, next_cursor: null };
      },
      async view(userId) {
        record('viewUser', userId);
        if (userId === 'nobody') {
          throw new PurserError('user_not_found', { detail: 'There is no user nobody.' });
        }
        return {
          profile: {
            user_id: userId,
            email: 'u1@example.com',
            plan: 'free',
            stripe_customer_id: 'cus_1',
            customers: ['cus_1'],
            suspended: false,
            closed: false,
          },
          ledger: {
            balance: 50,
            held: 5,
            debt: 0,
            available: 45,
            version: 7,
            entries: 3,
            due: false,
          },
          mirror: { state: 'equal', version: 7, balance: 50, available: 45, valid_until: null },
          subscriptions: [],
          lots: [],
          holds: [],
          recent_entries: [],
          payments: [],
          open_findings: [],
          waiting_events: [],
          as_of: at,
        };
      },
    },
    subscriptionHealth: {
      async report() {
        record('health');
        return report;
      },
      check: async () => ({ health_score: 92, broken: [], raised: 0, resolved: 0 }),
      last: () => report,
    },
  };
}
