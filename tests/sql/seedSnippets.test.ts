import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

/** Each part of the file begins with `-- ## <where it stands>`. What the answers hold is told by the tests of each area. */
const SNIPPETS = readFileSync(new URL('../fixtures/runbooks.sql', import.meta.url), 'utf8')
  .split(/^-- ## /m)
  .slice(1)
  .map((part): [from: string, sql: string] => {
    const end = part.indexOf('\n');
    return [part.slice(0, end), part.slice(end + 1).trim()];
  });

const INDEXES = [
  'idx_stripe_webhook_event_id',
  'idx_stripe_webhook_type',
  'idx_stripe_webhook_processed',
  'idx_stripe_webhook_unprocessed',
  'idx_stripe_webhook_created',
];

const database = testDatabase();
beforeAll(async () => {
  await callAsService(database.current, 'ensure_user', {
    p_user_id: userId('user-uuid'),
    p_stripe_customer_id: 'cus_xxx',
  });
  await database.current.query(
    `insert into stripe_webhook_events (stripe_event_id, event_type, object_id, event_data, status)
     values ('evt_xxx', 'invoice.payment_succeeded', 'in_xxx', '{}', 'dead')`,
  );
});

/** `user-uuid` stands for the id of a user, whatever form it has. */
const withUser = (sql: string) => sql.replaceAll("'user-uuid'", `'${userId('user-uuid')}'`);

/** The rows of the last statement, as service_role. */
async function answerOf(from: string): Promise<unknown[]> {
  const sql = SNIPPETS.find(([name]) => name === from)?.[1];
  if (sql === undefined) throw new Error(`There is no ${from}.`);
  return database.current.asRole('service_role', {}, async (client) => {
    const answers: unknown = await client.query(withUser(sql));
    const last = Array.isArray(answers) ? answers.at(-1) : answers;
    return (last as { rows: unknown[] }).rows;
  });
}

describe('SQL of runbooks runs as written', () => {
  it('all of it', () => expect(SNIPPETS).toHaveLength(48));

  it.each(SNIPPETS)('%s', async (_from, sql) => {
    await database.current.query(withUser(sql));
    await database.current.asRole('service_role', {}, (client) => client.query(withUser(sql)));
  });

  it('and re-queues where it says so', async () => {
    expect(
      await database.current.query(
        `select status, retry_count from stripe_webhook_events where stripe_event_id = 'evt_xxx'`,
      ),
    ).toEqual([{ status: 'received', retry_count: 0 }]);
  });

  it('and finds its functions to be security definer', async () => {
    const functions = await answerOf('webhook guide, troubleshooting: permissions');
    expect(functions).toContainEqual({
      routine_name: 'cache_stripe_data',
      routine_schema: 'public',
      security_type: 'DEFINER',
    });
  });

  it('and logs an event once', async () => {
    const [{ log_stripe_webhook_event: id }] = (await answerOf(
      'webhook guide, idempotency testing',
    )) as [Record<string, unknown>];
    expect(
      await database.current.query(
        `select id from stripe_webhook_events where stripe_event_id = 'evt_test_123'`,
      ),
    ).toEqual([{ id }]);
  });

  it('and adds the credits of an invoice that was missed, once', async () => {
    const add = 'subscription runbook, credits not allocated: resolution';
    expect(await answerOf(add)).toMatchObject([
      { add_subscription_credits: { outcome: 'replayed', amount: 30, balance: 30 } },
    ]);
    expect(await answerOf('subscription runbook, credits not allocated: diagnosis')).toMatchObject([
      { user_id: userId('user-uuid'), transaction_type: 'allocation' },
    ]);
    expect(await answerOf('credit packs guide, data consistency check')).toEqual([]);
  });

  it('and finds the columns and indexes that are documented', async () => {
    const columns = await database.current.query<{ name: string }>(
      `select column_name as name from information_schema.columns where table_name = 'stripe_webhook_events'`,
    );
    expect(columns.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        'id',
        'stripe_event_id',
        'event_type',
        'event_data',
        'processed',
        'processed_at',
        'error_message',
        'retry_count',
        'created_at',
        'updated_at',
      ]),
    );
    const indexes = await database.current.query<{ name: string }>(
      `select indexname as name from pg_indexes where tablename = 'stripe_webhook_events'`,
    );
    expect(indexes.map(({ name }) => name)).toEqual(expect.arrayContaining(INDEXES));
  });
});
