import type { MirrorRecord } from '../core/ports.ts';
import type { CheckAnswer, Credits } from './credits.types.ts';
import { ensureUser, getCreditBalance, listCreditTransactions } from './ledger.ts';
import { createSpending, type SpendingDeps } from './spending.ts';
import { cursorOfEntry, entryOfCursor } from './transactionCursor.ts';

export interface CreditsDeps extends SpendingDeps {
  /** Granted once to each user whose row is made here; 0 = none. */
  welcomeCredits: number;
}

export function createCredits(deps: CreditsDeps): Credits {
  const { db, mirror, buyUrl, welcomeCredits } = deps;

  async function balanceFromLedger(userId: string) {
    const balance = await getCreditBalance(db, userId);
    mirror.update(balance.user_id, balance.mirror);
    return balance;
  }

  function checkAnswer(
    userId: string,
    amount: number,
    source: CheckAnswer['source'],
    record: Pick<MirrorRecord, 'balance' | 'held' | 'available' | 'suspended' | 'version'>,
  ): CheckAnswer {
    const { balance, held, available, version } = record;
    const allowed = available >= amount;
    const suspended = !allowed && record.suspended && balance - held >= amount;
    return {
      user_id: userId,
      allowed,
      amount,
      balance,
      held,
      available,
      version,
      source,
      reason: allowed ? null : suspended ? 'suspended' : 'insufficient_credits',
      buy_url: allowed ? null : buyUrl(),
    };
  }

  return {
    async balance(userId) {
      const { user_id, balance, held, available, debt, version, plan, expiring, as_of } =
        await balanceFromLedger(userId);
      return {
        user_id,
        balance,
        held,
        available,
        debt,
        version,
        source: 'ledger',
        plan,
        expiring,
        next_grant: null,
        as_of,
      };
    },

    async check({ userId, amount }) {
      const record = await mirror.read(userId);
      // A refusal while suspended is asked of the ledger: a user must not be told that he lacks
      // credits he has.
      if (record !== null && (record.available >= amount || !record.suspended)) {
        return checkAnswer(userId, amount, 'redis', record);
      }
      const balance = await balanceFromLedger(userId);
      return checkAnswer(balance.user_id, amount, 'ledger', balance.mirror);
    },

    ...createSpending(deps),

    async transactions({ userId, limit, cursor, type, from, to }) {
      const page = await listCreditTransactions(db, {
        userId,
        limit,
        beforeEntry: cursor === undefined ? undefined : entryOfCursor(cursor),
        type,
        from,
        to,
      });
      return {
        data: page.data,
        has_more: page.has_more,
        next_cursor: page.next_before_entry === null ? null : cursorOfEntry(page.next_before_entry),
      };
    },

    ensureUser({ userId, email, stripeCustomerId, replace = false }) {
      return ensureUser(db, {
        userId,
        replace,
        welcomeCredits,
        ...(email === undefined ? {} : { email }),
        ...(stripeCustomerId === undefined ? {} : { stripeCustomerId }),
      });
    },
  };
}
