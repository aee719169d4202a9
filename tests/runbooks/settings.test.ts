import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { ADMIN_KEY, CRON_SECRET, SERVICE_KEY, WEBHOOK_SECRET } from '../support/stack.ts';
import { runbook } from './page.ts';
import { openWorld, type World } from './world.ts';

const USER = { 'user id': 'ada' };

let world: World;
beforeAll(async () => {
  world = await openWorld({
    env: { PURSER_GATEWAY_SECRET: 'gateway-secret-of-the-tests-0123456' },
  });
  await world.buy('ada');
  await world.waitForBalance('ada', 50);
});
afterAll(() => world.stop());

runbook('going-live.md', (page) => {
  it('finds a fresh installation fit to sell', async () => {
    expect((await page.play(world, '--dry-run')).out).toContain('The schema is up to date.');
    expect((await page.play(world, 'npm run migrate\n')).out).toContain(
      'The schema is up to date.',
    );
    expect((await page.play(world, 'doctor')).out).toMatch(/ok +webhook-endpoint/);
    expect((await page.play(world, '/readyz')).out).toContain('"status":"ready"');
    const jobs = JSON.parse((await page.play(world, '/api/admin/jobs')).out).data;
    expect(jobs.map(({ name }: { name: string }) => name)).toContain('reconcile');
    expect((await page.play(world, 'user explain', USER)).out).toContain('50');
    expect((await page.play(world, 'user check', USER)).out).toContain('Everything agrees.');
    const health = JSON.parse((await page.play(world, 'subscription-health')).out);
    expect(health).toMatchObject({ status: expect.any(String), deductions: expect.any(Array) });
  });
});

runbook('rotate-secrets.md', (page) => {
  it('takes old and new ones while they are moved, and refuses the old ones afterwards', async () => {
    const made = [];
    for (let count = 0; count < 5; count += 1) {
      made.push((await page.play(world, 'randomBytes')).out.trim());
    }
    const [service = '', admin = '', cron = '', gateway = '', webhook = ''] = made;
    expect(new Set(made.map((key) => key.length))).toEqual(new Set([43]));
    const old = {
      PURSER_SERVICE_KEY: SERVICE_KEY,
      PURSER_ADMIN_KEY: ADMIN_KEY,
      CRON_SECRET,
      PURSER_GATEWAY_SECRET: world.env.PURSER_GATEWAY_SECRET ?? '',
      STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
    };
    const fresh: typeof old = {
      PURSER_SERVICE_KEY: service,
      PURSER_ADMIN_KEY: admin,
      CRON_SECRET: cron,
      PURSER_GATEWAY_SECRET: gateway,
      STRIPE_WEBHOOK_SECRET: `whsec_${webhook}`,
    };
    const names = Object.keys(old) as (keyof typeof old)[];
    const seeThatItWorks = async (keys: typeof old) => {
      await page.play(world, 'Bearer <service key>', {
        ...USER,
        'service key': keys.PURSER_SERVICE_KEY,
      });
      await page.play(world, 'events --limit 1', { 'admin key': keys.PURSER_ADMIN_KEY });
      await page.play(world, '/api/cron/tick', { 'cron secret': keys.CRON_SECRET });
      const own = await page.play(world, 'x-user-signature', {
        ...USER,
        'new key': keys.PURSER_GATEWAY_SECRET,
      });
      expect(JSON.parse(own.out)).toMatchObject({ user_id: 'ada' });
    };
    const endpoint = (secret: string) =>
      world.sandbox.ensureWebhookEndpoint({ url: `${world.url}/api/webhooks/stripe`, secret });

    await world.restart(
      Object.fromEntries(names.map((name) => [name, `${fresh[name]},${old[name]}`])),
    );
    await seeThatItWorks(old);
    await seeThatItWorks(fresh);
    // Told under the old secret, then under the new one.
    await world.buy('bert');
    await endpoint(fresh.STRIPE_WEBHOOK_SECRET);
    await world.buy('cleo');
    // A new key of Stripe's, a restricted one, while the old one still works.
    const resources = [
      'customer',
      'checkout_session',
      'invoice',
      'payment_intent',
      'charge',
      'plan',
    ];
    const others = ['product', 'subscription', 'event', 'account', 'dispute', 'customer_portal'];
    const permissions = [...resources, ...others, 'webhook', 'payment_method', 'coupon'];
    const stripeKey = await world.sandbox.restrictedKey(
      Object.fromEntries(permissions.map((name) => [name, 'write' as const])),
    );
    const environment = { ...world.env };
    await world.restart({ ...fresh, STRIPE_SECRET_KEY: stripeKey });
    expect(environment.STRIPE_SECRET_KEY).not.toBe(stripeKey);
    await seeThatItWorks(fresh);
    const doctor = await page.play(world, 'doctor');
    expect(doctor.out).toMatch(/ok +webhook-secret/);
    await world.buy('dora');
    const refused = await page.play(world, 'http_code', { ...USER, 'old key': SERVICE_KEY });
    expect(refused.out.trim()).toBe('401');
    for (const user of ['bert', 'cleo', 'dora']) await world.waitForBalance(user, 50);
    await world.call('POST', '/api/admin/users/ada/adjust', {
      bearer: fresh.PURSER_ADMIN_KEY,
      headers: { 'idempotency-key': 'by-the-new-key' },
      body: { amount: 5, reason: 'to see who did it' },
    });
    expect((await page.play(world, 'from audit_events')).rows[0]).toMatchObject({
      action: 'adjust_credits',
      user_id: 'ada',
      actor: expect.any(String),
    });
  });
});
