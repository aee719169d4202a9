-- Supabase's roles and auth schema for a plain Postgres.
--
-- Purser's policies and grants name the roles and functions that every Supabase project has. On a
-- Postgres without them this file makes the least that Purser needs: the same names, the same
-- meaning. `npm run migrate` leaves it out where they exist. Safe to run again, and safe beside
-- another database of the same cluster that runs it at the same moment: roles belong to the whole
-- cluster, so "somebody else has just made it" is a good end.

do $stubs$
declare
  v_role record;
begin
  for v_role in
    select *
      from (values
             ('anon', 'nologin'),
             ('authenticated', 'nologin'),
             ('service_role', 'nologin bypassrls'),
             -- The role an API server logs in as, to become one of the three. It gets no login
             -- here: whoever runs such a server gives it one, with a password.
             ('authenticator', 'nologin noinherit')
           ) as wanted (name, attributes)
     where not exists (select 1 from pg_catalog.pg_roles where rolname = wanted.name)
  loop
    begin
      execute format('create role %I %s', v_role.name, v_role.attributes);
    exception
      when duplicate_object or unique_violation then
        null;
      when insufficient_privilege then
        -- Postgres 15 lets only superusers hand out bypassrls. Purser's functions do not need it;
        -- reading its tables directly as service_role does.
        if v_role.attributes not like '%bypassrls' then
          raise;
        end if;
        execute format('create role %I nologin', v_role.name);
        raise warning 'The role % was created without BYPASSRLS and reads no table under row level security. Run as an administrator: alter role % bypassrls;',
          v_role.name, v_role.name;
    end;
  end loop;
end
$stubs$;

do $stubs$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
    if not exists (
      select 1
        from pg_catalog.pg_auth_members
       where roleid = v_role::regrole
         and member = 'authenticator'::regrole
    ) then
      begin
        execute format('grant %I to authenticator', v_role);
      exception
        when duplicate_object or unique_violation then
          null;
      end;
    end if;
  end loop;
end
$stubs$;

-- Purser's functions are executable by service_role alone; whoever migrates calls them later.
do $stubs$
begin
  if not pg_has_role(current_user, 'service_role', 'usage') then
    execute format('grant service_role to %I', current_user);
  end if;
exception
  when insufficient_privilege then
    raise warning 'The role % is no member of service_role and cannot call Purser''s functions. Run as an administrator: grant service_role to %;',
      current_user, quote_ident(current_user);
end
$stubs$;

create schema if not exists auth;

create table if not exists auth.users (
  id uuid primary key,
  email text,
  raw_app_meta_data jsonb,
  raw_user_meta_data jsonb,
  created_at timestamptz not null default now()
);

-- The caller's token as an API server hands it over: `request.jwt.claims`, set per transaction. A
-- function of that name which is not ours stays as it is.
do $stubs$
declare
  v_function record;
  v_existing regprocedure;
begin
  for v_function in
    select *
      from (values
             ('jwt', 'jsonb', 'nullif(current_setting(''request.jwt.claims'', true), '''')::jsonb'),
             ('uid', 'uuid', '(auth.jwt() ->> ''sub'')::uuid'),
             ('role', 'text', 'auth.jwt() ->> ''role''')
           ) as wanted (name, type, expression)
  loop
    v_existing := to_regprocedure(format('auth.%I()', v_function.name));
    if v_existing is null
       or obj_description(v_existing, 'pg_proc') like 'Purser stub:%'
    then
      execute format(
        'create or replace function auth.%I() returns %s language sql stable set search_path = '''' as %L',
        v_function.name, v_function.type, 'select ' || v_function.expression
      );
      execute format(
        'comment on function auth.%I() is %L',
        v_function.name, 'Purser stub: stands in for Supabase''s function of this name.'
      );
    end if;
  end loop;
end
$stubs$;

grant usage on schema public to anon, authenticated, service_role;
grant usage on schema auth to anon, authenticated, service_role;
grant execute on function auth.jwt(), auth.uid(), auth.role() to anon, authenticated, service_role;
