import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { splitSql } from '../../src/supabase/sqlStatements.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

const text = readFileSync(new URL('../../sql/monitoring.sql', import.meta.url), 'utf8');
const statements = splitSql(text);
/** The statement under the comment that begins with this title. */
function query(title: string): string {
  const line = text.slice(0, text.indexOf(`\n-- ${title}`)).split('\n').length;
  const found = statements.find((statement) => statement.line > line);
  if (found === undefined || !text.includes(`\n-- ${title}`))
    throw new Error(`No query "${title}"`);
  return found.text;
}

const database = testDatabase();
const buyer = userId('monitored');
// biome-ignore lint/suspicious/noExplicitAny: rows are compared as they come
const look = (title: string): Promise<any[]> => database.current.query(query(title));

beforeAll(async () => {
  const call = (name: string, args: Parameters<typeof callAsService>[2]) =>
    callAsService(database.current, name, args);
  await call('ensure_user', { p_user_id: buyer });
  await call('grant_credits', {
    p_user_id: buyer,
    p_type: 'bonus',
    p_key: 'grant:1',
    p_lots: [{ credits: 50 }],
  });
  await call('consume_credits', { p_user_id: buyer, p_amount: 5, p_key: '1' });
  await call('cache_stripe_data', { p_cache_key: 'stripe:price:1', p_data: { a: 1 } });
  await call('get_user_subscription_state', { p_user_id: buyer });
  for (const [id, status] of [
    ['evt_1', 'processed'],
    ['evt_2', 'processed'],
    ['evt_3', 'processed'],
    ['evt_4', 'dead'],
    ['evt_5', 'received'],
    ['evt_6', 'parked'],
  ] as const) {
    await database.current.query(
      `insert into stripe_webhook_events (stripe_event_id, event_type, object_id, event_data, status, processed,
         processed_at, next_attempt_at, created_at, error_code)
       values ($1, 'invoice.paid', 'in_1', '{}', $2, $3, $4, now() - interval '10 minutes', now() - interval '20 minutes',
         case when $2 = 'dead' then 'not_found' end)`,
      [id, status, status === 'processed', status === 'processed' ? new Date() : null],
    );
  }
  await call('claim_job', { p_name: 'late', p_lease_seconds: 0, p_pace: { every_seconds: 60 } });
  await database.current.query(
    `begin; set local role purser_ledger;
     update scheduled_jobs set next_run_at = now() - interval '1 hour' where name = 'late'; commit`,
  );
});

describe('sql/monitoring.sql', () => {
  it('only reads', async () => {
    expect(statements.length).toBeGreaterThan(30);
    for (const { text: statement } of statements) expect(statement).toMatch(/^select\b/i);
    await database.current.query(`begin read only; ${text}; commit`);
  });

  it.each(statements.map(({ line, text: statement }) => [line, statement] as const))(
    'runs at line %s as service_role',
    async (_line, statement) => {
      await database.current.asRole('service_role', {}, (client) => client.query(statement));
    },
  );

  it('tells the backlog and its age', async () => {
    expect(await look('inbox backlog')).toMatchObject([{ due: '1' }]);
    const [inbox] = (await look('inbox:')).filter(({ status }) => status === 'received');
    expect(Number(inbox.oldest_seconds)).toBeGreaterThanOrEqual(1200);
  });

  it('tells the success rate and the dead letters by cause', async () => {
    expect(await look('success rate')).toMatchObject([
      { well: '3', dead: '1', success_rate_percent: '75.000' },
    ]);
    expect(await look('dead letters')).toMatchObject([{ code: 'not_found', events: '1' }]);
  });

  it('tells balances, drift and jobs that are overdue', async () => {
    expect(await look('drift:')).toEqual([]);
    const [books] = await look('books:');
    expect(Number(books.credits_outstanding)).toBeGreaterThanOrEqual(45);
    expect(await look('jobs overdue')).toMatchObject([{ name: 'late' }]);
  });
});
