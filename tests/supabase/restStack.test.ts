/** SUPABASE_URL and a secret key alone: the whole of Purser over a Data API that fails. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import type { Postgrest } from '../support/postgrest.ts';
import type { FaultKind } from '../support/postgrestFaults.ts';
import { concurrently } from '../support/sqlCall.ts';
import { SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

/** Repeats wait, and the machine may be busy. */
const database = testDatabase();
let stack: Stack;
let api: Postgrest;
beforeAll(async () => {
  stack = await startStack({
    connectionString: database.current.connectionString,
    adapter: 'supabase',
  });
  api = stack.postgrest as Postgrest;
});
afterAll(() => stack.stop());

const KINDS: FaultKind[] = ['reset', 'half_answer', 'html_502', 'cloudflare_522'];

/** Calls run and commit, and the first answer of each is lost, in every way there is. */
function loseFirstAnswers(timesOfEachKind: number): void {
  for (const kind of KINDS) {
    api.faults.plan({ kind, when: 'after', times: timesOfEachKind, oncePerCall: true });
  }
}

function committedInDoubt(): number {
  return api.faults.happened.filter(({ committed }) => committed).length;
}

async function buyPack(user: string): Promise<void> {
  const bearer = await stack.token(user);
  const { body } = await stack.call('POST', '/api/checkout-session', {
    bearer,
    body: { plan: 'pack_50' },
  });
  await stack.sandbox.pay(body.session_id);
  const events = await stack.stripe.events.list({ limit: 100 });
  const event = events.data.find(
    ({ type, data }) =>
      type === 'checkout.session.completed' &&
      (data.object as { id?: string }).id === body.session_id,
  );
  expect((await stack.deliver(event)).status).toBe(200);
}

async function balanceOf(user: string): Promise<number> {
  const target = `/api/users/${user}/credits`;
  return (await stack.call('GET', target, { bearer: SERVICE_KEY })).body.balance;
}

describe('Purser over the Data API', () => {
  it('is ready, and never spoke to the database itself', async () => {
    expect((await stack.call('GET', '/readyz')).status).toBe(200);
    expect(api.requests).toBeGreaterThan(0);
    const rows = await database.current.query<{ usename: string }>(
      `select distinct usename from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()`,
    );
    expect(rows).toEqual([{ usename: 'authenticator' }]);
  });

  it('credits every purchase once while answers are lost', async () => {
    const users = Array.from({ length: 6 }, (_, index) => `rest-buyer-${index}`);
    loseFirstAnswers(20);
    await concurrently(users.length, (index) => buyPack(users[index] as string));
    // A lease whose answer was lost is nobody's until it runs out: let that be now. The server's
    // own sweep then takes the event up.
    await waitFor(async () => {
      await database.current.query(
        `update stripe_webhook_events set leased_until = now() where status = 'leased';
         update scheduled_jobs set leased_until = now(), next_run_at = now()`,
      );
      const balances = await Promise.all(users.map(balanceOf));
      return balances.every((balance) => balance === 50);
    }, '50 credits for each buyer');
    expect(committedInDoubt()).toBeGreaterThan(users.length * 3);
    api.faults.clear();
    expect(await database.current.query('select * from validate_credits_consistency()')).toEqual(
      [],
    );
    const entries = await database.current.query(
      `select user_id from credit_transactions where transaction_type = 'purchase'`,
    );
    expect(entries).toHaveLength(users.length);
  });

  it('answers each consume and check rightly while answers are lost', async () => {
    const user = 'rest-buyer-0';
    const before = committedInDoubt();
    loseFirstAnswers(1);
    const answers = await concurrently(40, (index) =>
      stack.call('POST', '/api/credits/consume', {
        bearer: SERVICE_KEY,
        body: { user_id: user, amount: 2 },
        headers: { 'idempotency-key': `rest-${index}` },
      }),
    );
    const paid = answers.filter(({ status }) => status === 200);
    expect(paid).toHaveLength(25);
    expect(new Set(paid.map(({ body }) => body.transaction_id)).size).toBe(25);
    expect(answers.filter(({ status }) => status === 402)).toHaveLength(15);
    const check = await stack.call('POST', '/api/credits/check', {
      bearer: SERVICE_KEY,
      body: { user_id: user, amount: 1 },
    });
    expect(check.body).toMatchObject({ allowed: false, balance: 0 });
    expect(committedInDoubt()).toBeGreaterThan(before);
    api.faults.clear();
    expect(await balanceOf(user)).toBe(0);
    expect(await database.current.query('select * from validate_credits_consistency()')).toEqual(
      [],
    );
  });

  it('says 503 with Retry-After while the project is away, and works on when it is back', async () => {
    api.faults.plan({ kind: 'html_502', when: 'before', times: 1_000 });
    const target = '/api/users/rest-buyer-1/credits';
    const { status, headers, body } = await stack.call('POST', '/api/credits/consume', {
      bearer: SERVICE_KEY,
      body: { user_id: 'rest-buyer-1', amount: 1 },
      headers: { 'idempotency-key': 'away' },
    });
    expect(status).toBe(503);
    expect(headers.get('retry-after')).toBe('1');
    expect(body).toMatchObject({ code: 'dependency_down' });
    expect(JSON.stringify(body)).not.toContain('<');
    expect((await stack.call('GET', '/readyz')).status).toBe(503);
    api.faults.clear();
    expect((await stack.call('GET', target, { bearer: SERVICE_KEY })).body.balance).toBe(50);
    expect((await stack.call('GET', '/readyz')).status).toBe(200);
  });
});
