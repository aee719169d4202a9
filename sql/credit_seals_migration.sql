-- Purser: seals. A job chains the entries of each user with SHA-256, off the hot path, so that a
-- row changed later by whoever can switch triggers off is found, and named.
--
-- Paste after credit_transactions_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- What a seal proves: the sealed entries are those that were sealed. Who can rewrite entries and
-- seals alike leaves no trace in this database; keep verify_credit_chain's heads elsewhere
-- (a log, a mail) where that matters.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room(array['credit_seals'], array['seal_credit_entries', 'verify_credit_chain']);
grant create on schema public to purser_ledger;
set role purser_ledger;

create table if not exists public.credit_seals (
  user_id text not null,
  first_entry bigint not null check (first_entry > 0),
  last_entry bigint not null check (last_entry >= first_entry),
  seals bytea not null,
  sealed_at timestamptz not null default clock_timestamp(),
  primary key (user_id, first_entry),
  constraint credit_seals_length check (octet_length(seals) = 32 * (last_entry - first_entry + 1))
);
comment on table public.credit_seals is 'SHA-256 of each entry chained to the one before, 32 bytes an entry, one row for each stretch that was sealed together.';

-- The fixed text of an entry: a JSON array of every column in this order, times in UTC to the
-- microsecond, and at its end `reverses` where there is one. jsonb writes one text for one value,
-- whatever the session's settings.
create or replace function purser.entry_text(p_entry public.credit_transactions)
returns text language sql stable set search_path = '' as $$
  select (jsonb_build_array(
    p_entry.user_id, p_entry.entry_number, p_entry.id, p_entry.transaction_type, p_entry.amount,
    p_entry.balance_after, p_entry.held_after, p_entry.available_after, p_entry.version,
    p_entry.idempotency_key, p_entry.description, p_entry.lots, p_entry.stripe_session_id,
    p_entry.stripe_payment_intent_id, p_entry.stripe_invoice_id, p_entry.metadata,
    to_char(p_entry.event_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
    to_char(p_entry.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'))
    || case when p_entry.reverses is null then '[]' else jsonb_build_array(p_entry.reverses) end)::text;
$$;

create or replace function purser.next_seal(p_previous bytea, p_entry public.credit_transactions)
returns bytea language sql stable set search_path = '' as $$
  select sha256(p_previous || convert_to(purser.entry_text(p_entry), 'UTF8'));
$$;

-- The chain of a user begins with the ledger's id.
create or replace function purser.first_seal()
returns bytea language sql stable set search_path = '' as $$
  select sha256(convert_to(purser.ledger_id()::text, 'UTF8'));
$$;

-- ---------------------------------------------------------------------------------------------
-- seal_credit_entries: seals what is not sealed yet, for up to p_limit users; the seal-ledger job
-- calls it until `more` is false. Takes no lock a spender waits for: entries are immutable and
-- numbered without gaps, so what a snapshot shows can be sealed. Answers {users, entries, more}.
-- ---------------------------------------------------------------------------------------------
create or replace function public.seal_credit_entries(p_limit integer default 500)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_limit integer := least(greatest(coalesce(p_limit, 500), 1), 5000);
  v_user record;
  v_entry public.credit_transactions;
  v_seal bytea;
  v_seals bytea;
  v_users integer := 0;
  v_entries bigint := 0;
begin
  for v_user in
    select c.user_id, c.entry_count, coalesce(s.last_entry, 0) as sealed, s.seals
    from (select a.user_id, a.entry_count from purser.accounts a where a.entry_count > 0
          union all select t.user_id, t.entry_count from public.closed_accounts t where t.entry_count > 0) c
    left join lateral (
      select k.last_entry, k.seals from public.credit_seals k
      where k.user_id = c.user_id order by k.first_entry desc limit 1) s on true
    where c.entry_count > coalesce(s.last_entry, 0)
    order by c.user_id
    limit v_limit
  loop
    v_seal := case when v_user.seals is null then purser.first_seal()
      else substring(v_user.seals from octet_length(v_user.seals) - 31) end;
    v_seals := '';
    for v_entry in
      select * from public.credit_transactions t
      where t.user_id = v_user.user_id and t.entry_number > v_user.sealed and t.entry_number <= v_user.entry_count
      order by t.entry_number
    loop
      v_seal := purser.next_seal(v_seal, v_entry);
      v_seals := v_seals || v_seal;
    end loop;
    -- Missing entries are for verify_credit_chain and the consistency check to report.
    continue when octet_length(v_seals) <> 32 * (v_user.entry_count - v_user.sealed);
    insert into public.credit_seals (user_id, first_entry, last_entry, seals)
    values (v_user.user_id, v_user.sealed + 1, v_user.entry_count, v_seals)
    on conflict do nothing;
    v_users := v_users + 1;
    v_entries := v_entries + v_user.entry_count - v_user.sealed;
  end loop;
  return jsonb_build_object('users', v_users, 'entries', v_entries, 'more', v_users = v_limit);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- verify_credit_chain: computes the chain anew and names, for each user, the first row that does
-- not fit: `changed` (the entry is not the one that was sealed), `missing` (a sealed entry is
-- gone), `seal_missing` (a stretch of seals is gone). No rows = intact.
--   p_user_id  one user only; default all
-- Reads one snapshot.
-- ---------------------------------------------------------------------------------------------
create or replace function public.verify_credit_chain(p_user_id text default null)
returns table (user_id text, entry_number bigint, issue text, detail jsonb)
language plpgsql stable security definer set search_path = '' as $$
declare
  v_stretch public.credit_seals;
  v_entry public.credit_transactions;
  v_seal bytea;
  v_expected_first bigint := 1;
  v_current text;
  v_broken text;
  v_place bigint;
begin
  for v_stretch in
    select * from public.credit_seals s where p_user_id is null or s.user_id = p_user_id
    order by s.user_id, s.first_entry
  loop
    if v_current is distinct from v_stretch.user_id then
      v_current := v_stretch.user_id;
      v_expected_first := 1;
      v_seal := purser.first_seal();
    end if;
    continue when v_broken is not distinct from v_current;
    if v_stretch.first_entry <> v_expected_first then
      user_id := v_current; entry_number := v_expected_first; issue := 'seal_missing';
      detail := jsonb_build_object('next_seal', v_stretch.first_entry);
      v_broken := v_current;
      return next;
      continue;
    end if;
    v_place := v_stretch.first_entry;
    for v_entry in
      select * from public.credit_transactions t
      where t.user_id = v_current and t.entry_number between v_stretch.first_entry and v_stretch.last_entry
      order by t.entry_number
    loop
      exit when v_entry.entry_number <> v_place;
      v_seal := purser.next_seal(v_seal, v_entry);
      if v_seal <> substring(v_stretch.seals from (32 * (v_place - v_stretch.first_entry) + 1)::integer for 32) then
        user_id := v_current; entry_number := v_place; issue := 'changed';
        detail := jsonb_build_object('transaction_id', v_entry.id::text, 'sealed_at', purser.iso(v_stretch.sealed_at));
        v_broken := v_current;
        return next;
        exit;
      end if;
      v_place := v_place + 1;
    end loop;
    continue when v_broken is not distinct from v_current;
    if v_place <= v_stretch.last_entry then
      user_id := v_current; entry_number := v_place; issue := 'missing';
      detail := jsonb_build_object('sealed_at', purser.iso(v_stretch.sealed_at));
      v_broken := v_current;
      return next;
      continue;
    end if;
    v_expected_first := v_stretch.last_entry + 1;
  end loop;
end
$$;

call purser.guard_table('credit_seals', true);

call purser.restrict_functions();
reset role;

alter table public.credit_seals enable row level security;
drop policy if exists credit_seals_select_own on public.credit_seals;
create policy credit_seals_select_own on public.credit_seals for select to authenticated
  using (user_id = ((select auth.jwt()) ->> 'sub'));

set role purser_ledger;
revoke all on public.credit_seals from public, anon, authenticated, service_role;
grant select on public.credit_seals to authenticated, service_role;
reset role;

revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
