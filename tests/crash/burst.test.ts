/** Hundreds of events at once; `npm run bench -- burst` does it with ten thousand. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import {
  findBurstFaults,
  prepareBurst,
  sendBurst,
  waitUntilDrained,
} from '../../bench/support/burst.ts';
import { testDatabase } from '../support/postgres.ts';
import { type Stack, startStack, WEBHOOK_SECRET } from '../support/stack.ts';

const EVENTS = 300;

/** Without sweeps in between nothing is waited for but the work itself. */
const database = testDatabase();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ connectionString: database.current.connectionString });
});
afterAll(() => stack.stop());

it('gives every event that was taken its row and its effect, once', async () => {
  const { sandbox, stripe, url } = stack;
  const { query } = database.current;
  const { events, credits } = await prepareBurst({ sandbox, stripe, query }, EVENTS);
  const { taken, answers } = await sendBurst({ stripe, url, secret: WEBHOOK_SECRET }, events);
  expect(taken.size).toBe(events.length);
  expect(events.length).toBeGreaterThanOrEqual(EVENTS);
  // A burst is taken, not pushed back: the inbox is what makes that cheap.
  expect(Object.keys(answers)).toEqual(['200']);
  await waitUntilDrained(query);
  expect(await findBurstFaults(query, taken, credits)).toEqual({
    lost: [],
    doubled: [],
    unfinished: [],
    wrong: [],
    drift: 0,
  });
});
