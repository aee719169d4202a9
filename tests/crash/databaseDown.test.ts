/** The way to the database fails: away, or cut in the middle of a call. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import type { OpenedDatabase } from '../../src/compose/openDatabase.ts';
import type { Sandbox } from '../../src/sandbox/index.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { type FaultProxy, startFaultProxy } from '../support/faultProxy.ts';
import { clusterUrl, testDatabase } from '../support/postgres.ts';
import { buy, completedEvent, eventsOfType, startShop } from '../support/purchases.ts';
import { callAsService, concurrently } from '../support/sqlCall.ts';
import { type CallAnswer, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

const ROUNDS = 100;
/** As many as the adapter tries: with the first answer lost, every repeat fails as well. */
const ATTEMPTS = 5;

const database = testDatabase();
let sandbox: Sandbox;
let stripe: Stripe;
let proxy: FaultProxy;
beforeAll(async () => {
  ({ sandbox, stripe } = await startShop());
  proxy = await startFaultProxy({ port: Number(new URL(clusterUrl()).port) });
});
afterAll(async () => {
  await proxy.close();
  await sandbox.stop();
});

async function consistent(): Promise<void> {
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
}

async function entriesOf(user: string, type: string): Promise<number> {
  const [row] = await database.current.query<{ entries: number }>(
    `select count(*)::int as entries from credit_transactions
     where user_id = $1 and transaction_type = $2`,
    [user, type],
  );
  return row?.entries ?? 0;
}

function consume(stack: Stack, user: string, key: string): Promise<CallAnswer> {
  return stack.call('POST', '/api/credits/consume', {
    bearer: SERVICE_KEY,
    headers: { 'idempotency-key': key },
    body: { user_id: user, amount: 1 },
  });
}

function check(stack: Stack, user: string): Promise<CallAnswer> {
  const body = { user_id: user, amount: 1 };
  return stack.call('POST', '/api/credits/check', { bearer: SERVICE_KEY, body });
}

/** The contract's answer for a dependency that is away: never 2xx, never 500. */
function expectDown(answer: CallAnswer): void {
  expect(answer.status).toBe(503);
  expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
  expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  expect(answer.body).toMatchObject({
    code: 'dependency_down',
    status: 503,
    detail: expect.any(String),
    request_id: expect.any(String),
  });
}

describe('while the database is away', () => {
  let stack: Stack;
  beforeAll(async () => {
    const connectionString = proxy.through(database.current.connectionString);
    stack = await startStack({ connectionString, sandbox });
  });
  afterAll(async () => {
    proxy.setMode('pass');
    await stack.stop();
  });

  it('nothing is acknowledged, checks answer from the mirror, and the retry credits once', async () => {
    const first = await completedEvent(stripe, await buy(sandbox, stack.url, 'away'));
    expect((await stack.deliver(first)).status).toBe(200);
    await waitFor(async () => (await entriesOf('away', 'purchase')) === 1, 'the first purchase');
    await stack.call('GET', '/api/users/away/credits', { bearer: SERVICE_KEY });
    const second = await completedEvent(stripe, await buy(sandbox, stack.url, 'away'));

    proxy.setMode('refuse');
    proxy.cutAll();
    expectDown(await stack.deliver(second));
    expectDown(await consume(stack, 'away', 'while-away'));
    expectDown(await check(stack, 'nobody-has-asked-for-yet'));
    expectDown(await stack.call('GET', '/api/users/away/credits', { bearer: SERVICE_KEY }));
    expectDown(await stack.call('GET', '/readyz'));
    expect((await stack.call('GET', '/healthz')).status).toBe(200);
    const checked = await check(stack, 'away');
    expect([checked.status, checked.body]).toEqual([
      200,
      expect.objectContaining({ source: 'redis', balance: 50, allowed: true }),
    ]);

    proxy.setMode('pass');
    expect((await stack.call('GET', '/readyz')).status).toBe(200);
    for (const duplicate of [false, true]) {
      const again = await stack.deliver(second);
      expect([again.status, again.body]).toEqual([200, { received: true, duplicate }]);
    }
    await waitFor(async () => (await entriesOf('away', 'purchase')) === 2, 'the second purchase');
    const spent = await consume(stack, 'away', 'while-away');
    expect(spent.headers.get('idempotency-replayed')).toBeNull();
    expect(spent.body).toMatchObject({ outcome: 'applied', balance: 99 });
    await waitFor(async () => (await check(stack, 'away')).body.balance === 99, 'the mirror');
    await consistent();
  });
});

describe('a connection that is cut', () => {
  let stack: Stack;
  /** Functions whose calls go through the proxy; all others have a way of their own. */
  const exposed = new Set<string>();
  beforeAll(async () => {
    stack = await startStack({
      connectionString: database.current.connectionString,
      sandbox,
      wrapDatabase: (direct) => exposeTo(proxy, direct),
    });
  });
  afterAll(() => stack.stop());

  function exposeTo(through: FaultProxy, direct: OpenedDatabase): OpenedDatabase {
    const connectionString = through.through(database.current.connectionString);
    const viaProxy = createPgDatabase({ connectionString });
    return {
      ...direct,
      db: {
        ...direct.db,
        rpc: (name, args, options) =>
          (exposed.has(name) ? viaProxy : direct.db).rpc(name, args, options),
      },
      async stop() {
        await viaProxy.close();
        await direct.stop();
      },
    };
  }

  async function withFaults<T>(name: string, work: () => Promise<T>): Promise<T> {
    exposed.add(name);
    try {
      return await work();
    } finally {
      exposed.delete(name);
      proxy.setMode('pass');
    }
  }

  async function credit(user: string, credits: number): Promise<void> {
    await callAsService(database.current, 'ensure_user', { p_user_id: user });
    await callAsService(database.current, 'grant_credits', {
      p_user_id: user,
      p_type: 'bonus',
      p_key: 'grant:start',
      p_lots: [{ credits }],
    });
  }

  /** Paid sessions, each with its event. */
  async function purchases(user: string, count: number): Promise<Stripe.Event[]> {
    const ids: string[] = [];
    for (let batch = 0; batch < count; batch += 10) {
      // Ten buyers: a user may open 60 checkouts a minute.
      ids.push(...(await concurrently(10, (n) => buy(sandbox, stack.url, `${user}-${n}`))));
    }
    const events = await eventsOfType(stripe, 'checkout.session.completed');
    return ids.flatMap((id) => events.get(id) ?? []);
  }

  async function purchasesOf(user: string): Promise<{ entries: number; credits: number }> {
    const [row] = await database.current.query<{ entries: number; credits: number }>(
      `select count(*)::int as entries, sum(amount)::int as credits
       from credit_transactions where user_id like $1 || '-%'`,
      [user],
    );
    return row ?? { entries: 0, credits: 0 };
  }

  it('before a spend arrives: the repeat spends once', async () => {
    await credit('unsent', ROUNDS);
    await withFaults('consume_credits', async () => {
      for (let n = 0; n < ROUNDS; n += 1) {
        proxy.setFault('cut_on_request', 1);
        const answer = await consume(stack, 'unsent', `k${n}`);
        expect(answer.status).toBe(200);
        expect(answer.headers.get('idempotency-replayed')).toBeNull();
        expect(answer.body.balance).toBe(ROUNDS - n - 1);
      }
    });
    expect(await entriesOf('unsent', 'usage')).toBe(ROUNDS);
    await consistent();
  });

  it('before the answer to a spend: the repeat finds it committed, and nothing is spent twice', async () => {
    await credit('unheard', ROUNDS);
    let foundByAdapter = 0;
    let foundByCaller = 0;
    await withFaults('consume_credits', async () => {
      for (let n = 0; n < ROUNDS; n += 1) {
        // Every tenth time the repeats fail too, and the caller is told to come back.
        const exhausted = n % 10 === 9;
        proxy.setFault('cut_on_answer', exhausted ? ATTEMPTS : 1);
        let answer = await consume(stack, 'unheard', `k${n}`);
        if (exhausted) {
          expectDown(answer);
          answer = await consume(stack, 'unheard', `k${n}`);
        }
        expect(answer.status).toBe(200);
        expect(answer.body).toMatchObject({ outcome: 'applied', balance: ROUNDS - n - 1 });
        if (answer.headers.get('idempotency-replayed') === 'true') {
          if (exhausted) foundByCaller += 1;
          else foundByAdapter += 1;
        }
      }
    });
    tell(
      `spends in doubt: ${ROUNDS}, found committed by the adapter's repeat: ${foundByAdapter}, by the caller's: ${foundByCaller}`,
    );
    expect([foundByAdapter, foundByCaller]).toEqual([ROUNDS * 0.9, ROUNDS * 0.1]);
    expect(await entriesOf('unheard', 'usage')).toBe(ROUNDS);
    await consistent();
  });

  it('before the inbox answers: the repeat finds its own lease, and the event is credited once', async () => {
    const events = await purchases('inbox', ROUNDS);
    await withFaults('receive_webhook_event', async () => {
      for (const event of events) {
        proxy.setFault('cut_on_answer', 1);
        // The row of the first try is there; the repeat under the same token is not a duplicate.
        expect(await stack.deliver(event)).toMatchObject({
          status: 200,
          body: { duplicate: false },
        });
      }
    });
    await waitFor(
      async () => (await purchasesOf('inbox')).entries === ROUNDS,
      'every credit, without a lease that runs out',
    );
    const rows = await database.current.query<{ doubtful: number }>(
      `select count(*)::int as doubtful from stripe_webhook_events
       where stripe_event_id = any ($1) and lease = 1 and status = 'processed'`,
      [events.map((event) => event.id)],
    );
    tell(
      `events in doubt: ${ROUNDS}, worked on under the lease of the lost answer: ${rows[0]?.doubtful}`,
    );
    expect(rows).toEqual([{ doubtful: ROUNDS }]);
    for (const event of events) expect((await stack.deliver(event)).body.duplicate).toBe(true);
    expect(await purchasesOf('inbox')).toEqual({ entries: ROUNDS, credits: 50 * ROUNDS });
    await consistent();
  });

  it('before the effects are confirmed: they are there once, and so is the mirror', async () => {
    const events = await purchases('effects', ROUNDS);
    let found = 0;
    await withFaults('apply_webhook_effects', async () => {
      for (const event of events) {
        proxy.setFault('cut_on_answer', 1);
        const before = stack.logs.length;
        expect((await stack.deliver(event)).body).toEqual({ received: true, duplicate: false });
        const end = await waitFor(
          () =>
            stack.logs
              .slice(before)
              .find(({ message }) => /Successfully processed|already processed/.test(message)),
          'the end of the work',
        );
        // The repeat met the commit of the first try, and says so: it has lost no lease.
        if (end.message.includes('already processed')) found += 1;
      }
    });
    tell(`effects in doubt: ${ROUNDS}, found committed by the repeat: ${found}`);
    expect(found).toBe(ROUNDS);
    expect(stack.logs.filter(({ message }) => message.includes('Lease lost'))).toEqual([]);
    expect(await purchasesOf('effects')).toEqual({ entries: ROUNDS, credits: 50 * ROUNDS });
    // The repeat's answer carries the balance: the mirror waits for no repair.
    for (let n = 0; n < 10; n += 1) {
      expect((await check(stack, `effects-${n}`)).body).toMatchObject({
        source: 'redis',
        balance: (50 * ROUNDS) / 10,
      });
    }
    for (const event of events) expect((await stack.deliver(event)).body.duplicate).toBe(true);
    expect(await purchasesOf('effects')).toEqual({ entries: ROUNDS, credits: 50 * ROUNDS });
    await consistent();
  });
});

/** Counts for the reader of a run; Jest's console would wrap each in a stack trace. */
function tell(line: string): void {
  process.stderr.write(`  ${line}\n`);
}
