/**
 * The least that a durable spend can be: one guarded update, one insert with a unique key. As
 * `bench.spend(user, amount, key)`, on accounts that the bench inserts into `bench.accounts`.
 */
export const MINIMAL_LEDGER = `
  create schema bench;
  create table bench.accounts (id text primary key, balance bigint not null) with (fillfactor = 80);
  create table bench.entries (
    id bigint generated always as identity, user_id text, amount bigint, key text unique,
    balance_after bigint, created_at timestamptz default now());
  create function bench.spend(p_user text, p_amount bigint, p_key text) returns bigint
  language plpgsql as $$
  declare v_balance bigint;
  begin
    update bench.accounts set balance = balance - p_amount
    where id = p_user and balance >= p_amount returning balance into v_balance;
    insert into bench.entries (user_id, amount, key, balance_after)
    values (p_user, -p_amount, p_key, v_balance);
    return v_balance;
  end $$`;
