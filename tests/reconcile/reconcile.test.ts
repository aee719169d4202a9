import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { type RedisServer, startRedisServer } from '../support/redisServer.ts';
import { describeWith } from '../support/requirements.ts';
import { callAsService } from '../support/sqlCall.ts';
import { waitFor } from '../support/stack.ts';
import { tableContents } from '../support/tableContents.ts';
import {
  forgetCredits,
  LONG_AGO,
  openReconcileWorld,
  type ReconcileWorld,
} from './support/reconcileWorld.ts';

const database = testDatabase();

describeWith('redis-server', 'reconciliation of a shop that was broken', (program) => {
  let world: ReconcileWorld;
  let redis: RedisServer;
  let subscription = '';
  beforeAll(async () => {
    redis = await startRedisServer({ program });
    world = await openReconcileWorld(database.current, { REDIS_URL: redis.url() });
    for (const user of ['well', 'edited', 'restored', 'refunded', 'disputed']) {
      await world.buy(user);
    }
    subscription = (await world.buy('leaver', 'individual')).subscription ?? '';
    await world.settled();
  });
  afterAll(async () => {
    await world.stop();
    await redis.stop();
  });

  it('finds nothing in one that is well', async () => {
    expect(await world.balance('leaver')).toBe(30);
    const run = await world.reconcile({ since: LONG_AGO });
    expect(run).toMatchObject({ findings: 0, repaired: 0, still_open: 0, differences: [] });
    expect(run.progress.stages).toMatchObject({
      sessions: { objects: 6, done: true },
      invoices: { objects: 6, done: true },
      subscriptions: { objects: 1 },
      mirror: { objects: 6, done: true },
    });
  });

  it('finds everything that is at odds, and heals what can be healed', async () => {
    const { sandbox, stack, drop, buy, balance } = world;
    const sessionOf = async (user: string) => {
      const [row] = await database.current.query<{ session: string }>(
        `select stripe_session_id as session from credit_transactions where user_id = $1`,
        [user],
      );
      return row?.session ?? '';
    };
    await drop();
    await buy('unheard');
    await buy('unheard-plan', 'individual');
    await sandbox.refund(await sessionOf('refunded'), { amount: 100 });
    await sandbox.dispute(await sessionOf('disputed'));
    await stack.stripe.subscriptions.cancel(subscription);
    await callAsService(database.current, 'grant_credits', {
      p_user_id: 'well',
      p_type: 'purchase',
      p_key: 'checkout:cs_live_elsewhere',
      p_lots: [{ credits: 7 }],
      p_sources: ['checkout:cs_live_elsewhere', 'payment:pi_elsewhere'],
    });
    // A guest at a payment link: nobody can know whose it is. Its invoice is no second purchase.
    const customer = (await stack.stripe.customers.create({ email: 'guest@example.com' })).id;
    await sandbox.buy({ price: 'pack_50', customer, invoice: true });
    await waitFor(
      async () => (await redis.wire.call('HGET', 'credits:{well}', 'balance')) === '57',
      'the copy of the orphan',
    );
    // It looks back a minute, and would mend these two copies before they are compared.
    await world.rest('mirror-repair');
    await forgetCredits(database.current, 'restored');
    await redis.wire.call('HSET', 'credits:{edited}', 'balance', 5000, 'available', 5000);

    // Younger than five minutes it is left to its events.
    await database.current.query(`update subscription set state_as_of = now() - interval '1 hour'`);
    const expected = [
      ['missing_grant', 'unheard'],
      ['missing_grant', 'unheard-plan'],
      ['missing_grant', 'restored'],
      ['payment_differs', 'refunded'],
      ['payment_differs', 'disputed'],
      ['subscription_differs', 'leaver'],
      ['mirror_differs', 'edited'],
      ['orphaned_grant', 'well'],
      ['unassigned_purchase', null],
    ];
    type Found = { code: string; user_id: string | null; outcome: string };
    const found = (differences: Found[]) =>
      differences.map(({ code, user_id }) => [code, user_id]).sort();

    // The other jobs of the server go on.
    const quiet = ['scheduled_jobs', 'credit_seals', 'cache_store', 'cache_versions'];
    const before = await tableContents(database.current, quiet);
    const dry = await world.reconcile({ since: LONG_AGO, dry_run: true });
    expect(await tableContents(database.current, quiet)).toEqual(before);
    expect(await redis.wire.call('HGET', 'credits:{edited}', 'balance')).toBe('5000');
    expect(dry).toMatchObject({ dry_run: true, run_id: null, repaired: 0, findings: 10 });
    // Its version counts on from the backup's, and is the same again once it is granted.
    const ahead = ['mirror_ahead', 'restored'];
    expect(found(dry.differences)).toEqual([...expected, ahead].sort());

    const run = await world.reconcile({ since: LONG_AGO });
    expect(await balance('unheard')).toBe(50);
    expect(await balance('unheard-plan')).toBe(30);
    expect(await balance('restored')).toBe(50);
    expect(await balance('refunded')).toBe(40);
    expect(await balance('disputed')).toBe(0);
    expect(await redis.wire.call('HGET', 'credits:{edited}', 'balance')).toBe('50');
    expect(
      await database.current.query(`select user_id, status from subscription order by user_id`),
    ).toEqual([
      { user_id: 'leaver', status: 'canceled' },
      { user_id: 'unheard-plan', status: 'active' },
    ]);
    const open = run.differences.filter(({ outcome }: Found) => outcome !== 'repaired');
    expect(found(open)).toEqual([
      ['orphaned_grant', 'well'],
      ['unassigned_purchase', null],
    ]);
    expect(found(run.differences)).toEqual(expected.toSorted());
    expect(run).toMatchObject({ findings: 9, repaired: 7 });

    const entries = await database.current.query<{ key: string }>(
      `select idempotency_key as key from credit_transactions
       where user_id in ('unheard', 'unheard-plan', 'restored') order by 1`,
    );
    expect(entries.map(({ key }) => key.replace(/_.*/, ''))).toEqual([
      'checkout:cs',
      'checkout:cs',
      'invoice:in',
    ]);
    const audits = await database.current.query<{ actor: string; n: number }>(
      `select actor, count(*)::int as n from audit_events where action = 'reconcile_repair' group by 1`,
    );
    expect(audits).toEqual([{ actor: expect.stringMatching(/^admin:/), n: run.repaired }]);
  });

  it('finds nothing the second time, and says since when the books are clean', async () => {
    const again = await world.reconcile({ since: LONG_AGO });
    expect(again).toMatchObject({ findings: 0, repaired: 0, still_open: 2 });
    const drift = await database.current.query('select * from validate_credits_consistency()');
    expect(drift).toEqual([]);

    const { body: page } = await world.admin('GET', 'findings?status=open');
    expect(page.data).toHaveLength(2);
    const orphan = page.data.find(({ code }: { code: string }) => code === 'orphaned_grant');
    expect(orphan).toMatchObject({
      user_id: 'well',
      subject: 'checkout:cs_live_elsewhere',
      times: 2,
      repair: { kind: 'adjust_credits', command: expect.stringContaining('/adjust') },
    });
    const state = await world.admin('GET', 'stripe/reconciliation');
    expect(state.body).toMatchObject({
      open_findings: 2,
      open_by_code: { orphaned_grant: 1, unassigned_purchase: 1 },
      last_reconciliation: { id: again.run_id, findings: 0, repaired: 0 },
    });
    // Of a user without findings everything that was compared is clean; of the others less is.
    const of = async (user: string) =>
      (await world.admin('GET', `stripe/reconciliation?user_id=${user}`)).body;
    const clean = await of('restored');
    expect(clean.clean_as_of).toBe(clean.compared_until);
    expect(Date.parse(clean.clean_as_of)).toBeGreaterThan(Date.parse(LONG_AGO));
    expect(await callAsService(database.current, 'get_last_reconciliation', {})).toMatchObject({
      id: again.run_id,
      findings: 0,
    });
  });

  it('finds no more what a person has resolved with a reason', async () => {
    const { body: page } = await world.admin('GET', 'findings?code=orphaned_grant');
    const [orphan] = page.data;
    const path = `findings/${orphan.id}/resolve`;
    const resolved = await world.admin('POST', path, { reason: 'a gift to a tester' });
    expect(resolved).toMatchObject({
      status: 200,
      body: { status: 'resolved', resolution: 'a gift to a tester' },
    });
    expect((await world.admin('POST', path, { reason: 'again' })).body.resolution).toBe(
      'a gift to a tester',
    );
    const again = await world.reconcile({ since: LONG_AGO });
    expect(again).toMatchObject({ findings: 0, still_open: 1 });
    expect(again.differences).toContainEqual(
      expect.objectContaining({ code: 'orphaned_grant', outcome: 'accepted' }),
    );
    expect(
      await database.current.query(
        `select reason from audit_events where action = 'resolve_finding' and actor like 'admin:%'`,
      ),
    ).toEqual([{ reason: 'a gift to a tester' }]);
    expect(await world.admin('GET', 'findings/999999')).toMatchObject({ status: 404 });
    expect(await world.admin('GET', 'stripe/reconciliations/r_999999')).toMatchObject({
      status: 404,
    });
    const { body: runs } = await world.admin('GET', 'stripe/reconciliations');
    expect(runs.data).toHaveLength(4);
    expect(runs.data[0]).toMatchObject({ id: again.run_id, status: 'done', error: null });
    expect((await world.admin('GET', `stripe/reconciliations/${again.run_id}`)).body).toEqual(
      runs.data[0],
    );
  });

  it('ends a finding by itself once its reason is gone', async () => {
    const { body: page } = await world.admin('GET', 'findings?status=open');
    expect(page.data).toMatchObject([{ code: 'unassigned_purchase' }]);
    const { data } = await world.stack.stripe.checkout.sessions.list({ limit: 1 });
    const customer = data[0]?.customer;
    expect(customer).toEqual(expect.stringMatching(/^cus_/));
    await world.stack.call('PUT', '/api/users/guest', {
      bearer: 'service-key-of-the-tests-0123456789',
      body: { email: 'guest@example.com', stripe_customer_id: customer },
    });
    const run = await world.reconcile();
    expect(run).toMatchObject({ findings: 1, repaired: 1, still_open: 0 });
    expect(await world.balance('guest')).toBe(50);
    expect((await world.admin('GET', 'findings?status=open')).body.data).toEqual([]);
  });
});
