/**
 * consume_credits through both database adapters, beside the minimal durable transaction of a
 * credit (one guarded update, one insert with a unique key) over the bare pg client, in the same
 * rounds on the same server. The Data API is its stand-in on this machine (PostgREST itself where
 * POSTGREST_BIN names it), so the distance of `supabase` is that of one HTTP hop, not of a network.
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import type { Database } from '../src/core/ports.ts';
import { createPgDatabase } from '../src/supabase/pgDatabase.ts';
import { createSupabaseDatabase } from '../src/supabase/supabaseDatabase.ts';
import { engineName, startPostgrest } from '../tests/support/postgrest.ts';
import { startBenchPostgres } from './support/postgres.ts';
import { report } from './support/report.ts';
import { interleave } from './support/rounds.ts';

const USERS = 2_000;
const ROUNDS = 7;
const CALLS = { 1: 150, 16: 600 } as const;

const MINIMAL = `
  create schema bench;
  create table bench.accounts (id text primary key, balance bigint not null) with (fillfactor = 80);
  create table bench.entries (
    id bigint generated always as identity, user_id text, amount bigint, key text unique,
    balance_after bigint, created_at timestamptz default now());
  insert into bench.accounts select 'user-' || n, 1000000 from generate_series(0, ${USERS - 1}) n;
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

const postgres = await startBenchPostgres();
const postgrest = await startPostgrest({ connectionString: postgres.connectionString });
const bare = new pg.Pool({ connectionString: postgres.connectionString, max: 10 });
const overPg = createPgDatabase({ connectionString: postgres.connectionString });
const overSupabase = createSupabaseDatabase({
  url: postgrest.url,
  secretKey: postgrest.keys.secret,
});

const someUser = () => `user-${Math.floor(Math.random() * USERS)}`;
const minimal = () => bare.query('select bench.spend($1, $2, $3)', [someUser(), 1, randomUUID()]);
const consume = (db: Database) => async () => {
  const { outcome } = await db.rpc<{ outcome: string }>('consume_credits', {
    p_user_id: someUser(),
    p_amount: 1,
    p_key: randomUUID(),
  });
  if (outcome !== 'applied') throw new Error(`A spend of the bench was ${outcome}.`);
};

async function turn(inFlight: 1 | 16, call: () => Promise<unknown>): Promise<number> {
  let left = CALLS[inFlight];
  const worker = async () => {
    while (left > 0) {
      left -= 1;
      await call();
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return CALLS[inFlight];
}

try {
  await postgres.query(MINIMAL);
  await postgres.query(
    `select count(ensure_user('user-' || n)), count(grant_credits('user-' || n, 'bonus', 'grant:bench', '[{"credits": 1000000}]'))
     from generate_series(0, ${USERS - 1}) n`,
  );
  for (const inFlight of [1, 16] as const) {
    const result = await interleave({
      rounds: ROUNDS,
      cases: {
        minimal: () => turn(inFlight, minimal),
        pg: () => turn(inFlight, consume(overPg)),
        supabase: () => turn(inFlight, consume(overSupabase)),
      },
      pids: () => [postgres.pid],
    });
    report({
      url: import.meta.url,
      claim: `consume through both adapters beside the minimal transaction, ${inFlight} in flight`,
      operation: 'consume',
      result,
      notes: { postgres: postgres.version, 'data api': engineName() },
    });
  }
} finally {
  await overSupabase.close();
  await overPg.close();
  await bare.end();
  await postgrest.stop();
  await postgres.stop();
}
