/** SIGTERM while many spend: what was taken is finished, what was answered is in the ledger. */
import { beforeAll, expect, it } from '@jest/globals';
import { ensureServerBuilt, startServerProcess } from '../support/crashServer.ts';
import { testDatabase } from '../support/postgres.ts';
import { startShop } from '../support/purchases.ts';
import { callAsService, concurrently } from '../support/sqlCall.ts';
import { callServer, SERVICE_KEY, stackEnv, waitFor } from '../support/stack.ts';

const CLIENTS = 48;
const USERS = 5;

const database = testDatabase();
beforeAll(() => ensureServerBuilt());

it('no accepted spend is lost: the ledger holds exactly what was answered with 200', async () => {
  for (let user = 0; user < USERS; user += 1) {
    await callAsService(database.current, 'ensure_user', { p_user_id: `u${user}` });
    await callAsService(database.current, 'grant_credits', {
      p_user_id: `u${user}`,
      p_type: 'bonus',
      p_key: 'grant:1',
      p_lots: [{ credits: 1_000_000 }],
    });
  }
  const { sandbox } = await startShop();
  try {
    const server = await startServerProcess(stackEnv(database.current.connectionString, sandbox));
    const answered = new Map<string, string>();
    const otherwise: number[] = [];
    // Each key is sent once, and each client goes until the server takes nothing more.
    const load = concurrently(CLIENTS, async (client) => {
      for (let n = 0; ; n += 1) {
        const key = `${client}-${n}`;
        try {
          const { status, body } = await callServer(server.url, 'POST', '/api/credits/consume', {
            bearer: SERVICE_KEY,
            body: { user_id: `u${(client + n) % USERS}`, amount: 1 },
            headers: { 'idempotency-key': key },
          });
          if (status === 200) answered.set(key, body.transaction_id);
          else otherwise.push(status);
        } catch {
          return; // refused or cut off at the door
        }
      }
    });
    await waitFor(() => answered.size > 300, 'a load');
    expect(await server.stop()).toBe(0);
    await load;
    expect(otherwise.filter((status) => status !== 503)).toEqual([]);
    const spent = await database.current.query<{ key: string; id: string }>(
      `select substr(idempotency_key, 9) as key, id::text from credit_transactions
       where transaction_type = 'usage'`,
    );
    expect(new Map(spent.map(({ key, id }) => [key, id]))).toEqual(answered);
    expect(await database.current.query('select * from validate_credits_consistency()')).toEqual(
      [],
    );
  } finally {
    await sandbox.stop();
  }
});
