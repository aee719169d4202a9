/**
 * The database of an app that was there before Purser: users with uuid ids that reference
 * auth.users, columns, policies, triggers and tables of its own, and balances in an integer column.
 */

/** Users with a row in public.users; as many again have signed up and have none yet. */
export const APP_USERS = 1000;

/** Id of the n-th sign-up, from 1. Up to APP_USERS they have rows and balances. */
export function appUserId(n: number): string {
  return `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;
}

/** What the n-th user's balance says before Purser comes. */
export function appBalance(n: number): number | null {
  if (n % 7 === 0) return null;
  if (n % 5 === 0) return 0;
  return n % 11 === 0 ? -n : n;
}

export const EXISTING_APP_SQL = `
  insert into auth.users (id, email)
  select ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'user' || n || '@app.example'
  from generate_series(1, ${2 * APP_USERS}) n;

  create table public.users (
    id uuid primary key references auth.users (id) on delete cascade,
    email text,
    full_name text,
    preferences jsonb not null default '{}',
    credits_balance integer default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default '2025-01-01T00:00:00Z'
  );
  create table public.projects (
    id bigint generated always as identity primary key,
    owner_id uuid not null references public.users (id) on delete cascade,
    name text not null
  );
  create index projects_owner on public.projects (owner_id);
  create table public.profile_changes (
    id bigint generated always as identity primary key, user_id uuid, changed_at timestamptz default now());

  insert into public.users (id, email, full_name, credits_balance)
  select a.id, a.email, 'User ' || n,
    case when n % 7 = 0 then null when n % 5 = 0 then 0 when n % 11 = 0 then -n else n end
  from generate_series(1, ${APP_USERS}) n
  join auth.users a on a.id = ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid;
  insert into public.projects (owner_id, name) select id, 'First project' from public.users;

  alter table public.users enable row level security;
  create policy "Users see themselves" on public.users for select to authenticated
    using ((select auth.uid()) = id);
  create policy "Users edit themselves" on public.users for update to authenticated
    using ((select auth.uid()) = id) with check ((select auth.uid()) = id);
  alter table public.projects enable row level security;
  create policy "Owners see projects" on public.projects for select to authenticated
    using ((select auth.uid()) = owner_id);
  alter table public.profile_changes enable row level security;
  create policy "Nobody sees changes" on public.profile_changes to authenticated using (false);
  grant select, insert, update, delete on public.users, public.projects to authenticated, service_role;

  create function public.touch_updated_at() returns trigger language plpgsql set search_path = '' as $$
  begin
    new.updated_at := now();
    return new;
  end $$;
  create trigger touch_updated_at before update on public.users
    for each row execute function public.touch_updated_at();
  create function public.note_profile_change() returns trigger
  language plpgsql security definer set search_path = public as $$
  begin
    insert into profile_changes (user_id) values (new.id);
    return null;
  end $$;
  revoke execute on function public.touch_updated_at(), public.note_profile_change() from public;
  create trigger note_profile_change after update on public.users
    for each row execute function public.note_profile_change();
`;
