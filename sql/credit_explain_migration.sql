-- Purser: explanation. A balance as of any instant, and the story of how it came about.
--
-- Paste after credit_corrections_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- Nothing here writes, and nothing here waits for a run of the expiry job: what is due by the
-- instant asked for is taken off in the answer, by the rule of purser.expire_due.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array[
  'explain_credit_balance', 'get_credit_balance_at', 'get_credit_statement']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- ---------------------------------------------------------------------------------------------
-- Private helpers
-- ---------------------------------------------------------------------------------------------

-- What each entry did to each lot it names. Exact, from the entries alone: debt is what a balance
-- is below zero (debt and lots are never both above zero), so how much of an entry repaid debt or
-- became debt follows from its own balance. A grant names its lots in full and debt is repaid from
-- them in order, at birth.
--   p_after, p_until  only entries numbered above / up to
create or replace function purser.lot_moves(
  p_user_ids text[], p_after bigint default 0, p_until bigint default 9007199254740991)
returns table (user_id text, entry_number bigint, place bigint, grant_id bigint, effect bigint)
language plpgsql stable set search_path = '' as $$
begin
  -- Most entries spend: they need no sums, and reading them in place is several times as fast.
  return query
  select t.user_id, t.entry_number, l.ordinality, (l.value ->> 'grant_id')::bigint, -(l.value -> 'amount')::bigint
  from public.credit_transactions t
  cross join lateral jsonb_array_elements(case jsonb_typeof(t.lots) when 'array' then t.lots else '[]' end) with ordinality l
  where t.user_id = any (p_user_ids) and t.entry_number > p_after and t.entry_number <= p_until and t.amount < 0
    and l.value ->> 'grant_id' ~ '^[0-9]{1,18}$' and jsonb_typeof(l.value -> 'amount') = 'number';
  return query
  select t.user_id, t.entry_number, m.place, m.grant_id,
    m.amount - least(m.amount, greatest(0,
      m.total - t.amount + greatest(t.amount - t.balance_after, 0) - greatest(-t.balance_after, 0) - m.before))
  from public.credit_transactions t
  cross join lateral (
    select l.place, l.grant_id, l.amount, (sum(l.amount) over ())::bigint as total,
           (sum(l.amount) over (order by l.place) - l.amount)::bigint as before
    from purser.read_lots(t.lots) l) m
  where t.user_id = any (p_user_ids) and t.entry_number > p_after and t.entry_number <= p_until and t.amount > 0;
end
$$;

-- [{"grant_id", "amount"}] as rows. What is not of that form gives no row: the checks name the
-- entry, an error would name nothing.
create or replace function purser.read_lots(p_lots jsonb)
returns table (place bigint, grant_id bigint, amount bigint)
language plpgsql immutable set search_path = '' as $$
begin
  if jsonb_typeof(p_lots) <> 'array' then
    return;
  end if;
  return query
  select l.ordinality, (l.value ->> 'grant_id')::bigint, (l.value -> 'amount')::bigint
  from jsonb_array_elements(p_lots) with ordinality l
  where l.value ->> 'grant_id' ~ '^[0-9]{1,18}$' and jsonb_typeof(l.value -> 'amount') = 'number';
end
$$;

-- The number of the last entry written at or before p_at; 0 = none. Entries of one user are in
-- time order, so halving finds it in as many looks as the number has bits.
create or replace function purser.entry_at(p_user_id text, p_at timestamptz)
returns bigint language plpgsql stable set search_path = '' as $$
declare
  v_low bigint := 0;
  v_high bigint := coalesce((
    select t.entry_number from public.credit_transactions t
    where t.user_id = p_user_id order by t.entry_number desc limit 1), 0);
  v_middle bigint;
begin
  while v_low < v_high loop
    v_middle := (v_low + v_high + 1) / 2;
    if (select t.created_at from public.credit_transactions t
        where t.user_id = p_user_id and t.entry_number = v_middle) <= p_at then
      v_low := v_middle;
    else
      v_high := v_middle - 1;
    end if;
  end loop;
  return v_low;
end
$$;

-- A user's counters with or without a row: those of a closed account are its tombstone's.
create or replace function purser.find_account(p_user_id text)
returns table (
  user_id text, closed boolean, balance bigint, held bigint, debt bigint, version bigint,
  suspended boolean, entry_count bigint)
language plpgsql stable set search_path = '' as $$
begin
  return query
  select a.user_id, false, a.credits_balance, a.credits_held, a.credits_debt, a.credits_version,
         a.credits_suspended, a.entry_count
  from purser.accounts a where a.id = purser.to_user_id(p_user_id)
  union all
  select c.user_id, true, c.credits_balance, c.credits_held, c.credits_debt, c.credits_version,
         c.credits_suspended, c.entry_count
  from public.closed_accounts c where c.user_id = purser.user_key(p_user_id)
  limit 1;
end
$$;

-- A user's holds as of an instant: those open then, with what they had captured by then. A hold
-- ends at its expires_at at the latest, whenever that was written down.
create or replace function purser.holds_at(p_user_id text, p_at timestamptz)
returns table (hold_id text, amount bigint, captured bigint, expires_at timestamptz, created_at timestamptz, description text)
language plpgsql stable set search_path = '' as $$
begin
  return query
  select 'h_' || h.id, h.amount, case when h.captured = 0 then 0 else h.captured - coalesce((
      select -sum(t.amount)::bigint from public.credit_transactions t
      where t.user_id = h.user_id and t.entry_number > purser.entry_at(p_user_id, p_at)
        and starts_with(t.idempotency_key, 'capture:h_' || h.id || ':')), 0) end,
    h.expires_at, h.created_at, h.description
  from public.credit_holds h
  where h.user_id = p_user_id and h.created_at <= p_at and h.expires_at > p_at
    and (h.status in ('open', 'expired') or h.updated_at > p_at)
  order by h.expires_at, h.id;
end
$$;

-- A user's lots as of an instant, after what was due by then was taken: `remaining` is what is
-- left, `due` what of it the next call would write as expired. Lots of later entries are left out.
create or replace function purser.lots_at(p_user_id text, p_entry bigint, p_held bigint, p_at timestamptz)
returns table (grant_id bigint, remaining bigint, due bigint)
language plpgsql stable set search_path = '' as $$
declare
  v_last bigint := coalesce((
    select t.entry_number from public.credit_transactions t
    where t.user_id = p_user_id order by t.entry_number desc limit 1), 0);
begin
  return query
  with moved as (
    -- From the nearer end: adding up to that entry, or undoing what came after it.
    select m.grant_id, sum(m.effect)::bigint as effect
    from purser.lot_moves(array[p_user_id],
      case when p_entry * 2 < v_last then 0 else p_entry end,
      case when p_entry * 2 < v_last then p_entry else v_last end) m
    group by m.grant_id),
  lots as (
    select g.id, g.expires_at,
      case when p_entry * 2 < v_last then coalesce(m.effect, 0) else g.remaining - coalesce(m.effect, 0) end as remaining
    from public.credit_grants g left join moved m on m.grant_id = g.id
    where g.user_id = p_user_id and g.entry_number <= p_entry),
  expired as (
    select l.id, l.remaining,
      coalesce(sum(l.remaining) filter (where l.expires_at <= p_at) over (
        order by l.expires_at, l.id rows between unbounded preceding and 1 preceding), 0) as before,
      l.expires_at <= p_at as is_due,
      sum(l.remaining) over () - p_held as free
    from lots l)
  select e.id,
    (e.remaining - case when e.is_due then least(e.remaining, greatest(e.free - e.before, 0)) else 0 end)::bigint,
    (case when e.is_due then least(e.remaining, greatest(e.free - e.before, 0)) else 0 end)::bigint
  from expired e;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_credit_balance_at: a user's balance as of any instant, past or future.
--   p_at  default: now. Of the past: what the entries and holds of then add up to. Of the future:
--         less what will have expired by then, as if nobody spent or bought meanwhile.
-- Answers {outcome: found | not_found, user_id, at, balance, held, available, debt, expired_unwritten,
-- entry_number}; expired_unwritten: credits due by then whose expiry is not in the book, taken off
-- the balance. While suspended (of the past: when its last entry was written) `available` leaves
-- plan lots out. Closed accounts are found. Reads one snapshot, locks nothing, writes nothing.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_credit_balance_at(p_user_id text, p_at timestamptz default null)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_at timestamptz := coalesce(p_at, clock_timestamp());
  v_account record;
  v_number bigint;
  v_entry public.credit_transactions;
  v_held bigint;
  v_due bigint := 0;
  v_balance bigint;
  v_plan_lots bigint := 0;
begin
  select * into v_account from purser.find_account(p_user_id);
  if v_account.user_id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  v_number := purser.entry_at(v_account.user_id, v_at);
  select * into v_entry from public.credit_transactions t
  where t.user_id = v_account.user_id and t.entry_number = v_number;
  select coalesce(sum(h.amount - h.captured), 0) into v_held from purser.holds_at(v_account.user_id, v_at) h;
  if exists (
    select from public.credit_grants g
    where g.user_id = v_account.user_id and g.entry_number <= v_number and g.expires_at <= v_at
      and (g.exhausted_at is null or g.exhausted_at > v_at))
  then
    select coalesce(sum(l.due), 0) into v_due from purser.lots_at(v_account.user_id, v_number, v_held, v_at) l;
  end if;
  v_balance := coalesce(v_entry.balance_after, 0) - v_due;
  if (case when v_number = v_account.entry_count then v_account.suspended
           else v_entry.available_after <> v_entry.balance_after - v_entry.held_after end)
  then
    select coalesce(sum(l.remaining), 0) into v_plan_lots
    from purser.lots_at(v_account.user_id, v_number, v_held, v_at) l
    join public.credit_grants g on g.id = l.grant_id and g.from_plan;
  end if;
  return jsonb_build_object(
    'outcome', 'found', 'user_id', v_account.user_id, 'at', purser.iso(v_at), 'balance', v_balance,
    'held', v_held, 'available', v_balance - v_held - v_plan_lots, 'debt', greatest(-v_balance, 0),
    'expired_unwritten', v_due, 'entry_number', v_number);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- Sentences: plain English for people who answer customers.
-- ---------------------------------------------------------------------------------------------

create or replace function purser.minute_text(p_time timestamptz)
returns text language plpgsql stable set search_path = '' as $$
begin
  return to_char(p_time at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"');
end
$$;

create or replace function purser.credits_text(p_credits bigint)
returns text language plpgsql immutable set search_path = '' as $$
begin
  return p_credits || case when p_credits = 1 then ' credit' else ' credits' end;
end
$$;

-- 'a', 'a and b', 'a, b and c'; null for none.
create or replace function purser.list_text(p_items text[])
returns text language plpgsql immutable set search_path = '' as $$
begin
  return case cardinality(p_items) when 0 then null when 1 then p_items[1]
    else array_to_string(p_items[:cardinality(p_items) - 1], ', ') || ' and ' || p_items[cardinality(p_items)] end;
end
$$;

-- The first 10 of lots told in words, and how many more there are with how much, so that a sentence
-- stays short and still adds up. p_more: the form of the latter, %1$s its credits, %2$s its lots.
create or replace function purser.lots_text(p_lots text[], p_amounts bigint[], p_more text)
returns text language plpgsql immutable set search_path = '' as $$
declare
  v_more integer := cardinality(p_lots) - 10;
begin
  if v_more <= 0 then
    return purser.list_text(p_lots);
  end if;
  return purser.list_text(p_lots[:10] || format(p_more, (select sum(a) from unnest(p_amounts[11:]) a),
    v_more || case when v_more = 1 then ' more lot' else ' more lots' end));
end
$$;

-- What an app or a person wrote, on one line, in quotes, cut to 120 characters; null where nothing.
create or replace function purser.quoted_text(p_text text)
returns text language plpgsql immutable set search_path = '' as $$
declare
  v_text text := btrim(regexp_replace(p_text, '\s+', ' ', 'g'));
begin
  return '"' || case when length(v_text) > 120 then left(v_text, 119) || '…' else nullif(v_text, '') end || '"';
end
$$;

-- 'checkout session cs_1' for checkout:cs_1.
create or replace function purser.source_text(p_source_key text)
returns text language plpgsql immutable set search_path = '' as $$
declare
  v_kind text := split_part(p_source_key, ':', 1);
begin
  return case v_kind when 'checkout' then 'checkout session' else v_kind end
    || ' ' || substr(p_source_key, length(v_kind) + 2);
end
$$;

-- The Stripe objects of an entry in words: those that paid for it, else those it names.
create or replace function purser.stripe_text(p_entry public.credit_transactions)
returns text language plpgsql stable set search_path = '' as $$
declare
  v_sources text[] := array(
    select purser.source_text(s.source_key) from public.credit_sources s
    where s.user_id = p_entry.user_id and s.entry_number = p_entry.entry_number order by s.source_key);
begin
  if cardinality(v_sources) = 0 then
    v_sources := array_remove(array[
      'checkout session ' || p_entry.stripe_session_id, 'invoice ' || p_entry.stripe_invoice_id,
      'payment ' || p_entry.stripe_payment_intent_id], null);
  end if;
  return ' (' || purser.list_text(v_sources) || ')';
end
$$;

-- One entry as a sentence. Credits repaid to or added to a debt are told, as the balance alone
-- would puzzle whoever reads it.
create or replace function purser.entry_sentence(p_entry public.credit_transactions)
returns text language plpgsql stable set search_path = '' as $$
declare
  v_size bigint := abs(p_entry.amount);
  v_credits text := purser.credits_text(abs(p_entry.amount));
  v_signed text := case when p_entry.amount < 0 then '-' else '+' end || purser.credits_text(abs(p_entry.amount));
  v_note text := purser.quoted_text(p_entry.description);
  v_debt bigint := greatest(-p_entry.balance_after, 0) - greatest(p_entry.amount - p_entry.balance_after, 0);
  v_products text := purser.list_text(array(
    select distinct g.catalogue_id from public.credit_grants g
    where g.user_id = p_entry.user_id and g.entry_number = p_entry.entry_number and g.catalogue_id is not null
    order by 1));
  v_expires text := purser.list_text(array(
    select distinct purser.minute_text(g.expires_at) from public.credit_grants g
    where g.user_id = p_entry.user_id and g.entry_number = p_entry.entry_number and g.expires_at is not null
    order by 1));
  v_lots text := (
    select purser.lots_text(
      coalesce(array_agg('lot ' || l.grant_id || case when l.amount <> v_size then ' (' || l.amount || ')' else '' end
        order by l.place), '{}'),
      array_agg(l.amount order by l.place), '%2$s (%1$s)')
    from purser.read_lots(p_entry.lots) l);
  v_hold text := case when starts_with(p_entry.idempotency_key, 'capture:') then split_part(p_entry.idempotency_key, ':', 2) end;
  v_text text;
begin
  v_text := case p_entry.transaction_type
    when 'purchase' then format('bought %s, %s', coalesce(v_products, 'credits'), v_signed)
    when 'allocation' then format('plan credits%s, %s', coalesce(' of ' || v_products, ''), v_signed)
    when 'bonus' then format('bonus%s, %s', coalesce(' ' || v_note, ''), v_signed)
    when 'usage' then format('spent %s%s%s', v_credits, coalesce(' on ' || v_note, ''), coalesce(' out of hold ' || v_hold, ''))
    when 'usage_refund' then format('gave back %s of the spending in entry %s%s', v_credits,
      coalesce(p_entry.reverses::text, '?'), coalesce(' ' || v_note, ''))
    when 'clawback' then format('took back %s of entry %s after a refund or dispute', v_credits, coalesce(p_entry.reverses::text, '?'))
    when 'clawback_reversal' then format('returned %s that had been taken back from entry %s', v_credits,
      coalesce(p_entry.reverses::text, '?'))
    when 'expiration' then format('%s of %s expired', v_credits, coalesce(v_lots, 'a lot'))
    else case when p_entry.idempotency_key = 'opening-balance' then format('opening balance, %s', v_signed)
      else format('adjusted by %s%s', v_signed, coalesce(': ' || v_note, '')) end end;
  v_text := v_text || coalesce(purser.stripe_text(p_entry), '')
    || coalesce(case
      when p_entry.transaction_type = 'expiration' then null
      when p_entry.amount < 0 then ', from ' || v_lots
      when p_entry.reverses is not null then ', to ' || v_lots end, '')
    || case when v_debt > 0 then format(', %s of them as debt', v_debt)
            when v_debt < 0 then format(', %s of them repaid debt', -v_debt) else '' end
    || case when p_entry.amount > 0 and v_expires is not null then format(', expiring %s', v_expires) else '' end;
  return format('%s: %s, balance %s.', purser.minute_text(p_entry.created_at), v_text, p_entry.balance_after);
end
$$;

-- The sentences on how things stand at an instant: holds, the sum, what expires next.
create or replace function purser.standing_sentences(p_balance jsonb, p_lots jsonb, p_holds jsonb)
returns text[] language plpgsql stable set search_path = '' as $$
declare
  v_at text := purser.minute_text((p_balance ->> 'at')::timestamptz);
  v_lots text := (
    select purser.lots_text(
      coalesce(array_agg(format('%s of %s in lot %s', l.value ->> 'remaining', l.value ->> 'amount', l.value ->> 'grant_id')
        order by l.ordinality), '{}'),
      array_agg((l.value ->> 'remaining')::bigint order by l.ordinality), '%1$s in %2$s')
    from jsonb_array_elements(p_lots) with ordinality l where (l.value ->> 'remaining')::bigint > 0);
  v_sentences text[] := '{}';
begin
  v_sentences := v_sentences || array(
    select format('%s: %s of lot %s are due since %s and count as expired, though the book does not say so yet.',
      v_at, purser.credits_text((l ->> 'expired_unwritten')::bigint), l ->> 'grant_id',
      purser.minute_text((l ->> 'expires_at')::timestamptz))
    from jsonb_array_elements(p_lots) l where (l ->> 'expired_unwritten')::bigint > 0);
  v_sentences := v_sentences || array(
    select format('%s: hold %s keeps %s until %s%s.', v_at, h ->> 'hold_id',
      purser.credits_text((h ->> 'remaining')::bigint), purser.minute_text((h ->> 'expires_at')::timestamptz),
      coalesce(' for ' || purser.quoted_text(h ->> 'description'), ''))
    from jsonb_array_elements(p_holds) h);
  v_sentences := v_sentences || format('%s: the balance is %s%s%s; %s can be spent.', v_at,
    purser.credits_text((p_balance ->> 'balance')::bigint),
    coalesce(' (' || v_lots || ')', ''),
    case when (p_balance ->> 'debt')::bigint > 0 then ', debt that the next credits repay' else '' end
      || case when (p_balance ->> 'held')::bigint > 0 then format(', %s held', p_balance ->> 'held') else '' end,
    greatest((p_balance ->> 'available')::bigint, 0));
  return v_sentences || array(
    select format('%s: %s of lot %s will expire unless spent before.',
      purser.minute_text((l ->> 'expires_at')::timestamptz), purser.credits_text((l ->> 'remaining')::bigint), l ->> 'grant_id')
    from jsonb_array_elements(p_lots) l
    where (l ->> 'remaining')::bigint > 0 and (l ->> 'expires_at')::timestamptz > (p_balance ->> 'at')::timestamptz
    order by l ->> 'expires_at', (l ->> 'grant_id')::bigint limit 20);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- explain_credit_balance: how a balance came about, for people and programs.
--   p_at     the instant it is explained for, past or future; default now
--   p_limit  1 to 500 entries back from then; `truncated` says that there are more
-- Answers {outcome: found | not_found, user_id, closed, at, balance, held, available, debt,
--   expired_unwritten, entries, truncated,
--   lots: [{grant_id, entry_number, type, amount, remaining, expired_unwritten, paid, from_plan,
--     priority, expires_at, created_at, cost_amount, cost_currency, catalogue_id, price_id, sources,
--     story: [{entry_number, type, amount, at}]}]: lots with credits left or named by the entries
--     shown, at most 200, in the order they are spent in, used up ones last,
--   debts: [{entry_number, type, before, after, at}], holds: [{hold_id, amount, captured, remaining,
--   expires_at, created_at, description}], expiring: [{grant_id, credits, expires_at}],
--   stripe: [{source, entry_number, at}], sentences: [text]}. Of holds the 100 that end first.
-- A past instant is explained as it was then, without what came later.
-- Reads one snapshot, locks nothing, writes nothing.
-- ---------------------------------------------------------------------------------------------
create or replace function public.explain_credit_balance(
  p_user_id text, p_at timestamptz default null, p_limit integer default 100)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_limit integer := least(greatest(coalesce(p_limit, 100), 1), 500);
  v_at timestamptz := coalesce(p_at, clock_timestamp());
  v_balance jsonb := public.get_credit_balance_at(p_user_id, v_at);
  v_user_id text := v_balance ->> 'user_id';
  v_last bigint := (v_balance ->> 'entry_number')::bigint;
  v_first bigint := greatest(v_last - v_limit, 0);
  v_opening text[] := '{}';
  v_lots jsonb;
  v_holds jsonb;
begin
  if v_balance ->> 'outcome' <> 'found' then
    return v_balance;
  end if;
  v_lots := purser.explained_lots(v_user_id, v_first, v_last, (v_balance ->> 'held')::bigint, v_at);
  select coalesce(jsonb_agg(jsonb_build_object(
      'hold_id', h.hold_id, 'amount', h.amount, 'captured', h.captured, 'remaining', h.amount - h.captured,
      'expires_at', purser.iso(h.expires_at), 'created_at', purser.iso(h.created_at), 'description', h.description)
      order by h.expires_at, h.hold_id), '[]')
  into v_holds from (select * from purser.holds_at(v_user_id, v_at) limit 100) h;
  if v_first > 0 then
    select array[format('%s earlier entries are left out; the balance after them was %s.', v_first, t.balance_after)]
    into v_opening from public.credit_transactions t where t.user_id = v_user_id and t.entry_number = v_first;
  end if;
  return (v_balance - 'entry_number') || jsonb_build_object(
    'closed', (select a.closed from purser.find_account(v_user_id) a),
    'entries', v_last,
    'truncated', v_first > 0,
    'lots', v_lots,
    'debts', coalesce((
      select jsonb_agg(jsonb_build_object('entry_number', d.entry_number, 'type', d.transaction_type,
        'before', d.before, 'after', d.after, 'at', purser.iso(d.created_at)) order by d.entry_number)
      from (select t.*, greatest(t.amount - t.balance_after, 0) as before, greatest(-t.balance_after, 0) as after
            from public.credit_transactions t
            where t.user_id = v_user_id and t.entry_number > v_first and t.entry_number <= v_last) d
      where d.before <> d.after), '[]'),
    'holds', v_holds,
    'expiring', coalesce((
      select jsonb_agg(jsonb_build_object('grant_id', l ->> 'grant_id', 'credits', l -> 'remaining', 'expires_at', l ->> 'expires_at')
        order by l ->> 'expires_at', (l ->> 'grant_id')::bigint)
      from jsonb_array_elements(v_lots) l
      where (l ->> 'remaining')::bigint > 0 and (l ->> 'expires_at')::timestamptz > v_at), '[]'),
    'stripe', coalesce((
      select jsonb_agg(jsonb_build_object('source', s.source_key, 'entry_number', s.entry_number, 'at', purser.iso(t.event_at))
        order by s.entry_number, s.source_key)
      from public.credit_sources s
      join public.credit_transactions t on t.user_id = s.user_id and t.entry_number = s.entry_number
      where s.user_id = v_user_id and s.entry_number > v_first and s.entry_number <= v_last), '[]'),
    'sentences', to_jsonb(v_opening || array(
      select purser.entry_sentence(t) from public.credit_transactions t
      where t.user_id = v_user_id and t.entry_number > v_first and t.entry_number <= v_last
      order by t.entry_number) || purser.standing_sentences(v_balance, v_lots, v_holds)));
end
$$;

-- The lots of an explanation, each with its story among the entries after p_first, up to p_last.
create or replace function purser.explained_lots(
  p_user_id text, p_first bigint, p_last bigint, p_held bigint, p_at timestamptz)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return (
    with stories as (
      select m.grant_id, jsonb_agg(jsonb_build_object('entry_number', t.entry_number, 'type', t.transaction_type,
        'amount', m.effect, 'at', purser.iso(t.created_at)) order by t.entry_number) as story
      from purser.lot_moves(array[p_user_id], p_first, p_last) m
      join public.credit_transactions t on t.user_id = m.user_id and t.entry_number = m.entry_number
      group by m.grant_id),
    shown as (
      select g.*, l.remaining as left_over, l.due, s.story,
        row_number() over (order by l.remaining = 0, g.priority, g.expires_at nulls last, g.paid, g.id) as place
      from purser.lots_at(p_user_id, p_last, p_held, p_at) l
      join public.credit_grants g on g.id = l.grant_id
      left join stories s on s.grant_id = g.id
      where l.remaining > 0 or l.due > 0 or s.grant_id is not null)
    select coalesce(jsonb_agg(jsonb_build_object(
      'grant_id', g.id::text, 'entry_number', g.entry_number, 'type', t.transaction_type, 'amount', g.amount,
      'remaining', g.left_over, 'expired_unwritten', g.due, 'paid', g.paid, 'from_plan', g.from_plan,
      'priority', g.priority, 'expires_at', purser.iso(g.expires_at), 'created_at', purser.iso(g.created_at),
      'cost_amount', g.cost_amount, 'cost_currency', g.cost_currency, 'catalogue_id', g.catalogue_id,
      'price_id', g.price_id,
      'sources', coalesce((
        select jsonb_agg(s.source_key order by s.source_key) from public.credit_sources s
        where s.user_id = g.user_id and s.entry_number = g.entry_number), '[]'),
      'story', coalesce(g.story, '[]')) order by g.place), '[]')
    from shown g
    left join public.credit_transactions t on t.user_id = g.user_id and t.entry_number = g.entry_number
    where g.place <= 200);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_credit_statement: a page of the account statement of a span of time, oldest first.
--   p_from, p_to   the span, p_to exclusive; default: from the first entry, until now
--   p_limit        1 to 1000 entries a page
--   p_after_entry  only entries with a higher entry_number (the cursor)
-- Answers {outcome: found | not_found, user_id, from, to, opening_balance, closing_balance,
--   totals: [{transaction_type, entries, amount}], data: entries as list_credit_transactions,
--   has_more, next_after_entry}. closing = opening + the amounts of all entries of the span;
-- opening, closing and totals are those of the span on every page.
-- It is the book: what is due and not yet written is not in it. Closed accounts are found.
-- Reads one snapshot, writes nothing.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_credit_statement(
  p_user_id text, p_from timestamptz default null, p_to timestamptz default null,
  p_limit integer default 100, p_after_entry bigint default null)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_limit integer := least(greatest(coalesce(p_limit, 100), 1), 1000);
  -- In whole milliseconds, as answers tell it: a later page asks for the very same span.
  v_to timestamptz := coalesce(p_to, date_trunc('milliseconds', clock_timestamp()));
  v_user_id text := (select a.user_id from purser.find_account(p_user_id) a);
  v_first bigint;
  v_last bigint;
  v_data jsonb;
  v_more boolean;
begin
  if v_user_id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  -- Ends are exclusive, times have microseconds: the last entry before an instant is the last at
  -- or before the microsecond before it.
  v_first := case when p_from is null then 0 else purser.entry_at(v_user_id, p_from - interval '1 microsecond') end;
  v_last := greatest(purser.entry_at(v_user_id, v_to - interval '1 microsecond'), v_first);
  select coalesce(jsonb_agg(purser.entry_record(p.t) order by p.entry_number) filter (where p.place <= v_limit), '[]'),
    coalesce(bool_or(p.place > v_limit), false)
  into v_data, v_more
  from (
    select t, t.entry_number, row_number() over (order by t.entry_number) as place
    from public.credit_transactions t
    where t.user_id = v_user_id and t.entry_number > greatest(v_first, coalesce(p_after_entry, 0)) and t.entry_number <= v_last
    order by t.entry_number
    limit v_limit + 1) p;
  return jsonb_build_object(
    'outcome', 'found', 'user_id', v_user_id, 'from', purser.iso(p_from), 'to', purser.iso(v_to),
    'opening_balance', coalesce((
      select t.balance_after from public.credit_transactions t where t.user_id = v_user_id and t.entry_number = v_first), 0),
    'closing_balance', coalesce((
      select t.balance_after from public.credit_transactions t where t.user_id = v_user_id and t.entry_number = v_last), 0),
    'totals', coalesce((
      select jsonb_agg(jsonb_build_object('transaction_type', s.transaction_type, 'entries', s.entries, 'amount', s.amount)
        order by s.transaction_type)
      from (select t.transaction_type, count(*) as entries, sum(t.amount) as amount from public.credit_transactions t
            where t.user_id = v_user_id and t.entry_number > v_first and t.entry_number <= v_last
            group by t.transaction_type) s), '[]'),
    'data', v_data, 'has_more', v_more,
    'next_after_entry', case when v_more then (v_data -> -1 ->> 'entry_number')::bigint end);
end
$$;

call purser.restrict_functions();
reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
