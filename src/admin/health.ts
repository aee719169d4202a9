import { PurserError } from '../core/errors.ts';
import type { Database, Logger, RedisStore } from '../core/ports.ts';
import type { Alerts } from '../notifications/alerts.ts';
import type {
  Deduction,
  Health,
  HealthFigures,
  HealthReport,
  HealthStatus,
} from './health.types.ts';
import { HEALTH_RULES, type HealthRule, SCORE_ALERT, STATUS_SCORES } from './healthRules.ts';

/** The cursor of mirror-repair in Redis; its `since` is up to when changes are copied. */
const MIRROR_CURSOR = 'mirror-repair';

export interface HealthDeps {
  db: Database;
  redis: Pick<RedisStore, 'readCursor'>;
  alerts: Pick<Alerts, 'raise' | 'resolve'>;
  logger: Logger;
}

/** What is broken of the rules, the worst first. Pure. */
export function judge(figures: HealthFigures): (Deduction & { rule: HealthRule })[] {
  const broken = HEALTH_RULES.flatMap((rule) => {
    const measured = rule.measure(figures);
    if (measured === null) return [];
    const beyond = rule.breaks === 'above' ? measured - rule.threshold : rule.threshold - measured;
    if (!(beyond > 0)) return [];
    const { each, max } = rule.points;
    const points = each === max ? max : Math.min(each * Math.ceil(beyond), max);
    const { code, severity, link } = rule;
    return [{ code, points, severity, detail: rule.detail(measured, figures), link, rule }];
  });
  return broken.sort((a, b) => b.points - a.points);
}

export function statusOf(score: number): HealthStatus {
  if (score >= STATUS_SCORES.healthy) return 'healthy';
  return score >= STATUS_SCORES.degraded ? 'degraded' : 'critical';
}

/** The report of these figures. Pure. */
export function toReport(figures: HealthFigures): HealthReport {
  const deductions = judge(figures).map(({ rule: _, ...deduction }) => deduction);
  const lost = deductions.reduce((sum, { points }) => sum + points, 0);
  const score = Math.max(0, 100 - lost);
  const { events_last_day: all, good_last_day: good } = figures;
  return {
    health_score: score,
    status: statusOf(score),
    failed_webhooks: figures.failed_webhooks,
    dead_letters: figures.dead_letters,
    parked_events: figures.parked_events,
    unprocessed_events: figures.unprocessed_events,
    oldest_unprocessed_seconds: figures.oldest_unprocessed_seconds,
    webhook_success_rate: all === 0 ? 1 : Math.round((good / all) * 100_000) / 100_000,
    missing_purchase_records: figures.missing_purchase_records,
    orphaned_purchases: figures.orphaned_purchases,
    drifted_users: figures.drifted_users,
    open_findings: figures.open_findings,
    mirror_lag_seconds: figures.mirror_lag_seconds,
    last_reconciliation: figures.last_reconciliation,
    overdue_jobs: figures.overdue_jobs,
    failed_jobs: figures.failed_jobs,
    undelivered_notifications: figures.undelivered_notifications,
    open_dunning_cases: figures.open_dunning_cases,
    overdue_dunning_steps: figures.overdue_dunning_steps,
    deductions,
    checked_at: figures.checked_at,
  };
}

/** Tells how well the installation is, by the table of rules. */
export function createHealth({ db, redis, alerts, logger }: HealthDeps): Health {
  let last: HealthReport | null = null;

  async function look(): Promise<HealthFigures> {
    const since = await mirrorSince();
    const figures = await db.rpc<HealthFigures>('health_figures', {
      p_mirror_since: since.known,
    });
    return since.reachable ? figures : { ...figures, mirror_lag_seconds: null };
  }

  /** Up to when changes are in Redis; a cursor that is not there says nothing against it. */
  async function mirrorSince(): Promise<{ reachable: boolean; known?: string }> {
    try {
      const cursor = await redis.readCursor(MIRROR_CURSOR);
      if (cursor === null) return { reachable: true };
      const { since } = JSON.parse(cursor) as { since?: unknown };
      return typeof since === 'string' && !Number.isNaN(Date.parse(since))
        ? { reachable: true, known: since }
        : { reachable: true };
    } catch (error) {
      if (error instanceof PurserError) return { reachable: false };
      if (error instanceof SyntaxError) return { reachable: true }; // mended by the job's next run
      throw error;
    }
  }

  async function settle(code: string, broken: (() => Parameters<Alerts['raise']>[0]) | null) {
    if (broken === null)
      return (await alerts.resolve(code)).outcome === 'resolved' ? 'resolved' : 'none';
    const { outcome } = await alerts.raise(broken());
    return outcome === 'opened' ? 'raised' : 'none';
  }

  return {
    last: () => last,

    async report() {
      last = toReport(await look());
      return last;
    },

    async check() {
      const figures = await look();
      const report = toReport(figures);
      last = report;
      const broken = new Map(judge(figures).map((one) => [one.code, one]));
      const counts = { raised: 0, resolved: 0, none: 0 };
      for (const rule of HEALTH_RULES.filter(({ alert }) => alert)) {
        const found = broken.get(rule.code);
        const severity = rule.severity === 'critical' ? 'critical' : 'warning';
        const raise =
          found &&
          (() =>
            ({
              code: rule.code,
              severity,
              title: rule.title,
              detail: found.detail,
              link: rule.link,
            }) as const);
        counts[await settle(rule.code, raise ?? null)] += 1;
      }
      const score = report.health_score;
      const low = score < SCORE_ALERT.threshold;
      const reasons = report.deductions.filter(({ points }) => points > 0);
      counts[
        await settle(
          SCORE_ALERT.code,
          low
            ? () => ({
                code: SCORE_ALERT.code,
                severity: report.status === 'critical' ? 'critical' : 'warning',
                title: SCORE_ALERT.title,
                detail: `It is ${score}: ${reasons.map(({ code, points }) => `${code} -${points}`).join(', ')}.`,
                link: '/admin/health',
              })
            : null,
        )
      ] += 1;
      if (low) logger.warn(`The health score is ${score}`, { deductions: report.deductions });
      return {
        health_score: score,
        broken: [...broken.keys()],
        raised: counts.raised,
        resolved: counts.resolved,
      };
    },
  };
}
