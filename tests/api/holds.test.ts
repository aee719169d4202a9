import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase, testUsers, userId } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';
import { type CallAnswer, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

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
async function holder(lot: Record<string, boolean> = {}): Promise<string> {
  count += 1;
  const user = userId(`api-holder-${count}`);
  await callAsService(database.current, 'ensure_user', { p_user_id: user });
  await callAsService(database.current, 'grant_credits', {
    p_user_id: user,
    p_type: 'bonus',
    p_key: 'grant:1',
    p_lots: [{ credits: 50, ...lot }],
  });
  return user;
}

const post = (target: string, body?: unknown, key?: string): Promise<CallAnswer> =>
  stack.call('POST', target, {
    bearer: SERVICE_KEY,
    ...(body === undefined ? {} : { body }),
    ...(key === undefined ? {} : { headers: { 'idempotency-key': key } }),
  });
const get = (target: string) => stack.call('GET', target, { bearer: SERVICE_KEY });
const hold = (user: string, amount: number, key: string, more: Record<string, unknown> = {}) =>
  post('/api/credits/holds', { user_id: user, amount, ...more }, key);
const capture = (id: string, key: string, body?: Record<string, unknown>) =>
  post(`/api/credits/holds/${id}/capture`, body, key);
const release = (id: string) => post(`/api/credits/holds/${id}/release`);
const extend = (id: string, seconds: unknown) =>
  post(`/api/credits/holds/${id}/extend`, { expires_in_seconds: seconds });
const consume = (user: string, amount: number, key: string) =>
  post('/api/credits/consume', { user_id: user, amount }, key);
const check = async (user: string, amount: number) =>
  (await post('/api/credits/check', { user_id: user, amount })).body;

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

describe('a hold over HTTP', () => {
  it('is made with 201 and the body of the contract, and replayed under its key', async () => {
    const user = await holder();
    const first = await hold(user, 20, 'k1');
    expect(first.status).toBe(201);
    expect(first.body).toEqual({
      hold_id: expect.stringMatching(/^h_\d+$/),
      user_id: user,
      status: 'open',
      amount: 20,
      captured: 0,
      released: 0,
      remaining: 20,
      expires_at: expect.stringMatching(ISO),
      transaction_id: null,
      balance: 50,
      held: 20,
      available: 30,
      version: 2,
    });
    expect(first.headers.get('idempotency-replayed')).toBeNull();
    await capture(first.body.hold_id, 'c1', { amount: 5 });
    const second = await hold(user, 20, 'k1');
    expect(second.status).toBe(201);
    expect(second.body).toEqual(first.body);
    expect(second.headers.get('idempotency-replayed')).toBe('true');
  });

  it('keeps others from what it reserves, in checks as in spends', async () => {
    const user = await holder();
    const { hold_id } = (await hold(user, 20, 'k1')).body;
    const mirrored = await waitFor(async () => {
      const answer = await check(user, 31);
      return answer.source === 'redis' ? answer : null;
    }, 'the mirror');
    expect(mirrored).toMatchObject({ allowed: false, balance: 50, held: 20, available: 30 });
    expect(await consume(user, 31, 'c')).toMatchObject({
      status: 402,
      body: { code: 'insufficient_credits', available: 30, needed: 31, shortfall: 1 },
    });
    await release(hold_id);
    expect(await check(user, 31)).toMatchObject({ allowed: true, held: 0, available: 50 });
  });

  it('takes a feature of the catalogue in place of an amount', async () => {
    const user = await holder();
    const { status, body } = await post(
      '/api/credits/holds',
      { user_id: user, feature: 'image', units: 3 },
      'k1',
    );
    expect({ status, amount: body.amount, held: body.held }).toEqual({
      status: 201,
      amount: 15,
      held: 15,
    });
  });

  it('is captured in parts, the rest without an amount, each once per key', async () => {
    const user = await holder();
    const { hold_id } = (
      await hold(user, 20, 'k1', { description: 'Render', metadata: { job: 'j1' } })
    ).body;
    const part = await capture(hold_id, 'c1', { amount: 5 });
    expect(part).toMatchObject({
      status: 200,
      body: {
        status: 'open',
        captured: 5,
        remaining: 15,
        transaction_id: expect.stringMatching(/^\d+$/),
        balance: 45,
        held: 15,
        available: 30,
      },
    });
    const rest = await capture(hold_id, 'c2');
    expect(rest).toMatchObject({
      status: 200,
      body: { status: 'captured', captured: 20, remaining: 0, balance: 30, held: 0 },
    });
    const again = await capture(hold_id, 'c1', { amount: 5 });
    expect(again.body).toEqual(part.body);
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect((await capture(hold_id, 'c2', {})).body).toEqual(rest.body);

    const { data } = (await get(`/api/users/${user}/transactions?type=usage`)).body;
    expect(data).toMatchObject([
      { id: rest.body.transaction_id, amount: -15, idempotency_key: `capture:${hold_id}:c2` },
      { id: part.body.transaction_id, amount: -5, description: 'Render' },
    ]);
    expect(data[1].metadata).toMatchObject({ job: 'j1', hold_id });
  });

  it('is released as often as one likes, also when it was captured', async () => {
    const user = await holder();
    const one = (await hold(user, 20, 'k1')).body.hold_id;
    const released = {
      status: 200,
      body: { status: 'released', released: 20, remaining: 0, held: 0, available: 50 },
    };
    expect(await release(one)).toMatchObject(released);
    expect(await release(one)).toMatchObject(released);
    const two = (await hold(user, 20, 'k2')).body.hold_id;
    await capture(two, 'c1');
    expect(await release(two)).toMatchObject({
      status: 200,
      body: { status: 'captured', released: 0, balance: 30, available: 30 },
    });
  });

  it('is extended, and never shortened', async () => {
    const user = await holder();
    const { hold_id, expires_at } = (await hold(user, 20, 'k1')).body;
    const shorter = await extend(hold_id, 1);
    expect(shorter).toMatchObject({ status: 200, body: { expires_at, version: 2 } });
    const longer = await extend(hold_id, 7_200);
    expect(longer).toMatchObject({ status: 200, body: { status: 'open', held: 20, version: 3 } });
    expect(longer.body.expires_at > expires_at).toBe(true);
  });

  it('can be looked at, and the open ones listed page by page', async () => {
    const user = await holder();
    const ids: string[] = [];
    for (let n = 0; n < 3; n += 1) {
      ids.push((await hold(user, 1, `k${n}`, { metadata: { n } })).body.hold_id);
    }
    await capture(ids[0] ?? '', 'c');
    expect(await get(`/api/credits/holds/${ids[0]}`)).toMatchObject({
      status: 200,
      body: { hold_id: ids[0], status: 'captured', captured: 1, metadata: { n: 0 } },
    });
    const first = (await get(`/api/users/${user}/holds?limit=1`)).body;
    expect(first).toMatchObject({
      has_more: true,
      data: [{ hold_id: ids[1], metadata: { n: 1 } }],
    });
    const rest = (await get(`/api/users/${user}/holds?cursor=${first.next_cursor}`)).body;
    expect(rest).toMatchObject({ has_more: false, next_cursor: null, data: [{ hold_id: ids[2] }] });
    expect((await get(`/api/users/${await holder()}/holds`)).body).toEqual({
      data: [],
      has_more: false,
      next_cursor: null,
    });
  });
});

describe('a refusal', () => {
  it('says what is missing, writes nothing, and leaves the key free', async () => {
    const user = await holder();
    const refused = await hold(user, 51, 'k1');
    expect(refused.headers.get('content-type')).toContain('application/problem+json');
    expect(refused).toMatchObject({
      status: 402,
      body: {
        code: 'insufficient_credits',
        balance: 50,
        available: 50,
        needed: 51,
        shortfall: 1,
        buy_url: `${stack.url}/pricing`,
      },
    });
    expect(await hold(user, 50, 'k1')).toMatchObject({ status: 201 });
    expect(await hold(user, 49, 'k1')).toMatchObject({
      status: 422,
      body: { code: 'idempotency_key_reused' },
    });
  });

  it('names what is left when more is captured than was held', async () => {
    const { hold_id } = (await hold(await holder(), 20, 'k1')).body;
    await capture(hold_id, 'c1', { amount: 5 });
    expect(await capture(hold_id, 'c2', { amount: 16 })).toMatchObject({
      status: 400,
      body: {
        code: 'invalid_request',
        remaining: 15,
        errors: [{ path: 'amount', message: expect.stringContaining('15') }],
      },
    });
    expect(await capture(hold_id, 'c1', { amount: 6 })).toMatchObject({ status: 422 });
  });

  it('of a hold that has ended is 409, and shows how it ended', async () => {
    const user = await holder();
    const released = (await hold(user, 20, 'k1')).body.hold_id;
    await capture(released, 'c1', { amount: 5 });
    await release(released);
    const ended = {
      status: 409,
      body: {
        code: 'hold_ended',
        detail: expect.stringContaining('was released, with 5 of its 20 credits captured'),
        hold: { hold_id: released, status: 'released', captured: 5, released: 15 },
      },
    };
    expect(await capture(released, 'c2', { amount: 1 })).toMatchObject(ended);
    expect(await extend(released, 60)).toMatchObject(ended);
    const captured = (await hold(user, 20, 'k2')).body.hold_id;
    await capture(captured, 'c1');
    expect(await capture(captured, 'c2')).toMatchObject({
      status: 409,
      body: { hold: { status: 'captured' } },
    });
  });

  it('while suspended says so', async () => {
    const user = await holder({ from_plan: true });
    await database.current.query(`begin; set local role purser_ledger;
      update users set credits_suspended = true, credits_version = credits_version + 1
      where id = '${user}'; commit`);
    expect(await hold(user, 5, 'k1')).toMatchObject({
      status: 403,
      body: { code: 'suspended', available: 0, balance: 50 },
    });
  });

  it.each<[string, number, () => Promise<CallAnswer>, string]>([
    ['an unknown hold', 404, () => capture('h_999999999', 'c'), 'not_found'],
    ['an unknown hold to release', 404, () => release('h_999999999'), 'not_found'],
    ['an unknown hold to extend', 404, () => extend('h_999999999', 60), 'not_found'],
    ['an unknown hold to look at', 404, () => get('/api/credits/holds/h_999999999'), 'not_found'],
    ['no id of a hold', 400, () => release('1'), 'invalid_request'],
    ['an unknown user', 404, () => hold(userId('api-nobody'), 1, 'k'), 'user_not_found'],
    [
      'holds of an unknown user',
      404,
      () => get(`/api/users/${userId('api-nobody')}/holds`),
      'user_not_found',
    ],
    [
      'no key',
      400,
      () => post('/api/credits/holds', { user_id: 'u', amount: 1 }),
      'idempotency_key_missing',
    ],
    [
      'a capture without a key',
      400,
      () => post('/api/credits/holds/h_1/capture'),
      'idempotency_key_missing',
    ],
    ['no amount', 400, () => post('/api/credits/holds', { user_id: 'u' }, 'k'), 'invalid_request'],
    ['no time', 400, () => hold('u', 1, 'k', { expires_in_seconds: 0 }), 'invalid_request'],
    [
      'more than 30 days',
      400,
      () => hold('u', 1, 'k', { expires_in_seconds: 2_592_001 }),
      'invalid_request',
    ],
    ['half a second', 400, () => extend('h_1', 0.5), 'invalid_request'],
    ['no extension', 400, () => extend('h_1', undefined), 'invalid_request'],
    ['a capture of nothing', 400, () => capture('h_1', 'c', { amount: 0 }), 'invalid_request'],
    ['an unknown field', 400, () => capture('h_1', 'c', { final: true }), 'invalid_request'],
    ['a cursor that is none', 400, () => get('/api/users/u/holds?cursor=x'), 'invalid_request'],
  ])('of %s is %i', async (_what, status, send, code) => {
    expect(await send()).toMatchObject({ status, body: { code } });
  });

  it('is what a user gets: holds are the app’s', async () => {
    const user = await holder();
    const bearer = await stack.token(user);
    const { hold_id } = (await hold(user, 1, 'k1')).body;
    for (const target of [`/api/credits/holds/${hold_id}`, `/api/users/${user}/holds`]) {
      expect(await stack.call('GET', target, { bearer })).toMatchObject({ status: 403 });
    }
  });

  it('names the closed account of a hold', async () => {
    const user = await holder();
    const { hold_id } = (await hold(user, 20, 'k1')).body;
    await database.current.query(
      testUsers === 'uuid'
        ? `delete from auth.users where id = '${user}'`
        : `delete from users where id = '${user}'`,
    );
    expect(await capture(hold_id, 'c')).toMatchObject({
      status: 404,
      body: { code: 'user_not_found', detail: expect.stringContaining('account is closed') },
    });
    expect(await get(`/api/credits/holds/${hold_id}`)).toMatchObject({
      status: 200,
      body: { status: 'open', remaining: 20 },
    });
  });
});

describe('time', () => {
  it('gives the credits back by itself, and checks know it', async () => {
    const user = await holder();
    const { hold_id } = (await hold(user, 20, 'k1', { expires_in_seconds: 1 })).body;
    await waitFor(async () => (await check(user, 50)).allowed, 'the end of the hold');
    expect(await get(`/api/credits/holds/${hold_id}`)).toMatchObject({
      body: { status: 'expired', released: 20, remaining: 0 },
    });
    // The work was done all the same, and the credits are still there.
    expect(await capture(hold_id, 'late', { amount: 15 })).toMatchObject({
      status: 200,
      body: { status: 'expired', captured: 15, released: 5, balance: 35, held: 0 },
    });
    await consume(user, 35, 'c');
    expect(await capture(hold_id, 'later')).toMatchObject({
      status: 402,
      body: {
        code: 'insufficient_credits',
        needed: 5,
        shortfall: 5,
        detail: expect.stringContaining(`Hold ${hold_id} expired at`),
      },
    });
  });

  it('shows what was held through SQL in the mirror without a call', async () => {
    const user = await holder();
    await check(user, 1);
    await callAsService(database.current, 'hold_credits', {
      p_user_id: user,
      p_amount: 45,
      p_key: 'from-sql',
    });
    const seen = await waitFor(async () => {
      const answer = await check(user, 1);
      return answer.held === 45 && answer.source === 'redis' ? answer : null;
    }, 'mirror-repair');
    expect(seen).toMatchObject({ available: 5 });
  });
});

describe('many at once over HTTP', () => {
  it('10 holds, each captured whole 16 times under different keys: 10 captures', async () => {
    const user = await holder();
    const ids: string[] = [];
    for (let n = 0; n < 10; n += 1) ids.push((await hold(user, 5, `k${n}`)).body.hold_id);
    const answers = await Promise.all(
      Array.from({ length: 160 }, (_, index) =>
        capture(ids[index % 10] ?? '', `c${Math.floor(index / 10)}`),
      ),
    );
    const statuses = answers.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(10);
    expect(statuses.filter((status) => status === 409)).toHaveLength(150);
    expect((await get(`/api/users/${user}/credits`)).body).toMatchObject({ balance: 0, held: 0 });
  });

  it('a hold sent 16 times under one key is one hold, and 16 equal bodies', async () => {
    const user = await holder();
    const answers = await Promise.all(Array.from({ length: 16 }, () => hold(user, 30, 'same')));
    for (const { status, body } of answers) {
      expect(status).toBe(201);
      expect(body).toEqual(answers[0]?.body);
    }
    const fresh = answers.filter(({ headers }) => headers.get('idempotency-replayed') === null);
    expect(fresh).toHaveLength(1);
  });
});
