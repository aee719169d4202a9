-- Purser: takes Purser out of a database. The app's own tables stay as they are, and so do the books.
--
-- Before: stop every server of Purser, switch the endpoint off in Stripe (Developers > Webhooks), and
-- make a backup. Try it on a copy first. Then paste this whole file: it is one transaction.
--
-- What it does:
--   public.users   keeps its rows and the columns id, email, plan, stripe_customer_id and
--                  credits_balance (what each user has; negative = debt). credits_held, credits_debt,
--                  credits_version, credits_suspended and entry_count go, with Purser's triggers and
--                  its policy. Credits that were held count as spendable again. From then on
--                  credits_balance is a plain column that your app may change.
--   the books      (entries, lots, holds, seals, payments, events, audit and so on) move to the schema
--                  purser_books, or purser_books_2 and so on if there is one. They belong to a role
--                  nobody logs in as, and service_role may read them.
--   everything else of Purser goes: functions, views, caches, schedules, the schema purser, pg_cron
--                  jobs. Tables of yours that the migration moved aside keep their name
--                  <name>_before_purser; a notice lists them.
--   stays          the role purser_ledger, which owns the books and belongs to the whole cluster; the
--                  types of columns, which widening cannot be taken back safely (credits_balance is
--                  bigint, not null, default 0).
--
-- It stops, and changes nothing, when something of yours depends on an object of Purser's.
-- In Redis delete the keys credits:* and processed:*; they are of no use to anybody.
--
-- To export the books first:  pg_dump --schema=public --table='public.credit_*' --table=public.payments ...
-- or afterwards:              pg_dump --schema=purser_books ...
--
-- `npm run migrate` puts Purser back at any time. It begins a new ledger: each balance of that moment
-- becomes one opening entry, so what the app changed in between is kept. The old books stay in
-- purser_books and are not read: docs/runbooks/rollback.md tells how the new ledger learns what they
-- had credited, so that no event credits it again.

begin;

do $$
begin
  if to_regnamespace('purser') is null then
    raise exception 'Purser is not in this database'
      using errcode = 'object_not_in_prerequisite_state', hint = 'Nothing was changed.';
  end if;
  perform set_config('lock_timeout', '15s', true);
end
$$;

grant purser_ledger to current_user;

-- Nobody calls any more what is about to go.
do $$
begin
  if to_regclass('cron.job') is not null then
    perform cron.unschedule(j.jobname) from cron.job j
    where j.jobname like 'purser-%' or j.jobname = 'subscription_cache_cleanup';
  end if;
end
$$;

-- Users: triggers and policy first, so that the columns are nobody's but the table's.
do $$
declare
  v_name name;
begin
  for v_name in
    select t.tgname from pg_catalog.pg_trigger t
    where t.tgrelid = 'public.users'::regclass and t.tgname like 'purser\_%' and not t.tgisinternal
  loop
    execute format('drop trigger %I on public.users', v_name);
  end loop;
end
$$;
drop policy if exists users_purser_ledger on public.users;
revoke all on public.users from purser_ledger;

-- The books move; caches, leases and links that open something do not.
do $$
declare
  c_working constant text[] := array[
    'cache_store', 'cache_versions', 'cache_cleanups', 'subscription_cache', 'scheduled_jobs', 'claim_links',
    'stripe_event_cursors'];
  v_books text := 'purser_books';
  v_n integer := 1;
  v_names text;
  v_name name;
begin
  while to_regnamespace(v_books) is not null loop
    v_n := v_n + 1;
    v_books := 'purser_books_' || v_n;
  end loop;
  execute format('grant create on database %I to purser_ledger', current_database());
  execute format('create schema %I authorization purser_ledger', v_books);
  execute format('revoke create on database %I from purser_ledger', current_database());
  execute format('grant usage on schema %I to service_role', v_books);
  execute format('comment on schema %I is %L', v_books,
    format('Books of Purser, ledger %s, moved here at %s.', purser.ledger_id(), now()));

  -- The views are conveniences; what of yours reads them is named by the error.
  select string_agg(format('public.%I', c.relname), ', ') into v_names from pg_catalog.pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relowner = 'purser_ledger'::regrole and c.relkind = 'v';
  if v_names is not null then
    execute 'drop view ' || v_names;
  end if;
  for v_name in
    select c.relname from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relowner = 'purser_ledger'::regrole
      and c.relkind in ('r', 'p') and c.relname <> all (c_working)
    order by c.relname
  loop
    execute format('alter table public.%I set schema %I', v_name, v_books);
  end loop;
  raise notice 'the books are in the schema %', v_books;
end
$$;

-- Purser's own schema: helpers, the triggers that stand on them, the record of applied files.
drop schema purser cascade;

do $$
declare
  v_names text;
begin
  select string_agg(p.oid::regprocedure::text, ', ') into v_names from pg_catalog.pg_proc p
  where p.pronamespace = 'public'::regnamespace and p.proowner = 'purser_ledger'::regrole;
  if v_names is not null then
    execute 'drop routine ' || v_names;
  end if;
  select string_agg(format('public.%I', c.relname), ', ') into v_names from pg_catalog.pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relowner = 'purser_ledger'::regrole and c.relkind in ('r', 'p');
  if v_names is not null then
    execute 'drop table ' || v_names;
  end if;
end
$$;

alter table public.users
  drop column if exists credits_held,
  drop column if exists credits_debt,
  drop column if exists credits_version,
  drop column if exists credits_suspended,
  drop column if exists entry_count;
comment on column public.users.credits_balance is null;

do $$
declare
  v_names text;
begin
  select string_agg(c.relname, ', ' order by c.relname) into v_names from pg_catalog.pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relname like '%\_before\_purser%' and c.relkind in ('r', 'p');
  if v_names is not null then
    raise notice 'these tables of yours were moved aside by the migration; rename them back if you need them: %', v_names;
  end if;
end
$$;

revoke all on schema public from purser_ledger;
revoke purser_ledger from current_user;
notify pgrst, 'reload schema';

commit;

-- ---------------------------------------------------------------------------------------------
-- To delete the books as well. It cannot be taken back, and tax law may ask for them: export them
-- first. Run the lines below without their dashes; the role only where no other database of the
-- cluster has Purser.
--
-- delete: begin
-- begin;
-- grant purser_ledger to current_user;
-- drop schema purser_books cascade;
-- revoke purser_ledger from current_user;
-- commit;
-- drop role purser_ledger;
-- delete: end
-- ---------------------------------------------------------------------------------------------
