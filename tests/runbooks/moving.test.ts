import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { migrate } from '../../src/supabase/migrate.ts';
import { STUBS_FILE } from '../../src/supabase/migrations.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';
import { WEBHOOK_SECRET, waitFor } from '../support/stack.ts';
import { migrationFilesOfFolder } from '../support/testCluster.ts';
import { OLD_APP_SQL, type OldHandler, startOldHandler } from './oldHandler.ts';
import { runbook } from './page.ts';
import { openWorld, type World } from './world.ts';

let database: TestDatabase;
let world: World;
let old: OldHandler;
beforeAll(async () => {
  database = await createTestDatabase({ template: 'template0' });
  const stubs = migrationFilesOfFolder().filter(({ name }) => name === STUBS_FILE);
  await migrate({ connectionString: database.connectionString, files: stubs });
  await database.query(OLD_APP_SQL);
  old = await startOldHandler(database.connectionString);
  world = await openWorld({ database, server: false, endpoint: false });
});
afterAll(async () => {
  await world.stop();
  await old.stop();
  await database.drop();
});

/** Somebody buys at the app's own checkout, which Purser knows nothing of. */
async function buyOld(user: string): Promise<string> {
  const { session } = await world.sandbox.buy({ price: 'pack_50', metadata: { userId: user } });
  return session.id;
}

const balances = async () =>
  Object.fromEntries(
    (
      await database.query<{ id: string; credits_balance: string }>(
        'select id, credits_balance::text from users order by id',
      )
    ).map((row) => [row.id, Number(row.credits_balance)]),
  );

const completed = async (session: string): Promise<string> => {
  const list = await world.stripe.events.list({ type: 'checkout.session.completed', limit: 100 });
  const event = list.data.find(({ data }) => (data.object as { id: string }).id === session);
  return event?.id ?? '';
};

const entries = async (user: string, type: string) =>
  (
    await database.query(
      'select 1 from credit_transactions where user_id = $1 and transaction_type = $2',
      [user, type],
    )
  ).length;

const completedSession = async (user: string) =>
  (
    await database.query<{ id: string }>(
      `select stripe_session_id as id from credit_transactions_before_purser where user_id = $1`,
      [user],
    )
  )[0]?.id;

let sessions: string[] = [];

runbook('moving-from-an-old-handler.md', (page) => {
  it('credits each purchase once, whoever of the two was told of it', async () => {
    const endpoint = await world.sandbox.ensureWebhookEndpoint({
      url: old.url,
      secret: 'whsec_of_the_old_handler_0123456789',
    });
    sessions = [await buyOld('ada'), await buyOld('ada'), await buyOld('bert')];
    await waitFor(async () => (await balances()).bert === 50, 'the old handler to credit');
    await waitFor(async () => (await balances()).ada === 100, 'the old handler to credit');
    // Half of a purchase was refunded, and the app took half of its credits.
    const refunded = await buyOld('dora');
    await waitFor(async () => (await balances()).dora === 50, 'the old handler to credit');
    await world.sandbox.refund(refunded, { amount: 250 });
    await database.query(
      `update users set credits_balance = credits_balance - 25 where id = 'dora'`,
    );
    // Spending, too, was a matter of the app.
    await database.query(
      `update users set credits_balance = credits_balance - 50 where id = 'bert'`,
    );

    expect((await page.play(world, '--dry-run')).out).toContain('this was a dry run');
    await world.stripe.webhookEndpoints.update(endpoint.id, { disabled: true });
    expect((await page.play(world, 'as users')).rows).toEqual([{ users: 4, credits: 125 }]);
    // Paid during the switch: nobody is told.
    const between = await buyOld('cleo');

    expect((await page.play(world, 'npm run migrate -- --move-aside')).out).toContain(
      'The schema is ready.',
    );
    expect(await balances()).toEqual({ ada: 100, bert: 0, cleo: 0, dora: 25 });
    const recorded = await page.play(world, '(user_id::text');
    expect(recorded.rows).toEqual([{ outcome: 'applied', purchases: 4, credits: 200 }]);
    expect((await page.play(world, '(user_id::text')).rows).toEqual([
      { outcome: 'replayed', purchases: 4, credits: 200 },
    ]);
    const { payment_intent: payment } = await world.stripe.checkout.sessions.retrieve(refunded);
    const returned = await page.play(world, 'p_returned', {
      'user id': 'dora',
      'session id': refunded,
      'payment id': String(payment),
    });
    expect(returned.rows).toEqual([{ outcome: 'replayed' }]);
    expect(await balances()).toEqual({ ada: 100, bert: 0, cleo: 0, dora: 25 });

    await world.restart({});
    await world.sandbox.ensureWebhookEndpoint({
      url: `${world.url}/api/webhooks/stripe`,
      secret: WEBHOOK_SECRET,
    });
    expect((await page.play(world, 'doctor')).out).toMatch(/ok +webhook-secret/);
    const fetched = await page.play(world, '--missed', { when: '1h' });
    expect(fetched.out).toMatch(/missing here were fetched/);
    await world.waitForBalance('cleo', 50);
    for (const session of [...sessions, refunded, between]) {
      // And once more, as somebody does in the dashboard.
      await world.sandbox.resend(await completed(session));
    }
    await world.settled();
    expect(await balances()).toEqual({ ada: 100, bert: 0, cleo: 50, dora: 25 });
    expect([await entries('ada', 'purchase'), await entries('cleo', 'purchase')]).toEqual([2, 1]);
    await page.play(world, 'reconcile');
    expect((await page.play(world, 'user_id, issue')).rows).toEqual([]);
    expect(
      (
        await page.play(
          world,
          'select coalesce(sum(credits_balance), 0)::int as credits from users',
        )
      ).rows,
    ).toEqual([{ credits: 175 }]);
    const { out } = await page.play(world, 'user explain', { 'user id': 'ada' });
    expect(out).toContain('opening balance');
  });

  it('takes the credits of an old purchase back when it is refunded, and of no other', async () => {
    await world.sandbox.refund(sessions[0] ?? '');
    await world.waitForBalance('ada', 50);
    await world.sandbox.refund((await completedSession('dora')) ?? '');
    await world.waitForBalance('dora', 0);
    // It was spent before Purser came: a debt.
    await world.sandbox.refund(sessions[2] ?? '');
    await world.waitForBalance('bert', -50);
    expect(await database.query('select * from validate_credits_consistency()')).toEqual([]);
  });

  it('refuses an old handler that still runs, so that it credits nothing', async () => {
    await world.sandbox.ensureWebhookEndpoint({ url: old.url, secret: 'whsec_old_0123456789' });
    const { data } = await world.stripe.webhookEndpoints.list();
    const endpoint = data.find(({ url }) => url === old.url);
    await world.stripe.webhookEndpoints.update(endpoint?.id ?? '', { disabled: false });
    await buyOld('cleo');
    await world.waitForBalance('cleo', 100);
    await waitFor(() => old.errors.length > 0, 'the old handler to be refused');
    expect((await balances()).cleo).toBe(100);
    await world.stripe.webhookEndpoints.update(endpoint?.id ?? '', { disabled: true });
  });

  it('says what it cannot record', async () => {
    const record = (args: Record<string, string | number>) =>
      callAsService(database, 'record_earlier_purchase', args);
    const before = await balances();
    const taken = { p_object: sessions[0] ?? '', p_credits: 50 };
    expect(await record({ ...taken, p_user_id: 'cleo' })).toMatchObject({ outcome: 'conflict' });
    expect(await record({ ...taken, p_user_id: 'nobody', p_object: 'cs_other' })).toMatchObject({
      outcome: 'not_found',
    });
    await expect(record({ ...taken, p_user_id: 'ada', p_object: 'sub_1' })).rejects.toThrow(
      'invalid_request',
    );
    expect(await balances()).toEqual(before);
  });

  it('takes the second credit back where Purser had credited a session first', async () => {
    const session = await buyOld('bert');
    await world.waitForBalance('bert', 0);
    await callAsService(database, 'record_earlier_purchase', {
      p_user_id: 'bert',
      p_object: session,
      p_credits: 50,
    });
    await world.waitForBalance('bert', -50);
  });
});

runbook('rollback.md', (page) => {
  it('lets an older release run on a newer schema', async () => {
    await database.query(`begin; set local role purser_ledger;
      alter table stripe_webhook_events add column of_a_later_version text; reset role; commit`);
    await world.restart({});
    expect((await page.play(world, '/readyz')).out).toContain('"status":"ready"');
    expect((await page.play(world, '--status failed')).out).toContain('No event fits');
    await page.play(world, '--status dead', { when: '1h' });
  });

  it('leaves the balances and the books, and comes back without crediting twice', async () => {
    await waitFor(
      async () => (await page.play(world, 'as under_way')).rows[0]?.under_way === 0,
      'nothing to be under way',
    );
    const before = await balances();
    await world.server.stop();
    const text = readFileSync(new URL('../../sql/rollback.sql', import.meta.url), 'utf8');
    await world.sql(text);
    const looked = await page.play(world, 'credits_balance from users order by id limit 20');
    expect(looked.rows).toHaveLength(4);
    expect(await balances()).toEqual(before);
    expect((await page.play(world, 'as entries')).rows[0]?.entries).toBeGreaterThan(5);
    // Nobody is there to be told.
    await buyOld('cleo');

    await page.play(world, 'npm run migrate');
    const recorded = await page.play(world, 'record_earlier_purchase');
    expect(recorded.rows.every(({ outcome }) => outcome === 'applied')).toBe(true);
    expect(await balances()).toEqual(before);
    await world.restart({});
    await page.play(world, '--missed', { when: '2h' });
    await world.waitForBalance('cleo', (before.cleo ?? 0) + 50);
    for (const session of sessions) await world.sandbox.resend(await completed(session));
    await world.settled();
    expect(await balances()).toEqual({ ...before, cleo: (before.cleo ?? 0) + 50 });
    expect((await page.play(world, 'expected, actual')).rows).toEqual([]);
  });
});
