/** The shop as an app and as Stripe see it: purchases without a browser, and what came of them. */
import pg from 'pg';
import type { ServerProcess } from '../../support/serverProcess.ts';
import { type CallAnswer, callServer, waitFor } from '../../support/stack.ts';

/** Creates a checkout session for a local user, as the pricing page does. */
export async function createSession(
  server: ServerProcess,
  userId: string,
): Promise<{ session_id: string; url: string }> {
  // A server that takes over from another may be without Stripe for a moment and says so by 503:
  // one key makes all attempts one purchase.
  const key = `e2e-${userId}-${Date.now()}`;
  return waitFor(async () => {
    const answer = await server.call('POST', '/api/checkout-session', {
      body: { plan: 'pack_50' },
      headers: {
        'x-user-id': userId,
        'x-user-email': `${userId}@example.com`,
        'idempotency-key': key,
      },
    });
    if (answer.status === 503) return null;
    if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
    return answer.body;
  }, 'a checkout session');
}

/** Pays a session as its buyer would. */
export async function paySession(sandboxUrl: string, sessionId: string): Promise<void> {
  await control(sandboxUrl, 'POST', `/checkout/sessions/${sessionId}/pay`, {});
}

/** Buys 50 credits without a browser, so that only the webhook can credit them; waits for them. */
export async function buyByWebhook(
  server: ServerProcess,
  userId: string,
  balance: number,
): Promise<void> {
  const { session_id } = await createSession(server, userId);
  await paySession(server.sandboxUrl, session_id);
  await waitFor(
    async () => (await readBalance(server, userId)).balance === balance,
    `${userId} to have ${balance} credits`,
  );
}

export interface Balance {
  balance: number;
  version: number;
  source: string;
}

export async function readBalance(server: ServerProcess, userId: string): Promise<Balance> {
  const { body } = await asService(server, 'GET', `/api/users/${userId}/credits`);
  return { balance: body.balance, version: body.version, source: body.source };
}

/** The ledger's entries of a user, newest first. */
export async function readEntries(
  server: ServerProcess,
  userId: string,
): Promise<{ transaction_type: string; amount: number; stripe_session_id: string | null }[]> {
  const { body } = await asService(server, 'GET', `/api/users/${userId}/transactions`);
  return body.data;
}

export function asService(
  server: ServerProcess,
  method: string,
  target: string,
  options: { body?: unknown; headers?: Record<string, string> } = {},
): Promise<CallAnswer> {
  return server.call(method, target, { bearer: server.serviceKey, ...options });
}

interface Delivery {
  event_type: string;
  status: string;
  attempts: { status_code: number | null }[];
}

/** Deliveries of one kind of event, newest first. */
export async function readDeliveries(sandboxUrl: string, type: string): Promise<Delivery[]> {
  const { body } = await control(sandboxUrl, 'GET', `/deliveries?type=${type}`);
  return body.data;
}

/** A call of the sandbox's control API; rejects unless it succeeds. */
export async function control(
  sandboxUrl: string,
  method: string,
  target: string,
  body?: unknown,
): Promise<CallAnswer> {
  const answer = await callServer(sandboxUrl, method, `/_sandbox${target}`, { body });
  if (answer.status !== 200) throw new Error(`${target}: ${JSON.stringify(answer.body)}`);
  return answer;
}

/** Rows of a query on the embedded database, as its owner sees them. */
export async function queryLedger(
  server: ServerProcess,
  sql: string,
  values: unknown[],
): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: server.databaseUrl });
  await client.connect();
  try {
    return (await client.query(sql, values)).rows;
  } finally {
    await client.end();
  }
}
