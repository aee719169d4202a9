import { describe, expect, it } from '@jest/globals';
import { writeBalanceNotices } from '../../src/notifications/balanceNotices.ts';
import { outboxWorld } from './outboxWorld.ts';

const world = outboxWorld();
const look = (policy: { lowBalance?: number | null; expiringDays?: number | null } = {}) =>
  writeBalanceNotices(
    {
      db: world.db,
      lowBalance: 10,
      expiringDays: 7,
      buyUrl: () => 'https://credits.example.com/pricing',
      ...policy,
    },
    () => false,
  );
let key = 0;
const change = (
  name: string,
  user: string,
  args: Record<string, string | number | object> = {},
) => {
  key += 1;
  return world.call(name, { p_user_id: user, p_key: `k:${key}`, ...args } as never);
};
const spend = (user: string, amount: number) =>
  change('consume_credits', user, { p_amount: amount });
const add = (user: string, credits: number, lot: object = {}) =>
  change('grant_credits', user, { p_type: 'bonus', p_lots: [{ credits, ...lot }] });
const inDays = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString();

describe('a balance that runs low', () => {
  it('is told once for each time credits were added', async () => {
    await world.user('low', 50);
    await look();
    await spend('low', 39);
    expect((await look()).low_balance).toBe(0);
    await spend('low', 1);
    expect((await look()).low_balance).toBe(1);
    await spend('low', 5);
    expect((await look()).low_balance).toBe(0);

    // A call that failed and was given back crosses the line again, and is no news.
    const spent = await spend('low', 1);
    await change('refund_usage', 'low', {
      p_transaction_id: spent.transaction_id,
    });
    await world.send();
    expect((await look()).low_balance).toBe(0);

    await add('low', 20);
    await spend('low', 20);
    expect((await look()).low_balance).toBe(1);
    const rows = await world.rows('low_balance');
    expect(rows.map(({ user_id }) => user_id)).toEqual(['low', 'low']);
    expect(rows[0]).toMatchObject({
      status: 'kept',
      subject: 'Your credits are running low',
      data: { threshold: 10, available: 5, buy_url: 'https://credits.example.com/pricing' },
    });
  });

  it('is nobody’s news where the policy says so, nor what happened before the first look', async () => {
    await world.user('quiet', 50);
    await spend('quiet', 45);
    await world.query(
      `begin; set local role purser_ledger;
       insert into purser.notice_cursors (name, position) values ('low_balance', clock_timestamp() + interval '1 hour');
       reset role; commit`,
    );
    expect((await look()).low_balance).toBe(0);
    await world.query('delete from purser.notice_cursors');
    expect((await look({ lowBalance: null })).low_balance).toBe(0);
  });

  it('is found by a job that was away, an hour at a time', async () => {
    await world.user('away', 50);
    await world.query(
      `begin; set local role purser_ledger;
       insert into purser.notice_cursors (name, position) values ('low_balance', clock_timestamp() - interval '5 hours');
       reset role; commit`,
    );
    await spend('away', 45);
    // The last hour is the sixth look of one run.
    await look();
    expect((await world.rows('low_balance')).map(({ user_id }) => user_id)).toContain('away');
  });
});

describe('credits that expire', () => {
  const lookAgain = async (policy = {}) => {
    await world.query("delete from purser.notice_cursors where name = 'credits_expiring'");
    return (await look(policy)).credits_expiring;
  };

  it('are told of once a lot, a week before, and not when they are spent', async () => {
    await world.user('expiring', 5);
    await add('expiring', 30, { expires_at: inDays(40) });
    expect(await lookAgain()).toBe(0);
    await world.query(
      `begin; set local session_replication_role = replica; set local role purser_ledger;
       update credit_grants set created_at = clock_timestamp() - interval '30 days', expires_at = clock_timestamp() + interval '6 days'
       where user_id = 'expiring' and expires_at is not null; reset role; commit`,
    );
    expect(await lookAgain()).toBe(1);
    expect(await lookAgain()).toBe(0);
    await spend('expiring', 30);
    await world.send();
    expect(await world.rows('credits_expiring')).toMatchObject([
      { status: 'dropped', error_message: 'the credits are spent', data: { credits: 30 } },
    ]);
  });

  it('that live short are told of when half of their life is over', async () => {
    await world.user('short', 5);
    await add('short', 30, { expires_at: inDays(4) });
    expect(await lookAgain()).toBe(0);
    const later = await world.call('enqueue_balance_notices', {
      p_low_balance: null,
      p_expiring_days: 7,
      p_buy_url: '',
      p_now: inDays(2.1),
    });
    expect(later.credits_expiring).toBe(1);
  });
});
