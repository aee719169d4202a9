import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { createHealth } from '../../src/admin/health.ts';
import type { Health } from '../../src/admin/health.types.ts';
import type { Database } from '../../src/core/ports.ts';
import { createAlerts } from '../../src/notifications/alerts.ts';
import { createMemoryRedis } from '../../src/redis/memoryRedis.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { testDatabase } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

/** Rows that break a rule, and what mends it, on a real database. */
const database = testDatabase();
const redis = createMemoryRedis({ nowMs: Date.now });
let db: Database;
let health: Health;

beforeAll(() => {
  db = createPgDatabase({ connectionString: database.current.connectionString });
  const logger = { error() {}, warn() {}, info() {}, debug() {} };
  health = createHealth({ db, redis, alerts: createAlerts({ db }), logger });
});
afterAll(() => db.close());
// What one rule left would be another's trouble; alerts that come back within the hour stay quiet.
afterEach(() =>
  sql(`delete from public.alerts; delete from public.notifications; delete from public.stripe_webhook_events;
    delete from public.reconciliation_runs; delete from public.dunning_cases; delete from public.scheduled_jobs`),
);

const sql = (text: string) => database.current.query(text);
const events = (count: number, values: string) => `
  insert into public.stripe_webhook_events (stripe_event_id, event_type, event_data, status, created_at, next_attempt_at)
  select 'evt_' || gen_random_uuid(), 'invoice.paid', '{}', ${values} from generate_series(1, ${count})`;
const finding = (code: string) =>
  `set role purser_ledger; select purser.record_finding('${code}', 'subject', 'u1', '{}'); reset role`;
const MEND_EVENTS = 'delete from public.stripe_webhook_events';
const MEND_FINDINGS = 'update public.reconciliation_findings set resolved_at = clock_timestamp()';

/** By rule; each begins and ends with an installation that is well. */
const TROUBLES: [code: string, breakIt: string, mendIt: string][] = [
  ['credit_drift', finding('credit_drift_balance'), MEND_FINDINGS],
  ['dead_letters', events(1, `'dead', now(), null`), MEND_EVENTS],
  ['dead_letters_hourly', events(11, `'dead', now(), null`), MEND_EVENTS],
  ['failing_webhooks', events(6, `'failed', now(), now() + interval '1 hour'`), MEND_EVENTS],
  ['inbox_age', events(1, `'received', now() - interval '6 minutes', null`), MEND_EVENTS],
  ['unprocessed_events', events(11, `'received', now() - interval '2 minutes', null`), MEND_EVENTS],
  [
    'webhook_success_rate',
    `${events(99, `'processed', now(), null`)}; ${events(2, `'dead', now() - interval '2 hours', null`)}`,
    MEND_EVENTS,
  ],
  [
    'slow_webhooks',
    `${events(1, `'processed', now() - interval '6 seconds', null`)}; update public.stripe_webhook_events set status = 'ignored', lease = 1`,
    MEND_EVENTS,
  ],
  ['parked_events', events(1, `'parked', now() - interval '25 hours', null`), MEND_EVENTS],
  ['missing_purchase_records', finding('missing_grant'), MEND_FINDINGS],
  ['orphaned_purchases', finding('orphaned_grant'), MEND_FINDINGS],
  ['open_findings', finding('subscription_differs'), MEND_FINDINGS],
  [
    'stale_reconciliation',
    `insert into public.reconciliation_runs (status, actor, compared_until, finished_at)
     values ('done', 'purser', now(), now() - interval '13 hours')`,
    `insert into public.reconciliation_runs (status, actor, compared_until, finished_at) values ('done', 'purser', now(), now())`,
  ],
  [
    'overdue_jobs',
    `insert into public.scheduled_jobs (name, pace, next_run_at) values ('a-job', '{"every_seconds": 60}', now() - interval '1 hour')`,
    `delete from public.scheduled_jobs`,
  ],
  [
    'failed_jobs',
    `insert into public.scheduled_jobs (name, failures_in_row) values ('a-job', 3)`,
    `delete from public.scheduled_jobs`,
  ],
  [
    'overdue_dunning',
    `insert into public.dunning_cases (user_id, stripe_invoice_id, stripe_subscription_id, failed_at, steps, due_at, amount, currency, seen_at)
     values ('u1', 'in_1', 'sub_1', now(), '[]', now() - interval '25 hours', 999, 'usd', now())`,
    `update public.dunning_cases set due_at = now()`,
  ],
  [
    'undelivered_mail',
    `insert into public.notifications (notification_key, kind, status) values ('k', 'claim_link', 'dead')`,
    `delete from public.notifications where notification_key = 'k'`,
  ],
  [
    'cache_hit_rate',
    `insert into public.cache_store (key, value, expires_at) select 'k' || n, '{}', now() + interval '1 hour' from generate_series(1, 100) n`,
    `delete from public.cache_store`,
  ],
  [
    'cache_expired',
    `insert into public.cache_store (key, value, expires_at, access_count) select 'k' || n, '{}', now() - interval '1 hour', 100 from generate_series(1, 51) n`,
    `delete from public.cache_store`,
  ],
  [
    'cache_invalidations',
    `${events(101, `'ignored', now(), null`)}; update public.stripe_webhook_events set event_type = 'customer.updated'`,
    MEND_EVENTS,
  ],
];

interface Told {
  event: string;
  code: string;
}

/** What was said of one rule, in order: once when it broke, once when it was mended. */
const told = async (code: string) =>
  (
    await database.current.query<Told>(
      `select data ->> 'event' as event, data ->> 'code' as code from public.notifications where kind = 'alert' order by id`,
    )
  ).filter((message) => message.code === code);

it('finds nothing wrong with a new database', async () => {
  expect(await health.report()).toMatchObject({ health_score: 100, deductions: [] });
  expect(health.last()).toMatchObject({ health_score: 100 });
});

describe('each rule is told once when it breaks and once when it holds again', () => {
  it.each(TROUBLES)('%s', async (code, breakIt, mendIt) => {
    await sql(breakIt);
    const broken = await health.check();
    expect(broken.broken).toContain(code);
    const { health_score: score, deductions } = await health.report();
    const points = deductions.reduce((sum, one) => sum + one.points, 0);
    expect(score).toBe(Math.max(0, 100 - points));

    // It goes on: nobody is told again.
    await health.check();
    const alert = `select status, times::int from public.alerts where code = '${code}' order by id`;
    expect(await sql(alert)).toEqual([{ status: 'open', times: 2 }]);

    await sql(mendIt);
    const mended = await health.check();
    expect(mended).toMatchObject({ health_score: 100, broken: [] });
    await health.check();
    expect(await sql(alert)).toEqual([{ status: 'resolved', times: 2 }]);
    expect((await told(code)).map(({ event }) => event)).toEqual(['opened', 'recovered']);
  });
});

it('tells of a score below 80, with its reasons, and when it is over', async () => {
  await sql(events(3, `'dead', now() - interval '2 hours', null`));
  expect(await health.check()).toMatchObject({ health_score: 70 });
  const alerts = () =>
    sql(
      `select status, severity, detail from public.alerts where code = 'health_score' order by id desc limit 1`,
    );
  expect(await alerts()).toEqual([
    { status: 'open', severity: 'warning', detail: 'It is 70: dead_letters -30.' },
  ]);
  await sql(MEND_EVENTS);
  await health.check();
  expect(await alerts()).toMatchObject([{ status: 'resolved' }]);
});

it('takes a purchase that waited for its user for no slow webhook', async () => {
  await sql(events(1, `'parked', now() - interval '3 hours', null`));
  const [event] = await database.current.query<{ id: string }>(
    'select stripe_event_id as id from stripe_webhook_events',
  );
  // It was worked on once, and is again when the user has come.
  await sql(`update public.stripe_webhook_events set lease = 1`);
  await sql(`update public.stripe_webhook_events set status = 'received'`);
  const [claimed] = (await callAsService(database.current, 'claim_webhook_events', {})) as {
    event_id: string;
    fence: number;
  }[];
  expect(claimed).toMatchObject({ fence: 2 });
  await callAsService(database.current, 'apply_webhook_effects', {
    p_event_id: event?.id,
    p_fence: 2,
    p_effects: [],
  });
  expect(await sql('select processed from stripe_webhook_events')).toEqual([{ processed: true }]);
  expect(await health.report()).toMatchObject({ health_score: 100, deductions: [] });
});

it('measures the lag of the mirror by the oldest change that Redis may lack', async () => {
  await sql(`insert into public.users (id, email) values ('u1', 'u1@example.com')`);
  await callAsService(database.current, 'grant_credits', {
    p_user_id: 'u1',
    p_type: 'bonus',
    p_key: 'grant:lag',
    p_lots: [{ credits: 5, paid: false }],
  });
  const lag = (since: string, after: string) =>
    sql(
      `select (public.health_figures(${since}, now() + interval '${after}') ->> 'mirror_lag_seconds')::int as lag`,
    );
  expect(await lag('null', '2 minutes')).toEqual([{ lag: 0 }]);
  expect(await lag('now()', '2 minutes')).toEqual([{ lag: 0 }]);
  const [{ lag: behind = 0 } = {}] = (await lag(`now() - interval '1 hour'`, '2 minutes')) as {
    lag: number;
  }[];
  expect(behind).toBeGreaterThanOrEqual(119);
  expect(behind).toBeLessThan(240);
});

it('says that Redis does not answer, and goes on', async () => {
  const { PurserError } = await import('../../src/core/errors.ts');
  const away = createHealth({
    db,
    redis: {
      readCursor: () => Promise.reject(new PurserError('dependency_down', { detail: 'away' })),
    },
    alerts: createAlerts({ db }),
    logger: { error() {}, warn() {}, info() {}, debug() {} },
  });
  const report = await away.report();
  expect(report.mirror_lag_seconds).toBeNull();
  expect(report.deductions).toMatchObject([{ code: 'mirror_lag', points: 10 }]);
});
