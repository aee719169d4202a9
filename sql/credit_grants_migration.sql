-- Purser: granting. Purchases, allocations of a plan and gifts become an entry and its lots, once
-- per economic object.
--
-- Paste after credit_transactions_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- Whoever adds credits comes through here: what Stripe's events apply, ensure_user with its welcome
-- credits, gifts and adjustments by hand. Only what a claw-back or a spend gives back does not.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array['grant_credits']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- [{payment, paid, currency}] of a grant; see purser.attach_payments.
create or replace function purser.check_payments(p_payments jsonb)
returns void language plpgsql immutable set search_path = '' as $$
declare
  v_bad text;
begin
  if jsonb_typeof(p_payments) is distinct from 'array' or jsonb_array_length(p_payments) > 100 then
    perform purser.raise_error(400, 'invalid_request', 'p_payments must be an array of at most 100 payments.');
  end if;
  if p_payments = '[]' then
    return;
  end if;
  select p.value::text into v_bad from jsonb_array_elements(p_payments) p
  where case
    when octet_length(p.value ->> 'payment') between 3 and 250 is not true then true
    when jsonb_typeof(p.value -> 'paid') is distinct from 'number' then true
    else (p.value ->> 'paid')::numeric not between 0 and 9007199254740991 or (p.value ->> 'paid')::numeric % 1 <> 0 end
  limit 1;
  if v_bad is not null then
    perform purser.raise_error(400, 'invalid_request',
      format('A payment is {payment, paid, currency} with paid a whole number from 0 to 9007199254740991, not %s.', left(v_bad, 200)));
  end if;
  select p.value ->> 'payment' into v_bad from jsonb_array_elements(p_payments) p
  group by 1 having count(*) > 1 limit 1;
  if v_bad is not null then
    perform purser.raise_error(400, 'invalid_request', format('p_payments names %s twice.', v_bad));
  end if;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- grant_credits: adds credits, once per economic object.
--   p_type     purchase | allocation | bonus | adjustment
--   p_key      idempotency key of the entry, unique per user: the first source for money objects,
--              grant:<key> or adjust:<key> for callers' own
--   p_lots     1 to 100 lots [{credits, expires_at, priority, paid, from_plan, cost_amount,
--              cost_currency, catalogue_id, price_id}]; the entry's amount is their sum
--   p_sources  all identities of one settlement (checkout:cs_, invoice:in_, payment:pi_), claimed
--              together, in key order. Any of them taken = replayed, and the missing ones are
--              attached to that same entry; taken for another user, or by two different entries
--              = conflict and a finding, and none is added.
--   p_payments up to 100 [{payment, paid, currency}]: everything that paid for the settlement, also
--              the customer balance it used (`balance:in_...`). Each is a source `payment:<id>`,
--              too; what was refunded of them already is taken back at once, in an entry of its
--              own (sql/payments_migration.sql).
--   p_event_at when it happened (default: now)
-- Answers {outcome: applied | replayed | conflict | not_found, ..., grants, mirror}. First write
-- wins: another amount under the same object is replayed plus a finding. The balance answered is
-- that of the grant's entry; `mirror` has the one after a claw-back.
-- Locks: the user row (that of the closed account where there is none), the source keys in order,
-- the payments in order.
-- ---------------------------------------------------------------------------------------------
drop function if exists public.grant_credits(
  text, text, text, jsonb, jsonb, text, jsonb, text, text, text, timestamptz, timestamptz);
create or replace function public.grant_credits(
  p_user_id text, p_type text, p_key text, p_lots jsonb,
  p_sources jsonb default '[]', p_payments jsonb default '[]',
  p_description text default null, p_metadata jsonb default '{}',
  p_stripe_session_id text default null, p_stripe_payment_intent_id text default null,
  p_stripe_invoice_id text default null,
  p_event_at timestamptz default null, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_user_id text;
  v_now timestamptz;
  v_keys text[];
  v_claimed text[] := '{}';
  v_has_payments boolean;
  v_owner record;
  v_entry public.credit_transactions;
  v_amount bigint;
  v_repaid bigint;
  v_left_to_repay bigint;
  v_lot record;
  v_grant_id bigint;
  v_grants jsonb := '[]';
begin
  if p_type not in ('purchase', 'allocation', 'bonus', 'adjustment') then
    perform purser.raise_error(400, 'invalid_request', format('%s is not a type of grant.', p_type));
  end if;
  -- The whole key of the entry: a caller's own of up to 255 bytes, and what it is led by.
  if p_key is null or octet_length(p_key) not between 1 and 300 then
    perform purser.raise_error(400, 'invalid_request', 'The key of a grant must have 1 to 300 bytes.');
  end if;
  if jsonb_typeof(p_lots) is distinct from 'array' or jsonb_array_length(p_lots) not between 1 and 100 then
    perform purser.raise_error(400, 'invalid_request', 'A grant has 1 to 100 lots.');
  end if;
  select coalesce(sum(l.credits), 0), min(l.credits) into v_amount, v_left_to_repay
  from jsonb_to_recordset(p_lots) as l(credits bigint);
  perform purser.check_amount(v_amount);
  perform purser.check_amount(v_left_to_repay);
  perform purser.check_payments(p_payments);
  select coalesce(array_agg(distinct s.k order by s.k), '{}'), coalesce(bool_or(starts_with(s.k, 'payment:')), false)
  into v_keys, v_has_payments
  from (
    select jsonb_array_elements_text(p_sources) as k
    union all
    select 'payment:' || (p.value ->> 'payment') from jsonb_array_elements(p_payments) p) s;

  v_user := purser.lock_account(p_user_id);
  v_user_id := coalesce(v_user.user_id, purser.user_key(p_user_id));
  v_now := coalesce(p_now, clock_timestamp());
  if v_user.id is not null then
    v_user := purser.expire_due(v_user, v_now);
  end if;

  -- Who owns these sources already? Twice at most: once before claiming, once when another
  -- transaction claimed one of them between the look and the claim.
  for v_round in 1..2 loop
    select min(s.user_id) as user_id, min(s.entry_number) as entry_number, count(*) as taken,
           count(distinct (s.user_id, s.entry_number)) as owners
    into v_owner
    from public.credit_sources s where s.source_key = any (v_keys);

    if v_owner.owners > 1
       or (v_owner.owners = 1 and v_owner.user_id <> v_user_id) then
      perform purser.record_finding('source_conflict', p_key, v_user_id, jsonb_build_object(
        'sources', p_sources, 'amount', v_amount, 'owners', (
          select jsonb_agg(jsonb_build_object('source', s.source_key, 'user_id', s.user_id, 'entry_number', s.entry_number))
          from public.credit_sources s where s.source_key = any (v_keys))));
      return jsonb_build_object('outcome', 'conflict', 'user_id', v_user_id);
    end if;

    select * into v_entry from public.credit_transactions t
    where t.user_id = v_user_id
      and (t.entry_number = v_owner.entry_number
           or (v_owner.owners = 0 and t.idempotency_key = p_key));
    if found then
      with claimed as (
        insert into public.credit_sources (source_key, user_id, entry_number)
        select k, v_entry.user_id, v_entry.entry_number from unnest(v_keys) k order by k
        on conflict (source_key) do nothing
        returning source_key)
      select coalesce(array_agg(source_key), '{}') into v_claimed from claimed;
      if exists (
        select from public.credit_sources s
        where s.source_key = any (v_keys) and (s.user_id, s.entry_number) <> (v_entry.user_id, v_entry.entry_number))
      then
        -- Another settlement claimed one of them since the look: the next look calls it a conflict.
        delete from public.credit_sources s where s.source_key = any (v_claimed);
        v_claimed := '{}';
        continue;
      end if;
      if v_has_payments then
        perform purser.attach_payments(v_entry, v_keys, p_payments, v_now);
        if v_user.id is not null then
          v_user := purser.expire_due(purser.settle_payments(v_user, v_entry.entry_number, null, v_now), v_now);
        end if;
      end if;
      if v_entry.amount <> v_amount or v_entry.transaction_type <> p_type then
        if cardinality(v_keys) = 0 then
          return purser.entry_answer('conflict', v_entry);
        end if;
        perform purser.record_finding('source_amount_differs', p_key, v_entry.user_id, jsonb_build_object(
          'sources', p_sources, 'granted', v_entry.amount, 'asked', v_amount,
          'granted_type', v_entry.transaction_type, 'asked_type', p_type));
      end if;
      return purser.entry_answer('replayed', v_entry) || jsonb_build_object('mirror',
        case when v_user.id is not null then purser.mirror_record(v_user) end);
    end if;
    if v_user.id is null then
      return jsonb_build_object('outcome', 'not_found', 'user_id', v_user_id);
    end if;

    -- Claim all, in key order so that two settlements cannot wait for each other.
    with claimed as (
      insert into public.credit_sources (source_key, user_id, entry_number)
      select k, v_user.user_id, v_user.entry_count + 1 from unnest(v_keys) k order by k
      on conflict (source_key) do nothing
      returning source_key)
    select coalesce(array_agg(source_key), '{}') into v_claimed from claimed;
    exit when cardinality(v_claimed) = cardinality(v_keys);
    -- Another user's settlement was faster: give back what was claimed and look again.
    delete from public.credit_sources s where s.source_key = any (v_claimed);
  end loop;
  if cardinality(v_claimed) <> cardinality(v_keys) then
    perform purser.raise_error(503, 'dependency_down', 'Two settlements claim the same Stripe object at once; try again.');
  end if;

  -- Debt is repaid first, so that balance = sum(remaining) - debt, never both above zero.
  v_repaid := least(v_user.credits_debt, v_amount);
  v_user.credits_debt := v_user.credits_debt - v_repaid;
  v_left_to_repay := v_repaid;
  for v_lot in
    select l.*, least(l.credits, v_repaid) as unused from jsonb_to_recordset(p_lots) as l(
      credits bigint, expires_at timestamptz, priority integer, paid boolean, from_plan boolean,
      cost_amount bigint, cost_currency text, catalogue_id text, price_id text)
  loop
    insert into public.credit_grants (
      user_id, entry_number, amount, remaining, priority, expires_at, paid, from_plan,
      cost_amount, cost_currency, catalogue_id, price_id, created_at, exhausted_at)
    values (
      v_user.user_id, v_user.entry_count + 1, v_lot.credits,
      v_lot.credits - least(v_lot.credits, v_left_to_repay),
      coalesce(v_lot.priority, 100), v_lot.expires_at, coalesce(v_lot.paid, p_type = 'purchase'),
      coalesce(v_lot.from_plan, false), v_lot.cost_amount, v_lot.cost_currency,
      v_lot.catalogue_id, v_lot.price_id, v_now,
      case when v_lot.credits <= v_left_to_repay then v_now end)
    returning id into v_grant_id;
    v_left_to_repay := v_left_to_repay - least(v_lot.credits, v_left_to_repay);
    v_grants := v_grants || jsonb_build_object('grant_id', v_grant_id::text, 'amount', v_lot.credits);
  end loop;

  v_entry := purser.append_entry(
    v_user, p_type, v_amount, p_key, v_now, v_grants, p_description, p_metadata, p_event_at,
    p_stripe_session_id, p_stripe_payment_intent_id, p_stripe_invoice_id);
  v_user := purser.expire_due(purser.after_entry(v_user, v_entry), v_now);
  if v_has_payments then
    perform purser.attach_payments(v_entry, v_keys, p_payments, v_now);
    v_user := purser.expire_due(purser.settle_payments(v_user, v_entry.entry_number, null, v_now), v_now);
  end if;
  return purser.entry_answer('applied', v_entry)
    || jsonb_build_object('repaid_debt', v_repaid, 'mirror', purser.mirror_record(v_user));
end
$$;

call purser.restrict_functions();
reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
