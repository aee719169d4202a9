import { beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

/** What admins and the doctor ask, also where users is an app's own table. */
const database = testDatabase();
const looked = userId('looked at');

const call = (name: string, args: Parameters<typeof callAsService>[2] = {}) =>
  callAsService(database.current, name, args);

beforeAll(async () => {
  await call('ensure_user', { p_user_id: looked, p_email: 'looked.at@example.com' });
  await call('link_stripe_customer', { p_user_id: looked, p_customer_id: 'cus_looked' });
  await call('grant_credits', {
    p_user_id: looked,
    p_type: 'bonus',
    p_key: 'grant:looked',
    p_lots: [{ credits: 5, paid: false }],
  });
});

describe('get_admin_user', () => {
  it('answers with all that is the user’s, under the spelling of his row', async () => {
    const found = await call('get_admin_user', { p_user_id: looked.toUpperCase() });
    const view = await call('get_admin_user', { p_user_id: looked });
    expect(view).toMatchObject({
      outcome: 'found',
      profile: { user_id: looked, customers: ['cus_looked'], closed: false },
      ledger: { balance: 5, available: 5, entries: 1 },
      lots: [{ remaining: 5 }],
      recent_entries: [{ amount: 5 }],
    });
    // A uuid is the same in upper case; a text is another id.
    if (found.outcome === 'found') expect(found.profile).toEqual(view.profile);
  });

  it.each(['nobody', '', "' or 1=1--"])('finds nobody under %j', async (id) => {
    expect(await call('get_admin_user', { p_user_id: id })).toMatchObject({ outcome: 'not_found' });
  });
});

it('finds users by id, e-mail and customer', async () => {
  for (const q of [looked, 'looked.at@', 'LOOKED.AT', 'cus_looked']) {
    const { data } = await call('search_users', { p_q: q });
    expect([q, data.map((user: { user_id: string }) => user.user_id)]).toEqual([q, [looked]]);
  }
});

it('tells the doctor that nothing is open, and what was applied', async () => {
  const found = await call('inspect_installation');
  expect(found).toMatchObject({ tables_without_rls: [], open_policies: [], open_functions: [] });
  expect(Object.keys(found.applied)).toContain('admin_migration.sql');
  expect(found.sign_ups).toBeGreaterThanOrEqual(0);
});

it('gives the figures of health in one call', async () => {
  const figures = await call('health_figures');
  expect(figures).toMatchObject({ dead_letters: 0, drifted_users: 0, mirror_lag_seconds: 0 });
});
