/** What stays of a message once nobody asks about it any more. */
import { expect, it } from '@jest/globals';
import { outboxWorld } from './outboxWorld.ts';

const world = outboxWorld();

const receipt = (user: string, key = `purchase:${user}`) => ({
  key,
  notification: 'purchase_receipt',
  user_id: user,
  recipient: `${user}@private.example`,
  data: { description: '50 credits', credits: 50, amount: 500, currency: 'usd', receipt_url: '' },
});

/** Written so many days ago, and ended so. */
const age = (key: string, days: number, status: string) =>
  world.query(
    `begin; set local role purser_ledger;
     update notifications set created_at = created_at - interval '${days} days', status = '${status}',
       error_message = '550 <${key}@private.example> unknown', sent_to = recipient,
       next_attempt_at = case when '${status}' = 'failed' then clock_timestamp() end
     where notification_key = '${key}'; commit`,
  );

it('takes address and data out of what ended 90 days ago, and sends nothing twice', async () => {
  await world.user('ann', 5);
  const ended = ['sent', 'kept', 'dropped', 'dead'];
  for (const status of [...ended, 'failed', 'queued']) {
    await world.enqueue(receipt('ann', status));
    await age(status, 91, status);
  }
  await world.enqueue(receipt('ann', 'young'));
  await age('young', 89, 'sent');

  expect(await world.call('forget_notifications')).toEqual({ forgotten: 4 });
  expect(await world.call('forget_notifications')).toEqual({ forgotten: 0 });
  const rows = await world.query(
    `select notification_key as key, forgotten_at is not null as forgotten,
       to_jsonb(n)::text like '%private.example%' as tells_address, data <> '{}' as tells_data,
       user_id, kind from notifications n`,
  );
  for (const row of rows) {
    const forgotten = ended.includes(String(row.key));
    const tells = { tells_address: !forgotten, tells_data: !forgotten };
    const kept = { user_id: 'ann', kind: 'purchase_receipt' };
    expect(row).toEqual({ key: row.key, forgotten, ...tells, ...kept });
  }
  expect(rows).toHaveLength(7);
  // The cause is told again, years later: there is still one message of it.
  for (const status of ended) expect(await world.enqueue(receipt('ann', status))).toBe('exists');
});

it('shows what is left of a forgotten message, and does not send it again', async () => {
  await world.user('bob', 5);
  await world.enqueue(receipt('bob', 'old'));
  await age('old', 91, 'dead');
  await world.call('forget_notifications');
  const [{ id = '' } = {}] = (await world.notifications.list({ userId: 'bob' })).data;
  expect(await world.notifications.get(id)).toMatchObject({
    status: 'dead',
    to: null,
    error: null,
    data: {},
    mail: null,
    forgotten_at: expect.any(String),
    problem: expect.stringContaining('were taken out on'),
  });
  await expect(world.notifications.retry(id, 'admin:1')).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining('taken out'),
  });
});

it('forgets page by page, and nothing younger than a day', async () => {
  await world.user('cy', 5);
  for (const key of ['a', 'b', 'c']) {
    await world.enqueue(receipt('cy', key));
    await age(key, 100, 'sent');
  }
  expect(await world.call('forget_notifications', { p_days: 90, p_limit: 2 })).toEqual({
    forgotten: 2,
  });
  expect(await world.call('forget_notifications', { p_days: 90, p_limit: 2 })).toEqual({
    forgotten: 1,
  });
  await expect(world.call('forget_notifications', { p_days: 0 })).rejects.toMatchObject({
    detail: expect.stringContaining('at least 1'),
  });
});
