import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { migrate } from '../../src/supabase/migrate.ts';
import { createTestDatabase, type TestDatabase, userId } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';
import { migrationFilesOfFolder } from '../support/testCluster.ts';

const text = readFileSync(new URL('../../sql/rollback.sql', import.meta.url), 'utf8');
const user = userId('leaver');
let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
  await database.query(`
    create schema cron;
    create table cron.job (jobname name);
    insert into cron.job values ('purser-seal-ledger'), ('subscription_cache_cleanup'), ('nightly-report');
    create function cron.unschedule(job_name name) returns boolean language sql as $$
      delete from cron.job where jobname = job_name returning true $$;`);
});
afterAll(() => database.drop());

it('leaves the users and what they have, and takes Purser’s columns and cron jobs away', async () => {
  await callAsService(database, 'ensure_user', { p_user_id: user, p_email: 'l@example.com' });
  await callAsService(database, 'grant_credits', {
    p_user_id: user,
    p_type: 'bonus',
    p_key: 'grant:1',
    p_lots: [{ credits: 9 }],
  });
  await database.query(text);
  const [row] = await database.query(`select * from users where id = '${user}'`);
  expect(row).toMatchObject({ email: 'l@example.com', credits_balance: '9', plan: 'free' });
  for (const gone of ['credits_held', 'credits_debt', 'credits_version', 'entry_count']) {
    expect(row).not.toHaveProperty(gone);
  }
  expect(await database.query('select jobname from cron.job')).toEqual([
    { jobname: 'nightly-report' },
  ]);
  await database.query(`update users set credits_balance = 4 where id = '${user}'`);
});

it('is followed by a migration that takes those users over', async () => {
  const { connectionString } = database;
  await migrate({ connectionString, files: migrationFilesOfFolder() });
  expect(await callAsService(database, 'get_credit_balance', { p_user_id: user })).toMatchObject({
    balance: 4,
  });
  expect(await database.query('select * from validate_credits_consistency()')).toEqual([]);
  const again = await migrate({ connectionString, files: migrationFilesOfFolder() });
  expect(again.applied).toEqual([]);
});
