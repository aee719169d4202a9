import type { AppDeps } from '../../../src/api/deps.ts';
import { PurserError } from '../../../src/core/errors.ts';
import type {
  ReconciliationFinding,
  ReconciliationRun,
} from '../../../src/reconcile/reconcile.types.ts';

/** The domain behind the routes of reconciliation, with one answer each. */
export function reconcileDomain(
  record: (name: string, ...args: unknown[]) => void,
): AppDeps['reconcile'] {
  const at = '2026-11-21T10:00:00.000Z';
  const counts = { objects: 3, stripe_calls: 5, findings: 1, repaired: 1, still_open: 0 };
  const progress = { stage: 'mirror' as const, after: null, stages: {} };
  const done = {
    outcome: 'done' as const,
    dry_run: false,
    run_id: 'r_1',
    since: null,
    compared_until: at,
    progress,
    ...counts,
    paused_because: null,
    differences: [],
  };
  const run: ReconciliationRun = {
    id: 'r_1',
    status: 'done',
    actor: 'purser',
    since: null,
    compared_until: at,
    progress,
    ...counts,
    error: null,
    started_at: at,
    updated_at: at,
    finished_at: at,
  };
  const finding: ReconciliationFinding = {
    id: '7',
    code: 'orphaned_grant',
    subject: 'checkout:cs_live_1',
    user_id: 'u1',
    status: 'open',
    detail: {},
    repair: { kind: 'adjust_credits', sentence: 'Take them back.', command: null },
    times: 1,
    run_id: 'r_1',
    first_seen_at: at,
    last_seen_at: at,
    resolved_at: null,
    resolved_by: null,
    resolution: null,
  };
  const known = (id: string, is: string) => {
    if (id !== is) throw new PurserError('not_found', { detail: `There is no ${id}.` });
  };
  const standing = { balance: 50, version: 3 };
  return {
    async run(request, actor) {
      record('reconcile', request, actor);
      return { ...done, dry_run: request.dry_run ?? false };
    },
    resume: async () => done,
    runs: async () => [run],
    async getRun(id) {
      known(id, run.id);
      return run;
    },
    async findings(filter) {
      record('listFindings', filter);
      return { data: [finding], has_more: false, next_cursor: null };
    },
    async getFinding(id) {
      known(id, finding.id);
      return finding;
    },
    async resolveFinding(id, reason, actor) {
      record('resolveFinding', id, reason, actor);
      return { ...finding, status: 'resolved', resolved_at: at, resolved_by: actor };
    },
    state: async () => ({
      clean_as_of: at,
      compared_until: at,
      open_findings: 0,
      open_by_code: {},
      cursors: {},
      last_reconciliation: { id: 'r_1', finished_at: at, findings: 1, repaired: 1 },
    }),
    async checkUser(userId) {
      record('checkUser', userId);
      return {
        user_id: userId,
        clean: true,
        clean_as_of: at,
        stripe: { customers: ['cus_1'], sessions: 1, invoices: 0, subscriptions: 0 },
        ledger: {
          ...{ email: null, ...standing, held: 0, debt: 0 },
          ...{ plan: 'free', suspended: false, entries: 1 },
        },
        mirror: null,
        mirror_agrees: false,
        objects: [],
        differences: [],
        open_findings: [],
        stripe_calls: 4,
        checked_at: at,
      };
    },
    async fixUser(userId, request, actor) {
      record('fixUser', userId, request, actor);
      return {
        user_id: userId,
        dry_run: request.dry_run ?? false,
        differences: [],
        repaired: 0,
        before: standing,
        after: standing,
        stripe_calls: 4,
      };
    },
  };
}
