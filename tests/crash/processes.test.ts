/** Three servers on one database, the way a deployment is scaled out. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import type { Sandbox } from '../../src/sandbox/index.ts';
import {
  ensureServerBuilt,
  type ServerProcess,
  startServerProcess,
} from '../support/crashServer.ts';
import { testDatabase } from '../support/postgres.ts';
import { buy, eventsOfType, startShop } from '../support/purchases.ts';
import { concurrently, countBy } from '../support/sqlCall.ts';
import { callServer, deliverEvent, SERVICE_KEY, stackEnv, waitFor } from '../support/stack.ts';

const PROCESSES = 3;
const SESSIONS = 200;
const USERS = 50;
/** Copies of each event posted at the same moment. */
const SESSION_COPIES = 8;
const INVOICE_COPIES = 2;
/** Purchases that are delivered at the same time: 240 requests in flight over the processes. */
const DELIVERED_AT_ONCE = 24;

const database = testDatabase();
let sandbox: Sandbox;
let stripe: Stripe;
let servers: ServerProcess[] = [];

beforeAll(async () => {
  await ensureServerBuilt();
  ({ sandbox, stripe } = await startShop());
  const env = {
    ...stackEnv(database.current.connectionString, sandbox),
    LOG_LEVEL: 'warn',
  };
  servers = await concurrently(PROCESSES, () => startServerProcess(env));
});
afterAll(async () => {
  await Promise.all(servers.map((server) => server.stop()));
  await sandbox.stop();
});

const urlOf = (index: number) => servers[index % PROCESSES]?.url ?? '';
/** The four purchases of a user are neighbours, so they are delivered at the same time. */
const userOf = (purchase: number) => `user-${Math.floor(purchase / (SESSIONS / USERS))}`;

/** Runs `work` for 0 .. count-1, so many at a time; the answers in that order. */
async function pooled<T>(count: number, atOnce: number, work: (index: number) => Promise<T>) {
  const answers: T[] = [];
  let next = 0;
  await concurrently(atOnce, async () => {
    while (next < count) {
      const index = next++;
      answers[index] = await work(index);
    }
  });
  return answers;
}

async function eventRows(): Promise<Record<string, number>> {
  const rows = await database.current.query<{ status: string; count: number }>(
    `select status, count(*)::int as count from stripe_webhook_events group by 1`,
  );
  return Object.fromEntries(rows.map(({ status, count }) => [status, count]));
}

describe('three processes on one database', () => {
  it('credit 200 sessions once each, every event delivered 8 times at once and its invoice twice', async () => {
    const quantities = [1, 2, 3];
    const bought = await pooled(SESSIONS, 16, async (purchase) => {
      const quantity = quantities[purchase % quantities.length] ?? 1;
      const body = { plan: purchase % 2 === 0 ? 'pack_50' : 'pack_200', quantity };
      const id = await buy(sandbox, urlOf(purchase), userOf(purchase), body);
      return { id, credits: (purchase % 2 === 0 ? 50 : 200) * quantity };
    });
    const completed = await eventsOfType(stripe, 'checkout.session.completed');
    const invoices = await eventsOfType(stripe, 'invoice.paid');
    expect([completed.size, invoices.size]).toEqual([SESSIONS, SESSIONS]);

    const answers = await pooled(SESSIONS, DELIVERED_AT_ONCE, (purchase) => {
      const event = completed.get(bought[purchase]?.id ?? '');
      const session = event?.data.object as Stripe.Checkout.Session;
      const deliveries = [
        ...Array<unknown>(SESSION_COPIES).fill(event),
        ...Array<unknown>(INVOICE_COPIES).fill(invoices.get(String(session.invoice))),
      ];
      return concurrently(deliveries.length, (copy) =>
        deliverEvent(stripe, urlOf(copy + purchase), deliveries[copy]),
      );
    });
    const words = answers.flat().map(({ status, body }) => `${status} ${body.duplicate}`);
    expect(countBy(words)).toEqual({
      '200 false': SESSIONS * 2,
      '200 true': SESSIONS * (SESSION_COPIES + INVOICE_COPIES - 2),
    });

    await waitFor(async () => {
      const { received = 0, leased = 0, failed = 0 } = await eventRows();
      return received + leased + failed === 0;
    }, 'an inbox without work');
    expect(await eventRows()).toEqual({ processed: SESSIONS * 2 });

    const [book] = await database.current.query(
      `select count(*)::int as entries, count(distinct stripe_session_id)::int as sessions,
              count(*) filter (where transaction_type = 'purchase')::int as purchases,
              (select count(*)::int from credit_grants) as lots,
              (select count(*)::int from credit_sources) as sources,
              (select count(*)::int from reconciliation_findings) as findings
       from credit_transactions`,
    );
    expect(book).toEqual({
      entries: SESSIONS,
      sessions: SESSIONS,
      purchases: SESSIONS,
      lots: SESSIONS,
      // The session, its invoice and its payment intent are one settlement.
      sources: SESSIONS * 3,
      findings: 0,
    });
    expect(await database.current.query(`select * from validate_credits_consistency()`)).toEqual(
      [],
    );

    const expected = new Map<string, number>();
    for (const [purchase, { credits }] of bought.entries()) {
      expected.set(userOf(purchase), (expected.get(userOf(purchase)) ?? 0) + credits);
    }
    const balances = await database.current.query<{ id: string; balance: number }>(
      `select id, credits_balance::int as balance from users`,
    );
    expect(new Map(balances.map(({ id, balance }) => [id, balance]))).toEqual(expected);

    // Each process has a Redis of its own: after one read, all of them say what the ledger says.
    for (const { url } of servers) {
      await pooled(USERS, 8, async (user) => {
        const bearer = SERVICE_KEY;
        await callServer(url, 'GET', `/api/users/user-${user}/credits`, { bearer });
        const body = { user_id: `user-${user}`, amount: 1 };
        const check = await callServer(url, 'POST', '/api/credits/check', { bearer, body });
        expect(check.body).toMatchObject({
          source: 'redis',
          balance: expected.get(`user-${user}`),
          allowed: true,
        });
      });
    }
    // Sandbox and tests share a process: it may answer too late, and the event is worked on again.
    const complaints = servers
      .flatMap((server) => server.output().split('\n'))
      .filter((line) => line.includes('"level":"error"') && !line.includes('"dependency_down"'));
    expect(complaints).toEqual([]);
  });
});
