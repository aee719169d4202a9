-- Purser: users, the credit ledger and its lots, who may write them, and the steps of which every
-- money function is made.
--
-- Paste after existing_app_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- The rules of the ledger, whoever calls:
--   * credit_transactions is append-only, for every role; credits_balance is the sum of a user's
--     entries in every committed snapshot.
--   * Every money function locks the user row first, then takes what is due, then looks the key
--     up, then decides. Expected refusals are an `outcome` word; an exception is a broken contract
--     (SQLSTATE PTnnn, message = error code, detail = JSON).
--   * Amounts are whole credits within +-(2^53 - 1), so SQL, JSON, Lua and JavaScript agree.
--   * Only service_role executes functions; a user reads his own rows; anon reads nothing.
--
-- In files of their own, each named by what it does: credit_expiry, credit_mirror, credit_grants,
-- credit_spending, credit_balance, credit_holds, payments (claw-backs), credit_corrections,
-- credit_explain, credit_consistency, credit_seals.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

do $$
begin
  if not exists (
    select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'purser' and p.proname = 'begin_adoption')
  then
    raise exception 'foundation_migration.sql and existing_app_migration.sql come before this file'
      using errcode = 'object_not_in_prerequisite_state',
        hint = 'Paste them first, in the order of sql/README.md, or run npm run migrate. Nothing was changed.';
  end if;
end
$$;

grant purser_ledger to current_user;
call purser.make_room(
  array['credit_transactions', 'credit_sources', 'credit_grants', 'credit_holds', 'closed_accounts', 'audit_events', 'reconciliation_findings'],
  -- The latter two are of credit_consistency_migration.sql: apps that followed an older recipe have
  -- them, and are told at once.
  array['ensure_user', 'validate_credits_consistency', 'sync_user_credits']);
call purser.begin_adoption();
grant create on schema public to purser_ledger;

-- ---------------------------------------------------------------------------------------------
-- Users
-- ---------------------------------------------------------------------------------------------

do $$
begin
  if to_regclass('public.users') is null then
    create table public.users (
      id text primary key check (id <> '' and octet_length(id) <= 255),
      email text,
      created_at timestamptz not null default now()
    ) with (fillfactor = 80);
    comment on table public.users is 'Who owns credits. The credits_ columns are a projection of credit_transactions and change only through Purser''s functions.';
    alter table public.users enable row level security;
    create policy users_select_own on public.users for select to authenticated
      using (id = ((select auth.jwt()) ->> 'sub'));
    grant select on public.users to authenticated, service_role;
    grant insert (id, email), update (email), delete on public.users to service_role;
  end if;
end
$$;

alter table public.users
  add column if not exists email text,
  add column if not exists plan text not null default 'free',
  add column if not exists stripe_customer_id text,
  add column if not exists credits_balance bigint not null default 0,
  add column if not exists credits_held bigint not null default 0,
  add column if not exists credits_debt bigint not null default 0,
  add column if not exists credits_version bigint not null default 0,
  add column if not exists credits_suspended boolean not null default false,
  add column if not exists entry_count bigint not null default 0;

do $$
begin
  -- The guards of these tables judge each row, and Postgres reads the text of a CHECK anew for
  -- every statement: the ten there were cost a spend a quarter of its time.
  perform purser.drop_checks('public.users', array['users_credits_bounds']);
  if not exists (
    select from pg_policy
    where polrelid = 'public.users'::regclass and polname = 'users_purser_ledger'
  ) then
    create policy users_purser_ledger on public.users to purser_ledger using (true) with check (true);
  end if;
end
$$;

comment on column public.users.credits_balance is 'Credits: sum of the amounts of this user''s entries. May be negative (debt) only after a claw-back.';
comment on column public.users.credits_held is 'Credits reserved by open holds.';
comment on column public.users.credits_debt is 'Credits owed after a claw-back of spent credits; repaid by the next grant. balance = sum(lots.remaining) - debt.';
comment on column public.users.credits_version is 'Rises with every change of balance, holds, debt or suspension; orders copies in Redis.';
comment on column public.users.credits_suspended is 'While true, lots of a plan are not spendable; bought lots always are.';
comment on column public.users.entry_count is 'Number of entries; the entry_number of the last one.';

-- Column by column: what else the app keeps about its users stays out of reach.
grant select (id, email, plan, stripe_customer_id, credits_balance, credits_held, credits_debt,
    credits_version, credits_suspended, entry_count),
  insert (id, email, stripe_customer_id),
  update (email, plan, stripe_customer_id, credits_balance, credits_held, credits_debt,
    credits_version, credits_suspended, entry_count)
  on public.users to purser_ledger;

call purser.try_adoption();

grant insert (stripe_customer_id), update (stripe_customer_id) on public.users to service_role;

-- ---------------------------------------------------------------------------------------------
-- Tables of the ledger (owned by purser_ledger)
-- ---------------------------------------------------------------------------------------------

set role purser_ledger;

-- What Purser reads of a user, and the row type of its functions; other columns of the table are
-- the app's own and are neither read nor needed. `user_id` is the spelling used everywhere else.
create or replace view purser.accounts as
  select u.id, u.id::text as user_id, u.email::text as email, coalesce(u.plan::text, 'free') as plan,
         u.stripe_customer_id::text as stripe_customer_id, u.credits_balance,
         u.credits_held, u.credits_debt, u.credits_version, u.credits_suspended, u.entry_count
  from public.users u;

-- The ledger's name: a copy of a balance made from another ledger is not a copy of this one.
do $$
begin
  if to_regprocedure('purser.ledger_id()') is null then
    execute format(
      'create function purser.ledger_id() returns uuid language sql immutable set search_path = '''' as $f$ select %L::uuid $f$',
      gen_random_uuid()
    );
  end if;
end
$$;

create table if not exists public.credit_transactions (
  user_id text not null,
  entry_number bigint not null,
  id bigint generated always as identity,
  transaction_type text not null,
  amount bigint not null,
  balance_after bigint not null,
  held_after bigint not null,
  available_after bigint not null,
  version bigint not null,
  idempotency_key text not null,
  description text,
  lots jsonb not null default '[]',
  stripe_session_id text,
  stripe_payment_intent_id text,
  stripe_invoice_id text,
  metadata jsonb not null default '{}',
  event_at timestamptz not null,
  created_at timestamptz not null,
  reverses bigint,
  primary key (user_id, entry_number),
  constraint credit_transactions_key unique (user_id, idempotency_key)
);
alter table public.credit_transactions add column if not exists reverses bigint;
-- What an entry may hold is judged by purser.guard_entry, what a lot may by purser.guard_lot.
select purser.drop_checks('public.credit_transactions', array[
  'credit_transactions_entry_number_check', 'credit_transactions_transaction_type_check',
  'credit_transactions_amount_check', 'credit_transactions_idempotency_key_check']);
create index if not exists credit_transactions_reverses
  on public.credit_transactions (user_id, reverses) where reverses is not null;
create index if not exists credit_transactions_session
  on public.credit_transactions (stripe_session_id) where stripe_session_id is not null;
-- Entries arrive in time order, so a block range index finds a time span at a thousandth of a
-- b-tree's size.
create index if not exists credit_transactions_created_at
  on public.credit_transactions using brin (created_at) with (pages_per_range = 16, autosummarize = on);

comment on table public.credit_transactions is 'The ledger: one immutable row for each change of a balance, numbered per user. Written only by Purser''s functions.';
comment on column public.credit_transactions.amount is 'Credits, signed.';
comment on column public.credit_transactions.lots is 'Which lots were paid from or created: [{"grant_id", "amount"}].';
comment on column public.credit_transactions.reverses is 'entry_number of the entry that this one takes back in whole or in part: a usage_refund names its usage, a clawback and a clawback_reversal name the grant.';
comment on column public.credit_transactions.event_at is 'When it happened (at Stripe, for purchases); created_at is when it was written.';

create table if not exists public.credit_sources (
  source_key text primary key check (octet_length(source_key) between 3 and 300),
  user_id text not null,
  entry_number bigint not null,
  created_at timestamptz not null default clock_timestamp()
);
create index if not exists credit_sources_entry on public.credit_sources (user_id, entry_number);
comment on table public.credit_sources is 'Every Stripe object that has paid for an entry (checkout:cs_, invoice:in_, payment:pi_), once in the whole ledger.';

create table if not exists public.credit_grants (
  id bigint generated always as identity primary key,
  user_id text not null,
  entry_number bigint not null,
  amount bigint not null,
  remaining bigint not null,
  priority integer not null default 100,
  expires_at timestamptz,
  paid boolean not null,
  from_plan boolean not null default false,
  cost_amount bigint,
  cost_currency text,
  catalogue_id text,
  price_id text,
  created_at timestamptz not null,
  exhausted_at timestamptz
) with (fillfactor = 80);
select purser.drop_checks('public.credit_grants', array[
  'credit_grants_amount_check', 'credit_grants_check', 'credit_grants_exhausted']);
-- Burn-down order, for open lots only. `remaining` is in no index, so spending is a HOT update;
-- a lot leaves the index once, when it is exhausted.
create index if not exists credit_grants_open
  on public.credit_grants (user_id, priority, expires_at, paid, id) where exhausted_at is null;
create index if not exists credit_grants_expiring
  on public.credit_grants (user_id, expires_at) where exhausted_at is null and expires_at is not null;
create index if not exists credit_grants_due
  on public.credit_grants (expires_at) where exhausted_at is null and expires_at is not null;
create index if not exists credit_grants_entry on public.credit_grants (user_id, entry_number);
-- The open lots of a user in burn-down order: the one place where it is written. Postgres keeps
-- the order of a subquery where nothing above it sorts, joins or groups; who does that orders by
-- these columns himself. The index credit_grants_open gives it without sorting.
create or replace view purser.burn_down as
  select g.user_id, g.id, g.entry_number, g.remaining, g.from_plan from public.credit_grants g
  where g.exhausted_at is null
  order by g.user_id, g.priority, g.expires_at nulls last, g.paid, g.id;

comment on table public.credit_grants is 'Lots: each grant with what is left of it. Burn-down order: priority, expiry (none last), free before paid, id.';
comment on column public.credit_grants.cost_amount is 'What was paid for the lot, in the smallest unit of cost_currency.';

create table if not exists public.credit_holds (
  id bigint generated always as identity primary key,
  user_id text not null,
  idempotency_key text not null check (octet_length(idempotency_key) between 1 and 400),
  amount bigint not null check (amount between 1 and 9007199254740991),
  captured bigint not null default 0 check (captured between 0 and amount),
  status text not null default 'open' check (status in ('open', 'captured', 'released', 'expired')),
  expires_at timestamptz not null,
  description text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null,
  updated_at timestamptz not null,
  constraint credit_holds_key unique (user_id, idempotency_key)
);
create index if not exists credit_holds_open on public.credit_holds (user_id, expires_at) where status = 'open';
create index if not exists credit_holds_due on public.credit_holds (expires_at) where status = 'open';
create index if not exists credit_holds_updated_at on public.credit_holds (updated_at);
comment on table public.credit_holds is 'Credits reserved for work that is not done yet; users.credits_held is the sum of amount - captured of the open ones.';

create table if not exists public.closed_accounts (
  user_id text primary key,
  credits_balance bigint not null,
  credits_held bigint not null,
  credits_debt bigint not null,
  credits_version bigint not null,
  credits_suspended boolean not null,
  entry_count bigint not null,
  plan text not null,
  closed_at timestamptz not null default clock_timestamp()
);
comment on table public.closed_accounts is 'Counters of deleted users; their entries stay in the ledger. A row inserted again under the id takes them over.';

create table if not exists public.audit_events (
  id bigint generated always as identity primary key,
  actor text not null,
  action text not null,
  user_id text,
  reason text,
  before jsonb,
  after jsonb,
  created_at timestamptz not null default clock_timestamp()
);
create index if not exists audit_events_user on public.audit_events (user_id, id);
create index if not exists audit_events_created_at on public.audit_events (created_at);
comment on table public.audit_events is 'Who did what to whom, written in the same transaction as the change.';

create table if not exists public.reconciliation_findings (
  id bigint generated always as identity primary key,
  code text not null,
  subject text not null,
  user_id text,
  detail jsonb not null default '{}',
  times bigint not null default 1,
  first_seen_at timestamptz not null default clock_timestamp(),
  last_seen_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz
);
create unique index if not exists reconciliation_findings_open
  on public.reconciliation_findings (code, subject) where resolved_at is null;
comment on table public.reconciliation_findings is 'What does not fit and needs a person; one open row for each code and subject.';

-- ---------------------------------------------------------------------------------------------
-- Who a user is
-- ---------------------------------------------------------------------------------------------

-- The caller's spelling of a user id as the type of users.id; null where it cannot be one.
do $$
declare
  v_type text := purser.users_id_type();
begin
  drop function if exists purser.to_user_id(text);
  if v_type in ('text', 'character varying') then
    execute 'create function purser.to_user_id(p_user_id text) returns text
      language plpgsql immutable set search_path = '''' as $f$ begin return p_user_id; end $f$';
  else
    -- Only a nested block catches a failing conversion; a DECLARE default would not.
    execute format('create function purser.to_user_id(p_user_id text) returns %1$s
      language plpgsql immutable set search_path = '''' as $f$
      begin
        return p_user_id::%1$s;
      exception when invalid_text_representation or numeric_value_out_of_range then
        return null;
      end $f$', v_type);
  end if;
end
$$;

-- The one spelling of a user id that the books use, for a user without a row as well: a uuid may
-- come in upper case or in braces. What cannot be an id stays as it is, and is found nowhere.
create or replace function purser.user_key(p_user_id text)
returns text language sql immutable set search_path = '' as $$
  select coalesce(purser.to_user_id(p_user_id)::text, p_user_id)
$$;

-- Locks and returns the user row; all fields null where there is none. FOR NO KEY UPDATE, so
-- that rows of the app which reference the user can still be inserted meanwhile.
create or replace function purser.lock_user(p_user_id text)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts;
begin
  select * into v_user from purser.accounts a
  where a.id = purser.to_user_id(p_user_id) for no key update;
  return v_user;
end
$$;

-- Locks a user, or what stands for him while his account is closed: the tombstone, which a row
-- inserted again under the id must take away first. All fields null for a closed or unknown user.
create or replace function purser.lock_account(p_user_id text)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := purser.lock_user(p_user_id);
begin
  if v_user.id is null then
    perform from public.closed_accounts c where c.user_id = purser.user_key(p_user_id) for update;
    if not found then
      -- He may have returned while this call waited for the tombstone.
      v_user := purser.lock_user(p_user_id);
    end if;
  end if;
  return v_user;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- ensure_user: the row of a user, created when there is none.
--   p_replace  true = the given e-mail and customer replace those of the row; false = they only
--              fill empty columns (a sign-in must not overwrite what the app keeps there).
--   p_welcome_credits  granted once to a row made here (key grant:welcome), in the same transaction
-- Answers {outcome: created | exists | not_found, user_id, email, stripe_customer_id, created,
-- reason}. not_found: the id cannot be one of this table, or the app's own columns, constraints or
-- triggers forbid a bare row (`reason` says which). exists with a `reason`: the app's table
-- refused the new e-mail or customer, and the row stays as it was.
-- Idempotent. Locks: the user row when it is changed.
-- ---------------------------------------------------------------------------------------------
create or replace function public.ensure_user(
  p_user_id text, p_email text default null, p_stripe_customer_id text default null,
  p_replace boolean default false, p_welcome_credits bigint default 0)
returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '5s' as $$
declare
  v_user purser.accounts;
  v_created boolean := false;
  v_reason text;
begin
  if purser.to_user_id(p_user_id) is null or p_user_id = '' then
    return jsonb_build_object('outcome', 'not_found');
  end if;
  select * into v_user from purser.accounts a where a.id = purser.to_user_id(p_user_id);
  if v_user.id is null then
    begin
      insert into public.users (id, email, stripe_customer_id)
      values (purser.to_user_id(p_user_id), p_email, p_stripe_customer_id)
      on conflict (id) do nothing
      returning true into v_created;
    exception
      -- Classes 23 and 42, and what a trigger of the app's raises. Time-outs and deadlocks pass:
      -- they say nothing about the user.
      when integrity_constraint_violation or syntax_error_or_access_rule_violation
           or raise_exception or string_data_right_truncation then
        return jsonb_build_object('outcome', 'not_found', 'reason', sqlerrm);
    end;
    v_created := coalesce(v_created, false);
    select * into v_user from purser.accounts a where a.id = purser.to_user_id(p_user_id);
    if v_created and p_welcome_credits > 0 then
      perform public.grant_credits(
        v_user.user_id, 'bonus', 'grant:welcome',
        jsonb_build_array(jsonb_build_object('credits', p_welcome_credits)),
        p_description => 'Welcome credits');
    end if;
  end if;
  if not v_created and (
    (p_email is not null and v_user.email is distinct from p_email and (p_replace or v_user.email is null))
    or (p_stripe_customer_id is not null and v_user.stripe_customer_id is distinct from p_stripe_customer_id
        and (p_replace or v_user.stripe_customer_id is null)))
  then
    begin
      update public.users u
      set email = case when p_replace then coalesce(p_email, u.email) else coalesce(u.email, p_email) end,
          stripe_customer_id = case when p_replace then coalesce(p_stripe_customer_id, u.stripe_customer_id)
                                    else coalesce(u.stripe_customer_id, p_stripe_customer_id) end
      where u.id = v_user.id
      returning u.email, u.stripe_customer_id into v_user.email, v_user.stripe_customer_id;
    exception
      -- An e-mail that another row has must not keep a user from signing in.
      when integrity_constraint_violation or string_data_right_truncation then
        v_reason := sqlerrm;
    end;
  end if;
  return jsonb_build_object(
    'outcome', case when v_created then 'created' else 'exists' end,
    'user_id', v_user.user_id, 'email', v_user.email,
    'stripe_customer_id', v_user.stripe_customer_id, 'created', v_created)
    || case when v_reason is null then '{}' else jsonb_build_object('reason', v_reason) end;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- The steps of which money functions are made. They run with the user row locked.
-- ---------------------------------------------------------------------------------------------

-- What can be spent now: balance - held, while suspended less what is left of plan lots.
create or replace function purser.available(p_user purser.accounts)
returns bigint language plpgsql stable set search_path = '' as $$
begin
  if not p_user.credits_suspended then
    return p_user.credits_balance - p_user.credits_held;
  end if;
  return p_user.credits_balance - p_user.credits_held - coalesce((
    select sum(g.remaining) from public.credit_grants g
    where g.user_id = p_user.user_id and g.exhausted_at is null and g.from_plan), 0);
end
$$;

drop function if exists purser.append_entry(
  purser.accounts, text, bigint, text, timestamptz, jsonb, text, jsonb, timestamptz, text, text, text);
-- Appends one entry and moves the projection with it: the only place where a balance changes.
-- p_user: the locked row, with credits_held and credits_debt already as they shall be after it.
-- p_reverses: the number of the entry that this one takes back, in whole or in part.
create or replace function purser.append_entry(
  p_user purser.accounts,
  p_type text,
  p_amount bigint,
  p_key text,
  p_now timestamptz,
  p_lots jsonb,
  p_description text default null,
  p_metadata jsonb default '{}',
  p_event_at timestamptz default null,
  p_session_id text default null,
  p_payment_intent_id text default null,
  p_invoice_id text default null,
  p_reverses bigint default null)
returns public.credit_transactions language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := p_user;
  v_entry public.credit_transactions;
begin
  v_user.credits_balance := p_user.credits_balance + p_amount;
  if abs(v_user.credits_balance) > 9007199254740991 then
    perform purser.raise_error(400, 'invalid_request',
      format('The balance of user %s would pass 2^53 - 1 credits.', p_user.id));
  end if;
  v_user.credits_version := p_user.credits_version + 1;
  v_user.entry_count := p_user.entry_count + 1;

  update public.users u
  set credits_balance = v_user.credits_balance,
      credits_held = v_user.credits_held,
      credits_debt = v_user.credits_debt,
      credits_version = v_user.credits_version,
      entry_count = v_user.entry_count
  where u.id = p_user.id;

  insert into public.credit_transactions (
    user_id, entry_number, transaction_type, amount, balance_after, held_after, available_after,
    version, idempotency_key, description, lots, stripe_session_id, stripe_payment_intent_id,
    stripe_invoice_id, metadata, event_at, created_at, reverses)
  values (
    p_user.user_id, v_user.entry_count, p_type, p_amount, v_user.credits_balance,
    v_user.credits_held, purser.available(v_user), v_user.credits_version, p_key, p_description,
    p_lots, p_session_id, p_payment_intent_id, p_invoice_id, coalesce(p_metadata, '{}'),
    coalesce(p_event_at, p_now), p_now, p_reverses)
  returning * into v_entry;
  return v_entry;
end
$$;

-- The user row as it stands after an entry, for the next step of the same function.
create or replace function purser.after_entry(p_user purser.accounts, p_entry public.credit_transactions)
returns purser.accounts language plpgsql immutable set search_path = '' as $$
declare
  v_user purser.accounts := p_user;
begin
  v_user.credits_balance := p_entry.balance_after;
  v_user.credits_version := p_entry.version;
  v_user.entry_count := p_entry.entry_number;
  return v_user;
end
$$;

-- Writes how much the open holds of a user reserve; raises the version with it.
create or replace function purser.set_held(p_user purser.accounts, p_held bigint)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := p_user;
begin
  update public.users u
  set credits_held = p_held, credits_version = p_user.credits_version + 1
  where u.id = p_user.id;
  v_user.credits_held := p_held;
  v_user.credits_version := p_user.credits_version + 1;
  return v_user;
end
$$;

-- Takes p_amount from the user's open lots in burn-down order; plan lots are passed over while
-- suspended. Returns [{"grant_id", "amount"}]. The caller has made sure that there is enough.
create or replace function purser.take_from_lots(p_user purser.accounts, p_amount bigint, p_now timestamptz)
returns jsonb language plpgsql set search_path = '' as $$
declare
  v_lots jsonb := purser.take_up_to(p_user, p_amount, p_now);
  v_taken bigint := purser.lots_total(v_lots);
begin
  if v_taken < p_amount then
    raise exception 'lots of user % hold % credits less than the balance says', p_user.id, p_amount - v_taken
      using errcode = 'data_corrupted',
            hint = 'Run select * from validate_credits_consistency();';
  end if;
  return v_lots;
end
$$;

-- The credits of [{"grant_id", "amount"}].
create or replace function purser.lots_total(p_lots jsonb)
returns bigint language plpgsql immutable set search_path = '' as $$
begin
  return (select coalesce(sum((l.value ->> 'amount')::bigint), 0) from jsonb_array_elements(p_lots) l);
end
$$;

-- The same as take_from_lots, but takes what there is: for claw-backs, whose rest becomes debt.
-- p_entry_number: only from the lots which that entry granted.
create or replace function purser.take_up_to(
  p_user purser.accounts, p_amount bigint, p_now timestamptz, p_entry_number bigint default null)
returns jsonb language plpgsql set search_path = '' as $$
declare
  v_left bigint := p_amount;
  v_take bigint;
  v_lot record;
  v_lots jsonb := '[]';
begin
  for v_lot in
    select b.id, b.remaining from purser.burn_down b
    where b.user_id = p_user.user_id
      and not (p_user.credits_suspended and b.from_plan)
      and (p_entry_number is null or b.entry_number = p_entry_number)
  loop
    exit when v_left = 0;
    v_take := least(v_lot.remaining, v_left);
    update public.credit_grants g
    set remaining = g.remaining - v_take,
        exhausted_at = case when g.remaining = v_take then p_now end
    where g.id = v_lot.id;
    v_lots := v_lots || jsonb_build_object('grant_id', v_lot.id::text, 'amount', v_take);
    v_left := v_left - v_take;
  end loop;
  return v_lots;
end
$$;

-- The entry of a user under a key; all fields null where there is none. Asked as "the first from
-- this key on", which only the index of keys can answer: asked by equality, the planner may take
-- the primary key and read a user's whole history, if that was short when statistics were taken.
create or replace function purser.find_entry(p_user_id text, p_key text)
returns public.credit_transactions language plpgsql stable set search_path = '' as $$
declare
  v_entry public.credit_transactions;
begin
  select * into v_entry from public.credit_transactions t
  where (t.user_id, t.idempotency_key) >= (p_user_id, p_key)
  order by t.user_id, t.idempotency_key limit 1;
  if (v_entry.user_id, v_entry.idempotency_key) is distinct from (p_user_id, p_key) then
    return null;
  end if;
  return v_entry;
end
$$;

-- What a money function answers about an entry; the same for the first call and its replays.
create or replace function purser.entry_answer(p_outcome text, p_entry public.credit_transactions)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'outcome', p_outcome,
    'transaction_id', p_entry.id::text,
    'user_id', p_entry.user_id,
    'amount', abs(p_entry.amount),
    'balance', p_entry.balance_after,
    'held', p_entry.held_after,
    'available', p_entry.available_after,
    'version', p_entry.version,
    'lots', p_entry.lots,
    'created_at', purser.iso(p_entry.created_at));
end
$$;

-- What a money function answers when it wrote nothing: the word and the balance as it stands.
create or replace function purser.balance_answer(p_outcome text, p_user purser.accounts)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'outcome', p_outcome,
    'user_id', p_user.user_id,
    'balance', p_user.credits_balance,
    'held', p_user.credits_held,
    'available', purser.available(p_user),
    'version', p_user.credits_version);
end
$$;

create or replace function purser.check_amount(p_amount bigint)
returns void language plpgsql immutable set search_path = '' as $$
begin
  if p_amount is null or p_amount < 1 or p_amount > 9007199254740991 then
    perform purser.raise_error(400, 'invalid_request',
      format('amount must be a whole number of credits from 1 to 9007199254740991, not %s.', coalesce(p_amount::text, 'null')));
  end if;
end
$$;

create or replace function purser.check_key(p_key text)
returns void language plpgsql immutable set search_path = '' as $$
begin
  if p_key is null or octet_length(p_key) not between 1 and 255 then
    perform purser.raise_error(400, 'invalid_request', 'The idempotency key must have 1 to 255 bytes.');
  end if;
end
$$;

-- Notes something that needs a person; repeated sightings raise `times`.
create or replace function purser.record_finding(p_code text, p_subject text, p_user_id text, p_detail jsonb)
returns void language sql set search_path = '' as $$
  insert into public.reconciliation_findings (code, subject, user_id, detail)
  values (p_code, p_subject, p_user_id, p_detail)
  on conflict (code, subject) where resolved_at is null do update
    set times = public.reconciliation_findings.times + 1,
        last_seen_at = clock_timestamp(),
        detail = excluded.detail;
$$;

-- ---------------------------------------------------------------------------------------------
-- Who writes the tables; see the guards of foundation_migration.sql
-- ---------------------------------------------------------------------------------------------

-- Of an entry: who writes it, and what no entry can be.
create or replace function purser.guard_entry()
returns trigger language plpgsql set search_path = '' as $$
begin
  if current_user = 'purser_ledger' and new.amount <> 0 and new.amount between -9007199254740991 and 9007199254740991
     and new.entry_number > 0 and octet_length(new.idempotency_key) between 1 and 400
     -- Apart from the others: for nine words Postgres would build a hash table, in each transaction.
     and (new.transaction_type = 'usage' or new.transaction_type in (
       'purchase', 'allocation', 'bonus', 'usage_refund', 'clawback', 'clawback_reversal',
       'expiration', 'adjustment'))
  then
    return new;
  end if;
  perform purser.refuse_row(tg_op, tg_table_name, to_jsonb(new));
end
$$;

-- Of a lot: who writes it, and that it holds from nothing to all of what it began with.
create or replace function purser.guard_lot()
returns trigger language plpgsql set search_path = '' as $$
begin
  if current_user = 'purser_ledger' and new.remaining between 0 and new.amount
     and new.amount between 1 and 9007199254740991 and (new.remaining = 0) = (new.exhausted_at is not null)
  then
    return new;
  end if;
  perform purser.refuse_row(tg_op, tg_table_name, to_jsonb(new));
end
$$;

call purser.guard_table('credit_transactions', true, 'guard_entry');
call purser.guard_table('audit_events', true);
call purser.guard_table('credit_sources', false);
call purser.guard_table('credit_grants', false, 'guard_lot');
call purser.guard_table('credit_holds', false);
call purser.guard_table('closed_accounts', false);

-- Money columns and the id of `users` change only inside Purser's functions. Writing them with
-- the value they have is allowed: many apps save whole rows. In an app's own table users may
-- often edit their own row: what they buy and whose Stripe customer they are is not theirs to
-- write either.
create or replace function purser.refuse_money_change()
returns trigger language plpgsql set search_path = '' as $$
begin
  if current_user = 'purser_ledger' and old.id = new.id then
    if abs(new.credits_balance) <= 9007199254740991 and new.credits_held between 0 and 9007199254740991
       and new.credits_debt between 0 and 9007199254740991
    then
      return null;
    end if;
    raise exception 'credits of a user pass their bounds' using errcode = 'check_violation';
  end if;
  if old.id = new.id
    and (old.credits_balance, old.credits_held, old.credits_debt, old.credits_version, old.credits_suspended, old.entry_count)
        is not distinct from
        (new.credits_balance, new.credits_held, new.credits_debt, new.credits_version, new.credits_suspended, new.entry_count)
    and (current_user not in ('anon', 'authenticated')
      or (old.plan, old.stripe_customer_id) is not distinct from (new.plan, new.stripe_customer_id))
  then
    return null;
  end if;
  if current_user in ('anon', 'authenticated') then
    raise exception 'users may not write credits_ columns, entry_count, id, plan or stripe_customer_id of %', tg_table_name
      using errcode = 'insufficient_privilege';
  end if;
  raise exception 'credits_ columns, entry_count and id of % change only through Purser''s functions', tg_table_name
    using errcode = 'insufficient_privilege',
          hint = 'Grant, consume or adjust credits by function; repair drift with sync_user_credits(user).';
end
$$;

-- A new row starts at zero, or takes over the counters of the closed account of the same id.
create or replace function purser.open_account()
returns trigger language plpgsql security definer set search_path = '' as $$
declare
  v_closed public.closed_accounts;
begin
  -- A column that could be null before Purser came may still be sent as null.
  new.credits_balance := coalesce(new.credits_balance, 0);
  if new.credits_balance <> 0 or new.credits_held <> 0 or new.credits_debt <> 0
     or new.credits_version <> 0 or new.credits_suspended or new.entry_count <> 0 then
    raise exception 'a new row of % starts with zero credits', tg_table_name
      using errcode = 'insufficient_privilege', hint = 'Insert the user, then grant credits by function.';
  end if;
  delete from public.closed_accounts c where c.user_id = new.id::text returning * into v_closed;
  if v_closed.user_id is not null then
    new.credits_balance := v_closed.credits_balance;
    new.credits_held := v_closed.credits_held;
    new.credits_debt := v_closed.credits_debt;
    new.credits_version := v_closed.credits_version + 1;
    new.credits_suspended := v_closed.credits_suspended;
    new.entry_count := v_closed.entry_count;
    new.plan := v_closed.plan;
    insert into public.audit_events (actor, action, user_id, after)
    values ('sql', 'account_returned', v_closed.user_id, to_jsonb(v_closed));
  end if;
  return new;
end
$$;

-- After the insert, for what open_account could not see: a deletion that committed while this
-- insert waited for it, and triggers of the app's that ran later and wrote a balance.
create or replace function purser.confirm_account()
returns trigger language plpgsql security definer set search_path = '' as $$
declare
  v_closed public.closed_accounts;
begin
  delete from public.closed_accounts c where c.user_id = new.id::text returning * into v_closed;
  if v_closed.user_id is not null then
    update public.users u
    set credits_balance = v_closed.credits_balance, credits_held = v_closed.credits_held,
        credits_debt = v_closed.credits_debt, credits_version = v_closed.credits_version + 1,
        credits_suspended = v_closed.credits_suspended, entry_count = v_closed.entry_count,
        plan = v_closed.plan
    where u.id = new.id;
    insert into public.audit_events (actor, action, user_id, after)
    values ('sql', 'account_returned', v_closed.user_id, to_jsonb(v_closed));
  elsif new.entry_count = 0 and (new.credits_balance <> 0 or new.credits_held <> 0 or new.credits_debt <> 0) then
    raise exception 'a new row of % starts with zero credits', tg_table_name
      using errcode = 'insufficient_privilege', hint = 'Insert the user, then grant credits by function.';
  end if;
  return null;
end
$$;

create or replace function purser.close_account()
returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.closed_accounts as c (
    user_id, credits_balance, credits_held, credits_debt, credits_version, credits_suspended, entry_count, plan)
  values (old.id::text, old.credits_balance, old.credits_held, old.credits_debt, old.credits_version,
          old.credits_suspended, old.entry_count, coalesce(old.plan::text, 'free'));
  insert into public.audit_events (actor, action, user_id, before)
  values ('sql', 'account_closed', old.id::text, jsonb_build_object(
    'balance', old.credits_balance, 'debt', old.credits_debt, 'held', old.credits_held, 'entry_count', old.entry_count));
  return old;
end
$$;

reset role;

-- After, not before: a trigger of the app's that sorts later could still change the row.
drop trigger if exists purser_money_guard on public.users;
create trigger purser_money_guard after update on public.users
  for each row execute function purser.refuse_money_change();
drop trigger if exists purser_open_account on public.users;
create trigger purser_open_account before insert on public.users for each row
  execute function purser.open_account();
drop trigger if exists purser_confirm_account on public.users;
create trigger purser_confirm_account after insert on public.users for each row
  execute function purser.confirm_account();
do $$
begin
  drop trigger if exists purser_own_row on public.users;
  execute format('create trigger purser_own_row after insert on public.users for each row
    when (current_user in (''anon'', ''authenticated'')
      and (new.stripe_customer_id is not null or new.plan is distinct from %s))
    execute function purser.refuse_money_change()', coalesce((
      select pg_get_expr(d.adbin, d.adrelid) from pg_attribute a
      join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid = 'public.users'::regclass and a.attname = 'plan'), 'new.plan'));
end
$$;
drop trigger if exists purser_close_account on public.users;
create trigger purser_close_account after delete on public.users for each row
  execute function purser.close_account();
drop trigger if exists purser_truncate on public.users;
create trigger purser_truncate before truncate on public.users for each statement
  execute function purser.refuse_change();
alter table public.users enable always trigger purser_money_guard;
alter table public.users enable always trigger purser_open_account;
alter table public.users enable always trigger purser_confirm_account;
alter table public.users enable always trigger purser_own_row;
alter table public.users enable always trigger purser_close_account;
alter table public.users enable always trigger purser_truncate;

-- ---------------------------------------------------------------------------------------------
-- Who may do what
-- ---------------------------------------------------------------------------------------------

alter table public.credit_transactions enable row level security;
alter table public.credit_sources enable row level security;
alter table public.credit_grants enable row level security;
alter table public.credit_holds enable row level security;
alter table public.closed_accounts enable row level security;
alter table public.audit_events enable row level security;
alter table public.reconciliation_findings enable row level security;

drop policy if exists credit_transactions_select_own on public.credit_transactions;
create policy credit_transactions_select_own on public.credit_transactions for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));
drop policy if exists credit_grants_select_own on public.credit_grants;
create policy credit_grants_select_own on public.credit_grants for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));
drop policy if exists credit_holds_select_own on public.credit_holds;
create policy credit_holds_select_own on public.credit_holds for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));
drop policy if exists audit_events_select_admin on public.audit_events;
create policy audit_events_select_admin on public.audit_events for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');
drop policy if exists reconciliation_findings_select_admin on public.reconciliation_findings;
create policy reconciliation_findings_select_admin on public.reconciliation_findings for select to authenticated
  using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');
drop policy if exists credit_sources_deny on public.credit_sources;
create policy credit_sources_deny on public.credit_sources for all to anon, authenticated using (false);
drop policy if exists closed_accounts_deny on public.closed_accounts;
create policy closed_accounts_deny on public.closed_accounts for all to anon, authenticated using (false);

set role purser_ledger;

revoke all on public.credit_transactions, public.credit_sources, public.credit_grants,
  public.credit_holds, public.closed_accounts, public.audit_events, public.reconciliation_findings
  from public, anon, authenticated, service_role;
grant select on public.credit_transactions, public.credit_grants, public.credit_holds, public.audit_events,
  public.reconciliation_findings to authenticated;
grant select on public.credit_transactions, public.credit_sources, public.credit_grants,
  public.credit_holds, public.closed_accounts, public.audit_events, public.reconciliation_findings to service_role;

reset role;
call purser.end_adoption();
set role purser_ledger;

call purser.restrict_functions();
reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
