import { expect, it } from '@jest/globals';
import { APP_USERS, appBalance, appUserId } from '../support/existingApp.ts';
import { testDatabase, testUsers } from '../support/postgres.ts';

const database = testDatabase();

it('every user who had credits opens with them, nobody else with anything', async () => {
  const numbers = Array.from({ length: APP_USERS }, (_, index) => index + 1);
  const expected = (testUsers === 'uuid' ? numbers : []).flatMap((n) => {
    const balance = appBalance(n);
    return balance ? [{ user_id: appUserId(n), amount: String(balance) }] : [];
  });
  expect(
    await database.current.query('select user_id, amount from credit_transactions order by 1'),
  ).toEqual(expected);
  expect(
    await database.current.query(
      'select user_id, remaining as amount from credit_grants order by 1',
    ),
  ).toEqual(expected.filter(({ amount }) => Number(amount) > 0));
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
});
