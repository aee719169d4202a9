-- Purser, optional: a row in public.users for everybody who signs up with Supabase Auth.
--
-- For projects where nothing else inserts public.users. Paste after operations_migration.sql, or
-- run `npm run migrate -- --auth-trigger`. Safe to run again; rows that exist are left alone.
--
-- It can never block a sign-up: the row is made at the very end of the sign-up's transaction, after
-- triggers of the app's that may insert it themselves, and whatever goes wrong is a warning in the
-- database's log. The user is then created by the app, or on the first request to Purser.
-- Take it back with:
--   grant purser_ledger to current_user;
--   drop function purser.user_signed_up() cascade;
--   delete from purser.applied_files where file = 'supabase_auth_trigger.sql';
--   revoke purser_ledger from current_user;

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;

do $$
begin
  if to_regclass('auth.users') is null then
    raise exception 'this database has no auth.users'
      using errcode = 'object_not_in_prerequisite_state', hint = 'Only projects with Supabase Auth need this file. Nothing was changed.';
  end if;
  if purser.users_id_type() not in ('uuid', 'text', 'character varying') then
    raise exception 'public.users.id is of type %, and ids of auth.users are uuids', purser.users_id_type()
      using errcode = 'object_not_in_prerequisite_state', hint = 'Insert public.users rows in your app instead. Nothing was changed.';
  end if;
end
$$;

set local role purser_ledger;

-- The lock time-out bounds how long a sign-up waits for whoever holds the same id or e-mail.
create or replace function purser.user_signed_up()
returns trigger language plpgsql security definer set search_path = '' set lock_timeout = '2s' as $$
declare
  v_constraint record;
begin
  begin
    -- Deferred constraints of public.users would fail at the commit, where nothing catches them.
    for v_constraint in
      select c.conname from pg_catalog.pg_constraint c
      where c.conrelid = 'public.users'::regclass and c.condeferrable
    loop
      execute format('set constraints public.%I immediate', v_constraint.conname);
    end loop;
    insert into public.users (id, email) values (purser.to_user_id(new.id::text), new.email)
    on conflict do nothing;
  exception
    -- OTHERS leaves these two out.
    when others or query_canceled or assert_failure then
      raise warning 'purser: user % signed up without a row in public.users: %', new.id, sqlerrm;
  end;
  return null;
end
$$;

reset role;

-- Made once and never replaced: auth.users belongs to Supabase, and only its owner may drop a
-- trigger there. All that can change is in the function.
do $$
begin
  if not exists (
    select from pg_trigger where tgrelid = 'auth.users'::regclass and tgname = 'purser_user_signed_up')
  then
    create constraint trigger purser_user_signed_up after insert on auth.users
      deferrable initially deferred for each row execute function purser.user_signed_up();
  end if;
end
$$;

-- Those who signed up before. Together; and one by one where that fails, so that one row which
-- public.users refuses does not keep the others out.
do $$
declare
  v_user record;
  v_made bigint := 0;
  v_refused bigint := 0;
  v_reason text;
begin
  begin
    insert into public.users (id, email)
    select purser.to_user_id(a.id::text), a.email from auth.users a
    where not exists (select from public.users u where u.id = purser.to_user_id(a.id::text))
    on conflict do nothing;
    return;
  exception when integrity_constraint_violation or raise_exception or string_data_right_truncation then
    null;
  end;
  for v_user in
    select a.id, a.email from auth.users a
    where not exists (select from public.users u where u.id = purser.to_user_id(a.id::text))
    order by a.id
  loop
    begin
      insert into public.users (id, email) values (purser.to_user_id(v_user.id::text), v_user.email)
      on conflict do nothing;
      v_made := v_made + 1;
    exception when integrity_constraint_violation or raise_exception or string_data_right_truncation then
      v_refused := v_refused + 1;
      v_reason := sqlerrm;
    end;
    -- None of the first hundred: the table needs what auth.users does not have.
    exit when v_made = 0 and v_refused = 100;
  end loop;
  raise warning 'purser: % of the users who signed up before have no row in public.users, your app inserts them (%)',
    case when v_made = 0 and v_refused = 100 then 'most' else v_refused::text end, v_reason;
end
$$;

set local role purser_ledger;
call purser.restrict_functions();
reset role;

revoke purser_ledger from current_user;
