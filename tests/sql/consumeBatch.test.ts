/** consume_credits_batch: what each operation is answered, whatever stands beside it. */
import { afterEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import pg from 'pg';
import type { Json } from '../../src/core/ports.ts';
import { plantedHold } from '../support/plantedHold.ts';
import { testDatabase, testUsers, userId } from '../support/postgres.ts';
import { type Answer, callAsService, concurrently, countBy } from '../support/sqlCall.ts';

const database = testDatabase();
const call = (name: string, args: Record<string, Json | undefined>) =>
  callAsService(database.current, name, args);
const batch = (operations: Json[], args: Record<string, Json> = {}) =>
  call('consume_credits_batch', { p_operations: operations, ...args });
const operation = (user: string, amount: number, key: string) => ({
  user_id: user,
  amount,
  idempotency_key: key,
});

/**
 * The outcomes of a batch that waits for its users. Who is busy all the same, because this machine
 * took longer than a caller waits, is sent again with its key, as its caller would.
 */
async function decided(operations: Json[]): Promise<string[]> {
  const outcomes: string[] = [];
  for (let left = operations; left.length > 0; ) {
    const { results } = await batch(left, { p_wait: true });
    const busy = (results as Answer[]).filter(({ outcome }) => outcome === 'busy');
    for (const { outcome } of results) if (outcome !== 'busy') outcomes.push(outcome);
    left = busy.map(({ index }) => left[index] ?? null);
  }
  return outcomes;
}

let count = 0;
/** A user with a lot of each of these. */
async function holder(...lots: Record<string, Json>[]): Promise<string> {
  count += 1;
  const user = userId(`holder-${count}`);
  await call('ensure_user', { p_user_id: user });
  if (lots.length > 0) {
    await call('grant_credits', {
      p_user_id: user,
      p_type: 'bonus',
      p_key: 'grant:first',
      p_lots: lots,
      p_now: '2026-01-01T00:00:00Z',
    });
  }
  return user;
}

const nobody = userId('nobody');

afterEach(async () => {
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
});

/** Runs `work` while another session holds these users' rows. */
async function whileLocked<T>(users: string[], work: (release: () => Promise<void>) => Promise<T>) {
  const other = new pg.Client({ connectionString: database.current.connectionString });
  await other.connect();
  let held = true;
  const release = async () => {
    if (held) await other.query('rollback');
    held = false;
  };
  try {
    await other.query('begin');
    await other.query('select from users where id::text = any ($1) for update', [users]);
    return await work(release);
  } finally {
    await release();
    await other.end();
  }
}

describe('a batch', () => {
  it('follows the table, line by line', async () => {
    const rich = await holder({ credits: 50 });
    const poor = await holder({ credits: 3 });
    const steps: [string, number, string, Record<string, unknown>][] = [
      [rich, 7, 'a', { outcome: 'applied', amount: 7, balance: 43, held: 0, version: 2 }],
      [poor, 4, 'a', { outcome: 'insufficient_credits', balance: 3, available: 3, version: 1 }],
      [rich, 7, 'a', { outcome: 'replayed', amount: 7, balance: 43, version: 2 }],
      [nobody, 1, 'a', { outcome: 'not_found', user_id: nobody }],
      [rich, 8, 'a', { outcome: 'conflict', amount: 7, balance: 43 }],
      [rich, 44, 'b', { outcome: 'insufficient_credits', balance: 43, available: 43, version: 2 }],
      [poor, 3, 'a', { outcome: 'applied', balance: 0, version: 2 }],
      [rich, 43, 'b', { outcome: 'applied', balance: 0, available: 0, version: 3 }],
      [rich, 1, 'c', { outcome: 'insufficient_credits', balance: 0, version: 3 }],
    ];
    const operations = steps.map(([user, amount, key]) => operation(user, amount, key));
    const { results, mirrors } = await batch(operations);
    for (const [index, [user, , key, expected]] of steps.entries()) {
      expect(results[index]).toMatchObject({ index, idempotency_key: key, user_id: user });
      expect(results[index]).toMatchObject(expected);
      expect(results[index]).not.toHaveProperty('mirror');
    }
    expect(results).toHaveLength(steps.length);
    // One record for each user, as he stands after all of it.
    for (const user of [rich, poor]) {
      const { mirror } = await call('get_credit_balance', { p_user_id: user });
      expect(mirrors).toContainEqual({ user_id: user, ...mirror });
    }
    expect(mirrors).toHaveLength(2);

    // Sent again, what was written answers as it did, and what was refused is judged anew.
    const again = await batch(operations);
    expect(countBy(again.results.map((result: Answer) => result.outcome))).toEqual({
      replayed: 4,
      insufficient_credits: 1,
      conflict: 3,
      not_found: 1,
    });
    for (const index of [0, 6, 7]) {
      expect(again.results[index]).toEqual({ ...results[index], outcome: 'replayed' });
    }
  });

  it('numbers the entries of each user, and runs his balance, in the order of the request', async () => {
    const users = [await holder({ credits: 50 }), await holder({ credits: 80 })];
    const operations = [1, 2, 3].flatMap((n) =>
      users.map((user, place) => operation(user, n * (place + 1), `k${n}`)),
    );
    const { results, mirrors } = await batch(operations);
    const told = results.map((one: Answer) => [one.user_id, one.amount, one.balance, one.version]);
    const [first, second] = users;
    expect(told).toEqual([
      [first, 1, 49, 2],
      [second, 2, 78, 2],
      [first, 2, 47, 3],
      [second, 4, 74, 3],
      [first, 3, 44, 4],
      [second, 6, 68, 4],
    ]);
    for (const [place, user] of users.entries()) {
      const { mirror } = await call('get_credit_balance', { p_user_id: user });
      expect(mirrors).toContainEqual({ user_id: user, ...mirror });
      const { data } = await call('list_credit_transactions', { p_user_id: user, p_limit: 3 });
      const kept = data.map((one: Answer) => [one.entry_number, one.balance_after, one.id]);
      const given = results.filter((one: Answer) => one.user_id === user);
      expect(kept.reverse()).toEqual(
        given.map((one: Answer, n: number) => [n + 2, one.balance, one.transaction_id]),
      );
      expect(mirror).toMatchObject({ balance: [44, 68][place], version: 4 });
    }
    const again = await batch(operations);
    expect(again.results).toEqual(results.map((one: Answer) => ({ ...one, outcome: 'replayed' })));
  });

  it('keeps description and metadata, and names the lots that paid', async () => {
    const user = await holder({ credits: 5 }, { credits: 5 });
    const { results } = await batch([
      { ...operation(user, 7, 'told'), description: 'a page', metadata: { model: 'm' } },
      { ...operation(user, 1, 'untold'), description: null, metadata: null },
    ]);
    expect(results[0].lots.map((lot: Answer) => lot.amount)).toEqual([5, 2]);
    const { data } = await call('list_credit_transactions', { p_user_id: user, p_limit: 2 });
    expect(data).toMatchObject([
      { idempotency_key: 'consume:untold', description: null, metadata: {} },
      { idempotency_key: 'consume:told', description: 'a page', metadata: { model: 'm' } },
    ]);
  });

  it('knows one user by each spelling of his id', async () => {
    const user = await holder({ credits: 5 });
    const spelled = testUsers === 'uuid' ? user.toUpperCase() : user;
    const { results, mirrors } = await batch([
      operation(user, 3, 'a'),
      operation(spelled, 3, 'b'),
      operation(spelled, 3, 'a'),
    ]);
    expect(results).toMatchObject([
      { outcome: 'applied', user_id: user },
      { outcome: 'insufficient_credits', user_id: user },
      { outcome: 'replayed', user_id: user },
    ]);
    expect(mirrors).toMatchObject([{ user_id: user, balance: 2 }]);
  });

  it.each<[string, Json]>([
    ['no object', 'x'],
    ['null', null],
    ['without a user', { amount: 1, idempotency_key: 'k' }],
    ['of a user who is a number', { user_id: 5, amount: 1, idempotency_key: 'k' }],
    ['without a key', { user_id: 'u', amount: 1 }],
    ['of an empty key', { user_id: 'u', amount: 1, idempotency_key: '' }],
    ['of a key of 256 bytes', { user_id: 'u', amount: 1, idempotency_key: 'k'.repeat(256) }],
    ['without an amount', { user_id: 'u', idempotency_key: 'k' }],
    ['of nothing', { user_id: 'u', amount: 0, idempotency_key: 'k' }],
    ['of less than nothing', { user_id: 'u', amount: -1, idempotency_key: 'k' }],
    ['of half a credit', { user_id: 'u', amount: 1.5, idempotency_key: 'k' }],
    ['of a number in quotes', { user_id: 'u', amount: '1', idempotency_key: 'k' }],
    ['beyond 2^53 - 1', { user_id: 'u', amount: 9_007_199_254_740_992, idempotency_key: 'k' }],
    ['described by a list', { user_id: 'u', amount: 1, idempotency_key: 'k', description: [] }],
    ['with metadata in words', { user_id: 'u', amount: 1, idempotency_key: 'k', metadata: 'm' }],
  ])('with an operation %s is a broken contract that names its index', async (_what, broken) => {
    const user = await holder({ credits: 5 });
    const attempt = batch([operation(user, 1, 'fine'), broken]);
    await expect(attempt).rejects.toMatchObject({
      code: 'PT400',
      message: 'invalid_request',
      detail: expect.stringContaining('operations[1]'),
    });
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({ balance: 5 });
  });

  it.each<[string, Json]>([
    ['no list', { user_id: 'u' }],
    ['none', []],
    ['501', Array.from({ length: 501 }, (_, n) => operation('u', 1, `k${n}`))],
    ['null', null],
  ])('of %s is a broken contract', async (_what, operations) => {
    const attempt = call('consume_credits_batch', { p_operations: operations });
    await expect(attempt).rejects.toMatchObject({ code: 'PT400', message: 'invalid_request' });
  });

  it('ends with what is due between its spends being taken', async () => {
    const user = await holder({ credits: 10, expires_at: '2026-02-01T00:00:00Z' }, { credits: 5 });
    const { results, mirrors } = await batch([operation(user, 6, 'a'), operation(user, 5, 'b')], {
      p_now: '2026-03-01T00:00:00Z',
    });
    expect(results).toMatchObject([
      { outcome: 'insufficient_credits', balance: 5, version: 2 },
      { outcome: 'applied', balance: 0, version: 3 },
    ]);
    expect(mirrors).toMatchObject([{ balance: 0, version: 3, valid_until: null }]);
  });
});

describe('a user whom others have locked', () => {
  it('is busy with all his operations, and nobody else is kept from anything', async () => {
    const [locked, free] = [await holder({ credits: 5 }), await holder({ credits: 5 })];
    await whileLocked([locked], async () => {
      const operations = [
        operation(locked, 1, 'a'),
        operation(free, 1, 'a'),
        operation(nobody, 1, 'a'),
        operation(locked, 9, 'b'),
      ];
      const { results, mirrors } = await batch(operations);
      expect(results).toMatchObject([
        { index: 0, idempotency_key: 'a', outcome: 'busy', user_id: locked },
        { outcome: 'applied', balance: 4 },
        { outcome: 'not_found' },
        { index: 3, outcome: 'busy' },
      ]);
      expect(mirrors).toMatchObject([{ user_id: free }]);
    });
    expect((await batch([operation(locked, 1, 'a')])).results[0]).toMatchObject({
      outcome: 'applied',
    });
  });

  it('is waited for when asked', async () => {
    const user = await holder({ credits: 5 });
    await whileLocked([user], async (release) => {
      const waiting = decided([operation(user, 1, 'a'), operation(user, 1, 'b')]);
      await waitingForLock();
      await release();
      expect(await waiting).toEqual(['applied', 'applied']);
    });
  });

  it('held longer than a caller waits is busy, and who is free is served', async () => {
    const [locked, free] = [await holder({ credits: 5 }), await holder({ credits: 5 })];
    await whileLocked([locked], async () => {
      const operations = [operation(free, 1, 'a'), operation(locked, 1, 'a')];
      const { results } = await batch(operations, { p_wait: true });
      expect(results).toMatchObject([{ outcome: 'applied' }, { outcome: 'busy' }]);
    });
  });
});

/** Resolves when so many sessions of this database wait for a lock, or it is over. */
async function waitingForLock(sessions = 1, isOver = () => false): Promise<void> {
  for (;;) {
    const waiting = await database.current.query(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    if (waiting.length >= sessions || isOver()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe('batches at once', () => {
  it('500 spends of 7 from 1,000, each sent twice: 142 applied, 142 replayed, 716 refused', async () => {
    const user = await holder({ credits: 1000 });
    const answers = await concurrently(20, (index) =>
      decided(
        Array.from({ length: 50 }, (_, n) => operation(user, 7, `op-${(index * 50 + n) % 500}`)),
      ),
    );
    expect(countBy(answers.flat())).toEqual({
      applied: 142,
      replayed: 142,
      insufficient_credits: 716,
    });
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({ balance: 6 });
  });

  it('over the same users in other orders never wait in a ring', async () => {
    const users = await Promise.all(Array.from({ length: 6 }, () => holder({ credits: 1000 })));
    // One of them is held until all batches wait, so that whoever took rows in an order of its own
    // holds some by then, and a ring is sure to close.
    const [held = ''] = users;
    await whileLocked([held], async (release) => {
      let over = false;
      const outcomes = concurrently(8, (index) => {
        const order = index % 2 === 0 ? users : [...users].reverse();
        return decided(order.map((user) => operation(user, 1, `ring-${index}`)));
      })
        .then(
          (answers) => countBy(answers.flat()),
          (error: unknown) => error,
        )
        .finally(() => {
          over = true;
        });
      await waitingForLock(8, () => over);
      await release();
      expect(await outcomes).toEqual({ applied: 48 });
    });
  });
});

describe('an operation in a batch', () => {
  const lot = fc.record({
    credits: fc.constantFrom(1, 7, 40, 200),
    priority: fc.constantFrom(50, 100),
    paid: fc.boolean(),
    from_plan: fc.boolean(),
    expires_at: fc.constantFrom(
      null,
      '2026-02-01T00:00:00Z',
      '2026-04-01T00:00:00Z',
      '2030-01-01T00:00:00Z',
    ),
  });
  const spend = fc.record({
    user: fc.integer({ min: 0, max: 1 }),
    amount: fc.integer({ min: 1, max: 12 }),
    key: fc.integer({ min: 0, max: 40 }).map((n) => `key-${n}`),
  });
  const person = fc.record({
    lots: fc.array(lot, { maxLength: 5 }),
    suspended: fc.constantFrom(false, false, true),
    // Most users have no holds: so the way of most users is taken, too.
    held: fc.constantFrom(0, 0, 0, 10),
  });

  /** Answers of one user with everything that names a row replaced by its place. */
  function comparable(answer: Answer, grants: Map<string, number>): Answer {
    const { user_id: _user, transaction_id, created_at, mirror: _mirror, ...rest } = answer;
    const { index: _index, idempotency_key: _key, ...same } = rest;
    return {
      ...same,
      ...(transaction_id === undefined ? {} : { transaction_id: 'some', created_at }),
      ...(answer.lots && {
        lots: answer.lots.map((one: Answer) => ({ ...one, grant_id: grants.get(one.grant_id) })),
      }),
    };
  }

  async function twin(of: { lots: Record<string, Json>[]; suspended: boolean; held: number }) {
    const user = await holder(...of.lots);
    const balance = of.lots.reduce((sum, { credits }) => sum + Number(credits), 0);
    const held = Math.min(of.held, balance);
    await database.current.query(`begin; set local role purser_ledger;
      ${plantedHold({ user: `'${user}'`, amount: held, expiresAt: '2026-03-15', createdAt: '2026-01-01', from: `where ${held} > 0` })}
      update users set credits_suspended = ${of.suspended}, credits_held = ${held},
        credits_version = credits_version + 1 where id = '${user}'; reset role; commit`);
    const rows = await database.current.query<{ id: string }>(
      'select g.id::text from credit_grants g where g.user_id = $1 order by g.id',
      [user],
    );
    return { user, grants: new Map(rows.map(({ id }, place) => [id, place])) };
  }

  it('is answered as if it had been sent alone, whatever is beside it', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(person, person),
        fc.array(fc.array(spend, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 3 }),
        async (people, batches) => {
          const together = [await twin(people[0]), await twin(people[1])];
          const alone = [await twin(people[0]), await twin(people[1])];
          for (const [round, spends] of batches.entries()) {
            const now = `2026-0${2 * round + 1}-15T00:00:00Z`;
            const { results, mirrors } = await batch(
              spends.map(({ user, amount, key }) =>
                operation(together[user]?.user ?? '', amount, key),
              ),
              { p_now: now },
            );
            for (const [index, { user, amount, key }] of spends.entries()) {
              const answer = await call('consume_credits', {
                p_user_id: alone[user]?.user ?? '',
                p_amount: amount,
                p_key: key,
                p_now: now,
              });
              expect(comparable(results[index], together[user]?.grants ?? new Map())).toEqual(
                comparable(answer, alone[user]?.grants ?? new Map()),
              );
            }
            for (const user of new Set(spends.map((one) => one.user))) {
              const ask = async (id = '') =>
                (
                  await database.current.query<{ record: Answer }>(
                    `select purser.mirror_record(a) || jsonb_build_object('user_id', a.user_id) as record
                     from purser.accounts a where a.user_id = $1`,
                    [id],
                  )
                )[0]?.record ?? {};
              const { user_id: _alone, ...expected } = await ask(alone[user]?.user);
              const { user_id, ...given } = mirrors.find(
                (one: Answer) => one.user_id === together[user]?.user,
              );
              expect(given).toEqual(expected);
              expect(await ask(user_id)).toEqual({ user_id, ...given });
            }
          }
          expect(
            await database.current.query('select * from validate_credits_consistency()'),
          ).toEqual([]);
        },
      ),
      { numRuns: 25 },
    );
  });
});
