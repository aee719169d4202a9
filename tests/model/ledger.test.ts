/** The ledger against an independent model of it. docs/testing.md says how, and how to replay. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { compare, liveHistories, proofSeed } from './support/compare.ts';
import { REGRESSIONS } from './support/regressions.ts';
import { openSqlLedger, type SqlLedger } from './support/sqlLedger.ts';

const HISTORIES = 300;
const STEPS = 25;
/** What 300 histories cannot miss, or the generator has become blind. */
const MUST_HAPPEN = [
  ...['purchase', 'allocation', 'bonus', 'usage', 'usage_refund'].map((type) => `entry ${type}`),
  ...['clawback', 'clawback_reversal', 'expiration', 'adjustment'].map((type) => `entry ${type}`),
  ...['applied', 'replayed', 'conflict', 'not_found'].map((word) => `grant_credits ${word}`),
  ...['applied', 'conflict', 'insufficient_credits', 'not_found'].map(
    (w) => `consume_credits ${w}`,
  ),
  ...['hold_credits', 'capture_hold', 'release_hold'].map((name) => `${name} applied`),
  ...['applied', 'exceeds_usage', 'not_found'].map((word) => `refund_usage ${word}`),
  ...['applied', 'stale', 'unchanged'].map((word) => `set_payment_state ${word}`),
  ...['$delete', '$suspend', 'expire_due_credits'].map((name) => `${name} done`),
];

let ledger: SqlLedger;
// Before the hook that drops the database: hooks run in the order in which they are written.
afterAll(() => ledger.close());
const database = testDatabase();
beforeAll(async () => {
  ledger = await openSqlLedger(database.current.connectionString);
});

it(`whatever happens in which order: the ledger answers and holds what the model does, ${HISTORIES} times`, async () => {
  const seen = await liveHistories(ledger, { count: HISTORIES, steps: STEPS, seed: proofSeed() });
  expect(MUST_HAPPEN.filter((word) => !seen.has(word))).toEqual([]);
}, 900_000);

it.each(Object.entries(REGRESSIONS))(
  '%s',
  async (_name, history) => {
    await compare(ledger, history);
  },
  60_000,
);
