/** What the questions of subscription runbooks are answered; seedSnippets.test.ts runs all of them. */
import { beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase, testUsers, userId } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

const database = testDatabase();

beforeAll(async () => {
  const user = userId('test_user_id');
  await callAsService(database.current, 'ensure_user', {
    p_user_id: user,
    p_stripe_customer_id: 'cus_xxx',
  });
  await callAsService(database.current, 'set_subscription_state', {
    p_user_id: user,
    p_subscription_id: 'sub_xxx',
    p_status: 'active',
    p_state: { plan: 'individual', customer_id: 'cus_xxx' },
  });
});

/** As service_role, with the rows of the statement. */
function rows(sql: string): Promise<Record<string, unknown>[]> {
  return database.current.asRole(
    'service_role',
    {},
    async (client) => (await client.query(sql)).rows,
  );
}

describe('a runbook', () => {
  it('finds the tables and their indexes', async () => {
    expect(
      await rows(`SELECT table_name, table_type
        FROM information_schema.tables
        WHERE table_schema = 'public'
          AND table_name IN ('subscription_cache', 'subscription') ORDER BY 1`),
    ).toHaveLength(2);
    expect(
      (
        await rows(`SELECT indexname, indexdef FROM pg_indexes
          WHERE tablename IN ('subscription_cache', 'stripe_events')`)
      ).length,
    ).toBeGreaterThan(1);
  });

  it('tests the state machine and the customer', async () => {
    const [state] = await rows(`SELECT public.get_user_subscription_state('test_user_id');`);
    const [customer] = await rows(
      `SELECT public.get_or_create_stripe_customer('test_user_id', 'test@example.com');`,
    );
    // Where user ids are uuids, test_user_id is nobody, which is an answer and no error.
    expect(state?.get_user_subscription_state).toMatchObject(
      testUsers === 'text' ? { status: 'active', cached: false } : { outcome: 'not_found' },
    );
    expect(customer?.get_or_create_stripe_customer).toMatchObject(
      testUsers === 'text'
        ? { outcome: 'exists', stripe_customer_id: 'cus_xxx' }
        : { outcome: 'not_found' },
    );
  });

  it('looks at the cache, clears it and reads the history of that', async () => {
    await rows(`SELECT public.get_user_subscription_state('${userId('test_user_id')}')`);
    const [status] = await rows('SELECT public.get_subscription_cache_status();');
    expect(status?.get_subscription_cache_status).toMatchObject({
      total: 1,
      valid: 1,
      expired: 0,
      avg_ttl_seconds: 300,
      by_status: { active: 1 },
    });
    expect(
      await rows(`SELECT
          sc.status,
          COUNT(*) as count,
          AVG(EXTRACT(EPOCH FROM (NOW() - sc.cached_at))) as avg_age_seconds
        FROM subscription_cache sc
        WHERE sc.expires_at >= NOW()
        GROUP BY sc.status;`),
    ).toMatchObject([{ status: 'active', count: '1' }]);
    expect(
      await rows(`SELECT
          COUNT(*) as total,
          COUNT(*) FILTER (WHERE expires_at >= NOW()) as valid,
          AVG(EXTRACT(EPOCH FROM (expires_at - cached_at))) as avg_ttl_seconds
        FROM subscription_cache;`),
    ).toMatchObject([{ total: '1', valid: '1' }]);
    expect(
      await rows(`SELECT
          COUNT(*) FILTER (WHERE cached_at > NOW() - INTERVAL '5 minutes') * 100.0 / NULLIF(COUNT(*), 0) as cache_hit_rate_pct
        FROM subscription_cache;`),
    ).toHaveLength(1);
    await rows('SELECT public.clear_expired_subscription_cache();');
    expect(await rows('SELECT public.clear_all_subscription_cache();')).toEqual([
      { clear_all_subscription_cache: '1' },
    ]);
    expect(await rows('SELECT * FROM public.get_cache_cleanup_history(5);')).toMatchObject([
      { kind: 'all', deleted_count: '1' },
      { kind: 'expired', deleted_count: '0' },
    ]);
    expect(await rows('SELECT * FROM public.get_cache_cleanup_history(1);')).toHaveLength(1);
  });

  it('adds the credits of an invoice whose event was missed, and finds them', async () => {
    const add = `SELECT public.add_subscription_credits(
      'cus_xxx',
      'in_xxx',
      'sub_xxx',
      30,
      'Manual credit allocation - missed webhook'
    );`;
    const [answer] = await rows(add);
    expect(answer?.add_subscription_credits).toMatchObject({ outcome: 'applied', amount: 30 });
    await rows(add);
    expect(
      await rows(`SELECT *
        FROM credit_transactions
        WHERE metadata->>'invoice_id' = 'in_xxx';`),
    ).toMatchObject([{ transaction_type: 'allocation', amount: '30' }]);
    const negative = await rows(`SELECT
          ct.user_id,
          SUM(ct.amount) FILTER (WHERE ct.transaction_type = 'allocation') as allocated,
          SUM(ct.amount) FILTER (WHERE ct.transaction_type = 'usage') as used,
          SUM(ct.amount) as balance
        FROM credit_transactions ct
        WHERE ct.created_at > NOW() - INTERVAL '1 week'
        GROUP BY ct.user_id
        HAVING SUM(ct.amount) < 0;`);
    expect(negative.filter(({ user_id: id }) => id === userId('test_user_id'))).toEqual([]);
  });

  it('reads subscriptions by either name', async () => {
    const columns = 'stripe_subscription_id, status, cycle_start_date, cycle_end_date, tier_id';
    expect(await rows(`select ${columns} from subscription`)).toEqual(
      await rows(`select ${columns} from subscriptions`),
    );
  });
});
