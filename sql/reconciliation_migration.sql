-- Purser: reconciliation of Stripe's objects with the ledger and its copy in Redis: runs, how far
-- each kind was compared, and what was found.
--
-- Paste after cache_store_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- Nothing is credited here: what is missing is healed by purser's one way to credit,
-- apply_webhook_effects, under the same keys as the event that never came. This file adds who did
-- it, the finding, and the run's counters to that transaction.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['reconciliation_runs', 'reconciliation_cursors'], array[
  'begin_reconciliation', 'get_reconciliation_extent', 'save_reconciliation', 'reconcile_lookup',
  'reconcile_unseen_grants', 'reconcile_unseen_subscriptions', 'reconcile_apply',
  'note_reconciliation_finding', 'reconcile_link_customer', 'list_reconciliation_runs',
  'get_reconciliation_run', 'list_reconciliation_findings', 'get_reconciliation_finding',
  'resolve_reconciliation_finding', 'get_last_reconciliation', 'get_reconciliation_state',
  'get_user_book', 'reconcile_foresee']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.reconciliation_runs (
  id bigint generated always as identity primary key,
  status text not null default 'running' check (status in ('running', 'done', 'canceled')),
  actor text not null,
  since timestamptz,
  compared_until timestamptz not null,
  progress jsonb not null default '{}',
  objects bigint not null default 0,
  stripe_calls bigint not null default 0,
  findings bigint not null default 0,
  repaired bigint not null default 0,
  still_open bigint not null default 0,
  error_message text,
  lease bigint not null default 1,
  lease_holder text,
  leased_until timestamptz,
  started_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz
);
-- At most one is under way in the whole database, however many processes begin one.
create unique index if not exists reconciliation_runs_one on public.reconciliation_runs ((true)) where status = 'running';
create index if not exists reconciliation_runs_finished on public.reconciliation_runs (finished_at) where status = 'done';
comment on table public.reconciliation_runs is 'Each comparison of Stripe with the ledger and Redis: how far it is, what it found and repaired.';
comment on column public.reconciliation_runs.findings is 'Differences this run was the first to see, repaired ones included.';
comment on column public.reconciliation_runs.still_open is 'Differences that an earlier run had found, that nobody has resolved, and that are there still.';
comment on column public.reconciliation_runs.leased_until is 'Null or past while it is running: it was interrupted, and the next one to come goes on.';

create table if not exists public.reconciliation_cursors (
  name text primary key,
  position timestamptz not null,
  compared_until timestamptz,
  updated_at timestamptz not null default clock_timestamp()
);
comment on table public.reconciliation_cursors is 'Per kind of Stripe object: compared to compared_until; the next run begins at position, where the oldest object that may still change was made. `began`: when this ledger began. `all`: a run over everything has ended.';

-- What was sold before is in the opening balances or in another system's book.
insert into public.reconciliation_cursors (name, position)
select 'began', coalesce(min(t.created_at), clock_timestamp()) from public.credit_transactions t
on conflict (name) do nothing;

-- Objects that the running run has met at Stripe; gone with its end.
create table if not exists purser.reconciliation_seen (
  run_id bigint not null,
  object_id text not null,
  primary key (run_id, object_id)
);

alter table public.reconciliation_findings
  add column if not exists repair jsonb,
  add column if not exists run_id bigint,
  add column if not exists resolved_by text,
  add column if not exists resolution text;
create index if not exists reconciliation_findings_user on public.reconciliation_findings (user_id) where resolved_at is null;
comment on column public.reconciliation_findings.repair is 'What to do: {kind: for programs, sentence: for people, command: to be run as it is, or null}.';
comment on column public.reconciliation_findings.resolved_by is 'reconcile: it was repaired or has gone; else the person who said why it is well so, in resolution.';

-- ---------------------------------------------------------------------------------------------
-- Private helpers
-- ---------------------------------------------------------------------------------------------

create or replace function purser.run_answer(p_run public.reconciliation_runs)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'id', 'r_' || p_run.id,
    'status', case when p_run.status = 'running' and coalesce(p_run.leased_until <= clock_timestamp(), true)
      then 'paused' else p_run.status end,
    'actor', p_run.actor, 'since', purser.iso(p_run.since), 'compared_until', purser.iso(p_run.compared_until),
    'progress', p_run.progress, 'objects', p_run.objects, 'stripe_calls', p_run.stripe_calls,
    'findings', p_run.findings, 'repaired', p_run.repaired, 'still_open', p_run.still_open,
    'error', p_run.error_message, 'started_at', purser.iso(p_run.started_at),
    'updated_at', purser.iso(p_run.updated_at), 'finished_at', purser.iso(p_run.finished_at));
end
$$;

create or replace function purser.finding_answer(p_finding public.reconciliation_findings)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'id', p_finding.id::text, 'code', p_finding.code, 'subject', p_finding.subject, 'user_id', p_finding.user_id,
    'status', case when p_finding.resolved_at is null then 'open' else 'resolved' end,
    'detail', p_finding.detail, 'repair', p_finding.repair, 'times', p_finding.times,
    'run_id', 'r_' || p_finding.run_id,
    'first_seen_at', purser.iso(p_finding.first_seen_at), 'last_seen_at', purser.iso(p_finding.last_seen_at),
    'resolved_at', purser.iso(p_finding.resolved_at), 'resolved_by', p_finding.resolved_by,
    'resolution', p_finding.resolution);
end
$$;

-- Ids of runs as answers show them, r_1; null for anything else.
create or replace function purser.run_key(p_run_id text)
returns bigint language sql immutable set search_path = '' as $$
  select case when p_run_id ~ '^r_\d{1,18}$' then substr(p_run_id, 3)::bigint end;
$$;

-- Notes a difference: as repaired (a row that is resolved at once, and any open row of it is
-- closed), or as open. Returns repaired | new | seen (open since an earlier run) | accepted (a person
-- has said of this very state that it is well so).
create or replace function purser.note_difference(p_run_id bigint, p_finding jsonb, p_repaired boolean)
returns text language plpgsql set search_path = '' as $$
declare
  v_code text := p_finding ->> 'code';
  v_subject text := p_finding ->> 'subject';
  v_detail jsonb := coalesce(p_finding -> 'detail', '{}');
  v_user_id text := purser.user_key(p_finding ->> 'user_id');
  v_known public.reconciliation_findings;
  v_outcome text;
begin
  if p_repaired then
    update public.reconciliation_findings f
    set resolved_at = clock_timestamp(), last_seen_at = clock_timestamp(), resolved_by = 'reconcile',
        resolution = 'repaired', run_id = coalesce(p_run_id, f.run_id), detail = v_detail
    where f.code = v_code and f.subject = v_subject and f.resolved_at is null;
    if not found then
      insert into public.reconciliation_findings (code, subject, user_id, detail, repair, run_id, resolved_at, resolved_by, resolution)
      values (v_code, v_subject, v_user_id, v_detail, p_finding -> 'repair', p_run_id, clock_timestamp(), 'reconcile', 'repaired');
    end if;
    -- What kept it from being repaired before (nobody was known as the buyer) is over with it.
    update public.reconciliation_findings f
    set resolved_at = clock_timestamp(), resolved_by = 'reconcile', resolution = 'repaired'
    where f.subject = v_subject and f.repair is not null and f.resolved_at is null;
    v_outcome := 'repaired';
  elsif exists (
    select from public.reconciliation_findings f
    where f.code = v_code and f.subject = v_subject and f.resolved_by <> 'reconcile' and f.detail = v_detail)
  then
    return 'accepted';
  else
    select * into v_known from public.reconciliation_findings f
    where f.code = v_code and f.subject = v_subject and f.resolved_at is null for update;
    insert into public.reconciliation_findings as f (code, subject, user_id, detail, repair, run_id)
    values (v_code, v_subject, v_user_id, v_detail, p_finding -> 'repair', p_run_id)
    on conflict (code, subject) where resolved_at is null do update
      set times = f.times + case when f.run_id is distinct from excluded.run_id then 1 else 0 end,
          last_seen_at = clock_timestamp(), detail = excluded.detail, repair = excluded.repair,
          user_id = coalesce(excluded.user_id, f.user_id), run_id = coalesce(excluded.run_id, f.run_id);
    -- One run counts it once, however often it is interrupted and looks at the page again.
    if v_known.id is not null and v_known.run_id = p_run_id then
      return 'seen';
    end if;
    v_outcome := case when v_known.id is null then 'new' else 'seen' end;
  end if;
  update public.reconciliation_runs r
  set findings = r.findings + case when v_outcome in ('new', 'repaired') then 1 else 0 end,
      repaired = r.repaired + case when v_outcome = 'repaired' then 1 else 0 end,
      still_open = r.still_open + case when v_outcome = 'seen' then 1 else 0 end
  where r.id = p_run_id;
  return v_outcome;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- begin_reconciliation: begins a run, or goes on with the one that was interrupted.
--   p_until   objects at Stripe made before this are compared (now less the age at which events are
--             expected to have arrived)
--   p_since   from a time of the caller's choice; an interrupted run of another extent is given up
--   p_actor   who; a person's run is audited
--   p_holder  token of this call; repeating it under the same token gives the same lease
--   p_resume_only  only goes on with an interrupted run
-- Answers {outcome: begun | resumed | busy | nothing_to_resume, run, fence, began, opening_balances,
-- cursors: {name: {position, compared_until}}}. busy: another process works on the run.
-- ---------------------------------------------------------------------------------------------
create or replace function public.begin_reconciliation(
  p_until timestamptz, p_since timestamptz default null, p_actor text default 'purser',
  p_lease_seconds integer default 60, p_holder text default null, p_resume_only boolean default false)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_run public.reconciliation_runs;
  v_outcome text := 'busy';
begin
  select * into v_run from public.reconciliation_runs r where r.status = 'running' for update;
  if v_run.id is not null then
    if v_run.leased_until > clock_timestamp() then
      if v_run.lease_holder = p_holder then
        v_outcome := 'resumed';
      end if;
    elsif p_since is not null and p_since is distinct from v_run.since then
      update public.reconciliation_runs r
      set status = 'canceled', finished_at = clock_timestamp(), updated_at = clock_timestamp(), leased_until = null,
          error_message = 'given up for a run since another time'
      where r.id = v_run.id;
      delete from purser.reconciliation_seen s where s.run_id = v_run.id;
      v_run := null;
    else
      update public.reconciliation_runs r
      set lease = r.lease + 1, lease_holder = p_holder, updated_at = clock_timestamp(), error_message = null,
          leased_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
      where r.id = v_run.id returning * into v_run;
      v_outcome := 'resumed';
    end if;
  end if;
  if v_run.id is null then
    if p_resume_only then
      return jsonb_build_object('outcome', 'nothing_to_resume');
    end if;
    insert into public.reconciliation_runs (actor, since, compared_until, lease_holder, leased_until)
    values (p_actor, p_since, p_until, p_holder, clock_timestamp() + make_interval(secs => p_lease_seconds))
    on conflict ((true)) where status = 'running' do nothing
    returning * into v_run;
    if v_run.id is null then
      -- Another process began one between the look and the insert.
      select * into v_run from public.reconciliation_runs r where r.status = 'running';
    else
      v_outcome := 'begun';
      if p_actor <> 'purser' then
        insert into public.audit_events (actor, action, after)
        values (p_actor, 'reconcile', jsonb_build_object('run', 'r_' || v_run.id, 'since', purser.iso(p_since)));
      end if;
    end if;
  end if;
  return jsonb_build_object(
    'outcome', v_outcome, 'run', case when v_run.id is not null then purser.run_answer(v_run) end, 'fence', v_run.lease)
    || purser.reconciliation_extent();
end
$$;

-- How far everything was compared, and since when there is a ledger.
create or replace function purser.reconciliation_extent()
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'began', (select purser.iso(c.position) from public.reconciliation_cursors c where c.name = 'began'),
    'opening_balances', exists (
      select from public.credit_transactions t where t.idempotency_key = 'opening-balance' and t.entry_number = 1),
    'cursors', coalesce((
      select jsonb_object_agg(c.name, jsonb_build_object(
        'position', purser.iso(c.position), 'compared_until', purser.iso(c.compared_until)))
      from public.reconciliation_cursors c where c.name <> 'began'), '{}'));
end
$$;

-- The same for a dry run, which begins nothing. Reads only.
create or replace function public.get_reconciliation_extent()
returns jsonb language plpgsql stable security definer set search_path = '' as $$
begin
  return purser.reconciliation_extent();
end
$$;

-- ---------------------------------------------------------------------------------------------
-- save_reconciliation: how far a run is, after each page. Renews the lease.
--   p_progress  kept for whoever goes on; p_objects, p_stripe_calls are totals of the run
--   p_seen      ids met at Stripe on this page (at most 1000)
--   p_fine      [[code, subject]]: open findings of these are over
--   p_cursors   [{name, position, compared_until}] of kinds that were compared to their end
--   p_end       done | released (interrupted: leave it to the next); null goes on
-- Answers {outcome: saved | stale, run}. stale: another process has taken the run over; stop.
-- Idempotent.
-- ---------------------------------------------------------------------------------------------
create or replace function public.save_reconciliation(
  p_run_id text, p_fence bigint, p_progress jsonb, p_objects bigint, p_stripe_calls bigint,
  p_seen jsonb default '[]', p_fine jsonb default '[]', p_cursors jsonb default '[]',
  p_end text default null, p_error text default null, p_lease_seconds integer default 60)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_run public.reconciliation_runs;
begin
  update public.reconciliation_runs r
  set progress = p_progress, objects = p_objects, stripe_calls = p_stripe_calls, updated_at = clock_timestamp(),
      error_message = left(p_error, 2000),
      status = case when p_end = 'done' then 'done' else r.status end,
      finished_at = case when p_end = 'done' then clock_timestamp() end,
      leased_until = case when p_end is null then clock_timestamp() + make_interval(secs => p_lease_seconds) end
  where r.id = purser.run_key(p_run_id) and r.lease = p_fence and r.status = 'running'
  returning * into v_run;
  if v_run.id is null then
    select * into v_run from public.reconciliation_runs r where r.id = purser.run_key(p_run_id);
    -- Its own end, told again because the answer was lost.
    return jsonb_build_object('outcome', case when v_run.status = 'done' and v_run.lease = p_fence and p_end = 'done'
      then 'saved' else 'stale' end, 'run', purser.run_answer(v_run));
  end if;
  insert into purser.reconciliation_seen (run_id, object_id)
  select v_run.id, s from jsonb_array_elements_text(p_seen) s
  on conflict do nothing;
  update public.reconciliation_findings f
  set resolved_at = clock_timestamp(), resolved_by = 'reconcile', resolution = 'no longer there'
  from jsonb_array_elements(p_fine) fine
  where f.code = fine ->> 0 and f.subject = fine ->> 1 and f.resolved_at is null;
  insert into public.reconciliation_cursors as c (name, position, compared_until)
  select g.name, g.position, g.compared_until
  from jsonb_to_recordset(p_cursors) as g(name text, position timestamptz, compared_until timestamptz)
  on conflict (name) do update
    set position = excluded.position, updated_at = clock_timestamp(),
        compared_until = greatest(c.compared_until, excluded.compared_until);
  if p_end = 'done' then
    delete from purser.reconciliation_seen s where s.run_id = v_run.id;
  end if;
  return jsonb_build_object('outcome', 'saved', 'run', purser.run_answer(v_run));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- reconcile_lookup: what the ledger knows of the objects of one page, in one call.
--   p_sources        keys as in credit_sources (at most 1000)
--   p_payments       ids as in payments
--   p_subscriptions  ids as in subscription
-- Answers {sources: [{key, user_id, transaction_id, amount, type, items_credits, amount_total,
--   currency, invoice_id, session_id}], payments: [{payment, known, version, user_id, paid, refunded,
--   disputed, refunds, disputes}], subscriptions: [{id, user_id, status, price_id, quantity, period_end,
--   cancel_at_period_end, cancel_at, payment_failed}], open: [[code, subject]]}; what is unknown is left
-- out. items_credits: what the entry says its items were worth; null where it does not say. known: there
-- is a row, or a grant that it paid for. open: findings about these objects. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.reconcile_lookup(
  p_sources jsonb default '[]', p_payments jsonb default '[]', p_subscriptions jsonb default '[]')
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_sources text[] := array(select jsonb_array_elements_text(p_sources) limit 1000);
  v_payments text[] := array(select jsonb_array_elements_text(p_payments) limit 1000);
  v_subscriptions text[] := array(select jsonb_array_elements_text(p_subscriptions) limit 1000);
begin
  return jsonb_build_object(
    'sources', coalesce((
      select jsonb_agg(purser.source_answer(s, t))
      from public.credit_sources s
      join public.credit_transactions t on t.user_id = s.user_id and t.entry_number = s.entry_number
      where s.source_key = any (v_sources)), '[]'),
    'payments', coalesce((
      select jsonb_agg(jsonb_build_object(
        'payment', k.payment, 'known', true, 'version', coalesce(p.version, 0), 'user_id', coalesce(p.user_id, s.user_id),
        'paid', coalesce(p.paid, 0), 'refunded', coalesce(p.refunded, 0), 'disputed', coalesce(p.disputed, 0),
        'refunds', coalesce(p.detail -> 'refunds', '[]'), 'disputes', coalesce(p.detail -> 'disputes', '[]')))
      from (select distinct payment from unnest(v_payments) payment) k
      left join public.payments p on p.payment = k.payment
      left join public.credit_sources s on s.source_key = 'payment:' || k.payment
      where p.payment is not null or s.source_key is not null), '[]'),
    'subscriptions', coalesce((
      select jsonb_agg(purser.subscription_record(s))
      from public.subscription s where s.stripe_subscription_id = any (v_subscriptions)), '[]'),
    'open', coalesce((
      select jsonb_agg(jsonb_build_array(f.code, f.subject))
      from public.reconciliation_findings f
      where f.resolved_at is null and f.subject = any (
        v_sources || array(select 'payment:' || p from unnest(v_payments) p)
        || array(select 'subscription:' || s from unnest(v_subscriptions) s))), '[]'));
end
$$;

create or replace function purser.source_answer(p_source public.credit_sources, p_entry public.credit_transactions)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'key', p_source.source_key, 'user_id', p_source.user_id, 'transaction_id', p_entry.id::text,
    'amount', p_entry.amount, 'type', p_entry.transaction_type,
    'items_credits', (
      select case when count(*) = count(i ->> 'credits') then sum((i ->> 'credits')::bigint) end
      from jsonb_array_elements(case jsonb_typeof(p_entry.metadata -> 'items') when 'array' then p_entry.metadata -> 'items' end) i),
    'amount_total', p_entry.metadata -> 'amount_total', 'currency', p_entry.metadata ->> 'currency',
    'invoice_id', p_entry.stripe_invoice_id, 'session_id', p_entry.stripe_session_id);
end
$$;

create or replace function purser.subscription_record(p_row public.subscription)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'id', p_row.stripe_subscription_id, 'user_id', p_row.user_id, 'status', p_row.status, 'price_id', p_row.stripe_price_id,
    'plan', p_row.plan, 'quantity', p_row.quantity, 'period_end', purser.iso(p_row.cycle_end_date),
    'cancel_at_period_end', p_row.cancel_at_period_end, 'cancel_at', purser.iso(p_row.cancel_at),
    'payment_failed', p_row.payment_failed);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- reconcile_unseen_grants: grants by Stripe objects, written in a span of time, of which the run
-- has met none of the objects; page by page, oldest first.
--   p_run_id  null for a dry run, which keeps what it has met to itself: then all are answered
--   p_after   id of the entry the page before ended with
-- Answers {entries: [{transaction_id, user_id, amount, created_at, keys: [source keys]}], last, complete}.
-- Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.reconcile_unseen_grants(
  p_run_id text, p_from timestamptz, p_until timestamptz, p_after bigint default 0, p_limit integer default 500)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_run_id bigint := purser.run_key(p_run_id);
  v_page jsonb;
begin
  with page as (
    select t.id, t.user_id, t.amount, t.created_at, array_agg(s.source_key order by s.source_key) as keys
    from public.credit_transactions t
    join public.credit_sources s on s.user_id = t.user_id and s.entry_number = t.entry_number
    where t.created_at >= p_from and t.created_at < p_until and t.id > p_after
      and t.transaction_type in ('purchase', 'allocation')
    group by t.id, t.user_id, t.amount, t.created_at
    order by t.id limit least(greatest(p_limit, 1), 1000))
  select jsonb_build_object(
    'last', max(p.id)::text, 'complete', count(*) < least(greatest(p_limit, 1), 1000),
    'entries', coalesce(jsonb_agg(jsonb_build_object('transaction_id', p.id::text, 'user_id', p.user_id, 'amount', p.amount,
        'created_at', purser.iso(p.created_at), 'keys', to_jsonb(p.keys)) order by p.id)
      filter (where v_run_id is null or not exists (
        select from purser.reconciliation_seen seen
        where seen.run_id = v_run_id and seen.object_id in (select split_part(k, ':', 2) from unnest(p.keys) k))), '[]'))
  into v_page from page p;
  return v_page;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- reconcile_unseen_subscriptions: subscriptions that live by our book, which the run has not met
-- among those alive at Stripe. Answers {subscriptions: [record], last, complete}. Reads only.
--   p_until  told by Stripe before then: a newer one may be younger than Stripe's list
-- ---------------------------------------------------------------------------------------------
create or replace function public.reconcile_unseen_subscriptions(
  p_run_id text, p_until timestamptz, p_after text default '', p_limit integer default 500)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_run_id bigint := purser.run_key(p_run_id);
  v_page jsonb;
begin
  with page as (
    select s.* from public.subscription s
    where s.stripe_subscription_id > p_after and s.status not in ('canceled', 'incomplete_expired') and s.state_as_of < p_until
    order by s.stripe_subscription_id limit least(greatest(p_limit, 1), 1000))
  select jsonb_build_object(
    'last', max(p.stripe_subscription_id), 'complete', count(*) < least(greatest(p_limit, 1), 1000),
    'subscriptions', coalesce(jsonb_agg(purser.subscription_record(p) order by p.stripe_subscription_id)
      filter (where v_run_id is null or not exists (
        select from purser.reconciliation_seen seen
        where seen.run_id = v_run_id and seen.object_id = p.stripe_subscription_id)), '[]'))
  into v_page from page p;
  return v_page;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- reconcile_apply: heals one difference: the effects that the event would have had, with who heals
-- it, the finding and the run's counters, in ONE transaction.
--   p_run_id   null where a person mends one user
--   p_finding  {code, subject, user_id, detail, repair}
-- Answers as apply_webhook_effects does, with `changed`: whether anything that counts was written
-- (an entry, other amounts of a payment, another state of a subscription). Only then there is a finding
-- and an audit event: what a delivery has mended meanwhile is no difference.
-- Locks: as apply_webhook_effects.
-- ---------------------------------------------------------------------------------------------
create or replace function public.reconcile_apply(
  p_run_id text, p_actor text, p_reason text, p_finding jsonb, p_effects jsonb)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_payment text := p_effects -> 0 ->> 'payment';
  v_before record;
  v_after record;
  v_applied jsonb;
  v_changed boolean;
  v_user_id text;
begin
  if v_payment is not null then
    select p.paid, p.refunded, p.disputed into v_before from public.payments p where p.payment = v_payment for update;
  end if;
  v_applied := public.apply_webhook_effects(null, null, p_effects);
  select coalesce(bool_or(r ->> 'kind' in ('grant', 'subscription_state')), false), min(r ->> 'user_id')
  into v_changed, v_user_id
  from jsonb_array_elements(v_applied -> 'results') r
  where r ->> 'outcome' = 'applied' and r ->> 'kind' in ('grant', 'payment_state', 'subscription_state');
  if v_payment is not null and v_applied ->> 'outcome' = 'applied' then
    select p.paid, p.refunded, p.disputed into v_after from public.payments p where p.payment = v_payment;
    v_changed := v_changed or v_after is distinct from v_before;
  end if;
  if v_changed then
    p_finding := p_finding || jsonb_build_object('user_id', coalesce(v_user_id, p_finding ->> 'user_id'));
    insert into public.audit_events (actor, action, user_id, reason, after)
    values (p_actor, 'reconcile_repair', purser.user_key(p_finding ->> 'user_id'), p_reason,
      jsonb_build_object('code', p_finding ->> 'code', 'subject', p_finding ->> 'subject', 'run', p_run_id,
        'transaction_ids', purser.written_entries(v_applied -> 'results')));
    perform purser.note_difference(purser.run_key(p_run_id), p_finding, true);
  end if;
  return v_applied || jsonb_build_object('changed', v_changed);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- reconcile_foresee: what a user's balance would be after repairs, with nothing written.
--   p_customer_id  a customer that is linked to the user first; null = none
--   p_repairs      [[effect]]: what each repair applies, in the order they would be made
-- Answers {outcome: found | not_found, before, after: {balance, version}}. The repairs themselves run, in
-- a subtransaction that is always rolled back, so no rule exists twice; identity numbers they drew
-- are left out of the ledger's later ones. All of them were read before the first, so a payment or
-- subscription that one has moved is no reason for the next to be read again.
-- Locks: as the repairs, released at the end.
-- ---------------------------------------------------------------------------------------------
create or replace function public.reconcile_foresee(p_user_id text, p_repairs jsonb, p_customer_id text default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_before jsonb;
  v_repair jsonb;
begin
  begin
    v_user := purser.lock_user(p_user_id);
    if v_user.id is null then
      return jsonb_build_object('outcome', 'not_found');
    end if;
    v_before := purser.standing(v_user);
    if p_customer_id is not null then
      perform public.link_stripe_customer(p_user_id, p_customer_id);
    end if;
    for v_repair in select * from jsonb_array_elements(p_repairs) loop
      perform public.apply_webhook_effects(null, null, purser.with_current_version(v_repair));
    end loop;
    select * into v_user from purser.accounts a where a.id = v_user.id;
    raise sqlstate 'PDRUN';
  exception when sqlstate 'PDRUN' then null;
  end;
  return jsonb_build_object('outcome', 'found', 'before', v_before, 'after', purser.standing(v_user));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- note_reconciliation_finding: a difference that no effect heals: for a person (p_repaired false),
-- or repaired outside the database, in Redis (true: audited). Answers {outcome: repaired | new | seen | accepted}.
-- ---------------------------------------------------------------------------------------------
create or replace function public.note_reconciliation_finding(
  p_run_id text, p_actor text, p_reason text, p_finding jsonb, p_repaired boolean default false)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
begin
  if p_repaired then
    insert into public.audit_events (actor, action, user_id, reason, after)
    values (p_actor, 'reconcile_repair', purser.user_key(p_finding ->> 'user_id'), p_reason,
      jsonb_build_object('code', p_finding ->> 'code', 'subject', p_finding ->> 'subject', 'run', p_run_id));
  end if;
  return jsonb_build_object('outcome', purser.note_difference(purser.run_key(p_run_id), p_finding, p_repaired));
end
$$;

-- What of a user's account a repair changes, for whoever compares before and after.
create or replace function purser.standing(p_user purser.accounts)
returns jsonb language plpgsql immutable set search_path = '' as $$
begin
  return jsonb_build_object('balance', p_user.credits_balance, 'version', p_user.credits_version);
end
$$;

-- Effects as if their payment or subscription, which the first of them may name, had just been read.
create or replace function purser.with_current_version(p_effects jsonb)
returns jsonb language plpgsql stable set search_path = '' as $$
declare
  v_first jsonb := p_effects -> 0;
  v_version bigint;
begin
  case v_first ->> 'kind'
    when 'payment_state' then
      select p.version into v_version from public.payments p where p.payment = v_first ->> 'payment';
    when 'subscription_state' then
      select s.version into v_version from public.subscription s where s.stripe_subscription_id = v_first ->> 'subscription_id';
    else return p_effects;
  end case;
  return jsonb_set(p_effects, '{0,version}', to_jsonb(coalesce(v_version, 0)));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- reconcile_link_customer: a person says whose a Stripe customer is; audited when it was nobody's.
-- Answers as link_stripe_customer; conflict: it is somebody else's. Locks: the user row. Idempotent.
-- ---------------------------------------------------------------------------------------------
create or replace function public.reconcile_link_customer(p_user_id text, p_customer_id text, p_actor text, p_reason text)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_known boolean := exists (select from public.stripe_customers c where c.customer_id = p_customer_id);
  v_linked jsonb := public.link_stripe_customer(p_user_id, p_customer_id);
begin
  if not v_known and v_linked ->> 'outcome' in ('linked', 'exists') then
    insert into public.audit_events (actor, action, user_id, reason, after)
    values (p_actor, 'link_customer', purser.user_key(p_user_id), p_reason, jsonb_build_object('customer', p_customer_id));
  end if;
  return v_linked;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- list_reconciliation_runs: the last 50, newest first; get_reconciliation_run: one, or null.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_reconciliation_runs()
returns jsonb language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(purser.run_answer(r) order by r.id desc), '[]')
  from (select * from public.reconciliation_runs order by id desc limit 50) r;
$$;

create or replace function public.get_reconciliation_run(p_run_id text)
returns jsonb language sql stable security definer set search_path = '' as $$
  select purser.run_answer(r) from public.reconciliation_runs r where r.id = purser.run_key(p_run_id);
$$;

-- ---------------------------------------------------------------------------------------------
-- list_reconciliation_findings: newest first.
--   p_status  open | resolved; p_code, p_user_id, p_run_id: null = all; p_before: id the page before ended with
-- Answers {findings, has_more}. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_reconciliation_findings(
  p_status text default null, p_code text default null, p_user_id text default null, p_run_id text default null,
  p_before bigint default null, p_limit integer default 50)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_limit integer := least(greatest(coalesce(p_limit, 50), 1), 100);
  v_answer jsonb;
begin
  with found as (
    select f as finding, row_number() over (order by f.id desc) as place
    from public.reconciliation_findings f
    where (p_status is null or (p_status = 'open') = (f.resolved_at is null))
      and (p_code is null or f.code = p_code) and (p_user_id is null or f.user_id = purser.user_key(p_user_id))
      and (p_run_id is null or f.run_id = purser.run_key(p_run_id))
      and (p_before is null or f.id < p_before)
    order by f.id desc limit v_limit + 1)
  select jsonb_build_object(
    'findings', coalesce(jsonb_agg(purser.finding_answer(f.finding) order by f.place) filter (where f.place <= v_limit), '[]'),
    'has_more', count(*) > v_limit)
  into v_answer from found f;
  return v_answer;
end
$$;

create or replace function public.get_reconciliation_finding(p_finding_id bigint)
returns jsonb language sql stable security definer set search_path = '' as $$
  select purser.finding_answer(f) from public.reconciliation_findings f where f.id = p_finding_id;
$$;

-- ---------------------------------------------------------------------------------------------
-- resolve_reconciliation_finding: a person says why a finding is well as it is, or what was done;
-- audited. The same state is not found again. Answers {outcome: resolved | unchanged | not_found, finding}.
-- Idempotent: one that is resolved stays as it was resolved.
-- ---------------------------------------------------------------------------------------------
create or replace function public.resolve_reconciliation_finding(p_finding_id bigint, p_actor text, p_reason text)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_finding public.reconciliation_findings;
begin
  if coalesce(p_reason, '') = '' or coalesce(p_actor, '') = '' then
    perform purser.raise_error(400, 'invalid_request', 'A finding is resolved by somebody, for a reason.');
  end if;
  update public.reconciliation_findings f
  set resolved_at = clock_timestamp(), resolved_by = p_actor, resolution = p_reason
  where f.id = p_finding_id and f.resolved_at is null
  returning * into v_finding;
  if v_finding.id is not null then
    insert into public.audit_events (actor, action, user_id, reason, after)
    values (p_actor, 'resolve_finding', v_finding.user_id, p_reason,
      jsonb_build_object('finding', v_finding.id::text, 'code', v_finding.code, 'subject', v_finding.subject));
    return jsonb_build_object('outcome', 'resolved', 'finding', purser.finding_answer(v_finding));
  end if;
  select * into v_finding from public.reconciliation_findings f where f.id = p_finding_id;
  if v_finding.id is null then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  return jsonb_build_object('outcome', 'unchanged', 'finding', purser.finding_answer(v_finding));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_last_reconciliation: {id, finished_at, findings, repaired} of the last run that compared
-- everything to its end; null before the first. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_last_reconciliation()
returns jsonb language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('id', 'r_' || r.id, 'finished_at', purser.iso(r.finished_at),
    'findings', r.findings, 'repaired', r.repaired)
  from public.reconciliation_runs r where r.status = 'done' order by r.finished_at desc limit 1;
$$;

-- ---------------------------------------------------------------------------------------------
-- get_reconciliation_state: how clean the books are.
--   p_user_id  of one user; null: of everybody
-- Answers {clean_as_of, compared_until, open_findings, open_by_code, cursors, last_reconciliation}.
-- clean_as_of: everything Stripe had made until then is compared, and nothing that was found is open;
-- null before the first run ended. With open findings it is the time before the oldest of them.
-- Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_reconciliation_state(p_user_id text default null)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_compared timestamptz;
  v_open record;
begin
  select c.compared_until into v_compared from public.reconciliation_cursors c where c.name = 'all';
  select count(*) as number, min(f.first_seen_at) as oldest into v_open
  from public.reconciliation_findings f
  where f.resolved_at is null and (p_user_id is null or f.user_id = purser.user_key(p_user_id));
  return jsonb_build_object(
    'clean_as_of', case when v_compared is not null then purser.iso(least(v_compared, v_open.oldest)) end,
    'compared_until', purser.iso(v_compared),
    'open_findings', v_open.number,
    'open_by_code', coalesce((
      select jsonb_object_agg(o.code, o.number) from (
        select f.code, count(*) as number from public.reconciliation_findings f
        where f.resolved_at is null and (p_user_id is null or f.user_id = purser.user_key(p_user_id))
        group by f.code) o), '{}'),
    'cursors', purser.reconciliation_extent() -> 'cursors',
    'last_reconciliation', public.get_last_reconciliation());
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_user_book: what the ledger knows of one user, for the comparison with Stripe.
-- Answers {outcome: found | not_found, user_id, email, balance, held, debt, version, plan, suspended,
--   entries, customers, sources: [as reconcile_lookup; the newest 1000], payments, subscriptions,
--   open_findings: [finding], mirror}. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_user_book(p_user_id text)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_user purser.accounts;
begin
  select * into v_user from purser.accounts a where a.id = purser.to_user_id(p_user_id);
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  return jsonb_build_object(
    'outcome', 'found', 'user_id', v_user.user_id, 'email', v_user.email,
    'balance', v_user.credits_balance, 'held', v_user.credits_held, 'debt', v_user.credits_debt,
    'version', v_user.credits_version, 'plan', v_user.plan, 'suspended', v_user.credits_suspended,
    'entries', v_user.entry_count, 'mirror', purser.mirror_record(v_user),
    'customers', coalesce((
      select jsonb_agg(c.customer_id order by c.customer_id) from public.stripe_customers c where c.user_id = v_user.user_id), '[]'),
    'sources', coalesce((
      select jsonb_agg(purser.source_answer(s.source, t) order by t.entry_number desc, (s.source).source_key)
      from (select c as source from public.credit_sources c where c.user_id = v_user.user_id
            order by c.entry_number desc limit 1000) s
      join public.credit_transactions t on t.user_id = (s.source).user_id and t.entry_number = (s.source).entry_number), '[]'),
    'subscriptions', coalesce((
      select jsonb_agg(purser.subscription_record(s)) from public.subscription s where s.user_id = v_user.user_id), '[]'),
    'open_findings', coalesce((
      select jsonb_agg(purser.finding_answer(f) order by f.id)
      from (select * from public.reconciliation_findings f
            where f.user_id = v_user.user_id and f.resolved_at is null order by f.id limit 100) f), '[]'));
end
$$;

call purser.restrict_functions();
reset role;

alter table public.reconciliation_runs enable row level security;
alter table public.reconciliation_cursors enable row level security;
drop policy if exists reconciliation_runs_select_admin on public.reconciliation_runs;
create policy reconciliation_runs_select_admin on public.reconciliation_runs for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');
drop policy if exists reconciliation_cursors_select_admin on public.reconciliation_cursors;
create policy reconciliation_cursors_select_admin on public.reconciliation_cursors for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');

set role purser_ledger;
revoke all on public.reconciliation_runs, public.reconciliation_cursors from public, anon, authenticated, service_role;
revoke all on purser.reconciliation_seen from public, anon, authenticated, service_role;
grant select on public.reconciliation_runs, public.reconciliation_cursors to authenticated, service_role;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
