/** What an event costs the database: each further call is a round trip and most are a commit. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { buy, completedEvent } from '../support/purchases.ts';
import { type Stack, startStack, waitFor } from '../support/stack.ts';

const database = testDatabase();
const calls: string[] = [];
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({
    connectionString: database.current.connectionString,
    // Without a schedule, whose calls would come in between.
    every: () => ({ stop() {} }),
    wrapDatabase: (opened) => ({
      ...opened,
      db: {
        ...opened.db,
        rpc(name, args, options) {
          calls.push(name);
          return opened.db.rpc(name, args, options);
        },
      },
    }),
  });
});
afterAll(() => stack.stop());

it('a purchase event reaches the ledger in two round trips', async () => {
  const sessionId = await buy(stack.sandbox, stack.url, 'traveller');
  const event = await completedEvent(stack.stripe, sessionId);
  calls.length = 0;
  expect((await stack.deliver(event)).status).toBe(200);
  await waitFor(
    () => stack.logs.some(({ message }) => message.includes(`processed session ${sessionId}`)),
    'the credit',
  );
  expect(calls).toEqual(['receive_webhook_event', 'apply_webhook_effects']);
});
