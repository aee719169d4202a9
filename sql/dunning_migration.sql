-- Purser: dunning, what is done about an invoice of a subscription that could not be collected.
--
-- Paste after subscriptions_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- One case for each invoice, for ever: what ended does not begin again. A case is opened, kept up
-- to date and ended by what Stripe says of invoice and subscription (effect `dunning`, which every
-- event of either leads to), so late, doubled and lost deliveries end the same. Its steps are done
-- by the job `dunning`, which reads both at Stripe first (src/dunning).
--   open       the steps go on            paused     a person holds them back
--   canceling  Stripe is being told to end the subscription; written before Stripe is called
--   recovered  paid                       canceled   the subscription ended, unpaid
--   closed     nothing is left to collect, or a person ended it

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['dunning_cases'], array[
  'claim_dunning_cases', 'begin_dunning_cancel', 'fail_dunning_step', 'change_dunning_case',
  'get_dunning_case', 'list_dunning_cases', 'dunning_summary']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.dunning_cases (
  id bigint generated always as identity primary key,
  user_id text not null,
  stripe_invoice_id text not null unique,
  stripe_subscription_id text not null,
  stripe_customer_id text,
  state text not null default 'open'
    check (state in ('open', 'paused', 'canceling', 'recovered', 'canceled', 'closed')),
  resolution text check (resolution in (
    'paid', 'canceled_by_purser', 'canceled_by_stripe', 'subscription_ended', 'voided', 'uncollectible',
    'sent_as_bill', 'subscription_in_order', 'given_up', 'by_hand')),
  failed_at timestamptz not null,
  steps jsonb not null,
  next_step integer,
  due_at timestamptz,
  postponed_because text,
  postponements integer not null default 0,
  plan_name text,
  invoice_number text,
  invoice_url text,
  amount bigint not null,
  currency text not null,
  attempt_count integer not null default 0,
  next_payment_attempt timestamptz,
  seen_at timestamptz not null,
  lease bigint not null default 0,
  leased_until timestamptz,
  attempts integer not null default 0,
  not_before timestamptz,
  error_message text,
  paused_at timestamptz,
  paid_at timestamptz,
  ended_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  check ((state in ('recovered', 'canceled', 'closed')) = (ended_at is not null)),
  check ((ended_at is null) = (resolution is null))
);
create index if not exists dunning_cases_due on public.dunning_cases (due_at) where state in ('open', 'canceling');
create index if not exists dunning_cases_subscription on public.dunning_cases (stripe_subscription_id);
create index if not exists dunning_cases_user on public.dunning_cases (user_id, id);
create index if not exists dunning_cases_state on public.dunning_cases (state, id);
comment on table public.dunning_cases is 'Invoices that could not be collected, with the steps that follow: mails, and in the end the subscription is canceled.';
comment on column public.dunning_cases.failed_at is 'Day 0: when Stripe first tried to collect it.';
comment on column public.dunning_cases.steps is '[{step, day, action (mail | cancel), urgency, due_at, state (waiting | done | skipped), done_at, note}], fixed when the case was opened; due_at moves when an earlier step came late.';
comment on column public.dunning_cases.next_step is 'Number of the step that comes next, from 1; null: none is left, the case waits for its end.';
comment on column public.dunning_cases.due_at is 'When the job looks at it next: the time of the next step, or that to which it was postponed.';
comment on column public.dunning_cases.postponed_because is 'retry_soon, retry_scheduled: Stripe itself will try again first; collection_paused, subscription_paused; nothing_left.';
comment on column public.dunning_cases.attempts is 'Attempts at the current step that failed, because Stripe or the database did not answer.';
comment on column public.dunning_cases.lease is 'Rises with each claim and each change by a person: a worker that was overtaken does nothing.';

-- May a case that is p_from become p_to? What has ended stays so.
create or replace function purser.dunning_may_become(p_from text, p_to text)
returns boolean language sql immutable set search_path = '' as $$
  select (p_from, p_to) in (
    ('open', 'paused'), ('open', 'canceling'), ('open', 'recovered'), ('open', 'canceled'), ('open', 'closed'),
    ('paused', 'open'), ('paused', 'recovered'), ('paused', 'canceled'), ('paused', 'closed'),
    ('canceling', 'open'), ('canceling', 'recovered'), ('canceling', 'canceled'), ('canceling', 'closed'));
$$;

create or replace function purser.guard_dunning_move()
returns trigger language plpgsql set search_path = '' as $$
begin
  if new.state <> old.state and not purser.dunning_may_become(old.state, new.state) then
    raise exception 'purser: a dunning case cannot go from % to %', old.state, new.state using errcode = '23514';
  end if;
  new.updated_at := clock_timestamp();
  return new;
end
$$;
drop trigger if exists purser_guard_move on public.dunning_cases;
create trigger purser_guard_move before update on public.dunning_cases
  for each row execute function purser.guard_dunning_move();

-- The steps of a case that failed at p_failed_at. p_schedule: [{day, action, urgency}] in order.
create or replace function purser.dunning_steps(p_schedule jsonb, p_failed_at timestamptz)
returns jsonb language sql immutable set search_path = '' as $$
  select jsonb_agg(s.value || jsonb_build_object(
      'step', s.ordinality, 'state', 'waiting', 'done_at', null, 'note', null,
      'due_at', purser.iso(p_failed_at + make_interval(days => (s.value ->> 'day')::integer)))
    order by s.ordinality)
  from jsonb_array_elements(p_schedule) with ordinality s;
$$;

-- Ends the next step of a case as p_state (done | skipped) and says when the one after it is due. A
-- step that came late moves that one: between two of them there is never less than the planned
-- time but one day, so that nobody who was warned late is cut off soon. Returns the row, not yet written.
create or replace function purser.dunning_step_over(
  p_case public.dunning_cases, p_state text, p_note text, p_at timestamptz)
returns public.dunning_cases language plpgsql set search_path = '' as $$
declare
  v_case public.dunning_cases := p_case;
  v_step jsonb := p_case.steps -> (p_case.next_step - 1);
  v_next jsonb := p_case.steps -> p_case.next_step;
  v_due timestamptz;
begin
  v_case.steps := jsonb_set(v_case.steps, array[(p_case.next_step - 1)::text],
    v_step || jsonb_build_object('state', p_state, 'done_at', purser.iso(p_at), 'note', p_note));
  v_case.postponed_because := null;
  v_case.postponements := 0;
  v_case.attempts := 0;
  v_case.not_before := null;
  v_case.error_message := null;
  if v_next is null then
    v_case.next_step := null;
    v_case.due_at := p_at + interval '1 day';
    v_case.postponed_because := 'nothing_left';
    return v_case;
  end if;
  v_due := greatest((v_next ->> 'due_at')::timestamptz,
    p_at + make_interval(days => (v_next ->> 'day')::integer - (v_step ->> 'day')::integer - 1));
  v_case.steps := jsonb_set(v_case.steps, array[p_case.next_step::text, 'due_at'], to_jsonb(purser.iso(v_due)));
  v_case.next_step := p_case.next_step + 1;
  v_case.due_at := v_due;
  return v_case;
end
$$;

create or replace function purser.save_dunning_case(p_case public.dunning_cases)
returns void language plpgsql set search_path = '' as $$
begin
  update public.dunning_cases c set
    state = p_case.state, resolution = p_case.resolution, steps = p_case.steps, next_step = p_case.next_step,
    due_at = p_case.due_at, postponed_because = p_case.postponed_because, postponements = p_case.postponements,
    plan_name = p_case.plan_name, invoice_number = p_case.invoice_number, invoice_url = p_case.invoice_url,
    amount = p_case.amount, currency = p_case.currency, attempt_count = p_case.attempt_count,
    next_payment_attempt = p_case.next_payment_attempt, seen_at = p_case.seen_at, lease = p_case.lease,
    leased_until = p_case.leased_until, attempts = p_case.attempts, not_before = p_case.not_before,
    error_message = p_case.error_message, paused_at = p_case.paused_at, paid_at = p_case.paid_at,
    ended_at = p_case.ended_at
  where c.id = p_case.id;
end
$$;

-- Who did what to a case. The states before and after, and what the action adds.
create or replace function purser.audit_dunning(
  p_actor text, p_action text, p_reason text, p_before text, p_case public.dunning_cases, p_more jsonb default '{}')
returns void language sql set search_path = '' as $$
  insert into public.audit_events (actor, action, user_id, reason, before, after)
  values (p_actor, p_action, p_case.user_id, p_reason,
    case when p_before is not null then jsonb_build_object('state', p_before) end,
    jsonb_build_object('case_id', p_case.id, 'invoice_id', p_case.stripe_invoice_id,
      'subscription_id', p_case.stripe_subscription_id, 'state', p_case.state) || p_more);
$$;

-- Does the mail of the next step: into the outbox, in the transaction that marks the step as done.
-- The key names case and step, so it goes out once, whoever comes here twice. Returns the row, not
-- yet written.
create or replace function purser.send_dunning_mail(p_case public.dunning_cases, p_actor text, p_at timestamptz)
returns public.dunning_cases language plpgsql set search_path = '' as $$
declare
  v_case public.dunning_cases;
  v_step jsonb := p_case.steps -> (p_case.next_step - 1);
  v_days integer := greatest(0, floor(extract(epoch from p_at - p_case.failed_at) / 86400));
begin
  perform purser.enqueue_notification(jsonb_build_object(
    'key', format('dunning:%s:%s', p_case.id, p_case.next_step), 'notification', 'payment_failed', 'user_id', p_case.user_id,
    'data', jsonb_build_object(
      'urgency', v_step ->> 'urgency', 'attempt_count', p_case.attempt_count, 'days_overdue', v_days,
      'amount', p_case.amount, 'currency', p_case.currency, 'invoice_url', p_case.invoice_url,
      'next_attempt_at', case when p_case.next_payment_attempt > p_at then purser.iso(p_case.next_payment_attempt) end,
      'invoice_number', p_case.invoice_number)));
  v_case := purser.dunning_step_over(p_case, 'done', null, p_at);
  perform purser.audit_dunning(p_actor, 'dunning_mail', null, null, v_case,
    jsonb_build_object('step', p_case.next_step, 'urgency', v_step ->> 'urgency', 'days_overdue', v_days));
  return v_case;
end
$$;

-- Ends a case. Returns the row, not yet written.
create or replace function purser.end_dunning_case(
  p_case public.dunning_cases, p_state text, p_resolution text, p_actor text, p_reason text, p_at timestamptz)
returns public.dunning_cases language plpgsql set search_path = '' as $$
declare
  v_case public.dunning_cases := p_case;
begin
  v_case.state := p_state;
  v_case.resolution := p_resolution;
  v_case.ended_at := p_at;
  v_case.due_at := null;
  v_case.postponed_because := null;
  v_case.not_before := null;
  v_case.error_message := null;
  v_case.leased_until := null;
  v_case.lease := v_case.lease + 1;
  perform purser.audit_dunning(p_actor, 'dunning_ended', p_reason, p_case.state, v_case,
    jsonb_build_object('resolution', p_resolution));
  return v_case;
end
$$;

-- Opens the case of a failing invoice, with the step that is due at once. False: it has one, or was
-- paid: credits of an invoice are proof of that, whatever was read before. See purser.note_dunning.
create or replace function purser.open_dunning_case(p_effect jsonb, p_actor text, p_at timestamptz)
returns boolean language plpgsql set search_path = '' as $$
declare
  v_invoice jsonb := p_effect -> 'invoice';
  -- Stripe's clock may be a little ahead of ours, and the sandbox's is when it was advanced: what has
  -- failed has failed by now, or its first mail would wait.
  v_failed_at timestamptz := least((p_effect -> 'invoice' ->> 'failed_at')::timestamptz, p_at);
  v_case public.dunning_cases;
begin
  if exists (select from public.credit_sources s where s.source_key = 'invoice:' || (v_invoice ->> 'id')) then
    return false;
  end if;
  insert into public.dunning_cases (user_id, stripe_invoice_id, stripe_subscription_id, stripe_customer_id, failed_at, steps,
    next_step, due_at, plan_name, invoice_number, invoice_url, amount, currency, attempt_count, next_payment_attempt, seen_at)
  values (
    coalesce((select s.user_id from public.subscription s where s.stripe_subscription_id = p_effect ->> 'subscription_id'),
      purser.user_key(p_effect ->> 'user_id')),
    v_invoice ->> 'id', p_effect ->> 'subscription_id', p_effect ->> 'customer_id', v_failed_at,
    purser.dunning_steps(p_effect -> 'schedule', v_failed_at), 1,
    v_failed_at + make_interval(days => (p_effect -> 'schedule' -> 0 ->> 'day')::integer),
    p_effect ->> 'plan_name', v_invoice ->> 'number', v_invoice ->> 'url', (v_invoice ->> 'amount')::bigint,
    v_invoice ->> 'currency', (v_invoice ->> 'attempt_count')::integer, (v_invoice ->> 'next_payment_attempt')::timestamptz, p_at)
  on conflict (stripe_invoice_id) do nothing
  returning * into v_case;
  if v_case.id is null then
    return false;
  end if;
  perform purser.audit_dunning(p_actor, 'dunning_opened', null, null, v_case,
    jsonb_build_object('amount', v_case.amount, 'currency', v_case.currency, 'failed_at', purser.iso(v_case.failed_at)));
  if v_case.due_at <= p_at and v_case.steps -> 0 ->> 'action' = 'mail' then
    perform purser.save_dunning_case(purser.send_dunning_mail(v_case, p_actor, p_at));
  end if;
  return true;
end
$$;

-- Ends the cases of a subscription that has ended, with one mail where it ended unpaid. False: there
-- was none. See purser.note_dunning.
create or replace function purser.end_dunning_of_subscription(p_effect jsonb, p_actor text, p_at timestamptz)
returns boolean language plpgsql set search_path = '' as $$
declare
  v_invoice jsonb := p_effect -> 'invoice';
  v_subscription jsonb := p_effect -> 'subscription';
  v_case public.dunning_cases;
  v_any boolean := false;
begin
  for v_case in
    select * from public.dunning_cases c
    where c.stripe_subscription_id = p_effect ->> 'subscription_id' and c.ended_at is null order by c.id
  loop
    if v_invoice ->> 'verdict' = 'paid' and v_case.stripe_invoice_id = v_invoice ->> 'id' then
      -- Paid in the moment in which it was canceled: only a person can make that good.
      v_case.paid_at := coalesce((v_invoice ->> 'paid_at')::timestamptz, p_at);
      perform purser.record_finding('dunning_canceled_paid', v_case.stripe_subscription_id, v_case.user_id,
        jsonb_build_object('invoice_id', v_case.stripe_invoice_id, 'case_id', v_case.id,
          'proposal', 'The invoice was paid while the subscription was being canceled: refund it, or subscribe the user again.'));
    end if;
    if v_case.state = 'canceling' or coalesce((v_subscription ->> 'ended_unpaid')::boolean, false) then
      perform purser.enqueue_notification(jsonb_build_object(
        'key', 'subscription_canceled:' || v_case.stripe_subscription_id, 'notification', 'subscription_canceled',
        'user_id', v_case.user_id,
        'data', jsonb_build_object('plan_name', coalesce(p_effect ->> 'plan_name', v_case.plan_name),
          'ended_at', coalesce(v_subscription ->> 'ended_at', purser.iso(p_at)), 'reason', 'payment_failed')));
      if v_case.state = 'canceling' then
        v_case := purser.dunning_step_over(v_case, 'done', null, p_at);
        v_case := purser.end_dunning_case(v_case, 'canceled', 'canceled_by_purser', p_actor, null, p_at);
      else
        v_case := purser.end_dunning_case(v_case, 'canceled', 'canceled_by_stripe', p_actor, null, p_at);
      end if;
    else
      v_case := purser.end_dunning_case(v_case, 'closed', 'subscription_ended', p_actor, null, p_at);
    end if;
    perform purser.save_dunning_case(v_case);
    v_any := true;
  end loop;
  return v_any;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- purser.note_dunning: effect `dunning`: what Stripe says now of a subscription, and of one of its
-- invoices, brought into its cases; and the step the job decided on that ground, if it still may.
--   p_effect  {user_id, subscription_id, customer_id, at (when Stripe was asked), plan_name, actor,
--              schedule: [{day, action: mail | cancel, urgency}],
--              subscription: {status, ended_at, ended_unpaid (Stripe gave it up)},
--              invoice: null | {id, verdict, failed_at, paid_at, attempt_count,
--                next_payment_attempt, amount, currency, number, url},
--              step: absent | {case_id, fence, action, until, reason}}
--     verdict      failing: opens the case, with the step that is due at once; paid, voided,
--                  uncollectible, sent_as_bill: ends it; other: says nothing
--     step.action  mail; postpone (until, reason); keep (the step is left out, and the case ends
--                  with the resolution `reason`)
-- Answers applied | unchanged. Idempotent: a step is done under the lease that was taken for it, a
-- mail goes out once, what ended stays ended. Locks: the cases concerned, in id order; the caller
-- has locked the user.
-- ---------------------------------------------------------------------------------------------
create or replace function purser.note_dunning(p_effect jsonb, p_actor text)
returns text language plpgsql set search_path = '' as $$
declare
  v_at timestamptz := coalesce((p_effect ->> 'at')::timestamptz, clock_timestamp());
  v_invoice jsonb := p_effect -> 'invoice';
  v_verdict text := p_effect -> 'invoice' ->> 'verdict';
  v_ended boolean := coalesce(p_effect -> 'subscription' ->> 'status' in ('canceled', 'incomplete_expired'), false);
  v_step jsonb := p_effect -> 'step';
  v_case public.dunning_cases;
  v_outcome text := 'unchanged';
begin
  -- All in one order, whichever of them this is about.
  perform from public.dunning_cases c
  where c.stripe_subscription_id = p_effect ->> 'subscription_id' order by c.id for update;

  if v_verdict = 'failing' and not v_ended and purser.open_dunning_case(p_effect, p_actor, v_at) then
    return 'applied';
  end if;

  select * into v_case from public.dunning_cases c where c.stripe_invoice_id = v_invoice ->> 'id';
  if v_case.id is not null and v_case.ended_at is not null then
    if v_verdict = 'paid' and v_case.paid_at is null then
      v_case.paid_at := coalesce((v_invoice ->> 'paid_at')::timestamptz, v_at);
      perform purser.save_dunning_case(v_case);
      perform purser.audit_dunning(p_actor, 'dunning_paid_late', null, v_case.state, v_case);
      v_outcome := 'applied';
    end if;
  elsif v_case.id is not null then
    if v_at >= v_case.seen_at then
      v_case.seen_at := v_at;
      v_case.amount := (v_invoice ->> 'amount')::bigint;
      v_case.currency := v_invoice ->> 'currency';
      v_case.attempt_count := (v_invoice ->> 'attempt_count')::integer;
      v_case.next_payment_attempt := (v_invoice ->> 'next_payment_attempt')::timestamptz;
      v_case.invoice_number := coalesce(v_invoice ->> 'number', v_case.invoice_number);
      v_case.invoice_url := coalesce(v_invoice ->> 'url', v_case.invoice_url);
    end if;
    if v_verdict = 'paid' and not (v_ended and v_case.state = 'canceling') then
      v_case.paid_at := coalesce((v_invoice ->> 'paid_at')::timestamptz, v_at);
      v_case := purser.end_dunning_case(v_case, 'recovered', 'paid', p_actor, null, v_at);
      v_outcome := 'applied';
    elsif v_verdict in ('voided', 'uncollectible', 'sent_as_bill') and not v_ended then
      v_case := purser.end_dunning_case(v_case, 'closed', v_verdict, p_actor, null, v_at);
      v_outcome := 'applied';
    elsif not v_ended and v_case.id = (v_step ->> 'case_id')::bigint and v_case.lease = (v_step ->> 'fence')::bigint then
      -- Whatever was to be canceled a moment ago, this is what was decided now.
      v_case.state := 'open';
      v_case.leased_until := null;
      v_case.attempts := 0;
      v_case.not_before := null;
      v_case.error_message := null;
      case v_step ->> 'action'
        when 'mail' then
          v_case := purser.send_dunning_mail(v_case, p_actor, v_at);
        when 'postpone' then
          v_case.due_at := (v_step ->> 'until')::timestamptz;
          v_case.postponed_because := v_step ->> 'reason';
          v_case.postponements := v_case.postponements + 1;
        when 'keep' then
          if v_case.next_step is not null then
            v_case := purser.dunning_step_over(v_case, 'skipped', v_step ->> 'reason', v_at);
          end if;
          v_case := purser.end_dunning_case(v_case, 'closed', v_step ->> 'reason', p_actor, null, v_at);
        else
          perform purser.raise_error(400, 'invalid_request', format('There is no dunning step %s.', v_step ->> 'action'));
      end case;
      v_outcome := 'applied';
    end if;
    perform purser.save_dunning_case(v_case);
  end if;

  if v_ended and purser.end_dunning_of_subscription(p_effect, p_actor, v_at) then
    v_outcome := 'applied';
  end if;
  return v_outcome;
end
$$;

-- A case as functions answer it.
create or replace function purser.dunning_answer(p_case public.dunning_cases)
returns jsonb language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'case_id', p_case.id::text, 'user_id', p_case.user_id, 'invoice_id', p_case.stripe_invoice_id,
    'subscription_id', p_case.stripe_subscription_id, 'customer_id', p_case.stripe_customer_id,
    'state', p_case.state, 'resolution', p_case.resolution, 'failed_at', purser.iso(p_case.failed_at),
    'steps', p_case.steps, 'next_step', p_case.next_step, 'due_at', purser.iso(p_case.due_at),
    'postponed_because', p_case.postponed_because, 'postponements', p_case.postponements,
    'plan_name', p_case.plan_name, 'invoice_number', p_case.invoice_number, 'invoice_url', p_case.invoice_url,
    'amount', p_case.amount, 'currency', p_case.currency, 'attempt_count', p_case.attempt_count,
    'next_payment_attempt', purser.iso(p_case.next_payment_attempt), 'seen_at', purser.iso(p_case.seen_at),
    'failed_attempts', p_case.attempts, 'error', p_case.error_message, 'paused_at', purser.iso(p_case.paused_at),
    'paid_at', purser.iso(p_case.paid_at), 'ended_at', purser.iso(p_case.ended_at), 'opened_at', purser.iso(p_case.created_at));
$$;

-- ---------------------------------------------------------------------------------------------
-- claim_dunning_cases: the cases whose next step is due, the most overdue first, with a lease each.
--   p_limit          1 to 100
--   p_lease_seconds  how long a worker may take; then the case is anybody's, and the first one's
--                    writes are refused by `fence`
--   p_peek           true: reads only, takes no lease (a dry run)
-- Answers {cases: [a case, and its fence]}. Locks: the cases, passing over those others hold.
-- ---------------------------------------------------------------------------------------------
create or replace function public.claim_dunning_cases(
  p_limit integer default 10, p_lease_seconds integer default 120, p_peek boolean default false,
  p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_limit integer := least(greatest(coalesce(p_limit, 10), 1), 100);
  v_case public.dunning_cases;
  v_cases jsonb := '[]';
begin
  if p_peek then
    return jsonb_build_object('cases', coalesce((
      select jsonb_agg(purser.dunning_answer(c) || jsonb_build_object('fence', c.lease) order by c.due_at, c.id)
      from (select d.* from public.dunning_cases d where d.state in ('open', 'canceling') and d.due_at <= v_now
            order by d.due_at, d.id limit v_limit) c), '[]'));
  end if;
  for v_case in
    select * from public.dunning_cases c
    where c.state in ('open', 'canceling') and c.due_at <= v_now
      and coalesce(c.leased_until, '-infinity') <= v_now and coalesce(c.not_before, '-infinity') <= v_now
    order by c.due_at, c.id limit v_limit for update skip locked
  loop
    update public.dunning_cases c
    set lease = c.lease + 1, leased_until = v_now + make_interval(secs => p_lease_seconds)
    where c.id = v_case.id returning * into v_case;
    v_cases := v_cases || (purser.dunning_answer(v_case) || jsonb_build_object('fence', v_case.lease));
  end loop;
  return jsonb_build_object('cases', v_cases);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- begin_dunning_cancel: writes down that Stripe is about to be told to end the subscription, so
-- that whoever comes after a crash knows why it ended. Answers {outcome: applied | stale}; stale:
-- the lease was lost, the case has ended, or it is not time; do not call Stripe. Idempotent under
-- the same lease. Audited.
-- ---------------------------------------------------------------------------------------------
create or replace function public.begin_dunning_cancel(p_case_id bigint, p_fence bigint)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_case public.dunning_cases;
  v_before text;
begin
  select * into v_case from public.dunning_cases c where c.id = p_case_id for update;
  if v_case.id is null or v_case.lease <> p_fence or v_case.state not in ('open', 'canceling')
     or v_case.steps -> (v_case.next_step - 1) ->> 'action' is distinct from 'cancel' then
    return jsonb_build_object('outcome', 'stale');
  end if;
  v_before := v_case.state;
  if v_before = 'open' then
    v_case.state := 'canceling';
    perform purser.save_dunning_case(v_case);
    perform purser.audit_dunning('job:dunning', 'dunning_canceling', null, v_before, v_case);
  end if;
  return jsonb_build_object('outcome', 'applied');
end
$$;

-- ---------------------------------------------------------------------------------------------
-- fail_dunning_step: the step could not be done; it stays due, and is tried again after
-- p_delay_seconds. Answers {outcome: applied | stale}.
-- ---------------------------------------------------------------------------------------------
create or replace function public.fail_dunning_step(
  p_case_id bigint, p_fence bigint, p_error text, p_delay_seconds double precision, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
begin
  update public.dunning_cases c
  set attempts = c.attempts + 1, error_message = left(p_error, 2000), leased_until = null,
      not_before = coalesce(p_now, clock_timestamp()) + make_interval(secs => p_delay_seconds)
  where c.id = p_case_id and c.lease = p_fence and c.ended_at is null;
  return jsonb_build_object('outcome', case when found then 'applied' else 'stale' end);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- change_dunning_case: what a person does to a case, audited with p_actor and p_reason.
--   p_action  pause: no steps until resume; resume: they go on where they stopped, the time of the
--             pause is not counted; skip: the next step is left out; close: nothing more is done
-- Answers {outcome: applied | unchanged | not_found | refused, case, detail}. unchanged: it was so
-- before. refused: it has ended, is being canceled at Stripe now, or has no step left. A worker that
-- holds the case loses its lease. Locks: the case.
-- ---------------------------------------------------------------------------------------------
create or replace function public.change_dunning_case(
  p_case_id bigint, p_action text, p_reason text, p_actor text, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_case public.dunning_cases;
  v_before text;
  v_now timestamptz;
  v_step integer;
begin
  if p_action is null or p_action not in ('pause', 'resume', 'skip', 'close') then
    perform purser.raise_error(400, 'invalid_request', 'p_action must be pause, resume, skip or close.');
  end if;
  if coalesce(btrim(p_reason), '') = '' or coalesce(btrim(p_actor), '') = '' then
    perform purser.raise_error(400, 'invalid_request', 'p_reason and p_actor must say why and who.');
  end if;
  select * into v_case from public.dunning_cases c where c.id = p_case_id for update;
  if v_case.id is null then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  v_now := coalesce(p_now, clock_timestamp());
  v_before := v_case.state;
  v_step := v_case.next_step;
  if (p_action = 'pause' and v_before = 'paused') or (p_action = 'resume' and v_before = 'open')
     or (p_action = 'close' and v_case.resolution = 'by_hand') then
    return jsonb_build_object('outcome', 'unchanged', 'case', purser.dunning_answer(v_case));
  end if;
  if v_case.ended_at is not null or v_before = 'canceling' or (p_action = 'skip' and v_step is null) then
    return jsonb_build_object('outcome', 'refused', 'case', purser.dunning_answer(v_case), 'detail', case
      when v_case.ended_at is not null then format('The case has ended (%s).', v_case.resolution)
      when v_before = 'canceling' then 'The subscription is being canceled at Stripe at this moment.'
      else 'No step of the case is left to skip.' end);
  end if;
  if p_action = 'close' then
    v_case := purser.end_dunning_case(v_case, 'closed', 'by_hand', p_actor, p_reason, v_now);
  else
    v_case.lease := v_case.lease + 1;
    v_case.leased_until := null;
    case p_action
      when 'pause' then
        v_case.state := 'paused';
        v_case.paused_at := v_now;
        v_case.due_at := null;
      when 'resume' then
        v_case.state := 'open';
        v_case.steps := (
          select jsonb_agg(case when s.value ->> 'state' <> 'waiting' then s.value else s.value || jsonb_build_object(
            'due_at', purser.iso((s.value ->> 'due_at')::timestamptz + greatest(v_now - v_case.paused_at, interval '0'))) end
            order by s.ordinality)
          from jsonb_array_elements(v_case.steps) with ordinality s);
        v_case.due_at := greatest(v_now, coalesce((v_case.steps -> (v_step - 1) ->> 'due_at')::timestamptz, v_now));
        v_case.postponed_because := null;
        v_case.paused_at := null;
      when 'skip' then
        v_case := purser.dunning_step_over(v_case, 'skipped', p_reason, v_now);
        if v_before = 'paused' then
          v_case.due_at := null;
        end if;
    end case;
    perform purser.audit_dunning(p_actor, 'dunning_' || p_action, p_reason, v_before, v_case, jsonb_build_object('step', v_step));
  end if;
  perform purser.save_dunning_case(v_case);
  return jsonb_build_object('outcome', 'applied', 'case', purser.dunning_answer(v_case));
end
$$;

-- get_dunning_case: a case with what was done to it and its mails. Answers {outcome: found |
-- not_found, case, history: audit events (100 newest), mails: [{key, kind, status, created_at,
-- sent_at}]}. Reads only.
create or replace function public.get_dunning_case(p_case_id bigint)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_case public.dunning_cases;
begin
  select * into v_case from public.dunning_cases c where c.id = p_case_id;
  if v_case.id is null then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  return jsonb_build_object('outcome', 'found', 'case', purser.dunning_answer(v_case),
    'history', coalesce((
      select jsonb_agg(jsonb_build_object('actor', a.actor, 'action', a.action, 'reason', a.reason, 'before', a.before,
        'after', a.after, 'created_at', purser.iso(a.created_at)) order by a.id)
      from (select * from public.audit_events e where e.user_id = v_case.user_id and e.action like 'dunning\_%'
              and e.after ->> 'case_id' = v_case.id::text order by e.id desc limit 100) a), '[]'),
    'mails', coalesce((
      select jsonb_agg(jsonb_build_object('key', n.notification_key, 'kind', n.kind, 'status', n.status,
        'created_at', purser.iso(n.created_at), 'sent_at', purser.iso(n.sent_at)) order by n.id)
      from public.notifications n
      where n.notification_key = any (array(
        select format('dunning:%s:%s', v_case.id, s.step) from generate_series(1, jsonb_array_length(v_case.steps)) s(step))
        || ('subscription_canceled:' || v_case.stripe_subscription_id))), '[]'));
end
$$;

-- list_dunning_cases: newest first. p_state: one state, or `active` (open, paused, canceling);
-- p_user_id; p_before_id: the last id of the page before; p_limit 1 to 100. Answers {data, has_more,
-- next_id}. Reads only.
create or replace function public.list_dunning_cases(
  p_state text default null, p_user_id text default null, p_before_id bigint default null, p_limit integer default 50)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_limit integer := least(greatest(coalesce(p_limit, 50), 1), 100);
  v_states text[] := case p_state when 'active' then array['open', 'paused', 'canceling'] else array[p_state] end;
  v_answer jsonb;
begin
  with found as (
    select c.*, row_number() over (order by c.id desc) as place from public.dunning_cases c
    where (p_state is null or c.state = any (v_states))
      and (p_user_id is null or c.user_id = purser.user_key(p_user_id))
      and (p_before_id is null or c.id < p_before_id)
    order by c.id desc limit v_limit + 1)
  select jsonb_build_object(
    'data', coalesce((
      select jsonb_agg(purser.dunning_answer(c) order by c.id desc)
      from public.dunning_cases c where c.id in (select f.id from found f where f.place <= v_limit)), '[]'),
    'has_more', (select count(*) > v_limit from found),
    'next_id', case when (select count(*) > v_limit from found)
      then (select f.id::text from found f where f.place = v_limit) end)
  into v_answer;
  return v_answer;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- dunning_summary: how dunning stands, for health and metrics: {open, paused, canceling, recovered,
-- canceled, closed, overdue_steps (the job should have done them 15 minutes ago),
-- oldest_overdue_seconds, failing_steps (tried in vain), completion_rate (recovered + canceled +
-- closed of all), recovery_rate (recovered of recovered + canceled)}. Rates are null without cases.
-- Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.dunning_summary(p_now timestamptz default null)
returns jsonb language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'open', count(*) filter (where c.state = 'open'), 'paused', count(*) filter (where c.state = 'paused'),
    'canceling', count(*) filter (where c.state = 'canceling'),
    'recovered', count(*) filter (where c.state = 'recovered'), 'canceled', count(*) filter (where c.state = 'canceled'),
    'closed', count(*) filter (where c.state = 'closed'),
    'overdue_steps', count(*) filter (where c.due_at < n.now - interval '15 minutes'),
    'oldest_overdue_seconds', coalesce(floor(max(extract(epoch from n.now - c.due_at)) filter (
      where c.due_at < n.now - interval '15 minutes')), 0),
    'failing_steps', count(*) filter (where c.attempts > 0 and c.ended_at is null),
    'completion_rate', round(count(c.ended_at)::numeric / nullif(count(c.id), 0), 4),
    'recovery_rate', round(count(*) filter (where c.state = 'recovered')::numeric
      / nullif(count(*) filter (where c.state in ('recovered', 'canceled')), 0), 4))
  from (select coalesce(p_now, clock_timestamp()) as now) n left join public.dunning_cases c on true;
$$;

call purser.restrict_functions();
reset role;

alter table public.dunning_cases enable row level security;
drop policy if exists dunning_cases_select_own on public.dunning_cases;
create policy dunning_cases_select_own on public.dunning_cases for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));

set role purser_ledger;
revoke all on public.dunning_cases from public, anon, authenticated, service_role;
grant select on public.dunning_cases to authenticated, service_role;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
