import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import { testDatabase, userId } from '../support/postgres.ts';
import { ADMIN_KEY, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

const database = testDatabase();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ connectionString: database.current.connectionString });
});
afterAll(() => stack.stop());

const admin = (method: string, path: string, body?: unknown, bearer = ADMIN_KEY) =>
  stack.call(method, `/api/admin/stripe/${path}`, {
    bearer,
    ...(body === undefined ? {} : { body }),
  });

async function status(eventId: string): Promise<string | undefined> {
  const { body } = await admin('GET', `webhook-logs/${eventId}`);
  return body.status;
}
const ended = (eventId: string, as: string) =>
  waitFor(async () => (await status(eventId)) === as, `${eventId} to be ${as}`);

async function balance(user: string): Promise<number> {
  const { body } = await stack.call('GET', `/api/users/${user}/credits`, { bearer: SERVICE_KEY });
  return body.balance;
}

function eventOf(id: string, fields: Record<string, unknown> = {}) {
  return {
    id,
    object: 'event',
    type: 'checkout.session.completed',
    created: Math.floor(Date.now() / 1000),
    livemode: false,
    data: { object: { id: `cs_test_${id}`, object: 'checkout.session' } },
    ...fields,
  };
}

async function newUser(name: string): Promise<string> {
  const id = userId(name);
  const { status } = await stack.call('PUT', `/api/users/${id}`, {
    bearer: SERVICE_KEY,
    body: { email: `${name}@example.com` },
  });
  expect(status).toBe(200);
  return id;
}

/** A paid session of somebody without any account, and its event delivered. */
async function parkedPurchase(): Promise<Stripe.Event> {
  const session = await stack.stripe.checkout.sessions.create({
    mode: 'payment',
    line_items: [{ price: 'price_pack_50', quantity: 1 }],
    success_url: 'https://example.com/s',
    customer_creation: 'always',
  });
  await stack.sandbox.pay(session.id);
  const { data } = await stack.stripe.events.list({
    type: 'checkout.session.completed',
    limit: 100,
  });
  const event = data.find((each) => (each.data.object as { id: string }).id === session.id);
  if (event === undefined) throw new Error('There is no event.');
  await stack.deliver(event);
  await ended(event.id, 'parked');
  return event;
}

describe('the event log', () => {
  it('shows what each event came to, with its payload, entries and the others of its object', async () => {
    const user = userId('logged');
    const { body } = await stack.call('POST', '/api/checkout-session', {
      bearer: await stack.token(user),
      body: { plan: 'pack_50' },
    });
    await stack.sandbox.pay(body.session_id);
    const { data } = await stack.stripe.events.list({
      type: 'checkout.session.completed',
      limit: 1,
    });
    const event = data[0] as Stripe.Event;
    await stack.deliver(event);
    await ended(event.id, 'processed');
    await stack.deliver({ ...event, id: `${event.id}_2` });
    await ended(`${event.id}_2`, 'processed');

    expect(await admin('GET', `webhook-logs/${event.id}`)).toMatchObject({
      status: 200,
      body: {
        event_id: event.id,
        object_id: body.session_id,
        payload: { id: event.id, type: 'checkout.session.completed' },
        attempts: [],
        entries: [{ user_id: user, transaction_type: 'purchase', amount: 50 }],
        object_events: [{ event_id: `${event.id}_2`, status: 'processed' }],
      },
    });
    const list = await admin('GET', `webhook-logs?q=${body.session_id}&limit=1`);
    expect(list.body).toMatchObject({ data: [{ event_id: `${event.id}_2` }], has_more: true });
    const next = await admin(
      'GET',
      `webhook-logs?q=${body.session_id}&cursor=${list.body.next_cursor}`,
    );
    expect(next.body).toMatchObject({
      data: [{ event_id: event.id }],
      has_more: false,
      next_cursor: null,
    });
    expect(await admin('GET', 'webhook-logs?cursor=forged')).toMatchObject({ status: 400 });
    expect(await admin('GET', 'webhook-logs/evt_none')).toMatchObject({ status: 404 });
    expect(await admin('GET', 'webhook-logs?status=odd')).toMatchObject({ status: 400 });
    expect(await admin('GET', 'webhook-logs', undefined, SERVICE_KEY)).toMatchObject({
      status: 403,
    });
  });

  it.each([
    ['evt_live', { livemode: true }, 'live event', 'livemode_mixed'],
    ['evt_connect', { account: 'acct_other' }, 'acct_other', 'foreign_account'],
  ])('shows why %s is not ours, and a finding of it', async (id, fields, reason, code) => {
    await stack.deliver(eventOf(id, fields));
    await ended(id, 'ignored');
    const { body } = await admin('GET', `webhook-logs?status=ignored&q=${id}`);
    expect(body.data).toMatchObject([{ event_id: id, reason: expect.stringContaining(reason) }]);
    expect(
      await database.current.query('select code from reconciliation_findings where subject = $1', [
        id,
      ]),
    ).toEqual([{ code }]);
  });

  it('tells what a failing event fails with', async () => {
    await stack.deliver(eventOf('evt_gone'));
    await ended('evt_gone', 'failed');
    const { body } = await admin('GET', 'webhook-logs/evt_gone');
    expect(body).toMatchObject({
      error_code: 'stripe_object_missing',
      cause: 'permanent',
      attempts: [{ code: 'stripe_object_missing', error: expect.stringContaining('No such') }],
    });
    await database.current.query(
      `update stripe_webhook_events set status = 'dead' where stripe_event_id = 'evt_gone'`,
    );
    expect((await admin('GET', 'dead-letters')).body).toMatchObject({
      total: 1,
      groups: [
        {
          error_code: 'stripe_object_missing',
          cause: 'permanent',
          event_type: 'checkout.session.completed',
          event_ids: ['evt_gone'],
        },
      ],
    });
    await database.current.query(
      `delete from stripe_webhook_events where stripe_event_id = 'evt_gone'`,
    );
  });

  it('works on an object that was logged by hand, once it is asked to', async () => {
    const user = userId('by-hand');
    const { body } = await stack.call('POST', '/api/checkout-session', {
      bearer: await stack.token(user),
      body: { plan: 'pack_50' },
    });
    await stack.sandbox.pay(body.session_id);
    await database.current.query(
      `select log_stripe_webhook_event('evt_by_hand', 'checkout.session.completed', $1)`,
      [JSON.stringify({ id: body.session_id })],
    );
    await database.current.query(
      `update stripe_events set processed = false where stripe_event_id = 'evt_by_hand'`,
    );
    await ended('evt_by_hand', 'processed');
    expect(await balance(user)).toBe(50);
  });
});

describe('a replay of many events', () => {
  /** Dead events of a type nobody acts upon: each ends as ignored when it is worked on. */
  const bury = (prefix: string, count: number) =>
    database.current.query(
      `insert into stripe_webhook_events (stripe_event_id, event_type, object_id, event_data, status, created_at)
       select id, 'x.' || $1, id, jsonb_build_object('id', id, 'object', 'event', 'type', 'x.' || $1, 'created', 1,
         'livemode', false, 'data', '{"object": {}}'::jsonb), 'dead', clock_timestamp() - make_interval(secs => n)
       from (select format('evt_%s_%s', $1::text, n) as id, n from generate_series(1, $2::int) n) ids`,
      [prefix, count],
    );
  const countOf = async (prefix: string, status: string) => {
    const [found] = await database.current.query<{ n: number }>(
      `select count(*)::int as n from stripe_webhook_events where event_type = 'x.' || $1::text and status = $2`,
      [prefix, status],
    );
    return found?.n ?? 0;
  };

  it('is worked off to its end, and can be asked how far it is', async () => {
    await bury('all', 130);
    const dry = await admin('POST', 'retry-webhooks', { type: 'x.all', dry_run: true });
    expect(dry.body).toMatchObject({ matched: 130, requeued: 0, replay_id: null });
    const { body } = await admin('POST', 'retry-webhooks', { type: 'x.all' });
    expect(body).toMatchObject({ matched: 130, requeued: 0, replay_id: expect.any(String) });
    await waitFor(
      async () => (await admin('GET', `replays/${body.replay_id}`)).body.status === 'done',
      'the replay',
      60,
    );
    expect((await admin('GET', `replays/${body.replay_id}`)).body).toMatchObject({
      matched: 130,
      requeued: 130,
      actor: expect.stringMatching(/^admin:/),
    });
    await waitFor(async () => (await countOf('all', 'ignored')) === 130, 'the events');
    expect((await admin('GET', 'replays')).body.data[0]).toMatchObject({ id: body.replay_id });
  });

  it('stops where it is when it is cancelled', async () => {
    await bury('cut', 1_000);
    const { body } = await admin('POST', 'retry-webhooks', { type: 'x.cut' });
    await waitFor(
      async () => (await admin('GET', `replays/${body.replay_id}`)).body.requeued > 0,
      'the first batch',
    );
    const cancelled = await admin('POST', `replays/${body.replay_id}/cancel`);
    expect(cancelled).toMatchObject({ status: 200, body: { status: 'canceled' } });
    const { requeued } = cancelled.body;
    expect(requeued).toBeLessThan(1_000);
    await waitFor(async () => (await countOf('cut', 'ignored')) === requeued, 'the rest');
    expect(await countOf('cut', 'dead')).toBe(1_000 - requeued);
    expect((await admin('POST', `replays/${body.replay_id}/cancel`)).body).toEqual(cancelled.body);
    expect(await admin('GET', 'replays/00000000-0000-4000-8000-000000000000')).toMatchObject({
      status: 404,
    });
    expect(await admin('GET', 'replays/1')).toMatchObject({ status: 400 });
  });
});

describe('a parked purchase', () => {
  it('is listed, and given to a user by an admin, once', async () => {
    const event = await parkedPurchase();
    const list = await admin('GET', 'parked');
    const same = await admin('GET', 'webhook-logs?status=parked');
    expect(list.body).toEqual(same.body);
    expect(list.body.data).toContainEqual(
      expect.objectContaining({ event_id: event.id, waiting_for: expect.stringMatching(/^cus_/) }),
    );
    const user = await newUser('claimant');
    const claim = (body: unknown, id = event.id) => admin('POST', `parked/${id}/claim`, body);
    expect(await claim({ user_id: user })).toMatchObject({ status: 400 });
    expect(await claim({ user_id: userId('nobody'), reason: 'x' })).toMatchObject({
      status: 404,
      body: { code: 'user_not_found' },
    });
    expect(await claim({ user_id: user, reason: 'x' }, 'evt_none')).toMatchObject({ status: 404 });
    expect(await claim({ user_id: user, reason: 'showed the receipt' })).toMatchObject({
      status: 200,
      body: { event_id: event.id, user_id: user, event_ids: [event.id] },
    });
    await ended(event.id, 'processed');
    expect(await balance(user)).toBe(50);
    expect(await claim({ user_id: user, reason: 'again' })).toMatchObject({
      status: 200,
      body: { event_ids: [] },
    });
    const other = await newUser('other');
    expect(await claim({ user_id: other, reason: 'me too' })).toMatchObject({ status: 404 });
    expect(await balance(other)).toBe(0);
    // The buyer at Stripe is still nobody we know: his cards are not the claimant's to see.
    expect(
      await database.current.query('select 1 from stripe_customers where user_id = $1', [user]),
    ).toEqual([]);
    // The invoice of the same purchase finds the same owner, and grants nothing more.
    const session = await stack.stripe.checkout.sessions.retrieve(
      (event.data.object as { id: string }).id,
    );
    await stack.deliver({ ...event, id: `${event.id}_more` });
    await ended(`${event.id}_more`, 'processed');
    expect(session.payment_status).toBe('paid');
    expect(await balance(user)).toBe(50);
  });

  it('is taken over by a one-time link, by one signed-in user, once', async () => {
    const event = await parkedPurchase();
    const made = await admin('POST', `parked/${event.id}/claim-link`, { expires_in_seconds: 3600 });
    expect(made).toMatchObject({ status: 201, body: { event_id: event.id } });
    const { token, path } = made.body;
    const [hashed] = await database.current.query<{ n: number }>(
      'select count(*)::int as n from claim_links where token_hash = $1',
      [token],
    );
    expect(hashed).toEqual({ n: 0 });
    const [first, second] = [userId('link-1'), userId('link-2')];
    const redeem = async (user: string, claims = {}, target = path) =>
      stack.call('POST', target, { bearer: await stack.token(user, claims) });
    expect(await stack.call('POST', path)).toMatchObject({ status: 401 });
    expect(await redeem(first, { is_anonymous: true })).toMatchObject({ status: 403 });
    expect(await redeem(first, {}, '/api/claims/aaaaaaaaaaaaaaaaaaaaaaaaaaaa')).toMatchObject({
      status: 404,
    });
    expect(await redeem(first)).toMatchObject({ status: 200, body: { user_id: first } });
    await ended(event.id, 'processed');
    expect(await balance(first)).toBe(50);
    expect(await redeem(second)).toMatchObject({ status: 404, body: { code: 'not_found' } });
    expect(await redeem(first)).toMatchObject({ status: 200, body: { event_ids: [] } });
    expect(await balance(first)).toBe(50);
    expect(await admin('POST', `parked/${event.id}/claim-link`)).toMatchObject({ status: 404 });
  });

  it('cannot be taken over by a link that is expired or replaced', async () => {
    const event = await parkedPurchase();
    const link = async () => (await admin('POST', `parked/${event.id}/claim-link`)).body.path;
    const bearer = await stack.token(userId('late'));
    const replaced = await link();
    const expired = await link();
    expect(await stack.call('POST', replaced, { bearer })).toMatchObject({ status: 404 });
    await database.current.query(
      `begin; set local role purser_ledger; update claim_links set expires_at = now() - interval '1 s'; reset role; commit`,
    );
    expect(await stack.call('POST', expired, { bearer })).toMatchObject({ status: 404 });
    expect(await status(event.id)).toBe('parked');
  });

  it('goes back to work when Stripe delivers it again', async () => {
    const event = await parkedPurchase();
    expect(await stack.deliver(event)).toMatchObject({ status: 200, body: { duplicate: false } });
    await ended(event.id, 'parked');
    const { customer } = await stack.stripe.checkout.sessions.retrieve(
      (event.data.object as { id: string }).id,
    );
    const user = userId('appears');
    await stack.call('PUT', `/api/users/${user}`, {
      bearer: SERVICE_KEY,
      body: { email: 'appears@example.com', stripe_customer_id: String(customer) },
    });
    await ended(event.id, 'processed');
    expect(await balance(user)).toBe(50);
  });
});
