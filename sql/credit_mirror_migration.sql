-- Purser: the copies of balances that Redis keeps. What a copy says, and the lists by which
-- mirror-repair brings copies back in line.
--
-- Paste after credit_transactions_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- A copy carries the ledger it was made from and the user's version, which rises with every change:
-- the newer copy wins, whatever the order of writing. All functions here read only.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array[
  'list_mirror_changes', 'list_mirror_records', 'get_mirror_records', 'judge_mirror_copies']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- The copy for Redis. valid_until: the next expiry of a lot or hold, in unix milliseconds, after
-- which a reader must ask the ledger again.
create or replace function purser.mirror_record(p_user purser.accounts)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'ledger', purser.ledger_id(),
    'version', p_user.credits_version,
    'balance', p_user.credits_balance,
    'held', p_user.credits_held,
    'available', purser.available(p_user),
    'suspended', p_user.credits_suspended,
    'valid_until', floor(extract(epoch from purser.next_change(p_user)) * 1000)::bigint);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- list_mirror_changes: the mirror records of users who changed since p_since, for mirror-repair.
--   p_limit  1 to 1000 users, those who changed first first
-- Answers {ledger, position, as_of, complete, last_change, records: [{user_id, ...mirror}], gone:
-- [user ids]}. position is the last entry id given out: it never falls, unless the database was
-- restored from a backup. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_mirror_changes(p_since timestamptz, p_limit integer default 1000)
returns jsonb language sql stable security definer set search_path = '' as $$
  with changed as (
    select c.user_id, min(c.created_at) as first_change from (
      select t.user_id, t.created_at from public.credit_transactions t where t.created_at >= p_since
      union all
      select h.user_id, h.updated_at from public.credit_holds h where h.updated_at >= p_since
      union all
      select a.user_id, a.created_at from public.audit_events a
      where a.created_at >= p_since and a.user_id is not null
        and a.action in ('sync_user_credits', 'suspension', 'account_closed', 'account_returned')) c
    group by c.user_id
    order by min(c.created_at), c.user_id
    limit least(greatest(p_limit, 1), 1000) + 1),
  page as (select * from changed order by first_change, user_id limit least(greatest(p_limit, 1), 1000))
  select jsonb_build_object(
    'ledger', purser.ledger_id(),
    'position', coalesce(pg_catalog.pg_sequence_last_value(
      pg_catalog.pg_get_serial_sequence('public.credit_transactions', 'id')::regclass), 0),
    'as_of', statement_timestamp(),
    'complete', (select count(*) from changed) = (select count(*) from page),
    'last_change', (select max(first_change) from page),
    'records', coalesce((
      select jsonb_agg(purser.mirror_record(a) || jsonb_build_object('user_id', a.user_id))
      from page join purser.accounts a on a.id = purser.to_user_id(page.user_id)), '[]'),
    'gone', coalesce((
      select jsonb_agg(page.user_id) from page
      where not exists (
        select from purser.accounts a where a.id = purser.to_user_id(page.user_id))), '[]'));
$$;

-- ---------------------------------------------------------------------------------------------
-- list_mirror_records: the mirror records of all users, page by page, for mirror-repair's full pass.
--   p_after  user id the page before ended with; null begins
--   p_limit  1 to 1000 users, in the order of their ids
-- Answers {complete, last, records: [{user_id, ...mirror}]}. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_mirror_records(p_after text default null, p_limit integer default 1000)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_limit integer := least(greatest(coalesce(p_limit, 1000), 1), 1000);
  v_page purser.accounts[];
begin
  -- Two statements, so that each can walk the primary key.
  if p_after is null then
    v_page := array(select a from purser.accounts a order by a.id limit v_limit);
  else
    v_page := array(
      select a from purser.accounts a where a.id > purser.to_user_id(p_after) order by a.id limit v_limit);
  end if;
  return jsonb_build_object(
    'complete', cardinality(v_page) < v_limit,
    'last', (v_page[cardinality(v_page)]).user_id,
    'records', coalesce((
      select jsonb_agg(purser.mirror_record(a) || jsonb_build_object('user_id', a.user_id))
      from unnest(v_page) a), '[]'));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_mirror_records: the mirror records of those of the given users that exist.
--   p_user_ids  array of at most 1000 ids, each in the spelling of users.id
-- Answers {records: [{user_id, ...mirror}]}. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_mirror_records(p_user_ids jsonb)
returns jsonb language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('records', coalesce(
    jsonb_agg(purser.mirror_record(a) || jsonb_build_object('user_id', a.user_id)), '[]'))
  from (select distinct e.value from jsonb_array_elements_text(p_user_ids) e limit 1000) ids
  join purser.accounts a on a.id = purser.to_user_id(ids.value) and a.user_id = ids.value;
$$;

-- ---------------------------------------------------------------------------------------------
-- judge_mirror_copies: which copies seen in Redis the ledger does not bear out.
--   p_seen  array of at most 1000 {user_id, ledger, version}, user_id in the spelling of users.id;
--           without a version (a damaged copy) only whether the user is there is told
-- Answers {gone: [user ids without a row], ahead: [{user_id, ...mirror}]}: the ledger's own record of
-- users whose copy has a higher version than the ledger, which was restored from a backup then.
-- A copy that is behind is neither: whoever copies next writes over it. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.judge_mirror_copies(p_seen jsonb)
returns jsonb language sql stable security definer set search_path = '' as $$
  with seen as materialized (
    select s.user_id, s.version, s.ledger, a.id, a.credits_version
    from (select * from jsonb_to_recordset(p_seen) as t (user_id text, ledger text, version bigint) limit 1000) s
    left join purser.accounts a on a.id = purser.to_user_id(s.user_id) and a.user_id = s.user_id)
  select jsonb_build_object(
    'gone', coalesce((select jsonb_agg(s.user_id) from seen s where s.id is null), '[]'),
    'ahead', coalesce((
      select jsonb_agg(purser.mirror_record(a) || jsonb_build_object('user_id', a.user_id))
      from seen s join purser.accounts a on a.id = s.id
      where s.version > s.credits_version and s.ledger = purser.ledger_id()::text), '[]'));
$$;

call purser.restrict_functions();
reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
