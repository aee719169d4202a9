-- Purser: users, the credit ledger, lots and their functions.
--
-- Paste this whole file into the Supabase SQL editor, or run `npm run migrate`. It is one
-- transaction, safe to run again, and runs on PostgreSQL 15 to 18. A plain Postgres needs
-- supabase_stubs.sql first (the roles anon, authenticated, service_role and the schema auth);
-- `npm run migrate` adds it by itself.
--
-- The rules this file keeps, whoever calls:
--   * credit_transactions is append-only, for every role; credits_balance is the sum of a user's
--     entries in every committed snapshot.
--   * Every money function locks the user row first, then takes what is due, then looks the key
--     up, then decides. Expected refusals are an `outcome` word; an exception is a broken contract
--     (SQLSTATE PTnnn, message = error code, detail = JSON).
--   * Amounts are whole credits within +-(2^53 - 1), so SQL, JSON, Lua and JavaScript agree.
--   * Only service_role executes functions; a user reads his own rows; anon reads nothing.
--
-- Objects live in `public` (the Data API sees them) or in `purser` (private helpers). All are
-- owned by the role purser_ledger, which cannot log in; the migrating role is its member only
-- while this file runs.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- Owner role and private schema
-- ---------------------------------------------------------------------------------------------

do $$
begin
  if not exists (select from pg_roles where rolname = 'purser_ledger') then
    create role purser_ledger nologin;
  end if;
exception
  -- Roles belong to the cluster: another database's migration may create it at this moment.
  when duplicate_object or unique_violation then null;
end
$$;

grant purser_ledger to current_user;

do $$
begin
  execute format('grant create on database %I to purser_ledger', current_database());
  create schema if not exists purser authorization purser_ledger;
  -- `npm run migrate` keeps its record of applied files in this schema and may have made it first.
  if (select nspowner from pg_namespace where nspname = 'purser') <> 'purser_ledger'::regrole then
    alter schema purser owner to purser_ledger;
  end if;
  execute format('revoke create on database %I from purser_ledger', current_database());
end
$$;

grant usage, create on schema public to purser_ledger;

-- ---------------------------------------------------------------------------------------------
-- Existing apps: what is here already, and would break, stops the migration before it begins
-- ---------------------------------------------------------------------------------------------

set role purser_ledger;

-- Tables and functions of the app's that bear a name of ours are moved aside: renamed to
-- <name>_before_purser with nothing in them changed, indexes and constraints included, because
-- `create index if not exists` would take an index of that name for ours. Whether they may be
-- moved is judged at the end of the file (purser.judge_moved), when both sides can be compared.
drop procedure if exists purser.make_room(text[]);
create or replace procedure purser.make_room(p_tables text[], p_functions text[] default '{}')
language plpgsql set search_path = '' as $$
declare
  v_found record;
  v_index record;
  v_aside text;
begin
  for v_found in
    select c.oid, c.relname as name, c.relowner from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relname = any (p_tables)
      and c.relowner <> 'purser_ledger'::regrole
    order by c.relname
  loop
    -- A backup restored without owners: this is the ledger itself, it must never be moved aside.
    if to_regprocedure('purser.ledger_id()') is not null and exists (
      select from pg_catalog.pg_policy p where p.polrelid = v_found.oid
        and p.polname in (v_found.name || '_select_own', v_found.name || '_select_admin', v_found.name || '_deny'))
    then
      raise exception 'public.% is a table of Purser, but belongs to %', v_found.name, v_found.relowner::regrole
        using errcode = 'object_not_in_prerequisite_state',
          hint = 'It looks like a backup that was restored without owners. Create the role purser_ledger, then restore it with owners (pg_restore without --no-owner). Nothing was changed.';
    end if;
    if not pg_has_role(current_user, v_found.relowner, 'usage') then
      raise exception 'public.% belongs to %, and % may not rename it', v_found.name, v_found.relowner::regrole, current_user
        using errcode = 'insufficient_privilege', hint = 'Run the migration as a role that owns it. Nothing was changed.';
    end if;
    v_aside := purser.aside_name(v_found.name);
    execute format('alter table public.%I rename to %I', v_found.name, v_aside);
    for v_index in
      select i.relname as name from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
      where x.indrelid = v_found.oid
    loop
      execute format('alter index public.%I rename to %I', v_index.name, purser.aside_name(v_index.name));
    end loop;
    perform purser.note_moved('table', v_found.name, v_aside);
  end loop;

  for v_found in
    select p.oid, p.proname as name, p.oid::regprocedure as signature, p.proowner from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname = any (p_functions)
      and p.proowner <> 'purser_ledger'::regrole
    order by p.oid
  loop
    v_aside := purser.aside_name(v_found.name);
    perform purser.note_moved('function', format('%s(%s)', v_found.name, pg_get_function_identity_arguments(v_found.oid)), v_aside);
    execute format('alter routine %s rename to %I', v_found.signature, v_aside);
  end loop;
end
$$;

-- A name for what is moved aside that nothing in public bears yet, within 63 bytes.
create or replace function purser.aside_name(p_name text)
returns text language plpgsql set search_path = '' as $$
declare
  v_name text := left(p_name, 40) || '_before_purser';
  v_number integer := 1;
begin
  while exists (select from pg_catalog.pg_class c where c.relnamespace = 'public'::regnamespace and c.relname = v_name)
     or exists (select from pg_catalog.pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname = v_name)
  loop
    v_number := v_number + 1;
    v_name := left(p_name, 40) || '_before_purser_' || v_number;
  end loop;
  return v_name;
end
$$;

-- What this transaction has moved aside: [{kind, name, aside}].
create or replace function purser.moved()
returns jsonb language sql set search_path = '' as $$
  select coalesce(nullif(current_setting('purser.moved', true), ''), '[]')::jsonb
$$;

create or replace function purser.note_moved(p_kind text, p_name text, p_aside text)
returns void language sql set search_path = '' as $$
  select set_config('purser.moved', (purser.moved() || jsonb_build_object('kind', p_kind, 'name', p_name, 'aside', p_aside))::text, true)
$$;

-- Stops when something was moved aside and nobody has said that it may be, with what differs:
--   set purser.move_aside = 'yes';   or   npm run migrate -- --move-aside
-- `npm run migrate` sets it to 'later' and asks once at its end, for one list of all files.
create or replace procedure purser.judge_moved()
language plpgsql set search_path = '' as $$
declare
  v_names text;
  v_detail text;
begin
  if purser.moved() = '[]' or current_setting('purser.move_aside', true) in ('yes', 'later') then
    return;
  end if;
  select string_agg(m.name, ', ' order by m.place), string_agg(
    case m.kind
      when 'function' then format('public.%s is a function of your own', m.name)
      else format('public.%s is a table of your own: %s', m.name, purser.column_differences(m.aside, m.name)) end,
    e'\n' order by m.place)
  into v_names, v_detail
  from (
    select r.value ->> 'kind' as kind, r.value ->> 'name' as name, r.value ->> 'aside' as aside, r.ordinality as place
    from jsonb_array_elements(purser.moved()) with ordinality r) m;
  raise exception 'this database has its own %', v_names
    using errcode = 'duplicate_table', detail = v_detail,
      hint = 'Purser needs these names. To keep yours under the name <name>_before_purser, run set purser.move_aside = ''yes''; before this file, or npm run migrate -- --move-aside. Nothing was changed.';
end
$$;

-- How the columns of the app's table and of ours differ, in words.
create or replace function purser.column_differences(p_theirs text, p_ours text)
returns text language sql set search_path = '' as $$
  with theirs as (
    select a.attname::text as name, format_type(a.atttypid, a.atttypmod) as type, a.attnum from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass('public.' || quote_ident(p_theirs)) and a.attnum > 0 and not a.attisdropped),
  ours as (
    select a.attname::text as name, format_type(a.atttypid, a.atttypmod) as type, a.attnum from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass('public.' || quote_ident(p_ours)) and a.attnum > 0 and not a.attisdropped),
  parts as (
    select 1 as place, 'only yours: ' || string_agg(format('%s %s', t.name, t.type), ', ' order by t.attnum) as part
    from theirs t where not exists (select from ours o where o.name = t.name)
    union all
    select 2, 'only Purser''s: ' || string_agg(format('%s %s', o.name, o.type), ', ' order by o.attnum)
    from ours o where not exists (select from theirs t where t.name = o.name)
    union all
    select 3, 'of another type: ' || string_agg(format('%s %s, Purser''s %s', t.name, t.type, o.type), ', ' order by t.attnum)
    from theirs t join ours o on o.name = t.name and o.type <> t.type)
  select coalesce(string_agg(part, '; ' order by place), 'its columns are the same') from parts where part is not null
$$;

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

-- Takes constraints of an earlier form of this file away, where they still are.
create or replace function purser.drop_checks(p_table text, p_names text[])
returns void language plpgsql set search_path = '' as $$
declare
  v_name text;
begin
  for v_name in
    select c.conname from pg_catalog.pg_constraint c
    where c.conrelid = p_table::regclass and c.contype = 'c' and c.conname = any (p_names)
  loop
    execute format('alter table %s drop constraint %I', p_table::regclass, v_name);
  end loop;
end
$$;

reset role;

call purser.make_room(
  array['credit_transactions', 'credit_sources', 'credit_grants', 'credit_holds', 'closed_accounts', 'audit_events', 'reconciliation_findings'],
  -- Of credit_consistency_migration.sql: apps that followed an older recipe have them, and are told at once.
  array['validate_credits_consistency', 'sync_user_credits']);

do $$
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

-- ---------------------------------------------------------------------------------------------
-- Users
-- ---------------------------------------------------------------------------------------------

do $$
begin
  if to_regclass('public.users') is null then
    create table public.users (
      id text primary key check (id <> '' and octet_length(id) <= 255),
      email text,
      created_at timestamptz not null default now()
    ) with (fillfactor = 80);
    comment on table public.users is 'Who owns credits. The credits_ columns are a projection of credit_transactions and change only through Purser''s functions.';
    alter table public.users enable row level security;
    create policy users_select_own on public.users for select to authenticated
      using (id = ((select auth.jwt()) ->> 'sub'));
    grant select on public.users to authenticated, service_role;
    grant insert (id, email), update (email), delete on public.users to service_role;
  end if;
end
$$;

alter table public.users
  add column if not exists email text,
  add column if not exists plan text not null default 'free',
  add column if not exists stripe_customer_id text,
  add column if not exists credits_balance bigint not null default 0,
  add column if not exists credits_held bigint not null default 0,
  add column if not exists credits_debt bigint not null default 0,
  add column if not exists credits_version bigint not null default 0,
  add column if not exists credits_suspended boolean not null default false,
  add column if not exists entry_count bigint not null default 0;

do $$
begin
  -- The guards of these tables judge each row, and Postgres reads the text of a CHECK anew for
  -- every statement: the ten there were cost a spend a quarter of its time.
  perform purser.drop_checks('public.users', array['users_credits_bounds']);
  if not exists (
    select from pg_policy
    where polrelid = 'public.users'::regclass and polname = 'users_purser_ledger'
  ) then
    create policy users_purser_ledger on public.users to purser_ledger using (true) with check (true);
  end if;
end
$$;

comment on column public.users.credits_balance is 'Credits: sum of the amounts of this user''s entries. May be negative (debt) only after a claw-back.';
comment on column public.users.credits_held is 'Credits reserved by open holds.';
comment on column public.users.credits_debt is 'Credits owed after a claw-back of spent credits; repaid by the next grant. balance = sum(lots.remaining) - debt.';
comment on column public.users.credits_version is 'Rises with every change of balance, holds, debt or suspension; orders copies in Redis.';
comment on column public.users.credits_suspended is 'While true, lots of a plan are not spendable; bought lots always are.';
comment on column public.users.entry_count is 'Number of entries; the entry_number of the last one.';

-- Column by column: what else the app keeps about its users stays out of reach.
grant select (id, email, plan, stripe_customer_id, credits_balance, credits_held, credits_debt,
    credits_version, credits_suspended, entry_count),
  insert (id, email, stripe_customer_id),
  update (email, plan, stripe_customer_id, credits_balance, credits_held, credits_debt,
    credits_version, credits_suspended, entry_count)
  on public.users to purser_ledger;

do $$
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

grant insert (stripe_customer_id), update (stripe_customer_id) on public.users to service_role;

-- ---------------------------------------------------------------------------------------------
-- Tables of the ledger (owned by purser_ledger)
-- ---------------------------------------------------------------------------------------------

set role purser_ledger;

-- What Purser reads of a user, and the row type of its functions; other columns of the table are
-- the app's own and are neither read nor needed. `user_id` is the spelling used everywhere else.
create or replace view purser.accounts as
  select u.id, u.id::text as user_id, u.email::text as email, coalesce(u.plan::text, 'free') as plan,
         u.stripe_customer_id::text as stripe_customer_id, u.credits_balance,
         u.credits_held, u.credits_debt, u.credits_version, u.credits_suspended, u.entry_count
  from public.users u;

-- The ledger's name: a copy of a balance made from another ledger is not a copy of this one.
do $$
begin
  if to_regprocedure('purser.ledger_id()') is null then
    execute format(
      'create function purser.ledger_id() returns uuid language sql immutable set search_path = '''' as $f$ select %L::uuid $f$',
      gen_random_uuid()
    );
  end if;
end
$$;

create table if not exists public.credit_transactions (
  user_id text not null,
  entry_number bigint not null,
  id bigint generated always as identity,
  transaction_type text not null,
  amount bigint not null,
  balance_after bigint not null,
  held_after bigint not null,
  available_after bigint not null,
  version bigint not null,
  idempotency_key text not null,
  description text,
  lots jsonb not null default '[]',
  stripe_session_id text,
  stripe_payment_intent_id text,
  stripe_invoice_id text,
  metadata jsonb not null default '{}',
  event_at timestamptz not null,
  created_at timestamptz not null,
  reverses bigint,
  primary key (user_id, entry_number),
  constraint credit_transactions_key unique (user_id, idempotency_key)
);
alter table public.credit_transactions add column if not exists reverses bigint;
-- What an entry may hold is judged by purser.guard_entry, what a lot may by purser.guard_lot.
select purser.drop_checks('public.credit_transactions', array[
  'credit_transactions_entry_number_check', 'credit_transactions_transaction_type_check',
  'credit_transactions_amount_check', 'credit_transactions_idempotency_key_check']);
create index if not exists credit_transactions_reverses
  on public.credit_transactions (user_id, reverses) where reverses is not null;
create index if not exists credit_transactions_session
  on public.credit_transactions (stripe_session_id) where stripe_session_id is not null;
-- Entries arrive in time order, so a block range index finds a time span at a thousandth of a
-- b-tree's size.
create index if not exists credit_transactions_created_at
  on public.credit_transactions using brin (created_at) with (pages_per_range = 16, autosummarize = on);

comment on table public.credit_transactions is 'The ledger: one immutable row for each change of a balance, numbered per user. Written only by Purser''s functions.';
comment on column public.credit_transactions.amount is 'Credits, signed.';
comment on column public.credit_transactions.lots is 'Which lots were paid from or created: [{"grant_id", "amount"}].';
comment on column public.credit_transactions.reverses is 'entry_number of the entry that this one takes back in whole or in part: a usage_refund names its usage, a clawback and a clawback_reversal name the grant.';
comment on column public.credit_transactions.event_at is 'When it happened (at Stripe, for purchases); created_at is when it was written.';

create table if not exists public.credit_sources (
  source_key text primary key check (octet_length(source_key) between 3 and 300),
  user_id text not null,
  entry_number bigint not null,
  created_at timestamptz not null default clock_timestamp()
);
create index if not exists credit_sources_entry on public.credit_sources (user_id, entry_number);
comment on table public.credit_sources is 'Every Stripe object that has paid for an entry (checkout:cs_, invoice:in_, payment:pi_), once in the whole ledger.';

create table if not exists public.credit_grants (
  id bigint generated always as identity primary key,
  user_id text not null,
  entry_number bigint not null,
  amount bigint not null,
  remaining bigint not null,
  priority integer not null default 100,
  expires_at timestamptz,
  paid boolean not null,
  from_plan boolean not null default false,
  cost_amount bigint,
  cost_currency text,
  catalogue_id text,
  price_id text,
  created_at timestamptz not null,
  exhausted_at timestamptz
) with (fillfactor = 80);
select purser.drop_checks('public.credit_grants', array[
  'credit_grants_amount_check', 'credit_grants_check', 'credit_grants_exhausted']);
-- Burn-down order, for open lots only. `remaining` is in no index, so spending is a HOT update;
-- a lot leaves the index once, when it is exhausted.
create index if not exists credit_grants_open
  on public.credit_grants (user_id, priority, expires_at, paid, id) where exhausted_at is null;
create index if not exists credit_grants_expiring
  on public.credit_grants (user_id, expires_at) where exhausted_at is null and expires_at is not null;
create index if not exists credit_grants_due
  on public.credit_grants (expires_at) where exhausted_at is null and expires_at is not null;
create index if not exists credit_grants_entry on public.credit_grants (user_id, entry_number);
-- The open lots of a user in burn-down order: the one place where it is written. Postgres keeps
-- the order of a subquery where nothing above it sorts, joins or groups; who does that orders by
-- these columns himself. The index credit_grants_open gives it without sorting.
create or replace view purser.burn_down as
  select g.user_id, g.id, g.entry_number, g.remaining, g.from_plan from public.credit_grants g
  where g.exhausted_at is null
  order by g.user_id, g.priority, g.expires_at nulls last, g.paid, g.id;

comment on table public.credit_grants is 'Lots: each grant with what is left of it. Burn-down order: priority, expiry (none last), free before paid, id.';
comment on column public.credit_grants.cost_amount is 'What was paid for the lot, in the smallest unit of cost_currency.';

create table if not exists public.credit_holds (
  id bigint generated always as identity primary key,
  user_id text not null,
  idempotency_key text not null check (octet_length(idempotency_key) between 1 and 400),
  amount bigint not null check (amount between 1 and 9007199254740991),
  captured bigint not null default 0 check (captured between 0 and amount),
  status text not null default 'open' check (status in ('open', 'captured', 'released', 'expired')),
  expires_at timestamptz not null,
  description text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null,
  updated_at timestamptz not null,
  constraint credit_holds_key unique (user_id, idempotency_key)
);
create index if not exists credit_holds_open on public.credit_holds (user_id, expires_at) where status = 'open';
create index if not exists credit_holds_due on public.credit_holds (expires_at) where status = 'open';
create index if not exists credit_holds_updated_at on public.credit_holds (updated_at);
comment on table public.credit_holds is 'Credits reserved for work that is not done yet; users.credits_held is the sum of amount - captured of the open ones.';

create table if not exists public.closed_accounts (
  user_id text primary key,
  credits_balance bigint not null,
  credits_held bigint not null,
  credits_debt bigint not null,
  credits_version bigint not null,
  credits_suspended boolean not null,
  entry_count bigint not null,
  plan text not null,
  closed_at timestamptz not null default clock_timestamp()
);
comment on table public.closed_accounts is 'Counters of deleted users; their entries stay in the ledger. A row inserted again under the id takes them over.';

create table if not exists public.audit_events (
  id bigint generated always as identity primary key,
  actor text not null,
  action text not null,
  user_id text,
  reason text,
  before jsonb,
  after jsonb,
  created_at timestamptz not null default clock_timestamp()
);
create index if not exists audit_events_user on public.audit_events (user_id, id);
create index if not exists audit_events_created_at on public.audit_events (created_at);
comment on table public.audit_events is 'Who did what to whom, written in the same transaction as the change.';

create table if not exists public.reconciliation_findings (
  id bigint generated always as identity primary key,
  code text not null,
  subject text not null,
  user_id text,
  detail jsonb not null default '{}',
  times bigint not null default 1,
  first_seen_at timestamptz not null default clock_timestamp(),
  last_seen_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz
);
create unique index if not exists reconciliation_findings_open
  on public.reconciliation_findings (code, subject) where resolved_at is null;
comment on table public.reconciliation_findings is 'What does not fit and needs a person; one open row for each code and subject.';

-- ---------------------------------------------------------------------------------------------
-- Private helpers. They run inside the money functions, with the user row locked.
-- ---------------------------------------------------------------------------------------------

-- Times in answers: ISO 8601 in UTC, whatever the session's time zone.
create or replace function purser.iso(p_time timestamptz)
returns text language plpgsql stable set search_path = '' as $$
begin
  return to_char(p_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
end
$$;

-- Raises a broken contract: p_status is the HTTP status, p_code a stable error code.
create or replace function purser.raise_error(p_status integer, p_code text, p_detail text)
returns void language plpgsql set search_path = '' as $$
begin
  raise exception using
    errcode = 'PT' || p_status, message = p_code, detail = jsonb_build_object('detail', p_detail)::text;
end
$$;

-- Notes something that needs a person; repeated sightings raise `times`.
create or replace function purser.record_finding(p_code text, p_subject text, p_user_id text, p_detail jsonb)
returns void language sql set search_path = '' as $$
  insert into public.reconciliation_findings (code, subject, user_id, detail)
  values (p_code, p_subject, p_user_id, p_detail)
  on conflict (code, subject) where resolved_at is null do update
    set times = public.reconciliation_findings.times + 1,
        last_seen_at = clock_timestamp(),
        detail = excluded.detail;
$$;

-- The caller's spelling of a user id as the type of users.id; null where it cannot be one.
do $$
declare
  v_type text := purser.users_id_type();
begin
  drop function if exists purser.to_user_id(text);
  if v_type in ('text', 'character varying') then
    execute 'create function purser.to_user_id(p_user_id text) returns text
      language plpgsql immutable set search_path = '''' as $f$ begin return p_user_id; end $f$';
  else
    -- Only a nested block catches a failing conversion; a DECLARE default would not.
    execute format('create function purser.to_user_id(p_user_id text) returns %1$s
      language plpgsql immutable set search_path = '''' as $f$
      begin
        return p_user_id::%1$s;
      exception when invalid_text_representation or numeric_value_out_of_range then
        return null;
      end $f$', v_type);
  end if;
end
$$;

-- The one spelling of a user id that the books use, for a user without a row as well: a uuid may
-- come in upper case or in braces. What cannot be an id stays as it is, and is found nowhere.
create or replace function purser.user_key(p_user_id text)
returns text language sql immutable set search_path = '' as $$
  select coalesce(purser.to_user_id(p_user_id)::text, p_user_id)
$$;

-- Locks and returns the user row; all fields null where there is none. FOR NO KEY UPDATE, so
-- that rows of the app which reference the user can still be inserted meanwhile.
create or replace function purser.lock_user(p_user_id text)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts;
begin
  select * into v_user from purser.accounts a
  where a.id = purser.to_user_id(p_user_id) for no key update;
  return v_user;
end
$$;

-- Locks a user, or what stands for him while his account is closed: the tombstone, which a row
-- inserted again under the id must take away first. All fields null for a closed or unknown user.
create or replace function purser.lock_account(p_user_id text)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := purser.lock_user(p_user_id);
begin
  if v_user.id is null then
    perform from public.closed_accounts c where c.user_id = purser.user_key(p_user_id) for update;
    if not found then
      -- He may have returned while this call waited for the tombstone.
      v_user := purser.lock_user(p_user_id);
    end if;
  end if;
  return v_user;
end
$$;

-- What can be spent now: balance - held, while suspended less what is left of plan lots.
create or replace function purser.available(p_user purser.accounts)
returns bigint language plpgsql stable set search_path = '' as $$
begin
  if not p_user.credits_suspended then
    return p_user.credits_balance - p_user.credits_held;
  end if;
  return p_user.credits_balance - p_user.credits_held - coalesce((
    select sum(g.remaining) from public.credit_grants g
    where g.user_id = p_user.user_id and g.exhausted_at is null and g.from_plan), 0);
end
$$;

-- The next time at which a lot of the user's expires; null = none does.
create or replace function purser.next_expiry(p_user_id text)
returns timestamptz language plpgsql stable set search_path = '' as $$
begin
  return (select min(g.expires_at) from public.credit_grants g
    where g.user_id = p_user_id and g.exhausted_at is null and g.expires_at is not null);
end
$$;

-- The next time at which what the user can spend changes by itself: a lot or an open hold ends.
-- Where everything is held no lot ends before a hold does, also one whose time has come: without
-- this such a copy in Redis would be a miss for as long as the hold lasts.
create or replace function purser.next_change(p_user purser.accounts)
returns timestamptz language plpgsql stable set search_path = '' as $$
declare
  v_hold_ends timestamptz;
begin
  if p_user.credits_held = 0 then
    return purser.next_expiry(p_user.user_id);
  end if;
  v_hold_ends := (
    select min(h.expires_at) from public.credit_holds h
    where h.user_id = p_user.user_id and h.status = 'open');
  if p_user.credits_balance <= p_user.credits_held then
    return v_hold_ends;
  end if;
  return least(purser.next_expiry(p_user.user_id), v_hold_ends);
end
$$;

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

drop function if exists purser.append_entry(
  purser.accounts, text, bigint, text, timestamptz, jsonb, text, jsonb, timestamptz, text, text, text);
-- Appends one entry and moves the projection with it: the only place where a balance changes.
-- p_user: the locked row, with credits_held and credits_debt already as they shall be after it.
-- p_reverses: the number of the entry that this one takes back, in whole or in part.
create or replace function purser.append_entry(
  p_user purser.accounts,
  p_type text,
  p_amount bigint,
  p_key text,
  p_now timestamptz,
  p_lots jsonb,
  p_description text default null,
  p_metadata jsonb default '{}',
  p_event_at timestamptz default null,
  p_session_id text default null,
  p_payment_intent_id text default null,
  p_invoice_id text default null,
  p_reverses bigint default null)
returns public.credit_transactions language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := p_user;
  v_entry public.credit_transactions;
begin
  v_user.credits_balance := p_user.credits_balance + p_amount;
  if abs(v_user.credits_balance) > 9007199254740991 then
    perform purser.raise_error(400, 'invalid_request',
      format('The balance of user %s would pass 2^53 - 1 credits.', p_user.id));
  end if;
  v_user.credits_version := p_user.credits_version + 1;
  v_user.entry_count := p_user.entry_count + 1;

  update public.users u
  set credits_balance = v_user.credits_balance,
      credits_held = v_user.credits_held,
      credits_debt = v_user.credits_debt,
      credits_version = v_user.credits_version,
      entry_count = v_user.entry_count
  where u.id = p_user.id;

  insert into public.credit_transactions (
    user_id, entry_number, transaction_type, amount, balance_after, held_after, available_after,
    version, idempotency_key, description, lots, stripe_session_id, stripe_payment_intent_id,
    stripe_invoice_id, metadata, event_at, created_at, reverses)
  values (
    p_user.user_id, v_user.entry_count, p_type, p_amount, v_user.credits_balance,
    v_user.credits_held, purser.available(v_user), v_user.credits_version, p_key, p_description,
    p_lots, p_session_id, p_payment_intent_id, p_invoice_id, coalesce(p_metadata, '{}'),
    coalesce(p_event_at, p_now), p_now, p_reverses)
  returning * into v_entry;
  return v_entry;
end
$$;

-- The user row as it stands after an entry, for the next step of the same function.
create or replace function purser.after_entry(p_user purser.accounts, p_entry public.credit_transactions)
returns purser.accounts language plpgsql immutable set search_path = '' as $$
declare
  v_user purser.accounts := p_user;
begin
  v_user.credits_balance := p_entry.balance_after;
  v_user.credits_version := p_entry.version;
  v_user.entry_count := p_entry.entry_number;
  return v_user;
end
$$;

-- Takes p_amount from the user's open lots in burn-down order; plan lots are passed over while
-- suspended. Returns [{"grant_id", "amount"}]. The caller has made sure that there is enough.
create or replace function purser.take_from_lots(p_user purser.accounts, p_amount bigint, p_now timestamptz)
returns jsonb language plpgsql set search_path = '' as $$
declare
  v_lots jsonb := purser.take_up_to(p_user, p_amount, p_now);
  v_taken bigint := purser.lots_total(v_lots);
begin
  if v_taken < p_amount then
    raise exception 'lots of user % hold % credits less than the balance says', p_user.id, p_amount - v_taken
      using errcode = 'data_corrupted',
            hint = 'Run select * from validate_credits_consistency();';
  end if;
  return v_lots;
end
$$;

-- The credits of [{"grant_id", "amount"}].
create or replace function purser.lots_total(p_lots jsonb)
returns bigint language plpgsql immutable set search_path = '' as $$
begin
  return (select coalesce(sum((l.value ->> 'amount')::bigint), 0) from jsonb_array_elements(p_lots) l);
end
$$;

-- The same as take_from_lots, but takes what there is: for claw-backs, whose rest becomes debt.
-- p_entry_number: only from the lots which that entry granted.
create or replace function purser.take_up_to(
  p_user purser.accounts, p_amount bigint, p_now timestamptz, p_entry_number bigint default null)
returns jsonb language plpgsql set search_path = '' as $$
declare
  v_left bigint := p_amount;
  v_take bigint;
  v_lot record;
  v_lots jsonb := '[]';
begin
  for v_lot in
    select b.id, b.remaining from purser.burn_down b
    where b.user_id = p_user.user_id
      and not (p_user.credits_suspended and b.from_plan)
      and (p_entry_number is null or b.entry_number = p_entry_number)
  loop
    exit when v_left = 0;
    v_take := least(v_lot.remaining, v_left);
    update public.credit_grants g
    set remaining = g.remaining - v_take,
        exhausted_at = case when g.remaining = v_take then p_now end
    where g.id = v_lot.id;
    v_lots := v_lots || jsonb_build_object('grant_id', v_lot.id::text, 'amount', v_take);
    v_left := v_left - v_take;
  end loop;
  return v_lots;
end
$$;

-- Writes how much the open holds of a user reserve; raises the version with it.
create or replace function purser.set_held(p_user purser.accounts, p_held bigint)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := p_user;
begin
  update public.users u
  set credits_held = p_held, credits_version = p_user.credits_version + 1
  where u.id = p_user.id;
  v_user.credits_held := p_held;
  v_user.credits_version := p_user.credits_version + 1;
  return v_user;
end
$$;

-- Ends the open holds of a user whose time has come. Returns the row after it.
create or replace function purser.expire_holds(p_user purser.accounts, p_now timestamptz)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_ended bigint;
begin
  with ended as (
    update public.credit_holds h
    set status = 'expired', updated_at = p_now
    where h.user_id = p_user.user_id and h.status = 'open' and h.expires_at <= p_now
    returning h.amount - h.captured as remaining)
  select sum(e.remaining) into v_ended from ended e;
  if v_ended is null then
    return p_user;
  end if;
  return purser.set_held(p_user, p_user.credits_held - v_ended);
end
$$;

-- Takes what is due: open holds first, then an expiration entry for each lot whose time has come.
-- Takes at most what leaves open holds covered; the rest goes as soon as it is not needed for
-- that. Returns the row after it.
create or replace function purser.expire_due(p_user purser.accounts, p_now timestamptz)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := p_user;
  v_lot record;
  v_take bigint;
begin
  if p_user.credits_held > 0 then
    v_user := purser.expire_holds(p_user, p_now);
  end if;
  -- Almost always nothing is due: one look into a partial index, mostly empty, says so.
  if purser.next_expiry(p_user.user_id) > p_now is not false then
    return v_user;
  end if;
  for v_lot in
    select g.id, g.remaining, g.expires_at from public.credit_grants g
    where g.user_id = p_user.user_id and g.exhausted_at is null and g.expires_at <= p_now
    order by g.expires_at, g.id
  loop
    v_take := least(v_lot.remaining, v_user.credits_balance - v_user.credits_held);
    exit when v_take <= 0;
    update public.credit_grants g
    set remaining = g.remaining - v_take,
        exhausted_at = case when g.remaining = v_take then p_now end
    where g.id = v_lot.id;
    v_user := purser.after_entry(v_user, purser.append_entry(
      v_user, 'expiration', -v_take, format('expire:%s:%s', v_lot.id, v_user.entry_count + 1), p_now,
      jsonb_build_array(jsonb_build_object('grant_id', v_lot.id::text, 'amount', v_take)),
      p_event_at => v_lot.expires_at));
  end loop;
  return v_user;
end
$$;

-- What a money function answers about an entry; the same for the first call and its replays.
create or replace function purser.entry_answer(p_outcome text, p_entry public.credit_transactions)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'outcome', p_outcome,
    'transaction_id', p_entry.id::text,
    'user_id', p_entry.user_id,
    'amount', abs(p_entry.amount),
    'balance', p_entry.balance_after,
    'held', p_entry.held_after,
    'available', p_entry.available_after,
    'version', p_entry.version,
    'lots', p_entry.lots,
    'created_at', purser.iso(p_entry.created_at));
end
$$;

-- What a money function answers when it wrote nothing: the word and the balance as it stands.
create or replace function purser.balance_answer(p_outcome text, p_user purser.accounts)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'outcome', p_outcome,
    'user_id', p_user.user_id,
    'balance', p_user.credits_balance,
    'held', p_user.credits_held,
    'available', purser.available(p_user),
    'version', p_user.credits_version);
end
$$;

create or replace function purser.check_amount(p_amount bigint)
returns void language plpgsql immutable set search_path = '' as $$
begin
  if p_amount is null or p_amount < 1 or p_amount > 9007199254740991 then
    perform purser.raise_error(400, 'invalid_request',
      format('amount must be a whole number of credits from 1 to 9007199254740991, not %s.', coalesce(p_amount::text, 'null')));
  end if;
end
$$;

-- [{payment, paid, currency}] of a grant; see purser.attach_payments.
create or replace function purser.check_payments(p_payments jsonb)
returns void language plpgsql immutable set search_path = '' as $$
declare
  v_bad text;
begin
  if jsonb_typeof(p_payments) is distinct from 'array' or jsonb_array_length(p_payments) > 100 then
    perform purser.raise_error(400, 'invalid_request', 'p_payments must be an array of at most 100 payments.');
  end if;
  if p_payments = '[]' then
    return;
  end if;
  select p.value::text into v_bad from jsonb_array_elements(p_payments) p
  where case
    when octet_length(p.value ->> 'payment') between 3 and 250 is not true then true
    when jsonb_typeof(p.value -> 'paid') is distinct from 'number' then true
    else (p.value ->> 'paid')::numeric not between 0 and 9007199254740991 or (p.value ->> 'paid')::numeric % 1 <> 0 end
  limit 1;
  if v_bad is not null then
    perform purser.raise_error(400, 'invalid_request',
      format('A payment is {payment, paid, currency} with paid a whole number from 0 to 9007199254740991, not %s.', left(v_bad, 200)));
  end if;
  select p.value ->> 'payment' into v_bad from jsonb_array_elements(p_payments) p
  group by 1 having count(*) > 1 limit 1;
  if v_bad is not null then
    perform purser.raise_error(400, 'invalid_request', format('p_payments names %s twice.', v_bad));
  end if;
end
$$;

create or replace function purser.check_key(p_key text)
returns void language plpgsql immutable set search_path = '' as $$
begin
  if p_key is null or octet_length(p_key) not between 1 and 255 then
    perform purser.raise_error(400, 'invalid_request', 'The idempotency key must have 1 to 255 bytes.');
  end if;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- ensure_user: the row of a user, created when there is none.
--   p_replace  true = the given e-mail and customer replace those of the row; false = they only
--              fill empty columns (a sign-in must not overwrite what the app keeps there).
--   p_welcome_credits  granted once to a row made here (key grant:welcome), in the same transaction
-- Answers {outcome: created | exists | not_found, user_id, email, stripe_customer_id, created,
-- reason}. not_found: the id cannot be one of this table, or the app's own columns, constraints or
-- triggers forbid a bare row (`reason` says which). exists with a `reason`: the app's table
-- refused the new e-mail or customer, and the row stays as it was.
-- Idempotent. Locks: the user row when it is changed.
-- ---------------------------------------------------------------------------------------------
create or replace function public.ensure_user(
  p_user_id text, p_email text default null, p_stripe_customer_id text default null,
  p_replace boolean default false, p_welcome_credits bigint default 0)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_created boolean := false;
  v_reason text;
begin
  if purser.to_user_id(p_user_id) is null or p_user_id = '' then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  select * into v_user from purser.accounts a where a.id = purser.to_user_id(p_user_id);
  if v_user.id is null then
    begin
      insert into public.users (id, email, stripe_customer_id)
      values (purser.to_user_id(p_user_id), p_email, p_stripe_customer_id)
      on conflict (id) do nothing
      returning true into v_created;
    exception
      -- Classes 23 and 42, and what a trigger of the app's raises. Time-outs and deadlocks pass:
      -- they say nothing about the user.
      when integrity_constraint_violation or syntax_error_or_access_rule_violation
           or raise_exception or string_data_right_truncation then
        return jsonb_build_object('outcome', 'not_found', 'reason', sqlerrm);
    end;
    v_created := coalesce(v_created, false);
    select * into v_user from purser.accounts a where a.id = purser.to_user_id(p_user_id);
    if v_created and p_welcome_credits > 0 then
      perform public.grant_credits(
        v_user.user_id, 'bonus', 'grant:welcome',
        jsonb_build_array(jsonb_build_object('credits', p_welcome_credits)),
        p_description => 'Welcome credits');
    end if;
  end if;
  if not v_created and (
    (p_email is not null and v_user.email is distinct from p_email and (p_replace or v_user.email is null))
    or (p_stripe_customer_id is not null and v_user.stripe_customer_id is distinct from p_stripe_customer_id
        and (p_replace or v_user.stripe_customer_id is null)))
  then
    begin
      update public.users u
      set email = case when p_replace then coalesce(p_email, u.email) else coalesce(u.email, p_email) end,
          stripe_customer_id = case when p_replace then coalesce(p_stripe_customer_id, u.stripe_customer_id)
                                    else coalesce(u.stripe_customer_id, p_stripe_customer_id) end
      where u.id = v_user.id
      returning u.email, u.stripe_customer_id into v_user.email, v_user.stripe_customer_id;
    exception
      -- An e-mail that another row has must not keep a user from signing in.
      when integrity_constraint_violation or string_data_right_truncation then
        v_reason := sqlerrm;
    end;
  end if;
  return jsonb_build_object(
    'outcome', case when v_created then 'created' else 'exists' end,
    'user_id', v_user.user_id, 'email', v_user.email,
    'stripe_customer_id', v_user.stripe_customer_id, 'created', v_created)
    || case when v_reason is null then '{}' else jsonb_build_object('reason', v_reason) end;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- grant_credits: adds credits, once per economic object.
--   p_type     purchase | allocation | bonus | adjustment
--   p_key      idempotency key of the entry, unique per user: the first source for money objects,
--              grant:<key> or adjust:<key> for callers' own
--   p_lots     1 to 100 lots [{credits, expires_at, priority, paid, from_plan, cost_amount,
--              cost_currency, catalogue_id, price_id}]; the entry's amount is their sum
--   p_sources  all identities of one settlement (checkout:cs_, invoice:in_, payment:pi_), claimed
--              together, in key order. Any of them taken = replayed, and the missing ones are
--              attached to that same entry; taken for another user, or by two different entries
--              = conflict and a finding, and none is added.
--   p_payments up to 100 [{payment, paid, currency}]: everything that paid for the settlement, also
--              the customer balance it used (`balance:in_...`). Each is a source `payment:<id>`,
--              too; what was refunded of them already is taken back at once, in an entry of its
--              own (sql/payments_migration.sql).
--   p_event_at when it happened (default: now)
-- Answers {outcome: applied | replayed | conflict | not_found, ..., grants, mirror}. First write
-- wins: another amount under the same object is replayed plus a finding. The balance answered is
-- that of the grant's entry; `mirror` has the one after a claw-back.
-- Locks: the user row (that of the closed account where there is none), the source keys in order,
-- the payments in order.
-- ---------------------------------------------------------------------------------------------
drop function if exists public.grant_credits(
  text, text, text, jsonb, jsonb, text, jsonb, text, text, text, timestamptz, timestamptz);
create or replace function public.grant_credits(
  p_user_id text, p_type text, p_key text, p_lots jsonb,
  p_sources jsonb default '[]', p_payments jsonb default '[]',
  p_description text default null, p_metadata jsonb default '{}',
  p_stripe_session_id text default null, p_stripe_payment_intent_id text default null,
  p_stripe_invoice_id text default null,
  p_event_at timestamptz default null, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_user_id text;
  v_now timestamptz;
  v_keys text[];
  v_claimed text[] := '{}';
  v_has_payments boolean;
  v_owner record;
  v_entry public.credit_transactions;
  v_amount bigint;
  v_repaid bigint;
  v_left_to_repay bigint;
  v_lot record;
  v_grant_id bigint;
  v_grants jsonb := '[]';
begin
  if p_type not in ('purchase', 'allocation', 'bonus', 'adjustment') then
    perform purser.raise_error(400, 'invalid_request', format('%s is not a type of grant.', p_type));
  end if;
  -- The whole key of the entry: a caller's own of up to 255 bytes, and what it is led by.
  if p_key is null or octet_length(p_key) not between 1 and 300 then
    perform purser.raise_error(400, 'invalid_request', 'The key of a grant must have 1 to 300 bytes.');
  end if;
  if jsonb_typeof(p_lots) is distinct from 'array' or jsonb_array_length(p_lots) not between 1 and 100 then
    perform purser.raise_error(400, 'invalid_request', 'A grant has 1 to 100 lots.');
  end if;
  select coalesce(sum(l.credits), 0), min(l.credits) into v_amount, v_left_to_repay
  from jsonb_to_recordset(p_lots) as l(credits bigint);
  perform purser.check_amount(v_amount);
  perform purser.check_amount(v_left_to_repay);
  perform purser.check_payments(p_payments);
  select coalesce(array_agg(distinct s.k order by s.k), '{}'), coalesce(bool_or(starts_with(s.k, 'payment:')), false)
  into v_keys, v_has_payments
  from (
    select jsonb_array_elements_text(p_sources) as k
    union all
    select 'payment:' || (p.value ->> 'payment') from jsonb_array_elements(p_payments) p) s;

  v_user := purser.lock_account(p_user_id);
  v_user_id := coalesce(v_user.user_id, purser.user_key(p_user_id));
  v_now := coalesce(p_now, clock_timestamp());
  if v_user.id is not null then
    v_user := purser.expire_due(v_user, v_now);
  end if;

  -- Who owns these sources already? Twice at most: once before claiming, once when another
  -- transaction claimed one of them between the look and the claim.
  for v_round in 1..2 loop
    select min(s.user_id) as user_id, min(s.entry_number) as entry_number, count(*) as taken,
           count(distinct (s.user_id, s.entry_number)) as owners
    into v_owner
    from public.credit_sources s where s.source_key = any (v_keys);

    if v_owner.owners > 1
       or (v_owner.owners = 1 and v_owner.user_id <> v_user_id) then
      perform purser.record_finding('source_conflict', p_key, v_user_id, jsonb_build_object(
        'sources', p_sources, 'amount', v_amount, 'owners', (
          select jsonb_agg(jsonb_build_object('source', s.source_key, 'user_id', s.user_id, 'entry_number', s.entry_number))
          from public.credit_sources s where s.source_key = any (v_keys))));
      return jsonb_build_object('outcome', 'conflict', 'user_id', v_user_id);
    end if;

    select * into v_entry from public.credit_transactions t
    where t.user_id = v_user_id
      and (t.entry_number = v_owner.entry_number
           or (v_owner.owners = 0 and t.idempotency_key = p_key));
    if found then
      with claimed as (
        insert into public.credit_sources (source_key, user_id, entry_number)
        select k, v_entry.user_id, v_entry.entry_number from unnest(v_keys) k order by k
        on conflict (source_key) do nothing
        returning source_key)
      select coalesce(array_agg(source_key), '{}') into v_claimed from claimed;
      if exists (
        select from public.credit_sources s
        where s.source_key = any (v_keys) and (s.user_id, s.entry_number) <> (v_entry.user_id, v_entry.entry_number))
      then
        -- Another settlement claimed one of them since the look: the next look calls it a conflict.
        delete from public.credit_sources s where s.source_key = any (v_claimed);
        v_claimed := '{}';
        continue;
      end if;
      if v_has_payments then
        perform purser.attach_payments(v_entry, v_keys, p_payments, v_now);
        if v_user.id is not null then
          v_user := purser.expire_due(purser.settle_payments(v_user, v_entry.entry_number, null, v_now), v_now);
        end if;
      end if;
      if v_entry.amount <> v_amount or v_entry.transaction_type <> p_type then
        if cardinality(v_keys) = 0 then
          return purser.entry_answer('conflict', v_entry);
        end if;
        perform purser.record_finding('source_amount_differs', p_key, v_entry.user_id, jsonb_build_object(
          'sources', p_sources, 'granted', v_entry.amount, 'asked', v_amount,
          'granted_type', v_entry.transaction_type, 'asked_type', p_type));
      end if;
      return purser.entry_answer('replayed', v_entry) || jsonb_build_object('mirror',
        case when v_user.id is not null then purser.mirror_record(v_user) end);
    end if;
    if v_user.id is null then
      return jsonb_build_object('outcome', 'not_found', 'user_id', v_user_id);
    end if;

    -- Claim all, in key order so that two settlements cannot wait for each other.
    with claimed as (
      insert into public.credit_sources (source_key, user_id, entry_number)
      select k, v_user.user_id, v_user.entry_count + 1 from unnest(v_keys) k order by k
      on conflict (source_key) do nothing
      returning source_key)
    select coalesce(array_agg(source_key), '{}') into v_claimed from claimed;
    exit when cardinality(v_claimed) = cardinality(v_keys);
    -- Another user's settlement was faster: give back what was claimed and look again.
    delete from public.credit_sources s where s.source_key = any (v_claimed);
  end loop;
  if cardinality(v_claimed) <> cardinality(v_keys) then
    perform purser.raise_error(503, 'dependency_down', 'Two settlements claim the same Stripe object at once; try again.');
  end if;

  -- Debt is repaid first, so that balance = sum(remaining) - debt, never both above zero.
  v_repaid := least(v_user.credits_debt, v_amount);
  v_user.credits_debt := v_user.credits_debt - v_repaid;
  v_left_to_repay := v_repaid;
  for v_lot in
    select l.*, least(l.credits, v_repaid) as unused from jsonb_to_recordset(p_lots) as l(
      credits bigint, expires_at timestamptz, priority integer, paid boolean, from_plan boolean,
      cost_amount bigint, cost_currency text, catalogue_id text, price_id text)
  loop
    insert into public.credit_grants (
      user_id, entry_number, amount, remaining, priority, expires_at, paid, from_plan,
      cost_amount, cost_currency, catalogue_id, price_id, created_at, exhausted_at)
    values (
      v_user.user_id, v_user.entry_count + 1, v_lot.credits,
      v_lot.credits - least(v_lot.credits, v_left_to_repay),
      coalesce(v_lot.priority, 100), v_lot.expires_at, coalesce(v_lot.paid, p_type = 'purchase'),
      coalesce(v_lot.from_plan, false), v_lot.cost_amount, v_lot.cost_currency,
      v_lot.catalogue_id, v_lot.price_id, v_now,
      case when v_lot.credits <= v_left_to_repay then v_now end)
    returning id into v_grant_id;
    v_left_to_repay := v_left_to_repay - least(v_lot.credits, v_left_to_repay);
    v_grants := v_grants || jsonb_build_object('grant_id', v_grant_id::text, 'amount', v_lot.credits);
  end loop;

  v_entry := purser.append_entry(
    v_user, p_type, v_amount, p_key, v_now, v_grants, p_description, p_metadata, p_event_at,
    p_stripe_session_id, p_stripe_payment_intent_id, p_stripe_invoice_id);
  v_user := purser.expire_due(purser.after_entry(v_user, v_entry), v_now);
  if v_has_payments then
    perform purser.attach_payments(v_entry, v_keys, p_payments, v_now);
    v_user := purser.expire_due(purser.settle_payments(v_user, v_entry.entry_number, null, v_now), v_now);
  end if;
  return purser.entry_answer('applied', v_entry)
    || jsonb_build_object('repaid_debt', v_repaid, 'mirror', purser.mirror_record(v_user));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- consume_credits: spends p_amount credits, once per key.
--   p_key  the caller's idempotency key; permanent, unique per user
-- Answers {outcome: applied | replayed | conflict | insufficient_credits | suspended | not_found,
--   transaction_id, amount, balance, held, available, version, lots, created_at, mirror}; a replay
-- repeats the first answer. Only `applied` binds the key: a refusal writes nothing and is judged
-- again. suspended: it would have passed without the suspension.
-- Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.consume_credits(
  p_user_id text, p_amount bigint, p_key text,
  p_description text default null, p_metadata jsonb default '{}',
  p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_row record;
  v_user purser.accounts;
  v_now timestamptz;
  v_lot record;
  v_lots jsonb;
  v_entry_id bigint;
  v_spent record;
begin
  if (p_amount between 1 and 9007199254740991 and octet_length(p_key) between 1 and 255) is not true then
    perform purser.check_amount(p_amount);
    perform purser.check_key(p_key);
  end if;

  select u.id, u.id::text as user_id, u.credits_suspended or u.credits_held > 0 as special,
         u.credits_balance - p_amount as balance, u.credits_version + 1 as version,
         u.entry_count + 1 as entry_number
  into v_row from public.users u where u.id = purser.to_user_id(p_user_id) for no key update;
  if v_row.id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  v_now := coalesce(p_now, clock_timestamp());

  -- Nearly every spend: no holds, nothing due, and the first lot holds more than is spent. The
  -- same as purser.spend in fewer steps, since each step of PL/pgSQL costs as much as a look-up.
  if v_row.balance >= 0 and not v_row.special then
    select b.id, b.remaining, (
        -- Naming `remaining` keeps this from being an index-only scan, which costs more to set up.
        select g.expires_at from public.credit_grants g
        where g.user_id = v_row.user_id and g.exhausted_at is null and g.expires_at is not null and g.remaining > 0
        order by g.expires_at limit 1) as next_expiry
    into v_lot from purser.burn_down b where b.user_id = v_row.user_id limit 1;
    if v_lot.remaining > p_amount and (v_lot.next_expiry > v_now) is not false then
      v_lots := jsonb_build_array(jsonb_build_object('grant_id', v_lot.id::text, 'amount', p_amount));
      insert into public.credit_transactions (
        user_id, entry_number, transaction_type, amount, balance_after, held_after, available_after,
        version, idempotency_key, description, lots, metadata, event_at, created_at)
      values (
        v_row.user_id, v_row.entry_number, 'usage', -p_amount, v_row.balance, 0, v_row.balance,
        v_row.version, 'consume:' || p_key, p_description, v_lots, coalesce(p_metadata, '{}'), v_now, v_now)
      on conflict on constraint credit_transactions_key do nothing
      returning id into v_entry_id;
      if v_entry_id is not null then
        update public.credit_grants g set remaining = g.remaining - p_amount where g.id = v_lot.id;
        update public.users u
        set credits_balance = v_row.balance, credits_version = v_row.version, entry_count = v_row.entry_number
        where u.id = v_row.id;
        return jsonb_build_object(
          'outcome', 'applied',
          'transaction_id', v_entry_id::text,
          'user_id', v_row.user_id,
          'amount', p_amount,
          'balance', v_row.balance,
          'held', 0,
          'available', v_row.balance,
          'version', v_row.version,
          'lots', v_lots,
          'created_at', to_char(v_now at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
          'mirror', jsonb_build_object(
            'ledger', purser.ledger_id(),
            'version', v_row.version,
            'balance', v_row.balance,
            'held', 0,
            'available', v_row.balance,
            'suspended', false,
            'valid_until', floor(extract(epoch from v_lot.next_expiry) * 1000)::bigint));
      end if;
    end if;
  end if;

  v_user := purser.expire_due(purser.lock_user(p_user_id), v_now);
  v_spent := purser.spend(v_user, p_amount, p_key, p_description, p_metadata, v_now);
  return v_spent.o_answer || jsonb_build_object('mirror', purser.mirror_record(v_spent.o_user));
end
$$;

-- The entry of a user under a key; all fields null where there is none. Asked as "the first from
-- this key on", which only the index of keys can answer: asked by equality, the planner may take
-- the primary key and read a user's whole history, if that was short when statistics were taken.
create or replace function purser.find_entry(p_user_id text, p_key text)
returns public.credit_transactions language plpgsql stable set search_path = '' as $$
declare
  v_entry public.credit_transactions;
begin
  select * into v_entry from public.credit_transactions t
  where (t.user_id, t.idempotency_key) >= (p_user_id, p_key)
  order by t.user_id, t.idempotency_key limit 1;
  if (v_entry.user_id, v_entry.idempotency_key) is distinct from (p_user_id, p_key) then
    return null;
  end if;
  return v_entry;
end
$$;

-- One spend of a locked user of whom nothing is due: what consume_credits and its batch share.
-- Gives the row after it, and the answer without the mirror record.
create or replace function purser.spend(
  p_user purser.accounts, p_amount bigint, p_key text, p_description text, p_metadata jsonb,
  p_now timestamptz, out o_user purser.accounts, out o_answer jsonb)
language plpgsql set search_path = '' as $$
declare
  v_entry public.credit_transactions;
begin
  o_user := p_user;
  v_entry := purser.find_entry(p_user.user_id, 'consume:' || p_key);
  if v_entry.id is not null then
    o_answer := purser.entry_answer(
      case when v_entry.amount = -p_amount then 'replayed' else 'conflict' end, v_entry);
    return;
  end if;

  if purser.available(p_user) < p_amount then
    o_answer := purser.balance_answer(
      case when p_user.credits_balance - p_user.credits_held >= p_amount then 'suspended' else 'insufficient_credits' end,
      p_user);
    return;
  end if;

  v_entry := purser.append_entry(
    p_user, 'usage', -p_amount, 'consume:' || p_key, p_now,
    purser.take_from_lots(p_user, p_amount, p_now), p_description, p_metadata);
  o_user := purser.expire_due(purser.after_entry(p_user, v_entry), p_now);
  o_answer := purser.entry_answer('applied', v_entry);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- consume_credits_batch: many spends in one transaction, each judged by itself.
--   p_operations  1 to 500 of {user_id, amount, idempotency_key[, description, metadata]}, of any
--                 users; those of one user are judged in the order given, each sees the ones before
--   p_wait        true = waits up to 5 s for users that others have locked. Ask it in a call of
--                 their own: who else is in the call waits with them.
-- Answers {results: [{index, idempotency_key, outcome, ...}], mirrors: [{user_id, ...mirror}]}.
-- results are in the order of the operations, index counts from 0, and each is what
-- consume_credits answers, without its mirror; outcome may also be `busy`: the user is locked by
-- another transaction, nothing was written, send it again with the same key. mirrors has one
-- record of each user that was found and locked, as it stands after all operations.
-- An operation that is no operation breaks the whole call (PT400, naming its index).
-- Locks: the user rows, in the order of their ids.
-- ---------------------------------------------------------------------------------------------
create or replace function public.consume_credits_batch(
  p_operations jsonb, p_wait boolean default false, p_now timestamptz default null)
returns json language plpgsql security definer set search_path = '' set lock_timeout = '5s'
-- Every look-up here is by key; a plan made while the tables were small must not outlive that.
set enable_seqscan = off as $$
declare
  v_ids regclass := pg_catalog.pg_get_serial_sequence('public.credit_transactions', 'id');
  v_ledger uuid := purser.ledger_id();
  v_now timestamptz;
  v_created_at text;
  v_users purser.accounts[];
  v_plain text[];
  v_places integer[];
  v_answers json[];
  v_mirrors json[];
  v_user purser.accounts;
  v_operation record;
  v_spent record;
begin
  perform purser.check_operations(p_operations);

  if p_wait then
    begin
      perform from purser.accounts a
      where a.id in (select purser.to_user_id(o.value ->> 'user_id') from jsonb_array_elements(p_operations) o)
      order by a.id for no key update;
    exception
      -- Waited long enough: who is free now is served, the others are busy.
      when lock_not_available then null;
    end;
  end if;
  v_users := array(
    select a from purser.accounts a
    where a.id in (select purser.to_user_id(o.value ->> 'user_id') from jsonb_array_elements(p_operations) o)
    order by a.id for no key update skip locked);
  v_now := coalesce(p_now, clock_timestamp());
  v_created_at := purser.iso(v_now);

  -- Nearly all users, in one statement: no key is known, no holds, nothing due, and the first lot
  -- holds more than all their operations spend, so that each of them passes.
  -- Conditions stand in `case` so that the planner does not take a handful of rows for one, and
  -- ids are drawn beforehand so that entries need not be joined back: both were quadratic.
  with operation as materialized (
    select o.*, (k.user_id, k.idempotency_key) = (o.user_id, 'consume:' || o.key) as known,
           row_number() over user_order as turn, sum(o.amount) over user_order as spent
    from purser.operations(p_operations) o
    -- The first key from this one on: see purser.find_entry. The limits here and below keep these
    -- from becoming joins with whole tables.
    left join lateral (
      select t.user_id, t.idempotency_key from public.credit_transactions t
      where (t.user_id, t.idempotency_key) >= (o.user_id, 'consume:' || o.key)
      order by t.user_id, t.idempotency_key limit 1) k on true
    window user_order as (partition by o.user_id order by o.place)),
  total as materialized (
    select o.user_id, max(o.spent) as spent, count(*) as operations,
           bool_or(o.known) is not true and count(distinct o.key) = count(*) as new
    from operation o group by o.user_id),
  plain as materialized (
    select u.id, u.user_id, u.credits_balance as balance, u.credits_version as version, u.entry_count,
           t.spent, t.operations, l.id as grant_id, n.expires_at as next_expiry
    from total t
    join unnest(v_users) u on u.user_id = t.user_id
    cross join lateral (
      select b.id, b.remaining from purser.burn_down b where b.user_id = u.user_id limit 1) l
    left join lateral (
      select g.expires_at from public.credit_grants g
      where g.user_id = u.user_id and g.exhausted_at is null and g.expires_at is not null
      order by g.expires_at limit 1) n on true
    where case when t.new and not u.credits_suspended and u.credits_held = 0
      and u.credits_balance >= t.spent and l.remaining > t.spent
      and (n.expires_at > v_now) is not false then true end),
  spend as materialized (
    select nextval(v_ids) as id, o.place, o.key, p.user_id, p.entry_count + o.turn as entry_number, o.amount,
           p.balance - o.spent as balance, p.version + o.turn as version, o.description, o.metadata,
           jsonb_build_array(jsonb_build_object('grant_id', p.grant_id::text, 'amount', o.amount)) as lots
    from plain p join operation o on o.user_id = p.user_id),
  entry as (
    insert into public.credit_transactions (
      id, user_id, entry_number, transaction_type, amount, balance_after, held_after, available_after,
      version, idempotency_key, description, lots, metadata, event_at, created_at)
    overriding system value
    select s.id, s.user_id, s.entry_number, 'usage', -s.amount, s.balance, 0, s.balance,
           s.version, 'consume:' || s.key, s.description, s.lots, s.metadata, v_now, v_now
    from spend s),
  lot as (
    update public.credit_grants g set remaining = g.remaining - p.spent from plain p where g.id = p.grant_id),
  account as (
    update public.users u
    set credits_balance = p.balance - p.spent, credits_version = p.version + p.operations,
        entry_count = p.entry_count + p.operations
    from plain p where u.id = p.id)
  select coalesce(array_agg(s.place), '{}'), coalesce(array_agg(json_build_object(
           'outcome', 'applied',
           'transaction_id', s.id::text,
           'user_id', s.user_id,
           'amount', s.amount,
           'balance', s.balance,
           'held', 0,
           'available', s.balance,
           'version', s.version,
           'lots', s.lots,
           'created_at', v_created_at,
           'index', s.place - 1,
           'idempotency_key', s.key)), '{}'),
         array(select p.user_id from plain p),
         array(select json_build_object(
           'user_id', p.user_id,
           'ledger', v_ledger,
           'version', p.version + p.operations,
           'balance', p.balance - p.spent,
           'held', 0,
           'available', p.balance - p.spent,
           'suspended', false,
           'valid_until', floor(extract(epoch from p.next_expiry) * 1000)::bigint) from plain p)
  into v_places, v_answers, v_plain, v_mirrors
  from spend s;

  -- The other users, one operation after the other.
  for v_operation in
    select o.*, u as account from purser.operations(p_operations) o
    join unnest(v_users) u on u.user_id = o.user_id
    where o.user_id <> all (v_plain)
    order by o.user_id, o.place
  loop
    if v_user.user_id is distinct from v_operation.user_id then
      if v_user.user_id is not null then
        v_mirrors := v_mirrors || (purser.mirror_record(v_user) || jsonb_build_object('user_id', v_user.user_id))::json;
      end if;
      v_user := purser.expire_due(v_operation.account, v_now);
    end if;
    v_spent := purser.spend(v_user, v_operation.amount, v_operation.key, v_operation.description,
      v_operation.metadata, v_now);
    v_user := v_spent.o_user;
    v_places := v_places || v_operation.place;
    v_answers := v_answers || (v_spent.o_answer || jsonb_build_object(
      'index', v_operation.place - 1, 'idempotency_key', v_operation.key))::json;
  end loop;
  if v_user.user_id is not null then
    v_mirrors := v_mirrors || (purser.mirror_record(v_user) || jsonb_build_object('user_id', v_user.user_id))::json;
  end if;

  return json_build_object('results', (
    select json_agg(r.answer order by r.place) from (
      select a.place, a.answer from unnest(v_places, v_answers) a(place, answer)
      union all
      -- Who was not locked: nobody, or somebody whom another transaction has locked.
      select o.place, json_build_object(
        'outcome', case when exists (
          select from public.users u where u.id = purser.to_user_id(o.user_id)) then 'busy' else 'not_found' end,
        'user_id', o.given_id, 'index', o.place - 1, 'idempotency_key', o.key)
      from purser.operations(p_operations) o
      where cardinality(v_places) < jsonb_array_length(p_operations) and o.place <> all (v_places)) r),
    'mirrors', array_to_json(v_mirrors));
end
$$;

-- The operations of a batch as rows; user_id in the spelling of the books, given_id as it came.
create or replace function purser.operations(p_operations jsonb)
returns table (place integer, given_id text, user_id text, amount bigint, key text, description text, metadata jsonb)
language plpgsql stable rows 500 set search_path = '' as $$
begin
  return query
    select o.ordinality::integer, o.value ->> 'user_id',
           coalesce(purser.to_user_id(o.value ->> 'user_id')::text, o.value ->> 'user_id'),
           (o.value ->> 'amount')::numeric::bigint, o.value ->> 'idempotency_key', o.value ->> 'description',
           coalesce(nullif(o.value -> 'metadata', 'null'), '{}')
    from jsonb_array_elements(p_operations) with ordinality o;
end
$$;

-- Raises invalid_request unless these are operations of consume_credits_batch.
create or replace function purser.check_operations(p_operations jsonb)
returns void language plpgsql immutable set search_path = '' as $$
declare
  v_index bigint;
begin
  if jsonb_typeof(p_operations) is distinct from 'array' or jsonb_array_length(p_operations) not between 1 and 500 then
    perform purser.raise_error(400, 'invalid_request', 'operations must be an array of 1 to 500 operations.');
  end if;
  -- `case` so that an amount is read as a number only where it is one.
  select min(o.ordinality) - 1 into v_index
  from jsonb_array_elements(p_operations) with ordinality o
  where case when jsonb_typeof(o.value) = 'object'
               and jsonb_typeof(o.value -> 'user_id') = 'string'
               and jsonb_typeof(o.value -> 'amount') = 'number'
               and jsonb_typeof(o.value -> 'idempotency_key') = 'string'
               and coalesce(jsonb_typeof(o.value -> 'description'), 'null') in ('string', 'null')
               and coalesce(jsonb_typeof(o.value -> 'metadata'), 'null') in ('object', 'null')
    then octet_length(o.value ->> 'idempotency_key') not between 1 and 255
      or (o.value ->> 'amount')::numeric not between 1 and 9007199254740991
      or (o.value ->> 'amount')::numeric % 1 <> 0
    else true end;
  if v_index is not null then
    perform purser.raise_error(400, 'invalid_request', format(
      'operations[%s] must be {user_id, amount, idempotency_key[, description, metadata]}: ids and keys are strings, the key of 1 to 255 bytes, amount is a whole number of credits from 1 to 9007199254740991.',
      v_index));
  end if;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_credit_balance: a user's balance as it stands, from one snapshot.
-- Answers {outcome: found | not_found, user_id, balance, held, available, debt, version, plan,
--   expiring: [{grant_id, credits, expires_at}] (the next 20), as_of, mirror}.
-- Writes only when lots or holds are due, so that no answer holds credits that the next spending
-- call would take. Locks: the user row, then only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_credit_balance(p_user_id text, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_answer jsonb;
begin
  if exists (
    select from purser.accounts a where a.id = purser.to_user_id(p_user_id) and purser.next_change(a) <= v_now)
  then
    perform purser.expire_due(purser.lock_user(p_user_id), v_now);
  end if;
  select jsonb_build_object(
    'outcome', 'found',
    'user_id', a.user_id,
    'balance', a.credits_balance,
    'held', a.credits_held,
    'available', purser.available(a),
    'debt', a.credits_debt,
    'version', a.credits_version,
    'plan', a.plan,
    'expiring', coalesce((
      select jsonb_agg(jsonb_build_object('grant_id', e.id::text, 'credits', e.remaining, 'expires_at', purser.iso(e.expires_at))
                       order by e.expires_at, e.id)
      from (select g.id, g.remaining, g.expires_at from public.credit_grants g
            where g.user_id = a.user_id and g.exhausted_at is null and g.expires_at is not null
            order by g.expires_at, g.id limit 20) e), '[]'),
    'as_of', purser.iso(v_now),
    'mirror', purser.mirror_record(a))
  into v_answer
  from purser.accounts a where a.id = purser.to_user_id(p_user_id);
  return coalesce(v_answer, jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id));
end
$$;

-- An entry as histories and statements show it. reverses: the entry it takes back, by number and id.
create or replace function purser.entry_record(p_entry public.credit_transactions)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'id', p_entry.id::text, 'entry_number', p_entry.entry_number, 'transaction_type', p_entry.transaction_type,
    'amount', p_entry.amount, 'balance_after', p_entry.balance_after, 'description', p_entry.description,
    'idempotency_key', p_entry.idempotency_key, 'reverses', p_entry.reverses,
    'reverses_transaction_id', case when p_entry.reverses is not null then (
      select t.id::text from public.credit_transactions t
      where t.user_id = p_entry.user_id and t.entry_number = p_entry.reverses) end,
    'stripe_session_id', p_entry.stripe_session_id,
    'stripe_payment_intent_id', p_entry.stripe_payment_intent_id, 'stripe_invoice_id', p_entry.stripe_invoice_id,
    'metadata', p_entry.metadata, 'event_at', purser.iso(p_entry.event_at), 'created_at', purser.iso(p_entry.created_at));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- list_credit_transactions: a page of a user's entries, newest first.
--   p_limit         1 to 100
--   p_before_entry  only entries with a lower entry_number (the cursor)
--   p_type, p_from (inclusive), p_to (exclusive)  filters
-- Answers {outcome: found | not_found, data, has_more, next_before_entry}. A closed account's
-- entries are found too. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_credit_transactions(
  p_user_id text, p_limit integer default 50, p_before_entry bigint default null,
  p_type text default null, p_from timestamptz default null, p_to timestamptz default null)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_user_id text := coalesce(
    (select u.id::text from public.users u where u.id = purser.to_user_id(p_user_id)),
    (select c.user_id from public.closed_accounts c where c.user_id = purser.user_key(p_user_id)));
  v_limit integer := least(greatest(coalesce(p_limit, 50), 1), 100);
  v_data jsonb;
  v_more boolean;
begin
  if v_user_id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  select coalesce(jsonb_agg(purser.entry_record(p.t) order by p.entry_number desc) filter (where p.place <= v_limit), '[]'),
    coalesce(bool_or(p.place > v_limit), false)
  into v_data, v_more
  from (
    select t, t.entry_number, row_number() over (order by t.entry_number desc) as place
    from public.credit_transactions t
    where t.user_id = v_user_id
      and (p_before_entry is null or t.entry_number < p_before_entry)
      and (p_type is null or t.transaction_type = p_type)
      and (p_from is null or t.created_at >= p_from)
      and (p_to is null or t.created_at < p_to)
    order by t.entry_number desc
    limit v_limit + 1) p;
  return jsonb_build_object('outcome', 'found', 'data', v_data, 'has_more', v_more,
    'next_before_entry', case when v_more then (v_data -> -1 ->> 'entry_number')::bigint end);
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

-- ---------------------------------------------------------------------------------------------
-- expire_due_credits: ends the holds and writes the expirations that are due, for up to p_limit
-- users; the expire-credits job calls it until `more` is false. Answers {users, more}. Users locked by others are left for the next
-- call (their own call expires them anyway).
-- ---------------------------------------------------------------------------------------------
create or replace function public.expire_due_credits(p_limit integer default 200, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_limit integer := least(greatest(coalesce(p_limit, 200), 1), 1000);
  v_user purser.accounts;
  v_count integer := 0;
begin
  for v_user in
    select a.* from purser.accounts a
    where a.id in (
      -- Lots of closed accounts wait for their return: they must not use up the limit.
      (select u.id from public.credit_holds h join public.users u on u.id = purser.to_user_id(h.user_id)
       where h.status = 'open' and h.expires_at <= v_now
       order by h.expires_at limit v_limit)
      union
      (select u.id from public.credit_grants g join public.users u on u.id = purser.to_user_id(g.user_id)
       where g.exhausted_at is null and g.expires_at <= v_now
         and u.credits_balance - u.credits_held > 0
       order by g.expires_at limit v_limit))
    order by a.id for no key update skip locked
  loop
    perform purser.expire_due(v_user, v_now);
    v_count := v_count + 1;
  end loop;
  return jsonb_build_object('users', v_count, 'more', v_count > 0 and (
    exists (
      select from public.credit_holds h join public.users u on u.id = purser.to_user_id(h.user_id)
      where h.status = 'open' and h.expires_at <= v_now)
    or exists (
      select from public.credit_grants g join public.users u on u.id = purser.to_user_id(g.user_id)
      where g.exhausted_at is null and g.expires_at <= v_now
        and u.credits_balance - u.credits_held > 0)));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- Guards. ENABLE ALWAYS: they fire under session_replication_role = replica as well. They have no
-- WHEN clause: such a clause, like a CHECK, is parsed anew for every statement, which cost more
-- than the spending itself.
-- ---------------------------------------------------------------------------------------------
create or replace function purser.refuse_change()
returns trigger language plpgsql set search_path = '' as $$
begin
  raise exception '% on %.% is not allowed: it is written only by Purser''s functions', tg_op, tg_table_schema, tg_table_name
    using errcode = 'insufficient_privilege',
          hint = 'Corrections are new entries: see adjust_credits and sync_user_credits.';
end
$$;

create or replace function purser.refuse_foreign_write()
returns trigger language plpgsql set search_path = '' as $$
begin
  if current_user <> 'purser_ledger' then
    raise exception '% on %.% is not allowed: it is written only by Purser''s functions', tg_op, tg_table_schema, tg_table_name
      using errcode = 'insufficient_privilege',
            hint = 'Credits are granted, spent and adjusted by function.';
  end if;
  return null;
end
$$;

-- Of an entry: who writes it, and what no entry can be.
create or replace function purser.guard_entry()
returns trigger language plpgsql set search_path = '' as $$
begin
  if current_user = 'purser_ledger' and new.amount <> 0 and new.amount between -9007199254740991 and 9007199254740991
     and new.entry_number > 0 and octet_length(new.idempotency_key) between 1 and 400
     -- Apart from the others: for nine words Postgres would build a hash table, in each transaction.
     and (new.transaction_type = 'usage' or new.transaction_type in (
       'purchase', 'allocation', 'bonus', 'usage_refund', 'clawback', 'clawback_reversal',
       'expiration', 'adjustment'))
  then
    return new;
  end if;
  perform purser.refuse_row(tg_op, tg_table_name, to_jsonb(new));
end
$$;

-- Of a lot: who writes it, and that it holds from nothing to all of what it began with.
create or replace function purser.guard_lot()
returns trigger language plpgsql set search_path = '' as $$
begin
  if current_user = 'purser_ledger' and new.remaining between 0 and new.amount
     and new.amount between 1 and 9007199254740991 and (new.remaining = 0) = (new.exhausted_at is not null)
  then
    return new;
  end if;
  perform purser.refuse_row(tg_op, tg_table_name, to_jsonb(new));
end
$$;

create or replace function purser.refuse_row(p_operation text, p_table text, p_row jsonb)
returns void language plpgsql set search_path = '' as $$
begin
  if current_user = 'purser_ledger' then
    raise exception 'a row of % breaks the rules of its table', p_table
      using errcode = 'check_violation', detail = p_row::text;
  end if;
  raise exception '% on public.% is not allowed: it is written only by Purser''s functions', p_operation, p_table
    using errcode = 'insufficient_privilege', hint = 'Credits are granted, spent and adjusted by function.';
end
$$;

-- Puts the guards on a table of ours. p_append_only: nobody rewrites its rows, Purser's own
-- functions included. p_row_guard: a function that judges each row that is written.
drop procedure if exists purser.guard_table(text, boolean);
create or replace procedure purser.guard_table(p_table text, p_append_only boolean, p_row_guard text default null)
language plpgsql set search_path = '' as $$
declare
  v_trigger record;
begin
  for v_trigger in
    select * from (values
      ('purser_foreign_write', case when p_append_only then 'insert' else 'insert or update' end,
        case when p_row_guard is null then 'statement' else 'row' end, coalesce(p_row_guard, 'refuse_foreign_write')),
      ('purser_foreign_delete', case when not p_append_only then 'delete' end, 'statement', 'refuse_foreign_write'),
      ('purser_append_only', case when p_append_only then 'update or delete' end, 'statement', 'refuse_change'),
      ('purser_truncate', 'truncate', 'statement', 'refuse_change')) as t(name, event, level, guard)
  loop
    execute format('drop trigger if exists %I on public.%I', v_trigger.name, p_table);
    continue when v_trigger.event is null;
    execute format('create trigger %I before %s on public.%I for each %s execute function purser.%I()',
      v_trigger.name, v_trigger.event, p_table, v_trigger.level, v_trigger.guard);
    execute format('alter table public.%I enable always trigger %I', p_table, v_trigger.name);
  end loop;
end
$$;

call purser.guard_table('credit_transactions', true, 'guard_entry');
call purser.guard_table('audit_events', true);
call purser.guard_table('credit_sources', false);
call purser.guard_table('credit_grants', false, 'guard_lot');
call purser.guard_table('credit_holds', false);
call purser.guard_table('closed_accounts', false);

-- Money columns and the id of `users` change only inside Purser's functions. Writing them with
-- the value they have is allowed: many apps save whole rows. In an app's own table users may
-- often edit their own row: what they buy and whose Stripe customer they are is not theirs to
-- write either.
create or replace function purser.refuse_money_change()
returns trigger language plpgsql set search_path = '' as $$
begin
  if current_user = 'purser_ledger' and old.id = new.id then
    if abs(new.credits_balance) <= 9007199254740991 and new.credits_held between 0 and 9007199254740991
       and new.credits_debt between 0 and 9007199254740991
    then
      return null;
    end if;
    raise exception 'credits of a user pass their bounds' using errcode = 'check_violation';
  end if;
  if old.id = new.id
    and (old.credits_balance, old.credits_held, old.credits_debt, old.credits_version, old.credits_suspended, old.entry_count)
        is not distinct from
        (new.credits_balance, new.credits_held, new.credits_debt, new.credits_version, new.credits_suspended, new.entry_count)
    and (current_user not in ('anon', 'authenticated')
      or (old.plan, old.stripe_customer_id) is not distinct from (new.plan, new.stripe_customer_id))
  then
    return null;
  end if;
  if current_user in ('anon', 'authenticated') then
    raise exception 'users may not write credits_ columns, entry_count, id, plan or stripe_customer_id of %', tg_table_name
      using errcode = 'insufficient_privilege';
  end if;
  raise exception 'credits_ columns, entry_count and id of % change only through Purser''s functions', tg_table_name
    using errcode = 'insufficient_privilege',
          hint = 'Grant, consume or adjust credits by function; repair drift with sync_user_credits(user).';
end
$$;

-- A new row starts at zero, or takes over the counters of the closed account of the same id.
create or replace function purser.open_account()
returns trigger language plpgsql security definer set search_path = '' as $$
declare
  v_closed public.closed_accounts;
begin
  -- A column that could be null before Purser came may still be sent as null.
  new.credits_balance := coalesce(new.credits_balance, 0);
  if new.credits_balance <> 0 or new.credits_held <> 0 or new.credits_debt <> 0
     or new.credits_version <> 0 or new.credits_suspended or new.entry_count <> 0 then
    raise exception 'a new row of % starts with zero credits', tg_table_name
      using errcode = 'insufficient_privilege', hint = 'Insert the user, then grant credits by function.';
  end if;
  delete from public.closed_accounts c where c.user_id = new.id::text returning * into v_closed;
  if v_closed.user_id is not null then
    new.credits_balance := v_closed.credits_balance;
    new.credits_held := v_closed.credits_held;
    new.credits_debt := v_closed.credits_debt;
    new.credits_version := v_closed.credits_version + 1;
    new.credits_suspended := v_closed.credits_suspended;
    new.entry_count := v_closed.entry_count;
    new.plan := v_closed.plan;
    insert into public.audit_events (actor, action, user_id, after)
    values ('sql', 'account_returned', v_closed.user_id, to_jsonb(v_closed));
  end if;
  return new;
end
$$;

-- After the insert, for what open_account could not see: a deletion that committed while this
-- insert waited for it, and triggers of the app's that ran later and wrote a balance.
create or replace function purser.confirm_account()
returns trigger language plpgsql security definer set search_path = '' as $$
declare
  v_closed public.closed_accounts;
begin
  delete from public.closed_accounts c where c.user_id = new.id::text returning * into v_closed;
  if v_closed.user_id is not null then
    update public.users u
    set credits_balance = v_closed.credits_balance, credits_held = v_closed.credits_held,
        credits_debt = v_closed.credits_debt, credits_version = v_closed.credits_version + 1,
        credits_suspended = v_closed.credits_suspended, entry_count = v_closed.entry_count,
        plan = v_closed.plan
    where u.id = new.id;
    insert into public.audit_events (actor, action, user_id, after)
    values ('sql', 'account_returned', v_closed.user_id, to_jsonb(v_closed));
  elsif new.entry_count = 0 and (new.credits_balance <> 0 or new.credits_held <> 0 or new.credits_debt <> 0) then
    raise exception 'a new row of % starts with zero credits', tg_table_name
      using errcode = 'insufficient_privilege', hint = 'Insert the user, then grant credits by function.';
  end if;
  return null;
end
$$;

create or replace function purser.close_account()
returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.closed_accounts as c (
    user_id, credits_balance, credits_held, credits_debt, credits_version, credits_suspended, entry_count, plan)
  values (old.id::text, old.credits_balance, old.credits_held, old.credits_debt, old.credits_version,
          old.credits_suspended, old.entry_count, coalesce(old.plan::text, 'free'));
  insert into public.audit_events (actor, action, user_id, before)
  values ('sql', 'account_closed', old.id::text, jsonb_build_object(
    'balance', old.credits_balance, 'debt', old.credits_debt, 'held', old.credits_held, 'entry_count', old.entry_count));
  return old;
end
$$;

reset role;

-- After, not before: a trigger of the app's that sorts later could still change the row.
drop trigger if exists purser_money_guard on public.users;
create trigger purser_money_guard after update on public.users
  for each row execute function purser.refuse_money_change();
drop trigger if exists purser_open_account on public.users;
create trigger purser_open_account before insert on public.users for each row
  execute function purser.open_account();
drop trigger if exists purser_confirm_account on public.users;
create trigger purser_confirm_account after insert on public.users for each row
  execute function purser.confirm_account();
do $$
begin
  drop trigger if exists purser_own_row on public.users;
  execute format('create trigger purser_own_row after insert on public.users for each row
    when (current_user in (''anon'', ''authenticated'')
      and (new.stripe_customer_id is not null or new.plan is distinct from %s))
    execute function purser.refuse_money_change()', coalesce((
      select pg_get_expr(d.adbin, d.adrelid) from pg_attribute a
      join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid = 'public.users'::regclass and a.attname = 'plan'), 'new.plan'));
end
$$;
drop trigger if exists purser_close_account on public.users;
create trigger purser_close_account after delete on public.users for each row
  execute function purser.close_account();
drop trigger if exists purser_truncate on public.users;
create trigger purser_truncate before truncate on public.users for each statement
  execute function purser.refuse_change();
alter table public.users enable always trigger purser_money_guard;
alter table public.users enable always trigger purser_open_account;
alter table public.users enable always trigger purser_confirm_account;
alter table public.users enable always trigger purser_own_row;
alter table public.users enable always trigger purser_close_account;
alter table public.users enable always trigger purser_truncate;

-- ---------------------------------------------------------------------------------------------
-- Who may do what
-- ---------------------------------------------------------------------------------------------

alter table public.credit_transactions enable row level security;
alter table public.credit_sources enable row level security;
alter table public.credit_grants enable row level security;
alter table public.credit_holds enable row level security;
alter table public.closed_accounts enable row level security;
alter table public.audit_events enable row level security;
alter table public.reconciliation_findings enable row level security;

drop policy if exists credit_transactions_select_own on public.credit_transactions;
create policy credit_transactions_select_own on public.credit_transactions for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));
drop policy if exists credit_grants_select_own on public.credit_grants;
create policy credit_grants_select_own on public.credit_grants for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));
drop policy if exists credit_holds_select_own on public.credit_holds;
create policy credit_holds_select_own on public.credit_holds for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));
drop policy if exists audit_events_select_admin on public.audit_events;
create policy audit_events_select_admin on public.audit_events for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');
drop policy if exists reconciliation_findings_select_admin on public.reconciliation_findings;
create policy reconciliation_findings_select_admin on public.reconciliation_findings for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');
drop policy if exists credit_sources_deny on public.credit_sources;
create policy credit_sources_deny on public.credit_sources for all to anon, authenticated using (false);
drop policy if exists closed_accounts_deny on public.closed_accounts;
create policy closed_accounts_deny on public.closed_accounts for all to anon, authenticated using (false);

set role purser_ledger;

revoke all on public.credit_transactions, public.credit_sources, public.credit_grants,
  public.credit_holds, public.closed_accounts, public.audit_events, public.reconciliation_findings
  from public, anon, authenticated, service_role;
grant select on public.credit_transactions, public.credit_grants, public.credit_holds, public.audit_events,
  public.reconciliation_findings to authenticated;
grant select on public.credit_transactions, public.credit_sources, public.credit_grants,
  public.credit_holds, public.closed_accounts, public.audit_events, public.reconciliation_findings to service_role;

-- ---------------------------------------------------------------------------------------------
-- Opening balances, once, when the table of an app is taken over: each user who has credits gets
-- one entry and one lot, or a debt where the balance is negative. The app's own triggers rest
-- meanwhile: nothing happened to these users, so no updated_at moves and no log is written.
-- ---------------------------------------------------------------------------------------------
reset role;

do $$
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

set role purser_ledger;

-- Postgres lets everybody execute a new function; ours are for service_role alone. Each file of
-- sql/ ends with this call, and with it the judgement on what make_room moved.
create or replace procedure purser.restrict_functions()
language plpgsql set search_path = '' as $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.proowner = 'purser_ledger'::regrole and p.pronamespace in ('public'::regnamespace, 'purser'::regnamespace)
  loop
    execute format('revoke all on routine %s from public, anon, authenticated, service_role', v_function);
    if (select p.pronamespace from pg_catalog.pg_proc p where p.oid = v_function) = 'public'::regnamespace then
      execute format('grant execute on routine %s to service_role', v_function);
    end if;
  end loop;
  call purser.judge_moved();
end
$$;
call purser.restrict_functions();

reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
