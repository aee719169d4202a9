-- Purser: the outbox of e-mails. A message is written with its cause, in the same transaction, and
-- sent later by a job: a failing mail server delays messages and nothing else.
--
-- Paste after credit_seals_migration.sql, or run `npm run migrate`. Safe to run again.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['notifications']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.notifications (
  id bigint generated always as identity primary key,
  -- Names the cause, so that the same cause told twice is one message.
  notification_key text not null unique,
  kind text not null,
  user_id text,
  recipient text,
  data jsonb not null default '{}',
  status text not null default 'queued' check (status in ('queued', 'leased', 'sent', 'failed', 'dead', 'dropped')),
  attempts integer not null default 0,
  next_attempt_at timestamptz default clock_timestamp(),
  lease bigint not null default 0,
  leased_until timestamptz,
  error_message text,
  provider_id text,
  sent_at timestamptz,
  created_at timestamptz not null default clock_timestamp()
);
create index if not exists notifications_due on public.notifications (next_attempt_at)
  where status in ('queued', 'leased', 'failed');
create index if not exists notifications_user on public.notifications (user_id, created_at);
comment on table public.notifications is 'Outbox of e-mails: queued -> leased -> sent | failed (tried again) | dead; dropped: no address, or the cause has gone.';

-- ---------------------------------------------------------------------------------------------
-- purser.enqueue_notification: a message into the outbox, inside the caller's transaction.
--   p_notification  {key, notification (its kind), user_id?, recipient?, data?, send_at?}; key names the cause (at most
--                   200 characters). Without recipient it goes to the e-mail of the user at sending
-- Answers queued | exists. Idempotent by key. Locks nothing but the new row.
-- ---------------------------------------------------------------------------------------------
create or replace function purser.enqueue_notification(p_notification jsonb)
returns text language plpgsql set search_path = '' as $$
begin
  insert into public.notifications (notification_key, kind, user_id, recipient, data, next_attempt_at)
  values (p_notification ->> 'key', p_notification ->> 'notification', purser.user_key(p_notification ->> 'user_id'),
    p_notification ->> 'recipient', coalesce(p_notification -> 'data', '{}'),
    coalesce((p_notification ->> 'send_at')::timestamptz, clock_timestamp()))
  on conflict (notification_key) do nothing;
  return case when found then 'queued' else 'exists' end;
end
$$;

call purser.restrict_functions();
reset role;

alter table public.notifications enable row level security;
drop policy if exists notifications_select_own on public.notifications;
create policy notifications_select_own on public.notifications for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));
drop policy if exists notifications_select_admin on public.notifications;
create policy notifications_select_admin on public.notifications for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');

set role purser_ledger;
revoke all on public.notifications from public, anon, authenticated, service_role;
grant select on public.notifications to authenticated, service_role;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
