/** As ledger.test.ts, for as long as it takes. `npm run test:long`. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { liveHistories, proofSeed } from './support/compare.ts';
import { openSqlLedger, type SqlLedger } from './support/sqlLedger.ts';

const HISTORIES = Number(process.env.PURSER_PROOF_COUNT ?? 10_000);
const STEPS = 40;
/** Told how far it has come after so many. */
const PAGE = 500;

let ledger: SqlLedger;
// Before the hook that drops the database: hooks run in the order in which they are written.
afterAll(() => ledger.close());
const database = testDatabase();
beforeAll(async () => {
  ledger = await openSqlLedger(database.current.connectionString);
});

it(`${HISTORIES} histories: the ledger answers and holds what the model does`, async () => {
  const seed = proofSeed();
  const tell = (text: string) => process.stdout.write(`ledger model, seed ${seed}: ${text}\n`);
  const seen = new Map<string, number>();
  for (let done = 0; done < HISTORIES; ) {
    const count = Math.min(PAGE, HISTORIES - done);
    // Each page has a seed of its own, which follows from the first.
    const page = await liveHistories(ledger, { count, steps: STEPS, seed: seed + done });
    for (const [word, times] of page) seen.set(word, (seen.get(word) ?? 0) + times);
    done += count;
    tell(`${done} histories`);
  }
  tell(JSON.stringify(Object.fromEntries([...seen].sort())));
  expect(seen.get('entry clawback_reversal') ?? 0).toBeGreaterThan(0);
}, 14_400_000);
