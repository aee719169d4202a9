-- Purser: the schedule of jobs with their leases, and the version of the schema.
--
-- Paste after stripe_webhook_events_migration.sql, or run `npm run migrate`. Safe to run again.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['scheduled_jobs']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.scheduled_jobs (
  name text primary key,
  lease bigint not null default 0,
  leased_until timestamptz,
  lease_holder text,
  last_started_at timestamptz,
  last_finished_at timestamptz,
  last_outcome text check (last_outcome in ('done', 'failed')),
  last_result jsonb,
  next_run_at timestamptz
);
alter table public.scheduled_jobs add column if not exists lease_holder text;
comment on table public.scheduled_jobs is 'One row for each job: who runs it until when, and how the last run ended.';

-- ---------------------------------------------------------------------------------------------
-- claim_job: takes the lease of a job. p_due_only: only when next_run_at has come (the schedule
-- of several processes on one database). p_holder: token of this call; repeating it under the same
-- token gives the lease back. Answers {outcome: claimed | busy | not_due, fence}.
-- ---------------------------------------------------------------------------------------------
create or replace function public.claim_job(
  p_name text, p_lease_seconds integer, p_due_only boolean default false, p_holder text default null)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_job public.scheduled_jobs;
begin
  insert into public.scheduled_jobs (name) values (p_name) on conflict (name) do nothing;
  select * into v_job from public.scheduled_jobs j where j.name = p_name for update;
  if v_job.leased_until > v_now and v_job.lease_holder = p_holder then
    return jsonb_build_object('outcome', 'claimed', 'fence', v_job.lease);
  end if;
  if v_job.leased_until > v_now then
    return jsonb_build_object('outcome', 'busy');
  end if;
  if p_due_only and v_job.next_run_at > v_now then
    return jsonb_build_object('outcome', 'not_due');
  end if;
  update public.scheduled_jobs j
  set lease = j.lease + 1, leased_until = v_now + make_interval(secs => p_lease_seconds), last_started_at = v_now,
      lease_holder = p_holder
  where j.name = p_name returning * into v_job;
  return jsonb_build_object('outcome', 'claimed', 'fence', v_job.lease);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- finish_job: ends a run under its lease and says when the next is due. Answers {outcome: done |
-- stale}; stale: the lease was lost meanwhile, the row is somebody else's.
-- ---------------------------------------------------------------------------------------------
create or replace function public.finish_job(
  p_name text, p_fence bigint, p_outcome text, p_result jsonb, p_next_run_seconds double precision)
returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  update public.scheduled_jobs j
  set leased_until = null, last_finished_at = clock_timestamp(), last_outcome = p_outcome, last_result = p_result,
      next_run_at = clock_timestamp() + make_interval(secs => p_next_run_seconds)
  where j.name = p_name and j.lease = p_fence;
  return jsonb_build_object('outcome', case when found then 'done' else 'stale' end);
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
