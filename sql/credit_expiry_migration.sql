-- Purser: what ends by itself, holds and lots whose time has come.
--
-- Paste after credit_transactions_migration.sql, or run `npm run migrate`. Safe to run again.
--
-- Every money function takes what is due before it decides (purser.expire_due), so the books are
-- right whether or not the expire-credits job runs; the job does it for users whom nobody asks for.
-- Safe to repeat, and to race with spending: it all happens under the lock of the user row.

do $$
begin
  perform set_config('lock_timeout', '5s', true), set_config('client_min_messages', 'warning', true);
end
$$;

grant purser_ledger to current_user;
call purser.make_room('{}', array['expire_due_credits']);
grant create on schema public to purser_ledger;
set role purser_ledger;

-- The next time at which a lot of the user's expires; null = none does.
create or replace function purser.next_expiry(p_user_id text)
returns timestamptz language plpgsql stable set search_path = '' as $$
begin
  return (select min(g.expires_at) from public.credit_grants g
    where g.user_id = p_user_id and g.exhausted_at is null and g.expires_at is not null);
end
$$;

-- The next time at which what the user can spend changes by itself: a lot or an open hold ends.
-- Where everything is held no lot ends before a hold does, also one whose time has come: without
-- this such a copy in Redis would be a miss for as long as the hold lasts.
create or replace function purser.next_change(p_user purser.accounts)
returns timestamptz language plpgsql stable set search_path = '' as $$
declare
  v_hold_ends timestamptz;
begin
  if p_user.credits_held = 0 then
    return purser.next_expiry(p_user.user_id);
  end if;
  v_hold_ends := (
    select min(h.expires_at) from public.credit_holds h
    where h.user_id = p_user.user_id and h.status = 'open');
  if p_user.credits_balance <= p_user.credits_held then
    return v_hold_ends;
  end if;
  return least(purser.next_expiry(p_user.user_id), v_hold_ends);
end
$$;

-- Ends the open holds of a user whose time has come. Returns the row after it.
create or replace function purser.expire_holds(p_user purser.accounts, p_now timestamptz)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_ended bigint;
begin
  with ended as (
    update public.credit_holds h
    set status = 'expired', updated_at = p_now
    where h.user_id = p_user.user_id and h.status = 'open' and h.expires_at <= p_now
    returning h.amount - h.captured as remaining)
  select sum(e.remaining) into v_ended from ended e;
  if v_ended is null then
    return p_user;
  end if;
  return purser.set_held(p_user, p_user.credits_held - v_ended);
end
$$;

-- Takes what is due: open holds first, then an expiration entry for each lot whose time has come.
-- Takes at most what leaves open holds covered; the rest goes as soon as it is not needed for
-- that. Returns the row after it.
create or replace function purser.expire_due(p_user purser.accounts, p_now timestamptz)
returns purser.accounts language plpgsql set search_path = '' as $$
declare
  v_user purser.accounts := p_user;
  v_lot record;
  v_take bigint;
begin
  if p_user.credits_held > 0 then
    v_user := purser.expire_holds(p_user, p_now);
  end if;
  -- Almost always nothing is due: one look into a partial index, mostly empty, says so.
  if purser.next_expiry(p_user.user_id) > p_now is not false then
    return v_user;
  end if;
  for v_lot in
    select g.id, g.remaining, g.expires_at from public.credit_grants g
    where g.user_id = p_user.user_id and g.exhausted_at is null and g.expires_at <= p_now
    order by g.expires_at, g.id
  loop
    v_take := least(v_lot.remaining, v_user.credits_balance - v_user.credits_held);
    exit when v_take <= 0;
    update public.credit_grants g
    set remaining = g.remaining - v_take,
        exhausted_at = case when g.remaining = v_take then p_now end
    where g.id = v_lot.id;
    v_user := purser.after_entry(v_user, purser.append_entry(
      v_user, 'expiration', -v_take, format('expire:%s:%s', v_lot.id, v_user.entry_count + 1), p_now,
      jsonb_build_array(jsonb_build_object('grant_id', v_lot.id::text, 'amount', v_take)),
      p_event_at => v_lot.expires_at));
  end loop;
  return v_user;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- expire_due_credits: ends the holds and writes the expirations that are due, for up to p_limit
-- users (1 to 1000); the expire-credits job calls it until `more` is false. Answers {users, more}.
-- Repeating it changes nothing. Locks: the user rows in the order of their ids; those that others
-- have locked are left for the next call (their own call expires them anyway).
-- ---------------------------------------------------------------------------------------------
create or replace function public.expire_due_credits(p_limit integer default 200, p_now timestamptz default null)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_limit integer := least(greatest(coalesce(p_limit, 200), 1), 1000);
  v_user purser.accounts;
  v_count integer := 0;
begin
  for v_user in
    select a.* from purser.accounts a
    where a.id in (
      -- Lots of closed accounts wait for their return: they must not use up the limit.
      (select u.id from public.credit_holds h join public.users u on u.id = purser.to_user_id(h.user_id)
       where h.status = 'open' and h.expires_at <= v_now
       order by h.expires_at limit v_limit)
      union
      (select u.id from public.credit_grants g join public.users u on u.id = purser.to_user_id(g.user_id)
       where g.exhausted_at is null and g.expires_at <= v_now
         and u.credits_balance - u.credits_held > 0
       order by g.expires_at limit v_limit))
    order by a.id for no key update skip locked
  loop
    perform purser.expire_due(v_user, v_now);
    v_count := v_count + 1;
  end loop;
  return jsonb_build_object('users', v_count, 'more', v_count > 0 and (
    exists (
      select from public.credit_holds h join public.users u on u.id = purser.to_user_id(h.user_id)
      where h.status = 'open' and h.expires_at <= v_now)
    or exists (
      select from public.credit_grants g join public.users u on u.id = purser.to_user_id(g.user_id)
      where g.exhausted_at is null and g.expires_at <= v_now
        and u.credits_balance - u.credits_held > 0)));
end
$$;

call purser.restrict_functions();
reset role;
revoke create on schema public from purser_ledger;
revoke purser_ledger from current_user;

notify pgrst, 'reload schema';
