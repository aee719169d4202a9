-- Purser: the outbox of e-mails and alerts. A message is written with its cause, in the same
-- transaction, and sent later by a job: a failing mail server delays messages and nothing else.
--
-- Paste after credit_seals_migration.sql, or run `npm run migrate`. Safe to run again.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['notifications'], array[
  'claim_notifications', 'finish_notification', 'list_notifications', 'get_notification',
  'retry_notification', 'forget_notifications', 'enqueue_balance_notices']);
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
  status text not null default 'queued' check (status in ('queued', 'leased', 'sent', 'kept', 'failed', 'dead', 'dropped')),
  attempts integer not null default 0,
  next_attempt_at timestamptz default clock_timestamp(),
  lease bigint not null default 0,
  leased_until timestamptz,
  lease_holder text,
  sent_to text,
  subject text,
  transport text,
  error_message text,
  provider_id text,
  sent_at timestamptz,
  created_at timestamptz not null default clock_timestamp()
);
alter table public.notifications
  -- When address and data were taken out; see forget_notifications.
  add column if not exists forgotten_at timestamptz;
create index if not exists notifications_due on public.notifications (next_attempt_at)
  where status in ('queued', 'leased', 'failed');
create index if not exists notifications_user on public.notifications (user_id, created_at);
create index if not exists notifications_trouble on public.notifications (status, id) where status in ('failed', 'dead');
create index if not exists notifications_ended on public.notifications (created_at)
  where forgotten_at is null and status in ('sent', 'kept', 'dropped', 'dead');
comment on table public.notifications is 'Outbox of e-mails and alerts: queued -> leased -> sent | kept (no transport is set) | failed (tried again) | dead (needs a person); dropped: no address, switched off, or the cause has gone.';
comment on column public.notifications.recipient is 'The address, where the cause names one; else the user''s own at the first attempt, or the one Stripe collected (buyer_email of the data).';
comment on column public.notifications.sent_to is 'The address of the attempts; fixed by the first, as `data` is, so that each attempt sends the same message.';
comment on column public.notifications.lease_holder is 'Token of the call that took the lease: the same call, sent again because its answer was lost, gets its lease back.';

-- How far the looking for low balances and expiring lots has come, in the time of the ledger.
create table if not exists purser.notice_cursors (
  name text primary key,
  position timestamptz not null
);

-- ---------------------------------------------------------------------------------------------
-- purser.enqueue_notification: a message into the outbox, inside the caller's transaction.
--   p_notification  {key, notification (its kind), user_id?, recipient?, data?, send_at?}; key names the cause (at most
--                   300 characters). Without recipient it goes to the e-mail of the user at sending
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

-- Why a message is not to be sent any more; null = it is. Read at each attempt: what it tells may
-- have changed while it waited.
create or replace function purser.moot_notification(p_message public.notifications, p_user purser.accounts)
returns text language plpgsql stable set search_path = '' as $$
begin
  if p_message.kind <> 'alert' and coalesce(p_message.sent_to, p_message.recipient, p_user.email, p_message.data ->> 'buyer_email', '') = '' then
    return 'there is no address to send it to';
  end if;
  case p_message.kind
    when 'low_balance' then
      if purser.available(p_user) > (p_message.data ->> 'threshold')::bigint then
        return 'the balance is above the threshold again';
      end if;
    when 'credits_expiring' then
      if not exists (
        select from public.credit_grants g
        where g.id = (p_message.data ->> 'grant_id')::bigint and g.exhausted_at is null and g.remaining > 0)
      then
        return 'the credits are spent';
      end if;
    when 'claim_link' then
      if not exists (
        select from public.stripe_webhook_events e
        where e.stripe_event_id = p_message.data ->> 'event_id' and e.status not in ('processed', 'ignored'))
      then
        return 'the purchase waits for nobody any more';
      end if;
    else null;
  end case;
  return null;
end
$$;

create or replace function purser.leased_notification(p_message public.notifications)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object('id', p_message.id, 'key', p_message.notification_key, 'kind', p_message.kind,
    'user_id', p_message.user_id, 'to', p_message.sent_to, 'data', p_message.data, 'fence', p_message.lease,
    'attempt', p_message.attempts, 'created_at', purser.iso(p_message.created_at));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- claim_notifications: leases up to p_limit messages that are due, also those of a sender who died,
-- the longest due first. The first attempt fixes address and data (with the user's balance), so that
-- each attempt sends the same message and a provider can tell a repeat. A message whose cause has
-- gone is dropped here, one whose senders died 20 times is dead.
--   p_holder  token of this call; repeating it under the same token gives the same messages
-- Answers [{id, key, kind, user_id, to, data, fence, attempt (1 = the first), created_at}].
-- Locks: the rows; those of others are passed over.
-- ---------------------------------------------------------------------------------------------
create or replace function public.claim_notifications(
  p_limit integer default 20, p_lease_seconds integer default 120, p_holder text default null,
  p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  c_attempts_max constant integer := 20;
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_message public.notifications;
  v_user purser.accounts;
  v_reason text;
  v_claimed jsonb;
begin
  if p_holder is not null then
    select jsonb_agg(purser.leased_notification(n) order by n.next_attempt_at, n.id) into v_claimed
    from public.notifications n where n.status = 'leased' and n.lease_holder = p_holder;
    if v_claimed is not null then
      return v_claimed;
    end if;
  end if;
  v_claimed := '[]';
  for v_message in
    select * from public.notifications n
    where n.status in ('queued', 'leased', 'failed') and n.next_attempt_at <= v_now
      and (n.status <> 'leased' or n.leased_until <= v_now)
    order by n.next_attempt_at, n.id
    limit least(greatest(coalesce(p_limit, 20), 1), 100)
    for update skip locked
  loop
    select * into v_user from purser.accounts a where a.id = purser.to_user_id(v_message.user_id);
    v_reason := purser.moot_notification(v_message, v_user);
    if v_reason is not null then
      update public.notifications n set status = 'dropped', error_message = v_reason, next_attempt_at = null
      where n.id = v_message.id;
      continue;
    end if;
    if v_message.attempts >= c_attempts_max then
      update public.notifications n
      set status = 'dead', error_message = 'Nobody who took it up came to an end.', next_attempt_at = null, leased_until = null
      where n.id = v_message.id;
      continue;
    end if;
    update public.notifications n
    set status = 'leased', lease = n.lease + 1, lease_holder = p_holder, attempts = n.attempts + 1,
        leased_until = v_now + make_interval(secs => p_lease_seconds),
        sent_to = coalesce(n.sent_to, n.recipient, v_user.email, n.data ->> 'buyer_email'),
        data = case when n.attempts = 0 and v_user.id is not null and n.kind in ('purchase_receipt', 'payment_receipt', 'low_balance')
          then n.data || jsonb_build_object('balance', v_user.credits_balance, 'available', purser.available(v_user))
          else n.data end
    where n.id = v_message.id returning * into v_message;
    v_claimed := v_claimed || purser.leased_notification(v_message);
  end loop;
  return v_claimed;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- finish_notification: ends an attempt under its lease.
--   p_outcome        sent | kept (written here, since no transport is set) | dropped | failed
--   p_delay_seconds  of failed: when to try again; null = the message is dead and needs a person
--   p_progress       put into its data, for the next attempt
-- The token of a claim is a secret of its reader's, and is taken out once it is sent.
-- Answers {outcome: sent | kept | dropped | failed | dead | stale}; stale: the lease was lost. A
-- repeat under the same lease answers the same.
-- ---------------------------------------------------------------------------------------------
create or replace function public.finish_notification(
  p_id bigint, p_fence bigint, p_outcome text, p_error text default null, p_delay_seconds double precision default null,
  p_transport text default null, p_provider_id text default null, p_subject text default null,
  p_progress jsonb default '{}', p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_status text := case when p_outcome = 'failed' and p_delay_seconds is null then 'dead' else p_outcome end;
begin
  if coalesce(p_outcome, '') not in ('sent', 'kept', 'dropped', 'failed') then
    perform purser.raise_error(400, 'invalid_request', 'p_outcome must be sent, kept, dropped or failed.');
  end if;
  update public.notifications n
  set status = v_status, leased_until = null, error_message = left(p_error, 2000),
      transport = coalesce(p_transport, n.transport), provider_id = coalesce(p_provider_id, n.provider_id),
      subject = coalesce(left(p_subject, 500), n.subject),
      next_attempt_at = case v_status when 'failed' then v_now + make_interval(secs => p_delay_seconds) end,
      sent_at = case when v_status in ('sent', 'kept') then v_now end,
      data = case when v_status = 'sent' and n.kind = 'claim_link' then n.data - 'token' else n.data end
        || coalesce(p_progress, '{}')
  where n.id = p_id and n.status = 'leased' and n.lease = p_fence;
  if not found and not exists (
    select from public.notifications n where n.id = p_id and n.lease = p_fence and n.status = v_status)
  then
    return jsonb_build_object('outcome', 'stale');
  end if;
  return jsonb_build_object('outcome', v_status);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- The outbox for people
-- ---------------------------------------------------------------------------------------------

create or replace function purser.notification_record(p_message public.notifications)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object('id', p_message.id::text, 'key', p_message.notification_key, 'kind', p_message.kind,
    'user_id', p_message.user_id, 'to', coalesce(p_message.sent_to, p_message.recipient), 'subject', p_message.subject,
    'status', p_message.status, 'attempts', p_message.attempts, 'transport', p_message.transport,
    'provider_id', p_message.provider_id, 'error', p_message.error_message,
    'forgotten_at', purser.iso(p_message.forgotten_at),
    'next_attempt_at', case when p_message.status in ('queued', 'failed') then purser.iso(p_message.next_attempt_at) end,
    'sent_at', purser.iso(p_message.sent_at), 'created_at', purser.iso(p_message.created_at));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- list_notifications: the outbox, newest first, 1 to 100 a page.
--   p_status, p_kind, p_user_id  filters; p_before_id  the id the page before ended with
-- Answers {data, has_more, next_before_id}. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_notifications(
  p_status text default null, p_kind text default null, p_user_id text default null,
  p_before_id bigint default null, p_limit integer default 50)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_limit integer := least(greatest(coalesce(p_limit, 50), 1), 100);
  v_answer jsonb;
begin
  with found as materialized (
    select n as message, n.id, row_number() over (order by n.id desc) as place from public.notifications n
    where (p_status is null or n.status = p_status) and (p_kind is null or n.kind = p_kind)
      and (p_user_id is null or n.user_id = purser.user_key(p_user_id))
      and (p_before_id is null or n.id < p_before_id)
    order by n.id desc limit v_limit + 1)
  select jsonb_build_object(
    'data', coalesce(jsonb_agg(purser.notification_record(f.message) order by f.place) filter (where f.place <= v_limit), '[]'),
    'has_more', count(*) > v_limit,
    'next_before_id', case when count(*) > v_limit then (select l.id from found l where l.place = v_limit) end)
  into v_answer from found f;
  return v_answer;
end
$$;

-- get_notification: {outcome: found | not_found, notification, data}. Reads only.
create or replace function public.get_notification(p_id bigint)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
begin
  return coalesce((
    select jsonb_build_object('outcome', 'found', 'notification', purser.notification_record(n), 'data', n.data)
    from public.notifications n where n.id = p_id), jsonb_build_object('outcome', 'not_found'));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- retry_notification: a message that was not sent gets all its attempts again, with the address and
-- the balance of then. Audited. Answers {outcome: queued | not_found | sent | forgotten | leased | unchanged};
-- sent: it was, and goes to nobody twice; forgotten: its address and data are gone; leased: it is being
-- sent; unchanged: it waits already.
-- ---------------------------------------------------------------------------------------------
create or replace function public.retry_notification(p_id bigint, p_actor text)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_message public.notifications;
begin
  select * into v_message from public.notifications n where n.id = p_id for update;
  if v_message.id is null then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  if v_message.status in ('sent', 'leased') then
    return jsonb_build_object('outcome', v_message.status);
  end if;
  if v_message.forgotten_at is not null then
    return jsonb_build_object('outcome', 'forgotten');
  end if;
  if v_message.status = 'queued' and v_message.next_attempt_at <= clock_timestamp() then
    return jsonb_build_object('outcome', 'unchanged');
  end if;
  update public.notifications n
  set status = 'queued', attempts = 0, next_attempt_at = clock_timestamp(), sent_to = null, error_message = null, sent_at = null
  where n.id = p_id;
  insert into public.audit_events (actor, action, user_id, before, after)
  values (p_actor, 'retry_notification', v_message.user_id,
    jsonb_build_object('status', v_message.status, 'error', v_message.error_message),
    jsonb_build_object('notification', v_message.notification_key));
  return jsonb_build_object('outcome', 'queued');
end
$$;

-- ---------------------------------------------------------------------------------------------
-- forget_notifications: takes out of messages that ended what says whom they went to and what they
-- told: addresses, data, and the mail server's words, which repeat addresses. Key, kind, user, subject,
-- status and times stay: the same cause is never told twice, and the question whether somebody was
-- written to has an answer.
--   p_days   only those written so long ago (at least 1)
--   p_limit  messages a call (1 to 5000), the oldest first
-- Answers {forgotten}; fewer than p_limit: none is left. What waits, is tried again or being sent is
-- left alone. Idempotent. Locks: the rows; those of others are passed over.
-- ---------------------------------------------------------------------------------------------
create or replace function public.forget_notifications(
  p_days integer default 90, p_limit integer default 1000, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_count bigint;
begin
  if p_days is null or p_days < 1 then
    perform purser.raise_error(400, 'invalid_request', 'The age in days must be at least 1.');
  end if;
  update public.notifications n
  set recipient = null, sent_to = null, data = '{}', error_message = null, forgotten_at = v_now
  where n.id in (
    select o.id from public.notifications o
    where o.forgotten_at is null and o.status in ('sent', 'kept', 'dropped', 'dead')
      and o.created_at < v_now - make_interval(days => p_days)
    order by o.created_at limit least(greatest(coalesce(p_limit, 1000), 1), 5000)
    for update skip locked);
  get diagnostics v_count = row_count;
  return jsonb_build_object('forgotten', v_count);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- enqueue_balance_notices: messages about balances that ran low and lots that end soon. Spends know
-- nothing of it: the entries since the last look are read, an hour of them a call, with an overlap
-- of 60 s (an entry is dated when it is written and seen when it is committed).
--   p_low_balance    balance from which on a user is told; null = nobody is
--   p_expiring_days  how long before its end a lot is told of, at most half of its life; null = never
--   p_buy_url        where more is bought
--   p_limit          lots a call (1 to 1000)
-- A user is told of a low balance once for each time credits were added, a lot once. The first call
-- begins with what is written from now on. Lots are looked for once an hour.
-- Answers {low_balance, credits_expiring: messages written, more}. Idempotent by the messages' keys.
-- Locks: its own rows; spenders never wait.
-- ---------------------------------------------------------------------------------------------
create or replace function public.enqueue_balance_notices(
  p_low_balance bigint, p_expiring_days integer, p_buy_url text, p_limit integer default 500,
  p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  c_overlap constant interval := '60 seconds';
  c_span constant interval := '1 hour';
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_limit integer := least(greatest(coalesce(p_limit, 500), 1), 1000);
  v_days interval := make_interval(days => p_expiring_days);
  v_from timestamptz;
  v_until timestamptz;
  v_low bigint := 0;
  v_expiring bigint := 0;
  v_found bigint := 0;
  v_row record;
begin
  insert into purser.notice_cursors (name, position) values ('low_balance', v_now) on conflict (name) do nothing;
  insert into purser.notice_cursors (name, position) values ('credits_expiring', '-infinity') on conflict (name) do nothing;

  select c.position into v_from from purser.notice_cursors c where c.name = 'low_balance' for update;
  v_until := greatest(least(v_now, v_from + c_span), v_from);
  if p_low_balance is not null then
    for v_row in
      select t.user_id, max((
        select max(g.entry_number) from public.credit_grants g
        where g.user_id = t.user_id and g.entry_number < t.entry_number)) as added
      from public.credit_transactions t
      where t.created_at >= v_from - c_overlap and t.created_at < v_until
        and t.transaction_type in ('usage', 'expiration', 'adjustment') and t.amount < 0
        and t.balance_after <= p_low_balance and t.balance_after - t.amount > p_low_balance
      group by t.user_id
    loop
      if purser.enqueue_notification(jsonb_build_object(
        'key', format('low_balance:%s:%s', v_row.user_id, v_row.added), 'notification', 'low_balance',
        'user_id', v_row.user_id,
        'data', jsonb_build_object('threshold', p_low_balance, 'buy_url', p_buy_url))) = 'queued'
      then
        v_low := v_low + 1;
      end if;
    end loop;
  end if;
  update purser.notice_cursors c set position = v_until where c.name = 'low_balance';

  select c.position into v_from from purser.notice_cursors c where c.name = 'credits_expiring' for update;
  if p_expiring_days is not null and v_from <= v_now - c_span then
    for v_row in
      select g.id, g.user_id, g.remaining, g.expires_at from public.credit_grants g
      where g.exhausted_at is null and g.remaining > 0 and g.expires_at > v_now and g.expires_at <= v_now + v_days
        and g.expires_at - least(v_days, (g.expires_at - g.created_at) / 2) <= v_now
        and not exists (
          select from public.notifications n where n.notification_key = 'credits_expiring:' || g.id)
      order by g.expires_at, g.id limit v_limit
    loop
      v_found := v_found + 1;
      if purser.enqueue_notification(jsonb_build_object(
        'key', 'credits_expiring:' || v_row.id, 'notification', 'credits_expiring', 'user_id', v_row.user_id,
        'data', jsonb_build_object('grant_id', v_row.id, 'credits', v_row.remaining,
          'expires_at', purser.iso(v_row.expires_at), 'buy_url', p_buy_url))) = 'queued'
      then
        v_expiring := v_expiring + 1;
      end if;
    end loop;
    if v_found < v_limit then
      update purser.notice_cursors c set position = v_now where c.name = 'credits_expiring';
    end if;
  end if;
  return jsonb_build_object('low_balance', v_low, 'credits_expiring', v_expiring,
    'more', v_until < v_now or v_found = v_limit);
end
$$;

call purser.restrict_functions();
reset role;

alter table public.notifications enable row level security;
drop policy if exists notifications_select_own on public.notifications;
create policy notifications_select_own on public.notifications for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));

set role purser_ledger;
revoke all on public.notifications from public, anon, authenticated, service_role;
grant select on public.notifications to authenticated, service_role;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
