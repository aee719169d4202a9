import { PurserError } from '../core/errors.ts';
import type { Database, MirrorRecord } from '../core/ports.ts';
import { storableJson, storableText } from '../core/storableJson.ts';
import type { CheckAnswer, Credits } from './credits.types.ts';
import {
  consumeCredits,
  ensureUser,
  getCreditBalance,
  listCreditTransactions,
  userNotFound,
} from './ledger.ts';
import type { Mirror } from './mirror.ts';
import { cursorOfEntry, entryOfCursor } from './transactionCursor.ts';

export interface CreditsDeps {
  db: Database;
  mirror: Mirror;
  /** Where a user buys credits; shown in refusals. */
  buyUrl: () => string;
  /** Granted once to each user whose row is made here; 0 = none. */
  welcomeCredits: number;
}

export function createCredits({ db, mirror, buyUrl, welcomeCredits }: CreditsDeps): Credits {
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

    async consume({ userId, amount, idempotencyKey, description, metadata }) {
      const outcome = await consumeCredits(db, {
        userId,
        amount,
        key: idempotencyKey,
        ...(description === undefined ? {} : { description: storableText(description) }),
        ...(metadata === undefined ? {} : { metadata: storableJson(metadata) }),
      });
      switch (outcome.outcome) {
        case 'applied':
        case 'replayed': {
          const { mirror: record, outcome: word, ...answer } = outcome;
          mirror.update(answer.user_id, record);
          return { answer: { outcome: 'applied', ...answer }, replayed: word === 'replayed' };
        }
        case 'conflict':
          throw new PurserError('idempotency_key_reused', {
            detail: `The key "${idempotencyKey}" was used by this user for another amount. Use a new key for a new spend.`,
          });
        case 'suspended':
        case 'insufficient_credits': {
          const { balance, available, mirror: record, user_id } = outcome;
          mirror.update(user_id, record);
          throw new PurserError(outcome.outcome, {
            detail:
              outcome.outcome === 'suspended'
                ? `The account is suspended, so its plan credits cannot be spent: ${available} of ${balance} credits are available and ${amount} are needed.`
                : `${amount} credits are needed and ${available} are available.`,
            extensions: {
              balance,
              available,
              needed: amount,
              shortfall: amount - available,
              buy_url: buyUrl(),
            },
          });
        }
        case 'not_found':
          throw userNotFound(userId);
        default:
          throw new Error(
            `Unknown outcome of consume_credits: ${JSON.stringify(outcome satisfies never)}`,
          );
      }
    },

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
