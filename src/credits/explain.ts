import type { Database } from '../core/ports.ts';
import type { Explain, Explanation, Statement } from './explain.types.ts';
import { userNotFound } from './ledger.ts';
import { cursorOfEntry, entryOfCursor } from './transactionCursor.ts';

type Found<Answer> = (Answer & { outcome: 'found' }) | { outcome: 'not_found' };

/** The rules of both answers are in sql/credit_explain_migration.sql. */
export function createExplain({ db }: { db: Database }): Explain {
  return {
    async explain({ userId, at, limit }) {
      const answer = await db.rpc<Found<Explanation>>('explain_credit_balance', {
        p_user_id: userId,
        p_at: at,
        p_limit: limit,
      });
      if (answer.outcome === 'not_found') throw userNotFound(userId);
      const { outcome: _, ...explanation } = answer;
      return explanation;
    },

    async statement({ userId, from, to, limit, cursor }) {
      const answer = await db.rpc<
        Found<Omit<Statement, 'next_cursor'> & { next_after_entry: number | null }>
      >('get_credit_statement', {
        p_user_id: userId,
        p_from: from,
        p_to: to,
        p_limit: limit,
        p_after_entry: cursor === undefined ? undefined : entryOfCursor(cursor),
      });
      if (answer.outcome === 'not_found') throw userNotFound(userId);
      const { outcome: _, next_after_entry: next, ...statement } = answer;
      return { ...statement, next_cursor: next === null ? null : cursorOfEntry(next) };
    },
  };
}
