import { beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';

/**
 * The SQL that runbooks of such systems hold, as written: people paste it into the SQL editor. Each
 * stands with where it comes from. Where a runbook shows `...` inside a JSON text, a member stands
 * here, for that is not JSON.
 */
const SNIPPETS: [from: string, sql: string][] = [
  [
    'webhook guide, functions: log an event',
    `SELECT log_stripe_webhook_event(
    'evt_1234567890',  -- Stripe event ID
    'customer.subscription.created',  -- Event type
    '{"id": "sub_123", "status": "active"}'::jsonb  -- Event data
);`,
  ],
  [
    'webhook guide, functions: mark as success',
    `-- Mark as success
SELECT mark_webhook_processed('evt_1234567890');`,
  ],
  [
    'webhook guide, functions: mark as failed',
    `-- Mark as failed with error
SELECT mark_webhook_processed(
    'evt_1234567890',
    'Invalid subscription ID'
);`,
  ],
  [
    'webhook guide, functions: failed events',
    `-- Get failed events (max 3 retries, within 24 hours)
SELECT * FROM retry_failed_webhooks(3);`,
  ],
  [
    'webhook guide, functions: clean-up',
    `-- Delete events older than 90 days
SELECT cleanup_old_webhook_events(90);`,
  ],
  [
    'webhook guide, production testing',
    `SELECT * FROM stripe_webhook_events 
   WHERE stripe_event_id LIKE 'evt_test%'
   ORDER BY created_at DESC;`,
  ],
  [
    'webhook guide, idempotency testing',
    `SELECT log_stripe_webhook_event(
    'evt_test_123',
    'customer.subscription.created',
    '{"test": true}'::jsonb
);
-- Returns: uuid-1

SELECT log_stripe_webhook_event(
    'evt_test_123',
    'customer.subscription.created',
    '{"test": true}'::jsonb
);
-- Returns: uuid-1 (same ID, not duplicate)`,
  ],
  [
    'webhook guide, monitoring: events by type',
    `-- Events by type
SELECT 
    event_type,
    COUNT(*) as total,
    SUM(CASE WHEN processed THEN 1 ELSE 0 END) as processed,
    SUM(CASE WHEN NOT processed THEN 1 ELSE 0 END) as failed,
    AVG(CASE WHEN processed THEN retry_count ELSE NULL END) as avg_retries
FROM stripe_webhook_events
GROUP BY event_type
ORDER BY total DESC;`,
  ],
  [
    'webhook guide, monitoring: recent failed events',
    `SELECT 
    stripe_event_id,
    event_type,
    error_message,
    retry_count,
    created_at
FROM stripe_webhook_events
WHERE processed = false
ORDER BY created_at DESC
LIMIT 20;`,
  ],
  [
    'webhook guide, monitoring: processing performance',
    `SELECT 
    event_type,
    AVG(EXTRACT(EPOCH FROM (processed_at - created_at))) as avg_processing_seconds,
    MAX(EXTRACT(EPOCH FROM (processed_at - created_at))) as max_processing_seconds
FROM stripe_webhook_events
WHERE processed = true
GROUP BY event_type;`,
  ],
  [
    'webhook guide, monitoring: cache invalidation tracking',
    `-- View recent cache invalidations (from audit logs if implemented)
-- Or track manual invalidations:
SELECT 
    event_type,
    event_data->>'object_id' as object_id,
    created_at
FROM stripe_webhook_events
WHERE event_type LIKE 'product.%' 
   OR event_type LIKE 'price.%'
   OR event_type LIKE 'customer.%'
ORDER BY created_at DESC
LIMIT 50;`,
  ],
  [
    'webhook guide, troubleshooting: events marked as failed',
    `-- View error details
SELECT error_message, event_data 
FROM stripe_webhook_events 
WHERE processed = false;

-- Manually retry
SELECT * FROM retry_failed_webhooks(3);`,
  ],
  [
    'webhook guide, troubleshooting: cache not invalidating on webhook',
    `-- Test invalidation function
SELECT invalidate_stripe_cache_from_webhook('product.updated', 'prod_123');

-- Verify webhook is calling invalidation
SELECT event_type, processed, error_message
FROM stripe_webhook_events
WHERE event_type LIKE 'product.%'
ORDER BY created_at DESC
LIMIT 10;`,
  ],
  [
    'webhook guide, troubleshooting: high cache miss rate',
    `SELECT COUNT(*), DATE_TRUNC('hour', created_at) as hour
   FROM stripe_webhook_events
   WHERE event_type LIKE 'product.%' OR event_type LIKE 'price.%'
   GROUP BY hour
   ORDER BY hour DESC;`,
  ],
  [
    'subscription runbook, after the migration: indexes',
    `-- Check indexes
SELECT indexname, indexdef
FROM pg_indexes
WHERE tablename IN ('subscription_cache', 'stripe_events');`,
  ],
  [
    'subscription runbook, test the endpoint: received',
    `-- Check event received
   SELECT * FROM stripe_events ORDER BY created_at DESC LIMIT 5;

   -- Check event processing
   SELECT processed, error, created_at
   FROM stripe_events
   WHERE stripe_event_id = 'evt_xxx';`,
  ],
  [
    'subscription runbook, monitoring: recent events',
    `-- Recent webhook events
SELECT stripe_event_id, event_type, processed, error
FROM stripe_events
ORDER BY created_at DESC
LIMIT 20;`,
  ],
  [
    'subscription runbook, monitoring: failed processing',
    `-- Failed webhook processing
SELECT *
FROM stripe_events
WHERE NOT processed
ORDER BY created_at DESC;`,
  ],
  [
    'subscription runbook, daily checks',
    `-- Check webhook processing queue
SELECT COUNT(*)
FROM stripe_events
WHERE NOT processed
  AND created_at > NOW() - INTERVAL '1 day';`,
  ],
  [
    'subscription runbook, monthly maintenance',
    `-- Archive processed events older than 90 days
DELETE FROM stripe_events
WHERE processed = true
  AND created_at < NOW() - INTERVAL '90 days';`,
  ],
  [
    'subscription runbook, webhook not processing: diagnosis',
    `SELECT stripe_event_id, event_type, error, retry_count
FROM stripe_events
WHERE NOT processed
ORDER BY created_at DESC;`,
  ],
  [
    'subscription runbook, webhook not processing: resolution',
    `-- Mark as unprocessed to trigger retry
   UPDATE stripe_events
   SET processed = false, retry_count = 0
   WHERE stripe_event_id = 'evt_xxx';`,
  ],
  [
    'subscription runbook, credits not allocated',
    `-- Check if webhook received
SELECT * FROM stripe_events
WHERE object_id = 'in_xxx'  -- Invoice ID
  AND event_type = 'invoice.payment_succeeded';`,
  ],
  [
    'subscription runbook, success rate',
    `-- Webhook success rate
SELECT
  COUNT(*) FILTER (WHERE processed) * 100.0 / NULLIF(COUNT(*), 0) as success_rate_pct
FROM stripe_events
WHERE created_at > NOW() - INTERVAL '1 day';`,
  ],
  ['retry write-up, the table of all events', 'SELECT * FROM stripe_webhook_logs;'],
  ['queue write-up, idempotency', 'SELECT * FROM webhook_events;'],
  ['queue write-up, monitor failures', 'SELECT * FROM failed_webhooks;'],
];

const INDEXES = [
  'idx_stripe_webhook_event_id',
  'idx_stripe_webhook_type',
  'idx_stripe_webhook_processed',
  'idx_stripe_webhook_unprocessed',
  'idx_stripe_webhook_created',
];

const database = testDatabase();
beforeAll(() =>
  database.current.query(
    `insert into stripe_webhook_events (stripe_event_id, event_type, object_id, event_data, status)
     values ('evt_xxx', 'invoice.payment_succeeded', 'in_xxx', '{}', 'dead')`,
  ),
);

describe('SQL of runbooks runs as written', () => {
  it.each(SNIPPETS)('%s', async (_from, sql) => {
    await database.current.query(sql);
    await database.current.asRole('service_role', {}, (client) => client.query(sql));
  });

  it('and re-queues where it says so', async () => {
    expect(
      await database.current.query(
        `select status, retry_count from stripe_webhook_events where stripe_event_id = 'evt_xxx'`,
      ),
    ).toEqual([{ status: 'received', retry_count: 0 }]);
  });

  it('and finds the columns and indexes that are documented', async () => {
    const columns = await database.current.query<{ name: string }>(
      `select column_name as name from information_schema.columns where table_name = 'stripe_webhook_events'`,
    );
    expect(columns.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        'id',
        'stripe_event_id',
        'event_type',
        'event_data',
        'processed',
        'processed_at',
        'error_message',
        'retry_count',
        'created_at',
        'updated_at',
      ]),
    );
    const indexes = await database.current.query<{ name: string }>(
      `select indexname as name from pg_indexes where tablename = 'stripe_webhook_events'`,
    );
    expect(indexes.map(({ name }) => name)).toEqual(expect.arrayContaining(INDEXES));
  });
});
