-- Purser: the schedule of jobs with their leases, and the version of the schema.
--
-- Paste after stripe_webhook_events_migration.sql, or run `npm run migrate`. Safe to run again.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['scheduled_jobs'], array[
  'claim_job', 'keep_job', 'finish_job', 'run_sql_job', 'list_jobs', 'operations_metrics',
  'record_mirror_drift', 'purser_schema_version']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.scheduled_jobs (
  name text primary key,
  lease bigint not null default 0,
  leased_until timestamptz,
  lease_holder text,
  last_started_at timestamptz,
  last_finished_at timestamptz,
  last_outcome text,
  last_result jsonb,
  next_run_at timestamptz
);
alter table public.scheduled_jobs
  add column if not exists lease_holder text,
  -- {"every_seconds"[, "weekday" | "day", "hour"]}; see purser.next_run.
  add column if not exists pace jsonb,
  -- Of the run under way: what it has counted so far.
  add column if not exists progress jsonb,
  -- Where the next run goes on; null = at the beginning.
  add column if not exists cursor jsonb,
  add column if not exists last_success_at timestamptz,
  add column if not exists runs bigint not null default 0,
  add column if not exists failures bigint not null default 0,
  add column if not exists failures_in_row integer not null default 0;
alter table public.scheduled_jobs drop constraint if exists scheduled_jobs_last_outcome_check;
alter table public.scheduled_jobs add constraint scheduled_jobs_last_outcome_check
  check (last_outcome in ('done', 'failed', 'lost'));
comment on table public.scheduled_jobs is 'One row for each job: who runs it until when, how the last run ended (lost: it never did), and when the next is due.';

-- ---------------------------------------------------------------------------------------------
-- Private helpers
-- ---------------------------------------------------------------------------------------------

-- When a job that ended at p_from is due again. Of a job with a pace in seconds a little before its
-- pace is over, at most half a minute: the next look of a server must find it due. Of one with a
-- calendar the next such hour in UTC: weekday 0 = Sunday, day 1 to 28.
create or replace function purser.next_run(p_pace jsonb, p_from timestamptz)
returns timestamptz language plpgsql immutable set search_path = '' as $$
declare
  v_from timestamp := p_from at time zone 'UTC';
  v_hour interval := make_interval(hours => coalesce((p_pace ->> 'hour')::integer, 0));
  v_next timestamp;
  v_pace double precision := coalesce((p_pace ->> 'every_seconds')::double precision, 0);
begin
  if p_pace ? 'weekday' then
    v_next := date_trunc('day', v_from) + v_hour
      + make_interval(days => ((p_pace ->> 'weekday')::integer - extract(dow from v_from)::integer + 7) % 7);
    return (case when v_next > v_from then v_next else v_next + interval '7 days' end) at time zone 'UTC';
  elsif p_pace ? 'day' then
    v_next := date_trunc('month', v_from) + v_hour + make_interval(days => (p_pace ->> 'day')::integer - 1);
    return (case when v_next > v_from then v_next else v_next + interval '1 month' end) at time zone 'UTC';
  end if;
  return p_from + make_interval(secs => greatest(v_pace * 0.8, v_pace - 30));
end
$$;

-- Whether nobody has taken up a job for long after it was due: twice its pace, at least 5 minutes;
-- an hour where it goes by the calendar.
create or replace function purser.is_overdue(p_job public.scheduled_jobs, p_now timestamptz)
returns boolean language plpgsql immutable set search_path = '' as $$
begin
  return coalesce(p_job.next_run_at < p_now - case
      when p_job.pace ? 'hour' then interval '1 hour'
      else greatest(interval '5 minutes', make_interval(secs => 2 * coalesce((p_job.pace ->> 'every_seconds')::numeric, 0))) end
    and (p_job.leased_until is null or p_job.leased_until < p_now), false);
end
$$;

-- What a run leaves in its job's row, however it was run. p_more: work is left, so it is due at once.
-- After a failure a calendar does not have to come round: it is tried again after a minute, then two,
-- up to an hour.
create or replace function purser.end_run(
  p_name text, p_outcome text, p_result jsonb, p_more boolean, p_cursor jsonb, p_now timestamptz)
returns void language plpgsql set search_path = '' as $$
begin
  update public.scheduled_jobs j
  set leased_until = null, lease_holder = null, last_finished_at = p_now, last_outcome = p_outcome, last_result = p_result,
      progress = null, cursor = p_cursor, runs = j.runs + 1,
      last_success_at = case when p_outcome = 'done' then p_now else j.last_success_at end,
      failures = j.failures + case when p_outcome = 'done' then 0 else 1 end,
      failures_in_row = case when p_outcome = 'done' then 0 else j.failures_in_row + 1 end,
      next_run_at = case
        when p_outcome <> 'done' then least(purser.next_run(j.pace, p_now),
          p_now + make_interval(secs => least(3600, 60 * power(2, least(j.failures_in_row, 10)))))
        when p_more then p_now
        else purser.next_run(j.pace, p_now) end
  where j.name = p_name;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- claim_job: takes the lease of a job.
--   p_due_only  only when next_run_at has come (the schedule of several processes on one database)
--   p_holder    token of this call; repeating it under the same token gives the lease back
--   p_pace      {"every_seconds": n}, with a calendar also {"weekday": 0 to 6 | "day": 1 to 28, "hour"};
--               kept in the row. A job with a calendar that was never seen waits for its first hour.
-- Answers {outcome: claimed | busy | not_due, fence, cursor}. A run whose lease ran out before it
-- ended (its process died) is counted as lost, and its work is this run's.
-- ---------------------------------------------------------------------------------------------
drop function if exists public.claim_job(text, integer, boolean, text);
create or replace function public.claim_job(
  p_name text, p_lease_seconds integer, p_due_only boolean default false, p_holder text default null,
  p_pace jsonb default null, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz;
  v_job public.scheduled_jobs;
  v_lost boolean;
begin
  -- Whoever runs the job inside of one transaction (run_sql_job) holds this lock, not the row.
  if not pg_try_advisory_xact_lock_shared(hashtextextended('purser.job ' || p_name, 0)) then
    return jsonb_build_object('outcome', 'busy');
  end if;
  insert into public.scheduled_jobs (name, pace, next_run_at)
  values (p_name, p_pace, case when p_pace ? 'hour' then purser.next_run(p_pace, coalesce(p_now, clock_timestamp())) end)
  on conflict (name) do nothing;
  select * into v_job from public.scheduled_jobs j where j.name = p_name for update;
  v_now := coalesce(p_now, clock_timestamp());
  if v_job.leased_until > v_now and v_job.lease_holder = p_holder then
    return jsonb_build_object('outcome', 'claimed', 'fence', v_job.lease, 'cursor', v_job.cursor);
  end if;
  if v_job.leased_until > v_now then
    return jsonb_build_object('outcome', 'busy');
  end if;
  if p_pace is distinct from v_job.pace and p_pace is not null then
    -- Another pace than before, in a newer version perhaps: what was planned by the old one is void.
    update public.scheduled_jobs j
    set pace = p_pace, next_run_at = case when p_pace ? 'hour' then purser.next_run(p_pace, v_now) else j.next_run_at end
    where j.name = p_name returning * into v_job;
  end if;
  if p_due_only and v_job.next_run_at > v_now then
    return jsonb_build_object('outcome', 'not_due');
  end if;
  v_lost := v_job.leased_until is not null;
  update public.scheduled_jobs j
  set lease = j.lease + 1, leased_until = v_now + make_interval(secs => p_lease_seconds), last_started_at = v_now,
      lease_holder = p_holder, progress = null,
      runs = j.runs + v_lost::integer, failures = j.failures + v_lost::integer,
      failures_in_row = j.failures_in_row + v_lost::integer,
      last_outcome = case when v_lost then 'lost' else j.last_outcome end
  where j.name = p_name returning * into v_job;
  return jsonb_build_object('outcome', 'claimed', 'fence', v_job.lease, 'cursor', v_job.cursor);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- keep_job: a run says that it lives, how far it has come (p_progress, for people) and where the next
-- one would go on (p_cursor). Answers {outcome: kept | stale}; stale: the lease is somebody else's,
-- nothing was written, and the run has to end.
-- ---------------------------------------------------------------------------------------------
create or replace function public.keep_job(
  p_name text, p_fence bigint, p_lease_seconds integer, p_progress jsonb default null, p_cursor jsonb default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
begin
  update public.scheduled_jobs j
  set leased_until = clock_timestamp() + make_interval(secs => p_lease_seconds), progress = p_progress, cursor = p_cursor
  where j.name = p_name and j.lease = p_fence and j.leased_until is not null;
  return jsonb_build_object('outcome', case when found then 'kept' else 'stale' end);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- finish_job: ends a run under its lease; the row's pace says when the next is due.
--   p_outcome  done | failed
--   p_more     work is left: due at once
--   p_cursor   where the next run goes on; null = at the beginning
-- Answers {outcome: done | stale}; stale: the lease was lost meanwhile, the row is somebody else's.
-- Repeated by a caller who did not hear the answer, it is stale and changes nothing.
-- ---------------------------------------------------------------------------------------------
drop function if exists public.finish_job(text, bigint, text, jsonb, double precision);
create or replace function public.finish_job(
  p_name text, p_fence bigint, p_outcome text, p_result jsonb, p_more boolean default false, p_cursor jsonb default null,
  p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
begin
  perform from public.scheduled_jobs j
  where j.name = p_name and j.lease = p_fence and j.leased_until is not null for update;
  if not found then
    return jsonb_build_object('outcome', 'stale');
  end if;
  perform purser.end_run(p_name, p_outcome, p_result, p_more, p_cursor, coalesce(p_now, clock_timestamp()));
  return jsonb_build_object('outcome', 'done');
end
$$;

-- One page of a job that needs nothing but the database. Answers {count, more}.
create or replace function purser.run_job_page(p_name text)
returns jsonb language plpgsql set search_path = '' as $$
declare
  v_page jsonb;
begin
  case p_name
    when 'expire-credits' then v_page := public.expire_due_credits(1000);
      return jsonb_build_object('count', v_page -> 'users', 'more', v_page -> 'more');
    when 'seal-ledger' then v_page := public.seal_credit_entries(2000);
      return jsonb_build_object('count', v_page -> 'entries', 'more', v_page -> 'more');
    when 'consistency-check' then v_page := public.check_changed_credits(200);
      return jsonb_build_object('count', v_page -> 'users', 'more', v_page -> 'more');
    when 'consistency-ledger' then v_page := public.check_all_credits(200, 27);
      return jsonb_build_object('count', v_page -> 'users', 'more', v_page -> 'more');
    when 'cleanup-events' then v_page := public.delete_old_webhook_events(90, true, 1000);
      return jsonb_build_object('count', v_page -> 'deleted', 'more', (v_page ->> 'deleted')::bigint = 1000);
    when 'cleanup-notifications' then v_page := public.forget_notifications(90, 1000);
      return jsonb_build_object('count', v_page -> 'forgotten', 'more', (v_page ->> 'forgotten')::bigint = 1000);
    when 'subscription_cache_cleanup' then
      return jsonb_build_object('count', public.clear_expired_subscription_cache(), 'more', false);
  end case;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- run_sql_job: one run of a job that needs nothing but the database, for pg_cron
-- (sql/scheduled_jobs.sql) and for people. It shares the row of the server's job of that name, so
-- that neither runs it while the other does, or again when it is not due.
--   p_name     expire-credits, seal-ledger, consistency-check, subscription_cache_cleanup,
--              cleanup-events (older than 90 days; payloads that wrote entries are kept),
--              cleanup-notifications (addresses and data of messages older than 90 days),
--              consistency-ledger (every user's entries, begun at most every 27 days)
--   p_seconds  it begins no page after so long (default 20; 1 to 600); what is left is due at once
--   p_due_only false: now, whatever the schedule
-- Answers {outcome: done | failed | busy | not_due, result}. One transaction: see pages_max below.
-- Errors: not_found (PT404) for a job that is not of these. Safe to call at any time by any number.
-- ---------------------------------------------------------------------------------------------
create or replace function public.run_sql_job(p_name text, p_seconds integer default 20, p_due_only boolean default true)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  -- All that is particular to a job. pages_max: its pages lock rows that requests wait for until this
  -- transaction ends; of the others time alone is the bound.
  c_jobs constant jsonb := '{
    "expire-credits": {"pace": {"every_seconds": 60}, "pages_max": 1},
    "seal-ledger": {"pace": {"every_seconds": 60}},
    "consistency-check": {"pace": {"every_seconds": 60}},
    "subscription_cache_cleanup": {"pace": {"every_seconds": 300}},
    "cleanup-events": {"pace": {"every_seconds": 60, "weekday": 0, "hour": 3}},
    "cleanup-notifications": {"pace": {"every_seconds": 86400}},
    "consistency-ledger": {"pace": {"every_seconds": 300, "day": 1, "hour": 4}}}';
  v_pace constant jsonb := c_jobs #> array[p_name, 'pace'];
  v_pages_max constant integer := (c_jobs #>> array[p_name, 'pages_max'])::integer;
  v_ends_at timestamptz := clock_timestamp() + make_interval(secs => least(greatest(coalesce(p_seconds, 20), 1), 600));
  v_job public.scheduled_jobs;
  v_page jsonb;
  v_pages integer := 0;
  v_count bigint := 0;
  v_more boolean := true;
  v_error text;
begin
  if v_pace is null then
    perform purser.raise_error(404, 'not_found', format('%s is no job that the database can run alone. Those are: %s.', p_name,
      (select string_agg(k, ', ' order by k) from jsonb_object_keys(c_jobs) k)));
  end if;
  -- Claims of the same job take this lock shared, for an instant, and find it taken while we run.
  if not pg_try_advisory_xact_lock(hashtextextended('purser.job ' || p_name, 0)) then
    return jsonb_build_object('outcome', 'busy');
  end if;
  -- Nobody has seen it before: whoever put it into pg_cron's schedule wants it to run.
  insert into public.scheduled_jobs (name, pace) values (p_name, v_pace) on conflict (name) do nothing;
  select * into v_job from public.scheduled_jobs j where j.name = p_name;
  if v_job.leased_until > clock_timestamp() then
    return jsonb_build_object('outcome', 'busy');
  end if;
  if p_due_only and v_job.next_run_at > clock_timestamp() then
    return jsonb_build_object('outcome', 'not_due');
  end if;
  update public.scheduled_jobs j
  set lease = j.lease + 1, last_started_at = clock_timestamp(), pace = coalesce(j.pace, v_pace)
  where j.name = p_name;
  while v_more and v_error is null and clock_timestamp() < v_ends_at loop
    v_pages := v_pages + 1;
    begin
      v_page := purser.run_job_page(p_name);
      v_count := v_count + (v_page ->> 'count')::bigint;
      v_more := (v_page ->> 'more')::boolean;
    exception when others then
      -- The page is undone, those before it stay, and the failure stands in the row.
      v_error := sqlerrm;
    end;
    exit when v_pages = v_pages_max;
  end loop;
  perform purser.end_run(p_name, case when v_error is null then 'done' else 'failed' end,
    case when v_error is null then jsonb_build_object('done', v_count, 'by', 'sql') else jsonb_build_object('error', v_error, 'done', v_count, 'by', 'sql') end,
    v_more, v_job.cursor, clock_timestamp());
  return (select jsonb_build_object('outcome', j.last_outcome, 'result', j.last_result)
    from public.scheduled_jobs j where j.name = p_name);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- list_jobs: every job that was ever looked at, for people and for the tick of serverless set-ups.
-- Answers {as_of, jobs: [{name, pace, running, due, overdue, lost, progress, last_started_at,
--   last_finished_at, last_outcome, last_result, last_success_at, next_run_at, runs, failures,
--   failures_in_row}]}. lost: it was begun and its process has died since. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_jobs(p_now timestamptz default null)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
begin
  return jsonb_build_object('as_of', purser.iso(v_now), 'jobs', coalesce((
    select jsonb_agg(jsonb_build_object(
      'name', j.name, 'pace', j.pace,
      'running', coalesce(j.leased_until > v_now, false),
      'due', coalesce(j.next_run_at <= v_now, true) and coalesce(j.leased_until <= v_now, true),
      'overdue', purser.is_overdue(j, v_now),
      'lost', coalesce(j.leased_until <= v_now, false),
      'progress', j.progress,
      'last_started_at', purser.iso(j.last_started_at), 'last_finished_at', purser.iso(j.last_finished_at),
      'last_outcome', j.last_outcome, 'last_result', j.last_result, 'last_success_at', purser.iso(j.last_success_at),
      'next_run_at', purser.iso(j.next_run_at),
      'runs', j.runs, 'failures', j.failures, 'failures_in_row', j.failures_in_row) order by j.name)
    from public.scheduled_jobs j), '[]'));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- operations_metrics: what a scrape of /metrics reads of the tables, in one snapshot. Each part is
-- read by an index or from the catalogue; sums over all users are left to sql/monitoring.sql.
-- Answers {inbox: [{status, events, oldest_seconds}], due: {events, oldest_seconds}, findings: [{code, open}],
--   jobs: [{name, running, overdue, failures_in_row, last_success, next_run}] (unix seconds),
--   messages: [{kind, waiting, oldest_seconds}], dunning: [{state, cases}],
--   tables: [{name, bytes, rows}]}. Parts whose tables are not there are empty. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.operations_metrics(p_now timestamptz default null)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_answer jsonb;
  v_part jsonb;
begin
  select jsonb_build_object('inbox', coalesce(jsonb_agg(jsonb_build_object(
    'status', e.status, 'events', e.events, 'oldest_seconds', extract(epoch from v_now - e.oldest))), '[]')) into v_answer
  from (select w.status, count(*) as events, min(w.created_at) as oldest from public.stripe_webhook_events w
        where w.status in ('received', 'leased', 'failed', 'parked', 'dead') group by w.status) e;
  select jsonb_build_object('due', jsonb_build_object('events', count(*),
    'oldest_seconds', coalesce(extract(epoch from v_now - min(w.next_attempt_at)), 0))) into v_part
  from public.stripe_webhook_events w where w.status in ('received', 'failed', 'leased') and w.next_attempt_at <= v_now;
  v_answer := v_answer || v_part;
  select jsonb_build_object('findings', coalesce(jsonb_agg(jsonb_build_object('code', f.code, 'open', f.open)), '[]')) into v_part
  from (select r.code, count(*) as open from public.reconciliation_findings r where r.resolved_at is null group by r.code) f;
  v_answer := v_answer || v_part;
  select jsonb_build_object('jobs', coalesce(jsonb_agg(jsonb_build_object(
    'name', j.name, 'running', coalesce(j.leased_until > v_now, false), 'overdue', purser.is_overdue(j, v_now),
    'failures_in_row', j.failures_in_row, 'last_success', extract(epoch from j.last_success_at),
    'next_run', extract(epoch from j.next_run_at))), '[]')) into v_part
  from public.scheduled_jobs j;
  v_answer := v_answer || v_part;
  if to_regclass('public.notifications') is not null then
    select jsonb_build_object('messages', coalesce(jsonb_agg(jsonb_build_object(
      'kind', n.kind, 'waiting', n.waiting, 'oldest_seconds', extract(epoch from v_now - n.oldest))), '[]')) into v_part
    from (select m.kind, count(*) as waiting, min(m.created_at) as oldest from public.notifications m
          where m.status in ('queued', 'leased', 'failed') and m.next_attempt_at <= v_now group by m.kind) n;
    v_answer := v_answer || v_part;
  end if;
  if to_regclass('public.dunning_cases') is not null then
    select jsonb_build_object('dunning', coalesce(jsonb_agg(jsonb_build_object('state', c.state, 'cases', c.cases)), '[]')) into v_part
    from (select d.state, count(*) as cases from public.dunning_cases d group by d.state) c;
    v_answer := v_answer || v_part;
  end if;
  select jsonb_build_object('tables', coalesce(jsonb_agg(jsonb_build_object(
    'name', c.relname, 'bytes', pg_catalog.pg_total_relation_size(c.oid), 'rows', greatest(c.reltuples, 0)::bigint)), '[]')) into v_part
  from pg_catalog.pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relowner = 'purser_ledger'::regrole;
  return v_answer || v_part;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- record_mirror_drift: notes what the monthly check found in Redis and has mended: findings
-- mirror_<issue>, resolved at once, one for each copy and check.
--   p_drifts  [{user_id, issue, stored, ledger}]: the numbers in Redis and those of the ledger
-- Answers {recorded}. Repeating it writes the findings again.
-- ---------------------------------------------------------------------------------------------
create or replace function public.record_mirror_drift(p_drifts jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_recorded bigint;
begin
  insert into public.reconciliation_findings (code, subject, user_id, detail, resolved_at)
  select 'mirror_' || (d.value ->> 'issue'), d.value ->> 'user_id', d.value ->> 'user_id',
    jsonb_build_object('stored', d.value -> 'stored', 'ledger', d.value -> 'ledger', 'mended', true), clock_timestamp()
  from jsonb_array_elements(p_drifts) d;
  get diagnostics v_recorded = row_count;
  return jsonb_build_object('recorded', v_recorded);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- purser_schema_version: the number of the newest migration whose functions are here; start-up
-- and /readyz compare it with the one they need.
--   p_files  {"<file of sql/>": "<a function it makes>"}; those whose function is not here are named
-- Answers {version, ledger, missing: [files]}. Reads only.
-- ---------------------------------------------------------------------------------------------
drop function if exists public.purser_schema_version();
create or replace function public.purser_schema_version(p_files jsonb default '{}')
returns jsonb language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('version', 2, 'ledger', purser.ledger_id(), 'missing', coalesce((
    select jsonb_agg(f.key order by f.key) from jsonb_each_text(p_files) f
    where not exists (
      select from pg_catalog.pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname = f.value)), '[]'));
$$;

call purser.restrict_functions();
reset role;

alter table public.scheduled_jobs enable row level security;
drop policy if exists scheduled_jobs_select_admin on public.scheduled_jobs;
create policy scheduled_jobs_select_admin on public.scheduled_jobs for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');

set role purser_ledger;
revoke all on public.scheduled_jobs from public, anon, authenticated, service_role;
grant select on public.scheduled_jobs to authenticated, service_role;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
