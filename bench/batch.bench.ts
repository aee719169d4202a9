/**
 * G5 and G16: consume_credits_batch beside a minimal batch function and beside COPY of the bare
 * rows, many users and one hot user, on one connection; and what a row of each ledger takes.
 * Purser takes at most 500 operations a call, so each side writes calls of 500.
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { minimalLedger, richUsers } from './support/minimal.ts';
import { startBenchPostgres } from './support/postgres.ts';
import { report } from './support/report.ts';
import { interleave } from './support/rounds.ts';

const USERS = 10_000;
const ROUNDS = 7;
const CALL = 500;
const CALLS = 8;

const postgres = await startBenchPostgres();
const client = new pg.Client({ connectionString: postgres.connectionString });

const operations = (hot: boolean) =>
  Array.from({ length: CALLS }, () =>
    JSON.stringify(
      Array.from({ length: CALL }, () => ({
        user_id: `user-${hot ? 0 : Math.floor(Math.random() * USERS)}`,
        amount: 1,
        idempotency_key: randomUUID(),
      })),
    ),
  );

async function write(text: string, payloads: string[]): Promise<number> {
  for (const payload of payloads) await client.query(text, [payload]);
  return CALL * CALLS;
}

/** The server reads rows it wrote to a file before: what COPY costs without a client's parser. */
async function prepareCopy(file: string): Promise<void> {
  await client.query(
    `copy (select 'user-' || (random() * ${USERS - 1})::int, -1, gen_random_uuid()::text, 1000, now()
           from generate_series(1, ${CALL * CALLS})) to '${file}'`,
  );
}

try {
  await client.connect();
  await postgres.query(minimalLedger(USERS));
  await postgres.query(richUsers(USERS));
  const [folder] = await postgres.query<{ data_directory: string }>('show data_directory');
  const file = `${folder?.data_directory}/bench-copy`;
  for (const hot of [false, true]) {
    let ready = { minimal: operations(hot), purser: operations(hot) };
    await prepareCopy(file);
    const result = await interleave({
      rounds: ROUNDS,
      cases: {
        copy: async () => {
          await client.query(
            `copy bench.entries (user_id, amount, key, balance_after, created_at) from '${file}'`,
          );
          return CALL * CALLS;
        },
        minimal: () => write('select bench.spend_batch($1)', ready.minimal),
        purser: () => write('select consume_credits_batch($1)', ready.purser),
      },
      pids: () => [postgres.pid],
      between: async () => {
        ready = { minimal: operations(hot), purser: operations(hot) };
        await prepareCopy(file);
      },
    });
    const beside = result.rateRatios.purser.perRound.map(
      (value, round) => value / (result.rateRatios.minimal.perRound[round] ?? 0),
    );
    const sorted = [...beside].sort((a, b) => a - b);
    report({
      url: import.meta.url,
      claim: `batches of ${CALL} spends beside COPY of bare rows and a minimal batch, ${hot ? 'one hot user' : 'many users'}`,
      operation: 'spend',
      result,
      goals: [{ case: 'purser', measure: 'rate', atLeast: hot ? 0.3 : 0.12 }],
      notes: {
        postgres: postgres.version,
        'purser / minimal batch (goal 0.75)': (sorted[Math.floor(ROUNDS / 2)] ?? 0).toFixed(2),
      },
    });
  }
  await postgres.query('vacuum bench.entries');
  await postgres.query('vacuum credit_transactions');
  const [size] = await postgres.query<{ minimal: number; purser: number }>(`
    select pg_total_relation_size('bench.entries')::float8 / (select count(*) from bench.entries) as minimal,
           pg_total_relation_size('credit_transactions')::float8 / (select count(*) from credit_transactions) as purser`);
  if (size === undefined) throw new Error('The tables have no size.');
  console.log(
    `\nbytes a row with all indexes: minimal ${Math.round(size.minimal)}, Purser ${Math.round(size.purser)}, ` +
      `ratio ${(size.purser / size.minimal).toFixed(2)} (goal at most 2.2)`,
  );
} finally {
  await client.end();
  await postgres.stop();
}
