-- Purser: what operators are told of, once when it begins and once when it ends.
--
-- Paste after notifications_migration.sql, or run `npm run migrate`. Safe to run again.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['alerts'], array[
  'raise_alert', 'resolve_alert', 'resolve_quiet_alerts', 'list_alerts']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.alerts (
  id bigint generated always as identity primary key,
  code text not null,
  subject text not null default '',
  severity text not null check (severity in ('critical', 'warning')),
  title text not null,
  detail text not null default '',
  link text,
  status text not null default 'open' check (status in ('open', 'resolved')),
  times bigint not null default 1,
  -- Messages told of it, reminders too; the last of them when.
  messages integer not null default 0,
  told_at timestamptz,
  -- Seconds without a sighting after which it counts as over; null = somebody says so.
  quiet_seconds integer,
  opened_at timestamptz not null default clock_timestamp(),
  last_seen_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz
);
create unique index if not exists alerts_open on public.alerts (code, subject) where status = 'open';
create index if not exists alerts_opened on public.alerts (opened_at);
create index if not exists alerts_history on public.alerts (code, subject, id);
comment on table public.alerts is 'What operators are told of: one open row for each code and subject, told when it opens, again while it stays open, and when it ends.';

-- A message about an alert: through the outbox, which knows attempts and backoff.
create or replace function purser.tell_alert(p_alert public.alerts, p_event text, p_send_at timestamptz)
returns void language plpgsql set search_path = '' as $$
begin
  update public.alerts a set messages = a.messages + 1, told_at = p_send_at where a.id = p_alert.id;
  perform purser.enqueue_notification(jsonb_build_object(
    'key', format('alert:%s:%s', p_alert.id, p_alert.messages + 1), 'notification', 'alert', 'send_at', p_send_at,
    'data', jsonb_build_object('event', p_event, 'alert_id', p_alert.id::text, 'code', p_alert.code,
      'subject', p_alert.subject, 'severity', p_alert.severity, 'title', p_alert.title, 'detail', p_alert.detail,
      'link', p_alert.link, 'times', p_alert.times, 'opened_at', purser.iso(p_alert.opened_at),
      'resolved_at', purser.iso(p_alert.resolved_at))));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- purser.raise_alert: notes that something is wrong, inside the caller's transaction.
--   p_alert  {code, subject? (what it is about; '' = the whole), severity: critical | warning, title,
--            detail?, link?, remind_seconds? (86400; 0 = never), quiet_seconds? (null: until
--            resolve_alert; else it ends by itself so long after the last sighting)}
-- Answers {outcome: opened | seen | reminded, id}. One row for each code and subject that is open.
-- It is told once at the beginning, and again when so many seconds have passed since. One that
-- comes back within the hour is told when that hour is over, if it is still open then: what goes
-- on and off does not ring each time. Locks: the alert.
-- ---------------------------------------------------------------------------------------------
create or replace function purser.raise_alert(p_alert jsonb, p_now timestamptz default null)
returns jsonb language plpgsql set search_path = '' as $$
declare
  c_calm constant interval := '1 hour';
  v_alert public.alerts;
  v_now timestamptz;
  v_last timestamptz;
  v_remind integer := coalesce((p_alert ->> 'remind_seconds')::integer, 86400);
begin
  if coalesce(p_alert ->> 'code', '') = '' or coalesce(p_alert ->> 'title', '') = '' then
    perform purser.raise_error(400, 'invalid_request', 'An alert has a code and a title.');
  end if;
  perform pg_advisory_xact_lock(hashtextextended(format('purser:alert:%s:%s', p_alert ->> 'code', p_alert ->> 'subject'), 0));
  v_now := coalesce(p_now, clock_timestamp());
  update public.alerts a
  set times = a.times + 1, last_seen_at = v_now, severity = coalesce(p_alert ->> 'severity', a.severity),
      title = left(p_alert ->> 'title', 200), detail = left(coalesce(p_alert ->> 'detail', ''), 2000),
      link = p_alert ->> 'link', quiet_seconds = (p_alert ->> 'quiet_seconds')::integer
  where a.code = p_alert ->> 'code' and a.subject = coalesce(p_alert ->> 'subject', '') and a.status = 'open'
  returning * into v_alert;
  if v_alert.id is not null then
    if v_remind > 0 and v_alert.told_at <= v_now - make_interval(secs => v_remind) then
      perform purser.tell_alert(v_alert, 'reminder', v_now);
      return jsonb_build_object('outcome', 'reminded', 'id', v_alert.id::text);
    end if;
    return jsonb_build_object('outcome', 'seen', 'id', v_alert.id::text);
  end if;
  select max(a.opened_at) into v_last from public.alerts a
  where a.code = p_alert ->> 'code' and a.subject = coalesce(p_alert ->> 'subject', '') and a.opened_at > v_now - c_calm;
  insert into public.alerts (code, subject, severity, title, detail, link, quiet_seconds, opened_at, last_seen_at)
  values (left(p_alert ->> 'code', 100), left(coalesce(p_alert ->> 'subject', ''), 300),
    coalesce(p_alert ->> 'severity', 'warning'), left(p_alert ->> 'title', 200), left(coalesce(p_alert ->> 'detail', ''), 2000),
    p_alert ->> 'link', (p_alert ->> 'quiet_seconds')::integer, v_now, v_now)
  returning * into v_alert;
  perform purser.tell_alert(v_alert, 'opened', coalesce(v_last + c_calm, v_now));
  return jsonb_build_object('outcome', 'opened', 'id', v_alert.id::text);
end
$$;

-- Ends an open alert, and tells those who were told that it began.
create or replace function purser.end_alert(p_id bigint, p_now timestamptz)
returns boolean language plpgsql set search_path = '' as $$
declare
  v_alert public.alerts;
begin
  update public.alerts a set status = 'resolved', resolved_at = p_now
  where a.id = p_id and a.status = 'open' returning * into v_alert;
  if v_alert.id is null then
    return false;
  end if;
  if v_alert.told_at > p_now then
    -- Over before it was to be told.
    update public.notifications n
    set status = 'dropped', error_message = 'it was over before it was due', next_attempt_at = null
    where n.notification_key = format('alert:%s:%s', v_alert.id, v_alert.messages) and n.status = 'queued';
  else
    perform purser.tell_alert(v_alert, 'recovered', p_now);
  end if;
  return true;
end
$$;

-- raise_alert: purser.raise_alert for TypeScript.
create or replace function public.raise_alert(p_alert jsonb, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
begin
  return purser.raise_alert(p_alert, p_now);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- resolve_alert: it is over. Told once, to those who were told that it began.
-- Answers {outcome: resolved | unchanged}; unchanged: none is open. Idempotent.
-- ---------------------------------------------------------------------------------------------
create or replace function public.resolve_alert(p_code text, p_subject text default '', p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_id bigint;
begin
  perform pg_advisory_xact_lock(hashtextextended(format('purser:alert:%s:%s', p_code, p_subject), 0));
  select a.id into v_id from public.alerts a where a.code = p_code and a.subject = coalesce(p_subject, '') and a.status = 'open';
  return jsonb_build_object('outcome', case
    when v_id is not null and purser.end_alert(v_id, coalesce(p_now, clock_timestamp())) then 'resolved' else 'unchanged' end);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- resolve_quiet_alerts: ends the alerts that have not been seen for their quiet_seconds; part of the
-- job notifications. Answers {resolved}, 100 at most a call.
-- ---------------------------------------------------------------------------------------------
create or replace function public.resolve_quiet_alerts(p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_id bigint;
  v_count integer := 0;
begin
  for v_id in
    select a.id from public.alerts a
    where a.status = 'open' and a.last_seen_at <= v_now - make_interval(secs => a.quiet_seconds)
    order by a.id limit 100 for update skip locked
  loop
    if purser.end_alert(v_id, v_now) then
      v_count := v_count + 1;
    end if;
  end loop;
  return jsonb_build_object('resolved', v_count);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- list_alerts: the alerts, open ones first, then the newest, 1 to 100.
--   p_status  open | resolved; null = all
-- Answers [{id, code, subject, severity, title, detail, link, status, times, opened_at, last_seen_at,
-- resolved_at}]. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_alerts(p_status text default null, p_limit integer default 50)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
begin
  return coalesce((
    select jsonb_agg(jsonb_build_object('id', l.id::text, 'code', l.code, 'subject', l.subject, 'severity', l.severity,
        'title', l.title, 'detail', l.detail, 'link', l.link, 'status', l.status, 'times', l.times,
        'opened_at', purser.iso(l.opened_at), 'last_seen_at', purser.iso(l.last_seen_at),
        'resolved_at', purser.iso(l.resolved_at)) order by l.status, l.id desc)
    from (select * from public.alerts a where p_status is null or a.status = p_status
          order by a.status, a.id desc limit least(greatest(coalesce(p_limit, 50), 1), 100)) l), '[]');
end
$$;

call purser.restrict_functions();
reset role;

alter table public.alerts enable row level security;
drop policy if exists alerts_select_admin on public.alerts;
create policy alerts_select_admin on public.alerts for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');

set role purser_ledger;
revoke all on public.alerts from public, anon, authenticated, service_role;
grant select on public.alerts to authenticated, service_role;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
