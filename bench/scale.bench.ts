/**
 * G15: spending and a page of history in a grown ledger beside the same in one of 10 thousand
 * entries; two servers in turns. Rows of the grown one: PURSER_BENCH_ROWS (default 1 million; the
 * goal speaks of 10 million, which takes some minutes and 5 GB to fill).
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { type BenchPostgres, startBenchPostgres } from './support/postgres.ts';
import { report } from './support/report.ts';
import { interleave, type Turn } from './support/rounds.ts';

const SMALL = 10_000;
const LARGE = Number(process.env.PURSER_BENCH_ROWS ?? 1_000_000);
const ENTRIES_PER_USER = 100;
const ROUNDS = 5;
const CALLS = 300;

interface Ledger {
  postgres: BenchPostgres;
  client: pg.Client;
  users: number;
}

/** A ledger of `rows` entries: a grant and 99 spends of each user, as the functions write them. */
async function open(rows: number): Promise<Ledger> {
  const postgres = await startBenchPostgres();
  const users = rows / ENTRIES_PER_USER;
  await postgres.query(`
    insert into public.users (id) select 'user-' || n from generate_series(0, ${users - 1}) n;
    select count(grant_credits('user-' || n, 'bonus', 'grant:bench', '[{"credits": 1000000}]'))
    from generate_series(0, ${users - 1}) n`);
  await postgres.query(`
    begin; set local role purser_ledger;
    insert into credit_transactions (user_id, entry_number, transaction_type, amount, balance_after,
      held_after, available_after, version, idempotency_key, lots, event_at, created_at)
    select g.user_id, e, 'usage', -1, 1000001 - e, 0, 1000001 - e, e, 'consume:' || gen_random_uuid(),
      jsonb_build_array(jsonb_build_object('grant_id', g.id::text, 'amount', 1)), now(), now()
    from generate_series(2, ${ENTRIES_PER_USER}) e cross join credit_grants g;
    update credit_grants set remaining = remaining - ${ENTRIES_PER_USER - 1};
    update users set credits_balance = credits_balance - ${ENTRIES_PER_USER - 1},
      credits_version = ${ENTRIES_PER_USER}, entry_count = ${ENTRIES_PER_USER};
    reset role; commit`);
  await postgres.query('vacuum analyze');
  await postgres.query('checkpoint');
  const client = new pg.Client({ connectionString: postgres.connectionString });
  await client.connect();
  return { postgres, client, users };
}

/** One call after the other, each of another user. */
async function turn({ client, users }: Ledger, text: string, keyed: boolean): Promise<Turn> {
  const latenciesMs: number[] = [];
  for (let n = 0; n < CALLS; n += 1) {
    const user = `user-${Math.floor(Math.random() * users)}`;
    const startedAt = performance.now();
    await client.query({ name: text, text, values: keyed ? [user, randomUUID()] : [user] });
    latenciesMs.push(performance.now() - startedAt);
  }
  return { operations: CALLS, latenciesMs };
}

if (!Number.isInteger(LARGE / ENTRIES_PER_USER) || LARGE < SMALL) {
  throw new Error(`PURSER_BENCH_ROWS must be a multiple of ${ENTRIES_PER_USER}, at least ${SMALL}`);
}
const ledgers: Ledger[] = [];
try {
  const small = await open(SMALL);
  ledgers.push(small);
  const large = await open(LARGE);
  ledgers.push(large);
  for (const [what, text, keyed, cpu] of [
    ['spend', 'select consume_credits($1, 1, $2)', true, 1.5],
    ['page of 20', 'select list_credit_transactions($1, 20)', false, 1.8],
  ] as const) {
    const result = await interleave({
      rounds: ROUNDS,
      cases: { small: () => turn(small, text, keyed), large: () => turn(large, text, keyed) },
      pids: () => ledgers.map(({ postgres }) => postgres.pid),
    });
    report({
      url: import.meta.url,
      claim: `a ${what} of a ledger of ${LARGE} entries beside one of ${SMALL}`,
      operation: what,
      result,
      goals: [{ case: 'large', measure: 'cpu', atMost: cpu }],
      notes: { postgres: small.postgres.version },
    });
  }
} finally {
  for (const { client, postgres } of ledgers) {
    await client.end();
    await postgres.stop();
  }
}
