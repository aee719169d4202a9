/** SIGKILL at every border a credit crosses; then a fresh server on the same database. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import type { Sandbox } from '../../src/sandbox/index.ts';
import { type ServerProcess, startFailingServer } from '../support/crashServer.ts';
import { testDatabase } from '../support/postgres.ts';
import { buy, completedEvent, startShop } from '../support/purchases.ts';
import { callAsService } from '../support/sqlCall.ts';
import {
  ADMIN_KEY,
  type CallAnswer,
  callServer,
  deliverEvent,
  SERVICE_KEY,
  type Stack,
  stackEnv,
  startStack,
  waitFor,
} from '../support/stack.ts';

/** Each test starts two servers. */
const database = testDatabase();
let sandbox: Sandbox;
let stripe: Stripe;
beforeAll(async () => {
  ({ sandbox, stripe } = await startShop());
});
afterAll(() => sandbox.stop());

interface Fault {
  FAULT_RPC: string;
  FAULT_WHEN: 'before' | 'after';
  FAULT_SIGNAL?: 'SIGSTOP';
}

function startDoomed(fault: Fault): Promise<ServerProcess> {
  const env = stackEnv(database.current.connectionString, sandbox);
  return startFailingServer({ ...env, ...fault });
}

/** Runs `work` against a fresh, healthy server on the same database. */
async function afterwards(work: (stack: Stack) => Promise<void>): Promise<void> {
  // The dead one may have been at its own sweep, whose lease keeps everybody else's for a minute.
  await database.current.query(
    `update scheduled_jobs set leased_until = now() where leased_until > now()`,
  );
  const stack = await startStack({
    connectionString: database.current.connectionString,
    sandbox,
  });
  try {
    await work(stack);
  } finally {
    await stack.stop();
  }
}

/** What the row of an event says; undefined when there is none. */
async function eventRow(event: Stripe.Event) {
  const [row] = await database.current.query<{ status: string; lease: number }>(
    `select status, lease::int from stripe_webhook_events where stripe_event_id = $1`,
    [event.id],
  );
  return row;
}

/** What 60 seconds do: nobody can have the lease of a dead worker any longer. */
async function runOutLease(event: Stripe.Event): Promise<void> {
  await database.current.query(
    `update stripe_webhook_events set leased_until = now() - interval '1 second'
     where stripe_event_id = $1 and status = 'leased'`,
    [event.id],
  );
}

/** A run of our own, after the one that the server itself may be at. */
async function runJob(stack: Stack, job: string): Promise<void> {
  await waitFor(async () => {
    const { body } = await stack.call('POST', `/api/admin/jobs/${job}/run`, { bearer: ADMIN_KEY });
    return body.outcome === 'done';
  }, `a run of ${job}`);
}

const sweep = (stack: Stack) => runJob(stack, 'webhook-sweep');

const entriesOf = (user: string) =>
  database.current.query<{ transaction_type: string; amount: number }>(
    `select transaction_type, amount::int from credit_transactions where user_id = $1 order by entry_number`,
    [user],
  );

const PURCHASE = { transaction_type: 'purchase', amount: 50 };

/** The ledger has these entries, the mirror says the same, and nothing drifts. */
async function expectBalance(
  stack: Stack,
  user: string,
  entries: { transaction_type: string; amount: number }[],
): Promise<void> {
  expect(await entriesOf(user)).toEqual(entries);
  const balance = entries.reduce((sum, { amount }) => sum + amount, 0);
  const read = await stack.call('GET', `/api/users/${user}/credits`, { bearer: SERVICE_KEY });
  expect(read.body).toMatchObject({ source: 'ledger', balance, available: balance });
  const body = { user_id: user, amount: 1 };
  const check = await stack.call('POST', '/api/credits/check', { bearer: SERVICE_KEY, body });
  expect(check.body).toMatchObject({
    source: 'redis',
    balance,
    available: balance,
    version: read.body.version,
  });
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
}

async function consume(url: string, user: string, key: string): Promise<CallAnswer> {
  return callServer(url, 'POST', '/api/credits/consume', {
    bearer: SERVICE_KEY,
    headers: { 'idempotency-key': key },
    body: { user_id: user, amount: 7 },
  });
}

/** A purchase through the doomed server, its event not yet delivered. */
async function paid(doomed: ServerProcess, user: string) {
  const sessionId = await buy(sandbox, doomed.url, user);
  return { sessionId, event: await completedEvent(stripe, sessionId) };
}

describe('a server killed while it credits a purchase', () => {
  it('before the event is in the inbox: Stripe hears nothing and its retry credits once', async () => {
    const doomed = await startDoomed({ FAULT_RPC: 'receive_webhook_event', FAULT_WHEN: 'before' });
    const { event } = await paid(doomed, 'kill-1');
    await expect(deliverEvent(stripe, doomed.url, event)).rejects.toThrow('fetch failed');
    expect(await doomed.ended).toBe('SIGKILL');
    expect(await eventRow(event)).toBeUndefined();
    await afterwards(async (stack) => {
      const again = await stack.deliver(event);
      expect([again.status, again.body]).toEqual([200, { received: true, duplicate: false }]);
      await waitFor(async () => (await eventRow(event))?.status === 'processed', 'the event');
      await expectBalance(stack, 'kill-1', [PURCHASE]);
    });
  });

  it('between inbox and answer: the retry is a duplicate and the sweep credits once', async () => {
    const doomed = await startDoomed({ FAULT_RPC: 'receive_webhook_event', FAULT_WHEN: 'after' });
    const { event } = await paid(doomed, 'kill-2');
    await expect(deliverEvent(stripe, doomed.url, event)).rejects.toThrow('fetch failed');
    expect(await doomed.ended).toBe('SIGKILL');
    expect(await eventRow(event)).toEqual({ status: 'leased', lease: 1 });
    await afterwards(async (stack) => {
      const again = await stack.deliver(event);
      expect([again.status, again.body]).toEqual([200, { received: true, duplicate: true }]);
      await sweep(stack);
      // The lease holds until it runs out: the worker might be slow instead of dead.
      expect(await entriesOf('kill-2')).toEqual([]);
      await runOutLease(event);
      await sweep(stack);
      expect(await eventRow(event)).toEqual({ status: 'processed', lease: 2 });
      await expectBalance(stack, 'kill-2', [PURCHASE]);
    });
  });

  it('between inbox and effects: the sweep credits once', async () => {
    const doomed = await startDoomed({ FAULT_RPC: 'apply_webhook_effects', FAULT_WHEN: 'before' });
    const { event } = await paid(doomed, 'kill-3');
    expect((await deliverEvent(stripe, doomed.url, event)).status).toBe(200);
    expect(await doomed.ended).toBe('SIGKILL');
    expect(await eventRow(event)).toEqual({ status: 'leased', lease: 1 });
    expect(await entriesOf('kill-3')).toEqual([]);
    await afterwards(async (stack) => {
      await runOutLease(event);
      await sweep(stack);
      expect(await eventRow(event)).toEqual({ status: 'processed', lease: 2 });
      await expectBalance(stack, 'kill-3', [PURCHASE]);
      expect((await stack.deliver(event)).body).toEqual({ received: true, duplicate: true });
    });
  });

  it('inside the transaction of its effects: all of it happens or nothing, and never twice', async () => {
    const env = stackEnv(database.current.connectionString, sandbox);
    const doomed = await startFailingServer(env);
    const { event } = await paid(doomed, 'kill-4');
    await database.current.asRole('service_role', {}, async (client) => {
      // The effects get as far as this lock: they hold the event's row by then.
      await client.query('reset role');
      await client.query(`select from users where id = 'kill-4' for update`);
      expect((await deliverEvent(stripe, doomed.url, event)).status).toBe(200);
      await waitFor(async () => {
        const [{ waiting } = { waiting: 0 }] = await database.current.query<{ waiting: number }>(
          `select count(*)::int as waiting from pg_stat_activity
           where datname = current_database() and wait_event_type = 'Lock'
             and query like '%apply_webhook_effects%'`,
        );
        return waiting === 1;
      }, 'the effects to wait for the user');
      doomed.signal('SIGKILL');
      await doomed.ended;
    });
    await afterwards(async (stack) => {
      // Postgres finds out about the dead client when it answers, after the commit.
      await waitFor(async () => {
        await runOutLease(event);
        await sweep(stack);
        return (await eventRow(event))?.status === 'processed';
      }, 'the event');
      await expectBalance(stack, 'kill-4', [PURCHASE]);
      expect((await stack.deliver(event)).body).toEqual({ received: true, duplicate: true });
    });
  });

  it('between effects and mirror: the next server mirrors what the ledger says', async () => {
    const doomed = await startDoomed({ FAULT_RPC: 'apply_webhook_effects', FAULT_WHEN: 'after' });
    const { event, sessionId } = await paid(doomed, 'kill-5');
    expect((await deliverEvent(stripe, doomed.url, event)).status).toBe(200);
    expect(await doomed.ended).toBe('SIGKILL');
    expect(await eventRow(event)).toEqual({ status: 'processed', lease: 1 });
    await afterwards(async (stack) => {
      // Nobody reads this user: mirror-repair finds the change by itself. Another one is read, since
      // a process trusts no copy before it knows its ledger.
      await runJob(stack, 'mirror-repair');
      await callAsService(database.current, 'ensure_user', { p_user_id: 'bystander' });
      await stack.call('GET', '/api/users/bystander/credits', { bearer: SERVICE_KEY });
      const body = { user_id: 'kill-5', amount: 50 };
      const check = await stack.call('POST', '/api/credits/check', { bearer: SERVICE_KEY, body });
      expect(check.body).toMatchObject({ source: 'redis', balance: 50, allowed: true });
      await expectBalance(stack, 'kill-5', [PURCHASE]);
      expect((await stack.deliver(event)).body).toEqual({ received: true, duplicate: true });
      const bearer = await stack.token('kill-5');
      const status = await stack.call('POST', `/api/checkout-session/${sessionId}/fulfill`, {
        bearer,
      });
      expect(status.body).toMatchObject({ status: 'credited', balance: 50 });
      await expectBalance(stack, 'kill-5', [PURCHASE]);
    });
  });

  it('or frozen instead of killed: it wakes up without its lease and changes nothing', async () => {
    const frozen = await startDoomed({
      FAULT_RPC: 'apply_webhook_effects',
      FAULT_WHEN: 'before',
      FAULT_SIGNAL: 'SIGSTOP',
    });
    const { event } = await paid(frozen, 'kill-6');
    expect((await deliverEvent(stripe, frozen.url, event)).status).toBe(200);
    try {
      await afterwards(async (stack) => {
        await runOutLease(event);
        await sweep(stack);
        expect(await eventRow(event)).toEqual({ status: 'processed', lease: 2 });
        frozen.signal('SIGCONT');
        await waitFor(
          () => frozen.output().includes('Lease lost'),
          'the refusal of the late worker',
        );
        expect(frozen.output()).not.toContain('already processed');
        expect(await eventRow(event)).toEqual({ status: 'processed', lease: 2 });
        await expectBalance(stack, 'kill-6', [PURCHASE]);
      });
    } finally {
      frozen.signal('SIGCONT');
      expect(await frozen.stop()).toBe(0);
    }
  });
});

describe('a server killed while it spends', () => {
  it.each([
    { name: 'before the ledger is asked', when: 'before', key: 'a', spent: 0, replayed: null },
    { name: 'after the ledger has committed', when: 'after', key: 'b', spent: 1, replayed: 'true' },
  ] as const)('$name: the same key spends once', async ({ when, key, spent, replayed }) => {
    const user = `spend-${key}`;
    const doomed = await startDoomed({ FAULT_RPC: 'consume_credits', FAULT_WHEN: when });
    const { event } = await paid(doomed, user);
    expect((await deliverEvent(stripe, doomed.url, event)).status).toBe(200);
    await waitFor(async () => (await eventRow(event))?.status === 'processed', 'the purchase');
    await expect(consume(doomed.url, user, key)).rejects.toThrow('fetch failed');
    expect(await doomed.ended).toBe('SIGKILL');
    const usage = { transaction_type: 'usage', amount: -7 };
    expect(await entriesOf(user)).toEqual([PURCHASE, ...Array(spent).fill(usage)]);
    await afterwards(async (stack) => {
      const first = await consume(stack.url, user, key);
      expect(first.status).toBe(200);
      expect(first.headers.get('idempotency-replayed')).toBe(replayed);
      expect(first.body).toMatchObject({ outcome: 'applied', amount: 7, balance: 43 });
      const second = await consume(stack.url, user, key);
      expect(second.headers.get('idempotency-replayed')).toBe('true');
      expect(second.body).toEqual(first.body);
      await expectBalance(stack, user, [PURCHASE, usage]);
    });
  });
});
