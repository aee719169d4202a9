-- Purser: payments, and the claw-backs that follow from what became of them.
--
-- Paste after credit_transactions_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- The rules this file keeps:
--   * A claw-back is a target, not a delta. What is taken back of a grant depends only on the
--     amounts that stand in `payments` now:
--       floor(granted * min(settled, sum of min(paid, refunded + disputed)) / settled)
--     over the payments of its settlement; settled = the sum of what they paid, customer balance
--     included; where nothing was paid, nothing is taken back. Written is the target less what was
--     taken already, so repetition, order and partial sequences never change the end.
--   * Taken from the grant's own lots, then other lots in burn-down order (plan lots too, also
--     while suspended), then as debt. Holds do not protect credits that were never paid for:
--     the balance may fall below what is held, and captures are refused from there on.
--   * What comes back repays debt first, then goes where it was taken from, the newest taking
--     first. A lot that has expired since comes back as a bonus lot of 7 days.
--   * Locks: the user row (or the tombstone of a closed account), then the payment.
--
-- Grants from before this file have no rows here. set_payment_state makes the row of a payment
-- whose settlement is known (credit_sources) and joins it to the entry; `settled` is then what
-- the payments known by then paid.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['payments'], array['get_payment_state', 'set_payment_state']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.payments (
  payment text primary key check (octet_length(payment) between 3 and 250),
  user_id text,
  entry_number bigint,
  currency text,
  paid bigint not null default 0 check (paid between 0 and 9007199254740991),
  refunded bigint not null default 0 check (refunded between 0 and 9007199254740991),
  disputed bigint not null default 0 check (disputed between 0 and 9007199254740991),
  status text,
  version bigint not null default 1 check (version > 0),
  detail jsonb not null default '{}',
  created_at timestamptz not null,
  updated_at timestamptz not null,
  constraint payments_settlement check ((user_id is null) = (entry_number is null))
);
create index if not exists payments_entry on public.payments (user_id, entry_number);
comment on table public.payments is 'What became of each payment: one row for a payment intent, for a charge without one, or for the customer balance an invoice used.';
comment on column public.payments.payment is 'pi_..., ch_... where there is no intent, or balance:in_... (customer balance, which cannot be refunded).';
comment on column public.payments.entry_number is 'The grant that it settled, with user_id; null until a grant names the payment.';
comment on column public.payments.refunded is 'Refunds that succeeded, in the smallest unit of the currency.';
comment on column public.payments.disputed is 'Disputes that are open or lost; inquiries and disputes that were won count 0.';
comment on column public.payments.version is 'Rises with every change; who writes names the version he read before he asked Stripe.';

call purser.guard_table('payments', false);

-- ---------------------------------------------------------------------------------------------
-- Private helpers. They run with the user row locked.
-- ---------------------------------------------------------------------------------------------

-- Joins payments to the entry they settled: those given, and every `payment:` among p_keys (their
-- amount is then learned from Stripe). A row that is there already was written by
-- set_payment_state, maybe before the grant; waiting for its lock is what keeps a refund that
-- comes at this very moment from being lost. `paid` only rises here.
create or replace function purser.attach_payments(
  p_entry public.credit_transactions, p_keys text[], p_payments jsonb, p_now timestamptz)
returns void language plpgsql set search_path = '' as $$
begin
  insert into public.payments as p (payment, user_id, entry_number, currency, paid, created_at, updated_at)
  select k.payment, p_entry.user_id, p_entry.entry_number, lower(g.currency), coalesce(g.paid, 0), p_now, p_now
  from (select substr(key, 9) as payment from unnest(p_keys) key where starts_with(key, 'payment:')) k
  left join jsonb_to_recordset(p_payments) as g(payment text, paid bigint, currency text) on g.payment = k.payment
  order by k.payment
  on conflict (payment) do update
    set user_id = excluded.user_id, entry_number = excluded.entry_number,
        currency = coalesce(p.currency, excluded.currency), paid = greatest(p.paid, excluded.paid),
        version = p.version + 1, updated_at = excluded.updated_at
    where (p.user_id, p.entry_number, p.currency, p.paid) is distinct from
          (excluded.user_id, excluded.entry_number, coalesce(p.currency, excluded.currency), greatest(p.paid, excluded.paid));
end
$$;

-- Where the settlement of a grant stands: what was granted, what was paid for it, how much of that
-- is gone again, the credits to be taken back for it, and those that are.
create or replace function purser.settlement(
  p_user_id text, p_entry_number bigint,
  out granted bigint, out settled numeric, out returned numeric, out target bigint, out clawed bigint)
language plpgsql stable set search_path = '' as $$
begin
  select t.amount into granted from public.credit_transactions t
  where t.user_id = p_user_id and t.entry_number = p_entry_number;
  select coalesce(sum(p.paid), 0), coalesce(sum(least(p.paid::numeric, p.refunded::numeric + p.disputed)), 0)
  into settled, returned
  from public.payments p where p.user_id = p_user_id and p.entry_number = p_entry_number;
  -- div() cuts exactly; a quotient with a rounded fraction could reach the next whole number.
  target := case when settled = 0 then 0 else div(granted * least(settled, returned), settled) end;
  select coalesce(-sum(t.amount), 0) into clawed from public.credit_transactions t
  where t.user_id = p_user_id and t.reverses = p_entry_number
    and t.transaction_type in ('clawback', 'clawback_reversal');
end
$$;

-- Brings the settlement of a grant to its target. p_payment: the payment that moved, whose name
-- the entry bears; null = the first of the settlement that is gone again. Returns the row after it.
create or replace function purser.settle_payments(
  p_user purser.accounts, p_entry_number bigint, p_payment text, p_now timestamptz)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_settlement record;
  v_payment text := p_payment;
  v_entry public.credit_transactions;
  v_key text;
  v_metadata jsonb;
begin
  v_settlement := purser.settlement(p_user.user_id, p_entry_number);
  if v_settlement.target = v_settlement.clawed then
    return p_user;
  end if;
  if v_payment is null then
    select p.payment into v_payment from public.payments p
    where p.user_id = p_user.user_id and p.entry_number = p_entry_number
    order by p.refunded + p.disputed = 0, p.payment limit 1;
  end if;
  select format('clawback:%s:%s', v_payment, count(*) + 1) into v_key from public.credit_transactions t
  where t.user_id = p_user.user_id and t.reverses = p_entry_number
    and starts_with(t.idempotency_key, format('clawback:%s:', v_payment));
  v_metadata := jsonb_build_object('payment', v_payment, 'granted', v_settlement.granted,
    'settled', v_settlement.settled, 'returned', v_settlement.returned);
  if v_settlement.target > v_settlement.clawed then
    v_entry := purser.claw_back(p_user, p_entry_number, v_settlement.target - v_settlement.clawed, v_key, v_metadata, p_now);
  else
    v_entry := purser.reverse_claw_back(p_user, p_entry_number, v_settlement.clawed - v_settlement.target, v_key, v_metadata, p_now);
  end if;
  select * into p_user from purser.accounts a where a.id = p_user.id;
  return p_user;
end
$$;

-- Takes p_amount credits of a grant back: its own lots, then other lots, then debt. The entry's
-- lots say what was taken; the rest of its amount became debt.
create or replace function purser.claw_back(
  p_user purser.accounts, p_entry_number bigint, p_amount bigint, p_key text, p_metadata jsonb, p_now timestamptz)
returns public.credit_transactions language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := p_user;
  v_lots jsonb;
begin
  -- The suspension blocks spending of plan lots, not taking them back.
  v_user.credits_suspended := false;
  v_lots := purser.take_up_to(v_user, p_amount, p_now, p_entry_number);
  v_lots := v_lots || purser.take_up_to(v_user, p_amount - purser.lots_total(v_lots), p_now);
  v_user := p_user;
  v_user.credits_debt := p_user.credits_debt + p_amount - purser.lots_total(v_lots);
  return purser.append_entry(
    v_user, 'clawback', -p_amount, p_key, p_now, v_lots, 'Credits of a refunded or disputed payment', p_metadata,
    p_payment_intent_id => case when starts_with(p_metadata ->> 'payment', 'pi_') then p_metadata ->> 'payment' end,
    p_reverses => p_entry_number);
end
$$;

-- Gives p_amount clawed credits of a grant back. Debt is repaid first; of what is left, each part
-- returns where it was taken from. What had become debt, and was repaid by something else since,
-- goes to the grant's own lots. The entry's lots say where credits went; the rest repaid debt.
create or replace function purser.reverse_claw_back(
  p_user purser.accounts, p_entry_number bigint, p_amount bigint, p_key text, p_metadata jsonb, p_now timestamptz)
returns public.credit_transactions language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := p_user;
  v_debt_left bigint := least(p_user.credits_debt, p_amount);
  v_loose bigint := 0;
  v_lots jsonb := '[]';
  v_taking record;
  v_part bigint;
  v_lot record;
begin
  v_user.credits_debt := p_user.credits_debt - v_debt_left;
  for v_taking in select * from purser.newest_takings(p_user.user_id, p_entry_number, p_amount) loop
    v_part := least(v_taking.amount, v_debt_left);
    v_debt_left := v_debt_left - v_part;
    v_part := v_taking.amount - v_part;
    if v_part > 0 and v_taking.grant_id is not null then
      v_lots := v_lots || purser.return_to_lot(v_taking.grant_id, v_part, p_user.entry_count + 1, p_now);
    else
      v_loose := v_loose + v_part;
    end if;
  end loop;
  for v_lot in
    select g.id, g.amount - g.remaining as room from public.credit_grants g
    where g.user_id = p_user.user_id and g.entry_number = p_entry_number
      and g.remaining < g.amount and (g.expires_at is null or g.expires_at > p_now)
    order by g.id
  loop
    exit when v_loose = 0;
    v_part := least(v_lot.room, v_loose);
    v_lots := v_lots || purser.return_to_lot(v_lot.id, v_part, p_user.entry_count + 1, p_now);
    v_loose := v_loose - v_part;
  end loop;
  if v_loose > 0 then
    -- No room in its own lots: a bonus lot like the one of them that lives longest.
    select g.id into v_lot from public.credit_grants g
    where g.user_id = p_user.user_id and g.entry_number = p_entry_number
    order by g.expires_at desc nulls first, g.id limit 1;
    v_lots := v_lots || purser.return_to_lot(v_lot.id, v_loose, p_user.entry_count + 1, p_now);
  end if;
  return purser.append_entry(
    v_user, 'clawback_reversal', p_amount, p_key, p_now, v_lots, 'Credits of a payment that is good again', p_metadata,
    p_payment_intent_id => case when starts_with(p_metadata ->> 'payment', 'pi_') then p_metadata ->> 'payment' end,
    p_reverses => p_entry_number);
end
$$;

-- The p_amount credits of a grant that were clawed last and are not back yet, newest first; a
-- null grant_id is what became debt. The claw-backs of a grant are a stack: each puts its lots on
-- it and the debt on top, each reversal has taken its amount off.
create or replace function purser.newest_takings(p_user_id text, p_entry_number bigint, p_amount bigint)
returns table (grant_id bigint, amount bigint) language plpgsql stable set search_path = '' as $$
declare
  v_grants bigint[] := '{}';
  v_amounts bigint[] := '{}';
  v_entry record;
  v_lot record;
  v_top integer := 0;
  v_left bigint;
begin
  for v_entry in
    select t.amount, t.lots from public.credit_transactions t
    where t.user_id = p_user_id and t.reverses = p_entry_number
      and t.transaction_type in ('clawback', 'clawback_reversal')
    order by t.entry_number
  loop
    if v_entry.amount < 0 then
      for v_lot in
        select (l.value ->> 'grant_id')::bigint as id, (l.value ->> 'amount')::bigint as amount, l.ordinality as place
        from jsonb_array_elements(v_entry.lots) with ordinality l
        union all
        select null, -v_entry.amount - purser.lots_total(v_entry.lots), null
        order by place nulls last
      loop
        continue when v_lot.amount = 0;
        v_top := v_top + 1;
        v_grants[v_top] := v_lot.id;
        v_amounts[v_top] := v_lot.amount;
      end loop;
    else
      v_left := v_entry.amount;
      while v_left >= v_amounts[v_top] loop
        v_left := v_left - v_amounts[v_top];
        v_top := v_top - 1;
      end loop;
      if v_left > 0 then
        v_amounts[v_top] := v_amounts[v_top] - v_left;
      end if;
    end if;
  end loop;
  v_left := p_amount;
  while v_left > 0 loop
    if v_top = 0 then
      raise exception 'entry % of user % has % credits less taken back than are to be returned', p_entry_number, p_user_id, v_left
        using errcode = 'data_corrupted', hint = 'Run select * from validate_credits_consistency();';
    end if;
    grant_id := v_grants[v_top];
    amount := least(v_amounts[v_top], v_left);
    return next;
    v_left := v_left - amount;
    v_top := v_top - 1;
  end loop;
end
$$;

-- Puts credits back into a lot as far as it lives and has room; what does not fit becomes a bonus
-- lot like it, of 7 days where it has expired. p_entry_number: the entry that gives them back.
-- Returns [{"grant_id", "amount"}].
create or replace function purser.return_to_lot(
  p_grant_id bigint, p_amount bigint, p_entry_number bigint, p_now timestamptz)
returns jsonb language plpgsql set search_path = '' as $$
declare
  v_lot public.credit_grants;
  v_expired boolean;
  v_fits bigint;
  v_bonus_id bigint;
  v_lots jsonb := '[]';
begin
  select * into v_lot from public.credit_grants g where g.id = p_grant_id;
  v_expired := coalesce(v_lot.expires_at <= p_now, false);
  v_fits := case when v_expired then 0 else least(v_lot.amount - v_lot.remaining, p_amount) end;
  if v_fits > 0 then
    update public.credit_grants g set remaining = g.remaining + v_fits, exhausted_at = null where g.id = p_grant_id;
    v_lots := jsonb_build_array(jsonb_build_object('grant_id', p_grant_id::text, 'amount', v_fits));
  end if;
  if v_fits < p_amount then
    insert into public.credit_grants (
      user_id, entry_number, amount, remaining, priority, expires_at, paid, from_plan, catalogue_id, created_at)
    values (
      v_lot.user_id, p_entry_number, p_amount - v_fits, p_amount - v_fits, v_lot.priority,
      case when v_expired then p_now + interval '7 days' else v_lot.expires_at end,
      false, v_lot.from_plan, v_lot.catalogue_id, p_now)
    returning id into v_bonus_id;
    v_lots := v_lots || jsonb_build_object('grant_id', v_bonus_id::text, 'amount', p_amount - v_fits);
  end if;
  return v_lots;
end
$$;

-- The state of a payment, as answers show it; null-safe for a payment without a row (version 0).
create or replace function purser.payment_answer(p_payment text, p_row public.payments)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'payment', p_payment, 'version', coalesce(p_row.version, 0), 'user_id', p_row.user_id,
    'currency', p_row.currency, 'paid', coalesce(p_row.paid, 0), 'refunded', coalesce(p_row.refunded, 0),
    'disputed', coalesce(p_row.disputed, 0), 'status', p_row.status, 'detail', coalesce(p_row.detail, '{}'));
end
$$;

-- Settlements of open accounts that are not at their target; no rows = none.
create or replace function purser.settlement_drift()
returns table (user_id text, entry_number bigint, target bigint, clawed bigint)
language plpgsql stable set search_path = '' as $$
begin
  return query
  select p.user_id, p.entry_number, s.target, s.clawed
  from (select distinct a.user_id, a.entry_number from public.payments a where a.entry_number is not null) p,
       purser.settlement(p.user_id, p.entry_number) s
  where s.target <> s.clawed
    and exists (select from public.users u where u.id = purser.to_user_id(p.user_id));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_payment_state: a payment with its version, to be read before Stripe is asked.
-- Answers {outcome: found | not_found, payment, version, user_id, currency, paid, refunded,
--   disputed, status, detail, settlement: null | {transaction_id, granted, settled, target, clawed,
--   payments: [{payment, paid, refunded, disputed}], entries: [{transaction_id, transaction_type,
--   amount, created_at}]}}. not_found: no row yet (version 0); its settlement may be known all the
-- same. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_payment_state(p_payment text)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_row public.payments;
  v_source public.credit_sources;
  v_settlement record;
  v_answer jsonb;
begin
  select * into v_row from public.payments p where p.payment = p_payment;
  select * into v_source from public.credit_sources s where s.source_key = 'payment:' || p_payment;
  v_answer := purser.payment_answer(p_payment, v_row) || jsonb_build_object(
    'outcome', case when v_row.payment is null then 'not_found' else 'found' end,
    'user_id', coalesce(v_row.user_id, v_source.user_id), 'settlement', null);
  if v_source.source_key is null then
    return v_answer;
  end if;
  v_settlement := purser.settlement(v_source.user_id, v_source.entry_number);
  return v_answer || jsonb_build_object('settlement', jsonb_build_object(
    'transaction_id', (
      select t.id::text from public.credit_transactions t
      where t.user_id = v_source.user_id and t.entry_number = v_source.entry_number),
    'granted', v_settlement.granted, 'settled', v_settlement.settled,
    'target', v_settlement.target, 'clawed', v_settlement.clawed,
    'payments', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'payment', p.payment, 'paid', p.paid, 'refunded', p.refunded, 'disputed', p.disputed) order by p.payment), '[]')
      from public.payments p where p.user_id = v_source.user_id and p.entry_number = v_source.entry_number),
    'entries', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'transaction_id', t.id::text, 'transaction_type', t.transaction_type, 'amount', t.amount,
        'created_at', purser.iso(t.created_at)) order by t.entry_number), '[]')
      from public.credit_transactions t
      where t.user_id = v_source.user_id and t.reverses = v_source.entry_number
        and t.transaction_type in ('clawback', 'clawback_reversal'))));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- set_payment_state: writes what became of a payment, as just read from Stripe, and takes back or
-- gives back the credits that follow from it.
--   p_payment   pi_..., or ch_... where there is no intent
--   p_version   the version read before Stripe was asked; 0 = there was no row
--   p_paid      what was paid with it, in the smallest unit of the currency
--   p_refunded  its refunds that succeeded; p_disputed  its disputes that are open or lost (inquiries
--               and disputes that were won: 0). Their sum counts up to p_paid.
--   p_currency, p_status, p_detail  kept as they were where null or empty
--   p_actor, p_reason  a person's own doing: audited in the same transaction
-- Answers {outcome: applied | unchanged | stale, payment, version, user_id, ..., transaction_id,
--   amount, mirror}. stale: the row has moved on to `version` since it was read, or its grant was
-- just written; nothing was written: read again, ask Stripe again. unchanged: it has that state
-- already, whichever version was read.
-- transaction_id and amount (signed): the entry that followed, null where none did. While the account
-- is closed no entry is written; it is when the account returns. Before the grant is known, the row
-- waits for it.
-- Idempotent for one state. Locks: the user row (or the tombstone), then the payment.
-- ---------------------------------------------------------------------------------------------
create or replace function public.set_payment_state(
  p_payment text, p_version bigint, p_paid bigint, p_refunded bigint, p_disputed bigint,
  p_currency text default null, p_status text default null, p_detail jsonb default '{}',
  p_now timestamptz default null, p_actor text default null, p_reason text default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_source public.credit_sources;
  v_user purser.accounts;
  v_now timestamptz;
  v_before public.payments;
  v_row public.payments;
  v_entries bigint;
  v_entry public.credit_transactions;
  v_changed boolean;
begin
  if p_payment is null or octet_length(p_payment) not between 3 and 250 or starts_with(p_payment, 'balance:') then
    perform purser.raise_error(400, 'invalid_request', format('%s is not a payment that can be refunded.', coalesce(p_payment, 'null')));
  end if;
  if least(p_paid, p_refunded, p_disputed) < 0 or greatest(p_paid, p_refunded, p_disputed) > 9007199254740991
     or p_paid is null or p_refunded is null or p_disputed is null then
    perform purser.raise_error(400, 'invalid_request', 'paid, refunded and disputed must be whole numbers from 0 to 9007199254740991.');
  end if;

  select * into v_source from public.credit_sources s where s.source_key = 'payment:' || p_payment;
  if v_source.user_id is not null then
    v_user := purser.lock_account(v_source.user_id);
  end if;
  v_now := coalesce(p_now, clock_timestamp());
  if v_user.id is not null then
    v_user := purser.expire_due(v_user, v_now);
  end if;

  -- Twice at most: again when somebody made the row between the look and the insert.
  for v_round in 1..2 loop
    select * into v_before from public.payments p where p.payment = p_payment for update;
    v_row := v_before;
    v_row.user_id := coalesce(v_source.user_id, v_before.user_id);
    v_row.entry_number := coalesce(v_source.entry_number, v_before.entry_number);
    v_row.currency := coalesce(lower(p_currency), v_before.currency);
    v_row.paid := p_paid;
    v_row.refunded := p_refunded;
    v_row.disputed := p_disputed;
    v_row.status := coalesce(p_status, v_before.status);
    v_row.detail := coalesce(nullif(p_detail, '{}'), v_before.detail, '{}');
    v_changed := v_row is distinct from v_before;
    -- Whoever finds his own words there has lost no race: it may be his own call, whose answer was
    -- lost and which is repeated.
    if coalesce(v_before.version, 0) is distinct from p_version and
       (v_row.currency, v_row.paid, v_row.refunded, v_row.disputed, v_row.status, v_row.detail) is distinct from
       (v_before.currency, v_before.paid, v_before.refunded, v_before.disputed, v_before.status, v_before.detail)
    then
      return purser.payment_answer(p_payment, v_before) || jsonb_build_object('outcome', 'stale');
    end if;
    exit when v_before.payment is not null;
    insert into public.payments (
      payment, user_id, entry_number, currency, paid, refunded, disputed, status, detail, created_at, updated_at)
    values (
      p_payment, v_row.user_id, v_row.entry_number, v_row.currency, v_row.paid, v_row.refunded,
      v_row.disputed, v_row.status, v_row.detail, v_now, v_now)
    on conflict (payment) do nothing
    returning * into v_row;
    exit when found;
  end loop;
  if v_row.payment is null then
    perform purser.raise_error(503, 'dependency_down', format('The payment %s is being made and unmade by others; try again.', p_payment));
  end if;
  -- With the payment locked: a grant that claimed it since the first look has committed, or waits
  -- for this row and reads it then. For the former the user was not locked.
  if v_source.user_id is null and exists (
    select from public.credit_sources s where s.source_key = 'payment:' || p_payment)
  then
    if v_before.payment is null then
      delete from public.payments p where p.payment = p_payment;
    end if;
    return purser.payment_answer(p_payment, v_before) || jsonb_build_object('outcome', 'stale');
  end if;
  if v_before.payment is not null and v_changed then
    update public.payments p
    set user_id = v_row.user_id, entry_number = v_row.entry_number, currency = v_row.currency, paid = v_row.paid,
        refunded = v_row.refunded, disputed = v_row.disputed, status = v_row.status, detail = v_row.detail,
        version = p.version + 1, updated_at = v_now
    where p.payment = p_payment returning * into v_row;
  end if;

  if v_user.id is not null then
    v_entries := v_user.entry_count;
    v_user := purser.settle_payments(v_user, v_row.entry_number, p_payment, v_now);
    if v_user.entry_count > v_entries then
      select * into v_entry from public.credit_transactions t
      where t.user_id = v_user.user_id and t.entry_number = v_user.entry_count;
    end if;
    v_user := purser.expire_due(v_user, v_now);
  end if;
  if p_actor is not null and v_changed then
    insert into public.audit_events (actor, action, user_id, reason, before, after)
    values (p_actor, 'set_payment_state', v_row.user_id, p_reason,
      purser.payment_answer(p_payment, v_before), purser.payment_answer(p_payment, v_row));
  end if;
  return purser.payment_answer(p_payment, v_row) || jsonb_build_object(
    'outcome', case when v_changed then 'applied' else 'unchanged' end,
    'transaction_id', v_entry.id::text,
    'amount', v_entry.amount,
    'mirror', case when v_user.id is not null then purser.mirror_record(v_user) end);
end
$$;

-- An account that returns is brought to its targets: what became of its payments meanwhile is
-- written now. Whoever writes a payment of a closed account holds its tombstone, which the insert
-- has taken away before this runs, so nothing falls between the two.
create or replace function purser.settle_returned_account()
returns trigger language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_now timestamptz;
  v_entry bigint;
begin
  if not exists (
    select from public.payments p where p.user_id = new.id::text and p.refunded + p.disputed > 0)
    and not exists (
      select from public.credit_transactions t
      where t.user_id = new.id::text and t.reverses is not null and t.transaction_type = 'clawback')
  then
    return null;
  end if;
  v_now := clock_timestamp();
  v_user := purser.expire_due(purser.lock_user(new.id::text), v_now);
  for v_entry in
    select distinct p.entry_number from public.payments p
    where p.user_id = v_user.user_id and p.entry_number is not null order by 1
  loop
    v_user := purser.settle_payments(v_user, v_entry, null, v_now);
  end loop;
  perform purser.expire_due(v_user, v_now);
  return null;
end
$$;

call purser.restrict_functions();
reset role;

-- Its name sorts after purser_confirm_account, which puts the counters back.
drop trigger if exists purser_settle_payments on public.users;
create trigger purser_settle_payments after insert on public.users
  for each row execute function purser.settle_returned_account();
alter table public.users enable always trigger purser_settle_payments;

alter table public.payments enable row level security;
drop policy if exists payments_select_own on public.payments;
create policy payments_select_own on public.payments for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));

set role purser_ledger;
revoke all on public.payments from public, anon, authenticated, service_role;
grant select on public.payments to authenticated, service_role;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
