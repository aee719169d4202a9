/** Spending by many at once through HTTP, on every adapter: exact, whatever comes together. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService, concurrently, countBy } from '../support/sqlCall.ts';
import { type CallAnswer, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

const CLIENTS = 64;

const database = testDatabase();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ connectionString: database.current.connectionString });
});
afterAll(() => stack.stop());
afterEach(async () => {
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
});

let count = 0;
async function holder(credits: number): Promise<string> {
  count += 1;
  const user = userId(`together-${count}`);
  await callAsService(database.current, 'ensure_user', { p_user_id: user });
  await callAsService(database.current, 'grant_credits', {
    p_user_id: user,
    p_type: 'bonus',
    p_key: 'grant:1',
    p_lots: [{ credits }],
  });
  return user;
}

const post = (target: string, body: unknown, headers?: Record<string, string>) =>
  stack.call('POST', target, { bearer: SERVICE_KEY, body, ...(headers ? { headers } : {}) });
const consume = (user: string, amount: number, key: string) =>
  post('/api/credits/consume', { user_id: user, amount }, { 'idempotency-key': key });
const batch = (operations: unknown[]) => post('/api/credits/consume-batch', { operations });
const operation = (user: string, amount: number, key: string) => ({
  user_id: user,
  amount,
  idempotency_key: key,
});

const wordOf = ({ status, headers, body }: CallAnswer): string =>
  status !== 200 ? body.code : headers.has('idempotency-replayed') ? 'replayed' : body.outcome;

const spentKeys = async (user: string) =>
  (
    await database.current.query<{ key: string }>(
      `select substr(idempotency_key, 9) as key from credit_transactions
       where user_id = $1 and transaction_type = 'usage' order by entry_number`,
      [user],
    )
  ).map(({ key }) => key);

/** So many clients take the requests one after the other. */
async function byClients<T>(requests: (() => Promise<T>)[]): Promise<T[]> {
  const answers: T[] = [];
  let next = 0;
  await concurrently(CLIENTS, async () => {
    for (let index = next++; index < requests.length; index = next++) {
      const request = requests[index] as () => Promise<T>;
      answers[index] = await request();
    }
  });
  return answers;
}

describe(`${CLIENTS} clients`, () => {
  it('500 spends of 7 from 1,000, each sent twice: 142 applied, 142 replayed, 716 refused', async () => {
    const user = await holder(1_000);
    const keys = Array.from({ length: 1_000 }, (_, n) => `op-${n % 500}`);
    const answers = await byClients(keys.map((key) => () => consume(user, 7, key)));
    expect(countBy(answers.map(wordOf))).toEqual({
      applied: 142,
      replayed: 142,
      insufficient_credits: 716,
    });
    for (let op = 0; op < 500; op += 1) {
      const [first, second] = [answers[op], answers[op + 500]];
      expect(first?.status).toBe(second?.status);
      if (first?.status === 200) expect(second?.body).toEqual(first.body);
    }
    const { body } = await stack.call('GET', `/api/users/${user}/credits`, { bearer: SERVICE_KEY });
    expect(body).toMatchObject({ balance: 6, version: 143 });
  });

  it('on one user: every spend has its own place in the order of versions', async () => {
    const user = await holder(10_000);
    const keys = Array.from({ length: CLIENTS * 20 }, (_, n) => `k${n}`);
    const answers = await byClients(keys.map((key) => () => consume(user, 1, key)));
    expect(new Set(answers.map(wordOf))).toEqual(new Set(['applied']));
    const ordered = answers.map(({ body }) => body).sort((a, b) => a.version - b.version);
    expect(ordered.map(({ version }) => version)).toEqual(keys.map((_, n) => n + 2));
    expect(ordered.map(({ balance }) => balance)).toEqual(keys.map((_, n) => 10_000 - n - 1));
    expect([...(await spentKeys(user))].sort()).toEqual([...keys].sort());
  });
});

describe('a caller who goes away', () => {
  it('takes nobody else along, and its spend stands', async () => {
    const user = await holder(100);
    const other = new pg.Client({ connectionString: database.current.connectionString });
    await other.connect();
    try {
      await other.query('begin');
      await other.query('select from users where id::text = $1 for update', [user]);
      const leaving = new AbortController();
      const send = (key: string, signal?: AbortSignal) =>
        fetch(`${stack.url}/api/credits/consume`, {
          method: 'POST',
          headers: {
            'content-type': 'application/json',
            authorization: `Bearer ${SERVICE_KEY}`,
            'idempotency-key': key,
          },
          body: JSON.stringify({ user_id: user, amount: 1 }),
          ...(signal === undefined ? {} : { signal }),
        });
      const left = concurrently(5, (n) =>
        send(`left-${n}`, leaving.signal).catch((error: Error) => error.name),
      );
      const stayed = concurrently(5, (n) => send(`stayed-${n}`));
      await waitFor(async () => {
        const rows = await database.current.query(
          `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        );
        return rows.length > 0;
      }, 'a spend to wait for the lock');
      leaving.abort();
      expect(new Set(await left)).toEqual(new Set(['AbortError']));
      await other.query('rollback');
      expect((await stayed).map(({ status }) => status)).toEqual(Array(5).fill(200));
    } finally {
      await other.end();
    }
    // Those of the callers who left may have been sent or not: once each at most, as always.
    const keys = await spentKeys(user);
    expect(keys.filter((key) => key.startsWith('stayed'))).toHaveLength(5);
    expect(new Set(keys).size).toBe(keys.length);
  });
});

describe('POST /api/credits/consume-batch', () => {
  it('gives each operation its own outcome, in the order of the request', async () => {
    const [rich, poor, nobody] = [await holder(50), await holder(3), userId('nobody-at-all')];
    const answer = await batch([
      operation(rich, 7, 'a'),
      operation(poor, 4, 'a'),
      operation(rich, 7, 'a'),
      operation(nobody, 1, 'a'),
      operation(rich, 8, 'a'),
      operation(poor, 3, 'b'),
      { user_id: rich, feature: 'image', units: 2, idempotency_key: 'b' },
    ]);
    expect(answer.status).toBe(200);
    const id = expect.stringMatching(/^\d+$/);
    const none = { transaction_id: null, balance: null, available: null };
    const at = (balance: number) => ({ balance, available: balance });
    expect(answer.body).toEqual({
      results: [
        { index: 0, idempotency_key: 'a', outcome: 'applied', transaction_id: id, ...at(43) },
        { ...none, index: 1, idempotency_key: 'a', outcome: 'insufficient_credits', ...at(3) },
        {
          index: 2,
          idempotency_key: 'a',
          outcome: 'replayed',
          transaction_id: answer.body.results[0].transaction_id,
          ...at(43),
        },
        { ...none, index: 3, idempotency_key: 'a', outcome: 'not_found' },
        { ...none, index: 4, idempotency_key: 'a', outcome: 'conflict' },
        { index: 5, idempotency_key: 'b', outcome: 'applied', transaction_id: id, ...at(0) },
        { index: 6, idempotency_key: 'b', outcome: 'applied', transaction_id: id, ...at(33) },
      ],
    });
    // One book of keys: consume finds what the batch has spent.
    expect(wordOf(await consume(rich, 7, 'a'))).toBe('replayed');
  });

  it('answers busy for a user that other work holds, and spends for the rest', async () => {
    const [held, free] = [await holder(10), await holder(10)];
    const other = new pg.Client({ connectionString: database.current.connectionString });
    await other.connect();
    const operations = [operation(held, 1, 'k'), operation(free, 1, 'k')];
    try {
      await other.query('begin');
      await other.query('select from users where id::text = $1 for update', [held]);
      expect((await batch(operations)).body.results).toMatchObject([
        { outcome: 'busy', transaction_id: null, balance: null, available: null },
        { outcome: 'applied', balance: 9 },
      ]);
    } finally {
      await other.end();
    }
    const again = async () => (await batch(operations)).body.results;
    const results = await waitFor(async () => {
      const answered = await again();
      return answered[0].outcome === 'busy' ? null : answered;
    }, 'the lock to go');
    expect(results).toMatchObject([{ outcome: 'applied' }, { outcome: 'replayed' }]);
  });

  it('brings the mirror up to date for all of them', async () => {
    const users = [await holder(10), await holder(20), await holder(30)];
    await batch(users.map((user) => operation(user, 5, 'k')));
    for (const [index, user] of users.entries()) {
      const check = () => post('/api/credits/check', { user_id: user, amount: 1 });
      expect(
        await waitFor(async () => {
          const { body } = await check();
          return body.source === 'redis' ? body : null;
        }, 'the mirror'),
      ).toMatchObject({ available: 10 * (index + 1) - 5 });
    }
  });

  it('takes 500 operations, and every one of them twice is a replay', async () => {
    const users = [await holder(1_000), await holder(1_000)];
    const operations = Array.from({ length: 500 }, (_, n) =>
      operation(users[n % 2] ?? '', 1, `k${n}`),
    );
    const words = async () =>
      countBy(
        (await batch(operations)).body.results.map(({ outcome }: { outcome: string }) => outcome),
      );
    expect(await words()).toEqual({ applied: 500 });
    expect(await words()).toEqual({ replayed: 500 });
  });
});
