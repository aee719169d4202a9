-- Purser: spending, one operation or a batch of them.
--
-- Paste after credit_transactions_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- The rule is purser.spend: key, then what is available, then lots in burn-down order. Both public
-- functions have a shorter way for the spends that are nearly all of them, with the same outcome;
-- tests/model compares the two ways with a model that has only the rule.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array['consume_credits', 'consume_credits_batch']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- ---------------------------------------------------------------------------------------------
-- consume_credits: spends p_amount credits, once per key.
--   p_key  the caller's idempotency key; permanent, unique per user
-- Answers {outcome: applied | replayed | conflict | insufficient_credits | suspended | not_found,
--   transaction_id, amount, balance, held, available, version, lots, created_at, mirror}; a replay
-- repeats the first answer. Only `applied` binds the key: a refusal writes nothing and is judged
-- again. suspended: it would have passed without the suspension.
-- Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.consume_credits(
  p_user_id text, p_amount bigint, p_key text,
  p_description text default null, p_metadata jsonb default '{}',
  p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_row record;
  v_user purser.accounts;
  v_now timestamptz;
  v_lot record;
  v_lots jsonb;
  v_entry_id bigint;
  v_spent record;
begin
  if (p_amount between 1 and 9007199254740991 and octet_length(p_key) between 1 and 255) is not true then
    perform purser.check_amount(p_amount);
    perform purser.check_key(p_key);
  end if;

  select u.id, u.id::text as user_id, u.credits_suspended or u.credits_held > 0 as special,
         u.credits_balance - p_amount as balance, u.credits_version + 1 as version,
         u.entry_count + 1 as entry_number
  into v_row from public.users u where u.id = purser.to_user_id(p_user_id) for no key update;
  if v_row.id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  v_now := coalesce(p_now, clock_timestamp());

  -- Nearly every spend: no holds, nothing due, and the first lot holds more than is spent. The
  -- same as purser.spend in fewer steps, since each step of PL/pgSQL costs as much as a look-up.
  if v_row.balance >= 0 and not v_row.special then
    select b.id, b.remaining, (
        -- Naming `remaining` keeps this from being an index-only scan, which costs more to set up.
        select g.expires_at from public.credit_grants g
        where g.user_id = v_row.user_id and g.exhausted_at is null and g.expires_at is not null and g.remaining > 0
        order by g.expires_at limit 1) as next_expiry
    into v_lot from purser.burn_down b where b.user_id = v_row.user_id limit 1;
    if v_lot.remaining > p_amount and (v_lot.next_expiry > v_now) is not false then
      v_lots := jsonb_build_array(jsonb_build_object('grant_id', v_lot.id::text, 'amount', p_amount));
      insert into public.credit_transactions (
        user_id, entry_number, transaction_type, amount, balance_after, held_after, available_after,
        version, idempotency_key, description, lots, metadata, event_at, created_at)
      values (
        v_row.user_id, v_row.entry_number, 'usage', -p_amount, v_row.balance, 0, v_row.balance,
        v_row.version, 'consume:' || p_key, p_description, v_lots, coalesce(p_metadata, '{}'), v_now, v_now)
      on conflict on constraint credit_transactions_key do nothing
      returning id into v_entry_id;
      if v_entry_id is not null then
        update public.credit_grants g set remaining = g.remaining - p_amount where g.id = v_lot.id;
        update public.users u
        set credits_balance = v_row.balance, credits_version = v_row.version, entry_count = v_row.entry_number
        where u.id = v_row.id;
        return jsonb_build_object(
          'outcome', 'applied',
          'transaction_id', v_entry_id::text,
          'user_id', v_row.user_id,
          'amount', p_amount,
          'balance', v_row.balance,
          'held', 0,
          'available', v_row.balance,
          'version', v_row.version,
          'lots', v_lots,
          'created_at', to_char(v_now at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
          'mirror', jsonb_build_object(
            'ledger', purser.ledger_id(),
            'version', v_row.version,
            'balance', v_row.balance,
            'held', 0,
            'available', v_row.balance,
            'suspended', false,
            'valid_until', floor(extract(epoch from v_lot.next_expiry) * 1000)::bigint));
      end if;
    end if;
  end if;

  v_user := purser.expire_due(purser.lock_user(p_user_id), v_now);
  v_spent := purser.spend(v_user, p_amount, p_key, p_description, p_metadata, v_now);
  return v_spent.o_answer || jsonb_build_object('mirror', purser.mirror_record(v_spent.o_user));
end
$$;

-- One spend of a locked user of whom nothing is due: what consume_credits and its batch share.
-- Gives the row after it, and the answer without the mirror record.
create or replace function purser.spend(
  p_user purser.accounts, p_amount bigint, p_key text, p_description text, p_metadata jsonb,
  p_now timestamptz, out o_user purser.accounts, out o_answer jsonb)
language plpgsql set search_path = '' as $$
declare
  v_entry public.credit_transactions;
begin
  o_user := p_user;
  v_entry := purser.find_entry(p_user.user_id, 'consume:' || p_key);
  if v_entry.id is not null then
    o_answer := purser.entry_answer(
      case when v_entry.amount = -p_amount then 'replayed' else 'conflict' end, v_entry);
    return;
  end if;

  if purser.available(p_user) < p_amount then
    o_answer := purser.balance_answer(
      case when p_user.credits_balance - p_user.credits_held >= p_amount then 'suspended' else 'insufficient_credits' end,
      p_user);
    return;
  end if;

  v_entry := purser.append_entry(
    p_user, 'usage', -p_amount, 'consume:' || p_key, p_now,
    purser.take_from_lots(p_user, p_amount, p_now), p_description, p_metadata);
  o_user := purser.expire_due(purser.after_entry(p_user, v_entry), p_now);
  o_answer := purser.entry_answer('applied', v_entry);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- consume_credits_batch: many spends in one transaction, each judged by itself.
--   p_operations  1 to 500 of {user_id, amount, idempotency_key[, description, metadata]}, of any
--                 users; those of one user are judged in the order given, each sees the ones before
--   p_wait        true = waits up to 5 s for users that others have locked. Ask it in a call of
--                 their own: who else is in the call waits with them.
-- Answers {results: [{index, idempotency_key, outcome, ...}], mirrors: [{user_id, ...mirror}]}.
-- results are in the order of the operations, index counts from 0, and each is what
-- consume_credits answers, without its mirror; outcome may also be `busy`: the user is locked by
-- another transaction, nothing was written, send it again with the same key. mirrors has one
-- record of each user that was found and locked, as it stands after all operations.
-- An operation that is no operation breaks the whole call (PT400, naming its index).
-- Locks: the user rows, in the order of their ids.
-- ---------------------------------------------------------------------------------------------
create or replace function public.consume_credits_batch(
  p_operations jsonb, p_wait boolean default false, p_now timestamptz default null)
returns json language plpgsql security definer set search_path = '' set lock_timeout = '5s'
-- Every look-up here is by key; a plan made while the tables were small must not outlive that.
set enable_seqscan = off as $$
declare
  v_ids regclass := pg_catalog.pg_get_serial_sequence('public.credit_transactions', 'id');
  v_ledger uuid := purser.ledger_id();
  v_now timestamptz;
  v_created_at text;
  v_users purser.accounts[];
  v_plain text[];
  v_places integer[];
  v_answers json[];
  v_mirrors json[];
  v_user purser.accounts;
  v_operation record;
  v_spent record;
begin
  perform purser.check_operations(p_operations);

  if p_wait then
    begin
      perform from purser.accounts a
      where a.id in (select purser.to_user_id(o.value ->> 'user_id') from jsonb_array_elements(p_operations) o)
      order by a.id for no key update;
    exception
      -- Waited long enough: who is free now is served, the others are busy.
      when lock_not_available then null;
    end;
  end if;
  v_users := array(
    select a from purser.accounts a
    where a.id in (select purser.to_user_id(o.value ->> 'user_id') from jsonb_array_elements(p_operations) o)
    order by a.id for no key update skip locked);
  v_now := coalesce(p_now, clock_timestamp());
  v_created_at := purser.iso(v_now);

  -- Nearly all users, in one statement: no key is known, no holds, nothing due, and the first lot
  -- holds more than all their operations spend, so that each of them passes.
  -- Conditions stand in `case` so that the planner does not take a handful of rows for one, and
  -- ids are drawn beforehand so that entries need not be joined back: both were quadratic.
  with operation as materialized (
    select o.*, (k.user_id, k.idempotency_key) = (o.user_id, 'consume:' || o.key) as known,
           row_number() over user_order as turn, sum(o.amount) over user_order as spent
    from purser.operations(p_operations) o
    -- The first key from this one on: see purser.find_entry. The limits here and below keep these
    -- from becoming joins with whole tables.
    left join lateral (
      select t.user_id, t.idempotency_key from public.credit_transactions t
      where (t.user_id, t.idempotency_key) >= (o.user_id, 'consume:' || o.key)
      order by t.user_id, t.idempotency_key limit 1) k on true
    window user_order as (partition by o.user_id order by o.place)),
  total as materialized (
    select o.user_id, max(o.spent) as spent, count(*) as operations,
           bool_or(o.known) is not true and count(distinct o.key) = count(*) as new
    from operation o group by o.user_id),
  plain as materialized (
    select u.id, u.user_id, u.credits_balance as balance, u.credits_version as version, u.entry_count,
           t.spent, t.operations, l.id as grant_id, n.expires_at as next_expiry
    from total t
    join unnest(v_users) u on u.user_id = t.user_id
    cross join lateral (
      select b.id, b.remaining from purser.burn_down b where b.user_id = u.user_id limit 1) l
    left join lateral (
      select g.expires_at from public.credit_grants g
      where g.user_id = u.user_id and g.exhausted_at is null and g.expires_at is not null
      order by g.expires_at limit 1) n on true
    where case when t.new and not u.credits_suspended and u.credits_held = 0
      and u.credits_balance >= t.spent and l.remaining > t.spent
      and (n.expires_at > v_now) is not false then true end),
  spend as materialized (
    select nextval(v_ids) as id, o.place, o.key, p.user_id, p.entry_count + o.turn as entry_number, o.amount,
           p.balance - o.spent as balance, p.version + o.turn as version, o.description, o.metadata,
           jsonb_build_array(jsonb_build_object('grant_id', p.grant_id::text, 'amount', o.amount)) as lots
    from plain p join operation o on o.user_id = p.user_id),
  entry as (
    insert into public.credit_transactions (
      id, user_id, entry_number, transaction_type, amount, balance_after, held_after, available_after,
      version, idempotency_key, description, lots, metadata, event_at, created_at)
    overriding system value
    select s.id, s.user_id, s.entry_number, 'usage', -s.amount, s.balance, 0, s.balance,
           s.version, 'consume:' || s.key, s.description, s.lots, s.metadata, v_now, v_now
    from spend s),
  lot as (
    update public.credit_grants g set remaining = g.remaining - p.spent from plain p where g.id = p.grant_id),
  account as (
    update public.users u
    set credits_balance = p.balance - p.spent, credits_version = p.version + p.operations,
        entry_count = p.entry_count + p.operations
    from plain p where u.id = p.id)
  select coalesce(array_agg(s.place), '{}'), coalesce(array_agg(json_build_object(
           'outcome', 'applied',
           'transaction_id', s.id::text,
           'user_id', s.user_id,
           'amount', s.amount,
           'balance', s.balance,
           'held', 0,
           'available', s.balance,
           'version', s.version,
           'lots', s.lots,
           'created_at', v_created_at,
           'index', s.place - 1,
           'idempotency_key', s.key)), '{}'),
         array(select p.user_id from plain p),
         array(select json_build_object(
           'user_id', p.user_id,
           'ledger', v_ledger,
           'version', p.version + p.operations,
           'balance', p.balance - p.spent,
           'held', 0,
           'available', p.balance - p.spent,
           'suspended', false,
           'valid_until', floor(extract(epoch from p.next_expiry) * 1000)::bigint) from plain p)
  into v_places, v_answers, v_plain, v_mirrors
  from spend s;

  -- The other users, one operation after the other.
  for v_operation in
    select o.*, u as account from purser.operations(p_operations) o
    join unnest(v_users) u on u.user_id = o.user_id
    where o.user_id <> all (v_plain)
    order by o.user_id, o.place
  loop
    if v_user.user_id is distinct from v_operation.user_id then
      if v_user.user_id is not null then
        v_mirrors := v_mirrors || (purser.mirror_record(v_user) || jsonb_build_object('user_id', v_user.user_id))::json;
      end if;
      v_user := purser.expire_due(v_operation.account, v_now);
    end if;
    v_spent := purser.spend(v_user, v_operation.amount, v_operation.key, v_operation.description,
      v_operation.metadata, v_now);
    v_user := v_spent.o_user;
    v_places := v_places || v_operation.place;
    v_answers := v_answers || (v_spent.o_answer || jsonb_build_object(
      'index', v_operation.place - 1, 'idempotency_key', v_operation.key))::json;
  end loop;
  if v_user.user_id is not null then
    v_mirrors := v_mirrors || (purser.mirror_record(v_user) || jsonb_build_object('user_id', v_user.user_id))::json;
  end if;

  return json_build_object('results', (
    select json_agg(r.answer order by r.place) from (
      select a.place, a.answer from unnest(v_places, v_answers) a(place, answer)
      union all
      -- Who was not locked: nobody, or somebody whom another transaction has locked.
      select o.place, json_build_object(
        'outcome', case when exists (
          select from public.users u where u.id = purser.to_user_id(o.user_id)) then 'busy' else 'not_found' end,
        'user_id', o.given_id, 'index', o.place - 1, 'idempotency_key', o.key)
      from purser.operations(p_operations) o
      where cardinality(v_places) < jsonb_array_length(p_operations) and o.place <> all (v_places)) r),
    'mirrors', array_to_json(v_mirrors));
end
$$;

-- The operations of a batch as rows; user_id in the spelling of the books, given_id as it came.
create or replace function purser.operations(p_operations jsonb)
returns table (place integer, given_id text, user_id text, amount bigint, key text, description text, metadata jsonb)
language plpgsql stable rows 500 set search_path = '' as $$
begin
  return query
    select o.ordinality::integer, o.value ->> 'user_id',
           coalesce(purser.to_user_id(o.value ->> 'user_id')::text, o.value ->> 'user_id'),
           (o.value ->> 'amount')::numeric::bigint, o.value ->> 'idempotency_key', o.value ->> 'description',
           coalesce(nullif(o.value -> 'metadata', 'null'), '{}')
    from jsonb_array_elements(p_operations) with ordinality o;
end
$$;

-- Raises invalid_request unless these are operations of consume_credits_batch.
create or replace function purser.check_operations(p_operations jsonb)
returns void language plpgsql immutable set search_path = '' as $$
declare
  v_index bigint;
begin
  if jsonb_typeof(p_operations) is distinct from 'array' or jsonb_array_length(p_operations) not between 1 and 500 then
    perform purser.raise_error(400, 'invalid_request', 'operations must be an array of 1 to 500 operations.');
  end if;
  -- `case` so that an amount is read as a number only where it is one.
  select min(o.ordinality) - 1 into v_index
  from jsonb_array_elements(p_operations) with ordinality o
  where case when jsonb_typeof(o.value) = 'object'
               and jsonb_typeof(o.value -> 'user_id') = 'string'
               and jsonb_typeof(o.value -> 'amount') = 'number'
               and jsonb_typeof(o.value -> 'idempotency_key') = 'string'
               and coalesce(jsonb_typeof(o.value -> 'description'), 'null') in ('string', 'null')
               and coalesce(jsonb_typeof(o.value -> 'metadata'), 'null') in ('object', 'null')
    then octet_length(o.value ->> 'idempotency_key') not between 1 and 255
      or (o.value ->> 'amount')::numeric not between 1 and 9007199254740991
      or (o.value ->> 'amount')::numeric % 1 <> 0
    else true end;
  if v_index is not null then
    perform purser.raise_error(400, 'invalid_request', format(
      'operations[%s] must be {user_id, amount, idempotency_key[, description, metadata]}: ids and keys are strings, the key of 1 to 255 bytes, amount is a whole number of credits from 1 to 9007199254740991.',
      v_index));
  end if;
end
$$;

call purser.restrict_functions();
reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
