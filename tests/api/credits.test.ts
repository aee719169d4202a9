import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase, userId } from '../support/postgres.ts';
import { ADMIN_KEY, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

const database = testDatabase();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ connectionString: database.current.connectionString });
});
afterAll(() => stack.stop());

let count = 0;
/** A user who has bought 50 credits, settled as the success page does. */
async function buyer(): Promise<string> {
  count += 1;
  const user = userId(`api-${count}`);
  const bearer = await stack.token(user);
  const body = { plan: 'pack_50' };
  const session = await stack.call('POST', '/api/checkout-session', { bearer, body });
  await stack.sandbox.pay(session.body.session_id);
  const target = `/api/checkout-session/${session.body.session_id}/fulfill`;
  expect((await stack.call('POST', target, { bearer })).body).toMatchObject({ status: 'credited' });
  return user;
}

const post = (target: string, body: unknown, headers?: Record<string, string>) =>
  stack.call('POST', target, { bearer: SERVICE_KEY, body, ...(headers ? { headers } : {}) });
const consume = (user: string, amount: number, key: string) =>
  post('/api/credits/consume', { user_id: user, amount }, { 'idempotency-key': key });
const check = (user: string, amount: number) =>
  post('/api/credits/check', { user_id: user, amount });

describe('spending over HTTP', () => {
  it('spends once per key and replays the same body', async () => {
    const user = await buyer();
    const first = await consume(user, 7, 'k1');
    expect(first).toMatchObject({
      status: 200,
      body: { outcome: 'applied', user_id: user, amount: 7, balance: 43, held: 0, available: 43 },
    });
    expect(first.headers.get('idempotency-replayed')).toBeNull();
    const second = await consume(user, 7, 'k1');
    expect(second.body).toEqual(first.body);
    expect(second.headers.get('idempotency-replayed')).toBe('true');
  });

  it('answers refusals as problems that say what to do, and writes nothing', async () => {
    const user = await buyer();
    await consume(user, 10, 'k');
    const lacking = await consume(user, 41, 'k2');
    expect(lacking.status).toBe(402);
    expect(lacking.headers.get('content-type')).toContain('application/problem+json');
    expect(lacking.body).toMatchObject({
      code: 'insufficient_credits',
      balance: 40,
      available: 40,
      needed: 41,
      shortfall: 1,
      buy_url: `${stack.url}/pricing`,
    });
    expect(await consume(user, 11, 'k')).toMatchObject({
      status: 422,
      body: { code: 'idempotency_key_reused' },
    });
    expect(await consume(userId('nobody-at-all'), 1, 'k')).toMatchObject({
      status: 404,
      body: { code: 'user_not_found' },
    });
    // The key of a refusal is still free.
    expect(await consume(user, 40, 'k2')).toMatchObject({ status: 200, body: { balance: 0 } });
  });

  it('takes a feature of the catalogue in place of an amount', async () => {
    const user = await buyer();
    const body = { user_id: user, feature: 'image', units: 3 };
    expect((await post('/api/credits/check', body)).body).toMatchObject({
      allowed: true,
      amount: 15,
    });
    const spent = await post('/api/credits/consume', body, { 'idempotency-key': 'img' });
    expect(spent.body).toMatchObject({ amount: 15, balance: 35 });
  });

  it('checks from the mirror, and refuses what is not there', async () => {
    const user = await buyer();
    await consume(user, 20, 'k');
    const mirrored = await waitFor(async () => {
      const { body } = await check(user, 30);
      return body.source === 'redis' ? body : null;
    }, 'the mirror');
    expect(mirrored).toEqual({
      user_id: user,
      allowed: true,
      amount: 30,
      balance: 30,
      held: 0,
      available: 30,
      version: 2,
      source: 'redis',
      reason: null,
      buy_url: null,
    });
    expect((await check(user, 31)).body).toMatchObject({
      allowed: false,
      reason: 'insufficient_credits',
      buy_url: `${stack.url}/pricing`,
    });
    expect((await check(userId('nobody-at-all'), 1)).status).toBe(404);
  });

  it('makes many at once exact: no spend twice, none below zero', async () => {
    const user = await buyer();
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, n) => consume(user, 7, `op-${n % 20}`)),
    );
    const statuses = answers.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(14);
    expect(statuses.filter((status) => status === 402)).toHaveLength(26);
    const { body } = await stack.call('GET', `/api/users/${user}/credits`, { bearer: SERVICE_KEY });
    expect(body).toMatchObject({ balance: 1, version: 8 });
  });
});

describe('a user', () => {
  it('sees his own balance and history, page by page, and as CSV', async () => {
    const user = await buyer();
    for (let n = 0; n < 5; n += 1) await consume(user, 1, `k${n}`);
    const bearer = await stack.token(user);
    const balance = await stack.call('GET', '/api/credits', { bearer });
    expect(balance.body).toMatchObject({
      user_id: user,
      balance: 45,
      debt: 0,
      plan: 'free',
      expiring: [],
      next_grant: null,
    });
    expect(balance.headers.get('cache-control')).toBe('no-store');

    const first = (await stack.call('GET', '/api/credits/transactions?limit=4', { bearer })).body;
    expect(first.data.map((entry: { entry_number: number }) => entry.entry_number)).toEqual([
      6, 5, 4, 3,
    ]);
    const rest = (
      await stack.call('GET', `/api/credits/transactions?limit=4&cursor=${first.next_cursor}`, {
        bearer,
      })
    ).body;
    expect(rest).toMatchObject({ has_more: false, next_cursor: null });
    expect(rest.data).toHaveLength(2);
    const usage = (await stack.call('GET', '/api/credits/transactions?type=usage', { bearer }))
      .body;
    expect(usage.data).toHaveLength(5);

    const csv = await stack.call('GET', '/api/credits/transactions.csv', { bearer });
    expect(csv.headers.get('content-type')).toContain('text/csv');
    expect(csv.body.trim().split('\n')).toHaveLength(7);
  });

  it('never sees another: a spoofed header or parameter changes nothing', async () => {
    const user = await buyer();
    const bearer = await stack.token(user);
    const other = await buyer();
    const { body } = await stack.call('GET', '/api/credits', {
      bearer,
      headers: { 'x-user-id': other },
    });
    expect(body.user_id).toBe(user);
    expect(
      await stack.call('GET', '/api/credits', { headers: { 'x-user-id': other } }),
    ).toMatchObject({ status: 401 });
    expect(await stack.call('GET', `/api/users/${other}/credits`, { bearer })).toMatchObject({
      status: 403,
    });
  });
});

describe('selling', () => {
  it('makes one session of one Idempotency-Key', async () => {
    const bearer = await stack.token(await buyer());
    const buy = () =>
      stack.call('POST', '/api/checkout-session', {
        bearer,
        body: { plan: 'pack_50' },
        headers: { 'idempotency-key': 'click-1' },
      });
    const [first, second] = [await buy(), await buy()];
    expect(first.body).toMatchObject({ mode: 'payment', plan: 'pack_50', credits: 50 });
    expect(second.body).toEqual(first.body);
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['an unknown plan', { plan: 'pack_51' }, 'pack_50'],
    ['an unknown price', { price_id: 'price_unknown' }, 'price_unknown'],
    [
      'a foreign return address',
      { plan: 'pack_50', success_url: 'https://evil.test/' },
      'PURSER_RETURN_ORIGINS',
    ],
    ['no quantity', { plan: 'pack_50', quantity: 0 }, 'quantity'],
    ['a part of a pack', { plan: 'pack_50', quantity: 1.5 }, 'quantity'],
    ['a price of its own', { plan: 'pack_50', amount: 1 }, 'amount'],
  ])('refuses %s with 400 and what to do', async (_what, body, hint) => {
    const bearer = await stack.token(userId('api-1'));
    const answer = await stack.call('POST', '/api/checkout-session', { bearer, body });
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
    expect(JSON.stringify(answer.body)).toContain(hint);
  });

  it('shows prices to everybody, and says when they have not changed', async () => {
    const answer = await stack.call('GET', '/api/pricing');
    expect(answer.body).toMatchObject({ mode: 'test', currency: 'usd' });
    expect(answer.body.packs).toHaveLength(3);
    const etag = answer.headers.get('etag') ?? '';
    const again = await stack.call('GET', '/api/pricing', {
      // fetch would add no-cache by itself, which asks for the whole answer.
      headers: { 'if-none-match': etag, 'cache-control': 'max-age=0' },
    });
    expect(again.status).toBe(304);
  });

  it('opens the billing portal for the user alone', async () => {
    const bearer = await stack.token(await buyer());
    const answer = await stack.call('POST', '/api/billing-portal-session', { bearer, body: {} });
    expect(answer.body.url).toContain(stack.sandbox.origin);
    expect((await stack.call('POST', '/api/billing-portal-session', { body: {} })).status).toBe(
      401,
    );
  });

  it('makes a new customer where somebody deleted the old one at Stripe', async () => {
    const user = await buyer();
    const bearer = await stack.token(user);
    const customerOf = async () =>
      (
        await database.current.query<{ id: string }>(
          'select stripe_customer_id as id from users where id::text = $1',
          [user],
        )
      )[0]?.id ?? '';
    const open = () => stack.call('POST', '/api/billing-portal-session', { bearer, body: {} });
    expect((await open()).status).toBe(200);
    const gone = await customerOf();
    await stack.stripe.customers.del(gone);
    expect((await open()).status).toBe(200);
    expect(await customerOf()).not.toBe(gone);
    // And a plan is sold to the next one as well.
    await stack.stripe.customers.del(await customerOf());
    const plan = { plan: 'individual' };
    const sold = await stack.call('POST', '/api/checkout-session', { bearer, body: plan });
    expect(sold).toMatchObject({ status: 200, body: { mode: 'subscription' } });
  });
});

describe('a webhook', () => {
  const event = () => ({
    id: `evt_api_${count++}`,
    object: 'event',
    type: 'charge.updated',
    created: 1_600_000_000,
    livemode: false,
    data: { object: { id: 'ch_1' } },
  });
  const now = () => Math.floor(Date.now() / 1000);

  it('of any age is taken when its signature is fresh', async () => {
    expect(await stack.deliver(event())).toMatchObject({
      status: 200,
      body: { received: true, duplicate: false },
    });
  });

  it.each<[string, { secret?: string; timestamp?: () => number }]>([
    ['of another secret', { secret: 'whsec_of_somebody_else' }],
    ['made too long ago', { timestamp: () => now() - 302 }],
    ['made in the future', { timestamp: () => now() + 302 }],
  ])('with a signature %s is refused and not stored', async (_what, { secret, timestamp }) => {
    const sent = event();
    const answer = await stack.deliver(sent, {
      ...(secret === undefined ? {} : { secret }),
      ...(timestamp === undefined ? {} : { timestamp: timestamp() }),
    });
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_signature' } });
    const rows = await database.current.query(
      'select 1 from stripe_webhook_events where stripe_event_id = $1',
      [sent.id],
    );
    expect(rows).toEqual([]);
  });

  it('signed but no event is a 400 that says so', async () => {
    expect(await stack.deliver('{"hello": 1}')).toMatchObject({
      status: 400,
      body: { code: 'invalid_request' },
    });
    expect(await stack.deliver('{')).toMatchObject({
      status: 400,
      body: { code: 'invalid_request' },
    });
  });

  it('with text that Postgres cannot hold is kept all the same', async () => {
    const sent = {
      ...event(),
      data: { object: { id: 'ch_1', description: 'nul \u0000 and \uD800 half' } },
    };
    expect(await stack.deliver(sent)).toMatchObject({ status: 200 });
  });
});

describe('operators', () => {
  it('put ended events back to work, and see first which', async () => {
    const sent = {
      id: 'evt_dead_1',
      object: 'event',
      type: 'charge.updated',
      created: 1_600_000_000,
      livemode: false,
      data: { object: { id: 'ch_dead' } },
    };
    await stack.deliver(sent);
    const status = async () => {
      const [row] = await database.current.query<{ status: string }>(
        `select status from stripe_webhook_events where stripe_event_id = 'evt_dead_1'`,
      );
      return row?.status;
    };
    await waitFor(async () => (await status()) === 'ignored', 'the end of the event');
    await database.current.query(
      `update stripe_webhook_events set status = 'dead' where stripe_event_id = 'evt_dead_1'`,
    );
    const retry = (body: unknown) =>
      stack.call('POST', '/api/admin/stripe/retry-webhooks', { bearer: ADMIN_KEY, body });
    expect((await retry({ status: 'dead', dry_run: true })).body).toEqual({
      matched: 1,
      requeued: 0,
      event_ids: ['evt_dead_1'],
      replay_id: null,
      dry_run: true,
    });
    expect(await status()).toBe('dead');
    expect((await retry({})).body).toMatchObject({ matched: 1, requeued: 1 });
    await waitFor(async () => (await status()) === 'ignored', 'the second end of the event');
    expect(
      await stack.call('POST', '/api/admin/stripe/retry-webhooks', {
        bearer: SERVICE_KEY,
        body: {},
      }),
    ).toMatchObject({ status: 403 });
  });

  it('run a job now, and learn which jobs there are', async () => {
    const run = await stack.call('POST', '/api/admin/jobs/expire-credits/run', {
      bearer: ADMIN_KEY,
    });
    expect(run).toMatchObject({ status: 200, body: { job: 'expire-credits', outcome: 'done' } });
    const unknown = await stack.call('POST', '/api/admin/jobs/no-such-job/run', {
      bearer: ADMIN_KEY,
    });
    expect(unknown).toMatchObject({ status: 404, body: { code: 'not_found' } });
    expect(unknown.body.detail).toContain('webhook-sweep');
  });
});
