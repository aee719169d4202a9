import { PurserError } from '../core/errors.ts';
import type { Database, RunAfterResponse } from '../core/ports.ts';
import { storableJson, storableText } from '../core/storableJson.ts';
import { type CoalescedCall, createCoalescer } from './coalescer.ts';
import type { BatchedSpend, ConsumeAnswer, ConsumeRequest, Credits } from './credits.types.ts';
import {
  type BatchedOutcome,
  type ConsumeOutcome,
  consumeCreditsBatch,
  type SpendOperation,
  userNotFound,
} from './ledger.ts';
import type { Mirror } from './mirror.ts';

export interface SpendingDeps {
  db: Database;
  mirror: Mirror;
  /** Where a user buys credits; shown in refusals. */
  buyUrl: () => string;
  /** Updates of the mirror follow the answer of the request that is told of them. */
  runAfterResponse: RunAfterResponse;
  /** Told of each call the coalescer sends. */
  observeCall?: ((call: CoalescedCall) => void) | undefined;
}

/** The part of the credits domain that spends. */
export type Spending = Pick<Credits, 'consume' | 'consumeBatch' | 'drain'>;

export function createSpending(deps: SpendingDeps): Spending {
  const { db, mirror, buyUrl, runAfterResponse } = deps;
  const coalescer = createCoalescer({
    db,
    mirror: mirror.updateAll,
    ...(deps.observeCall === undefined ? {} : { observe: deps.observeCall }),
  });

  return {
    async consume(request) {
      const { outcome, mirrored } = await coalescer.spend(toOperation(request));
      runAfterResponse(mirrored);
      return toConsumed(outcome, request, buyUrl);
    },

    async consumeBatch(requests) {
      const { results, mirrors } = await consumeCreditsBatch(db, requests.map(toOperation), false);
      runAfterResponse(mirror.updateAll(mirrors));
      return results.map(toBatched).sort((a, b) => a.index - b.index);
    },

    drain: () => coalescer.drain(),
  };
}

function toOperation(request: ConsumeRequest): SpendOperation {
  const { userId, amount, idempotencyKey, description, metadata } = request;
  return {
    user_id: userId,
    amount,
    idempotency_key: idempotencyKey,
    ...(description === undefined ? {} : { description: storableText(description) }),
    ...(metadata === undefined ? {} : { metadata: storableJson(metadata) }),
  };
}

function toConsumed(
  outcome: ConsumeOutcome,
  { userId, amount, idempotencyKey }: ConsumeRequest,
  buyUrl: () => string,
): { answer: ConsumeAnswer; replayed: boolean } {
  switch (outcome.outcome) {
    case 'applied':
    case 'replayed': {
      const { transaction_id, user_id, balance, held, available, version, lots, created_at } =
        outcome;
      return {
        answer: {
          outcome: 'applied',
          transaction_id,
          user_id,
          amount: outcome.amount,
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
    case 'conflict':
      throw new PurserError('idempotency_key_reused', {
        detail: `The key "${idempotencyKey}" was used by this user for another amount. Use a new key for a new spend.`,
      });
    case 'suspended':
    case 'insufficient_credits': {
      const { balance, available } = outcome;
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
      throw new Error(`Unknown outcome of a spend: ${JSON.stringify(outcome satisfies never)}`);
  }
}

function toBatched(
  result: BatchedOutcome & { index: number; idempotency_key: string },
): BatchedSpend {
  const { index, idempotency_key, outcome } = result;
  const base = { index, idempotency_key, outcome };
  switch (result.outcome) {
    case 'applied':
    case 'replayed': {
      const { transaction_id, balance, available } = result;
      return { ...base, transaction_id, balance, available };
    }
    case 'suspended':
    case 'insufficient_credits': {
      const { balance, available } = result;
      return { ...base, transaction_id: null, balance, available };
    }
    case 'conflict':
    case 'not_found':
    case 'busy':
      return { ...base, transaction_id: null, balance: null, available: null };
    default:
      throw new Error(`Unknown outcome of a spend: ${JSON.stringify(result satisfies never)}`);
  }
}
