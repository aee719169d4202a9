-- Purser: what a person asks the database when something seems wrong, or to see that nothing is.
--
-- Every statement only reads. Paste the one you need, or the whole file with
--   psql "$DATABASE_URL" -f sql/monitoring.sql
-- as the owner of the tables (Supabase: the SQL editor) or as service_role. Each says above it what it
-- shows and from where on to worry. The same numbers for machines: GET /metrics (docs/metrics.md).

-- ===================================================================================== webhooks

-- inbox: what waits, by status, and the age of the oldest. Worry: anything in received, leased or
-- failed older than some minutes while a server runs; more than 10 in all.
select status, count(*) as events,
  round(extract(epoch from now() - min(created_at))) as oldest_seconds,
  min(next_attempt_at) as next_attempt_at
from stripe_webhook_events
where status in ('received', 'leased', 'failed', 'parked')
group by status order by events desc;

-- inbox backlog: events that are due and not being worked on. Worry: it grows from look to look.
select count(*) as due, round(extract(epoch from now() - min(next_attempt_at))) as oldest_due_seconds
from stripe_webhook_events
where status in ('received', 'failed') and next_attempt_at <= now();

-- success rate of a day: of the events that have come to an end. Aim: above 99.95 %.
select count(*) filter (where status in ('processed', 'ignored')) as well,
  count(*) filter (where status = 'dead') as dead,
  round(100.0 * count(*) filter (where status in ('processed', 'ignored')) / nullif(count(*), 0), 3) as success_rate_percent,
  round(100.0 * count(*) filter (where status in ('processed', 'ignored') and retry_count = 0) / nullif(count(*), 0), 3) as at_once_percent
from stripe_webhook_events
where created_at > now() - interval '1 day' and status in ('processed', 'ignored', 'dead');

-- failures by hour. Worry: more than 5 in one hour.
select date_trunc('hour', updated_at) as hour, count(*) as failed, count(distinct event_type) as types
from stripe_webhook_events
where status in ('failed', 'dead') and updated_at > now() - interval '1 day'
group by hour order by hour desc;

-- dead letters by cause: each needs a person. Worry: any.
select coalesce(error_code, 'unknown') as code, error_cause, event_type, count(*) as events,
  min(created_at) as first_at, max(created_at) as last_at, left(max(error_message), 120) as example
from stripe_webhook_events
where status = 'dead'
group by error_code, error_cause, event_type order by events desc;

-- parked purchases: paid, and nobody knows by whom. Worry: any that is older than an hour.
select stripe_event_id, event_type, object_id, waiting_for, error_message as reason, created_at
from stripe_webhook_events
where status = 'parked'
order by created_at limit 50;

-- recent failures with their reason.
select stripe_event_id, event_type, object_id, status, error_message, retry_count, next_attempt_at, created_at
from stripe_webhook_events
where status in ('failed', 'dead')
order by updated_at desc limit 20;

-- events by type.
select event_type, count(*) as total,
  count(*) filter (where status = 'processed') as processed,
  count(*) filter (where status = 'ignored') as ignored,
  count(*) filter (where status in ('failed', 'dead')) as failed,
  round(avg(retry_count) filter (where processed), 2) as average_retries
from stripe_webhook_events
group by event_type order by total desc;

-- processing time by type, of a day, from arrival to the end of the work, of events done at the first attempt. Worry: above 5 s.
select event_type, count(*) as events,
  round(avg(extract(epoch from processed_at - created_at)) * 1000) as average_ms,
  round((percentile_cont(0.5) within group (order by extract(epoch from processed_at - created_at)) * 1000)::numeric) as median_ms,
  round((percentile_cont(0.99) within group (order by extract(epoch from processed_at - created_at)) * 1000)::numeric) as p99_ms,
  round(max(extract(epoch from processed_at - created_at)) * 1000) as slowest_ms
from stripe_webhook_events
where lease = 1 and processed and processed_at is not null and created_at > now() - interval '1 day'
group by event_type order by average_ms desc;

-- events by hour: a gap means that Stripe does not reach us.
select date_trunc('hour', created_at) as hour, count(*) as events
from stripe_webhook_events
where created_at > now() - interval '2 days'
group by hour order by hour desc;

-- ====================================================================================== credits

-- books: what users have and owe.
select count(*) as users, count(*) filter (where credits_balance > 0) as with_credits,
  coalesce(sum(credits_balance) filter (where credits_balance > 0), 0) as credits_outstanding,
  coalesce(sum(credits_held), 0) as credits_held,
  count(*) filter (where credits_debt > 0) as in_debt, coalesce(sum(credits_debt), 0) as credits_owed,
  count(*) filter (where credits_suspended) as suspended
from users;

-- debts: who spent what was refunded or disputed afterwards. Worry: one that grows.
select id as user_id, credits_debt, credits_balance, plan
from users where credits_debt > 0 order by credits_debt desc limit 50;

-- movements of a week, by type.
select transaction_type, count(*) as entries, sum(amount) as credits, count(distinct user_id) as users
from credit_transactions
where created_at > now() - interval '7 days'
group by transaction_type order by entries desc;

-- users of a week: what was allocated and used. A negative balance is possible only as debt.
select user_id, coalesce(sum(amount) filter (where transaction_type in ('purchase', 'allocation', 'bonus')), 0) as granted,
  coalesce(-sum(amount) filter (where transaction_type = 'usage'), 0) as used, sum(amount) as net
from credit_transactions
where created_at > now() - interval '7 days'
group by user_id order by used desc limit 50;

-- expiring: credits that end within a month.
select date_trunc('day', expires_at) as day, count(distinct user_id) as users, sum(remaining) as credits
from credit_grants
where exhausted_at is null and expires_at between now() and now() + interval '30 days'
group by day order by day;

-- open holds, the oldest first. Worry: many that are past their end (the job expire-credits is not run).
select count(*) as open, coalesce(sum(amount - captured), 0) as credits_held,
  count(*) filter (where expires_at <= now()) as past_their_end, min(created_at) as oldest_at
from credit_holds where status = 'open';

-- drift: the books do not add up. Worry: any row; docs/runbooks tells what to do.
select * from validate_credits_consistency();

-- findings that are open: what does not fit and needs a person.
select code, count(*) as findings, sum(times) as seen, min(first_seen_at) as first_seen_at, max(last_seen_at) as last_seen_at,
  min(subject) as example
from reconciliation_findings
where resolved_at is null
group by code order by findings desc;

-- findings by day, also those that were resolved.
select date_trunc('day', first_seen_at) as day, code, count(*) as findings, count(resolved_at) as resolved
from reconciliation_findings
where first_seen_at > now() - interval '30 days'
group by day, code order by day desc, findings desc;

-- seals: entries that are not sealed yet. Worry: more than some minutes' worth.
select coalesce(sum(u.entry_count), 0) - coalesce((select sum(s.last_entry - s.first_entry + 1) from credit_seals s
    where s.user_id in (select id::text from users)), 0) as entries_unsealed,
  (select max(sealed_at) from credit_seals) as last_sealed_at
from users u;

-- payments that were taken back in part or whole, of a month.
select currency, count(*) as payments, sum(paid) as paid, sum(refunded) as refunded, sum(disputed) as disputed
from payments
where updated_at > now() - interval '30 days' and refunded + disputed > 0
group by currency order by payments desc;

-- reconciliation: its last runs. Worry: none that ended within a day, or findings that stay.
select id, status, started_at, finished_at, findings, repaired
from reconciliation_runs order by started_at desc limit 10;

-- ======================================================================================= mirror

-- mirror: what Redis has to follow, and whether somebody follows. The lag itself is seen where both
-- sides are: purser_mirror_lag_seconds in /metrics, and GET /api/admin/stripe/subscription-health.
select (select max(created_at) from credit_transactions) as newest_entry_at,
  (select count(*) from credit_transactions where created_at > now() - interval '1 minute') as entries_last_minute,
  j.last_success_at as last_repair_at, round(extract(epoch from now() - j.last_success_at)) as seconds_since_repair,
  j.last_result
from (select 1) one left join scheduled_jobs j on j.name = 'mirror-repair';

-- copies that were wrong, found by the monthly check and mended.
select code, count(*) as copies, max(first_seen_at) as last_at
from reconciliation_findings where code like 'mirror\_%'
group by code order by copies desc;

-- ========================================================================================= jobs

-- jobs: how they ended and when they are due. Worry: failures in a row, a lost run, overdue.
select name, last_outcome, failures_in_row, runs, failures, last_success_at, next_run_at,
  leased_until > now() as running, progress, last_result
from scheduled_jobs order by failures_in_row desc, name;

-- jobs overdue: due for twice their pace and nobody takes them up. Worry: any, while a server runs.
select name, next_run_at, round(extract(epoch from now() - next_run_at)) as overdue_seconds, last_outcome, last_success_at
from scheduled_jobs
where next_run_at < now() - greatest(interval '5 minutes', make_interval(secs => 2 * coalesce((pace ->> 'every_seconds')::float8, 0)))
  and (leased_until is null or leased_until < now())
order by next_run_at;

-- ================================================================================ subscriptions

-- subscriptions by plan and status.
select coalesce(plan, 'not of the catalogue') as plan, status, count(*) as subscriptions,
  count(*) filter (where payment_failed) as payment_failed, count(*) filter (where cancel_at_period_end) as ending
from subscription
group by plan, status order by subscriptions desc;

-- cached states by status.
select sc.status, count(*) as count, round(avg(extract(epoch from (now() - sc.cached_at)))) as avg_age_seconds
from subscription_cache sc
where sc.expires_at >= now()
group by sc.status;

-- cached states: how many still count, and how long they live (300 s).
select count(*) as total, count(*) filter (where expires_at >= now()) as valid,
  round(avg(extract(epoch from (expires_at - cached_at)))) as avg_ttl_seconds
from subscription_cache;

-- clean-ups of cached states.
select get_subscription_cache_status();
select * from get_cache_cleanup_history(10);

-- ================================================================================ Stripe's cache

-- hits by kind of object, since each entry was made. Aim: above 80 % of all reads are hits; the
-- rate itself is purser_stripe_cache_reads_total in /metrics. Worry: below 70 %.
select substring(key from '^stripe:[^:]+') as key_type, count(*) as entries,
  count(*) filter (where expires_at > now()) as active, count(*) filter (where expires_at <= now()) as expired,
  sum(access_count) as hits, round(avg(access_count), 1) as hits_per_entry,
  round(avg(extract(epoch from now() - updated_at))) as average_age_seconds
from cache_store where category = 'stripe'
group by key_type order by hits desc;

-- the entries that are read most.
select key, access_count, round(extract(epoch from now() - created_at) / 3600, 1) as age_hours,
  round(extract(epoch from expires_at - now()) / 3600, 2) as hours_left
from cache_store where category = 'stripe'
order by access_count desc limit 20;

-- size. Worry: above 100 MB, or more than 30 % of the entries past their end.
select count(*) as entries, round(100.0 * count(*) filter (where expires_at <= now()) / nullif(count(*), 0), 1) as expired_percent,
  pg_size_pretty(coalesce(sum(pg_column_size(value)), 0)) as total_size,
  pg_size_pretty(coalesce(avg(pg_column_size(value)), 0)::bigint) as average_size,
  pg_size_pretty(coalesce(max(pg_column_size(value)), 0)::bigint) as largest
from cache_store where category = 'stripe';

-- the largest entries.
select key, pg_size_pretty(pg_column_size(value)::bigint) as size
from cache_store where category = 'stripe'
order by pg_column_size(value) desc limit 20;

-- what made cached answers void, by hour. Worry: above 100 in an hour.
select date_trunc('hour', created_at) as hour, split_part(event_type, '.', 1) as object, count(*) as events
from stripe_webhook_events
where (event_type like 'product.%' or event_type like 'price.%' or event_type like 'customer.%')
  and created_at > now() - interval '1 day'
group by hour, object order by hour desc, events desc;

-- ========================================================================================= mail

-- e-mails of a week by kind: sent, waiting, given up. Worry: any dead, or the oldest waits an hour.
select kind, count(*) filter (where status = 'sent') as sent,
  count(*) filter (where status in ('queued', 'leased', 'failed')) as waiting,
  count(*) filter (where status = 'dead') as dead, count(*) filter (where status = 'dropped') as dropped,
  round(100.0 * count(*) filter (where status = 'sent') / nullif(count(*) filter (where status in ('sent', 'dead')), 0), 2) as success_rate_percent,
  round(extract(epoch from now() - min(created_at) filter (where status in ('queued', 'leased', 'failed')))) as oldest_waiting_seconds
from notifications
where created_at > now() - interval '7 days'
group by kind order by sent desc;

-- ====================================================================================== dunning

-- invoices that could not be collected, by how it went. Completion: recovered of all that ended.
select state, resolution, currency, count(*) as cases, sum(amount) as amount,
  round(100.0 * count(*) / sum(count(*)) over (), 1) as percent
from dunning_cases
where created_at > now() - interval '90 days'
group by state, resolution, currency order by cases desc;

-- open cases and their next step. Worry: one that has been due for a day.
select id, user_id, stripe_invoice_id, state, next_step, due_at, postponed_because, attempts, error_message
from dunning_cases where ended_at is null
order by due_at limit 50;

-- ========================================================================================= size

-- growth: rows of a week, by day.
select d.day::date, (select count(*) from credit_transactions t where t.created_at >= d.day and t.created_at < d.day + interval '1 day') as entries,
  (select count(*) from stripe_webhook_events e where e.created_at >= d.day and e.created_at < d.day + interval '1 day') as events
from generate_series(date_trunc('day', now()) - interval '6 days', date_trunc('day', now()), interval '1 day') as d(day)
order by d.day desc;

-- size of each table with its indexes, and rows as last estimated.
select c.relname as table_name, pg_size_pretty(pg_total_relation_size(c.oid)) as total_size,
  pg_size_pretty(pg_indexes_size(c.oid)) as indexes, greatest(c.reltuples, 0)::bigint as rows_estimated,
  coalesce(s.n_dead_tup, 0) as dead_rows, s.last_autovacuum
from pg_class c left join pg_stat_all_tables s on s.relid = c.oid
where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and pg_get_userbyid(c.relowner) = 'purser_ledger'
order by pg_total_relation_size(c.oid) desc;

-- indexes that nobody has used since the statistics began (a replica's reads do not count).
select s.relname as table_name, s.indexrelname as index_name, pg_size_pretty(pg_relation_size(s.indexrelid)) as size
from pg_stat_all_indexes s join pg_class c on c.oid = s.relid
where s.schemaname = 'public' and s.idx_scan = 0 and pg_get_userbyid(c.relowner) = 'purser_ledger'
order by pg_relation_size(s.indexrelid) desc limit 20;
