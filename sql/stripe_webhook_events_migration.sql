-- Purser: the inbox of Stripe events and the function that turns an event into money.
--
-- Paste after dunning_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- An event is a row before anything is done about it. Its status leads:
--   in flight  received (due at next_attempt_at), leased (somebody works on it until
--              leased_until), failed (due again at next_attempt_at)
--   ended      processed, ignored, parked (waits for its user), dead (needs a person)
--   logged     put in by hand through SQL, worked on only when asked
-- `lease` is a number that rises with each lease: a worker that lost its lease is refused.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['stripe_webhook_events'], array[
  'receive_webhook_event', 'claim_webhook_events', 'apply_webhook_effects', 'fail_webhook_event',
  'requeue_parked_events', 'get_object_events']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.stripe_webhook_events (
  id uuid primary key default gen_random_uuid(),
  stripe_event_id text not null unique,
  event_type text not null,
  object_id text,
  order_key text,
  event_data jsonb not null,
  event_created_at timestamptz,
  status text not null default 'received' check (status in (
    'logged', 'received', 'leased', 'failed', 'parked', 'processed', 'ignored', 'dead')),
  processed boolean not null default false,
  processed_at timestamptz,
  error_message text,
  retry_count integer not null default 0,
  next_attempt_at timestamptz,
  waiting_for text,
  lease bigint not null default 0,
  leased_at timestamptz,
  leased_until timestamptz,
  lease_holder text,
  covered_by text,
  error_code text,
  error_cause text check (error_cause in ('transient', 'permanent')),
  failures jsonb not null default '[]',
  transaction_ids bigint[] not null default '{}',
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
alter table public.stripe_webhook_events add column if not exists leased_at timestamptz;
alter table public.stripe_webhook_events add column if not exists lease_holder text;
alter table public.stripe_webhook_events add column if not exists covered_by text;
alter table public.stripe_webhook_events add column if not exists error_code text;
alter table public.stripe_webhook_events add column if not exists error_cause text
  check (error_cause in ('transient', 'permanent'));
alter table public.stripe_webhook_events add column if not exists failures jsonb not null default '[]';
alter table public.stripe_webhook_events add column if not exists transaction_ids bigint[] not null default '{}';
create index if not exists idx_stripe_webhook_event_id on public.stripe_webhook_events (stripe_event_id, id);
create index if not exists idx_stripe_webhook_type on public.stripe_webhook_events (event_type);
create index if not exists idx_stripe_webhook_processed on public.stripe_webhook_events (processed);
create index if not exists idx_stripe_webhook_unprocessed on public.stripe_webhook_events (next_attempt_at)
  where status in ('received', 'failed', 'leased');
create index if not exists idx_stripe_webhook_created on public.stripe_webhook_events (created_at);
create index if not exists stripe_webhook_events_object on public.stripe_webhook_events (object_id);
create index if not exists stripe_webhook_events_in_flight on public.stripe_webhook_events (order_key)
  where status in ('received', 'failed', 'leased');
create index if not exists stripe_webhook_events_holder on public.stripe_webhook_events (lease_holder)
  where status = 'leased';
create index if not exists stripe_webhook_events_waiting on public.stripe_webhook_events (waiting_for)
  where status = 'parked';
create index if not exists stripe_webhook_events_trouble on public.stripe_webhook_events (status, created_at)
  where status in ('failed', 'parked', 'dead');
comment on column public.stripe_webhook_events.error_code is 'What kind of failure the last one was; dead events are grouped by it.';
comment on column public.stripe_webhook_events.failures is 'The last 20 failed attempts, oldest first.';
comment on column public.stripe_webhook_events.transaction_ids is 'Entries of the ledger the event wrote; its payload is kept for their sake.';
comment on table public.stripe_webhook_events is 'Every Stripe event that was received, with what became of it.';
comment on column public.stripe_webhook_events.order_key is 'Events with the same key are worked on one at a time.';
comment on column public.stripe_webhook_events.leased_at is 'Since when the last lease is held: what was here before is older than what its worker reads.';
comment on column public.stripe_webhook_events.covered_by is 'The event whose worker read the object after this one came, and so knew what this one tells.';
comment on column public.stripe_webhook_events.lease_holder is 'Token of the call that took the lease: the same call, sent again because its answer was lost, gets its lease back.';
comment on column public.stripe_webhook_events.waiting_for is 'The user id or Stripe customer id a parked event waits for.';

-- processed written by hand, to the table or one of its views: false asks for the event to be worked
-- on again, whatever became of it; true ends it. It fires only when a statement names the column,
-- so that `processed = false` counts also where it is false already.
create or replace function purser.ask_again()
returns trigger language plpgsql set search_path = '' as $$
begin
  if new.status is distinct from old.status then
    return new;
  end if;
  if new.processed and not old.processed then
    new.status := 'processed';
    new.error_message := null;
    new.error_code := null;
    new.error_cause := null;
  elsif not new.processed and not (old.status = 'leased' and old.leased_until > clock_timestamp()) then
    new.status := 'received';
    new.next_attempt_at := clock_timestamp();
    -- A dead one has used up its attempts; whoever asks for it wants more than one.
    if old.status = 'dead' and new.retry_count = old.retry_count then
      new.retry_count := 0;
    end if;
  end if;
  return new;
end
$$;
drop trigger if exists purser_ask_again on public.stripe_webhook_events;
create trigger purser_ask_again before update of processed on public.stripe_webhook_events
  for each row execute function purser.ask_again();

-- Keeps the columns that follow the status, whoever writes it.
create or replace function purser.follow_event_status()
returns trigger language plpgsql set search_path = '' as $$
begin
  if new.status is distinct from old.status then
    new.processed := new.status in ('processed', 'ignored');
    new.processed_at := case when new.processed then coalesce(new.processed_at, clock_timestamp()) end;
    if new.status = 'received' then
      new.next_attempt_at := clock_timestamp();
      new.waiting_for := null;
      new.covered_by := null;
    end if;
    if new.status in ('processed', 'ignored', 'parked', 'dead') then
      new.next_attempt_at := null;
    end if;
    if new.status <> 'leased' then
      new.leased_until := null;
    end if;
  end if;
  new.updated_at := clock_timestamp();
  return new;
end
$$;
drop trigger if exists purser_follow_status on public.stripe_webhook_events;
create trigger purser_follow_status before update on public.stripe_webhook_events
  for each row execute function purser.follow_event_status();

-- The list of failures with one more; the last 20 are kept.
create or replace function purser.with_failure(p_failures jsonb, p_error text, p_code text, p_cause text)
returns jsonb language sql set search_path = '' as $$
  select case when jsonb_array_length(p_failures) >= 20 then p_failures - 0 else p_failures end
    || jsonb_build_object('at', purser.iso(clock_timestamp()), 'code', p_code, 'cause', p_cause, 'error', left(p_error, 500));
$$;

-- The entries that effects wrote, by what each of them answered.
create or replace function purser.written_entries(p_results jsonb)
returns bigint[] language plpgsql immutable set search_path = '' as $$
begin
  return coalesce((
    select array_agg((r ->> 'transaction_id')::bigint) from jsonb_array_elements(p_results) r
    where r ->> 'outcome' = 'applied' and r ->> 'transaction_id' is not null), '{}');
end
$$;

-- True when no other event of the same object is being worked on. Takes the object's lock until
-- the end of the transaction, so that two claims cannot both see it free.
create or replace function purser.object_is_free(p_order_key text, p_id uuid, p_now timestamptz, p_wait boolean)
returns boolean language plpgsql set search_path = '' as $$
begin
  if p_order_key is null then
    return true;
  end if;
  if p_wait then
    perform pg_advisory_xact_lock(hashtextextended('purser:event:' || p_order_key, 0));
  elsif not pg_try_advisory_xact_lock(hashtextextended('purser:event:' || p_order_key, 0)) then
    return false;
  end if;
  return not exists (
    select from public.stripe_webhook_events e
    where e.order_key = p_order_key and e.id <> p_id and e.status = 'leased' and e.leased_until > p_now);
end
$$;

create or replace function purser.leased_event(p_event public.stripe_webhook_events)
returns jsonb language sql immutable set search_path = '' as $$
  select jsonb_build_object('event_id', p_event.stripe_event_id, 'event_type', p_event.event_type,
    'object_id', p_event.object_id, 'order_key', p_event.order_key, 'fence', p_event.lease, 'attempt', p_event.retry_count + 1,
    'payload', p_event.event_data);
$$;

-- ---------------------------------------------------------------------------------------------
-- receive_webhook_event: commits an event to the inbox, with the lease taken for the caller
-- when no other event of the same object is being worked on (p_lease_seconds null = no lease, the
-- sweep takes it up).
--   p_holder  token of this call; repeating it under the same token gives the lease back
-- Answers {outcome: received | duplicate | requeued, leased, fence}. duplicate: it was here; only
-- a parked one is put back to work (requeued). Idempotent by p_event_id.
-- ---------------------------------------------------------------------------------------------
create or replace function public.receive_webhook_event(
  p_event_id text, p_event_type text, p_object_id text, p_order_key text,
  p_event_created_at timestamptz, p_payload jsonb, p_lease_seconds integer default 60,
  p_holder text default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_id uuid := gen_random_uuid();
  v_free boolean := p_lease_seconds is not null and purser.object_is_free(p_order_key, v_id, v_now, true);
  v_event public.stripe_webhook_events;
begin
  insert into public.stripe_webhook_events as e (
    id, stripe_event_id, event_type, object_id, order_key, event_created_at, event_data, status,
    next_attempt_at, lease, leased_at, leased_until, lease_holder)
  values (
    v_id, p_event_id, p_event_type, p_object_id, p_order_key, p_event_created_at, p_payload,
    case when v_free then 'leased' else 'received' end, v_now,
    case when v_free then 1 else 0 end,
    case when v_free then v_now end,
    case when v_free then v_now + make_interval(secs => p_lease_seconds) end,
    case when v_free then p_holder end)
  on conflict (stripe_event_id) do nothing
  returning * into v_event;
  if v_event.id is not null then
    return jsonb_build_object('outcome', 'received', 'leased', v_free, 'fence', v_event.lease);
  end if;
  select * into v_event from public.stripe_webhook_events e
  where e.stripe_event_id = p_event_id and e.status = 'leased' and e.lease_holder = p_holder;
  if v_event.id is not null then
    return jsonb_build_object('outcome', 'received', 'leased', true, 'fence', v_event.lease);
  end if;
  update public.stripe_webhook_events e
  set status = case when v_free then 'leased' else 'received' end,
      lease_holder = case when v_free then p_holder end,
      lease = e.lease + case when v_free then 1 else 0 end,
      leased_at = case when v_free then v_now end,
      leased_until = case when v_free then v_now + make_interval(secs => p_lease_seconds) end
  where e.stripe_event_id = p_event_id and e.status = 'parked'
  returning * into v_event;
  if v_event.id is not null then
    return jsonb_build_object('outcome', 'requeued', 'leased', v_free, 'fence', v_event.lease);
  end if;
  return jsonb_build_object('outcome', 'duplicate', 'leased', false);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- claim_webhook_events: leases up to p_limit events that are due (received, failed with their
-- retry due, or leased by somebody who died), the oldest at Stripe first, at most one of an
-- object; with p_order_key only events of that object. Rows claimed by others are passed over, and so
-- are objects that are worked on, however many of their events are older than everybody else's.
--   p_holder  token of this call; repeating it under the same token gives the same events
-- Answers [{event_id, event_type, object_id, order_key, fence, attempt, payload}].
-- ---------------------------------------------------------------------------------------------
create or replace function public.claim_webhook_events(
  p_limit integer default 10, p_lease_seconds integer default 60, p_order_key text default null,
  p_holder text default null)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_limit integer := least(greatest(coalesce(p_limit, 10), 1), 100);
  -- It looks at so many times p_limit rows, and so often while they are mostly of busy objects.
  c_looks constant integer := 4;
  v_event public.stripe_webhook_events;
  v_claimed jsonb := '[]';
  v_busy text[] := '{}';
  v_seen integer;
begin
  if p_holder is not null then
    select jsonb_agg(purser.leased_event(e) order by e.event_created_at, e.created_at) into v_claimed
    from public.stripe_webhook_events e where e.status = 'leased' and e.lease_holder = p_holder;
    if v_claimed is not null then
      return v_claimed;
    end if;
    v_claimed := '[]';
  end if;
  for v_look in 1..c_looks loop
    v_seen := 0;
    for v_event in
      select * from public.stripe_webhook_events e
      where ((e.status in ('received', 'failed') and e.next_attempt_at <= v_now)
          or (e.status = 'leased' and e.leased_until <= v_now))
        and (p_order_key is null or e.order_key = p_order_key)
        and (e.order_key is null or e.order_key <> all (v_busy))
      order by e.event_created_at nulls first, e.created_at
      limit v_limit * c_looks
      for update skip locked
    loop
      v_seen := v_seen + 1;
      continue when v_event.order_key = any (v_busy);
      if v_event.order_key is not null then
        -- One of the object is worked on now, here or elsewhere; its others wait.
        v_busy := v_busy || v_event.order_key;
      end if;
      continue when not purser.object_is_free(v_event.order_key, v_event.id, v_now, false);
      update public.stripe_webhook_events e
      set status = 'leased', lease = e.lease + 1, leased_at = v_now, leased_until = v_now + make_interval(secs => p_lease_seconds),
          lease_holder = p_holder
      where e.id = v_event.id
      returning * into v_event;
      v_claimed := v_claimed || purser.leased_event(v_event);
      exit when jsonb_array_length(v_claimed) >= v_limit;
    end loop;
    exit when v_seen < v_limit * c_looks or jsonb_array_length(v_claimed) >= v_limit;
    -- So many due events of a few busy objects must not hide everybody else's behind them.
    v_busy := v_busy || array(
      select e.order_key from public.stripe_webhook_events e
      where e.status = 'leased' and e.leased_until > v_now and e.order_key is not null);
  end loop;
  return v_claimed;
end
$$;

-- Ends those other events of the object that were here before p_event was leased: its worker has asked
-- Stripe since, so it knows what they tell. They end as it did. A renewal sends three events of one
-- invoice, and a backlog of them would otherwise ask Stripe three times. Answers their types. What
-- another worker holds at this moment is passed over, so no two calls wait for each other.
create or replace function purser.cover_events(
  p_event public.stripe_webhook_events, p_types jsonb, p_status text, p_reason text)
returns jsonb language plpgsql set search_path = '' as $$
declare
  v_types jsonb;
begin
  with covered as (
    update public.stripe_webhook_events e
    set status = p_status, error_message = p_reason, error_code = null, error_cause = null, covered_by = p_event.stripe_event_id
    where e.id in (
      select o.id from public.stripe_webhook_events o
      where o.object_id = p_event.object_id and o.id <> p_event.id and o.status in ('received', 'failed')
        and o.created_at < p_event.leased_at and p_types ? o.event_type
      for update skip locked)
    returning e.event_type)
  select coalesce(jsonb_agg(c.event_type), '[]') into v_types from covered c;
  return v_types;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- apply_webhook_effects: everything an event leads to and "processed", in ONE transaction.
--   p_event_id, p_fence  the lease under which the work was done; both null for work without an
--              event (the success page settles its session itself)
--   p_effects  [{"kind": "payment_state", payment, version, paid, refunded, disputed, currency,
--                 status, detail}: as set_payment_state takes it; one at most, and the first
--               {"kind": "grant", user_id, type, key, lots, sources, payments, description, metadata,
--                 session_id, payment_intent_id, invoice_id, event_at}
--               {"kind": "checkout_state", session_id, state}
--               {"kind": "subscription_state", user_id, subscription_id, status, state, version, as_of,
--                 free_plan}: as set_subscription_state takes it; one at most, and the first
--               {"kind": "customer", customer_id, user_id, email}
--               {"kind": "customer_deleted", customer_id}
--               {"kind": "finding", code, subject, user_id, detail}
--               {"kind": "audit", action, user_id, reason, after}
--               {"kind": "notify", key, notification, user_id, recipient, data, send_at, after_grant}: see
--                 purser.enqueue_notification; after the effects it tells of; with after_grant only if
--                 the grant of that key is written by this call, so that nothing is told twice
--               {"kind": "alert", code, subject, severity, title, detail, quiet_seconds}: see purser.raise_alert
--               {"kind": "claim_link", token_hash, recipient, object_id, credits, token}: see purser.offer_claim
--               {"kind": "dunning", ...}: see purser.note_dunning; after the subscription's state
--               {"kind": "stripe_changed", event_type, object_id}
--               {"kind": "covers", event_types}: what these types tell of the same object is known by
--                 what was read for this event; see purser.cover_events. Not where it is parked
--               {"kind": "ignore", reason}
--               {"kind": "park", waiting_for, reason}]   1 to 100, applied in this order
-- Answers {outcome: applied | parked | ignored | stale | read_again, results: [one for each effect],
-- covered: [types of the events that end with it], waiting}. stale: the lease was lost, nothing was written. read_again: the payment or
-- subscription has moved since its version was read; nothing was written and the lease stands: read
-- it again, and Stripe. parked: the user of a grant or subscription does not exist, or the event
-- said so. `waiting`: other events of the same object are due. A repeat under the
-- lease that ended the event as processed or ignored (its first answer was lost) is answered like
-- it, with its grants as replayed.
-- Locks: the event row, then users in id order, then payments.
-- ---------------------------------------------------------------------------------------------
create or replace function public.apply_webhook_effects(p_event_id text, p_fence bigint, p_effects jsonb)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_event public.stripe_webhook_events;
  v_effect jsonb;
  v_result jsonb;
  v_results jsonb := '[]';
  v_status text := 'processed';
  v_reason text;
  v_waiting_for text;
  v_user_id text;
  v_repeat boolean := false;
  -- By key, whom the grants written here went to: a claim may have made it another than they named.
  v_granted jsonb := '{}';
  v_covers jsonb;
  v_covered jsonb := '[]';
begin
  p_effects := purser.with_claimed_users(p_effects);
  if jsonb_typeof(p_effects) is distinct from 'array' or jsonb_array_length(p_effects) > 100 then
    perform purser.raise_error(400, 'invalid_request', 'p_effects must be an array of at most 100 effects.');
  end if;
  if p_event_id is not null then
    select * into v_event from public.stripe_webhook_events e where e.stripe_event_id = p_event_id for update;
    -- Whoever takes the event up again raises the lease, so an end under this one is the caller's own.
    v_repeat := v_event.status in ('processed', 'ignored');
    if v_event.id is null or v_event.lease is distinct from p_fence
       or not (v_event.status = 'leased' or v_repeat) then
      return jsonb_build_object('outcome', 'stale', 'results', '[]'::jsonb, 'waiting', false);
    end if;
  end if;

  -- A payment or subscription that moved must find nothing written yet.
  if exists (
    select from jsonb_array_elements(p_effects) with ordinality e
    where e.value ->> 'kind' in ('payment_state', 'subscription_state') and e.ordinality > 1)
  then
    perform purser.raise_error(400, 'invalid_request', 'An effect of kind payment_state or subscription_state stands first, and there is one at most.');
  end if;
  for v_user_id in
    select u.user_id from (
      select e ->> 'user_id' as user_id from jsonb_array_elements(p_effects) e where e ->> 'kind' in ('grant', 'subscription_state')
      union all
      select s.user_id from jsonb_array_elements(p_effects) e
      join public.credit_sources s on s.source_key = 'payment:' || (e ->> 'payment')
      where e ->> 'kind' = 'payment_state') u
    order by purser.to_user_id(u.user_id)
  loop
    perform purser.lock_user(v_user_id);
  end loop;

  for v_effect in select * from jsonb_array_elements(p_effects) loop
    if v_repeat and v_effect ->> 'kind' <> 'grant' then
      v_results := v_results || jsonb_build_object('outcome', 'replayed', 'kind', v_effect ->> 'kind');
      continue;
    end if;
    v_result := jsonb_build_object('outcome', 'applied');
    case v_effect ->> 'kind'
      when 'payment_state' then
        v_result := public.set_payment_state(
          p_payment => v_effect ->> 'payment', p_version => (v_effect ->> 'version')::bigint,
          p_paid => (v_effect ->> 'paid')::bigint, p_refunded => (v_effect ->> 'refunded')::bigint,
          p_disputed => (v_effect ->> 'disputed')::bigint, p_currency => v_effect ->> 'currency',
          p_status => v_effect ->> 'status', p_detail => coalesce(v_effect -> 'detail', '{}'));
        if v_result ->> 'outcome' = 'stale' then
          return jsonb_build_object('outcome', 'read_again', 'results', '[]'::jsonb, 'waiting', false);
        end if;
      when 'grant' then
        v_result := public.grant_credits(
          p_user_id => v_effect ->> 'user_id', p_type => v_effect ->> 'type', p_key => v_effect ->> 'key',
          p_lots => v_effect -> 'lots', p_sources => coalesce(v_effect -> 'sources', '[]'),
          p_payments => coalesce(v_effect -> 'payments', '[]'),
          p_description => v_effect ->> 'description', p_metadata => coalesce(v_effect -> 'metadata', '{}'),
          p_stripe_session_id => v_effect ->> 'session_id',
          p_stripe_payment_intent_id => v_effect ->> 'payment_intent_id',
          p_stripe_invoice_id => v_effect ->> 'invoice_id',
          p_event_at => (v_effect ->> 'event_at')::timestamptz);
        if v_result ->> 'outcome' = 'not_found' then
          v_status := 'parked';
          v_reason := format('user %s does not exist', v_effect ->> 'user_id');
          v_waiting_for := purser.user_key(v_effect ->> 'user_id');
        elsif v_result ->> 'outcome' in ('applied', 'replayed') and v_effect ->> 'session_id' is not null then
          perform purser.set_checkout_state(v_effect ->> 'session_id', 'credited');
        end if;
        if v_result ->> 'outcome' = 'applied' then
          v_granted := v_granted || jsonb_build_object(v_effect ->> 'key', v_result -> 'user_id');
        end if;
      when 'checkout_state' then
        perform purser.set_checkout_state(v_effect ->> 'session_id', v_effect ->> 'state');
      when 'subscription_state' then
        v_result := public.set_subscription_state(
          p_user_id => v_effect ->> 'user_id', p_subscription_id => v_effect ->> 'subscription_id',
          p_status => v_effect ->> 'status', p_state => v_effect -> 'state',
          p_version => (v_effect ->> 'version')::bigint, p_as_of => (v_effect ->> 'as_of')::timestamptz,
          p_free_plan => v_effect ->> 'free_plan');
        if v_result ->> 'outcome' = 'stale' then
          return jsonb_build_object('outcome', 'read_again', 'results', '[]'::jsonb, 'waiting', false);
        elsif v_result ->> 'outcome' = 'not_found' then
          v_status := 'parked';
          v_reason := format('user %s does not exist', v_effect ->> 'user_id');
          v_waiting_for := purser.user_key(v_effect ->> 'user_id');
        end if;
      when 'customer' then
        v_result := purser.note_customer(v_effect ->> 'user_id', v_effect ->> 'customer_id', v_effect ->> 'email');
      when 'customer_deleted' then
        v_result := purser.forget_customer(v_effect ->> 'customer_id');
      when 'finding' then
        perform purser.record_finding(v_effect ->> 'code', v_effect ->> 'subject', purser.user_key(v_effect ->> 'user_id'),
          coalesce(v_effect -> 'detail', '{}'));
      when 'audit' then
        insert into public.audit_events (actor, action, user_id, reason, after)
        values (coalesce('stripe:' || p_event_id, 'purser'), v_effect ->> 'action', purser.user_key(v_effect ->> 'user_id'),
          v_effect ->> 'reason', v_effect -> 'after');
      when 'notify' then
        -- Nobody is told of what did not come about; the event is worked on again.
        v_result := jsonb_build_object('outcome', case
          when v_status <> 'processed' then 'unchanged'
          when v_effect ->> 'after_grant' is null then purser.enqueue_notification(v_effect)
          when v_granted ? (v_effect ->> 'after_grant') then purser.enqueue_notification(
            v_effect || jsonb_build_object('user_id', v_granted -> (v_effect ->> 'after_grant')))
          else 'unchanged' end);
      when 'alert' then
        perform purser.raise_alert(v_effect);
      when 'claim_link' then
        v_result := purser.offer_claim(v_event, v_effect);
      when 'dunning' then
        v_result := jsonb_build_object('outcome', case v_status
          when 'processed' then purser.note_dunning(v_effect, coalesce('stripe:' || p_event_id, v_effect ->> 'actor', 'purser'))
          else 'unchanged' end);
      when 'stripe_changed' then
        perform public.invalidate_stripe_cache_from_webhook(v_effect ->> 'event_type', v_effect ->> 'object_id');
      when 'covers' then
        v_covers := v_effect -> 'event_types';
      when 'ignore' then
        v_status := 'ignored';
        v_reason := v_effect ->> 'reason';
      when 'park' then
        v_status := 'parked';
        v_reason := v_effect ->> 'reason';
        v_waiting_for := purser.user_key(v_effect ->> 'waiting_for');
      else
        perform purser.raise_error(400, 'invalid_request', format('There is no effect of kind %s.', v_effect ->> 'kind'));
    end case;
    v_results := v_results || (v_result || jsonb_build_object('kind', v_effect ->> 'kind'));
  end loop;

  if v_repeat then
    v_status := v_event.status;
    v_reason := v_event.error_message;
  elsif v_event.id is not null then
    update public.stripe_webhook_events e
    set status = v_status, error_message = v_reason, error_code = null, error_cause = null, waiting_for = v_waiting_for,
        transaction_ids = e.transaction_ids || purser.written_entries(v_results)
    where e.id = v_event.id;
    if v_covers is not null and v_status <> 'parked' then
      v_covered := purser.cover_events(v_event, v_covers, v_status, v_reason);
    end if;
  end if;
  return jsonb_build_object(
    'outcome', case v_status when 'processed' then 'applied' else v_status end,
    'reason', v_reason,
    'results', v_results,
    'covered', v_covered,
    'waiting', v_event.order_key is not null and exists (
      select from public.stripe_webhook_events e
      where e.order_key = v_event.order_key and e.id <> v_event.id
        and e.status in ('received', 'failed') and e.next_attempt_at <= clock_timestamp()));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- fail_webhook_event: records a failed attempt, in the row and in its list of failures.
--   p_delay_seconds  when to try again; null = the event is dead and needs a person
--   p_code, p_cause  what kind of failure it was, and whether it passes by itself (transient) or
--                    wants a change somewhere (permanent)
-- Answers {outcome: failed | dead | stale}.
-- ---------------------------------------------------------------------------------------------
drop function if exists public.fail_webhook_event(text, bigint, text, double precision);
create or replace function public.fail_webhook_event(
  p_event_id text, p_fence bigint, p_error text, p_delay_seconds double precision default null,
  p_code text default 'internal', p_cause text default 'permanent')
returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  update public.stripe_webhook_events e
  set status = case when p_delay_seconds is null then 'dead' else 'failed' end,
      error_message = left(p_error, 2000),
      error_code = p_code,
      error_cause = p_cause,
      failures = purser.with_failure(e.failures, p_error, p_code, p_cause),
      retry_count = e.retry_count + 1,
      next_attempt_at = clock_timestamp() + make_interval(secs => p_delay_seconds)
  where e.stripe_event_id = p_event_id and e.status = 'leased' and e.lease = p_fence;
  return jsonb_build_object('outcome', case when not found then 'stale' when p_delay_seconds is null then 'dead' else 'failed' end);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- requeue_parked_events: puts parked events whose user exists by now back to `received`; part of
-- the sweep, so that they resolve however the user came to be. Answers {requeued}.
-- ---------------------------------------------------------------------------------------------
create or replace function public.requeue_parked_events(p_limit integer default 200)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_count integer;
begin
  update public.stripe_webhook_events e set status = 'received'
  where e.id in (
    select p.id from public.stripe_webhook_events p
    where p.status = 'parked' and p.waiting_for is not null and (
      exists (select from public.users u where u.id = purser.to_user_id(p.waiting_for))
      or exists (select from public.stripe_customers c
                 join public.users u on u.id = purser.to_user_id(c.user_id)
                 where c.customer_id = p.waiting_for))
    order by p.created_at limit least(greatest(p_limit, 1), 1000)
    for update skip locked);
  get diagnostics v_count = row_count;
  return jsonb_build_object('requeued', v_count);
end
$$;

-- The same the moment a user appears. Never raises: a sign-up must not fail because of it; the
-- sweep finds what this misses.
create or replace function purser.requeue_parked_of_user()
returns trigger language plpgsql security definer set search_path = '' as $$
begin
  update public.stripe_webhook_events e set status = 'received'
  where e.status = 'parked' and e.waiting_for in (new.id::text, new.stripe_customer_id);
  return new;
exception when others then
  raise warning 'purser: parked events of user % were not re-queued: %', new.id, sqlerrm;
  return new;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_object_events: how far the events of an object are: {parked, in_flight}. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_object_events(p_object_id text)
returns jsonb language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'parked', coalesce(bool_or(e.status = 'parked'), false),
    'in_flight', coalesce(bool_or(e.status in ('received', 'leased', 'failed')), false))
  from public.stripe_webhook_events e where e.object_id = p_object_id;
$$;

call purser.restrict_functions();
reset role;

drop trigger if exists purser_requeue_parked on public.users;
create trigger purser_requeue_parked after insert or update of stripe_customer_id on public.users
  for each row execute function purser.requeue_parked_of_user();
alter table public.users enable always trigger purser_requeue_parked;

alter table public.stripe_webhook_events enable row level security;
drop policy if exists stripe_webhook_events_select_admin on public.stripe_webhook_events;
create policy stripe_webhook_events_select_admin on public.stripe_webhook_events for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');

set role purser_ledger;
revoke all on public.stripe_webhook_events from public, anon, authenticated, service_role;
grant select on public.stripe_webhook_events to authenticated, service_role;
grant update (processed, retry_count), delete on public.stripe_webhook_events to service_role;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
