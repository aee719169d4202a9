/**
 * `npm run year -- --customers 1000 --seed 1`: a year of a shop at the Stripe sandbox, received by
 * the whole product on a Postgres of its own, and the ledger compared with Stripe's objects. Exits
 * with 1 when anybody has a credit too many or too few.
 */
import { parseArgs } from 'node:util';
import { startBenchPostgres } from '../bench/support/postgres.ts';
import { simulateYear } from '../bench/support/year/virtualYear.ts';

const CUSTOMERS_MAX = 10_000;
const DAYS_MAX = 730;
const REPORT_EVERY_DAYS = 30;
const DIFFERENCES_SHOWN_MAX = 20;

const { values } = parseArgs({
  options: {
    customers: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    days: { type: 'string', default: '365' },
  },
});

function whole(name: 'customers' | 'days', most: number): number {
  const number = Number(values[name]);
  if (!Number.isInteger(number) || number < 1 || number > most) {
    throw new RangeError(`--${name} must be from 1 to ${most}, not ${values[name]}`);
  }
  return number;
}

const customers = whole('customers', CUSTOMERS_MAX);
const days = whole('days', DAYS_MAX);
const startedAt = performance.now();
const postgres = await startBenchPostgres();
// A year proves sums, not durability, and most of its time would be waiting for the disk.
await postgres.query('alter database postgres set synchronous_commit = off');
try {
  const { differences, story, faults, entries, inbox, complaints, ...numbers } = await simulateYear(
    {
      ...postgres,
      customers,
      seed: values.seed,
      days,
      onDay(day) {
        if (day % REPORT_EVERY_DAYS !== 0) return;
        const seconds = Math.round((performance.now() - startedAt) / 1000);
        console.log(`day ${day} of ${days}, ${seconds} s`);
      },
    },
  );
  for (const [title, table] of Object.entries({ story, faults, complaints, inbox, entries })) {
    console.log(`\n${title}`);
    console.table(table);
  }
  console.table({
    ...numbers,
    seconds: Math.round(numbers.seconds),
    differences: differences.length,
  });
  for (const { user, customer, what, objects } of differences.slice(0, DIFFERENCES_SHOWN_MAX)) {
    console.log(`\n${user} (${customer})\n  ${[...what, ...objects].join('\n  ')}`);
  }
  if (differences.length > 0 || numbers.drift > 0) process.exitCode = 1;
} finally {
  await postgres.stop();
}
