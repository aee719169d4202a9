import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, it } from '@jest/globals';
import { runMigrate } from '../../src/cli/migrate.ts';
import { createEmbeddedFolder, type EmbeddedFolder } from '../support/embeddedFolder.ts';
import { createTestDatabase } from '../support/postgres.ts';

const folders: EmbeddedFolder[] = [];

afterEach(async () => {
  for (const folder of folders.splice(0)) await folder.remove();
});

async function run(args: string[], env: Record<string, string>) {
  const out: string[] = [];
  const err: string[] = [];
  const code = await runMigrate({
    args,
    env,
    print: (line) => void out.push(line),
    printError: (line) => void err.push(line),
  });
  return { code, out: out.join('\n'), err: err.join('\n') };
}

it('makes and migrates the embedded database, and stops it again', async () => {
  const folder = createEmbeddedFolder();
  folders.push(folder);
  const env = { PURSER_DATA_DIR: folder.dataDir };
  const plan = await run(['--dry-run'], env);
  expect(plan).toMatchObject({ code: 0, err: '' });
  expect(plan.out).toContain('would apply  credit_transactions_migration.sql (new)');
  expect(existsSync(path.join(folder.dataDir, 'postgres'))).toBe(false);

  const first = await run([], env);
  expect(first).toMatchObject({ code: 0, err: '' });
  expect(first.out).toMatch(/applied +credit_transactions_migration\.sql \(new, \d+ statements\)/);
  expect(first.out).toContain('The schema is ready.');
  expect(folder.serverPid()).toBeNull();

  const second = await run([], env);
  expect(second.out).toContain('The schema is up to date.');
  expect(second.out).toContain('unchanged    credit_transactions_migration.sql');
});

it('migrates the database of DATABASE_URL and prints no password', async () => {
  const database = await createTestDatabase({ template: 'template0' });
  try {
    const env = { DATABASE_URL: database.connectionString };
    const result = await run([], env);
    expect(result).toMatchObject({ code: 0, err: '' });
    expect(result.out).toContain(database.name);
    expect(result.out).not.toContain(new URL(database.connectionString).password);
  } finally {
    await database.drop();
  }
});

it('looks first: ends with 1 and the list where it would stop, with 0 and the plan where not', async () => {
  const database = await createTestDatabase({ template: 'template0' });
  try {
    const env = { DATABASE_URL: database.connectionString };
    await database.query(`create table users (id bigint primary key, email text, credits_balance numeric);
      create table audit_events (id bigint); insert into users values (1, 'a', 2.5), (2, 'b', 40);`);
    const stopped = await run(['--dry-run'], env);
    expect(stopped.code).toBe(1);
    expect(stopped.err.split('\n')).toEqual([
      'Migration failed.',
      'Stopped: public.users cannot be taken over as it is.',
      '  - public.users.credits_balance is fractional or beyond 2^53 - 1 in 1 rows. Credits are whole: round them first.',
      '  - public.audit_events is a table of your own, and Purser needs its name: allow it to be moved aside (npm run migrate -- --move-aside).',
      'Nothing was changed. Mend the list above, then run the migration again.',
    ]);
    await database.query('update users set credits_balance = 3 where id = 1');
    expect((await run(['--dry-run'], env)).err).toContain('npm run migrate -- --move-aside');
    const plan = await run(['--dry-run', '--move-aside', '--auth-trigger'], env);
    expect(plan.code).toBe(1);
    expect(plan.err).toContain('public.users.id is of type bigint');
    const planned = await run(['--dry-run', '--move-aside'], env);
    expect(planned).toMatchObject({ code: 0, err: '' });
    expect(planned.out).toContain('your table public.audit_events is renamed to');
    expect(planned.out).toContain(
      'of your 2 users, 2 open with 43 credits in all and 0 with debts',
    );
    expect(planned.out).toMatch(/Nothing was changed: this was a dry run\.$/);
    expect((await run(['--move-aside'], env)).out).toMatch(/The schema is ready\.$/);
    expect((await run(['--dry-run'], env)).out).toMatch(/The schema is up to date\.$/);
  } finally {
    await database.drop();
  }
});

it('explains what stands in the way', async () => {
  const refused = await run([], { DATABASE_URL: 'postgresql://u:secret@127.0.0.1:1/db' });
  expect(refused.code).toBe(1);
  expect(refused.err).toContain('ECONNREFUSED');
  expect(refused.err).not.toContain('secret');
  const supabase = await run([], { SUPABASE_URL: 'https://x.supabase.co' });
  expect(supabase.code).toBe(1);
  expect(supabase.err).toMatch(/DATABASE_URL.*SQL editor.*supabase db push/s);
  const production = await run([], { NODE_ENV: 'production' });
  expect(production).toMatchObject({ code: 1 });
  expect(production.err).toContain('PURSER_ALLOW_EMBEDDED');
  const wrong = await run(['--dryrun'], {});
  expect(wrong.code).toBe(2);
  expect(wrong.err).toContain('--dry-run');
});
