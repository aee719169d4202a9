/** Mails and alerts are written with their cause, through each adapter. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import { testDatabase, userId } from '../support/postgres.ts';
import { ADMIN_KEY, SERVICE_KEY, waitFor } from '../support/stack.ts';
import {
  type buys,
  createEventReader,
  deliverAll,
  newSubscriber,
  openWorld,
  subscribes,
  type World,
} from '../support/subscriptionWorld.ts';

const database = testDatabase();
let world: World;
let readEvents: ReturnType<typeof createEventReader>;
beforeAll(async () => {
  // Receipts are for what is sold now.
  world = await openWorld(database.current, { startSeconds: Math.floor(Date.now() / 1000) });
  readEvents = createEventReader(world);
});
afterAll(() => world.stop());

const act = (step: ReturnType<typeof buys>) => step as Exclude<typeof step, number>;
const tell = async (customer: string) =>
  deliverAll(world, (await readEvents()).get(customer) ?? []);
const admin = (target: string, method = 'GET') =>
  world.stack.call(method, `/api/admin${target}`, { bearer: ADMIN_KEY });
const mailsOf = async (user: string) =>
  (await admin(`/notifications?user_id=${user}`)).body.data.map(
    ({ kind, key }: { kind: string; key: string }) => [kind, key],
  );
const dataOf = async (user: string, kind: string) => {
  const { body } = await admin(`/notifications?user_id=${user}&kind=${kind}`);
  const rows = await database.current.query<{ data: Record<string, unknown> }>(
    'select data from notifications where id = $1',
    [body.data[0]?.id],
  );
  return rows[0]?.data;
};

async function deliver(event: Partial<Stripe.Event> & { id: string }): Promise<string> {
  expect((await world.stack.deliver(event)).status).toBe(200);
  return waitFor(async () => {
    const [row] = await database.current.query<{ status: string }>(
      `select status from stripe_webhook_events where stripe_event_id = $1 and status not in ('received', 'leased')`,
      [event.id],
    );
    return row?.status;
  }, `the end of ${event.id}`);
}

it('a pack, told of three times, is one receipt', async () => {
  const subscriber = await newSubscriber(world, userId('shopper'));
  const { body } = await world.stack.call('POST', '/api/checkout-session', {
    bearer: await world.stack.token(subscriber.user),
    body: { plan: 'pack_50' },
  });
  await world.sandbox.pay(body.session_id);
  const events = (await readEvents()).get(subscriber.customer) ?? [];
  await deliverAll(world, events);
  const again = events.find(({ type }) => type === 'checkout.session.completed');
  await deliver({ ...again, id: 'evt_again_1' });
  expect(await mailsOf(subscriber.user)).toEqual([
    ['purchase_receipt', `receipt:checkout:${body.session_id}`],
  ]);
  expect(await dataOf(subscriber.user, 'purchase_receipt')).toMatchObject({
    name: '50 credits',
    credits: 50,
    amount: 500,
    currency: 'usd',
  });
});

it('a plan is told of when its trial ends, when it is paid and when it ends', async () => {
  const subscriber = await newSubscriber(world, userId('tryer'));
  await act(subscribes('tried', { trial_period_days: 7 }))(world, subscriber);
  await tell(subscriber.customer);
  expect(await mailsOf(subscriber.user)).toEqual([]);
  await world.sandbox.advance({ days: 4.5 });
  await tell(subscriber.customer);
  expect(await dataOf(subscriber.user, 'trial_ending')).toMatchObject({
    plan_name: 'Tried',
    amount: 1_000,
    currency: 'usd',
  });
  await world.sandbox.advance({ days: 3.5 });
  await tell(subscriber.customer);
  expect(await dataOf(subscriber.user, 'payment_receipt')).toMatchObject({
    plan_name: 'Tried',
    credits: 30,
    amount: 1_000,
    invoice_number: expect.any(String),
    invoice_url: expect.stringMatching(/^http/),
    invoice_pdf: expect.stringMatching(/^http/),
    period_start: expect.any(String),
    period_end: expect.any(String),
  });
  await world.stripe.subscriptions.cancel(subscriber.subscription);
  await tell(subscriber.customer);
  expect(await dataOf(subscriber.user, 'subscription_canceled')).toMatchObject({
    plan_name: 'Tried',
    reason: 'requested',
    ended_at: expect.any(String),
  });
  expect((await mailsOf(subscriber.user)).map(([kind]: string[]) => kind)).toEqual([
    'subscription_canceled',
    'payment_receipt',
    'trial_ending',
  ]);
});

it('a purchase of nobody’s is offered to its buyer, by one link that works once', async () => {
  const { session } = await world.sandbox.buy({ price: 'price_pack_50' });
  const all = await world.stripe.events.list({ type: 'checkout.session.completed', limit: 100 });
  const event = all.data.find(({ data }) => (data.object as { id: string }).id === session.id);
  if (event === undefined) throw new Error('no event');
  expect(await deliver(event)).toBe('parked');
  expect(await deliver({ ...event, id: 'evt_parked_again' })).toBe('parked');
  const rows = await database.current.query<{
    recipient: string;
    data: { token: string; credits: number };
    waits: boolean;
  }>(
    `select recipient, data, next_attempt_at > now() + interval '5 minutes' as waits
     from notifications where kind = 'claim_link'`,
  );
  expect(rows).toMatchObject([{ recipient: expect.stringContaining('@'), waits: true }]);
  expect(rows[0]?.data.credits).toBe(50);

  const user = userId('claimant');
  await world.stack.call('PUT', `/api/users/${user}`, {
    bearer: SERVICE_KEY,
    body: { email: 'claimant@example.com' },
  });
  const claimed = await world.stack.call('POST', `/api/claims/${rows[0]?.data.token}`, {
    bearer: await world.stack.token(user),
  });
  expect(claimed.status).toBe(200);
  await waitFor(async () => {
    const { body } = await world.stack.call('GET', `/api/users/${user}/credits`, {
      bearer: SERVICE_KEY,
    });
    return body.balance === 50;
  }, 'the claimed credits');
  // The receipt goes to who has the credits.
  expect((await mailsOf(user)).map(([kind]: string[]) => kind)).toEqual(['purchase_receipt']);
});

it('an event of the other mode, of another account, or of nothing is told to operators', async () => {
  const base = { object: 'event', created: Math.floor(Date.now() / 1000), type: 'invoice.paid' };
  const data = { object: { id: 'in_x', object: 'invoice' } };
  for (const n of [1, 2]) {
    await deliver({ ...base, id: `evt_live_${n}`, livemode: true, data } as never);
    await deliver({
      ...base,
      id: `evt_connect_${n}`,
      livemode: false,
      account: 'acct_1',
      data,
    } as never);
    await deliver({
      ...base,
      id: `evt_nothing_${n}`,
      livemode: false,
      data: { object: { object: 'invoice' } },
    } as never);
  }
  const { body } = await admin('/alerts?status=open');
  expect(
    body.data
      .map(({ code, subject, times }: Record<string, unknown>) => [code, subject, times])
      .sort(),
  ).toEqual([
    ['event_unreadable', 'invoice.paid', 2],
    ['foreign_account', 'acct_1', 2],
    ['livemode_mixed', 'live', 2],
  ]);
});
