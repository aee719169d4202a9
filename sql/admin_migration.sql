-- Purser: what an admin asks: who did what, users with all that is theirs, how the installation is.
--
-- Paste after operations_migration.sql, or run `npm run migrate`. Safe to run again.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array['inspect_installation', 'get_admin_user', 'search_users', 'list_audit_events']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- ---------------------------------------------------------------------------------------------
-- inspect_installation: what only the database knows about how it was set up, for the doctor:
--   now               the database's clock
--   applied           {file: checksum} of what `npm run migrate` applied; null where files were pasted
--   tables_without_rls, open_policies (table.policy that is for everybody), open_functions (called
--                     by anon or authenticated), open_users (anon reads public.users without RLS)
--   sign_ups_without_row, sign_ups  of auth.users; null where that cannot be read
--   doubled_customers [{user_id, customers}], the first 20
-- Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.inspect_installation()
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_applied jsonb;
  v_sign_ups bigint;
  v_without_row bigint;
begin
  begin
    execute 'select jsonb_object_agg(a.file, a.checksum) from purser.applied_files a' into v_applied;
  exception when undefined_table or insufficient_privilege then
    v_applied := null; -- pasted by hand, or recorded by a role that shows it to nobody
  end;
  begin
    execute 'select count(*), count(*) filter (where not exists (
      select from public.users u where u.id::text = s.id::text)) from auth.users s' into v_sign_ups, v_without_row;
  exception when undefined_table or insufficient_privilege then
    v_sign_ups := null;
  end;
  return jsonb_build_object(
    'now', purser.iso(clock_timestamp()),
    'applied', v_applied,
    'tables_without_rls', coalesce((
      select jsonb_agg(c.relname order by c.relname) from pg_catalog.pg_class c
      where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
        and c.relowner = 'purser_ledger'::regrole and not c.relrowsecurity), '[]'),
    'open_policies', coalesce((
      select jsonb_agg(c.relname || '.' || p.polname order by c.relname, p.polname)
      from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
      where c.relnamespace = 'public'::regnamespace and p.polroles = '{0}'
        and (c.relowner = 'purser_ledger'::regrole or c.relname = 'users')), '[]'),
    'open_functions', coalesce((
      select jsonb_agg(f.proname order by f.proname) from (
        select distinct p.proname from pg_catalog.pg_proc p
        where p.pronamespace = 'public'::regnamespace and p.proowner = 'purser_ledger'::regrole
          and (has_function_privilege('anon', p.oid, 'execute')
            or has_function_privilege('authenticated', p.oid, 'execute'))) f), '[]'),
    'open_users', exists (
      select from pg_catalog.pg_class c
      where c.oid = 'public.users'::regclass and not c.relrowsecurity
        and has_table_privilege('anon', c.oid, 'select')),
    'sign_ups', v_sign_ups,
    'sign_ups_without_row', v_without_row,
    'doubled_customers', coalesce((
      select jsonb_agg(to_jsonb(d) order by d.user_id) from (
        select s.user_id, count(*) as customers from public.stripe_customers s
        where s.user_id is not null group by s.user_id having count(*) > 1
        order by s.user_id limit 20) d), '[]'));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_admin_user: everything the database knows of a user, in one snapshot: counters, customers,
-- subscriptions, open lots (100), open holds (50), the newest entries (20) and payments (20), open
-- findings (50), and the events that wait for him (20).
-- Answers {outcome: found | not_found, ...}. A closed account is found, with closed = true.
-- Reads only: what is due and not yet taken is in `due`, and in no other number.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_admin_user(p_user_id text, p_now timestamptz default null)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_account record;
  v_row purser.accounts;
  v_customers text[];
begin
  select * into v_account from purser.find_account(p_user_id);
  if v_account.user_id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  select * into v_row from purser.accounts a where a.id = purser.to_user_id(p_user_id);
  v_customers := array(
    select distinct c.customer_id from public.stripe_customers c where c.user_id = v_account.user_id
    order by c.customer_id limit 20);
  return jsonb_build_object(
    'outcome', 'found',
    'profile', jsonb_build_object(
      'user_id', v_account.user_id, 'email', v_row.email, 'plan', coalesce(v_row.plan, 'free'),
      'stripe_customer_id', nullif(v_row.stripe_customer_id, ''), 'customers', to_jsonb(v_customers),
      'suspended', v_account.suspended, 'closed', v_account.closed),
    'ledger', jsonb_build_object(
      'balance', v_account.balance, 'held', v_account.held, 'debt', v_account.debt,
      'available', case when v_row.id is null then 0 else purser.available(v_row) end,
      'version', v_account.version, 'entries', v_account.entry_count,
      'due', v_row.id is not null and coalesce(purser.next_change(v_row) <= v_now, false)),
    'subscriptions', coalesce((
      select jsonb_agg(jsonb_build_object(
        'stripe_subscription_id', s.stripe_subscription_id, 'status', s.status, 'plan', s.plan,
        'stripe_customer_id', s.stripe_customer_id, 'current_period_start', purser.iso(s.cycle_start_date),
        'current_period_end', purser.iso(s.cycle_end_date), 'cancel_at_period_end', s.cancel_at_period_end,
        'as_of', purser.iso(s.state_as_of)) order by s.state_as_of desc)
      from (select * from public.subscription o where o.user_id = v_account.user_id
            order by o.state_as_of desc limit 20) s), '[]'),
    'lots', coalesce((
      select jsonb_agg(jsonb_build_object(
        'grant_id', g.id::text, 'amount', g.amount, 'remaining', g.remaining, 'paid', g.paid, 'from_plan', g.from_plan,
        'priority', g.priority, 'catalogue_id', g.catalogue_id, 'expires_at', purser.iso(g.expires_at),
        'created_at', purser.iso(g.created_at)) order by g.priority, g.expires_at nulls last, g.paid, g.id)
      from (select * from public.credit_grants o where o.user_id = v_account.user_id and o.exhausted_at is null
            order by o.priority, o.expires_at nulls last, o.paid, o.id limit 100) g), '[]'),
    'holds', coalesce((
      select jsonb_agg(purser.hold_details(h) order by h.id)
      from (select * from public.credit_holds o where o.user_id = v_account.user_id and o.status = 'open'
            order by o.id limit 50) h), '[]'),
    'recent_entries', coalesce((
      select jsonb_agg(purser.entry_record(t) order by t.entry_number desc)
      from (select * from public.credit_transactions o where o.user_id = v_account.user_id
            order by o.entry_number desc limit 20) t), '[]'),
    'payments', coalesce((
      select jsonb_agg(jsonb_build_object(
        'payment', p.payment, 'currency', p.currency, 'paid', p.paid, 'refunded', p.refunded, 'disputed', p.disputed,
        'status', p.status, 'entry_number', p.entry_number, 'updated_at', purser.iso(p.updated_at)) order by p.created_at desc)
      from (select * from public.payments o where o.user_id = v_account.user_id
            order by o.created_at desc limit 20) p), '[]'),
    'open_findings', coalesce((
      select jsonb_agg(jsonb_build_object(
        'id', f.id::text, 'code', f.code, 'subject', f.subject, 'detail', f.detail, 'times', f.times,
        'first_seen_at', purser.iso(f.first_seen_at), 'last_seen_at', purser.iso(f.last_seen_at)) order by f.id desc)
      from (select * from public.reconciliation_findings o
            where o.user_id = v_account.user_id and o.resolved_at is null order by o.id desc limit 50) f), '[]'),
    'waiting_events', coalesce((
      select jsonb_agg(purser.event_summary(e) order by e.created_at)
      from (select * from public.stripe_webhook_events o
            where o.status = 'parked' and o.waiting_for = any (v_customers || v_account.user_id)
            order by o.created_at limit 20) e), '[]'),
    'mirror_record', case when v_row.id is not null then purser.mirror_record(v_row) end,
    'as_of', purser.iso(v_now));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- search_users: users by the beginning of their id or e-mail, or by a Stripe customer; ordered by
-- id. p_q null = all. p_after: the last user_id of the page before. p_limit 1 to 100.
-- Answers {data: [{user_id, email, plan, stripe_customer_id, balance, available, suspended}],
-- has_more, next_after}. Reads only. Ids are compared as text, so without p_q the page walks the
-- table in that order once; a search by customer uses its index.
-- ---------------------------------------------------------------------------------------------
create or replace function public.search_users(
  p_q text default null, p_after text default null, p_limit integer default 50)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_limit integer := least(greatest(coalesce(p_limit, 50), 1), 100);
  v_answer jsonb;
begin
  with found as materialized (
    select a.* from purser.accounts a
    where (p_after is null or a.user_id collate "C" > p_after collate "C")
      and (p_q is null or starts_with(a.user_id, p_q) or starts_with(lower(a.email), lower(p_q))
        or a.stripe_customer_id = p_q
        or a.user_id in (select c.user_id from public.stripe_customers c where c.customer_id = p_q))
    order by a.user_id collate "C" limit v_limit + 1),
  placed as (select f, f.user_id, row_number() over (order by f.user_id collate "C") as place from found f)
  select jsonb_build_object(
    'data', coalesce(jsonb_agg(jsonb_build_object(
      'user_id', (p.f).user_id, 'email', (p.f).email, 'plan', (p.f).plan,
      'stripe_customer_id', nullif((p.f).stripe_customer_id, ''), 'balance', (p.f).credits_balance,
      'available', (p.f).credits_balance - (p.f).credits_held, 'suspended', (p.f).credits_suspended)
      order by p.place) filter (where p.place <= v_limit), '[]'),
    'has_more', count(*) > v_limit,
    'next_after', max(p.user_id collate "C") filter (where p.place = v_limit and (select count(*) from found) > v_limit))
  into v_answer from placed p;
  return v_answer;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- list_audit_events: who did what, newest first.
--   p_actor, p_action  exactly, or everything that begins with it where it ends in *
--   p_before_id        the last id of the page before; p_limit 1 to 100
--   p_from (inclusive), p_to (exclusive)
-- Answers {data: [{id, actor, action, user_id, reason, before, after, created_at}], has_more,
-- next_before_id}. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_audit_events(
  p_actor text default null, p_action text default null, p_user_id text default null,
  p_from timestamptz default null, p_to timestamptz default null,
  p_before_id bigint default null, p_limit integer default 50)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_limit integer := least(greatest(coalesce(p_limit, 50), 1), 100);
  v_user_id text := purser.user_key(p_user_id);
  v_answer jsonb;
begin
  with found as materialized (
    select a.*, row_number() over (order by a.id desc) as place from public.audit_events a
    where (p_before_id is null or a.id < p_before_id)
      and (p_user_id is null or a.user_id = v_user_id)
      and (p_actor is null or a.actor = p_actor
        or (p_actor like '%*' and starts_with(a.actor, left(p_actor, -1))))
      and (p_action is null or a.action = p_action
        or (p_action like '%*' and starts_with(a.action, left(p_action, -1))))
      and (p_from is null or a.created_at >= p_from)
      and (p_to is null or a.created_at < p_to)
    order by a.id desc limit v_limit + 1)
  select jsonb_build_object(
    'data', coalesce(jsonb_agg(jsonb_build_object(
      'id', f.id::text, 'actor', f.actor, 'action', f.action, 'user_id', f.user_id, 'reason', f.reason,
      'before', f.before, 'after', f.after, 'created_at', purser.iso(f.created_at))
      order by f.id desc) filter (where f.place <= v_limit), '[]'),
    'has_more', count(*) > v_limit,
    'next_before_id', case when count(*) > v_limit then min(f.id) filter (where f.place = v_limit) end)
  into v_answer from found f;
  return v_answer;
end
$$;

call purser.restrict_functions();
reset role;

-- What the doctor reads of others: the record of migrations, and who has signed up.
do $$
begin
  if to_regclass('purser.applied_files') is not null then
    grant select on purser.applied_files to purser_ledger;
  end if;
  -- Asked first: who may read but not grant would only be warned. The doctor then says what it could
  -- not look at.
  if to_regclass('auth.users') is not null
     and has_schema_privilege('auth', 'usage with grant option')
     and has_column_privilege('auth.users', 'id', 'select with grant option') then
    grant usage on schema auth to purser_ledger;
    grant select (id) on auth.users to purser_ledger;
  end if;
end
$$;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
