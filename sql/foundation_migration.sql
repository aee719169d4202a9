-- Purser: what every other file stands on. The owner of all objects, the private schema, and the
-- procedures that each file begins and ends with.
--
-- Paste this file first, whole, into the Supabase SQL editor, or run `npm run migrate`. Each file is
-- one transaction, safe to run again, and runs on PostgreSQL 15 to 18. A plain Postgres needs
-- supabase_stubs.sql before it (the roles anon, authenticated, service_role and the schema auth);
-- `npm run migrate` adds it by itself.
--
-- Objects live in `public` (the Data API sees them) or in `purser` (private helpers). All are
-- owned by the role purser_ledger, which cannot log in; the migrating role is its member only
-- while a file runs.

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

grant usage on schema public to purser_ledger;

set role purser_ledger;

-- ---------------------------------------------------------------------------------------------
-- Names that an app has already: each file begins with make_room, and restrict_functions, with which
-- it ends, judges what was moved
-- ---------------------------------------------------------------------------------------------

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

-- Takes constraints of an earlier form of a file away, where they still are.
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

-- ---------------------------------------------------------------------------------------------
-- What all functions speak: times and errors
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

call purser.restrict_functions();

reset role;
revoke purser_ledger from current_user;
