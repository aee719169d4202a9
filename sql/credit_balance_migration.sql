-- Purser: a user's balance as it stands, and his history page by page.
--
-- Paste after credit_transactions_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- The balance as of another instant, explanations and statements: credit_explain_migration.sql.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array['get_credit_balance', 'list_credit_transactions']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- ---------------------------------------------------------------------------------------------
-- get_credit_balance: a user's balance as it stands, from one snapshot.
-- Answers {outcome: found | not_found, user_id, balance, held, available, debt, version, plan,
--   expiring: [{grant_id, credits, expires_at}] (the next 20), as_of, mirror}.
-- Writes only when lots or holds are due, so that no answer holds credits that the next spending
-- call would take. Locks: the user row, then only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_credit_balance(p_user_id text, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_answer jsonb;
begin
  if exists (
    select from purser.accounts a where a.id = purser.to_user_id(p_user_id) and purser.next_change(a) <= v_now)
  then
    perform purser.expire_due(purser.lock_user(p_user_id), v_now);
  end if;
  select jsonb_build_object(
    'outcome', 'found',
    'user_id', a.user_id,
    'balance', a.credits_balance,
    'held', a.credits_held,
    'available', purser.available(a),
    'debt', a.credits_debt,
    'version', a.credits_version,
    'plan', a.plan,
    'expiring', coalesce((
      select jsonb_agg(jsonb_build_object('grant_id', e.id::text, 'credits', e.remaining, 'expires_at', purser.iso(e.expires_at))
                       order by e.expires_at, e.id)
      from (select g.id, g.remaining, g.expires_at from public.credit_grants g
            where g.user_id = a.user_id and g.exhausted_at is null and g.expires_at is not null
            order by g.expires_at, g.id limit 20) e), '[]'),
    'as_of', purser.iso(v_now),
    'mirror', purser.mirror_record(a))
  into v_answer
  from purser.accounts a where a.id = purser.to_user_id(p_user_id);
  return coalesce(v_answer, jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id));
end
$$;

-- An entry as histories and statements show it. reverses: the entry it takes back, by number and id.
create or replace function purser.entry_record(p_entry public.credit_transactions)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'id', p_entry.id::text, 'entry_number', p_entry.entry_number, 'transaction_type', p_entry.transaction_type,
    'amount', p_entry.amount, 'balance_after', p_entry.balance_after, 'description', p_entry.description,
    'idempotency_key', p_entry.idempotency_key, 'reverses', p_entry.reverses,
    'reverses_transaction_id', case when p_entry.reverses is not null then (
      select t.id::text from public.credit_transactions t
      where t.user_id = p_entry.user_id and t.entry_number = p_entry.reverses) end,
    'stripe_session_id', p_entry.stripe_session_id,
    'stripe_payment_intent_id', p_entry.stripe_payment_intent_id, 'stripe_invoice_id', p_entry.stripe_invoice_id,
    'metadata', p_entry.metadata, 'event_at', purser.iso(p_entry.event_at), 'created_at', purser.iso(p_entry.created_at));
end
$$;

-- ---------------------------------------------------------------------------------------------
-- list_credit_transactions: a page of a user's entries, newest first.
--   p_limit         1 to 100
--   p_before_entry  only entries with a lower entry_number (the cursor)
--   p_type, p_from (inclusive), p_to (exclusive)  filters
-- Answers {outcome: found | not_found, data, has_more, next_before_entry}. A closed account's
-- entries are found too. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.list_credit_transactions(
  p_user_id text, p_limit integer default 50, p_before_entry bigint default null,
  p_type text default null, p_from timestamptz default null, p_to timestamptz default null)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_user_id text := coalesce(
    (select u.id::text from public.users u where u.id = purser.to_user_id(p_user_id)),
    (select c.user_id from public.closed_accounts c where c.user_id = purser.user_key(p_user_id)));
  v_limit integer := least(greatest(coalesce(p_limit, 50), 1), 100);
  v_data jsonb;
  v_more boolean;
begin
  if v_user_id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  select coalesce(jsonb_agg(purser.entry_record(p.t) order by p.entry_number desc) filter (where p.place <= v_limit), '[]'),
    coalesce(bool_or(p.place > v_limit), false)
  into v_data, v_more
  from (
    select t, t.entry_number, row_number() over (order by t.entry_number desc) as place
    from public.credit_transactions t
    where t.user_id = v_user_id
      and (p_before_entry is null or t.entry_number < p_before_entry)
      and (p_type is null or t.transaction_type = p_type)
      and (p_from is null or t.created_at >= p_from)
      and (p_to is null or t.created_at < p_to)
    order by t.entry_number desc
    limit v_limit + 1) p;
  return jsonb_build_object('outcome', 'found', 'data', v_data, 'has_more', v_more,
    'next_before_entry', case when v_more then (v_data -> -1 ->> 'entry_number')::bigint end);
end
$$;

call purser.restrict_functions();
reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
