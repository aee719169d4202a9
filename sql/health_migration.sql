-- Purser: the figures from which the health score is told (src/admin/healthRules.ts has the rules).
--
-- Paste after admin_migration.sql, or run `npm run migrate`. Safe to run again.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array['health_figures']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- ---------------------------------------------------------------------------------------------
-- Private helpers, one for each part of the figures. Each reads by an index; times are seconds.
-- ---------------------------------------------------------------------------------------------

create or replace function purser.age_seconds(p_then timestamptz, p_now timestamptz)
returns bigint language sql immutable set search_path = '' as $$
  select greatest(floor(extract(epoch from p_now - p_then))::bigint, 0)
$$;

-- The inbox. oldest_unprocessed_seconds: how long the oldest event that is due has waited; one
-- that waits for its retry is not due before that, and is counted as failed. processing_ms: of events
-- done at the first attempt; one that was parked has waited for its user, not for us.
create or replace function purser.inbox_figures(p_now timestamptz)
returns jsonb language plpgsql stable set search_path = '' as $$
declare
  v_day timestamptz := p_now - interval '1 day';
  v_hour timestamptz := p_now - interval '1 hour';
  v_open jsonb;
  v_recent jsonb;
begin
  select jsonb_build_object(
    'failed_webhooks', count(*) filter (where e.status = 'failed'),
    'dead_letters', count(*) filter (where e.status = 'dead'),
    'dead_last_hour', count(*) filter (where e.status = 'dead' and e.updated_at > v_hour),
    'parked_events', count(*) filter (where e.status = 'parked'),
    'parked_over_a_day', count(*) filter (where e.status = 'parked' and e.created_at < v_day),
    'unprocessed_events', count(*) filter (where e.status in ('received', 'leased', 'failed')),
    'unprocessed_over_a_minute', count(*) filter (where e.status in ('received', 'leased', 'failed')
      and greatest(e.created_at, e.next_attempt_at) < p_now - interval '1 minute'),
    'oldest_unprocessed_seconds', coalesce(purser.age_seconds(
      min(greatest(e.created_at, e.next_attempt_at)) filter (where e.status in ('received', 'leased', 'failed')), p_now), 0))
  into v_open
  from public.stripe_webhook_events e where e.status in ('received', 'leased', 'failed', 'parked', 'dead');
  select jsonb_build_object(
    'events_last_day', count(*),
    'good_last_day', count(*) filter (where e.status not in ('failed', 'dead')),
    'failed_last_hour', count(*) filter (where e.updated_at > v_hour and e.status in ('failed', 'dead')),
    'processing_ms', round(coalesce(avg(extract(epoch from e.processed_at - e.created_at) * 1000)
      filter (where e.processed and e.lease = 1 and e.processed_at > v_hour), 0))::bigint,
    'cache_invalidations_last_hour', count(*) filter (where e.created_at > v_hour
      and e.event_type ~ '^(product|price|customer)\.'))
  into v_recent
  from public.stripe_webhook_events e where e.created_at > v_day and e.status <> 'logged';
  return v_open || v_recent;
end
$$;

-- Open findings by what they mean: purchases without their grant, grants without their purchase,
-- books that do not add up, and the rest.
create or replace function purser.finding_figures()
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return (
    select jsonb_build_object(
      'missing_purchase_records', count(*) filter (where f.code like 'missing\_%' or f.code = 'unassigned_purchase'),
      'orphaned_purchases', count(*) filter (where f.code like 'orphan%' or f.code = 'unpaid_grant'),
      'drifted_users', count(distinct f.user_id) filter (where f.code like 'credit\_drift\_%'),
      'open_findings', count(*) filter (where f.code not like 'missing\_%' and f.code not like 'orphan%'
        and f.code not in ('unassigned_purchase', 'unpaid_grant') and f.code not like 'credit\_drift\_%'))
    from public.reconciliation_findings f where f.resolved_at is null);
end
$$;

-- The last reconciliation that ended, and how long ago; before the first, since the first event.
create or replace function purser.reconciliation_figures(p_now timestamptz)
returns jsonb language plpgsql stable set search_path = '' as $$
declare
  v_last record;
begin
  select r.id, r.finished_at, r.findings, r.repaired into v_last
  from public.reconciliation_runs r where r.status = 'done' order by r.finished_at desc limit 1;
  return jsonb_build_object(
    'last_reconciliation', case when v_last.id is not null then jsonb_build_object(
      'id', 'r_' || v_last.id, 'finished_at', purser.iso(v_last.finished_at),
      'findings', v_last.findings, 'repaired', v_last.repaired) end,
    'reconciliation_age_seconds', coalesce(purser.age_seconds(coalesce(v_last.finished_at, (
      select min(e.created_at) from public.stripe_webhook_events e)), p_now), 0));
end
$$;

-- Jobs that nobody takes up, and those that failed three times in a row: a single failure of a job
-- that runs each second passes by itself.
create or replace function purser.job_figures(p_now timestamptz)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return (
    select jsonb_build_object(
      'overdue_jobs', coalesce(jsonb_agg(j.name order by j.name) filter (where purser.is_overdue(j, p_now)), '[]'),
      'failed_jobs', coalesce(jsonb_agg(j.name order by j.name) filter (where j.failures_in_row >= 3), '[]'))
    from public.scheduled_jobs j);
end
$$;

-- Messages that did not go out: given up in the last week, or due for a quarter of an hour.
create or replace function purser.message_figures(p_now timestamptz)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return (
    select jsonb_build_object(
      'undelivered_notifications', count(*) filter (
        where (n.status = 'dead' and n.created_at > p_now - interval '7 days')
          or (n.status in ('queued', 'leased', 'failed') and n.next_attempt_at < p_now - interval '15 minutes')),
      'notifications_last_day', count(*) filter (where n.created_at > p_now - interval '1 day' and n.status in ('sent', 'failed', 'dead')),
      'sent_last_day', count(*) filter (where n.created_at > p_now - interval '1 day' and n.status = 'sent'))
    from public.notifications n
    where n.created_at > p_now - interval '7 days' or n.status in ('queued', 'leased', 'failed'));
end
$$;

-- Dunning cases under way, and those whose step is a day late.
create or replace function purser.dunning_figures(p_now timestamptz)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return (
    select jsonb_build_object(
      'open_dunning_cases', count(*),
      'overdue_dunning_steps', count(*) filter (where c.state in ('open', 'canceling') and c.due_at < p_now - interval '1 day'))
    from public.dunning_cases c where c.ended_at is null);
end
$$;

-- Answers of Stripe that are kept. cache_lookups: hits, and one look for each entry that was fetched.
create or replace function purser.cache_figures(p_now timestamptz)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return (
    select jsonb_build_object(
      'cache_bytes', pg_catalog.pg_total_relation_size('public.cache_store'),
      'cache_entries', count(*),
      'cache_expired', count(*) filter (where c.expires_at < p_now),
      'cache_hits', coalesce(sum(c.access_count), 0),
      'cache_lookups', coalesce(sum(c.access_count), 0) + count(*))
    from public.cache_store c);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- health_figures: everything the health score is told from, in one snapshot and one round trip.
--   p_mirror_since  up to when changes are in Redis; mirror_lag_seconds is the age of the oldest
--                   change after that, 0 when there is none. Null: nothing is known to be missing
-- Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.health_figures(
  p_mirror_since timestamptz default null, p_now timestamptz default null)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
begin
  return purser.inbox_figures(v_now) || purser.finding_figures() || purser.reconciliation_figures(v_now)
    || purser.job_figures(v_now) || purser.message_figures(v_now)
    || purser.dunning_figures(v_now) || purser.cache_figures(v_now)
    || jsonb_build_object(
      'mirror_lag_seconds', coalesce((
        select purser.age_seconds(min(t.created_at), v_now) from public.credit_transactions t
        where t.created_at > p_mirror_since), 0),
      'checked_at', purser.iso(v_now));
end
$$;

call purser.restrict_functions();
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
