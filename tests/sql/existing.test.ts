import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type AppDatabase, type AppSite, openAppSite } from '../support/appDatabase.ts';
import { rows, SEED_TABLES, SITES, TOUCH, USERS, uuid } from '../support/appTables.ts';

/** Ledger and table agree, entry by entry, with the balances the app had. */
async function expectOpened(
  database: AppDatabase,
  balances: Record<string, number>,
): Promise<void> {
  const entries = await database.asSuperuser(`
    select t.user_id, t.amount::text, t.balance_after::text, t.transaction_type, t.entry_number::int, t.version::int,
           (select array_agg(g.remaining::text) from credit_grants g where g.user_id = t.user_id) as lots,
           (select a.credits_balance::text || '/' || a.credits_debt from purser.accounts a where a.user_id = t.user_id) as account
    from credit_transactions t where t.idempotency_key = 'opening-balance' order by t.user_id`);
  expect(entries).toEqual(
    Object.entries(balances).map(([user, balance]) => ({
      user_id: user,
      amount: String(balance),
      balance_after: String(balance),
      transaction_type: 'adjustment',
      entry_number: 1,
      version: 1,
      lots: balance > 0 ? [String(balance)] : null,
      account: `${balance}/${balance < 0 ? -balance : 0}`,
    })),
  );
  expect(await database.asSuperuser('select * from validate_credits_consistency()')).toEqual([]);
  expect(await database.asSuperuser('select 1 from users where credits_balance is null')).toEqual(
    [],
  );
}

async function expectStable(database: AppDatabase): Promise<void> {
  const before = await database.fingerprint();
  expect((await database.migrate()).applied).toEqual([]);
  expect(await database.fingerprint()).toEqual(before);
  expect((await database.migrate({ force: true })).changes).toEqual([]);
  const { rows: _rows, functions: _functions, ...catalogue } = before as Record<string, unknown>;
  expect(await database.fingerprint()).toMatchObject(catalogue);
}

describe.each(SITES)('an existing app, migrated by %s', (_who, options) => {
  let site: AppSite;
  beforeAll(async () => {
    site = await openAppSite(options);
  });
  afterAll(() => site.stop());

  it('moves them aside when told to, rows and all, and every index of ours is there', async () => {
    const database = await site.create(`${USERS} ${rows(5, 'null', -3)} ${SEED_TABLES}`);
    const { changes } = await database.migrate({ moveAside: true });
    expect(changes).toEqual([
      'your table public.audit_events is renamed to public.audit_events_before_purser',
      'your table public.credit_transactions is renamed to public.credit_transactions_before_purser',
      'your table public.stripe_webhook_events is renamed to public.stripe_webhook_events_before_purser',
      'your function public.sync_user_credits is renamed to public.sync_user_credits_before_purser',
      'your function public.validate_credits_consistency is renamed to public.validate_credits_consistency_before_purser',
      expect.stringMatching(/^new tables: .*audit_events, .*stripe_webhook_events/),
      expect.stringMatching(/^new functions: \d+$/),
      'public.users.credits_balance becomes bigint, it was integer',
      expect.stringMatching(/^public\.users gets the columns /),
      'of your 3 users, 1 open with 5 credits in all and 1 with debts of 3',
    ]);
    await expectOpened(database, { [uuid(1)]: 5, [uuid(3)]: -3 });
    expect(await database.asSuperuser('select event from audit_events_before_purser')).toEqual([
      { event: 'login' },
    ]);
    const fresh = await site.create('');
    await fresh.migrate();
    const indexes = (on: AppDatabase) =>
      on.asSuperuser(`select tablename, replace(indexdef, indexname, 'i') as definition from pg_indexes
        where schemaname = 'public' and tablename not like '%before_purser' and tablename <> 'users' order by 1, 2`);
    expect(await indexes(database)).toEqual(await indexes(fresh));
    await expectStable(database);
  });

  it.each([
    ['integer default 0', ['5', '0', 'null', '-3', '2147483647']],
    ['smallint not null', ['5', '0', '7', '-3', '32767']],
    ['bigint', ['5', '0', 'null', '-9007199254740991', '9007199254740991']],
    ['numeric(20, 2) not null default 0', ['5', '0.00', '12.00', '-3', '9007199254740991']],
    ['numeric', ['5', 'null', '0', '-3', '9007199254740991.0']],
    ['real', ['5', 'null', '0', '-3', '16777216']],
    ['double precision', ['5', 'null', '0', '-3', '9007199254740991']],
  ])('opens with the balances of a column %s, exactly', async (type, balances) => {
    const database = await site.create(`
      create table public.users (id bigint primary key, email text, credits_balance ${type});
      insert into public.users values ${balances.map((balance, n) => `(${n + 1}, 'a', ${balance})`).join(', ')};`);
    await database.migrate();
    const expected = balances.flatMap((balance, n): [string, number][] =>
      Number(balance) ? [[String(n + 1), Number(balance)]] : [],
    );
    await expectOpened(database, Object.fromEntries(expected));
  });

  it('touches nothing else: columns, policies, owner, rights, triggers and what they write', async () => {
    const database = await site.create(`${USERS} ${rows(5, 0, -3)}
      alter table public.users enable row level security;
      alter table public.users force row level security;
      create table public.changes (id uuid, at timestamptz default now());
      create table public.memberships (user_id uuid);
      create policy own on public.users using (auth.uid() = id or id in (select user_id from public.memberships));
      create policy mfa on public.users as restrictive to authenticated using (true);
      grant select, update on public.users to authenticated;
      ${TOUCH('new.updated_at := now();', "set search_path = ''")}
      create function public.note() returns trigger language plpgsql security definer set search_path = public as
        $$ begin insert into changes (id) values (new.id); return null; end $$;
      create trigger zz_note after update on public.users for each row execute function public.note();
      create trigger resting before update on public.users for each row execute function public.touch();
      alter table public.users disable trigger resting;
      create constraint trigger late after update on public.users deferrable initially deferred
        for each row execute function public.note();`);
    const look = () =>
      database.asSuperuser(`select
        (select relowner::regrole::text from pg_class where oid = 'public.users'::regclass) as owner,
        (select relrowsecurity and relforcerowsecurity from pg_class where oid = 'public.users'::regclass) as rls,
        (select jsonb_agg(to_jsonb(u) - array(select c from unnest(array['credits_balance', 'credits_held', 'credits_debt',
           'credits_version', 'credits_suspended', 'entry_count', 'plan', 'stripe_customer_id']) c) order by id) from public.users u) as rows,
        (select count(*) from changes) as changes,
        (select jsonb_agg(to_jsonb(p) order by policyname) from pg_policies p where policyname <> 'users_purser_ledger' and tablename = 'users') as policies,
        (select jsonb_agg(jsonb_build_array(tgname, tgenabled) order by tgname) from pg_trigger
          where tgrelid = 'public.users'::regclass and not tgisinternal and tgname not like 'purser%') as triggers,
        has_table_privilege('authenticated', 'public.users', 'update') as writable`);
    const before = await look();
    await database.migrate();
    expect(await look()).toEqual(before);
    await expectOpened(database, { [uuid(1)]: 5, [uuid(3)]: -3 });
    await expectStable(database);
    expect(await look()).toEqual(before);
    // And Purser works on it, the app's triggers with it.
    const [consumed] = await database.query(
      `select public.consume_credits('${uuid(1)}', 2, 'k') ->> 'outcome' as outcome`,
    );
    expect(consumed).toEqual({ outcome: 'applied' });
    expect(await database.asSuperuser('select count(*)::int as n from changes')).toEqual([
      { n: 2 },
    ]);
  });

  it.each([
    ['bigint', 'bigint generated by default as identity primary key', ['7', ' 7 '], 'x'],
    ['integer', 'integer primary key', ['7'], '2147483648'],
    ['varchar', 'varchar(20) primary key', ['7'], 'x'.repeat(21)],
    ['text', 'text primary key', ['7'], ''],
    ['a domain', 'public.user_key primary key', ['7'], 'seven'],
  ])('works with ids of type %s', async (_type, column, spellings, wrong) => {
    const database = await site.create(`create domain public.user_key as bigint check (value > 0);
      create table public.users (id ${column}, credits_balance int); insert into public.users values (7, 20);`);
    await database.migrate();
    await expectOpened(database, { 7: 20 });
    for (const [index, spelling] of spellings.entries()) {
      const [row] = await database.query(
        'select public.consume_credits($1, 1, $2) as answer, public.get_credit_balance($1) as balance',
        [spelling, `k${index}`],
      );
      expect(row).toMatchObject({
        answer: { outcome: 'applied', user_id: '7' },
        balance: { user_id: '7' },
      });
    }
    const [refused] = await database.query(
      'select public.consume_credits($1, 1, $2) as consumed, public.ensure_user($1) as ensured',
      [wrong, 'k'],
    );
    expect(refused).toMatchObject({
      consumed: { outcome: 'not_found' },
      ensured: { outcome: 'not_found' },
    });
    const [made] = await database.query(`select public.ensure_user('8', 'a@b.example') as answer`);
    expect(made).toMatchObject({
      answer: { outcome: 'created', user_id: '8', email: 'a@b.example' },
    });
    // The second run finds functions made for this type.
    expect((await database.migrate({ force: true })).changes).toEqual([]);
  });

  it('works without a balance and without an e-mail column', async () => {
    const database = await site.create(
      'create table public.users (id bigint primary key); insert into public.users values (1);',
    );
    await database.migrate();
    await expectOpened(database, {});
    await expectStable(database);
  });

  it('keeps to what the app demands of a row: required columns, unique e-mails', async () => {
    const warnings: string[] = [];
    const quiet = () => undefined;
    const logger = {
      error: quiet,
      info: quiet,
      debug: quiet,
      warn: (message: string) => void warnings.push(message),
    };
    const database = await site.create(`create table public.users (
        id bigint primary key, email text not null unique, name text not null, tier text not null default 'x',
        credits_balance int default 10);
      insert into public.users (id, email, name, credits_balance) values (1, 'one@app.example', 'One', 3), (2, 'two@app.example', 'Two', 0);
      create function public.spend(p_user bigint) returns void language sql as
        $$ update public.users set credits_balance = credits_balance - 1 where id = p_user $$;`);
    await database.migrate({ logger });
    expect(warnings).toEqual([
      'purser: new users had 10 credits by default (public.users.credits_balance); from now on 0: grant them by function, or set free_plan.welcome_credits',
      'purser: rows of public.users need name; Purser cannot create users by itself, your app inserts them',
      "purser: these functions of yours name credits_balance, which only Purser's functions may change from now on: public.spend(bigint)",
    ]);
    const ask = async (call: string) =>
      (await database.query(`select ${call} as answer`))[0]?.answer;
    expect(await ask(`public.ensure_user('3', 'three@app.example')`)).toEqual({
      outcome: 'not_found',
      reason: expect.stringContaining('column "name"'),
    });
    expect(await ask(`public.ensure_user('2', 'one@app.example', null, true)`)).toMatchObject({
      outcome: 'exists',
      email: 'two@app.example',
      reason: expect.stringContaining('duplicate key'),
    });
    await expect(database.query('select public.spend(1)')).rejects.toMatchObject({ code: '42501' });
  });

  it('goes back as docs/existing-apps.md says, balances kept, and can come again', async () => {
    const database = await site.create(
      `${USERS} ${rows(5, -3, 0)} alter table public.users enable row level security;
       ${TOUCH('new.updated_at := now();', "set search_path = ''")}`,
    );
    await database.migrate({ authTrigger: true });
    await database.query(`select public.consume_credits('${uuid(1)}', 2, 'k')`);
    const recipe = /```sql\n(?<sql>[\s\S]*?)```/.exec(
      readFileSync('docs/existing-apps.md', 'utf8'),
    );
    await database.query(recipe?.groups?.sql ?? '');
    const left = await database.asSuperuser(`
      select c.oid::regclass::text as name from pg_class c where c.relowner = 'purser_ledger'::regrole
      union all select p.oid::regprocedure::text from pg_proc p where p.proowner = 'purser_ledger'::regrole
      union all select tgname from pg_trigger where tgname like 'purser%'
      union all select policyname from pg_policies where 'purser_ledger' = any (roles)
      union all select nspname from pg_namespace where nspname = 'purser'`);
    expect(left).toEqual([]);
    const balances = () =>
      database.query('select credits_balance::int as balance from public.users order by id');
    expect(await balances()).toEqual([{ balance: 3 }, { balance: -3 }, { balance: 0 }]);
    await database.query(`update public.users set credits_balance = 10 where id = '${uuid(3)}'`);
    await database.migrate();
    await expectOpened(database, { [uuid(1)]: 3, [uuid(2)]: -3, [uuid(3)]: 10 });
  });

  it('says in a dry run what would become of it, and changes nothing', async () => {
    const database = await site.create(`${USERS} ${rows(5, 0, -3, 'null')}`);
    const before = await database.fingerprint();
    const plan = await database.migrate({ dryRun: true });
    expect(plan.changes.slice(-3)).toEqual([
      'public.users.credits_balance becomes bigint, it was integer',
      'public.users gets the columns plan text, entry_count bigint, credits_debt bigint, credits_held bigint, credits_version bigint, credits_suspended boolean, stripe_customer_id text',
      'of your 4 users, 1 open with 5 credits in all and 1 with debts of 3',
    ]);
    expect(await database.fingerprint()).toEqual(before);
    const done = await database.migrate();
    expect({ ...done, dryRun: true }).toEqual(plan);
  });
});
