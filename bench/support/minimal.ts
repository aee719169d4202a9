/**
 * The least a durable ledger can do, for benches to compare with: one balance, refused below zero,
 * and one append-only row under a unique key, in one call; and the same for a batch, which locks
 * in the order of ids, writes each balance once, and answers each operation its running balance.
 */
export function minimalLedger(users: number): string {
  return `
  create schema bench;
  create table bench.accounts (id text primary key, balance bigint not null) with (fillfactor = 80);
  create table bench.entries (
    id bigint generated always as identity, user_id text not null, amount bigint not null,
    key text not null unique, balance_after bigint not null,
    created_at timestamptz not null default now());
  insert into bench.accounts select 'user-' || n, 1000000000000 from generate_series(0, ${users - 1}) n;
  create function bench.spend(p_user text, p_amount bigint, p_key text) returns bigint
  language plpgsql as $$
  declare v_balance bigint;
  begin
    update bench.accounts set balance = balance - p_amount
    where id = p_user and balance >= p_amount returning balance into v_balance;
    insert into bench.entries (user_id, amount, key, balance_after)
    values (p_user, -p_amount, p_key, v_balance);
    return v_balance;
  end $$;
  create function bench.spend_batch(p_operations jsonb) returns json
  language plpgsql set enable_seqscan = off as $$
  declare v_answer json;
  begin
    perform from bench.accounts
    where id in (select o.value ->> 'user_id' from jsonb_array_elements(p_operations) o)
    order by id for no key update;
    with operation as materialized (
      select o.ordinality as place, o.value ->> 'user_id' as user_id, (o.value ->> 'amount')::bigint as amount,
             o.value ->> 'idempotency_key' as key
      from jsonb_array_elements(p_operations) with ordinality o),
    total as materialized (select user_id, sum(amount) as amount from operation group by user_id),
    moved as (
      update bench.accounts a set balance = a.balance - t.amount from total t
      where a.id = t.user_id and a.balance >= t.amount returning a.id, a.balance + t.amount as before),
    entry as (
      insert into bench.entries (user_id, amount, key, balance_after)
      select o.user_id, -o.amount, o.key,
             m.before - sum(o.amount) over (partition by o.user_id order by o.place)
      from operation o join moved m on m.id = o.user_id
      returning key, balance_after)
    select json_agg(json_build_object('key', key, 'balance', balance_after)) into v_answer from entry;
    return v_answer;
  end $$;`;
}

/** Purser's users of the same names, each with one lot that no bench exhausts. */
export function richUsers(users: number): string {
  return `
  insert into public.users (id) select 'user-' || n from generate_series(0, ${users - 1}) n;
  select count(grant_credits('user-' || n, 'bonus', 'grant:bench', '[{"credits": 1000000000000}]'))
  from generate_series(0, ${users - 1}) n;
  analyze;`;
}
