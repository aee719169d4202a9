import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { type FaultProxy, startFaultProxy } from '../support/faultProxy.ts';
import { clusterUrl, createTestDatabase } from '../support/postgres.ts';
import { type RedisServer, startRedisServer } from '../support/redisServer.ts';
import { describeWith } from '../support/requirements.ts';
import { type SmtpServer, startSmtpServer } from '../support/smtpServer.ts';
import { SERVICE_KEY, waitFor } from '../support/stack.ts';
import { runbook } from './page.ts';
import { openWorld, type World } from './world.ts';

describeWith('redis-server', 'outages', (program) => {
  let world: World;
  let redis: RedisServer;
  let smtp: SmtpServer;
  let proxy: FaultProxy;
  beforeAll(async () => {
    redis = await startRedisServer({ program });
    smtp = await startSmtpServer();
    proxy = await startFaultProxy({ port: Number(new URL(clusterUrl()).port) });
    const database = await createTestDatabase();
    world = await openWorld({
      database,
      env: {
        DATABASE_URL: proxy.through(database.connectionString),
        REDIS_URL: redis.url(),
        SMTP_URL: smtp.url,
        EMAIL_FROM: 'billing@shop.example',
      },
    });
  });
  afterAll(async () => {
    proxy.setMode('pass');
    await world.stop();
    await world.database.drop();
    await Promise.all([redis.stop(), smtp.stop(), proxy.close()]);
  });

  const check = async (user: string) => {
    const { status, body } = await world.call('POST', '/api/credits/check', {
      bearer: SERVICE_KEY,
      body: { user_id: user, amount: 1 },
    });
    return status === 200 ? body.source : status;
  };
  const readiness = async () => (await world.call('GET', '/readyz')).status;
  const ready = () => waitFor(async () => (await readiness()) === 200, 'the server to be ready');
  const buyAndHave = async (user: string) => {
    const session = await world.buy(user);
    await world.waitForBalance(user, 50);
    return session;
  };

  runbook('stripe-outage.md', (page) => {
    it('credits afterwards what could not be asked about', async () => {
      const session = await world.stripe.checkout.sessions.create({
        mode: 'payment',
        line_items: [{ price: 'price_pack_50', quantity: 1 }],
        metadata: { userId: 'ada' },
        success_url: `${world.url}/success`,
      });
      await world.call('PUT', '/api/users/ada', {
        bearer: SERVICE_KEY,
        body: { email: 'ada@shop.example' },
      });
      await world.sandbox.setApiFaults({ path: '/v1', status: 503 });
      await world.sandbox.pay(session.id);
      await waitFor(
        async () =>
          (
            await world.database.query(
              `select 1 from stripe_webhook_events where object_id = $1 and status = 'failed'`,
              [session.id],
            )
          ).length > 0,
        'the event to fail',
      );
      expect((await page.play(world, '--status failed\n')).out).toContain(' failed ');
      expect(
        (
          await world.call('POST', '/api/checkout-session', {
            bearer: await world.token('bert'),
            body: { plan: 'pack_50' },
          })
        ).status,
      ).toBe(503);
      expect(['redis', 'ledger']).toContain(await check('ada'));
      await world.sandbox.setApiFaults();
      await page.play(world, '--status failed --since', { when: '1h' });
      await world.waitForBalance('ada', 50);
      expect((await page.play(world, '--missed', { when: '1h' })).out).toContain('Stripe lists');
      expect((await page.play(world, 'reconcile', { when: '1h' })).out).toContain(
        'Everything agrees.',
      );
    });
  });

  runbook('redis-outage.md', (page) => {
    it('answers from the ledger meanwhile, and writes the copies again', async () => {
      await buyAndHave('cleo');
      await waitFor(async () => (await check('cleo')) === 'redis', 'the copy');
      await redis.kill();
      const away = await page.play(world, '/readyz');
      expect(away.out).toContain('"redis":"degraded"');
      const answer = JSON.parse(
        (await page.play(world, '/api/credits/check', { 'user id': 'cleo' })).out,
      );
      expect(answer).toMatchObject({ allowed: true, available: 50, source: 'ledger' });
      await redis.start();
      await waitFor(
        async () => (await world.call('GET', '/readyz')).body.checks?.redis === 'ok',
        'Redis to be back',
      );
      await page.play(world, 'reconcile');
      await waitFor(async () => (await check('cleo')) === 'redis', 'the copy to be back');
      const { out } = await page.play(world, 'user check', { 'user id': 'cleo' });
      expect(out).toMatch(/Redis +agrees/);
    });
  });

  runbook('database-outage.md', (page) => {
    it('refuses meanwhile, answers checks, and credits what was paid in between', async () => {
      await buyAndHave('dora');
      await waitFor(async () => (await check('dora')) === 'redis', 'the copy');
      proxy.setMode('refuse');
      proxy.cutAll();
      await waitFor(async () => (await readiness()) === 503, 'the outage to be seen');
      expect((await page.play(world, '/readyz')).out).toContain('"code":"dependency_down"');
      expect(await check('dora')).toBe('redis');
      const spend = await world.call('POST', '/api/credits/consume', {
        bearer: SERVICE_KEY,
        headers: { 'idempotency-key': 'while-away' },
        body: { user_id: 'dora', amount: 1 },
      });
      expect(spend).toMatchObject({ status: 503, body: { code: 'dependency_down' } });
      const { session } = await world.sandbox.buy({
        price: 'pack_50',
        metadata: { userId: 'dora' },
      });
      await waitFor(
        async () =>
          (
            await world.sandbox.deliveries({ type: 'checkout.session.completed' })
          )[0]?.attempts.some(({ status_code: status }) => status !== null && status >= 500),
        'Stripe to be refused',
      );
      expect(session.payment_status).toBe('paid');
      proxy.setMode('pass');
      await ready();
      await page.play(world, '--missed', { when: '1h' });
      await world.waitForBalance('dora', 100);
      expect((await page.play(world, 'reconcile', { when: '1h' })).out).toContain(
        'Everything agrees.',
      );
      expect((await page.play(world, 'validate_credits_consistency')).rows).toEqual([]);
    });
  });

  runbook('mail-server-down.md', (page) => {
    it('delays receipts and no purchase, and sends again what was given up', async () => {
      smtp.behaviour = 'refusesForNow';
      await buyAndHave('emma');
      const list = async (status: string) =>
        JSON.parse((await page.play(world, `?status=${status}`)).out).data as {
          id: string;
          user_id: string;
          error: string;
        }[];
      // The job may have lost its database in the outage before: then its lease has to run out.
      const receipt = await waitFor(
        async () => (await list('failed')).find((one) => one.user_id === 'emma'),
        'the receipt to fail',
        180,
      );
      expect(receipt.error).toEqual(expect.any(String));
      const counted = await page.play(world, 'group by status, kind');
      expect(counted.rows).toContainEqual(
        expect.objectContaining({ status: 'failed', kind: 'purchase_receipt' }),
      );
      // Its nine attempts take sixteen hours.
      await waitFor(async () => {
        await world.database.query(`begin; set local role purser_ledger; update notifications
          set attempts = 8, next_attempt_at = now() where status = 'failed'; reset role; commit`);
        return (await list('dead')).some(({ id }) => id === receipt.id);
      }, 'the receipt to be given up');
      smtp.behaviour = 'accepts';
      await page.play(world, '/retry', { 'message id': receipt.id });
      expect(JSON.parse((await page.play(world, '/notifications/run')).out)).toMatchObject({
        outcome: expect.any(String),
      });
      await waitFor(
        async () => (await list('sent&limit=5')).some(({ id }) => id === receipt.id),
        'the receipt to be sent',
      );
      expect(smtp.mails.some(({ to }) => to.includes('emma@example.com'))).toBe(true);
    });
  });

  runbook('drift.md', (page) => {
    it('writes a wrong copy anew', async () => {
      await buyAndHave('finn');
      await waitFor(async () => (await check('finn')) === 'redis', 'the copy');
      // The job that follows the ledger may still have this change before it, and repair it itself.
      await waitFor(async () => {
        await redis.wire.call('HSET', 'credits:{finn}', 'balance', '9999', 'available', '9999');
        const seen = await page.play(world, '--dry-run', {}, { exit: [0, 1] });
        return /would repair +mirror_differs: /.test(seen.out);
      }, 'the difference to stand');
      expect((await page.play(world, 'reconcile\n')).out).toContain('Repaired 1');
      expect(await redis.wire.call('HGET', 'credits:{finn}', 'available')).toBe('50');
      const { out } = await page.play(world, 'user check', { 'user id': 'finn' });
      expect(out).toContain('Everything agrees.');
    });

    it('names the books that do not add up, and sets them right from the entries', async () => {
      await buyAndHave('gina');
      const seal = await world.database.query<{ answer: { entries: number } }>(
        'select seal_credit_entries(500) as answer',
      );
      expect(seal[0]?.answer.entries).toBeGreaterThan(0);
      await world.database.query(`begin; set local role purser_ledger;
        update users set credits_balance = 80 where id = 'gina'; reset role; commit`);
      const found = await page.play(world, 'select * from validate_credits_consistency()');
      expect(found.rows).toContainEqual(
        expect.objectContaining({ user_id: 'gina', issue: 'balance' }),
      );
      const gina = { 'user id': 'gina' };
      expect((await page.play(world, 'verify_credit_chain', gina)).rows).toEqual([]);
      const [repaired] = (await page.play(world, 'sync_user_credits', gina)).rows;
      expect(repaired?.sync_user_credits).toMatchObject({ changed: true, remaining_issues: [] });
      const rows = await page.play(world, 'select user_id, issue from validate');
      expect(rows.rows).toEqual([]);
      await world.waitForBalance('gina', 50);
      // The check of each minute may have noted it: then the view ends with 1 until its next run.
      await world.call('POST', '/api/admin/jobs/consistency-check/run', {
        bearer: world.env.PURSER_ADMIN_KEY ?? '',
      });
      expect((await page.play(world, 'user balance', gina)).out).toMatch(/^ledger +50 /m);
    });
  });

  runbook('refund-questions.md', (page) => {
    it('tells where credits went, and that a refund took its share', async () => {
      const session = await buyAndHave('hugo');
      await world.call('POST', '/api/credits/consume', {
        bearer: SERVICE_KEY,
        headers: { 'idempotency-key': 'spent' },
        body: { user_id: 'hugo', amount: 40 },
      });
      await world.sandbox.refund(session, { amount: 250 });
      await world.waitForBalance('hugo', -15);
      expect((await page.play(world, '--type clawback', { 'user id': 'hugo' })).out).toContain(
        '-25',
      );
      const hugo = { 'user id': 'hugo' };
      const payment = (await world.stripe.checkout.sessions.retrieve(session)).payment_intent;
      const fill = {
        ...hugo,
        'payment id': String(payment),
        when: '1h',
        'a time': '2026-01-01T00:00:00Z',
      };
      expect((await page.play(world, 'user explain "<user id>"\n', fill)).out).toMatch(/25/);
      expect((await page.play(world, '--at', fill)).out).toMatch(/\S/);
      expect((await page.play(world, '--type usage', fill)).out).toContain('-40');
      expect((await page.play(world, 'statement.csv', fill)).out).toMatch(/closing_balance/);
      const told = JSON.parse((await page.play(world, '/api/admin/payments/', fill)).out);
      expect(told).toMatchObject({
        paid: 500,
        refunded: 250,
        settlement: { granted: 50, target: 25, clawed: 25 },
      });
      const debts = await page.play(world, 'credits_debt > 0');
      expect(debts.rows).toEqual([{ user_id: 'hugo', credits_debt: '15', credits_balance: '-15' }]);
      await page.play(world, '/adjust', fill);
      expect(JSON.parse((await page.play(world, '/adjust', fill)).out)).toMatchObject({
        outcome: 'applied',
        balance: 10,
      });
      expect((await page.play(world, 'user check', fill)).out).toContain('Everything agrees.');
    });

    it('takes the share of a refund whose event never came', async () => {
      const session = await buyAndHave('ines');
      await world.untold(() => world.sandbox.refund(session));
      const fill = { 'user id': 'ines', 'payment id': session };
      expect((await page.play(world, '--yes', fill)).out).toContain('the balance is 0');
      await world.waitForBalance('ines', 0);
    });

    it('knows until when the bank waits for an answer', async () => {
      const session = await buyAndHave('jack');
      await world.sandbox.dispute(session);
      await world.waitForBalance('jack', 0);
      await world.settled();
      const { rows } = await page.play(world, 'dispute_opened');
      expect(rows).toMatchObject([{ user_id: 'jack', after: expect.any(Object) }]);
    });
  });
});
