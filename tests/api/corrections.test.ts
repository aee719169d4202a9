import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService, concurrently, countBy } from '../support/sqlCall.ts';
import { ADMIN_KEY, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';
import { JOB_TABLES, tableContents } from '../support/tableContents.ts';

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
/** A user with 50 credits. */
async function owner(): Promise<string> {
  count += 1;
  const user = userId(`api-corrected-${count}`);
  await callAsService(database.current, 'ensure_user', { p_user_id: user });
  expect(await grant(user, 50, 'start')).toMatchObject({ status: 200 });
  return user;
}

type Fields = Record<string, unknown>;
const post = (target: string, body: unknown, key?: string, bearer = SERVICE_KEY) =>
  stack.call('POST', target, {
    bearer,
    body,
    ...(key === undefined ? {} : { headers: { 'idempotency-key': key } }),
  });
const grant = (user: string, amount: number, key: string, more: Fields = {}) =>
  post(
    '/api/credits/grants',
    { user_id: user, amount, type: 'bonus', reason: 'sorry', ...more },
    key,
  );
const consume = (user: string, amount: number, key: string) =>
  post('/api/credits/consume', { user_id: user, amount }, key);
const refund = (user: string, transaction: string, key: string, more: Fields = {}) =>
  post('/api/credits/refund-usage', { user_id: user, transaction_id: transaction, ...more }, key);
const adjust = (user: string, amount: number, key: string, bearer = ADMIN_KEY) =>
  post(
    `/api/admin/users/${encodeURIComponent(user)}/adjust`,
    { amount, reason: 'counted twice' },
    key,
    bearer,
  );
const check = async (user: string) =>
  (await post('/api/credits/check', { user_id: user, amount: 1 })).body;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

describe('a usage refund over HTTP', () => {
  it('gives a spend back once per key, with the body of a consume, and reaches the mirror', async () => {
    const user = await owner();
    const { transaction_id, lots } = (await consume(user, 20, 'a')).body;
    const first = await refund(user, transaction_id, 'r', { amount: 5 });
    expect(first.status).toBe(200);
    expect(first.body).toEqual({
      outcome: 'applied',
      transaction_id: expect.stringMatching(/^\d+$/),
      user_id: user,
      amount: 5,
      balance: 35,
      held: 0,
      available: 35,
      version: 3,
      lots: [{ grant_id: lots[0].grant_id, amount: 5 }],
      created_at: expect.stringMatching(ISO),
    });
    expect(first.headers.get('idempotency-replayed')).toBeNull();
    const second = await refund(user, transaction_id, 'r', { amount: 5 });
    expect(second.body).toEqual(first.body);
    expect(second.headers.get('idempotency-replayed')).toBe('true');
    await waitFor(async () => {
      const { source, available, version } = await check(user);
      return source === 'redis' && available === 35 && version === 3;
    }, 'the mirror');
  });

  it('refuses what is more than is left, with how much that is', async () => {
    const user = await owner();
    const { transaction_id } = (await consume(user, 20, 'a')).body;
    await refund(user, transaction_id, 'r1', { amount: 15 });
    expect(await refund(user, transaction_id, 'r2', { amount: 6 })).toMatchObject({
      status: 400,
      body: {
        code: 'invalid_request',
        left: 5,
        detail: `Entry ${transaction_id} has 5 credits left to give back, not 6.`,
        errors: [{ path: 'amount', message: 'must be at most 5, what is left of it' }],
      },
    });
    expect((await refund(user, transaction_id, 'r2')).body).toMatchObject({ amount: 5 });
    expect(await refund(user, transaction_id, 'r3')).toMatchObject({
      status: 400,
      body: { left: 0, detail: `Entry ${transaction_id} has been given back in full.` },
    });
  });

  it('tells an unknown user, an unknown entry and a reused key apart', async () => {
    const user = await owner();
    const stranger = await owner();
    const { transaction_id } = (await consume(user, 20, 'a')).body;
    expect(await refund(userId('nobody-at-all'), transaction_id, 'r')).toMatchObject({
      status: 404,
      body: { code: 'user_not_found' },
    });
    for (const [who, entry] of [
      [stranger, transaction_id],
      [user, 'pi_1'],
      [user, '999999999'],
    ]) {
      expect(await refund(who, entry, 'r')).toMatchObject({
        status: 404,
        body: { code: 'not_found' },
      });
    }
    await refund(user, transaction_id, 'r', { amount: 1 });
    expect(await refund(user, transaction_id, 'r', { amount: 2 })).toMatchObject({
      status: 422,
      body: { code: 'idempotency_key_reused' },
    });
  });

  it('gives back what a hold captured', async () => {
    const user = await owner();
    const hold = await post('/api/credits/holds', { user_id: user, amount: 20 }, 'h');
    const captured = await post(`/api/credits/holds/${hold.body.hold_id}/capture`, {}, 'c');
    expect((await refund(user, captured.body.transaction_id, 'r')).body).toMatchObject({
      amount: 20,
      balance: 50,
    });
  });

  it('asked for 16 times at once gives back once', async () => {
    const user = await owner();
    const { transaction_id } = (await consume(user, 20, 'a')).body;
    const answers = await concurrently(16, (n) => refund(user, transaction_id, `r${n}`));
    expect(countBy(answers.map(({ status }) => String(status)))).toEqual({ 200: 1, 400: 15 });
  });
});

describe('a grant over HTTP', () => {
  it('answers as a consume, with the lot that was made', async () => {
    const user = await owner();
    const expires_at = '2999-01-01T00:00:00.000Z';
    const answer = await grant(user, 5, 'g', { expires_at, priority: 0 });
    expect(answer.body).toEqual({
      outcome: 'applied',
      transaction_id: expect.stringMatching(/^\d+$/),
      user_id: user,
      amount: 5,
      balance: 55,
      held: 0,
      available: 55,
      version: 2,
      lots: [{ grant_id: answer.body.grant_id, amount: 5 }],
      created_at: expect.stringMatching(ISO),
      grant_id: expect.stringMatching(/^\d+$/),
    });
    const replay = await grant(user, 5, 'g', { expires_at, priority: 0 });
    expect(replay.body).toEqual(answer.body);
    expect(replay.headers.get('idempotency-replayed')).toBe('true');
    // Priority 0 goes first.
    expect((await consume(user, 5, 'a')).body.lots).toEqual([
      { grant_id: answer.body.grant_id, amount: 5 },
    ]);
    const { body } = await stack.call('GET', `/api/users/${user}/transactions?type=bonus`, {
      bearer: SERVICE_KEY,
    });
    expect(body.data[0]).toMatchObject({ description: 'sorry', idempotency_key: 'grant:g' });
  });

  it('refuses an end that has passed, an unknown user and a key of another grant', async () => {
    const user = await owner();
    expect(await grant(user, 5, 'g', { expires_at: '2001-01-01' })).toMatchObject({
      status: 400,
      body: { errors: [{ path: 'expires_at', message: 'must be in the future' }] },
    });
    expect(await grant(userId('nobody-at-all'), 5, 'g')).toMatchObject({
      status: 404,
      body: { code: 'user_not_found' },
    });
    await grant(user, 5, 'g');
    for (const other of [{ amount: 6 }, { type: 'adjustment' }]) {
      expect(await grant(user, 5, 'g', other)).toMatchObject({
        status: 422,
        body: { code: 'idempotency_key_reused' },
      });
    }
  });
});

describe('an adjustment over HTTP', () => {
  const audits = (user: string) =>
    database.current.query(
      `select actor, reason, before ->> 'balance' as before, after ->> 'balance' as after
       from audit_events where user_id = $1 and action = 'adjust_credits' order by id`,
      [user],
    );

  it("is audited with the key's fingerprint, or the admin's own id", async () => {
    const user = await owner();
    expect((await adjust(user, -20, 'a')).body).toMatchObject({ amount: -20, balance: 30 });
    const admin = userId('some-admin');
    const token = await stack.token(admin, { app_metadata: { role: 'admin' } });
    expect((await adjust(user, 5, 'b', token)).body).toMatchObject({ amount: 5, balance: 35 });
    const replay = await adjust(user, -20, 'a');
    expect(replay.headers.get('idempotency-replayed')).toBe('true');
    expect(replay.body).toMatchObject({ amount: -20, balance: 30 });
    expect(await audits(user)).toEqual([
      {
        actor: expect.stringMatching(/^admin:[0-9a-f]{8}$/),
        reason: 'counted twice',
        before: '50',
        after: '30',
      },
      { actor: `user:${admin}`, reason: 'counted twice', before: '30', after: '35' },
    ]);
  });

  it('takes no more than is free, and says what is', async () => {
    const user = await owner();
    await post('/api/credits/holds', { user_id: user, amount: 20 }, 'h');
    expect(await adjust(user, -31, 'a')).toMatchObject({
      status: 402,
      body: {
        code: 'insufficient_credits',
        balance: 50,
        available: 30,
        needed: 31,
        shortfall: 1,
        buy_url: `${stack.url}/pricing`,
      },
    });
    expect(await adjust(user, -30, 'a')).toMatchObject({ status: 200, body: { available: 0 } });
    expect(await adjust(user, -29, 'a')).toMatchObject({
      status: 422,
      body: { code: 'idempotency_key_reused' },
    });
    expect(await adjust(userId('nobody-at-all'), 5, 'a')).toMatchObject({
      status: 404,
      body: { code: 'user_not_found' },
    });
    expect(await audits(user)).toHaveLength(1);
  });

  it('is not for a user, nor for the service key', async () => {
    const user = await owner();
    for (const bearer of [SERVICE_KEY, await stack.token(user)]) {
      expect(await adjust(user, 5, 'a', bearer)).toMatchObject({
        status: 403,
        body: { code: 'forbidden' },
      });
    }
  });
});

/** Each money mutation of the API, ready to be called: target, body, key, bearer. */
type Mutation = [target: string, body: unknown, key: string | undefined, bearer?: string];
const MUTATIONS: Record<string, (user: string) => Promise<Mutation>> = {
  consume: async (user) => ['/api/credits/consume', { user_id: user, amount: 7 }, 'd'],
  'consume-batch': async (user) => [
    '/api/credits/consume-batch',
    {
      operations: [
        { user_id: user, amount: 7, idempotency_key: 'd' },
        { user_id: user, amount: 70, idempotency_key: 'e' },
      ],
    },
    undefined,
  ],
  'refund-usage': async (user) => [
    '/api/credits/refund-usage',
    { user_id: user, transaction_id: (await consume(user, 9, 'spent')).body.transaction_id },
    'd',
  ],
  grants: async (user) => [
    '/api/credits/grants',
    { user_id: user, amount: 7, type: 'adjustment', reason: 'x' },
    'd',
  ],
  holds: async (user) => ['/api/credits/holds', { user_id: user, amount: 7 }, 'd'],
  capture: async (user) => [`/api/credits/holds/${await heldBy(user)}/capture`, {}, 'd'],
  release: async (user) => [`/api/credits/holds/${await heldBy(user)}/release`, {}, undefined],
  extend: async (user) => [
    `/api/credits/holds/${await heldBy(user)}/extend`,
    { expires_in_seconds: 7200 },
    undefined,
  ],
  'a payment': refundOf,
  adjust: async (user) => [
    `/api/admin/users/${user}/adjust`,
    { amount: -7, reason: 'x' },
    'd',
    ADMIN_KEY,
  ],
};
/** A payment that bought 50 more, half of which is refunded. */
async function refundOf(user: string): Promise<Mutation> {
  const payment = `pi_of${count}`;
  await callAsService(database.current, 'grant_credits', {
    p_user_id: user,
    p_type: 'purchase',
    p_key: `payment:${payment}`,
    p_lots: [{ credits: 50 }],
    p_payments: [{ payment, paid: 500, currency: 'usd' }],
  });
  const body = { version: 1, paid: 500, refunded: 250, disputed: 0, reason: 'x' };
  return [`/api/admin/payments/${payment}/state`, body, undefined, ADMIN_KEY];
}
const heldBy = async (user: string) =>
  (await post('/api/credits/holds', { user_id: user, amount: 9 }, 'held')).body.hold_id;

const TIMES = ['created_at', 'expires_at'];
/** What an answer says apart from times, and from ids that a dry run has not. */
function essence(body: Fields, dry: Fields): Fields {
  return JSON.parse(JSON.stringify(body), function (this: Fields, key, value) {
    if (TIMES.includes(key)) return undefined;
    return ['transaction_id', 'grant_id', 'hold_id'].includes(key) && !known(dry, value)
      ? null
      : value;
  });
}
const known = (dry: Fields, id: unknown) => JSON.stringify(dry).includes(JSON.stringify(id));

describe('?dry_run=true', () => {
  it.each(Object.entries(MUTATIONS))(
    'of %s writes nothing, tells the mirror nothing, binds no key, and answers as the real call after it',
    async (_name, prepare) => {
      const user = await owner();
      const [target, body, key, bearer] = await prepare(user);
      const ledger = await stack.call('GET', `/api/users/${user}/credits`, {
        bearer: SERVICE_KEY,
      });
      const copy = () =>
        waitFor(async () => {
          const answer = await check(user);
          const isNew = answer.version === ledger.body.version;
          return answer.source === 'redis' && isNew ? answer : null;
        }, 'the mirror');
      const mirrored = await copy();

      const before = await tableContents(database.current, JOB_TABLES);
      const dry = await post(`${target}?dry_run=true`, body, key, bearer);
      expect(await tableContents(database.current, JOB_TABLES)).toEqual(before);
      expect(await copy()).toEqual(mirrored);

      const real = await post(target, body, key, bearer);
      expect(real.headers.get('idempotency-replayed')).toBeNull();
      expect(dry.status).toBe(real.status);
      const { dry_run, rows, ...answer } = dry.body;
      expect(dry_run).toBe(true);
      expect(essence(answer, answer)).toEqual(essence(real.body, answer));
      expect(rows.users).toMatchObject([{ after: { user_id: user } }]);
      expect(rows.users[0].after.version).toBe(rows.users[0].before.version + 1);
    },
  );

  it('of a replay is the replay, and writes no rows', async () => {
    const user = await owner();
    const first = await consume(user, 7, 'k');
    const dry = await post('/api/credits/consume?dry_run=true', { user_id: user, amount: 7 }, 'k');
    expect(dry.headers.get('idempotency-replayed')).toBe('true');
    expect(dry.body).toMatchObject({ ...first.body, dry_run: true });
    expect(dry.body.rows).toMatchObject({ entries: [], lots: [], users: [] });
  });

  it('of a refusal is the refusal', async () => {
    const user = await owner();
    expect(
      await post('/api/credits/consume?dry_run=true', { user_id: user, amount: 51 }, 'k'),
    ).toMatchObject({ status: 402, body: { code: 'insufficient_credits', shortfall: 1 } });
    expect(
      await post('/api/credits/holds/h_999999/release?dry_run=true', {}, undefined),
    ).toMatchObject({ status: 404, body: { code: 'not_found' } });
    expect(
      await post(
        '/api/credits/grants?dry_run=true',
        { user_id: user, amount: 5, type: 'bonus', reason: 'x', expires_at: '2001-01-01' },
        'k',
      ),
    ).toMatchObject({ status: 400, body: { errors: [{ path: 'expires_at' }] } });
  });
});
