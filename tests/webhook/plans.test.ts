/** Plans through each adapter: bought, renewed, read, refused a second time. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { testDatabase, userId } from '../support/postgres.ts';
import { SERVICE_KEY } from '../support/stack.ts';
import {
  buys,
  createEventReader,
  deliverAll,
  newSubscriber,
  openWorld,
  standingOf,
  type World,
} from '../support/subscriptionWorld.ts';

/** Half a minute of work on a machine that is busy with other things. */
const database = testDatabase();
let world: World;
let readEvents: ReturnType<typeof createEventReader>;
beforeAll(async () => {
  world = await openWorld(database.current);
  readEvents = createEventReader(world);
});
afterAll(() => world.stop());

const buy = buys('big') as Exclude<ReturnType<typeof buys>, number>;
const stateOf = async (user: string) =>
  (await world.stack.call('GET', '/api/subscription', { bearer: await world.stack.token(user) }))
    .body;

it('a plan is bought, answered from the cache, renewed, and not sold twice', async () => {
  const subscriber = await newSubscriber(world, userId('planner'));
  const { user, customer } = subscriber;
  expect(await stateOf(user)).toMatchObject({ status: 'none', plan: 'free', tier: 'free' });
  await buy(world, subscriber);
  await deliverAll(world, (await readEvents()).get(customer) ?? []);
  const state = {
    user_id: user,
    status: 'active',
    plan: 'big',
    tier: 'gold',
    current_period_start: '2026-01-01T00:00:00.000Z',
    current_period_end: '2026-02-01T00:00:00.000Z',
    cancel_at_period_end: false,
    suspended: false,
    usage: { credits: 0 },
  };
  expect(await stateOf(user)).toMatchObject({ ...state, cached: false });
  expect(await stateOf(user)).toMatchObject({ ...state, cached: true });
  const asService = await world.stack.call('GET', `/api/users/${user}/subscription`, {
    bearer: SERVICE_KEY,
  });
  expect(asService.body).toMatchObject({ ...state, cached: true });

  const second = await world.stack.call('POST', '/api/checkout-session', {
    bearer: await world.stack.token(user),
    body: { plan: 'small' },
  });
  expect(second.status).toBe(400);
  expect(second.body).toMatchObject({ code: 'invalid_request' });
  expect(second.body.detail).toContain('billing portal');

  await world.sandbox.advance({ days: 31.5 });
  await deliverAll(world, (await readEvents()).get(customer) ?? []);
  expect(await stateOf(user)).toMatchObject({
    cached: false,
    current_period_end: '2026-03-01T00:00:00.000Z',
  });
  expect(await standingOf(world, subscriber)).toMatchObject({
    balance: 400,
    entries: ['allocation 200', 'allocation 200'],
    plan: 'big',
    mirror: { balance: 400, source: 'redis' },
  });
});

it('the success page credits a plan whose webhooks have not come', async () => {
  const subscriber = await newSubscriber(world, userId('early'));
  const bearer = await world.stack.token(subscriber.user);
  const { body } = await world.stack.call('POST', '/api/checkout-session', {
    bearer,
    body: { plan: 'small' },
  });
  expect(body).toMatchObject({ mode: 'subscription', plan: 'small', credits: 30 });
  await world.sandbox.pay(body.session_id);
  const fulfilled = await world.stack.call(
    'POST',
    `/api/checkout-session/${body.session_id}/fulfill`,
    { bearer },
  );
  expect(fulfilled.body).toEqual({
    session_id: body.session_id,
    status: 'credited',
    credits: 30,
    balance: 30,
  });
  await deliverAll(world, (await readEvents()).get(subscriber.customer) ?? []);
  expect(await stateOf(subscriber.user)).toMatchObject({ status: 'active', plan: 'small' });
  expect((await standingOf(world, subscriber)).entries).toEqual(['allocation 30']);
});

it('a session completed by itself grants nothing; its invoice does', async () => {
  const user = userId('linked');
  await world.stack.call('PUT', `/api/users/${user}`, {
    bearer: SERVICE_KEY,
    body: { email: 'linked@example.com' },
  });
  // As through a payment link: a new customer, and the user only in client_reference_id.
  const { session } = await world.sandbox.buy({ price: 'price_small', client_reference_id: user });
  const events = (await readEvents()).get(String(session.customer)) ?? [];
  const subscriber = {
    user,
    customer: String(session.customer),
    subscription: String(session.subscription),
  };
  await deliverAll(
    world,
    events.filter(({ type }) => type === 'checkout.session.completed'),
  );
  expect(await standingOf(world, subscriber)).toMatchObject({
    balance: 0,
    entries: [],
    plan: 'small',
    subscription: { status: 'active' },
  });
  await deliverAll(world, events.reverse());
  expect((await standingOf(world, subscriber)).entries).toEqual(['allocation 30']);
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
});
