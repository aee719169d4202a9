/**
 * G1 and G2: consume_credits beside the minimal durable transaction, over the same driver and
 * server, for many users and for one hot user, with 1, 8 and 32 clients. G4: beside pgledger, when
 * PGLEDGER_SQL names the files its schema is made of (pgledger.sql of a checkout of
 * pgr0ss/pgledger, before it the one that has uuid_to_ulid), in order, with commas between.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { minimalLedger, richUsers } from './support/minimal.ts';
import { startBenchPostgres } from './support/postgres.ts';
import { type Goal, report } from './support/report.ts';
import { interleave } from './support/rounds.ts';

const USERS = 10_000;
const PGLEDGER_ACCOUNTS = 2_000;
const ROUNDS = 5;
/** Of one turn: about half a second. */
const CALLS = { many: { 1: 400, 8: 1500, 32: 2000 }, hot: { 8: 500, 32: 500 } } as const;

const postgres = await startBenchPostgres();
const pool = new pg.Pool({ connectionString: postgres.connectionString, max: 32 });
pool.on('error', () => {
  // The server ends its connections when it stops.
});
const pgledger = process.env.PGLEDGER_SQL;

type Call = (user: string) => Promise<unknown>;
const minimal: Call = (user) =>
  pool.query({
    name: 'm',
    text: 'select bench.spend($1, $2, $3)',
    values: [user, 1, randomUUID()],
  });
const purser: Call = async (user) => {
  const { rows } = await pool.query({
    name: 'p',
    text: 'select consume_credits($1, $2, $3) as answer',
    values: [user, 1, randomUUID()],
  });
  if (rows[0].answer.outcome !== 'applied') throw new Error('A spend of the bench was refused.');
};

/** Accounts of pgledger; a transfer goes from a user's account to another one. */
async function createPgledger(files: string[]): Promise<Call> {
  for (const file of files) await postgres.query(readFileSync(file, 'utf8'));
  const accounts: string[] = [];
  for (let n = 0; n < PGLEDGER_ACCOUNTS; n += 1) {
    const { rows } = await pool.query(`select id from pgledger_create_account($1, 'USD')`, [
      `user-${n}`,
    ]);
    accounts.push(String(rows[0].id));
  }
  return (user) => {
    const from = Number(user.slice('user-'.length)) % PGLEDGER_ACCOUNTS;
    const to = (from + 1 + Math.floor(Math.random() * (PGLEDGER_ACCOUNTS - 1))) % PGLEDGER_ACCOUNTS;
    return pool.query({
      name: 'l',
      text: `select * from pgledger_create_transfer($1, $2, '1')`,
      values: [accounts[from], accounts[to]],
    });
  };
}

async function turn(clients: number, calls: number, call: Call, hot: boolean): Promise<number> {
  let left = calls;
  const worker = async () => {
    while (left > 0) {
      left -= 1;
      await call(hot ? 'user-0' : `user-${Math.floor(Math.random() * USERS)}`);
    }
  };
  await Promise.all(Array.from({ length: clients }, worker));
  return calls;
}

try {
  await postgres.query(minimalLedger(USERS));
  await postgres.query(richUsers(USERS));
  if (pgledger === undefined) {
    console.log('Not beside pgledger: PGLEDGER_SQL=<file>,<file> npm run bench -- spend');
  }
  const rival = pgledger === undefined ? null : await createPgledger(pgledger.split(','));
  for (const [kind, sizes] of Object.entries(CALLS)) {
    for (const [text, calls] of Object.entries(sizes)) {
      const clients = Number(text);
      const hot = kind === 'hot';
      const cases = {
        minimal: () => turn(clients, calls, minimal, hot),
        purser: () => turn(clients, calls, purser, hot),
        ...(rival && { pgledger: () => turn(clients, Math.ceil(calls / 3), rival, hot) }),
      };
      const result = await interleave<string>({
        rounds: ROUNDS,
        cases,
        baseline: 'minimal',
        pids: () => [postgres.pid],
      });
      const goals: Goal<string>[] = hot
        ? [{ case: 'purser', measure: 'rate', atLeast: 0.8 }]
        : [
            { case: 'purser', measure: 'rate', atLeast: 0.65 },
            { case: 'purser', measure: 'cpu', atMost: 1.5 },
          ];
      const ratio = result.rateRatios.pgledger;
      report({
        url: import.meta.url,
        claim: `a spend beside the minimal durable transaction, ${hot ? 'one hot user' : 'many users'}, ${clients} clients`,
        operation: 'spend',
        result,
        goals,
        notes: {
          postgres: postgres.version,
          ...(ratio && {
            'purser / pgledger': ((result.rateRatios.purser?.median ?? 0) / ratio.median).toFixed(
              2,
            ),
          }),
        },
      });
    }
  }
  const drift = await postgres.query('select * from validate_credits_consistency()');
  if (drift.length > 0) throw new Error(`The bench left ${drift.length} drifts.`);
} finally {
  await pool.end();
  await postgres.stop();
}
