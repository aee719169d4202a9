-- Purser: subscriptions as Stripe last told them, what follows for the user, and the state that apps read.
--
-- Paste after checkout_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- A row of `subscription` is a copy of Stripe's object; Stripe is asked again for every event, so
-- the copy never follows the order in which events come. Credits are not granted here: paid
-- invoices do that (sql/stripe_webhook_events_migration.sql, effect `grant`).
--   active, trialing  the user has the plan
--   past_due          still; while a payment is known to have failed, lots of plans are suspended
--   unpaid            no plan; suspended in the same way
--   paused, incomplete, incomplete_expired, canceled   no plan, nothing suspended: what was paid for stays
--   anything else     unknown to this version: the user's plan stays as it is, and a finding is noted

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(
  array['subscription', 'subscription_cache', 'cache_cleanups', 'subscription_usage'],
  array['get_user_subscription_state', 'use_credits_validated', 'add_subscription_credits',
    'get_or_create_stripe_customer', 'update_subscription_cache',
    'clear_expired_subscription_cache', 'clear_all_subscription_cache',
    'get_subscription_cache_status', 'get_cache_cleanup_history', 'get_subscription_record',
    'set_subscription_state']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.subscription (
  id uuid primary key default gen_random_uuid(),
  user_id text not null,
  tier_id text,
  status text not null,
  cycle_start_date timestamptz,
  cycle_end_date timestamptz,
  stripe_customer_id text,
  stripe_subscription_id text not null unique,
  stripe_price_id text,
  plan text,
  quantity bigint not null default 1,
  cancel_at_period_end boolean not null default false,
  cancel_at timestamptz,
  canceled_at timestamptz,
  ended_at timestamptz,
  trial_end timestamptz,
  collection_paused boolean not null default false,
  payment_failed boolean not null default false,
  metadata jsonb not null default '{}',
  version bigint not null default 1,
  state_as_of timestamptz not null,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
create index if not exists subscription_user on public.subscription (user_id);
create index if not exists subscription_customer on public.subscription (stripe_customer_id);
comment on table public.subscription is 'Each Stripe subscription as it was when Stripe was last asked. A user may have had several.';
comment on column public.subscription.plan is 'Id of the plan in the catalogue; null where its price is not one of ours.';
comment on column public.subscription.payment_failed is 'Its latest invoice is open or uncollectible after an attempt to collect it.';
comment on column public.subscription.version is 'Rises with every change; a writer names the one it read before it asked Stripe.';
comment on column public.subscription.state_as_of is 'When Stripe was asked for this state.';

do $$
begin
  if exists (
    select from pg_class c where c.relnamespace = 'public'::regnamespace and c.relname = 'subscriptions'
      and c.relowner <> 'purser_ledger'::regrole)
  then
    raise warning 'purser: public.subscriptions is your own and stays; the view of that name is not made';
    return;
  end if;
  create or replace view public.subscriptions with (security_invoker = true) as
    select s.id, s.user_id, s.tier_id, s.status, s.cycle_start_date, s.cycle_end_date, s.stripe_customer_id,
           s.stripe_subscription_id, s.stripe_price_id, s.plan, s.quantity, s.cancel_at_period_end, s.cancel_at,
           s.canceled_at, s.ended_at, s.trial_end, s.collection_paused, s.payment_failed, s.metadata,
           s.state_as_of, s.created_at, s.updated_at
    from public.subscription s;
  comment on view public.subscriptions is 'The table subscription under the name many apps use.';
  revoke all on public.subscriptions from public, anon, authenticated, service_role;
  grant select on public.subscriptions to authenticated, service_role;
end
$$;

create table if not exists public.subscription_cache (
  user_id text primary key,
  status text not null,
  state jsonb not null,
  cached_at timestamptz not null,
  expires_at timestamptz not null
);
create index if not exists subscription_cache_expires_at on public.subscription_cache (expires_at);
comment on table public.subscription_cache is 'Answers of get_user_subscription_state, kept five minutes; what changes the state deletes the row in the same transaction.';

create table if not exists public.cache_cleanups (
  id bigint generated always as identity primary key,
  kind text not null check (kind in ('expired', 'all')),
  deleted_count bigint not null,
  cleaned_at timestamptz not null default clock_timestamp()
);
create index if not exists cache_cleanups_cleaned_at on public.cache_cleanups (cleaned_at);
comment on table public.cache_cleanups is 'Each clean-up of subscription_cache of the last 90 days.';

create table if not exists public.subscription_usage (
  user_id text not null,
  metric text not null,
  period_start timestamptz not null,
  period_end timestamptz,
  used bigint not null default 0,
  counted_to bigint not null,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (user_id, metric, period_start)
);
comment on table public.subscription_usage is 'What a user used in each billing period (without a subscription: calendar month, UTC). A renewal begins a row at 0.';
comment on column public.subscription_usage.metric is 'credits: spent and not given back.';
comment on column public.subscription_usage.counted_to is 'entry_number up to which the ledger was counted; the counter is brought up to date when it is read, never while spending.';

alter table public.stripe_customers add column if not exists deleted_at timestamptz;
comment on column public.stripe_customers.deleted_at is 'Deleted at Stripe. What it had paid for before still belongs to this user; nothing new is sold to it.';

-- May a subscription that was p_from be p_to now? Stripe's moves, taken any number of times: a
-- state that lasted a moment may never have been seen. What has ended never lives again, and
-- nothing returns to the first payment. A status of a later Stripe version counts as alive.
create or replace function purser.subscription_may_become(p_from text, p_to text)
returns boolean language sql immutable set search_path = '' as $$
  with recursive move(was, becomes) as (values
    ('incomplete', 'active'), ('incomplete', 'trialing'), ('incomplete', 'incomplete_expired'), ('incomplete', 'canceled'),
    ('trialing', 'active'), ('trialing', 'past_due'), ('trialing', 'unpaid'), ('trialing', 'paused'), ('trialing', 'canceled'),
    ('active', 'trialing'), ('active', 'past_due'), ('active', 'unpaid'), ('active', 'paused'), ('active', 'canceled'),
    ('past_due', 'active'), ('past_due', 'unpaid'), ('past_due', 'paused'), ('past_due', 'canceled'),
    ('unpaid', 'active'), ('unpaid', 'canceled'),
    ('paused', 'active'), ('paused', 'past_due'), ('paused', 'canceled')),
  reached(status) as (
    select p_from
    union
    select m.becomes from reached r join move m on m.was = r.status)
  select case
    when p_from in ('canceled', 'incomplete_expired') then p_to = p_from
    when exists (select from reached r where r.status = p_to) then true
    -- One of the two is unknown here.
    when not exists (select from move m where p_from in (m.was, m.becomes)) then p_to not in ('incomplete', 'incomplete_expired')
    else not exists (select from move m where p_to in (m.was, m.becomes)) end;
$$;

create or replace function purser.is_known_subscription_status(p_status text)
returns boolean language sql immutable set search_path = '' as $$
  select p_status in ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'canceled');
$$;

-- The user's subscriptions, the one that counts first.
create or replace function purser.subscriptions_of(p_user_id text)
returns setof public.subscription language sql stable set search_path = '' as $$
  select s.* from public.subscription s where s.user_id = p_user_id
  order by case s.status
      when 'active' then 1 when 'trialing' then 2 when 'past_due' then 3 when 'unpaid' then 4 when 'paused' then 5
      when 'incomplete' then 7 when 'canceled' then 8 when 'incomplete_expired' then 9 else 6 end,
    s.plan is null, s.cycle_end_date desc nulls last, s.stripe_subscription_id;
$$;

-- Brings plan and suspension of a locked user in line with all his subscriptions. A suspension is
-- audited (mirror-repair follows these rows) and raises the version. Returns the row after it.
-- One good subscription is enough: what it has paid for is not blocked by another one's debt.
create or replace function purser.follow_subscriptions(
  p_user purser.accounts, p_free_plan text, p_now timestamptz)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := p_user;
  v_plan text;
  v_good boolean;
  v_failing boolean;
  v_unknown boolean;
begin
  select (array_agg(s.plan order by s.place) filter (where s.plan is not null and s.status in ('active', 'trialing', 'past_due')))[1],
         coalesce(bool_or(s.status in ('active', 'trialing')), false),
         coalesce(bool_or(s.status in ('past_due', 'unpaid') and s.payment_failed), false),
         coalesce(bool_or(not purser.is_known_subscription_status(s.status)), false)
  into v_plan, v_good, v_failing, v_unknown
  from (select s.*, row_number() over () as place from purser.subscriptions_of(p_user.user_id) s) s;
  v_plan := coalesce(v_plan, case when v_unknown then p_user.plan else coalesce(p_free_plan, 'free') end);
  if v_plan is distinct from p_user.plan then
    update public.users u set plan = v_plan where u.id = p_user.id;
    v_user.plan := v_plan;
  end if;
  if (v_failing and not v_good) <> p_user.credits_suspended then
    v_user := purser.expire_due(v_user, p_now);
    v_user.credits_suspended := v_failing and not v_good;
    v_user.credits_version := v_user.credits_version + 1;
    update public.users u
    set credits_suspended = v_user.credits_suspended, credits_version = v_user.credits_version
    where u.id = p_user.id;
    insert into public.audit_events (actor, action, user_id, reason, before, after)
    values ('purser', 'suspension', p_user.user_id,
      case when v_user.credits_suspended then 'a payment of the subscription failed' else 'the subscription is in order' end,
      jsonb_build_object('suspended', p_user.credits_suspended),
      jsonb_build_object('suspended', v_user.credits_suspended));
  end if;
  return v_user;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_subscription_record: what is known of a Stripe subscription, to be read before Stripe is
-- asked. Answers {outcome: found | not_found, version (0 = no row), user_id, status, plan, tier,
-- price_id}. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_subscription_record(p_subscription_id text)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_row public.subscription;
begin
  select * into v_row from public.subscription s where s.stripe_subscription_id = p_subscription_id;
  return jsonb_build_object(
    'outcome', case when v_row.id is null then 'not_found' else 'found' end,
    'version', coalesce(v_row.version, 0), 'user_id', v_row.user_id, 'status', v_row.status,
    'plan', v_row.plan, 'tier', v_row.tier_id, 'price_id', v_row.stripe_price_id);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- set_subscription_state: writes a subscription as Stripe has just told it, and what follows for
-- the user: users.plan, and whether lots of plans are suspended.
--   p_user_id    whose it is; once written it stays his
--   p_state      {customer_id, price_id, plan, tier, quantity, period_start, period_end,
--                cancel_at_period_end, cancel_at, canceled_at, ended_at, trial_end,
--                collection_paused, payment_failed, metadata}
--   p_version    the version read before Stripe was asked (0 = no row); null = by p_as_of alone
--   p_as_of      when Stripe was asked
--   p_free_plan  the plan of users without a subscription
-- Answers {outcome: applied | unchanged | stale | illegal | conflict | not_found, user_id, version,
--   status, plan, suspended, mirror}. stale: it was written by somebody else since, or later than
-- p_as_of; nothing was written. illegal: what has ended does not live again (a finding). conflict:
-- it belongs to another user (a finding). not_found: the user has no row.
-- The cached state of the user is dropped in the same transaction. Idempotent.
-- Locks: the user row, then the subscription.
-- ---------------------------------------------------------------------------------------------
create or replace function public.set_subscription_state(
  p_user_id text, p_subscription_id text, p_status text, p_state jsonb default '{}',
  p_version bigint default null, p_as_of timestamptz default null, p_free_plan text default 'free',
  p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_now timestamptz;
  v_before public.subscription;
  v_row public.subscription;
  v_outcome text := 'applied';
  v_live integer;
begin
  if coalesce(p_subscription_id, '') = '' or coalesce(p_status, '') = '' or octet_length(p_subscription_id) > 255 then
    perform purser.raise_error(400, 'invalid_request', 'A subscription has an id of 1 to 255 bytes and a status.');
  end if;
  v_user := purser.lock_user(p_user_id);
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', purser.user_key(p_user_id));
  end if;
  v_now := coalesce(p_now, clock_timestamp());
  select * into v_before from public.subscription s where s.stripe_subscription_id = p_subscription_id for update;

  v_row := v_before;
  v_row.user_id := v_user.user_id;
  v_row.stripe_subscription_id := p_subscription_id;
  v_row.status := p_status;
  v_row.tier_id := p_state ->> 'tier';
  v_row.plan := p_state ->> 'plan';
  v_row.cycle_start_date := (p_state ->> 'period_start')::timestamptz;
  v_row.cycle_end_date := (p_state ->> 'period_end')::timestamptz;
  v_row.stripe_customer_id := p_state ->> 'customer_id';
  v_row.stripe_price_id := p_state ->> 'price_id';
  v_row.quantity := coalesce((p_state ->> 'quantity')::bigint, 1);
  v_row.cancel_at_period_end := coalesce((p_state ->> 'cancel_at_period_end')::boolean, false);
  v_row.cancel_at := (p_state ->> 'cancel_at')::timestamptz;
  v_row.canceled_at := (p_state ->> 'canceled_at')::timestamptz;
  v_row.ended_at := (p_state ->> 'ended_at')::timestamptz;
  v_row.trial_end := (p_state ->> 'trial_end')::timestamptz;
  v_row.collection_paused := coalesce((p_state ->> 'collection_paused')::boolean, false);
  v_row.payment_failed := coalesce((p_state ->> 'payment_failed')::boolean, false);
  v_row.metadata := coalesce(p_state -> 'metadata', '{}');

  if v_before.id is null then
    if coalesce(p_version, 0) <> 0 then
      v_outcome := 'stale';
    end if;
  elsif v_before.user_id <> v_user.user_id then
    perform purser.record_finding('subscription_conflict', p_subscription_id, v_user.user_id,
      jsonb_build_object('belongs_to', v_before.user_id, 'claimed_by', v_user.user_id));
    v_outcome := 'conflict';
  elsif to_jsonb(v_row) - array['state_as_of', 'updated_at', 'version'] = to_jsonb(v_before) - array['state_as_of', 'updated_at', 'version'] then
    v_outcome := 'unchanged';
  elsif (case when p_version is not null then v_before.version <> p_version
        else coalesce(p_as_of, v_now) < v_before.state_as_of end) then
    v_outcome := 'stale';
  elsif not purser.subscription_may_become(v_before.status, p_status) then
    perform purser.record_finding('illegal_subscription_move', p_subscription_id, v_user.user_id,
      jsonb_build_object('from', v_before.status, 'to', p_status));
    v_outcome := 'illegal';
  end if;

  if v_outcome = 'applied' then
    insert into public.subscription as s (
      user_id, tier_id, status, cycle_start_date, cycle_end_date, stripe_customer_id, stripe_subscription_id,
      stripe_price_id, plan, quantity, cancel_at_period_end, cancel_at, canceled_at, ended_at, trial_end,
      collection_paused, payment_failed, metadata, state_as_of)
    values (
      v_row.user_id, v_row.tier_id, v_row.status, v_row.cycle_start_date, v_row.cycle_end_date,
      v_row.stripe_customer_id, v_row.stripe_subscription_id, v_row.stripe_price_id, v_row.plan, v_row.quantity,
      v_row.cancel_at_period_end, v_row.cancel_at, v_row.canceled_at, v_row.ended_at, v_row.trial_end,
      v_row.collection_paused, v_row.payment_failed, v_row.metadata, coalesce(p_as_of, v_now))
    on conflict (stripe_subscription_id) do update set
      tier_id = excluded.tier_id, status = excluded.status, cycle_start_date = excluded.cycle_start_date,
      cycle_end_date = excluded.cycle_end_date, stripe_customer_id = excluded.stripe_customer_id,
      stripe_price_id = excluded.stripe_price_id, plan = excluded.plan, quantity = excluded.quantity,
      cancel_at_period_end = excluded.cancel_at_period_end, cancel_at = excluded.cancel_at,
      canceled_at = excluded.canceled_at, ended_at = excluded.ended_at, trial_end = excluded.trial_end,
      collection_paused = excluded.collection_paused, payment_failed = excluded.payment_failed,
      metadata = excluded.metadata, version = s.version + 1,
      state_as_of = greatest(s.state_as_of, excluded.state_as_of), updated_at = v_now
    -- Nobody else's: two users that are told to own a new subscription at once lock different rows.
    where s.user_id = excluded.user_id
    returning * into v_row;
    if v_row.id is null then
      return jsonb_build_object('outcome', 'stale', 'user_id', v_user.user_id);
    end if;
    if not purser.is_known_subscription_status(p_status) then
      perform purser.record_finding('unknown_subscription_status', p_subscription_id, v_user.user_id,
        jsonb_build_object('status', p_status));
    end if;
    select count(*) into v_live from public.subscription s
    where s.user_id = v_user.user_id and s.plan is not null
      and s.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused');
    if v_live > 1 then
      perform purser.record_finding('several_subscriptions', v_user.user_id, v_user.user_id, jsonb_build_object(
        'subscriptions', (
          select jsonb_agg(s.stripe_subscription_id order by s.stripe_subscription_id) from public.subscription s
          where s.user_id = v_user.user_id and s.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused'))));
    end if;
  else
    v_row := v_before;
  end if;
  if v_outcome in ('applied', 'unchanged') then
    v_user := purser.follow_subscriptions(v_user, p_free_plan, v_now);
    if v_row.cycle_start_date is distinct from v_before.cycle_start_date then
      perform purser.count_used_credits(v_user, v_row.cycle_start_date, v_row.cycle_end_date);
    end if;
    delete from public.subscription_cache c where c.user_id = v_user.user_id;
  end if;
  return jsonb_build_object(
    'outcome', v_outcome, 'user_id', v_user.user_id, 'version', coalesce(v_row.version, 0), 'status', v_row.status,
    'plan', v_user.plan, 'suspended', v_user.credits_suspended, 'mirror', purser.mirror_record(v_user));
end
$$;

-- Credits used in a period, counted on from where it was counted last. Each look costs what was
-- written since the one before. The caller has locked the user.
create or replace function purser.count_used_credits(p_user purser.accounts, p_start timestamptz, p_end timestamptz)
returns bigint language plpgsql set search_path = '' as $$
declare
  v_used bigint;
begin
  if p_start is null then
    return 0;
  end if;
  insert into public.subscription_usage (user_id, metric, period_start, period_end, counted_to)
  values (p_user.user_id, 'credits', p_start, p_end, coalesce((
    select t.entry_number from public.credit_transactions t
    where t.user_id = p_user.user_id and t.created_at < p_start order by t.entry_number desc limit 1), 0))
  on conflict (user_id, metric, period_start) do nothing;
  update public.subscription_usage g
  set period_end = p_end, counted_to = p_user.entry_count, updated_at = clock_timestamp(),
      used = g.used - coalesce((
        select sum(t.amount) from public.credit_transactions t
        where t.user_id = p_user.user_id and t.entry_number > g.counted_to
          and t.transaction_type in ('usage', 'usage_refund')), 0)
  where g.user_id = p_user.user_id and g.metric = 'credits' and g.period_start = p_start
  returning g.used into v_used;
  return v_used;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- update_subscription_cache: reads the state of a user anew and keeps it for p_ttl_seconds (1 to
-- 3600, by default five minutes).
-- Answers {outcome: found | not_found, user_id, status (none = never subscribed), plan, tier,
--   current_period_start, current_period_end, cancel_at_period_end, cancel_at, trial_end, quantity,
--   suspended, stripe_subscription_id, stripe_customer_id, usage: {credits}, cached: false, as_of}.
-- not_found: there is no such user; nothing is kept. Locks: the user row, so that a state that is
-- being changed is not kept as it was before.
-- ---------------------------------------------------------------------------------------------
create or replace function public.update_subscription_cache(
  p_user_id text, p_ttl_seconds integer default 300, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_now timestamptz;
  v_subscription public.subscription;
  v_has_period boolean;
  v_start timestamptz;
  v_end timestamptz;
  v_state jsonb;
begin
  if p_ttl_seconds is null or p_ttl_seconds not between 1 and 3600 then
    perform purser.raise_error(400, 'invalid_request', 'p_ttl_seconds must be from 1 to 3600.');
  end if;
  v_user := purser.lock_user(p_user_id);
  v_now := coalesce(p_now, clock_timestamp());
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', purser.user_key(p_user_id), 'status', 'none',
      'cached', false, 'as_of', purser.iso(v_now));
  end if;
  select * into v_subscription from purser.subscriptions_of(v_user.user_id) limit 1;
  v_has_period := v_subscription.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
    and v_subscription.cycle_start_date is not null;
  if v_has_period then
    v_start := v_subscription.cycle_start_date;
    v_end := v_subscription.cycle_end_date;
  else
    v_start := date_trunc('month', v_now, 'UTC');
    v_end := date_trunc('month', v_now + interval '1 month', 'UTC');
  end if;
  v_state := jsonb_build_object(
    'outcome', 'found', 'user_id', v_user.user_id, 'status', coalesce(v_subscription.status, 'none'),
    'plan', v_user.plan, 'subscribed_plan', v_subscription.plan,
    'tier', case when v_subscription.status in ('active', 'trialing', 'past_due') then v_subscription.tier_id end,
    'current_period_start', purser.iso(v_subscription.cycle_start_date),
    'current_period_end', purser.iso(v_subscription.cycle_end_date),
    'cancel_at_period_end', coalesce(v_subscription.cancel_at_period_end, false),
    'cancel_at', purser.iso(v_subscription.cancel_at), 'trial_end', purser.iso(v_subscription.trial_end),
    'quantity', v_subscription.quantity, 'suspended', v_user.credits_suspended,
    'stripe_subscription_id', v_subscription.stripe_subscription_id,
    'stripe_customer_id', coalesce(v_subscription.stripe_customer_id, v_user.stripe_customer_id),
    'usage', jsonb_build_object('credits', purser.count_used_credits(v_user, v_start, v_end)),
    'as_of', purser.iso(v_now));
  insert into public.subscription_cache as c (user_id, status, state, cached_at, expires_at)
  values (v_user.user_id, v_state ->> 'status', v_state, v_now, v_now + make_interval(secs => p_ttl_seconds))
  on conflict (user_id) do update
    set status = excluded.status, state = excluded.state, cached_at = excluded.cached_at, expires_at = excluded.expires_at;
  return v_state || jsonb_build_object('cached', false);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_user_subscription_state: the state of a user, from the cache while it holds (cached: true),
-- else as update_subscription_cache answers and keeps it. A change of the subscription ends the
-- cached answer at once; `usage` may be up to five minutes old.
-- Locks: the user row where the cache holds nothing.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_user_subscription_state(p_user_id text, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_state jsonb;
begin
  select c.state into v_state from public.subscription_cache c
  where c.user_id = purser.user_key(p_user_id) and c.expires_at > v_now;
  if v_state is not null then
    return v_state || jsonb_build_object('cached', true);
  end if;
  return public.update_subscription_cache(p_user_id, 300, v_now);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- clear_expired_subscription_cache, clear_all_subscription_cache: delete cached states and note
-- how many in cache_cleanups. Answer the number of rows deleted.
-- ---------------------------------------------------------------------------------------------
create or replace function public.clear_expired_subscription_cache(p_now timestamptz default null)
returns bigint language plpgsql security definer set search_path = '' as $$
begin
  return purser.clear_subscription_cache('expired', coalesce(p_now, clock_timestamp()));
end
$$;

create or replace function public.clear_all_subscription_cache()
returns bigint language plpgsql security definer set search_path = '' as $$
begin
  return purser.clear_subscription_cache('all', clock_timestamp());
end
$$;

create or replace function purser.clear_subscription_cache(p_kind text, p_now timestamptz)
returns bigint language plpgsql set search_path = '' as $$
declare
  v_count bigint;
begin
  delete from public.subscription_cache c where p_kind = 'all' or c.expires_at <= p_now;
  get diagnostics v_count = row_count;
  delete from public.cache_cleanups c where c.cleaned_at < p_now - interval '90 days';
  insert into public.cache_cleanups (kind, deleted_count, cleaned_at) values (p_kind, v_count, p_now);
  return v_count;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_subscription_cache_status: {total, valid, expired, avg_ttl_seconds, oldest_cached_at,
-- newest_cached_at, by_status: {status: rows still valid}, last_cleanup: null | {kind,
-- deleted_count, cleaned_at}}. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_subscription_cache_status(p_now timestamptz default null)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
begin
  return (
    select jsonb_build_object(
      'total', count(*),
      'valid', count(*) filter (where c.expires_at > v_now),
      'expired', count(*) filter (where c.expires_at <= v_now),
      'avg_ttl_seconds', round(avg(extract(epoch from c.expires_at - c.cached_at))),
      'oldest_cached_at', purser.iso(min(c.cached_at)), 'newest_cached_at', purser.iso(max(c.cached_at)))
    from public.subscription_cache c)
    || jsonb_build_object(
      'by_status', coalesce((
        select jsonb_object_agg(s.status, s.rows) from (
          select c.status, count(*) as rows from public.subscription_cache c where c.expires_at > v_now group by 1) s), '{}'),
      'last_cleanup', (
        select jsonb_build_object('kind', h.kind, 'deleted_count', h.deleted_count, 'cleaned_at', purser.iso(h.cleaned_at))
        from public.cache_cleanups h order by h.id desc limit 1));
end
$$;

-- The p_limit (1 to 1000) newest clean-ups, newest first.
create or replace function public.get_cache_cleanup_history(p_limit integer default 10)
returns table (id bigint, kind text, deleted_count bigint, cleaned_at timestamptz)
language plpgsql stable security definer set search_path = '' as $$
begin
  return query
    select c.id, c.kind, c.deleted_count, c.cleaned_at from public.cache_cleanups c
    order by c.id desc limit least(greatest(coalesce(p_limit, 10), 1), 1000);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- use_credits_validated: spends credits if the user's subscription allows it.
--   p_idempotency_key  names the intent, permanent; left out, every call is a spend of its own
-- Answers what consume_credits answers, with success (applied or replayed) and subscription (the
-- state it was judged by, without usage). outcome `suspended`: it would take credits of a plan
-- whose payment failed; bought credits are never blocked. Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.use_credits_validated(
  p_user_id text, p_amount bigint, p_description text default null, p_metadata jsonb default '{}',
  p_idempotency_key text default null, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_answer jsonb := public.consume_credits(
    p_user_id, p_amount, coalesce(p_idempotency_key, 'validated:' || gen_random_uuid()), p_description, p_metadata, p_now);
begin
  return v_answer || jsonb_build_object(
    'success', v_answer ->> 'outcome' in ('applied', 'replayed'),
    'subscription', public.get_user_subscription_state(p_user_id, p_now) - 'usage');
end
$$;

-- ---------------------------------------------------------------------------------------------
-- add_subscription_credits: writes the credits of a paid invoice by hand: an `allocation` under
-- invoice:<id>, which the invoice's own event then finds and repeats nothing of. Which payment it was
-- only Stripe knows: that event, a refund or dispute of the payment, or reconciliation ties it.
-- Answers what grant_credits answers; not_found: neither the subscription nor the customer is
-- known (link_stripe_customer does that). Idempotent by the invoice. Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.add_subscription_credits(
  p_customer_id text, p_invoice_id text, p_subscription_id text, p_credits bigint, p_description text default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user_id text;
  v_plan text;
begin
  if coalesce(p_invoice_id, '') = '' then
    perform purser.raise_error(400, 'invalid_request', 'p_invoice_id must name the invoice: it is what keeps its credits from being added twice.');
  end if;
  select s.user_id, s.plan into v_user_id, v_plan from public.subscription s
  where s.stripe_subscription_id = p_subscription_id;
  v_user_id := coalesce(v_user_id, (
    select c.user_id from public.stripe_customers c where c.customer_id = p_customer_id));
  if v_user_id is null then
    return jsonb_build_object('outcome', 'not_found', 'customer_id', p_customer_id);
  end if;
  return public.grant_credits(
    v_user_id, 'allocation', 'invoice:' || p_invoice_id,
    jsonb_build_array(jsonb_build_object('credits', p_credits, 'paid', true, 'from_plan', true, 'catalogue_id', v_plan)),
    p_sources => jsonb_build_array('invoice:' || p_invoice_id),
    p_description => coalesce(p_description, 'Subscription credits'),
    p_metadata => jsonb_build_object('invoice_id', p_invoice_id, 'subscription_id', p_subscription_id, 'customer_id', p_customer_id),
    p_stripe_invoice_id => p_invoice_id);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_or_create_stripe_customer: the Stripe customer of a user, whose row is made when there is
-- none. SQL cannot call Stripe: where there is no customer yet, needs_creation is true, and whoever
-- makes one at Stripe hands it to link_stripe_customer.
-- Answers {outcome: exists | needs_creation | not_found, user_id, email, stripe_customer_id,
-- needs_creation}. Idempotent. Locks: the user row when it is changed.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_or_create_stripe_customer(p_user_id text, p_email text default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user jsonb := public.ensure_user(p_user_id, p_email);
  v_customer_id text := coalesce(nullif(v_user ->> 'stripe_customer_id', ''), (
    select c.customer_id from public.stripe_customers c
    where c.user_id = v_user ->> 'user_id' and c.deleted_at is null order by c.created_at limit 1));
begin
  if v_user ->> 'outcome' = 'not_found' then
    return v_user || jsonb_build_object('needs_creation', false);
  end if;
  return jsonb_build_object(
    'outcome', case when v_customer_id is null then 'needs_creation' else 'exists' end,
    'user_id', v_user ->> 'user_id', 'email', v_user ->> 'email', 'stripe_customer_id', v_customer_id,
    'needs_creation', v_customer_id is null);
end
$$;

-- Effect `customer`: links, and fills an empty e-mail column; what the app wrote there stays.
create or replace function purser.note_customer(p_user_id text, p_customer_id text, p_email text)
returns jsonb language plpgsql set search_path = '' set lock_timeout = '5s' as $$
declare
  v_answer jsonb;
begin
  if exists (select from public.stripe_customers c where c.customer_id = p_customer_id and c.deleted_at is not null) then
    return jsonb_build_object('outcome', 'exists', 'customer_id', p_customer_id);
  end if;
  v_answer := public.link_stripe_customer(p_user_id, p_customer_id);
  if v_answer ->> 'outcome' in ('linked', 'exists') and p_email is not null and exists (
    select from purser.accounts a where a.id = purser.to_user_id(p_user_id) and coalesce(a.email, '') = '')
  then
    begin
      update public.users u set email = p_email where u.id = purser.to_user_id(p_user_id);
    exception
      -- Another row has it already: the app's own rule, and no reason to keep the event back.
      when integrity_constraint_violation or string_data_right_truncation then null;
    end;
  end if;
  return v_answer;
end
$$;

-- Effect `customer_deleted`: nothing more is sold to it. The row stays, so that what it paid for
-- before, and is told about later, still finds its user.
create or replace function purser.forget_customer(p_customer_id text)
returns jsonb language plpgsql set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user_id text;
begin
  update public.stripe_customers c set deleted_at = coalesce(c.deleted_at, clock_timestamp())
  where c.customer_id = p_customer_id returning c.user_id into v_user_id;
  if v_user_id is null then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  update public.users u set stripe_customer_id = null
  where u.id = purser.to_user_id(v_user_id) and u.stripe_customer_id = p_customer_id;
  return jsonb_build_object('outcome', case when found then 'applied' else 'unchanged' end, 'user_id', v_user_id);
end
$$;

call purser.restrict_functions();
reset role;

alter table public.subscription enable row level security;
alter table public.subscription_cache enable row level security;
alter table public.cache_cleanups enable row level security;
alter table public.subscription_usage enable row level security;
drop policy if exists subscription_select_own on public.subscription;
create policy subscription_select_own on public.subscription for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));
drop policy if exists subscription_cache_select_own on public.subscription_cache;
create policy subscription_cache_select_own on public.subscription_cache for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));
drop policy if exists subscription_usage_select_own on public.subscription_usage;
create policy subscription_usage_select_own on public.subscription_usage for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));
drop policy if exists cache_cleanups_select_admin on public.cache_cleanups;
create policy cache_cleanups_select_admin on public.cache_cleanups for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');

set role purser_ledger;
revoke all on public.subscription, public.subscription_cache, public.cache_cleanups,
  public.subscription_usage from public, anon, authenticated, service_role;
grant select on public.subscription, public.subscription_cache, public.cache_cleanups,
  public.subscription_usage to authenticated, service_role;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
