import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import { testDatabase, userId } from '../support/postgres.ts';
import { SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

const database = testDatabase();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ connectionString: database.current.connectionString });
});
afterAll(() => stack.stop());

let count = 0;
function newUser(): string {
  count += 1;
  return userId(`buyer-${count}`);
}

async function checkout(
  user: string,
  body: Record<string, unknown> = { plan: 'pack_50' },
): Promise<string> {
  const bearer = await stack.token(user);
  const { status, body: session } = await stack.call('POST', '/api/checkout-session', {
    bearer,
    body,
  });
  expect(status).toBe(200);
  return session.session_id;
}

async function eventsOf(objectId: string, type?: string): Promise<Stripe.Event[]> {
  const all = await stack.stripe.events.list({ limit: 100 });
  return all.data.filter(
    (event) =>
      (event.data.object as { id?: string }).id === objectId &&
      (type === undefined || event.type === type),
  );
}

async function deliverAndWait(event: Stripe.Event): Promise<string> {
  const { status } = await stack.deliver(event);
  expect(status).toBe(200);
  return waitFor(async () => {
    const [row] = await database.current.query<{ status: string }>(
      `select status from stripe_webhook_events where stripe_event_id = $1 and status not in ('received', 'leased')`,
      [event.id],
    );
    return row?.status;
  }, `the end of ${event.id}`);
}

async function credits(user: string): Promise<number> {
  const { body } = await stack.call('GET', `/api/users/${user}/credits`, { bearer: SERVICE_KEY });
  return body.balance;
}

async function one<T>(items: T[]): Promise<T> {
  expect(items).toHaveLength(1);
  return items[0] as T;
}

describe('a bought pack', () => {
  it('is credited by its webhook, once, with the log lines of the contract', async () => {
    const user = newUser();
    const id = await checkout(user);
    await stack.sandbox.pay(id);
    const event = await one(await eventsOf(id, 'checkout.session.completed'));
    expect(await deliverAndWait(event)).toBe('processed');
    expect(await credits(user)).toBe(50);
    expect(await deliverAndWait({ ...event, id: `${event.id}_again` })).toBe('processed');
    expect(await credits(user)).toBe(50);
    const messages = stack.logs.map((line) => line.message);
    expect(messages).toContain(`Successfully processed session ${id} for user ${user}`);
    expect(messages).toContain(`Session ${id} already processed, skipping`);
    const bearer = await stack.token(user);
    const { body } = await stack.call('GET', `/api/checkout-session/${id}`, { bearer });
    expect(body).toEqual({ session_id: id, status: 'credited', credits: 50, balance: 50 });
  });

  it('puts userId, userEmail and plan on every object Stripe makes of it', async () => {
    const user = newUser();
    const id = await checkout(user);
    await stack.sandbox.pay(id);
    const session = await stack.stripe.checkout.sessions.retrieve(id, {
      expand: ['invoice', 'payment_intent'],
    });
    const metadata = { userId: user, userEmail: `${user}@example.com`, plan: 'pack_50' };
    expect(session.metadata).toEqual(metadata);
    expect((session.invoice as Stripe.Invoice).metadata).toEqual(metadata);
    expect((session.payment_intent as Stripe.PaymentIntent).metadata).toEqual(metadata);
    expect(session.customer).toMatch(/^cus_/);
  });

  it.each([
    ['session, then invoice', ['checkout.session.completed', 'invoice.paid']],
    ['invoice, then session', ['invoice.paid', 'checkout.session.completed']],
    [
      'both names of the paid invoice first',
      ['invoice.payment_succeeded', 'invoice.paid', 'checkout.session.completed'],
    ],
  ])('and its invoice are one settlement: %s, doubled', async (_order, types) => {
    const user = newUser();
    const id = await checkout(user);
    await stack.sandbox.pay(id);
    const session = await stack.stripe.checkout.sessions.retrieve(id);
    for (const type of [...types, ...types]) {
      const event = await one(
        await eventsOf(type.startsWith('invoice') ? String(session.invoice) : id, type),
      );
      expect(await deliverAndWait(event)).toBe('processed');
    }
    expect(await credits(user)).toBe(50);
    const sources = await database.current.query(
      `select source_key from credit_sources where user_id = $1 order by 1`,
      [user],
    );
    expect(sources.map((row) => String(row.source_key).split(':')[0])).toEqual([
      'checkout',
      'invoice',
      'payment',
    ]);
    expect(
      await database.current.query(
        `select payment, paid::int, currency, version::int from payments where user_id = $1`,
        [user],
      ),
    ).toEqual([{ payment: session.payment_intent, paid: 500, currency: 'usd', version: 1 }]);
  });

  it('counts quantities', async () => {
    const user = newUser();
    const id = await checkout(user, { price_id: 'price_pack_200', quantity: 3 });
    await stack.sandbox.pay(id);
    await deliverAndWait(await one(await eventsOf(id, 'checkout.session.completed')));
    expect(await credits(user)).toBe(600);
  });
});

describe('a delayed payment', () => {
  it('grants nothing and is not marked until it settles', async () => {
    const user = newUser();
    const id = await checkout(user);
    await stack.sandbox.pay(id, { outcome: 'settles_later' });
    const completed = await one(await eventsOf(id, 'checkout.session.completed'));
    expect(await deliverAndWait(completed)).toBe('processed');
    expect(await credits(user)).toBe(0);
    const bearer = await stack.token(user);
    const status = async () =>
      (await stack.call('POST', `/api/checkout-session/${id}/fulfill`, { bearer })).body.status;
    expect(await status()).toBe('processing');
    await stack.sandbox.settle(id);
    await deliverAndWait(await one(await eventsOf(id, 'checkout.session.async_payment_succeeded')));
    expect(await credits(user)).toBe(50);
    expect(await status()).toBe('credited');
  });

  it('that fails ends as failed, without credits', async () => {
    const user = newUser();
    const id = await checkout(user);
    await stack.sandbox.pay(id, { outcome: 'fails_later' });
    await deliverAndWait(await one(await eventsOf(id, 'checkout.session.completed')));
    await stack.sandbox.settle(id, 'failed');
    await deliverAndWait(await one(await eventsOf(id, 'checkout.session.async_payment_failed')));
    expect(await credits(user)).toBe(0);
    const { body } = await stack.call('GET', `/api/checkout-session/${id}`);
    expect(body).toEqual({ session_id: id, status: 'failed', credits: 50 });
  });
});

describe('a session that is said to have expired', () => {
  const expired = (id: string) =>
    ({
      id: `evt_expired_${count++}`,
      object: 'event',
      type: 'checkout.session.expired',
      created: 1_700_000_000,
      livemode: false,
      api_version: null,
      data: { object: { id, object: 'checkout.session', status: 'expired' } },
    }) as unknown as Stripe.Event;
  const stateOf = async (id: string) =>
    (await stack.call('GET', `/api/checkout-session/${id}`)).body.status;

  it('is marked so', async () => {
    const id = await checkout(newUser());
    await stack.stripe.checkout.sessions.expire(id);
    expect(await deliverAndWait(expired(id))).toBe('processed');
    expect(await stateOf(id)).toBe('expired');
  });

  it('after it was paid, or before that is heard of, keeps and gets its credits', async () => {
    const user = newUser();
    const [early, late] = [await checkout(user), await checkout(user)];
    for (const id of [early, late]) await stack.sandbox.pay(id);
    await deliverAndWait(expired(early));
    for (const id of [early, late]) {
      await deliverAndWait(await one(await eventsOf(id, 'checkout.session.completed')));
    }
    await deliverAndWait(expired(late));
    expect(await credits(user)).toBe(100);
    expect([await stateOf(early), await stateOf(late)]).toEqual(['credited', 'credited']);
  });
});

describe('carts that Purser did not make', () => {
  async function foreignSession(
    fields: Partial<Stripe.Checkout.SessionCreateParams>,
  ): Promise<string> {
    const session = await stack.stripe.checkout.sessions.create({
      mode: 'payment',
      success_url: 'https://example.com/',
      line_items: [{ price: 'price_pack_50', quantity: 1 }],
      ...fields,
    });
    await stack.sandbox.pay(session.id);
    return session.id;
  }
  const settle = async (id: string) =>
    deliverAndWait(await one(await eventsOf(id, 'checkout.session.completed')));

  beforeAll(async () => {
    const product = await stack.stripe.products.create({ id: 'prod_mug', name: 'Mug' });
    await stack.stripe.prices.create({
      product: product.id,
      currency: 'usd',
      unit_amount: 1500,
      lookup_key: 'mug',
    });
    const coins = await stack.stripe.products.create({
      id: 'prod_coins',
      name: 'Coins',
      metadata: { credits: '7' },
    });
    await stack.stripe.prices.create({
      product: coins.id,
      currency: 'usd',
      unit_amount: 100,
      lookup_key: 'coins',
    });
    const bad = await stack.stripe.products.create({
      id: 'prod_bad',
      name: 'Bad',
      metadata: { credits: '1e3' },
    });
    await stack.stripe.prices.create({
      product: bad.id,
      currency: 'usd',
      unit_amount: 100,
      lookup_key: 'bad',
    });
  });
  const price = async (key: string) =>
    (await stack.stripe.prices.list({ lookup_keys: [key] })).data[0]?.id ?? '';

  it('credit the packs of a mixed cart, and nothing for other products', async () => {
    const user = newUser();
    await stack.call('PUT', `/api/users/${user}`, {
      bearer: SERVICE_KEY,
      body: { email: `${user}@example.com` },
    });
    const id = await foreignSession({
      metadata: { userId: user },
      line_items: [
        { price: 'price_pack_50', quantity: 2 },
        { price: await price('mug'), quantity: 5 },
        { price: await price('coins'), quantity: 3 },
      ],
    });
    expect(await settle(id)).toBe('processed');
    expect(await credits(user)).toBe(121);
  });

  it('are ignored, with the reason, when nothing in them is worth credits', async () => {
    const id = await foreignSession({
      metadata: { userId: 'whoever' },
      line_items: [{ price: await price('mug'), quantity: 1 }],
    });
    expect(await settle(id)).toBe('ignored');
    const [row] = await database.current.query(
      `select error_message from stripe_webhook_events where object_id = $1`,
      [id],
    );
    expect(row).toEqual({ error_message: 'no line item is a pack of the catalogue' });
  });

  it('with metadata that says too much credit the price alone, and a bad number is a finding', async () => {
    const user = newUser();
    await stack.call('PUT', `/api/users/${user}`, {
      bearer: SERVICE_KEY,
      body: { email: 'buyer@example.com' },
    });
    const id = await foreignSession({
      metadata: { userId: user, credits: '99999' },
      line_items: [
        { price: 'price_pack_50', quantity: 1 },
        { price: await price('bad'), quantity: 1 },
      ],
    });
    await settle(id);
    expect(await credits(user)).toBe(50);
    const found = await database.current.query(
      `select code from reconciliation_findings where subject like $1`,
      [`checkout:${id}:%`],
    );
    expect(found).toEqual([{ code: 'line_without_credits' }]);
  });

  it('wait for an unknown user and resolve when he appears', async () => {
    const user = newUser();
    const id = await foreignSession({ metadata: { userId: user } });
    expect(await settle(id)).toBe('parked');
    const { body } = await stack.call('GET', `/api/checkout-session/${id}`);
    expect(body.code).toBe('not_found');
    await stack.call('PUT', `/api/users/${user}`, {
      bearer: SERVICE_KEY,
      body: { email: `${user}@example.com` },
    });
    await waitFor(async () => (await credits(user)) === 50, 'the parked event');
  });

  it("find their buyer by the stored customer, the customer's metadata, or a client_reference_id that exists", async () => {
    const byMap = newUser();
    const mapped = await stack.stripe.customers.create({});
    await stack.call('PUT', `/api/users/${byMap}`, {
      bearer: SERVICE_KEY,
      body: { email: 'mapped@example.com', stripe_customer_id: mapped.id },
    });
    const byMetadata = newUser();
    await stack.call('PUT', `/api/users/${byMetadata}`, {
      bearer: SERVICE_KEY,
      body: { email: 'buyer@example.com' },
    });
    const named = await stack.stripe.customers.create({ metadata: { userId: byMetadata } });
    const byReference = newUser();
    await stack.call('PUT', `/api/users/${byReference}`, {
      bearer: SERVICE_KEY,
      body: { email: 'buyer@example.com' },
    });
    expect(await settle(await foreignSession({ customer: mapped.id }))).toBe('processed');
    expect(await settle(await foreignSession({ customer: named.id }))).toBe('processed');
    expect(await settle(await foreignSession({ client_reference_id: byReference }))).toBe(
      'processed',
    );
    expect(await settle(await foreignSession({ client_reference_id: 'made-up' }))).toBe('parked');
    expect([await credits(byMap), await credits(byMetadata), await credits(byReference)]).toEqual([
      50, 50, 50,
    ]);
  });
});

describe('the success page', () => {
  it('settles its own session when the webhook is late, and the webhook then adds nothing', async () => {
    const user = newUser();
    const id = await checkout(user);
    const bearer = await stack.token(user);
    const fulfill = async (as?: string) =>
      (
        await stack.call(
          'POST',
          `/api/checkout-session/${id}/fulfill`,
          as === undefined ? {} : { bearer: as },
        )
      ).body;
    expect(await fulfill(bearer)).toEqual({
      session_id: id,
      status: 'open',
      credits: 50,
      balance: 0,
    });
    await stack.sandbox.pay(id);
    expect(await fulfill(bearer)).toEqual({
      session_id: id,
      status: 'credited',
      credits: 50,
      balance: 50,
    });
    // Others learn how the session ended, but nobody's balance.
    expect(await fulfill(await stack.token(userId('somebody-else')))).toEqual({
      session_id: id,
      status: 'credited',
      credits: 50,
    });
    expect(await fulfill()).toEqual({ session_id: id, status: 'credited', credits: 50 });
    await deliverAndWait(await one(await eventsOf(id, 'checkout.session.completed')));
    expect(await credits(user)).toBe(50);
  });

  it('knows only sessions Purser made or credited', async () => {
    const { status, body } = await stack.call('POST', '/api/checkout-session/cs_unknown/fulfill');
    expect([status, body.code]).toEqual([404, 'not_found']);
  });
});

describe('events that are not ours', () => {
  it.each([
    [
      'of a type nobody handles',
      { type: 'radar.early_fraud_warning.created' },
      /is not acted upon/,
    ],
    ['of the live mode', { livemode: true }, /a live event came to a test endpoint/],
    ['of a connected account', { account: 'acct_1' }, /belongs to the account acct_1/],
  ])('%s are recorded and ignored', async (_what, fields, reason) => {
    const event = {
      id: `evt_foreign_${count++}`,
      object: 'event',
      type: 'checkout.session.completed',
      created: 1_700_000_000,
      livemode: false,
      api_version: null,
      data: { object: { id: 'cs_foreign' } },
      ...fields,
    } as unknown as Stripe.Event;
    expect(await deliverAndWait(event)).toBe('ignored');
    const [row] = await database.current.query<{ error_message: string }>(
      `select error_message from stripe_webhook_events where stripe_event_id = $1`,
      [event.id],
    );
    expect(row?.error_message).toMatch(reason);
  });
});

describe('a thin notification', () => {
  it('of a paid session is fetched and credited, and its snapshot then adds nothing', async () => {
    const user = newUser();
    const id = await checkout(user);
    await stack.sandbox.pay(id);
    const thin = {
      id: `evt_thin_${count}`,
      object: 'v2.core.event',
      type: 'v1.checkout.session.completed',
      created: '2026-11-01T00:00:00.000Z',
      livemode: false,
      related_object: { id, type: 'checkout.session', url: `/v1/checkout/sessions/${id}` },
    } as unknown as Stripe.Event;
    expect(await deliverAndWait(thin)).toBe('processed');
    expect(await credits(user)).toBe(50);
    await deliverAndWait(await one(await eventsOf(id, 'checkout.session.completed')));
    expect(await credits(user)).toBe(50);
  });
});

describe('failures', () => {
  it('at Stripe are recorded with the next attempt, and the retry heals', async () => {
    const id = `cs_gone_${count++}`;
    const event = {
      id: `evt_gone_${count++}`,
      object: 'event',
      type: 'checkout.session.completed',
      created: 1_700_000_000,
      livemode: false,
      data: { object: { id } },
    } as unknown as Stripe.Event;
    expect(await deliverAndWait(event)).toBe('failed');
    const [row] = await database.current.query<{
      retry_count: number;
      error_message: string;
      due: boolean;
    }>(
      `select retry_count, error_message, next_attempt_at > now() as due from stripe_webhook_events where stripe_event_id = $1`,
      [event.id],
    );
    expect(row).toMatchObject({ retry_count: 1, due: true });
    expect(row?.error_message).toContain(`No such checkout`);
    expect(stack.logs.map((line) => line.message)).toContain(
      'Failed to handle checkout.session.completed',
    );
  });
});
