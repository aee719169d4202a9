/**
 * What the seals of decision 9 cost, off the hot path: sealing an entry beside writing one, in the
 * same rounds on the same server, and the pace of a full verification.
 */
import { startBenchPostgres } from './support/postgres.ts';
import { report } from './support/report.ts';
import { interleave } from './support/rounds.ts';

const USERS = 500;
const ENTRIES = 2_000;

const postgres = await startBenchPostgres();
let key = 0;
const spend = async () => {
  key += 1;
  await postgres.query(
    `select count(consume_credits('user-' || n % ${USERS}, 1, 'k' || $1::int || '-' || n)) from generate_series(1, ${ENTRIES}) n`,
    [key],
  );
  return ENTRIES;
};

try {
  await postgres.query(
    `select count(ensure_user('user-' || n)), count(grant_credits('user-' || n, 'bonus', 'grant:bench', '[{"credits": 1000000}]'))
     from generate_series(0, ${USERS - 1}) n`,
  );
  const result = await interleave({
    rounds: 7,
    cases: {
      spend,
      seal: async () => {
        const [row] = await postgres.query<{ sealed: { entries: number } }>(
          'select seal_credit_entries(5000) as sealed',
        );
        return row?.sealed.entries ?? 0;
      },
      verify: async () => {
        const broken = await postgres.query('select * from verify_credit_chain()');
        if (broken.length > 0) throw new Error('The chain does not verify.');
        const [row] = await postgres.query<{ entries: number }>(
          'select sum(last_entry - first_entry + 1)::int as entries from credit_seals',
        );
        return row?.entries ?? 0;
      },
    },
    // Whatever came before, there is something to seal.
    between: async () => {
      await spend();
    },
    pids: () => [postgres.pid],
  });
  report({
    url: import.meta.url,
    claim: 'sealing an entry costs less than a fifth of writing it',
    operation: 'entry',
    result,
    goals: [{ case: 'seal', measure: 'cpu', atMost: 0.2 }],
    notes: { postgres: postgres.version },
  });
} finally {
  await postgres.stop();
}
