/**
 * Spends through the coalescer beside the same spends one by one, over the `pg` adapter, in the
 * same rounds on the same server. `minimal` is the least a durable spend can be (one guarded
 * update, one insert with a unique key), one by one over as many connections.
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { createCoalescer } from '../src/credits/coalescer.ts';
import { consumeCredits, type SpendOperation } from '../src/credits/ledger.ts';
import { createPgDatabase } from '../src/supabase/pgDatabase.ts';
import { MINIMAL_LEDGER } from './support/minimalLedger.ts';
import { startBenchPostgres } from './support/postgres.ts';
import { report } from './support/report.ts';
import { interleave, type Turn } from './support/rounds.ts';

const USERS = 2_000;
const ROUNDS = 5;

const postgres = await startBenchPostgres();
const bare = new pg.Pool({ connectionString: postgres.connectionString, max: 10 });
const db = createPgDatabase({ connectionString: postgres.connectionString });
let calls = 0;
let operations = 0;
const coalescer = createCoalescer({
  db,
  mirror: async () => {},
  observe: (call) => {
    calls += 1;
    operations += call.operations;
  },
});

const someUser = () => `user-${Math.floor(Math.random() * USERS)}`;
const hotUser = () => 'user-0';
const operationOf = (user: string): SpendOperation => ({
  user_id: user,
  amount: 1,
  idempotency_key: randomUUID(),
});

const minimal = (user: string) =>
  bare.query('select bench.spend($1, $2, $3)', [user, 1, randomUUID()]);
const oneByOne = async (user: string) => {
  const { outcome } = await consumeCredits(db, operationOf(user));
  if (outcome.outcome !== 'applied') throw new Error(`A spend was ${outcome.outcome}.`);
};
const coalesced = async (user: string) => {
  const { outcome } = await coalescer.spend(operationOf(user));
  if (outcome.outcome !== 'applied') throw new Error(`A spend was ${outcome.outcome}.`);
};

/** So many clients, each sending its next spend when the last is answered. */
async function turn(
  clients: number,
  count: number,
  user: () => string,
  spend: (user: string) => Promise<unknown>,
): Promise<Turn> {
  let left = count;
  const latenciesMs: number[] = [];
  await Promise.all(
    Array.from({ length: clients }, async () => {
      while (left > 0) {
        left -= 1;
        const startedAt = performance.now();
        await spend(user());
        latenciesMs.push(performance.now() - startedAt);
      }
    }),
  );
  return { operations: count, latenciesMs };
}

async function compare(options: {
  what: string;
  clients: number;
  count: { oneByOne: number; coalesced: number };
  user: () => string;
  atLeast?: number;
}) {
  const { what, clients, count, user, atLeast } = options;
  calls = 0;
  operations = 0;
  const result = await interleave({
    rounds: ROUNDS,
    cases: {
      'one by one': () => turn(clients, count.oneByOne, user, oneByOne),
      minimal: () => turn(clients, count.oneByOne, user, minimal),
      coalesced: () => turn(clients, count.coalesced, user, coalesced),
    },
    pids: () => [postgres.pid],
  });
  report({
    url: import.meta.url,
    claim: `${what}, ${clients} in flight`,
    operation: 'consume',
    result,
    goals: atLeast === undefined ? [] : [{ case: 'coalesced', measure: 'rate', atLeast }],
    notes: {
      postgres: postgres.version,
      'spends a call, on average': Number((operations / calls).toFixed(1)),
    },
  });
}

try {
  await postgres.query(MINIMAL_LEDGER);
  await postgres.query(
    `insert into bench.accounts select 'user-' || n, 1000000 from generate_series(0, ${USERS - 1}) n`,
  );
  await postgres.query(
    `select count(ensure_user('user-' || n)), count(grant_credits('user-' || n, 'bonus', 'grant:bench', '[{"credits": 1000000}]'))
     from generate_series(0, ${USERS - 1}) n`,
  );
  await compare({
    what: 'one spend after the other (no added wait)',
    clients: 1,
    count: { oneByOne: 200, coalesced: 200 },
    user: someUser,
    atLeast: 0.95,
  });
  await compare({
    what: 'a hot user',
    clients: 32,
    count: { oneByOne: 400, coalesced: 4_000 },
    user: hotUser,
    atLeast: 10,
  });
  await compare({
    what: 'a hot user',
    clients: 500,
    count: { oneByOne: 600, coalesced: 6_000 },
    user: hotUser,
  });
  for (const clients of [4, 64]) {
    await compare({
      what: 'many users',
      clients,
      count: { oneByOne: 600, coalesced: 1_500 },
      user: someUser,
    });
  }
} finally {
  await db.close();
  await bare.end();
  await postgres.stop();
}
