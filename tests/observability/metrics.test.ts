import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createMetrics } from '../../src/observability/metrics.ts';
import type { OperationsState } from '../../src/observability/metrics.types.ts';
import { SERIES, type Series } from '../../src/observability/series.ts';
import { testDatabase } from '../support/postgres.ts';
import { buy, eventsOfType } from '../support/purchases.ts';
import {
  ADMIN_KEY,
  CRON_SECRET,
  SERVICE_KEY,
  type Stack,
  startStack,
  waitFor,
} from '../support/stack.ts';

const METRICS_KEY = 'metrics-key-of-the-tests-0123456789';
const docs = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
const dashboard = readFileSync(
  new URL('../../docs/grafana-dashboard.json', import.meta.url),
  'utf8',
);

/** `name{labels} value` lines by name and labels, labels in the order of the answer. */
function parse(text: string): Map<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [
      line.slice(0, line.lastIndexOf(' ')),
      Number(line.slice(line.lastIndexOf(' ') + 1)),
    ]),
  );
}

describe('GET /metrics', () => {
  const database = testDatabase();
  let stack: Stack;
  beforeAll(async () => {
    stack = await startStack({
      connectionString: database.current.connectionString,
      env: { PURSER_METRICS_KEY: METRICS_KEY },
    });
  });
  afterAll(() => stack.stop());
  const scrape = async () =>
    parse((await stack.call('GET', '/metrics', { bearer: METRICS_KEY })).body);

  it.each([
    ['nobody', undefined, 401],
    ['a wrong key', 'wrong', 401],
    ['the cron secret', CRON_SECRET, 403],
    ['a scraper', METRICS_KEY, 200],
    ['a service', SERVICE_KEY, 200],
    ['an admin', ADMIN_KEY, 200],
  ])('answers %s as it should', async (_who, bearer, status) => {
    const answer = await stack.call('GET', '/metrics', bearer === undefined ? {} : { bearer });
    expect(answer.status).toBe(status);
    if (status === 200) expect(answer.headers.get('content-type')).toContain('text/plain');
    else expect(JSON.stringify(answer.body)).not.toContain('purser_job');
  });

  it('answers a user only when he is an admin', async () => {
    const user = await stack.token('ann');
    const admin = await stack.token('boss', { app_metadata: { role: 'admin' } });
    expect((await stack.call('GET', '/metrics', { bearer: user })).status).toBe(403);
    expect((await stack.call('GET', '/metrics', { bearer: admin })).status).toBe(200);
  });

  it('opens nothing else to the scraper’s key', async () => {
    for (const target of ['/api/admin/jobs', '/api/users/ann/credits', '/api/cron/tick']) {
      const { status } = await stack.call('GET', target, { bearer: METRICS_KEY });
      expect([target, status]).toEqual([target, 403]);
    }
  });

  it('tells what has happened: a purchase told twice, a spend sent twice, a check', async () => {
    const session = await buy(stack.sandbox, stack.url, 'ann', { plan: 'pack_50' });
    const event = (await eventsOfType(stack.stripe, 'checkout.session.completed')).get(session);
    for (let n = 0; n < 2; n += 1) await stack.deliver(event);
    const spend = { user_id: 'ann', amount: 5 };
    await waitFor(async () => {
      const { body } = await stack.call('POST', '/api/credits/check', {
        bearer: SERVICE_KEY,
        body: spend,
      });
      return body.allowed === true;
    }, 'the credits');
    for (let n = 0; n < 2; n += 1) {
      await stack.call('POST', '/api/credits/consume', {
        bearer: SERVICE_KEY,
        body: spend,
        headers: { 'idempotency-key': 'k1' },
      });
    }
    await stack.call('POST', '/api/credits/consume-batch', {
      bearer: SERVICE_KEY,
      body: { operations: [{ ...spend, idempotency_key: 'k1' }] },
    });
    await stack.call('GET', '/api/credits/check/ann?secret=x', { bearer: SERVICE_KEY });
    await stack.call('POST', '/api/admin/jobs/seal-ledger/run', { bearer: ADMIN_KEY });

    const seen = await scrape();
    expect(seen.get('purser_webhook_deliveries_total{result="new"}')).toBe(1);
    expect(seen.get('purser_webhook_deliveries_total{result="duplicate"}')).toBe(1);
    expect(
      seen.get(
        'purser_webhook_events_total{type="checkout.session.completed",outcome="applied",attempt="first"}',
      ),
    ).toBe(1);
    expect(seen.get('purser_webhook_lag_seconds_count')).toBe(1);
    expect(seen.get('purser_idempotency_replays_total{route="/api/credits/consume"}')).toBe(1);
    expect(seen.get('purser_idempotency_replays_total{route="/api/credits/consume-batch"}')).toBe(
      1,
    );
    expect(
      seen.get(
        'purser_http_request_duration_seconds_count{method="POST",route="/api/credits/consume",status="200"}',
      ),
    ).toBe(2);
    expect(seen.get('purser_spend_batch_operations_count{kind="alone"}')).toBe(2);
    // The check that found the credits may have been the ledger's.
    await waitFor(async () => {
      await stack.call('POST', '/api/credits/check', { bearer: SERVICE_KEY, body: spend });
      const hits = 'purser_redis_operations_total{operation="read_mirror",result="hit"}';
      return ((await scrape()).get(hits) ?? 0) > 0;
    }, 'a check that Redis answers');
    expect(seen.get('purser_health_score')).toBeGreaterThan(0);
    // The tables are looked at every ten seconds.
    await waitFor(
      async () => (await scrape()).get('purser_job_failures_in_row{job="seal-ledger"}') === 0,
      'the job',
    );
    expect(seen.get('purser_table_bytes{table="credit_transactions"}')).toBeGreaterThan(0);
    expect(seen.get('purser_database_scrape_failed')).toBe(0);
    // Never an id, a path or a question: each value of a label is kept for ever.
    const text = [...seen.keys()].join('\n');
    for (const secret of ['ann', session, 'secret', 'evt_', 'k1"']) {
      expect(text).not.toContain(secret);
    }
  });

  it('describes every series it has, in the manual too', async () => {
    const { body } = await stack.call('GET', '/metrics', { bearer: METRICS_KEY });
    const described = [...String(body).matchAll(/^# TYPE (purser_\w+) (\w+)$/gm)].map(
      ([, name, type]) => `${name} ${type}`,
    );
    expect(described.sort()).toEqual(
      Object.entries(SERIES)
        .map(([name, { type }]) => `${name} ${type}`)
        .sort(),
    );
    for (const [name, series] of Object.entries(SERIES as Record<string, Series>)) {
      const labels = series.labels?.map((label) => `\`${label}\``).join(', ') || '-';
      expect(docs).toContain(
        `| \`${name}\` | ${series.type} | ${labels} | ${series.from} | ${series.help} |`,
      );
    }
  });

  it('has every series that the manual and the dashboard ask for', () => {
    const named = [...`${docs}\n${dashboard}`.matchAll(/\bpurser_[a-z_]+[a-z]\b/g)].map(([name]) =>
      name.replace(/_(bucket|sum|count)$/, ''),
    );
    const known = [...Object.keys(SERIES), 'purser_metrics_key'];
    expect(named.filter((name) => !known.includes(name))).toEqual([]);
    expect(JSON.parse(dashboard).panels.length).toBeGreaterThan(15);
  });
});

describe('a scrape', () => {
  const STATE: OperationsState = {
    inbox: [{ status: 'dead', events: 2, oldest_seconds: 90 }],
    due: { events: 0, oldest_seconds: 0 },
    findings: [],
    jobs: [],
    tables: [],
    mirror_lag_seconds: null,
    health_score: 70,
  };
  const cacheCounts = () => ({ hits: 3, misses: 1, renewals: 0, stale: 0 });
  const open = () => {
    let at = 0;
    const metrics = createMetrics(new Set(['invoice.paid']));
    const logged: [level: string, message: string, reason?: string][] = [];
    const logger = {
      warn: (message: string, fields?: { error?: unknown }) =>
        void logged.push(['warn', message, String(fields?.error)]),
      info: (message: string) => void logged.push(['info', message]),
    };
    return {
      metrics,
      logged,
      pass: (ms: number) => {
        at += ms;
      },
      look: async (readState: () => Promise<OperationsState>) =>
        parse((await metrics.render({ readState, logger, cacheCounts, nowMs: () => at })).body),
    };
  };

  it('asks the database once in ten seconds, however many ask', async () => {
    const { look, pass } = open();
    let asked = 0;
    const read = async () => {
      asked += 1;
      return STATE;
    };
    await Promise.all([look(read), look(read), look(read)]);
    pass(9_999);
    await look(read);
    expect(asked).toBe(1);
    pass(1);
    await look(read);
    expect(asked).toBe(2);
  });

  it('answers while the database is away, without numbers nobody knows', async () => {
    const { look, pass } = open();
    expect((await look(async () => STATE)).get('purser_inbox_events{status="dead"}')).toBe(2);
    pass(10_000);
    const seen = await look(() => Promise.reject(new Error('away')));
    expect(seen.get('purser_database_scrape_failed')).toBe(1);
    expect(seen.has('purser_health_score')).toBe(false);
    expect(seen.has('purser_inbox_events{status="dead"}')).toBe(false);
    expect(seen.get('purser_stripe_cache_reads_total{result="hit"}')).toBe(3);
    const back = await look(async () => ({ ...STATE, inbox: [] }));
    expect(back.get('purser_health_score')).toBe(70);
    expect(back.has('purser_inbox_events{status="dead"}')).toBe(false);
    expect(back.has('purser_mirror_lag_seconds')).toBe(false);
  });

  it('logs why the tables could not be read, once for each reason, and when they are again', async () => {
    const { look, logged } = open();
    const failing = (reason: string) => () => Promise.reject(new Error(reason));
    const missing = 'The tables could not be read for /metrics; their series are missing';
    for (const reason of ['refused', 'refused', 'no function operations_metrics']) {
      await look(failing(reason));
    }
    await look(async () => STATE);
    await look(async () => STATE);
    expect(logged).toEqual([
      ['warn', missing, 'Error: refused'],
      ['warn', missing, 'Error: no function operations_metrics'],
      ['info', 'The tables are read for /metrics again'],
    ]);
  });

  it('keeps its labels few, whatever comes', async () => {
    const { metrics, look } = open();
    const { observers } = metrics;
    for (let n = 0; n < 500; n += 1) {
      const attempt = n + 1;
      observers.event({ type: `made.up_${n}`, outcome: 'ignored', attempt, lagSeconds: null });
      observers.request({ route: 'other', method: `M${n}`, status: 404, seconds: 0, replays: 0 });
      const result = { [`user-${n}`]: 1, text: 'x', lost: Number.NaN };
      observers.job({ job: 'sweep', outcome: 'done', result }, 1);
    }
    const seen = await look(async () => STATE);
    const keysOf = (name: string) => [...seen.keys()].filter((key) => key.startsWith(`${name}{`));
    expect(keysOf('purser_webhook_events_total')).toHaveLength(2);
    expect(keysOf('purser_http_request_duration_seconds_count')).toHaveLength(1);
    expect(keysOf('purser_job_items_total')).toHaveLength(50);
  });
});
