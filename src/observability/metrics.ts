import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Logger } from '../core/ports.ts';
import type { JobRow, OperationsState } from './metrics.types.ts';
import type { Observers } from './observers.ts';
import { SERIES, type Series, type SeriesName } from './series.ts';

/** Scrapers, however many and however eager, make the database answer at most this often. */
const STATE_MS = 10_000;
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
/** Words of a job's result that are counted; more would be a job that counts by id. */
const ITEMS_PER_JOB_MAX = 50;

const NAMES = Object.keys(SERIES) as SeriesName[];

export interface MetricsDeps {
  /** What the tables say now. Rejects when the database does not answer. */
  readState: () => Promise<OperationsState>;
  logger: Pick<Logger, 'warn' | 'info'>;
  /** Counters that their owners keep. */
  cacheCounts: () => { hits: number; misses: number; renewals: number; stale: number };
  /** Milliseconds that only grow; default the process' own. */
  nowMs?: () => number;
}

export interface Metrics {
  observers: Observers;
  /** The text Prometheus reads. Never rejects because of the database: a series says so. */
  render(deps: MetricsDeps): Promise<{ contentType: string; body: string }>;
}

/**
 * One registry: what this process has seen, and at each scrape what the tables say. `eventTypes`
 * get a series of their own, all others are `other`.
 */
export function createMetrics(eventTypes: ReadonlySet<string>): Metrics {
  const registry = new Registry();
  const made = new Map<SeriesName, Counter | Gauge | Histogram>();
  for (const name of NAMES) {
    const series: Series = SERIES[name];
    const labelNames = [...(series.labels ?? [])];
    const options = { name, help: series.help, labelNames, registers: [registry] };
    made.set(
      name,
      series.type === 'counter'
        ? new Counter(options)
        : series.type === 'gauge'
          ? new Gauge(options)
          : new Histogram({ ...options, buckets: [...(series.buckets ?? [])] }),
    );
  }
  collectDefaultMetrics({ register: registry });
  const counter = (name: SeriesName) => made.get(name) as Counter;
  const gauge = (name: SeriesName) => made.get(name) as Gauge;
  const histogram = (name: SeriesName) => made.get(name) as Histogram;
  /** Looked up once: it is told of every request. */
  const requests = histogram('purser_http_request_duration_seconds');

  const knownItems = new Map<string, Set<string>>();
  /** Since the last scrape, by operation and result: a counter's own lookup costs 2 us a check. */
  const redisSeen = new Map<string, number>();
  let cacheSeen = { hits: 0, misses: 0, renewals: 0, stale: 0 };
  let state: { at: number; value: Promise<OperationsState> } | null = null;
  /** Why the tables could not be read at the last scrape; null: they were. */
  let unread: string | null = null;

  const observers: Observers = {
    request({ route, method, status, seconds, replays }) {
      const known = METHODS.has(method) ? method : 'other';
      requests.observe({ method: known, route, status }, seconds);
      if (replays > 0) counter('purser_idempotency_replays_total').inc({ route }, replays);
    },
    delivery({ duplicate }) {
      counter('purser_webhook_deliveries_total').inc({ result: duplicate ? 'duplicate' : 'new' });
    },
    event({ type, outcome, attempt, lagSeconds }) {
      counter('purser_webhook_events_total').inc({
        type: eventTypes.has(type) ? type : 'other',
        outcome,
        attempt: attempt > 1 ? 'retry' : 'first',
      });
      if (lagSeconds !== null) histogram('purser_webhook_lag_seconds').observe(lagSeconds);
    },
    spendCall({ operations, alone, waiting }) {
      const kind = alone ? 'alone' : 'shared';
      histogram('purser_spend_batch_operations').observe({ kind }, operations);
      gauge('purser_spends_waiting').set(waiting);
    },
    job({ job, outcome, result }, seconds) {
      histogram('purser_job_duration_seconds').observe({ job, outcome }, seconds);
      const items = knownItems.get(job) ?? new Set();
      knownItems.set(job, items);
      for (const [item, count] of Object.entries(result)) {
        if (typeof count !== 'number' || !(count >= 0)) continue;
        if (!items.has(item) && items.size === ITEMS_PER_JOB_MAX) continue;
        items.add(item);
        counter('purser_job_items_total').inc({ job, item }, count);
      }
    },
    redis(operation, result, times) {
      const key = `${operation} ${result}`;
      redisSeen.set(key, (redisSeen.get(key) ?? 0) + times);
    },
  };

  function countRedis(): void {
    for (const [key, times] of redisSeen) {
      const [operation = '', result = ''] = key.split(' ');
      counter('purser_redis_operations_total').inc({ operation, result }, times);
    }
    redisSeen.clear();
  }

  function countCache(now: typeof cacheSeen): void {
    const reads = counter('purser_stripe_cache_reads_total');
    for (const [result, field] of [
      ['hit', 'hits'],
      ['miss', 'misses'],
      ['stale', 'stale'],
    ] as const) {
      reads.inc({ result }, now[field] - cacheSeen[field]);
    }
    counter('purser_stripe_cache_renewals_total').inc(now.renewals - cacheSeen.renewals);
    cacheSeen = now;
  }

  /** The tables' state, at most STATE_MS old; askers at the same time share one look. */
  function readState({ readState: read, nowMs = () => performance.now() }: MetricsDeps) {
    if (state === null || nowMs() - state.at >= STATE_MS) {
      state = { at: nowMs(), value: read() };
    }
    return state.value;
  }

  /** Told when it begins, when the reason changes and when it is over: scrapes come by the second. */
  function tellUnread(logger: MetricsDeps['logger'], error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    if (reason === unread) return;
    unread = reason;
    logger.warn('The tables could not be read for /metrics; their series are missing', { error });
  }

  function tellRead(logger: MetricsDeps['logger']): void {
    if (unread !== null) logger.info('The tables are read for /metrics again');
    unread = null;
  }

  /** What is gone from the tables, or not known any more, must not stay in the answer. */
  function forgetState(): void {
    for (const name of NAMES) {
      const { from, labels = [] }: Series = SERIES[name];
      if (from !== 'database') continue;
      if (labels.length > 0) gauge(name).reset();
      else gauge(name).remove();
    }
  }

  return {
    observers,
    async render(deps) {
      countRedis();
      countCache(deps.cacheCounts());
      forgetState();
      try {
        setState(gauge, await readState(deps));
        gauge('purser_database_scrape_failed').set(0);
        tellRead(deps.logger);
      } catch (error) {
        // The scrape itself is how the outage is seen; an answer of 503 would hide this process.
        state = null;
        gauge('purser_database_scrape_failed').set(1);
        tellUnread(deps.logger, error);
      }
      return { contentType: registry.contentType, body: await registry.metrics() };
    },
  };
}

function setState(gauge: (name: SeriesName) => Gauge, state: OperationsState): void {
  for (const { status, events, oldest_seconds } of state.inbox) {
    gauge('purser_inbox_events').set({ status }, events);
    gauge('purser_inbox_oldest_seconds').set({ status }, oldest_seconds);
  }
  gauge('purser_inbox_due_events').set(state.due.events);
  gauge('purser_inbox_due_oldest_seconds').set(state.due.oldest_seconds);
  if (state.mirror_lag_seconds !== null) {
    gauge('purser_mirror_lag_seconds').set(state.mirror_lag_seconds);
  }
  for (const { code, open } of state.findings) gauge('purser_findings_open').set({ code }, open);
  for (const job of state.jobs) setJob(gauge, job);
  for (const { kind, waiting, oldest_seconds } of state.messages ?? []) {
    gauge('purser_messages_waiting').set({ kind }, waiting);
    gauge('purser_messages_oldest_seconds').set({ kind }, oldest_seconds);
  }
  for (const one of state.dunning ?? []) {
    gauge('purser_dunning_cases').set({ state: one.state }, one.cases);
  }
  if (state.health_score !== null) gauge('purser_health_score').set(state.health_score);
  for (const { name, bytes, rows } of state.tables) {
    gauge('purser_table_bytes').set({ table: name }, bytes);
    gauge('purser_table_rows').set({ table: name }, rows);
  }
}

function setJob(gauge: (name: SeriesName) => Gauge, { name: job, ...row }: JobRow): void {
  if (row.last_success !== null) {
    gauge('purser_job_last_success_timestamp_seconds').set({ job }, row.last_success);
  }
  gauge('purser_job_failures_in_row').set({ job }, row.failures_in_row);
  gauge('purser_job_overdue').set({ job }, row.overdue ? 1 : 0);
}
