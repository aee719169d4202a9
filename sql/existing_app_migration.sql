-- Purser: the taking over of an app's own public.users, with the balances its users have.
--
-- Paste after foundation_migration.sql, also where there is no such table, or run `npm run migrate`.
-- Safe to run again.
--
-- This file changes nothing of the app's: it makes what credit_transactions_migration.sql calls, so
-- that judging, changing, guarding and opening are one transaction there, or nothing is done:
--   begin_adoption  judges the build of the table, stops with a list of what would break, and makes
--                   credits_balance a bigint
--   try_adoption    writes to a row as Purser will, takes it back, and stops with what failed
--   end_adoption    writes the opening balances
-- The three do nothing where the table is Purser's own or was taken over before. What the list means
-- for an app, and how to mend it: docs/existing-apps.md. Tables and functions of the app's that bear
-- a name of ours are moved aside by purser.make_room (foundation_migration.sql).

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
set role purser_ledger;

-- The type of users.id as Purser works with it; a domain counts as what it is made of.
create or replace function purser.users_id_type()
returns text language sql stable set search_path = '' as $$
  select format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null)
  from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = to_regclass('public.users') and a.attname = 'id' and not a.attisdropped
$$;

-- True while this transaction takes over a public.users of the app's.
create or replace function purser.adopting()
returns boolean language sql set search_path = '' as $$
  select coalesce(current_setting('purser.adopting', true), '') = 'yes'
$$;

-- What in the build of public.users would break under Purser, a sentence each.
create or replace function purser.users_problems()
returns text[] language plpgsql set search_path = '' as $$
declare
  v_users regclass := to_regclass('public.users');
  v_problems text[] := '{}';
  v_table record;
  v_balance record;
  v_found text;
  v_count bigint;
begin
  select c.relkind, c.relowner into v_table from pg_catalog.pg_class c where c.oid = v_users;
  if v_table.relkind <> 'r' then
    return array[format('public.users is %s. Purser needs an ordinary table of that name.', case v_table.relkind
      when 'v' then 'a view' when 'm' then 'a materialized view' when 'p' then 'a partitioned table'
      when 'f' then 'a foreign table' else 'no table' end)];
  end if;
  if not pg_has_role(current_user, v_table.relowner, 'usage') then
    return array[format('public.users belongs to the role %s, and %s may not change it. Run the migration as a role that owns it.',
      v_table.relowner::regrole, current_user)];
  end if;

  if purser.users_id_type() is null then
    v_problems := v_problems || 'public.users has no column id.'::text;
  elsif purser.users_id_type() not in ('text', 'character varying', 'uuid', 'smallint', 'integer', 'bigint') then
    v_problems := v_problems || format('public.users.id is of type %s. Purser works with text, varchar, uuid, smallint, integer and bigint.', purser.users_id_type());
  elsif not exists (
    select from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = v_users and i.indisunique and i.indisvalid and i.indimmediate
      and i.indnkeyatts = 1 and i.indpred is null and a.attname = 'id' and a.attnotnull)
  then
    v_problems := v_problems || 'public.users.id is not a primary key, nor unique and not null (and not deferrable) by itself.'::text;
  end if;

  select string_agg(a.attname, ', ' order by a.attnum) into v_found from pg_catalog.pg_attribute a
  where a.attrelid = v_users and not a.attisdropped
    and a.attname in ('credits_held', 'credits_debt', 'credits_version', 'credits_suspended', 'entry_count');
  if v_found is not null then
    v_problems := v_problems || format('public.users has columns of its own where Purser keeps its books: %s. Rename them.', v_found);
  end if;
  select string_agg(format('%s %s', a.attname, format_type(a.atttypid, null)), ', ' order by a.attnum) into v_found
  from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = v_users and not a.attisdropped
    and a.attname in ('email', 'plan', 'stripe_customer_id') and t.typcategory <> 'S';
  if v_found is not null then
    v_problems := v_problems || format('Purser keeps text in columns of public.users that are of another type: %s. Rename them or make them text.', v_found);
  end if;

  select a.attnum, a.attgenerated, format_type(a.atttypid, null) as type into v_balance
  from pg_catalog.pg_attribute a
  where a.attrelid = v_users and a.attname = 'credits_balance' and not a.attisdropped;
  if v_balance.attgenerated <> '' then
    v_problems := v_problems || 'public.users.credits_balance is a generated column. Drop its expression (alter column credits_balance drop expression).'::text;
  elsif v_balance.type not in ('smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision') then
    v_problems := v_problems || format('public.users.credits_balance is of type %s, not a number.', v_balance.type);
  elsif v_balance.attnum is not null then
    -- Floats are compared as floats: as numeric they would lose digits.
    execute format('select count(*) from public.users where credits_balance <> trunc(credits_balance::%1$s)
      or abs(credits_balance::%1$s) > 9007199254740991',
      case when v_balance.type in ('real', 'double precision') then 'double precision' else 'numeric' end) into v_count;
    if v_count > 0 then
      v_problems := v_problems || format('public.users.credits_balance is fractional or beyond 2^53 - 1 in %s rows. Credits are whole: round them first.', v_count);
    end if;
    if v_balance.type <> 'bigint' then
      select string_agg(distinct case d.classid
        when 'pg_rewrite'::regclass then
          (select format('view %s', r.ev_class::regclass) from pg_catalog.pg_rewrite r where r.oid = d.objid)
        else pg_describe_object(d.classid, d.objid, 0) end, ', ') into v_found
      from pg_catalog.pg_depend d
      where d.refclassid = 'pg_class'::regclass and d.refobjid = v_users and d.refobjsubid = v_balance.attnum
        and (d.classid in ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_trigger'::regclass,
            'pg_proc'::regclass, 'pg_publication_rel'::regclass)
          or (d.classid = 'pg_attrdef'::regclass and exists (
            select from pg_catalog.pg_attrdef f where f.oid = d.objid and f.adnum <> v_balance.attnum)));
      if v_found is not null then
        v_problems := v_problems || format('public.users.credits_balance is of type %s and cannot become bigint while these use it: %s. Drop them, and make them again afterwards.', v_balance.type, v_found);
      end if;
    end if;
  end if;

  select string_agg(r.rulename, ', ' order by r.rulename) into v_found from pg_catalog.pg_rewrite r where r.ev_class = v_users;
  if v_found is not null then
    v_problems := v_problems || format('Rules on public.users change what Purser writes: %s. Make triggers of them.', v_found);
  end if;
  select string_agg(p.polname, ', ' order by p.polname) into v_found from pg_catalog.pg_policy p
  where p.polrelid = v_users and not p.polpermissive
    and (0 = any (p.polroles) or exists (select from unnest(p.polroles) r where pg_has_role('purser_ledger', r, 'usage')));
  if v_found is not null then
    v_problems := v_problems || format('Restrictive policies on public.users would hide rows from Purser: %s. Name their roles (alter policy ... to authenticated).', v_found);
  end if;
  -- Update triggers run inside Purser's functions: with an empty search_path, as purser_ledger.
  select string_agg(format('%s (function %s)', t.tgname, p.oid::regprocedure), ', ' order by t.tgname) into v_found
  from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
  join pg_catalog.pg_language l on l.oid = p.prolang
  where t.tgrelid = v_users and not t.tgisinternal and (t.tgtype & 16) > 0 and t.tgenabled in ('O', 'A')
    and l.lanname not in ('c', 'internal')
    and (t.tgattr = '' or exists (
      select from pg_catalog.pg_attribute a where a.attrelid = v_users and a.attnum = any (t.tgattr)
        and a.attname in ('email', 'plan', 'stripe_customer_id', 'credits_balance')))
    and not exists (select from unnest(coalesce(p.proconfig, '{}')) c where c like 'search_path=%');
  if v_found is not null then
    v_problems := v_problems || format('Update triggers on public.users have no search_path of their own and would fail inside Purser''s functions: %s. Use alter function ... set search_path = public.', v_found);
  end if;
  return v_problems;
end
$$;

create or replace procedure purser.refuse_users(p_problems text[])
language plpgsql set search_path = '' as $$
begin
  raise exception 'public.users cannot be taken over as it is'
    using errcode = 'object_not_in_prerequisite_state',
      detail = array_to_string(p_problems, e'\n'), hint = 'Nothing was changed. Mend the list above, then run the migration again.';
end
$$;

-- Changes a row of public.users the way Purser's functions will, as purser_ledger, and takes it
-- back: constraints and triggers of the app's say by themselves what they would refuse. Returns a
-- sentence for each failure. Without a row there is nothing to try, but a row made for it.
create or replace function purser.users_trial()
returns text[] language plpgsql set search_path = '' as $$
declare
  v_problems text[] := '{}';
  v_problem text;
  v_seen text[] := '{}';
  v_state text;
  v_message text;
  v_context text;
  v_change text;
  v_id text;
  v_new_id text := gen_random_uuid()::text;
  v_count integer;
begin
  if purser.users_id_type() in ('smallint', 'integer', 'bigint') then
    execute 'select (coalesce(max(id), 0) + 1)::text from public.users' into v_new_id;
  end if;
  -- A sign-up as Purser would write it. That it needs more columns is no problem: the app inserts.
  begin
    set local role purser_ledger;
    execute format('insert into public.users (id, email) values (%L, %L)', v_new_id, 'trial@purser.invalid');
    execute 'select id::text from public.users order by id limit 1' into v_id;
    raise exception using errcode = 'PT200';
  exception
    -- The id has to exist elsewhere first (auth.users): sign-ups do that. Required columns are
    -- named by themselves, below.
    when sqlstate 'PT200' or foreign_key_violation or not_null_violation then null;
    when others then
      raise warning 'purser: Purser cannot insert rows into public.users by itself, your app does (%)', sqlerrm;
  end;

  foreach v_change in array array[
    'credits_balance = 7 and credits_debt = 0 and credits_version = 1 and entry_count = 1',
    'credits_balance = 0 and credits_held = 0 and credits_version = 2 and entry_count = 2',
    'credits_balance = -7 and credits_debt = 7 and credits_version = 3 and entry_count = 3',
    'stripe_customer_id = ''cus_purser_trial''']
  loop
    v_problem := null;
    begin
      set local role purser_ledger;
      execute 'select id::text from public.users order by id limit 1' into v_id;
      if v_id is null then
        begin
          execute format('insert into public.users (id, email) values (%L, %L)', v_new_id, 'trial@purser.invalid');
          v_id := v_new_id;
        exception when others then
          -- Told above. Without any row nothing can be tried.
          raise exception using errcode = 'PT200';
        end;
      end if;
      set constraints all immediate;
      execute format('update public.users set %s where id = %L', replace(v_change, ' and ', ', '), v_id);
      execute format('select count(*) from public.users where id = %L and %s', v_id, v_change) into v_count;
      if v_count = 0 then
        v_problem := 'a trigger of the app''s undoes it.';
      end if;
      raise exception using errcode = 'PT200';
    exception
      when sqlstate 'PT200' then null;
      when others then
        get stacked diagnostics v_message = message_text, v_context = pg_exception_context;
        v_problem := v_message || coalesce(' in ' || (
          select l.line from regexp_split_to_table(split_part(v_context, 'PL/pgSQL function purser.users_trial()', 1), e'\n')
            with ordinality l(line, place)
          where l.line like '%function %' order by l.place limit 1), '') || '.';
    end;
    if v_problem is not null and v_problem <> all (v_seen) then
      v_seen := v_seen || v_problem;
      v_problems := v_problems || format('Purser could not write to a row of public.users (%s): %s', replace(v_change, ' and ', ', '), v_problem);
    end if;
  end loop;
  return v_problems;
end
$$;

-- Before anything of public.users is changed: stops with the list of what would break, or makes the
-- column of balances ours. Warns of what the app will find different.
create or replace procedure purser.begin_adoption()
language plpgsql set search_path = '' as $$
declare
  v_users regclass := to_regclass('public.users');
  v_problems text[];
  v_found text;
  v_gives boolean;
begin
  perform set_config('purser.adopting', '', true);
  if v_users is null or exists (
    select from pg_trigger where tgrelid = v_users and tgname = 'purser_money_guard')
  then
    return;
  end if;
  v_problems := purser.users_problems();
  if cardinality(v_problems) > 0 then
    if coalesce(current_setting('purser.move_aside', true), '') <> 'yes' then
      v_problems := v_problems || array(
        select format('public.%s is a %s of your own, and Purser needs its name: allow it to be moved aside (npm run migrate -- --move-aside).', m ->> 'name', m ->> 'kind')
        from jsonb_array_elements(purser.moved()) m);
    end if;
    call purser.refuse_users(v_problems);
  end if;
  perform set_config('purser.adopting', 'yes', true);

  select pg_get_expr(d.adbin, d.adrelid) into v_found
  from pg_attribute a join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = v_users and a.attname = 'credits_balance' and not a.attisdropped;
  if v_found is not null then
    execute format('select (%s)::numeric <> 0', v_found) into v_gives;
  end if;
  if v_gives then
    raise warning 'purser: new users had % credits by default (public.users.credits_balance); from now on 0: grant them by function, or set free_plan.welcome_credits', v_found;
  end if;
  if exists (select from pg_attribute where attrelid = v_users and attname = 'credits_balance' and not attisdropped) then
    alter table public.users alter column credits_balance drop default;
    if (select atttypid from pg_attribute where attrelid = v_users and attname = 'credits_balance') <> 'bigint'::regtype then
      alter table public.users alter column credits_balance type bigint using credits_balance::bigint;
    end if;
    alter table public.users alter column credits_balance set default 0;
  end if;

  select string_agg(a.attname, ', ' order by a.attnum) into v_found
  from pg_attribute a
  where a.attrelid = v_users and a.attnum > 0 and not a.attisdropped and a.attnotnull and not a.atthasdef
    and a.attidentity = '' and a.attname not in ('id', 'email', 'credits_balance');
  if v_found is not null then
    raise warning 'purser: rows of public.users need %; Purser cannot create users by itself, your app inserts them', v_found;
  end if;
  select string_agg(distinct p.oid::regprocedure::text, ', ') into v_found
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where n.nspname not in ('purser', 'pg_catalog', 'information_schema') and n.nspname not like 'pg\_%'
    and p.proowner <> 'purser_ledger'::regrole and p.prosrc ilike '%credits\_balance%';
  if v_found is not null then
    raise warning 'purser: these functions of yours name credits_balance, which only Purser''s functions may change from now on: %', v_found;
  end if;
end
$$;

-- When the columns and rights of Purser are there: stops with what its writes would run into.
create or replace procedure purser.try_adoption()
language plpgsql set search_path = '' as $$
declare
  v_problems text[];
begin
  if purser.adopting() then
    v_problems := purser.users_trial();
    if cardinality(v_problems) > 0 then
      call purser.refuse_users(v_problems);
    end if;
  end if;
end
$$;

-- Opening balances, once, when the guards are there: each user who has credits gets one entry and
-- one lot, or a debt where the balance is negative. The app's own triggers rest meanwhile: nothing
-- happened to these users, so no updated_at moves and no log is written.
create or replace procedure purser.end_adoption()
language plpgsql set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_resting jsonb := '{}';
  v_trigger record;
begin
  if not purser.adopting() then
    return;
  end if;
  for v_trigger in
    select t.tgname as name, case t.tgenabled when 'O' then 'enable' when 'A' then 'enable always' else 'enable replica' end as state
    from pg_trigger t
    where t.tgrelid = 'public.users'::regclass and not t.tgisinternal and t.tgenabled <> 'D' and t.tgname not like 'purser\_%'
  loop
    v_resting := v_resting || jsonb_build_object(v_trigger.name, v_trigger.state);
    execute format('alter table public.users disable trigger %I', v_trigger.name);
  end loop;

  set local role purser_ledger;
  with opening as (
    select a.user_id, a.credits_balance as amount from purser.accounts a where a.credits_balance <> 0),
  lots as (
    insert into public.credit_grants (user_id, entry_number, amount, remaining, paid, created_at)
    select o.user_id, 1, o.amount, o.amount, false, v_now from opening o where o.amount > 0
    returning id, user_id, amount)
  insert into public.credit_transactions (
    user_id, entry_number, transaction_type, amount, balance_after, held_after, available_after,
    version, idempotency_key, description, lots, event_at, created_at)
  select o.user_id, 1, 'adjustment', o.amount, o.amount, 0, o.amount, 1, 'opening-balance',
         'Opening balance', case when l.id is null then '[]'::jsonb
           else jsonb_build_array(jsonb_build_object('grant_id', l.id::text, 'amount', l.amount)) end,
         v_now, v_now
  from opening o left join lots l on l.user_id = o.user_id;
  update public.users u
  set credits_balance = coalesce(u.credits_balance, 0),
      credits_debt = greatest(-coalesce(u.credits_balance, 0), 0),
      credits_version = case when u.credits_balance <> 0 then 1 else 0 end,
      entry_count = case when u.credits_balance <> 0 then 1 else 0 end
  where u.credits_balance <> 0 or u.credits_balance is null;
  reset role;

  for v_trigger in select key as name, value as state from jsonb_each_text(v_resting) loop
    execute format('alter table public.users %s trigger %I', v_trigger.state, v_trigger.name);
  end loop;
  alter table public.users alter column credits_balance set not null;
end
$$;

call purser.restrict_functions();

reset role;
revoke purser_ledger from current_user;
