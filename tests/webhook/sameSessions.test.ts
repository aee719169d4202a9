import { afterAll, beforeAll, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { settleEverySession } from '../support/sameSessions.ts';
import { type Stack, startStack } from '../support/stack.ts';

const database = testDatabase();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ connectionString: database.current.connectionString });
});
afterAll(() => stack.stop());

it('webhook, success page, invoice and replay of the same sessions at once: each is credited once', async () => {
  await settleEverySession(stack, database.current, 8);
});
