-- Purser: proof and repair. Every way in which the books could disagree with each other is looked
-- for and named; what follows from the entries can be set right.
--
-- Paste after credit_explain_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- Two depths. The scan of sums reads the ledger once and is as fast as adding it up. The check by
-- entry replays each user's entries: every lot, every seal, every reversal. It takes some 50 us an
-- entry, so it goes user by user, in pages.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array[
  'validate_credits_consistency', 'sync_user_credits', 'validate_user_credits',
  'validate_credits_consistency_since', 'check_changed_credits', 'check_all_credits']);
grant create on schema public to purser_ledger;
set role purser_ledger;

drop function if exists public.validate_credits_consistency();

-- How far the checks of changed users and of all users have come; one row each.
create table if not exists purser.consistency_passes (
  name text primary key check (name in ('changed', 'full')),
  -- changed: everything written before is checked. full: when the last pass ended.
  done_until timestamptz,
  -- The pass under way: from when it reads, up to when, and the last user checked.
  started_at timestamptz,
  reads_from timestamptz,
  last_change timestamptz,
  last_user text,
  phase text
);

-- ---------------------------------------------------------------------------------------------
-- Private helpers
-- ---------------------------------------------------------------------------------------------

-- The counters of all users, those of closed accounts from their tombstones.
create or replace view purser.all_counters as
  select u.id::text as user_id, u.credits_balance as balance, u.credits_held as held,
         u.credits_debt as debt, u.entry_count
  from public.users u
  union all
  select c.user_id, c.credits_balance, c.credits_held, c.credits_debt, c.entry_count
  from public.closed_accounts c;

-- Users whose sums do not fit, found in one reading of each table. Everything but the running
-- balance is compared exactly. That is judged by a fingerprint: an entry is a step from (number -
-- 1, balance - amount) to (number, balance); the hashes of all ends of all steps, xored, leave the
-- two ends of the chain if and only if the steps form one unbroken chain from zero to the user's
-- counters. Numbers are unique, so nothing else can cancel out but by coincidence: 1 in 2^64 for a
-- broken chain. No sorting, so it costs what adding up costs. More memory than the default 4 MB,
-- or the groups of 100,000 users would go through the disk.
create or replace function purser.suspect_users()
returns setof text language plpgsql stable set search_path = '' set work_mem = '64MB' as $$
begin
  return query
  with chains as (
    select t.user_id, bit_xor(
      hashint8extended(t.entry_number, t.balance_after)
      # hashint8extended(t.entry_number - 1, t.balance_after - t.amount)) as ends
    from public.credit_transactions t group by t.user_id),
  lots as (
    select g.user_id, sum(g.remaining)::bigint as remaining
    from public.credit_grants g where g.exhausted_at is null group by g.user_id),
  holds as (
    select h.user_id, sum(h.amount - h.captured)::bigint as held
    from public.credit_holds h where h.status = 'open' group by h.user_id),
  seals as (
    select s.user_id, min(s.first_entry) as first_entry, max(s.last_entry) as last_entry,
           sum(s.last_entry - s.first_entry + 1)::bigint as sealed
    from public.credit_seals s group by s.user_id)
  select coalesce(a.user_id, c.user_id, l.user_id, h.user_id, s.user_id)
  from purser.all_counters a
  full join chains c on c.user_id = a.user_id
  full join lots l on l.user_id = coalesce(a.user_id, c.user_id)
  full join holds h on h.user_id = coalesce(a.user_id, c.user_id, l.user_id)
  full join seals s on s.user_id = coalesce(a.user_id, c.user_id, l.user_id, h.user_id)
  where a.user_id is null
     or coalesce(c.ends, 0) <> hashint8extended(a.entry_count, a.balance) # hashint8extended(0, 0)
     or coalesce(l.remaining, 0) - a.debt <> a.balance
     or (a.debt > 0 and l.remaining > 0)
     or coalesce(h.held, 0) <> a.held
     or s.first_entry > 1 or s.sealed <> s.last_entry or s.last_entry > a.entry_count;
  return query
  select r.user_id
  from (select t.user_id, t.reverses, sum(t.amount) as amount from public.credit_transactions t
        where t.reverses is not null group by t.user_id, t.reverses) r
  left join public.credit_transactions o on o.user_id = r.user_id and o.entry_number = r.reverses
  where o.user_id is null or r.amount * o.amount > 0 or abs(r.amount) > abs(o.amount);
  -- By itself: a query that calls a function of ours is not run in parallel, and the first one must be.
  return query
  select d.user_id from purser.settlement_drift() d;
end
$$;

-- Every drift of the given users, exactly, each by its name.
--   p_entries_max  of users with more entries only the newest so many are read, linked to the
--                  balance before them; lots and seals are left to the full check. Null = all.
create or replace function purser.credit_drift(p_user_ids text[], p_entries_max bigint default null)
returns table (user_id text, issue text, expected bigint, actual bigint, detail jsonb)
language plpgsql stable set search_path = '' as $$
#variable_conflict use_column
declare
  v_whole text[];
begin
  -- Those whose entries are all read. Users without counters are: nothing says how many there are.
  v_whole := array(
    select k.user_id from unnest(p_user_ids) k(user_id)
    left join lateral purser.find_account(k.user_id) a on true
    where p_entries_max is null or coalesce(a.entry_count, 0) <= p_entries_max);

  return query
  with found as (
    select k.user_id, a.user_id is null as missing, a.balance, a.debt, a.held, a.entry_count,
      e.total, e.entries, e.last_number, e.number_before, l.remaining, h.open_held, h.holds
    from unnest(p_user_ids) k(user_id)
    left join lateral purser.find_account(k.user_id) a on a.user_id = k.user_id
    cross join lateral (
      select count(*) as entries, coalesce(max(t.entry_number), 0) as last_number,
        case when k.user_id = any (v_whole) then 0 else coalesce(min(t.entry_number) - 1, 0) end as number_before,
        (coalesce(sum(t.amount), 0) + case when k.user_id = any (v_whole) then 0 else coalesce((
          select o.balance_after - o.amount from public.credit_transactions o
          where o.user_id = k.user_id and o.entry_number > a.entry_count - p_entries_max
          order by o.entry_number limit 1), 0) end)::bigint as total
      from public.credit_transactions t
      where t.user_id = k.user_id
        and t.entry_number > case when k.user_id = any (v_whole) then 0 else a.entry_count - p_entries_max end) e
    cross join lateral (
      select coalesce(sum(g.remaining), 0)::bigint as remaining from public.credit_grants g
      where g.user_id = k.user_id and g.exhausted_at is null) l
    cross join lateral (
      select coalesce(sum(o.amount - o.captured), 0)::bigint as open_held, count(*) as holds
      from public.credit_holds o where o.user_id = k.user_id and o.status = 'open') h)
  select f.user_id, i.issue, i.expected, i.actual, i.detail
  from found f
  cross join lateral (values
    ('account_missing', f.missing and f.entries + f.remaining > 0, f.total, null::bigint,
      jsonb_build_object('entries', f.entries, 'remaining', f.remaining)),
    ('hold_without_user', f.missing and f.holds > 0, 0, f.open_held, jsonb_build_object('holds', f.holds)),
    ('balance', f.balance <> f.total, f.total, f.balance, '{}'),
    ('lots', f.remaining - f.debt <> f.balance, f.balance, f.remaining - f.debt,
      jsonb_build_object('remaining', f.remaining, 'debt', f.debt)),
    ('debt', f.debt > 0 and f.remaining > 0, 0, f.debt, jsonb_build_object('remaining', f.remaining)),
    ('held', f.held <> f.open_held, f.open_held, f.held, '{}'),
    ('numbering', f.entries <> f.last_number - f.number_before or f.last_number <> f.entry_count,
      f.entries + f.number_before, greatest(f.last_number, f.entry_count),
      jsonb_build_object('entries', f.entries + f.number_before, 'last_number', f.last_number, 'entry_count', f.entry_count))
  ) i(issue, wrong, expected, actual, detail)
  where i.wrong;

  -- Each balance follows from the one before. After a gap in the numbers nothing can be said.
  return query
  select s.user_id, 'running_balance', s.before + s.amount, s.balance_after, jsonb_build_object('entry_number', s.entry_number)
  from (
    select t.user_id, t.entry_number, t.amount, t.balance_after,
      coalesce(lag(t.balance_after) over w, case when t.entry_number = 1 then 0 end) as before,
      t.entry_number - lag(t.entry_number) over w as step
    from unnest(p_user_ids) k(user_id)
    left join lateral purser.find_account(k.user_id) a on true
    join public.credit_transactions t on t.user_id = k.user_id
      and t.entry_number > case when k.user_id = any (v_whole) then 0 else a.entry_count - p_entries_max end
    window w as (partition by t.user_id order by t.entry_number)) s
  where s.before + s.amount <> s.balance_after and coalesce(s.step, 1) = 1;

  -- What an entry says of lots adds up to its amount, but for what repaid debt or became debt.
  return query
  select t.user_id, 'entry_lots', m.wanted, m.named,
    jsonb_build_object('entry_number', t.entry_number, 'lots', t.lots)
  from public.credit_transactions t
  cross join lateral (
    select coalesce(sum((l.value -> 'amount')::bigint), 0)::bigint as named,
      abs(t.amount) - abs(greatest(-t.balance_after, 0) - greatest(t.amount - t.balance_after, 0)) as wanted
    from jsonb_array_elements(case jsonb_typeof(t.lots) when 'array' then t.lots else '[]' end) l
    where jsonb_typeof(l.value -> 'amount') = 'number') m
  where t.user_id = any (v_whole) and m.named <> m.wanted
    -- A grant names its lots in full, also where debt was repaid from them.
    and (t.amount < 0 or m.named <> t.amount);

  -- What is left of each lot is what the entries leave of it.
  return query
  select l.user_id, 'lot', l.expected, l.actual, jsonb_build_object('grant_id', l.grant_id::text)
  from purser.lots_by_entries(v_whole) l where l.expected is distinct from l.actual;

  -- What takes an entry back names one that is there, of the other sign, and takes no more than it.
  return query
  select r.user_id, 'reverses', abs(o.amount), abs(r.amount),
    jsonb_build_object('entry_number', r.reverses, 'type', o.transaction_type, 'reversed_by', r.numbers)
  from (select t.user_id, t.reverses, sum(t.amount)::bigint as amount, jsonb_agg(t.entry_number order by t.entry_number) as numbers
        from public.credit_transactions t
        where t.user_id = any (p_user_ids) and t.reverses is not null group by t.user_id, t.reverses) r
  left join public.credit_transactions o on o.user_id = r.user_id and o.entry_number = r.reverses
  where o.user_id is null or r.amount::numeric * o.amount > 0 or abs(r.amount) > abs(o.amount);

  -- What was taken back of a grant is what its payments say. A closed account's waits for its return.
  return query
  select p.user_id, 'clawback', s.target, s.clawed, jsonb_build_object('entry_number', p.entry_number)
  from (select distinct a.user_id, a.entry_number from public.payments a
        where a.user_id = any (p_user_ids) and a.entry_number is not null) p
  cross join lateral purser.settlement(p.user_id, p.entry_number) s
  where s.target <> s.clawed
    and exists (select from public.users u where u.id = purser.to_user_id(p.user_id));

  return query
  select v.user_id, 'seal', null::bigint, v.entry_number, v.detail || jsonb_build_object('seal', v.issue)
  from unnest(v_whole) k(user_id) cross join lateral public.verify_credit_chain(k.user_id) v;
end
$$;

-- Each lot of the given users: `expected` is what the entries leave of it, null where no entry
-- speaks of it; `actual` what the lot says, null where the lot is not there.
create or replace function purser.lots_by_entries(p_user_ids text[])
returns table (user_id text, grant_id bigint, expected bigint, actual bigint)
language plpgsql stable set search_path = '' as $$
begin
  return query
  with moved as (
    select m.user_id, m.grant_id, sum(m.effect)::bigint as remaining
    from purser.lot_moves(p_user_ids) m group by m.user_id, m.grant_id),
  lots as (
    select g.user_id, g.id, g.remaining from public.credit_grants g where g.user_id = any (p_user_ids))
  select coalesce(m.user_id, l.user_id), coalesce(m.grant_id, l.id), m.remaining, l.remaining
  from moved m full join lots l on l.id = m.grant_id and l.user_id = m.user_id;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- validate_credits_consistency: every drift there is, by name; no rows = consistent.
--   p_depth  'sums'     one fast reading of the whole ledger: counters, running balances, lots in
--                       sum, debt, holds, numbering, reversals, claw-backs, gaps in the seals
--            'entries'  each user's entries replayed as well: every lot, every seal
--            default    'entries' up to 100,000 entries in all, above 'sums', with a notice: a
--                       check that runs into a statement time-out names nothing
-- issue: balance, lots, lot, debt, held, numbering, running_balance, entry_lots, reverses,
--   clawback, seal, account_missing, hold_without_user. expected and actual are credits
--   (numbering: entries; seal: actual is the entry); detail says where.
-- What the scan of sums suspects is checked by entry before it is named. Closed accounts are read
-- from their tombstones. Reads one snapshot, locks nothing.
-- ---------------------------------------------------------------------------------------------
create or replace function public.validate_credits_consistency(p_depth text default null)
returns table (user_id text, issue text, expected bigint, actual bigint, detail jsonb)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  c_entries_max constant bigint := 100000;
  c_page constant integer := 500;
  v_depth text := p_depth;
  v_entries bigint;
  v_users text[];
begin
  if p_depth is not null and p_depth not in ('sums', 'entries') then
    perform purser.raise_error(400, 'invalid_request', format('p_depth is sums or entries, not %s.', p_depth));
  end if;
  if v_depth is null then
    select coalesce(sum(c.entry_count), 0) into v_entries from purser.all_counters c;
    v_depth := case when v_entries <= c_entries_max then 'entries' else 'sums' end;
    if v_depth = 'sums' then
      raise notice 'checked by sums only, as there are % entries; validate_credits_consistency(''entries'') replays them', v_entries;
    end if;
  end if;
  v_users := array(select distinct s from purser.suspect_users() s);
  if v_depth = 'entries' then
    v_users := array(select c.user_id from purser.all_counters c union select unnest(v_users));
  end if;
  select coalesce(array_agg(u order by u), '{}') into v_users from unnest(v_users) u;
  for v_first in 1 .. cardinality(v_users) by c_page loop
    return query
    select d.* from purser.credit_drift(v_users[v_first : v_first + c_page - 1]) d
    order by d.user_id, d.issue, d.detail::text;
  end loop;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- validate_user_credits: the same for the given users alone, by entry.
-- ---------------------------------------------------------------------------------------------
create or replace function public.validate_user_credits(p_user_ids text[])
returns table (user_id text, issue text, expected bigint, actual bigint, detail jsonb)
language plpgsql stable security definer set search_path = '' as $$
begin
  return query
  select d.* from purser.credit_drift(array(
    select distinct purser.user_key(u) from unnest(p_user_ids) u)) d
  order by d.user_id, d.issue, d.detail::text;
end
$$;

-- Users touched from p_since on, with the first change of each: entries, holds, and what the audit
-- trail says of accounts.
create or replace function purser.changed_users(p_since timestamptz, p_until timestamptz)
returns table (user_id text, first_change timestamptz)
language plpgsql stable set search_path = '' as $$
begin
  return query
  select c.user_id, min(c.changed_at) from (
    select t.user_id, t.created_at as changed_at from public.credit_transactions t
    where t.created_at >= p_since and t.created_at < p_until
    union all
    select h.user_id, h.updated_at from public.credit_holds h
    where h.updated_at >= p_since and h.updated_at < p_until
    union all
    select a.user_id, a.created_at from public.audit_events a
    where a.created_at >= p_since and a.created_at < p_until and a.user_id is not null) c
  group by c.user_id;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- validate_credits_consistency_since: the same for the users touched since then, by entry: of
-- users with more than 20,000 entries the newest 20,000.
-- ---------------------------------------------------------------------------------------------
create or replace function public.validate_credits_consistency_since(p_since timestamptz)
returns table (user_id text, issue text, expected bigint, actual bigint, detail jsonb)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  c_page constant integer := 500;
  v_users text[] := array(select c.user_id from purser.changed_users(p_since, 'infinity') c order by 1);
begin
  for v_first in 1 .. cardinality(v_users) by c_page loop
    return query
    select d.* from purser.credit_drift(v_users[v_first : v_first + c_page - 1], 20000) d
    order by d.user_id, d.issue, d.detail::text;
  end loop;
end
$$;

-- Writes what is wrong with the given users into reconciliation_findings, as credit_drift_<issue>,
-- and resolves what was found before and is gone. Answers {drifts, resolved}.
create or replace function purser.record_drift(p_user_ids text[], p_entries_max bigint)
returns jsonb language plpgsql set search_path = '' as $$
declare
  v_drift record;
  v_seen text[] := '{}';
  v_drifts bigint := 0;
  v_resolved bigint;
begin
  for v_drift in
    select d.*, 'credit_drift_' || d.issue as code, d.user_id || coalesce(
      '/lot ' || (d.detail ->> 'grant_id'), '/entry ' || (d.detail ->> 'entry_number'), '') as subject
    from purser.credit_drift(p_user_ids, p_entries_max) d
  loop
    perform purser.record_finding(v_drift.code, v_drift.subject, v_drift.user_id,
      v_drift.detail || jsonb_build_object('expected', v_drift.expected, 'actual', v_drift.actual));
    v_seen := v_seen || (v_drift.code || ' ' || v_drift.subject);
    v_drifts := v_drifts + 1;
  end loop;
  update public.reconciliation_findings f
  set resolved_at = clock_timestamp()
  where f.resolved_at is null and f.code like 'credit\_drift\_%' and f.user_id = any (p_user_ids)
    and f.code || ' ' || f.subject <> all (v_seen)
    -- What a shortened check cannot see is not gone.
    and (p_entries_max is null or f.code not in ('credit_drift_lot', 'credit_drift_entry_lots', 'credit_drift_seal', 'credit_drift_running_balance')
      or coalesce((select a.entry_count from purser.find_account(f.user_id) a), 0) <= p_entries_max);
  get diagnostics v_resolved = row_count;
  return jsonb_build_object('drifts', v_drifts, 'resolved', v_resolved);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- check_changed_credits: the next page of the check of users touched since the last pass, for the
-- job consistency-check; findings are written and resolved. The first pass begins with what is
-- written from now on less the overlap: the rest is the full check's.
--   p_limit  1 to 1000 users
-- Answers {users, drifts, resolved, more}. A pass reads 60 s before the end of the last one again:
-- an entry is dated when it is written and seen when it is committed.
-- Locks: its own row; spenders never wait.
-- ---------------------------------------------------------------------------------------------
create or replace function public.check_changed_credits(p_limit integer default 200)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  c_overlap constant interval := '60 seconds';
  c_entries_max constant bigint := 20000;
  v_limit integer := least(greatest(coalesce(p_limit, 200), 1), 1000);
  v_pass purser.consistency_passes;
  v_users text[];
  v_changes timestamptz[];
  v_begins boolean;
  v_answer jsonb;
begin
  insert into purser.consistency_passes (name) values ('changed') on conflict (name) do nothing;
  select * into v_pass from purser.consistency_passes p where p.name = 'changed' for update;
  v_begins := v_pass.started_at is null;
  if v_begins then
    v_pass.started_at := clock_timestamp();
    v_pass.reads_from := coalesce(v_pass.done_until, v_pass.started_at) - c_overlap;
    v_pass.last_change := '-infinity';
    v_pass.last_user := '';
  end if;
  select coalesce(array_agg(c.user_id order by c.first_change, c.user_id), '{}'),
         array_agg(c.first_change order by c.first_change, c.user_id)
  into v_users, v_changes
  from (select c.* from purser.changed_users(v_pass.reads_from, v_pass.started_at) c
        where (c.first_change, c.user_id) > (v_pass.last_change, v_pass.last_user)
        order by c.first_change, c.user_id limit v_limit) c;
  if cardinality(v_users) = v_limit then
    v_pass.last_change := v_changes[v_limit];
    v_pass.last_user := v_users[v_limit];
  else
    v_pass.done_until := v_pass.started_at;
    v_pass.started_at := null;
  end if;
  update purser.consistency_passes p
  set done_until = v_pass.done_until, started_at = v_pass.started_at, reads_from = v_pass.reads_from,
      last_change = v_pass.last_change, last_user = v_pass.last_user
  where p.name = 'changed';
  v_answer := purser.record_drift(v_users || case when v_begins then array(
    -- A repair by hand touches nothing: what was found is looked at again, the oldest first.
    select distinct f.user_id from (
      select f.user_id from public.reconciliation_findings f
      where f.resolved_at is null and f.code like 'credit\_drift\_%' and f.user_id <> all (v_users)
      order by f.last_seen_at limit v_limit) f) else '{}' end, c_entries_max);
  return v_answer || jsonb_build_object('users', cardinality(v_users), 'more', v_pass.started_at is not null);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- check_all_credits: the next page of the full check by entry, for the job consistency-check;
-- findings are written and resolved. Users with a row come first, then closed accounts, then what
-- belongs to nobody.
--   p_limit       1 to 1000 users
--   p_every_days  a new pass begins when the last one ended so many days ago; 0 = at once
-- Answers {users, drifts, resolved, more}; users = 0 and more = false: none is due.
-- Locks: its own row; spenders never wait.
-- ---------------------------------------------------------------------------------------------
create or replace function public.check_all_credits(p_limit integer default 200, p_every_days integer default 30)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_limit integer := least(greatest(coalesce(p_limit, 200), 1), 1000);
  v_pass purser.consistency_passes;
  v_users text[];
  v_answer jsonb;
begin
  insert into purser.consistency_passes (name) values ('full') on conflict (name) do nothing;
  select * into v_pass from purser.consistency_passes p where p.name = 'full' for update;
  if v_pass.started_at is null then
    if v_pass.done_until > clock_timestamp() - make_interval(days => p_every_days) then
      return jsonb_build_object('users', 0, 'drifts', 0, 'resolved', 0, 'more', false);
    end if;
    v_pass.started_at := clock_timestamp();
    v_pass.phase := 'users';
    v_pass.last_user := null;
  end if;
  if v_pass.phase = 'users' then
    -- Two statements, so that each can walk the primary key.
    if v_pass.last_user is null then
      v_users := array(select a.user_id from purser.accounts a order by a.id limit v_limit);
    else
      v_users := array(select a.user_id from purser.accounts a
        where a.id > purser.to_user_id(v_pass.last_user) order by a.id limit v_limit);
    end if;
  elsif v_pass.phase = 'closed' then
    v_users := array(select c.user_id from public.closed_accounts c
      where c.user_id > coalesce(v_pass.last_user, '') order by c.user_id limit v_limit);
  else
    v_users := array(select distinct s from purser.suspect_users() s order by 1 limit 1000);
  end if;
  if v_pass.phase <> 'sums' and cardinality(v_users) = v_limit then
    v_pass.last_user := v_users[v_limit];
  elsif v_pass.phase = 'sums' then
    v_pass.done_until := clock_timestamp();
    v_pass.started_at := null;
  else
    v_pass.phase := case v_pass.phase when 'users' then 'closed' else 'sums' end;
    v_pass.last_user := null;
  end if;
  update purser.consistency_passes p
  set done_until = v_pass.done_until, started_at = v_pass.started_at, phase = v_pass.phase, last_user = v_pass.last_user
  where p.name = 'full';
  v_answer := purser.record_drift(v_users, null);
  return v_answer || jsonb_build_object('users', cardinality(v_users), 'more', v_pass.started_at is not null);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- sync_user_credits: sets right what follows from a user's entries and holds: balance, debt and
-- entry count, the sum held, and what is left of each lot. Of a closed account the tombstone.
-- Writes an audit event and raises the version when something changed, so that the mirror follows.
-- Answers {user_id, before, after, changed, lots: [{grant_id, before, after}], remaining_issues:
--   [{issue, expected, actual, detail}]}. Lots are mended only if all of the user's follow from the
-- entries; otherwise none is touched, and they stand in remaining_issues with all that a person
-- has to judge: changed or missing entries, seals, reversals.
-- Errors: user_not_found (PT404). Repeating it changes nothing. Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.sync_user_credits(p_user_id text)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_user_id text;
  v_account record;
  v_total bigint;
  v_last bigint;
  v_held bigint;
  v_before jsonb;
  v_after jsonb;
  v_lots jsonb := '[]';
begin
  v_user := purser.lock_user(p_user_id);
  if v_user.id is null then
    select c.user_id into v_user_id from public.closed_accounts c where c.user_id = purser.user_key(p_user_id) for update;
  end if;
  v_user_id := coalesce(v_user.user_id, v_user_id);
  if v_user_id is null then
    perform purser.raise_error(404, 'user_not_found', format('There is no user %s.', p_user_id));
  end if;
  select * into v_account from purser.find_account(v_user_id);
  select coalesce(sum(t.amount), 0), coalesce(max(t.entry_number), 0) into v_total, v_last
  from public.credit_transactions t where t.user_id = v_user_id;
  select coalesce(sum(h.amount - h.captured), 0) into v_held
  from public.credit_holds h where h.user_id = v_user_id and h.status = 'open';
  v_before := jsonb_build_object('balance', v_account.balance, 'held', v_account.held, 'debt', v_account.debt,
    'entry_count', v_account.entry_count);
  v_after := jsonb_build_object('balance', v_total, 'held', v_held, 'debt', greatest(-v_total, 0), 'entry_count', v_last);

  if not exists (
      select from purser.lots_by_entries(array[v_user_id]) l left join public.credit_grants g on g.id = l.grant_id
      where l.actual is null or coalesce(l.expected, -1) not between 0 and g.amount)
    and (select coalesce(sum(l.expected), 0) from purser.lots_by_entries(array[v_user_id]) l) = greatest(v_total, 0)
  then
    with mended as (
      update public.credit_grants g
      set remaining = l.expected, exhausted_at = case when l.expected = 0 then clock_timestamp() end
      from purser.lots_by_entries(array[v_user_id]) l
      where g.id = l.grant_id and l.expected <> l.actual
      returning g.id, l.actual, l.expected)
    select coalesce(jsonb_agg(jsonb_build_object('grant_id', m.id::text, 'before', m.actual, 'after', m.expected) order by m.id), '[]')
    into v_lots from mended m;
  end if;

  if v_before <> v_after or v_lots <> '[]' then
    update public.users u
    set credits_balance = v_total, credits_held = v_held, credits_debt = greatest(-v_total, 0),
        entry_count = v_last, credits_version = u.credits_version + 1
    where u.id = v_user.id;
    update public.closed_accounts c
    set credits_balance = v_total, credits_held = v_held, credits_debt = greatest(-v_total, 0),
        entry_count = v_last, credits_version = c.credits_version + 1
    where c.user_id = v_user_id and v_user.id is null;
    insert into public.audit_events (actor, action, user_id, reason, before, after)
    values ('sql', 'sync_user_credits', v_user_id, 'the books differed from the entries',
      v_before || jsonb_build_object('lots', v_lots), v_after);
  end if;
  return jsonb_build_object(
    'user_id', v_user_id, 'before', v_before, 'after', v_after,
    'changed', v_before <> v_after or v_lots <> '[]', 'lots', v_lots,
    'remaining_issues', purser.issues_left(v_user_id));
end
$$;

-- What is still wrong with a user, as one array. Volatile: it sees what its caller has written.
create or replace function purser.issues_left(p_user_id text)
returns jsonb language plpgsql set search_path = '' as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('issue', d.issue, 'expected', d.expected, 'actual', d.actual, 'detail', d.detail)
      order by d.issue, d.detail::text), '[]')
    from purser.credit_drift(array[p_user_id]) d);
end
$$;

call purser.restrict_functions();
reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
