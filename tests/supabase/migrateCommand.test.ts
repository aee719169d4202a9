import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, it, jest } from '@jest/globals';
import { runMigrate } from '../../src/cli/migrate.ts';
import { createEmbeddedFolder, type EmbeddedFolder } from '../support/embeddedFolder.ts';
import { createTestDatabase } from '../support/postgres.ts';

jest.setTimeout(120_000);

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
