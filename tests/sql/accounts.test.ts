import { describe, expect, it } from '@jest/globals';
import pg from 'pg';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase, testUsers, userId } from '../support/postgres.ts';
import { type Answer, callAsService } from '../support/sqlCall.ts';

const database = testDatabase();
const call = (name: string, args: Record<string, Json | undefined>) =>
  callAsService(database.current, name, args);

let count = 0;
async function newAccount(credits = 50): Promise<string> {
  count += 1;
  const user = userId(`account-${count}`);
  await call('ensure_user', { p_user_id: user, p_email: `${user}@example.com` });
  await grant(user, credits);
  return user;
}
/** One purchase of a user, whatever spelling it is asked with. */
function grant(user: string, credits = 50): Promise<Answer> {
  const source = `checkout:cs_${user.toLowerCase().replaceAll(/[^a-z0-9]/g, '')}`;
  return call('grant_credits', {
    p_user_id: user,
    p_type: 'purchase',
    p_key: source,
    p_sources: [source],
    p_lots: [{ credits }],
  });
}
const consume = (user: string, key: string) =>
  call('consume_credits', { p_user_id: user, p_amount: 1, p_key: key });

/** How people delete an account: in auth.users where there is one, which cascades. */
const deletion = (user: string) =>
  testUsers === 'uuid'
    ? `delete from auth.users where id = '${user}'`
    : `delete from users where id = '${user}'`;
const comeback = (user: string) =>
  testUsers === 'uuid'
    ? `insert into auth.users (id, email) values ('${user}', 'again@example.com');
       insert into users (id, email) values ('${user}', 'again@example.com')`
    : `insert into users (id, email) values ('${user}', 'again@example.com')`;

async function expectConsistent(): Promise<void> {
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
}

async function open(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.current.connectionString });
  await client.connect();
  return client;
}

describe('an account that is deleted', () => {
  it('leaves a tombstone with its counters, an audit event, and the whole book', async () => {
    const user = await newAccount();
    await consume(user, 'k');
    await database.current.query(deletion(user));
    const [closed] = await database.current.query(
      `select user_id, credits_balance::int as balance, credits_version::int as version, entry_count::int as entries
       from closed_accounts where user_id = $1`,
      [user],
    );
    expect(closed).toEqual({ user_id: user, balance: 49, version: 2, entries: 2 });
    expect(
      await database.current.query(`select action, before from audit_events where user_id = $1`, [
        user,
      ]),
    ).toEqual([
      { action: 'account_closed', before: { balance: 49, debt: 0, held: 0, entry_count: 2 } },
    ]);
    expect((await call('list_credit_transactions', { p_user_id: user })).data).toHaveLength(2);
    expect(await consume(user, 'k2')).toMatchObject({ outcome: 'not_found' });
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({
      outcome: 'not_found',
    });
    await expectConsistent();
  });

  it('gets everything back when it returns, and keys and purchases still count as used', async () => {
    const user = await newAccount();
    await consume(user, 'k');
    await database.current.query(deletion(user));
    await database.current.query(comeback(user));
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({
      balance: 49,
      version: 3,
    });
    expect(await consume(user, 'k')).toMatchObject({ outcome: 'replayed' });
    expect(await grant(user)).toMatchObject({ outcome: 'replayed' });
    expect(await consume(user, 'k2')).toMatchObject({ outcome: 'applied', balance: 48 });
    expect(
      await database.current.query('select 1 from closed_accounts where user_id = $1', [user]),
    ).toEqual([]);
    await expectConsistent();
  });

  it('loses nothing when the return waits for the deletion to commit', async () => {
    const user = await newAccount();
    const deleting = await open();
    const returning = await open();
    try {
      await deleting.query('begin');
      // Only the row in users: the one in auth.users has to be there for the insert to wait.
      await deleting.query(`delete from users where id = '${user}'`);
      const inserted = returning.query(
        `insert into users (id, email) values ('${user}', 'again@example.com')`,
      );
      const waits = async () =>
        (
          await database.current.query(
            `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
          )
        ).length > 0;
      while (!(await waits())) await new Promise((resolve) => setTimeout(resolve, 10));
      await deleting.query('commit');
      await inserted;
    } finally {
      await deleting.end();
      await returning.end();
    }
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({
      balance: 50,
      version: 2,
    });
    expect(await consume(user, 'k')).toMatchObject({ outcome: 'applied', balance: 49 });
    await expectConsistent();
  });

  it('does not keep the expiry of living users from its turn', async () => {
    const gone = await newAccount();
    const alive = await newAccount();
    for (const user of [gone, alive]) {
      await call('grant_credits', {
        p_user_id: user,
        p_type: 'bonus',
        p_key: 'grant:gift',
        p_lots: [{ credits: 5, expires_at: '2030-01-01T00:00:00Z' }],
      });
    }
    await database.current.query(deletion(gone));
    const run = () => call('expire_due_credits', { p_limit: 1, p_now: '2030-06-01T00:00:00Z' });
    expect(await run()).toEqual({ users: 1, more: false });
    expect(await call('get_credit_balance', { p_user_id: alive })).toMatchObject({ balance: 50 });
    await expectConsistent();
  });

  it('with a plan that the app left empty can be deleted', async () => {
    const user = await newAccount();
    await database.current.query(`alter table users alter column plan drop not null;
      update users set plan = null where id = '${user}'`);
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({ plan: 'free' });
    await database.current.query(deletion(user));
    await expectConsistent();
  });
});

describe("a row of the app's", () => {
  it('starts with zero credits, whatever triggers of the app say', async () => {
    const user = userId('welcomed');
    await database.current.query(`
      create function public.welcome() returns trigger language plpgsql set search_path = '' as
        $$ begin new.credits_balance := 10; return new; end $$;
      create trigger zz_welcome before insert on users for each row execute function public.welcome();`);
    try {
      await expect(
        database.current.query('insert into users (id, email) values ($1, $2)', [user, 'a']),
      ).rejects.toMatchObject({
        code: '42501',
        message: 'a new row of users starts with zero credits',
      });
      expect(await call('ensure_user', { p_user_id: user })).toEqual({
        outcome: 'not_found',
        reason: 'a new row of users starts with zero credits',
      });
    } finally {
      await database.current.query('drop function public.welcome() cascade');
    }
    await expectConsistent();
  });

  it('keeps its balance when a later trigger changes it', async () => {
    const user = await newAccount();
    await database.current.query(`
      create function public.raise_balance() returns trigger language plpgsql set search_path = '' as
        $$ begin new.credits_balance := old.credits_balance + 1000; return new; end $$;
      create trigger zz_raise before update on users for each row execute function public.raise_balance();`);
    try {
      await expect(
        database.current.query('update users set email = $2 where id = $1', [user, 'b']),
      ).rejects.toMatchObject({ code: '42501' });
    } finally {
      await database.current.query('drop function public.raise_balance() cascade');
    }
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({ balance: 50 });
  });

  it.each(['plan', 'stripe_customer_id'])(
    'leaves its %s to the server, not to its user',
    async (column) => {
      const user = await newAccount();
      await database.current.query(`
      grant select, update, insert on users to authenticated;
      drop policy if exists users_edit_own on users;
      create policy users_edit_own on users for all to authenticated using (id::text = ((select auth.jwt()) ->> 'sub'));`);
      const as = (sql: string) =>
        database.current.asRole('authenticated', { sub: user }, (client) => client.query(sql));
      await as(`update users set email = 'mine@example.com'`);
      await expect(as(`update users set ${column} = 'cus_victim'`)).rejects.toMatchObject({
        code: '42501',
      });
      const fresh = userId(`own-row-${column}`);
      const insert = (columns: string, values: string) =>
        database.current.asRole('authenticated', { sub: fresh }, (client) =>
          client.query(`insert into users (id${columns}) values ('${fresh}'${values})`),
        );
      await expect(insert(`, ${column}`, `, 'cus_victim'`)).rejects.toMatchObject({
        code: '42501',
      });
      await insert('', '');
    },
  );
});

describe('an id', () => {
  const spellings = (user: string) =>
    testUsers === 'uuid'
      ? [user.toUpperCase(), `{${user}}`, user.replaceAll('-', ''), user]
      : [user];
  const wrong =
    testUsers === 'uuid' ? ['nobody', '', `${userId('x')}0`, "'; select 1"] : ['nobody', '', ' '];

  it("is the row's own in every answer, however it was spelled", async () => {
    const user = await newAccount();
    for (const [index, spelling] of spellings(user).entries()) {
      expect(await consume(spelling, `k${index}`)).toMatchObject({
        outcome: 'applied',
        user_id: user,
      });
      expect(await call('get_credit_balance', { p_user_id: spelling })).toMatchObject({
        user_id: user,
      });
      expect(await call('ensure_user', { p_user_id: spelling })).toMatchObject({
        outcome: 'exists',
        user_id: user,
      });
      expect(await grant(spelling)).toMatchObject({ outcome: 'replayed', user_id: user });
      const { data } = await call('list_credit_transactions', { p_user_id: spelling });
      expect(data).toHaveLength(2 + index);
      await call('record_checkout_session', {
        p_session_id: `cs_${count}_${index}`,
        p_user_id: spelling,
        p_customer_id: null,
        p_mode: 'payment',
        p_catalogue_id: 'pack_50',
        p_price_id: 'price_1',
        p_quantity: 1,
        p_credits: 50,
        p_expires_at: '2999-01-01T00:00:00Z',
      });
      const found = await call('get_checkout_session', { p_session_id: `cs_${count}_${index}` });
      expect(found.session).toMatchObject({ user_id: user });
    }
    const users = await database.current.query(
      'select distinct user_id from credit_transactions where user_id = $1',
      [user],
    );
    expect(users).toEqual([{ user_id: user }]);
  });

  it('of a closed account is found in every spelling', async () => {
    const user = await newAccount();
    await database.current.query(deletion(user));
    for (const spelling of spellings(user)) {
      expect(await grant(spelling)).toMatchObject({ outcome: 'replayed', user_id: user });
      expect((await call('list_credit_transactions', { p_user_id: spelling })).data).toHaveLength(
        1,
      );
    }
  });

  it.each(wrong)('that cannot be one (%j) is not_found everywhere', async (id) => {
    expect(await consume(id, 'k')).toMatchObject({ outcome: 'not_found' });
    expect(await grant(id)).toMatchObject({ outcome: 'not_found' });
    expect(await call('get_credit_balance', { p_user_id: id })).toMatchObject({
      outcome: 'not_found',
    });
    expect(await call('list_credit_transactions', { p_user_id: id })).toMatchObject({
      outcome: 'not_found',
    });
    expect(
      await call('link_stripe_customer', { p_user_id: id, p_customer_id: 'cus_nobody' }),
    ).toMatchObject({ outcome: 'not_found' });
    if (testUsers === 'uuid' || id === '') {
      expect(await call('ensure_user', { p_user_id: id })).toMatchObject({ outcome: 'not_found' });
    }
    await expect(call('sync_user_credits', { p_user_id: id })).rejects.toMatchObject({
      code: 'PT404',
    });
  });

  it('that a purchase waits for is met by its row, however it was spelled', async () => {
    const parked: Answer[] = [];
    const user = userId('late');
    for (const [index, spelling] of [...spellings(user), ...wrong].entries()) {
      const event = `evt_late_${index}`;
      const { fence } = await call('receive_webhook_event', {
        p_event_id: event,
        p_event_type: 'checkout.session.completed',
        p_object_id: event,
        p_order_key: event,
        p_event_created_at: '2026-01-01T00:00:00Z',
        p_payload: {},
      });
      parked.push(
        await call('apply_webhook_effects', {
          p_event_id: event,
          p_fence: fence,
          p_effects: [
            {
              kind: 'grant',
              user_id: spelling,
              type: 'purchase',
              key: 'checkout:cs_late',
              sources: ['checkout:cs_late'],
              lots: [{ credits: 50 }],
            },
          ],
        }),
      );
    }
    expect(parked.map(({ outcome }) => outcome)).toEqual(parked.map(() => 'parked'));
    await call('ensure_user', { p_user_id: user });
    const waiting = await database.current.query(
      `select status, count(*)::int as n from stripe_webhook_events where stripe_event_id like 'evt_late%' group by 1 order by 1`,
    );
    expect(waiting).toEqual([
      { status: 'parked', n: wrong.length },
      { status: 'received', n: spellings(user).length },
    ]);
    expect(await call('requeue_parked_events', {})).toEqual({ requeued: 0 });
  });
});
