/** A small shop's year; `npm run year` has a thousand customers and prints what happened. */
import { expect, it } from '@jest/globals';
import { simulateYear } from '../../bench/support/year/virtualYear.ts';
import { testDatabase } from '../support/postgres.ts';

const CUSTOMERS = 30;
/** Long enough for renewals, failed payments and their ends, disputes and their verdicts. */
const DAYS = 100;

const database = testDatabase();

it('ends with what Stripe’s own objects say, to the credit, for every customer', async () => {
  const { connectionString, query } = database.current;
  const report = await simulateYear({
    connectionString,
    query,
    customers: CUSTOMERS,
    seed: '1',
    days: DAYS,
  });
  expect(report).toMatchObject({
    differences: [],
    drift: 0,
    contradictions: 0,
    customers: CUSTOMERS,
  });
  // Nobody was passed over: all that was paid was granted, and money came back, too.
  expect(report.entries).toMatchObject({
    purchase: expect.anything(),
    allocation: expect.anything(),
    clawback: expect.anything(),
    clawback_reversal: expect.anything(),
  });
  expect(Object.keys(report.faults).sort()).toEqual(
    ['delay_ms', 'drop', 'duplicate', 'lose_answer', 'reorder', 'wrong_secret'].sort(),
  );
  expect(report.inbox).not.toHaveProperty('dead');
}, 600_000);
