import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { ADMIN_KEY, WEBHOOK_SECRET, waitFor } from '../support/stack.ts';
import { runbook } from './page.ts';
import { openWorld, type World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world.stop());

const lastEvent = async (where: string) => {
  const [row] = await world.database.query<{ stripe_event_id: string; status: string }>(
    `select stripe_event_id, status from stripe_webhook_events where ${where}
     order by created_at desc limit 1`,
  );
  return row;
};

runbook('README.md', (page) => {
  it('asks for the health, and sets a shell up', async () => {
    const health = await page.play(world, 'subscription-health');
    expect(JSON.parse(health.out)).toMatchObject({ health_score: expect.any(Number) });
    const { out } = await page.play(world, 'export PURSER_URL', {
      'address of the server': world.url,
      'admin key': ADMIN_KEY,
      'service key': world.env.PURSER_SERVICE_KEY ?? '',
    });
    expect(out).toContain('No event has come in yet.');
  });
});

runbook('paid-but-no-credits.md', (page) => {
  it('credits a purchase whose event never came', async () => {
    const session = await world.untold(() => world.buy('ada'));
    const fill = { 'user id': 'ada', 'session id': session, 'e-mail': 'ada@' };
    expect((await page.play(world, 'user find', fill)).out).toMatch(/^ada .*\bfree\b/m);
    expect((await page.play(world, 'user check', fill, { exit: 1 })).out).toMatch(
      /would repair +missing_grant/,
    );
    expect((await page.play(world, '--dry-run', fill)).out).toContain('Balance now: 0');
    expect((await page.play(world, '--yes', fill)).out).toMatch(
      /Repaired \d differences?; the balance is 50\./,
    );
    expect((await page.play(world, 'events --q', fill)).out).toContain('No event fits');
    const fetched = await page.play(world, 'replay --missed', { when: '1h' });
    expect(fetched.out).toMatch(/[1-9]\d* missing here w(as|ere) fetched/);
    const event = await waitFor(
      async () => (await lastEvent(`object_id = '${session}' and processed`))?.stripe_event_id,
      'the event to be worked on',
    );
    expect((await page.play(world, 'events show', { 'event id': event })).out).toMatch(
      /status +processed/,
    );
    expect((await page.play(world, 'replay "<event id>"', { 'event id': event })).out).toMatch(
      /processed/,
    );
    expect((await page.play(world, 'user balance', fill)).out).toMatch(/^ledger +50 /m);
  });

  const parkedPurchase = async (email: string) => {
    const customer = await world.stripe.customers.create({ email });
    const { session } = await world.sandbox.buy({ price: 'pack_50', customer: customer.id });
    const event = await waitFor(
      async () =>
        (await lastEvent(`object_id = '${session.id}' and status = 'parked'`))?.stripe_event_id,
      'the purchase to be parked',
    );
    return { session, event };
  };

  it('gives a parked purchase to whom it belongs, in each of the three ways', async () => {
    await world.call('PUT', '/api/users/bob', {
      bearer: world.env.PURSER_SERVICE_KEY ?? '',
      body: { email: 'bob@example.com' },
    });
    const claimed = await parkedPurchase('somebody@example.com');
    await page.play(world, '/claim"', { 'event id': claimed.event, 'user id': 'bob' });
    await world.waitForBalance('bob', 50);

    const linked = await parkedPurchase('carl@example.com');
    await page.play(world, 'stripe_customer_id', {
      'user id': 'carl',
      'e-mail': 'carl@example.com',
      'customer id': linked.session.customer ?? '',
    });
    await world.waitForBalance('carl', 50);

    const unknown = await parkedPurchase('nobody@example.com');
    const link = await page.play(world, '/claim-link', { 'event id': unknown.event });
    expect(JSON.parse(link.out).url).toContain(`${world.url}/`);
  });
});

runbook('signature-fails.md', (page) => {
  it('finds the wrong secret, takes the right one, and fetches what was refused', async () => {
    const endpoint = await world.sandbox.ensureWebhookEndpoint({
      url: `${world.url}/api/webhooks/stripe`,
      secret: 'whsec_of_another_endpoint_0123456789',
    });
    await world.buy('dora');
    await waitFor(
      async () =>
        (await world.sandbox.deliveries({ type: 'checkout.session.completed' }))[0]?.attempts.some(
          ({ status_code: status }) => status === 400,
        ),
      'Stripe to be refused',
    );
    expect((await page.play(world, 'stripe-signature')).out).toContain(
      '"code":"invalid_signature"',
    );
    const doctor = await page.play(world, 'doctor');
    expect(doctor.out).toMatch(/ok +webhook-secret/);
    await world.restart({ STRIPE_WEBHOOK_SECRET: `${endpoint.secret},${WEBHOOK_SECRET}` });
    await page.play(world, '--since "<when>"', { when: '1h' });
    await world.waitForBalance('dora', 50);
    expect((await page.play(world, '--since 1h --dry-run')).out).toContain('none is missing here');
    expect((await page.play(world, 'events --limit 10')).out).toContain('processed');
  });

  it('is what the doctor finds where the shell and the server differ', async () => {
    const { out } = await page.play(
      world,
      'doctor',
      {},
      {
        exit: 1,
        env: { STRIPE_WEBHOOK_SECRET: 'whsec_neither_of_them_0123456789' },
      },
    );
    expect(out).toMatch(/fail +webhook-secret/);
  });
});

runbook('dead-letters.md', (page) => {
  it('has the cause mended, and works on all of them again', async () => {
    await world.sandbox.setApiFaults({ method: 'GET', path: '/v1/checkout/sessions', status: 500 });
    const session = await world.buy('emil');
    // Its ten attempts take a day, so all but the last are written by hand.
    await waitFor(async () => {
      await world.database.query(
        `update stripe_webhook_events set retry_count = 9, next_attempt_at = now()
         where object_id = $1 and status = 'failed'`,
        [session],
      );
      return (await lastEvent(`object_id = '${session}'`))?.status === 'dead';
    }, 'the event to be given up');
    const event = (await lastEvent(`object_id = '${session}'`))?.stripe_event_id ?? '';
    const groups = JSON.parse((await page.play(world, 'dead-letters')).out);
    expect(groups).toMatchObject({
      total: 1,
      groups: [{ cause: 'transient', event_ids: [event] }],
    });
    expect((await page.play(world, 'events --status dead')).out).toContain(event);
    const shown = await page.play(world, 'events show', { 'event id': event });
    expect(shown.out).toMatch(/status +dead/);
    expect((await page.play(world, 'group by error_code')).rows).toMatchObject([{ events: '1' }]);
    await world.sandbox.setApiFaults();
    expect((await page.play(world, '--status dead --dry-run')).out).toContain('on 1 event');
    expect((await page.play(world, 'replay "<event id>"', { 'event id': event })).out).toMatch(
      new RegExp(`processed +${event}`),
    );
    expect((await page.play(world, '--status dead --yes')).out).toContain('No event fits');
    expect((await page.play(world, '::int as dead')).rows).toEqual([{ dead: 0 }]);
    await world.waitForBalance('emil', 50);
  });
});
