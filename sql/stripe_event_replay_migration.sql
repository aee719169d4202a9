-- Purser: events worked on again, events Stripe never delivered, and parked purchases that are claimed.
--
-- Paste after stripe_event_log_migration.sql, or run `npm run migrate`. Safe to run again.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(
  array['webhook_replays', 'stripe_event_cursors', 'purchase_claims', 'claim_links'],
  array['requeue_webhook_events', 'advance_webhook_replay', 'get_webhook_replay', 'list_webhook_replays',
    'cancel_webhook_replay', 'get_event_cursor', 'move_event_cursor', 'get_missed_events_state',
    'receive_missed_events', 'find_claimed_user', 'claim_parked_event', 'create_claim_link',
    'use_claim_link']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- ---------------------------------------------------------------------------------------------
-- Replays
-- ---------------------------------------------------------------------------------------------

create table if not exists public.webhook_replays (
  id uuid primary key default gen_random_uuid(),
  actor text not null,
  filter jsonb not null,
  status text not null default 'running' check (status in ('running', 'done', 'canceled')),
  matched bigint not null,
  requeued bigint not null default 0,
  position_created_at timestamptz,
  position_id uuid,
  next_batch_at timestamptz not null default clock_timestamp(),
  started_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  canceled_by text
);
create index if not exists webhook_replays_started on public.webhook_replays (started_at);
create index if not exists webhook_replays_running on public.webhook_replays (next_batch_at) where status = 'running';
comment on table public.webhook_replays is 'Replays of many events, put back to the inbox a batch at a time, so that they crowd out neither new events nor Stripe''s rate limit.';

-- The events a replay is about, oldest first, after a position: those there were when it began.
-- {event_ids} these; else {status} (none = failed, parked and dead), {type}, {since}.
create or replace function purser.events_to_replay(
  p_filter jsonb, p_until timestamptz, p_after_created timestamptz default null, p_after_id uuid default null,
  p_limit integer default null)
returns table (id uuid, stripe_event_id text, created_at timestamptz)
language plpgsql stable set search_path = '' as $$
#variable_conflict use_column
declare
  v_ids text[] := case when jsonb_typeof(p_filter -> 'event_ids') = 'array'
    then array(select jsonb_array_elements_text(p_filter -> 'event_ids')) end;
  v_statuses text[] := case when p_filter ->> 'status' is not null then array[p_filter ->> 'status']
    else array['failed', 'parked', 'dead'] end;
begin
  return query
  select e.id, e.stripe_event_id, e.created_at from public.stripe_webhook_events e
  where (case when v_ids is null then e.status = any (v_statuses) else e.stripe_event_id = any (v_ids) and e.status <> 'leased' end)
    and (p_filter ->> 'type' is null or e.event_type = p_filter ->> 'type')
    and (p_filter ->> 'since' is null or e.created_at >= (p_filter ->> 'since')::timestamptz)
    and e.created_at <= p_until
    and (p_after_created is null or (e.created_at, e.id) > (p_after_created, p_after_id))
  order by e.created_at, e.id limit p_limit;
end
$$;

-- Puts events back to the start, with all their attempts before them.
create or replace function purser.put_back(p_ids uuid[])
returns bigint language plpgsql set search_path = '' as $$
declare
  v_count bigint;
begin
  -- next_attempt_at for rows that already are `received` and wait for their time. In id order, so
  -- that two of them cannot wait for each other.
  update public.stripe_webhook_events e
  set status = 'received', retry_count = 0, error_message = null, error_code = null, error_cause = null,
      next_attempt_at = clock_timestamp()
  where e.id in (select l.id from public.stripe_webhook_events l where l.id = any (p_ids) order by l.id for update)
    and e.status <> 'leased';
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

create or replace function purser.replay_answer(p_replay public.webhook_replays)
returns jsonb language sql stable set search_path = '' as $$
  select jsonb_build_object('id', p_replay.id::text, 'status', p_replay.status, 'filter', jsonb_strip_nulls(p_replay.filter),
    'matched', p_replay.matched, 'requeued', p_replay.requeued, 'actor', p_replay.actor,
    'started_at', purser.iso(p_replay.started_at), 'finished_at', purser.iso(p_replay.finished_at),
    'canceled_by', p_replay.canceled_by);
$$;

-- ---------------------------------------------------------------------------------------------
-- requeue_webhook_events: puts events that failed or ended back to `received`.
--   p_event_ids  these; else by p_status (null = failed, parked and dead), p_type, p_since
--   p_dry_run    only counts
-- Up to 100 go at once; more become a replay that a job works off (advance_webhook_replay).
-- Audited with p_actor. Answers {matched, requeued, event_ids, replay_id, dry_run}; event_ids: the
-- 1000 oldest that matched; replay_id: null when all is done.
-- ---------------------------------------------------------------------------------------------
create or replace function public.requeue_webhook_events(
  p_event_ids jsonb default null, p_status text default null, p_type text default null,
  p_since timestamptz default null, p_dry_run boolean default false, p_actor text default 'sql')
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_filter jsonb := jsonb_build_object('event_ids', p_event_ids, 'status', p_status, 'type', p_type, 'since', p_since);
  v_replay public.webhook_replays;
  v_matched bigint;
  v_requeued bigint := 0;
  v_ids uuid[];
  v_event_ids jsonb;
begin
  select count(*) into v_matched from purser.events_to_replay(v_filter, v_now);
  select coalesce(array_agg(r.id), '{}'), coalesce(jsonb_agg(r.stripe_event_id order by r.created_at, r.id), '[]')
  into v_ids, v_event_ids from purser.events_to_replay(v_filter, v_now, p_limit => 1000) r;
  if not p_dry_run and v_matched > 0 then
    if v_matched <= 100 then
      v_requeued := purser.put_back(v_ids);
    else
      insert into public.webhook_replays (actor, filter, matched, started_at) values (p_actor, v_filter, v_matched, v_now)
      returning * into v_replay;
    end if;
    insert into public.audit_events (actor, action, reason, after)
    values (p_actor, 'retry_webhooks', null, jsonb_build_object('event_ids', v_event_ids, 'matched', v_matched,
      'replay_id', v_replay.id, 'filter', jsonb_strip_nulls(v_filter - 'event_ids')));
  end if;
  return jsonb_build_object('matched', v_matched, 'requeued', v_requeued, 'event_ids', v_event_ids,
    'replay_id', v_replay.id, 'dry_run', p_dry_run);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- advance_webhook_replay: the next batch of the replay that has waited longest: p_batch events go
-- back to the inbox, unless p_backlog_max are due in it already; the next follows p_pause_seconds
-- later. Each event is put back once. Answers {outcome: advanced | finished | waiting | idle,
-- replay}; waiting: it is too early, or the inbox is full; idle: no replay runs.
-- ---------------------------------------------------------------------------------------------
create or replace function public.advance_webhook_replay(
  p_batch integer default 50, p_pause_seconds double precision default 1, p_backlog_max integer default 200)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_replay public.webhook_replays;
  v_due bigint;
  v_ids uuid[];
  v_last record;
  v_count bigint;
begin
  select * into v_replay from public.webhook_replays r where r.status = 'running'
  order by r.next_batch_at, r.id limit 1 for update skip locked;
  if v_replay.id is null then
    return jsonb_build_object('outcome', case
      when exists (select from public.webhook_replays r where r.status = 'running') then 'waiting' else 'idle' end);
  end if;
  select count(*) into v_due from (
    select from public.stripe_webhook_events e
    where e.status in ('received', 'failed', 'leased') and e.next_attempt_at <= v_now limit p_backlog_max) d;
  if v_replay.next_batch_at > v_now or v_due >= p_backlog_max then
    return jsonb_build_object('outcome', 'waiting', 'replay', purser.replay_answer(v_replay));
  end if;

  select array_agg(p.id) into v_ids from purser.events_to_replay(
    v_replay.filter, v_replay.started_at, v_replay.position_created_at, v_replay.position_id, p_batch) p;
  select e.created_at, e.id into v_last from public.stripe_webhook_events e
  where e.id = any (v_ids) order by e.created_at desc, e.id desc limit 1;
  v_count := purser.put_back(v_ids);
  update public.webhook_replays r
  set requeued = r.requeued + v_count,
      position_created_at = coalesce(v_last.created_at, r.position_created_at),
      position_id = coalesce(v_last.id, r.position_id),
      next_batch_at = v_now + make_interval(secs => p_pause_seconds),
      status = case when coalesce(cardinality(v_ids), 0) < p_batch then 'done' else 'running' end,
      finished_at = case when coalesce(cardinality(v_ids), 0) < p_batch then v_now end
  where r.id = v_replay.id returning * into v_replay;
  return jsonb_build_object('outcome', case v_replay.status when 'done' then 'finished' else 'advanced' end,
    'replay', purser.replay_answer(v_replay));
end
$$;

-- get_webhook_replay: how far a replay is. Answers {outcome: found | not_found, replay}. Reads only.
create or replace function public.get_webhook_replay(p_replay_id uuid)
returns jsonb language sql stable security definer set search_path = '' as $$
  select coalesce((select jsonb_build_object('outcome', 'found', 'replay', purser.replay_answer(r))
    from public.webhook_replays r where r.id = p_replay_id), jsonb_build_object('outcome', 'not_found'));
$$;

-- list_webhook_replays: the last replays, newest first, 50 at most. Reads only.
create or replace function public.list_webhook_replays()
returns jsonb language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(purser.replay_answer(r) order by r.started_at desc), '[]')
  from (select * from public.webhook_replays w order by w.started_at desc limit 50) r;
$$;

-- ---------------------------------------------------------------------------------------------
-- cancel_webhook_replay: nothing more is put back; what was, is worked on. Audited. Repeating it, or
-- cancelling what has ended, changes nothing. Answers {outcome: found | not_found, replay}.
-- ---------------------------------------------------------------------------------------------
create or replace function public.cancel_webhook_replay(p_replay_id uuid, p_actor text)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_replay public.webhook_replays;
begin
  update public.webhook_replays r set status = 'canceled', finished_at = clock_timestamp(), canceled_by = p_actor
  where r.id = p_replay_id and r.status = 'running' returning * into v_replay;
  if v_replay.id is not null then
    insert into public.audit_events (actor, action, after)
    values (p_actor, 'cancel_webhook_replay', purser.replay_answer(v_replay));
  end if;
  return public.get_webhook_replay(p_replay_id);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- Events that were never delivered
-- ---------------------------------------------------------------------------------------------

create table if not exists public.stripe_event_cursors (
  name text primary key,
  position timestamptz not null,
  began_at timestamptz not null,
  updated_at timestamptz not null default clock_timestamp()
);
comment on table public.stripe_event_cursors is 'How far Stripe''s own list of events has been compared with the inbox, in Stripe''s time.';

-- ---------------------------------------------------------------------------------------------
-- get_event_cursor: where the comparison goes on: {outcome: found | begun, from, position}. The
-- first call begins it at p_now, for what was sold before Purser was here is not Purser's. `from`
-- is p_overlap_seconds before the position, but never before the beginning.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_event_cursor(
  p_name text, p_overlap_seconds integer, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_cursor public.stripe_event_cursors;
begin
  insert into public.stripe_event_cursors (name, position, began_at) values (p_name, v_now, v_now)
  on conflict (name) do nothing returning * into v_cursor;
  if v_cursor.name is not null then
    return jsonb_build_object('outcome', 'begun', 'from', purser.iso(v_now), 'position', purser.iso(v_now));
  end if;
  select * into v_cursor from public.stripe_event_cursors c where c.name = p_name;
  return jsonb_build_object('outcome', 'found', 'position', purser.iso(v_cursor.position),
    'from', purser.iso(greatest(v_cursor.position - make_interval(secs => p_overlap_seconds), v_cursor.began_at)));
end
$$;

-- move_event_cursor: forwards only, so that two of them cannot undo each other. Answers {position}.
create or replace function public.move_event_cursor(p_name text, p_position timestamptz)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_position timestamptz;
begin
  update public.stripe_event_cursors c
  set position = greatest(c.position, p_position), updated_at = clock_timestamp()
  where c.name = p_name returning c.position into v_position;
  return jsonb_build_object('position', purser.iso(v_position));
end
$$;

-- get_missed_events_state: the cursor and how the last run of the job ended. Reads only.
create or replace function public.get_missed_events_state(p_name text)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
begin
  return jsonb_build_object(
    'position', (select purser.iso(c.position) from public.stripe_event_cursors c where c.name = p_name),
    'last_run', (select jsonb_build_object('started_at', purser.iso(j.last_started_at),
        'finished_at', purser.iso(j.last_finished_at), 'outcome', j.last_outcome, 'result', j.last_result)
      from public.scheduled_jobs j where j.name = p_name and j.last_started_at is not null));
end
$$;

-- Whether a thin notification has told of an event of Stripe's list: it has an id of its own, and
-- names the event it stands for. Without this an app with thin endpoints would work on everything
-- twice, and be told that nothing was delivered.
create or replace function purser.is_told_by_notification(p_event jsonb)
returns boolean language plpgsql stable set search_path = '' as $$
begin
  return exists (
    select from public.stripe_webhook_events e
    where e.object_id = p_event ->> 'object_id' and e.event_type = 'v1.' || (p_event ->> 'event_type')
      and e.event_data ->> 'snapshot_event' = p_event ->> 'event_id');
end
$$;

-- ---------------------------------------------------------------------------------------------
-- receive_missed_events: commits to the inbox those of Stripe's events that are not in it, nor told
-- of by a thin notification, due at once; the others stay as they are, for being listed is not being
-- delivered again.
--   p_events   [{event_id, event_type, object_id, order_key, created_at, payload}], 100 at most
--   p_dry_run  only says which are missing
--   p_actor    audited when given
-- Answers {received: [event ids], duplicates}. Idempotent by event id.
-- ---------------------------------------------------------------------------------------------
create or replace function public.receive_missed_events(
  p_events jsonb, p_dry_run boolean default false, p_actor text default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_received jsonb;
begin
  if jsonb_typeof(p_events) is distinct from 'array' or jsonb_array_length(p_events) > 100 then
    perform purser.raise_error(400, 'invalid_request', 'p_events must be an array of at most 100 events.');
  end if;
  if p_dry_run then
    select coalesce(jsonb_agg(g.value ->> 'event_id' order by g.ordinality), '[]') into v_received
    from jsonb_array_elements(p_events) with ordinality g
    where not purser.is_told_by_notification(g.value) and not exists (
      select from public.stripe_webhook_events e where e.stripe_event_id = g.value ->> 'event_id');
  else
    with inserted as (
      insert into public.stripe_webhook_events (
        stripe_event_id, event_type, object_id, order_key, event_created_at, event_data, status, next_attempt_at)
      select g ->> 'event_id', g ->> 'event_type', g ->> 'object_id', g ->> 'order_key',
        (g ->> 'created_at')::timestamptz, g -> 'payload', 'received', clock_timestamp()
      from jsonb_array_elements(p_events) g
      where not purser.is_told_by_notification(g) order by g ->> 'event_id'
      on conflict (stripe_event_id) do nothing
      returning stripe_event_id)
    select coalesce(jsonb_agg(g.value ->> 'event_id' order by g.ordinality), '[]') into v_received
    from jsonb_array_elements(p_events) with ordinality g
    join inserted i on i.stripe_event_id = g.value ->> 'event_id';
    if p_actor is not null and v_received <> '[]' then
      insert into public.audit_events (actor, action, after)
      values (p_actor, 'replay_missed_events', jsonb_build_object('event_ids', v_received));
    end if;
  end if;
  return jsonb_build_object('received', v_received,
    'duplicates', jsonb_array_length(p_events) - jsonb_array_length(v_received));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- Claims of parked purchases
-- ---------------------------------------------------------------------------------------------

create table if not exists public.purchase_claims (
  object_id text primary key,
  user_id text not null,
  event_id text not null,
  claimed_by text not null,
  reason text,
  created_at timestamptz not null default clock_timestamp()
);
comment on table public.purchase_claims is 'Whose a purchase is, by the word of an admin or by a one-time link: it wins over what Stripe''s objects say.';

create table if not exists public.claim_links (
  token_hash text primary key,
  event_id text not null,
  created_by text not null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  used_at timestamptz,
  used_by text
);
create index if not exists claim_links_event on public.claim_links (event_id);
comment on table public.claim_links is 'One-time links to parked purchases. Only the SHA-256 of a token is kept.';

-- The user who claimed one of these objects; source keys (checkout:cs_...) are understood too.
create or replace function purser.claimed_user(p_objects jsonb)
returns text language sql stable set search_path = '' as $$
  select c.user_id from public.purchase_claims c
  where c.object_id in (
    select regexp_replace(o, '^(checkout|invoice|payment):', '') from jsonb_array_elements_text(p_objects) o)
  order by c.created_at limit 1;
$$;

-- Effects with the claims in force: a grant of a claimed purchase goes to the claimant. His purchase
-- does not make him that customer at Stripe, whose cards and addresses are not his to see.
create or replace function purser.with_claimed_users(p_effects jsonb)
returns jsonb language plpgsql stable set search_path = '' as $$
declare
  v_claimed boolean;
begin
  if jsonb_typeof(p_effects) is distinct from 'array' or not exists (select from public.purchase_claims) then
    return p_effects;
  end if;
  select coalesce(bool_or(purser.claimed_user(e -> 'sources') is not null), false) into v_claimed
  from jsonb_array_elements(p_effects) e where e ->> 'kind' = 'grant' and jsonb_typeof(e -> 'sources') = 'array';
  if not v_claimed then
    return p_effects;
  end if;
  return (
    select jsonb_agg(case e.value ->> 'kind'
        when 'grant' then e.value || jsonb_build_object('user_id', coalesce(purser.claimed_user(e.value -> 'sources'), e.value ->> 'user_id'))
        when 'customer' then e.value || '{"user_id": null}'
        else e.value end order by e.ordinality)
    from jsonb_array_elements(p_effects) with ordinality e);
end
$$;

-- find_claimed_user: {user_id} of whoever claimed one of these objects, else null. Reads only.
create or replace function public.find_claimed_user(p_object_ids jsonb)
returns jsonb language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('user_id', purser.claimed_user(p_object_ids));
$$;

-- Writes the claim and puts the parked events of that object back to work. The caller has locked
-- the event. Answers {outcome: claimed | user_not_found | not_parked | conflict, ...}.
create or replace function purser.claim_event(
  p_event public.stripe_webhook_events, p_user_id text, p_actor text, p_reason text)
returns jsonb language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := purser.lock_user(p_user_id);
  v_claim public.purchase_claims;
  v_answer jsonb;
  v_ids jsonb;
begin
  if v_user.user_id is null then
    return jsonb_build_object('outcome', 'user_not_found');
  end if;
  v_answer := jsonb_build_object('event_id', p_event.stripe_event_id, 'object_id', p_event.object_id, 'user_id', v_user.user_id);
  select * into v_claim from public.purchase_claims c where c.object_id = p_event.object_id for update;
  if v_claim.user_id = v_user.user_id and p_event.status <> 'parked' then
    return v_answer || jsonb_build_object('outcome', 'claimed', 'event_ids', '[]'::jsonb);
  end if;
  if p_event.status <> 'parked' then
    return v_answer || jsonb_build_object('outcome', 'not_parked', 'status', p_event.status);
  end if;
  -- Another has it, by a claim, by hand or through another event: a claim would be a promise of nothing.
  if exists (
    select from public.credit_sources s where s.user_id <> v_user.user_id and s.source_key in (
      'checkout:' || p_event.object_id, 'invoice:' || p_event.object_id, 'payment:' || p_event.object_id))
  then
    return v_answer || jsonb_build_object('outcome', 'conflict');
  end if;
  insert into public.purchase_claims (object_id, user_id, event_id, claimed_by, reason)
  values (p_event.object_id, v_user.user_id, p_event.stripe_event_id, p_actor, p_reason)
  on conflict (object_id) do update set user_id = excluded.user_id, event_id = excluded.event_id,
    claimed_by = excluded.claimed_by, reason = excluded.reason, created_at = clock_timestamp();
  with put_back as (
    update public.stripe_webhook_events e
    set status = 'received', retry_count = 0, error_message = null
    where e.object_id = p_event.object_id and e.status = 'parked'
    returning e.stripe_event_id)
  select jsonb_agg(p.stripe_event_id order by p.stripe_event_id) into v_ids from put_back p;
  insert into public.audit_events (actor, action, user_id, reason, before, after)
  values (p_actor, 'claim_purchase', v_user.user_id, p_reason,
    case when v_claim.user_id is not null then jsonb_build_object('user_id', v_claim.user_id) end,
    v_answer || jsonb_build_object('event_ids', v_ids));
  return v_answer || jsonb_build_object('outcome', 'claimed', 'event_ids', v_ids);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- claim_parked_event: an admin says whose a parked purchase is. The grant goes to that user,
-- whatever the objects at Stripe say. Repeating it changes nothing.
-- Answers {outcome: claimed | not_found | user_not_found | not_parked | no_purchase | conflict,
-- event_id, object_id, user_id, event_ids (put back to work)}; conflict: it was granted to another;
-- no_purchase: the event is about no session, invoice or payment (a subscription becomes a user's
-- by his customer id, for it goes on).
-- Locks: the event, then the user.
-- ---------------------------------------------------------------------------------------------
create or replace function public.claim_parked_event(p_event_id text, p_user_id text, p_actor text, p_reason text)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_event public.stripe_webhook_events;
begin
  select * into v_event from public.stripe_webhook_events e where e.stripe_event_id = p_event_id for update;
  if v_event.id is null then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  if v_event.object_id is null or v_event.object_id !~ '^(cs|in|pi)_' then
    return jsonb_build_object('outcome', 'no_purchase');
  end if;
  return purser.claim_event(v_event, p_user_id, p_actor, p_reason);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- create_claim_link: a one-time link to a parked purchase, in place of an unused one made before.
--   p_token_hash  SHA-256 of the token, hexadecimal
-- Answers {outcome: created | not_found | not_parked | no_purchase, event_id, object_id, expires_at}.
-- ---------------------------------------------------------------------------------------------
create or replace function public.create_claim_link(
  p_event_id text, p_token_hash text, p_expires_seconds integer, p_actor text, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_event public.stripe_webhook_events;
  v_expires_at timestamptz;
begin
  select * into v_event from public.stripe_webhook_events e where e.stripe_event_id = p_event_id for update;
  if v_event.id is null then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  if v_event.object_id is null or v_event.object_id !~ '^(cs|in|pi)_' then
    return jsonb_build_object('outcome', 'no_purchase');
  end if;
  if v_event.status <> 'parked' then
    return jsonb_build_object('outcome', 'not_parked', 'status', v_event.status);
  end if;
  v_expires_at := coalesce(p_now, clock_timestamp()) + make_interval(secs => p_expires_seconds);
  delete from public.claim_links l where l.event_id = p_event_id and l.used_at is null;
  insert into public.claim_links (token_hash, event_id, created_by, expires_at)
  values (p_token_hash, p_event_id, p_actor, v_expires_at);
  insert into public.audit_events (actor, action, after)
  values (p_actor, 'create_claim_link', jsonb_build_object('event_id', p_event_id, 'object_id', v_event.object_id,
    'expires_at', purser.iso(v_expires_at)));
  return jsonb_build_object('outcome', 'created', 'event_id', p_event_id, 'object_id', v_event.object_id,
    'expires_at', purser.iso(v_expires_at));
end
$$;

-- A link to a purchase that nobody is known to have made, to the address that its buyer typed at
-- Stripe: whoever reads that mail may take it, signed in. The first parking of an object offers it,
-- after ten minutes in which the user may still appear; later ones leave it as it is. The caller
-- has locked the event, and parks it. Answers {outcome: queued | exists | unchanged}.
create or replace function purser.offer_claim(p_event public.stripe_webhook_events, p_offer jsonb)
returns jsonb language plpgsql set search_path = '' as $$
declare
  c_wait constant interval := '10 minutes';
  c_life constant interval := '30 days';
  v_expires_at timestamptz := clock_timestamp() + c_life;
begin
  if p_event.id is null or p_event.object_id is distinct from p_offer ->> 'object_id'
     or p_event.object_id !~ '^(cs|in|pi)_' or coalesce(p_offer ->> 'recipient', '') = ''
  then
    return jsonb_build_object('outcome', 'unchanged');
  end if;
  if purser.enqueue_notification(jsonb_build_object(
    'key', 'claim_link:' || p_event.object_id, 'notification', 'claim_link', 'recipient', p_offer ->> 'recipient',
    'send_at', clock_timestamp() + c_wait,
    'data', jsonb_build_object('event_id', p_event.stripe_event_id, 'token', p_offer ->> 'token',
      'credits', p_offer -> 'credits', 'expires_at', purser.iso(v_expires_at)))) = 'exists'
  then
    return jsonb_build_object('outcome', 'exists');
  end if;
  insert into public.claim_links (token_hash, event_id, created_by, expires_at)
  values (p_offer ->> 'token_hash', p_event.stripe_event_id, 'purser', v_expires_at);
  insert into public.audit_events (actor, action, after)
  values ('stripe:' || p_event.stripe_event_id, 'create_claim_link', jsonb_build_object('event_id', p_event.stripe_event_id,
    'object_id', p_event.object_id, 'expires_at', purser.iso(v_expires_at), 'mailed', true));
  return jsonb_build_object('outcome', 'queued');
end
$$;

-- ---------------------------------------------------------------------------------------------
-- use_claim_link: a signed-in user redeems a link: the purchase is his. Whoever used it may repeat
-- it; for everybody else a used, expired or unknown token is the same: not_found.
-- Answers {outcome: claimed | not_found | user_not_found | not_parked | conflict, ...} as
-- claim_parked_event does. A refusal leaves the link as it was. Locks: link, event, user.
-- ---------------------------------------------------------------------------------------------
create or replace function public.use_claim_link(p_token_hash text, p_user_id text, p_actor text, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_link public.claim_links;
  v_event public.stripe_webhook_events;
  v_answer jsonb;
begin
  select * into v_link from public.claim_links l where l.token_hash = p_token_hash for update;
  if v_link.token_hash is null
     or (v_link.used_at is null and v_link.expires_at <= coalesce(p_now, clock_timestamp()))
     or (v_link.used_at is not null and v_link.used_by <> purser.user_key(p_user_id))
  then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  select * into v_event from public.stripe_webhook_events e where e.stripe_event_id = v_link.event_id for update;
  if v_event.id is null then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  if v_link.used_at is not null then
    return jsonb_build_object('outcome', 'claimed', 'event_id', v_event.stripe_event_id, 'object_id', v_event.object_id,
      'user_id', v_link.used_by, 'event_ids', '[]'::jsonb);
  end if;
  v_answer := purser.claim_event(v_event, p_user_id, p_actor, 'claim link');
  if v_answer ->> 'outcome' = 'claimed' then
    update public.claim_links l set used_at = clock_timestamp(), used_by = v_answer ->> 'user_id'
    where l.token_hash = p_token_hash;
  end if;
  return v_answer;
end
$$;

call purser.restrict_functions();
reset role;

do $$
declare
  v_table text;
begin
  foreach v_table in array array['webhook_replays', 'stripe_event_cursors', 'purchase_claims', 'claim_links'] loop
    execute format('alter table public.%I enable row level security', v_table);
    execute format('drop policy if exists %I on public.%I', v_table || '_select_admin', v_table);
    execute format('create policy %I on public.%I for select to authenticated using (((select auth.jwt()) -> ''app_metadata'' ->> ''role'') = ''admin'')',
      v_table || '_select_admin', v_table);
  end loop;
end
$$;

set role purser_ledger;
revoke all on public.webhook_replays, public.stripe_event_cursors, public.purchase_claims, public.claim_links
  from public, anon, authenticated, service_role;
grant select on public.webhook_replays, public.stripe_event_cursors, public.purchase_claims to authenticated, service_role;
grant select on public.claim_links to service_role;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
