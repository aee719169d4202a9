/** sql/rollback.sql as a whole story: an app, Purser, the app alone again, and Purser once more. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { type AppDatabase, type AppSite, openAppSite } from '../support/appDatabase.ts';
import { SITES } from '../support/appTables.ts';
import { APP_USERS, EXISTING_APP_SQL } from '../support/existingApp.ts';

const text = readFileSync(new URL('../../sql/rollback.sql', import.meta.url), 'utf8');
const ANN = '00000000-0000-4000-8000-000000000001';
const BOB = '00000000-0000-4000-8000-000000000002';

/** Pastes a file as the SQL editor does; its notices. */
async function paste(database: AppDatabase, sql: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: database.connectionString });
  const notices: string[] = [];
  client.on('notice', (notice) => notices.push(notice.message ?? ''));
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
  return notices;
}

/** What belongs to the app: its own columns, rules and rows; those who had no row yet have one now. */
const appOf = (database: AppDatabase) =>
  database.asSuperuser(`
    select (select md5(string_agg(concat_ws('|', u.id, u.email, u.full_name, u.preferences), ',' order by u.id)) from public.users u
        where u.full_name is not null) as users,
      (select count(*)::int from public.projects) as projects,
      (select jsonb_agg(p.policyname order by p.policyname) from pg_policies p where schemaname = 'public' and tablename in ('users', 'projects', 'profile_changes')) as policies,
      (select jsonb_agg(tgname order by tgname) from pg_trigger where tgrelid = 'public.users'::regclass and not tgisinternal) as triggers,
      (select jsonb_agg(p.proname order by p.proname) from pg_proc p where pronamespace = 'public'::regnamespace) as functions,
      (select jsonb_agg(c.relname order by c.relname) from pg_class c where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')) as relations,
      (select relrowsecurity from pg_class where oid = 'public.users'::regclass) as rls`);
const columnsOf = async (database: AppDatabase) =>
  (
    await database.asSuperuser<{ name: string }>(
      `select attname as name from pg_attribute where attrelid = 'public.users'::regclass and attnum > 0 and not attisdropped order by attnum`,
    )
  ).map(({ name }) => name);
const balances = (database: AppDatabase) =>
  database.asSuperuser('select id::text, credits_balance::int from public.users order by id');

// By a superuser: rollback.test.ts.
describe.each(SITES.slice(1))('a database without Purser again, made by %s', (_who, options) => {
  let site: AppSite;
  let database: AppDatabase;
  let before: unknown;
  let columnsBefore: string[];
  beforeAll(async () => {
    site = await openAppSite(options);
    database = await site.create(EXISTING_APP_SQL);
    before = await appOf(database);
    columnsBefore = await columnsOf(database);
    await database.migrate({ authTrigger: true });
    await database.asSuperuser(`
      select grant_credits('${ANN}', 'bonus', 'grant:1', '[{"credits": 40}]');
      select consume_credits('${ANN}', 15, 'k1');
      select hold_credits('${ANN}', 5, 'h1');`);
  });
  afterAll(() => site.stop());

  it('changes nothing when something of the app depends on Purser', async () => {
    await database.asSuperuser(
      'create view public.my_report as select count(*) from public.stripe_events',
    );
    const untouched = await database.fingerprint();
    await expect(paste(database, text)).rejects.toMatchObject({
      code: '2BP01',
      detail: expect.stringContaining('my_report'),
    });
    expect(await database.fingerprint()).toEqual(untouched);
    await database.asSuperuser('drop view public.my_report');
  });

  it('has the app’s own tables, rules and rows as they were, and its balances', async () => {
    const owned = await balances(database);
    const notices = await paste(database, text);
    expect(notices).toContainEqual('the books are in the schema purser_books');
    expect(await appOf(database)).toEqual(before);
    expect(await columnsOf(database)).toEqual([...columnsBefore, 'plan', 'stripe_customer_id']);
    expect(await balances(database)).toEqual(owned);
    expect(owned.find(({ id }) => id === ANN)).toEqual({ id: ANN, credits_balance: 26 });
    expect(
      await database.asSuperuser(
        `select nspname from pg_namespace where nspname like 'purser%' order by 1`,
      ),
    ).toEqual([{ nspname: 'purser_books' }]);
    const members = await database.asSuperuser(
      `select member::regrole::text from pg_auth_members where roleid = 'purser_ledger'::regrole and not admin_option`,
    );
    expect(members).toEqual([]);
  });

  it('keeps the books, for service_role to read and for nobody to change', async () => {
    const read = `begin; set local role service_role; select amount::int, user_id from purser_books.credit_transactions
      where user_id = '${ANN}' order by entry_number`;
    expect((await database.asSuperuser(read)).map(({ amount }) => amount)).toEqual([1, 40, -15]);
    await expect(
      database.asSuperuser(
        'begin; set local role service_role; delete from purser_books.credit_transactions',
      ),
    ).rejects.toMatchObject({ code: '42501' });
  });

  it('lets the app change balances, sign people up and delete them', async () => {
    await database.asSuperuser(`
      update public.users set credits_balance = credits_balance - 6 where id = '${ANN}';
      insert into auth.users (id, email) values ('99999999-0000-4000-8000-000000000000', 'x@app.example');
      insert into public.users (id, email, credits_balance) values ('99999999-0000-4000-8000-000000000000', 'x@app.example', 3);
      delete from public.users where id = '${BOB}'`);
    expect((await database.asSuperuser('select count(*)::int as n from public.users'))[0]).toEqual({
      n: 2 * APP_USERS,
    });
  });

  it('says that there is nothing to take out a second time', async () => {
    await expect(paste(database, text)).rejects.toThrow('Purser is not in this database');
  });

  it('takes Purser again, with a new ledger that opens with the balances of that moment', async () => {
    const owned = await balances(database);
    await database.migrate();
    expect(await balances(database)).toEqual(owned);
    expect(await database.asSuperuser('select * from validate_credits_consistency()')).toEqual([]);
    const [entry] = await database.asSuperuser(
      `select amount::int, idempotency_key from credit_transactions where user_id = '${ANN}'`,
    );
    expect(entry).toEqual({ amount: 20, idempotency_key: 'opening-balance' });
    const [spent] = await database.asSuperuser<{ answer: { outcome: string } }>(
      `select consume_credits('${ANN}', 20, 'k1') as answer`,
    );
    expect(spent?.answer.outcome).toBe('applied');
  });

  it('keeps the old books apart from new ones, and deletes what it is told to', async () => {
    await paste(database, text);
    const schemas = `select nspname, obj_description(oid) as books from pg_namespace where nspname like 'purser%' order by 1`;
    const books = await database.asSuperuser(schemas);
    expect(books.map(({ nspname }) => nspname)).toEqual(['purser_books', 'purser_books_2']);
    expect(new Set(books.map(({ books: about }) => about)).size).toBe(2);

    await database.asSuperuser('drop schema purser_books_2 cascade');
    const lines = /-- delete: begin\n([\s\S]*?)-- delete: end/.exec(text)?.[1] ?? '';
    await paste(database, lines.replaceAll(/^-- ?/gm, ''));
    expect(await database.asSuperuser(schemas)).toEqual([]);
    expect(
      await database.asSuperuser(`select from pg_roles where rolname = 'purser_ledger'`),
    ).toEqual([]);
    await database.migrate();
  });
});
