/**
 * G22: Redis has lost everything, and the mirror of PURSER_BENCH_USERS (default 100,000) is made
 * anew. The limit is what nobody can go below with the same parts: one SELECT and pipelined writes
 * of bare numbers, without versions, holds, or a look at what is there. Beside it the same with
 * the fields of the contract.
 */
import { createClient } from '@redis/client';
import pg from 'pg';
import type { Logger } from '../src/core/ports.ts';
import { createMirrorRepair } from '../src/credits/repairMirror.ts';
import { creditsKey } from '../src/redis/keys.ts';
import { createTcpRedis } from '../src/redis/tcpRedis.ts';
import { createPgDatabase } from '../src/supabase/pgDatabase.ts';
import { startRedisServer } from '../tests/support/redisServer.ts';
import { startBenchPostgres } from './support/postgres.ts';
import { report } from './support/report.ts';
import { interleave } from './support/rounds.ts';

const USERS = Number(process.env.PURSER_BENCH_USERS ?? 100_000);
const PIPELINE = 1000;

const silent: Logger = { error() {}, warn() {}, info() {}, debug() {} };
const postgres = await startBenchPostgres();
const redis = await startRedisServer({ program: 'redis-server' });
const bare = createClient({ url: redis.url(), RESP: 2 });
await bare.connect();
const reader = new pg.Client({ connectionString: postgres.connectionString });
await reader.connect();
const db = createPgDatabase({ connectionString: postgres.connectionString });
const store = await createTcpRedis({ url: redis.url(), logger: silent });

/** Writes one command for each row, so many under way at once. */
async function pipelined<Row>(rows: Row[], command: (row: Row) => string[]): Promise<number> {
  for (let start = 0; start < rows.length; start += PIPELINE) {
    await Promise.all(
      rows.slice(start, start + PIPELINE).map((row) => bare.sendCommand(command(row))),
    );
  }
  return rows.length;
}

async function expectUsers(found: number): Promise<number> {
  const stored = Number(await bare.sendCommand(['DBSIZE']));
  if (found !== USERS || stored < USERS) throw new Error(`${found} users read, ${stored} stored`);
  return found;
}

try {
  await postgres.query(`begin; set local role purser_ledger; set local synchronous_commit = off;
    insert into users (id) select 'user-' || n from generate_series(0, ${USERS - 1}) n;
    insert into credit_grants (user_id, entry_number, amount, remaining, paid, created_at)
    select 'user-' || n, 1, 1000, 1000, true, now() from generate_series(0, ${USERS - 1}) n;
    update users set credits_balance = 1000, credits_version = 1, entry_count = 1;
    commit`);
  await postgres.query('vacuum analyze');
  const [ledger] = await postgres.query<{ id: string }>('select purser.ledger_id() as id');

  const result = await interleave({
    rounds: 5,
    cases: {
      'SELECT and SET': async () => {
        const { rows } = await reader.query<{ id: string; balance: string }>(
          'select id, credits_balance::text as balance from public.users',
        );
        return expectUsers(
          await pipelined(rows, ({ id, balance }) => ['SET', creditsKey(id), balance]),
        );
      },
      'SELECT and HSET': async () => {
        const { rows } = await reader.query<Record<string, string>>(
          `select id, credits_version::text as version, credits_balance::text as balance, credits_held::text as held,
             (credits_balance - credits_held)::text as available from public.users`,
        );
        const command = ({ id = '', version = '', balance = '', held = '', available = '' }) => [
          ...['HSET', creditsKey(id), 'ledger', ledger?.id ?? '', 'version', version],
          ...['balance', balance, 'held', held, 'available', available],
          ...['suspended', '0', 'valid_until', ''],
        ];
        return expectUsers(await pipelined(rows, command));
      },
      'full pass': async () => {
        // As a server that finds Redis empty: no cursor, so a full pass, and the changes after it.
        const repair = createMirrorRepair({ db, redis: store, logger: silent, nowMs: Date.now });
        const { repaired } = await repair.run(() => false);
        return expectUsers(repaired);
      },
    },
    between: async () => {
      await bare.sendCommand(['FLUSHALL']);
    },
    pids: () => [postgres.pid, redis.pid],
  });
  report({
    url: import.meta.url,
    claim: `the mirror of ${USERS} users is made anew in at most 1.5 times what the bare numbers take`,
    operation: 'user',
    result,
    goals: [{ case: 'full pass', measure: 'rate', atLeast: 1 / 1.5 }],
    notes: { postgres: postgres.version, users: USERS },
  });
} finally {
  await reader.end();
  await db.close();
  await store.close();
  bare.destroy();
  await redis.stop();
  await postgres.stop();
}
