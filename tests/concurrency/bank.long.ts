import { expect, it } from '@jest/globals';
import { runBank } from './support/bank.ts';
import { bothPorts } from './support/ports.ts';

const both = bothPorts();
/** Of each of the 16 writers. */
const OPERATIONS = 2_000;

it(`1,000 users, 16 writers, ${OPERATIONS} operations each: in no snapshot is a number off`, async () => {
  const seed = Number(process.env.PURSER_PROOF_SEED ?? Date.now() % 2 ** 31);
  const options = { users: 1_000, writers: 16, operations: OPERATIONS, readers: 4, seed };
  const { bad, told, written, ...rest } = await runBank(both.database, both.ports, options);
  process.stdout.write(`bank, seed ${seed}: ${JSON.stringify({ ...rest, told })}\n`);
  expect(bad).toEqual([]);
  expect(written).toEqual(told);
  expect(
    await both.database.query(`select * from validate_credits_consistency('entries')`),
  ).toEqual([]);
}, 3_600_000);
