import { PurserError } from '../core/errors.ts';
import type { Database, MirrorRecord } from '../core/ports.ts';
import { storableJson, storableText } from '../core/storableJson.ts';
import { adjustCredits, grantFreeCredits, refundUsage } from './correctionLedger.ts';
import type { CorrectionAnswer, Corrections } from './corrections.types.ts';
import { userNotFound } from './ledger.ts';
import type { Mirror } from './mirror.ts';

export interface CorrectionsDeps {
  db: Database;
  mirror: Mirror;
  /** Where a user buys credits; shown in refusals. */
  buyUrl: () => string;
}

export function createCorrections({ db, mirror, buyUrl }: CorrectionsDeps): Corrections {
  function written(
    outcome: Omit<CorrectionAnswer, 'outcome'> & {
      outcome: 'applied' | 'replayed';
      mirror: MirrorRecord;
    },
    amount = outcome.amount,
  ): { answer: CorrectionAnswer; replayed: boolean } {
    const { transaction_id, user_id, balance, held, available, version, lots, created_at } =
      outcome;
    mirror.update(user_id, outcome.mirror);
    return {
      answer: {
        outcome: 'applied',
        transaction_id,
        user_id,
        amount,
        balance,
        held,
        available,
        version,
        lots,
        created_at,
      },
      replayed: outcome.outcome === 'replayed',
    };
  }

  return {
    async refundUsage({ userId, transactionId, amount, idempotencyKey, description, metadata }) {
      const outcome = await refundUsage(db, {
        userId,
        transactionId,
        amount,
        key: idempotencyKey,
        description: description === undefined ? undefined : storableText(description),
        metadata: metadata === undefined ? undefined : storableJson(metadata),
      });
      switch (outcome.outcome) {
        case 'applied':
        case 'replayed':
          return written(outcome);
        case 'conflict':
          throw keyReused(idempotencyKey, 'refund', 'entry or amount');
        case 'exceeds_usage': {
          const { left } = outcome;
          mirror.update(outcome.user_id, outcome.mirror);
          throw new PurserError('invalid_request', {
            detail:
              left === 0
                ? `Entry ${transactionId} has been given back in full.`
                : `Entry ${transactionId} has ${left} credits left to give back, not ${amount}.`,
            extensions: {
              left,
              errors: [{ path: 'amount', message: `must be at most ${left}, what is left of it` }],
            },
          });
        }
        case 'not_found':
          if (outcome.transaction_id === undefined) throw userNotFound(userId);
          throw new PurserError('not_found', {
            detail: `User ${userId} has no usage entry ${transactionId}. Only what was spent can be given back: the transaction_id of a consume or a capture.`,
          });
        default:
          throw unknownOutcome('refund_usage', outcome satisfies never);
      }
    },

    async grant(request) {
      const outcome = await grantFreeCredits(db, {
        ...request,
        reason: storableText(request.reason),
      });
      switch (outcome.outcome) {
        case 'applied':
        case 'replayed': {
          const { answer, replayed } = written(outcome);
          const [lot] = answer.lots;
          if (lot === undefined) throw new Error(`Grant ${answer.transaction_id} has no lot`);
          return { answer: { ...answer, grant_id: lot.grant_id }, replayed };
        }
        case 'conflict':
          throw keyReused(request.idempotencyKey, 'grant', 'amount or type');
        case 'expired':
          throw new PurserError('invalid_request', {
            detail: `expires_at is ${request.expiresAt}, which has passed.`,
            extensions: { errors: [{ path: 'expires_at', message: 'must be in the future' }] },
          });
        case 'not_found':
          throw userNotFound(request.userId);
        default:
          throw unknownOutcome('grant_free_credits', outcome satisfies never);
      }
    },

    async adjust({ userId, amount, reason, idempotencyKey }, actor) {
      const outcome = await adjustCredits(db, {
        userId,
        amount,
        key: idempotencyKey,
        reason: storableText(reason),
        actor,
      });
      switch (outcome.outcome) {
        case 'applied':
        case 'replayed':
          return written(outcome, amount);
        case 'conflict':
          throw keyReused(idempotencyKey, 'adjustment', 'amount');
        case 'insufficient_credits': {
          const { balance, available } = outcome;
          mirror.update(outcome.user_id, outcome.mirror);
          throw new PurserError('insufficient_credits', {
            detail: `${-amount} credits are to be taken and ${available} can be: the balance is ${balance}, ${outcome.held} of it on hold.`,
            extensions: {
              balance,
              available,
              needed: -amount,
              shortfall: -amount - available,
              buy_url: buyUrl(),
            },
          });
        }
        case 'not_found':
          throw userNotFound(userId);
        default:
          throw unknownOutcome('adjust_credits', outcome satisfies never);
      }
    },
  };
}

function keyReused(key: string, what: string, differs: string): PurserError {
  return new PurserError('idempotency_key_reused', {
    detail: `The key "${key}" was used by this user for another ${differs}. Use a new key for a new ${what}.`,
  });
}

function unknownOutcome(name: string, outcome: unknown): Error {
  return new Error(`Unknown outcome of ${name}: ${JSON.stringify(outcome)}`);
}
