/**
 * Goal G21: what the full proof of the ledger costs beside merely adding it up, in the same rounds
 * on the same server. `PURSER_BENCH_ENTRIES` (default 1000000) entries of a hundredth as many
 * users, interleaved as they arrive in life; the goal names 10000000. The replay of every entry
 * and the check of what changed are told beside it.
 */
import { startBenchPostgres } from './support/postgres.ts';
import { report } from './support/report.ts';
import { interleave } from './support/rounds.ts';

const ENTRIES = Number(process.env.PURSER_BENCH_ENTRIES ?? 1_000_000);
const USERS = Math.ceil(ENTRIES / 100);
/** Users whose entries the replay is timed on: its cost an entry does not depend on how many. */
const REPLAYED = Math.min(USERS, 500);

const postgres = await startBenchPostgres();
const seconds = async (work: () => Promise<unknown>): Promise<number> => {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) / 1000;
};

try {
  await postgres.query(
    `insert into users (id) select 'user-' || n from generate_series(0, ${USERS - 1}) n`,
  );
  // Entry 1 of each user grants 1000 credits, the others spend one each.
  await postgres.query(`begin; set local role purser_ledger; set local synchronous_commit = off;
    insert into credit_grants (user_id, entry_number, amount, remaining, paid, created_at)
    select 'user-' || n, 1, 1000, 1000 - 99, true, now() from generate_series(0, ${USERS - 1}) n;
    insert into credit_transactions (user_id, entry_number, transaction_type, amount, balance_after, held_after,
      available_after, version, idempotency_key, description, lots, event_at, created_at)
    select 'user-' || u, e, case when e = 1 then 'purchase' else 'usage' end, case when e = 1 then 1000 else -1 end,
      1001 - e, 0, 1001 - e, e, 'consume:' || md5(u || ':' || e), 'image',
      jsonb_build_array(jsonb_build_object('grant_id', (u + 1)::text, 'amount', case when e = 1 then 1000 else 1 end)), now(), now()
    from generate_series(1, 100) e, generate_series(0, ${USERS - 1}) u;
    update users set credits_balance = 901, credits_version = 100, entry_count = 100;
    commit`);
  await postgres.query('vacuum analyze');
  await postgres.query('checkpoint');

  const checkNone = async (sql: string) => {
    const drift = await postgres.query(sql);
    if (drift.length > 0)
      throw new Error(`The ledger does not add up: ${JSON.stringify(drift[0])}`);
  };
  const sealing = await seconds(() => postgres.query(`select seal_credit_entries(${REPLAYED})`));
  const page = `array(select user_id from credit_seals)`;
  const replay = await seconds(() => checkNone(`select * from validate_user_credits(${page})`));
  // The other users' seals are of the right size alone: the sums do not open them.
  await postgres.query(`begin; set local role purser_ledger;
    insert into credit_seals (user_id, first_entry, last_entry, seals)
    select u.id, 1, 100, decode(repeat(md5(u.id), 200), 'hex') from users u on conflict do nothing; commit`);
  await postgres.query('vacuum analyze credit_seals');
  const changed = await seconds(() =>
    checkNone(
      `select * from validate_credits_consistency_since(clock_timestamp() - interval '1 second')`,
    ),
  );

  const result = await interleave({
    rounds: 5,
    cases: {
      sum: async () => {
        await postgres.query(
          'select count(*) from (select user_id, sum(amount) from credit_transactions group by user_id) s where sum is null',
        );
        return ENTRIES;
      },
      validate: async () => {
        await checkNone(`select * from validate_credits_consistency('sums')`);
        return ENTRIES;
      },
    },
    pids: () => [postgres.pid],
  });
  report({
    url: import.meta.url,
    claim: 'proving the whole ledger costs at most 1.3 times adding it up',
    operation: 'entry',
    result,
    goals: [
      { case: 'validate', measure: 'rate', atLeast: 1 / 1.3 },
      { case: 'validate', measure: 'cpu', atMost: 1.3 },
    ],
    notes: {
      postgres: postgres.version,
      entries: ENTRIES,
      users: USERS,
      'replay of every entry, us an entry': Math.round((replay * 1e6) / (REPLAYED * 100)),
      'sealing, us an entry': Math.round((sealing * 1e6) / (REPLAYED * 100)),
      'nothing changed since, ms': Math.round(changed * 1000),
    },
  });
} finally {
  await postgres.stop();
}
