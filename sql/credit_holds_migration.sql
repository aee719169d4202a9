-- Purser: holds. Credits are reserved for work that is not done yet, then captured, all or part,
-- or released. What is held cannot be spent; what is not captured comes back by itself.
--
-- Paste after credit_transactions_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- A hold writes no entry: it lowers what is available, not the balance. Each capture is one
-- `usage` entry under capture:<hold>:<key>. Ids are h_<n> outside of this schema.
--   open -> captured   everything was captured
--        -> released   the rest was given back by the caller
--        -> expired    the rest was given back because its time had come
-- A hold ends in the first call of any money function, balance look or run of expire-credits after
-- its time (purser.expire_holds), so no hold can leak. Of an expired hold what was not captured
-- can still be captured, if it can be had: the work may have been done all the same.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array[
  'hold_credits', 'capture_hold', 'release_hold', 'extend_hold', 'get_hold', 'list_open_holds']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- ---------------------------------------------------------------------------------------------
-- What the first answer said, for its replays: a hold changes, the answer to a key does not.
-- ---------------------------------------------------------------------------------------------
alter table public.credit_holds
  add column if not exists first_expires_at timestamptz not null,
  add column if not exists balance_after bigint not null,
  add column if not exists held_after bigint not null,
  add column if not exists available_after bigint not null,
  add column if not exists version bigint not null,
  add column if not exists while_suspended boolean not null;
comment on column public.credit_holds.status is 'open; captured (all of it); released (by the caller); expired (its time came). Only open ones reserve.';
comment on column public.credit_holds.first_expires_at is 'expires_at as it was first answered; extend_hold moves expires_at alone.';
comment on column public.credit_holds.available_after is 'With balance_after, held_after and version: the account right after the hold was made.';
comment on column public.credit_holds.while_suspended is 'Made while the account was suspended, so it reserves no credits of a plan.';

-- ---------------------------------------------------------------------------------------------
-- Private helpers
-- ---------------------------------------------------------------------------------------------

-- The hold of an id of the form h_<n>; all fields null where there is none.
create or replace function purser.find_hold(p_hold_id text)
returns public.credit_holds language plpgsql stable set search_path = '' as $$
declare
  v_hold public.credit_holds;
begin
  if p_hold_id ~ '^h_[1-9][0-9]{0,15}$' then
    select * into v_hold from public.credit_holds h where h.id = substr(p_hold_id, 3)::bigint;
  end if;
  return v_hold;
end
$$;

-- A hold in answers. Always amount = captured + released + remaining.
create or replace function purser.hold_state(p_hold public.credit_holds)
returns jsonb language plpgsql stable set search_path = '' as $$
declare
  v_left bigint := p_hold.amount - p_hold.captured;
begin
  return jsonb_build_object(
    'hold_id', 'h_' || p_hold.id,
    'user_id', p_hold.user_id,
    'status', p_hold.status,
    'amount', p_hold.amount,
    'captured', p_hold.captured,
    'released', case when p_hold.status = 'open' then 0 else v_left end,
    'remaining', case when p_hold.status = 'open' then v_left else 0 end,
    'expires_at', purser.iso(p_hold.expires_at));
end
$$;

-- What the functions of this file answer about a hold and an account as they stand now.
create or replace function purser.hold_answer(p_outcome text, p_hold public.credit_holds, p_user purser.accounts)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return purser.hold_state(p_hold) || purser.balance_answer(p_outcome, p_user)
    || jsonb_build_object('transaction_id', null, 'mirror', purser.mirror_record(p_user));
end
$$;

-- What a capture answers: the hold as that capture left it, read from its entry, so that a replay
-- says the same whatever has become of the hold since.
create or replace function purser.capture_answer(
  p_outcome text, p_hold public.credit_holds, p_entry public.credit_transactions, p_user purser.accounts)
returns jsonb language plpgsql stable set search_path = '' as $$
declare
  v_then public.credit_holds := p_hold;
begin
  v_then.status := p_entry.metadata #>> '{hold,status}';
  v_then.captured := (p_entry.metadata #>> '{hold,captured}')::bigint;
  v_then.expires_at := (p_entry.metadata #>> '{hold,expires_at}')::timestamptz;
  return purser.hold_state(v_then) || jsonb_build_object(
    'outcome', p_outcome,
    'transaction_id', p_entry.id::text,
    'balance', p_entry.balance_after,
    'held', p_entry.held_after,
    'available', p_entry.available_after,
    'version', p_entry.version,
    'mirror', purser.mirror_record(p_user));
end
$$;

-- A hold lasts a second to 30 days, counted from the call: who forgets it must get it back.
create or replace function purser.check_hold_seconds(p_seconds integer)
returns void language plpgsql immutable set search_path = '' as $$
begin
  if p_seconds is null or p_seconds not between 1 and 2592000 then
    perform purser.raise_error(400, 'invalid_request', format(
      'expires_in_seconds must be a whole number from 1 to 2592000 (30 days), not %s.', coalesce(p_seconds::text, 'null')));
  end if;
end
$$;

create or replace function purser.check_hold_metadata(p_metadata jsonb)
returns void language plpgsql immutable set search_path = '' as $$
begin
  if jsonb_typeof(p_metadata) <> 'object' then
    perform purser.raise_error(400, 'invalid_request', 'metadata must be an object.');
  end if;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- hold_credits: reserves p_amount credits, once per key.
--   p_key                 the caller's idempotency key; permanent, unique per user
--   p_expires_in_seconds  1 to 2592000 (30 days), by the database clock
--   p_description, p_metadata  kept with the hold; its captures take them over
-- Answers {outcome: applied | replayed | conflict | insufficient_credits | suspended | not_found,
--   hold_id, user_id, status, amount, captured, released, remaining, expires_at, transaction_id
--   (null), balance, held, available, version, mirror}; a replay repeats the first answer, an open
-- hold, whatever has become of it since (get_hold says that). Only `applied` binds the key: a
-- refusal writes nothing and is judged again. suspended: it would have passed without the
-- suspension. conflict: the key was used for another amount.
-- Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.hold_credits(
  p_user_id text, p_amount bigint, p_key text, p_expires_in_seconds integer default 600,
  p_description text default null, p_metadata jsonb default '{}',
  p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_now timestamptz;
  v_hold public.credit_holds;
begin
  perform purser.check_amount(p_amount);
  perform purser.check_key(p_key);
  perform purser.check_hold_seconds(p_expires_in_seconds);
  perform purser.check_hold_metadata(p_metadata);

  v_user := purser.lock_user(p_user_id);
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  v_now := coalesce(p_now, clock_timestamp());
  v_user := purser.expire_due(v_user, v_now);

  select * into v_hold from public.credit_holds h
  where h.user_id = v_user.user_id and h.idempotency_key = 'hold:' || p_key;
  if found and v_hold.amount <> p_amount then
    return purser.hold_answer('conflict', v_hold, v_user);
  end if;
  if not found then
    if purser.available(v_user) < p_amount then
      return purser.balance_answer(
          case when v_user.credits_balance - v_user.credits_held >= p_amount then 'suspended' else 'insufficient_credits' end,
          v_user)
        || jsonb_build_object('mirror', purser.mirror_record(v_user));
    end if;
    v_user := purser.set_held(v_user, v_user.credits_held + p_amount);
    insert into public.credit_holds (
      user_id, idempotency_key, amount, expires_at, first_expires_at, description, metadata,
      created_at, updated_at, balance_after, held_after, available_after, version, while_suspended)
    values (
      v_user.user_id, 'hold:' || p_key, p_amount,
      v_now + make_interval(secs => p_expires_in_seconds), v_now + make_interval(secs => p_expires_in_seconds),
      p_description, coalesce(p_metadata, '{}'), v_now, v_now,
      v_user.credits_balance, v_user.credits_held, purser.available(v_user), v_user.credits_version,
      v_user.credits_suspended)
    returning * into v_hold;
    return purser.hold_answer('applied', v_hold, v_user);
  end if;

  v_hold.status := 'open';
  v_hold.captured := 0;
  v_hold.expires_at := v_hold.first_expires_at;
  return purser.hold_answer('replayed', v_hold, v_user) || jsonb_build_object(
    'balance', v_hold.balance_after, 'held', v_hold.held_after,
    'available', v_hold.available_after, 'version', v_hold.version);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- capture_hold: spends of what a hold reserves, once per key of the hold; several captures until
-- nothing remains.
--   p_hold_id  h_<n>
--   p_key      the caller's idempotency key; permanent, unique per hold
--   p_amount   credits; null = all that was not captured yet
--   p_description, p_metadata  of the entry; left out, those of the hold. The entry's metadata has
--              `hold_id` and `hold` (the hold as this capture left it) besides.
-- Answers as hold_credits, with transaction_id, and the outcomes
--   applied | replayed | conflict  (the key took another amount; null repeats a capture that left nothing)
--   hold_ended            it was released, or captured whole; nothing is left to capture
--   hold_exceeded         p_amount is more than what was not captured yet
--   insufficient_credits  a claw-back took what was held; or the hold had expired and the credits
--                         are spent. The hold stays as it is, and the same key may be sent again.
--   suspended             of an expired hold: it would have passed without the suspension
--   not_found             no such hold; with user_id: its account is closed
-- An open hold is captured whatever the account has become since, suspended as well: the credits
-- were promised. Of a hold made while suspended, plan lots pay last. A late capture, of an expired
-- hold, is judged like any spend.
-- Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.capture_hold(
  p_hold_id text, p_key text, p_amount bigint default null,
  p_description text default null, p_metadata jsonb default null,
  p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_hold public.credit_holds;
  v_user purser.accounts;
  v_payer purser.accounts;
  v_lots jsonb := '[]';
  v_now timestamptz;
  v_key text;
  v_entry public.credit_transactions;
  v_left bigint;
  v_amount bigint;
  v_late boolean;
begin
  if p_amount is not null then
    perform purser.check_amount(p_amount);
  end if;
  perform purser.check_key(p_key);
  perform purser.check_hold_metadata(p_metadata);

  v_hold := purser.find_hold(p_hold_id);
  if v_hold.id is null then
    return jsonb_build_object('outcome', 'not_found', 'hold_id', p_hold_id);
  end if;
  v_user := purser.lock_user(v_hold.user_id);
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found', 'hold_id', p_hold_id, 'user_id', v_hold.user_id);
  end if;
  v_now := coalesce(p_now, clock_timestamp());
  v_user := purser.expire_due(v_user, v_now);
  v_hold := purser.find_hold(p_hold_id);
  v_left := v_hold.amount - v_hold.captured;
  v_amount := coalesce(p_amount, v_left);
  v_late := v_hold.status = 'expired';

  v_key := format('capture:%s:%s', p_hold_id, p_key);
  v_entry := purser.find_entry(v_user.user_id, v_key);
  if v_entry.id is not null then
    if v_entry.amount = -p_amount
       or (p_amount is null and (v_entry.metadata #>> '{hold,captured}')::bigint = v_hold.amount)
    then
      return purser.capture_answer('replayed', v_hold, v_entry, v_user);
    end if;
    return purser.hold_answer('conflict', v_hold, v_user);
  end if;

  if v_hold.status in ('captured', 'released') then
    return purser.hold_answer('hold_ended', v_hold, v_user);
  elsif v_amount > v_left then
    return purser.hold_answer('hold_exceeded', v_hold, v_user);
  elsif v_late and purser.available(v_user) < v_amount then
    return purser.hold_answer(
      case when v_user.credits_balance - v_user.credits_held >= v_amount then 'suspended' else 'insufficient_credits' end,
      v_hold, v_user);
  elsif v_user.credits_balance < v_amount then
    return purser.hold_answer('insufficient_credits', v_hold, v_user);
  end if;

  v_hold.captured := v_hold.captured + v_amount;
  if v_hold.captured = v_hold.amount then
    v_hold.status := 'captured';
  end if;
  update public.credit_holds h
  set captured = v_hold.captured, status = v_hold.status, updated_at = v_now
  where h.id = v_hold.id;

  v_payer := v_user;
  if not v_late then
    v_user.credits_held := v_user.credits_held - v_amount;
    v_payer.credits_suspended := false;
    -- Else holding and capturing would be a way to spend the very credits that are suspended.
    if v_hold.while_suspended then
      v_lots := purser.take_up_to(v_user, v_amount, v_now);
    end if;
  end if;
  v_lots := v_lots || purser.take_from_lots(v_payer, v_amount - purser.lots_total(v_lots), v_now);
  v_entry := purser.append_entry(
    v_user, 'usage', -v_amount, v_key, v_now, v_lots,
    coalesce(p_description, v_hold.description),
    coalesce(p_metadata, v_hold.metadata) || jsonb_build_object(
      'hold_id', p_hold_id,
      'hold', purser.hold_state(v_hold) - 'hold_id' - 'user_id'));
  v_user := purser.expire_due(purser.after_entry(v_user, v_entry), v_now);
  return purser.capture_answer('applied', v_hold, v_entry, v_user);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- release_hold: gives back what an open hold still reserves; what was captured stays captured.
--   p_hold_id  h_<n>
-- Answers as hold_credits, with the account as it stands now, and the outcomes
--   applied | unchanged (it had ended before, however) | not_found (with user_id: account closed)
-- Repeatable without a key. Credits that expired meanwhile and were kept for the hold go at once.
-- Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.release_hold(p_hold_id text, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_hold public.credit_holds;
  v_user purser.accounts;
  v_now timestamptz;
begin
  v_hold := purser.find_hold(p_hold_id);
  if v_hold.id is null then
    return jsonb_build_object('outcome', 'not_found', 'hold_id', p_hold_id);
  end if;
  v_user := purser.lock_user(v_hold.user_id);
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found', 'hold_id', p_hold_id, 'user_id', v_hold.user_id);
  end if;
  v_now := coalesce(p_now, clock_timestamp());
  v_user := purser.expire_due(v_user, v_now);
  v_hold := purser.find_hold(p_hold_id);

  if v_hold.status <> 'open' then
    return purser.hold_answer('unchanged', v_hold, v_user);
  end if;
  v_hold.status := 'released';
  update public.credit_holds h set status = 'released', updated_at = v_now where h.id = v_hold.id;
  v_user := purser.set_held(v_user, v_user.credits_held - (v_hold.amount - v_hold.captured));
  v_user := purser.expire_due(v_user, v_now);
  return purser.hold_answer('applied', v_hold, v_user);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- extend_hold: lets an open hold last longer.
--   p_hold_id             h_<n>
--   p_expires_in_seconds  1 to 2592000 (30 days), counted from now by the database clock
-- Answers as hold_credits, with the account as it stands now, and the outcomes
--   applied | unchanged (it lasts that long already: a hold is never shortened)
--   | hold_ended | not_found (with user_id: account closed)
-- The version rises, because copies in Redis run out when the hold does.
-- Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.extend_hold(
  p_hold_id text, p_expires_in_seconds integer, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_hold public.credit_holds;
  v_user purser.accounts;
  v_now timestamptz;
  v_expires_at timestamptz;
begin
  perform purser.check_hold_seconds(p_expires_in_seconds);

  v_hold := purser.find_hold(p_hold_id);
  if v_hold.id is null then
    return jsonb_build_object('outcome', 'not_found', 'hold_id', p_hold_id);
  end if;
  v_user := purser.lock_user(v_hold.user_id);
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found', 'hold_id', p_hold_id, 'user_id', v_hold.user_id);
  end if;
  v_now := coalesce(p_now, clock_timestamp());
  v_user := purser.expire_due(v_user, v_now);
  v_hold := purser.find_hold(p_hold_id);

  if v_hold.status <> 'open' then
    return purser.hold_answer('hold_ended', v_hold, v_user);
  end if;
  v_expires_at := v_now + make_interval(secs => p_expires_in_seconds);
  if v_expires_at <= v_hold.expires_at then
    return purser.hold_answer('unchanged', v_hold, v_user);
  end if;
  v_hold.expires_at := v_expires_at;
  update public.credit_holds h set expires_at = v_expires_at, updated_at = v_now where h.id = v_hold.id;
  v_user := purser.set_held(v_user, v_user.credits_held);
  return purser.hold_answer('applied', v_hold, v_user);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_hold: a hold as it stands, ended or not.
--   p_hold_id  h_<n>
-- Answers {outcome: found | not_found, hold_id, user_id, status, amount, captured, released,
--   remaining, expires_at, description, metadata, created_at, mirror}; of a closed account too,
-- as it was left (mirror is null).
-- Writes only when the hold's time has come. Locks: the user row, then only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_hold(p_hold_id text, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_hold public.credit_holds := purser.find_hold(p_hold_id);
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_user purser.accounts;
begin
  if v_hold.id is null then
    return jsonb_build_object('outcome', 'not_found', 'hold_id', p_hold_id);
  end if;
  if v_hold.status = 'open' and v_hold.expires_at <= v_now then
    v_user := purser.lock_user(v_hold.user_id);
    if v_user.id is not null then
      v_user := purser.expire_due(v_user, v_now);
      v_hold := purser.find_hold(p_hold_id);
    end if;
  end if;
  return purser.hold_details(v_hold) || jsonb_build_object('outcome', 'found',
    'mirror', case when v_user.id is not null then purser.mirror_record(v_user) end);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- list_open_holds: a page of a user's open holds, oldest first.
--   p_limit  1 to 100
--   p_after  h_<n> of the last hold of the page before; null begins
-- Answers {outcome: found | not_found, data: [as get_hold], has_more, next_after (h_<n>), mirror}.
-- Writes only when lots or holds are due. Locks: the user row, then only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_open_holds(
  p_user_id text, p_limit integer default 50, p_after text default null,
  p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_limit integer := least(greatest(coalesce(p_limit, 50), 1), 100);
  v_user purser.accounts;
  v_holds public.credit_holds[];
  v_last public.credit_holds;
begin
  if p_after !~ '^h_[1-9][0-9]{0,15}$' then
    perform purser.raise_error(400, 'invalid_request', 'The cursor of a list of holds is the hold_id of the last one.');
  end if;
  select * into v_user from purser.accounts a where a.id = purser.to_user_id(p_user_id);
  if purser.next_change(v_user) <= v_now then
    v_user := purser.lock_user(p_user_id);
    if v_user.id is not null then
      v_user := purser.expire_due(v_user, v_now);
    end if;
  end if;
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  v_holds := array(
    select h from public.credit_holds h
    where h.user_id = v_user.user_id and h.status = 'open' and h.id > coalesce(substr(p_after, 3)::bigint, 0)
    order by h.id limit v_limit + 1);
  v_last := v_holds[v_limit];
  return jsonb_build_object('outcome', 'found',
    'data', coalesce((
      select jsonb_agg(purser.hold_details(h) order by h.id) from unnest(v_holds[:v_limit]) h), '[]'),
    'has_more', cardinality(v_holds) > v_limit,
    'next_after', case when cardinality(v_holds) > v_limit then 'h_' || v_last.id end,
    'mirror', purser.mirror_record(v_user));
end
$$;

-- What get_hold and list_open_holds show of a hold.
create or replace function purser.hold_details(p_hold public.credit_holds)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return purser.hold_state(p_hold) || jsonb_build_object(
    'description', p_hold.description,
    'metadata', p_hold.metadata,
    'created_at', purser.iso(p_hold.created_at));
end
$$;

call purser.restrict_functions();
reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
