-- Purser: Stripe customers and checkout sessions: whose they are, what was ordered, how they ended.
--
-- Paste after credit_transactions_migration.sql, or run `npm run migrate`. Safe to run again.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['stripe_customers', 'checkout_sessions'], array[
  'record_earlier_purchase', 'link_stripe_customer', 'find_user_by_customer', 'record_checkout_session',
  'get_checkout_session']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.stripe_customers (
  customer_id text primary key,
  user_id text not null,
  created_at timestamptz not null default clock_timestamp()
);
create index if not exists stripe_customers_user on public.stripe_customers (user_id);
comment on table public.stripe_customers is 'Which user a Stripe customer is. A user may have several customers, a customer one user.';

create table if not exists public.checkout_sessions (
  session_id text primary key,
  user_id text not null,
  customer_id text,
  mode text not null check (mode in ('payment', 'subscription')),
  catalogue_id text not null,
  price_id text not null,
  quantity integer not null check (quantity between 1 and 10000),
  credits bigint not null,
  state text not null default 'open' check (state in ('open', 'complete', 'credited', 'expired', 'failed')),
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  updated_at timestamptz not null default clock_timestamp()
);
create index if not exists checkout_sessions_user on public.checkout_sessions (user_id, created_at);
create index if not exists checkout_sessions_open on public.checkout_sessions (expires_at) where state = 'open';
comment on table public.checkout_sessions is 'Checkout sessions Purser created. credits is what was offered; what was granted is in credit_transactions.';
comment on column public.checkout_sessions.state is 'open -> complete (paid or waiting for a delayed payment) -> credited | failed; open -> expired.';

-- A customer belongs to the first user it was linked to; a claim by another is a finding.
create or replace function purser.link_customer(p_customer_id text, p_user_id text)
returns boolean language plpgsql set search_path = '' as $$
declare
  v_owner text;
begin
  insert into public.stripe_customers (customer_id, user_id) values (p_customer_id, p_user_id)
  on conflict (customer_id) do nothing;
  select c.user_id into v_owner from public.stripe_customers c where c.customer_id = p_customer_id;
  if v_owner <> p_user_id then
    perform purser.record_finding('customer_conflict', p_customer_id, p_user_id,
      jsonb_build_object('linked_to', v_owner, 'claimed_by', p_user_id));
    return false;
  end if;
  return true;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- link_stripe_customer: remembers that p_customer_id is this user; it becomes the user's own
-- customer when there is none yet. Answers {outcome: linked | exists | conflict | not_found,
-- customer_id}: the customer to use, so that two callers at once agree on one.
-- Idempotent. Locks: the user row.
-- ---------------------------------------------------------------------------------------------
create or replace function public.link_stripe_customer(p_user_id text, p_customer_id text)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
begin
  v_user := purser.lock_user(p_user_id);
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  if not purser.link_customer(p_customer_id, v_user.user_id) then
    return jsonb_build_object('outcome', 'conflict', 'customer_id', v_user.stripe_customer_id);
  end if;
  if v_user.stripe_customer_id is not null then
    return jsonb_build_object('outcome', 'exists', 'customer_id', v_user.stripe_customer_id);
  end if;
  update public.users u set stripe_customer_id = p_customer_id where u.id = v_user.id;
  return jsonb_build_object('outcome', 'linked', 'customer_id', p_customer_id);
end
$$;

-- The user of a customer id: from the map, else from the users table. Reads only.
create or replace function public.find_user_by_customer(p_customer_id text)
returns jsonb language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('user_id', (
    select c.user_id from public.stripe_customers c where c.customer_id = p_customer_id));
$$;

-- Feeds the map from users.stripe_customer_id, however it was written. Never raises: an app's
-- own insert must not fail because of it.
create or replace function purser.remember_customer()
returns trigger language plpgsql security definer set search_path = '' as $$
begin
  if new.stripe_customer_id <> '' then
    perform purser.link_customer(new.stripe_customer_id, new.id::text);
  end if;
  return new;
exception when others then
  raise warning 'purser: customer % of user % was not remembered: %', new.stripe_customer_id, new.id, sqlerrm;
  return new;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- record_checkout_session: remembers a session Purser created at Stripe. Repeating it changes
-- nothing. Answers {outcome: recorded | exists}.
-- ---------------------------------------------------------------------------------------------
create or replace function public.record_checkout_session(
  p_session_id text, p_user_id text, p_customer_id text, p_mode text, p_catalogue_id text,
  p_price_id text, p_quantity integer, p_credits bigint, p_expires_at timestamptz)
returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  insert into public.checkout_sessions (
    session_id, user_id, customer_id, mode, catalogue_id, price_id, quantity, credits, expires_at)
  values (p_session_id, purser.user_key(p_user_id), p_customer_id, p_mode, p_catalogue_id, p_price_id, p_quantity, p_credits, p_expires_at)
  on conflict (session_id) do nothing;
  return jsonb_build_object('outcome', case when found then 'recorded' else 'exists' end);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- get_checkout_session: what is known of a session, with the entry that it paid for. `entry` is
-- read from the ledger, the only proof of a credit. Answers {outcome: found | not_found, session,
-- entry: {user_id, amount, transaction_id}}; an entry is found also for sessions Purser did not
-- create. Reads only.
-- ---------------------------------------------------------------------------------------------
create or replace function public.get_checkout_session(p_session_id text)
returns jsonb language sql stable security definer set search_path = '' as $$
  with session as (select * from public.checkout_sessions s where s.session_id = p_session_id),
  entry as (
    select t.user_id, t.amount, t.id from public.credit_sources s
    join public.credit_transactions t on t.user_id = s.user_id and t.entry_number = s.entry_number
    where s.source_key = 'checkout:' || p_session_id)
  select jsonb_build_object(
    'outcome', case when exists (select from session) or exists (select from entry) then 'found' else 'not_found' end,
    'session', (select jsonb_build_object(
      'session_id', s.session_id, 'user_id', s.user_id, 'customer_id', s.customer_id, 'mode', s.mode,
      'catalogue_id', s.catalogue_id, 'price_id', s.price_id, 'quantity', s.quantity,
      'credits', s.credits, 'state', s.state, 'expires_at', purser.iso(s.expires_at)) from session s),
    'entry', (select jsonb_build_object('user_id', e.user_id, 'amount', e.amount, 'transaction_id', e.id::text) from entry e));
$$;

-- ---------------------------------------------------------------------------------------------
-- record_earlier_purchase: what another handler has credited before Purser came, and the opening
-- balance therefore holds. From then on Purser knows the object: its events are replayed and never
-- credited again, and a refund takes back its own credits. The balance stays as it is: a purchase
-- and an adjustment that takes the same amount away, in one transaction. Where Purser has credited
-- the object meanwhile, the adjustment takes that second credit back, into debt if it was spent.
--   p_object   the checkout session (cs_...) or invoice (in_...) it was credited for
--   p_credits  as many as were credited then
--   p_at       when that was (default: now)
--   p_payment  the payment (pi_...), if known; otherwise it is learned from the object's next event
--   p_paid, p_returned  what was paid with it, and what of that was refunded or disputed and whose
--              credits the other handler has taken back; in the smallest unit of the currency. Without
--              it the next news of the payment would take them a second time.
-- Answers {outcome: applied | replayed | conflict | not_found, user_id, object}. conflict: the object
-- has paid for an entry of another user; nothing was written.
-- Idempotent. Locks: the user row, then the payment.
-- ---------------------------------------------------------------------------------------------
create or replace function public.record_earlier_purchase(
  p_user_id text, p_object text, p_credits bigint, p_at timestamptz default null, p_payment text default null,
  p_paid bigint default null, p_returned bigint default 0)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_key text;
  v_grant jsonb;
  v_credits bigint;
  v_reason text := format('%s is in the opening balance already', p_object);
  v_returned bigint := coalesce(p_returned, 0);
  v_taken jsonb;
  v_payment public.payments;
begin
  if p_object is null or p_object !~ '^(cs|in)_\w{1,200}$' then
    perform purser.raise_error(400, 'invalid_request', format(
      '%s is neither a checkout session (cs_...) nor an invoice (in_...).', coalesce(p_object, 'null')));
  end if;
  if p_payment is not null and p_payment !~ '^(pi|ch|py)_\w{1,200}$' then
    perform purser.raise_error(400, 'invalid_request', format('%s is not a payment (pi_...).', p_payment));
  end if;
  if v_returned <> 0 and (p_payment is null or p_paid is null or v_returned not between 1 and p_paid) then
    perform purser.raise_error(400, 'invalid_request',
      'What was returned needs the payment and what was paid, and is at most that.');
  end if;
  v_key := case when starts_with(p_object, 'cs_') then 'checkout:' else 'invoice:' end || p_object;
  v_grant := public.grant_credits(
    p_user_id, 'purchase', v_key, jsonb_build_array(jsonb_build_object('credits', p_credits)),
    to_jsonb(array_remove(array[v_key, 'payment:' || p_payment], null)),
    p_description => 'Credited before Purser', p_metadata => '{"before_purser": true}', p_event_at => p_at,
    p_stripe_session_id => case when starts_with(p_object, 'cs_') then p_object end,
    p_stripe_payment_intent_id => case when starts_with(p_payment, 'pi_') then p_payment end,
    p_stripe_invoice_id => case when starts_with(p_object, 'in_') then p_object end);
  if v_grant ->> 'outcome' not in ('applied', 'replayed') then
    return jsonb_build_object('outcome', v_grant ->> 'outcome', 'user_id', p_user_id, 'object', p_object);
  end if;

  -- What was granted, also where Purser's own price differs from what the old row says.
  v_credits := (v_grant ->> 'amount')::bigint;
  v_taken := public.adjust_credits(
    p_user_id, -v_credits, 'before-purser:' || p_object, v_reason, 'migration', p_allow_debt => true);
  if v_returned > 0 and div(v_credits::numeric * v_returned, p_paid) > 0 then
    -- The payment's state takes these credits, as the other handler did; once is enough.
    perform public.adjust_credits(
      p_user_id, div(v_credits::numeric * v_returned, p_paid)::bigint, 'before-purser-returned:' || p_object,
      v_reason, 'migration');
    select * into v_payment from public.payments p where p.payment = p_payment;
    if v_payment.refunded + v_payment.disputed < v_returned then
      perform public.set_payment_state(
        p_payment, v_payment.version, greatest(v_payment.paid, p_paid), v_returned - v_payment.disputed, v_payment.disputed);
    end if;
  end if;
  return jsonb_build_object('outcome', v_taken ->> 'outcome', 'user_id', p_user_id, 'object', p_object);
end
$$;

-- Moves the state of a session forward; a late message never moves it back. Inside effects only.
create or replace function purser.set_checkout_state(p_session_id text, p_state text)
returns void language sql set search_path = '' as $$
  update public.checkout_sessions s
  set state = p_state, updated_at = clock_timestamp()
  where s.session_id = p_session_id and s.state <> p_state
    and case p_state
      when 'credited' then true
      when 'failed' then s.state in ('open', 'complete')
      when 'complete' then s.state in ('open', 'expired')
      when 'expired' then s.state = 'open'
      else false end;
$$;

call purser.restrict_functions();
reset role;

drop trigger if exists purser_remember_customer on public.users;
create trigger purser_remember_customer after insert or update of stripe_customer_id on public.users
  for each row execute function purser.remember_customer();
alter table public.users enable always trigger purser_remember_customer;

alter table public.stripe_customers enable row level security;
alter table public.checkout_sessions enable row level security;
drop policy if exists stripe_customers_select_own on public.stripe_customers;
create policy stripe_customers_select_own on public.stripe_customers for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));
drop policy if exists checkout_sessions_select_own on public.checkout_sessions;
create policy checkout_sessions_select_own on public.checkout_sessions for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));

set role purser_ledger;
revoke all on public.stripe_customers, public.checkout_sessions from public, anon, authenticated, service_role;
grant select on public.stripe_customers, public.checkout_sessions to authenticated, service_role;
-- Customers of users who were there before the map. One that two users share belongs to the first
-- and is a finding for each other.
do $$
begin
  perform purser.link_customer(u.stripe_customer_id::text, u.id::text)
  from public.users u
  where u.stripe_customer_id <> '' and not exists (
    select from public.stripe_customers c where c.customer_id = u.stripe_customer_id)
  order by u.id;
end
$$;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
