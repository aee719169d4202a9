-- Purser: answers of Stripe's API, kept for an hour so that a pricing page asks Stripe almost never.
--
-- Paste after stripe_webhook_events_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- Nothing here is money: losing every row costs a call to Stripe, never a credit. So the table has
-- no guards, and service_role may delete from it.
--
-- Keys: stripe:products, stripe:product:<id>, stripe:prices, stripe:price:<id>,
--       stripe:customer:<id>, stripe:subscription:<id>
--
-- An answer may be under way from Stripe while the object changes and another process drops what is
-- kept. Stored afterwards, the old answer would be shown for an hour. So each key that the server
-- looks up has a version: a look-up tells it, an invalidation changes it, and an answer that was
-- asked for under another version is not stored. No clock takes part in that:
--   a look-up is committed before Stripe is asked. An invalidation that did not see its version
--   began before, so its event was there before Stripe was asked, and the answer is a new one;
--   an invalidation changes the version first and drops second, and who stores holds the version
--   until he commits: the invalidation waits for him, then drops what he has stored;
--   a version that somebody is changing and has not committed counts as changed.
-- Where that guesses wrong, it costs one more question to Stripe.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['cache_store', 'cache_versions'], array[
  'cache_stripe_data', 'get_cached_stripe_data', 'invalidate_stripe_cache',
  'invalidate_stripe_cache_from_webhook', 'read_stripe_cache', 'count_cache_hits']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.cache_store (
  key text primary key check (octet_length(key) between 1 and 500),
  value jsonb not null,
  category text not null default 'stripe',
  expires_at timestamptz not null,
  access_count bigint not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 80);
create index if not exists cache_store_expires_at on public.cache_store (expires_at);
comment on table public.cache_store is 'Copies of Stripe objects with an end of validity; category stripe.';
comment on column public.cache_store.access_count is 'Hits, counted in the processes and added from time to time.';

-- Only a look-up makes a row: events about objects that nobody looks up leave nothing.
create table if not exists public.cache_versions (
  key text primary key check (octet_length(key) between 1 and 500),
  version uuid not null default gen_random_uuid(),
  created_at timestamptz not null default clock_timestamp()
) with (fillfactor = 80);
create index if not exists cache_versions_created_at on public.cache_versions (created_at);
comment on table public.cache_versions is 'Keys of cache_store that are looked up; version: another one after each invalidation.';

-- Raises invalid_request for what cannot be a key.
create or replace function purser.check_cache_key(p_cache_key text)
returns void language plpgsql set search_path = '' as $$
begin
  if p_cache_key is null or octet_length(p_cache_key) not between 1 and 500 then
    perform purser.raise_error(400, 'invalid_request', 'A cache entry has a key of 1 to 500 bytes.');
  end if;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- cache_stripe_data: stores an answer under a key; an answer that was there is replaced.
--   p_ttl_seconds  1 to 2,592,000 (30 days), by default an hour
--   p_version      what read_stripe_cache answered before Stripe was asked: the answer is stored only
--                  if the key was not invalidated since. Left out, it is stored in any case.
-- Answers {outcome: applied | outdated, cache_key, expires_at}; outdated: nothing was stored,
-- expires_at is null. Idempotent. Locks: the version, if one is given (passing by one that is
-- locked: somebody is changing it), then the cache row.
-- ---------------------------------------------------------------------------------------------
drop function if exists public.cache_stripe_data(text, jsonb, integer, timestamptz);
create or replace function public.cache_stripe_data(
  p_cache_key text, p_data jsonb, p_ttl_seconds integer default 3600, p_now timestamptz default null,
  p_version uuid default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_expires_at timestamptz;
begin
  perform purser.check_cache_key(p_cache_key);
  if p_data is null then
    perform purser.raise_error(400, 'invalid_request', 'A cache entry has data.');
  end if;
  if p_ttl_seconds is null or p_ttl_seconds not between 1 and 2592000 then
    perform purser.raise_error(400, 'invalid_request', 'p_ttl_seconds must be from 1 to 2592000.');
  end if;
  if p_version is not null then
    perform from public.cache_versions v where v.key = p_cache_key and v.version = p_version for share skip locked;
    if not found then
      return jsonb_build_object('outcome', 'outdated', 'cache_key', p_cache_key, 'expires_at', null);
    end if;
  end if;
  insert into public.cache_store as c (key, value, category, expires_at, created_at, updated_at)
  values (p_cache_key, p_data, 'stripe', v_now + make_interval(secs => p_ttl_seconds), v_now, v_now)
  on conflict (key) do update
    set value = excluded.value, category = 'stripe', expires_at = excluded.expires_at, updated_at = excluded.updated_at
  returning c.expires_at into v_expires_at;
  return jsonb_build_object('outcome', 'applied', 'cache_key', p_cache_key, 'expires_at', purser.iso(v_expires_at));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_cached_stripe_data: the stored answer, or null where there is none that is still valid.
-- Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_cached_stripe_data(p_cache_key text, p_now timestamptz default null)
returns jsonb language sql stable security definer set search_path = '' as $$
  select c.value from public.cache_store c
  where c.key = p_cache_key and c.category = 'stripe' and c.expires_at > coalesce(p_now, clock_timestamp())
$$;

-- ---------------------------------------------------------------------------------------------
-- read_stripe_cache: the same with its age, for the server, which renews an entry before it ends
-- and shows one that has ended while Stripe is away; and with the version of the key, which whoever
-- asks Stripe then gives to cache_stripe_data. It counts from the commit on: do not ask Stripe in
-- the transaction of the look-up.
-- Answers {outcome: hit | ended | miss, value, expires_in_seconds, version}. Writes once a key: its
-- version. Locks: none that lasts.
-- ---------------------------------------------------------------------------------------------
create or replace function public.read_stripe_cache(p_cache_key text, p_now timestamptz default null)
returns jsonb language plpgsql volatile security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_version uuid;
  v_answer jsonb;
begin
  select v.version into v_version from public.cache_versions v where v.key = p_cache_key;
  if not found then
    perform purser.check_cache_key(p_cache_key);
    insert into public.cache_versions as v (key, created_at) values (p_cache_key, v_now)
    on conflict (key) do nothing returning v.version into v_version;
    if not found then
      select v.version into v_version from public.cache_versions v where v.key = p_cache_key;
    end if;
  end if;
  select jsonb_build_object(
    'outcome', case when c.expires_at > v_now then 'hit' else 'ended' end,
    'value', c.value,
    'expires_in_seconds', floor(extract(epoch from c.expires_at - v_now))::bigint)
  into v_answer from public.cache_store c where c.key = p_cache_key and c.category = 'stripe';
  return coalesce(v_answer, jsonb_build_object('outcome', 'miss', 'value', null, 'expires_in_seconds', null))
    || jsonb_build_object('version', v_version);
end
$$;

-- Answers that are under way from Stripe for these keys are not stored any more. In the order of the
-- keys, so that two that share some wait for each other and not in a circle.
create or replace function purser.change_cache_versions(p_keys text[])
returns void language plpgsql set search_path = '' as $$
begin
  perform from public.cache_versions v where v.key = any (p_keys) order by v.key for no key update;
  if found then
    update public.cache_versions v set version = default where v.key = any (p_keys);
  end if;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- invalidate_stripe_cache: drops the entries whose key is LIKE the pattern (% and _ are wild, a
-- backslash takes that from them). Only category stripe. Answers how many. Idempotent.
-- An answer asked for before is not stored after it. A plain delete from the table does not see to that.
-- Locks: versions, then cache rows, as everybody who takes both.
-- ---------------------------------------------------------------------------------------------
create or replace function public.invalidate_stripe_cache(p_pattern text)
returns integer language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_dropped integer;
begin
  perform purser.change_cache_versions(array(
    select v.key from public.cache_versions v where v.key like p_pattern));
  delete from public.cache_store c where c.category = 'stripe' and c.key like p_pattern;
  get diagnostics v_dropped = row_count;
  return v_dropped;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- invalidate_stripe_cache_from_webhook: drops what an event has made old. The id is compared by
-- equality: an id with a % in it drops nothing else.
--   product.*                stripe:products, stripe:product:<id>, and the prices, which show them
--   price.*                  stripe:prices, stripe:price:<id>
--   customer.subscription.*  stripe:subscription:<id>
--   customer.*               stripe:customer:<id>
-- Answers how many. Idempotent; other types drop nothing. An answer asked for before is not stored
-- after it. Locks as above. In plpgsql, whose plans are kept: part of each event about a customer.
-- ---------------------------------------------------------------------------------------------
create or replace function public.invalidate_stripe_cache_from_webhook(p_event_type text, p_object_id text)
returns integer language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_keys text[] := case
    when p_event_type like 'product.%' then array['stripe:products', 'stripe:prices', 'stripe:product:' || p_object_id]
    when p_event_type like 'price.%' then array['stripe:prices', 'stripe:price:' || p_object_id]
    when p_event_type like 'customer.subscription.%' then array['stripe:subscription:' || p_object_id]
    when p_event_type like 'customer.%' then array['stripe:customer:' || p_object_id]
    end;
  v_dropped integer;
begin
  if v_keys is null then
    return 0;
  end if;
  perform purser.change_cache_versions(v_keys);
  -- A statement of its own: it sees what was stored by whoever had the version until just now.
  delete from public.cache_store c where c.category = 'stripe' and c.key = any (v_keys);
  get diagnostics v_dropped = row_count;
  return v_dropped;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- count_cache_hits: adds hits that a process has counted, [{key, hits}]; keys that are gone are
-- passed over. Drops entries that ended more than a day ago, and versions a day old without an entry
-- (an answer on its way under one of those is asked for again). Answers {counted, dropped}: entries.
-- Not idempotent: a repeat counts again, which harms a statistic only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.count_cache_hits(p_hits jsonb, p_now timestamptz default null)
returns jsonb language sql security definer set search_path = '' set lock_timeout = '5s' as $$
  with counted as (
    update public.cache_store c set access_count = c.access_count + h.hits
    from (select r.key, sum(r.hits)::bigint as hits
          from jsonb_to_recordset(p_hits) as r(key text, hits bigint) where r.hits > 0 group by r.key) h
    where c.key = h.key returning 1),
  dropped as (
    delete from public.cache_store c
    where c.expires_at < coalesce(p_now, clock_timestamp()) - interval '1 day'
      and not exists (select from jsonb_to_recordset(p_hits) as r(key text) where r.key = c.key)
    returning 1),
  forgotten as (
    delete from public.cache_versions v where v.key in (
      select o.key from public.cache_versions o
      where o.created_at < coalesce(p_now, clock_timestamp()) - interval '1 day'
        and not exists (select from public.cache_store c where c.key = o.key)
      for update skip locked))
  select jsonb_build_object('counted', (select count(*) from counted), 'dropped', (select count(*) from dropped))
$$;

reset role;
alter table public.cache_store enable row level security;
drop policy if exists cache_store_deny on public.cache_store;
create policy cache_store_deny on public.cache_store for all to anon, authenticated using (false);
alter table public.cache_versions enable row level security;
drop policy if exists cache_versions_deny on public.cache_versions;
create policy cache_versions_deny on public.cache_versions for all to anon, authenticated using (false);
set role purser_ledger;
revoke all on public.cache_store from public, anon, authenticated, service_role;
grant select, delete on public.cache_store to service_role;
revoke all on public.cache_versions from public, anon, authenticated, service_role;
grant select on public.cache_versions to service_role;
call purser.restrict_functions();

reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
