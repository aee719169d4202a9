/** Batches of spends through both database adapters, many at once, with exact counts. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import type { Database } from '../../src/core/ports.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { createSupabaseDatabase } from '../../src/supabase/supabaseDatabase.ts';
import { testDatabase } from '../support/postgres.ts';
import { type Postgrest, startPostgrest } from '../support/postgrest.ts';
import { callAsService, concurrently, countBy } from '../support/sqlCall.ts';

const database = testDatabase();
let api: Postgrest;
const opened: Partial<Record<'pg' | 'supabase', Database>> = {};
beforeAll(async () => {
  const { connectionString } = database.current;
  api = await startPostgrest({ connectionString });
  opened.pg = createPgDatabase({ connectionString });
  opened.supabase = createSupabaseDatabase({ url: api.url, secretKey: api.keys.secret });
});
afterAll(async () => {
  await Promise.all(Object.values(opened).map((db) => db.close()));
  await api.stop();
});

interface Results {
  results: { outcome: string; idempotency_key: string; balance: number }[];
}

async function holder(user: string, credits: number): Promise<string> {
  await callAsService(database.current, 'ensure_user', { p_user_id: user });
  await callAsService(database.current, 'grant_credits', {
    p_user_id: user,
    p_type: 'bonus',
    p_key: 'grant:first',
    p_lots: [{ credits }],
  });
  return user;
}

describe.each(['pg', 'supabase'] as const)('over %s', (kind) => {
  const batch = (operations: { user_id: string; amount: number; idempotency_key: string }[]) =>
    (opened[kind] as Database).rpc<Results>(
      'consume_credits_batch',
      { p_operations: operations, p_wait: true },
      { timeoutMs: 30_000 },
    );
  const consistent = async () =>
    expect(await database.current.query('select * from validate_credits_consistency()')).toEqual(
      [],
    );

  it('500 spends of 7 from 1,000, each sent twice: 142 applied, 142 replayed, 716 refused', async () => {
    const user = await holder(`spender-${kind}`, 1000);
    const answers = await concurrently(20, (index) =>
      batch(
        Array.from({ length: 50 }, (_, n) => ({
          user_id: user,
          amount: 7,
          idempotency_key: `op-${(index * 50 + n) % 500}`,
        })),
      ),
    );
    const results = answers.flatMap((answer) => answer.results);
    expect(countBy(results.map(({ outcome }) => outcome))).toEqual({
      applied: 142,
      replayed: 142,
      insufficient_credits: 716,
    });
    const balance = await callAsService(database.current, 'get_credit_balance', {
      p_user_id: user,
    });
    expect(balance).toMatchObject({ balance: 6, version: 143 });
    await consistent();
  });

  it('64 clients with 200 spends each of one user: every one written, each with its own version', async () => {
    const user = await holder(`hot-${kind}`, 20_000);
    const results = await concurrently(64, async (client) => {
      const operations = Array.from({ length: 200 }, (_, n) => ({
        user_id: user,
        amount: 1,
        idempotency_key: `c${client}-${n}`,
      }));
      // Who is told that the user is busy sends again with the same keys.
      for (;;) {
        const answer = await batch(operations);
        if (answer.results.every(({ outcome }) => outcome !== 'busy')) return answer.results;
      }
    });
    const all = results.flat();
    expect(countBy(all.map(({ outcome }) => outcome))).toEqual({ applied: 12_800 });
    // One after the other: each balance from 19,999 down to 7,200 was answered once.
    expect(all.map(({ balance }) => balance).sort((a, b) => b - a)).toEqual(
      Array.from({ length: 12_800 }, (_, n) => 19_999 - n),
    );
    await consistent();
  });

  it('one key sent by 16 batches at once: one applied, fifteen the same answer', async () => {
    const user = await holder(`repeater-${kind}`, 100);
    const answers = await concurrently(16, () =>
      batch([{ user_id: user, amount: 7, idempotency_key: 'once' }]),
    );
    const results = answers.map(({ results: [only] }) => only);
    expect(countBy(results.map((one) => String(one?.outcome)))).toEqual({
      applied: 1,
      replayed: 15,
    });
    expect(new Set(results.map((one) => one?.balance))).toEqual(new Set([93]));
    await consistent();
  });

  it('while one row is held, batches of the others go on', async () => {
    const [held, free] = [await holder(`held-${kind}`, 50), await holder(`free-${kind}`, 50)];
    const other = new pg.Client({ connectionString: database.current.connectionString });
    await other.connect();
    try {
      await other.query('begin');
      await other.query('select from users where id = $1 for update', [held]);
      // Held until all are answered: had one waited for the row, it would never be.
      const answers = await concurrently(10, (n) =>
        (opened[kind] as Database).rpc<Results>('consume_credits_batch', {
          p_operations: [held, free].map((user_id) => ({
            user_id,
            amount: 1,
            idempotency_key: `k${n}`,
          })),
        }),
      );
      const outcomes = answers.map(({ results: [first] }) => first?.outcome);
      expect(countBy(outcomes.map(String))).toEqual({ busy: 10 });
      for (const { results } of answers) {
        // Ten batches of the free one meet each other, too: each is served or told so at once.
        expect(['applied', 'busy']).toContain(results[1]?.outcome);
      }
    } finally {
      await other.query('rollback');
      await other.end();
    }
    await consistent();
  });
});
