import { describe, expect, it } from '@jest/globals';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService, concurrently, countBy } from '../support/sqlCall.ts';

const database = testDatabase();

function grant(userId: string, sources: string[], credits = 50) {
  return callAsService(database.current, 'grant_credits', {
    p_user_id: userId,
    p_type: 'purchase',
    p_key: sources[0],
    p_sources: sources,
    p_lots: [{ credits }],
  });
}

async function consistent(): Promise<void> {
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
}

describe('many at once', () => {
  it('500 consumes of 7 from 1,000, each sent twice: 142 applied, 142 replayed, 716 refused', async () => {
    await callAsService(database.current, 'ensure_user', { p_user_id: userId('spender') });
    await grant(userId('spender'), ['checkout:cs_spender'], 1000);
    const answers = await concurrently(1000, (index) =>
      callAsService(database.current, 'consume_credits', {
        p_user_id: userId('spender'),
        p_amount: 7,
        p_key: `op-${index % 500}`,
      }),
    );
    const outcomes = answers.map((answer) => String(answer.outcome));
    expect(countBy(outcomes)).toEqual({ applied: 142, replayed: 142, insufficient_credits: 716 });
    // No contradiction: both answers to one key are the same word of yes or no.
    for (let op = 0; op < 500; op += 1) {
      const yes = [outcomes[op], outcomes[op + 500]].map((word) => word !== 'insufficient_credits');
      expect(yes[0]).toBe(yes[1]);
    }
    const balance = await callAsService(database.current, 'get_credit_balance', {
      p_user_id: userId('spender'),
    });
    expect(balance).toMatchObject({ balance: 6, version: 143 });
    await consistent();
  });

  it('one session claimed for two users by 16 calls: one grant, findings for the rest', async () => {
    for (const user of [userId('left'), userId('right')])
      await callAsService(database.current, 'ensure_user', { p_user_id: user });
    const sources = ['checkout:cs_claimed', 'payment:pi_claimed', 'invoice:in_claimed'];
    const answers = await concurrently(16, (index) =>
      grant(
        userId(index % 2 === 0 ? 'left' : 'right'),
        index % 3 === 0 ? [...sources].reverse() : sources,
      ),
    );
    expect(countBy(answers.map((answer) => String(answer.outcome)))).toEqual({
      applied: 1,
      replayed: 7,
      conflict: 8,
    });
    const owners = await database.current.query(
      `select distinct user_id from credit_sources where source_key = any ($1)`,
      [sources],
    );
    expect(owners).toHaveLength(1);
    const [finding] = await database.current.query(
      `select sum(times)::int as times from reconciliation_findings where code = 'source_conflict'`,
    );
    expect(finding).toEqual({ times: 8 });
    await consistent();
  });

  it('a session, its invoice and its payment in every order, doubled: credited once', async () => {
    const orders = [
      ['session', 'invoice'],
      ['invoice', 'session'],
    ];
    for (const [index, order] of orders.entries()) {
      const user = userId(`orders-${index}`);
      await callAsService(database.current, 'ensure_user', { p_user_id: user });
      const names: Record<string, string[]> = {
        session: [`checkout:cs_o${index}`, `invoice:in_o${index}`, `payment:pi_o${index}`],
        invoice: [`invoice:in_o${index}`, `payment:pi_o${index}`],
      };
      for (const what of [...order, ...order]) await grant(user, names[what] ?? []);
      expect(
        await callAsService(database.current, 'get_credit_balance', { p_user_id: user }),
      ).toMatchObject({ balance: 50, version: 1 });
    }
    await consistent();
  });

  it('64 writers on one user keep every snapshot equal to the sum of its entries', async () => {
    await callAsService(database.current, 'ensure_user', { p_user_id: userId('hot') });
    await grant(userId('hot'), ['checkout:cs_hot'], 10_000);
    let bad = 0;
    let reads = 0;
    let writing = true;
    const reader = (async () => {
      while (writing) {
        const [row] = await database.current.query<{ balance: string; total: string }>(
          `select u.credits_balance as balance, (select sum(amount) from credit_transactions t where t.user_id = u.id::text) as total
           from users u where u.id = '${userId('hot')}'`,
        );
        reads += 1;
        if (row?.balance !== row?.total) bad += 1;
      }
    })();
    await concurrently(64, async (writer) => {
      for (let n = 0; n < 5; n += 1) {
        await callAsService(database.current, 'consume_credits', {
          p_user_id: userId('hot'),
          p_amount: 1 + (n % 3),
          p_key: `${writer}-${n}`,
        });
      }
    });
    writing = false;
    await reader;
    expect(reads).toBeGreaterThan(0);
    expect(bad).toBe(0);
    await consistent();
  });
});

describe('a user row that somebody else holds', () => {
  it('is waited for 5 s at most, whatever the caller sets, and nothing is written', async () => {
    await callAsService(database.current, 'ensure_user', { p_user_id: userId('held') });
    await grant(userId('held'), ['checkout:cs_held']);
    await database.current.asRole('service_role', {}, async (client) => {
      await client.query('reset role');
      await client.query(`select 1 from users where id = '${userId('held')}' for update`);
      const attempt = callAsService(database.current, 'consume_credits', {
        p_user_id: userId('held'),
        p_amount: 1,
        p_key: 'k',
      });
      await expect(attempt).rejects.toMatchObject({ code: '55P03' });
    });
    expect(
      await callAsService(database.current, 'get_credit_balance', { p_user_id: userId('held') }),
    ).toMatchObject({ balance: 50 });
  });
});

describe('the inbox under many hands', () => {
  const receive = (event: string, object: string) =>
    callAsService(database.current, 'receive_webhook_event', {
      p_event_id: event,
      p_event_type: 'checkout.session.completed',
      p_object_id: object,
      p_order_key: object,
      p_event_created_at: '2026-01-01T00:00:00Z',
      p_payload: { id: event },
    });

  it('takes an event once, whoever delivers it how often', async () => {
    const answers = await concurrently(16, () => receive('evt_once', 'cs_once'));
    expect(countBy(answers.map((answer) => String(answer.outcome)))).toEqual({
      received: 1,
      duplicate: 15,
    });
    expect(answers.filter((answer) => answer.leased)).toHaveLength(1);
  });

  it('lets one worker at a time on the events of one object', async () => {
    const answers = await concurrently(8, (index) => receive(`evt_object_${index}`, 'cs_shared'));
    expect(answers.filter((answer) => answer.leased)).toHaveLength(1);
    const claims = await concurrently(4, () =>
      callAsService(database.current, 'claim_webhook_events', {
        p_limit: 10,
        p_order_key: 'cs_shared',
      }),
    );
    expect(claims.flat()).toEqual([]);
  });

  it('hands each due event to one claimer', async () => {
    await database.current.query(`delete from stripe_webhook_events`);
    for (let n = 0; n < 60; n += 1) {
      await callAsService(database.current, 'receive_webhook_event', {
        p_event_id: `evt_due_${n}`,
        p_event_type: 'x',
        p_object_id: `o_${n}`,
        p_order_key: `o_${n}`,
        p_event_created_at: '2026-01-01T00:00:00Z',
        p_payload: {},
        p_lease_seconds: null,
      });
    }
    const claimed: string[] = [];
    await concurrently(8, async () => {
      for (let round = 0; round < 30; round += 1) {
        const batch = (await callAsService(database.current, 'claim_webhook_events', {
          p_limit: 5,
        })) as unknown as { event_id: string }[];
        if (batch.length === 0) break;
        claimed.push(...batch.map((event) => event.event_id));
      }
    });
    const rest = (await callAsService(database.current, 'claim_webhook_events', {
      p_limit: 100,
    })) as unknown as { event_id: string }[];
    claimed.push(...rest.map((event) => event.event_id));
    expect(new Set(claimed).size).toBe(60);
    expect(claimed).toHaveLength(60);
  });

  it('gives a call whose answer was lost its lease back, and nobody else', async () => {
    const args = {
      p_event_id: 'evt_lost',
      p_event_type: 'x',
      p_object_id: 'cs_lost',
      p_order_key: 'cs_lost',
      p_event_created_at: '2026-01-01T00:00:00Z',
      p_payload: {},
    };
    const first = await callAsService(database.current, 'receive_webhook_event', {
      ...args,
      p_holder: 'a',
    });
    expect(
      await callAsService(database.current, 'receive_webhook_event', { ...args, p_holder: 'a' }),
    ).toEqual(first);
    const other = await callAsService(database.current, 'receive_webhook_event', {
      ...args,
      p_holder: 'b',
    });
    expect(other).toEqual({ outcome: 'duplicate', leased: false });

    await database.current.query(
      `update stripe_webhook_events set leased_until = now() - interval '1 s' where stripe_event_id = 'evt_lost'`,
    );
    const claim = (holder: string) =>
      callAsService(database.current, 'claim_webhook_events', {
        p_order_key: 'cs_lost',
        p_holder: holder,
      });
    const claimed = await claim('c');
    expect(claimed).toMatchObject([{ event_id: 'evt_lost', fence: first.fence + 1 }]);
    expect(await claim('c')).toEqual(claimed);
    expect(await claim('d')).toEqual([]);

    const job = (holder: string) =>
      callAsService(database.current, 'claim_job', {
        p_name: 'j',
        p_lease_seconds: 30,
        p_holder: holder,
      });
    expect(await job('a')).toEqual({ outcome: 'claimed', fence: 1, cursor: null });
    expect(await job('a')).toEqual({ outcome: 'claimed', fence: 1, cursor: null });
    expect(await job('b')).toEqual({ outcome: 'busy' });
  });

  it('refuses a worker whose lease was taken over', async () => {
    const { fence } = await receive('evt_fence', 'cs_fence');
    await database.current.query(
      `update stripe_webhook_events set leased_until = now() - interval '1 s' where stripe_event_id = 'evt_fence'`,
    );
    const [claimed] = (await callAsService(database.current, 'claim_webhook_events', {
      p_order_key: 'cs_fence',
    })) as unknown as { fence: number }[];
    expect(claimed?.fence).toBe(fence + 1);
    const late = await callAsService(database.current, 'apply_webhook_effects', {
      p_event_id: 'evt_fence',
      p_fence: fence,
      p_effects: [],
    });
    expect(late).toMatchObject({ outcome: 'stale' });
    expect(
      await callAsService(database.current, 'fail_webhook_event', {
        p_event_id: 'evt_fence',
        p_fence: fence,
        p_error: 'x',
      }),
    ).toEqual({ outcome: 'stale' });
    const now = await callAsService(database.current, 'apply_webhook_effects', {
      p_event_id: 'evt_fence',
      p_fence: claimed?.fence ?? 0,
      p_effects: [],
    });
    expect(now).toMatchObject({ outcome: 'applied' });
  });
});
