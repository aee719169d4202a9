import { beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { splitSql } from '../../src/supabase/sqlStatements.ts';
import {
  asAdmin,
  clusterUrl,
  createTestDatabase,
  type SupabaseRole,
  testDatabase,
  userId,
} from '../support/postgres.ts';
import { callAs, callAsService } from '../support/sqlCall.ts';

const database = testDatabase();
const [alice, bob, carol, mallory] = ['alice', 'bob', 'carol', 'mallory'].map(userId) as [
  string,
  string,
  string,
  string,
];

beforeAll(async () => {
  for (const user of [alice, bob]) {
    await callAsService(database.current, 'ensure_user', {
      p_user_id: user,
      p_stripe_customer_id: `cus_${user}`,
    });
    await callAsService(database.current, 'grant_credits', {
      p_user_id: user,
      p_type: 'purchase',
      p_key: `checkout:cs_${user}`,
      p_sources: [`checkout:cs_${user}`],
      p_lots: [{ credits: 50 }],
    });
    await callAsService(database.current, 'record_checkout_session', {
      p_session_id: `cs_${user}`,
      p_user_id: user,
      p_customer_id: `cus_${user}`,
      p_mode: 'payment',
      p_catalogue_id: 'pack_50',
      p_price_id: 'price_1',
      p_quantity: 1,
      p_credits: 50,
      p_expires_at: '2999-01-01T00:00:00Z',
    });
  }
  // A deleted user, so that the audit and the closed accounts have a row to attack.
  await callAsService(database.current, 'ensure_user', { p_user_id: carol });
  await database.current.query(`delete from users where id = '${carol}'`);
  await callAsService(database.current, 'receive_webhook_event', {
    p_event_id: 'evt_1',
    p_event_type: 'x',
    p_object_id: null,
    p_order_key: null,
    p_event_created_at: null,
    p_payload: {},
  });
});

const ENTRY = `insert into credit_transactions (user_id, entry_number, transaction_type, amount, balance_after,
  held_after, available_after, version, idempotency_key, event_at, created_at)
  values ('${alice}', 99, 'bonus', 1, 1, 0, 1, 9, 'forged', now(), now())`;

const FORGERIES: [string, string][] = [
  ['update an entry', 'update credit_transactions set amount = 1000'],
  ['delete an entry', 'delete from credit_transactions'],
  ['truncate the ledger', 'truncate credit_transactions'],
  ['insert an entry', ENTRY],
  ['refill a lot', 'update credit_grants set remaining = amount'],
  [
    'invent a lot',
    `insert into credit_grants (user_id, entry_number, amount, remaining, paid, created_at) values ('${alice}', 1, 1, 1, true, now())`,
  ],
  ['truncate the lots', 'truncate credit_grants'],
  ['forget a source', 'delete from credit_sources'],
  ['rewrite the audit', `update audit_events set actor = 'nobody'`],
  ['truncate the audit', 'truncate audit_events'],
  ['set a balance', `update users set credits_balance = 1000000 where id = '${alice}'`],
  ['forgive a debt', `update users set credits_debt = 5 where id = '${alice}'`],
  ['turn back a version', `update users set credits_version = 0 where id = '${alice}'`],
  ['change the number of entries', `update users set entry_count = 0 where id = '${alice}'`],
  ['change an id', `update users set id = '${mallory}' where id = '${alice}'`],
  ['be born rich', `insert into users (id, credits_balance) values ('${mallory}', 1000)`],
  ['truncate the users', 'truncate users cascade'],
];

describe('the book cannot be forged', () => {
  it.each(FORGERIES)('service_role may not %s', async (_what, sql) => {
    const attempt = database.current.asRole('service_role', {}, (client) => client.query(sql));
    await expect(attempt).rejects.toMatchObject({ code: '42501' });
  });

  it.each(FORGERIES)('the superuser may not %s', async (_what, sql) => {
    await expect(database.current.query(sql)).rejects.toMatchObject({ code: '42501' });
  });

  it.each(FORGERIES)('a replica session may not %s', async (_what, sql) => {
    const attempt = database.current.query(`set session_replication_role = replica; ${sql}`);
    await expect(attempt).rejects.toMatchObject({ code: '42501' });
    await database.current.query('set session_replication_role = origin');
  });

  it.each([
    ['disable a trigger', 'alter table credit_transactions disable trigger all'],
    ['drop a trigger', 'drop trigger purser_truncate on credit_transactions'],
    ['call a helper', `select purser.record_finding('a', 'b', null, '{}')`],
  ])('service_role may not %s', async (_what, sql) => {
    const attempt = database.current.asRole('service_role', {}, (client) => client.query(sql));
    await expect(attempt).rejects.toMatchObject({ code: '42501' });
  });
});

describe('what no row can be, whoever writes it', () => {
  const entry = (
    fields: string,
  ) => `insert into credit_transactions (user_id, entry_number, transaction_type,
    amount, idempotency_key, balance_after, held_after, available_after, version, event_at, created_at)
    values ('${alice}', ${fields}, 1, 0, 1, 9, now(), now())`;
  const lot = (
    fields: string,
  ) => `insert into credit_grants (user_id, entry_number, amount, remaining,
    exhausted_at, paid, created_at) values ('${alice}', 1, ${fields}, true, now())`;
  const money = (change: string) => `update users set ${change} where id = '${alice}'`;

  it.each([
    ['an entry of nothing', entry(`99, 'bonus', 0, 'k'`)],
    ['an entry beyond 2^53 - 1', entry(`99, 'bonus', 9007199254740992, 'k'`)],
    ['an entry of no known type', entry(`99, 'gift', 1, 'k'`)],
    ['an entry before the first', entry(`0, 'bonus', 1, 'k'`)],
    ['an entry without a key', entry(`99, 'bonus', 1, ''`)],
    ['an entry with a key of 401 bytes', entry(`99, 'bonus', 1, repeat('k', 401)`)],
    ['a lot of nothing', lot('0, 0, now()')],
    ['a lot that holds more than it began with', lot('5, 6, null')],
    ['a lot that owes', lot('5, -1, null')],
    ['an empty lot that is open', lot('5, 0, null')],
    ['an open lot that is exhausted', lot('5, 5, now()')],
    ['a balance beyond 2^53 - 1', money('credits_balance = 9007199254740992')],
    ['a balance below -(2^53 - 1)', money('credits_balance = -9007199254740992')],
    ['holds below zero', money('credits_held = -1')],
    ['a debt below zero', money('credits_debt = -1')],
  ])('%s', async (_what, sql) => {
    const attempt = database.current.query(`begin; set local role purser_ledger; ${sql}; commit`);
    await expect(attempt).rejects.toMatchObject({ code: '23514' });
    await database.current.query('rollback');
  });
});

describe('a database of a Supabase-like owner', () => {
  // On Supabase the SQL editor's role is no superuser: it may create roles and owns the database.
  it('can be migrated by that role, twice, and leaves it without the ledger', async () => {
    const name = `owner_${process.pid}_${Date.now()}`;
    const editor = `editor_${process.pid}`;
    const { migrationFiles } = await import('../../src/supabase/migrations.ts');
    await asAdmin(async (admin) => {
      await admin.query(`create role ${editor} login createrole bypassrls password 'p'`);
      await admin.query(`grant anon, authenticated, service_role to ${editor}`);
      const version = Number(
        (await admin.query('show server_version_num')).rows[0].server_version_num,
      );
      await admin.query(
        version >= 160000
          ? `grant purser_ledger to ${editor} with admin true, inherit false, set false`
          : `grant purser_ledger to ${editor} with admin option`,
      );
      if (version < 160000) await admin.query(`revoke purser_ledger from ${editor}`);
      await admin.query(`create database ${name} owner ${editor}`);
    });
    const asSuper = new pg.Client({ connectionString: clusterUrl(name) });
    const url = new URL(clusterUrl(name));
    url.username = editor;
    url.password = 'p';
    const asEditor = new pg.Client({ connectionString: url.toString() });
    try {
      await asSuper.connect();
      const files = migrationFiles();
      const stubs = files.filter((file) => file.name === 'supabase_stubs.sql');
      for (const file of stubs) await asSuper.query(file.sql);
      await asSuper.query(`grant usage on schema auth to ${editor}`);
      await asEditor.connect();
      for (let round = 0; round < 2; round += 1) {
        for (const file of files) if (!stubs.includes(file)) await asEditor.query(file.sql);
      }
      await asEditor.query(
        `select ensure_user('${alice}'), grant_credits('${alice}', 'purchase', 'checkout:cs_1', '[{"credits": 50}]', '["checkout:cs_1"]')`,
      );
      for (const [, sql] of FORGERIES) {
        await expect(asEditor.query(sql)).rejects.toMatchObject({ code: '42501' });
      }
      await expect(asEditor.query('set role purser_ledger')).rejects.toMatchObject({
        code: '42501',
      });
      expect((await asEditor.query('select * from validate_credits_consistency()')).rows).toEqual(
        [],
      );
    } finally {
      await asEditor.end();
      await asSuper.end();
      await asAdmin(async (admin) => {
        await admin.query(`drop database if exists ${name} with (force)`);
        await admin.query(`drop role ${editor}`);
      });
    }
  });
});

describe('files run statement by statement, as psql does', () => {
  it('end with the same owners and rights as in one transaction', async () => {
    const separate = await createTestDatabase({ template: 'template0' });
    const { migrationFiles } = await import('../../src/supabase/migrations.ts');
    const owners = `select c.relname as name, c.relowner::regrole::text as owner, c.relacl::text as acl from pg_class c
      where c.relnamespace in ('public'::regnamespace, 'purser'::regnamespace) and c.relowner = 'purser_ledger'::regrole
      union all select p.oid::regprocedure::text, p.proowner::regrole::text, p.proacl::text from pg_proc p
      where p.pronamespace in ('public'::regnamespace, 'purser'::regnamespace) and p.proowner = 'purser_ledger'::regrole
      order by 1, 2`;
    const client = new pg.Client({ connectionString: separate.connectionString });
    try {
      await client.connect();
      for (const file of migrationFiles()) {
        for (const statement of splitSql(file.sql)) await client.query(statement.text);
      }
      expect((await client.query(owners)).rows).toEqual(await database.current.query(owners));
    } finally {
      await client.end();
      await separate.drop();
    }
  });
});

describe('who reads what', () => {
  const read = (role: SupabaseRole, claims: Record<string, unknown>, table: string) =>
    database.current.asRole(
      role,
      claims,
      async (client) => (await client.query(`select * from ${table}`)).rows.length,
    );
  const TABLES = [
    'users',
    'credit_transactions',
    'credit_grants',
    'checkout_sessions',
    'stripe_customers',
  ];

  it.each([
    ...TABLES,
    'credit_sources',
    'closed_accounts',
    'audit_events',
    'reconciliation_findings',
    'stripe_webhook_events',
    'scheduled_jobs',
  ])('anon reads nothing of %s', async (table) => {
    await expect(read('anon', {}, table)).rejects.toMatchObject({ code: '42501' });
  });

  it.each(TABLES)('a user reads his own row of %s and no other', async (table) => {
    expect(await read('authenticated', { sub: alice }, table)).toBe(1);
    expect(await read('authenticated', { sub: mallory }, table)).toBe(0);
    expect(await read('authenticated', {}, table)).toBe(0);
  });

  it('an admin by app_metadata reads the event log, a self-styled one does not', async () => {
    expect(
      await read(
        'authenticated',
        { sub: mallory, app_metadata: { role: 'admin' } },
        'stripe_webhook_events',
      ),
    ).toBe(1);
    expect(
      await read(
        'authenticated',
        { sub: mallory, user_metadata: { role: 'admin' } },
        'stripe_webhook_events',
      ),
    ).toBe(0);
  });

  it('every function is for service_role alone, definer, with an empty search_path', async () => {
    const rows = await database.current.query<{ name: string; bad: string }>(`
      select p.oid::regprocedure::text as name, r.rolname as bad
      from pg_proc p cross join (values ('anon'), ('authenticated'), ('public')) r(rolname)
      where p.proowner = 'purser_ledger'::regrole and has_function_privilege(r.rolname, p.oid, 'execute')`);
    expect(rows).toEqual([]);
    const loose = await database.current.query(`
      select p.oid::regprocedure::text as name from pg_proc p
      where p.proowner = 'purser_ledger'::regrole
        and (not coalesce(p.proconfig, '{}') @> array['search_path=""']
          or (p.pronamespace = 'public'::regnamespace and not p.prosecdef)
          or (p.pronamespace = 'public'::regnamespace) <> has_function_privilege('service_role', p.oid, 'execute'))`);
    expect(loose).toEqual([]);
  });

  it.each(['anon', 'authenticated'] as const)('%s may not call a function', async (role) => {
    const attempt = callAs(
      database.current,
      role,
      'consume_credits',
      { p_user_id: alice, p_amount: 1, p_key: 'k' },
      { sub: alice },
    );
    await expect(attempt).rejects.toMatchObject({ code: '42501' });
  });

  it('every table of ours has row level security, and a policy for each role it names', async () => {
    const rows = await database.current.query(`
      select c.relname from pg_class c
      where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
        and (not c.relrowsecurity or not exists (select from pg_policy p where p.polrelid = c.oid))`);
    expect(rows).toEqual([]);
    const unnamed = await database.current.query(
      `select polname from pg_policy where 0 = any (polroles)`,
    );
    expect(unnamed).toEqual([]);
  });
});
