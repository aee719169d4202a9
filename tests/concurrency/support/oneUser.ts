/** Many clients on one user, through both adapters: every answer has its own place in the order. */
import { expect } from '@jest/globals';
import { type Answer, callAsService, concurrently, countBy } from '../../support/sqlCall.ts';
import type { BothPorts } from './ports.ts';

/** Each round: a spend sent twice at once, a hold captured in two parts, a spend given back. */
const ENTRIES_A_ROUND = 4;
const SPENT_A_ROUND = 2;

/** Lets so many clients work so many rounds of 6 calls each, and checks what came of it. */
export async function runOneUser(
  { database, ports }: BothPorts,
  { clients, rounds }: { clients: number; rounds: number },
): Promise<void> {
  const user = 'everybodys';
  const total = clients * rounds;
  const credits = total * 10;
  await callAsService(database, 'ensure_user', { p_user_id: user });
  await callAsService(database, 'grant_credits', {
    p_user_id: user,
    p_type: 'bonus',
    p_key: 'grant:all',
    p_lots: [{ credits }],
  });

  const entries: Answer[] = [];
  const outcomes: string[] = [];
  await concurrently(clients, async (client) => {
    const call = async (name: string, args: Record<string, string | number>) => {
      const port = ports[client % ports.length];
      if (port === undefined) throw new Error('There is no way to the database.');
      const answer = await port.rpc<Answer>(name, args);
      outcomes.push(`${name} ${answer.outcome}`);
      if (answer.outcome === 'applied' && answer.transaction_id) entries.push(answer);
      return answer;
    };
    for (let round = 0; round < rounds; round += 1) {
      const p_key = `${client}-${round}`;
      const spend = { p_user_id: user, p_amount: 1, p_key };
      const [first, second] = await Promise.all([
        call('consume_credits', spend),
        call('consume_credits', spend),
      ]);
      // One is the other's replay, and says the same.
      expect(second).toMatchObject({
        transaction_id: first.transaction_id,
        balance: first.balance,
        version: first.version,
      });
      const { hold_id } = await call('hold_credits', { p_user_id: user, p_amount: 2, p_key });
      await call('capture_hold', { p_hold_id: hold_id, p_key: `${p_key}-a`, p_amount: 1 });
      await call('capture_hold', { p_hold_id: hold_id, p_key: `${p_key}-b` });
      await call('refund_usage', {
        p_user_id: user,
        p_transaction_id: first.transaction_id,
        p_key,
      });
    }
  });

  expect(countBy(outcomes)).toEqual({
    'consume_credits applied': total,
    'consume_credits replayed': total,
    'hold_credits applied': total,
    'capture_hold applied': total * 2,
    'refund_usage applied': total,
  });
  // In the order of versions each balance follows from the one before.
  const [ledger] = await database.query<{ entries: number; first: number; last: number }>(
    `select count(*)::int as entries, min(entry_number)::int as first, max(entry_number)::int as last
     from credit_transactions where user_id = $1`,
    [user],
  );
  const written = total * ENTRIES_A_ROUND + 1;
  expect(ledger).toEqual({ entries: written, first: 1, last: written });
  expect(new Set(entries.map(({ version }) => version)).size).toBe(total * ENTRIES_A_ROUND);
  expect(await callAsService(database, 'get_credit_balance', { p_user_id: user })).toMatchObject({
    balance: credits - total * SPENT_A_ROUND,
    held: 0,
    // An entry each, and each hold once more.
    version: written + total,
  });
  expect(await database.query('select * from validate_credits_consistency()')).toEqual([]);
}
