import { expect, it } from '@jest/globals';
import { createTestDatabase, testDatabase } from '../support/postgres.ts';

const database = testDatabase();

it('gives each file a migrated database of its own', async () => {
  const [row] = await database.current.query<{ version: { version: number } }>(
    'select public.purser_schema_version() as version',
  );
  expect(row?.version.version).toBeGreaterThanOrEqual(1);
  const other = await createTestDatabase();
  try {
    await database.current.query('create table only_here (id int)');
    const rows = await other.query(`select to_regclass('public.only_here') as found`);
    expect(rows).toEqual([{ found: null }]);
  } finally {
    await other.drop();
  }
});

it('opens sessions in the roles of Supabase with their claims', async () => {
  const sub = '11111111-1111-4111-8111-111111111111';
  const seen = await database.current.asRole('authenticated', { sub }, async (client) => {
    const { rows } = await client.query(
      'select current_user as role, auth.uid() as uid, auth.role() as claim',
    );
    return rows;
  });
  expect(seen).toEqual([{ role: 'authenticated', uid: sub, claim: 'authenticated' }]);
  const anonymous = await database.current.asRole('anon', {}, async (client) => {
    const { rows } = await client.query('select auth.uid() as uid');
    return rows;
  });
  expect(anonymous).toEqual([{ uid: null }]);
});
