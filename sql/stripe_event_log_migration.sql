-- Purser: the event log as people and programs read it: functions by hand, views, lists, clean-up.
--
-- Paste after stripe_webhook_events_migration.sql, or run `npm run migrate`. Safe to run again.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array[
  'log_stripe_webhook_event', 'mark_webhook_processed', 'retry_failed_webhooks',
  'cleanup_old_webhook_events', 'delete_old_webhook_events', 'list_webhook_events', 'get_webhook_event',
  'list_dead_letters']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- The Stripe object an event is about, from a full event in either form, or from the bare object.
create or replace function purser.object_of_event(p_data jsonb)
returns text language sql immutable set search_path = '' as $$
  select case p_data ->> 'object'
    when 'event' then p_data #>> '{data,object,id}'
    when 'v2.core.event' then p_data #>> '{related_object,id}'
    else p_data ->> 'id' end;
$$;

-- ---------------------------------------------------------------------------------------------
-- log_stripe_webhook_event: puts an event into the log by hand, as `logged`: it is worked on only
-- when asked for (processed = false, or the admin's replay).
--   p_event_data  the full event, or the bare object it is about; null = {}
-- Returns the row's id, the existing one where the event is known: idempotent by p_event_id.
-- ---------------------------------------------------------------------------------------------
create or replace function public.log_stripe_webhook_event(
  p_stripe_event_id text, p_event_type text, p_event_data jsonb default '{}')
returns uuid language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_id uuid;
  v_object text := purser.object_of_event(p_event_data);
begin
  if coalesce(p_stripe_event_id, '') = '' or coalesce(p_event_type, '') = '' then
    perform purser.raise_error(400, 'invalid_request', 'The id and the type of the event must be given.');
  end if;
  insert into public.stripe_webhook_events (
    stripe_event_id, event_type, object_id, order_key, event_data, event_created_at, status)
  values (p_stripe_event_id, p_event_type, v_object, v_object, coalesce(p_event_data, '{}'),
    case when p_event_data ->> 'object' = 'event' and jsonb_typeof(p_event_data -> 'created') = 'number'
      then to_timestamp((p_event_data ->> 'created')::double precision) end,
    'logged')
  on conflict (stripe_event_id) do nothing
  returning id into v_id;
  return coalesce(v_id, (select e.id from public.stripe_webhook_events e where e.stripe_event_id = p_stripe_event_id));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- mark_webhook_processed: says by hand how the work on an event ended.
--   p_error  null = it is done; else it failed: processed = false, the error is kept, retry_count
--            rises, and it is tried again in 5 minutes (one that is `logged` stays so)
-- Returns whether the event is known. An event being worked on meanwhile loses nothing: what its
-- worker decided is still applied, once.
-- ---------------------------------------------------------------------------------------------
create or replace function public.mark_webhook_processed(p_stripe_event_id text, p_error_message text default null)
returns boolean language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
begin
  if p_error_message is null then
    update public.stripe_webhook_events e
    set status = 'processed', error_message = null, error_code = null, error_cause = null
    where e.stripe_event_id = p_stripe_event_id;
  else
    update public.stripe_webhook_events e
    set status = case when e.status = 'logged' then 'logged' else 'failed' end,
        error_message = left(p_error_message, 2000), error_code = 'by_hand', error_cause = 'permanent',
        failures = purser.with_failure(e.failures, p_error_message, 'by_hand', 'permanent'),
        retry_count = e.retry_count + 1,
        next_attempt_at = case when e.status <> 'logged' then clock_timestamp() + interval '5 minutes' end
    where e.stripe_event_id = p_stripe_event_id;
  end if;
  return found;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- retry_failed_webhooks: the failed events of the last 24 hours with fewer than p_max_retries
-- retries, oldest first, and sees to it that a running server takes them up at once. Events that
-- were put in by hand are listed only: whoever logged them works on them.
-- ---------------------------------------------------------------------------------------------
create or replace function public.retry_failed_webhooks(p_max_retries integer default 3)
returns table (event_id uuid, stripe_event_id text, event_type text, retry_count integer)
language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
#variable_conflict use_column
begin
  return query
  with listed as (
    select e.id from public.stripe_webhook_events e
    where (e.status in ('failed', 'dead') or (e.status = 'logged' and e.error_message is not null))
      and e.retry_count < coalesce(p_max_retries, 3)
      and e.created_at > clock_timestamp() - interval '24 hours'
    order by e.id for update),
  hurried as (
    update public.stripe_webhook_events e set status = 'received', next_attempt_at = clock_timestamp()
    where e.id in (select l.id from listed l) and e.status <> 'logged')
  select e.id, e.stripe_event_id, e.event_type, e.retry_count
  from public.stripe_webhook_events e join listed l on l.id = e.id
  order by e.created_at, e.id;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- cleanup_old_webhook_events: deletes events that ended (processed or ignored) more than p_days
-- ago. Those that wrote entries explain them, and stay unless p_keep_payloads is false.
--   p_limit  rows of one call, the oldest first; null = all
-- Returns the number of deleted events. What is parked, dead, logged or in flight never goes.
-- ---------------------------------------------------------------------------------------------
create or replace function public.cleanup_old_webhook_events(
  p_days integer default 90, p_keep_payloads boolean default true, p_limit integer default null)
returns integer language plpgsql security definer set search_path = '' as $$
declare
  v_count integer;
begin
  if p_days is null or p_days < 1 then
    perform purser.raise_error(400, 'invalid_request', 'The age in days must be at least 1.');
  end if;
  delete from public.stripe_webhook_events e
  where e.id in (
    select o.id from public.stripe_webhook_events o
    where o.processed and o.created_at < clock_timestamp() - make_interval(days => p_days)
      and (not p_keep_payloads or o.transaction_ids = '{}')
    order by o.created_at limit p_limit
    for update skip locked);
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

-- The same for callers of the API, which take one jsonb: {deleted}.
create or replace function public.delete_old_webhook_events(p_days integer, p_keep_payloads boolean, p_limit integer)
returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  return jsonb_build_object('deleted', public.cleanup_old_webhook_events(p_days, p_keep_payloads, p_limit));
end
$$;

-- One event as lists show it.
create or replace function purser.event_summary(p_event public.stripe_webhook_events)
returns jsonb language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'event_id', p_event.stripe_event_id, 'event_type', p_event.event_type, 'object_id', p_event.object_id,
    'status', p_event.status,
    'error', case when p_event.status in ('failed', 'dead', 'logged', 'received', 'leased') then p_event.error_message end,
    'reason', case when p_event.status in ('ignored', 'parked') then p_event.error_message end,
    'covered_by', p_event.covered_by,
    'error_code', p_event.error_code, 'cause', p_event.error_cause, 'waiting_for', p_event.waiting_for,
    'retry_count', p_event.retry_count, 'next_attempt_at', purser.iso(p_event.next_attempt_at),
    'event_created_at', purser.iso(p_event.event_created_at), 'received_at', purser.iso(p_event.created_at),
    'ended_at', purser.iso(p_event.processed_at));
$$;

-- ---------------------------------------------------------------------------------------------
-- list_webhook_events: events, the newest first.
--   p_q      the id of an event, an object, a user or a customer; or a part of an error's text
--   p_before_created, p_before_id  `next` of the page before
-- Answers {data, has_more, next: {created_at, id} | null}. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_webhook_events(
  p_status text default null, p_type text default null, p_q text default null,
  p_before_created timestamptz default null, p_before_id uuid default null, p_limit integer default 50)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_limit integer := least(greatest(coalesce(p_limit, 50), 1), 100);
  v_answer jsonb;
begin
  with found as materialized (
    select e as event, e.created_at, e.id, row_number() over (order by e.created_at desc, e.id desc) as place
    from public.stripe_webhook_events e
    where (p_status is null or e.status = p_status)
      and (p_type is null or e.event_type = p_type)
      and (p_q is null or p_q in (e.stripe_event_id, e.object_id, e.waiting_for)
        or position(lower(p_q) in lower(e.error_message)) > 0)
      and (p_before_created is null or (e.created_at, e.id) < (p_before_created, p_before_id))
    order by e.created_at desc, e.id desc limit v_limit + 1)
  select jsonb_build_object(
    'data', coalesce(jsonb_agg(purser.event_summary(f.event) order by f.place) filter (where f.place <= v_limit), '[]'),
    'has_more', count(*) > v_limit,
    'next', case when count(*) > v_limit then (
      select jsonb_build_object('created_at', l.created_at, 'id', l.id) from found l where l.place = v_limit) end)
  into v_answer from found f;
  return v_answer;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_webhook_event: an event with its payload, its failed attempts, the entries it wrote, and
-- the other events of its object (50 at most, oldest first).
-- Answers {outcome: found | not_found, event, payload, failures, entries, object_events}.
-- Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_webhook_event(p_event_id text)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_event public.stripe_webhook_events;
begin
  select * into v_event from public.stripe_webhook_events e where e.stripe_event_id = p_event_id;
  if v_event.id is null then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  return jsonb_build_object(
    'outcome', 'found', 'event', purser.event_summary(v_event), 'payload', v_event.event_data,
    'failures', v_event.failures,
    'entries', coalesce((
      select jsonb_agg(jsonb_build_object('transaction_id', t.id::text, 'user_id', t.user_id,
        'transaction_type', t.transaction_type, 'amount', t.amount, 'created_at', purser.iso(t.created_at)) order by t.id)
      from public.credit_transactions t where t.id = any (v_event.transaction_ids)), '[]'),
    'object_events', coalesce((
      select jsonb_agg(purser.event_summary(o) order by o.event_created_at, o.created_at)
      from (select * from public.stripe_webhook_events e
            where e.object_id = v_event.object_id and e.id <> v_event.id
            order by e.event_created_at, e.created_at limit 50) o), '[]'));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- list_dead_letters: dead events grouped by what made them fail and their type, the most frequent
-- first: {groups: [{error_code, cause, event_type, events, oldest, newest, last_error, event_ids}],
-- total}. event_ids: the 20 oldest of the group; 100 groups at most. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_dead_letters()
returns jsonb language sql stable security definer set search_path = '' as $$
  with dead as (
    select coalesce(e.error_code, 'internal') as error_code, coalesce(e.error_cause, 'permanent') as cause,
      e.event_type, e.stripe_event_id, e.created_at, e.error_message, e.updated_at
    from public.stripe_webhook_events e where e.status = 'dead'),
  groups as (
    select d.error_code, d.cause, d.event_type, count(*) as events, min(d.created_at) as oldest, max(d.created_at) as newest,
      (array_agg(d.error_message order by d.updated_at desc))[1] as last_error,
      (array_agg(d.stripe_event_id order by d.created_at))[1:20] as event_ids
    from dead d group by d.error_code, d.cause, d.event_type
    order by count(*) desc, d.error_code, d.event_type limit 100)
  select jsonb_build_object(
    'total', (select count(*) from dead),
    'groups', coalesce(jsonb_agg(jsonb_build_object(
      'error_code', g.error_code, 'cause', g.cause, 'event_type', g.event_type, 'events', g.events,
      'oldest', purser.iso(g.oldest), 'newest', purser.iso(g.newest), 'last_error', g.last_error,
      'event_ids', to_jsonb(g.event_ids)) order by g.events desc, g.error_code, g.event_type), '[]'))
  from groups g;
$$;

-- Views under the names event logs go by. They see and change what their caller may. A table of the
-- app's that bears such a name stays: the view is a convenience, and no reason to touch it.
do $$
declare
  v_name text;
  v_columns constant text := 'id, stripe_event_id, event_type, object_id, event_data, event_created_at, status, processed,
    processed_at, error_message as error, error_message, error_code, error_cause, retry_count, next_attempt_at, waiting_for,
    created_at, updated_at';
begin
  foreach v_name in array array['stripe_events', 'webhook_events', 'stripe_webhook_logs', 'failed_webhooks'] loop
    if exists (
      select from pg_catalog.pg_class c where c.relnamespace = 'public'::regnamespace and c.relname = v_name
        and (c.relkind <> 'v' or c.relowner <> 'purser_ledger'::regrole))
    then
      raise warning 'purser: public.% is your own and stays; the view of that name is not made', v_name;
      continue;
    end if;
    execute format('create or replace view public.%I with (security_invoker = true) as select %s from public.stripe_webhook_events%s',
      v_name, v_columns, case v_name when 'failed_webhooks' then ' where status in (''failed'', ''dead'')' else '' end);
    execute format('revoke all on public.%I from public, anon, authenticated, service_role', v_name);
    execute format('grant select on public.%I to authenticated, service_role', v_name);
    execute format('grant update (processed, retry_count), delete on public.%I to service_role', v_name);
  end loop;
end
$$;

call purser.restrict_functions();
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
