import { setTimeout as sleep } from 'node:timers/promises';
import type Stripe from 'stripe';
import { PurserError } from '../core/errors.ts';
import { createStripeMeter } from './meter.ts';
import type {
  Reconcile,
  ReconciliationFinding,
  ReconciliationRun,
  ReconciliationState,
} from './reconcile.types.ts';
import { repairOf } from './repairs.ts';
import { type RunDeps, runReconciliation } from './run.ts';
import { checkUser, fixUser } from './user.ts';

export type ReconcileDeps = Omit<RunDeps, 'meter' | 'pause'> & {
  stripe: Stripe;
  /** Default: real time. */
  pause?: (ms: number) => Promise<void>;
};

/** The actor of the scheduled runs. */
const SCHEDULE = 'purser';
const PAGE = 50;

export function createReconcile({ pause = (ms) => sleep(ms), ...given }: ReconcileDeps): Reconcile {
  const deps: RunDeps = { ...given, pause, meter: createStripeMeter(given.stripe) };
  const { db } = deps;
  return {
    run: (request, actor, shouldStop) => runReconciliation(deps, request, actor, shouldStop),
    resume: (shouldStop) => runReconciliation(deps, { resumeOnly: true }, SCHEDULE, shouldStop),

    runs: () => db.rpc<ReconciliationRun[]>('list_reconciliation_runs'),

    async getRun(id) {
      const run = await db.rpc<ReconciliationRun | null>('get_reconciliation_run', {
        p_run_id: id,
      });
      if (run === null) throw notFound('run', id);
      return run;
    },

    async findings({ status, code, user_id: userId, run_id: runId, cursor, limit = PAGE }) {
      const { findings, has_more } = await db.rpc<{
        findings: ReconciliationFinding[];
        has_more: boolean;
      }>('list_reconciliation_findings', {
        p_status: status,
        p_code: code,
        p_user_id: userId,
        p_run_id: runId,
        p_before: cursor,
        p_limit: limit,
      });
      return {
        data: findings.map(withRepair),
        has_more,
        next_cursor: has_more ? (findings.at(-1)?.id ?? null) : null,
      };
    },

    async getFinding(id) {
      const finding = await db.rpc<ReconciliationFinding | null>('get_reconciliation_finding', {
        p_finding_id: id,
      });
      if (finding === null) throw notFound('finding', id);
      return withRepair(finding);
    },

    async resolveFinding(id, reason, actor) {
      const { finding } = await db.rpc<{ outcome: string; finding?: ReconciliationFinding }>(
        'resolve_reconciliation_finding',
        { p_finding_id: id, p_actor: actor, p_reason: reason },
      );
      if (finding === undefined) throw notFound('finding', id);
      return withRepair(finding);
    },

    state: (userId) =>
      db.rpc<ReconciliationState>('get_reconciliation_state', { p_user_id: userId ?? null }),

    checkUser: (userId) => checkUser(deps, userId),

    fixUser: (
      userId,
      { stripe_subscription_id: subscriptionId, dry_run: dryRun = false, reason },
      actor,
    ) => fixUser(deps, userId, { subscriptionId, dryRun, reason }, actor),
  };
}

/** Other jobs and webhooks note findings without saying what to do. */
function withRepair(finding: ReconciliationFinding): ReconciliationFinding {
  const { code, subject, user_id: userId, detail } = finding;
  return { ...finding, repair: finding.repair ?? repairOf(code, { subject, userId, detail }) };
}

function notFound(what: string, id: string): PurserError {
  return new PurserError('not_found', { detail: `There is no ${what} ${id} of reconciliation.` });
}
