/**
 * Many subscriptions renew at once while the server is away, and Stripe has the events ready when
 * it is back. Stripe answers 100 reads a second, so what a renewal asks bounds how soon the last
 * customer has his credits.
 */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { receiveMissedEvents } from '../../src/webhook/inbox.ts';
import { readEvent } from '../../src/webhook/stripeEvent.ts';
import { type CountingProxy, startCountingProxy } from '../support/countingProxy.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { waitFor } from '../support/stack.ts';
import {
  buys,
  createEventReader,
  deliverAll,
  newSubscriber,
  openWorld,
  type Subscriber,
  standingOf,
  type World,
} from '../support/subscriptionWorld.ts';

const SUBSCRIBERS = 8;
/** A month and the hour in which the invoice is a draft. */
const MONTH_SECONDS = Math.round(31.1 * 86_400);
/** The invoice, its payments, its subscription, and the subscription for its own event. */
const CALLS_MAX = 4;

const database = testDatabase();
let world: World;
let proxy: CountingProxy;
beforeAll(async () => {
  world = await openWorld(database.current, {
    stripeThrough: async (origin) => {
      proxy = await startCountingProxy(origin);
      return proxy.origin;
    },
  });
});
afterAll(async () => {
  await world.stop();
  await proxy.stop();
});

it('asks Stripe less than once for an event of a backlog of renewals', async () => {
  const readEvents = createEventReader(world);
  const subscribers: Subscriber[] = [];
  for (let n = 0; n < SUBSCRIBERS; n += 1) {
    const subscriber = await newSubscriber(world, userId(`renews-${n}`));
    await buys('small')(world, subscriber);
    subscribers.push(subscriber);
  }
  for (const events of (await readEvents()).values()) await deliverAll(world, events);

  await world.sandbox.advance({ seconds: MONTH_SECONDS });
  const events = [...(await readEvents()).values()].flat();
  proxy.requests.length = 0;
  const db = createPgDatabase({ connectionString: database.current.connectionString });
  try {
    const missed = events.map((event) => readEvent(JSON.parse(JSON.stringify(event))));
    const { received } = await receiveMissedEvents(db, missed, { dryRun: false, actor: null });
    expect(received).toHaveLength(events.length);
  } finally {
    await db.close();
  }
  await waitFor(
    async () => {
      const [open] = await database.current.query<{ n: number }>(
        `select count(*)::int as n from stripe_webhook_events where status not in ('processed', 'ignored')`,
      );
      return open?.n === 0;
    },
    'the backlog',
    60,
  );

  for (const subscriber of subscribers) {
    expect(await standingOf(world, subscriber)).toMatchObject({
      balance: 60,
      entries: ['allocation 30', 'allocation 30'],
      subscription: { status: 'active' },
    });
  }
  expect(proxy.requests.length).toBeLessThanOrEqual(CALLS_MAX * SUBSCRIBERS);
  expect(proxy.requests.length).toBeLessThan(events.length);
  const [invoices] = await database.current.query<{ covered: number; worked_on: number }>(
    `select count(*) filter (where covered_by is not null)::int as covered,
       count(*) filter (where covered_by is null)::int as worked_on
     from stripe_webhook_events where event_type like 'invoice.%' and stripe_event_id = any ($1)`,
    [events.map(({ id }) => id)],
  );
  expect(invoices).toEqual({ covered: 2 * SUBSCRIBERS, worked_on: SUBSCRIBERS });
});
