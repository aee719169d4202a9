import { describe, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { settleEverySession } from '../support/sameSessions.ts';
import { startStack } from '../support/stack.ts';

const SESSIONS = 500;

describe.each(['pg', 'supabase'] as const)('through the %s adapter', (adapter) => {
  const database = testDatabase();

  it(`${SESSIONS} sessions told of in six ways at once: each is credited once`, async () => {
    const { connectionString } = database.current;
    const stack = await startStack({ connectionString, adapter });
    try {
      await settleEverySession(stack, database.current, SESSIONS);
    } finally {
      await stack.stop();
    }
  }, 1_800_000);
});
