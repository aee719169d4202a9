import { expect, it } from '@jest/globals';
import { runBank } from './support/bank.ts';
import { bothPorts } from './support/ports.ts';

const both = bothPorts();

it('1,000 users, 16 writers through both adapters: in no snapshot of 4 readers is a number off', async () => {
  const seed = Date.now();
  const report = await runBank(both.database, both.ports, {
    users: 1_000,
    writers: 16,
    operations: 40,
    readers: 4,
    seed,
  });
  expect({ seed, bad: report.bad }).toEqual({ seed, bad: [] });
  expect(report.snapshots).toBeGreaterThanOrEqual(4);
  // Every answer tells the truth: what was acknowledged is what the entries hold.
  expect(report.written).toEqual(report.told);
  expect(Object.keys(report.outcomes)).toEqual(
    expect.arrayContaining([
      'consume applied',
      'batch applied',
      'capture applied',
      'refund applied',
      'grant applied',
      'payment applied',
    ]),
  );
  expect(await both.database.query('select * from validate_credits_consistency()')).toEqual([]);
}, 600_000);
