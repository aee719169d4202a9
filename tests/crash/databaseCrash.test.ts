/** Postgres itself crashes under load and recovers from its log. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import pg from 'pg';
import type { Sandbox } from '../../src/sandbox/index.ts';
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '../../src/supabase/embeddedPostgres.ts';
import { migrate } from '../../src/supabase/migrate.ts';
import { buy, eventsOfType, startShop } from '../support/purchases.ts';
import { concurrently } from '../support/sqlCall.ts';
import { type CallAnswer, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';
import { createTempFolder } from '../support/tempFolder.ts';
import { migrationFilesOfFolder, testPackage } from '../support/testCluster.ts';

const CRASHES = 5;
const SPENDS = 250;
const PURCHASES = 30;
const SPENDERS = 6;

/** A server of its own: a crash would take the databases of other test files along. */
const folder = createTempFolder('crash-pg');
let postgres: EmbeddedPostgres;
let sandbox: Sandbox;
let stack: Stack;
beforeAll(async () => {
  postgres = await startEmbeddedPostgres({ dataDir: folder.dir, packageName: testPackage() });
  await migrate({
    connectionString: postgres.connectionString,
    files: migrationFilesOfFolder(),
  });
  ({ sandbox } = await startShop());
  stack = await startStack({ connectionString: postgres.connectionString, sandbox });
});
afterAll(async () => {
  await stack.stop();
  await sandbox.stop();
  await postgres.stop();
  folder.remove();
});

/** A connection for one look, since every crash ends all of them; null while Postgres recovers. */
async function query<R extends pg.QueryResultRow>(text: string): Promise<R[] | null> {
  const client = new pg.Client({ connectionString: postgres.connectionString });
  client.on('error', () => {
    // The crash takes this connection too.
  });
  try {
    await client.connect();
    return (await client.query<R>(text)).rows;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === '57P03' || code === '57P02' || code === 'ECONNRESET') return null;
    throw error;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function rows<R extends pg.QueryResultRow>(text: string): Promise<R[]> {
  return waitFor(() => query<R>(text), 'Postgres to recover');
}

/** SIGKILL to one of its processes makes Postgres end all others and recover from its log. */
async function crash(): Promise<void> {
  const [backend] = await rows<{ pid: number }>(
    `select pid from pg_stat_activity where application_name = 'purser'
     order by state = 'active' desc, random() limit 1`,
  );
  if (backend === undefined) throw new Error('Purser has no connection to kill.');
  process.kill(backend.pid, 'SIGKILL');
}

/** Asks until the answer is not "come back later"; counts how often it was. */
async function insist(call: () => Promise<CallAnswer>, refusals: { count: number }) {
  for (;;) {
    const answer = await call();
    if (answer.status !== 503) return answer;
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    refusals.count += 1;
  }
}

it('loses no acknowledged spend and doubles none when Postgres crashes five times', async () => {
  const sessions = await concurrently(PURCHASES, (n) => buy(sandbox, stack.url, `buyer-${n}`));
  const events = await eventsOfType(stack.stripe, 'checkout.session.completed');
  await rows(`select ensure_user('spender')`);
  await rows(
    `select grant_credits(p_user_id => 'spender', p_type => 'bonus',
       p_key => 'grant:start', p_lots => '[{"credits": 1000}]')`,
  );

  const refusals = { count: 0 };
  let acknowledged = 0;
  let next = 0;
  const crashes: Promise<void>[] = [];
  const spender = async () => {
    while (next < SPENDS) {
      const key = `k${next++}`;
      const answer = await insist(
        () =>
          stack.call('POST', '/api/credits/consume', {
            bearer: SERVICE_KEY,
            headers: { 'idempotency-key': key },
            body: { user_id: 'spender', amount: 3 },
          }),
        refusals,
      );
      expect([answer.status, answer.body.outcome]).toEqual([200, 'applied']);
      acknowledged += 1;
      // Evenly spread over the load, by its count and not by the clock.
      if (acknowledged % (SPENDS / CRASHES) === 25) crashes.push(crash());
    }
  };
  const deliverer = async () => {
    for (const id of sessions) {
      expect((await insist(() => stack.deliver(events.get(id)), refusals)).status).toBe(200);
    }
  };
  await Promise.all([...Array.from({ length: SPENDERS }, spender), deliverer()]);
  await Promise.all(crashes);
  expect(crashes).toHaveLength(CRASHES);

  // Work that lost the database in the middle left its lease; it runs out here at once, and a
  // failed attempt's time of retry comes.
  await rows(
    `update stripe_webhook_events set leased_until = now(), next_attempt_at = now()
     where status in ('leased', 'failed')`,
  );
  await waitFor(
    async () => {
      const [row] = await rows<{ open: number }>(
        `select count(*)::int as open from stripe_webhook_events
         where status in ('received', 'leased', 'failed')`,
      );
      return row?.open === 0;
    },
    'an inbox without work',
    60,
  );
  const [book] = await rows(
    `select (select count(*)::int from credit_transactions where transaction_type = 'usage') as spends,
            (select credits_balance::int from users where id = 'spender') as left_over,
            (select count(*)::int from credit_transactions where transaction_type = 'purchase') as purchases,
            (select count(*)::int from users where id like 'buyer-%' and credits_balance = 50) as credited,
            (select count(*)::int from stripe_webhook_events where status = 'processed') as processed`,
  );
  expect(book).toEqual({
    spends: SPENDS,
    left_over: 1000 - 3 * SPENDS,
    purchases: PURCHASES,
    credited: PURCHASES,
    processed: PURCHASES,
  });
  expect(await rows('select * from validate_credits_consistency()')).toEqual([]);
  process.stderr.write(
    `  crashes: ${CRASHES}, spends: ${SPENDS}, asked to come back: ${refusals.count}\n`,
  );
});
