-- Purser: corrections: usage given back, credits granted and adjusted by hand, and the dry run of
-- every money function.
--
-- Paste after payments_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- The ledger is append-only, so a correction is a new entry: it names what it takes back, or who
-- made it and why.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array['refund_usage', 'adjust_credits', 'grant_free_credits', 'dry_run']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- ---------------------------------------------------------------------------------------------
-- Private helpers
-- ---------------------------------------------------------------------------------------------

-- The entry of a user with this id; all fields null where there is none. Ids are given out under
-- the user's lock, so they rise with entry_number: a binary search over the primary key finds one
-- in about 20 looks among a million, and the largest table goes without an index on id.
drop function if exists purser.find_entry(purser.accounts, text);
create or replace function purser.find_entry_by_id(p_user purser.accounts, p_transaction_id text)
returns public.credit_transactions language plpgsql stable set search_path = '' as $$
declare
  v_id bigint;
  v_low bigint := 1;
  v_high bigint := p_user.entry_count;
  v_entry public.credit_transactions;
  v_none public.credit_transactions;
begin
  if p_transaction_id !~ '^[1-9][0-9]{0,17}$' then
    return v_none;
  end if;
  v_id := p_transaction_id::bigint;
  while v_low <= v_high loop
    select * into v_entry from public.credit_transactions t
    where t.user_id = p_user.user_id and t.entry_number = (v_low + v_high) / 2;
    if not found then
      raise exception 'entry % of user % is missing', (v_low + v_high) / 2, p_user.user_id
        using errcode = 'data_corrupted', hint = 'Run select * from validate_credits_consistency();';
    elsif v_entry.id = v_id then
      return v_entry;
    elsif v_entry.id < v_id then
      v_low := v_entry.entry_number + 1;
    else
      v_high := v_entry.entry_number - 1;
    end if;
  end loop;
  return v_none;
end
$$;

-- Who corrects must say why: 1 to 500 characters, as long as any description.
create or replace function purser.check_reason(p_reason text)
returns void language plpgsql immutable set search_path = '' as $$
begin
  if p_reason is null or btrim(p_reason) = '' or length(p_reason) > 500 then
    perform purser.raise_error(400, 'invalid_request', 'reason must say why, in 1 to 500 characters.');
  end if;
end
$$;

-- Gives p_amount credits back to the lots a debit took them from, last taken first. p_lots is what
-- the debit took, in that order; the first p_skip credits, counted from its end, are passed over:
-- they were given back before, so that partial refunds go on where the last one ended.
-- p_entry_number: the entry being written. Returns [{"grant_id", "amount"}] of what received.
create or replace function purser.return_to_lots(
  p_lots jsonb, p_skip bigint, p_amount bigint, p_entry_number bigint, p_now timestamptz)
returns jsonb language plpgsql set search_path = '' as $$
declare
  v_skip bigint := p_skip;
  v_left bigint := p_amount;
  v_part bigint;
  v_taken record;
  v_lots jsonb := '[]';
begin
  for v_taken in
    select (l.value ->> 'grant_id')::bigint as id, (l.value ->> 'amount')::bigint as amount
    from jsonb_array_elements(p_lots) with ordinality l order by l.ordinality desc
  loop
    v_part := least(greatest(v_taken.amount - v_skip, 0), v_left);
    v_skip := greatest(v_skip - v_taken.amount, 0);
    if v_part > 0 then
      v_lots := v_lots || purser.return_to_lot(v_taken.id, v_part, p_entry_number, p_now);
      v_left := v_left - v_part;
    end if;
  end loop;
  if v_left > 0 then
    raise exception 'the lots of a debit do not account for % credits that are to come back', v_left
      using errcode = 'data_corrupted', hint = 'Run select * from validate_credits_consistency();';
  end if;
  return v_lots;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- refund_usage: gives back a usage entry (of a consume or a capture), in whole or in part.
--   p_transaction_id  id of the usage entry
--   p_key     the caller's idempotency key; permanent, unique per user
--   p_amount  credits; null = all that is left of it
-- Answers {outcome: applied | replayed | conflict | exceeds_usage | not_found, transaction_id,
--   amount, balance, held, available, version, lots, created_at, repaid_debt (applied), mirror}.
--   not_found      no such user; with `transaction_id`: the user has no usage entry of that id
--   exceeds_usage  more than is left of the entry (or nothing is left): `left` says how much is
--   conflict       the key was used for another entry or amount
-- A replay repeats the first answer; null as amount stands for what was left then. Only `applied`
-- binds the key. Debt is repaid first; the rest goes back to the lots of the entry, last taken
-- first; what a lot has no room for or was in a lot that has expired since comes back as a bonus lot
-- (purser.return_to_lot in sql/payments_migration.sql).
-- Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.refund_usage(
  p_user_id text, p_transaction_id text, p_key text, p_amount bigint default null,
  p_description text default null, p_metadata jsonb default '{}',
  p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_now timestamptz;
  v_usage public.credit_transactions;
  v_entry public.credit_transactions;
  v_refunded bigint;
  v_amount bigint;
  v_repaid bigint;
begin
  if p_amount is not null then
    perform purser.check_amount(p_amount);
  end if;
  perform purser.check_key(p_key);

  v_user := purser.lock_user(p_user_id);
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  v_now := coalesce(p_now, clock_timestamp());
  v_user := purser.expire_due(v_user, v_now);

  v_entry := purser.find_entry(v_user.user_id, 'refund:' || p_key);
  v_usage := purser.find_entry_by_id(v_user, p_transaction_id);
  if v_usage.transaction_type is distinct from 'usage' and v_entry.id is null then
    return purser.balance_answer('not_found', v_user)
      || jsonb_build_object('transaction_id', p_transaction_id, 'mirror', purser.mirror_record(v_user));
  end if;

  -- What was given back of it before; for a replay, before the entry of this key.
  select coalesce(sum(t.amount), 0) into v_refunded from public.credit_transactions t
  where t.user_id = v_user.user_id and t.reverses = v_usage.entry_number
    and (v_entry.id is null or t.entry_number < v_entry.entry_number);
  v_amount := coalesce(p_amount, -v_usage.amount - v_refunded);
  if v_entry.id is not null then
    return purser.entry_answer(
        case when v_entry.reverses = v_usage.entry_number and v_entry.amount = v_amount then 'replayed' else 'conflict' end,
        v_entry)
      || jsonb_build_object('mirror', purser.mirror_record(v_user));
  end if;
  if v_amount = 0 or v_refunded + v_amount > -v_usage.amount then
    return purser.balance_answer('exceeds_usage', v_user) || jsonb_build_object(
      'transaction_id', v_usage.id::text, 'left', -v_usage.amount - v_refunded,
      'mirror', purser.mirror_record(v_user));
  end if;

  v_repaid := least(v_user.credits_debt, v_amount);
  v_user.credits_debt := v_user.credits_debt - v_repaid;
  v_entry := purser.append_entry(
    v_user, 'usage_refund', v_amount, 'refund:' || p_key, v_now,
    purser.return_to_lots(
      v_usage.lots, v_refunded + v_repaid, v_amount - v_repaid, v_user.entry_count + 1, v_now),
    p_description, p_metadata, p_reverses => v_usage.entry_number);
  v_user := purser.expire_due(purser.after_entry(v_user, v_entry), v_now);
  return purser.entry_answer('applied', v_entry)
    || jsonb_build_object('repaid_debt', v_repaid, 'mirror', purser.mirror_record(v_user));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- grant_free_credits: credits an app gives by itself, with a reason; grant_credits does the rest.
--   p_type        bonus | adjustment
--   p_key         the caller's idempotency key; permanent, unique per user
--   p_expires_at  must be in the future when it is written (a replay may come later); null = never
--   p_priority    0 to 1000, the lower is spent first; default 100
-- Answers as grant_credits, or expired: p_expires_at has passed; nothing was written.
-- Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.grant_free_credits(
  p_user_id text, p_amount bigint, p_type text, p_key text, p_reason text default null,
  p_expires_at timestamptz default null, p_priority integer default null,
  p_metadata jsonb default '{}', p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_now timestamptz;
begin
  perform purser.check_amount(p_amount);
  perform purser.check_key(p_key);
  perform purser.check_reason(p_reason);
  if p_type is null or p_type not in ('bonus', 'adjustment') then
    perform purser.raise_error(400, 'invalid_request', 'type must be bonus or adjustment.');
  elsif p_priority not between 0 and 1000 then
    perform purser.raise_error(400, 'invalid_request', 'priority must be a whole number from 0 to 1000.');
  end if;

  v_user := purser.lock_user(p_user_id);
  v_now := coalesce(p_now, clock_timestamp());
  if p_expires_at <= v_now and not exists (
    select from public.credit_transactions t
    where t.user_id = v_user.user_id and t.idempotency_key = 'grant:' || p_key)
  then
    return jsonb_build_object('outcome', 'expired', 'user_id', coalesce(v_user.user_id, p_user_id));
  end if;
  return public.grant_credits(
    p_user_id, p_type, 'grant:' || p_key,
    jsonb_build_array(jsonb_build_object(
      'credits', p_amount, 'expires_at', p_expires_at, 'priority', p_priority, 'paid', false)),
    p_description => p_reason, p_metadata => p_metadata, p_now => v_now);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- adjust_credits: corrects a balance by hand.
--   p_amount      signed, not 0. Positive: a free lot, after debt is repaid. Negative: taken from
--                 the lots in burn-down order, plan lots of a suspended user too: a suspension
--                 stops spending, not corrections.
--   p_key         the caller's idempotency key; permanent, unique per user
--   p_reason, p_actor  who did it and why; both mandatory, kept in audit_events with the counters
--                 before and after, in the same transaction
--   p_allow_debt  true = what the lots lack becomes debt, and what open holds reserve is taken too;
--                 false = at most what no open hold reserves
-- Answers {outcome: applied | replayed | conflict | insufficient_credits | not_found,
--   transaction_id, amount (without its sign), balance, held, available, version, lots, created_at,
--   mirror}. Refused, `available` is what can be taken: balance - held, suspended or not. A replay
-- repeats the first answer. Only `applied` binds the key.
-- Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.adjust_credits(
  p_user_id text, p_amount bigint, p_key text, p_reason text default null, p_actor text default null,
  p_metadata jsonb default '{}', p_now timestamptz default null, p_allow_debt boolean default false)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_payer purser.accounts;
  v_before jsonb;
  v_now timestamptz;
  v_entry public.credit_transactions;
  v_lots jsonb;
  v_answer jsonb;
begin
  if p_amount is null or p_amount = 0 or p_amount not between -9007199254740991 and 9007199254740991 then
    perform purser.raise_error(400, 'invalid_request', format(
      'amount must be a whole number of credits within +-9007199254740991, and not 0; it is %s.', coalesce(p_amount::text, 'null')));
  end if;
  perform purser.check_key(p_key);
  perform purser.check_reason(p_reason);
  if p_actor is null or btrim(p_actor) = '' then
    perform purser.raise_error(400, 'invalid_request', 'actor must say who adjusts.');
  end if;

  v_user := purser.lock_user(p_user_id);
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  v_now := coalesce(p_now, clock_timestamp());
  v_user := purser.expire_due(v_user, v_now);

  v_entry := purser.find_entry(v_user.user_id, 'adjust:' || p_key);
  if v_entry.id is not null then
    return purser.entry_answer(case when v_entry.amount = p_amount then 'replayed' else 'conflict' end, v_entry)
      || jsonb_build_object('mirror', purser.mirror_record(v_user));
  end if;
  v_before := purser.counters(v_user);

  if p_amount > 0 then
    v_answer := public.grant_credits(
      p_user_id, 'adjustment', 'adjust:' || p_key,
      jsonb_build_array(jsonb_build_object('credits', p_amount, 'paid', false)),
      p_description => p_reason, p_metadata => p_metadata, p_now => v_now);
    v_user := purser.lock_user(p_user_id);
  else
    if v_user.credits_balance - v_user.credits_held < -p_amount and not p_allow_debt then
      return purser.balance_answer('insufficient_credits', v_user) || jsonb_build_object(
        'available', v_user.credits_balance - v_user.credits_held, 'mirror', purser.mirror_record(v_user));
    end if;
    v_payer := v_user;
    v_payer.credits_suspended := false;
    v_lots := case when p_allow_debt then purser.take_up_to(v_payer, -p_amount, v_now)
      else purser.take_from_lots(v_payer, -p_amount, v_now) end;
    v_user.credits_debt := v_user.credits_debt - p_amount - purser.lots_total(v_lots);
    v_entry := purser.append_entry(
      v_user, 'adjustment', p_amount, 'adjust:' || p_key, v_now, v_lots, p_reason, p_metadata);
    v_user := purser.expire_due(purser.after_entry(v_user, v_entry), v_now);
    v_answer := purser.entry_answer('applied', v_entry)
      || jsonb_build_object('mirror', purser.mirror_record(v_user));
  end if;

  insert into public.audit_events (actor, action, user_id, reason, before, after)
  values (p_actor, 'adjust_credits', v_user.user_id, p_reason, v_before, purser.counters(v_user)
    || jsonb_build_object('amount', p_amount, 'transaction_id', v_answer ->> 'transaction_id'));
  return v_answer;
end
$$;

-- The counters of a user, for the audit.
create or replace function purser.counters(p_user purser.accounts)
returns jsonb language plpgsql immutable set search_path = '' as $$
begin
  return jsonb_build_object(
    'balance', p_user.credits_balance, 'held', p_user.credits_held, 'debt', p_user.credits_debt,
    'version', p_user.credits_version, 'entry_count', p_user.entry_count);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- Dry run
-- ---------------------------------------------------------------------------------------------

-- True for a row version that this transaction wrote. Only to be asked of rows it can see: of
-- those, the ones whose writer is still under way are its own. A transaction that started later
-- than ours is at most 2^20 ids ahead of it; further away is an old one, from before the counter
-- of 32 bits came round.
create or replace function purser.written_here(p_xmin xid)
returns boolean language plpgsql stable set search_path = '' as $$
declare
  v_ours bigint := pg_current_xact_id()::text::bigint;
  v_ahead bigint := (p_xmin::text::bigint - v_ours % 4294967296 + 4294967296) % 4294967296;
begin
  return v_ahead < 1048576 and pg_xact_status((v_ours + v_ahead)::text::xid8) = 'in progress';
end
$$;

-- The call of one of our functions with its arguments in the jsonb $1, by name, each cast to its
-- type as the Data API does; what is left out takes its default.
create or replace function purser.named_call(p_function text, p_args jsonb)
returns text language plpgsql stable set search_path = '' as $$
declare
  v_function pg_catalog.pg_proc;
  v_name text;
  v_place integer;
  v_type text;
  v_call text[] := '{}';
begin
  select * into v_function from pg_catalog.pg_proc p
  where p.pronamespace = 'public'::regnamespace and p.proname = p_function and p.proowner = 'purser_ledger'::regrole;
  for v_name in select k from jsonb_object_keys(p_args) k loop
    v_place := array_position(v_function.proargnames, v_name);
    if v_place is null then
      perform purser.raise_error(400, 'invalid_request', format('%s has no argument %s.', p_function, v_name));
    end if;
    v_type := format_type(v_function.proargtypes[v_place - 1], null);
    v_call := v_call || case when v_type = 'jsonb'
      then format('%I => nullif($1 -> %L, ''null'')', v_name, v_name)
      else format('%I => ($1 ->> %L)::%s', v_name, v_name, v_type) end;
  end loop;
  return format('select public.%I(%s)', p_function, array_to_string(v_call, ', '));
end
$$;

-- The rows this transaction has written since p_since, by kind, as they stand in the tables. Whom
-- the call concerned is told by entries and holds: a change of a user's leaves one of them.
-- p_users, p_payment: whose rows to look at in any case.
create or replace function purser.written_rows(p_since timestamptz, p_users text[], p_payment text)
returns jsonb language plpgsql stable set search_path = '' as $$
declare
  v_entries jsonb;
  v_holds jsonb;
  v_users text[];
begin
  select coalesce(jsonb_agg(to_jsonb(t) order by t.user_id, t.entry_number), '[]') into v_entries
  from public.credit_transactions t where t.created_at >= p_since and purser.written_here(t.xmin);
  select coalesce(jsonb_agg(to_jsonb(h) order by h.id), '[]') into v_holds
  from public.credit_holds h where h.updated_at >= p_since and purser.written_here(h.xmin);
  v_users := array(
    select r ->> 'user_id' from jsonb_array_elements(v_entries || v_holds) r union select unnest(p_users));
  return jsonb_build_object(
    'entries', v_entries,
    'holds', v_holds,
    'payments', (
      select coalesce(jsonb_agg(to_jsonb(p) order by p.payment), '[]') from public.payments p
      where (p.user_id = any (v_users) or p.payment = p_payment) and purser.written_here(p.xmin)),
    'lots', (
      select coalesce(jsonb_agg(to_jsonb(g) order by g.id), '[]') from public.credit_grants g
      where g.user_id = any (v_users) and purser.written_here(g.xmin)),
    'users', purser.user_rows(v_users),
    'sources', (
      select coalesce(jsonb_agg(to_jsonb(s) order by s.source_key), '[]') from public.credit_sources s
      where s.user_id = any (v_users) and purser.written_here(s.xmin)),
    'audit', (
      select coalesce(jsonb_agg(to_jsonb(a) order by a.id), '[]') from public.audit_events a
      where a.created_at >= p_since and purser.written_here(a.xmin)),
    'findings', (
      select coalesce(jsonb_agg(to_jsonb(f) order by f.id), '[]') from public.reconciliation_findings f
      where f.last_seen_at >= p_since and purser.written_here(f.xmin)));
end
$$;

-- The counters of users, in the order of their ids; other columns of the table are the app's.
create or replace function purser.user_rows(p_users text[])
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return (
    select coalesce(jsonb_agg(purser.counters(a) || jsonb_build_object('user_id', a.user_id) order by a.user_id), '[]')
    from purser.accounts a where a.id = any (array(select purser.to_user_id(u) from unnest(p_users) u)));
end
$$;

-- [{before, after}] of rows with the same p_key; before is null for a row that is new.
create or replace function purser.before_and_after(p_before jsonb, p_after jsonb, p_key text)
returns jsonb language plpgsql immutable set search_path = '' as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('before', b.value, 'after', a.value) order by a.ordinality), '[]')
    from jsonb_array_elements(p_after) with ordinality a
    left join jsonb_array_elements(p_before) b on b.value -> p_key = a.value -> p_key
    where a.value is distinct from b.value);
end
$$;

-- p_json with null wherever it names a row that will never exist. p_ids: {transaction_id, grant_id,
-- hold_id: [...]}.
create or replace function purser.without_ids(p_json jsonb, p_ids jsonb)
returns jsonb language plpgsql immutable set search_path = '' as $$
begin
  case jsonb_typeof(p_json)
    when 'object' then
      return (
        select coalesce(jsonb_object_agg(m.key, case
          when p_ids -> m.key ? (m.value #>> '{}') then 'null'
          else purser.without_ids(m.value, p_ids) end), '{}')
        from jsonb_each(p_json) m);
    when 'array' then
      return (
        select coalesce(jsonb_agg(purser.without_ids(e.value, p_ids) order by e.ordinality), '[]')
        from jsonb_array_elements(p_json) with ordinality e);
    else
      return p_json;
  end case;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- dry_run: what a money function would answer and write, with nothing written.
--   p_function  one of those listed below
--   p_args      its arguments by name
-- Answers {answer, rows: {entries: [row], lots, holds, payments, users, findings: [{before, after}],
--   sources, audit: [row]}}. `before` is null for a row that is new; ids of rows that will never
--   exist are null. Exceptions of the function are those of a real call.
-- The function itself runs, in a subtransaction that is always rolled back, so no rule exists
-- twice; identity numbers it drew are left out of the ledger's later ones. It first runs to learn
-- whom it concerns, then with these users locked, so that `before` is what it began with.
-- Locks: as the function, released at the end: users in id order, then the payment.
-- ---------------------------------------------------------------------------------------------
create or replace function public.dry_run(p_function text, p_args jsonb)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' set timezone = 'UTC' as $$
declare
  -- Each round knows more users than the one before; one more is only needed when another
  -- transaction brings a new one within reach meanwhile (expire_due_credits).
  c_rounds constant integer := 5;
  v_call text;
  v_since timestamptz;
  v_users text[];
  v_known text[] := '{}';
  v_answer jsonb;
  v_rows jsonb;
  v_before jsonb;
begin
  if p_function is null or p_function not in (
    'consume_credits', 'consume_credits_batch', 'hold_credits', 'capture_hold', 'release_hold', 'extend_hold',
    'refund_usage', 'grant_credits', 'grant_free_credits', 'adjust_credits', 'set_payment_state', 'expire_due_credits')
  then
    perform purser.raise_error(400, 'invalid_request', format('%s has no dry run.', p_function));
  elsif jsonb_typeof(p_args) is distinct from 'object' then
    perform purser.raise_error(400, 'invalid_request', 'The arguments of a dry run are an object.');
  end if;
  v_call := purser.named_call(p_function, p_args);
  -- A minute earlier: clocks may be set back.
  v_since := least(clock_timestamp(), (p_args ->> 'p_now')::timestamptz) - interval '1 minute';
  if p_args ->> 'p_user_id' is not null then
    v_known := array[purser.user_key(p_args ->> 'p_user_id')];
  end if;

  for v_round in 1..c_rounds loop
    begin
      perform from purser.accounts a
      where a.id = any (array(select purser.to_user_id(u) from unnest(v_known) u)) order by a.id for no key update;
      perform from public.payments p where p.payment = p_args ->> 'p_payment' for update;
      v_before := jsonb_build_object('users', purser.user_rows(v_known));
      begin
        execute v_call into v_answer using p_args;
        v_rows := purser.written_rows(v_since, v_known, p_args ->> 'p_payment');
        raise sqlstate 'PDRUN';
      exception when sqlstate 'PDRUN' then null;
      end;
      v_before := v_before || jsonb_build_object(
        'lots', (select coalesce(jsonb_agg(to_jsonb(g)), '[]') from public.credit_grants g
          where g.id in (select (r ->> 'id')::bigint from jsonb_array_elements(v_rows -> 'lots') r)),
        'holds', (select coalesce(jsonb_agg(to_jsonb(h)), '[]') from public.credit_holds h
          where h.id in (select (r ->> 'id')::bigint from jsonb_array_elements(v_rows -> 'holds') r)),
        'payments', (select coalesce(jsonb_agg(to_jsonb(p)), '[]') from public.payments p
          where p.payment in (select r ->> 'payment' from jsonb_array_elements(v_rows -> 'payments') r)),
        'findings', (select coalesce(jsonb_agg(to_jsonb(f)), '[]') from public.reconciliation_findings f
          where f.id in (select (r ->> 'id')::bigint from jsonb_array_elements(v_rows -> 'findings') r)));
      raise sqlstate 'PDRUN';
    exception when sqlstate 'PDRUN' then null;
    end;
    v_users := array(select r ->> 'user_id' from jsonb_array_elements(v_rows -> 'users') r);
    if v_users <@ v_known then
      return purser.dry_answer(v_answer, v_before, v_rows);
    end if;
    v_known := v_known || v_users;
  end loop;
  perform purser.raise_error(503, 'dependency_down', 'The users this call concerns changed while it was tried; try again.');
end
$$;

-- What dry_run answers, of the rows as they were and as they would be.
create or replace function purser.dry_answer(p_answer jsonb, p_before jsonb, p_rows jsonb)
returns jsonb language plpgsql stable set search_path = '' as $$
declare
  v_rows jsonb := jsonb_build_object(
    'entries', p_rows -> 'entries',
    'lots', purser.before_and_after(p_before -> 'lots', p_rows -> 'lots', 'id'),
    'holds', purser.before_and_after(p_before -> 'holds', p_rows -> 'holds', 'id'),
    'payments', purser.before_and_after(p_before -> 'payments', p_rows -> 'payments', 'payment'),
    'users', purser.before_and_after(p_before -> 'users', p_rows -> 'users', 'user_id'),
    'sources', p_rows -> 'sources',
    'audit', p_rows -> 'audit',
    'findings', purser.before_and_after(p_before -> 'findings', p_rows -> 'findings', 'id'));
  v_ids jsonb := jsonb_build_object(
    'transaction_id', (select jsonb_agg(r ->> 'id') from jsonb_array_elements(v_rows -> 'entries') r),
    'grant_id', (select jsonb_agg(r #>> '{after,id}') from jsonb_array_elements(v_rows -> 'lots') r where r -> 'before' = 'null'),
    'hold_id', (select jsonb_agg('h_' || (r #>> '{after,id}')) from jsonb_array_elements(v_rows -> 'holds') r where r -> 'before' = 'null'));
  v_kind text;
begin
  foreach v_kind in array array['entries', 'audit'] loop
    v_rows := v_rows || jsonb_build_object(v_kind, (
      select coalesce(jsonb_agg(r.value || '{"id": null}' order by r.ordinality), '[]')
      from jsonb_array_elements(v_rows -> v_kind) with ordinality r));
  end loop;
  foreach v_kind in array array['lots', 'holds', 'findings'] loop
    v_rows := v_rows || jsonb_build_object(v_kind, (
      select coalesce(jsonb_agg(
        case when r.value -> 'before' = 'null' then jsonb_set(r.value, '{after,id}', 'null') else r.value end
        order by r.ordinality), '[]')
      from jsonb_array_elements(v_rows -> v_kind) with ordinality r));
  end loop;
  return jsonb_build_object('answer', purser.without_ids(p_answer, v_ids), 'rows', purser.without_ids(v_rows, v_ids));
end
$$;

call purser.restrict_functions();
reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
