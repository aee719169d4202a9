import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';
import { ADMIN_KEY } from '../support/stack.ts';
import { tableContents } from '../support/tableContents.ts';
import { openReconcileWorld, type ReconcileWorld } from './support/reconcileWorld.ts';

const database = testDatabase();
let world: ReconcileWorld;
beforeAll(async () => {
  world = await openReconcileWorld(database.current);
});
afterAll(() => world.stop());

const check = (user: string) => world.admin('GET', `stripe/check-user/${encodeURIComponent(user)}`);
const fix = (user: string, body: Record<string, unknown>) =>
  world.admin('POST', `stripe/fix-user/${encodeURIComponent(user)}`, body);

describe('one user', () => {
  it('is shown side by side, and is clean', async () => {
    const { session } = await world.buy('ann');
    await world.settled();
    const { status, body } = await check('ann');
    expect(status).toBe(200);
    expect(body).toMatchObject({
      user_id: 'ann',
      clean: true,
      stripe: { sessions: 1, invoices: 1, subscriptions: 0 },
      ledger: { balance: 50, entries: 1 },
      differences: [],
      open_findings: [],
    });
    expect(body.objects).toContainEqual(
      expect.objectContaining({
        subject: `checkout:${session}`,
        agrees: true,
        stripe: expect.objectContaining({ amount_total: 500, payment_status: 'paid' }),
        ledger: expect.objectContaining({ credits: 50, user_id: 'ann' }),
      }),
    );
    expect(await check('nobody')).toMatchObject({ status: 404, body: { code: 'user_not_found' } });
  });

  it('is mended: dry first, then with a reason, which is audited', async () => {
    const { session } = await world.buy('bob');
    await world.settled();
    await world.drop();
    await world.sandbox.refund(session, { amount: 250 });
    await world.buy('bob');
    const before = await check('bob');
    expect(before.body.clean).toBe(false);
    const codes = (answer: typeof before) =>
      answer.body.differences.map(({ code, outcome }: { code: string; outcome: string }) => [
        code,
        outcome,
      ]);
    expect(codes(before).sort()).toEqual([
      ['missing_grant', 'would_repair'],
      ['payment_differs', 'would_repair'],
    ]);
    // The other jobs of the server go on.
    const quiet = ['scheduled_jobs', 'credit_seals', 'cache_store', 'cache_versions'];
    const tables = await tableContents(database.current, quiet);
    const dry = await fix('bob', { dry_run: true, reason: 'he wrote to us' });
    expect(dry).toMatchObject({
      status: 200,
      body: { dry_run: true, repaired: 0, before: { balance: 50 }, after: { balance: 75 } },
    });
    expect(await tableContents(database.current, quiet)).toEqual(tables);

    const done = await fix('bob', { reason: 'he wrote to us' });
    expect(done.body).toMatchObject({
      repaired: 2,
      before: dry.body.before,
      after: dry.body.after,
    });
    const audits = await database.current.query(
      `select reason, user_id, after ->> 'code' as code from audit_events
       where action = 'reconcile_repair' and actor like 'admin:%' order by 3`,
    );
    expect(audits).toEqual([
      { reason: 'he wrote to us', user_id: 'bob', code: 'missing_grant' },
      { reason: 'he wrote to us', user_id: 'bob', code: 'payment_differs' },
    ]);
    expect((await fix('bob', { reason: 'again' })).body).toMatchObject({
      repaired: 0,
      differences: [],
    });
    expect((await check('bob')).body.clean).toBe(true);
    expect(await fix('bob', {})).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
  });

  it('gets a subscription whose customer nobody knew, and nobody else’s', async () => {
    await world.drop();
    const { session } = await world.sandbox.buy({
      price: 'individual',
      customer: (await world.stack.stripe.customers.create({ email: 'cy@example.com' })).id,
    });
    const subscription = session.subscription;
    await callAsService(database.current, 'ensure_user', { p_user_id: 'cy' });
    const request = { stripe_subscription_id: subscription, reason: 'paid by phone' };
    const dry = await fix('cy', { ...request, dry_run: true });
    expect(dry.body).toMatchObject({ before: { balance: 0 }, after: { balance: 30 } });
    const changed = await database.current.query(
      `select (select count(*)::int from subscription where user_id = 'cy') as subscriptions,
         (select count(*)::int from stripe_customers where user_id = 'cy') as customers`,
    );
    expect(changed).toEqual([{ subscriptions: 0, customers: 0 }]);
    expect(dry.body.differences).toContainEqual(
      expect.objectContaining({ code: 'missing_grant', outcome: 'would_repair', user_id: 'cy' }),
    );
    const done = await fix('cy', request);
    expect(done.body).toMatchObject({ before: dry.body.before, after: dry.body.after });
    const seen = ({ body }: typeof dry) =>
      body.differences.map(({ code, subject }: { code: string; subject: string }) => ({
        code,
        subject,
      }));
    expect(seen(dry)).toEqual(seen(done));
    expect(await database.current.query(`select plan from users where id = 'cy'`)).toEqual([
      { plan: 'individual' },
    ]);
    expect(
      await database.current.query(
        `select reason, after from audit_events where action = 'link_customer'`,
      ),
    ).toEqual([{ reason: 'paid by phone', after: { customer: session.customer } }]);
    const foreign = await fix('ann', request);
    expect(foreign).toMatchObject({
      status: 400,
      body: { errors: [{ path: 'stripe_subscription_id' }] },
    });
    expect(await fix('ann', { ...request, stripe_subscription_id: 'sub_none' })).toMatchObject({
      status: 404,
    });
  });

  it('is refused to whoever has no admin key', async () => {
    for (const bearer of [undefined, 'wrong', await world.stack.token('ann')]) {
      const options = bearer === undefined ? {} : { bearer };
      const { status } = await world.stack.call('GET', '/api/admin/stripe/check-user/ann', options);
      expect([401, 403]).toContain(status);
    }
  });

  it('gets a command that takes an orphan back, also with an id that a shell would misread', async () => {
    const user = `o'hara $(id) "x"`;
    await callAsService(database.current, 'ensure_user', { p_user_id: user });
    await callAsService(database.current, 'grant_credits', {
      p_user_id: user,
      p_type: 'purchase',
      p_key: 'checkout:cs_live_lost',
      p_lots: [{ credits: 9 }],
      p_sources: ['checkout:cs_live_lost'],
    });
    const { body } = await check(user);
    expect(body.differences).toMatchObject([
      { code: 'orphaned_grant', subject: 'checkout:cs_live_lost' },
    ]);
    const { command } = body.differences[0].repair;
    const { stdout } = await promisify(execFile)('sh', ['-c', command], {
      env: { ...process.env, PUBLIC_URL: world.stack.url, PURSER_ADMIN_KEY: ADMIN_KEY },
    });
    expect(JSON.parse(stdout)).toMatchObject({ user_id: user, balance: 0 });
  });
});
